"""The network that the package carries."""

from functools import partial
from pathlib import Path

from featlight.config.presets import EMBEDDED
from featlight.errors import WeightsError, unknown
from featlight.models.sources.entry import NetworkEntry
from featlight.models.tiny_inception.model import CLASSES, SIDE, WEIGHTS_FILE, TinyInception


def has(model: str) -> bool:
    return model == EMBEDDED


def names() -> list[str]:
    return [EMBEDDED]


def entry(_: str) -> NetworkEntry:
    build = partial(TinyInception, len(CLASSES))
    return NetworkEntry(
        build,
        lambda _: build(),
        _weights,
        mean=(0.0, 0.0, 0.0),  # it was trained on raw pixels
        std=(1.0, 1.0, 1.0),
        classes=lambda: list(CLASSES),
        size=(SIDE, SIDE),
    )


def _weights(name: str) -> tuple[str, Path]:
    if name != "DEFAULT":
        raise WeightsError(unknown("weights", name, ["DEFAULT", "none"], f"of {EMBEDDED}"))
    return "embedded weights", WEIGHTS_FILE
