"""Views of images: against torchvision's and plain shifts at fixed draws, and that nobody's draws depend on others."""

import functools
import itertools
import math
import random
import sys

import numpy as np
import pytest
import torch
import torchvision.transforms as v1
from torch import nn
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms import functional as TF

import featlight
from featlight.config.transform_settings import Crop, Jitter, Lambda, Noise, Pad, ResizedCrop, Rotate, Scale
from featlight.config.validation import check
from featlight.errors import UsageError
from featlight.transforms import RandomTransforms, box, sample, sampled

CPU = torch.device("cpu")
ALL = (Pad(3), Jitter(4), Scale(0.9, 1.1), Rotate(-10, 10), Jitter(2), Crop(3, (0.6, 0.3)), Noise(0.1, 0.05))


def smooth(count=2, size=(40, 40)):
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(count, 3, 6, 6, generator=generator, dtype=torch.float64)
    return torch.nn.functional.interpolate(small, size, mode="bicubic")


def middle(images, margin):
    return images[..., margin:-margin, margin:-margin]


def draw(*values):
    return torch.tensor([values], dtype=torch.float64)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (3, 0), (0, -2), (-4, 4)])
def test_a_jitter_of_whole_pixels_is_a_shift(x, y):
    images = smooth(1)
    matrix = Jitter(4).matrix(draw((x / 4 + 1) / 2, (y / 4 + 1) / 2), (40, 40))
    view = sampled(images, matrix[:, :2], (40, 40))
    assert torch.allclose(middle(view, 6), middle(images.roll((-y, -x), (2, 3)), 6), atol=1e-9)


@pytest.mark.parametrize("degrees", [-20, 0, 7])
@pytest.mark.parametrize("size", [(40, 40), (40, 56)])
def test_a_turn_is_torchvisions(degrees, size):
    images = smooth(1, size)
    matrix = Rotate(-20, 20).matrix(draw((degrees + 20) / 40), size)
    ours = sampled(images, matrix[:, :2], size, gray=True)
    theirs = TF.rotate(images - 0.5, degrees, InterpolationMode.BILINEAR) + 0.5
    assert torch.allclose(middle(ours, 2), middle(theirs, 2), atol=1e-6)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_a_scale_is_torchvisions(factor):
    images = smooth(1)
    low, high = 0.8, 1.25
    share = math.log(factor / low) / math.log(high / low)
    ours = sampled(images, Scale(low, high).matrix(draw(share), (40, 40))[:, :2], (40, 40), gray=True)
    theirs = TF.affine(images - 0.5, 0, [0, 0], factor, [0.0, 0.0], InterpolationMode.BILINEAR) + 0.5
    assert torch.allclose(middle(ours, 6), middle(theirs, 6), atol=1e-6)


def test_transforms_apply_in_their_order():
    """A shift before a turn of 90 degrees goes down where one after it goes right."""
    images = smooth(1)
    draws = {Jitter(4): draw(1.0, 0.5), Rotate(90, 90): draw(0.5)}
    one, other = ([Jitter(4), Rotate(90, 90)], [Rotate(90, 90), Jitter(4)])

    def view(moves):
        matrix = torch.eye(3, dtype=torch.float64)[None]
        for move in moves:
            matrix = matrix @ move.matrix(draws[move], (40, 40))
        return sampled(images, matrix[:, :2], (40, 40))

    turned = images.rot90(1, (2, 3))
    shifted = images.roll(-4, 3)
    assert torch.allclose(middle(view(one), 6), middle(shifted.rot90(1, (2, 3)), 6), atol=1e-9)
    assert torch.allclose(middle(view(other), 6), middle(turned.roll(-4, 3), 6), atol=1e-9)


def test_padding_shows_gray_around_the_image():
    images = smooth(1)
    (view,) = RandomTransforms([Pad(5)], [1], 1, CPU)(images, 0)
    assert view.shape == (3, 50, 50)
    assert torch.allclose(view[:, 5:-5, 5:-5], images[0], atol=1e-9)
    assert torch.allclose(view[:, :4], torch.full_like(view[:, :4], 0.5))


