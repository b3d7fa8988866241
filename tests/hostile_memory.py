"""Print the peak memory and the time of every command on hostile runs and hostile folders of images.

python -m tests.hostile_memory [--only WORD]

Each command is a process of its own, on a fresh copy of a small run that one kind of damage has made hostile. Its peak
is that of its largest process. The exit code is 1 if a command takes more than 1.5 GB or 60 seconds, or ends in a
traceback.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from itertools import cycle
from pathlib import Path

from PIL import Image

from tests.photographs import crops, folder_of
from tests.unit.test_image_io import HOSTILE, jpeg_of

MOST_MEGABYTES, MOST_SECONDS = 1500, 60
LINES, SPARSE, BEHIND = 10_000_000, 4 << 30, 500_000_000  # lines `{}`; bytes
RUN = ["--model", "tiny_inception", "--layer", "Mixed_3a", "--layer", "Mixed_4a", "--features", "0-3"]
RUN += ["--devices", "1", "--threads", "1"]
RUN += ["--recipe", "lucid", "--set", "recipe.octaves=[{size: 32, steps: 1, lr: [0.1, 0.1]}]", "--out", "run"]
EXAMPLES = ["examples", "--top", "100", "--devices", "1", "--out", "run", "--images"]
# Between this process and the command: a process counts the memory of the one that started it as its own
MEASURE = """
import os, sys
child = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ)
_, status, usage = os.wait4(child, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""
READ = """
import sys, featlight
try:
    featlight.open_run("run").images
except featlight.errors.FeatlightError as error:
    sys.exit(f"featlight: {error}")
"""
COMMANDS = {
    "verify": ["verify", "--out", "run"],
    "verify --repair": ["verify", "--repair", "--out", "run"],
    "--render-only": ["--render-only", "--out", "run"],
    "view": ["view", "--out", "run"],
    "alike": ["alike", "--method", "pca", "--out", "run"],
    "export --zip --card": ["export", "--zip", "site.zip", "--card", "card.md", "--out", "run"],
    "export --webp": ["export", "--webp", "webp", "--out", "run"],
    "export --poster": ["export", "--poster", "poster.pdf", "--examples", "--out", "run"],
    "examples": [*EXAMPLES, "photographs"],
    "circuits": ["circuits", "--out", "run"],
    "the run": RUN,
    "--dry-run": [*RUN, "--dry-run"],
    "--fresh": [*RUN, "--fresh"],
    "tensorboard": [
        "-c",
        "from pathlib import Path; from featlight.report.tensorboard.writer import *; catch_up(Path('run'))",
    ],
    "open_run": ["-c", READ],
}
CROWDS = {  # files of a folder, by their names
    "300,000 files in tiles": (300_000, "tiles/Mixed_3a/x{}.png"),
    "300,000 files in folders of tiles": (300_000, "tiles/x{0}/{0}.png"),
    "50,000 files .running-*": (50_000, ".running-{}"),
    "50,000 drafts of .running": (50_000, "..running.0000000a-1-{:04x}.tmp"),
    "100,000 files in records": (100_000, "records/worker-{}.jsonl"),
    "100,000 files in examples/found": (100_000, "examples/found/worker-{}.safetensors"),
    "100,000 files in circuits/found": (100_000, "circuits/found/worker-{}.jsonl"),
    "100,000 files in tensorboard": (100_000, "tensorboard/events.out.tfevents.{}"),
}
ON_IMAGES = {f"examples --fit {fit}": [*EXAMPLES, "hostile", "--fit", fit] for fit in ("auto", "512", "none")}


def pictures(run: Path) -> None:
    """Put hostile pictures in the place of tiles and examples, with records that fit."""
    hostile = cycle(content for content, _ in HOSTILE.values())
    records = run / "records/worker-0.jsonl"
    lines = []
    for line in records.read_text().splitlines():
        record = json.loads(line)
        content = next(hostile)
        (run / record["file"]).write_bytes(content)
        lines.append(json.dumps({**record, "bytes": len(content), "sha256": sha256(content).hexdigest()}))
    records.write_text("\n".join(lines) + "\n")
    for path in run.glob("examples/**/*.jpg"):
        path.write_bytes(jpeg_of(11_200, 224))


def endless_records(run: Path) -> None:
    for name in ("records/worker-0.jsonl", "records/worker-1.jsonl", "examples/examples.jsonl", "outputs.txt"):
        with (run / name).open("ab") as file:
            file.write(b"{}\n" * LINES)


def sparse(run: Path) -> None:
    for path in run.rglob("*"):
        if path.is_file() and path.name != "plan.json":
            os.truncate(path, SPARSE)


def behind_plan(run: Path) -> None:
    with (run / "plan.json").open("ab") as file:
        file.write(b" " * BEHIND)


def crowd(run: Path, count: int, name: str) -> None:
    """Write many small files, all with the same content and an hour old."""
    source = run.with_name("source")
    source.write_bytes(b"\x89PNG\r\n\x1a\n Software\0featlight 0")
    os.utime(source, (time.time() - 7200,) * 2)
    for number in range(count):
        path = run / name.format(number)
        if number == 0 or "{0}/" in name:
            path.parent.mkdir(parents=True, exist_ok=True)
        if number % 10_000 == 0:  # a file has a limited number of links
            shutil.copy2(source, path)
            source = path
        elif not path.exists():
            path.hardlink_to(source)


def hostile_images(folder: Path) -> None:
    """Write hostile pictures, and the largest ones that are taken."""
    folder.mkdir()
    for number, (content, _) in enumerate(HOSTILE.values()):
        (folder / f"hostile{number}.png").write_bytes(content)
    Image.new("RGB", (8000, 6200), (9, 99, 200)).save(folder / "area.png")
    Image.new("RGBA", (7000, 7000), (9, 99, 200, 100)).save(folder / "clear.png")
    Image.new("I;16", (7000, 7000), 30_000).save(folder / "deep.png")
    Image.new("CMYK", (7000, 7000)).save(folder / "print.jpg")
    Image.new("RGB", (5700, 5700)).save(folder / "photo.webp", lossless=True)
    Image.new("RGB", (40_000, 1)).save(folder / "row.png")
    for number in range(8):
        Image.new("RGB", (4096, 4096), (9, 99, 30 * number)).save(folder / f"unfitted{number}.png", compress_level=1)
    Image.new("RGB", (2048, 1024), (9, 200, 99)).save(folder / "largest unfitted.png")
    (folder / "sparse.png").touch()
    os.truncate(folder / "sparse.png", 8 << 30)


def damages() -> Iterator[tuple[str, Callable[[Path], None], dict[str, list[str]]]]:
    """Yield the kinds of hostile runs: name, function that makes one, and the commands."""
    yield "hostile pictures as tiles", pictures, COMMANDS
    yield f"{LINES:,} lines {{}}", endless_records, COMMANDS
    yield "files of 4 GB", sparse, COMMANDS
    yield "500 MB behind plan.json", behind_plan, COMMANDS
    for name, (count, pattern) in CROWDS.items():
        yield name, partial(crowd, count=count, name=pattern), COMMANDS
    yield "hostile pictures as --images", lambda run: hostile_images(run.with_name("hostile")), ON_IMAGES


def measured(words: list[str], place: Path) -> tuple[int, float, float, str]:
    """Run a command; return its exit code (-9 after four times the limit), seconds, peak in MB, and standard error."""
    command = [sys.executable, "-c", MEASURE, *([] if words[0] == "-c" else ["-m", "featlight"]), *words]
    environment = {**os.environ, "BROWSER": "true", "XDG_CACHE_HOME": str(place / "cache")}
    started = time.monotonic()
    with (place / "output").open("w+") as output, (place / "error").open("w+") as error:
        process = subprocess.Popen(
            command, cwd=place, stdout=output, stderr=error, env=environment, start_new_session=True
        )
        try:
            process.wait(4 * MOST_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        seconds = time.monotonic() - started
        output.seek(0)
        error.seek(0)
        last = (output.read().splitlines() or [""])[-1].split()
        code, peak = map(int, last) if process.returncode == 0 else (-9, 0)
        return code, seconds, peak / 1000, error.read()


def main() -> int:
    parser = argparse.ArgumentParser("tests.hostile_memory", description=__doc__)
    parser.add_argument("--only", default="", help="part of the name of a kind or a command")
    only = parser.parse_args().only
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        base, place = Path(folder) / "base", Path(folder) / "place"
        folder_of(base / "photographs", crops(3, side=48))
        for words in (RUN, *(COMMANDS[name] for name in ("examples", "circuits", "alike"))):
            code, *_, error = measured(words, base)
            assert code == 0, error
        for kind, damage, commands in damages():
            for name, words in commands.items():
                if only not in f"{kind} {name}":
                    continue
                shutil.rmtree(place, ignore_errors=True)
                shutil.copytree(base, place)
                damage(place / "run")
                code, seconds, peak, error = measured(words, place)
                is_bad = peak > MOST_MEGABYTES or seconds > MOST_SECONDS or "Traceback" in error or code < 0
                faults += is_bad
                said = (error.strip().splitlines() or [""])[-1][:150]
                mark = "  <-" if is_bad else ""
                print(f"{kind:34} {name:20} {code:3} {seconds:6.1f} s {peak:6.0f} MB{mark}  {said}", flush=True)
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
