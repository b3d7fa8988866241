"""What a run gave, in Python: images, records, and the labelled grid."""

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

from featlight.config.inputs.channels import shown_channels
from featlight.config.inputs.sizes import both_sides
from featlight.config.user_paths import expanded
from featlight.drawing.atlas import draw_grid, usual_side
from featlight.drawing.sheet import Cell
from featlight.errors import FeatlightError, UsageError, memory_errors
from featlight.image_io import encode_jpeg, laid_on_white
from featlight.param.image import to_bytes
from featlight.plan.plan import Plan, PlannedTile
from featlight.store.contents import read_alpha, read_picture, read_tensors
from featlight.store.example_files import Example, read_examples
from featlight.store.guard.bounds import tile_bytes
from featlight.store.records import TileRecord
from featlight.store.store import Store

NOTEBOOK_WIDTH = 1600  # px, of the grid in a notebook
NOTEBOOK_TILES = 1024  # at most, so that the number under each can still be read
NOTEBOOK_QUALITY = 90  # of its JPEG; a PNG is three times larger, and the notebook's file holds it


def _no_alpha(_: int) -> None:
    return None


def _no_examples() -> Mapping[str, Sequence[Example]]:
    return {}


@dataclass(frozen=True)
class Result:
    """Images, one for each tile that was asked for, in that order.

    Args:
        tiles: what was asked for.
        records: one per tile, with name, status, activations and gradient norm; see the README.
        title: of the grid.
        read: gives one image (C, H, W) by its place.
        read_alpha: gives its transparency (H, W), uint8, by its place; None where it has none.
        show_channels: those of the images that pictures show.
        read_examples: gives the examples of a run's tiles, by file.
    """

    tiles: Sequence[PlannedTile]
    records: Sequence[TileRecord]
    title: str
    read: Callable[[int], Tensor]
    read_alpha: Callable[[int], Tensor | None] = _no_alpha
    show_channels: Literal["auto"] | Sequence[int] = "auto"
    read_examples: Callable[[], Mapping[str, Sequence[Example]]] = _no_examples

    def __len__(self) -> int:
        return len(self.tiles)

    @memory_errors()
    def __getitem__(self, place: int) -> Tensor:
        """One image, (C, H, W), read when it is asked for."""
        return self.read(range(len(self))[place])

    @property
    @memory_errors()
    def images(self) -> Tensor:
        """All images, (N, C, H, W), on the CPU, unclipped where the run kept float images.

        Raises:
            UsageError: variants have images of several sizes; take them one by one, as `result[i]`.
        """
        images = [self[i] for i in range(len(self))]
        if len({image.shape for image in images}) != 1:
            raise UsageError("images of several sizes: take them one by one, as result[i]")
        return torch.stack(images)

    @property
    @memory_errors()
    def alphas(self) -> Tensor | None:
        """How opaque each place of each image is, (N, H, W), from 0, clear, to 1; on the CPU.

        None where no image has a transparency; beside others, one without any is opaque.

        Raises:
            UsageError: variants have images of several sizes.
        """
        found = [self.read_alpha(place) for place in range(len(self))]
        if all(alpha is None for alpha in found):
            return None
        opaque = torch.full((1, 1), 255, dtype=torch.uint8, device="cpu")
        known = [opaque.expand(self[place].shape[1:]) if alpha is None else alpha for place, alpha in enumerate(found)]
        if len({alpha.shape for alpha in known}) != 1:
            raise UsageError("images of several sizes: take their transparencies one by one, as result.read_alpha(i)")
        return torch.stack(known).float() / 255

    @property
    @memory_errors()
    def examples(self) -> list[Sequence[Example]]:
        """Of each tile the images of a data set that excite it most, best first, each with `file`, `value` and `box`.

        `featlight.find_examples` and `featlight examples` find them; none of a tile for which nobody has.
        """
        found = self.read_examples()
        return [found.get(planned.file, ()) for planned in self.tiles]

    @memory_errors()
    def show(self) -> Image.Image:
        """The labelled grid of all images, as Pillow draws it; in a notebook the result shows it by itself."""
        return draw_grid([self._cell(place) for place in range(len(self))], title=self.title)

    def _cell(self, place: int) -> Cell:
        record, planned = self.records[place], self.tiles[place]
        label = " ".join(filter(None, [planned.label, planned.variant]))
        if record["status"] == "failed":
            return Cell(label, None, f"failed: {record['reason']}")
        mark = f"dead: {record['reason']}" if record["status"] == "dead" else None
        return Cell(label, lambda: self._picture(place), mark)

    def _picture(self, place: int) -> Image.Image:
        """What is shown of an image: on white where it has a transparency."""
        image, alpha = self[place], self.read_alpha(place)
        picture = Image.fromarray(to_bytes(image[None], shown_channels(self.show_channels, len(image)))[0].numpy())
        return picture if alpha is None else laid_on_white(picture, Image.fromarray(alpha.numpy()))

    def __repr__(self) -> str:
        return f"<{self.title}: {self._counts()}>"

    def _counts(self) -> str:
        states = [record["status"] for record in self.records]
        tiles = f"{len(self)} tile{'' if len(self) == 1 else 's'}"
        return f"{tiles}, {states.count('dead')} dead, {states.count('failed')} failed"

    def _repr_html_(self) -> str:
        """What a notebook shows: the grid, scaled down to its width, and how many tiles are dead or failed.

        Images are read one at a time, so a large result takes a while, but no memory.
        """
        counts = escape(self._counts())
        if not self.tiles:
            return f"<p>{escape(self.title)}: {counts}</p>"
        cells = [self._cell(place) for place in range(min(len(self), NOTEBOOK_TILES))]
        if len(cells) < len(self):
            counts += f"; here are the first {len(cells)}, and show() draws all"
        # a few tell the size of all, and need not be read twice
        side = usual_side(cells[:16])
        grid = draw_grid(cells, title=self.title, tile=side, width_limit=NOTEBOOK_WIDTH)
        data = base64.b64encode(encode_jpeg(grid, NOTEBOOK_QUALITY, full_color=True)).decode()
        image = f'<img alt="{escape(self.title)}" style="max-width: 100%" src="data:image/jpeg;base64,{data}">'
        return f'<figure style="margin: 0">{image}<figcaption>{counts}</figcaption></figure>'


