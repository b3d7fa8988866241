"""The command that makes one tile of a run again, alone and to the bit."""

import json
import shlex
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import yaml

from featlight.config.recipe import NAMED_STARTS
from featlight.config.schema import Config, default_recipe
from featlight.config.tile import file_name
from featlight.plan.fingerprint import recipe_json
from featlight.plan.plan import Plan, Planned

FLAGS = ("normalize", "metric", "target", "init", "seed", "precision")  # of a fingerprint, where not the default
DEFAULTS = {name: field.default for name, field in Config.model_fields.items()}


def command_alone(plan: Plan, planned: Planned) -> str | None:
    """What to type in a shell; the run's own directory is not needed.

    Args:
        plan: of the run.
        planned: one of its tiles.

    Returns:
        A command, on lines of its own where the tile needs a config file; None where no command can make it: its
        network was handed over in Python, or its starting image is known by its checksum alone.
    """
    way, network, tile = plan.fingerprints[planned.variant], plan.network, planned.tile
    random = network["weights"].startswith("RANDOM WEIGHTS")
    handed_over = network["file"] is None and not random and ":" not in network["model"]
    if handed_over or way["init"] not in NAMED_STARTS:
        return None
    values: dict[str, Any] = {"model": network["model"]}
    if random:
        values["weights"] = "none"
    elif network["weights"] != "embedded weights":
        values["weights"] = network["asked"]
    tables: dict[str, Any] = {}
    if way["recipe"] != recipe_json(default_recipe(network["model"])):
        tables["recipe"] = way["recipe"]
    if tile.is_named:
        tables["tiles"] = [{"name": tile.name, "terms": [_plain(asdict(term)) for term in tile.terms]}]
    else:
        term = tile.terms[0]
        values["layer"] = term.layer
        if term.feature is None:
            values["region"] = "all"
        else:
            values |= {"features": term.feature, "region": term.region, "index": _index(term.index)}
    values |= {key: way[key] for key in FLAGS}
    words = [(key, value) for key, value in values.items() if value != DEFAULTS[key]]
    out = "-".join(filter(None, [file_name(network["model"]), planned.variant, *tile.name.split("/")]))
    words += [("batch_size", plan.batch_size), ("threads", plan.threads), ("out", f"runs/{out}")]
    flags = " ".join(f"--{key.replace('_', '-')} {shlex.quote(str(value))}" for key, value in words)
    if not tables:
        return f"featlight {flags}"
    return f"cat > tile.yaml <<'END'\n{_yaml(json.dumps(tables))}END\nfeatlight --config tile.yaml {flags}"


@lru_cache
def _yaml(tables: str) -> str:
    """JSON as YAML that people read; most tiles of a run share theirs."""
    return str(yaml.safe_dump(json.loads(tables), sort_keys=False, default_flow_style=None, width=110))


def _plain(term: dict[str, Any]) -> dict[str, Any]:
    """A term without what it need not say."""
    defaults = {"feature": None, "weight": 1.0, "region": "map", "index": None}
    term["index"] = list(term["index"]) if isinstance(term["index"], tuple) else term["index"]
    return {key: value for key, value in term.items() if key == "layer" or value != defaults[key]}


def _index(index: Any) -> Any:
    return ",".join(map(str, index)) if isinstance(index, tuple) else index
