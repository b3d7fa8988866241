"""A network's layers: the outputs of its modules at an image size, and which of these can be visualized."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import nn

from featlight.ambient import isolated, not_compiled
from featlight.config.image_shape import (
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
from featlight.errors import UsageError, listed, memory_errors, unknown
from featlight.models.catalog import source_of
from featlight.models.frozen import frozen_copy
from featlight.models.layer_info import Layer
from featlight.models.output_layout import OutputLayout
from featlight.models.probing.forward_pass import NEEDED, part_advice, run_probe
from featlight.models.probing.inputs import FURTHER, inputs_of, probe_images
from featlight.models.probing.own_outputs import without_gradient
from featlight.param.image import MeanAndStd

CPU = torch.device("cpu")


class Survey(Mapping[str, Layer]):
    """The layers of a network at one image size by name, in the order in which their modules first ended.

    Args:
        network: frozen network.
        size: size of the images in pixels.
        layers: layers by name.
        failure: error that ended the forward pass early; None if there was none.
        format: memory format of the images.
    """

    def __init__(
        self,
        network: nn.Module,
        size: ImageSize,
        layers: dict[str, Layer],
        failure: str | None,
        format: torch.memory_format,
    ) -> None:
        self.size = size
        self.failure = failure
        self.format = format
        self._network = network
        self._layers = layers

    def __getitem__(self, name: str) -> Layer:
        return self._layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def with_layers(self, layers: Mapping[str, Layer], size: ImageSize) -> "Survey":
        """Return a survey at another size, with some of its layers replaced."""
        own = {name: layers.get(name, layer) for name, layer in self._layers.items()}
        return Survey(self._network, size, own, self.failure, self.format)

    @property
    def names(self) -> list[str]:
        """Names of all modules, including those that did not run."""
        return [name for name, _ in self._network.named_modules(remove_duplicate=False)]

    @property
    def usable(self) -> list[Layer]:
        """Layers that can be visualized, without class tokens, which belong to their layers."""
        return [layer for layer in self.values() if layer.refusal is None and not layer.name.endswith(CLASS)]

    @property
    def left_out(self) -> list[Layer]:
        """Layers that cannot be visualized, with their reasons, without structures that have usable parts."""
        whole = {layer.module for layer in self.usable if layer.part}
        refused = [layer for layer in self.values() if layer.refusal is not None and layer.name not in whole]
        leaves = [name for name, module in self._network.named_modules() if name and not list(module.children())]
        reason = self.failure or "it is not called"
        return refused + [Layer(name, (), 0, refusal=reason) for name in leaves if name not in self._layers]

    def check_usable(self) -> None:
        """Raise UsageError if no layer can be visualized."""
        if not self.usable:
            refused = (f"; {layer.name}: {layer.refusal}" for layer in self.left_out)
            nothing = f"no module of it gives {NEEDED}{next(refused, '')}{part_advice(self._network)}"
            raise UsageError(f"no layer runs at {shape_words(self.size)} px: {self.failure or nothing}")

    def need(self, name: str, network_name: str) -> Layer:
        """Return the layer of that name.

        Raises:
            UsageError: there is no such layer, it does not run, or its output has no features.
        """
        layer = self._layers.get(name)
        if layer is not None and layer.refusal is None:
            return layer
        where = f"in {network_name}"
        if layer is None and name.endswith(CLASS):
            base = self.need(name.removesuffix(CLASS), network_name)
            raise UsageError(f"tokens: class given; layer {base.name!r} {where} has none ({base.map_label})")
        if layer is not None:
            raise UsageError(f"layer {name!r} {where}: {layer.refusal}")
        self.check_usable()
        if name not in self.names:
            raise UsageError(unknown("layer", name, [layer.name for layer in self.usable], where))
        reason = self.failure or "it is not called when the network classifies an image"
        inner = [layer.name for layer in self.usable if layer.name.startswith(f"{name}.")]
        if inner and self.failure is None:
            kind = type(self._network.get_submodule(name)).__name__
            raise UsageError(
                f"layer {name!r} {where}: it is a {kind}, which holds layers and is not called itself; give one of its "
                f"layers: {listed(inner)}, or several by the pattern {name + '.**'!r}"
            )
        raise UsageError(f"layer {name!r} {where} gives nothing at {shape_words(self.size)} px: {reason}")


def check_independent(network: nn.Module, name: str) -> None:
    """Raise UsageError if a batch norm would make an image depend on the rest of the batch."""
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
    """Return the layers at one image size; see `surveys`."""
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
    """Run two noise images of each size through a frozen network and return its layers by size.

    Images are channels last, in which convolutions run faster, unless the network fails at that, for example because it
    calls `view` on its maps.

    Args:
        network: result of `frozen_copy`; its weights get the memory format of the images.
        sizes: sizes of the images in pixels.
        device: device of the network.
        dtype: precision of the network.
        channels: feature dimension of all outputs, `first` or `last`; `auto` determines it from the kinds of modules
            and from the image sizes, with more sizes if necessary.
        prefix_tokens: number of tokens before the patches; `auto` determines it from the network's maps and from the
            image sizes.
        in_channels: number of channels of the images.
        pixels: mean and std that images are normalized with.
    """
    passes = {size: run_probe(network, size, device, dtype, in_channels, pixels) for size in sizes}
    all_passes = dict(passes)

    def layout() -> OutputLayout:
        outputs = {size: result.outputs for size, result in all_passes.items()}
        fixed = {size: result.fixed for size, result in all_passes.items()}
        return OutputLayout(network, outputs, channels, prefix_tokens, fixed)

    height, width = both_sides(max(sizes, key=pixels_of))
    for further in (image_size(height + FURTHER, width + FURTHER), image_size(2 * height, 2 * width)):
        known = layout()
        if any(known.is_open(size, name) for size in sizes for name in passes[size].outputs):
            all_passes.setdefault(further, run_probe(network, further, device, dtype, in_channels, pixels))
    known = layout()
    return {
        size: Survey(network, size, {layer.name: layer for layer in known.layers(size)}, result.failure, result.format)
        for size, result in passes.items()
    }


def check_features(found: Mapping[ImageSize, Survey], names: Sequence[str], network_name: str) -> None:
    """Raise UsageError if a layer is missing at an image size or has other features there than at the first size."""
    first, *others = found.values()
    for name in names:
        layer = first.need(name, network_name)
        for survey in others:
            other = survey.need(name, network_name)
            if not _same_features(other, layer):
                size, other_size = size_words(first.size), size_words(survey.size)
                raise UsageError(
                    f"layer {name!r} in {network_name}: it gives {layer.features} features at {size} px and "
                    f"{other.features} at {other_size} px, so that a feature is not the same in every octave"
                )


def usable_everywhere(found: Mapping[ImageSize, Survey]) -> list[str]:
    """Return the names of the layers that pass `check_features`, in the network's order."""
    first, *others = found.values()
    every = [{layer.name: layer for layer in other.usable} for other in others]
    usable = first.usable
    return [u.name for u in usable if all(u.name in other and _same_features(other[u.name], u) for other in every)]


