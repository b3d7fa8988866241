"""TensorBoard output of a run, written from its records and tiles. An error here never stops the run."""

import functools
import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np
from PIL import Image

from featlight.config.describe import facts
from featlight.config.image_shape import both_sides
from featlight.image_io import encode_jpeg
from featlight.plan.plan import Plan, PlannedTile
from featlight.plan.shared_config import config_for_others
from featlight.report.sections import Section, sections
from featlight.report.tensorboard.events import EventLog
from featlight.report.tensorboard.growing_run import Mosaic, Tally, draw_evolution
from featlight.store.heartbeat import Heartbeat
from featlight.store.paths import TEXT_BYTES
from featlight.store.records import TileRecord
from featlight.store.store import Store

log = logging.getLogger("featlight")

MOSAIC_STEPS = 10  # images of a tag that TensorBoard keeps
QUALITY = 88  # of JPEGs
LIVE_POINTS = 20  # points of each chunk's curve
QUANTILES = {"p05": 0.05, "p50": 0.5, "p95": 0.95}
STATISTICS = ("total_variation", "high_frequency_share")
RESULTS = ("result/activation_before", "result/activation_after", "progress/dead_share", "progress/tiles_per_s")
P = ParamSpec("P")


def _harmless(method: Callable[P, None]) -> Callable[P, None]:
    """Turn an error into one warning, and stop writing to TensorBoard."""

    @functools.wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        board = args[0]
        assert isinstance(board, TensorBoard)
        if board.broken:
            return
        try:
            method(*args, **kwargs)
        except Exception as error:  # no error in a view may stop a run
            board.broken = True
            log.warning("TensorBoard: %s; the run goes on without it", error)

    return guarded


