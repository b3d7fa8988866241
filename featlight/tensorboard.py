"""A run in TensorBoard: a view of the records and tiles, and never a reason for a run to die."""

import functools
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec

import numpy as np
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from featlight.module import ChunkResult
from featlight.plan import Plan
from featlight.render import Section, sections
from featlight.store import Record, Store

log = logging.getLogger("featlight")

MOSAIC_STEPS = 10  # TensorBoard keeps that many images of a tag
MOSAIC_SIDE = 2048  # px
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
        except Exception as error:  # its writer raises whatever its thread met
            board.broken = True
            log.warning("TensorBoard: %s; the run goes on without it", error)

    return guarded


class TensorBoard:
    """Writes what a run shows while it runs.

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
        self._mosaics = {section.name: self._tenths(section) for section in self._sections}

    @_harmless
    def start(self, config: str) -> None:
        """Open the log and write the resolved configuration (YAML) into it."""
        folder = self._store.root / "tensorboard"
        before = set(folder.glob("events*"))
        self._writer = SummaryWriter(str(folder), flush_secs=10)
        for path in set(folder.glob("events*")) - before:
            self._store.note_output(str(path.relative_to(self._store.root)))
        self._writer.add_text("run/config", f"```yaml\n{config}\n```", len(self._done))

    @_harmless
    def chunk(self, result: ChunkResult, records: Sequence[Record], rate: float) -> None:
        """What one chunk gave: its curves, the run's progress, and the mosaics that have grown by a tenth."""
        self._done.update({record["file"]: record for record in records if record["status"] != "failed"})
        steps = len(result.activation)
        real = result.activation[:, : len(result.chunk.tiles)].double().nan_to_num().numpy()
        for step in np.linspace(0, steps - 1, min(steps, 20)).round().astype(int).tolist():
            self._quantiles("live/activation", real[step], result.chunk.number * steps + step)
        done = len(self._done)
        statuses = [record["status"] for record in self._done.values()]
        self._writer.add_scalar("progress/tiles_done", done, done)
        self._writer.add_scalar("progress/tiles_per_s", rate, done)
        self._writer.add_scalar("progress/dead_share", statuses.count("dead") / max(done, 1), done)
        self._writer.add_scalar("progress/failed", sum(r["status"] == "failed" for r in records), done)
        for section in self._sections:
            tenths = self._tenths(section)
            if tenths > self._mosaics[section.name]:
                self._mosaics[section.name] = tenths
                self._mosaic(section)
            if tenths == MOSAIC_STEPS and any(r["file"] in {p.file for p in section.tiles} for r in records):
                self._curves(section)

    @_harmless
    def finish(self, summary: Mapping[str, Any]) -> None:
        """The last word, as a table."""
        rows = "\n".join(f"| {key} | {value} |" for key, value in summary.items())
        self._writer.add_text("run/summary", f"| | |\n|---|---|\n{rows}", len(self._done))
        self._writer.close()

    @_harmless
    def flush(self) -> None:
        """Put on disk what was written so far."""
        self._writer.flush()

    def _tenths(self, section: Section) -> int:
        done = sum(planned.file in self._done for planned in section.tiles)
        return done * MOSAIC_STEPS // len(section.tiles)

    def _quantiles(self, tag: str, values: "np.ndarray[Any, Any]", step: int) -> None:
        for name, share in QUANTILES.items():
            self._writer.add_scalar(f"{tag}/{name}", float(np.quantile(values, share)), step)

    def _curves(self, section: Section) -> None:
        """Quantiles over all tiles of a layer, against the recipe's steps."""
        curves = [self._done[planned.file]["curve"] for planned in section.tiles]
        for points in zip(*curves, strict=True):
            self._quantiles(f"activation/{section.name}", np.array([value for _, value in points]), points[0][0])

    def _mosaic(self, section: Section) -> None:
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
        image = Summary.Image(
            height=sheet.height, width=sheet.width, colorspace=3, encoded_image_string=jpeg.getvalue()
        )
        summary = Summary(value=[Summary.Value(tag=f"atlas/{section.name}", image=image)])
        done = sum(planned.file in self._done for planned in section.tiles)
        writer = self._writer.file_writer
        assert writer is not None
        writer.add_summary(summary, done)

    def _thumbnail(self, file: str, side: int) -> Image.Image:
        if file not in self._thumbnails:
            with Image.open(self._store.root / file, formats=("PNG",)) as image:
                self._thumbnails[file] = image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
        return self._thumbnails[file]
