"""The reference images of a pipeline: the caricatured image, and the starting images that results stay near."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from featlight.config.image_shape import image_size
from featlight.config.settings import Settings
from featlight.config.tile import Tile
from featlight.engine.step import RenderPipeline
from featlight.param.image import in_channels, read_image, starting_images


def read_reference(file: str, channels: int, given: Tensor | None = None) -> Tensor:
    """Read the image to caricature, (1, C, H, W), in pixel units; or return the one given instead, (C, H, W).

    Raises:
        UsageError: the file cannot be read, or its channels do not fit the network.
    """
    if given is not None:
        return given[None]
    return in_channels(read_image(Path(file), "caricature"), channels, file, "caricature")[None]


def with_reference_images(
    pipeline: RenderPipeline,
    settings: Settings,
    init: str | Tensor,
    tiles: Sequence[Tile],
    channels: int,
    device: torch.device,
    dtype: torch.dtype,
    caricature: Tensor | None = None,
) -> RenderPipeline:
    """Add the reference images that a run's settings name to a pipeline.

    Args:
        pipeline: pipeline without reference images.
        settings: settings of the run, with paths to images.
        init: name, path or tensor of the starting images.
        tiles: tiles of the batch.
        channels: number of channels of the images.
        device: device of the images.
        dtype: data type of the images.
        caricature: image to caricature, (C, H, W), instead of the settings' file.
    """
    if settings.caricature is not None:
        reference = read_reference(settings.caricature, channels, caricature)
        pipeline = replace(pipeline, reference=reference.to(device, dtype))
    if not settings.stay:
        return pipeline

    @lru_cache(maxsize=1)  # an octave's steps share it
    def start(size: tuple[int, int]) -> Tensor:
        return starting_images(init, image_size(*size), settings.seed, list(tiles), channels).to(device, dtype)

    return replace(pipeline, start=start, stay=settings.stay)
