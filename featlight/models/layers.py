"""A network's layers: what every module gives at an image size, and which of it can be visualized."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import nn

from featlight.ambient import isolated
from featlight.config.inputs.sizes import (
    ImageSize,
    both_sides,
    image_size,
    parse_size,
    pixels_of,
    shape_words,
    size_words,
)
from featlight.config.settings import Channels, PrefixTokens
from featlight.config.tile import CLASS
from featlight.errors import UsageError, listed, unknown
from featlight.models.frozen import frozen_copy
from featlight.models.layer_info import Layer
from featlight.models.outputs.output_layout import OutputLayout
from featlight.models.probing.forward_pass import NEEDED, part_advice, run_probe
from featlight.models.probing.inputs import FURTHER, inputs_of
from featlight.param.image import MeanAndStd

CPU = torch.device("cpu")


class Survey(Mapping[str, Layer]):
    """Every module that ran at one image size, by name, in the order in which they first ended."""

    def __init__(
        self,
        network: nn.Module,
        size: ImageSize,
        layers: dict[str, Layer],
        failure: str | None,
        format: torch.memory_format,
    ) -> None:
        self.size = size
        self.failure = failure  # why the pass ended early, if it did
        self.format = format  # of images, that suits the network
        self._network = network
        self._layers = layers

    def __getitem__(self, name: str) -> Layer:
        return self._layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def with_layers(self, layers: Mapping[str, Layer], size: ImageSize) -> "Survey":
        """The same with some layers as they are at another size, in the same order; it then is of that size."""
        own = {name: layers.get(name, layer) for name, layer in self._layers.items()}
        return Survey(self._network, size, own, self.failure, self.format)

    @property
    def names(self) -> list[str]:
        """Of all modules, whether they ran or not."""
        return [name for name, _ in self._network.named_modules(remove_duplicate=False)]

    @property
    def usable(self) -> list[Layer]:
        """What can be visualized; class tokens belong to their layers."""
        return [layer for layer in self.values() if layer.refusal is None and not layer.name.endswith(CLASS)]

    @property
    def left_out(self) -> list[Layer]:
        """What cannot be visualized, each with its reason; a structure whose parts can be is none of it."""
        whole = {layer.module for layer in self.usable if layer.part}
        refused = [layer for layer in self.values() if layer.refusal is not None and layer.name not in whole]
        leaves = [name for name, module in self._network.named_modules() if name and not list(module.children())]
        why = self.failure or "it is not called"
        return refused + [Layer(name, (), 0, refusal=why) for name in leaves if name not in self._layers]

    def check_usable(self) -> None:
        """Raise UsageError where no layer can be visualized."""
        if not self.usable:
            refused = (f"; {layer.name}: {layer.refusal}" for layer in self.left_out)
            nothing = f"no module of it gives {NEEDED}{next(refused, '')}{part_advice(self._network)}"
            raise UsageError(f"no layer runs at {shape_words(self.size)} px: {self.failure or nothing}")

    def need(self, name: str, network_name: str) -> Layer:
        """The layer of that name.

        Raises:
            UsageError: there is none, it does not run, or its output has no features.
        """
        layer = self._layers.get(name)
        if layer is not None and layer.refusal is None:
            return layer
        where = f"in {network_name}"
        if layer is None and name.endswith(CLASS):
            base = self.need(name.removesuffix(CLASS), network_name)
            raise UsageError(f"tokens: class given; layer {base.name!r} {where} has none ({base.map_words})")
        if layer is not None:
            raise UsageError(f"layer {name!r} {where}: {layer.refusal}")
        self.check_usable()
        if name not in self.names:
            raise UsageError(unknown("layer", name, [layer.name for layer in self.usable], where))
        why = self.failure or "it is not called when the network classifies an image"
        inner = [layer.name for layer in self.usable if layer.name.startswith(f"{name}.")]
        if inner and self.failure is None:
            kind = type(self._network.get_submodule(name)).__name__
            raise UsageError(
                f"layer {name!r} {where}: it is a {kind}, which holds layers and is not called itself; name one of its "
                f"own: {listed(inner)}, or several by the pattern {name + '.**'!r}"
            )
        raise UsageError(f"layer {name!r} {where} gives nothing at {shape_words(self.size)} px: {why}")


def check_independent(network: nn.Module, name: str) -> None:
    """Raise UsageError where a layer would let the images of a batch change each other."""
    for path, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise UsageError(
                f"layer {path!r} in {name}: batch norm without running statistics mixes the images of a batch"
            )


def survey(
    network: nn.Module,
    size: ImageSize,
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
    channels: Channels = "auto",
    prefix_tokens: PrefixTokens = "auto",
    in_channels: int = 3,
    pixels: MeanAndStd | None = None,
) -> Survey:
    """As `surveys`, for one size."""
    return surveys(network, [size], device, dtype, channels, prefix_tokens, in_channels, pixels)[size]


def surveys(
    network: nn.Module,
    sizes: Sequence[ImageSize],
    device: torch.device,
    dtype: torch.dtype,
    channels: Channels = "auto",
    prefix_tokens: PrefixTokens = "auto",
    in_channels: int = 3,
    pixels: MeanAndStd | None = None,
) -> dict[ImageSize, Survey]:
    """Run two images of noise of each size through a frozen network and note what every module gives.

    Images are channels last, in which convolutions run faster, unless the network cannot take them: one that calls
    `view` on its maps, say.

    Args:
        network: as `frozen_copy` gives it; its weights are laid out as its images.
        sizes: of the images, in pixels.
        device: of the network.
        dtype: of the network.
        channels: which dimension of an output is the feature; `auto`: as the modules' kinds tell, or what moves with
            the size. Where one size does not tell, a further one is tried.
        prefix_tokens: how many tokens stand before the patches; `auto`: as the network's own maps tell, or how the
            number of tokens moves with the size.
        in_channels: of the images.
        pixels: mean and std that images are normalized with.
    """
    passes = {size: run_probe(network, size, device, dtype, in_channels, pixels) for size in sizes}
    further = dict(passes)

    def meaning() -> OutputLayout:
        return OutputLayout(network, {size: found.seen for size, found in further.items()}, channels, prefix_tokens)

    height, width = both_sides(max(sizes, key=pixels_of))
    for size in (image_size(height + FURTHER, width + FURTHER), image_size(2 * height, 2 * width)):
        known = meaning()
        if any(known.is_open(each, name) for each in sizes for name in passes[each].seen):
            further.setdefault(size, run_probe(network, size, device, dtype, in_channels, pixels))
    known = meaning()
    return {
        size: Survey(network, size, {layer.name: layer for layer in known.layers(size)}, found.failure, found.format)
        for size, found in passes.items()
    }


def check_features(found: Mapping[ImageSize, Survey], names: Sequence[str], network_name: str) -> None:
    """Raise UsageError where a layer is missing at some size, or its features are others there than at the first."""
    first, *others = found.values()
    for name in names:
        ours = first.need(name, network_name)
        for other in others:
            theirs = other.need(name, network_name)
            if not _alike(theirs, ours):
                here, there = (size_words(each.size) for each in (first, other))
                raise UsageError(
                    f"layer {name!r} in {network_name}: it gives {ours.features} features at {here} px and "
                    f"{theirs.features} at {there} px, so that a feature is not the same in every octave"
                )


def usable_everywhere(found: Mapping[ImageSize, Survey]) -> list[str]:
    """The layers that `check_features` has nothing against, in the network's order."""
    first, *others = found.values()
    every = [{layer.name: layer for layer in other.usable} for other in others]
    usable = first.usable
    return [u.name for u in usable if all(u.name in other and _alike(other[u.name], u) for other in every)]


