"""Verification of a run directory against its plan and records, and the removal of damaged files. No torch.

A tile whose PNG is whole is never removed: if it differs from its record, the record is removed. A file that cannot be
read is reported, and counts neither as damaged nor as missing.
"""

import io
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Literal

from featlight.errors import StorageError
from featlight.plan.plan import PlannedTile
from featlight.store.circuit_files import circuit_lines
from featlight.store.contents import has_whole_vectors
from featlight.store.damage import Damage, Line, Problem, VerifyContext, VerifyReport, reason
from featlight.store.example_files import example_lines, read_about
from featlight.store.guard.atomic import reading_errors
from featlight.store.guard.bounds import Allowance, tile_bytes
from featlight.store.own_files import find_orphans, is_in_use
from featlight.store.paths import ABOUT_EXAMPLES, CIRCUITS, EXAMPLES, PICTURE_BYTES, RECORDS_BYTES, TEXT_BYTES
from featlight.store.records import TileRecord, keep_last, record_files, record_lines, status_of
from featlight.store.similarity import read_similarity
from featlight.store.store import Store

READERS = 8  # threads; network file systems have a high latency but serve many requests in parallel
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
MAKES_IT = "the run's own command makes it again"
LINKS_IT = "`featlight circuits` writes it again"
FINDS_IT = "`featlight examples` writes it again"


def verify(root: Path) -> VerifyReport:
    """Check every file of a run against its plan and its records; nothing is changed.

    Args:
        root: run directory.

    Raises:
        UsageError: the directory holds no run.
        StorageError: the plan, the records or the list of outputs cannot be read.
    """
    store = Store(root)
    plan = store.need_plan()
    lines: list[Line] = []
    records: dict[str, TileRecord] = {}
    for line, record in _lines(store):
        lines.append(line)
        if record is not None:
            keep_last(records, record)
    run = VerifyContext(store, plan, lines, records)
    report = VerifyReport(len(plan.tiles))
    if not run.records and (count := _tiles_there(run)):
        what = f"missing, though {count} tiles exist; put the records back, or run the same command to make all again"
        report.problems.append(Problem("records", what))
        report.problems += [Problem(run.name(line.path), f"line {line.number} is incomplete") for line in lines]
        return report  # without records, the run's own files look like leftovers
    _check_tiles(run, report)
    _check_alphas(run, report)
    _check_floats(run, report)
    _check_octaves(run, report)
    _check_vectors(run, report)
    _check_records(run, report)
    _check_examples(run, report)
    _check_derived(run, report)
    orphans = find_orphans(store, plan, run.records)
    report.problems += [Problem(run.name(path), what, (path,)) for path, what in orphans.leftovers]
    report.notes += [f"{run.name(path)}: not the run's own, kept" for path in orphans.foreign]
    report.notes += [f"{run.name(path)}: a run may be writing it now" for path in orphans.in_use]
    return report


def repair(root: Path, report: VerifyReport) -> tuple[int, int]:
    """Remove damaged files and their records, so that the next run makes them again.

    Args:
        root: run directory.
        report: result of `verify`.

    Returns:
        Number of removed files, and of overwritten record lines.

    Raises:
        StorageError: a file cannot be removed.
    """
    folder = Store(root).folder
    lines = dict.fromkeys((line.path, line.start, line.length) for p in report.problems for line in p.blank)
    files = dict.fromkeys(path for problem in report.problems for path in problem.remove)
    for path, start, length in lines:
        folder.blank(path, start, length)
    return sum(folder.remove(path) for path in files), len(lines)


def _tiles_there(run: VerifyContext) -> int:
    return len(run.store.folder.sizes(run.store.root / planned.file for planned in run.plan.tiles))


def _lines(store: Store) -> Iterator[tuple[Line, TileRecord | None]]:
    allowance = Allowance(store.folder, store.root / "records")
    for path in record_files(store.folder):
        for number, (start, line, record) in enumerate(record_lines(store.folder, path, allowance), 1):
            being_written = record is None and not line.endswith(b"\n") and is_in_use(path)
            if not line.isspace() and not being_written:
                file = None if record is None else record["file"]
                yield Line(path, number, start, len(line.rstrip(b"\r\n")), file), record


def _check_tiles(run: VerifyContext, report: VerifyReport) -> None:
    def check(planned: PlannedTile) -> Damage | Literal["unrecorded"] | None:
        record = run.records.get(planned.file)
        if record is None or record["status"] == "failed" or record["fingerprint"] != run.digests[planned.variant]:
            return "unrecorded"
        most = tile_bytes(planned, run.plan)
        return run.damage(run.store.root / planned.file, most, record["bytes"], record["sha256"])

    pool = ThreadPoolExecutor(READERS)
    try:
        for planned, damage in zip(run.plan.tiles, pool.map(check, run.plan.tiles), strict=True):
            if damage == "unrecorded":
                report.failed += status_of(run.records, planned.file) == "failed"
                _check_unrecorded(run, report, planned)
            elif damage is not None:
                report.harmed += 1
                report.problems.append(_problem_of(run, planned, damage))
            else:
                report.whole.add(planned.file)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C must not wait for a million tiles


