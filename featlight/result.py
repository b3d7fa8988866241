"""The result of a run in Python: images, records, and the labeled grid."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from featlight.config.image_shape import both_sides, shown_channels
from featlight.config.user_text import expanded
from featlight.drawing.atlas import draw_grid, usual_side
from featlight.drawing.sheet import Cell
from featlight.errors import UsageError, memory_errors, plural
from featlight.image_io import encode_jpeg, laid_on_white
from featlight.param.image import to_bytes
from featlight.plan.plan import Plan, PlannedTile
from featlight.store.circuit_files import TileCircuit, read_circuits
from featlight.store.contents import read_alpha, read_float_image, read_picture
from featlight.store.example_files import Example, read_examples
from featlight.store.guard.bounds import tile_bytes
from featlight.store.records import TileRecord
from featlight.store.store import Store

NOTEBOOK_WIDTH = 1600  # px, width of the grid in a notebook
NOTEBOOK_TILES = 1024  # shown at most, so that labels stay readable
NOTEBOOK_QUALITY = 90  # of the JPEG in the notebook's file; a PNG is three times larger


@dataclass(frozen=True)
class Result:
    """The images of the requested tiles, in order.

    Args:
        tiles: requested tiles.
        records: record of each tile, with name, status, activations and gradient norm.
        title: title of the grid.
        read: function from a tile's position to its image (C, H, W).
        read_alpha: function from a tile's position to its transparency (H, W), uint8, or None.
        show_channels: channels that pictures show.
        read_examples: function that returns the dataset examples by tile file.
        read_circuits: function that returns the circuits by tile file.
    """

    tiles: Sequence[PlannedTile]
    records: Sequence[TileRecord]
    title: str
    read: Callable[[int], Tensor]
    read_alpha: Callable[[int], Tensor | None] = lambda _: None
    show_channels: Literal["auto"] | Sequence[int] = "auto"
    read_examples: Callable[[], Mapping[str, Sequence[Example]]] = dict
    read_circuits: Callable[[], Mapping[str, TileCircuit]] = dict

    def __len__(self) -> int:
        return len(self.tiles)

    @memory_errors()
    def __getitem__(self, place: int) -> Tensor:
        """Read one image, (C, H, W)."""
        return self.read(range(len(self))[place])

    @property
    @memory_errors()
    def images(self) -> Tensor:
        """Return all images, (N, C, H, W), on the CPU; unclipped if the run kept float images.

        Raises:
            UsageError: the images have several sizes; read them one by one with `result[i]`.
        """
        images = [self[i] for i in range(len(self))]
        if len({image.shape for image in images}) != 1:
            raise UsageError("the images have several sizes; read them one by one with result[i]")
        return torch.stack(images)

    @property
    @memory_errors()
    def alphas(self) -> Tensor | None:
        """Return the opacity of each image, (N, H, W), from 0 (transparent) to 1, on the CPU; None if all are opaque.

        Raises:
            UsageError: the images have several sizes; read the maps one by one with `result.read_alpha(i)`.
        """
        maps = [self.read_alpha(place) for place in range(len(self))]
        if all(alpha is None for alpha in maps):
            return None
        opaque = torch.full((1, 1), 255, dtype=torch.uint8, device="cpu")
        full = [opaque.expand(self[place].shape[1:]) if alpha is None else alpha for place, alpha in enumerate(maps)]
        if len({alpha.shape for alpha in full}) != 1:
            raise UsageError("the images have several sizes; read their opacity one by one with result.read_alpha(i)")
        return torch.stack(full).float() / 255

    @property
    @memory_errors()
    def examples(self) -> list[Sequence[Example]]:
        """Return each tile's dataset examples, best first, each with `file`, `value` and `box`.

        `featlight.find_examples` and `featlight examples` find them; until then there are none.
        """
        by_file = self.read_examples()
        return [by_file.get(planned.file, ()) for planned in self.tiles]

    @property
    @memory_errors()
    def circuits(self) -> list[TileCircuit | None]:
        """Return each tile's circuit: its `parts` are the strongest features of each earlier layer.

        `featlight.find_circuits` and `featlight circuits` find them; until then there are none.
        """
        by_file = self.read_circuits()
        return [by_file.get(planned.file) for planned in self.tiles]

    @memory_errors()
    def show(self) -> Image.Image:
        """Return the labeled grid of all images; a notebook displays the result as this grid."""
        return draw_grid([self._cell(place) for place in range(len(self))], title=self.title)

    def _cell(self, place: int) -> Cell:
        record, planned = self.records[place], self.tiles[place]
        label = " ".join(filter(None, [planned.label, planned.variant]))
        if record["status"] == "failed":
            return Cell(label, None, f"failed: {record['reason']}")
        mark = f"dead: {record['reason']}" if record["status"] == "dead" else None
        return Cell(label, lambda: self._picture(place), mark)

    def _picture(self, place: int) -> Image.Image:
        """Return the picture of an image; transparent parts are white."""
        image, alpha = self[place], self.read_alpha(place)
        picture = Image.fromarray(to_bytes(image[None], shown_channels(self.show_channels, len(image)))[0].numpy())
        return picture if alpha is None else laid_on_white(picture, Image.fromarray(alpha.numpy()))

    def __repr__(self) -> str:
        return f"<{self.title}: {self._counts()}>"

    def _counts(self) -> str:
        states = [record["status"] for record in self.records]
        return f"{plural(len(self), 'tile')}, {states.count('dead')} dead, {states.count('failed')} failed"

    def _repr_html_(self) -> str:
        """Return a notebook's display: the grid, scaled to fit, and the number of dead and failed tiles.

        Images are read one at a time, so a large result needs time, but not memory.
        """
        counts = escape(self._counts())
        if not self.tiles:
            return f"<p>{escape(self.title)}: {counts}</p>"
        cells = [self._cell(place) for place in range(min(len(self), NOTEBOOK_TILES))]
        if len(cells) < len(self):
            counts += f"; here are the first {len(cells)}, and show() draws all"
        # a few cells are enough for the size; others are read only once
        side = usual_side(cells[:16])
        grid = draw_grid(cells, title=self.title, tile=side, width_limit=NOTEBOOK_WIDTH)
        data = base64.b64encode(encode_jpeg(grid, NOTEBOOK_QUALITY, full_color=True)).decode()
        image = f'<img alt="{escape(self.title)}" style="max-width: 100%" src="data:image/jpeg;base64,{data}">'
        return f'<figure style="margin: 0">{image}<figcaption>{counts}</figcaption></figure>'


@memory_errors()
def open_run(out: str | Path) -> Result:
    """Open a run directory; images are read on access.

    Args:
        out: run directory.

    Returns:
        All finished tiles in the plan's order: float32 and unclipped if the run kept float images, else the PNG's
        values, in steps of 1/255.

    Raises:
        UsageError: there is no run.
    """
    store = Store(expanded(out))
    plan = store.need_plan()
    made = store.made(plan, plan.tiles)
    tiles = [planned for planned in plan.tiles if planned.file in made]
    return result_of(store, tiles, f"{plan.network.model} {Path(out).name}")


def result_of(store: Store, tiles: Sequence[PlannedTile], title: str) -> Result:
    """Return the result of some tiles of a run; the images of failed tiles are NaN.

    Args:
        store: store of the run.
        tiles: tiles with a record.
        title: title of the grid.
    """
    records, plan = store.records(), store.need_plan()
    kept = any(store.folder.has(store.float_path(planned.file)) for planned in tiles)
    of_run = store, plan, tiles, {planned.file: records[planned.file]["status"] for planned in tiles}
    read, alpha = partial(_image, *of_run, kept=kept), partial(_alpha, *of_run)
    # the PNGs of a run without float images have the selected channels already
    shown = next(iter(plan.settings.values())).show_channels if kept else "auto"
    added = partial(read_examples, store.folder), partial(read_circuits, store.folder, plan)
    return Result(tiles, [records[planned.file] for planned in tiles], title, read, alpha, shown, *added)


def _image(
    store: Store, plan: Plan, tiles: Sequence[PlannedTile], statuses: Mapping[str, str], place: int, *, kept: bool
) -> Tensor:
    """Return one image of a run, (C, H, W): its float image if the run kept it, else its PNG."""
    planned, channels = tiles[place], plan.network.in_channels
    floats = store.float_path(planned.file)
    if statuses[planned.file] == "failed":
        size = both_sides(plan.settings[planned.variant].recipe.final_size)
        return torch.full((channels if kept else 3, *size), torch.nan, dtype=torch.float32, device="cpu")
    if store.folder.has(floats):
        image = read_float_image(store.folder, floats, tile_bytes(planned, plan), channels)
        return torch.tensor(image, device="cpu")
    pixels = torch.from_numpy(np.array(read_picture(store.folder, store.root / planned.file)))  # (H, W, 3)
    return pixels.permute(2, 0, 1).float() / 255


def _alpha(
    store: Store, plan: Plan, tiles: Sequence[PlannedTile], statuses: Mapping[str, str], place: int
) -> Tensor | None:
    """Return one image's transparency, (H, W), uint8, or None."""
    planned = tiles[place]
    path, *rest = store.parts(planned, plan)
    if not rest or statuses[planned.file] == "failed":
        return None
    return torch.from_numpy(np.array(read_alpha(store.folder, rest[0], read_picture(store.folder, path).size)))
