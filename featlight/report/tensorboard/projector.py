"""Files of a layer for TensorBoard's projector: the vector, the metadata and a small picture of each tile."""

import io
import re
from collections.abc import Sequence
from math import ceil, sqrt

import numpy as np
from PIL import Image

from featlight.drawing.sprite_sheet import SmallTiles
from featlight.image_io import encode_jpeg
from featlight.report.sections import Atlas
from featlight.store.store import Store

FOLDER, CONFIG = "tensorboard", "projector_config.pbtxt"
MOST_POINTS = 5000  # the projector's UMAP takes no more, and a browser with more is slow
LARGEST, SPRITE = 64, 4096  # px, maximum side of a point's picture and of the sprite; TensorBoard takes up to 8192

# the projector's configuration of one layer
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


def is_own_config(content: bytes) -> bool:
    """Return whether `write_projector` could have written a configuration, which names only files beside it."""
    name, side = r"[^\s\"'\\:]+", r"\d+"
    pattern = re.escape(_EMBEDDING.format(name="NAME", side="SIDE")).replace("NAME", name).replace("SIDE", side)
    leads_out = re.search(rb'[/"]\.\.[/"]', content)
    return leads_out is None and re.fullmatch(f"(?:{pattern})*".encode(), content) is not None


def write_projector(store: Store, atlases: Sequence[Atlas]) -> None:
    """Write the projector's files of all atlases with vectors, and the configuration that lists them.

    Raises:
        StorageError: the files cannot be written.
    """
    config = ""
    for atlas in atlases:
        if atlas.vectors is None:
            continue
        present = np.flatnonzero(np.isfinite(atlas.vectors).all(1))
        if len(present):
            evenly = np.linspace(0, len(present) - 1, min(len(present), MOST_POINTS)).round().astype(int)
            config += _write(store, atlas, present[evenly].tolist())
    store.write_output(f"{FOLDER}/{CONFIG}", config.encode())


def _write(store: Store, atlas: Atlas, chosen: Sequence[int]) -> str:
    assert atlas.vectors is not None
    name = atlas.section.name
    folder = f"{FOLDER}/projector/{name}"
    lines = io.StringIO()
    np.savetxt(lines, atlas.vectors[chosen], fmt="%.3g", delimiter="\t")
    store.write_output(f"{folder}/vectors.tsv", lines.getvalue().encode())
    table = ["tile\tstatus\tactivation before\tactivation after"]
    for i in chosen:
        record = atlas.records[i]
        assert record is not None
        values = (record["activation_start"], record["activation_end"])
        numbers = ("" if value is None else f"{value:.4g}" for value in values)
        # TensorBoard labels points with the first column that is not numeric
        table.append("\t".join([f"{name} {atlas.cells[i].label}", record["status"], *numbers]))
    store.write_output(f"{folder}/tiles.tsv", ("\n".join(table) + "\n").encode())
    columns, side = square(len(chosen))
    small = SmallTiles(store, atlas.section.assets, len(atlas.cells))
    sprite = _sprite([small[i] for i in chosen], columns, side)
    store.write_output(f"{folder}/sprite.jpg", encode_jpeg(sprite, 85))
    return _EMBEDDING.format(name=name, side=side)


def square(points: int) -> tuple[int, int]:
    """Return the number of columns of a square sprite with so many points, and the side of each picture in pixels."""
    columns = max(1, ceil(sqrt(points)))
    return columns, min(LARGEST, SPRITE // columns)


def _sprite(pictures: Sequence[Image.Image], columns: int, side: int) -> Image.Image:
    """Draw the pictures of the points row by row."""
    sheet = Image.new("RGB", (columns * side, -(-len(pictures) // columns) * side), "white")
    for i, picture in enumerate(pictures):
        row, column = divmod(i, columns)
        sheet.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (column * side, row * side))
    return sheet
