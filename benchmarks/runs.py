"""Measurements of whole commands, each in its own process: time, memory, tiles per second."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

ONE_STEP = {"octaves": [{"size": 80, "steps": 1, "lr": [0.1, 0.1], "sigma": [1.0, 1.0]}]}

# On Linux, the peak memory of a process includes that of its parent at the fork, so a small process starts the command.
_SMALL = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def command(*flags: str) -> tuple[float, int]:
    """Run a command and return its seconds and peak resident memory in bytes."""
    started = time.perf_counter()
    arguments = [sys.executable, "-c", _SMALL, sys.executable, "-m", "featlight", *flags]
    process = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if process.returncode:
        raise SystemExit(f"featlight {' '.join(flags)}: exit code {process.returncode}")
    return time.perf_counter() - started, int(process.stdout) * 1024


def commands(help_times: int = 3) -> dict[str, float]:
    """Return the seconds of --help and of a second start of a finished run, the shortest of `help_times`."""
    with tempfile.TemporaryDirectory() as folder:
        flags = [*_config(folder, {"features": "0-7", "recipe": ONE_STEP}), "--out", f"{folder}/run"]
        command(*flags)
        again = min(command(*flags)[0] for _ in range(help_times))
    return {"help": min(command("--help")[0] for _ in range(help_times)), "finished run": again}


def layer_sizes(sizes: Sequence[int], model: str, layer: str, size: int) -> list[dict[str, float]]:
    """Return peak memory and seconds of runs with one step over growing numbers of features."""
    recipe = {"octaves": [{"size": size, "steps": 1, "lr": [0.1, 0.1], "sigma": [1.0, 1.0]}]}
    found = []
    for features in sizes:
        with tempfile.TemporaryDirectory() as folder:
            values = {"model": model, "layer": [layer], "features": f"0-{features - 1}", "recipe": recipe}
            if model != "tiny_inception":
                values["weights"] = "none"
            flags = [*_config(folder, values), "--devices", "1", "--out", f"{folder}/run"]
            taken, memory = command(*flags)
        found.append({"features": features, "size": size, "seconds": round(taken, 1), "peak_bytes": memory})
    return found


def workers(counts: Sequence[int], features: int, rounds: int) -> list[dict[str, float]]:
    """Return tiles per second of the embedded network by number of workers with one thread each, without start-up.

    Rounds alternate between the counts. Time is measured from the first chunks on disk to the last chunk; the first
    chunk of each worker is not counted.
    """
    best: dict[int, float] = {}
    for _ in range(rounds):
        for count in counts:
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder, "run")
                values = {"features": f"0-{features - 1}", "threads": 1, "batch_size": 8, "accelerator": "cpu"}
                command(*_config(folder, values), "--devices", str(count), "--out", str(out))
                ends = sorted(path.stat().st_mtime for path in out.glob("tiles/**/*.png"))
            first = 8 * count
            best[count] = max(best.get(count, 0.0), (len(ends) - first) / (ends[-1] - ends[first - 1]))
    return [{"workers": count, "tiles_per_second": round(rate, 3)} for count, rate in best.items()]


def _config(folder: str, values: dict[str, Any]) -> list[str]:
    path = Path(folder, "config.yaml")
    path.write_text(yaml.safe_dump(values))
    return ["--config", str(path)]
