"""The frozen copy of a user's network that a run works on."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from featlight.errors import UsageError
from featlight.models.copying import all_modules, duplicate


def frozen_copy(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A copy in eval mode whose parameters get no gradients, so that the user's network is never touched.

    Raises:
        UsageError: it cannot be copied, or has no values yet.
    """
    check_filled(network)
    if isinstance(network, torch.jit.ScriptModule):
        raise UsageError(
            f"{type(network).__name__}: a scripted network runs as one piece; give the module that it was made of "
            "(scripted modules within a network can be its layers)"
        )
    frozen = _open(duplicate(network))
    frozen.eval()  # whose result, or whose `train`'s, may be None where the user has written them
    for module in all_modules(frozen):
        cast(module, device, dtype)
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
    return frozen


def check_filled(network: nn.Module) -> None:
    """Raise UsageError where a parameter or buffer has no values."""
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if is_lazy(tensor):
            raise UsageError(
                f"{type(network).__name__}: {name!r} is lazy and has no values yet; run the network once before"
            )
        if tensor.is_meta:
            raise UsageError(f"{type(network).__name__}: {name!r} is on the device meta and has no values; load them")


class _Whole(nn.Module):
    """A scripted module as one piece: torch lets nobody look into it, nor hook it."""

    def __init__(self, scripted: nn.Module) -> None:
        super().__init__()
        self.scripted = [scripted]  # in a list, so that its parts are none of the network's

    def forward(self, *args: Any) -> Any:
        return self.scripted[0](*args)


def _open(network: nn.Module) -> nn.Module:
    """The network with its scripted parts as modules that hooks reach."""
    for module in all_modules(network):
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for name, child in module.named_children():
            if isinstance(child, torch.jit.ScriptModule):
                module._modules[name] = _Whole(child)
    return network


def cast(network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Move a network, its real numbers to a type and its complex ones to that type's own.

    `Module.to` would make complex numbers real.
    """
    complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64

    def move(tensor: Tensor) -> Tensor:
        if tensor.is_complex():
            return tensor.to(device, complex_dtype)
        return tensor.to(device, dtype) if tensor.is_floating_point() else tensor.to(device)

    network._apply(move)  # type: ignore[no-untyped-call]


def lay_out(network: nn.Module, format: torch.memory_format) -> None:
    """Lay out its 4-D tensors; `Module.to` would fail at one of five dimensions."""

    def laid_out(tensor: Tensor) -> Tensor:
        return tensor.to(memory_format=format) if tensor.ndim == 4 else tensor

    network._apply(laid_out)  # type: ignore[no-untyped-call]
