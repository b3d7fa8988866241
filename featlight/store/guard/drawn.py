"""What this user's featlight has drawn of a run's page, remembered outside of the run, which may come from anybody.

A page is known by its `index.html`; of each file that belongs to it the checksum is kept in the user's cache. Whatever
differs, or is not known, is drawn again before it is opened, kept or passed on.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from featlight.config.user_paths import expanded
from featlight.errors import StorageError
from featlight.store.guard.atomic import replacing
from featlight.store.guard.run_folder import RunFolder
from featlight.store.paths import ARRAY_BYTES, TEXT_BYTES

PAGE, VECTORS = "index.html", "vectors/"
MOST_PAGES = 1000  # that are remembered; what was forgotten is drawn again
_here: dict[str, dict[str, str]] = {}  # in this process, where the cache cannot be written


class DrawnFiles:
    """The files of a run's page that are known to be featlight's own drawing.

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._files: dict[str, str] = {}  # checksums by path from the run directory
        self._belong: set[str] = set()  # to the page that is being drawn
        self._before = ""

    def begin(self, version: str) -> None:
        """Start to draw a page; of the one that is there, what is known may be kept.

        Args:
            version: version of all that draws it.
        """
        self._before = self._key(version)
        self._files = _recall(self._before) | self._files
        self._belong = set()

    def note(self, name: str, content: bytes) -> None:
        """Take up a file that has just been drawn."""
        self._files[name] = hashlib.sha256(content).hexdigest()
        self._belong.add(name)

    def keeps(self, *names: str) -> bool:
        """Whether each of these is there as it was drawn; the page then keeps it."""
        same = all(self._is_same(name, self._files.get(name)) for name in names)
        self._belong |= set(names) if same else set()
        return same

    def end(self, version: str) -> None:
        """Remember the page, whose `index.html` is there now."""
        files = {name: self._files[name] for name in sorted(self._belong)}
        key = self._key(version)
        _here[key] = files
        with suppress(OSError, StorageError):
            if self._before not in ("", key):
                _path(self._before).unlink(missing_ok=True)
            with replacing(_path(key)) as file:
                file.write(json.dumps(files).encode())
            _forget()

    def names(self, version: str, folders: Iterable[str]) -> list[str] | None:
        """The files in some folders that belong to the page; None where one is not as it was drawn, or none is known.

        Args:
            version: version of all that draws a page.
            folders: names of folders of the run directory.
        """
        files, folders = _recall(self._key(version)), set(folders)
        names = [name for name in files if name == PAGE or name.partition("/")[0] in folders]
        beside = {self._folder.root / name for name in names if name.startswith(VECTORS)}
        there = self._folder.sizes(beside)  # the page needs none of them: what is gone is left out
        names = [name for name in names if not name.startswith(VECTORS) or self._folder.root / name in there]
        return names if names and all(self._is_same(name, files[name]) for name in names) else None

    def _is_same(self, name: str, checksum: str | None) -> bool:
        if checksum is None:
            return False
        with (
            suppress(FileNotFoundError, StorageError),
            self._folder.open(self._folder.root / name, ARRAY_BYTES) as file,
        ):
            return hashlib.file_digest(file, "sha256").hexdigest() == checksum
        return False

    def _key(self, version: str) -> str:
        """What a page is remembered by; "" where there is none."""
        page = None
        with suppress(StorageError):
            page = self._folder.read_if_there(self._folder.root / PAGE, TEXT_BYTES)
        return "" if page is None else hashlib.sha256(version.encode() + page).hexdigest()


def _pages() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (cache if cache.is_absolute() else expanded("~/.cache")) / "featlight" / "pages"


def _path(key: str) -> Path:
    return _pages() / f"{key}.json"


def _recall(key: str) -> dict[str, str]:
    if not key:
        return {}
    if key in _here:
        return _here[key]
    with suppress(OSError, ValueError):
        return {str(name): str(checksum) for name, checksum in json.loads(_path(key).read_bytes()).items()}
    return {}


def _forget() -> None:
    """Remove the pages that were drawn longest ago, where there are very many."""
    with os.scandir(_pages()) as entries:
        pages = [entry for entry in entries if entry.name.endswith(".json")]
    if len(pages) > MOST_PAGES:
        for entry in sorted(pages, key=lambda entry: entry.stat().st_mtime)[: len(pages) - MOST_PAGES]:
            Path(entry.path).unlink(missing_ok=True)
