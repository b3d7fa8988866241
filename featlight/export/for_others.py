"""What is written of a run, as it leaves its machine: files by their names, and no folder of their maker's."""

import json
from collections import Counter
from collections.abc import Iterator

from featlight.config.text_checks import shared_reason
from featlight.plan.plan import Plan
from featlight.plan.shared_config import config_for_others
from featlight.store.example_files import example_lines, read_about
from featlight.store.paths import ABOUT_EXAMPLES, EXAMPLES, PLAN, TEXT_BYTES
from featlight.store.snapshot import Snapshot
from featlight.store.store import Store

CONFIG = "config.yaml"


def for_others(snapshot: Snapshot, *, photographs: bool = True) -> Snapshot:
    """A run as others may see it, of which all that leaves is made.

    Args:
        snapshot: the run.
        photographs: whether tiles that are made from photographs may leave.
    """
    plan = snapshot.plan if photographs else snapshot.plan.without_photographs()
    records = dict(snapshot.records)
    for file, record in records.items():
        if record["reason"] is not None:
            records[file] = {**record, "reason": shared_reason(record["reason"])}
    files = [planned.file for planned in plan.tiles if planned.file in snapshot.there]
    return Snapshot(snapshot.store, plan.without_folders(), records, {file: records[file] for file in files})


def settings_for_others(store: Store, plan: Plan, *, photographs: bool = True) -> Iterator[tuple[str, bytes]]:
    """Plan and config, by name; a config that cannot be read stays at home. See `config_for_others`."""
    yield PLAN, plan.to_json().encode()
    if store.folder.has(store.root / CONFIG):
        text = config_for_others(store.folder.read(store.root / CONFIG, TEXT_BYTES), plan, photographs=photographs)
        if text is not None:
            yield CONFIG, text


def examples_for_others(store: Store, plan: Plan) -> Iterator[tuple[str, bytes]]:
    """Examples of a plan's tiles, and what they were looked for among, by name."""
    about = read_about(store.folder)
    assert about is not None
    refused = {name: shared_reason(why) for name, why in about.refused_files.items()}
    values = about.model_dump(mode="json") | {"refused_files": refused, "reasons": Counter(refused.values())}
    yield ABOUT_EXAMPLES, json.dumps({"format": 1, **values}, indent=1).encode() + b"\n"
    files = {planned.file for planned in plan.tiles}
    lines = (line for line, found in example_lines(store.folder) if found is not None and found.tile in files)
    yield EXAMPLES, b"".join(lines)
