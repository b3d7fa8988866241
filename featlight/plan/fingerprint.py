"""How images are made, settled for a run, and the refusal to mix tiles that were made otherwise."""

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
    """The settings of a variant with nothing left open.

    Args:
        settings: as asked for.
        plan: what it has settled stands for `auto`.
        model: the network's name, without the folders that its own folder lies in.
        weights_sha256: checksum of the network's state.
        normalize: what `auto` means.
        init_sha256: checksum of a natural start's pixels; None for a start by name.
        directions: checksum of their file; None where there is none.
        caricature: checksum of the image's pixels; None where there is none.
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
        "compile": "off" if settings.compile == "auto" else settings.compile,  # on a CPU it was slower, see benchmarks
    }
    return settings.model_copy(update=values)


def refuse_other_run(plan: Plan, variant: str, settings: Settings, out: str | None) -> None:
    """Raise UsageError where a plan holds tiles that were made otherwise, with the keys that differ.

    Args:
        plan: of the run directory.
        variant: to be made; one that the plan does not know yet must share its run's network and arithmetic.
        settings: of the variant now, settled.
        out: the run directory.
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
        on = f"; {' '.join(flags)} goes on with it" if flags else ""
        raise UsageError(
            f"{out} holds another run ({'; '.join(differing)}); give another --out, or --fresh to delete that run{on}"
        )


def _flags(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """What makes a plain command go on with a run whose defaults were others, as in earlier versions."""
    recipes = [name for name, recipe in RECIPES.items() if plain(recipe) == theirs["recipe"] != ours["recipe"]]
    flags = [f"--recipe {name}" for name in recipes]
    return [f"--model {theirs['model']}", *flags] if theirs["model"] != ours["model"] else flags


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 48 else text[:45] + "..."


def file_sha256(path: Path, most: int = sys.maxsize) -> str:
    """Of a weights' file, of so many bytes at most.

    Raises:
        OSError: it cannot be read, is too large, or is no file, a device say.
    """
    with open_regular(path, most, links=True) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
