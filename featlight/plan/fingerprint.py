"""What the bits of a tile hang on, and the refusal to mix tiles that were made otherwise."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from featlight.config.recipe import Recipe
from featlight.config.schema import Config
from featlight.errors import UsageError
from featlight.plan.plan import Plan, Settings

# What all variants of a run share, as its network is loaded once
RUN_KEYS = ("model", "weights", "normalize", "precision", "batch_size", "threads", "compile")


def fingerprint(
    way: Settings, config: Config, plan: Plan, *, weights_sha256: str, init_sha256: str | None
) -> dict[str, Any]:
    """All that the bits of a tile hang on, besides the tile itself, by config key.

    Args:
        way: in which the tile is made.
        config: settled.
        plan: what it has settled stands for the config's `auto`.
        weights_sha256: checksum of the network's state.
        init_sha256: checksum of a natural start's pixels; None for a start by name.
    """
    return {
        "model": config.model,
        "weights": weights_sha256,
        "normalize": config.normalize,
        "metric": way.metric,
        "target": way.target,
        "region": way.region,
        "index": list(way.index) if isinstance(way.index, tuple) else way.index,
        "recipe": recipe_json(way.recipe),
        "init": init_sha256 or way.init,
        "seed": way.seed,
        "precision": config.precision,
        "batch_size": plan.batch_size if config.batch_size == "auto" else config.batch_size,
        "threads": plan.threads if config.threads == "auto" else config.threads,
        "compile": "off" if config.compile == "auto" else config.compile,  # on a CPU it was slower, see benchmarks
    }


def figure_of(config: Config) -> dict[str, Any] | None:
    """The figure that a config asks for, in JSON's own types."""
    return None if config.figure is None else config.figure.model_dump(mode="json")


def recipe_json(recipe: Recipe) -> dict[str, Any]:
    """A recipe in JSON's own types."""
    result: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return result


def refuse_other(plan: Plan, variant: str, ours: Mapping[str, Any], out: str | None) -> None:
    """Raise UsageError where a plan holds tiles that were made otherwise, with the keys that differ.

    Args:
        plan: of the run directory.
        variant: to be made; one that the plan does not know yet must share its run's network and arithmetic.
        ours: the variant's fingerprint now.
        out: the run directory.
    """
    if variant in plan.fingerprints:
        theirs = plan.fingerprints[variant]
    elif plan.fingerprints:
        any_other = next(iter(plan.fingerprints.values()))
        theirs = {**ours, **{key: any_other[key] for key in RUN_KEYS}}
    else:
        return
    differing = [
        f"{key}: there {_short(theirs.get(key))}, now {_short(value)}"
        for key, value in ours.items()
        if theirs.get(key) != value
    ]
    if differing:
        raise UsageError(
            f"{out} holds another run ({'; '.join(differing)}); give another --out, or --fresh to delete that run"
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 48 else text[:45] + "..."


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
