"""Damage small runs at random, run commands on them, and check that nothing is lost.

python -m tests.fuzz_run --mutations 2000 --seed 0

A mutation has one to three faults: in the plan, records, list of outputs, config, vectors, float images, octaves,
tiles, page, TensorBoard events, examples, similarity tables or a worker's note; links, hard links, pipes, folders or
huge files in their place; or damage to the files of directions and labels. After each mutation, some commands are run.
None may end in a traceback, take 30 seconds, print a line that is not featlight's, change a file outside of the run, or
lose a good tile: an unaltered one that the plan or a record names. If only examples were damaged, finding them again
restores them or reports an error.
"""

import argparse
import contextlib
import io
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import yaml

from featlight.cli.main import main as command
from featlight.console import PrintableFormatter
from featlight.errors import FeatlightError
from featlight.report.tensorboard.writer import catch_up
from featlight.result import open_run
from featlight.store.store import Store
from tests.damage import crafted, mutate, spoil_bytes, spoil_lines
from tests.photographs import crops, folder_of

OCTAVES = [
    {"size": 24, "steps": 2, "lr": [0.1, 0.05], "sigma": [1.0, 0.5]},
    {"size": 32, "steps": 1, "lr": [0.1, 0.05], "sigma": None},
]
COMMON = {
    "model": "tiny_inception",
    "batch_size": 2,
    "threads": 1,
    "devices": 1,
    "recipe": {"octaves": OCTAVES, "gradient": "rms"},
}
CONFIGS: dict[str, dict[str, Any]] = {
    "layers": {
        **COMMON,
        "layer": {"Mixed_3a": "0-3", "Mixed_4a": "0"},
        "float_images": True,
        "variants": [{"name": "L1"}, {"name": "L2", "metric": "l2"}],
        "figure": {"kind": "grid", "rows": "variant"},
    },
    "named": {
        **COMMON,
        "tiles": [
            {"name": "one", "terms": [{"layer": "Mixed_3a", "feature": 1}]},
            {"name": "both", "terms": [{"layer": "Mixed_3a", "feature": 1}, {"layer": "Mixed_3a", "feature": 2}]},
        ],
        "keep_maps": True,
        "keep_octaves": True,
        "figure": {"kind": "activity", "rows": "tile"},
    },
    "growth": {
        **COMMON,
        "layer": {"Mixed_4a": "3"},
        "region": "prefix",
        "index": "all",
        "recipe": {"octaves": [{"size": 16, "steps": 1, "lr": [0.1, 0.1], "sigma": None}]},
        "figure": {"kind": "growth"},
    },
    "rows": {
        **COMMON,
        "layer": ["Mixed_3a"],
        "directions": "rows.npy",
        "labels": "names.csv",
    },
}
GIVEN = ("rows.npy", "names.csv", "photographs")  # input files of the runs, beside them
LIMIT = 30.0  # seconds
CODES = {0, 1, 2, 3, 74, 75}


class HungError(BaseException):
    """A command exceeded the time limit. A BaseException, so that no command catches it."""


@dataclass
class Report:
    mutations: int = 0
    commands: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0  # seconds of a command
    faults: list[str] = field(default_factory=list)


def read_all(run: Path) -> int:
    """Read all tiles through the Python interface; return the exit code."""
    try:
        result = open_run(run)
        for i in range(len(result)):
            result[i]
    except FeatlightError as error:
        return error.exit_code
    return 0


def follow(run: Path) -> int:
    """Do what `featlight tensorboard` does before it starts TensorBoard."""
    catch_up(run)
    return 0


