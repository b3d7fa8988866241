"""A run as a static site in a zip: the viewer with all its files, and the run as a dataset."""

import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

from PIL import ExifTags, Image

from featlight.export.dataset_card import TABLE, card, table
from featlight.export.sharing import shared_circuits, shared_examples, shared_settings
from featlight.report.atlas_with_examples import draw_with_examples, with_examples
from featlight.report.build import draw_atlases, drawn_by, state_of
from featlight.report.viewer.page import viewer_files
from featlight.store.contents import read_picture
from featlight.store.example_files import read_about, read_answers
from featlight.store.guard.atomic import replacing
from featlight.store.guard.drawn import PAGE
from featlight.store.guard.run_folder import RunFolder
from featlight.store.paths import ARRAY_BYTES
from featlight.store.records import line_of
from featlight.store.snapshot import Snapshot
from featlight.store.store import Store

Quality = int | Literal["lossless"]
WEBP_METHOD = 4  # of libwebp, from 0 (fastest) to 6 (smallest)
DRAWN_FOLDERS = ("alike", "assets", "atlas", "figures", "vectors")  # made from tiles and records
COMPRESSED = (".png", ".jpg", ".webp", ".gif")
EPOCH = (1980, 1, 1, 0, 0, 0)  # earliest date of a zip, for all entries: the same run gives the same bytes


def write_site(path: Path, snapshot: Snapshot, quality: Quality | None, *, photographs: bool = True) -> int:
    """Write the zip atomically, with one file of the run in memory at a time.

    Args:
        path: path of the zip.
        snapshot: shared snapshot of the run.
        quality: quality of WebP tiles; None for PNG tiles.
        photographs: whether to include examples.

    Returns:
        Number of files in the zip.

    Raises:
        FeatlightError: a picture of the run is damaged.
        StorageError: a file cannot be read or written.
    """
    count = 0
    with replacing(path) as file, zipfile.ZipFile(file, "w") as site:
        for name, content in _files(snapshot, quality, photographs):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # the same on every system
            entry.compress_type = zipfile.ZIP_STORED if name.endswith(COMPRESSED) else zipfile.ZIP_DEFLATED
            site.writestr(entry, content)
            count += 1
    return count


def describe_quality(quality: Quality | None) -> str:
    """Return the description of tiles of a quality; None stands for PNG."""
    if quality is None:
        return "lossless PNG"
    return "lossless WebP" if quality == "lossless" else f"WebP at quality {quality}"


def encode_webp(folder: RunFolder, path: Path, quality: Quality) -> bytes:
    """Encode a tile as WebP, with its provenance in the EXIF tags ImageDescription and Software.

    Args:
        folder: run directory.
        path: path of the tile's PNG.
        quality: 1 to 100, or "lossless".

    Raises:
        FeatlightError: the PNG cannot be read.
    """
    picture = read_picture(folder, path)
    exif = Image.Exif()
    for tag, keyword in ((ExifTags.Base.ImageDescription, "featlight"), (ExifTags.Base.Software, "Software")):
        if keyword in picture.info:
            exif[tag] = picture.info[keyword]
    options = {"lossless": True} if quality == "lossless" else {"quality": quality}
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", method=WEBP_METHOD, exif=exif, **options)
    return buffer.getvalue()


def _files(snapshot: Snapshot, quality: Quality | None, photographs: bool) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file of the zip; only files listed here are exported."""
    store, plan, records = snapshot.store, snapshot.plan, snapshot.records
    suffix = ".png" if quality is None else ".webp"
    yield "README.md", card(snapshot, describe_quality(quality), suffix, photographs=photographs).encode()
    yield TABLE, table(snapshot, suffix).encode()
    yield from shared_settings(store, plan, photographs=photographs)
    lines = [line_of(records[planned.file]) + b"\n" for planned in plan.tiles if planned.file in records]
    yield "records/records.jsonl", b"".join(lines)
    examples = read_answers(store.folder) if photographs and read_about(store.folder) is not None else {}
    atlases, outputs = draw_atlases(snapshot, examples), store.outputs()
    figure_names = store.drawn.names(drawn_by(), ["figures"]) or []
    figures = [] if plan.figure is None else [name for name in outputs if name in figure_names and name != PAGE]
    similar = [atlas.section for atlas in atlases if atlas.similarity is not None]
    state = state_of(snapshot, examples=bool(examples))
    yield from viewer_files(
        snapshot, atlases, [*figures, *(section.similarity_picture for section in similar)], examples, state, suffix
    )
    yield from _read(store, [*(name for atlas in atlases for name in atlas.pictures), *figures])
    yield from _read(store, [section.similarity_table for section in similar])
    yield from _read(store, [f"vectors/{atlas.section.name}.npy" for atlas in atlases if atlas.vectors is not None])
    yield from shared_circuits(store, plan)
    if examples:
        yield from shared_examples(store, plan)
        if with_examples(atlases[0].section) in outputs:
            yield from _read(store, draw_with_examples(snapshot))
        yield from _read(store, [_name(store, store.example_path(p.file)) for p in plan.tiles if p.file in examples])
    for planned in plan.tiles:
        alphas = list(store.parts(planned, plan))[1:] if planned.file in snapshot.there else []
        yield from _read(store, [_name(store, path) for path in alphas])
    for file in snapshot.there:
        if quality is None:
            yield from _read(store, [file])
        else:
            name = PurePosixPath(file).with_suffix(suffix).as_posix()
            yield name, encode_webp(store.folder, store.root / file, quality)
    for planned in plan.tiles:  # also of missing tiles
        yield from _read(store, [_name(store, path) for path in store.extra_paths(planned, plan, ["octaves"])])


def _name(store: Store, path: Path) -> str:
    return path.relative_to(store.root).as_posix()


def _read(store: Store, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the existing files; links are skipped."""
    for path in store.folder.sizes(store.root / name for name in names):
        yield path.relative_to(store.root).as_posix(), store.folder.read(path, ARRAY_BYTES)
