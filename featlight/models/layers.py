"""A network's layers: what every module gives at an image size, and which of it can be visualized."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from featlight.config.settings import Channels
from featlight.errors import UsageError, unknown
from featlight.models.dimensions import FIRST, LAST, Flow, by_movement, by_ones
from featlight.models.frozen import frozen_copy, lay_out
from featlight.models.hooks import forward_hooks
from featlight.models.layer_info import Layer
from featlight.param.image import noise

CPU = torch.device("cpu")
FURTHER = 64  # px that an image is larger where one size alone does not tell what moves with it


class Survey(Mapping[str, Layer]):
    """Every module that ran at one image size, by name, in the order in which they first ended."""

    def __init__(
        self, network: nn.Module, size: int, layers: dict[str, Layer], failure: str | None, format: torch.memory_format
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

    @property
    def names(self) -> list[str]:
        """Of all modules, whether they ran or not."""
        return [name for name, _ in self._network.named_modules(remove_duplicate=False)]

    @property
    def usable(self) -> list[Layer]:
        return [layer for layer in self.values() if layer.refusal is None]

    def need(self, name: str, network_name: str) -> Layer:
        """The layer of that name.

        Raises:
            UsageError: there is none, it does not run, or its output has no features.
        """
        layer = self._layers.get(name)
        if layer is not None and layer.refusal is None:
            return layer
        where = f"in {network_name}"
        if layer is not None:
            raise UsageError(f"layer {name!r} {where}: {layer.refusal}")
        if name not in self.names:
            raise UsageError(unknown("layer", name, [layer.name for layer in self.usable], where))
        why = self.failure or "it is not called when the network classifies an image"
        raise UsageError(f"layer {name!r} {where} gives nothing at {self.size} x {self.size} px: {why}")


def check_independent(network: nn.Module, name: str) -> None:
    """Raise UsageError where a layer would let the images of a batch change each other."""
    for path, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise UsageError(
                f"layer {path!r} in {name}: batch norm without running statistics mixes the images of a batch"
            )


class _Seen(NamedTuple):
    """What a module gave, the last time."""

    output: tuple[int, ...]  # its shape
    refusal: str | None  # why it is none of a layer's outputs, whatever its dimensions mean
    kind: int | None  # where the feature stands, as the module's kind tells
    flow: int | None  # likewise, as the module's kind or what came in tells
    calls: int
    module: str  # its class


class _Pass(NamedTuple):
    """Two images of one size, run through a network."""

    seen: dict[str, _Seen]  # by name, in the order in which they first ended
    failure: str | None
    format: torch.memory_format


def survey(
    network: nn.Module,
    size: int,
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
    channels: Channels = "auto",
) -> Survey:
    """As `surveys`, for one size."""
    return surveys(network, [size], device, dtype, channels)[size]


def surveys(
    network: nn.Module, sizes: Sequence[int], device: torch.device, dtype: torch.dtype, channels: Channels = "auto"
) -> dict[int, Survey]:
    """Run two images of noise of each size through a frozen network and note what every module gives.

    Images are channels last, in which convolutions run faster, unless the network cannot take them: one that calls
    `view` on its maps, say.

    Args:
        network: as `frozen_copy` gives it; its weights are laid out as its images.
        sizes: sides of the images, in pixels.
        device: of the network.
        dtype: of the network.
        channels: which dimension of a 4-D output is the feature; `auto`: as the modules' kinds tell, or what moves
            with the size. Where one size does not tell, a further one is tried.
    """
    passes = {size: _look(network, size, device, dtype) for size in sizes}
    further = dict(passes)
    if channels == "auto":
        for size in (max(sizes) + FURTHER, 2 * max(sizes)):
            if any(_dimension(name, size, further) is None for size in sizes for name in passes[size].seen):
                further.setdefault(size, _look(network, size, device, dtype))
    found = {}
    for size, (seen, failure, format) in passes.items():
        layers = {name: _layer(name, each, _chosen(name, size, further, channels)) for name, each in seen.items()}
        found[size] = Survey(network, size, layers, failure, format)
    return found


def _look(network: nn.Module, size: int, device: torch.device, dtype: torch.dtype) -> _Pass:
    images = noise(size, seed=0).expand(2, -1, -1, -1).to(device, dtype)  # (2, 3, S, S)
    found = _run(network, images, torch.channels_last)
    return found if found.failure is None else _run(network, images, torch.contiguous_format)


def _run(network: nn.Module, images: Tensor, format: torch.memory_format) -> _Pass:
    lay_out(network, format)
    seen: dict[str, _Seen] = {}
    names: dict[nn.Module, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        if name:
            names.setdefault(module, []).append(name)
    images = images.clone(memory_format=format)  # a network may write into its input
    flow = Flow(network)

    def look(module: nn.Module, given: Any, output: Any) -> None:
        refusal = _refusal(output)
        shape = tuple(output.shape) if isinstance(output, Tensor) else ()
        told = (flow.kind(module, output), flow.note(module, given, output)) if len(shape) == 4 else (None, None)
        for name in names[module]:
            calls = seen[name].calls + 1 if name in seen else 1
            seen[name] = _Seen(shape, refusal, *told, calls, type(module).__name__)

    failure = None
    with forward_hooks([(module, look) for module in names]), torch.no_grad():
        try:
            network(images)
        except (Exception, SystemExit) as error:  # a network may raise anything at a size that it does not take
            failure = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return _Pass(seen, failure, format)


def _refusal(output: Any) -> str | None:
    if not isinstance(output, Tensor):
        return f"it gives a {type(output).__name__}, not a tensor"
    kind = str(output.dtype).removeprefix("torch.")
    if output.is_complex():
        return f"it gives complex numbers ({kind}); real ones are needed"
    if not output.is_floating_point() or output.layout != torch.strided:
        what = kind if output.layout == torch.strided else f"{kind}, {output.layout}".replace("torch.", "")
        return f"it gives numbers without a gradient ({what}); a dense tensor of floats is needed"
    shape = tuple(output.shape)
    if output.ndim in (2, 4) and shape[0] == 2:
        return None
    text = ", ".join(map(str, ("N", *shape[1:]) if shape and shape[0] == 2 else shape))
    return f"it gives ({text}); (N, C, H, W) or (N, C) is needed"


def _chosen(name: str, size: int, passes: Mapping[int, _Pass], channels: Channels) -> int | None:
    return {"first": FIRST, "last": LAST}[channels] if channels != "auto" else _dimension(name, size, passes)


def _dimension(name: str, size: int, passes: Mapping[int, _Pass]) -> int | None:
    """Where the feature stands in a layer's 4-D output; None where nothing tells. Any other output counts as known."""
    here = passes[size].seen[name]
    if here.refusal is not None or len(here.output) != 4 or here.kind is not None:
        return here.kind or FIRST
    others = [each.seen[name].output for each in passes.values() if name in each.seen]
    moved = {by_movement(here.output, other) for other in others if len(other) == 4} - {None}
    if len(moved) == 1:
        return moved.pop()
    return here.flow or by_ones(here.output)


