"""The network that the package carries: a small Inception-style one, which takes raw pixels.

It has five scales of smooth downsampling and parallel branches. `tools/tiny_inception` holds its training and the
pictures that it was trained on.
"""

from functools import partial
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from featlight.config.presets import EMBEDDED
from featlight.errors import WeightsError, unknown
from featlight.models.sources.entry import NetworkEntry


def has(model: str) -> bool:
    return model == EMBEDDED


def names() -> list[str]:
    return [EMBEDDED]


def entry(_: str) -> NetworkEntry:
    build = partial(TinyInception, len(CLASSES))
    return NetworkEntry(
        build,
        lambda _: build(),
        _weights,
        mean=(0.0, 0.0, 0.0),  # it was trained on raw pixels
        std=(1.0, 1.0, 1.0),
        classes=lambda: list(CLASSES),
        size=(SIDE, SIDE),
    )


def _weights(name: str) -> tuple[str, Path]:
    if name != "DEFAULT":
        raise WeightsError(unknown("weights", name, ["DEFAULT", "none"], f"of {EMBEDDED}"))
    return "embedded weights", WEIGHTS_FILE


SIDE = 64  # pixels of the training pictures
WEIGHTS_FILE = Path(__file__).parents[1] / "tiny_inception" / "weights.safetensors"
# Classes in the order of the outputs; tools/tiny_inception/patterns.py draws pictures of them
# fmt: off
CLASSES = (
    "gratings", "checkers", "dots", "target", "spiral", "rays", "zigzag", "waves", "bricks", "honeycomb",
    "triangles", "scales", "weave", "plaid", "net", "cells", "pebbles", "leopard", "labyrinth", "clouds", "marble",
    "wood", "noise", "camouflage", "gradient", "disc", "ring", "triangle", "square", "hexagon", "star", "cross",
    "heart", "moon", "flower", "sun", "eye", "face", "fish", "butterfly", "tree", "house", "leaf", "mushroom",
    "ladybird",
)
# fmt: on


class BasicConv2d(nn.Module):
    """A convolution that keeps the size, batch normalization and ReLU.

    Args:
        inputs: channels in.
        outputs: channels out.
        kernel: side of the kernel in pixels, odd.
        mirror: whether to pad by reflection instead of zeros, so that the picture's border is no edge.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, mirror: bool = False) -> None:
        super().__init__()
        mode: Literal["reflect", "zeros"] = "reflect" if mirror else "zeros"
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, padding_mode=mode, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Four branches side by side: 1x1, 3x3, two 3x3 and a 1x1 averaged over 3x3, concatenated.

    Args:
        inputs: channels in.
        plain: channels of the 1x1 branch.
        single: channels of the 3x3 branch, before and in its 3x3 convolution.
        double: channels of the branch of two 3x3, before and in each.
        pooled: channels of the pooled branch.
    """

    def __init__(
        self, inputs: int, plain: int, single: tuple[int, int], double: tuple[int, int, int], pooled: int
    ) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(inputs, plain, 1)
        self.branch3x3_1 = BasicConv2d(inputs, single[0], 1)
        self.branch3x3_2 = BasicConv2d(single[0], single[1], 3)
        self.branch3x3dbl_1 = BasicConv2d(inputs, double[0], 1)
        self.branch3x3dbl_2 = BasicConv2d(double[0], double[1], 3)
        self.branch3x3dbl_3 = BasicConv2d(double[1], double[2], 3)
        self.branch_pool = BasicConv2d(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, plain + single + double + pooled, H, W)."""
        branches = [
            self.branch1x1(x),
            self.branch3x3_2(self.branch3x3_1(x)),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            F.avg_pool2d(self.branch_pool(x), 3, stride=1, padding=1, count_include_pad=False),
        ]
        return torch.cat(branches, 1)


class TinyInception(nn.Module):
    """A classifier of patterns from raw pixels in [0, 1], at least 32 x 32.

    Averages, not strides or maxima, halve the maps, so that every pixel gets an equal share of the gradient.

    Args:
        classes: number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.Conv2d_1a_5x5 = BasicConv2d(3, 16, 5, mirror=True)
        self.Conv2d_2a_3x3 = BasicConv2d(16, 32, 3, mirror=True)
        self.Mixed_3a = Mixed(32, 16, (24, 32), (16, 24, 32), 16)
        self.Mixed_3b = Mixed(96, 24, (32, 48), (24, 32, 40), 16)
        self.Mixed_4a = Mixed(128, 32, (48, 64), (32, 40, 40), 24)
        self.Mixed_4b = Mixed(160, 32, (56, 72), (32, 40, 40), 16)
        self.Mixed_4c = Mixed(160, 40, (56, 72), (32, 48, 48), 16)
        self.Mixed_5a = Mixed(176, 40, (56, 80), (32, 48, 48), 24)
        self.Mixed_5b = Mixed(192, 64, (64, 96), (40, 56, 64), 32)
        self.fc = nn.Linear(256, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (B, 3, H, W) in [0, 1] to class scores (B, classes)."""
        x = F.avg_pool2d(self.Conv2d_1a_5x5(x), 2)  # (B, 16, H/2, W/2)
        x = F.avg_pool2d(self.Conv2d_2a_3x3(x), 2)  # (B, 32, H/4, W/4)
        x = self.Mixed_3a(x)  # (B, 96, H/4, W/4)
        x = F.avg_pool2d(self.Mixed_3b(x), 2)  # (B, 128, H/8, W/8)
        x = self.Mixed_4a(x)  # (B, 160, H/8, W/8)
        x = self.Mixed_4b(x)  # (B, 160, H/8, W/8)
        x = F.avg_pool2d(self.Mixed_4c(x), 2)  # (B, 176, H/16, W/16)
        x = self.Mixed_5a(x)  # (B, 192, H/16, W/16)
        x = self.Mixed_5b(x)  # (B, 256, H/16, W/16)
        logits: Tensor = self.fc(x.mean((2, 3)))  # (B, classes)
        return logits


def load() -> TinyInception:
    """Return the network with its packaged weights, in eval mode."""
    with torch.device("meta"):  # draws no random weights, so that the global random state does not change
        network = TinyInception(len(CLASSES))
    network.load_state_dict(load_file(WEIGHTS_FILE), strict=True, assign=True)
    return network.eval()
