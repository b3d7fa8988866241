"""A run's network as it was given, prepared to attribute the activations of tiles to earlier layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from featlight.config.image_shape import ImageSize
from featlight.config.recipe import Octave, Recipe
from featlight.engine.setup import prepare_model
from featlight.examples.activations import TileQuery
from featlight.examples.scorer import check_objectives, queries_of
from featlight.models.extractor import LayerOutputs, LinkedOutputs
from featlight.models.layers import check_features
from featlight.models.prepared import PreparedNetwork
from featlight.objectives.directions import Directions
from featlight.plan.plan import Plan, PlannedTile
from featlight.plan.sources import Sources, network_config
from featlight.run.network import load_run_network
from featlight.store.store import Store


@dataclass(frozen=True)
class CircuitNetwork:
    """The untouched network of a run, and the layers of its tiles.

    Args:
        network: prepared network, of which only the original is used.
        outputs: outputs of all layers of the run's tiles.
        layers: names of these outputs, in the network's order.
        keys: key of each tile's query, by the tile's file.
        queries: neurons of the tiles' objectives, by key.
        directions: directions whose rows the tiles name; None without such tiles.
        pair: whether the network takes no single image, so that each image is run twice.
        sha256: checksum of the network.
    """

    network: PreparedNetwork
    outputs: LayerOutputs
    layers: tuple[str, ...]
    keys: Mapping[str, str]
    queries: Mapping[str, TileQuery]
    directions: Directions | None
    pair: bool
    sha256: str

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return self.network.device

    def query(self, planned: PlannedTile) -> TileQuery:
        """Return the neurons that a tile's objective selects."""
        return self.queries[self.keys[planned.file]]

    def earlier(self, query: TileQuery) -> list[str]:
        """Return the outputs before the last of a tile's own layers, in the network's order, without its own."""
        own = {term.output for term in query.terms}
        last = max(self.layers.index(name) for name in own)
        return [name for name in self.layers[:last] if name not in own]

    def linked(self, image: Tensor, names: Sequence[str]) -> LinkedOutputs:
        """Run one image, (C, H, W), up to the last of some outputs, with gradients."""
        images = image.to(self.device, self.network.image_dtype)[None]  # (1, C, H, W)
        images = images.repeat(2 if self.pair else 1, 1, 1, 1).requires_grad_(True)
        return self.outputs.subset(names).linked(images)


def load_network(
    store: Store, plan: Plan, sources: Sources, device: torch.device, network: nn.Module | None
) -> CircuitNetwork:
    """Load and prepare the network of a run.

    Args:
        store: store of the run.
        plan: plan of the run.
        sources: allowed model, weights and directions.
        device: device of the network.
        network: network to use instead of loading the run's.

    Raises:
        UsageError: the network differs from the run's.
    """
    check_objectives(store, plan)
    network = load_run_network(store.root, plan, sources, network)
    octaves = tuple(Octave(size=size, steps=1, lr=(0.1, 0.1)) for size in _final_sizes(plan))
    model = prepare_model(network_config(plan, Recipe(octaves)), network, device)
    prepared = model.network
    keys, queries = queries_of(plan, sources.directions)
    used = {term.output for query in queries.values() for term in query.terms}
    check_features(prepared.surveys, sorted(used), model.source.model)
    layers = tuple(name for name in next(iter(prepared.surveys.values())) if name in used)
    outputs = prepared.original(layers)
    pair = not _takes_one(prepared)
    return CircuitNetwork(prepared, outputs, layers, keys, queries, sources.directions, pair, model.sha256)


def _final_sizes(plan: Plan) -> list[ImageSize]:
    return list(dict.fromkeys(settings.recipe.final_size for settings in plan.settings.values()))


def _takes_one(network: PreparedNetwork) -> bool:
    """Return whether the network runs on a single image; some drop the batch dimension then."""
    try:
        with torch.no_grad():
            network.original_network(network.sample[:1].clone())
    except Exception:  # a network may raise anything
        return False
    return True
