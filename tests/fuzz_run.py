"""Damage small runs in every way that comes to mind, type commands on them, and see that nothing is lost.

python -m tests.fuzz_run --mutations 2000 --seed 0

After each mutation (one to three faults: in the plan, records, list of outputs, config, vectors, float images,
octaves, tiles, page, TensorBoard's events, the note of a worker; links, hard links, pipes, folders, endless files in
their place) some commands are typed. None may end in a traceback, take 10 seconds, write a line that is not featlight's
own, change a file outside of the run, or lose a good tile: one that is as it was made, and that the plan or a record
names.
"""

import argparse
import contextlib
import io
import json
import logging
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import yaml

from featlight.cli.main import main as command
from featlight.console import PrintableFormatter
from featlight.errors import FeatlightError
from featlight.report.tensorboard.writer import catch_up
from featlight.result import open_run
from featlight.store.store import Store

OCTAVES = [
    {"size": 24, "steps": 2, "lr": [0.1, 0.05], "sigma": [1.0, 0.5]},
    {"size": 32, "steps": 1, "lr": [0.1, 0.05], "sigma": None},
]
COMMON = {"batch_size": 2, "threads": 1, "devices": 1, "recipe": {"octaves": OCTAVES, "gradient": "rms"}}
CONFIGS: dict[str, dict[str, Any]] = {
    "layers": {
        **COMMON,
        "layer": {"Mixed_3a": "0-2", "Mixed_4a": "0"},
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
}
LIMIT = 10.0  # seconds
CODES = {0, 1, 2, 3, 74, 75}
ENDLESS = 1 << 42  # bytes of a file of which nothing is on disk
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
WORDS = [
    *("", ".", "..", "../../escaped", "/tmp/escaped", "a/../../escaped", "a\0b", "a\nb", "\x1b[31mred", "\ud800"),
    *("=1+1", "@x", "{{policy}}", "<img src=x>", "a" * 5000, "tiles/../../escaped.png", "C:\\x", "con", "ü", "%zz"),
]
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 3, 10**9, 2**63, 10**400, 1.5, -0.5, 1e308, float("nan"), float("inf")),
    *([], {}, [[]], [0], [0, 0], ["x"], {"x": 1}, [[[[[[[[]]]]]]]], list(range(50))),
    *WORDS,
]


class HungError(BaseException):
    """A command that did not come back; nobody else catches it."""


@dataclass
class Report:
    mutations: int = 0
    commands: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0  # seconds of a command
    faults: list[str] = field(default_factory=list)


# The damage


def files_of(run: Path) -> list[Path]:
    return sorted(path for path in run.rglob("*") if path.is_file() and not path.is_symlink())


