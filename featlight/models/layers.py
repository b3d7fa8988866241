"""A network as a function from images to the outputs of chosen layers, run only as far as they need."""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops.misc import Permute

from featlight.errors import UsageError, unknown
from featlight.models.hooks import forward_hooks
from featlight.models.layer_info import Layer
from featlight.param.image import noise

CPU = torch.device("cpu")
TO_CHANNELS_LAST = [0, 2, 3, 1]
TO_CHANNELS_FIRST = [0, 3, 1, 2]


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
        if name not in dict(self._network.named_modules(remove_duplicate=False)):
            raise UsageError(unknown("layer", name, [layer.name for layer in self.usable], where))
        why = self.failure or "it is not called when the network classifies an image"
        raise UsageError(f"layer {name!r} {where} gives nothing at {self.size} x {self.size} px: {why}")


def frozen_copy(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A copy in eval mode whose parameters get no gradients, so that the user's network is never touched."""
    # a tensor that a forward pass has computed is copied by value, for deepcopy refuses it: an old weight_norm's, or
    # the output that another tool's hook, lucent's say, has kept
    owners = [*network.modules(), *(getattr(hook, "__self__", hook) for hook in _hooks(network))]
    held = [value for owner in owners for value in getattr(owner, "__dict__", {}).values() if isinstance(value, Tensor)]
    memo: dict[int, Any] = {id(value): value.detach().clone() for value in held if not value.is_leaf}
    return copy.deepcopy(network, memo).to(device=device, dtype=dtype).eval().requires_grad_(False)


def _hooks(network: nn.Module) -> Iterator[Callable[..., Any]]:
    for module in network.modules():
        yield from module._forward_pre_hooks.values()
        yield from module._forward_hooks.values()


def check_independent(network: nn.Module, name: str) -> None:
    """Raise UsageError where a layer would let the images of a batch change each other."""
    for path, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise UsageError(
                f"layer {path!r} in {name}: batch norm without running statistics mixes the images of a batch"
            )


def survey(network: nn.Module, size: int, device: torch.device = CPU, dtype: torch.dtype = torch.float32) -> Survey:
    """Run two images of noise through a frozen network and note what every module gives.

    Images are channels last, in which convolutions run faster, unless the network cannot take them: one that calls
    `view` on its maps, say.

    Args:
        network: as `frozen_copy` gives it; its weights are laid out as its images.
        size: side of the images, in pixels.
        device: of the network.
        dtype: of the network.
    """
    images = noise(size, seed=0).expand(2, -1, -1, -1).to(device, dtype)  # (2, 3, S, S)
    found = _survey(network, images, torch.channels_last)
    return found if found.failure is None else _survey(network, images, torch.contiguous_format)


def _survey(network: nn.Module, images: Tensor, format: torch.memory_format) -> Survey:
    network.to(memory_format=format)
    layers: dict[str, Layer] = {}
    names: dict[nn.Module, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        if name:
            names.setdefault(module, []).append(name)
    channels_last = False
    images = images.clone(memory_format=format)  # a network may write into its input

    def look(module: nn.Module, _: Any, output: Any) -> None:
        nonlocal channels_last
        if isinstance(module, Permute) and list(module.dims) in (TO_CHANNELS_LAST, TO_CHANNELS_FIRST):
            channels_last = list(module.dims) == TO_CHANNELS_LAST  # as in Swin and inside ConvNeXt's blocks
        for name in names[module]:
            before = layers.get(name)
            found = _layer(name, output, channels_last, 1 if before is None else before.calls + 1)
            layers[name] = replace(found, kind=type(module).__name__)

    failure = None
    with forward_hooks([(module, look) for module in names]), torch.no_grad():
        try:
            network(images)
        except Exception as error:  # a network may raise anything at a size that it does not take
            failure = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return Survey(network, images.shape[-1], layers, failure, format)


def _layer(name: str, output: Any, channels_last: bool, calls: int) -> Layer:
    if not isinstance(output, Tensor):
        return Layer(name, (), calls, refusal=f"it gives a {type(output).__name__}, not a tensor")
    shape = tuple(output.shape)
    if output.ndim not in (2, 4) or shape[0] != 2 or not output.is_floating_point():
        given = ("N", *shape[1:]) if shape and shape[0] == 2 else shape
        text = ", ".join(map(str, given))
        return Layer(name, shape, calls, refusal=f"it gives ({text}); (N, C, H, W) or (N, C) is needed")
    if output.ndim == 4 and channels_last:
        return Layer(name, (shape[3], shape[1], shape[2]), calls, channels_last=True)
    return Layer(name, shape[1:], calls)


def list_layers(network: nn.Module, size: int = 299) -> list[Layer]:
    """The layers of a network whose features can be visualized.

    Args:
        network: any; it is not changed.
        size: side of the images, in pixels.

    Returns:
        One `Layer` each, with name, shape (C, H, W) or (C,), number of features, and kind (the module's class), in the
        order of their first run.

    Raises:
        UsageError: the network runs no layer at this size.
    """
    found = survey(frozen_copy(network, CPU, torch.float32), size)
    if not found.usable:
        raise UsageError(f"no layer runs at {size} x {size} px: {found.failure}")
    return found.usable
