"""Whole descents of every parameterization and rule in float64, beside a literal loop of one image at a time."""

import json
import math
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import featlight
from featlight.config.tile import feature_tile
from featlight.param.image import own_seed
from featlight.transforms import RandomTransforms
from tests.literal import layer_function, layer_loss
from tests.unit.test_optimizers import literal_spectral

OCTAVES = [(24, 4, (0.2, 0.1), (0.8, 0.5)), (32, 3, (0.1, 0.05), (0.6, 0.4))]
ROOT = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0, -0.05], [0.27, -0.09, 0.03]], dtype=torch.float64)
COLORS = ROOT / ROOT.norm(dim=0).max()
FEATURES = [0, 5]
DRAWN = ({"jitter": 3}, {"scale": [0.85, 1.2]}, {"rotate": [-20, 20]})


def kernel(x, sigma):
    """The blur of a step, tap by tap."""
    weights = [math.exp(-(d**2) / (2 * sigma**2)) for d in (-1, 0, 1)]
    total = sum(weights)
    padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
    rows = sum(w / total * padded[:, :, i : i + x.shape[2]] for i, w in enumerate(weights))
    return sum(w / total * rows[..., i : i + x.shape[3]] for i, w in enumerate(weights))


def annealed(pair, i, n):
    return pair[0] * (n - i) / n + pair[1] * i / n


def literal_view(image, draws):
    """Shift, enlargement and turn of one image (1, 3, S, S), by the inverse of what each does to a place."""
    side = image.shape[-1]
    u, v, scale, angle = draws.tolist()
    x, y = (2 * u - 1) * 2 * 3 / side, (2 * v - 1) * 2 * 3 / side
    factor = math.exp(math.log(0.85) + scale * math.log(1.2 / 0.85))
    turn = math.radians(-20 + 40 * angle)
    shift = np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])
    shrink = np.diag([1 / factor, 1 / factor, 1])
    rotate = np.array([[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]])
    matrix = torch.from_numpy((shift @ shrink @ rotate)[None, :2])
    grid = F.affine_grid(matrix, [1, 3, side, side], align_corners=False)
    return F.grid_sample(image, grid, padding_mode="reflection", align_corners=False)