def _check_unrecorded(run: VerifyContext, report: VerifyReport, planned: PlannedTile) -> None:
    """Check a tile without a record: its process was killed before writing it, or the record is lost."""
    path = run.store.root / planned.file
    if not run.store.folder.has(path):
        return
    if is_in_use(path):
        report.notes.append(f"{planned.file}: has no record yet; a run may be writing it now")
    elif run.is_whole_png(path) is False:
        report.problems.append(Problem(planned.file, "has no record, and is damaged", (path,)))
    else:
        report.notes.append(f"{planned.file}: has no record, kept; {MAKES_IT}")


def _problem_of(run: VerifyContext, planned: PlannedTile, damage: Damage) -> Problem:
    """Return the problem, with its repair, of a tile that differs from its record."""
    path, lines = run.store.root / planned.file, run.lines_of(planned.file)
    if damage.what == "missing":
        return Problem(planned.file, damage.what, blank=lines)
    if not damage.certain:
        return Problem(planned.file, damage.what)
    match run.is_whole_png(path):
        case True:  # the record may be wrong: a whole picture stays until it is made again
            return Problem(
                planned.file, f"{damage.what}; the picture is whole and stays, its record is removed", blank=lines
            )
        case False:
            return Problem(planned.file, damage.what, (path,), lines)
    return Problem(planned.file, damage.what)


def _check_alphas(run: VerifyContext, report: VerifyReport) -> None:
    """Check the opacity pictures of whole tiles; a tile without its own is made again."""
    for planned in run.plan.tiles:
        if planned.file not in report.whole or not run.plan.settings[planned.variant].recipe.keeps_alpha:
            continue
        path = run.store.alpha_path(planned.file)
        sha256 = run.records[planned.file]["alpha_sha256"]
        damage = run.damage(path, tile_bytes(planned, run.plan), None, sha256)
        if damage is not None:
            report.problems.append(
                Problem(run.name(path), f"{damage.what}; {MAKES_IT}", (path,) if damage.certain else ())
            )


def _check_floats(run: VerifyContext, report: VerifyReport) -> None:
    """Check the recorded float images; missing ones are allowed if the run no longer keeps any."""
    wanted, unmade = _wants_floats(run.store), 0
    keeps_some = run.store.folder.is_folder(run.store.root / "floats")  # an exported zip has none
    for planned in run.plan.tiles:
        if planned.file not in report.whole:
            continue
        path, sha256 = run.store.float_path(planned.file), run.records[planned.file]["float_sha256"]
        if sha256 is None or not keeps_some:
            unmade += wanted
            continue
        damage = run.damage(path, tile_bytes(planned, run.plan), None, sha256)
        if damage is not None and (wanted or damage.what != "missing"):
            what = f"{damage.what}; {MAKES_IT}" if wanted else damage.what
            report.problems.append(Problem(run.name(path), what, (path,) if damage.certain else ()))
    if unmade:
        report.notes.append(f"{unmade} float images not made yet")


def _wants_floats(store: Store) -> bool:
    """Return whether `config.yaml` has the line `float_images: true`; the rest of it is not read."""
    try:
        text = store.folder.read_if_there(store.root / "config.yaml", TEXT_BYTES) or b""
    except StorageError:
        return False
    return re.search(rb"^float_images: true\s*$", text, re.MULTILINE) is not None


def _check_octaves(run: VerifyContext, report: VerifyReport) -> None:
    """Check that the octave pictures of whole tiles end as a PNG does."""
    if not run.store.folder.is_folder(run.store.root / "octaves"):
        return
    whole = [planned for planned in run.plan.tiles if planned.file in report.whole]
    paths = [path for planned in whole for path in run.store.extra_paths(planned, run.plan, ["octaves"])]
    for path in run.store.folder.sizes(paths):
        try:
            with run.store.folder.open(path, PICTURE_BYTES) as file, reading_errors(path):
                is_cut = _last_bytes(file, len(PNG_END)) != PNG_END
        except (FileNotFoundError, StorageError) as error:
            report.problems.append(Problem(run.name(path), reason(error, path)))
            continue
        if is_cut:
            report.problems.append(Problem(run.name(path), "truncated", (path,)))


def _last_bytes(file: IO[bytes], count: int) -> bytes:
    file.seek(max(0, file.seek(0, io.SEEK_END) - count))
    return file.read(count)


