"""What `benchmarks.pictures` measured, as Markdown, and pictures side by side."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from benchmarks.pictures.judge import Judged
from benchmarks.tables import markdown_table
from featlight.drawing.rows import Row, draw_rows
from featlight.drawing.sheet import Cell
from featlight.param.image import to_bytes

SHOWN = 8  # pictures in a row
TILE = 192  # px
LIKENESS = ("clipped values", "slope of power", "share of color")


def markdown(judged: Judged, photographs: Mapping[str, Mapping[str, float]]) -> str:
    """A table of the pictures of features, and one of those of classes, as far as there are any."""
    tables = []
    features = {name: each["features"] for name, each in judged.numbers.items() if "features" in each}
    if features:
        head = ["", "features", "activation", "robustness", *LIKENESS, "seconds an image"]
        rows = [_feature_row(name, numbers) for name, numbers in features.items()]
        if photographs:
            rows.append(["photographs", str(len(photographs)), "", "", *_likeness(_mean(photographs)), ""])
        tables.append(markdown_table(head, rows))
    classes = {name: each["classes"] for name, each in judged.numbers.items() if "classes" in each}
    if classes:
        others = list(next(iter(classes.values()))["first"])
        ranked = [f"{words}, {other}" for words in ("first", "top five") for other in others]
        rows = [_class_row(name, numbers) for name, numbers in classes.items()]
        tables.append(markdown_table(["", "classes", *ranked, *LIKENESS, "seconds an image"], rows))
    return "\n\n".join("\n".join(lines) for lines in tables) + "\n"


def _feature_row(name: str, numbers: Mapping[str, Any]) -> list[str]:
    reached = [f"{numbers['activation']:.2f}", f"{numbers['robustness']:.2f}"]
    return [name, str(len(numbers["numbers"])), *reached, *_likeness(numbers), f"{numbers['seconds']:.2f}"]


def _class_row(name: str, numbers: Mapping[str, Any]) -> list[str]:
    shares = [f"{100 * share:.0f} %" for key in ("first", "top_five") for share in numbers[key].values()]
    return [name, str(len(numbers["numbers"])), *shares, *_likeness(numbers), f"{numbers['seconds']:.2f}"]


def _likeness(numbers: Mapping[str, float]) -> list[str]:
    return [f"{100 * numbers['clipped']:.1f} %", f"{numbers['slope']:.2f}", f"{100 * numbers['color']:.1f} %"]


def _mean(rows: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {key: sum(row[key] for row in rows.values()) / len(rows) for key in next(iter(rows.values()))}


def sheets(
    judged: Judged, titles: Mapping[str, str], names: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, Image.Image]]:
    """The same features, and the same classes, in every way: a row for each way; with `features` or `classes`.

    Args:
        judged: with pictures.
        titles: of the sheet of features, and of that of classes.
        names: what stands above the columns of each.
    """
    for kind, title in titles.items():
        rows = [
            Row(name, [_cell(image) for image in pictures[kind][:SHOWN]])
            for name, pictures in judged.pictures.items()
            if kind in pictures
        ]
        if rows:
            columns = names[kind][: max(len(row.cells) for row in rows)]
            yield kind, draw_rows(rows, title=title, columns=columns, tile=TILE)


def _cell(image: Tensor) -> Cell:
    """A picture (3, H, W)."""
    return Cell("", lambda: Image.fromarray(to_bytes(image[None])[0].numpy()))
