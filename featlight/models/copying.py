"""Copies of a network that share nothing with the original."""

import copy
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from featlight.errors import UsageError, one_line

# Types whose values hold no part of a network
_ATOMS = (str, bytes, int, float, complex, bool, type(None), type, ModuleType, torch.dtype, torch.device)
_ATOM_TYPES = frozenset(_ATOMS)
_CONTAINERS = frozenset({dict, OrderedDict, list, tuple, set})  # a module has a dozen, most of them empty
# Wrappers that return their child's output unchanged: name of the class, and name of the child
_WRAPPERS = {
    "OptimizedModule": "_orig_mod",
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "_FabricModule": "_forward_module",
}
# Classes of Lightning whose objects train a network and are not part of it
_LIGHTNING = ("lightning", "pytorch_lightning", "lightning_fabric")
_TRAINING = {"Trainer", "Fabric", "Strategy", "Callback", "Logger", "LightningDataModule", "_FabricOptimizer"}


class _Wrapper(nn.Module):
    """A wrapper without its work for training; its children keep their names."""

    def __init__(self, child: str) -> None:
        super().__init__()
        self.child = child

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._modules[self.child](*args, **kwargs)  # type: ignore[misc]


class _LeftOut:
    """A stand-in for an object that is not copied with a network; it fails if the network uses it."""

    def __init__(self, value: object) -> None:
        self.kind = type(value).__name__

    def _refuse(self, *_: object) -> NoReturn:
        raise UsageError(f"it uses a {self.kind}, which is not part of the network and is not copied with it")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # Python itself looks these up
            raise AttributeError(name)
        self._refuse()

    __bool__ = __call__ = __getitem__ = __iter__ = __len__ = _refuse

    def __deepcopy__(self, _: object) -> "_LeftOut":
        return self