def photographs(side):
    """Magnitudes (3, side, side // 2 + 1), each read from the shipped table by itself."""
    text = (Path(featlight.__file__).parent / "param/photographs.json").read_text()
    table, found = json.loads(text)["magnitudes"], torch.zeros(3, side, side // 2 + 1, dtype=torch.float64)

    def read(y, x):
        radius, turn = 2 * (math.log2(math.hypot(y, x)) + 8.5), 16 * ((math.atan2(y, x) / math.pi) % 1)
        row, column = min(int(radius), 15), int(turn)
        parts = [(i, j, abs(1 - i - radius + row) * abs(1 - j - turn + column)) for i in (0, 1) for j in (0, 1)]
        return [math.exp(sum(w * t[row + i][(column + j) % 16] for i, j, w in parts)) for t in table]

    for row in range(side):
        y = (row if 2 * row < side else row - side) / side
        for column in range(side // 2 + 1):
            if row or column:
                found[:, row, column] = torch.tensor(read(y, column / side), dtype=torch.float64)
    finest = found[..., -1].clone()  # holds waves of both slants
    for row in range(side):
        found[:, row, -1] = (finest[:, row] + finest[:, -row]) / 2
    return found


def real_phases(p, side):
    """Those of a real image: odd where a column holds a wave and its mirror, 0 or pi where a wave is its own mirror."""
    parts = []
    for column in range(side // 2 + 1):
        phases = p[..., column]
        if column in (0, side // 2):
            rows = [(phases[:, :, row] - phases[:, :, -row]) / 2 for row in range(side)]
            for row in (0, side // 2):
                rows[row] = math.pi * (phases[:, :, row].detach() / math.pi).round()
            phases = torch.stack(rows, -1)
        parts.append(phases)
    return torch.stack(parts, -1)


class Literal:
    """One descent, of pixels or of coefficients, with torch's own optimizer or the spectral formula."""

    def __init__(self, kind, color, bounded):
        self.kind, self.color, self.bounded = kind, color, bounded
        self.photographs = {side: photographs(side) for side, *_ in OCTAVES} if kind == "maco" else {}

    def image(self, p, side):
        t = p
        if self.kind == "maco":
            phases, sizes = real_phases(p, side), self.photographs[side]
            t = torch.fft.irfft2(torch.complex(sizes * torch.cos(phases), sizes * torch.sin(phases)), s=(side, side))
            return torch.sigmoid(torch.einsum("dc,nchw->ndhw", COLORS, t / (t.std() + 1e-5)))
        if self.kind == "fourier":
            rows, columns = torch.fft.fftfreq(side).double()[:, None], torch.fft.rfftfreq(side).double()
            f = torch.sqrt(rows**2 + columns**2).clamp_min(1 / side)
            t = torch.fft.irfft2(torch.complex(p[..., 0], p[..., 1]) * side / f, s=(side, side)) / 4
            t = torch.einsum("dc,nchw->ndhw", COLORS, t) if self.color else t
            return torch.sigmoid(4 * t) if self.bounded else t + 0.5
        if self.color:
            t = 0.5 + torch.einsum("dc,nchw->ndhw", COLORS, p) / 4
        return torch.sigmoid(4 * (t - 0.5)) if self.bounded else t

    def start(self, image, side):
        if self.kind == "maco":  # noise: phases of a picture are taken in float32, which NAdam's first steps magnify
            drawn = torch.rand(3, side, side // 2 + 1, generator=torch.Generator().manual_seed(999))
            return (2 * math.pi * (drawn - 0.5)).double()[None]
        logits = torch.logit(image) / 4 + 0.5 if self.bounded else image
        if self.kind == "pixel":
            return torch.einsum("dc,nchw->ndhw", COLORS.inverse(), (logits - 0.5) * 4) if self.color else logits
        rows, columns = torch.fft.fftfreq(side).double()[:, None], torch.fft.rfftfreq(side).double()
        f = torch.sqrt(rows**2 + columns**2).clamp_min(1 / side)
        t = logits - 0.5
        t = torch.einsum("dc,nchw->ndhw", COLORS.inverse(), t) if self.color else t
        return torch.view_as_real(torch.fft.rfft2(4 * t) * f / side)

    def resized(self, p, old, new):
        if self.kind == "pixel":
            return F.interpolate(p, (new, new), mode="bilinear", align_corners=False)
        other = torch.zeros(1, 3, new, new // 2 + 1, 2, dtype=torch.float64)
        if self.kind == "maco":
            drawn = torch.rand(3, new, new // 2 + 1, generator=torch.Generator().manual_seed(0))
            other = (2 * math.pi * (drawn - 0.5)).double()[None]
        for row in range(-(old // 2) + 1, old // 2):
            other[:, :, row, : old // 2] = p[:, :, row, : old // 2]
        return other

    def smoothed(self, p, sigma, side):
        if self.kind == "pixel":
            return kernel(p, sigma)
        if self.kind == "maco":
            return p
        w = math.exp(-1 / (2 * sigma**2))
        along = lambda f: (1 + 2 * w * torch.cos(2 * math.pi * f)) / (1 + 2 * w)  # noqa: E731
        return (
            p * (along(torch.fft.fftfreq(side).double())[:, None] * along(torch.fft.rfftfreq(side).double()))[..., None]
        )


class Moves:
    """Moves of one image's parameters: by torch's class of an optimizer, or by the spectral one's constants."""

    def __init__(self, parameters, optimizer):
        self._parameters, self._constants, self._gradients = parameters, optimizer, []
        self._torchs = None if isinstance(optimizer, dict) else optimizer([parameters], lr=1.0)

    def __call__(self, gradient, rate):
        p = self._parameters
        if self._torchs is None:
            self._gradients.append(gradient[0].numpy())
            # the formula has no blur between steps: its moments do not depend on where they move the image
            moved = one_spectral(p.detach()[0].numpy(), self._gradients, rate, self._constants)
            return torch.from_numpy(moved)[None]
        self._torchs.param_groups[0]["lr"] = rate
        p.grad = gradient
        self._torchs.step()
        return p.detach()


def descend(loss, literal, optimizer, start, views=None):
    """One image, and the pulls at its places; the optimizer by torch's class, or the spectral one's constants."""
    side = OCTAVES[0][0]
    p, number = literal.start(start, side), 0
    pulls = torch.zeros(1, 1, side, side, dtype=torch.float64)
    for size, steps, lr, sigma in OCTAVES:
        if size != side:
            p, side = literal.resized(p, side, size), size
            pulls = F.interpolate(pulls, (side, side), mode="bilinear", align_corners=False)
        before, p = p, nn.Parameter(p)
        move = Moves(p, optimizer)
        for i in range(steps):
            image = literal.image(p, side)
            shown = image if views is None else literal_view(image, views[number])
            g, on_image = torch.autograd.grad(loss(shown), (p, image))
            pulls += on_image.abs().sum(1, keepdim=True)
            rate, blur = annealed(lr, i, steps), annealed(sigma, i, steps)
            moved = move(g, rate)
            with torch.no_grad():
                p.copy_(literal.smoothed(moved, blur, side))
            number += 1
        p, before = p.detach(), before.detach()
    return literal.image(p, side)[0], pulls[0, 0]


def one_spectral(image, gradients, lr, constants):
    """The last of the steps that these gradients make: all before it with a rate of 0 and contrast left alone."""
    held = {**constants, "contrast": 0.0, "pull": 0.0, "bound": 0.0}
    step = literal_spectral(np.zeros_like(image), gradients, 1.0, **held)
    before = literal_spectral(np.zeros_like(image), gradients[:-1], 1.0, **held) if gradients[:-1] else 0.0
    moved = image + lr * (step - before)
    middle = moved.mean((1, 2), keepdims=True)
    factor = min(1, constants["contrast"] / moved.std(ddof=1))
    moved = middle + constants["pull"] * (0.5 - middle) + (moved - middle) * factor
    return moved.clip(0.5 - constants["bound"], 0.5 + constants["bound"])


SPECTRAL = {"exponent": 0.9, "beta1": 0.8, "beta2": 0.9, "contrast": 0.2, "pull": 0.1, "bound": 0.5, "floor": 0.01}
CASES = {
    "sgd": ("pixel", False, False, torch.optim.SGD),
    "adam": ("pixel", False, True, torch.optim.Adam),
    "adam, decorrelated": ("pixel", True, True, torch.optim.Adam),
    "nadam, unbounded": ("pixel", True, False, torch.optim.NAdam),
    "fourier": ("fourier", True, True, torch.optim.Adam),
    "fourier, unbounded": ("fourier", False, False, torch.optim.SGD),
    "spectral": ("pixel", True, True, SPECTRAL),
    "maco": ("maco", True, True, torch.optim.NAdam),
    "maco by plain steps": ("maco", True, True, torch.optim.SGD),
}


@pytest.mark.parametrize("transforms", [(), DRAWN], ids=["as it is", "views"])
@pytest.mark.parametrize("case", CASES)
def test_a_descent_is_the_literal_one(network_of, case, transforms):
    kind, color, bounded, optimizer = CASES[case]
    network = deepcopy(network_of("hand_made")).double()
    rule = {"name": "spectral", **SPECTRAL} if isinstance(optimizer, dict) else optimizer.__name__.lower()
    recipe = featlight.Recipe(
        [featlight.Octave(*octave[:3], sigma=None if kind == "maco" else octave[3]) for octave in OCTAVES],
        parameterization=kind,
        range="sigmoid" if bounded else "unbounded",
        color="decorrelated" if color else "rgb",
        optimizer=rule,
        transforms=transforms,
    )
    start = torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 0.2 + 0.4
    start = start.float()  # as it is handed over
    init = "noise" if kind == "maco" else start
    options = {"recipe": recipe, "precision": "fp64", "init": init, "batch_size": 2, "progress": False}
    result = featlight.visualize(network, "4", FEATURES, **options)
    alphas = [None, None] if result.alphas is None else result.alphas
    function = layer_function(network, "4")
    literal = Literal(kind, color and not isinstance(optimizer, dict), bounded)
    for image, alpha, feature in zip(result.images, alphas, FEATURES, strict=True):
        seed = own_seed(999, feature_tile("4", feature))
        views = (
            RandomTransforms(recipe.transforms, [seed], recipe.total_steps, torch.device("cpu"))
            ._draws[:, 0, 0, :4]
            .double()
        )
        loss = lambda x, feature=feature: layer_loss(function, x, feature)  # noqa: E731
        theirs, pulls = descend(loss, literal, optimizer, start.double()[None], views if transforms else None)
        begun = literal.resized(literal.start(start.double()[None], 24), 24, 32)
        before = literal.image(begun, 32)[0]
        assert (theirs - before).std() > 0.1 * theirs.std()
        assert (image - theirs).abs().max() < 1e-6 * theirs.std()
        assert (alpha is None) == (kind != "maco")
        if alpha is not None:
            around = [
                [pulls[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].mean() for x in range(32)] for y in range(32)
            ]
            smooth = torch.tensor(around)
            high = smooth.flatten().sort().values[round(0.9 * 32 * 32) - 1]
            assert (alpha - (smooth / high).clamp(max=1)).abs().max() < 0.501 / 255
