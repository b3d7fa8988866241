"""Copies of a network that share nothing with it."""

import copy
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from featlight.errors import UsageError

# What holds nothing, or nothing of a network's
_ATOMS = (str, bytes, int, float, complex, bool, type(None), type, ModuleType, torch.dtype, torch.device)
_BORING = frozenset(_ATOMS)
_TABLES = frozenset({dict, OrderedDict, list, tuple, set})  # of which a module has a dozen, most of them empty


def reachable(root: object) -> Iterator[object]:
    """All that an object holds: modules, registered or not, tensors, and what functions have closed over."""
    seen: dict[int, object] = {}  # kept alive, so that no two are the same
    left = [root]
    while left:
        value = left.pop()
        if id(value) in seen or isinstance(value, _ATOMS):
            continue
        seen[id(value)] = value
        yield value
        left.extend(part for part in _parts(value) if type(part) not in _BORING and (type(part) not in _TABLES or part))


def _parts(value: object) -> Iterator[object]:
    match value:
        case Tensor():
            return
        case dict():
            yield from value.values()
        case list() | tuple() | set() | frozenset() | deque():
            yield from value
        case nn.Module():
            yield from vars(value).values()
            if isinstance(value, torch.jit.ScriptModule):
                yield from value.parameters(recurse=False)  # which it has elsewhere
        case FunctionType():
            yield from _closed_over(value)
            yield value.__defaults__
            yield value.__kwdefaults__
        case MethodType():
            yield value.__self__
            yield value.__func__
        case partial():
            yield from (value.func, value.args, value.keywords)
        case _:
            yield getattr(value, "__dict__", None)


def _closed_over(function: FunctionType) -> Iterator[object]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue


def all_modules(network: nn.Module) -> list[nn.Module]:
    """Every module that a network holds, those in plain lists and the like too."""
    return [value for value in reachable(network) if isinstance(value, nn.Module)]


def duplicate(network: nn.Module, *, share_tensors: bool = False) -> nn.Module:
    """A copy that does not use the network itself, not even through a `forward` that was replaced by a closure.

    Args:
        network: any; it is not changed.
        share_tensors: whether the copy has the very parameters and buffers, for a look at its structure.

    Raises:
        UsageError: it cannot be copied.
    """
    parts = list(reachable(network))
    own = {id(value): value for value in parts if isinstance(value, nn.Module | Tensor)}
    try:
        other = _copied(network, parts, own, {}, share_tensors)
    except Exception:  # a lock, a file, a writer of logs: whatever deepcopy refuses
        other = _copied_around(network, parts, own, share_tensors)
    kinds = nn.Module if share_tensors else nn.Module | Tensor
    for value in reachable(other):
        if isinstance(value, kinds) and id(value) in own:
            what = type(value).__name__
            raise UsageError(f"{type(network).__name__} cannot be copied: the copy would still hold its own {what}")
    return other


def _copied_around(
    network: nn.Module, parts: Sequence[object], own: Mapping[int, object], share_tensors: bool
) -> nn.Module:
    """A copy that shares those attributes that cannot be copied and have nothing to do with the network."""
    shared = {}
    for module in (value for value in parts if isinstance(value, nn.Module)):
        tables = ("_parameters", "_buffers", "_modules")
        for name, value in vars(module).items():
            for part in [] if name in tables else _uncopyable(value):
                if any(id(each) in own for each in reachable(part)):
                    raise UsageError(
                        f"{type(network).__name__} cannot be copied: its attribute {name!r} holds a "
                        f"{type(part).__name__}, which cannot, and which holds the network"
                    )
                shared[id(part)] = part
    try:
        return _copied(network, parts, own, shared, share_tensors)
    except Exception as error:
        raise UsageError(f"{type(network).__name__} cannot be copied: {' '.join(str(error).split())[:200]}") from None


def _uncopyable(value: object) -> Iterator[object]:
    """What of a value deepcopy refuses, as small as can be told."""
    try:
        copy.deepcopy(value, {id(each): each for each in reachable(value) if isinstance(each, nn.Module | Tensor)})
    except Exception:
        if isinstance(value, Mapping):
            for each in value.values():
                yield from _uncopyable(each)
        elif isinstance(value, list | tuple):
            for each in value:
                yield from _uncopyable(each)
        else:
            yield value


def _copied(
    network: nn.Module,
    parts: Sequence[object],
    own: Mapping[int, object],
    shared: Mapping[int, object],
    share_tensors: bool,
) -> nn.Module:
    memo: dict[int, Any] = dict(shared)
    cells: dict[int, tuple[CellType, CellType]] = {}
    rebuilt: list[tuple[FunctionType, FunctionType]] = []
    for value in parts:
        if isinstance(value, Tensor) and share_tensors:
            memo[id(value)] = value
        elif isinstance(value, Tensor) and not value.is_leaf:
            # a forward pass has computed it, and deepcopy refuses it: an old weight_norm's, or what a hook has kept
            memo[id(value)] = value.detach().clone()
        elif isinstance(value, FunctionType) and any(id(each) in own for each in reachable(value)):
            memo[id(value)] = function = _rebuilt(value, cells)
            rebuilt.append((value, function))
    with torch.no_grad():  # a scripted module computes its copy
        other = copy.deepcopy(network, memo)
    for old, new in cells.values():
        try:
            new.cell_contents = copy.deepcopy(old.cell_contents, memo)
        except ValueError:  # not filled yet
            continue
    for function, new_function in rebuilt:
        new_function.__defaults__ = copy.deepcopy(function.__defaults__, memo)
        new_function.__kwdefaults__ = copy.deepcopy(function.__kwdefaults__, memo)
    for module in [memo[id(value)] for value in parts if rebuilt and isinstance(value, nn.Module)]:
        for name, value in list(vars(module).items()):
            if isinstance(value, MethodType) and id(value.__func__) in memo:
                vars(module)[name] = MethodType(memo[id(value.__func__)], value.__self__)
    return other


def _rebuilt(function: FunctionType, cells: dict[int, tuple[CellType, CellType]]) -> FunctionType:
    """The function with cells of its own, empty as yet, for deepcopy takes functions as they are."""
    closure = tuple(cells.setdefault(id(cell), (cell, CellType()))[1] for cell in function.__closure__ or ())
    other = FunctionType(function.__code__, function.__globals__, function.__name__, None, closure)
    other.__dict__.update(function.__dict__)
    return other
