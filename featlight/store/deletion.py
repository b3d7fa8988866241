"""Deleting a run's own files, and nothing else."""

from dataclasses import dataclass
from pathlib import Path

from featlight.errors import UsageError, plural
from featlight.store.guard.atomic import TEMPORARY
from featlight.store.heartbeat import Heartbeat
from featlight.store.orphans import files_inside, is_made_by_a_run, own_paths
from featlight.store.paths import NOTE, OWN_NAMES, PLAN
from featlight.store.records import record_files
from featlight.store.store import Store


@dataclass(frozen=True)
class Deletion:
    """What is to be deleted of a run.

    Args:
        store: of the run.
        files: its own, by its plan, records and outputs.
        folders: that hold nothing else, perhaps.
        foreign: what else lies in its folders, and stays.
    """

    store: Store
    files: list[Path]
    folders: list[Path]
    foreign: list[Path]

    @classmethod
    def from_store(cls, store: Store) -> "Deletion":
        """All of a run but its plan, which stays until that of the next run takes its place: it can be typed again.

        Raises:
            UsageError: the directory holds files, but no run; or somebody is at work there.
            StorageError: something that names the run's own files cannot be read.
        """
        root = store.root
        other = Heartbeat(store.folder).other()
        if other is not None:
            raise UsageError(
                f"--fresh: {other} is at work in {root}, nothing was deleted; stop it, or delete {root / NOTE} where "
                "that is surely gone"
            )
        if not store.folder.names(root):
            return cls(store, [], [], [])
        plan = store.plan()
        if plan is None:
            raise UsageError(f"--fresh: {root} holds files but no {PLAN}: not a run, nothing was deleted")
        records = {} if store.lacks_records() else store.records()
        named = dict.fromkeys((*own_paths(store, plan, records), *record_files(store.folder)))
        there = [path for path in files_inside(store.folder, OWN_NAMES) if path != root / PLAN]
        ours = {*named, root / PLAN}
        torn = [path for path in there if path not in ours and path.with_name(_target(path.name)) in ours]
        files = [*torn, *store.folder.sizes(named)]
        going = set(files)
        folders = {parent for path in named for parent in path.parents if root in parent.parents}
        foreign = [path for path in there if path not in going]
        return cls(store, files, sorted(folders, reverse=True), foreign)

    def check_room_for(self, names: set[str]) -> None:
        """Raise UsageError where a file of a user's own stands at one of the paths that the next run writes."""
        for path in self.foreign:
            name = path.relative_to(self.store.root).as_posix()
            if name in names and not is_made_by_a_run(self.store.folder, path):
                raise UsageError(f"--fresh: {path} is not the run's own, and stands where a tile goes; move it away")

    def carry_out(self) -> None:
        """Delete the files, and the folders that are empty then.

        Raises:
            StorageError: no right to.
        """
        for path in self.files:
            self.store.folder.remove(path)
        for folder in self.folders:
            self.store.folder.remove_folder(folder)

    def announcement(self) -> list[str]:
        """What goes and what stays, in lines; none where there was no run."""
        root = self.store.root
        goes = f"--fresh: deleting the run in {root}: {_some(root, self.files)}"
        stays = f"--fresh: left, as not the run's own: {_some(root, self.foreign)}"
        return [line for line, paths in ((goes, self.files), (stays, self.foreign)) if paths]


def _target(name: str) -> str:
    """The name that a file in the making was to have; its own for any other."""
    return TEMPORARY.sub(r"\1", name)


def _some(root: Path, paths: list[Path]) -> str:
    names = ", ".join(path.relative_to(root).as_posix() for path in paths[:3])
    return plural(len(paths), "file") + (f", for example {names}" if paths else "")