def _same_features(one: Layer, other: Layer) -> bool:
    return (one.features, one.dimension) == (other.features, other.dimension)


def layer_name(network: nn.Module, module: nn.Module) -> str:
    """Return a name of one of a network's modules.

    Raises:
        UsageError: the module is not part of the network, or its names mean different calls of it.
    """
    names = [name for name, each in network.named_modules(remove_duplicate=False) if name and each is module]
    if not names:
        raise UsageError(f"layer: a {type(module).__name__} given that is none of the network's modules")
    calls = {layer.name: layer.call for layer in list_layers(network) if layer.name in names} if names[1:] else {}
    if len(set(calls.values())) > 1:
        raise UsageError(
            f"layer: a {type(module).__name__} given that is called in {len(calls)} places of the network; give the "
            f"name of one of them: {listed(calls)}"
        )
    return next(iter(calls), names[0])


def survey_of(
    network: nn.Module,
    size: ImageSize = 299,
    channels: Channels = "auto",
    prefix_tokens: PrefixTokens = "auto",
    in_channels: int | Literal["auto"] = "auto",
    pixels: MeanAndStd | None = None,
) -> Survey:
    """Return all layers of a network at one image size; see `list_layers`. Layers without a gradient are refused.

    Args:
        network: any network; it is not changed.
        size: size of the images in pixels.
        channels: feature dimension of all outputs, `first` or `last`; `auto` to determine it.
        prefix_tokens: number of tokens before the patches; `auto` to determine it.
        in_channels: number of channels of the images; `auto` for the number that the network takes.
        pixels: mean and std that the probe images are normalized with.
    """
    frozen, size = frozen_copy(network, CPU, torch.float32), parse_size(size)
    inputs = inputs_of(frozen, [size], CPU, torch.float32, in_channels, pixels=pixels)
    seen = inputs.views[size].size if size in inputs.views else size
    found = survey(
        frozen,
        seen,
        channels=channels,
        prefix_tokens=prefix_tokens,
        in_channels=inputs.channels,
        pixels=pixels,
    )
    found.check_usable()
    images = probe_images(seen, CPU, torch.float32, inputs.channels, pixels)
    usable = {layer.name: layer for layer in found.usable}
    return found.with_layers(without_gradient(frozen, images, usable), seen)


@not_compiled
@memory_errors()
@isolated()
def list_layers(
    network: nn.Module,
    size: ImageSize = 299,
    channels: Channels = "auto",
    prefix_tokens: PrefixTokens = "auto",
    in_channels: int | Literal["auto"] = "auto",
) -> list[Layer]:
    """Return the layers of a network whose features can be visualized.

    Args:
        network: any network; it is not changed.
        size: size of the images in pixels: the side of a square, or height and width.
        channels: feature dimension of all outputs, `first` or `last`; `auto` to determine it.
        prefix_tokens: number of tokens before the patches; `auto` to determine it.
        in_channels: number of channels of the images; `auto` for the number that the network takes.

    Returns:
        Layers with name, shape (C, H, W) or (C,), number of features, and kind (the module's class), in the order of
        their first run. Probe images are normalized as the network was trained, if that is known.

    Raises:
        UsageError: no layer of the network runs at this size.
    """
    source = source_of(network)
    pixels = None if source.mean is None or source.std is None else (source.mean, source.std)
    return survey_of(network, size, channels, prefix_tokens, in_channels, pixels).usable
