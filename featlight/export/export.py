"""`featlight export`: a poster, a static site in a zip, WebP tiles, a dataset card."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from featlight.console import format_bytes
from featlight.drawing.sheet import draw_sheet
from featlight.errors import UsageError, plural, unknown
from featlight.export.dataset_card import card
from featlight.export.poster import DPI, MM, PAPERS, encode_poster, lay_out_poster
from featlight.export.sharing import shared_snapshot
from featlight.export.static_site import DRAWN_FOLDERS, Quality, describe_quality, encode_webp, write_site
from featlight.report.atlas_with_examples import cells_with_examples, heading_with_examples
from featlight.report.build import drawn_files
from featlight.report.sections import Section, cell, heading, sections
from featlight.store.example_files import read_about, read_examples
from featlight.store.guard.atomic import replacing
from featlight.store.snapshot import Snapshot, take_snapshot


@dataclass(frozen=True)
class ExportOptions:
    """Requested exports.

    Args:
        poster: path of the poster, `.pdf` or `.png`.
        layer: layer on the poster; None for the run's only one.
        examples: whether the poster shows three examples beside each tile.
        paper: paper size of the poster.
        dpi: pixels per inch of the poster.
        zip: path of the site, `.zip`.
        tiles: format of the site's tiles, "png" or "webp".
        webp: folder for WebP tiles.
        quality: quality of WebP tiles, 1 to 100 or "lossless".
        card: path of the dataset card, `.md`.
        no_photos: whether to leave out everything made from photographs: examples, and tiles that start at a picture
            or show one.
    """

    poster: Path | None = None
    layer: str | None = None
    examples: bool = False
    paper: str = "A2"
    dpi: int = 300
    zip: Path | None = None
    tiles: str = "png"
    webp: Path | None = None
    quality: Quality = 90
    card: Path | None = None
    no_photos: bool = False

    @property
    def site_quality(self) -> Quality | None:
        return self.quality if self.tiles == "webp" else None


def export(out: Path, options: ExportOptions) -> Iterator[str]:
    """Write the requested exports.

    Args:
        out: run directory.
        options: requested exports.

    Yields:
        A line to print about each export.

    Raises:
        UsageError: there is no run, or an option does not fit it; nothing is written.
        FeatlightError: the run is damaged.
        StorageError: a file cannot be read or written.
    """
    _check(out, options)
    whole = take_snapshot(out)
    photographs = not options.no_photos
    snapshot = shared_snapshot(whole, photographs=photographs)
    site_encoding = describe_quality(options.site_quality)
    if not snapshot.there:
        raise UsageError("--no-photos: every tile is made from a photograph (init, caricature); drop it to export them")
    section = None if options.poster is None else _section(snapshot, options.layer)
    if options.poster is not None and section is not None:
        yield _poster(options.poster, snapshot, section, options)
    if options.zip is not None:
        drawn_files(whole.store, whole.plan, DRAWN_FOLDERS)
        files = write_site(options.zip, snapshot, options.site_quality, photographs=photographs)
        yield f"zip     {options.zip}: {_size(options.zip)}, {files} files, tiles as {site_encoding}"
    if options.webp is not None:
        total = _write_webps(options.webp, snapshot, options.quality)
        tiles = f"{plural(len(snapshot.there), 'tile')} as {describe_quality(options.quality)}"
        yield f"WebP    {options.webp}: {format_bytes(total)}, {tiles}"
    if options.card is not None:
        with replacing(options.card) as file:
            file.write(card(snapshot, site_encoding, f".{options.tiles}", photographs=photographs).encode())
        yield f"card    {options.card}: {_size(options.card)}"
    left_out = len(whole.plan.tiles) - len(snapshot.plan.tiles)
    if left_out:
        yield f"note    {plural(left_out, 'tile')} made from a photograph (init, caricature) left out"
    tally = Counter(snapshot.state(planned.file) for planned in snapshot.plan.tiles)
    if tally["missing"] or tally["failed"]:
        yield (
            f"note    {tally['missing']} of {plural(len(snapshot.plan.tiles), 'tile')} are missing "
            f"and {tally['failed']} failed; run the run's own command to make them"
        )


def _check(out: Path, options: ExportOptions) -> None:
    """Check the options that do not depend on the run."""
    for flag, path, suffixes in (
        ("--poster", options.poster, (".pdf", ".png")),
        ("--zip", options.zip, (".zip",)),
        ("--card", options.card, (".md",)),
        ("--webp", options.webp, ()),
    ):
        if path is None:
            continue
        if suffixes and path.suffix not in suffixes:
            raise UsageError(f"{flag}: {str(path)!r} given; its name must end with {' or '.join(suffixes)}")
        if path.resolve().is_relative_to(out.resolve()):
            raise UsageError(f"{flag}: {path} lies in the run directory; give a place outside of it")
        wrong = path.exists() and not path.is_dir() if flag == "--webp" else _is_in_the_way(path)
        if wrong:
            raise UsageError(f"{flag}: {path} is there and is no {'folder' if flag == '--webp' else 'regular file'}")
    if options.no_photos and options.examples:
        raise UsageError("--examples: given with --no-photos, which leaves photographs out; drop one of the two")
    if options.paper not in PAPERS:
        raise UsageError(f"--paper: {unknown('paper', options.paper, PAPERS)}")
    if options.dpi not in DPI:
        raise UsageError(f"--dpi: {options.dpi} given; allowed: {DPI[0]} to {DPI[-1]} pixels per inch")


def _is_in_the_way(path: Path) -> bool:
    """Whether a path holds something other than a regular file."""
    return path.is_symlink() or (path.exists() and not path.is_file())


def _section(snapshot: Snapshot, layer: str | None) -> Section:
    """Return the section of a layer, by the name of its atlas or, if there is only one, by the name of the layer."""
    every = sections(snapshot.plan)
    matching = [section for section in every if layer in (None, section.name, section.layer)]
    if not matching:
        assert layer is not None
        raise UsageError(f"--layer: {unknown('layer', layer, [section.name for section in every], 'in this run')}")
    if len(matching) > 1:
        raise UsageError(f"--layer: a poster shows one of {', '.join(section.name for section in matching)}; name it")
    return matching[0]


def _poster(path: Path, snapshot: Snapshot, section: Section, options: ExportOptions) -> str:
    title = heading(snapshot.plan, section)
    cells = [cell(snapshot, planned) for planned in section.tiles]
    if options.examples:
        about = read_about(snapshot.store.folder)
        if about is None:
            raise UsageError("--examples: the run has none; featlight examples finds them in a folder of images")
        examples = read_examples(snapshot.store.folder)
        title = heading_with_examples(snapshot, section, about, examples)
        cells = cells_with_examples(snapshot, section, examples)
    try:
        sheet = lay_out_poster(cells, title, options.paper, options.dpi)
    except ValueError as error:
        raise UsageError(f"--paper: {error}; give a larger one, or a larger --dpi") from None
    text = {"Title": title.title, "Software": f"featlight {snapshot.plan.versions['featlight']}"}
    content = encode_poster(draw_sheet(sheet), path.suffix, text, options.dpi, snapshot.plan.created)
    with replacing(path) as file:
        file.write(content)
    side = sheet.tile / options.dpi * MM
    orientation = "upright" if sheet.height > sheet.width else "across"
    return f"poster  {path}: {_size(path)}, {section.title} on {options.paper} {orientation}, tiles of {side:.0f} mm"


def _write_webps(folder: Path, snapshot: Snapshot, quality: Quality) -> int:
    """Write the tiles into a folder tree like that of the run; return the number of bytes."""
    total = 0
    for file in snapshot.there:
        path = folder / PurePosixPath(file).relative_to("tiles").with_suffix(".webp")
        if _is_in_the_way(path):
            raise UsageError(f"--webp: {path} is there and is no regular file")
        content = encode_webp(snapshot.store.folder, snapshot.store.root / file, quality)
        with replacing(path) as target:
            target.write(content)
        total += len(content)
    return total


def _size(path: Path) -> str:
    return format_bytes(path.stat().st_size)
