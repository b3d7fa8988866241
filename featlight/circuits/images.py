"""The final images of a run's tiles, as the network takes them."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from featlight.config.image_shape import shown_channels
from featlight.errors import UsageError
from featlight.plan.plan import Plan, PlannedTile
from featlight.store.contents import read_float_image, read_picture
from featlight.store.guard.bounds import tile_bytes
from featlight.store.store import Store

ImageKind = Literal["float", "png"]


def image_kind(store: Store, planned: PlannedTile) -> ImageKind:
    """Return whether the run kept a tile's float image, or only its picture."""
    return "float" if store.folder.has(store.float_path(planned.file)) else "png"


def final_image(store: Store, plan: Plan, planned: PlannedTile) -> tuple[Tensor, ImageKind]:
    """Return the final image of a tile in pixel units, (C, H, W), and where it comes from.

    Raises:
        UsageError: the picture does not show all channels of the image.
        FeatlightError: the file is damaged.
    """
    channels = plan.network.in_channels
    if image_kind(store, planned) == "float":
        path = store.float_path(planned.file)
        return torch.tensor(read_float_image(store.folder, path, tile_bytes(planned, plan), channels)), "float"
    shown = list(shown_channels(plan.settings[planned.variant].show_channels, channels))
    if sorted(shown) != list(range(channels)):
        raise UsageError(
            f"--out: {store.root} keeps only pictures, which show {len(shown)} of {channels} channels; make the run "
            "with --float-images"
        )
    pixels = torch.from_numpy(np.array(read_picture(store.folder, store.root / planned.file)))  # (H, W, 3)
    picture = pixels.permute(2, 0, 1).double() / 255
    places = [shown.index(channel) for channel in range(channels)]
    return picture[places], "png"
