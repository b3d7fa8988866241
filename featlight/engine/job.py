"""A prepared run, and what it makes for a chunk: starting images, pipeline and objective."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from featlight.config.image_shape import ImageSize, shown_channels
from featlight.config.regions import MapSize
from featlight.config.schema import Config
from featlight.config.settings import Settings
from featlight.config.tile import Tile
from featlight.distributed.env import Worker
from featlight.engine.reference_images import with_reference_images
from featlight.engine.step import RenderPipeline, make_pipeline
from featlight.models.extractor import LayerOutputs
from featlight.models.measured import MeasuredOutputs
from featlight.models.prepared import PreparedNetwork
from featlight.objectives.directions import Directions
from featlight.objectives.masks import has_place
from featlight.objectives.objective import Objective, objective_of
from featlight.objectives.own import OwnObjective
from featlight.param.image import own_seed
from featlight.plan.plan import Chunk, Plan, PlannedTile
from featlight.plan.request import RunRequest


@dataclass
class RunJob:
    """A prepared run.

    Args:
        request: config and Python objects of the call.
        worker: this worker.
        network: frozen network, on the device, in the run's precision.
        plan: plan of the run directory, extended by the config's tiles.
        wanted: the config's tiles, in order.
        known: plan found in the run directory; None for a new run.
        directions: directions that tiles refer to; None if tiles refer to features.
        init: starting images given in Python, (C, H, W) or (len(wanted), C, H, W); None for the settings' own.
        caricature: image to caricature given in Python, (C, H, W); None for the settings' own.
    """

    request: RunRequest
    worker: Worker
    network: PreparedNetwork
    plan: Plan
    wanted: list[PlannedTile]
    known: Plan | None
    directions: Directions | None = None
    init: Tensor | None = None
    caricature: Tensor | None = None

    @property
    def config(self) -> Config:
        """The resolved config."""
        return self.request.config

    @property
    def device(self) -> torch.device:
        """The device of the network and the images."""
        return self.network.device

    @cached_property
    def settings(self) -> dict[str, Settings]:
        """The settings of each variant, in which a starting image is a path."""
        return self.config.settings

    @cached_property
    def first_maps(self) -> dict[ImageSize, dict[str, MapSize]]:
        """Map size of each layer at each recipe's first image size; positions refer to it."""
        surveys = self.network.surveys.items()
        return {
            size: {layer.name: layer.map_size for layer in found.values() if layer.refusal is None}
            for size, found in surveys
        }

    @cached_property
    def shown_channels(self) -> Sequence[int]:
        """The channels that pictures show."""
        return shown_channels(self.config.show_channels, self.network.in_channels)

    def start(self, settings: Settings, tiles: Sequence[Tile]) -> str | Tensor:
        """Return the starting images of some tiles: a name, a path, or images given in Python."""
        if self.init is None:
            return settings.init
        return self.init if self.init.ndim == 3 else self.init[[self._places[tile] for tile in tiles]]

    @cached_property
    def _places(self) -> dict[Tile, int]:
        return {planned.tile: i for i, planned in enumerate(self.wanted)}

    def pipeline(self, chunk: Chunk, tiles: Sequence[Tile]) -> RenderPipeline:
        """Make a chunk's recipe ready for a batch of its tiles."""
        settings, network = chunk.settings, self.network
        pipeline = make_pipeline(
            settings.recipe,
            [own_seed(settings.seed, tile) for tile in tiles],
            self.device,
            has_place=has_place(self.first_maps[settings.recipe.first_size], chunk.layers),
            channels=network.in_channels,
            views=network.views(chunk.layers),
            lifts=network.has_smooth,
        )
        init = self.start(settings, tiles)
        look = (network.in_channels, self.device, network.image_dtype, self.caricature)
        return with_reference_images(pipeline, settings, init, tiles, *look)

    def form(self, chunk: Chunk, *, original: bool = False) -> LayerOutputs | MeasuredOutputs:
        """Return the network's form that a chunk is optimized with.

        Args:
            chunk: chunk of the plan.
            original: whether to use a copy of the original network, because the optimized form differs from it.
        """
        if chunk.settings.recipe.regularizers.statistics:
            return self.network.measured(chunk.layers, original=original)
        if original:
            return self.network.original(chunk.layers, copied=True)
        return self.network.optimized(chunk.layers, chunk.features)

    def objective(self, chunk: Chunk, tiles: Sequence[Tile], boxes: int = 1) -> Objective | OwnObjective:
        """Make the objective of a batch of a chunk's tiles, with a number of views of each image."""
        if self.request.objective is not None:
            return OwnObjective(self.request.objective)
        maps = self.first_maps[chunk.settings.recipe.first_size]
        return objective_of(chunk.settings, tiles, maps, self.directions, boxes)
