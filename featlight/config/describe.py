"""Settings as text, for atlas headings, the viewer, TensorBoard and dataset cards."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from featlight.config.image_shape import size_words
from featlight.config.losses import METRICS
from featlight.config.normalization import Normalization
from featlight.config.optimizer import Optimizer
from featlight.config.presets import recipe_name
from featlight.config.recipe import Octave, Recipe
from featlight.config.settings import SHARED, Settings, defaults_of
from featlight.config.transform_settings import TransformKind

CHECKSUM = 24  # characters of a checksum to show
BRIEF = ("metric", "target", "octaves", "gradient", "init", "seed")  # keys that `brief` always covers
# Keys that are shown only if they differ from their default
OBJECTIVE_KEYS = ("directions", "objective", "cosine_power", "caricature", "stay", "diversity", "diversity_weight")


def facts(settings: Settings) -> dict[str, str]:
    """Return the text of every setting by key, with the recipe's fields among them.

    Args:
        settings: resolved settings.
    """
    items = _items(settings)
    return {key: in_words(value) for key, value, default in items if key not in OBJECTIVE_KEYS or value != default}


def brief(settings: Settings) -> str:
    """Return one line about how tiles are made: other settings than the default, objective, recipe and start."""
    recipe, name = settings.recipe, recipe_name(settings.recipe)
    sizes = ", ".join(size_words(octave.size) for octave in recipe.octaves)
    parts = [
        METRICS[settings.metric].in_words(settings.metric, settings.target),
        f"{recipe.total_steps} steps at {sizes} px",
        f"{recipe.gradient} gradient" if name is None else f"recipe {name}",
        f"start {settings.init[:CHECKSUM]}, seed {settings.seed}",
    ]
    skipped = (*BRIEF, *SHARED) if name is None else (*BRIEF, *SHARED, *defaults_of(Recipe))
    unusual = (
        f"{key.replace('_', ' ')} {in_words(value)[:CHECKSUM] if key == 'caricature' else in_words(value)}"
        for key, value, default in _items(settings)
        if key not in skipped and value != default
    )
    return " · ".join([*unusual, *parts])


def octave_rows(recipe: Recipe) -> list[tuple[str, ...]]:
    """Return the table of a recipe's octaves, with its header row."""
    head = ("size, px", "steps", "learning rate", "blur sigma, px")
    rows = [(size_words(o.size), str(o.steps), in_words(o.lr), in_words(o.sigma)) for o in recipe.octaves]
    return [head, *rows]


def label(key: str) -> str:
    """Return the label of a setting: "Batch size"."""
    return key.replace("_", " ").capitalize()


def _items(settings: Settings) -> Iterator[tuple[str, Any, Any]]:
    """Yield key, value and default of every setting and recipe field."""
    defaults = defaults_of(Settings)
    for key in Settings.model_fields:
        if key != "recipe":
            yield key, getattr(settings, key), defaults[key]
    defaults = defaults_of(Recipe)
    for field in fields(Recipe):
        yield field.name, getattr(settings.recipe, field.name), defaults[field.name]


def in_words(value: Any) -> str:
    """Return a setting's value as text."""
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
    if isinstance(value, Optimizer | Normalization | TransformKind):
        return value.in_words()
    if is_dataclass(value) and not isinstance(value, type):
        defaults = defaults_of(type(value))
        given = {field.name: getattr(value, field.name) for field in fields(value)}
        words = [in_words(v) if k == "name" else f"{k} {in_words(v)}" for k, v in given.items() if v != defaults[k]]
        return " ".join(words) or "as usual"
    return str(value)