def _alike(ours: Layer, theirs: Layer) -> bool:
    """Whether a layer's features are the same at two sizes."""
    return (ours.features, ours.dimension) == (theirs.features, theirs.dimension)


def layer_name(network: nn.Module, module: nn.Module) -> str:
    """The name of one of a network's modules, which need not have but one.

    Raises:
        UsageError: it is none of the network's, or its names mean different calls of it.
    """
    names = [name for name, each in network.named_modules(remove_duplicate=False) if name and each is module]
    if not names:
        raise UsageError(f"layer: a {type(module).__name__} given that is none of the network's modules")
    meant = {layer.name: layer.call for layer in list_layers(network) if layer.name in names} if names[1:] else {}
    if len(set(meant.values())) > 1:
        raise UsageError(
            f"layer: a {type(module).__name__} given that is called in {len(meant)} places of the network; give the "
            f"name of one of them: {listed(meant)}"
        )
    return next(iter(meant), names[0])


def survey_of(
    network: nn.Module,
    size: ImageSize = 299,
    channels: Channels = "auto",
    prefix_tokens: PrefixTokens = "auto",
    in_channels: int | Literal["auto"] = "auto",
) -> Survey:
    """A network's layers at one size of image, those that cannot be visualized too.

    Args:
        network: any; it is not changed.
        size: of the images, in pixels: the side of a square, or height and width.
        channels: which dimension of an output is the feature, `first` or `last`, where `auto` cannot tell.
        prefix_tokens: how many tokens stand before the patches, where `auto` cannot tell.
        in_channels: of the images; `auto`: as many as the network takes.

    Raises:
        UsageError: the network runs no layer at this size.
    """
    frozen, size = frozen_copy(network, CPU, torch.float32), parse_size(size)
    inputs = inputs_of(frozen, [size], CPU, torch.float32, in_channels)
    seen = inputs.views[size].size if size in inputs.views else size
    found = survey(frozen, seen, channels=channels, prefix_tokens=prefix_tokens, in_channels=inputs.channels)
    found.check_usable()
    return found


@isolated()
def list_layers(
    network: nn.Module,
    size: ImageSize = 299,
    channels: Channels = "auto",
    prefix_tokens: PrefixTokens = "auto",
    in_channels: int | Literal["auto"] = "auto",
) -> list[Layer]:
    """The layers of a network whose features can be visualized.

    Args:
        network: any; it is not changed.
        size: of the images, in pixels: the side of a square, or height and width.
        channels: which dimension of an output is the feature, `first` or `last`, where `auto` cannot tell.
        prefix_tokens: how many tokens stand before the patches, where `auto` cannot tell.
        in_channels: of the images; `auto`: as many as the network takes.

    Returns:
        One `Layer` each, with name, shape (C, H, W) or (C,), number of features, and kind (the module's class), in the
        order of their first run.

    Raises:
        UsageError: the network runs no layer at this size.
    """
    return survey_of(network, size, channels, prefix_tokens, in_channels).usable
