"""Weight files, as training leaves them: read without running code, and fitted where they fit without doubt."""

import json
import logging
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from featlight.errors import WeightsError

log = logging.getLogger("featlight")

StateDict = Mapping[str, Any]
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
    state: StateDict

    @property
    def address(self) -> str:
        """What stands after `FILE:` for it."""
        return ".".join(filter(None, (self.entry, self.prefix.strip("."))))


class _Gaps(NamedTuple):
    """Where a state dict is not that of the whole network."""

    missing: tuple[str, ...] = ()  # names of the network's tensors that it has not, or of another shape
    unexpected: tuple[str, ...] = ()  # names of its tensors that the network has not


def read(path: Path) -> Any:
    """What a weight file holds, on the CPU. Never runs code that it holds.

    Args:
        path: path of a safetensors file or one of torch's, whatever its suffix.

    Raises:
        WeightsError: it is missing, damaged, not weights, or needs pickle to load.
    """
    try:
        start = _start(path)
        is_safe = _is_safetensors(start) or path.suffix == ".safetensors"
        return load_file(path) if is_safe else _unpickled(path, start)
    except FileNotFoundError:
        raise WeightsError(f"weights {path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"weights {path}: {' '.join(str(error).split())}") from None


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
        raise WeightsError(f"weights {path}: damaged or not weights ({_short(reason)})") from None


def fitted(
    content: Any,
    build_for: Callable[[StateDict], nn.Module],
    path: Path,
    fit: Callable[[nn.Module, StateDict], StateDict] = lambda _, state: state,
    *,
    part: str = "",
    layers: Collection[str] = (),
) -> nn.Module:
    """A network with the weights of a file, found among its entries and under the names that wrappers give.

    Args:
        content: content of the file.
        build_for: gives the network ready to receive a state dict.
        path: path of the file.
        fit: gives a state dict the names that a network has for its tensors.
        part: entry, prefix, or both, that is meant; "" for whatever fits.
        layers: names of the layers that are asked for; what comes after them may be missing.

    Raises:
        WeightsError: nothing in it fits, or more than one thing does.
    """
    candidates = list(_candidates(content))
    if not candidates:
        has = f"; its entries are {_short(', '.join(map(str, content)))}" if isinstance(content, Mapping) else ""
        raise WeightsError(f"weights {path}: not a state dict (names and tensors){has}")
    fits: list[tuple[_Candidate, nn.Module, _Gaps]] = []
    slips: list[tuple[int, str]] = []
    for wanted in ((), layers) if layers else ((),):
        for candidate in _unwrapped(candidates, build_for):
            if part not in ("", candidate.address, candidate.entry, candidate.prefix.strip(".")):
                continue
            network = build_for(dict(candidate.state))
            state = fit(network, candidate.state)
            gaps = _gaps(network, state, wanted) if wanted else _Gaps()
            slip = "" if gaps is None else _fill(network, state, gaps)
            if gaps is not None and slip is None:
                fits.append((candidate, network, gaps))
            elif slip:
                slips.append((len(network.state_dict().keys() & candidate.state.keys()), slip))
        if fits:
            break
    if not fits and not slips:
        names = ", ".join(dict.fromkeys(map(str, content)))
        raise WeightsError(f"weights {path}: no entry {part!r}; it has {_short(names)}")
    if not fits:
        raise WeightsError(f"weights {path}: they do not fit {max(slips, key=lambda slip: slip[0])[1]}")
    for (one, _, _), (other, _, _) in combinations(fits, 2):
        if not _equal(one.state, other.state):
            raise WeightsError(
                f"weights {path}: {_words(one)} and {_words(other)} both fit, and differ; say which, as in "
                f"{path.name}:{other.address or one.address}, or save the one that is meant"
            )
    chosen, network, gaps = fits[0]
    _fill(network, fit(network, chosen.state), gaps)  # a callable may give the same network every time
    left_out = chosen.left_out + len(gaps.unexpected)
    if not part and (chosen.entry or chosen.prefix or gaps.missing or gaps.unexpected):
        rest = f"; {left_out} other tensors in it are not used" if left_out else ""
        log.warning("weights %s: taken from %s%s", path, _words(chosen), rest)
    if gaps.missing:
        log.warning(
            "weights %s: nothing in it fits %s, which comes after %s and is left empty",
            path,
            _short(", ".join(gaps.missing)),
            ", ".join(layers),
        )
    return network


def _short(text: str) -> str:
    """A text on one line, cut between words."""
    return shorten(text, 240, placeholder=" ...")


def _words(candidate: _Candidate) -> str:
    entry = f"its entry {candidate.entry!r}" if candidate.entry else "it"
    return f"{entry} without the prefix {candidate.prefix!r}" if candidate.prefix else entry


def _candidates(content: Any, entry: str = "", depth: int = DEPTH) -> Iterator[_Candidate]:
    """Every state dict in a file, as it is."""
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        return
    state = {key: value for key, value in content.items() if isinstance(value, Tensor) or key.endswith("_extra_state")}
    if state:
        yield _Candidate(entry, "", 0, state)
    for key, value in content.items():
        if depth and isinstance(value, Mapping):
            yield from _candidates(value, f"{entry}.{key}" if entry else key, depth - 1)


def _unwrapped(candidates: Sequence[_Candidate], build_for: Callable[[StateDict], nn.Module]) -> Iterator[_Candidate]:
    """All of them, and each without what stands before most of the network's own names in it."""
    for candidate in candidates:
        yield candidate
        own = build_for(dict(candidate.state)).state_dict().keys()
        end = "." + next((name for name in own if "." in name), next(iter(own), ""))
        for prefix in [key.removesuffix(end) + "." for key in candidate.state if key.endswith(end)]:
            state = {key.removeprefix(prefix): v for key, v in candidate.state.items() if key.startswith(prefix)}
            if 2 * len(own & state.keys()) > len(own):
                yield _Candidate(candidate.entry, prefix, len(candidate.state) - len(state), state)


def _gaps(network: nn.Module, state: StateDict, layers: Collection[str]) -> _Gaps | None:
    """What a state dict lacks after some layers of a network, and what it has besides; None where it lacks more."""
    own = network.state_dict()
    fits = [
        name
        for name in own
        if name in state and getattr(state[name], "shape", None) == getattr(own[name], "shape", None)
    ]
    missing = [name for name in own if name not in fits]
    unexpected = [name for name in state if name not in fits]
    names = [name for name, _ in network.named_modules()]
    parts = {name.partition(".")[0] for name in fits}
    asked = [layer.partition(":")[0] for layer in layers]
    if not fits or not set(asked) <= set(names) or list(own)[len(fits) :] != missing:
        return None
    owners = {name.rpartition(".")[0] for name in missing}
    last = max(names.index(layer) for layer in asked)
    inside = any(
        f"{owner}.".startswith(f"{layer}.") or names.index(owner) <= last for owner in owners for layer in asked
    )
    if inside or any(name.partition(".")[0] in parts for name in unexpected):
        return None
    return _Gaps(tuple(missing), tuple(unexpected))


def _fill(network: nn.Module, state: StateDict, gaps: _Gaps) -> str | None:
    """Put tensors into a network, NaN for those that it lacks; why they do not fit, if they do not."""
    # DenseNet's files are older than its modules' names: denselayer1.norm.1.weight is norm1.weight now
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key): v for key, v in state.items()}
    state = {key: value for key, value in state.items() if key not in gaps.unexpected}
    for name in gaps.missing:
        own = network.state_dict()[name]
        state[name] = torch.full_like(own, torch.nan) if own.is_floating_point() else own
    try:
        network.load_state_dict(state)
    except (
        RuntimeError,
        ValueError,
        AttributeError,
        TypeError,
    ) as error:  # a network may have its own way
        _, newline, rest = str(error).partition("\n")
        return f"{type(network).__name__}: {_short(rest if newline else str(error))}"
    return None


def _equal(ours: StateDict, theirs: StateDict) -> bool:
    return ours.keys() == theirs.keys() and all(
        torch.equal(value, theirs[key]) for key, value in ours.items() if isinstance(value, Tensor)
    )
