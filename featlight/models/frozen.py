"""The frozen copy of a user's network that a run works on, and the check that it runs without the original."""

import threading
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from featlight.errors import UsageError
from featlight.models.copying import all_modules, duplicate, reachable


def frozen_copy(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Return a copy in eval mode whose parameters get no gradients; the user's network is never changed.

    Raises:
        UsageError: the network cannot be copied or has no values yet.
    """
    check_filled(network)
    if isinstance(network, torch.jit.ScriptModule):
        raise UsageError(
            f"{type(network).__name__}: a scripted network runs as one piece; give the module that was scripted "
            "(scripted modules within a network can be its layers)"
        )
    frozen = _wrap_scripted(duplicate(network))
    frozen.eval()  # a user's own `eval` or `train` may return nothing
    for module in all_modules(frozen):
        cast(module, device, dtype)
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
    return frozen


def check_filled(network: nn.Module) -> None:
    """Raise UsageError if a parameter or buffer has no values."""
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if is_lazy(tensor):
            raise UsageError(f"{type(network).__name__}: {name!r} is lazy and has no values yet; run the network once")
        if tensor.is_meta:
            raise UsageError(
                f"{type(network).__name__}: {name!r} is on the device meta and has no values; load its values"
            )


class _Scripted(nn.Module):
    """A scripted module as one piece: torch allows no hooks on it."""

    def __init__(self, scripted: nn.Module) -> None:
        super().__init__()
        self.scripted = [scripted]  # in a list, so that its parts do not become modules of the network

    def forward(self, *args: Any) -> Any:
        return self.scripted[0](*args)


def _wrap_scripted(network: nn.Module) -> nn.Module:
    """Wrap the scripted modules of a network in modules that take hooks."""
    for module in all_modules(network):
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for name, child in module.named_children():
            if isinstance(child, torch.jit.ScriptModule):
                module._modules[name] = _Scripted(child)
    return network


def cast(network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Move a network to a device and its real and complex tensors to a precision.

    `Module.to` would make complex numbers real.
    """
    complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64

    def move(tensor: Tensor) -> Tensor:
        if tensor.is_complex():
            return tensor.to(device, complex_dtype)
        return tensor.to(device, dtype) if tensor.is_floating_point() else tensor.to(device)

    network._apply(move)  # type: ignore[no-untyped-call]


def set_memory_format(network: nn.Module, format: torch.memory_format) -> None:
    """Lay out a network's 4-D tensors in a memory format; `Module.to` would fail at 5-D tensors."""

    def convert(tensor: Tensor) -> Tensor:
        return tensor.to(memory_format=format) if tensor.ndim == 4 else tensor

    network._apply(convert)  # type: ignore[no-untyped-call]


def check_isolated(copy: nn.Module, network: nn.Module, images: Tensor, name: str) -> None:
    """Raise UsageError if a copy uses modules or tensors that are not part of it, by a global name for example.

    Args:
        copy: frozen copy.
        network: original network; none of its modules runs.
        images: images to run, (N, C, H, W).
        name: name of the network, for the error line.
    """
    own = {id(value) for value in reachable(copy) if isinstance(value, nn.Module | Tensor)}
    original_memory = {
        value.untyped_storage().data_ptr()
        for value in reachable(network)
        if isinstance(value, Tensor) and value.layout == torch.strided
    }
    thread = threading.get_ident()

    def enter(module: nn.Module, _: Any) -> None:
        if id(module) in own or threading.get_ident() != thread:
            return
        tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if any(isinstance(tensor, nn.Parameter) and id(tensor) not in own for tensor in tensors):
            raise _ForeignCallError(f"a {type(module).__name__}")

    handle = register_module_forward_pre_hook(enter)
    try:
        # other errors are reported when the layers are surveyed
        with torch.no_grad(), suppress(Exception, SystemExit), _CallMonitor(original_memory - {0}):
            copy(images.clone())
    except _ForeignCallError as error:
        raise UsageError(
            f"{name} uses {error} that is not part of it, so featlight cannot copy and freeze it; "
            "make it an attribute of the network"
        ) from None
    finally:
        handle.remove()


class _CallMonitor(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own __init_subclass__
    """Stops at the first operation that reads the memory of another network."""

    def __init__(self, foreign_memory: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._foreign_memory = foreign_memory

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in tree_leaves((args, kwargs)):
            is_dense = isinstance(tensor, Tensor) and tensor.layout == torch.strided
            if is_dense and tensor.untyped_storage().data_ptr() in self._foreign_memory:
                raise _ForeignCallError(f"a tensor of {tuple(tensor.shape)}")
        return func(*args, **(kwargs or {}))


class _ForeignCallError(BaseException):
    """Not an Exception, so that no network catches it."""
