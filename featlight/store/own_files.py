"""The files that runs write, told from other files: orphans in a run directory, and deletion for `--fresh`."""

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from featlight.config.tile import FILE_PATTERN
from featlight.errors import StorageError, UsageError, plural
from featlight.files import walk
from featlight.plan.plan import Plan
from featlight.store.circuit_files import found_circuits
from featlight.store.example_files import found_files
from featlight.store.guard.atomic import NEW, TEMPORARY, is_abandoned
from featlight.store.guard.run_folder import RunFolder
from featlight.store.heartbeat import Heartbeat
from featlight.store.paths import ARRAY_BYTES, CIRCUITS, NOTE, OUTPUTS, OWN_NAMES, PLAN
from featlight.store.records import TileRecord, record_files
from featlight.store.store import Store

YOUNG = 60.0  # seconds; a run, here or on another machine, may still be writing younger files
# For each folder: the names that a run gives its files there, and bytes that each of them has near its beginning
_OURS = {
    "tiles": (re.compile(rf"tiles/{FILE_PATTERN}(?:\.alpha)?\.png"), b"Software\0featlight "),
    "floats": (re.compile(rf"floats/{FILE_PATTERN}\.safetensors"), b'{"image":'),
    "maps": (re.compile(rf"maps/{FILE_PATTERN}\.safetensors"), b'{"0":'),
    "examples": (re.compile(r"examples/found/worker-\d+\.safetensors"), b'"about":'),
    "circuits": (re.compile(r"circuits/found/worker-\d+\.jsonl"), b'{"tile":'),
    "octaves": (re.compile(rf"octaves/{FILE_PATTERN}\.\d+\.png"), b"\x89PNG\r\n"),
    "vectors": (re.compile(r"vectors/chunks/[0-9a-f]{16}\.npy"), b"\x93NUMPY"),
}
_HEAD = 512  # bytes
_PROBE = re.compile(r"\.probe-\d+\.tmp")


@dataclass
class Orphans:
    """Files that neither the plan nor a record names.

    Args:
        leftovers: files that a run has written, each with its description.
        in_use: files that a run may be writing now.
        foreign: other files, which are never deleted.
    """

    leftovers: list[tuple[Path, str]] = field(default_factory=list)
    in_use: list[Path] = field(default_factory=list)
    foreign: list[Path] = field(default_factory=list)


def find_orphans(store: Store, plan: Plan, records: Mapping[str, TileRecord]) -> Orphans:
    """Find orphaned files, temporary files of killed processes, and foreign files.

    Args:
        store: store of the run.
        plan: plan of the run.
        records: records by file; a recorded tile is no leftover even if it is not in the plan.
    """
    paths = own_paths(store, plan, records)
    known = {path.relative_to(store.root).as_posix() for path in paths} | {PLAN, "config.yaml", "probe"}
    folders = {*_OURS, *(Path(name).parts[0] for name in store.outputs() if len(Path(name).parts) > 1)}
    orphans = Orphans()
    for path in files_inside(store.folder, folders):
        name = path.relative_to(store.root).as_posix()
        temporary = _is_temporary(name, known)
        if name in known or (not temporary and Path(name).parts[0] not in _OURS):
            continue
        if not temporary and not is_made_by_a_run(store.folder, path):
            orphans.foreign.append(path)
        elif is_in_use(path):
            orphans.in_use.append(path)
        else:
            what = "temporary file of a process that was killed" if temporary else "orphaned: not in the plan"
            orphans.leftovers.append((path, what))
    return orphans


def is_in_use(path: Path) -> bool:
    """Return whether a process may be writing a file now; True if the file has just disappeared."""
    try:
        written = path.lstat().st_mtime
    except OSError:
        return True
    abandoned = is_abandoned(path.name, written)
    return time.time() - written < YOUNG if abandoned is None else not abandoned


def own_paths(store: Store, plan: Plan, records: Mapping[str, TileRecord]) -> Iterator[Path]:
    """Yield every path that the run may have written, except its plan and its records."""
    files = [*dict.fromkeys((*(planned.file for planned in plan.tiles), *records))]
    yield from (store.root / name for name in (*store.outputs(), *files))
    for file in files:
        yield from (store.float_path(file), store.map_path(file))
    yield from (store.alpha_path(file) for file, record in records.items() if record["alpha_sha256"] is not None)
    for planned in plan.tiles:
        yield from store.parts(planned, plan)
        yield from store.extra_paths(planned, plan, ["octaves"])
    yield from (store.vector_path(plan.tiles[i].file for i in members) for members in plan.chunks)
    yield from (*store.example_paths(files), *found_files(store.folder))
    yield from (store.root / CIRCUITS, *found_circuits(store.folder))
    yield from (store.root / OUTPUTS, store.root / NOTE)


