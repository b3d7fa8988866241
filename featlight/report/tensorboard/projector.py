"""What TensorBoard's projector needs of a layer: a point for every tile, where its vector puts it, shown as itself."""

import io
from collections.abc import Sequence
from math import ceil, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from featlight.drawing.sprite_sheet import small_tiles
from featlight.store.store import Record, Store

FOLDER = "tensorboard"
MOST_POINTS = 5000  # UMAP lays out no more, and a browser with all of them is slow
LARGEST, SPRITE = 64, 4096  # px, side of a point's picture and of all of them; TensorBoard takes 8192 at most

# of one layer, in the words of the projector's configuration
_EMBEDDING = """\
embeddings {{
  tensor_name: "{name}"
  tensor_path: "projector/{name}/vectors.tsv"
  metadata_path: "projector/{name}/tiles.tsv"
  sprite {{
    image_path: "projector/{name}/sprite.jpg"
    single_image_dim: {side}
    single_image_dim: {side}
  }}
}}
"""


class Points(NamedTuple):
    """The tiles of one atlas.

    Args:
        name: of the atlas.
        small: where the viewer's small tiles are, from the run directory, without number and suffix.
        labels: of the tiles.
        records: of the tiles; empty where there is none.
        vectors: their mean activations, (tiles, features); NaN where there are none.
    """

    name: str
    small: str
    labels: Sequence[str]
    records: Sequence[Record]
    vectors: "np.ndarray[Any, Any]"


def write_projector(store: Store, layers: Sequence[Points]) -> None:
    """Write the points of all atlases, and the configuration that names them.

    Raises:
        StorageError: no room, or no right to write.
    """
    config = ""
    for points in layers:
        there = np.flatnonzero(np.isfinite(points.vectors).all(1))
        if len(there):
            evenly = np.linspace(0, len(there) - 1, min(len(there), MOST_POINTS)).round().astype(int)
            config += _write(store, points, there[evenly].tolist())
    store.write_output(f"{FOLDER}/projector_config.pbtxt", config.encode())


def _write(store: Store, points: Points, chosen: Sequence[int]) -> str:
    folder = f"{FOLDER}/projector/{points.name}"
    lines = io.StringIO()
    np.savetxt(lines, points.vectors[chosen], fmt="%.3g", delimiter="\t")
    store.write_output(f"{folder}/vectors.tsv", lines.getvalue().encode())
    table = ["tile\tstatus\tactivation before\tactivation after"]
    for i in chosen:
        record = points.records[i]
        before, after = (f"{record[key]:.4g}" for key in ("activation_start", "activation_end"))
        # TensorBoard shows the first column that is no number, unless it is asked for another one
        table.append("\t".join([f"{points.name} {points.labels[i]}", record["status"], before, after]))
    store.write_output(f"{folder}/tiles.tsv", ("\n".join(table) + "\n").encode())
    columns, side = square(len(chosen))
    store.write_output(f"{folder}/sprite.jpg", _sprite(store.root, points, set(chosen), columns, side))
    return _EMBEDDING.format(name=points.name, side=side)


def square(points: int) -> tuple[int, int]:
    """How many pictures stand in a row where so many fill a square, and the side of each in pixels."""
    columns = max(1, ceil(sqrt(points)))
    return columns, min(LARGEST, SPRITE // columns)


def _sprite(root: Path, points: Points, chosen: set[int], columns: int, side: int) -> bytes:
    """The pictures of the points, row by row, as JPEG."""
    sheet = Image.new("RGB", (columns * side, -(-len(chosen) // columns) * side), "white")
    every = enumerate(small_tiles(root, points.small, len(points.labels)))
    for place, small in enumerate(small for i, small in every if i in chosen):
        row, column = divmod(place, columns)
        sheet.paste(small.resize((side, side), Image.Resampling.LANCZOS), (column * side, row * side))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
