"""Weight files: found in torchvision's own cache or downloaded into it, read without running code, fitted."""

import hashlib
import logging
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from featlight.errors import WeightsError

log = logging.getLogger("featlight")

SUFFIXES = (".safetensors", ".pth", ".pt")
WAYS_OUT = (
    "or give --weights FILE (.safetensors or .pth), --weights none (random), or --model tiny_inception (embedded)"
)
DOWNLOAD_TIMEOUT = 10.0  # seconds without an answer


def is_file_name(weights: str) -> bool:
    """Whether the words after --weights mean a file rather than one of torchvision's names."""
    return weights.endswith(SUFFIXES) or "/" in weights


def cached(url: str, what: str) -> Path:
    """The file of torchvision's weights in its own cache, downloaded where it is missing.

    Args:
        url: where torchvision says it is.
        what: whose weights they are, for the message.

    Raises:
        WeightsError: it is not there and cannot be downloaded.
    """
    name = Path(urlparse(url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    match = re.search(r"-([a-f0-9]{8,})\.", name)  # the file's name holds the start of its SHA-256
    if path.is_file():
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if match and not digest.startswith(match[1]):
            log.warning("%s: its SHA-256 starts with %s, not %s: not torchvision's file", path, digest[:8], match[1])
        return path
    made = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _timeout(DOWNLOAD_TIMEOUT):
            torch.hub.download_url_to_file(url, str(path), match[1] if match else None, sys.stderr.isatty())
    except (OSError, RuntimeError) as error:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise WeightsError(
            f"weights of {what}: {name} is not in {path.parent} and {url} cannot be reached "
            f"({' '.join(str(error).split())}); put {name} there, {WAYS_OUT}"
        ) from None
    return path


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` or `.pth` file, on the CPU. Never runs code that a file holds.

    Raises:
        WeightsError: it is missing, damaged, not weights, or needs pickle to load.
    """
    try:
        state: Any = load_file(path) if path.suffix == ".safetensors" else _read_pickle(path)
    except FileNotFoundError:
        raise WeightsError(f"weights {path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"weights {path}: {' '.join(str(error).split())}") from None
    for key in ("state_dict", "model"):  # as training scripts save them
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"weights {path}: not a state dict (names and tensors)")
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _read_pickle(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(256).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise WeightsError(f"weights {path}: a web page, not weights; the download went wrong")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different kind for each way in which a file can be broken
        reason = " ".join(str(error).split())
        if "weights_only" in reason.lower():
            raise WeightsError(
                f"weights {path}: it holds more than tensors, and loading it could run code; "
                "save its state_dict() as .safetensors"
            ) from None
        raise WeightsError(f"weights {path}: damaged or not weights ({reason[:160]})") from None


def fill(network: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Put the tensors into the network.

    Raises:
        WeightsError: names or shapes differ.
    """
    # DenseNet's files are older than its modules' names: denselayer1.norm.1.weight is norm1.weight now
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key): v for key, v in state.items()}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).partition("\n")[2].split())
        raise WeightsError(f"weights {path}: they do not fit {type(network).__name__}: {reason[:240]}") from None
