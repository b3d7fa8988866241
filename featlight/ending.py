"""Immediate end of a process on a signal: one line, and exit code 75.

The command line imports this module first, so that a signal during the slow imports is handled. It uses the built-in
`_signal`, because importing `signal` takes milliseconds.
"""

import os
from _signal import SIG_IGN, SIGINT, SIGTERM, SIGUSR1, signal  # type: ignore[import-not-found,unused-ignore]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

EXIT_CODE = 75
SIGNALS = {SIGINT: "SIGINT", SIGTERM: "SIGTERM", SIGUSR1: "SIGUSR1"}
# Functions that undo unfinished work, called before the process ends at once
unfinished: "dict[object, Callable[[], object]]" = {}
_ending: list[str] = []


def line_of(by: str) -> str:
    """Return the message of a stopped process, given the signal or another reason."""
    return f"stopped by {by}; run the same command again to continue"


def end_at_once(by: str, *, quiet: bool = False) -> None:
    """Undo unfinished work, print one line and end the process; a second call does nothing.

    An exception would not do: the import of a compiled module may replace or swallow it.

    Args:
        by: name of the signal, or another reason.
        quiet: whether to print nothing, because the line was printed already.
    """
    _ending.append(by)
    if len(_ending) > 1:
        return
    for undo in list(unfinished.values()):
        try:  # noqa: SIM105  contextlib may not be imported completely
            undo()
        except OSError:
            pass
    try:  # noqa: SIM105
        os.write(2, b"" if quiet else f"featlight: {line_of(by)}\n".encode())
    except OSError:  # standard error is closed
        pass
    os._exit(EXIT_CODE)


def end_on_signals() -> None:
    """Let a signal end this process at once, until a run installs its own handlers."""
    for number in SIGNALS:
        signal(number, lambda number, _: end_at_once(SIGNALS[number]))


def ignore_signals() -> None:
    """Ignore signals, so that they cannot change the exit code."""
    for number in SIGNALS:
        signal(number, SIG_IGN)
