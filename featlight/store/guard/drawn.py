"""Checksums of the pages that this user's featlight has drawn, kept outside of the runs, which may come from anybody.

A page is identified by its `index.html`; the user's cache has the checksum of each of its files. A file that differs or
is unknown is drawn again before it is opened, kept or exported.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from featlight.config.user_text import expanded
from featlight.errors import StorageError
from featlight.store.guard.atomic import replacing
from featlight.store.guard.run_folder import RunFolder
from featlight.store.paths import ARRAY_BYTES, TEXT_BYTES

PAGE, VECTORS = "index.html", "vectors/"
MOST_PAGES = 1000  # in the cache; forgotten pages are drawn again
_in_memory: dict[str, dict[str, str]] = {}  # for this process, in case the cache cannot be written


class DrawnFiles:
    """The files of a run's page that featlight itself has drawn.

    Args:
        folder: run directory.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._files: dict[str, str] = {}  # checksums by path from the run directory
        self._members: set[str] = set()  # files of the page that is being drawn
        self._previous = ""

    def begin(self, version: str) -> None:
        """Start to draw a page; known files of the existing page may be kept.

        Args:
            version: version of the drawing code.
        """
        self._previous = self._key(version)
        self._files = _recall(self._previous) | self._files
        self._members = set()

    def note(self, name: str, content: bytes) -> None:
        """Add a file that has just been drawn."""
        self._files[name] = hashlib.sha256(content).hexdigest()
        self._members.add(name)

    def keeps(self, *names: str) -> bool:
        """Return whether all these files are as they were drawn; if so, the page keeps them."""
        same = all(self._is_same(name, self._files.get(name)) for name in names)
        self._members |= set(names) if same else set()
        return same

    def end(self, version: str) -> None:
        """Store the checksums of the finished page."""
        files = {name: self._files[name] for name in sorted(self._members)}
        key = self._key(version)
        _in_memory[key] = files
        with suppress(OSError, StorageError):
            if self._previous not in ("", key):
                _path(self._previous).unlink(missing_ok=True)
            with replacing(_path(key)) as file:
                file.write(json.dumps(files).encode())
            _forget()

    def names(self, version: str, folders: Iterable[str]) -> list[str] | None:
        """Return the page's files in some folders; None if one differs from the drawn file, or none is known.

        Args:
            version: version of the drawing code.
            folders: names of folders in the run directory.
        """
        files, folders = _recall(self._key(version)), set(folders)
        names = [name for name in files if name == PAGE or name.partition("/")[0] in folders]
        vectors = [self._folder.root / name for name in names if name.startswith(VECTORS)]
        existing = self._folder.sizes(vectors)  # missing ones are left out: the page does not need them
        names = [name for name in names if not name.startswith(VECTORS) or self._folder.root / name in existing]
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
        """Return the page's key in the cache; "" without a page."""
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
    if key in _in_memory:
        return _in_memory[key]
    with suppress(OSError, ValueError):
        return {str(name): str(checksum) for name, checksum in json.loads(_path(key).read_bytes()).items()}
    return {}


def _forget() -> None:
    """Remove the oldest pages if there are more than `MOST_PAGES`."""
    with os.scandir(_pages()) as entries:
        pages = [entry for entry in entries if entry.name.endswith(".json")]
    if len(pages) > MOST_PAGES:
        for entry in sorted(pages, key=lambda entry: entry.stat().st_mtime)[: len(pages) - MOST_PAGES]:
            Path(entry.path).unlink(missing_ok=True)
