"""From a run directory to the eyes of its network."""

from hashlib import sha256

import torch
from torch import nn

from featlight.config.inputs.fit import Fit, FitWord
from featlight.config.inputs.sizes import ImageSize, image_size, pixels_of
from featlight.config.recipe import Octave, Recipe
from featlight.config.schema import Config
from featlight.config.validation import check, read
from featlight.distributed.env import Worker
from featlight.engine.device import device_of
from featlight.engine.setup import Model, prepare_model
from featlight.errors import UsageError
from featlight.examples.sight.activations import Looked
from featlight.examples.sight.eyes import Eyes, layers_of
from featlight.models.layers import check_features
from featlight.models.registry import load_model, source_of
from featlight.objectives.directions import Directions, open_directions
from featlight.plan.plan import Plan
from featlight.store.store import Store


def open_eyes(
    store: Store,
    plan: Plan,
    fit: FitWord,
    worker: Worker,
    network: nn.Module | None = None,
    device: torch.device | None = None,
) -> Eyes:
    """Load and prepare the network of a run.

    Args:
        store: of the run.
        plan: of the run.
        fit: how images are brought to it, as asked for.
        worker: whose device it is.
        network: instead of loading the run's.
        device: instead of the run's.

    Raises:
        UsageError: it is another network than the run's, or its layers do not run at that size.
    """
    _refuse_what_no_photograph_answers(store, plan)
    config = _config(store, plan)
    directions = _directions(store, plan, config)
    device = device_of(config.accelerator, worker) if device is None else device
    network = _loaded(store, config) if network is None else network
    settled = settle_fit(fit, network, plan)
    size = _picture_size(plan) if settled.size is None else settled.size
    recipe = Recipe((Octave(size=size, steps=1, lr=(0.1, 0.1)),))
    model = prepare_model(config.model_copy(update={"recipe": recipe, "variants": None}), network, device)
    if model.sha256 != plan.network.sha256:
        raise UsageError(f"--out: {store.root} was made with another network than this {model.source.model}")
    channels = model.network.in_channels
    if channels not in (1, 3):
        raise UsageError(f"--images: {model.source.model} takes images of {channels} channels, and photographs have 3")
    return _eyes(plan, model, settled, size, device, directions)


def _eyes(
    plan: Plan, model: Model, fit: Fit, size: ImageSize, device: torch.device, directions: Directions | None
) -> Eyes:
    looked: dict[str, Looked] = {}
    keys: dict[str, str] = {}
    for planned in plan.tiles:
        shapes = plan.layers_of(planned.variant)
        maps = {name: (shape[1], shape[2]) if len(shape) == 3 else (1, 1) for name, shape in shapes.items()}
        look = Looked.of(planned.tile.terms, maps)
        keys[planned.file] = key = _key(look, directions)
        looked[key] = look
    prepared = model.network
    layers = layers_of(looked)
    check_features(prepared.surveys, layers, model.source.model)
    views = prepared.views(layers)
    return Eyes(
        source=model.source,
        channels=prepared.in_channels,
        fit=fit,
        network=prepared,
        whole=prepared.as_it_is(layers),
        looked=looked,
        keys=keys,
        device=device,
        dtype=prepared.image_dtype,
        view=views.get(size) if fit.size is None else None,
        directions=directions,
    )


def _key(look: Looked, directions: Directions | None) -> str:
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


def _config(store: Store, plan: Plan) -> Config:
    """The config of a run, its network's part as its plan has settled it."""
    path = store.root / "config.yaml"
    if not store.folder.has(path):
        raise UsageError(f"--out: {path} is missing; the run's own command writes it again")
    config = check(read(path), {}).settled()
    settings = next(iter(plan.settings.values()))
    shared = ("normalize", "channels", "in_channels", "prefix_tokens", "precision")
    return config.model_copy(update={key: getattr(settings, key) for key in shared} | {"compile": "off"})


def _refuse_what_no_photograph_answers(store: Store, plan: Plan) -> None:
    settings = plan.settings.values()
    own = next((each.objective for each in settings if each.objective is not None), None)
    if own is not None:
        raise UsageError(
            f"--out: {store.root} follows {own!r}, an objective of one's own; examples are of layers' outputs"
        )
    if any(term.choice == "image" for planned in plan.tiles for term in planned.tile.terms):
        raise UsageError(f"--out: {store.root} holds caricatures of an image; examples are of features and directions")


def _directions(store: Store, plan: Plan, config: Config) -> Directions | None:
    """The dictionary that a run's tiles are rows of.

    Raises:
        UsageError: it is not to be had, or another one by now.
    """
    if plan.directions is None:
        return None
    if config.directions is None:
        raise UsageError(f"--out: {store.root} was made with directions from Python; a file of them is needed")
    found = open_directions(config.directions)
    if found.checksum != next(iter(plan.settings.values())).directions:
        raise UsageError(f"directions: {config.directions} holds others than those that {store.root} was made with")
    return found


def _loaded(store: Store, config: Config) -> nn.Module:
    try:
        layers = {layer: None for shapes in store.need_plan().layers.values() for layer in shapes}
        return load_model(config.model, config.weights, seed=config.seed, layers=tuple(layers))
    except UsageError as error:
        way = "from Python, featlight.find_examples(out, images, network=network) takes any network"
        raise UsageError(f"{error} ({store.root} was made with {config.model!r}; {way})") from None
