"""Which call of a module each of its names means, where one module stands in a network under several names."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MethodType

import torch
from torch import Tensor, nn

from featlight.errors import listed
from featlight.models.copying import duplicate
from featlight.models.hooks import forward_hooks


def names_of(network: nn.Module) -> dict[nn.Module, list[str]]:
    """All names of each module, the network's own "" too."""
    names: dict[nn.Module, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    return names


def names_called(network: nn.Module, images: Tensor) -> dict[str, list[str]]:
    """By first name of each module that has several, the name that each of its calls went by, as the calls end.

    A copy of the network is run whose names all have modules of their own, which share their tensors.

    Args:
        network: it is not changed.
        images: to run.

    Returns:
        "" where a call went by no name: by a plain list of the network's own, say.
    """
    found: dict[str, list[str]] = {each[0]: [] for each in names_of(network).values() if len(each) > 1}
    if not found:
        return found
    with suppress(Exception, SystemExit), torch.no_grad():  # what the network fails at, others say
        copy = duplicate(network, share_tensors=True)
        shared = {module: each for module, each in names_of(copy).items() if len(each) > 1}
        _separate(copy, shared)
        whose = {name: each[0] for each in shared.values() for name in each}
        hooks = [(module, _noter(found[each[0]], "")) for module, each in shared.items()]
        own = [(module, name) for name, module in copy.named_modules() if name in whose]
        with forward_hooks([*hooks, *((module, _noter(found[whose[name]], name)) for module, name in own)]):
            copy(images.clone(memory_format=torch.preserve_format))
    return found


def _noter(calls: list[str], name: str) -> Callable[..., None]:
    return lambda *_: calls.append(name)


def _separate(module: nn.Module, shared: Mapping[nn.Module, Sequence[str]]) -> None:
    """Give every name below a module a module of its own."""
    for name, child in module._modules.items():
        if child is not None:
            module._modules[name] = own = _shallow_copy(child) if child in shared else child
            _separate(own, shared)


def _shallow_copy(module: nn.Module) -> nn.Module:
    """The module with tables of its own, whose entries are the same."""
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
    """Which call of its module a name means.

    Args:
        name: one of the module's.
        names: all of them.
        calls: the name that each call went by.
        count: of the calls, by another look.

    Returns:
        The call's number from 1; None for the last one; or, where it is not known, why.
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
        f"its module has {len(names)} names and is called {count} times, and which of these calls this name means is "
        f"not known; use {instead} (--list-layers)"
    )
