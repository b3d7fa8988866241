"""torchvision's weights in its own cache, downloaded where they are missing."""

import hashlib
import logging
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlparse

import torch

from featlight.errors import WeightsError

log = logging.getLogger("featlight")

WAYS_OUT = "or give --weights FILE, --weights none (random), or --model tiny_inception (embedded)"
DOWNLOAD_TIMEOUT = 10.0  # seconds without an answer


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