def files_inside(folder: RunFolder, names: Iterable[str]) -> Iterator[Path]:
    """Yield the files of a run directory and of some of its folders; links to folders are not followed."""
    root = folder.root
    yield from (path for path in map(root.joinpath, folder.names(root)) if path.is_symlink() or not path.is_dir())
    for name in sorted(names):
        if folder.is_folder(root / name):
            for parent, _, files in walk(root / name):
                yield from (parent / file for file in files)


def _is_temporary(name: str, known: set[str]) -> bool:
    """Return whether it is the temporary file of one of the run's own files."""
    folder, slash, last = name.rpartition("/")
    match = TEMPORARY.fullmatch(last)
    if match:
        target = f"{folder}{slash}{match[1]}"
        return target in known or _has_our_name(target) or (not folder and _is_new_plan(target))
    return not folder and (bool(_PROBE.fullmatch(last)) or _is_new_plan(last))


def _is_new_plan(name: str) -> bool:
    match = NEW.fullmatch(name)
    return match is not None and match[1] == PLAN


def _has_our_name(name: str) -> bool:
    folder = name.partition("/")[0]
    return folder in _OURS and bool(_OURS[folder][0].fullmatch(name))


def is_made_by_a_run(folder: RunFolder, path: Path) -> bool:
    """Return whether a file has the name and the first bytes of a run's own file."""
    name = path.relative_to(folder.root).as_posix()
    if not _has_our_name(name):
        return False
    try:
        with folder.open(path, ARRAY_BYTES) as file:
            return _OURS[name.partition("/")[0]][1] in file.read(_HEAD)
    except (FileNotFoundError, StorageError):
        return False


@dataclass(frozen=True)
class Deletion:
    """The files of a run that `--fresh` deletes.

    Args:
        store: store of the run.
        files: files that the run has written, according to its plan, records and outputs.
        folders: folders of these files, deepest first.
        foreign: other files in these folders; they stay.
    """

    store: Store
    files: list[Path]
    folders: list[Path]
    foreign: list[Path]

    @classmethod
    def from_store(cls, store: Store) -> "Deletion":
        """List a run's files. The plan stays until the next run replaces it, so that `--fresh` can be repeated.

        Raises:
            UsageError: the directory holds files but no run, or a process is working there.
            StorageError: the plan, the records or the list of outputs cannot be read.
        """
        root = store.root
        other = Heartbeat(store.folder).other()
        if other is not None:
            raise UsageError(
                f"--fresh: {other} is at work in {root}, nothing was deleted; stop it, or delete {root / NOTE} if "
                "it no longer exists"
            )
        if not store.folder.names(root):
            return cls(store, [], [], [])
        plan = store.plan()
        if plan is None:
            raise UsageError(f"--fresh: {root} holds files but no {PLAN}: not a run, nothing was deleted")
        records = {} if store.lacks_records() else store.records()
        named = dict.fromkeys((*own_paths(store, plan, records), *record_files(store.folder)))
        existing = [path for path in files_inside(store.folder, OWN_NAMES) if path != root / PLAN]
        own = {*named, root / PLAN}
        temporary = [p for p in existing if p not in own and p.with_name(TEMPORARY.sub(r"\1", p.name)) in own]
        files = [*temporary, *store.folder.sizes(named)]
        deleted = set(files)
        folders = {parent for path in named for parent in path.parents if root in parent.parents}
        foreign = [path for path in existing if path not in deleted]
        return cls(store, files, sorted(folders, reverse=True), foreign)

    def check_room_for(self, names: set[str]) -> None:
        """Raise UsageError if a user's file has one of the names that the next run writes."""
        for path in self.foreign:
            name = path.relative_to(self.store.root).as_posix()
            if name in names and not is_made_by_a_run(self.store.folder, path):
                raise UsageError(f"--fresh: {path} is not the run's own and has the name of a tile; move it away")

    def carry_out(self) -> None:
        """Delete the files, and then the empty folders.

        Raises:
            StorageError: a file cannot be deleted.
        """
        for path in self.files:
            self.store.folder.remove(path)
        for folder in self.folders:
            self.store.folder.remove_folder(folder)

    def announcement(self) -> list[str]:
        """Return lines that name what is deleted and what stays; no line without a run."""
        root = self.store.root
        deleted = f"--fresh: deleting the run in {root}: {_examples(root, self.files)}"
        kept = f"--fresh: kept, not the run's own: {_examples(root, self.foreign)}"
        return [line for line, paths in ((deleted, self.files), (kept, self.foreign)) if paths]


def _examples(root: Path, paths: list[Path]) -> str:
    names = ", ".join(path.relative_to(root).as_posix() for path in paths[:3])
    return plural(len(paths), "file") + (f", for example {names}" if paths else "")
