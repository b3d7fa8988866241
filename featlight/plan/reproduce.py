"""The command that makes a single tile of a run again, bit for bit."""

import json
import shlex
from functools import lru_cache
from typing import Any

import yaml

from featlight.config.named_starts import NAMED_STARTS
from featlight.config.presets import NATURAL, recipe_name
from featlight.config.settings import Settings, defaults_of, plain
from featlight.config.tile import Tile, file_name
from featlight.config.user_text import weights_without_folder
from featlight.plan.plan import Plan, PlannedTile

# Defaults of resolved settings, and the keys that are written in another way than by their difference to these
_DEFAULTS = defaults_of(Settings) | {"compile": "off"}
_WRITTEN_APART = ("model", "weights", "recipe", "region", "index", "batch_size", "threads", "directions")


def command_alone(plan: Plan, planned: PlannedTile) -> str | None:
    """Return the shell command for one tile; it does not need the run directory.

    Args:
        plan: plan of the run.
        planned: tile of the plan.

    Returns:
        A command, with lines for a config file if the tile needs one. Files are named without folders, as commands are
        shared. None if no command can make the tile: its network came from Python, or only the checksum of its
        photograph is known.
    """
    settings, network, tile = plan.settings[planned.variant], plan.network, planned.tile
    is_from_python = network.file is None and not network.is_random and ":" not in network.model
    if is_from_python or settings.init not in NAMED_STARTS or settings.caricature is not None:
        return None
    values: dict[str, Any] = {"model": network.model}
    if network.is_random:
        values["weights"] = "none"
    elif network.weights != "embedded weights":
        values["weights"] = network.without_folders().asked
    values |= _tile_keys(tile)
    fingerprint = settings.fingerprint()
    if settings.recipe != NATURAL:
        values["recipe"] = recipe_name(settings.recipe) or fingerprint["recipe"]
    values |= {key: fingerprint[key] for key in fingerprint if key not in _WRITTEN_APART}
    if plan.directions is not None:
        values["directions"] = weights_without_folder(plan.directions.asked)
    values = {key: value for key, value in values.items() if value != _DEFAULTS.get(key)}
    out = "-".join(filter(None, [file_name(network.model), planned.variant, *tile.name.split("/")]))
    values |= {"batch_size": plan.batch_of_tile(planned.file), "threads": plan.threads, "out": f"runs/{out}"}
    tables = {key: value for key, value in values.items() if isinstance(value, dict | list)}
    flags = " ".join(
        f"--{key.replace('_', '-')} {shlex.quote(str(value))}" for key, value in values.items() if key not in tables
    )
    if not tables:
        return f"featlight {flags}"
    return f"cat > tile.yaml <<'END'\n{_yaml(json.dumps(tables))}END\nfeatlight --config tile.yaml {flags}"


def _tile_keys(tile: Tile) -> dict[str, Any]:
    if tile.is_named:
        return {"tiles": [{"name": tile.name, "terms": [plain(term) for term in tile.terms]}]}
    term = tile.terms[0]
    if term.feature is None:
        return {"layer": term.layer, "region": "all"}
    index = ",".join(map(str, term.index)) if isinstance(term.index, tuple) else term.index
    return {"layer": term.layer, "features": term.feature, "region": term.region, "index": index}


@lru_cache
def _yaml(tables: str) -> str:
    """Return JSON as readable YAML; most tiles of a run share theirs."""
    return str(yaml.safe_dump(json.loads(tables), sort_keys=False, default_flow_style=None, width=110))