def _layer(name: str, seen: _Seen, dimension: int | None) -> Layer:
    calls, kind, shape = seen.calls, seen.module, seen.output
    if seen.refusal is not None:
        return Layer(name, shape, calls, refusal=seen.refusal, kind=kind)
    if len(shape) == 2:
        return Layer(name, shape[1:], calls, kind=kind)
    if dimension is None:
        text = ", ".join(map(str, shape[1:]))
        refusal = (
            f"it gives (N, {text}), and neither its kind ({kind}) nor a larger image tells which dimension is the "
            "feature; say channels: first, or last (--channels)"
        )
        return Layer(name, shape, calls, refusal=refusal, kind=kind)
    map_size = [shape[other] for other in range(1, 4) if other != dimension]
    return Layer(name, (shape[dimension], *map_size), calls, dimension, kind=kind)


def check_features(found: Mapping[int, Survey], names: Sequence[str], network_name: str) -> None:
    """Raise UsageError where a layer is missing at some size, or its features are others there than at the first."""
    first, *others = found.values()
    for name in names:
        ours = first.need(name, network_name)
        for other in others:
            theirs = other.need(name, network_name)
            if (theirs.features, theirs.dimension) != (ours.features, ours.dimension):
                raise UsageError(
                    f"layer {name!r} in {network_name}: it gives {ours.features} features at {first.size} px and "
                    f"{theirs.features} at {other.size} px, so that a feature is not the same in every octave"
                )


def list_layers(network: nn.Module, size: int = 299, channels: Channels = "auto") -> list[Layer]:
    """The layers of a network whose features can be visualized.

    Args:
        network: any; it is not changed.
        size: side of the images, in pixels.
        channels: which dimension of a 4-D output is the feature, `first` or `last`, where `auto` cannot tell.

    Returns:
        One `Layer` each, with name, shape (C, H, W) or (C,), number of features, and kind (the module's class), in the
        order of their first run.

    Raises:
        UsageError: the network runs no layer at this size.
    """
    found = survey(frozen_copy(network, CPU, torch.float32), size, channels=channels)
    if not found.usable:
        why = found.failure or "no module of it gives (N, C, H, W) or (N, C)"
        raise UsageError(f"no layer runs at {size} x {size} px: {why}")
    return found.usable
