"""Whether a run directory holds what its records say, and the removal of what is bad. No network, no torch."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import yaml

from featlight.plan.fingerprint import file_sha256
from featlight.plan.plan import Plan, Planned
from featlight.store.atomic import blank
from featlight.store.deletion import remove
from featlight.store.orphans import find_orphans, is_young
from featlight.store.records import TileRecord, record_lines, status_of
from featlight.store.store import Store

READERS = 8  # threads; a disk of a cluster answers slowly, but many at a time
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


@dataclass(frozen=True)
class Line:
    """A line of a record file.

    Args:
        path: of the record file.
        number: from 1.
        start: its first byte.
        length: in bytes, without its end.
        record: what it says; None where it is torn.
    """

    path: Path
    number: int
    start: int
    length: int
    record: TileRecord | None


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be.

    Args:
        path: of the file, from the run directory.
        what: is wrong with it.
        remove: files that must go.
        blank: lines of records that must go, so that they vouch for nothing that is not there.
    """

    path: str
    what: str
    remove: tuple[Path, ...] = ()
    blank: tuple[Line, ...] = ()


@dataclass
class Report:
    """What was found in a run directory.

    Args:
        tiles: how many the plan names.
        whole: files of the tiles that are as their records say.
        harmed: tiles whose records vouch for another file than is there, or for none that is there.
        failed: tiles that could not be made; the next run tries again.
        problems: in the order of tiles, their other files, records, leftovers.
        notes: what is no problem, but worth a word.
    """

    tiles: int
    whole: set[str] = field(default_factory=set)
    harmed: int = 0
    failed: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def unmade(self) -> int:
        return self.tiles - len(self.whole) - self.harmed - self.failed


def verify(root: Path) -> Report:
    """Hold every file of a run against its plan and its records; nothing is changed.

    Args:
        root: the run directory.

    Raises:
        UsageError: there is no run.
    """
    store = Store(root)
    plan = store.need_plan()
    run = _Run(store, plan, list(_lines(store)), store.records())
    report = Report(len(plan.tiles))
    _check_tiles(run, report)
    _check_floats(run, report)
    _check_octaves(run, report)
    _check_vectors(run, report)
    _check_records(run, report)
    left = find_orphans(store, plan, run.records)
    report.problems += [Problem(run.name(path), what, (path,)) for path, what in left.bad]
    report.notes += [f"{run.name(path)}: not the run's own, left alone" for path in left.strange]
    report.notes += [f"{run.name(path)}: a run may be writing it now" for path in left.in_hand]
    return report


def repair(root: Path, report: Report) -> tuple[int, int]:
    """Remove what is bad, so that the next run makes it again.

    Args:
        root: the run directory.
        report: of it.

    Returns:
        How many files were removed, and how many lines of records blanked.

    Raises:
        StorageError: no right to remove something.
    """
    store = Store(root)
    lines = dict.fromkeys((line.path, line.start, line.length) for p in report.problems for line in p.blank)
    files = dict.fromkeys(path for problem in report.problems for path in problem.remove)
    for path, start, length in lines:
        blank(path, start, length)
    return sum(remove(store, path) for path in files), len(lines)


def harm(path: Path, size: int | None, sha256: str | None) -> str | None:
    """What is wrong with a file, given its size in bytes (None: not known) and checksum; None where nothing is."""
    try:
        if not path.is_file():
            return "not a file" if path.exists() else "missing"
        there = path.stat().st_size
        if size is not None and there != size:
            return f"{'truncated' if there < size else 'too long'}: {there} bytes, {size} in its record"
        return None if file_sha256(path) == sha256 else "damaged: its checksum is not that of its record"
    except OSError as error:
        return f"unreadable: {error.strerror}"


@dataclass(frozen=True)
class _Run:
    """What is read once."""

    store: Store
    plan: Plan
    lines: list[Line]
    records: Mapping[str, TileRecord]

    @cached_property
    def digests(self) -> dict[str, str]:
        return {variant: self.plan.digest(variant) for variant in self.plan.settings}

    @cached_property
    def _lines_of(self) -> dict[str, list[Line]]:
        found: dict[str, list[Line]] = {}
        for line in self.lines:
            if line.record is not None:
                found.setdefault(line.record["file"], []).append(line)
        return found

    def name(self, path: Path) -> str:
        return path.relative_to(self.store.root).as_posix()

    def lost(self, path: Path, what: str, tile: str) -> Problem:
        """A problem that a tile, given by its file, must be made again for."""
        return Problem(
            self.name(path),
            what,
            tuple(each for each in dict.fromkeys((path, self.store.root / tile)) if each.is_file()),
            tuple(self._lines_of.get(tile, ())),
        )