class TensorBoard:
    """Writer of a run's progress, curves and mosaics, from the records of all workers. Only one worker has it.

    The output does not depend on which worker made a tile: chunks' curves are in the plan's order, and the steps of
    everything else are counts of tiles.

    Args:
        store: store of the run; events go to its folder `tensorboard`.
        plan: plan of the run.
        made: records of the tiles that exist at the start, by file.
        missing: files of the tiles to make.
    """

    def __init__(self, store: Store, plan: Plan, made: Mapping[str, TileRecord], missing: Collection[str] = ()) -> None:
        self.broken = False
        self._store, self._plan = store, plan
        self._sections = sections(plan)
        self._mosaics: dict[str, Mosaic] = {}  # of unfinished layers; each takes about 8 MB
        self._examples = plan.octave_samples()
        self._tally = Tally(self._sections, made, missing)
        recipes = {variant: settings.recipe for variant, settings in plan.settings.items()}
        steps = [recipes[plan.tiles[members[0]].variant].total_steps + 1 for members in plan.chunks]
        self._starts = [0, *accumulate(steps)]  # first step of each chunk in the live curves
        self._next = 0  # next chunk to write

    @_harmless
    def start(self, config: str) -> None:
        """Open the log; write the resolved configuration (YAML) without paths, and what a killed run did not write."""
        from torch.utils.tensorboard import summary  # torch takes seconds to import

        self._log = EventLog(self._store.folder)
        self._store.note_output(str(self._log.path.relative_to(self._store.root)))
        shared = (config_for_others(config.encode(), self._plan) or b"").decode()
        self._log.text("run/config", f"```yaml\n{shared}\n```", len(self._tally.made))
        self._layout()
        if "_hparams_/session_start_info" not in self._log.last:
            values, results = _hparams(self._plan), dict.fromkeys(RESULTS, 0.0)
            for part in summary.hparams(values, results)[:2]:  # type: ignore[no-untyped-call]
                self._log.summary(part, 0)
        self._live()
        self._grow()
        self._log.flush()

    @_harmless
    def add(self, records: Sequence[TileRecord], rate: float) -> None:
        """Write new records: the curves of chunks, the progress, and mosaics that have grown by a tenth."""
        for record in records:
            self._tally.take(record)
        done, tried = len(self._tally.made), len(self._tally.made) + len(self._tally.failed)
        self._log.scalar("progress/tiles_done", done, tried)
        if rate:
            self._log.scalar("progress/tiles_per_s", rate, tried)
        self._log.scalar("progress/dead_share", self._tally.dead / max(done, 1), tried)
        self._log.scalar("progress/failed", len(self._tally.failed), tried)
        self._live()
        self._grow()
        self._log.flush()

    @_harmless
    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the run's summary as a table, and everything that was still to be written."""
        from torch.utils.tensorboard.summary import hparams

        rows = "\n".join(f"| {key} | {value} |" for key, value in summary.items())
        # TensorBoard shows the text of the greatest step, so a resumed run must not repeat a step
        step = max(len(self._tally.made), self._log.last.get("run/summary/text_summary", -1) + 1)
        self._log.text("run/summary", f"| | |\n|---|---|\n{rows}", step)
        if self._tally.made:
            for tag, key in zip(RESULTS[:2], ("activation_start", "activation_end"), strict=True):
                self._log.scalar(tag, float(np.median(_numbers(self._tally.made.values(), key))), len(self._tally.made))
        if "_hparams_/session_end_info" not in self._log.last:
            self._log.summary(hparams({}, {})[2], 0)  # type: ignore[no-untyped-call]
        self._tally.awaited.clear()  # these tiles will not come, so later chunks need not wait for them
        self._live()
        self._grow()
        self._log.flush()

    def _live(self) -> None:
        """Write the curves of chunks in the plan's order, up to the first chunk with an awaited tile."""
        while self._next < len(self._plan.chunks):
            files = [self._plan.tiles[i].file for i in self._plan.chunks[self._next]]
            if not self._tally.awaited.isdisjoint(files):
                return
            made, start = self._tally.made, self._starts[self._next]
            records = [made[file] for file in files if file in made]
            self._next += 1
            if not records:
                continue
            self._log.scalar("health/failed", sum(file in self._tally.failed for file in files), start)
            self._quantiles("health/grad_norm", _numbers(records, "gradient_norm"), start)
            curves = _curves(records)
            for point in np.linspace(0, len(curves[0]) - 1, min(len(curves[0]), LIVE_POINTS)).round().astype(int):
                step = curves[0][point][0]
                self._quantiles("live/activation", [curve[point][1] for curve in curves], start + step)

    def _grow(self) -> None:
        for section in self._sections:
            tag, size = f"atlas/{section.name}", len(section.tiles)
            made = self._tally.made_of[section.name]
            tried = made + self._tally.failed_of[section.name]
            before = self._log.last.get(tag, 0)
            if made * MOSAIC_STEPS // size > before * MOSAIC_STEPS // size:
                if section.name not in self._mosaics:
                    files = [planned.file for planned in section.tiles]
                    self._mosaics[section.name] = Mosaic(files, self._store.folder)
                self._picture(tag, self._mosaics[section.name].draw(self._tally.made), made)
                if made == size:
                    del self._mosaics[section.name]
                for name in STATISTICS:
                    median = float(np.median(_numbers(self._made_in(section), name)))
                    self._log.scalar(f"image/{section.name}/{name}", median, made)
            written = self._log.steps.get(f"activation/{section.name}/tiles", ())
            if made and tried == size and made not in written:
                self._layer_curves(section, self._made_in(section))
                self._evolution(section)

    def _made_in(self, section: Section) -> list[TileRecord]:
        return [self._tally.made[planned.file] for planned in section.tiles if planned.file in self._tally.made]

    def _picture(self, tag: str, picture: Image.Image, step: int) -> None:
        self._log.picture(tag, encode_jpeg(picture, QUALITY), picture.size, step)

    def _quantiles(self, tag: str, values: Sequence[float], step: int) -> None:
        for name, share in QUANTILES.items():
            self._log.scalar(f"{tag}/{name}", float(np.quantile(values, share)), step)

    def _layer_curves(self, section: Section, records: Sequence[TileRecord]) -> None:
        """Write quantiles over all tiles of a layer at each step, and the image size, which shows the octaves.

        If a finished layer was extended by more features, its new quantiles get another tag.
        """
        tag = f"activation/{section.name}"
        self._log.scalar(f"{tag}/tiles", len(records), len(records))
        if f"{tag}/p50" in self._log.last:
            tag = f"{tag}-{len(records)}"
        curves = _curves(records)
        sizes = _sizes(self._plan, section.variant)
        for points in zip(*curves, strict=True):
            step = points[0][0]
            self._quantiles(tag, [value for _, value in points], step)
            self._log.scalar(f"{tag}/size", sizes[step], step)
        self._layout()

    def _layout(self) -> None:
        """Write the charts of Custom Scalars; the step is their number, so that new charts are written."""
        from torch.utils.tensorboard import summary

        charts = _charts(self._sections, self._log.last)
        self._log.summary(summary.custom_scalars(charts), sum(map(len, charts.values())))  # type: ignore[no-untyped-call]

    def _evolution(self, section: Section) -> None:
        """Write a picture of some tiles' octaves, if the run has kept these."""
        octaves = self._plan.settings[section.variant].recipe.octaves
        tiles = {planned.file: planned for planned in section.tiles}
        shown = [tiles[file] for file in self._examples[section.tiles[0].group]]
        ends = {planned.label: list(self._octave_ends(planned, len(octaves))) for planned in shown}
        if self._store.folder.has(*(path for paths in ends.values() for path in paths)):
            title = f"{section.title}, octave by octave"
            sizes = [octave.size for octave in octaves]
            picture = draw_evolution(self._store.folder, ends, sizes, title)
            self._picture(f"evolution/{section.name}", picture, len(section.tiles))

    def _octave_ends(self, planned: PlannedTile, octaves: int) -> Iterator[Any]:
        return (self._store.octave_path(planned.file, number) for number in range(1, octaves + 1))


