"""A run in TensorBoard: a view of the records and tiles, and never a reason for a run to die."""

import functools
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec

import numpy as np
from PIL import Image

from featlight.events import EventLog
from featlight.plan import Plan
from featlight.render import Section, sections
from featlight.store import Record, Store

log = logging.getLogger("featlight")

MOSAIC_STEPS = 10  # TensorBoard keeps that many images of a tag
MOSAIC_SIDE = 2048  # px
LIVE_POINTS = 20  # of each chunk's curve
QUANTILES = {"p05": 0.05, "p50": 0.5, "p95": 0.95}
P = ParamSpec("P")


def _harmless(method: Callable[P, None]) -> Callable[P, None]:
    """Make a failed event write one warning, and no more writes."""

    @functools.wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        board = args[0]
        assert isinstance(board, TensorBoard)
        if board.broken:
            return
        try:
            method(*args, **kwargs)
        except Exception as error:  # a view must not end a run, whatever it meets
            board.broken = True
            log.warning("TensorBoard: %s; the run goes on without it", error)

    return guarded


class TensorBoard:
    """Writes what a run shows while it runs, from the records of all its workers; one worker alone has one.

    Args:
        store: of the run; events go to its folder `tensorboard`.
        plan: of the run.
        made: the records of the tiles that are there at the start.
    """

    def __init__(self, store: Store, plan: Plan, made: Mapping[str, Record]) -> None:
        self.broken = False
        self._store, self._plan = store, plan
        self._sections = sections(plan)
        self._thumbnails: dict[str, Image.Image] = {}
        self._done = dict(made)
        self._failed: set[str] = set()
        self._chunk_of = {plan.tiles[i].file: n for n, members in enumerate(plan.chunks) for i in members}
        self._shown: set[int] = set()

    @_harmless
    def start(self, config: str) -> None:
        """Open the log, write the resolved configuration (YAML), and what a run that was killed has left out."""
        self._log = EventLog(self._store.root / "tensorboard")
        self._store.note_output(str(self._log.path.relative_to(self._store.root)))
        self._log.text("run/config", f"```yaml\n{config}\n```", len(self._done))
        self._shown = {int(number) for number in self._log.values.get("live/chunk", ())}
        self._live(range(len(self._plan.chunks)))
        self._log.flush()

    @_harmless
    def add(self, records: Sequence[Record], rate: float) -> None:
        """What has come since: the curves of chunks, the run's progress, the mosaics that have grown by a tenth."""
        self._done.update({record["file"]: record for record in records if record["status"] != "failed"})
        failed = {record["file"] for record in records if record["status"] == "failed"}
        self._failed = (self._failed | failed) - self._done.keys()
        done = len(self._done)
        dead = sum(record["status"] == "dead" for record in self._done.values())
        self._log.scalar("progress/tiles_done", done, done)
        self._log.scalar("progress/tiles_per_s", rate, done)
        self._log.scalar("progress/dead_share", dead / max(done, 1), done)
        self._log.scalar("progress/failed", len(self._failed), done)
        self._live(sorted({self._chunk_of[record["file"]] for record in records}))
        self._grow()
        self._log.flush()

    @_harmless
    def finish(self, summary: Mapping[str, Any]) -> None:
        """The last word, as a table."""
        rows = "\n".join(f"| {key} | {value} |" for key, value in summary.items())
        self._log.text("run/summary", f"| | |\n|---|---|\n{rows}", len(self._done))
        self._grow()
        self._log.flush()

    def _live(self, numbers: Sequence[int]) -> None:
        """The curves of those chunks that are whole and not shown yet, one behind the other as they come."""
        for number in numbers:
            files = [self._plan.tiles[i].file for i in self._plan.chunks[number]]
            curves = [self._done[file]["curve"] for file in files if file in self._done]
            settled = sum(file in self._done or file in self._failed for file in files)
            if number in self._shown or not curves or settled < len(files):
                continue
            self._shown.add(number)
            start = self._log.last.get("live/activation/p50", -1) + 1
            self._log.scalar("live/chunk", number, start)
            for point in np.linspace(0, len(curves[0]) - 1, min(len(curves[0]), LIVE_POINTS)).round().astype(int):
                step = curves[0][point][0]
                self._quantiles("live/activation", [curve[point][1] for curve in curves], start + step)

    def _grow(self) -> None:
        for section in self._sections:
            tag, size = f"atlas/{section.name}", len(section.tiles)
            done = sum(planned.file in self._done for planned in section.tiles)
            before = self._log.last.get(tag, 0)
            if done * MOSAIC_STEPS // size > before * MOSAIC_STEPS // size:
                self._mosaic(section, tag, done)
                if done == size:
                    self._curves(section)

    def _quantiles(self, tag: str, values: Sequence[float], step: int, *, again: bool = False) -> None:
        for name, share in QUANTILES.items():
            self._log.scalar(f"{tag}/{name}", float(np.quantile(values, share)), step, again=again)

    def _curves(self, section: Section) -> None:
        """Quantiles over all tiles of a layer, against the recipe's steps."""
        curves = [self._done[planned.file]["curve"] for planned in section.tiles]
        for points in zip(*curves, strict=True):
            tag, values = f"activation/{section.name}", [value for _, value in points]
            self._quantiles(tag, values, points[0][0], again=True)  # again, where a layer was asked for more features

    def _mosaic(self, section: Section, tag: str, done: int) -> None:
        """All tiles of a layer side by side, as JPEG: a tenth of the PNG's size."""
        columns = int(np.ceil(np.sqrt(len(section.tiles) * 1.5)))
        side = max(8, min(128, MOSAIC_SIDE // columns))
        rows = -(-len(section.tiles) // columns)
        sheet = Image.new("RGB", (columns * side, rows * side), "white")
        for i, planned in enumerate(section.tiles):
            if planned.file in self._done:
                sheet.paste(self._thumbnail(planned.file, side), (i % columns * side, i // columns * side))
        jpeg = io.BytesIO()
        sheet.save(jpeg, "JPEG", quality=88)
        self._log.picture(tag, jpeg.getvalue(), sheet.size, done)

    def _thumbnail(self, file: str, side: int) -> Image.Image:
        if file not in self._thumbnails:
            with Image.open(self._store.root / file, formats=("PNG",)) as image:
                self._thumbnails[file] = image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
        return self._thumbnails[file]
