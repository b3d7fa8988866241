"""Settings in words: atlas headings, the viewer, TensorBoard and data set cards walk over the same fields."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from featlight.config.inputs.sizes import size_words
from featlight.config.normalization import Normalization
from featlight.config.optimizer import Optimizer
from featlight.config.presets import recipe_name
from featlight.config.recipe import Octave, Recipe
from featlight.config.settings import SHARED, Settings, defaults_of
from featlight.config.transform_settings import KINDS, transform_in_words

CHECKSUM = 24  # characters of one that are shown
BRIEF = ("metric", "target", "octaves", "gradient", "init", "seed")  # what `brief` says in words of its own
# Said where they are asked for
LOOKS = ("directions", "objective", "cosine_power", "caricature", "stay", "diversity", "diversity_weight")


def facts(settings: Settings) -> dict[str, str]:
    """Every setting in words, by key, other ways to look where they are taken; the recipe's parts beside the others.

    Args:
        settings: settled.
    """
    walk = _walk(settings)
    return {key: in_words(value) for key, value, default in walk if key not in LOOKS or value != default}


def brief(settings: Settings) -> str:
    """How tiles are made, in a line: objective, recipe and start, and whatever else is not as usual."""
    recipe, name = settings.recipe, recipe_name(settings.recipe)
    sizes = ", ".join(size_words(octave.size) for octave in recipe.octaves)
    parts = [
        settings.metric if settings.metric == "squares" else f"{settings.metric} to {settings.target:g}",
        f"{recipe.total_steps} steps at {sizes} px",
        f"{recipe.gradient} gradient" if name is None else f"recipe {name}",
        f"start {settings.init[:CHECKSUM]}, seed {settings.seed}",
    ]
    said = (*BRIEF, *SHARED) if name is None else (*BRIEF, *SHARED, *defaults_of(Recipe))
    unusual = (
        f"{key.replace('_', ' ')} {in_words(value)[:CHECKSUM] if key == 'caricature' else in_words(value)}"
        for key, value, default in _walk(settings)
        if key not in said and value != default
    )
    return " · ".join([*unusual, *parts])


def octave_rows(recipe: Recipe) -> list[tuple[str, ...]]:
    """The table of a recipe's octaves, its head first."""
    head = ("size, px", "steps", "learning rate", "blur sigma, px")
    rows = [(size_words(o.size), str(o.steps), in_words(o.lr), in_words(o.sigma)) for o in recipe.octaves]
    return [head, *rows]


def label(key: str) -> str:
    """What stands before a setting's words: "Batch size"."""
    return key.replace("_", " ").capitalize()


def _walk(settings: Settings) -> Iterator[tuple[str, Any, Any]]:
    """Key, value and default."""
    defaults = defaults_of(Settings)
    for key in Settings.model_fields:
        if key != "recipe":
            yield key, getattr(settings, key), defaults[key]
    defaults = defaults_of(Recipe)
    for field in fields(Recipe):
        yield field.name, getattr(settings.recipe, field.name), defaults[field.name]


def in_words(value: Any) -> str:
    """A setting's value as people read it."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case Octave():
            return f"{value.steps} steps at {size_words(value.size)} px"
        case (float() as first, float() as last):
            return f"{first:g} to {last:g}"
        case tuple() | list():
            return ", ".join(map(in_words, value))
    if isinstance(value, type):
        return value.__qualname__
    if isinstance(value, Optimizer | Normalization):
        return value.in_words()
    if type(value) in KINDS.values():
        return transform_in_words(value)
    if is_dataclass(value) and not isinstance(value, type):
        defaults = defaults_of(type(value))
        given = {field.name: getattr(value, field.name) for field in fields(value)}
        words = [in_words(v) if k == "name" else f"{k} {in_words(v)}" for k, v in given.items() if v != defaults[k]]
        return " ".join(words) or "as usual"
    return str(value)
