"""What a run gave, in Python: images, records, and the labelled grid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from featlight.atlas import Cell, draw_grid
from featlight.errors import UsageError
from featlight.image import to_bytes
from featlight.plan import Planned
from featlight.store import Record, Store


@dataclass(frozen=True)
class Result:
    """Images, one for each tile that was asked for, in that order.

    Args:
        tiles: what was asked for.
        records: one per tile, with name, status, activations and gradient norm; see the README.
        title: of the grid.
        read: gives one image (3, H, W) by its place.
    """

    tiles: Sequence[Planned]
    records: Sequence[Record]
    title: str
    read: Callable[[int], Tensor]

    def __len__(self) -> int:
        return len(self.tiles)

    def __getitem__(self, place: int) -> Tensor:
        """One image, (3, H, W), read when it is asked for."""
        return self.read(range(len(self))[place])

    @property
    def images(self) -> Tensor:
        """All images, (N, 3, H, W), on the CPU, unclipped where the run kept float images.

        Raises:
            UsageError: variants have images of several sizes; take them one by one, as `result[i]`.
        """
        images = [self[i] for i in range(len(self))]
        if len({image.shape for image in images}) != 1:
            raise UsageError("images of several sizes: take them one by one, as result[i]")
        return torch.stack(images)

    def show(self) -> Image.Image:
        """The labelled grid of all images, as Pillow draws it; in a notebook it shows itself."""

        def cell(place: int) -> Cell:
            record, planned = self.records[place], self.tiles[place]
            label = " ".join(filter(None, [planned.tile.label, planned.variant]))
            if record["status"] == "failed":
                return Cell(label, None, f"failed: {record['reason']}")
            mark = f"dead: {record['reason']}" if record["status"] == "dead" else None
            return Cell(label, lambda: Image.fromarray(to_bytes(self[place][None])[0].numpy()), mark)

        return draw_grid([cell(place) for place in range(len(self))], title=self.title)


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
    store = Store(Path(out))
    plan = store.plan()
    if plan is None:
        raise UsageError(f"{out} holds no run")
    made = store.made(plan, plan.tiles)
    tiles = [planned for planned in plan.tiles if planned.file in made]

    def read(place: int) -> Tensor:
        floats = store.float_path(tiles[place].file)
        if floats.is_file():
            return load_file(floats)["image"]
        with Image.open(store.root / tiles[place].file, formats=("PNG",)) as image:
            pixels = torch.from_numpy(np.array(image.convert("RGB")))  # (H, W, 3)
        return pixels.permute(2, 0, 1).float() / 255

    return Result(tiles, list(made.values()), f"{plan.network['model']} {Path(out).name}", read)
