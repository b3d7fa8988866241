"""Records of measurements: hardware, versions, date, command and commit."""

import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
import torchvision

TREE = Path(__file__).parents[1]


def surroundings(device: torch.device, benchmark: str, arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Return hardware, versions, date, command and commit.

    Args:
        device: measured device.
        benchmark: name of the module.
        arguments: arguments of the module; None for those of the command line.
    """
    where: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", "-m", benchmark, *(sys.argv[1:] if arguments is None else arguments)]),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain") else ""),
        "versions": {m.__name__: str(m.__version__) for m in (torch, torchvision, lightning)}
        | {"python": platform.python_version(), "cuda": torch.version.cuda},
        "cpu": {"name": _cpu_name(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "bf16": _has_bf16()},
    }
    if device.type == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        where["gpu"] = {"name": gpu.name, "memory": gpu.total_memory}
    return where


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=TREE, capture_output=True, text=True, check=False).stdout.strip()


def _cpu_info() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def _cpu_name() -> str:
    names = [line.partition(":")[2].strip() for line in _cpu_info().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _has_bf16() -> bool:
    return "avx512_bf16" in _cpu_info() or "amx_bf16" in _cpu_info()


def write(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1) + "\n")
    print(f"record: {path}")


def peak_megabytes(process: int) -> float:
    """Return the peak memory of a process on Linux; 0 if it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1e3 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)
