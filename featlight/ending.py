"""How a process that a signal stops ends at once: one line, and exit code 75.

The command line imports this before anything else, so that no import is slow or interrupted before it: `_signal` is
the built-in half of `signal`, whose other half takes milliseconds.
"""

import os
from _signal import SIG_IGN, SIGINT, SIGTERM, SIGUSR1, signal  # type: ignore[import-not-found,unused-ignore]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

EXIT_CODE = 75
SIGNALS = {SIGINT: "SIGINT", SIGTERM: "SIGTERM", SIGUSR1: "SIGUSR1"}
# What is half done, by a key of its own: a process that ends at once undoes it first.
unfinished: "dict[object, Callable[[], object]]" = {}
_ending: list[str] = []


def line_of(by: str) -> str:
    """What a process says that was stopped.

    Args:
        by: name of the signal, or another reason.
    """
    return f"stopped by {by}; the same command goes on from here"


def end_at_once(by: str, *, quiet: bool = False) -> None:
    """Undo what is half done, print one line and end the process; a second call meanwhile does nothing.

    No exception is raised: imports of compiled modules would turn it into another one, or lose it.

    Args:
        by: name of the signal, or another reason.
        quiet: whether the line has been printed already.
    """
    _ending.append(by)
    if len(_ending) > 1:
        return
    for undo in list(unfinished.values()):
        try:  # noqa: SIM105  contextlib may be half imported
            undo()
        except OSError:
            pass
    try:  # noqa: SIM105
        os.write(2, b"" if quiet else f"featlight: {line_of(by)}\n".encode())
    except OSError:  # nobody reads it any more
        pass
    os._exit(EXIT_CODE)


def end_at_once_when_told() -> None:
    """From now on, let a signal end this process at once, unless a run takes the signals over."""
    for number in SIGNALS:
        signal(number, lambda number, _: end_at_once(SIGNALS[number]))


def be_deaf() -> None:
    """From now on, let no signal change the exit code any more."""
    for number in SIGNALS:
        signal(number, SIG_IGN)
