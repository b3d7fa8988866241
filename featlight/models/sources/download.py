"""Weight files in the caches of torch and of the Hugging Face Hub, downloaded if they are missing."""

import hashlib
import logging
import re
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlparse

import torch

from featlight.errors import WeightsError, one_line

log = logging.getLogger("featlight")

ALTERNATIVES = "or give --weights FILE, --weights none (random), or --model tiny_inception (embedded)"
DOWNLOAD_TIMEOUT = 10.0  # seconds without an answer


def torch_cache_path(url: str) -> Path:
    """Return the path of a downloaded file in torch's cache."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def from_torch_cache(url: str, label: str) -> Path:
    """Return a weight file in torch's cache; download it if it is missing.

    Args:
        url: address of the file.
        label: network and weights, for the error line.

    Raises:
        WeightsError: the file is missing and cannot be downloaded.
    """
    path = torch_cache_path(url)
    match = re.search(r"-([a-f0-9]{8,})\.", path.name)  # the name holds the first digits of the SHA-256
    if path.is_file():
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if match and not digest.startswith(match[1]):
            log.warning("%s: its SHA-256 starts with %s, not %s: not torchvision's file", path, digest[:8], match[1])
        return path
    created = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _socket_timeout(DOWNLOAD_TIMEOUT):
            torch.hub.download_url_to_file(url, str(path), match[1] if match else None, sys.stderr.isatty())
    except (OSError, RuntimeError) as error:
        for folder in created:
            with suppress(OSError):
                folder.rmdir()
        raise WeightsError(
            f"weights of {label}: {path.name} is not in {path.parent} and {url} cannot be reached "
            f"({one_line(error)}); put {path.name} there, {ALTERNATIVES}"
        ) from None
    return path


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def in_hub_cache(repository: str, names: Sequence[str], revision: str | None = None) -> Path | None:
    """Return the first of these files that the hub's cache holds."""
    from huggingface_hub import try_to_load_from_cache

    for name in names:
        path = try_to_load_from_cache(repository, name, revision=revision)
        if isinstance(path, str):
            return Path(path)
    return None


def from_hub(repository: str, names: Sequence[str], label: str, revision: str | None = None) -> Path:
    """Return the first of these files that a repository has; download it if it is missing.

    Args:
        repository: name of the repository, `owner/name`.
        names: file names, the preferred one first.
        label: name of the network, for the error line.
        revision: branch, tag or commit; None for the default branch.

    Raises:
        WeightsError: no file is in the cache, and none can be downloaded.
    """
    from huggingface_hub import constants, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    cached = in_hub_cache(repository, names, revision)
    if cached is not None:
        return cached
    reason, url = "HF_HUB_OFFLINE is set", hf_hub_url(repository, names[0], revision=revision)
    try:
        if not constants.HF_HUB_OFFLINE:
            _check_reachable(url)  # the hub's own client retries for half a minute
            for name in names:
                try:
                    return Path(hf_hub_download(repository, name, revision=revision, etag_timeout=DOWNLOAD_TIMEOUT))
                except LocalEntryNotFoundError:
                    raise
                except EntryNotFoundError as error:
                    reason = str(error)
    except Exception as error:  # the client raises its own kinds and those of its transport
        reason = str(error)
    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    raise WeightsError(
        f"weights of {label}: {' or '.join(names)} is not in {folder} and {url} cannot be downloaded "
        f"({one_line(reason, 160)}); run `hf download {repository}` on a machine with network access and "
        f"put the folder there, {ALTERNATIVES}"
    )


def _check_reachable(url: str) -> None:
    """Raise OSError if the server does not answer; an HTTP error is an answer."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=DOWNLOAD_TIMEOUT).close()
    except urllib.error.HTTPError:
        return
