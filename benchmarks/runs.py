"""Whole commands, each in a process of its own: time, memory, tiles a second."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

ONE_STEP = {"octaves": [{"size": 80, "steps": 1, "lr": [0.1, 0.1], "sigma": [1.0, 1.0]}]}

# Linux counts what a process was before `exec` as its own peak: a small one has to start the command.
_SMALL = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def command(*words: str) -> tuple[float, int]:
    """Seconds and peak resident memory (bytes) of a command that ends well."""
    started = time.perf_counter()
    arguments = [sys.executable, "-c", _SMALL, sys.executable, "-m", "featlight", *words]
    process = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if process.returncode:
        raise SystemExit(f"featlight {' '.join(words)}: exit code {process.returncode}")
    return time.perf_counter() - started, int(process.stdout) * 1024


def commands(help_times: int = 3) -> dict[str, float]:
    """What --help and a second start of a finished run cost, in seconds, the shortest of some."""
    with tempfile.TemporaryDirectory() as folder:
        words = [*_config(folder, {"features": "0-7", "recipe": ONE_STEP}), "--out", f"{folder}/run"]
        command(*words)
        again = min(command(*words)[0] for _ in range(help_times))
    return {"help": min(command("--help")[0] for _ in range(help_times)), "finished run": again}


def layer_sizes(sizes: Sequence[int], model: str, layer: str, size: int) -> list[dict[str, float]]:
    """Peak memory and seconds of runs over ever more features of a layer, one step each."""
    recipe = {"octaves": [{"size": size, "steps": 1, "lr": [0.1, 0.1], "sigma": [1.0, 1.0]}]}
    found = []
    for features in sizes:
        with tempfile.TemporaryDirectory() as folder:
            values = {"model": model, "layer": [layer], "features": f"0-{features - 1}", "recipe": recipe}
            if model != "tiny_inception":
                values["weights"] = "none"
            words = [*_config(folder, values), "--devices", "1", "--out", f"{folder}/run"]
            taken, memory = command(*words)
        found.append({"features": features, "size": size, "seconds": round(taken, 1), "peak_bytes": memory})
    return found


def workers(counts: Sequence[int], features: int, rounds: int) -> list[dict[str, float]]:
    """Tiles a second of the embedded network with so many workers of one thread each, start-up left out.

    Rounds alternate. The clock runs from the first chunk on disk to the last; the first chunk of each worker is not
    counted.
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
