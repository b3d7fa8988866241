"""A run's config as others may see it. No torch."""

from typing import Any

import yaml

from featlight.config.recipe import NAMED_STARTS
from featlight.config.text_checks import weights_without_folder, without_folder
from featlight.config.yaml.limits import check_text
from featlight.config.yaml.loader import Loader
from featlight.plan.plan import Plan

VALUES = 1_000_000  # of a run's own config, in which every term of every tile is written out
# Keys of a config whose words may be paths, and what remains of these
_PATHS = {
    **dict.fromkeys(("weights", "directions"), weights_without_folder),
    **dict.fromkeys(("init", "out", "caricature", "labels", "images"), without_folder),
}


def config_for_others(content: bytes, plan: Plan | None = None, *, photographs: bool = True) -> bytes | None:
    """The YAML of a run's `config.yaml` as others may see it.

    Args:
        content: content of the file.
        plan: plan of the run, with those variants alone that others may see.
        photographs: whether pictures of the user's, and the folder of examples, may be named.

    Returns:
        The YAML without folders; as it is where it names none, None where it is no config.
    """
    try:
        text = content.decode()
        check_text(text, VALUES)
        values = yaml.load(text, Loader)
    except (ValueError, OverflowError, yaml.YAMLError):
        return None
    if not isinstance(values, dict):
        return None
    before = repr(values)
    if not photographs:
        _leave_photographs_out(values, plan)
    if plan is not None and str(values.get("model")).startswith("hf/"):  # a folder, perhaps
        values["model"] = plan.network.model
    inner = [values.get("examples"), *_list(values.get("variants"))]
    for table in [values, *(each for each in inner if isinstance(each, dict))]:
        for key, shorten in _PATHS.items():
            if isinstance(table.get(key), str):
                table[key] = shorten(table[key])
    if repr(values) == before:
        return content
    head = "".join(line for line in text.splitlines(keepends=True)[:1] if line.startswith("#"))
    return (head + yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=110)).encode()


def _leave_photographs_out(values: dict[str, Any], plan: Plan | None) -> None:
    known = () if plan is None else plan.settings
    if variants := _list(values.get("variants")):
        values["variants"] = [each for each in variants if isinstance(each, dict) and str(each.get("name")) in known]
    photographic = [key for key in ("examples", "caricature") if values.get(key) is not None]
    if values.get("init", "noise") not in NAMED_STARTS:
        photographic += ["init", "stay"]
    for key in photographic:
        values.pop(key, None)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
