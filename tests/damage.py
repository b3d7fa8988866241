"""Random damage to a run directory: altered contents, and links, pipes or folders in place of its files."""

import contextlib
import json
import os
import random
import shutil
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.pngs import part, png

ENDLESS = 1 << 42  # bytes of a sparse file
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


def files_of(run: Path) -> list[Path]:
    return sorted(path for path in run.rglob("*") if path.is_file() and not path.is_symlink())


def nodes(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container and key in a nested value."""
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree))) if isinstance(tree, list) else []
    for key in keys:
        yield tree, key
        yield from nodes(tree[key])


def twist(tree: Any, chance: random.Random) -> None:
    """Change one entry of a nested value."""
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
                json.dumps(tree)  # the value may contain itself now
                return
            holder[key] = None
        case _:
            holder[key] = chance.choice(VALUES)


def spoil_json(path: Path, chance: random.Random) -> None:
    """Change one value of a JSON file, or of one line of a JSON Lines file."""
    lines = path.read_bytes().splitlines() if path.suffix == ".jsonl" else [path.read_bytes()]
    number = chance.randrange(len(lines))
    tree = json.loads(lines[number])
    twist(tree, chance)
    lines[number] = json.dumps(tree, indent=None if path.suffix == ".jsonl" else 1).encode()
    path.write_bytes(b"\n".join(lines) + b"\n")


def spoil_lines(path: Path, chance: random.Random) -> None:
    """Delete, repeat or insert lines."""
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
    """Flip bits, truncate, overwrite bytes or insert some."""
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
    """Replace a file or folder by a link, a pipe, a folder, a huge or an empty file, or nothing."""
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
    """Return a file whose header makes a reader allocate or unpack too much."""
    side = chance.choice([0, 1, 9000, 60_000, 2**31 - 1])
    text = part(b"zTXt", b"featlight\0\0" + zlib.compress(bytes(1 << 22)))
    picture = png(side, side, text, depth=chance.choice([8, 16, 3]), color=chance.choice([0, 2, 3, 6]))
    shape = chance.choice(["(1000000000000,)", "(2, 10000000000)", "(-1, 3)", "(2, 3)", "()", "2", "(" * 5000])
    words = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    tensors = json.dumps({"image": {"dtype": "F32", "shape": [3, 2**40], "data_offsets": [0, 3 * 2**42]}}).encode()
    return {
        ".png": picture,
        ".npy": b"\x93NUMPY\1\0" + struct.pack("<H", len(words)) + words,
        ".safetensors": struct.pack("<Q", chance.choice([len(tensors), 2**60])) + tensors,
    }[suffix]


def forge(run: Path, path: Path, chance: random.Random) -> None:
    """Write a file with dangerous content, and a record with its checksum if it is a tile."""
    content, name = crafted(path.suffix, chance), path.relative_to(run).as_posix()
    path.write_bytes(content)
    for log in [each for each in files_of(run) if each.suffix == ".jsonl"]:
        lines = []
        for line in log.read_bytes().splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError):
                record = json.loads(line)
                if record["file"] == name:
                    line = json.dumps({**record, "bytes": len(content), "sha256": sha256(content).hexdigest()}).encode()
            lines.append(line)
        log.write_bytes(b"\n".join(lines) + b"\n")


def add(run: Path, chance: random.Random) -> None:
    """Add a file that featlight did not write."""
    folders = [path for path in (run, *sorted(run.rglob("*"))) if path.is_dir() and not path.is_symlink()]
    name = chance.choice(
        [".DS_Store", "mine.txt", "00001.png", ".x.png.7.tmp", "00009.png", "a b", "events.out.tfevents.x"]
    )
    path = chance.choice(folders) / name
    if not os.path.lexists(path):
        path.write_bytes(chance.choice([b"", b"mine", b"\x89PNG\r\n\x1a\n Software\0featlight 0"]))


def mutate(run: Path, outside: Path, chance: random.Random) -> str:
    """Apply one random damage, and return its description."""
    files = files_of(run)
    by_kind = {
        "plan": [run / "plan.json"],
        "records": [path for path in files if path.suffix == ".jsonl"],
        "outputs": [run / "outputs.txt"],
        "arrays": [path for path in files if path.suffix in (".npy", ".safetensors")],
        "pictures": [path for path in files if path.suffix in (".png", ".jpg")],
        "examples": [path for path in files if path.is_relative_to(run / "examples")],
        "alike": [path for path in files if path.is_relative_to(run / "alike")],
    }
    by_kind = {kind: [path for path in paths if path in files] for kind, paths in by_kind.items()}
    kind = chance.choice(
        [
            *("plan",) * 2,
            *("records",) * 4,
            "outputs",
            "arrays",
            "pictures",
            "examples",
            "examples",
            "alike",
            "any",
            "note",
            "config",
            "add",
        ]
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
        with contextlib.suppress(ValueError, IndexError):  # an earlier damage made it unreadable
            spoil_json(path, chance)
    elif path.suffix in (".jsonl", ".txt") and chance.random() < 0.7:
        with contextlib.suppress(ValueError, IndexError):
            spoil_lines(path, chance)
    else:
        spoil_bytes(path, chance)
    return f"{kind} {path.relative_to(run)}"


@contextmanager
def nested_folders(top: Path, levels: int) -> Iterator[None]:
    """Make folders inside each other; they are removed at the end, as `shutil.rmtree` fails on so many."""
    made = [top]
    while len(made) <= levels:
        made.append(made[-1] / "a")
    for folder in made:
        folder.mkdir(exist_ok=True)
    yield
    for folder in reversed(made[1:]):
        folder.rmdir()