def catch_up(out: Path) -> None:
    """Complete the log of a run whose first worker has died. A running run completes its log itself.

    An error is logged as a warning.

    Args:
        out: run directory.
    """
    try:
        store = Store(out)
        plan = store.plan()
        if plan is None or Heartbeat(store.folder).other() is not None:
            return
        made = store.made(plan, plan.tiles)
        events = EventLog(store.folder)
        chunks = {record["chunk"] for record in made.values()}
        whole = len(events.steps.get("health/failed", ())) >= len(chunks)
        if not whole or events.last.get("progress/tiles_done", 0) < len(made):
            board = TensorBoard(store, plan, made)
            board.start(store.folder.read(out / "config.yaml", TEXT_BYTES).decode())
            board.add([], 0.0)
    except Exception as error:  # TensorBoard can still show the incomplete log
        log.warning("TensorBoard: %s; the log stays incomplete", error)


def _numbers(records: Iterable[TileRecord], key: str) -> list[float]:
    """Return a record's number under `key`, for all tiles that have one."""
    values = (record.get(key) for record in records)
    return [value for value in values if isinstance(value, float | int)]


def _curves(records: Iterable[TileRecord]) -> list[list[tuple[int, float]]]:
    """Return the curve of each tile: steps and activations."""
    return [[(step, value or 0.0) for step, value in record["curve"] or []] for record in records]


def _sizes(plan: Plan, variant: str) -> list[int]:
    """Return the longer side of the images in pixels, before each step and after the last one."""
    octaves = plan.settings[variant].recipe.octaves
    return [max(both_sides(octave.size)) for octave in octaves for _ in range(octave.steps)] + [
        max(both_sides(octaves[-1].size))
    ]


def _charts(layers: Sequence[Section], tags: Collection[str]) -> dict[str, dict[str, list[Any]]]:
    """Return the charts of Custom Scalars: for each layer, bands of its quantiles and the image size."""

    def band(tag: str) -> list[Any]:
        return ["Margin", [f"{tag}/p50", f"{tag}/p05", f"{tag}/p95"]]

    charts: dict[str, dict[str, list[Any]]] = {"live": {"activation, chunk after chunk": band("live/activation")}}
    for section in layers:
        tag = f"activation/{section.name}"
        charts[section.title] = {
            "activation: median, 5 % to 95 % of the tiles": band(tag),
            "image size in pixels": ["Multiline", [f"{tag}/size"]],
        }
        for other in sorted(tags):
            if grown := re.fullmatch(rf"({re.escape(tag)}-(\d+))/p50", other):
                charts[section.title][f"activation, {grown[2]} tiles"] = band(grown[1])
    return charts


def _hparams(plan: Plan) -> dict[str, Any]:
    """Return the run's settings; a setting that differs between variants lists all its values."""
    rows = [facts(settings) for settings in plan.settings.values()]
    layers = ", ".join(dict.fromkeys(term.layer for planned in plan.tiles for term in planned.tile.terms))
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: "; ".join(dict.fromkeys(row[key] for row in rows if key in row)) for key in keys} | {"layer": layers}