def test_boxes_are_parts_of_the_image_within_it():
    images = smooth(2)
    views = RandomTransforms([Crop(4, (0.5, 0.5), spread=3.0, view=0.5)], [1, 2], 1, CPU)
    shown = views(images, 0)
    assert shown.shape == (8, 3, 20, 20)
    matrices = box(torch.rand(500, 2, dtype=torch.float64), 0.4, 0.3)
    corners = matrices @ torch.tensor([[-1.0, 1], [-1, 1], [1, 1]], dtype=torch.float64)
    assert corners[:, :2].abs().max() <= 1 + 1e-12
    assert torch.allclose(matrices[:, 0, 0], torch.tensor(0.4, dtype=torch.float64))
    (whole,) = sampled(images[:1], box(draw(0.0, 0.0), 0.5, 0.1)[:, :2], (20, 20))
    assert torch.allclose(whole, images[0, :, 10:30, 10:30], atol=1e-9)


def test_views_of_boxes_are_a_share_of_the_image():
    images = smooth(2)
    views = RandomTransforms([Crop(3, (0.5, 0.5), spread=0.0, view=0.25)], [1, 2], 1, CPU)
    shown = views(images, 0)
    assert shown.shape == (6, 3, 10, 10)
    whole = RandomTransforms([Crop(3, (0.5, 0.5), spread=0.0)], [1, 2], 1, CPU)(images, 0)
    assert whole.shape == (6, 3, 40, 40)
    assert torch.equal(shown, sampled(images, views._matrices(images, 0), (10, 10)))


def test_sides_of_boxes_shrink_and_noise_fades_to_the_last_step():
    views = RandomTransforms([Crop(1, (0.8, 0.2), spread=0.0), Noise(0.2, 0.0)], [1], 4, CPU)
    gray = torch.full((1, 3, 64, 64), 0.5)
    spreads = [views(gray, step).std().item() for step in range(4)]
    assert spreads == pytest.approx([0.2, 0.2 * 2 / 3, 0.2 / 3, 0.0], rel=0.05, abs=1e-6)


def test_the_same_seed_draws_the_same_whoever_is_beside():
    images = smooth(3).float()
    together = RandomTransforms(ALL, [7, 8, 9], 5, CPU)
    alone = RandomTransforms(ALL, [8], 5, CPU)
    for step in (0, 3, 4):
        ours, theirs = together(images, step), alone(images[1:2], step)
        assert torch.equal(ours[3:6], theirs)
    assert not torch.equal(together(images, 0), together(images, 1))


def test_without_transforms_a_view_is_the_image():
    images = smooth()
    views = RandomTransforms([], [1, 2], 3, CPU)
    assert views(images, 0) is images


def test_views_can_be_differentiated():
    images = smooth(2, (12, 12)).requires_grad_(True)
    views = RandomTransforms(ALL[:-1], [1, 2], 2, CPU)
    assert torch.autograd.gradcheck(lambda x: views(x, 1), images, atol=1e-5)


