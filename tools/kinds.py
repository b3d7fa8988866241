"""Draw a feature of each kind of network and layer, and check its activation with a hook on the original network.

python -m tools.kinds [--docs docs]
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import timm
import torch
import transformers
from PIL import Image
from torch import Tensor, nn

import featlight
from benchmarks.tables import markdown_table, write_between
from featlight.config.image_shape import shown_channels
from featlight.console import say
from featlight.drawing.atlas import draw_grid
from featlight.drawing.sheet import Cell
from featlight.param.image import to_bytes

TREE = Path(__file__).parents[1]
HEAD = ("kind", "network", "layer", "feature", "at the start", "at the end", "by a hook")
TILE = 192  # px
NOTE = "feature 3 of each layer by natural; weights random except where trained is said"
SMALL = {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3, "image_size": 224, "patch_size": 16}
NEAR = 1e-4  # relative tolerance of activations: folded norms and memory formats change the rounding
RECIPE = replace(
    featlight.NATURAL,
    octaves=(featlight.Octave(160, 40, (0.03, 0.02), (0.5, 0.4)), featlight.Octave(224, 40, (0.02, 0.003), (0.4, 0.3))),
)  # the last size is that of the networks with a fixed input size

Reading = Callable[[Any], Tensor]


def first(output: Tensor) -> Tensor:
    """Return the means of a map (N, C, H, W), (N, C)."""
    return output.mean((2, 3))


def last(output: Tensor) -> Tensor:
    """Return the means of a channels-last map (N, H, W, C), (N, C)."""
    return output.mean((1, 2))


def patches(prefix: int) -> Reading:
    """Return a function for the means of patch tokens in (N, T, C), after a prefix of other tokens."""
    return lambda output: output[:, prefix:].mean(1)


def token(output: Tensor) -> Tensor:
    """Return the class token of (N, T, C), (N, C)."""
    return output[:, 0]


class Kind(NamedTuple):
    """A kind of network and layer.

    Args:
        name: name of the kind.
        network: name of the network.
        layer: layer of the feature.
        read: function from the module's output to activations.
        build: function that builds the network; None to load it by name.
        tokens: tokens of a transformer to optimize.
    """

    name: str
    network: str
    layer: str
    read: Reading
    build: Callable[[], nn.Module] | None = None
    tokens: Literal["patches", "class"] = "patches"


class UNet(nn.Module):
    """A small U-Net with a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU())
        self.down = nn.Sequential(nn.MaxPool2d(4), nn.Conv2d(16, 32, 5, padding=2), nn.ReLU())
        self.up = nn.Sequential(nn.ConvTranspose2d(32, 16, 4, 4), nn.ReLU())
        self.last = nn.Conv2d(32, 8, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        skip = self.first(x)
        return {"masks": self.last(torch.cat([skip, self.up(self.down(skip))], 1))}


def _clip() -> nn.Module:
    return transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**SMALL, intermediate_size=384))


def _dinov2() -> nn.Module:
    config = transformers.Dinov2WithRegistersConfig(**SMALL, num_register_tokens=4)
    return transformers.Dinov2WithRegistersModel(config)


def _of_channels(channels: int) -> Callable[[], nn.Module]:
    return lambda: timm.create_model("resnet18", in_chans=channels)


