"""Deleting a run's own files, and nothing else."""

from contextlib import suppress
from pathlib import Path

from featlight.errors import UsageError
from featlight.store.atomic import TEMPORARY, storage_errors
from featlight.store.paths import NOTE, OUTPUTS, PLAN
from featlight.store.store import Store


def clear(store: Store) -> None:
    """Delete the files that a run's plan, records and outputs name, and the folders that are empty then.

    Raises:
        UsageError: the directory holds files, but no run.
    """
    root = store.root
    if not root.is_dir() or not any(root.iterdir()):
        return
    plan = store.plan()
    if plan is None:
        raise UsageError(f"--fresh: {root} holds files but no {PLAN}: not a run, nothing was deleted")
    files = [root / name for name in (*store.outputs(), *store.records())]
    for planned in plan.tiles:
        files += [root / planned.file, *store.extra_paths(planned, plan)]
    files += [store.vector_path(plan.tiles[i].file for i in members) for members in plan.chunks]
    # the plan last: until then it is a run, and --fresh can be typed again
    files += [*root.glob("records/*.jsonl"), root / OUTPUTS, root / NOTE, root / PLAN]
    inside = root.resolve()
    files = [path for path in files if path.resolve().is_relative_to(inside)]
    ours = set(files)
    torn = [path for path in root.rglob("*.tmp") if path.with_name(TEMPORARY.sub(r"\1", path.name)) in ours]
    with storage_errors(root):
        for path in [*torn, *files]:
            path.unlink(missing_ok=True)
        folders = {folder for path in files for folder in path.parents if folder.is_relative_to(root)}
        for folder in sorted(folders - {root}, reverse=True):
            with suppress(OSError):
                folder.rmdir()


def remove(store: Store, path: Path) -> bool:
    """Delete one file, and say so, unless a link leads out of the run directory on the way to it."""
    inside = path.parent.resolve().is_relative_to(store.root.resolve())
    if inside:
        with storage_errors(path):
            path.unlink(missing_ok=True)
    return inside
