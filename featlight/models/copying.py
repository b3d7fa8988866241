"""Copies of a network that share nothing with it."""

import copy
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from featlight.errors import UsageError

# What holds nothing, or nothing of a network's
_ATOMS = (str, bytes, int, float, complex, bool, type(None), type, ModuleType, torch.dtype, torch.device)
_BORING = frozenset(_ATOMS)
_TABLES = frozenset({dict, OrderedDict, list, tuple, set})  # of which a module has a dozen, most of them empty
# Wrappers that do nothing to what their child gives, by the name of the class, and the child that they call
_WRAPPERS = {
    "OptimizedModule": "_orig_mod",
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "_FabricModule": "_forward_module",
}
# Classes of Lightning whose objects train a network and are no part of it
_LIGHTNING = ("lightning", "pytorch_lightning", "lightning_fabric")
_TRAINING = {"Trainer", "Fabric", "Strategy", "Callback", "Logger", "LightningDataModule", "_FabricOptimizer"}


class _Wrapper(nn.Module):
    """A wrapper of a network without what it does for training; its children have the names that it gave them."""

    def __init__(self, called: str) -> None:
        super().__init__()
        self.called = called

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._modules[self.called](*args, **kwargs)  # type: ignore[misc]


class _LeftOut:
    """Stands in a copy for what is no part of a network; a network that uses it all the same fails."""

    def __init__(self, value: object) -> None:
        self.kind = type(value).__name__

    def _refuse(self, *_: object) -> NoReturn:
        raise UsageError(f"it uses a {self.kind}, which is no part of the network and is not copied with it")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # asked by Python itself
            raise AttributeError(name)
        self._refuse()

    __bool__ = __call__ = __getitem__ = __iter__ = __len__ = _refuse

    def __deepcopy__(self, _: object) -> "_LeftOut":
        return self


_STAND_INS = (*weakref.ProxyTypes, _LeftOut)  # copies have these as they are


def unwrapped(network: nn.Module) -> nn.Module:
    """The network without `torch.compile`, DistributedDataParallel and the like around it, or without their copies."""
    while (called := _called(network)) is not None:
        network = network.get_submodule(called)
    return network


def _called(module: nn.Module) -> str | None:
    """The name of the child that a wrapper calls; None where it is no wrapper."""
    return module.called if isinstance(module, _Wrapper) else _WRAPPERS.get(type(module).__name__)


def _is_apart(value: object) -> bool:
    """Whether it is no part of a network that holds it: a weak proxy, or what trains the network."""
    if type(value) in _STAND_INS:
        return True
    kinds = [base.__module__.partition(".")[0] for base in type(value).__mro__ if base.__name__ in _TRAINING]
    return any(kind in _LIGHTNING for kind in kinds) and not isinstance(value, nn.Module)


def reachable(root: object) -> Iterator[object]:
    """All that an object holds: modules, registered or not, tensors, and what functions have closed over."""
    seen: dict[int, object] = {}  # kept alive, so that no two are the same
    left = [root]
    while left:
        value = left.pop()
        if id(value) in seen or _is_apart(value) or isinstance(value, _ATOMS):
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
        case nn.Module() if type(value).__name__ in _WRAPPERS:  # its other attributes are those of training
            yield from value.children()
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
    apart = {id(each): each for value in parts for each in _parts(value) if _is_apart(each)}
    memo = {key: each if type(each) in _STAND_INS else _LeftOut(each) for key, each in apart.items()}
    try:
        other = _copied(network, parts, own, memo, share_tensors)
    except Exception:  # a lock, a file, a writer of logs: whatever deepcopy refuses
        memo |= {id(part): part if _is_free(part, own) else _LeftOut(part) for part in _uncopyable(parts, memo)}
        try:
            other = _copied(network, parts, own, memo, share_tensors)
        except Exception as error:
            why = " ".join(str(error).split())[:200]
            raise UsageError(f"{type(network).__name__} cannot be copied: {why}") from None
    kinds = nn.Module if share_tensors else nn.Module | Tensor
    for value in reachable(other):
        if isinstance(value, kinds) and id(value) in own:
            what = type(value).__name__
            raise UsageError(f"{type(network).__name__} cannot be copied: the copy would still hold its own {what}")
    return other


def _is_free(part: object, own: Mapping[int, object]) -> bool:
    """Whether it holds nothing of a network's own."""
    return not any(id(each) in own for each in reachable(part))


def _uncopyable(parts: Sequence[object], memo: Mapping[int, object]) -> Iterator[object]:
    """The parts of a network that deepcopy refuses by themselves, whatever they hold."""
    others = dict(memo) | {id(part): part for part in parts}
    for part in parts:
        if isinstance(part, nn.Module | Tensor):
            continue
        del others[id(part)]
        try:
            copy.deepcopy(part, others)
        except Exception:
            yield part
        others[id(part)] = part


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
    wrappers = [value for value in parts if isinstance(value, nn.Module) and type(value).__name__ in _WRAPPERS]
    memo |= {id(wrapper): _Wrapper(_WRAPPERS[type(wrapper).__name__]) for wrapper in wrappers}
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
        for wrapper in wrappers:
            memo[id(wrapper)]._modules |= copy.deepcopy(wrapper._modules, memo)
    for old, new in cells.values():
        try:
            new.cell_contents = copy.deepcopy(old.cell_contents, memo)
        except ValueError:  # not filled yet
            continue
    for function, new_function in rebuilt:
        new_function.__defaults__ = copy.deepcopy(function.__defaults__, memo)
        new_function.__kwdefaults__ = copy.deepcopy(function.__kwdefaults__, memo)
    for module in [
        memo[id(value)] for value in parts if rebuilt and isinstance(value, nn.Module) and id(value) in memo
    ]:
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
