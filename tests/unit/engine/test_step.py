"""The pure step beside torch's own optimizer, and beside what Lightning runs, to the bit."""

import pytest
import torch
from torch import nn
from torchvision.transforms.functional import gaussian_blur

import featlight
from featlight.config.recipe import Step
from featlight.config.tile import feature_tile
from featlight.config.validation import check
from featlight.engine.module import ImageOptimizer
from featlight.engine.setup import prepare
from featlight.engine.step import NEW, gradient_size, step
from featlight.models.extractor import LayerOutputs
from featlight.models.frozen import frozen_copy
from featlight.models.layers import survey
from featlight.objectives.objective import Objective
from featlight.param.image import noise, resize, starting_images

CPU = torch.device("cpu")


def parts(network, features):
    frozen = frozen_copy(network, CPU, torch.float32)
    outputs = LayerOutputs(frozen, [survey(frozen, 32)["4"]])
    return outputs, Objective([feature_tile("4", feature) for feature in features], "l1", 200.0, {})


def images_of(count):
    return torch.stack([noise(32, seed) for seed in range(count)])


@pytest.mark.parametrize("sigma", [None, 0.8])
def test_a_step_is_sgd_and_then_a_blur(network_of, sigma):
    model, objective = parts(network_of("hand_made"), [0, 5])
    before = images_of(2)
    kept = before.clone()
    ours, state, statistics = step(before, NEW, Step(32, 0.1, sigma, "raw", opens_octave=True), model, objective)
    theirs = nn.Parameter(before.clone())
    (200.0 - model(theirs)["4"][torch.arange(2), [0, 5]]).sum().backward()
    norm = theirs.grad.flatten(1).norm(dim=1)
    torch.optim.SGD([theirs], 0.1).step()
    expected = theirs.detach() if sigma is None else gaussian_blur(theirs.detach(), [3, 3], [sigma, sigma])
    assert torch.equal(ours, expected)
    assert torch.equal(before, kept)
    assert state == {}
    torch.testing.assert_close(statistics.gradient_norm, norm)
    torch.testing.assert_close(statistics.activation, model(before)["4"][torch.arange(2), [0, 5]].mean((1, 2)))


@pytest.mark.parametrize("gradient", ["raw", "rms"])
def test_steps_are_what_lightning_runs_to_the_bit(network_of, small_recipe, gradient):
    recipe = featlight.Recipe(small_recipe.octaves, gradient)
    network, features = network_of("hand_made"), [0, 5]
    theirs = featlight.visualize(network, "4", features, recipe=recipe, batch_size=2, progress=False).images
    config = check({"model": "a:b", "layer": "4", "features": features, "recipe": recipe, "batch_size": 2})
    job = prepare(config.settled(), network=network)
    chunk = job.plan.chunk(0, job.settings)
    model = job.network.at(chunk.layers, chunk.features)
    objective = Objective(chunk.tiles, "l1", 200.0, job.first_maps[recipe.first_size])
    images, state = starting_images("noise", recipe.first_size, 999, list(chunk.tiles)), NEW
    for settings in recipe.steps():
        images = resize(images, settings.size).contiguous(memory_format=model.format)
        images, state, _ = step(images, state, settings, model, objective)
    assert torch.equal(images, theirs)


def test_the_optimizer_of_the_module_moves_as_the_step_does():
    images = nn.Parameter(images_of(2))
    before, images.grad = images.detach().clone(), torch.randn(2, 3, 32, 32)
    optimizer = ImageOptimizer([images], lr=0.3)
    assert optimizer.step(lambda: 7) == 7
    assert torch.equal(images.detach(), torch.add(before, images.grad, alpha=-0.3))


def test_the_size_of_a_gradient_is_exact_where_its_squares_underflow():
    gradient = torch.stack([torch.full((3, 4, 4), 1e-30), torch.zeros(3, 4, 4), torch.full((3, 4, 4), 3.0)])
    scale, norm = gradient_size(gradient)
    assert scale.flatten().tolist() == pytest.approx([1e-30, 1.0, 3.0])
    assert norm.tolist() == pytest.approx([1e-30 * 48**0.5, 0.0, 3 * 48**0.5])
