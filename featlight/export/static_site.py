"""A run as a static site in a zip: the viewer and all that it shows, and the run as a data set."""

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from featlight.export.dataset_card import TABLE, card, table
from featlight.export.for_others import for_others
from featlight.export.webp import Quality, encode_webp
from featlight.report.viewer.data import TILES, tiles_script
from featlight.report.viewer.page import EXAMPLE_SHEETS
from featlight.store.guard.atomic import replacing
from featlight.store.paths import ABOUT_EXAMPLES, ARRAY_BYTES, EXAMPLES
from featlight.store.records import line_of
from featlight.store.snapshot import Snapshot
from featlight.store.store import Store

SHOWN = ("alike", "assets", "atlas", "figures", "vectors")  # folders of what is made from tiles and records
PICTURES = (".png", ".jpg", ".webp", ".gif")  # compressed already
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first that a zip can say; no entry's own, so that the same run gives the same bytes


def write_site(path: Path, snapshot: Snapshot, quality: Quality | None, *, photographs: bool = True) -> int:
    """Write the zip, all at once; one file of the run at a time is held.

    Args:
        path: of the zip.
        snapshot: of the run, whose viewer shows just that.
        quality: of WebP tiles; None for the run's own PNGs.
        photographs: whether the pictures of examples go in.

    Returns:
        How many files are in it.

    Raises:
        FeatlightError: a picture of the run is damaged.
        StorageError: a file of the run cannot be read; no room, or no right to write.
    """
    count = 0
    with replacing(path) as file, zipfile.ZipFile(file, "w") as site:
        for name, content in _files(snapshot, quality, photographs):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # the same on every system
            entry.compress_type = zipfile.ZIP_STORED if name.endswith(PICTURES) else zipfile.ZIP_DEFLATED
            site.writestr(entry, content)
            count += 1
    return count


def encoding(quality: Quality | None) -> str:
    """Of tiles, in words."""
    if quality is None:
        return "lossless PNG"
    return "lossless WebP" if quality == "lossless" else f"WebP at quality {quality}"


def _files(snapshot: Snapshot, quality: Quality | None, photographs: bool) -> Iterator[tuple[str, bytes]]:
    """What the run itself names, by its place in the zip; nothing else that may lie in its directory."""
    store, plan, records = snapshot.store, snapshot.plan, snapshot.records
    suffix = ".png" if quality is None else ".webp"
    yield "README.md", card(snapshot, encoding(quality), suffix, photographs=photographs).encode()
    yield TABLE, table(snapshot, suffix).encode()
    yield from _own(store, ["index.html"])
    yield from for_others(store, plan)
    lines = [line_of(records[planned.file]) + b"\n" for planned in plan.tiles if planned.file in records]
    yield "records/records.jsonl", b"".join(lines)  # of all workers
    outputs = sorted({name for name in store.outputs() if name.partition("/")[0] in SHOWN})
    if not photographs:
        outputs = [name for name in outputs if not PurePosixPath(name).name.startswith(EXAMPLE_SHEETS)]
    for name, content in _own(store, outputs):
        yield name, tiles_script(suffix, photographs=photographs) if name == TILES else content
    examples = [EXAMPLES, ABOUT_EXAMPLES]
    if photographs:
        files = (store.example_path(planned.file) for planned in plan.tiles)
        examples += [path.relative_to(store.root).as_posix() for path in files]
    yield from _own(store, examples)
    for planned in plan.tiles:
        alphas = list(store.parts(planned, plan))[1:] if planned.file in snapshot.there else []
        yield from _own(store, [path.relative_to(store.root).as_posix() for path in alphas])
    for file in snapshot.there:
        if quality is None:
            yield from _own(store, [file])
        else:
            yield (
                PurePosixPath(file).with_suffix(suffix).as_posix(),
                encode_webp(store.folder, store.root / file, quality),
            )
    for planned in plan.tiles:  # also of a tile that is gone
        strip = store.extra_paths(planned, plan, ["octaves"])
        yield from _own(store, [path.relative_to(store.root).as_posix() for path in strip])


def _own(store: Store, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Those files that are there and lie behind no link."""
    there = store.folder.sizes(store.root / name for name in names)
    for path in there:
        yield path.relative_to(store.root).as_posix(), store.folder.read(path, ARRAY_BYTES)
