"""Workers of one machine, started and watched by a process that does nothing else; and a worker's line to it.

The workers are the same command line. The supervisor speaks to each through its standard input: `stop SIGTERM`, `alone`
(all others have ended); its end, whatever ended the supervisor, tells them to stop. What all of them write to standard
error alike is printed once.
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
MOST_WORKERS = 16  # on a CPU, unless more are asked for
WORKER_BYTES = 3 * 2**30  # of memory, for each worker on a CPU
UNKNOWN_MEMORY = 8 * 2**30


class Supervisor:
    """Starts workers, passes signals on, and waits for all of them.

    Args:
        command: of each worker.
        workers: to start.
        stop: whether a signal has asked this process to end.
    """

    def __init__(self, command: Sequence[str], workers: Sequence[Worker], stop: Stop) -> None:
        self._command = command
        self._workers = workers
        self._stop = stop
        self._children: dict[int, subprocess.Popen[bytes]] = {}  # by rank, those that have not ended
        self._ended: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._said: Counter[bytes] = Counter()
        self.codes: dict[int, int] = {}  # by rank, how each ended; negative: by that signal

    def run(self, hold: Callable[[], bool] = lambda: False) -> None:
        """Start the workers and wait until all have ended.

        Args:
            hold: asked until it says no, before any worker but the first is started.
        """
        self._stop.at_once = self._end_at_once
        try:
            self._start(self._workers[0])
            while hold() and self._children and self._stop.asked_by is None:
                self._wait()
            if self._children and self._stop.asked_by is None:
                for worker in self._workers[1:]:
                    self._start(worker)
            told = False
            while self._children:
                if self._stop.asked_by is not None and not told:
                    told = True
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
        """Print what a worker writes to standard error and no other has written before; then see how it ended."""
        assert child.stderr is not None
        own: Counter[bytes] = Counter()
        for line in child.stderr:
            with self._lock:
                own[line] += 1
                if own[line] > self._said[line]:
                    self._said[line] += 1
                    with suppress(OSError, ValueError):
                        sys.stderr.write(line.decode(errors="replace"))
                        sys.stderr.flush()
        self._ended.put((rank, child.wait()))

    def _wait(self) -> None:
        """For the end of a worker, or a moment."""
        try:
            rank, code = self._ended.get(timeout=TICK)
        except queue.Empty:
            return
        del self._children[rank]
        self.codes[rank] = code
        if code < 0 and self._stop.asked_by is None:
            with suppress(OSError, ValueError):
                name = signal.Signals(-code).name
                print(f"featlight: worker {rank + 1} was ended by {name}; the others go on", file=sys.stderr)
        if len(self._children) == 1:
            self._tell(next(iter(self._children)), "alone")

    def _tell(self, rank: int, line: str) -> None:
        pipe = self._children[rank].stdin
        assert pipe is not None
        with suppress(OSError):  # it has just ended
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
        end_at_once(by, quiet=f"featlight: {line_of(by)}\n".encode() in self._said)


def exit_code(codes: Mapping[int, int], first: int) -> int:
    """What a command's workers amount to.

    Args:
        codes: by rank.
        first: rank of the worker that looks whether the run is complete.
    """
    if codes.get(first) in (0, 1):
        return codes[first]
    refused = [code for code in codes.values() if code in (2, 3, 74)]
    return refused[0] if refused else Interrupted.exit_code


def listen(stop: Stop) -> threading.Event:
    """Hear the supervisor from now on; the event is set once the other workers have ended."""
    alone = threading.Event()

    def hear() -> None:
        torn = b""
        while heard := os.read(0, 4096):  # not through sys.stdin, whose lock would trouble the interpreter's end
            *lines, torn = (torn + heard).split(b"\n")
            for line in lines:
                word, _, rest = line.decode().partition(" ")
                if word == "stop":
                    stop.ask(rest)
                elif word == "alone":
                    alone.set()
        stop.ask("the end of the process that started it")

    threading.Thread(target=hear, daemon=True).start()
    return alone


def workers_of(accelerator: str, chunks: int | None = None) -> int:
    """Workers of a machine where nobody says how many: one for each GPU, or for each CPU core.

    On a CPU no more than memory holds, nor than there are chunks, where that is known: two workers of one thread made
    1.3 to 1.8 times the tiles of one worker with two threads.
    """
    gpus = visible_gpus(accelerator)
    if gpus:
        return gpus
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, MOST_WORKERS, machine_memory() // WORKER_BYTES, chunks or MOST_WORKERS))


def machine_memory() -> int:
    """Of this machine, in bytes; 8 GiB where the system does not tell."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, and some systems not these words
        return UNKNOWN_MEMORY
    return found if found > 0 else UNKNOWN_MEMORY


def check_gpus(accelerator: str, workers: int) -> None:
    """Raise UsageError where there are GPUs, but fewer than workers."""
    gpus = visible_gpus(accelerator)
    if 0 < gpus < workers:
        raise UsageError(f"devices: {workers} given, but {gpus} GPUs are visible; a worker has a GPU of its own")


@cache
def visible_gpus(accelerator: str) -> int:
    """CUDA GPUs that a run may use; where there is no driver, without importing torch."""
    if accelerator == "cpu":
        return 0
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return 0
    import torch

    return torch.cuda.device_count()


def featlight_command(*words: str) -> list[str]:
    """A command line of featlight's in a process of its own, which looks for no module where the user stands."""
    root = str(Path(__file__).parents[2])  # behind all that is installed: a source tree need not be
    code = f"import sys; sys.path.append({root!r}); from featlight.__main__ import main; sys.exit(main())"
    return [sys.executable, "-P", "-c", code, *words]


def same_command() -> list[str]:
    """This process's own command line."""
    return [sys.executable, *sys.orig_argv[1:]]


def stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is replaced; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
