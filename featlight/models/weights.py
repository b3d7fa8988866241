"""Weight files, as training leaves them: read without running code, and fitted where they fit without doubt."""

import json
import logging
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from featlight.errors import WeightsError

log = logging.getLogger("featlight")

State = Mapping[str, Any]
PREFIXES = (
    "module.",
    "model.",
    "net.",
    "_orig_mod.",
)  # of wrappers: DataParallel, a LightningModule's, torch.compile's
DEPTH = 3  # of entries in entries
TENSORS_ALONE = (  # a program that saves what is left of a pickled network or checkpoint without its classes
    "import torch; x = torch.load({path}, map_location='cpu', weights_only=False); "
    "x = x.get('state_dict', x.get('model', x)) if isinstance(x, dict) else x; "
    "torch.save(x.state_dict() if hasattr(x, 'state_dict') else x, {to})"
).replace("'", '"')


class _Candidate(NamedTuple):
    """A state dict that a file may mean."""

    entry: str  # where in the file, "" for the file itself
    prefix: str  # that its names have lost
    left_out: int  # tensors of the entry without that prefix
    state: State


def read(path: Path, entry: str = "") -> Any:
    """What a weight file holds, on the CPU. Never runs code that it holds.

    Args:
        path: of a safetensors file or one of torch's, whatever its suffix.
        entry: of the file that is meant; "" for whatever fits.

    Raises:
        WeightsError: it is missing, damaged, not weights, or needs pickle to load.
    """
    try:
        start = _start(path)
        content = (
            load_file(path) if _is_safetensors(start) or path.suffix == ".safetensors" else _unpickled(path, start)
        )
    except FileNotFoundError:
        raise WeightsError(f"weights {path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"weights {path}: {' '.join(str(error).split())}") from None
    if not entry:
        return content
    if not isinstance(content, Mapping) or entry not in content:
        has = ", ".join(map(str, content)) if isinstance(content, Mapping) else "none"
        raise WeightsError(f"weights {path}: no entry {entry!r}; it has {has[:200]}")
    return content[entry]


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(256)


def _is_safetensors(start: bytes) -> bool:
    """Whether it begins as such a file: the length of its header, then the header, in JSON."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**30


def _unpickled(path: Path, start: bytes) -> Any:
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise WeightsError(f"weights {path}: a web page, not weights; the download went wrong")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different kind for each way in which a file can be broken
        reason = " ".join(str(error).split())
        if "TorchScript" in reason:
            raise WeightsError(
                f"weights {path}: a scripted network; save the state_dict() of what it was made of"
            ) from None
        if "weights_only" in reason.lower():
            found = re.search(r"GLOBAL (\S+)", reason)
            own, other = (json.dumps(str(each)) for each in (path, path.with_name(f"{path.stem}-tensors.pth")))
            what = f"it holds more than tensors ({found[1]})" if found else "it holds more than tensors"
            raise WeightsError(
                f"weights {path}: {what}, and loading it could run code; where you trust it, save its tensors alone, "
                f"and give that file: python -c {shlex.quote(TENSORS_ALONE.format(path=own, to=other))}"
            ) from None
        raise WeightsError(f"weights {path}: damaged or not weights ({reason[:160]})") from None


def fitted(
    content: Any,
    build_for: Callable[[State], nn.Module],
    path: Path,
    fit: Callable[[nn.Module, State], State] = lambda _, state: state,
) -> nn.Module:
    """A network with the weights of a file, found among its entries and under the names that wrappers give.

    Args:
        content: of the file.
        build_for: gives the network ready to receive a state dict.
        path: of the file.
        fit: gives a state dict the names that a network has for its tensors.

    Raises:
        WeightsError: nothing in it fits, or more than one thing does.
    """
    candidates = list(_candidates(content))
    if not candidates:
        has = f"; its entries are {', '.join(map(str, content))[:200]}" if isinstance(content, Mapping) else ""
        raise WeightsError(f"weights {path}: not a state dict (names and tensors){has}")
    fits: list[tuple[_Candidate, nn.Module]] = []
    slips: list[tuple[int, str]] = []
    names: set[str] = set()
    for candidate in candidates:
        as_it_is = any(other.entry == candidate.entry and not other.prefix for other, _ in fits)
        if as_it_is or (names and not names & candidate.state.keys()):  # a metric's state, say
            continue
        network = build_for(dict(candidate.state))
        names = set(network.state_dict())
        slip = _fill(network, fit(network, candidate.state))
        if slip is None:
            fits.append((candidate, network))
        else:
            slips.append((len(names & candidate.state.keys()), slip))
    if not fits:
        raise WeightsError(f"weights {path}: they do not fit {max(slips, key=lambda slip: slip[0])[1]}")
    for (one, _), (other, _) in combinations(fits, 2):
        if not _equal(one.state, other.state):
            raise WeightsError(
                f"weights {path}: {_words(one)} and {_words(other)} both fit, and differ; say which, as in "
                f"{path.name}:{other.entry or one.entry or 'entry'}, or save the one that is meant"
            )
    chosen, network = fits[0]
    _fill(network, fit(network, chosen.state))  # a callable may give the same network every time
    if chosen.entry or chosen.prefix:
        rest = f"; {chosen.left_out} other tensors in it are not used" if chosen.left_out else ""
        log.warning("weights %s: taken from %s%s", path, _words(chosen), rest)
    return network


def _words(candidate: _Candidate) -> str:
    entry = f"its entry {candidate.entry!r}" if candidate.entry else "it"
    return f"{entry} without the prefix {candidate.prefix!r}" if candidate.prefix else entry


def _candidates(content: Any, entry: str = "", depth: int = DEPTH) -> Iterator[_Candidate]:
    """Every state dict in a file, as it is and without the prefixes of wrappers."""
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        return
    state = {key: value for key, value in content.items() if isinstance(value, Tensor) or key.endswith("_extra_state")}
    if state:
        yield from _stripped(_Candidate(entry, "", 0, state))
    for key, value in content.items():
        if depth and isinstance(value, Mapping):
            yield from _candidates(value, f"{entry}.{key}" if entry else key, depth - 1)


def _stripped(candidate: _Candidate) -> Iterator[_Candidate]:
    yield candidate
    entry, lost, left_out, state = candidate
    for prefix in PREFIXES:
        inner = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if inner:
            yield from _stripped(_Candidate(entry, lost + prefix, left_out + len(state) - len(inner), inner))


def _fill(network: nn.Module, state: State) -> str | None:
    """Put tensors into a network; why they do not fit, if they do not."""
    # DenseNet's files are older than its modules' names: denselayer1.norm.1.weight is norm1.weight now
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key): v for key, v in state.items()}
    try:
        network.load_state_dict(state)
    except (
        RuntimeError,
        ValueError,
        AttributeError,
        TypeError,
    ) as error:  # a network may have its own way
        _, newline, rest = str(error).partition("\n")
        reason = " ".join((rest if newline else str(error)).split())
        return f"{type(network).__name__}: {reason[:240]}"
    return None


def _equal(ours: State, theirs: State) -> bool:
    return ours.keys() == theirs.keys() and all(
        torch.equal(value, theirs[key]) for key, value in ours.items() if isinstance(value, Tensor)
    )
