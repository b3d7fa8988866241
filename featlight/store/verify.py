"""Whether a run directory holds what its records say, and the removal of what is bad. No network, no torch.

No tile is removed that is whole in itself: where it and its record differ, the record goes. What cannot be read is
never taken for bad, nor for empty.
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
from featlight.store.contents import has_whole_vectors
from featlight.store.damage import Damage, Line, Problem, VerifyContext, VerifyReport, reason
from featlight.store.example_files import example_lines, read_about
from featlight.store.guard.atomic import reading_errors
from featlight.store.guard.bounds import Allowance, tile_bytes
from featlight.store.orphans import find_orphans, is_in_hand
from featlight.store.paths import ABOUT_EXAMPLES, EXAMPLES, PICTURE_BYTES, RECORDS_BYTES, TEXT_BYTES
from featlight.store.records import TileRecord, keep_last, record_files, record_lines, status_of
from featlight.store.similarity import read_similarity
from featlight.store.store import Store

READERS = 8  # threads; a disk of a cluster answers slowly, but many at a time
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
MAKES_IT = "the run's own command makes it again"
FINDS_IT = "`featlight examples` writes it again"


def verify(root: Path) -> VerifyReport:
    """Hold every file of a run against its plan and its records; nothing is changed.

    Args:
        root: the run directory.

    Raises:
        UsageError: there is no run.
        StorageError: its plan, records or list of outputs cannot be read.
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
        what = f"nothing vouches for {count} tiles; put the records back, or the run's own command makes all again"
        report.problems.append(Problem("records", what))
        report.problems += [Problem(run.name(line.path), f"line {line.number} is torn") for line in lines]
        return report  # whatever else looks like a leftover may be the run's
    _check_tiles(run, report)
    _check_alphas(run, report)
    _check_floats(run, report)
    _check_octaves(run, report)
    _check_vectors(run, report)
    _check_records(run, report)
    _check_examples(run, report)
    _check_derived(run, report)
    left = find_orphans(store, plan, run.records)
    report.problems += [Problem(run.name(path), what, (path,)) for path, what in left.bad]
    report.notes += [f"{run.name(path)}: not the run's own, left alone" for path in left.strange]
    report.notes += [f"{run.name(path)}: a run may be writing it now" for path in left.in_hand]
    return report


