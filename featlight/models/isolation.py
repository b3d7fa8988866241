"""Whether a copy of a network runs on its own, without the modules and tensors of the one that it was copied from."""

import threading
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from featlight.errors import UsageError
from featlight.models.copying import reachable


def check_own(copy: nn.Module, network: nn.Module, images: Tensor, name: str) -> None:
    """Raise UsageError where a copy uses what is no part of it, and so is not frozen: a module by a global name, say.

    Args:
        copy: frozen.
        network: that it was copied from; it is stopped before any of it runs.
        images: to run.
        name: of the network.
    """
    own = {id(value) for value in reachable(copy) if isinstance(value, nn.Module | Tensor)}
    theirs = {
        value.untyped_storage().data_ptr()
        for value in reachable(network)
        if isinstance(value, Tensor) and value.layout == torch.strided
    }
    thread = threading.get_ident()

    def enter(module: nn.Module, _: Any) -> None:
        if id(module) in own or threading.get_ident() != thread:
            return
        held = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if any(isinstance(tensor, nn.Parameter) and id(tensor) not in own for tensor in held):
            raise _ForeignCallError(f"a {type(module).__name__}")

    handle = register_module_forward_pre_hook(enter)
    try:
        with (
            torch.no_grad(),
            suppress(Exception, SystemExit),
            _CallMonitor(theirs - {0}),
        ):  # what it fails at, others say
            copy(images.clone())
    except _ForeignCallError as error:
        raise UsageError(
            f"{name} uses {error} that is no part of it, so that it cannot be copied and frozen with it: "
            "make it an attribute of the network"
        ) from None
    finally:
        handle.remove()


class _CallMonitor(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own __init_subclass__
    """Stops at the first operation that takes memory of somebody else's."""

    def __init__(self, theirs: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._theirs = theirs

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for tensor in tensors:
            if tensor.layout == torch.strided and tensor.untyped_storage().data_ptr() in self._theirs:
                raise _ForeignCallError(f"a tensor of {tuple(tensor.shape)}")
        return func(*args, **(kwargs or {}))


class _ForeignCallError(BaseException):
    """Not an Exception, so that no network catches it."""