def commands(config: Path, run: Path, place: Path) -> dict[str, Callable[[], int]]:
    out = ["--out", str(run)]
    images = ["--images", str(run.parent / "photographs"), "--top", "2", "--fit", "48", "--devices", "1"]
    return {
        "examples": lambda: command(["examples", *images, *out]),
        "alike": lambda: command(["alike", "--method", "pca", *out]),
        "run": lambda: command(["--config", str(config), *out]),
        "verify": lambda: command(["verify", *out]),
        "repair": lambda: command(["verify", "--repair", *out]),
        "render": lambda: command(["--render-only", *out]),
        "zip": lambda: command(["export", "--zip", str(place / "site.zip"), "--card", str(place / "card.md"), *out]),
        "webp": lambda: command(["export", "--webp", str(place / "webp"), "--quality", "lossless", *out]),
        "view": lambda: command(["view", *out]),
        "python": lambda: read_all(run),
        "tensorboard": lambda: follow(run),
        "fresh": lambda: command(["--config", str(config), "--fresh", *out]),
    }


OFTEN = ("repair", "run", "zip", "render", "examples", "alike")


def hung(number: int, frame: object) -> None:
    raise HungError


def heard(do: Callable[[], int]) -> tuple[int | None, str, float]:
    """Return a command's exit code (None after a traceback), its standard error, and its seconds."""
    said, started = io.StringIO(), time.monotonic()
    handler = logging.StreamHandler(said)
    handler.setFormatter(PrintableFormatter("featlight: %(message)s"))
    root = logging.getLogger()
    code: int | None = None
    signal.signal(signal.SIGALRM, hung)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        with (
            mock.patch.object(root, "handlers", [handler]),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(said),
        ):
            code = do()
    except HungError:
        said.write("hung:\n" + traceback.format_exc())
    except BaseException:
        said.write(traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return code, said.getvalue(), time.monotonic() - started


def around(root: Path, run: Path) -> dict[str, object]:
    """Return names, kinds and contents of all files in a folder, except those of a run."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        if path.is_relative_to(run):
            continue
        mode = path.lstat().st_mode
        found[str(path)] = mode if not path.is_file() else (mode, sha256(path.read_bytes()).hexdigest())
    return found


def is_file_of(path: Path, content: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content


def good_tiles(run: Path, made: dict[str, bytes]) -> set[str]:
    """Return the unaltered tiles that the plan or a record names."""
    there = set()
    for file, content in made.items():
        path = run / file
        links = any(parent.is_symlink() for parent in (path, *path.parents) if parent.is_relative_to(run))
        if not links and is_file_of(path, content):
            there.add(file)
    store = Store(run)
    try:
        plan = store.plan()
        named = {*store.records()} | {planned.file for planned in plan.tiles if plan is not None}
    except (FeatlightError, AttributeError):
        return there
    return there & named


def fuzz(mutations: int, seed: int, root: Path) -> Report:
    """Damage a run, run commands and check the result, `mutations` times."""
    chance, report = random.Random(seed), Report()
    bases, made = {}, {}
    home = root / "box/home"
    given = root / "given"
    give(given)
    shutil.copytree(given, home)
    for name, values in CONFIGS.items():
        config, base = root / f"{name}.yaml", root / "bases" / name
        paths = {key: str(home / values[key]) for key in ("directions", "labels") if key in values}
        config.write_text(yaml.safe_dump(values | paths))
        every = commands(config, home / "run", root)
        for word in ("run", *(("examples", "alike") if name == "layers" else ())):
            code, said, _ = heard(every[word])
            assert code == 0, said
        shutil.move(home / "run", base)
        bases[name] = base
        made[name] = {str(path.relative_to(base)): path.read_bytes() for path in base.glob("tiles/**/*.png")}
        assert made[name]
    while report.mutations < mutations:
        report.mutations += 1
        name = chance.choice(list(CONFIGS))
        box, place = root / "box", root / "exports"
        for folder in (box, place):
            shutil.rmtree(folder, ignore_errors=True)
        run, outside = box / "home/run", box / "outside"
        shutil.copytree(given, box / "home")
        shutil.copytree(bases[name], run)
        (outside / "folder").mkdir(parents=True)
        (outside / "file").write_text("precious\n")
        (outside / "folder/line.jsonl").write_text("precious\n")
        (outside / "folder/00000.png").write_bytes(b"precious")
        for path in run.rglob("*"):
            os.utime(path, (time.time() - 3600,) * 2)
        done = [mutate(run, outside, chance) for _ in range(chance.choice([1, 1, 2, 3]))]
        if name == "rows":
            done += [spoil_given(box / "home" / chance.choice(GIVEN[:2]), chance)]
        for path in run.rglob("*"):
            os.utime(path, (time.time() - 3600,) * 2, follow_symlinks=False)
        place.mkdir()
        every = commands(root / f"{name}.yaml", run, place)
        typed = [
            chance.choice(OFTEN if chance.random() < 0.6 else list(every)) for _ in range(chance.choice([1, 2, 3]))
        ]
        _watch(report, name, every, typed, done, run, box, made[name])
        if all(word.split()[-1].startswith("examples") for word in done):
            _see_examples(report, every["examples"], done, run, bases[name])
    return report


def give(folder: Path) -> None:
    """Write the input files of runs: directions, their labels, and photographs."""
    folder.mkdir()
    chance = np.random.default_rng(0)
    np.save(folder / "rows.npy", chance.normal(size=(4, 96)).astype(np.float32))
    (folder / "names.csv").write_text("".join(f"{row},name {row}\n" for row in range(4)))
    folder_of(folder / "photographs", crops(3, side=32))


def spoil_given(path: Path, chance: random.Random) -> str:
    if path.suffix == ".npy" and chance.random() < 0.4:
        path.write_bytes(crafted(path.suffix, chance))
    elif path.suffix == ".csv" and chance.random() < 0.5:
        spoil_lines(path, chance)
    else:
        spoil_bytes(path, chance)
    return f"given {path.name}"


def found_in(run: Path) -> dict[str, bytes]:
    """Return the results of a search for examples, without the workers' own files."""
    names = ("about.json", "examples.jsonl")
    return {name: (run / "examples" / name).read_bytes() for name in names}


def _see_examples(report: Report, find: Callable[[], int], done: Sequence[str], run: Path, base: Path) -> None:
    """Check that damaged examples are found again unchanged."""
    code, said, took = heard(find)
    report.commands["examples again"] += 1
    report.slowest = max(report.slowest, took)
    if code is None or (code == 0 and found_in(run) != found_in(base)):
        report.faults.append(f"{report.mutations} {done}: other examples: {said}")


def _watch(
    report: Report,
    name: str,
    every: dict[str, Callable[[], int]],
    typed: Sequence[str],
    done: Sequence[str],
    run: Path,
    box: Path,
    made: dict[str, bytes],
) -> None:
    good = good_tiles(run, made)
    before = around(box, run)
    for word in typed:
        if word == "fresh":
            good = set()
        code, said, took = heard(every[word])
        report.commands[word] += 1
        report.slowest = max(report.slowest, took)
        faults = []
        if code is None:
            faults.append(said)
        else:
            report.codes[code] += 1
            if code not in CODES:
                faults.append(f"exit code {code}")
            if strange := [line for line in said.splitlines() if not line.startswith("featlight: ")]:
                faults.append(f"lines of others: {strange}")
        now = around(box, run)
        if now != before:
            faults.append(f"outside: {[path for path in {*now, *before} if now.get(path) != before.get(path)]}")
        if lost := [file for file in good if not is_file_of(run / file, made[file])]:
            faults.append(f"good tiles lost: {lost}")
        report.faults += [f"{report.mutations} {name}, {done}, {list(typed)}: {word}: {fault}" for fault in faults]
        if faults:
            return


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("tests.fuzz_run", description=__doc__)
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, mock.patch("webbrowser.open", return_value=True):
        report = fuzz(options.mutations, options.seed, Path(folder))
    print(*report.faults, sep="\n")
    print(f"{report.mutations} mutations, {report.commands.total()} commands in {time.monotonic() - started:.0f} s")
    print(f"commands {dict(report.commands)}, exit codes {dict(sorted(report.codes.items()))}")
    print(f"slowest {report.slowest:.1f} s, faults {len(report.faults)}")
    return bool(report.faults)


if __name__ == "__main__":
    sys.exit(main())
