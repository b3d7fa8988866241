"""The supervisor that starts and watches the workers of one machine, and a worker's connection to it.

Each worker runs the same command line. The supervisor sends lines to a worker's standard input: `stop SIGTERM`, or
`alone` (all other workers have ended). A worker also stops when its standard input is closed, so it never outlives the
supervisor. A line that several workers write to standard error is printed once.
"""

import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from featlight.distributed.env import Worker
from featlight.distributed.signals import Stop
from featlight.ending import end_at_once, line_of
from featlight.errors import Interrupted, UsageError

TICK = 0.1  # seconds
MOST_WORKERS = 16  # on a CPU, unless the user gives a number
WORKER_BYTES = 3 * 2**30  # memory of each worker on a CPU
UNKNOWN_MEMORY = 8 * 2**30


class Supervisor:
    """Starts workers, passes signals on, and waits for all of them.

    Args:
        command: command line of each worker.
        workers: workers to start.
        stop: stop request of this process.
    """

    def __init__(self, command: Sequence[str], workers: Sequence[Worker], stop: Stop) -> None:
        self._command = command
        self._workers = workers
        self._stop = stop
        self._children: dict[int, subprocess.Popen[bytes]] = {}  # by rank; running ones only
        self._ended: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._printed: Counter[bytes] = Counter()
        self.codes: dict[int, int] = {}  # exit codes by rank; a negative one is the number of a signal

    def run(self, hold: Callable[[], bool] = lambda: False) -> None:
        """Start the workers and wait until all have ended.

        Args:
            hold: polled until it returns False, before the workers after the first are started.
        """
        self._stop.at_once = self._end_at_once
        try:
            self._start(self._workers[0])
            while hold() and self._children and self._stop.asked_by is None:
                self._wait()
            if self._children and self._stop.asked_by is None:
                for worker in self._workers[1:]:
                    self._start(worker)
            has_told = False
            while self._children:
                if self._stop.asked_by is not None and not has_told:
                    has_told = True
                    for rank in self._children:
                        self._tell(rank, f"stop {self._stop.asked_by}")
                self._wait()
        except BaseException:
            self._kill()
            raise

    def _start(self, worker: Worker) -> None:
        child = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **worker.variables}
        )
        self._children[worker.rank] = child
        threading.Thread(target=self._watch, args=(worker.rank, child), daemon=True).start()

    def _watch(self, rank: int, child: "subprocess.Popen[bytes]") -> None:
        """Print the lines of a worker's standard error that no other worker has written; then record its exit code."""
        assert child.stderr is not None
        own: Counter[bytes] = Counter()
        for line in child.stderr:
            with self._lock:
                own[line] += 1
                if own[line] > self._printed[line]:
                    self._printed[line] += 1
                    with suppress(OSError, ValueError):
                        sys.stderr.write(line.decode(errors="replace"))
                        sys.stderr.flush()
        self._ended.put((rank, child.wait()))

    def _wait(self) -> None:
        """Wait until a worker ends, at most for `TICK` seconds."""
        try:
            rank, code = self._ended.get(timeout=TICK)
        except queue.Empty:
            return
        del self._children[rank]
        self.codes[rank] = code
        if code < 0 and self._stop.asked_by is None:
            with suppress(OSError, ValueError):
                name = signal.Signals(-code).name
                print(f"featlight: worker {rank + 1} was ended by {name}; the others continue", file=sys.stderr)
        if len(self._children) == 1:
            self._tell(next(iter(self._children)), "alone")

    def _tell(self, rank: int, line: str) -> None:
        pipe = self._children[rank].stdin
        assert pipe is not None
        with suppress(OSError):  # the worker has just ended
            pipe.write(line.encode() + b"\n")
            pipe.flush()

    def _kill(self) -> None:
        children = list(self._children.values())
        for child in children:
            child.kill()
        for child in children:
            child.wait()

    def _end_at_once(self) -> None:
        self._kill()
        by = str(self._stop.asked_by)
        end_at_once(by, quiet=f"featlight: {line_of(by)}\n".encode() in self._printed)


def exit_code(codes: Mapping[int, int], first: int) -> int:
    """Return the exit code of a command from those of its workers.

    Args:
        codes: exit codes by rank.
        first: rank of the worker that checks whether the run is complete.
    """
    if codes.get(first) in (0, 1):
        return codes[first]
    refused = [code for code in codes.values() if code in (2, 3, 74)]
    return refused[0] if refused else Interrupted.exit_code


def listen(stop: Stop) -> threading.Event:
    """Start to read the supervisor's lines; the returned event is set when the other workers have ended."""
    alone = threading.Event()

    def read_lines() -> None:
        rest_of_line = b""
        while received := os.read(0, 4096):  # sys.stdin has a lock, which could block the interpreter's exit
            *lines, rest_of_line = (rest_of_line + received).split(b"\n")
            for line in lines:
                word, _, rest = line.decode().partition(" ")
                if word == "stop":
                    stop.ask(rest)
                elif word == "alone":
                    alone.set()
        stop.ask("the end of the process that started it")

    threading.Thread(target=read_lines, daemon=True).start()
    return alone


def workers_of(accelerator: str, chunks: int | None = None) -> int:
    """Return the default number of workers of a machine: one for each GPU, or for each CPU core.

    On a CPU, memory and the number of chunks are further limits. Two workers of one thread made 1.3 to 1.8 times the
    tiles of one worker with two threads.
    """
    gpus = visible_gpus(accelerator)
    if gpus:
        return gpus
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, MOST_WORKERS, machine_memory() // WORKER_BYTES, chunks or MOST_WORKERS))


def machine_memory() -> int:
    """Return the memory of this machine in bytes; 8 GiB if it is unknown."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, and some systems lack these names
        return UNKNOWN_MEMORY
    return found if found > 0 else UNKNOWN_MEMORY


def check_gpus(accelerator: str, workers: int) -> None:
    """Raise UsageError where there are GPUs, but fewer than workers."""
    gpus = visible_gpus(accelerator)
    if 0 < gpus < workers:
        raise UsageError(f"devices: {workers} given, but {gpus} GPUs are visible; a worker has a GPU of its own")


@cache
def visible_gpus(accelerator: str) -> int:
    """Return the number of usable CUDA GPUs; without a driver, torch is not imported."""
    if accelerator == "cpu":
        return 0
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return 0
    import torch

    return torch.cuda.device_count()


def featlight_command(*args: str) -> list[str]:
    """Return a featlight command line for a new process, which imports no module from the current folder."""
    root = str(Path(__file__).parents[2])  # for a source tree that is not installed; after all installed packages
    code = f"import sys; sys.path.append({root!r}); from featlight.__main__ import main; sys.exit(main())"
    return [sys.executable, "-P", "-c", code, *args]


def same_command() -> list[str]:
    """Return the command line of this process."""
    return [sys.executable, *sys.orig_argv[1:]]


def stamp(path: Path) -> tuple[int, int] | None:
    """Return values that change when a file is replaced; None if it is missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
