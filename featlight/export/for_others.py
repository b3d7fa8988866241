"""A run's plan and config as they leave its machine: files by their names, and no folder of their maker's."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import yaml

from featlight.config.words import weights_without_folder, without_folder
from featlight.config.yaml.limits import check_text
from featlight.config.yaml.loader import Loader
from featlight.plan.plan import Plan
from featlight.store.paths import PLAN, TEXT_BYTES
from featlight.store.store import Store

CONFIG = "config.yaml"
VALUES = 1_000_000  # of a run's own config, in which every term of every tile is written out
# Keys of a config whose words may be paths, and what remains of these
_PATHS = {
    **dict.fromkeys(("weights", "directions"), weights_without_folder),
    **dict.fromkeys(("init", "out", "caricature", "labels", "images"), without_folder),
}


def for_others(store: Store, plan: Plan) -> Iterator[tuple[str, bytes]]:
    """Plan and config, by name; a config that cannot be read stays at home."""
    directions = None if plan.directions is None else plan.directions.without_folders()
    yield PLAN, replace(plan, network=plan.network.without_folders(), directions=directions).to_json().encode()
    if store.folder.has(store.root / CONFIG):
        text = config_for_others(store.folder.read(store.root / CONFIG, TEXT_BYTES))
        if text is not None:
            yield CONFIG, text


def config_for_others(content: bytes) -> bytes | None:
    """The YAML of a run's `config.yaml` without folders; as it is where it names none, None where it is no config."""
    try:
        text = content.decode()
        check_text(text, VALUES)
        values = yaml.load(text, Loader)
    except (ValueError, OverflowError, yaml.YAMLError):
        return None
    if not isinstance(values, dict):
        return None
    inner = [values.get("examples"), *_list(values.get("variants"))]
    tables = [values, *(each for each in inner if isinstance(each, dict))]
    changed = False
    for table in tables:
        for key, shorten in _PATHS.items():
            word = table.get(key)
            if isinstance(word, str) and shorten(word) != word:
                table[key], changed = shorten(word), True
    if not changed:
        return content
    head = "".join(line for line in text.splitlines(keepends=True)[:1] if line.startswith("#"))
    return (head + yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=110)).encode()


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
