"""Log features from any training loop."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from featlight.config.normalization import Normalization
from featlight.config.recipe import Recipe
from featlight.engine.device import device_named
from featlight.errors import UsageError
from featlight.training.drawer import FeatureDrawer, LayerPicture
from featlight.training.loggers import write_file


def log_features(
    network: nn.Module,
    layer: Any,
    features: Any,
    *,
    writer: Any,
    step: int,
    previous: Sequence[LayerPicture] = (),
    recipe: Recipe | str | None = None,
    normalize: Normalization | Mapping[str, Sequence[float]] | Literal["auto", "none", "weights"] = "auto",
    device: str | torch.device | None = None,
) -> list[LayerPicture]:
    """Draw features of a network in training, and log them as `featlight.FeatureMonitor` does.

    Args:
        network: network, which is left unchanged.
        layer: layer as `featlight.visualize` takes it; a name may leave out the attribute that holds the network.
        features: features as `featlight.visualize` takes them.
        writer: TensorBoard's SummaryWriter, or a folder for PNG files.
        step: step of the training.
        previous: result of the last call, for the similarity to it.
        recipe: recipe or its name; None for a short one.
        normalize: normalization as `featlight.visualize` takes it.
        device: device of the drawing; None for that of the network's parameters.

    Returns:
        A picture per layer, with `layer`, `atlas` (a Pillow image), `scalars`, and `similarities` by feature.

    Raises:
        UsageError: an argument is invalid, or the features cannot be drawn.
    """
    if not isinstance(writer, str | Path) and not hasattr(writer, "add_image"):
        raise UsageError(f"writer: a {type(writer).__name__} given; allowed: a SummaryWriter, or a folder")
    first = next(network.parameters(), torch.empty(0, device="cpu"))
    place = first.device if device is None else device_named(device)
    drawer = FeatureDrawer(layer, features, recipe=recipe, normalize=normalize)
    drawer.check(network, place)
    before = {each.tile.file: each for picture in previous for each in picture.drawn}
    pictures = drawer.pictures(drawer.draw(network, place, drawer.tiles), f"step {step}", before)
    for picture in pictures:
        if isinstance(writer, str | Path):
            write_file(Path(writer), picture.layer, picture.atlas, step)
            continue
        writer.add_image(f"features/{picture.layer}", np.asarray(picture.atlas), step, dataformats="HWC")
        for name, value in picture.scalars.items():
            writer.add_scalar(f"features/{picture.layer}/{name}", value, step)
    return pictures
