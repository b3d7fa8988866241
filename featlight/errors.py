"""What can go wrong, each with the exit code that the command line turns it into."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class FeatlightError(Exception):
    """Anything that featlight tells a user in one line."""

    exit_code = 1


class UsageError(FeatlightError, ValueError):
    """A flag, a config key, a layer or a feature that does not fit."""

    exit_code = 2


class WeightsError(FeatlightError):
    """Weights that cannot be had or used."""

    exit_code = 3


class StorageError(FeatlightError):
    """No room, or no right to write."""

    exit_code = 74


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn a memory that is full, wherever it is, into one line; likewise lists inside each other without end."""
    try:
        yield
    except MemoryError:
        raise StorageError("out of memory; what is done is kept: give this process more of it, or less to do") from None
    except RecursionError:
        raise StorageError("out of stack: something holds parts inside each other, deeper than Python goes") from None


class Interrupted(FeatlightError):
    """Stopped early; the same command goes on from here."""

    exit_code = 75


class AloneError(Interrupted):
    """Tiles of other workers are missing, and none of these is there."""


@contextmanager
def in_a_line(what: str) -> Iterator[None]:
    """Raise what a function of the user's own fails at as a UsageError; what lacks memory, as it is.

    Args:
        what: key and name of the function, and what it does, as in "objective: mine fails".
    """
    try:
        yield
    except FeatlightError:
        raise
    except (Exception, SystemExit) as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if isinstance(error, MemoryError) or "alloc" in words.lower() or "out of memory" in words:
            raise
        raise UsageError(f"{what}: {words}") from error


def unknown(kind: str, given: str, allowed: Iterable[str], where: str = "") -> str:
    """One line that names what was given and the nearest of what is allowed.

    Args:
        kind: what it is, as in "layer".
        given: the word that does not exist.
        allowed: the words that do.
        where: in what it was looked for, as in "in inception_v3".
    """
    words = list(dict.fromkeys(allowed))
    head = f"no {kind} {given!r}" + (f" {where}" if where else "")
    near = nearest(given, words)
    if near is not None:
        return f"{head}; nearest: {near!r}"
    return f"{head}; allowed: {listed(words, 24)}"


def listed(words: Iterable[str], most: int = 8) -> str:
    """The first of some words, and how many there are."""
    every = list(words)
    return ", ".join(every[:most]) + (f", ... ({len(every)} in all)" if len(every) > most else "")


def nearest(given: str, allowed: Iterable[str]) -> str | None:
    """The allowed word most like the given one, whatever its case; None where none is near."""
    folded = {word.casefold(): word for word in allowed}
    close = difflib.get_close_matches(given.casefold(), folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None