def _check_vectors(run: VerifyContext, report: VerifyReport) -> None:
    """Check the vectors of each chunk; the run's own command computes missing ones again and keeps the tiles."""
    lacking = run.store.lacking_vectors(run.plan, range(len(run.plan.chunks)))
    for number, members in enumerate(run.plan.chunks):
        planned = [run.plan.tiles[i] for i in members]
        path = run.store.vector_path(tile.file for tile in planned)
        if number in lacking:
            if report.whole.issuperset(tile.file for tile in planned):
                report.problems.append(Problem(run.name(path), f"missing; {MAKES_IT}"))
            continue
        features = run.plan.shape(planned[0].variant, planned[0].tile.terms[0].output)[0]
        try:
            is_whole = has_whole_vectors(run.store.folder, path, len(members), features)
        except FileNotFoundError:
            continue  # a run without any vectors, such as an exported zip
        except StorageError as error:
            report.problems.append(Problem(run.name(path), reason(error, path)))
            continue
        if not is_whole:
            report.problems.append(Problem(run.name(path), f"damaged; {MAKES_IT}", (path,)))


def _check_examples(run: VerifyContext, report: VerifyReport) -> None:
    """Report unreadable lines of examples and of circuits, and tiles that have none."""
    folder = run.store.folder
    examples = ((line, each.tile if each else None) for line, each in example_lines(folder))
    _check_lines(run, report, EXAMPLES, "examples", examples, FINDS_IT)
    found = circuit_lines(folder, folder.root / CIRCUITS, run.plan)
    circuits = ((line, each.tile if each else None) for line, each in found)
    _check_lines(run, report, CIRCUITS, "circuit", circuits, LINKS_IT)


def _check_lines(
    run: VerifyContext,
    report: VerifyReport,
    name: str,
    what: str,
    lines: Iterator[tuple[bytes, str | None]],
    makes_it: str,
) -> None:
    """Report unreadable lines of a file that has a line for each tile, and the number of tiles without one.

    Args:
        run: run to verify.
        report: report to extend.
        name: path of the file, from the run directory.
        what: what a line gives a tile.
        lines: each line, and the file of its tile; None if the line cannot be read.
        makes_it: words that say which command writes the file again.
    """
    path, start = run.store.root / name, 0
    lacking = {planned.file for planned in run.plan.tiles}
    try:
        for number, (line, tile) in enumerate(lines, 1):
            content = line.rstrip(b"\r\n")
            if tile is not None:
                lacking.discard(tile)
            elif content.strip():
                problem, bad = (
                    f"line {number} cannot be read; {makes_it}",
                    Line(path, number, start, len(content), None),
                )
                report.problems.append(Problem(name, problem, blank=(bad,)))
            start += len(line)
    except StorageError as error:
        report.problems.append(Problem(name, reason(error, path)))
    if start and lacking:
        report.notes.append(f"{len(lacking)} tiles have no {what}; {makes_it}")


def _check_derived(run: VerifyContext, report: VerifyReport) -> None:
    """Report derived JSON files that cannot be read; another command makes them again."""
    store, folder = run.store, run.store.folder
    similarity = [store.root / name for name in store.outputs() if name.startswith("alike/") and name.endswith(".json")]
    makers: dict[Path, tuple[Callable[[], object], str]] = {
        store.root / ABOUT_EXAMPLES: (lambda: read_about(folder), FINDS_IT),
        store.example_list: (lambda: _has_two_lines(store.example_list, store), FINDS_IT),
        **{path: (partial(read_similarity, folder, path), "`featlight alike` makes it again") for path in similarity},
    }
    for path, (read, makes_it) in makers.items():
        try:
            if folder.has(path) and not read():
                report.problems.append(Problem(run.name(path), f"cannot be read; {makes_it}", (path,)))
        except StorageError as error:
            report.problems.append(Problem(run.name(path), reason(error, path)))


def _has_two_lines(path: Path, store: Store) -> bool:
    """Return whether a list of images has its two lines; the next search for examples checks their content."""
    with store.folder.open(path, RECORDS_BYTES) as file, reading_errors(path):
        lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
        return lines == 2 and _last_bytes(file, 2) == b"}\n"


def _check_records(run: VerifyContext, report: VerifyReport) -> None:
    """Report incomplete record lines, and records of tiles that are not in the plan."""
    planned = {tile.file for tile in run.plan.tiles}
    spare = {file for file in run.records.keys() - planned if _is_spare(run, file)}
    for line in run.lines:
        if line.file is None:
            what = "incomplete"
        elif line.file in planned or line.file in spare:
            continue
        else:
            what = f"for {line.file[:80]!r}, which is not in the plan"
        report.problems.append(Problem(run.name(line.path), f"line {line.number} is {what}", blank=(line,)))
    if spare:
        report.notes.append(
            f"whole tiles that are not in the plan: {len(spare)}, for example {min(spare)}; "
            "a run that asks for them keeps them"
        )


def _is_spare(run: VerifyContext, file: str) -> bool:
    """Return whether a recorded tile that is not in the plan exists and is not known to be damaged."""
    record = run.records[file]
    if record["status"] == "failed":
        return False
    damage = run.damage(run.store.root / file, PICTURE_BYTES, record["bytes"], record["sha256"])
    return damage is None or (not damage.certain and damage.what != "missing")
