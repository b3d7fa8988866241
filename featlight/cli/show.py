"""How to look at a run: its page in a browser, its log in TensorBoard."""

import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from featlight.errors import UsageError
from featlight.store.guard.run_folder import RunFolder
from featlight.store.paths import PLAN


def page_of(out: Path) -> Path:
    """The page of a run.

    Args:
        out: the run directory.

    Raises:
        UsageError: there is no run, or it has no page.
    """
    return _part(out, "index.html", "page; its own command with --render-only makes one of the tiles that are there")


def open_page(page: Path) -> bool:
    """Open a page from disk in the default browser; False where there is none to be opened."""
    return webbrowser.open(page.absolute().as_uri())


def tensorboard_command(out: Path, port: int | None, host: str | None, more: Sequence[str]) -> list[str]:
    """The words that start TensorBoard on a run.

    Args:
        out: the run directory.
        port: to serve at, 0 for any that is free; None for TensorBoard's own choice.
        host: address to serve at; None for this machine alone.
        more: flags of TensorBoard's own.

    Raises:
        UsageError: there is no run, or it has no log.
    """
    log = _part(out, "tensorboard", "TensorBoard log; its own command makes one beside the next tiles")
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(log)]
    if port is not None:
        command += ["--port", str(port)]
    if host is not None:
        command += ["--host", host]
    return [*command, *more]


def _part(out: Path, name: str, what: str) -> Path:
    folder = RunFolder(out)
    if not folder.has(out / PLAN):
        raise UsageError(f"--out: {out} holds no run")
    if not (folder.has(out / name) or folder.is_folder(out / name)):
        raise UsageError(f"--out: {out} has no {name}, the run's {what}")
    return out / name