def repair(root: Path, report: VerifyReport) -> tuple[int, int]:
    """Remove what is bad, so that the next run makes it again.

    Args:
        root: the run directory.
        report: of it.

    Returns:
        How many files were removed, and how many lines of records blanked.

    Raises:
        StorageError: no right to remove something.
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
            being_written = record is None and not line.endswith(b"\n") and is_in_hand(path)
            if not line.isspace() and not being_written:
                file = None if record is None else record["file"]
                yield Line(path, number, start, len(line.rstrip(b"\r\n")), file), record


def _check_tiles(run: VerifyContext, report: VerifyReport) -> None:
    def check(planned: PlannedTile) -> Damage | Literal["unvouched"] | None:
        record = run.records.get(planned.file)
        if record is None or record["status"] == "failed" or record["fingerprint"] != run.digests[planned.variant]:
            return "unvouched"
        most = tile_bytes(planned, run.plan)
        return run.harm(run.store.root / planned.file, most, record["bytes"], record["sha256"])

    pool = ThreadPoolExecutor(READERS)
    try:
        for planned, harm in zip(run.plan.tiles, pool.map(check, run.plan.tiles), strict=True):
            if harm == "unvouched":
                report.failed += status_of(run.records, planned.file) == "failed"
                _unvouched(run, report, planned)
            elif harm is not None:
                report.harmed += 1
                report.problems.append(_harmed(run, planned, harm))
            else:
                report.whole.add(planned.file)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C must not wait for a million tiles


def _unvouched(run: VerifyContext, report: VerifyReport, planned: PlannedTile) -> None:
    """A tile that no record vouches for: one that a process died over, or whose record is lost."""
    path = run.store.root / planned.file
    if not run.store.folder.has(path):
        return
    if is_in_hand(path):
        report.notes.append(f"{planned.file}: no record vouches for it yet; a run may be writing it now")
    elif run.is_whole_png(path) is False:
        report.problems.append(Problem(planned.file, "no record vouches for it, and it is damaged", (path,)))
    else:
        report.notes.append(f"{planned.file}: no record vouches for it, left alone; {MAKES_IT}")


def _harmed(run: VerifyContext, planned: PlannedTile, harm: Damage) -> Problem:
    """What is to be done about a tile that is not as its record says."""
    path, lines = run.store.root / planned.file, run.lines_of(planned.file)
    if harm.what == "missing":
        return Problem(planned.file, harm.what, blank=lines)
    if not harm.surely:
        return Problem(planned.file, harm.what)
    match run.is_whole_png(path):
        case True:  # it may be the record that is wrong: a picture that is whole stays until it is made again
            return Problem(planned.file, f"{harm.what}; a whole picture, which stays, and its record goes", blank=lines)
        case False:
            return Problem(planned.file, harm.what, (path,), lines)
    return Problem(planned.file, harm.what)


def _check_alphas(run: VerifyContext, report: VerifyReport) -> None:
    """Transparencies of tiles that are whole; without its own a tile is made again."""
    for planned in run.plan.tiles:
        if planned.file not in report.whole or not run.plan.settings[planned.variant].recipe.keeps_alpha:
            continue
        path = run.store.alpha_path(planned.file)
        sha256 = run.records[planned.file]["alpha_sha256"]
        harm = run.harm(path, tile_bytes(planned, run.plan), None, sha256)
        if harm is not None:
            report.problems.append(Problem(run.name(path), f"{harm.what}; {MAKES_IT}", (path,) if harm.surely else ()))


def _check_floats(run: VerifyContext, report: VerifyReport) -> None:
    """Those that records vouch for, unless the run wants none any more and they are gone."""
    wanted, unmade = _wants_floats(run.store), 0
    keeps_some = run.store.folder.is_folder(run.store.root / "floats")  # a run from a zip has none
    for planned in run.plan.tiles:
        if planned.file not in report.whole:
            continue
        path, sha256 = run.store.float_path(planned.file), run.records[planned.file]["float_sha256"]
        if sha256 is None or not keeps_some:
            unmade += wanted
            continue
        harm = run.harm(path, tile_bytes(planned, run.plan), None, sha256)
        if harm is not None and (wanted or harm.what != "missing"):
            what = f"{harm.what}; {MAKES_IT}" if wanted else harm.what
            report.problems.append(Problem(run.name(path), what, (path,) if harm.surely else ()))
    if unmade:
        report.notes.append(f"{unmade} float images not made yet")


def _wants_floats(store: Store) -> bool:
    """As its own `config.yaml` says in a line; nothing else of that is read."""
    try:
        text = store.folder.read_if_there(store.root / "config.yaml", TEXT_BYTES) or b""
    except StorageError:
        return False
    return re.search(rb"^float_images: true\s*$", text, re.MULTILINE) is not None


def _check_octaves(run: VerifyContext, report: VerifyReport) -> None:
    """Pictures that are cut short, of tiles that are whole."""
    if not run.store.folder.is_folder(run.store.root / "octaves"):
        return
    whole = [planned for planned in run.plan.tiles if planned.file in report.whole]
    paths = [path for planned in whole for path in run.store.extra_paths(planned, run.plan, ["octaves"])]
    for path in run.store.folder.sizes(paths):
        try:
            with run.store.folder.open(path, PICTURE_BYTES) as file, reading_errors(path):
                is_cut = _end(file, len(PNG_END)) != PNG_END
        except (FileNotFoundError, StorageError) as error:
            report.problems.append(Problem(run.name(path), reason(error, path)))
            continue
        if is_cut:
            report.problems.append(Problem(run.name(path), "cut short", (path,)))


def _end(file: IO[bytes], count: int) -> bytes:
    """The last bytes of a file."""
    file.seek(max(0, file.seek(0, io.SEEK_END) - count))
    return file.read(count)


def _check_vectors(run: VerifyContext, report: VerifyReport) -> None:
    """Of each chunk; the run's own command computes a chunk again whose vectors are gone, and keeps its tiles."""
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
            continue  # a run that has kept none at all, as one from a zip
        except StorageError as error:
            report.problems.append(Problem(run.name(path), reason(error, path)))
            continue
        if not is_whole:
            report.problems.append(Problem(run.name(path), f"damaged; {MAKES_IT}", (path,)))


