"""What leaves a run: a poster, a site in a zip, WebP tiles, a card. Nothing is made that the run does not hold."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from featlight.console import format_bytes
from featlight.drawing.sheet import draw_sheet
from featlight.errors import UsageError, unknown
from featlight.export.dataset_card import card
from featlight.export.for_others import for_others
from featlight.export.poster import DPI, PAPERS, encode_poster, lay_out_poster
from featlight.export.static_site import SHOWN, encoding, write_site
from featlight.export.webp import Quality, encode_webp
from featlight.report.atlas_with_examples import cells_with_examples, heading_with_examples
from featlight.report.build import drawn_files
from featlight.report.sections import Section, cell, heading, sections
from featlight.store.example_files import read_about, read_examples
from featlight.store.guard.atomic import replacing
from featlight.store.snapshot import Snapshot, take_snapshot


@dataclass(frozen=True)
class ExportOptions:
    """What is to be exported.

    Args:
        poster: a `.pdf` or `.png` file.
        layer: of the poster; None where the run has one alone.
        examples: whether each picture on the poster stands with its three best examples.
        paper: of the poster.
        dpi: of the poster.
        zip: a `.zip` file.
        tiles: of the zip, "png" or "webp".
        webp: a folder of WebP tiles.
        quality: of WebP tiles: from 1 to 100, or "lossless".
        card: a `.md` file.
        no_photos: whether everything that is made from a photograph is left out: examples, and tiles that start at or
            show a picture of the user's.
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


def export(out: Path, wish: ExportOptions) -> Iterator[str]:
    """Write what is wished for.

    Args:
        out: the run directory.
        wish: what, and where to.

    Yields:
        A line for people about each thing that was written.

    Raises:
        UsageError: there is no run, or a wish that does not fit it, before anything is written.
        FeatlightError: the run is damaged.
        StorageError: no room, or no right to write.
    """
    _check(out, wish)
    whole = take_snapshot(out)
    snapshot = for_others(whole, photographs=not wish.no_photos)
    if not snapshot.there:
        raise UsageError("--no-photos: every tile is made from a photograph (init, caricature); drop it to export them")
    section = None if wish.poster is None else _chosen(snapshot, wish.layer)
    if wish.poster is not None and section is not None:
        yield _poster(wish.poster, snapshot, section, wish)
    if wish.zip is not None:
        drawn_files(whole.store, whole.plan, SHOWN)
        files = write_site(wish.zip, snapshot, wish.site_quality, photographs=not wish.no_photos)
        yield f"zip     {wish.zip}: {_size(wish.zip)}, {files} files, tiles as {encoding(wish.site_quality)}"
    if wish.webp is not None:
        total = _write_webps(wish.webp, snapshot, wish.quality)
        yield f"WebP    {wish.webp}: {format_bytes(total)}, {_tiles(len(snapshot.there))} as {encoding(wish.quality)}"
    if wish.card is not None:
        with replacing(wish.card) as file:
            file.write(
                card(snapshot, encoding(wish.site_quality), f".{wish.tiles}", photographs=not wish.no_photos).encode()
            )
        yield f"card    {wish.card}: {_size(wish.card)}"
    left_out = len(whole.plan.tiles) - len(snapshot.plan.tiles)
    if left_out:
        yield f"note    {_tiles(left_out)} made from a photograph (init, caricature) left out"
    tally = Counter(snapshot.state(planned.file) for planned in snapshot.plan.tiles)
    if tally["missing"] or tally["failed"]:
        yield (
            f"note    {tally['missing']} of {_tiles(len(snapshot.plan.tiles))} are missing "
            f"and {tally['failed']} failed; "
            "the run's own command makes them"
        )


def _check(out: Path, wish: ExportOptions) -> None:
    """What can be told before anything of the run is read."""
    for flag, path, suffixes in (
        ("--poster", wish.poster, (".pdf", ".png")),
        ("--zip", wish.zip, (".zip",)),
        ("--card", wish.card, (".md",)),
        ("--webp", wish.webp, ()),
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
    if wish.no_photos and wish.examples:
        raise UsageError("--examples: given with --no-photos, which leaves photographs out; drop one of the two")
    if wish.paper not in PAPERS:
        raise UsageError(f"--paper: {unknown('paper', wish.paper, PAPERS)}")
    if wish.dpi not in DPI:
        raise UsageError(f"--dpi: {wish.dpi} given; allowed: {DPI[0]} to {DPI[-1]} pixels per inch")


def _is_in_the_way(path: Path) -> bool:
    """Whether something stands at a path that may not be overwritten."""
    return path.is_symlink() or (path.exists() and not path.is_file())


def _chosen(snapshot: Snapshot, layer: str | None) -> Section:
    """The section of a layer, by the name of its atlas, or by the layer's own where it is in one alone."""
    every = sections(snapshot.plan)
    found = [section for section in every if layer in (None, section.name, section.layer)]
    if not found:
        assert layer is not None
        raise UsageError(f"--layer: {unknown('layer', layer, [section.name for section in every], 'in this run')}")
    if len(found) > 1:
        raise UsageError(f"--layer: a poster shows one of {', '.join(section.name for section in found)}; name it")
    return found[0]


def _poster(path: Path, snapshot: Snapshot, section: Section, wish: ExportOptions) -> str:
    words = heading(snapshot.plan, section)
    cells = [cell(snapshot, planned) for planned in section.tiles]
    if wish.examples:
        about = read_about(snapshot.store.folder)
        if about is None:
            raise UsageError("--examples: the run has none; featlight examples finds them in a folder of images")
        examples = read_examples(snapshot.store.folder)
        words = heading_with_examples(snapshot, section, about, examples)
        cells = cells_with_examples(snapshot, section, examples)
    try:
        sheet = lay_out_poster(cells, words, wish.paper, wish.dpi)
    except ValueError as error:
        raise UsageError(f"--paper: {error}; give a larger one, or a larger --dpi") from None
    text = {"Title": words.title, "Software": f"featlight {snapshot.plan.versions['featlight']}"}
    content = encode_poster(draw_sheet(sheet), path.suffix, text, wish.dpi, snapshot.plan.created)
    with replacing(path) as file:
        file.write(content)
    side = sheet.tile / wish.dpi * 25.4
    way = "upright" if sheet.height > sheet.width else "across"
    return f"poster  {path}: {_size(path)}, {section.title} on {wish.paper} {way}, tiles of {side:.0f} mm"


def _write_webps(folder: Path, snapshot: Snapshot, quality: Quality) -> int:
    """Write the tiles as the tree of names that they are; returns their bytes."""
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


def _tiles(count: int) -> str:
    return f"{count} tile{'' if count == 1 else 's'}"