_STAND_INS = (*weakref.ProxyTypes, _LeftOut)  # copies share these


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network inside `torch.compile`, DistributedDataParallel and other wrappers, or inside their copies."""
    while (child := _wrapped_child(network)) is not None:
        network = network.get_submodule(child)
    return network


def _wrapped_child(module: nn.Module) -> str | None:
    """Return the name of the child that a wrapper calls; None for other modules."""
    return module.child if isinstance(module, _Wrapper) else _WRAPPERS.get(type(module).__name__)


def _is_external(value: object) -> bool:
    """Return whether an object is not part of the network that holds it: a weak proxy, or one that trains it."""
    if type(value) in _STAND_INS:
        return True
    packages = [base.__module__.partition(".")[0] for base in type(value).__mro__ if base.__name__ in _TRAINING]
    return any(package in _LIGHTNING for package in packages) and not isinstance(value, nn.Module)


def reachable(root: object) -> Iterator[object]:
    """Yield every object that an object holds: modules, registered or not, tensors, and closures of functions."""
    seen: dict[int, object] = {}  # keeps the objects alive, so that their ids stay unique
    pending = [root]
    while pending:
        value = pending.pop()
        if id(value) in seen or _is_external(value) or isinstance(value, _ATOMS):
            continue
        seen[id(value)] = value
        yield value
        parts = (part for part in _parts(value) if type(part) not in _ATOM_TYPES)
        pending.extend(part for part in parts if type(part) not in _CONTAINERS or part)


def _parts(value: object) -> Iterator[object]:
    match value:
        case Tensor():
            return
        case dict():
            yield from value.values()
        case list() | tuple() | set() | frozenset() | deque():
            yield from value
        case nn.Module() if type(value).__name__ in _WRAPPERS:  # its other attributes serve training
            yield from value.children()
        case nn.Module():
            yield from vars(value).values()
            if isinstance(value, torch.jit.ScriptModule):
                yield from value.parameters(recurse=False)  # they are not among its attributes
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
        except ValueError:  # an empty cell
            continue


def all_modules(network: nn.Module) -> list[nn.Module]:
    """Return every module that a network holds, registered or in a plain list."""
    return [value for value in reachable(network) if isinstance(value, nn.Module)]


def duplicate(network: nn.Module, *, share_tensors: bool = False) -> nn.Module:
    """Return a copy that never uses the original, not even through a `forward` that was replaced by a closure.

    Args:
        network: any network; it is not changed.
        share_tensors: whether the copy shares the parameters and buffers, to examine its structure.

    Raises:
        UsageError: the network cannot be copied.
    """
    parts = list(reachable(network))
    own = {id(value): value for value in parts if isinstance(value, nn.Module | Tensor)}
    external = {id(part): part for value in parts for part in _parts(value) if _is_external(part)}
    memo = {key: value if type(value) in _STAND_INS else _LeftOut(value) for key, value in external.items()}
    try:
        copied = _deepcopy(network, parts, own, memo, share_tensors)
    except MemoryError:
        raise
    except Exception:  # deepcopy refuses locks, files, log writers and more
        refused = _uncopyable(parts, memo)
        memo |= {id(part): _LeftOut(part) if _holds_any(part, own) else part for part in refused}
        try:
            copied = _deepcopy(network, parts, own, memo, share_tensors)
        except Exception as error:
            reason = one_line(error, 200)
            raise UsageError(f"{type(network).__name__} cannot be copied: {reason}") from None
    kinds = nn.Module if share_tensors else nn.Module | Tensor
    for value in reachable(copied):
        if isinstance(value, kinds) and id(value) in own:
            kind = type(value).__name__
            raise UsageError(f"{type(network).__name__} cannot be copied: the copy would still hold its own {kind}")
    return copied


def _holds_any(part: object, values: Mapping[int, object]) -> bool:
    """Return whether an object holds one of some objects, given by id."""
    return any(id(value) in values for value in reachable(part))


def _uncopyable(parts: Sequence[object], memo: Mapping[int, object]) -> Iterator[object]:
    """Yield the parts of a network that deepcopy refuses even if all other parts are shared."""
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


def _deepcopy(
    network: nn.Module,
    parts: Sequence[object],
    own: Mapping[int, object],
    shared: Mapping[int, object],
    share_tensors: bool,
) -> nn.Module:
    """Copy a network and the closures of its functions, which `copy.deepcopy` shares."""
    memo: dict[int, Any] = dict(shared)
    cells: dict[int, tuple[CellType, CellType]] = {}
    rebuilt: list[tuple[FunctionType, FunctionType]] = []
    wrappers = [value for value in parts if isinstance(value, nn.Module) and type(value).__name__ in _WRAPPERS]
    memo |= {id(wrapper): _Wrapper(_WRAPPERS[type(wrapper).__name__]) for wrapper in wrappers}
    for value in parts:
        if isinstance(value, Tensor) and share_tensors:
            memo[id(value)] = value
        elif isinstance(value, Tensor) and not value.is_leaf:
            # deepcopy refuses tensors that a forward pass has computed: an old weight_norm's, or one that a hook kept
            memo[id(value)] = value.detach().clone()
        elif isinstance(value, FunctionType) and _holds_any(value, own):
            memo[id(value)] = function = _with_empty_cells(value, cells)
            rebuilt.append((value, function))
    with torch.no_grad():  # a scripted module computes its copy
        copied = copy.deepcopy(network, memo)
        for wrapper in wrappers:
            memo[id(wrapper)]._modules |= copy.deepcopy(wrapper._modules, memo)
    for old, new in cells.values():
        try:
            new.cell_contents = copy.deepcopy(old.cell_contents, memo)
        except ValueError:  # an empty cell
            continue
    for function, new_function in rebuilt:
        new_function.__defaults__ = copy.deepcopy(function.__defaults__, memo)
        new_function.__kwdefaults__ = copy.deepcopy(function.__kwdefaults__, memo)
    modules = [memo[id(value)] for value in parts if isinstance(value, nn.Module) and id(value) in memo]
    for module in modules if rebuilt else ():
        for name, value in list(vars(module).items()):
            if isinstance(value, MethodType) and id(value.__func__) in memo:
                vars(module)[name] = MethodType(memo[id(value.__func__)], value.__self__)
    return copied


def _with_empty_cells(function: FunctionType, cells: dict[int, tuple[CellType, CellType]]) -> FunctionType:
    """Return a function with new, empty cells for its closure."""
    closure = tuple(cells.setdefault(id(cell), (cell, CellType()))[1] for cell in function.__closure__ or ())
    other = FunctionType(function.__code__, function.__globals__, function.__name__, None, closure)
    other.__dict__.update(function.__dict__)
    return other
