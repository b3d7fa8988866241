"""Measure seconds and memory of a run with very many directions that is stopped twice.

python -m benchmarks.dictionary --count 65536 --out runs/dictionary

The dictionary holds seeded mixtures of features of the embedded network's smallest layer. Each tile of 32 px takes
three steps. At a third of the tiles, the command gets SIGTERM; at two thirds, one worker gets SIGKILL. The same command
then resumes the run. `python -m benchmarks.viewer --tiles N --out DIR` measures the viewer.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmarks import record, runs
from tests.kill_storm import children
from tools.dictionary import labels, mixtures

LAYER, FEATURES = "Conv2d_1a_5x5", 16  # of the embedded network
RECIPE = {"octaves": [{"size": 32, "steps": 3, "lr": [0.1, 0.05]}], "gradient": "rms"}
OFTEN = 0.1  # seconds


class Part:
    """One execution of the command, observed until it ends.

    Args:
        arguments: arguments of the command.
        out: run directory.
    """

    def __init__(self, arguments: Sequence[str], out: Path) -> None:
        self._out, self._seen = out, 0
        self._read: dict[Path, int] = {}  # bytes, by file of records
        self._before = self._tiles()
        self._started = time.perf_counter()
        self._process = subprocess.Popen([sys.executable, "-m", "featlight", *arguments], stdout=subprocess.DEVNULL)
        self._peaks: dict[int, float] = {}
        self._first = self._last = 0.0  # seconds until its first tile, and its last one
        self._watch = threading.Thread(target=self._look)
        self._watch.start()

    def _look(self) -> None:
        while self._process.poll() is None:
            for process in [self._process.pid, *children(self._process.pid)]:
                self._peaks[process] = max(record.peak_megabytes(process), self._peaks.get(process, 0.0))
            before, now = self._seen, time.perf_counter() - self._started
            if self._tiles() > before:
                self._first, self._last = self._first or now, now
            time.sleep(OFTEN)

    def _tiles(self) -> int:
        """Return the number of recorded tiles; read only lines that are new since the last call."""
        for path in self._out.glob("records/*.jsonl"):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                new = file.read()
            self._read[path] = self._read.get(path, 0) + len(new)
            self._seen += new.count(b"\n")
        return self._seen

    def kill_at(self, tiles: int, what: signal.Signals, *, worker: bool) -> None:
        """Send a signal to the command or one of its workers when a number of tiles has been made."""
        while self._seen < tiles and self._process.poll() is None:
            time.sleep(OFTEN)
        victims = [self._process.pid, *(children(self._process.pid) if worker else ())]  # a single worker has no child
        if self._process.poll() is None:
            os.kill(victims[-1], what)

    def end(self, name: str) -> dict[str, Any]:
        """Wait for the end, and return the measurements."""
        code, taken = self._process.wait(), time.perf_counter() - self._started
        self._watch.join()
        own = self._peaks.pop(self._process.pid)
        found = {
            "part": name,
            "exit_code": code,
            "tiles": self._seen - self._before,
            "seconds": round(taken, 1),
            "seconds_to_first_tile": round(self._first, 1),
            "seconds_after_last_tile": round(taken - self._last, 1),
            "peak_megabytes": round(own),
            "peak_megabytes_of_workers": [round(each) for each in self._peaks.values()],
        }
        print(found, flush=True)
        return found


def whole_run(arguments: Sequence[str], out: Path, count: int) -> list[dict[str, Any]]:
    """Make the run in three parts."""
    first = Part(arguments, out)
    first.kill_at(count // 3, signal.SIGTERM, worker=False)
    found = [first.end("until SIGTERM, at a third")]
    second = Part(arguments, out)
    second.kill_at(2 * count // 3, signal.SIGKILL, worker=True)
    found.append(second.end("until a worker's SIGKILL, at two thirds"))
    return [*found, Part(arguments, out).end("to the end")]


def once(name: str, *arguments: str) -> dict[str, Any]:
    """Measure a command on the finished run."""
    seconds, peak = runs.command(*arguments)
    found = {"command": name, "seconds": round(seconds, 1), "peak_megabytes": round(peak / 1e6)}
    print(found, flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=65_536, help="number of directions (default: 65536)")
    parser.add_argument("--batch-size", type=int, default=256, help="images in a batch (default: 256)")
    parser.add_argument("--devices", default="2", help="number of workers (default: 2)")
    parser.add_argument(
        "--out", type=Path, required=True, help="new run directory; the dictionary is written beside it"
    )
    parser.add_argument("--record", type=Path, help="JSON file for the record")
    options = parser.parse_args(arguments)
    out, beside = options.out, options.out.parent
    beside.mkdir(parents=True, exist_ok=True)
    rows = mixtures(options.count, FEATURES, 0)
    np.save(beside / "dictionary.npy", rows)
    (beside / "dictionary.txt").write_text("\n".join(labels(rows)) + "\n")
    values: dict[str, Any] = {
        "model": "tiny_inception",
        "layer": [LAYER],
        "recipe": RECIPE,
        "batch_size": options.batch_size,
        "threads": 1,
    }
    values |= {"directions": str(beside / "dictionary.npy"), "labels": str(beside / "dictionary.txt")}
    (beside / "dictionary.yaml").write_text(yaml.safe_dump(values))
    command = ["--config", str(beside / "dictionary.yaml"), "--out", str(out), "--devices", options.devices]
    parts = whole_run(command, out, options.count)
    after = [
        once("verify", "verify", "--out", str(out)),
        once("the same again", *command),
        once("--dry-run --fresh", *command, "--dry-run", "--fresh"),
        once("--render-only", "--render-only", "--out", str(out)),
    ]
    if options.record is not None:
        here = record.surroundings(torch.device("cpu"), "benchmarks.dictionary", arguments)
        record.write(options.record, {**here, "count": options.count, "parts": parts, "after": after})


if __name__ == "__main__":
    main()
