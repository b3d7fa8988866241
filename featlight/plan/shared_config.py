"""A run's config without private parts, to share it. No torch."""

from typing import Any

import yaml

from featlight.config.named_starts import NAMED_STARTS
from featlight.config.schema import Config
from featlight.config.user_text import shared_reason, weights_without_folder, without_folder
from featlight.config.yaml import Loader, check_text
from featlight.plan.plan import Plan

HEAD = "# featlight "  # the first line, with versions
VALUES = 1_000_000  # in a run's own config, which lists every term of every tile
# Keys whose values may be paths, and how to remove their folders
_PATHS = {
    **dict.fromkeys(("weights", "directions"), weights_without_folder),
    **dict.fromkeys(("init", "out", "caricature", "labels", "images"), without_folder),
}


def config_for_others(content: bytes, plan: Plan | None = None, *, photographs: bool = True) -> bytes | None:
    """Return the YAML of a run's `config.yaml` without private parts.

    Args:
        content: content of the file.
        plan: plan of the run, with only the variants to share.
        photographs: whether the user's pictures and the folder of examples may be named.

    Returns:
        The YAML of featlight's own keys without folders and comments, unchanged if it has nothing else; None if the
        content is no config.
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
    if plan is not None and str(values.get("model")).startswith("hf/"):  # may be a folder
        values["model"] = plan.network.model
    values = {key: value for key, value in values.items() if key in Config.model_fields}
    inner = [values.get("examples"), *_list(values.get("variants"))]
    for table in [values, *(each for each in inner if isinstance(each, dict))]:
        for key, shorten in _PATHS.items():
            if isinstance(table.get(key), str):
                table[key] = shorten(table[key])
    values = _without_paths(values)
    head = "".join(line for line in text.splitlines(keepends=True)[:1] if line.startswith(HEAD))
    if repr(values) == before and "#" not in text.removeprefix(head):
        return content
    return (head + yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=110)).encode()


def _without_paths(value: Any) -> Any:
    """Return nested values without the absolute paths in their text."""
    match value:
        case str():
            return shared_reason(value)
        case list():
            return [_without_paths(each) for each in value]
        case dict():
            return {_without_paths(key): _without_paths(each) for key, each in value.items()}
    return value


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