def _lines(store: Store) -> Iterator[Line]:
    for path in sorted(store.root.glob("records/*.jsonl")):
        for number, (start, line, record) in enumerate(record_lines(path), 1):
            being_written = record is None and not line.endswith(b"\n") and is_young(path)
            if line.strip() and not being_written:
                yield Line(path, number, start, len(line.rstrip(b"\r\n")), record)


def _check_tiles(run: _Run, report: Report) -> None:
    def check(planned: Planned) -> str | None:
        record = run.records.get(planned.file)
        if record is None or record["status"] == "failed" or record["fingerprint"] != run.digests[planned.variant]:
            return None
        return harm(run.store.root / planned.file, record["bytes"], record["sha256"]) or ""

    pool = ThreadPoolExecutor(READERS)
    try:
        for planned, what in zip(run.plan.tiles, pool.map(check, run.plan.tiles), strict=True):
            path = run.store.root / planned.file
            if what is None:
                report.failed += status_of(run.records, planned.file) == "failed"
                if path.is_file() and is_young(path):
                    report.notes.append(f"{planned.file}: no record vouches for it yet; a run may be writing it now")
                elif path.is_file():
                    report.problems.append(Problem(planned.file, "no record vouches for it", (path,)))
            elif what:
                report.harmed += 1
                report.problems.append(run.lost(path, what, planned.file))
            else:
                report.whole.add(planned.file)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C must not wait for a million tiles


def _check_floats(run: _Run, report: Report) -> None:
    """Those that records vouch for, unless the run wants none any more and they are gone."""
    wanted, unmade = _wants_floats(run.store), 0
    for planned in run.plan.tiles:
        if planned.file not in report.whole:
            continue
        path, sha256 = run.store.float_path(planned.file), run.records[planned.file]["float_sha256"]
        if sha256 is None:
            unmade += wanted
        elif wanted or path.exists():
            what = harm(path, None, sha256)
            if what:
                report.problems.append(run.lost(path, what, planned.file))
    if unmade:
        report.notes.append(f"{unmade} float images not made yet")


def _wants_floats(store: Store) -> bool:
    try:
        config = yaml.safe_load((store.root / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return isinstance(config, dict) and config.get("float_images") is True


def _check_octaves(run: _Run, report: Report) -> None:
    """Pictures that are cut short; one is made again with its tile alone."""
    if not (run.store.root / "octaves").is_dir():
        return
    for planned in run.plan.tiles:
        for path in run.store.extra_paths(planned, run.plan, ["octaves"]):
            if planned.file in report.whole and path.is_file() and not path.read_bytes().endswith(PNG_END):
                report.problems.append(run.lost(path, "cut short", planned.file))


def _check_vectors(run: _Run, report: Report) -> None:
    """Those of whole chunks: a chunk with a missing tile is computed again, and its vectors with it."""
    for members in run.plan.chunks:
        files = [run.plan.tiles[i].file for i in members]
        path = run.store.vector_path(files)
        what = _vector_harm(path, len(members))
        if what and path.exists() and not report.whole.issuperset(files):
            report.problems.append(Problem(run.name(path), what, (path,)))
        elif what and report.whole.issuperset(files):
            what = f"{what}; {files[0]} goes with it, so that its chunk is computed again"
            report.problems.append(run.lost(path, what, files[0]))


def _vector_harm(path: Path, rows: int) -> str | None:
    if not path.is_file():
        return "missing"
    try:
        there = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return "damaged"
    return None if there.ndim == 2 and len(there) == rows else "damaged"


def _check_records(run: _Run, report: Report) -> None:
    """Torn lines, and lines of tiles that the plan does not name."""
    planned = {tile.file for tile in run.plan.tiles}
    spare = set()
    for line in run.lines:
        record, what = line.record, "torn"
        if record is not None:
            if record["file"] in planned:
                continue
            ours = record["fingerprint"] in run.digests.values() and record["status"] != "failed"
            tile = run.store.root / str(record["file"])
            if ours and harm(tile, record["bytes"], record["sha256"]) is None:
                spare.add(record["file"])
                continue
            what = f"of {str(record['file'])[:80]!r}, which the plan does not name"
        report.problems.append(Problem(run.name(line.path), f"line {line.number} is {what}", blank=(line,)))
    if spare:
        report.notes.append(
            f"whole tiles that the plan does not name: {len(spare)}, as {min(spare)}; asking for them takes them up"
        )
