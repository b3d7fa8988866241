"""Atlases that show each tile with the three dataset images that excite its feature most."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from PIL import Image

from featlight.config.image_shape import fitted, image_size
from featlight.drawing.atlas import draw_atlas
from featlight.drawing.example_strip import GROUND, SIDE, read_crop
from featlight.drawing.sheet import Cell, Heading
from featlight.report.sections import Section, cell, heading, sections, write_sheets
from featlight.store.example_files import About, Example, beaten, read_about, read_examples
from featlight.store.snapshot import Snapshot

GAP, MARGIN = 2, 5  # px between the four pictures, and around them
PLACES = ((0, 0), (1, 0), (0, 1), (1, 1))  # column and row of the tile, then of the examples, best first


def cells_with_examples(snapshot: Snapshot, section: Section, examples: Mapping[str, Sequence[Example]]) -> list[Cell]:
    """Return the cells of a section, each with the tile and up to three examples in one square.

    Args:
        snapshot: snapshot of the run.
        section: section of the run.
        examples: dataset examples by tile file, best first.
    """
    cells = []
    for planned in section.tiles:
        tile = cell(snapshot, planned)
        path = snapshot.store.example_path(planned.file)
        count = min(len(PLACES) - 1, len(examples.get(planned.file, ())))
        crops = [partial(read_crop, snapshot.store.folder, path, place) for place in range(count)]
        cells.append(replace(tile, open=None if tile.open is None else partial(_square, [tile.open, *crops])))
    return cells


def _square(openers: Sequence[Callable[[], Image.Image]]) -> Image.Image:
    square = Image.new("RGB", (2 * SIDE + GAP + 2 * MARGIN,) * 2, "white")
    for (across, down), open_image in zip(PLACES, openers, strict=False):
        image = open_image()
        height, width = fitted(image_size(image.height, image.width), SIDE)
        small = Image.new("RGB", (SIDE, SIDE), GROUND)
        resized = image.resize((width, height), Image.Resampling.LANCZOS)
        small.paste(resized, ((SIDE - width) // 2, (SIDE - height) // 2))
        square.paste(small, (MARGIN + across * (SIDE + GAP), MARGIN + down * (SIDE + GAP)))
    return square


def heading_with_examples(
    snapshot: Snapshot, section: Section, about: About, examples: Mapping[str, Sequence[Example]]
) -> Heading:
    """Return the heading of a section with examples, which names the dataset."""
    head = heading(snapshot.plan, section)
    source = f"each tile with the three of {about.images:,} images of {about.folder} that excite its feature most"
    ends = {
        planned.file: snapshot.there[planned.file]["activation_end"]
        for planned in section.tiles
        if planned.file in snapshot.there
    }
    more, known = beaten(examples, ends)
    compared = f" · {more} of {known} tiles excite their feature more than any image" if known else ""
    return replace(head, subtitle=f"{head.subtitle} · {source}{compared}")


def draw_with_examples(snapshot: Snapshot) -> list[str]:
    """Draw the atlases of a run with examples, and return the sheets' paths in the run directory."""
    store, examples, about = snapshot.store, read_examples(snapshot.store.folder), read_about(snapshot.store.folder)
    written: list[str] = []
    if about is None:
        return written
    for section in sections(snapshot.plan):
        head = heading_with_examples(snapshot, section, about, examples)
        cells = cells_with_examples(snapshot, section, examples)
        text = {"Title": head.title, "Software": f"featlight {snapshot.plan.versions['featlight']}"}
        sheets = draw_atlas(cells, title=head.title, subtitle=head.subtitle)
        written += write_sheets(store, with_examples(section), sheets, text)
    return written


def with_examples(section: Section) -> str:
    """Return the path of a section's atlas with examples in the run directory."""
    return f"{section.atlas.removesuffix('.png')}.examples.png"
