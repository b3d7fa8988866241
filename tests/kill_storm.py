"""Kill random workers of random runs with SIGKILL at random moments, and compare the tiles with those of a clean run.

python -m tests.kill_storm --kills 200
python -m tests.kill_storm --kills 20 --of diversity    # or directions: other tiles than features

Most workers are forked from a process with all imports done, so that a kill costs one second instead of ten. One start
in ten is the whole command with its supervisor.
"""

import argparse
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
import yaml

from featlight.cli.main import main as command
from tests import ROOT
from tools.dictionary import mixtures

CONFIG = {
    "model": "tiny_inception",
    "layer": ["Mixed_3a"],
    "features": "0-31",
    "batch_size": 2,
    "threads": 1,
    "recipe": {"octaves": [{"size": 32, "steps": 40, "lr": [0.1, 0.05], "sigma": [1.0, 0.5]}], "gradient": "rms"},
}
DICTIONARY = "dictionary.npy"
OF = {  # kinds of tiles; each config makes 32 tiles
    "features": {},
    "diversity": {"features": "0-7", "diversity": 4, "batch_size": 4},
    "directions": {"directions": DICTIONARY},
}
WAIT = 300.0  # seconds, for anything


@dataclass
class Report:
    kills: int = 0
    starts: int = 0
    runs: int = 0  # completed directories
    missing: int = 0  # tiles that a completed run lacks
    different: int = 0  # tiles that differ from those of the clean run
    doubled: int = 0  # tiles with contradictory records, and files without a record
    corrupt: int = 0  # tiles that do not match their records

    @property
    def good(self) -> bool:
        return not (self.missing or self.different or self.doubled or self.corrupt)


def start(config: Path, out: Path, *flags: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "featlight", "--config", str(config), "--out", str(out), *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def children(process: int) -> list[int]:
    """Return the child processes of a process, on Linux."""
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:  # the process has ended, or is ending
        return []


def records(out: Path) -> list[dict[str, object]]:
    found = []
    for path in out.glob("records/*.jsonl"):
        for line in path.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue  # torn by a kill
    return found


def tiles(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("tiles/**/*.png"))}


def fork(config: Path, out: Path, rank: int, workers: int) -> int:
    """Fork a worker with the environment that torchrun sets, and return its process id."""
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        sink = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(sink, stream)
        variables = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": workers,
            "LOCAL_WORLD_SIZE": workers,
            "GROUP_RANK": 0,
        }
        os.environ.update({name: str(value) for name, value in variables.items()}, TORCHELASTIC_RUN_ID="storm")
        code = command(["--config", str(config), "--out", str(out)])
    finally:
        os._exit(code)


def wound_forked(config: Path, out: Path, report: Report, most: int, chance: random.Random) -> None:
    """Fork some workers and kill them one by one; some end before."""
    workers = chance.choice([1, 2, 3])
    report.starts += 1
    before = len(records(out))
    alive = [fork(config, out, rank, workers) for rank in range(workers)]
    if chance.random() < 0.8:  # else while they start
        deadline = time.monotonic() + WAIT
        while len(records(out)) == before and time.monotonic() < deadline and not all(map(_has_ended, alive)):
            time.sleep(0.01)
    chance.shuffle(alive)
    for victim in alive:
        time.sleep(chance.uniform(0, 0.6))
        if not _has_ended(victim) and report.kills < most:
            report.kills += 1
        os.kill(victim, signal.SIGKILL)  # an ended process exists until it is waited for
        os.waitpid(victim, 0)


def _has_ended(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def wound(config: Path, out: Path, report: Report, most: int, chance: random.Random) -> None:
    """Start a run with some workers, and kill some of them, perhaps the supervisor, one by one."""
    workers = chance.choice([1, 2, 3])
    report.starts += 1
    before = len(records(out))
    with start(config, out, "--devices", str(workers)) as run:
        if chance.random() < 0.8:  # else while it starts
            deadline = time.monotonic() + WAIT
            while len(records(out)) == before and run.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
        ours = {run.pid}
        for _ in range(chance.randint(1, workers)):
            time.sleep(chance.uniform(0, 0.6))
            ours |= set(children(run.pid))
            alive = children(run.pid) + ([run.pid] if run.poll() is None else [])
            if not alive or report.kills == most:
                break
            victim = chance.choice(alive)
            os.kill(victim, signal.SIGKILL)
            report.kills += 1
        run.wait(WAIT)
    for worker in ours - {run.pid}:  # wait for the workers of a killed supervisor
        deadline = time.monotonic() + WAIT
        while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)


def check(out: Path, clean: dict[str, bytes], report: Report) -> None:
    """Compare a finished run with the clean one."""
    made, said = tiles(out), {}
    for record in records(out):
        said.setdefault(record["file"], set()).add((record["status"], record["sha256"]))
    report.runs += 1
    report.missing += len(clean.keys() - made.keys())
    report.different += sum(made[file] != clean[file] for file in made.keys() & clean.keys())
    report.doubled += sum(len(versions) > 1 for versions in said.values()) + len(made.keys() - said.keys())
    report.corrupt += sum(
        (("ok", sha256(png).hexdigest()) not in said[file]) for file, png in made.items() if file in said
    )


def clean_run(config: Path, root: Path) -> dict[str, bytes]:
    """Return the tiles of an undisturbed run; one worker and two must give the same."""
    made = []
    for workers in ("1", "2"):
        with start(config, root / f"clean-{workers}", "--devices", workers) as run:
            assert run.wait(WAIT) == 0
        made.append(tiles(root / f"clean-{workers}"))
    assert len(made[0]) == 32
    assert made[0] == made[1]
    return made[0]


def storm(kills: int, seed: int, root: Path, of: str = "features") -> Report:
    """Kill `kills` processes; complete and check every run directory."""
    importlib.import_module("featlight.run.worker")  # with everything that a worker imports
    chance, report = random.Random(seed), Report()
    config = root / "storm.yaml"
    np.save(root / DICTIONARY, mixtures(32, 96, seed))  # of Mixed_3a
    config.write_text(yaml.safe_dump(CONFIG | OF[of]))
    os.chdir(root)  # the config names the dictionary by a relative path
    clean = clean_run(config, root)
    number = 0
    while report.kills < kills:
        out, number = root / f"run-{number}", number + 1
        while report.kills < kills and len(tiles(out)) < len(clean):
            (wound if chance.random() < 0.1 else wound_forked)(config, out, report, kills, chance)
        _, status = os.waitpid(fork(config, out, 0, 1), 0)
        assert os.waitstatus_to_exitcode(status) == 0
        check(out, clean, report)
        print(json.dumps(asdict(report)), flush=True)
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("tests.kill_storm", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--of", choices=list(OF), default="features", help="kind of tiles (default: features)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # a process with threads must not fork
    with tempfile.TemporaryDirectory() as folder:
        return 0 if storm(options.kills, options.seed, Path(folder), options.of).good else 1


if __name__ == "__main__":
    sys.exit(main())
