"""Deletion of a run's own files for `--fresh`; other files stay."""

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
