"""The Python of docs/training.md, run as a reader would."""

import re
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import featlight
from tests import ROOT

CALLBACK, LOOP, TRAINER = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "training.md").read_text(), re.DOTALL)
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*number of training batches", "ignore:.*LeafSpec"
)


class Classifier(L.LightningModule):
    """Has a layer of the page's name inside its model."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential()
        self.model.layer3 = nn.Conv2d(3, 20, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images).mean((2, 3))

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        return self(batch[0]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def test_the_callback():
    names = run(CALLBACK)
    names["trainer"].fit(Classifier(), DataLoader(TensorDataset(torch.rand(2, 3, 12, 12)), 2))
    assert [each["layer"] for each in names["monitor"].history] == ["model.layer3", "model.layer3"]
    assert list(Path("lightning_logs").glob("version_0/events.*"))


def test_the_loop():
    names = run(LOOP)
    names["writer"].close()
    assert names["pictures"][0].scalars["similarity"] == pytest.approx(1)
    assert list(Path("logs").glob("events.*"))


def test_transformers_callback():
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic")
    callback = run(TRAINER)["Features"]()
    callback.on_epoch_end(None, transformers.TrainerState(global_step=7), None, model=transformers.ResNetModel(config))
    assert [str(path) for path in Path("features").glob("*/*")] == ["features/encoder.stages.1/step-00000007.png"]


def test_a_short_demo(monkeypatch, tmp_path, capsys):
    pytest.importorskip("sklearn")
    from benchmarks import training_demo

    monkeypatch.setattr(training_demo, "LAYERS", {"first": "0-1", "classes": "0"})
    monkeypatch.setattr("sys.argv", ["demo", "--out", str(tmp_path), "--epochs", "2", "--steps", "1"])
    training_demo.main()
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[:4]] == ["epoch", "accuracy", "first", "classes"]
    # every layer equals itself at the end
    assert printed[2].split()[2] == "1.00"
    assert {"film.png", "film.webp", "settled.json"} <= {path.name for path in tmp_path.iterdir()}
    assert len(featlight.open_run(tmp_path / "runs" / "epoch-1-step-46")) == 3