@memory_errors()
def open_run(out: str | Path) -> Result:
    """A run directory, its images read as they are asked for.

    Args:
        out: the directory.

    Returns:
        Every tile that is there, in the plan's order: float32 and unclipped where the run kept float images, else
        what its PNG shows, in steps of 1/255.

    Raises:
        UsageError: there is no run.
    """
    store = Store(expanded(out))
    plan = store.need_plan()
    made = store.made(plan, plan.tiles)
    tiles = [planned for planned in plan.tiles if planned.file in made]
    return result_of(store, tiles, f"{plan.network.model} {Path(out).name}")


def result_of(store: Store, tiles: Sequence[PlannedTile], title: str) -> Result:
    """Some tiles of a run directory, those that failed among them as images of NaN.

    Args:
        store: of the run.
        tiles: with a record each.
        title: of the grid.
    """
    records, plan = store.records(), store.need_plan()
    kept = any(store.folder.has(store.float_path(planned.file)) for planned in tiles)
    of_run = store, plan, tiles, {planned.file: records[planned.file]["status"] for planned in tiles}
    read, alpha = partial(_image, *of_run, kept=kept), partial(_alpha, *of_run)
    # a picture of a run that kept no float images shows the chosen channels already
    shown = next(iter(plan.settings.values())).show_channels if kept else "auto"
    examples = partial(read_examples, store.folder)
    return Result(tiles, [records[planned.file] for planned in tiles], title, read, alpha, shown, examples)


def _image(
    store: Store, plan: Plan, tiles: Sequence[PlannedTile], statuses: Mapping[str, str], place: int, *, kept: bool
) -> Tensor:
    """One image of a run, (C, H, W): float where the run kept float images, else its picture's."""
    planned, channels = tiles[place], plan.network.in_channels
    floats = store.float_path(planned.file)
    if statuses[planned.file] == "failed":
        size = both_sides(plan.settings[planned.variant].recipe.final_size)
        return torch.full((channels if kept else 3, *size), torch.nan, dtype=torch.float32, device="cpu")
    if store.folder.has(floats):
        image = read_tensors(store.folder, floats, tile_bytes(planned, plan)).get("image")
        if image is None or image.shape[:1] != (channels,) or image.ndim != 3:
            raise FeatlightError(f"{floats}: it holds no image; delete it, and the same call makes it again")
        return torch.tensor(image, device="cpu")
    pixels = torch.from_numpy(np.array(read_picture(store.folder, store.root / planned.file)))  # (H, W, 3)
    return pixels.permute(2, 0, 1).float() / 255


def _alpha(
    store: Store, plan: Plan, tiles: Sequence[PlannedTile], statuses: Mapping[str, str], place: int
) -> Tensor | None:
    """One image's transparency, (H, W), uint8; None where it has none."""
    planned = tiles[place]
    path, *rest = store.parts(planned, plan)
    if not rest or statuses[planned.file] == "failed":
        return None
    return torch.from_numpy(np.array(read_alpha(store.folder, rest[0], read_picture(store.folder, path).size)))
