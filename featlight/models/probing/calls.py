"""The call that each name means, for a module that a network holds under several names."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MethodType

import torch
from torch import Tensor, nn

from featlight.errors import listed
from featlight.models.copying import duplicate
from featlight.models.hooks import forward_hooks


def names_of(network: nn.Module) -> dict[nn.Module, list[str]]:
    """Return all names of each module, including the network's own, ""."""
    names: dict[nn.Module, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    return names


def names_called(network: nn.Module, images: Tensor) -> dict[str, list[str]]:
    """Return the names that the calls of each module with several names used, by its first name, as the calls end.

    It runs a copy of the network in which every name has its own module; the modules share their tensors.

    Args:
        network: frozen network; it is not changed.
        images: images to run, (N, C, H, W).

    Returns:
        Names, "" for a call without a name, such as one through a plain list.
    """
    calls: dict[str, list[str]] = {names[0]: [] for names in names_of(network).values() if len(names) > 1}
    if not calls:
        return calls
    with suppress(Exception, SystemExit), torch.no_grad():  # errors of the network are reported by `run_probe`
        copy = duplicate(network, share_tensors=True)
        shared = {module: names for module, names in names_of(copy).items() if len(names) > 1}
        _separate(copy, shared)
        first_names = {name: names[0] for names in shared.values() for name in names}
        hooks = [(module, _recorder(calls[names[0]], "")) for module, names in shared.items()]
        for name, module in copy.named_modules():
            if name in first_names:
                hooks.append((module, _recorder(calls[first_names[name]], name)))
        with forward_hooks(hooks):
            copy(images.clone(memory_format=torch.preserve_format))
    return calls


def _recorder(calls: list[str], name: str) -> Callable[..., None]:
    return lambda *_: calls.append(name)


def _separate(module: nn.Module, shared: Mapping[nn.Module, Sequence[str]]) -> None:
    """Give every name of a shared module below a module its own copy."""
    for name, child in module._modules.items():
        if child is not None:
            module._modules[name] = own = _shallow_copy(child) if child in shared else child
            _separate(own, shared)


def _shallow_copy(module: nn.Module) -> nn.Module:
    """Return a module with its own dicts of parameters, buffers, modules and hooks, whose entries are shared."""
    other: nn.Module = object.__new__(type(module))
    tables = vars(nn.Module())
    for key, value in vars(module).items():
        if isinstance(value, dict) and key in tables:
            value = value.copy()
        elif isinstance(value, MethodType) and value.__self__ is module:
            value = MethodType(value.__func__, other)
        vars(other)[key] = value
    return other


def meant_call(name: str, names: Sequence[str], calls: Sequence[str], count: int) -> int | str | None:
    """Return the call of its module that a name means.

    Args:
        name: name of the module.
        names: all names of the module.
        calls: name that each call used.
        count: number of calls in another run.

    Returns:
        The call's number from 1; None for the last call; or the reason why it is unknown.
    """
    used = set(calls)
    if len(names) == 1 or count == 1:
        return None
    if len(calls) == count and used != {""}:
        if len(used) == 1:  # the other names are never called
            return None
        if name in used:
            return count - calls[::-1].index(name)
    known = [each for each in names if each in used] if len(calls) == count else []
    instead = listed(known) if known else "the layers around it"
    return (
        f"its module has {len(names)} names and is called {count} times, and the call that this name means is unknown; "
        f"use {instead} (--list-layers)"
    )
