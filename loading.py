"""From a run directory to the scorer of its network."""

from hashlib import sha256

import torch
from torch import nn

from featlight.config.inputs.fit import Fit, FitWord
from featlight.config.inputs.sizes import ImageSize, image_size, pixels_of
from featlight.config.recipe import Octave, Recipe
from featlight.distributed.env import Worker
from featlight.engine.device import device_of
from featlight.engine.setup import LoadedNetwork, prepare_model
from featlight.errors import UsageError
from featlight.examples.scoring.activations import TileQuery
from featlight.examples.scoring.scorer import ActivationScorer, layers_of
from featlight.models.catalog import source_of
from featlight.models.layers import check_features
from featlight.objectives.directions import Directions
from featlight.plan.plan import Plan
from featlight.plan.sources import TypedSources, network_config, sources_of
from featlight.run.network import load_run_network
from featlight.store.store import Store


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
        store: of the run.
        plan: of the run.
        fit: how images are brought to it, as asked for.
        typed: sources of the network that the user has typed.
        worker: whose device it is.
        network: instead of loading the run's.
        device: instead of the first that there is.

    Raises:
        UsageError: it is another network than the run's, or its layers do not run at that size.
    """
    sources = sources_of(store.root, plan, typed, given=network is not None)
    _refuse_what_no_photograph_answers(store, plan)
    device = device_of("auto", worker) if device is None else device
    network = load_run_network(store.root, plan, sources, network)
    settled = settle_fit(fit, network, plan)
    size = _picture_size(plan) if settled.size is None else settled.size
    recipe = Recipe((Octave(size=size, steps=1, lr=(0.1, 0.1)),))
    model = prepare_model(network_config(plan, recipe), network, device)
    channels = model.network.in_channels
    if channels not in (1, 3):
        raise UsageError(f"--images: {model.source.model} takes images of {channels} channels, and photographs have 3")
    return _scorer(plan, model, settled, size, device, sources.directions)


def _scorer(
    plan: Plan, model: LoadedNetwork, fit: Fit, size: ImageSize, device: torch.device, directions: Directions | None
) -> ActivationScorer:
    queries: dict[str, TileQuery] = {}
    keys: dict[str, str] = {}
    for planned in plan.tiles:
        shapes = plan.layers_of(planned.variant)
        maps = {name: (shape[1], shape[2]) if len(shape) == 3 else (1, 1) for name, shape in shapes.items()}
        look = TileQuery.of(planned.tile.terms, maps)
        keys[planned.file] = key = _key(look, directions)
        queries[key] = look
    prepared = model.network
    layers = layers_of(queries)
    check_features(prepared.surveys, layers, model.source.model)
    views = prepared.views(layers)
    return ActivationScorer(
        source=model.source,
        channels=prepared.in_channels,
        fit=fit,
        network=prepared,
        whole=prepared.folded(layers),
        queries=queries,
        keys=keys,
        device=device,
        dtype=prepared.image_dtype,
        view=views.get(size) if fit.size is None else None,
        directions=directions,
    )


def _key(look: TileQuery, directions: Directions | None) -> str:
    rows = directions is not None and any(term.direction == "row" for term in look.terms)
    along = directions.checksum if directions is not None and rows else None
    return sha256(repr((look, along)).encode()).hexdigest()[:16]


def settle_fit(fit: FitWord, network: nn.Module, plan: Plan) -> Fit:
    """How images are brought to a network: `auto` as it was trained, or where nobody knows, at the pictures' size."""
    if fit == "none":
        return Fit()
    if fit != "auto":
        return Fit(fit)
    source = source_of(network)
    if source.size is not None:
        return Fit(image_size(*source.size), source.resize, source.interpolation)
    return Fit(_picture_size(plan))


def _picture_size(plan: Plan) -> ImageSize:
    """Of a run's largest pictures."""
    return max((settings.recipe.final_size for settings in plan.settings.values()), key=pixels_of)


def _refuse_what_no_photograph_answers(store: Store, plan: Plan) -> None:
    settings = plan.settings.values()
    own = next((each.objective for each in settings if each.objective is not None), None)
    if own is not None:
        raise UsageError(
            f"--out: {store.root} follows {own!r}, an objective of one's own; examples are of layers' outputs"
        )
    if any(term.choice == "image" for planned in plan.tiles for term in planned.tile.terms):
        raise UsageError(f"--out: {store.root} holds caricatures of an image; examples are of features and directions")
