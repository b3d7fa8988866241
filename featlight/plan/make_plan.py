"""A run's plan, made or extended by what a config asks for."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from featlight.config.inputs.sizes import ImageSize, size_key
from featlight.config.normalization import Named, Normalization
from featlight.config.schema import Config
from featlight.errors import UsageError
from featlight.plan.fingerprint import refuse_other_run, resolve_settings
from featlight.plan.plan import Dictionary, NetworkInfo, Plan, PlannedTile


@dataclass(frozen=True)
class RunFacts:
    """What a config alone does not tell of a run.

    Args:
        network: which one.
        shapes: by image size (px) and layer, the shape of an output: (C, H, W) or (C,).
        order: of the network's layers.
        normalize: what `auto` means for this network and these recipes.
        batch_size: what `auto` means for a new plan, and for one that has grown from a single chunk.
        threads: likewise, on a CPU.
        versions: of what the images depend on, by package.
        init_sha256: by variant, the checksum of its starting image's pixels; None for a start by name.
        caricature_sha256: by variant, the checksum of the pixels of the image that tiles are caricatures of.
        directions: that tiles are rows of; None where they are features.
        directions_sha256: checksum of their file.
    """

    network: NetworkInfo
    shapes: Mapping[ImageSize, Mapping[str, tuple[int, ...]]]
    order: Sequence[str]
    normalize: Normalization | Named
    batch_size: int
    threads: int
    versions: Mapping[str, str]
    init_sha256: Mapping[str, str | None]
    caricature_sha256: Mapping[str, str | None] = field(default_factory=dict)
    directions: Dictionary | None = None
    directions_sha256: str | None = None


def make_plan(config: Config, known: Plan | None, wanted: Sequence[PlannedTile], facts: RunFacts) -> Plan:
    """The plan of a run directory with all that a config asks for.

    Args:
        config: settled.
        known: the plan that the directory holds; None where it holds none. It is not changed.
        wanted: the config's tiles.
        facts: of the network and this machine.

    Raises:
        UsageError: the directory holds tiles that were made otherwise.
    """
    if known is None:
        plan = Plan(
            created=datetime.date.today().isoformat(),
            network=facts.network,
            batch_size=facts.batch_size if config.batch_size == "auto" else config.batch_size,
            threads=facts.threads if config.threads == "auto" else config.threads,
            versions=dict(facts.versions),
        )
    else:
        plan = known.copy()
    has_few = len(plan.tiles) <= plan.largest_batch  # its batch may be as small as it is for want of tiles
    batch_size = facts.batch_size if has_few and config.batch_size == "auto" else plan.largest_batch
    for variant, settings in config.settings.items():
        if settings.diversity > batch_size:
            raise UsageError(
                f"diversity: {settings.diversity} given; {batch_size} images are optimised together (batch_size), "
                "and the faces of a feature must be among these"
            )
        settled = resolve_settings(
            settings,
            plan,
            model=facts.network.model,
            weights_sha256=facts.network.sha256,
            normalize=facts.normalize,
            init_sha256=facts.init_sha256[variant],
            directions=facts.directions_sha256,
            caricature=facts.caricature_sha256.get(variant),
        )
        refuse_other_run(plan, variant, settled, config.out)
        plan.add_variant(variant, settled)
    places = {layer: place for place, layer in enumerate(facts.order)}

    def place(layer: str) -> int:
        return places.get(layer, len(places))

    for size, shapes in facts.shapes.items():
        _refuse_other_shapes(config, plan.layers.get(size_key(size), {}), shapes)
        both = plan.layers.get(size_key(size), {}) | dict(shapes)
        plan.layers[size_key(size)] = {layer: both[layer] for layer in sorted(both, key=place)}
    plan.add(wanted, batch_size)
    plan.figure = config.figure
    plan.directions = plan.directions or facts.directions
    return plan


def _refuse_other_shapes(config: Config, there: Mapping[str, Sequence[int]], now: Mapping[str, Sequence[int]]) -> None:
    """Raise UsageError where a run has taken another dimension of a layer's output for the feature."""
    for layer, shape in now.items():
        before = tuple(there.get(layer, shape))
        if before != tuple(shape):
            raise UsageError(
                f"{config.out} holds tiles of layer {layer!r} as {before} (features, height, width), and now it is "
                f"{tuple(shape)}: what was made there shows something else; give another --out, or --fresh"
            )
