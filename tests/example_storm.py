"""Find examples with one, two and four workers, and with workers that SIGKILL stops at random, and compare the results.

python -m tests.example_storm --kills 40

Workers are forked from a process with all imports done. Each has one decoding process. Two are killed at a time.
"""

import argparse
import os
import random
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch

from featlight.distributed.env import Worker
from featlight.examples.find import find
from featlight.examples.manifest import ExamplesRequest
from tests.photographs import crops, folder_of, planned_run

WORKERS = (1, 2, 4)
KILLED = 2


def fork(out: Path, request: ExamplesRequest, rank: int, workers: int) -> int:
    """Start a worker in its own process group, and return its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setpgid(0, 0)
        torch.set_num_threads(1)
        find(out, request, worker=Worker(rank, workers), processes=1)
        code = 0
    finally:
        os._exit(code)


def was_killed(child: int) -> bool:
    """Kill a worker and its decoding process; return whether it was still running."""
    at_work = os.waitpid(child, os.WNOHANG) == (0, 0)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return at_work


def everything(out: Path) -> dict[str, bytes]:
    """Return the files that users see, by path."""
    files = [
        *(out / "examples" / name for name in ("examples.jsonl", "about.json")),
        *sorted((out / "examples").rglob("*.jpg")),
    ]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def storm(kills: int, images: int, seed: int) -> dict[str, int]:
    """Return counts of undisturbed workers, kills, starts, passes, and passes with different results."""
    chance = random.Random(seed)
    report = {"undisturbed": 0, "kills": 0, "starts": 0, "passes": 0, "different": 0}
    with tempfile.TemporaryDirectory() as name:
        folder = folder_of(Path(name) / "images", crops(images))
        fresh, request = Path(name) / "fresh", ExamplesRequest(folder, top=5, batch_size=8)
        planned_run(fresh, layer={"Mixed_3a": "0-15", "Mixed_4a": "0-7"})
        clean = Path(shutil.copytree(fresh, Path(name) / "clean"))
        find(clean, request, processes=0)
        expected = everything(clean)
        for workers in WORKERS:
            out = Path(shutil.copytree(fresh, Path(name) / f"by-{workers}"))
            for child in [fork(out, request, rank, workers) for rank in range(workers)]:
                report["undisturbed"] += os.waitpid(child, 0)[1] == 0
            report["passes"] += 1
            report["different"] += everything(out) != expected
        while report["kills"] < kills:
            out = Path(shutil.copytree(fresh, Path(name) / f"run-{report['passes']}"))
            while not (out / "examples/examples.jsonl").exists():
                children = [fork(out, request, rank, KILLED) for rank in range(KILLED)]
                report["starts"] += len(children)
                for child in children if report["kills"] < kills else ():
                    time.sleep(chance.uniform(0.05, 1.2))
                    report["kills"] += was_killed(child)
                for child in children:
                    with suppress(ChildProcessError):  # already waited for
                        os.waitpid(child, 0)
            find(out, request, processes=0)  # completes whatever was killed last
            report["passes"] += 1
            report["different"] += everything(out) != expected
            shutil.rmtree(out)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    report = storm(options.kills, options.images, options.seed)
    print(", ".join(f"{count} {word}" for word, count in report.items()))
    raise SystemExit(1 if report["different"] or report["undisturbed"] < sum(WORKERS) else 0)


if __name__ == "__main__":
    main()
