"""A run's network, prepared to score images: the activation of every tile on a batch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from featlight.config.image_shape import Fit, FitWord, ImageSize, image_size, pixels_of, size_words
from featlight.config.recipe import Octave, Recipe
from featlight.distributed.env import Worker
from featlight.engine.device import device_of
from featlight.engine.setup import prepare_model
from featlight.errors import UsageError
from featlight.examples.activations import Activations, TileQuery
from featlight.models.catalog import source_of
from featlight.models.extractor import LayerOutputs
from featlight.models.layers import check_features
from featlight.models.prepared import PreparedNetwork
from featlight.objectives.directions import Directions
from featlight.param.image import resize
from featlight.plan.plan import Plan
from featlight.plan.sources import TypedSources, network_config, sources_of
from featlight.run.network import load_run_network
from featlight.store.store import Store

MOST_AUTOMATIC = 1024 * 1024  # pixels of an image at a size that only the plan names


@dataclass(frozen=True)
class ActivationScorer:
    """A prepared network and the queries of a run's tiles.

    Args:
        channels: channels of the images, 1 or 3.
        fit: fit of every image.
        network: prepared network.
        whole: outputs of all layers of the run's tiles.
        queries: different queries of the tiles, by key.
        keys: key of each tile's query, by the tile's file.
        device: device of the network.
        dtype: dtype of the images.
        input_size: size that every unfitted image is resized to; None if the network takes any size or a fit is set.
        directions: directions whose rows the tiles name; None without such tiles.
    """

    channels: int
    fit: Fit
    network: PreparedNetwork
    whole: LayerOutputs
    queries: Mapping[str, TileQuery]
    keys: Mapping[str, str]
    device: torch.device
    dtype: torch.dtype
    input_size: ImageSize | None
    directions: Directions | None = None

    @cached_property
    def layers(self) -> list[str]:
        """Names of the outputs that the queries read."""
        return _output_names(self.queries)

    @cached_property
    def activations(self) -> Activations:
        """Activations of all queries, in order."""
        return Activations(list(self.queries.values()), self.device, self.directions)

    @cached_property
    def preparation(self) -> str:
        """Checksum of everything in the preparation that depends on which layers are read and changes output bits."""
        folds = self.network.folds_at(self.layers)
        views = self.network.views(self.layers)
        # an unfitted image that one layer refuses is skipped for all layers
        layers = sorted(self.layers) if self.fit.size is None else None
        return sha256(repr((folds, views, self.whole.format, layers)).encode()).hexdigest()[:16]

    def subset(self, keys: Iterable[str]) -> "ActivationScorer":
        """Return a scorer of some queries, in the order of the keys."""
        return replace(self, queries={key: self.queries[key] for key in keys})

    def pixels(self, images: Sequence[Any]) -> Tensor:
        """Stack decoded images of one size into the network's input before normalization, (N, C, H, W)."""
        stacked = torch.stack([torch.from_numpy(image) for image in images]).to(self.device)  # (N, H, W, C), uint8
        x = stacked.permute(0, 3, 1, 2).to(self.dtype).contiguous() / 255
        return x if self.input_size is None else resize(x, self.input_size, antialias=True)

    def truncated_at(self, output: str) -> LayerOutputs:
        """Return the network up to one output."""
        # an optimized graph may hold the input sizes that it was traced with
        return self.network.folded([output]) if self.fit.size is None else self.network.optimized([output])

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return every output that the queries read, (N, C, H, W), without gradients."""
        with torch.no_grad():
            return self._outputs(pixels)

    @cached_property
    def _outputs(self) -> LayerOutputs:
        return self.whole if self.fit.size is None else self.whole.subset(self.layers)


def load_scorer(
    store: Store,
    plan: Plan,
    fit: FitWord,
    typed: TypedSources,
    worker: Worker,
    network: nn.Module | None = None,
    device: torch.device | None = None,
) -> ActivationScorer:
    """Load and prepare the network of a run.

    Args:
        store: store of the run.
        plan: plan of the run.
        fit: requested fit of the images.
        typed: sources of the network that the user has typed.
        worker: worker whose device is used.
        network: network to use instead of loading the run's.
        device: device to use instead of the first available one.

    Raises:
        UsageError: the network differs from the run's, or its layers cannot process images of this size.
    """
    sources = sources_of(store.root, plan, typed, given=network is not None)
    check_objectives(store, plan)
    device = device_of("auto", worker) if device is None else device
    network = load_run_network(store.root, plan, sources, network)
    resolved = resolve_fit(fit, network, plan)
    size = _sample_size(plan) if resolved.size is None else resolved.size
    recipe = Recipe((Octave(size=size, steps=1, lr=(0.1, 0.1)),))
    model = prepare_model(network_config(plan, recipe), network, device)
    prepared = model.network
    if prepared.in_channels not in (1, 3):
        raise UsageError(
            f"--images: {model.source.model} takes images of {prepared.in_channels} channels, "
            "and photographs have 3; use a network of 1 or 3 channels"
        )
    keys, queries = queries_of(plan, sources.directions)
    layers = _output_names(queries)
    check_features(prepared.surveys, layers, model.source.model)
    return ActivationScorer(
        channels=prepared.in_channels,
        fit=resolved,
        network=prepared,
        whole=prepared.folded(layers),
        queries=queries,
        keys=keys,
        device=device,
        dtype=prepared.image_dtype,
        input_size=prepared.views(layers).get(size) if resolved.size is None else None,
        directions=sources.directions,
    )


def resolve_fit(fit: FitWord, network: nn.Module, plan: Plan) -> Fit:
    """Return the fit of images; `auto` is the fit of training if known, else the size of the run's largest tiles."""
    if fit == "none":
        return Fit()
    if fit != "auto":
        return Fit(fit)
    source = source_of(network)
    if source.size is not None:
        return Fit(image_size(*source.size), source.resize, source.interpolation)
    size = _tile_size(plan)
    if pixels_of(size) > MOST_AUTOMATIC:
        raise UsageError(
            f"--fit: auto given, and the run's tiles have {size_words(size)} px, too many for every image; "
            "type a size, for example --fit 512"
        )
    return Fit(size)


