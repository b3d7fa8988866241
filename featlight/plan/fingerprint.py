"""Resolve a run's settings, and refuse to mix tiles of different settings."""

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featlight.config.normalization import Named, Normalization
from featlight.config.presets import RECIPES
from featlight.config.settings import SHARED, Settings, plain
from featlight.errors import UsageError
from featlight.files import open_regular
from featlight.plan.plan import Plan


def resolve_settings(
    settings: Settings,
    plan: Plan,
    *,
    model: str,
    weights_sha256: str,
    normalize: Normalization | Named,
    init_sha256: str | None,
    directions: str | None = None,
    caricature: str | None = None,
) -> Settings:
    """Return the settings of a variant without `auto` and with checksums instead of files.

    Args:
        settings: requested settings.
        plan: plan of the run, whose batch size and threads replace `auto`.
        model: name of the network; the name alone of a network's folder.
        weights_sha256: checksum of the network's state.
        normalize: normalization that replaces `auto`.
        init_sha256: checksum of the starting image's pixels; None for a named start.
        directions: checksum of the directions' file; None without directions.
        caricature: checksum of the caricature image's pixels; None without one.
    """
    values = {
        "model": model,
        "weights": weights_sha256,
        "normalize": normalize if settings.normalize == "auto" else settings.normalize,
        "init": init_sha256 or settings.init,
        "directions": directions,
        "caricature": caricature,
        "batch_size": plan.batch_size if settings.batch_size == "auto" else settings.batch_size,
        "threads": plan.threads if settings.threads == "auto" else settings.threads,
        "compile": "off" if settings.compile == "auto" else settings.compile,  # slower on a CPU, see benchmarks
    }
    return settings.model_copy(update=values)


def refuse_other_run(plan: Plan, variant: str, settings: Settings, out: str | None) -> None:
    """Raise UsageError with the keys that differ if the run's tiles were made with other settings.

    Args:
        plan: plan of the run directory.
        variant: name of the variant to make; a new one must share the run's network and arithmetic.
        settings: resolved settings of the variant.
        out: run directory.
    """
    ours, keys = settings.fingerprint(), None
    if variant in plan.settings:
        theirs = plan.settings[variant].fingerprint()
    elif plan.settings:
        theirs, keys = next(iter(plan.settings.values())).fingerprint(), SHARED
    else:
        return
    differing = [
        f"{key}: there {_short(theirs.get(key))}, now {_short(ours.get(key))}"
        for key in dict.fromkeys((*ours, *theirs))
        if (keys is None or key in keys) and theirs.get(key) != ours.get(key)
    ]
    if differing:
        flags = _flags(ours, theirs)
        on = f"; {' '.join(flags)} continues it" if flags else ""
        raise UsageError(
            f"{out} holds another run ({'; '.join(differing)}); give another --out, or --fresh to delete that run{on}"
        )


def _flags(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return the flags that continue a run whose default network or recipe was another, as in earlier versions."""
    recipes = [name for name, recipe in RECIPES.items() if plain(recipe) == theirs["recipe"] != ours["recipe"]]
    flags = [f"--recipe {name}" for name in recipes]
    return [f"--model {theirs['model']}", *flags] if theirs["model"] != ours["model"] else flags


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 48 else text[:45] + "..."


def file_sha256(path: Path, most: int = sys.maxsize) -> str:
    """Return the SHA-256 of a file of at most `most` bytes.

    Raises:
        OSError: the file cannot be read, is too large, or is not a regular file.
    """
    with open_regular(path, most, links=True) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