@pytest.mark.parametrize("outside", ["zeros", "reflection"])
def test_the_gradient_of_sampling_is_torchs_to_the_bit(outside):
    images = smooth(2, (9, 12)).requires_grad_(True)
    grid = 3 * torch.rand(2, 7, 8, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 1.5
    theirs = torch.nn.functional.grid_sample(images, grid, padding_mode=outside, align_corners=False)
    ours = sample(images, grid, outside)
    assert torch.equal(ours, theirs)
    weights = torch.rand(ours.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert torch.equal(*(torch.autograd.grad(views, images, weights)[0] for views in (ours, theirs)))
    assert torch.autograd.gradcheck(lambda x: sample(x, grid, outside), images)


@pytest.mark.parametrize(("side", "x", "y"), [(0.5, 0, 0), (0.5, 1, 0.25), (0.75, 0.5, 1)])
def test_a_resized_crop_is_torchvisions(side, x, y):
    """`x` and `y` from 0, at the left and the top, to 1."""
    images, pixels = smooth(1), int(40 * side)
    left, top = round((40 - pixels) * x), round((40 - pixels) * y)
    drawn = (math.log(side / 0.5) / math.log(2), left / (40 - pixels), top / (40 - pixels))
    ours = sampled(images, ResizedCrop(0.5, 1).matrix(draw(*drawn), (40, 40))[:, :2], (30, 30))
    theirs = TF.resized_crop(images, top, left, pixels, pixels, [30, 30], InterpolationMode.BILINEAR, antialias=False)
    assert torch.allclose(middle(ours, 2), middle(theirs, 2), atol=1e-6)


def test_parts_lie_within_the_image_and_have_views_of_their_own():
    images = smooth(2)
    views = RandomTransforms([ResizedCrop(0.4, 0.8, view=0.75, boxes=3)], [1, 2], 50, CPU)
    assert views(images, 0).shape == (6, 3, 30, 30)
    corners = torch.tensor([[-1.0, -1, 1], [1, 1, 1]])
    seen = torch.cat([corners @ views._matrices(images.float(), step).transpose(1, 2) for step in range(50)])
    assert seen.abs().max() <= 1 + 1e-6
    sides = (seen[:, 1, 0] - seen[:, 0, 0]) / 2
    assert 0.4 <= sides.min() < 0.42 < 0.78 < sides.max() <= 0.8


def test_a_function_of_ones_own_follows_on_the_moves():
    images = smooth(2)
    moved = RandomTransforms([Jitter(4)], [1, 2], 3, CPU)(images, 2)
    assert torch.equal(
        RandomTransforms([Lambda(lambda views, step: views * step), Jitter(4)], [1, 2], 3, CPU)(images, 2), moved * 2
    )


def smaller(views):
    return views[..., : random.randrange(20, 40)]


COUNTER = itertools.count()
OWN = [
    (lambda views: views[:0], r"gives \(0, 3, 40, 40\) for \(1, 3, 40, 40\); \(1, 3, H, W\) is needed"),
    (v1.Grayscale(), r"gives \(1, 1, 40, 40\) for"),
    (lambda views: views[:, :, :0], r"gives \(1, 3, 0, 40\) for"),
    (torch.fft.fft2, "gives complex numbers; floats are needed"),
    (lambda views, step: None, "gives a NoneType"),
    (lambda views: views.numpy(), "fails: RuntimeError: Can't call numpy"),
    (lambda views: (views, 1), "gives a tuple"),
    (lambda views: views.detach(), "no gradient reaches the image"),
    (lambda views: sys.exit(3), "fails: SystemExit: 3"),
    (v1.ToTensor(), "ToTensor fails: TypeError: pic should be PIL"),
    (lambda views: views.clamp(0, 1).sqrt().mul_(2), "no gradient can be taken: RuntimeError"),
    (smaller, "gives views of several sizes"),
    (lambda views: views + next(COUNTER), "it keeps state"),
]


@pytest.mark.parametrize(("function", "line"), OWN)
def test_a_function_that_cannot_be_followed_is_refused_in_a_line(function, line):
    images = smooth(2).requires_grad_(True) * 1.0
    with pytest.raises(UsageError, match=rf"^transforms: .*{line}"):
        RandomTransforms([Lambda(function)], [1, 2], 3, CPU)(images, 0)


def test_what_fails_after_a_function_names_it(network_of):
    def look(*transforms):
        recipe = featlight.Recipe([featlight.Octave(32, 2, (0.1, 0.1))], transforms=transforms)
        return featlight.visualize(network_of("hand_made"), "4", [0], recipe=recipe, progress=False)

    with pytest.raises(
        UsageError, match=r"^transforms: CenterCrop: the network fails at 2 x 2 px, the size of the view"
    ):
        look(v2.CenterCrop(2))

    def breaks(views, step):  # after the check at the first step
        square = views.square().exp()
        return square.mul_(2) if step else square

    with pytest.raises(UsageError, match=r"transforms: .*breaks: no gradient can be taken: RuntimeError"):
        look(breaks)
    assert look(lambda views: views / 0 * 0).records[0]["status"] == "failed"


@pytest.mark.parametrize("transforms", ["jitter", v1.CenterCrop(8), None, {"jitter": 8}])
def test_transforms_stand_in_a_list(transforms):
    with pytest.raises(ValueError, match=r"transforms: a \w+ given; a list is needed, such as \[Jitter\(8\)\]"):
        featlight.Recipe([featlight.Octave(32, 2, (0.1, 0.1))], transforms=transforms)


@pytest.mark.parametrize("each", [None, 8, "jitter", [v1.CenterCrop(8)]])
def test_what_is_no_transform_is_refused(each):
    with pytest.raises(ValueError, match=r"transforms: .* given; each is a table as in jitter: 8, or from Python a fu"):
        featlight.Recipe([featlight.Octave(32, 2, (0.1, 0.1))], transforms=[each])


def shuffled(views, step):
    """Draws from every global stream, looks at its neighbours, and writes into what it gets."""
    views.mul_(torch.rand(1) + random.random() + np.random.rand())
    return views - views.mean(0) / 2 + step


TORCHVISION = [
    v1.RandomRotation(20),
    v1.RandomResizedCrop(32, antialias=True),
    v1.ColorJitter(0.4, 0.4, 0.4),
    v1.Compose([v1.RandomHorizontalFlip(), v1.GaussianBlur(3), v1.RandomErasing(1.0)]),
    v2.RandomRotation(20),
    v2.RandomAffine(10, (0.1, 0.1)),
    v2.Compose([v2.RandomCrop(24), v2.RandomGrayscale(0.5)]),
    nn.Sequential(v2.RandomVerticalFlip(), v2.ColorJitter(0.2)),
    functools.partial(torch.flip, dims=[3]),
    shuffled,
]


@pytest.mark.parametrize("function", TORCHVISION)
def test_what_is_drawn_hangs_on_the_image_and_the_step_alone(function):
    images = smooth(3).float().requires_grad_(True)
    before = images.detach().clone()
    made = RandomTransforms([Lambda(function)], [1, 2, 3], 3, CPU)
    views = [made(images, step) for step in (0, 1)]
    torch.rand(7)
    other = RandomTransforms(
        [Lambda(function)], [3, 1], 3, CPU
    )  # in another order, of other neighbours, from the second step
    assert torch.equal(other(images[[2, 0]], 1), views[1][[2, 0]])
    views[0].sum().backward()
    assert images.grad.abs().sum() > 0
    assert torch.equal(images, before)
    if isinstance(function, v1.RandomRotation | v2.RandomRotation):
        assert not torch.equal(views[0][0], views[1][0])
        same = RandomTransforms([Lambda(function)], [1, 2], 3, CPU)(images[[0, 0]], 0)
        assert not torch.equal(same[0], same[1]), "each image has draws of its own"


def test_a_function_is_handed_over_in_python_alone(network_of):
    def brighter(views, step):
        return views + 0.1 * step

    recipe = featlight.Recipe([featlight.Octave(32, 2, (0.1, 0.1))], transforms=[brighter])
    options = {"recipe": recipe, "progress": False}
    network = network_of("hand_made")
    plain = featlight.visualize(network, "4", [0], recipe=featlight.Recipe(recipe.octaves), progress=False)
    assert not torch.equal(featlight.visualize(network, "4", [0], **options).images, plain.images)
    with pytest.raises(UsageError, match="brighter given with out; a plan cannot hold"):
        featlight.visualize(network, "4", [0], out="run", **options)
    with pytest.raises(UsageError, match="only Python accepts a function"):
        check({"recipe": {"base": "natural", "transforms": [{"own": "brighter"}]}})
