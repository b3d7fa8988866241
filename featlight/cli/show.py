"""How to look at a run: its page in a browser, its log in TensorBoard."""

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
    """The page of a run, as this version draws it: what is there is opened only where it is known to be just that.

    Args:
        out: the run directory.

    Raises:
        UsageError: there is no run, or it has no page.
        StorageError: the page must be drawn again, and cannot be written.
    """
    page = _part(out, PAGE, "page; its own command with --render-only makes one of the tiles that are there")
    from featlight.report.build import drawn_by, render

    store = Store(out)
    if store.drawn.names(drawn_by(), ["assets"]) is None:
        try:
            render(store, store.need_plan())
        except StorageError as error:
            raise StorageError(
                f"{error}; the page there is not one that this featlight is known to have drawn, and it must be drawn "
                "again before it is opened: copy the directory to where you may write"
            ) from None
    return page


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
        UsageError: there is no run, or it has no log, or one that leads out of it.
    """
    log = _part(out, "tensorboard", "TensorBoard log; its own command makes one beside the next tiles")
    _check_log(RunFolder(out), log)
    # -P: the folder where the user stands may be the run, whose `tensorboard` is no module to be imported
    command = [sys.executable, "-P", "-m", "tensorboard.main", "--logdir", str(log)]
    if port is not None:
        command += ["--port", str(port)]
    if host is not None:
        command += ["--host", host]
    return [*command, *more]


def _check_log(folder: RunFolder, log: Path) -> None:
    """Raise UsageError where TensorBoard would follow what lies in a log to files elsewhere."""
    left = [log]
    while left:
        place = left.pop()
        inside = [place / name for name in folder.names(place)]
        files = folder.sizes(inside)
        for path in inside:
            if path in files:
                if path.name == CONFIG and not is_own_config(folder.read(path, TEXT_BYTES)):
                    raise UsageError(
                        f"--out: {path} is not as featlight writes it, and TensorBoard opens what it names"
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
