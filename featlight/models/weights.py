"""Weight files: read without running their code, and loaded into a network if exactly one entry fits."""

import json
import logging
import re
import shlex
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from featlight.errors import WeightsError, one_line

log = logging.getLogger("featlight")

StateDict = Mapping[str, Any]
DEPTH = 3  # levels of nested entries
AVERAGED = ".ema"  # end of the names of averaged tensors, which may lie beside the others
SAVE_TENSORS = (  # a program that saves the tensors of a pickled network or checkpoint
    "import torch; x = torch.load({path}, map_location='cpu', weights_only=False); "
    "x = x.get('state_dict', x.get('model', x)) if isinstance(x, dict) else x; "
    "x = x.state_dict() if hasattr(x, 'state_dict') else x; "
    "x = dict((k, torch.as_tensor(v) if hasattr(v, '__array__') else v) for k, v in x.items()); torch.save(x, {to})"
).replace("'", '"')


class _Candidate(NamedTuple):
    """A state dict in a file."""

    entry: str  # keys that lead to it; "" for the file itself
    prefix: str  # prefix that was removed from its names
    left_out: int  # number of the entry's tensors without that prefix
    state: StateDict

    @property
    def address(self) -> str:
        """What a user gives after `FILE:` to select it."""
        return ".".join(filter(None, (self.entry, self.prefix.strip("."))))

    @property
    def label(self) -> str:
        """Its entry and prefix, for log and error lines."""
        entry = f"its entry {self.entry!r}" if self.entry else "it"
        return f"{entry} without the prefix {self.prefix!r}" if self.prefix else entry


class _Gaps(NamedTuple):
    """Differences between a state dict and the network's own."""

    missing: tuple[str, ...] = ()  # the network's tensors that the state dict lacks or has in another shape
    unexpected: tuple[str, ...] = ()  # the state dict's tensors that the network lacks


def misfit(path: Path, error: Exception) -> WeightsError:
    """Return the error for a file that a library cannot load into its network."""
    return WeightsError(f"weights {path}: they do not fit ({short(str(error))})")


def short(text: str, width: int = 240) -> str:
    """Return a text on one line, cut between words."""
    return shorten(text, width, placeholder=" ...")


