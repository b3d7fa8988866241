"""A recipe at work on photographs: the image that others are caricatures of, and the starts that they stay near."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from featlight.config.inputs.sizes import image_size
from featlight.config.settings import Settings
from featlight.config.tile import Tile
from featlight.engine.step import RenderPipeline
from featlight.param.image import in_channels, read_image, starting_images


def read_reference(file: str, channels: int) -> Tensor:
    """The image that others are caricatures of, (1, C, H, W), in pixel units.

    Raises:
        UsageError: it cannot be read, or has other channels than the network takes.
    """
    return in_channels(read_image(Path(file), "caricature"), channels, file, "caricature")[None]


def with_reference_images(
    pipeline: RenderPipeline,
    settings: Settings,
    init: str | Tensor,
    tiles: Sequence[Tile],
    channels: int,
    device: torch.device,
    dtype: torch.dtype,
) -> RenderPipeline:
    """The same with the photographs that a run's settings name; itself where they name none.

    Args:
        pipeline: the recipe at work.
        settings: as asked for: with paths.
        init: what the descents of the tiles start from.
        tiles: of the batch.
        channels: of the images.
        device: of the images.
        dtype: of the images.
    """
    if settings.caricature is not None:
        pipeline = replace(pipeline, guide=read_reference(settings.caricature, channels).to(device, dtype))
    if not settings.stay:
        return pipeline

    @lru_cache(maxsize=1)  # an octave's steps share it
    def start(size: tuple[int, int]) -> Tensor:
        return starting_images(init, image_size(*size), settings.seed, list(tiles), channels).to(device, dtype)

    return replace(pipeline, start=start, stay=settings.stay)
