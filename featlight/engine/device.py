"""A worker's device, its memory, reproducible arithmetic, and the global random streams."""

import ctypes
import os
import platform
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.memory import is_oom_error
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from featlight.ambient import isolated
from featlight.distributed.env import ALONE, LAUNCHER, Worker
from featlight.distributed.launcher import machine_memory
from featlight.errors import UsageError, is_full_memory

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
    return is_full_memory(error) or (isinstance(error, Exception) and is_oom_error(error))


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


# Numbers of glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
RETURNED_BLOCK = 1 << 20  # bytes; smaller ones are kept
LARGEST_BLOCK = 1 << 30  # bytes; larger ones are mapped and unmapped as before
MOST_SPARE = (1 << 31) - 1  # bytes at the end of the heap that are kept
VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")  # set by the user, they take precedence


def keep_memory() -> bool:
    """Make the C library keep freed memory; return whether it does.

    By default glibc maps each large block anew and unmaps it when it is freed, so the kernel clears its pages again.
    On networks with large maps this took more than half of a step.
    """
    return _set_malloc((M_MMAP_THRESHOLD, LARGEST_BLOCK), (M_TRIM_THRESHOLD, MOST_SPARE))


def return_memory() -> bool:
    """Make the C library return each large block to the system when it is freed; return whether it does.

    By default glibc keeps blocks of up to 32 MB, and small ones between them hold half a gigabyte.
    """
    return _set_malloc((M_MMAP_THRESHOLD, RETURNED_BLOCK))


def _set_malloc(*settings: tuple[int, int]) -> bool:
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in VARIABLES):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(*setting) for setting in settings)


class Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own __init_subclass__
    """Records the first operation that draws from torch's random stream."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = device
        self.stack: Sequence[str] = ("",)
        self.place: str | None = None  # the module that runs it

    def _state(self) -> Tensor:
        on_gpu = self._device.type == "cuda"
        parts = [torch.get_rng_state(), *([torch.cuda.get_rng_state(self._device)] if on_gpu else [])]
        return torch.cat(parts)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        seeded = torch.Tag.nondeterministic_seeded in func.tags  # attention too, which then draws nothing
        before = self._state() if seeded and self.place is None else None
        result = func(*args, **(kwargs or {}))
        if before is not None and not torch.equal(before, self._state()):
            self.place = self.stack[-1]
        return result


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed every global random stream inside the context, then restore them."""
    before = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
