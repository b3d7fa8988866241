"""Files of repositories on the Hugging Face Hub, in the hub's own cache, downloaded where they are missing."""

import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from featlight.errors import WeightsError
from featlight.models.sources.download import DOWNLOAD_TIMEOUT, WAYS_OUT


def in_cache(repository: str, names: Sequence[str], revision: str | None = None) -> Path | None:
    """The first of these files that is there already."""
    from huggingface_hub import try_to_load_from_cache

    for name in names:
        found = try_to_load_from_cache(repository, name, revision=revision)
        if isinstance(found, str):
            return Path(found)
    return None


def cached(repository: str, names: Sequence[str], what: str, revision: str | None = None) -> Path:
    """The first of these files that the repository has.

    Args:
        repository: as in `owner/name`.
        names: of files, the one that is liked best first.
        what: whose they are, for the message.
        revision: a branch, tag or commit; None for the main one.

    Raises:
        WeightsError: none is there, nor can be downloaded.
    """
    from huggingface_hub import constants, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    found = in_cache(repository, names, revision)
    if found is not None:
        return found
    reason, url = "HF_HUB_OFFLINE is set", hf_hub_url(repository, names[0], revision=revision)
    try:
        if not constants.HF_HUB_OFFLINE:
            _reach(url)  # the hub's own client goes on trying for half a minute
            for name in names:
                try:
                    return Path(hf_hub_download(repository, name, revision=revision, etag_timeout=DOWNLOAD_TIMEOUT))
                except LocalEntryNotFoundError:
                    raise
                except EntryNotFoundError as error:
                    reason = _words(error)
    except Exception as error:  # of the client's own kinds and its transport's
        reason = _words(error)
    place = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    raise WeightsError(
        f"weights of {what}: {' or '.join(names)} is not in {place} and {url} cannot be had ({reason}); fetch it with "
        f"`hf download {repository}` where there is a network and put the folder there, {WAYS_OUT}"
    )


def _reach(url: str) -> None:
    """Raise OSError where nothing answers; what the answer is does not matter here."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=DOWNLOAD_TIMEOUT).close()
    except urllib.error.HTTPError:
        return


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
