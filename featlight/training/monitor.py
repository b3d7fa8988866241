"""A Lightning callback that draws features while a network trains."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L

from featlight.config.normalization import Normalization
from featlight.config.recipe import Recipe
from featlight.errors import FeatlightError, UsageError, one_line
from featlight.plan.plan import PlannedTile
from featlight.training.cost import Cost
from featlight.training.drawer import DrawnTile, FeatureDrawer, LayerPicture
from featlight.training.loggers import folder_of, write_file, writer_of
from featlight.training.ranks import exchange

log = logging.getLogger("featlight")
SHARDED = ("FSDPStrategy", "ModelParallelStrategy", "DeepSpeedStrategy", "XLAFSDPStrategy")


class FeatureMonitor(L.Callback):
    """Draw the same features, from the same seeds, at the end of every n-th epoch, n steps or validation.

    Every logger of the trainer gets an atlas per layer, and as scalars the mean activation, the number of dead features
    and the similarity to the last picture. A logger that takes no pictures, such as CSVLogger, gets files beside its
    own. The training itself is unchanged, to the bit. The trainer may be one of `lightning` or of `pytorch_lightning`.

    Args:
        layer: layer as `featlight.visualize` takes it; a name may leave out the attribute that holds the network.
        features: features as `featlight.visualize` takes them.
        recipe: recipe or its name; None for a short one.
        every_n_epochs: number of epochs from picture to picture.
        every_n_steps: number of optimizer steps from picture to picture, instead of epochs.
        on: `train` to draw when a training epoch ends, `validation` when its validation ends.
        out: folder that gets a run directory for each time, such as `epoch-3-step-120`.
        max_share: largest share of the training's time that pictures may take, from 0 to 1; None for no bound. Pictures
            beyond it are left out; the first one is always drawn.
        normalize: normalization as `featlight.visualize` takes it.

    `history` holds the scalars of every picture, with `epoch`, `step` and `layer`.

    Raises:
        UsageError: an argument is invalid. `setup` raises it before the training if the features cannot be drawn.
    """

    def __init__(
        self,
        layer: Any,
        features: Any,
        *,
        recipe: Recipe | str | None = None,
        every_n_epochs: int = 1,
        every_n_steps: int | None = None,
        on: Literal["train", "validation"] = "train",
        out: str | Path | None = None,
        max_share: float | None = None,
        normalize: Normalization | Mapping[str, Sequence[float]] | Literal["auto", "none", "weights"] = "auto",
    ) -> None:
        super().__init__()
        for name, value in {"every_n_epochs": every_n_epochs, "every_n_steps": every_n_steps}.items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise UsageError(f"{name}: {value!r} given; a whole number from 1 is needed")
        if on not in ("train", "validation"):
            raise UsageError(f"on: {on!r} given; allowed: train, validation")
        if on == "validation" and every_n_steps is not None:
            raise UsageError("every_n_steps: given with on='validation'; leave out one of them")
        if max_share is not None and not 0 < max_share <= 1:
            raise UsageError(f"max_share: {max_share!r} given; a number above 0, up to 1, is needed")
        self.every_n_epochs, self.every_n_steps, self.on = every_n_epochs, every_n_steps, on
        self.out = None if out is None else Path(out)
        self.history: list[dict[str, Any]] = []
        self._drawer = FeatureDrawer(layer, features, recipe=recipe, normalize=normalize)
        self._last: dict[str, DrawnTile] = {}
        self._last_step, self._said = 0, False
        self._cost = Cost(max_share)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check that the features can be drawn, unless the module creates its layers later."""
        if stage != "fit":
            return
        kinds = {kind.__name__ for kind in type(trainer.strategy).__mro__}
        if kinds.intersection(SHARDED):
            raise UsageError(
                f"FeatureMonitor: the trainer's strategy {type(trainer.strategy).__name__} given, whose ranks hold "
                "parts of the weights; use strategy='ddp', or visualize a saved checkpoint"
            )
        self._drawer.tiles = []
        if not _creates_layers_later(pl_module):
            self._check(trainer, pl_module)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check what could not be checked before the module had its layers."""
        if not self._drawer.tiles:
            self._check(trainer, pl_module)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._cost = Cost(self._cost.max_share)
        self._last_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw after every n-th optimizer step."""
        step = trainer.global_step
        if self.every_n_steps is not None and step // self.every_n_steps > self._last_step // self.every_n_steps:
            self._look(trainer, pl_module)
        self._last_step = step

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw after every n-th epoch."""
        if self.on == "train" and self.every_n_steps is None:
            self._look_after_epoch(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw after the validation of every n-th epoch."""
        if self.on == "validation" and not trainer.sanity_checking and trainer.state.fn == "fit":
            self._look_after_epoch(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log what the pictures took."""
        if trainer.is_global_zero:
            log.info("FeatureMonitor: %s", self._cost)

    def _look_after_epoch(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._look(trainer, pl_module)

    def _check(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._drawer.check(pl_module, trainer.strategy.root_device)

    def _look(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the features, each rank its share, and log them on the first rank."""
        if self._cost.max_share is not None and not exchange(self._cost.allows(), trainer.world_size)[0]:
            self._say_left_out()
            return
        begun = time.monotonic()
        drawn = self._draw(trainer, pl_module)
        try:
            pictures = self._add(trainer, drawn)
            if trainer.is_global_zero:
                self._write(trainer, pictures, time.monotonic() - begun)
        except Exception as error:  # a logger may raise anything
            log.warning(
                "FeatureMonitor: pictures after step %d are not logged: %s", trainer.global_step, _reason(error)
            )
        self._cost.add(time.monotonic() - begun)

    def _add(self, trainer: L.Trainer, drawn: Sequence[DrawnTile]) -> list[LayerPicture]:
        """Return the pictures of drawn tiles, and add their scalars to the history."""
        place = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        pictures = self._drawer.pictures(drawn, f"epoch {place['epoch']}, step {place['step']}", self._last)
        self.history += [{**place, "layer": picture.layer, **picture.scalars} for picture in pictures]
        self._last = {each.tile.file: each for each in drawn}
        return pictures

    def _draw(self, trainer: L.Trainer, pl_module: L.LightningModule) -> list[DrawnTile]:
        """Return the drawn tiles of all ranks in order; the failure of a rank is a warning."""
        tiles, out = self._share(trainer)
        result: list[DrawnTile] | str = []
        try:
            if tiles:
                result = self._drawer.draw(pl_module, trainer.strategy.root_device, tiles, out)
        except Exception as error:  # a network may raise anything
            result = _reason(error)
        results = exchange(result, trainer.world_size)
        for failure in sorted({each for each in results if isinstance(each, str)} if trainer.is_global_zero else ()):
            log.warning("FeatureMonitor: no pictures after step %d: %s", trainer.global_step, failure)
        by_file = {each.tile.file: each for part in results if not isinstance(part, str) for each in part}
        return [by_file[tile.file] for tile in self._drawer.tiles if tile.file in by_file]

    def _share(self, trainer: L.Trainer) -> tuple[list[PlannedTile], Path | None]:
        """Return this rank's tiles and their run directory, which the first rank alone writes."""
        if self.out is None:
            return self._drawer.share(trainer.global_rank, trainer.world_size), None
        out = self.out / f"epoch-{trainer.current_epoch}-step-{trainer.global_step}"
        return (self._drawer.tiles if trainer.is_global_zero else []), out

    def _write(self, trainer: L.Trainer, pictures: Sequence[LayerPicture], seconds: float) -> None:
        """Write pictures and scalars to every logger."""
        if getattr(trainer, "fast_dev_run", False):
            return
        step = _logged_step(trainer)
        scalars = {f"features/{each.layer}/{name}": value for each in pictures for name, value in each.scalars.items()}
        loggers: list[Any] = list(trainer.loggers) or [None]
        for logger in loggers:
            if logger is not None:
                logger.log_metrics(scalars | {"features/seconds": seconds}, step=step)
            writer = writer_of(logger)
            if writer is not None:
                for picture in pictures:
                    writer(logger, f"features/{picture.layer}", picture.atlas, step)
                continue
            folder = folder_of(logger, trainer.default_root_dir)
            for picture in pictures:
                write_file(folder, picture.layer, picture.atlas, step)
            if not self._said:
                log.warning("FeatureMonitor: %s takes no pictures; they are in %s", _name_of(logger), folder)
                self._said = True

    def _say_left_out(self) -> None:
        cost = self._cost
        cost.left_out += 1
        if cost.left_out == 1:
            log.warning(
                "FeatureMonitor: a picture takes %.1f s: drawing less often, to stay under %.1f%% of the training's "
                "time (max_share)",
                cost.last,
                100 * (cost.max_share or 0),
            )


def _creates_layers_later(module: L.LightningModule) -> bool:
    """Return whether a module overrides a hook that may create layers after the callbacks' `setup`."""
    hooks = {
        getattr(type(module), name)
        for name in ("setup", "configure_model", "configure_sharded_model")
        if hasattr(type(module), name)
    }
    return any(not hook.__module__.startswith(("lightning.", "pytorch_lightning.")) for hook in hooks)


def _logged_step(trainer: L.Trainer) -> int:
    """Return the step at which the trainer's loggers log."""
    return int(getattr(trainer.fit_loop.epoch_loop, "_batches_that_stepped", trainer.global_step))


def _name_of(logger: Any) -> str:
    return "a trainer without loggers" if logger is None else type(logger).__name__


def _reason(error: Exception) -> str:
    name = "" if isinstance(error, FeatlightError) else f"{type(error).__name__}: "
    return one_line(f"{name}{error}", 300)