def queries_of(plan: Plan, directions: Directions | None) -> tuple[dict[str, str], dict[str, TileQuery]]:
    """Return the key of each tile's query by the tile's file, and each query by its key."""
    keys: dict[str, str] = {}
    queries: dict[str, TileQuery] = {}
    for planned in plan.tiles:
        shapes = plan.layers_of(planned.variant)
        maps = {name: (shape[1], shape[2]) if len(shape) == 3 else (1, 1) for name, shape in shapes.items()}
        query = TileQuery.from_terms(planned.tile.terms, maps)
        keys[planned.file] = key = query_key(query, directions)
        queries[key] = query
    return keys, queries


def query_key(query: TileQuery, directions: Directions | None) -> str:
    has_rows = directions is not None and any(term.direction == "row" for term in query.terms)
    checksum = directions.checksum if directions is not None and has_rows else None
    # keys are on disk: this text is the same in all versions, whatever the class is called
    text = f"Looked(terms={query.terms!r}, first_maps={query.first_maps!r})"
    return sha256(f"({text}, {checksum!r})".encode()).hexdigest()[:16]


def _output_names(queries: Mapping[str, TileQuery]) -> list[str]:
    return list(dict.fromkeys(term.output for query in queries.values() for term in query.terms))


def _tile_size(plan: Plan) -> ImageSize:
    """Return the size of the run's largest tiles."""
    return max((settings.recipe.final_size for settings in plan.settings.values()), key=pixels_of)


def _sample_size(plan: Plan) -> ImageSize:
    """Return the size of the images that the network is surveyed with if images keep their sizes."""
    size = _tile_size(plan)
    return size if pixels_of(size) <= MOST_AUTOMATIC else 512


def check_objectives(store: Store, plan: Plan) -> None:
    """Raise UsageError if an image has no activation under one of the run's objectives without more data."""
    custom = next((each.objective for each in plan.settings.values() if each.objective is not None), None)
    if custom is not None:
        raise UsageError(
            f"--out: {store.root} follows {custom!r}, a custom objective; "
            "give a run whose tiles show features or directions"
        )
    if any(term.measure.needs_image for planned in plan.tiles for term in planned.tile.terms):
        raise UsageError(
            f"--out: {store.root} holds caricatures of an image; give a run whose tiles show features or directions"
        )
