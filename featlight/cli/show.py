"""Open a run's page in a browser, and its log in TensorBoard."""

import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from featlight.errors import StorageError, UsageError
from featlight.report.tensorboard.projector import CONFIG, is_own_config
from featlight.store.guard.drawn import PAGE
from featlight.store.guard.run_folder import RunFolder
from featlight.store.paths import PLAN, TEXT_BYTES
from featlight.store.store import Store


def page_of(out: Path) -> Path:
    """Return the path of a run's page; draw it again unless this version is known to have drawn it.

    Args:
        out: run directory.

    Raises:
        UsageError: there is no run, or it has no page.
        StorageError: the page must be drawn again, but cannot be written.
    """
    page = _part(out, PAGE, "page; run its command with --render-only to draw it")
    from featlight.report.build import drawn_by, render

    store = Store(out)
    if store.drawn.names(drawn_by(), ["assets"]) is None:
        try:
            render(store, store.need_plan())
        except StorageError as error:
            raise StorageError(
                f"{error}; the page was not drawn by this version of featlight and must be drawn again before it is "
                "opened: copy the run directory to a place with write permission"
            ) from None
    return page


def open_page(page: Path) -> bool:
    """Open a page in the default browser; return False if there is none."""
    return webbrowser.open(page.absolute().as_uri())


def tensorboard_command(out: Path, port: int | None, host: str | None, more: Sequence[str]) -> list[str]:
    """Return the command that starts TensorBoard on a run.

    Args:
        out: run directory.
        port: port, 0 for any free one; None for TensorBoard's choice.
        host: address to listen on; None for localhost.
        more: further flags for TensorBoard.

    Raises:
        UsageError: there is no run, no log, or the log refers to files outside of it.
    """
    log = _part(out, "tensorboard", "TensorBoard log; run its command again to write one with the next tiles")
    _check_log(RunFolder(out), log)
    # -P: do not import a folder `tensorboard` of the working directory, which may be the run
    command = [sys.executable, "-P", "-m", "tensorboard.main", "--logdir", str(log)]
    if port is not None:
        command += ["--port", str(port)]
    if host is not None:
        command += ["--host", host]
    return [*command, *more]


def _check_log(folder: RunFolder, log: Path) -> None:
    """Raise UsageError if TensorBoard would follow the log to files outside of it."""
    left = [log]
    while left:
        place = left.pop()
        inside = [place / name for name in folder.names(place)]
        files = folder.sizes(inside)
        for path in inside:
            if path in files:
                if path.name == CONFIG and not is_own_config(folder.read(path, TEXT_BYTES)):
                    raise UsageError(
                        f"--out: {path} was not written by featlight and may name any file to TensorBoard; remove it"
                    )
            elif folder.is_folder(path):
                left.append(path)
            else:
                raise UsageError(
                    f"--out: {path} is a link or no regular file, which TensorBoard would follow; remove it"
                )


def _part(out: Path, name: str, what: str) -> Path:
    folder = RunFolder(out)
    if not folder.has(out / PLAN):
        raise UsageError(f"--out: {out} holds no run")
    if not (folder.has(out / name) or folder.is_folder(out / name)):
        raise UsageError(f"--out: {out} has no {name}, the run's {what}")
    return out / name
