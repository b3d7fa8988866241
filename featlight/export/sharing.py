"""The parts of a run that may leave the machine: without absolute paths, and on request without photographs."""

import json
from collections import Counter
from collections.abc import Iterator

from featlight.config.user_text import shared_reason
from featlight.plan.plan import Plan
from featlight.plan.shared_config import config_for_others
from featlight.store.circuit_files import circuit_lines
from featlight.store.example_files import example_lines, read_about
from featlight.store.paths import ABOUT_EXAMPLES, CIRCUITS, EXAMPLES, PLAN, TEXT_BYTES
from featlight.store.snapshot import Snapshot
from featlight.store.store import Store

CONFIG = "config.yaml"


def shared_snapshot(snapshot: Snapshot, *, photographs: bool = True) -> Snapshot:
    """Return the part of a run that every export is made from.

    Args:
        snapshot: snapshot of the run.
        photographs: whether to keep tiles that are made from photographs.
    """
    plan = snapshot.plan if photographs else snapshot.plan.without_photographs()
    records = dict(snapshot.records)
    for file, record in records.items():
        if record["reason"] is not None:
            records[file] = {**record, "reason": shared_reason(record["reason"])}
    files = [planned.file for planned in plan.tiles if planned.file in snapshot.there]
    return Snapshot(snapshot.store, plan.without_folders(), records, {file: records[file] for file in files})


def shared_settings(store: Store, plan: Plan, *, photographs: bool = True) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the plan and, if it can be read, the config. See `config_for_others`."""
    yield PLAN, plan.to_json().encode()
    if store.folder.has(store.root / CONFIG):
        text = config_for_others(store.folder.read(store.root / CONFIG, TEXT_BYTES), plan, photographs=photographs)
        if text is not None:
            yield CONFIG, text


def shared_examples(store: Store, plan: Plan) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the two files of examples, for the tiles of a plan."""
    about = read_about(store.folder)
    assert about is not None
    refused = {name: shared_reason(reason) for name, reason in about.refused_files.items()}
    values = about.model_dump(mode="json") | {"refused_files": refused, "reasons": Counter(refused.values())}
    yield ABOUT_EXAMPLES, json.dumps({"format": 1, **values}, indent=1).encode() + b"\n"
    files = {planned.file for planned in plan.tiles}
    lines = (line for line, tile in example_lines(store.folder) if tile is not None and tile.tile in files)
    yield EXAMPLES, b"".join(lines)


def shared_circuits(store: Store, plan: Plan) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the file of circuits, for the tiles of a plan; nothing if there are none."""
    lines = circuit_lines(store.folder, store.root / CIRCUITS, plan)
    content = b"".join(line.rstrip(b"\r\n") + b"\n" for line, circuit in lines if circuit is not None)
    if content:
        yield CIRCUITS, content
