"""The errors of featlight, each with the exit code of the command line, and helpers for their messages."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class FeatlightError(Exception):
    """An error that is reported to the user in one line."""

    exit_code = 1


class UsageError(FeatlightError, ValueError):
    """A flag, config key, layer or feature is invalid."""

    exit_code = 2


class WeightsError(FeatlightError):
    """The weights cannot be obtained or used."""

    exit_code = 3


class StorageError(FeatlightError):
    """A file cannot be read or written: for example no space or no permission."""

    exit_code = 74


# In the messages of torch, CUDA, cuBLAS, cuDNN and C++
_FULL_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED", "bad_alloc")


def is_full_memory(error: BaseException) -> bool:
    """Return whether an error, of Python or of a library, says that the memory is full."""
    words = isinstance(error, RuntimeError) and any(words in str(error) for words in _FULL_MEMORY)
    return isinstance(error, MemoryError) or words


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn a full memory, or a structure that is nested too deeply, into a one-line error."""
    try:
        yield
    except RecursionError:
        raise StorageError("out of stack: something holds parts inside each other, deeper than Python goes") from None
    except (MemoryError, RuntimeError) as error:
        if not is_full_memory(error):
            raise
        raise StorageError("out of memory; what is done is kept: give this process more of it, or less to do") from None


class Interrupted(FeatlightError):
    """The run was stopped early; the same command continues it."""

    exit_code = 75


class AloneError(Interrupted):
    """Tiles of other workers are missing, and no other worker is running."""


@contextmanager
def in_a_line(what: str) -> Iterator[None]:
    """Turn an error in a user's function into a UsageError; errors about memory are raised unchanged.

    Args:
        what: start of the message: the key, the function and the failure, for example "objective: mine fails".
    """
    try:
        yield
    except FeatlightError:
        raise
    except (Exception, SystemExit) as error:
        reason = one_line(f"{type(error).__name__}: {error}", 300)
        if isinstance(error, MemoryError) or "alloc" in reason.lower() or "out of memory" in reason:
            raise
        raise UsageError(f"{what}: {reason}") from error


def one_line(text: object, most: int | None = None) -> str:
    """Return a text, or an error's message, on one line.

    Args:
        text: text or error.
        most: largest number of characters; a longer text ends with ` ...` after a whole word.
    """
    line = " ".join(str(text).split())
    if most is None or len(line) <= most:
        return line
    return (line[: most - 3].rpartition(" ")[0] or line[: most - 4]) + " ..."


def plural(count: int, noun: str) -> str:
    """Return "1 tile", "2 tiles"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def unknown(kind: str, given: str, allowed: Iterable[str], where: str = "") -> str:
    """Return one line that names an unknown word and the nearest allowed one.

    Args:
        kind: kind of word, for example "layer".
        given: unknown word.
        allowed: allowed words.
        where: place of the search, for example "in inception_v3".
    """
    names = list(dict.fromkeys(allowed))
    head = f"no {kind} {given!r}" + (f" {where}" if where else "")
    near = nearest(given, names)
    if near is not None:
        return f"{head}; nearest: {near!r}"
    return f"{head}; allowed: {listed(names, 24)}"


def listed(words: Iterable[str], most: int = 8) -> str:
    """Return the first words, and their number when some are left out."""
    words = list(words)
    return ", ".join(words[:most]) + (f", ... ({len(words)} in all)" if len(words) > most else "")


def nearest(given: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed word that is most similar to the given one, ignoring case; None if none is similar."""
    folded = {word.casefold(): word for word in allowed}
    close = difflib.get_close_matches(given.casefold(), folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None