def nodes(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a value of tables and lists: its holder and its key."""
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree))) if isinstance(tree, list) else []
    for key in keys:
        yield tree, key
        yield from nodes(tree[key])


def twist(tree: Any, chance: random.Random) -> None:
    """Change one place in a value of tables and lists."""
    holder, key = chance.choice(list(nodes(tree)))
    match chance.randrange(5):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.insert(key, holder[key])
        case 1 if isinstance(holder, dict):
            holder[chance.choice(WORDS)] = holder[key]
        case 2:
            holder[key] = chance.choice(list(nodes(tree)))[0]
            with contextlib.suppress(ValueError, RecursionError):
                json.dumps(tree)  # it may hold itself now
                return
            holder[key] = None
        case _:
            holder[key] = chance.choice(VALUES)


def spoil_json(path: Path, chance: random.Random) -> None:
    """One value of a JSON file, or of one line of a file of such."""
    lines = path.read_bytes().splitlines() if path.suffix == ".jsonl" else [path.read_bytes()]
    number = chance.randrange(len(lines))
    tree = json.loads(lines[number])
    twist(tree, chance)
    lines[number] = json.dumps(tree, indent=None if path.suffix == ".jsonl" else 1).encode()
    path.write_bytes(b"\n".join(lines) + b"\n")


def spoil_lines(path: Path, chance: random.Random) -> None:
    """Lines that go, come twice, or come from elsewhere."""
    lines = path.read_bytes().splitlines(keepends=True)
    match chance.randrange(4):
        case 0:
            del lines[chance.randrange(len(lines))]
        case 1:
            lines.insert(chance.randrange(len(lines) + 1), lines[chance.randrange(len(lines))])
        case 2:
            lines = lines[: chance.randrange(len(lines) + 1)]
        case _:
            word = chance.choice([*WORDS, "[" * 10_000, "{" * 10_000, BOMB, "1" * 5000, "plan.json", "mine.txt", '"'])
            lines.insert(chance.randrange(len(lines) + 1), word.encode(errors="surrogatepass") + b"\n")
    path.write_bytes(b"".join(lines))


def spoil_bytes(path: Path, chance: random.Random) -> None:
    """Bits that flip, an end that is lost, zeros, bytes that come in between."""
    content = bytearray(path.read_bytes())
    at = chance.randrange(min(len(content), chance.choice([16, 128, 1 << 30])) + 1)
    match chance.randrange(4):
        case 0:
            for i in range(at, min(at + chance.choice([1, 1, 9]), len(content))):
                content[i] ^= 1 << chance.randrange(8)
        case 1:
            del content[at:]
        case 2:
            content[at : at + 8] = chance.choice([b"\0" * 8, b"\xff" * 8])
        case _:
            content[at:at] = chance.randbytes(chance.choice([1, 40]))
    path.write_bytes(content)


def spoil_note(run: Path, chance: random.Random) -> None:
    note = chance.choice([{}, [], {"host": "x", "process": 1}, {"host": "\x1b[2J", "process": 1}])
    if isinstance(note, dict):
        note = {**note, **{chance.choice(["host", "process"]): chance.choice(VALUES)}}
    (run / ".running").write_text(json.dumps(note))


def spoil_config(run: Path, chance: random.Random) -> None:
    values = [BOMB, "[" * 5000, "float_images: true\n" * 2, "weights: [1\n", "a: " + "1" * 5000, "\0", "out: /home/x\n"]
    (run / "config.yaml").write_text(chance.choice(values))


def stand_in(path: Path, outside: Path, chance: random.Random) -> None:
    """Put something else in the place of a file or a folder."""
    was_folder = path.is_dir() and not path.is_symlink()
    if was_folder:
        shutil.rmtree(path)
    else:
        path.unlink()
    match chance.randrange(9):
        case 0 | 1:
            path.symlink_to(outside / ("folder" if was_folder else chance.choice(["file", "folder/line.jsonl"])))
        case 2:
            path.symlink_to(chance.choice(["nowhere", "/dev/zero", "..", ".", str(outside), path.name]))
        case 3:
            os.mkfifo(path)
        case 4:
            path.mkdir()
            (path / "inside").write_text("mine")
        case 5:
            with path.open("wb") as file:
                file.truncate(ENDLESS)
        case 6:
            os.link(outside / "file", path)
        case 7:
            path.write_bytes(b"")


def crafted(suffix: str, chance: random.Random) -> bytes:
    """What a file of that kind may hold to harm whoever believes its head."""
    side = chance.choice([0, 1, 9000, 60_000, 2**31 - 1])
    head = struct.pack(">IIBBBBB", side, side, chance.choice([8, 16, 3]), chance.choice([0, 2, 3, 6]), 0, 0, 0)
    parts = [
        (b"IHDR", head),
        (b"zTXt", b"featlight\0\0" + zlib.compress(bytes(1 << 22))),
        (b"IDAT", zlib.compress(b"x")),
    ]
    png = b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in [*parts, (b"IEND", b"")]
    )
    shape = chance.choice(["(1000000000000,)", "(2, 10000000000)", "(-1, 3)", "(2, 3)", "()", "2", "(" * 5000])
    words = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    tensors = json.dumps({"image": {"dtype": "F32", "shape": [3, 2**40], "data_offsets": [0, 3 * 2**42]}}).encode()
    return {
        ".png": b"\x89PNG\r\n\x1a\n" + png,
        ".npy": b"\x93NUMPY\1\0" + struct.pack("<H", len(words)) + words,
        ".safetensors": struct.pack("<Q", chance.choice([len(tensors), 2**60])) + tensors,
    }[suffix]


def forge(run: Path, path: Path, chance: random.Random) -> None:
    """A file of a dangerous content, and for a tile a record that vouches for it."""
    content, name = crafted(path.suffix, chance), path.relative_to(run).as_posix()
    path.write_bytes(content)
    for log in (run / "records").glob("*.jsonl"):
        lines = []
        for line in log.read_bytes().splitlines():
            with contextlib.suppress(ValueError, TypeError):
                record = json.loads(line)
                if record["file"] == name:
                    line = json.dumps({**record, "bytes": len(content), "sha256": sha256(content).hexdigest()}).encode()
            lines.append(line)
        log.write_bytes(b"\n".join(lines) + b"\n")


def add(run: Path, chance: random.Random) -> None:
    """Something of a user's own, or of nobody's."""
    folders = [path for path in (run, *sorted(run.rglob("*"))) if path.is_dir() and not path.is_symlink()]
    name = chance.choice(
        [".DS_Store", "mine.txt", "00001.png", ".x.png.7.tmp", "00009.png", "a b", "events.out.tfevents.x"]
    )
    path = chance.choice(folders) / name
    if not os.path.lexists(path):
        path.write_bytes(chance.choice([b"", b"mine", b"\x89PNG\r\n\x1a\n Software\0featlight 0"]))


def mutate(run: Path, outside: Path, chance: random.Random) -> str:
    """Do one damage; says which."""
    files = files_of(run)
    by_kind = {
        "plan": [run / "plan.json"],
        "records": [path for path in files if path.suffix == ".jsonl"],
        "outputs": [run / "outputs.txt"],
        "arrays": [path for path in files if path.suffix in (".npy", ".safetensors")],
        "pictures": [path for path in files if path.suffix in (".png", ".jpg")],
    }
    by_kind = {kind: [path for path in paths if path in files] for kind, paths in by_kind.items()}
    kind = chance.choice(
        [*("plan",) * 2, *("records",) * 4, "outputs", "arrays", "pictures", "any", "note", "config", "add"]
        + ["stand in"] * 4
        + ["gone"]
    )
    path = chance.choice(by_kind.get(kind) or files)
    if kind == "note":
        spoil_note(run, chance)
    elif kind == "config":
        spoil_config(run, chance)
    elif kind == "add":
        add(run, chance)
    elif kind in ("stand in", "gone"):
        here = [each for each in sorted(run.rglob("*")) if not each.is_symlink() and each.parent.is_dir()]
        path = chance.choice(here if chance.random() < 0.5 else [e for e in here if len(e.relative_to(run).parts) < 3])
        if kind == "gone":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        else:
            stand_in(path, outside, chance)
    elif any(each.stat().st_size > 1 << 24 for each in files):
        return "nothing"
    elif path.suffix in (".png", ".npy", ".safetensors") and chance.random() < 0.4:
        forge(run, path, chance)
    elif path.suffix in (".json", ".jsonl") and chance.random() < 0.7:
        with contextlib.suppress(ValueError, IndexError):  # damaged already
            spoil_json(path, chance)
    elif path.suffix in (".jsonl", ".txt") and chance.random() < 0.7:
        with contextlib.suppress(ValueError, IndexError):
            spoil_lines(path, chance)
    else:
        spoil_bytes(path, chance)
    return f"{kind} {path.relative_to(run)}"


# The commands


def read_all(run: Path) -> int:
    """What Python offers."""
    try:
        result = open_run(run)
        for i in range(len(result)):
            result[i]
    except FeatlightError as error:
        return error.exit_code
    return 0


def follow(run: Path) -> int:
    """What `featlight tensorboard` does before TensorBoard itself."""
    catch_up(run)
    return 0


def commands(config: Path, run: Path, place: Path) -> dict[str, Callable[[], int]]:
    out = ["--out", str(run)]
    return {
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


OFTEN = ("repair", "run", "zip", "render")


def hung(number: int, frame: object) -> None:
    raise HungError


def heard(do: Callable[[], int]) -> tuple[int | None, str, float]:
    """The exit code of a command (None: a traceback), its lines on standard error, and how long it took."""
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
    """All that is in a folder, but not in a run in it: names, kinds and contents."""
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
    """Those that are as they were made, and that the plan or a record names."""
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
    """Damage, type, look; as often as that."""
    chance, report = random.Random(seed), Report()
    bases, made = {}, {}
    for name, values in CONFIGS.items():
        config, base = root / f"{name}.yaml", root / "bases" / name
        config.write_text(yaml.safe_dump(values))
        code, said, _ = heard(lambda config=config, base=base: command(["--config", str(config), "--out", str(base)]))
        assert code == 0, said
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
        shutil.copytree(bases[name], run)
        (outside / "folder").mkdir(parents=True)
        (outside / "file").write_text("precious\n")
        (outside / "folder/line.jsonl").write_text("precious\n")
        (outside / "folder/00000.png").write_bytes(b"precious")
        for path in run.rglob("*"):
            os.utime(path, (time.time() - 3600,) * 2)
        done = [mutate(run, outside, chance) for _ in range(chance.choice([1, 1, 2, 3]))]
        for path in run.rglob("*"):
            os.utime(path, (time.time() - 3600,) * 2, follow_symlinks=False)
        place.mkdir()
        every = commands(root / f"{name}.yaml", run, place)
        typed = [
            chance.choice(OFTEN if chance.random() < 0.6 else list(every)) for _ in range(chance.choice([1, 2, 3]))
        ]
        _watch(report, name, every, typed, done, run, box, made[name])
    return report


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
    words = parser.parse_args(arguments)
    torch.set_num_threads(1)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, mock.patch("webbrowser.open", return_value=True):
        report = fuzz(words.mutations, words.seed, Path(folder))
    print(*report.faults, sep="\n")
    print(f"{report.mutations} mutations, {report.commands.total()} commands in {time.monotonic() - started:.0f} s")
    print(f"commands {dict(report.commands)}, exit codes {dict(sorted(report.codes.items()))}")
    print(f"slowest {report.slowest:.1f} s, faults {len(report.faults)}")
    return bool(report.faults)


if __name__ == "__main__":
    sys.exit(main())
