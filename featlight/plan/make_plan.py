"""Make a run's plan from a config, or extend it."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from featlight.config.image_shape import ImageSize, size_key
from featlight.config.normalization import Named, Normalization
from featlight.config.schema import Config
from featlight.errors import UsageError
from featlight.plan.circuit_tiles import check_circuit_figure
from featlight.plan.fingerprint import refuse_other_run, resolve_settings
from featlight.plan.plan import Dictionary, NetworkInfo, Plan, PlannedTile


@dataclass(frozen=True)
class RunFacts:
    """Facts about a run that its config does not hold.

    Args:
        network: name and checksums of the network.
        shapes: shape of each layer's output, (C, H, W) or (C,), by image size (px) and layer.
        order: names of the network's layers, in its order.
        normalize: normalization that replaces `auto`.
        batch_size: batch size that replaces `auto` in a new plan, and in one that has grown from a single chunk.
        threads: CPU threads that replace `auto` in a new plan.
        versions: versions of the packages that affect images.
        init_sha256: checksum of the starting image's pixels by variant; None for a named start.
        caricature_sha256: checksum of the caricature image's pixels by variant.
        directions: directions whose rows the tiles show; None if they show features.
        directions_sha256: checksum of the directions' file.
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
    """Return the plan of a run directory, extended by everything a config requests.

    Args:
        config: resolved config.
        known: plan in the directory, left unchanged; None if there is none.
        wanted: tiles of the config.
        facts: facts about network and machine.

    Raises:
        UsageError: the directory holds tiles of other settings.
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
                f"diversity: {settings.diversity} given, but only {batch_size} images are optimized together; "
                f"give at most {batch_size}, or a larger batch_size"
            )
        resolved = resolve_settings(
            settings,
            plan,
            model=facts.network.model,
            weights_sha256=facts.network.sha256,
            normalize=facts.normalize,
            init_sha256=facts.init_sha256[variant],
            directions=facts.directions_sha256,
            caricature=facts.caricature_sha256.get(variant),
        )
        refuse_other_run(plan, variant, resolved, config.out)
        plan.add_variant(variant, resolved)
    places = {layer: place for place, layer in enumerate(facts.order)}

    def place(layer: str) -> int:
        return places.get(layer, len(places))

    for size, shapes in facts.shapes.items():
        _refuse_other_shapes(config, plan.layers.get(size_key(size), {}), shapes)
        both = plan.layers.get(size_key(size), {}) | dict(shapes)
        plan.layers[size_key(size)] = {layer: both[layer] for layer in sorted(both, key=place)}
    plan.add(wanted, batch_size)
    plan.figure = config.figure
    if plan.figure is not None and plan.figure.kind == "circuit":
        check_circuit_figure(plan, plan.figure)
    plan.directions = plan.directions or facts.directions
    return plan


def _refuse_other_shapes(config: Config, there: Mapping[str, Sequence[int]], now: Mapping[str, Sequence[int]]) -> None:
    """Raise UsageError if the run took another dimension of a layer's output as the features."""
    for layer, shape in now.items():
        before = tuple(there.get(layer, shape))
        if before != tuple(shape):
            raise UsageError(
                f"{config.out} holds tiles of layer {layer!r} with shape {before} (features, height, width), but now "
                f"its shape is {tuple(shape)}; give another --out, or --fresh"
            )