def _check_examples(run: VerifyContext, report: VerifyReport) -> None:
    """Lines of examples that cannot be read, and tiles that have none."""
    path, start = run.store.root / EXAMPLES, 0
    lacking = {planned.file for planned in run.plan.tiles}
    try:
        for number, (line, found) in enumerate(example_lines(run.store.folder), 1):
            content = line.rstrip(b"\r\n")
            if found is not None:
                lacking.discard(found.tile)
            elif content.strip():
                what, torn = f"line {number} cannot be read; {FINDS_IT}", Line(path, number, start, len(content), None)
                report.problems.append(Problem(EXAMPLES, what, blank=(torn,)))
            start += len(line)
    except StorageError as error:
        report.problems.append(Problem(EXAMPLES, reason(error, path)))
    if start and lacking:
        report.notes.append(f"{len(lacking)} tiles have no examples; {FINDS_IT}")


def _check_derived(run: VerifyContext, report: VerifyReport) -> None:
    """JSON that is made from the run and cannot be read, which another command makes again."""
    store, folder = run.store, run.store.folder
    planes = [store.root / name for name in store.outputs() if name.startswith("alike/") and name.endswith(".json")]
    makers: dict[Path, tuple[Callable[[], object], str]] = {
        store.root / ABOUT_EXAMPLES: (lambda: read_about(folder), FINDS_IT),
        store.example_list: (lambda: _is_list_of_images(store), FINDS_IT),
        **{path: (partial(read_similarity, folder, path), "`featlight alike` makes it again") for path in planes},
    }
    for path, (read, makes_it) in makers.items():
        try:
            if folder.has(path) and not read():
                report.problems.append(Problem(run.name(path), f"cannot be read; {makes_it}", (path,)))
        except StorageError as error:
            report.problems.append(Problem(run.name(path), reason(error, path)))


def _is_list_of_images(store: Store) -> bool:
    """Whether it is two lines, as written; what they say is checked where a pass goes on with them."""
    path = store.example_list
    with store.folder.open(path, RECORDS_BYTES) as file, reading_errors(path):
        lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
        return lines == 2 and _end(file, 2) == b"}\n"


def _check_records(run: VerifyContext, report: VerifyReport) -> None:
    """Torn lines, and lines of tiles that the plan does not name."""
    planned = {tile.file for tile in run.plan.tiles}
    spare = {file for file in run.records.keys() - planned if _is_spare(run, file)}
    for line in run.lines:
        if line.file is None:
            what = "torn"
        elif line.file in planned or line.file in spare:
            continue
        else:
            what = f"of {line.file[:80]!r}, which the plan does not name"
        report.problems.append(Problem(run.name(line.path), f"line {line.number} is {what}", blank=(line,)))
    if spare:
        report.notes.append(
            f"whole tiles that the plan does not name: {len(spare)}, as {min(spare)}; asking for them takes them up"
        )


def _is_spare(run: VerifyContext, file: str) -> bool:
    """Whether a tile that the plan does not name is there and whole, as far as can be told."""
    record = run.records[file]
    if record["status"] == "failed":
        return False
    harm = run.harm(run.store.root / file, PICTURE_BYTES, record["bytes"], record["sha256"])
    return harm is None or (not harm.surely and harm.what != "missing")
