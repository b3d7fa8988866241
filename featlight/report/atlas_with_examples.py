"""Atlases in which each picture stands with the three images of a data set that excite its feature most."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from PIL import Image

from featlight.config.inputs.sizes import fitted, image_size
from featlight.drawing.atlas import draw_atlas
from featlight.drawing.example_strip import GROUND, SIDE, read_crop
from featlight.drawing.sheet import Cell, Heading
from featlight.report.sections import Section, cell, heading, sections
from featlight.report.sheets import write_sheets
from featlight.store.example_files import About, Example, beaten, read_about, read_examples
from featlight.store.snapshot import Snapshot

GAP, MARGIN = 2, 5  # px between the four, and around them
PLACES = ((0, 0), (1, 0), (0, 1), (1, 1))  # of the picture, and of the examples, best first


def cells_with_examples(snapshot: Snapshot, section: Section, examples: Mapping[str, Sequence[Example]]) -> list[Cell]:
    """The cells of a section, each picture with up to three examples in one square.

    Args:
        snapshot: of the run.
        section: of it.
        examples: by the tile's file, best first.
    """
    found = []
    for planned in section.tiles:
        own = cell(snapshot, planned)
        path = snapshot.store.example_path(planned.file)
        count = min(len(PLACES) - 1, len(examples.get(planned.file, ())))
        crops = [partial(read_crop, snapshot.store.folder, path, place) for place in range(count)]
        opens = None if own.open is None else partial(_square, [own.open, *crops])
        found.append(replace(own, open=opens))
    return found


def _square(opens: Sequence[Callable[[], Image.Image]]) -> Image.Image:
    square = Image.new("RGB", (2 * SIDE + GAP + 2 * MARGIN,) * 2, "white")
    for (across, down), open_it in zip(PLACES, opens, strict=False):
        image = open_it()
        height, width = fitted(image_size(image.height, image.width), SIDE)
        small = Image.new("RGB", (SIDE, SIDE), GROUND)
        resized = image.resize((width, height), Image.Resampling.LANCZOS)
        small.paste(resized, ((SIDE - width) // 2, (SIDE - height) // 2))
        square.paste(small, (MARGIN + across * (SIDE + GAP), MARGIN + down * (SIDE + GAP)))
    return square


def heading_with_examples(
    snapshot: Snapshot, section: Section, about: About, examples: Mapping[str, Sequence[Example]]
) -> Heading:
    """What stands above them: also what the examples were looked for among."""
    words = heading(snapshot.plan, section)
    said = f"the picture, and the three of {about.images:,} images of {about.folder} that excite it most"
    ends = {
        planned.file: snapshot.there[planned.file]["activation_end"]
        for planned in section.tiles
        if planned.file in snapshot.there
    }
    more, known = beaten(examples, ends)
    compared = f" · {more} of {known} pictures excite it more than any image" if known else ""
    return replace(words, subtitle=f"{words.subtitle} · {said}{compared}")


def draw_with_examples(snapshot: Snapshot) -> list[str]:
    """Draw the atlases of a run with examples; returns the paths of the sheets from the run directory."""
    store, examples, about = snapshot.store, read_examples(snapshot.store.folder), read_about(snapshot.store.folder)
    written: list[str] = []
    if about is None:
        return written
    for section in sections(snapshot.plan):
        words = heading_with_examples(snapshot, section, about, examples)
        cells = cells_with_examples(snapshot, section, examples)
        text = {"Title": words.title, "Software": f"featlight {snapshot.plan.versions['featlight']}"}
        sheets = draw_atlas(cells, title=words.title, subtitle=words.subtitle)
        written += write_sheets(store, with_examples(section), sheets, text)
    return written


def with_examples(section: Section) -> str:
    """Where the atlas of a section with examples is, in the run directory."""
    return f"{section.atlas.removesuffix('.png')}.examples.png"
