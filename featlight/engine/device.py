"""A worker's device, its memory, and reproducible arithmetic."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch.utilities.memory import is_oom_error

from featlight.ambient import isolated
from featlight.distributed.env import ALONE, LAUNCHER, Worker
from featlight.distributed.launcher import machine_memory
from featlight.errors import UsageError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp64": torch.float64}


def device_of(accelerator: str, worker: Worker = ALONE) -> torch.device:
    """Return a worker's device: its own visible CUDA GPU, or the CPU. MPS is never chosen automatically.

    Args:
        accelerator: `auto`, `cpu` or `gpu`.
        worker: worker that gets the device; with one visible GPU, its launcher has already chosen it.

    Raises:
        UsageError: no GPU is visible although one is requested, or there are fewer GPUs than workers.
    """
    gpus = torch.cuda.device_count() if accelerator != "cpu" and torch.cuda.is_available() else 0
    if accelerator == "gpu" and not gpus:
        raise UsageError("accelerator: gpu given, but no CUDA GPU is visible; allowed: auto, cpu")
    if not gpus:
        return torch.device("cpu")
    index = 0 if gpus == 1 and worker.launcher != LAUNCHER else worker.local_rank
    if index >= gpus:
        raise UsageError(f"devices: a worker {index + 1} on this machine, but {gpus} GPUs are visible; a GPU each")
    return torch.device("cuda", index)


def device_named(name: str | torch.device) -> torch.device:
    """Return the device that torch knows under a name.

    Raises:
        UsageError: torch knows no such device, or no GPU is visible.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device: {name!r} given; auto, cpu, cuda or cuda:0 is allowed") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device: {name!s} given, but no CUDA GPU is visible; allowed: auto, cpu")
    return device


def memory_of(device: torch.device) -> int:
    """Return the memory of a GPU, or of this machine for the CPU, in bytes."""
    if device.type == "cuda":
        total: int = torch.cuda.get_device_properties(device).total_memory
        return total
    return machine_memory()


def is_out_of_memory(error: BaseException) -> bool:
    words = ("ALLOC_FAILED", "bad_alloc")  # of cuBLAS and cuDNN, and of C++; the others Lightning knows
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, Exception) and (is_oom_error(error) or any(word in str(error) for word in words))


@contextmanager
def repeatable(threads: int) -> Iterator[None]:
    """Make arithmetic reproducible inside the context: a fixed number of CPU threads, and no TF32 on a GPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with (
            isolated(),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            torch.manual_seed(0)  # for a network that draws, a functional dropout say
            yield
    finally:
        torch.set_num_threads(before)