def read(path: Path) -> Any:
    """Read a weight file onto the CPU without running code that it holds.

    Args:
        path: path of a safetensors or torch file with any suffix.

    Raises:
        WeightsError: the file is missing or damaged, holds no weights, or needs pickle.
    """
    if path.name.endswith(".index.json"):
        return _shards(path)
    try:
        with path.open("rb") as file:
            start = file.read(256)
        # a safetensors file begins with the length of its header, then the header in JSON
        is_safetensors = start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**30
        is_safetensors = is_safetensors or path.suffix == ".safetensors"
        return load_file(path) if is_safetensors else _torch_load(path, start)
    except FileNotFoundError:
        raise WeightsError(f"weights {path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"weights {path}: {one_line(error)}") from None


def _shards(path: Path) -> StateDict:
    """Return the tensors of all files that an index of sharded weights names, which lie beside it."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = sorted({str(name) for name in table.values()})
    except FileNotFoundError:
        raise WeightsError(f"weights {path}: no such file") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"weights {path}: no index of sharded weights ({one_line(error, 200)})") from None
    foreign = next((name for name in names if Path(name).name != name or name.endswith(".index.json")), None)
    if foreign is not None:
        raise WeightsError(f"weights {path}: it names {short(foreign)}; only files beside it are read")
    state: dict[str, Any] = {}
    for name in names:
        shard = read(path.with_name(name))
        if not isinstance(shard, Mapping):
            raise WeightsError(f"weights {path.with_name(name)}: not a state dict (names and tensors)")
        state.update(shard)
    return state


def _torch_load(path: Path, start: bytes) -> Any:
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise WeightsError(f"weights {path}: a web page, not weights; download the file again")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # it is no matter which one loads
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch raises a different kind for each way in which a file can be broken
        reason = one_line(error)
        if "TorchScript" in reason:
            raise WeightsError(
                f"weights {path}: a scripted network; save the state_dict() of the network that was scripted"
            ) from None
        if "weights_only" in reason.lower():
            match = re.search(r"GLOBAL (\S+)", reason)
            source, target = (json.dumps(str(each)) for each in (path, path.with_name(f"{path.stem}-tensors.pth")))
            problem = f"it holds more than tensors ({match[1]})" if match else "it holds more than tensors"
            raise WeightsError(
                f"weights {path}: {problem}, and loading it could run code; if you trust it, save only its tensors, "
                f"and give that file: python -c {shlex.quote(SAVE_TENSORS.format(path=source, to=target))}"
            ) from None
        raise WeightsError(f"weights {path}: damaged or not weights ({short(reason)})") from None


def fitted(
    content: Any,
    build_for: Callable[[StateDict], nn.Module],
    path: Path,
    fit: Callable[[nn.Module, StateDict], StateDict] = lambda _, state: state,
    *,
    part: str = "",
    layers: Collection[str] = (),
) -> nn.Module:
    """Return a network with the weights of a file, which may be nested in entries and renamed by wrappers.

    Args:
        content: content of the file.
        build_for: function that builds the network for a state dict.
        path: path of the file.
        fit: function that renames the tensors of a state dict to the network's names.
        part: entry, prefix, or both, that the user selected; "" for any that fits.
        layers: names of the requested layers; the file may lack the tensors after them.

    Raises:
        WeightsError: no state dict in the file fits, or several different ones do.
    """
    candidates = list(_candidates(content))
    if not candidates:
        entries = f"; its entries are {short(', '.join(map(str, content)))}" if isinstance(content, Mapping) else ""
        raise WeightsError(f"weights {path}: not a state dict (names and tensors){entries}")
    fits: list[tuple[_Candidate, nn.Module, _Gaps]] = []
    failures: list[tuple[int, str]] = []
    for last_layers in ((), layers) if layers else ((),):
        for candidate in _without_prefixes(candidates, build_for):
            if part not in ("", candidate.address, candidate.entry, candidate.prefix.strip(".")):
                continue
            network = build_for(dict(candidate.state))
            state = fit(network, candidate.state)
            gaps = _gaps(network, state, last_layers) if last_layers else _Gaps()
            failure = "" if gaps is None else _load_state(network, state, gaps)
            if gaps is not None and failure is None:
                fits.append((candidate, network, gaps))
            elif failure:
                failures.append((len(network.state_dict().keys() & candidate.state.keys()), failure))
        if fits:
            break
    if not fits and not failures:
        names = ", ".join(dict.fromkeys(map(str, content)))
        raise WeightsError(f"weights {path}: no entry {part!r}; it has {short(names)}")
    if not fits:
        raise WeightsError(f"weights {path}: they do not fit {max(failures, key=lambda failure: failure[0])[1]}")
    for (one, _, _), (other, _, _) in combinations(fits, 2):
        if not _equal(one.state, other.state):
            raise WeightsError(
                f"weights {path}: {one.label} and {other.label} both fit, and differ; select one, as in "
                f"{path.name}:{other.address or one.address}, or save it to a file of its own"
            )
    chosen, network, gaps = fits[0]
    _load_state(network, fit(network, chosen.state), gaps)  # a callable may return the same network every time
    left_out = chosen.left_out + len(gaps.unexpected)
    if not part and (chosen.entry or chosen.prefix or gaps.missing or gaps.unexpected):
        rest = f"; {left_out} other tensors in it are not used" if left_out else ""
        log.warning("weights %s: taken from %s%s", path, chosen.label, rest)
    if gaps.missing:
        missing = short(", ".join(gaps.missing))
        log.warning(
            "weights %s: no weights for %s, which come after %s and stay empty", path, missing, ", ".join(layers)
        )
    return network


def _candidates(content: Any, entry: str = "", depth: int = DEPTH) -> Iterator[_Candidate]:
    """Yield every state dict of a file under its own names."""
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        return
    state = {key: value for key, value in content.items() if isinstance(value, Tensor) or key.endswith("_extra_state")}
    averaged = {key.removesuffix(AVERAGED): value for key, value in state.items() if key.endswith(AVERAGED)}
    others = {key: value for key, value in state.items() if not key.endswith(AVERAGED)}
    if state:
        yield _Candidate(entry, "", 0, state)
    if averaged and others:
        yield _Candidate(entry, "", len(averaged), others)
    if averaged:
        yield _Candidate(f"{entry}{AVERAGED}".strip("."), "", len(others), averaged)
    for key, value in content.items():
        if depth and isinstance(value, Mapping):
            yield from _candidates(value, f"{entry}.{key}" if entry else key, depth - 1)


def _without_prefixes(
    candidates: Sequence[_Candidate], build_for: Callable[[StateDict], nn.Module]
) -> Iterator[_Candidate]:
    """Yield every candidate, and again without each prefix under which it holds most of the network's names."""
    for candidate in candidates:
        yield candidate
        own = build_for(dict(candidate.state)).state_dict().keys()
        end = "." + next((name for name in own if "." in name), next(iter(own), ""))
        for prefix in [key.removesuffix(end) + "." for key in candidate.state if key.endswith(end)]:
            state = {key.removeprefix(prefix): v for key, v in candidate.state.items() if key.startswith(prefix)}
            if 2 * len(own & state.keys()) > len(own):
                yield _Candidate(candidate.entry, prefix, len(candidate.state) - len(state), state)


def _gaps(network: nn.Module, state: StateDict, layers: Collection[str]) -> _Gaps | None:
    """Return the gaps of a state dict if all missing tensors come after some layers; None otherwise."""
    own = network.state_dict()
    fits = [
        name
        for name in own
        if name in state and getattr(state[name], "shape", None) == getattr(own[name], "shape", None)
    ]
    missing = [name for name in own if name not in fits]
    unexpected = [name for name in state if name not in fits]
    modules = [name for name, _ in network.named_modules()]
    requested = [layer.partition(":")[0] for layer in layers]
    if not fits or not set(requested) <= set(modules) or list(own)[len(fits) :] != missing:
        return None
    owners = {name.rpartition(".")[0] for name in missing}
    last = max(modules.index(layer) for layer in requested)
    is_needed = any(
        f"{owner}.".startswith(f"{layer}.") or modules.index(owner) <= last for owner in owners for layer in requested
    )
    filled_parts = {name.partition(".")[0] for name in fits}
    if is_needed or any(name.partition(".")[0] in filled_parts for name in unexpected):
        return None
    return _Gaps(tuple(missing), tuple(unexpected))


def _load_state(network: nn.Module, state: StateDict, gaps: _Gaps) -> str | None:
    """Load a state dict, with NaN for missing tensors; return the reason if it does not fit, None if it does."""
    # DenseNet's files are older than its module names: denselayer1.norm.1.weight is now norm1.weight
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key): v for key, v in state.items()}
    state = {key: value for key, value in state.items() if key not in gaps.unexpected}
    for name in gaps.missing:
        own = network.state_dict()[name]
        state[name] = torch.full_like(own, torch.nan) if own.is_floating_point() else own
    try:
        network.load_state_dict(state)
    except (RuntimeError, ValueError, AttributeError, TypeError) as error:  # a network may override the method
        _, newline, rest = str(error).partition("\n")
        return f"{type(network).__name__}: {short(rest if newline else str(error))}"
    return None


def _equal(ours: StateDict, theirs: StateDict) -> bool:
    return ours.keys() == theirs.keys() and all(
        torch.equal(value, theirs[key]) for key, value in ours.items() if isinstance(value, Tensor)
    )