KINDS = (
    Kind("convolutional, trained", "efficientnet_lite0", "blocks.4.0", first),
    Kind("convolutional, a toy, trained", "tiny_inception", "Mixed_5a", first),
    Kind("residual", "resnet18", "layer3", first),
    Kind("densely joined", "densenet121", "features.denseblock3", first),
    Kind("ConvNeXt", "timm/convnext_atto", "stages.2", first),
    Kind("ConvNeXt, channels last", "timm/convnext_tiny", "stages.1.blocks.1.mlp.act", last),
    Kind("Swin, residual stream", "swin_t", "features.3", last),
    Kind("MambaOut, channels last", "timm/test_mambaout", "stages.2", last),
    Kind("vision transformer, residual stream", "timm/vit_tiny_patch16_224", "blocks.8", patches(1)),
    Kind("vision transformer, neurons", "timm/vit_tiny_patch16_224", "blocks.8.mlp.act", patches(1)),
    Kind("vision transformer, class token", "timm/vit_tiny_patch16_224", "blocks.10", token, tokens="class"),
    Kind("DINOv2, registers", "transformers' Dinov2WithRegistersModel", "encoder.layer.2", patches(5), _dinov2),
    Kind("CLIP's image tower", "transformers' CLIPVisionModel", "encoder.layers.2", patches(1), _clip),
    Kind("mixer", "timm/gmlp_ti16_224", "blocks.10", patches(0)),
    Kind(
        "U-Net, a part of a dict",
        "a module of one's own",
        "0:masks",
        lambda given: first(given["masks"]),
        lambda: nn.Sequential(UNet()),
    ),
    Kind("classes, trained", "efficientnet_lite0", "classifier", lambda given: given),
    Kind("images of one channel", "timm/resnet18, in_chans=1", "layer2", first, _of_channels(1)),
    Kind("images of five channels", "timm/resnet18, in_chans=5", "layer2", first, _of_channels(5)),
)


class Shown(NamedTuple):
    """A feature's picture and its activations."""

    kind: Kind
    feature: int
    picture: Image.Image
    start: float
    end: float
    by_hook: float

    def row(self) -> tuple[str, ...]:
        """Return the cells of the table."""
        kind = self.kind
        numbers = (f"{value:.4g}" for value in (self.start, self.end, self.by_hook))
        return kind.name, kind.network, f"`{kind.layer}`", str(self.feature), *numbers


def shown(kind: Kind, feature: int = 3) -> Shown:
    """Draw a feature with `natural`, and read its activation with a hook.

    Raises:
        AssertionError: the hook's activation differs from the recorded one.
    """
    torch.manual_seed(0)
    trained = kind.network in ("efficientnet_lite0", "tiny_inception")
    network = (
        featlight.load_model(kind.network, "DEFAULT" if trained else "none") if kind.build is None else kind.build()
    ).eval()
    found = featlight.visualize(
        network,
        kind.layer,
        [feature],
        recipe=RECIPE,
        normalize="none",
        tokens=kind.tokens,
        progress=False,
    )
    (record,) = found.records
    given: list[Any] = []
    module = network.get_submodule(kind.layer.partition(":")[0])
    module.register_forward_hook(lambda _, __, output: given.append(output))
    with torch.no_grad():
        network(found.images)
    by_hook, end = float(kind.read(given[-1])[0, feature]), float(record["activation_end"])
    assert abs(by_hook - end) <= NEAR * abs(end), f"{kind.name}: {by_hook} by a hook, {end} recorded"
    channels = shown_channels("auto", found.images.shape[1])
    picture = Image.fromarray(to_bytes(found.images, channels)[0].numpy())
    return Shown(kind, feature, picture, float(record["activation_start"]), end, by_hook)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw all kinds on one sheet, and write their table into the documentation."""
    parser = argparse.ArgumentParser("python -m tools.kinds", description=main.__doc__)
    parser.add_argument("names", nargs="*", help="names of kinds (default: all)")
    parser.add_argument("--docs", type=Path, default=TREE / "docs", help="folder of the documentation")
    options = parser.parse_args(arguments)
    found = []
    for kind in KINDS:
        if not options.names or kind.name in options.names:
            found.append(shown(kind))
            say(" · ".join(found[-1].row()))
    cells = [Cell(each.kind.name, partial(Image.Image.copy, each.picture)) for each in found]
    sheet = draw_grid(cells, title="Kinds of networks", subtitle=NOTE, columns=6, tile=TILE)
    (options.docs / "images").mkdir(parents=True, exist_ok=True)
    sheet.save(options.docs / "images" / "kinds.jpg", quality=85, optimize=True)
    write_between(options.docs / "networks.md", "kinds", markdown_table(HEAD, [each.row() for each in found]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
