"""What the tests of foreign runs share."""

import json
from pathlib import Path

from featlight.cli.main import main

TILES = [f"tiles/2/{i:05d}.png" for i in range(6)]
RECORDS = "records/worker-0.jsonl"
COMMANDS = {
    "run": ["--config", "small.yaml"],
    "more": ["--config", "small.yaml", "--features", "0-7"],
    "fresh": ["--config", "small.yaml", "--fresh"],
    "render": ["--render-only"],
    "verify": ["verify"],
    "repair": ["verify", "--repair"],
    "zip": ["export", "--zip", "site.zip"],
}


def typed(word):
    return main([*COMMANDS[word], "--out", "run"])


def outside():
    return {str(path): path.is_dir() or path.read_bytes() for path in sorted(Path("outside").rglob("*"))}


def tiles():
    return {file: Path("run", file).read_bytes() for file in TILES if Path("run", file).is_file()}


def one_line(capsys):
    error = capsys.readouterr().err
    assert error.startswith("featlight: ")
    assert error.count("\n") == 1
    return error


def plan_with(change):
    values = json.loads(Path("run/plan.json").read_text())
    change(values)
    Path("run/plan.json").write_text(json.dumps(values))


def renamed(variant):
    def change(values):
        values["fingerprints"] = {variant: values["fingerprints"][""]}
        for tile in values["tiles"]:
            tile["variant"] = variant

    return change


def lines_with(change):
    path = Path("run", RECORDS)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**record, **change(record)}) + "\n" for record in records))


def everything():
    return {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
