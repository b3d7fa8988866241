"""Feature visualization for vision networks: a labeled atlas of a whole layer."""

import sys

if sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv)].endswith("featlight") and not sys.flags.safe_path:
    # `python -m featlight` would import modules from the working directory, which may be a hostile run; the module of
    # a network is still found there
    del sys.path[0]

from featlight.version import __version__

TYPE_CHECKING = False  # importing `typing` takes milliseconds
if TYPE_CHECKING:
    from typing import Any

    from featlight.api import find_circuits, find_examples, visualize
    from featlight.config.optimizer import Optimizer
    from featlight.config.presets import ARTICLE, LUCID, MACO, NATURAL, PHOTOGRAPHIC
    from featlight.config.recipe import Octave, Recipe, Regularizers
    from featlight.config.tile import Term, Tile
    from featlight.config.transform_settings import Crop, Jitter, Noise, Pad, ResizedCrop, Rotate, Scale
    from featlight.models.catalog import list_models, load_model
    from featlight.models.catalog import load_model as load
    from featlight.models.layers import list_layers
    from featlight.objectives.sparse_autoencoders import encoder_directions
    from featlight.report.similarity_map import find_alike
    from featlight.result import Result, open_run
    from featlight.training.monitor import FeatureMonitor
    from featlight.training.plain import log_features

__all__ = [
    "ARTICLE",
    "LUCID",
    "MACO",
    "NATURAL",
    "PHOTOGRAPHIC",
    "Crop",
    "FeatureMonitor",
    "Jitter",
    "Noise",
    "Octave",
    "Optimizer",
    "Pad",
    "Recipe",
    "Regularizers",
    "ResizedCrop",
    "Result",
    "Rotate",
    "Scale",
    "Term",
    "Tile",
    "__version__",
    "encoder_directions",
    "find_alike",
    "find_circuits",
    "find_examples",
    "list_layers",
    "list_models",
    "load",
    "load_model",
    "log_features",
    "open_run",
    "visualize",
]

# Imported on first use, so that the command line handles signals and reports typos without delay
_LAZY = {
    "Optimizer": ("config.optimizer", "Optimizer"),
    **{name: ("config.presets", name) for name in ("ARTICLE", "LUCID", "MACO", "NATURAL", "PHOTOGRAPHIC")},
    **{name: ("config.recipe", name) for name in ("Octave", "Recipe", "Regularizers")},
    **{name: ("config.tile", name) for name in ("Term", "Tile")},
    **{
        name: ("config.transform_settings", name)
        for name in ("Crop", "Jitter", "Noise", "Pad", "ResizedCrop", "Rotate", "Scale")
    },
    "visualize": ("api", "visualize"),
    "FeatureMonitor": ("training.monitor", "FeatureMonitor"),
    "log_features": ("training.plain", "log_features"),
    "encoder_directions": ("objectives.sparse_autoencoders", "encoder_directions"),
    "find_alike": ("report.similarity_map", "find_alike"),
    "find_circuits": ("api", "find_circuits"),
    "find_examples": ("api", "find_examples"),
    "list_layers": ("models.layers", "list_layers"),
    "list_models": ("models.catalog", "list_models"),
    "load_model": ("models.catalog", "load_model"),
    "open_run": ("result", "open_run"),
    # earlier names
    "load": ("models.catalog", "load_model"),
    "open": ("result", "open_run"),
    "Result": ("result", "Result"),
}


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    if name in ("config", "errors"):
        return import_module(f"featlight.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module 'featlight' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    return getattr(import_module(f"featlight.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
