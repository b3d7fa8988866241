"""Train a small network on scikit-learn's digits, draw its features after every epoch, and measure when they settle.

python -m benchmarks.training_demo [--out demo] [--epochs 12] [--steps 16]
tensorboard --logdir demo/logs
"""

import argparse
import json
import logging
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import featlight
from featlight.drawing.rows import Row, draw_rows
from featlight.training.drawer import SHORT, image_similarity

LAYERS = {"first": "all", "second": "0-7", "third": "0-7", "classes": "all"}
FEATURES = 2  # of each layer in the figure
SETTLED = 0.8  # similarity to the final picture


class Digits(L.LightningModule):
    """Three convolutions and a linear layer, for gray images of 32 px."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self._block(1, 8)
        self.second = self._block(8, 16)
        self.third = self._block(16, 32)
        self.classes = nn.Linear(32, 10)

    @staticmethod
    def _block(given: int, made: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(given, made, 3, 2, 1, bias=False), nn.BatchNorm2d(made), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        maps = self.third(self.second(self.first(images)))  # (N, 32, 4, 4)
        return self.classes(maps.mean((2, 3)))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("accuracy", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), 1e-2)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Accuracies(L.Callback):
    """Keeps the accuracy of every epoch."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.values.append(float(trainer.callback_metrics["accuracy"]))


def digits() -> tuple[DataLoader[Any], DataLoader[Any]]:
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16  # (N, 1, 8, 8)
    images = nn.functional.interpolate(images, size=32, mode="bilinear")
    labels = torch.tensor(data.target)
    held_out = torch.arange(len(labels)) % 5 == 0
    train = TensorDataset(images[~held_out], labels[~held_out])
    test = TensorDataset(images[held_out], labels[held_out])
    shuffled = torch.Generator().manual_seed(0)
    return DataLoader(train, 64, shuffle=True, generator=shuffled), DataLoader(test, 512)


def results_of(runs: Path) -> list[featlight.Result]:
    """Return the runs of a training in the order of their steps."""
    ordered = sorted(runs.iterdir(), key=lambda run: int(run.name.rpartition("-")[2]))
    return [featlight.open_run(run) for run in ordered]


def draw_film(images: Sequence[featlight.Result], out: Path) -> None:
    """Draw the features as rows with a column per epoch, and an animation of all atlases."""
    last = images[-1]
    rows = []
    for layer in LAYERS:
        places = [place for place, record in enumerate(last.records) if record["layer"] == layer][:FEATURES]
        for place in places:
            cells = [each._cell(place) for each in images]
            rows.append(Row(f"{layer} {last.records[place]['feature']}", cells))
    heads = [f"epoch {epoch}" for epoch in range(len(images))]
    draw_rows(rows, title="Features of the digits network while it trains", columns=heads).save(out / "film.png")
    frames = [replace(each, title=f"epoch {epoch}").show() for epoch, each in enumerate(images)]
    durations = [300] * (len(frames) - 1) + [2000]
    frames[0].save(out / "film.webp", save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=60)


def similarities_to_last(images: Sequence[featlight.Result]) -> dict[str, list[float]]:
    """Mean similarity of each layer's features to the final ones, by epoch."""
    last, found = images[-1], {}
    for layer in LAYERS:
        places = [place for place, record in enumerate(last.records) if record["layer"] == layer]
        found[layer] = [
            sum(image_similarity(each[place], last[place]) for place in places) / len(places) for each in images
        ]
    return found


def settled_at(values: list[float]) -> int:
    """Return the first epoch from which on all values are at least SETTLED."""
    return next(epoch for epoch in range(len(values)) if min(values[epoch:]) >= SETTLED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("demo"))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--steps", type=int, default=16)
    given = parser.parse_args()
    begun = time.monotonic()
    L.seed_everything(0, verbose=False)
    recipe = replace(SHORT, octaves=(featlight.Octave(64, given.steps, (0.05, 0.02), (0.5, 0.3)),))
    warnings.simplefilter("ignore")  # of Lightning, about workers and logging intervals
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    monitor = featlight.FeatureMonitor(LAYERS, "all", recipe=recipe, out=given.out / "runs")
    accuracies = Accuracies()
    trainer = L.Trainer(
        max_epochs=given.epochs,
        accelerator="cpu",
        callbacks=[accuracies, monitor],
        logger=TensorBoardLogger(given.out, name="logs", version="", default_hp_metric=False),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(Digits(), *digits())
    results = results_of(given.out / "runs")
    draw_film(results, given.out)
    found = similarities_to_last(results)
    heads = "".join(f"{epoch:7d}" for epoch in range(given.epochs))
    print(f"{'epoch':10}{heads}")
    print(f"{'accuracy':10}" + "".join(f"{value:7.3f}" for value in accuracies.values))
    for layer, values in found.items():
        print(
            f"{layer:10}"
            + "".join(f"{value:7.2f}" for value in values)
            + f"   settled after epoch {settled_at(values)}"
        )
    print(f"{time.monotonic() - begun:.0f} s in all")
    kept = {"accuracy": accuracies.values, "similarity": found, "settled": {k: settled_at(v) for k, v in found.items()}}
    (given.out / "settled.json").write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
