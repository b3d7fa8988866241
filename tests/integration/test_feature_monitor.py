"""`featlight.FeatureMonitor`: what it logs, what it refuses, and that a training with it is the same to the bit."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import featlight
from featlight.errors import UsageError
from featlight.training.drawer import image_similarity
from featlight.training.loggers import writer_of
from tests.integration.test_lightning import Trained, state_of

RECIPE = featlight.Recipe([featlight.Octave(12, 2, (0.4, 0.3))])
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*number of training batches",
    "ignore:.*LeafSpec",
    "ignore:.*isinstance.treespec, LeafSpec",
    "ignore:.*has been changed since",
    "ignore:`torch.jit.script_method` is:DeprecationWarning",
)


def images() -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(1))), 2)


def monitor(layer: Any = "net.3", features: Any = (0, 2), **words: Any) -> featlight.FeatureMonitor:
    return featlight.FeatureMonitor(layer, features, **{"recipe": RECIPE} | words)


def fit(module: Any, *callbacks: Any, package: Any = L, epochs: int = 2, **words: Any) -> Any:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "logger": False}
    quiet |= {"enable_checkpointing": False}
    trainer = package.Trainer(max_epochs=epochs, callbacks=list(callbacks), **quiet | words)
    trainer.fit(module, images(), images())
    return trainer


class Compiled(Trained):
    """Its network is compiled in place, as for a training."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.compile(self.net, backend="aot_eager")


def average(kind: str) -> list[Any]:
    if kind == "EMA":
        return [EMAWeightAveraging(decay=0.9)]
    return [StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1, annealing_epochs=1)] if kind == "SWA" else []


KINDS: dict[str, dict[str, Any]] = {
    "32-true": {},
    "bf16-mixed": {"precision": "bf16-mixed"},
    "accumulation": {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5},
    "EMA": {},
    "SWA": {},
    "compiled": {},
}
# SWA runs one more epoch, for the statistics of the batch norm
COUNTS = {"accumulation": [2, 4, 2], "SWA": [4, 13, 4]}


def trained(kind: str, *callbacks: Any) -> tuple[list[Any], dict[str, Any]]:
    torch.manual_seed(0)
    module = Compiled() if kind == "compiled" else Trained()
    trainer = fit(module, *average(kind), *callbacks, epochs=3 if kind == "SWA" else 2, **KINDS[kind])
    trainer.save_checkpoint("last.ckpt")
    return state_of(trainer, module), torch.load("last.ckpt", weights_only=False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_is_the_same_to_the_bit(kind):
    looks = [monitor(), monitor(every_n_steps=1), monitor(on="validation")]
    ours, kept = trained(kind, *looks)
    theirs, plain = trained(kind)
    assert [len(each.history) for each in looks] == COUNTS.get(kind, [2, 8, 2])
    assert ours == theirs
    assert str(kept) == str(plain)


def test_it_draws_what_visualize_draws(tmp_path):
    module, drawn = Trained(), monitor(out=tmp_path / "runs")
    fit(module, drawn)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["epoch-0-step-4", "epoch-1-step-8"]
    run = featlight.open_run(tmp_path / "runs" / "epoch-1-step-8")
    # what ended the training is what was drawn last
    expected = featlight.visualize(module, "net.3", [0, 2], recipe=RECIPE, progress=False)
    assert torch.equal(run.images, expected.images)
    first = featlight.open_run(tmp_path / "runs" / "epoch-0-step-4")
    similarities = [
        np.corrcoef((a - a.mean((1, 2), keepdims=True)).ravel(), (b - b.mean((1, 2), keepdims=True)).ravel())
        for a, b in zip(first.images.double().numpy(), run.images.double().numpy(), strict=True)
    ]
    last = drawn.history[-1]
    assert last["similarity"] == pytest.approx(np.mean([each[0, 1] for each in similarities]))
    assert last["mean_activation"] == pytest.approx(np.mean([each["activation_end"] for each in expected.records]))
    assert (last["epoch"], last["step"], last["layer"], last["dead"]) == (1, 8, "net.3", 0)
    assert "similarity" not in drawn.history[0]


def test_every_logger_gets_an_atlas_and_scalars(caplog):
    board, table = TensorBoardLogger("board", version=""), CSVLogger("table", version="")
    fit(Trained(), monitor(["net.0", "net.3"]), logger=[board, table])
    events = EventAccumulator(board.log_dir, {"images": 0, "scalars": 0}).Reload()
    assert [each.step for each in events.Images("features/net.3")] == [4, 8]
    assert [each.step for each in events.Scalars("features/net.0/mean_activation")] == [4, 8]
    assert {"features/net.0/dead", "features/net.0/similarity", "features/seconds"} <= set(events.Tags()["scalars"])
    pictures = sorted(Path(table.log_dir).glob("features/*/*.png"))
    assert [str(path.relative_to(table.log_dir)) for path in pictures] == [
        f"features/{layer}/step-{step:08d}.png" for layer in ("net.0", "net.3") for step in (4, 8)
    ]
    lines = [each for each in caplog.messages if "takes no pictures" in each]
    assert lines == [f"FeatureMonitor: CSVLogger takes no pictures; they are in {Path(table.log_dir) / 'features'}"]
    assert "features/net.3/dead" in (Path(table.log_dir) / "metrics.csv").read_text()


class Calls(Logger):
    """A service behind a logger's class: it keeps what it is called with."""

    name, version = "calls", "0"

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[Any] = []

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

    def log_metrics(self, metrics: Any, step: Any = None) -> None: ...


class CometLogger(Calls):
    @property
    def experiment(self) -> Any:
        return SimpleNamespace(log_image=lambda picture, name, step: self.pictures.append((name, picture.size, step)))


class NeptuneLogger(Calls):
    @property
    def experiment(self) -> Any:
        def series(tag: str) -> Any:
            return SimpleNamespace(append=lambda picture, step: self.pictures.append((tag, picture.size, step)))

        return type("Run", (), {"__getitem__": lambda _, tag: series(tag)})()


def test_comet_and_neptune_get_pictures(monkeypatch):
    monkeypatch.setitem(sys.modules, "neptune", ModuleType("neptune"))
    types = ModuleType("neptune.types")
    types.File = SimpleNamespace(as_image=lambda picture: picture)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "neptune.types", types)
    for logger in (CometLogger(), NeptuneLogger()):
        fit(Trained(), monitor(), epochs=1, logger=logger)
        ((tag, size, step),) = logger.pictures
        assert (tag, step) == ("features/net.3", 4)
        assert size[0] > 2 * 12


def test_the_interfaces_of_wandb_and_mlflow(monkeypatch):
    """Lightning's own classes, with stand-ins for the services behind them."""
    picture, seen = Image.new("RGB", (4, 4)), []
    wandb = WandbLogger.__new__(WandbLogger)
    wandb.log_metrics = lambda metrics, step: seen.append((metrics, step))  # type: ignore[method-assign]
    fake = ModuleType("wandb")
    fake.Image = lambda image, **_: image  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    writer_of(wandb)(wandb, "features/a", picture, 7)
    assert seen == [({"features/a": [picture]}, 7)]
    service = type("Service", (), {"log_image": lambda self, run, image, **words: seen.append((run, image, words))})
    monkeypatch.setitem(sys.modules, "mlflow", ModuleType("mlflow"))
    mlflow = MLFlowLogger.__new__(MLFlowLogger)
    mlflow._initialized, mlflow._run_id, mlflow._mlflow_client = True, "run", service()
    writer_of(mlflow)(mlflow, "features/a", picture, 7)
    assert seen[1:] == [("run", picture, {"key": "features/a", "step": 7})]


def test_the_other_package_takes_it():
    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Trained().net

        def forward(self, images: Tensor) -> Tensor:
            return self.net(images)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return self(batch[0]).square().mean()

        def validation_step(self, batch: list[Tensor], batch_idx: int) -> None: ...

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    looks = [monitor(), monitor(every_n_steps=2), monitor(on="validation", every_n_epochs=2)]
    fit(Module(), *looks, package=pl)
    assert [[each["step"] for each in look.history] for look in looks] == [[4, 8], [2, 4, 6, 8], [8]]


class Inside(Trained):
    """Holds the network that takes images; its own forward takes a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.holder = nn.ModuleDict({"model": nn.Sequential(*self.net)})
        del self.net

    def forward(self, batch: list[Tensor]) -> Tensor:
        return self.holder["model"](batch["images"] if isinstance(batch, dict) else batch[0])

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self(batch).square().mean()

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None: ...


class Late(Trained):
    """Has its layers from `configure_model` on."""

    def __init__(self) -> None:
        super().__init__()
        del self.net

    def configure_model(self) -> None:
        if not hasattr(self, "net"):
            self.net = Trained().net


@pytest.mark.parametrize(
    ("build", "layer", "name"),
    [
        (Trained, "3", "net.3"),
        (Trained, "net.3", "net.3"),
        (Trained, {"0": [1]}, "net.0"),
        (Compiled, "net.3", "net.3"),
        (Compiled, "3", "net.3"),
        (Inside, "model.3", "holder.model.3"),
        (Late, "net.3", "net.3"),
    ],
)
def test_layers_are_found_by_the_names_that_users_see(build, layer, name):
    look = monitor(layer)
    fit(build(), look, epochs=1)
    assert [each["layer"] for each in look.history] == [name]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"layer": "net.8"}, "no layer 'net.8' in Trained; nearest: 'net.3'"),
        ({"features": [7]}, "7"),
        ({"normalize": "weights"}, "normalize"),
    ],
)
@pytest.mark.parametrize("build", [Trained, Late])
def test_it_refuses_before_the_training_what_it_could_not_draw(build, words, reason):
    module = build()
    before = module.state_dict()
    with pytest.raises(UsageError, match=reason.replace("Trained", build.__name__)):
        fit(module, monitor(**words))
    assert module.trainer.global_step == 0
    for name, value in before.items():
        assert torch.equal(module.state_dict()[name], value)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"every_n_epochs": 0}, "every_n_epochs: 0 given"),
        ({"every_n_steps": 1.5}, "every_n_steps: 1.5 given"),
        ({"on": "test"}, "on: 'test' given; allowed: train, validation"),
        ({"on": "validation", "every_n_steps": 3}, "every_n_steps: given with on='validation'"),
        ({"max_share": 2}, "max_share: 2 given"),
        ({"recipe": "natura"}, "no recipe 'natura'; nearest: 'natural'"),
    ],
)
def test_it_refuses_arguments(words, reason):
    with pytest.raises(UsageError, match=reason):
        monitor(**words)


def test_it_refuses_ranks_that_hold_parts_of_the_weights():
    class ModelParallelStrategy:
        root_device = torch.device("cpu")

    with pytest.raises(UsageError, match="strategy ModelParallelStrategy given, whose ranks hold parts"):
        monitor().setup(SimpleNamespace(strategy=ModelParallelStrategy()), Trained(), "fit")


class Breaks(Trained):
    """Fails on images of featlight once it is trained, without a gradient or with one."""

    def forward(self, images: Tensor) -> Tensor:
        if self.trained and images.shape[0] != 2:
            raise ValueError("no such images")
        return self.net(images)

    trained = False

    def on_train_batch_end(self, *_: Any) -> None:
        self.trained = True


class Refuses(Calls):
    def log_metrics(self, metrics: Any, step: Any = None) -> None:
        if any(name.startswith("features") for name in metrics):
            raise OSError("the disk is full")


def test_an_error_in_a_picture_is_a_warning(caplog):
    trainer = fit(Breaks(), monitor(features=[0, 1, 2]))
    assert trainer.global_step == 8
    assert sum("FeatureMonitor: no pictures after step" in each for each in caplog.messages) == 2
    trainer = fit(Trained(), monitor(), logger=Refuses())
    assert trainer.global_step == 8
    assert "FeatureMonitor: pictures after step 8 are not logged: OSError: the disk is full" in caplog.messages


def test_max_share_draws_less_often(caplog):
    caplog.set_level(logging.INFO, "featlight")
    look = monitor(every_n_steps=1, max_share=1e-4)
    fit(Trained(), look)
    assert len(look.history) == 1  # the first is always drawn
    assert sum("drawing less often" in each for each in caplog.messages) == 1
    assert "7 left out (max_share 0.0001)" in caplog.messages[-1]
    free = monitor(every_n_steps=1, max_share=1.0)
    fit(Trained(), free)
    assert len(free.history) == 8


def test_similarity_is_the_correlation_of_pixels():
    one = torch.rand(3, 8, 8)
    assert image_similarity(one, 2 * one + 1) == pytest.approx(1)
    assert image_similarity(one, -one) == pytest.approx(-1)
    assert abs(image_similarity(one, torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(5)))) < 0.4
    flat = torch.ones(3, 8, 8)
    assert (image_similarity(flat, flat), image_similarity(flat, one)) == (1, 0)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What two ranks say of the same trainings with and without the callback."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "-m", "tests.ddp_monitor", str(folder)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=False) for rank in (0, 1)], folder, done.stderr


@pytest.mark.full
def test_two_ranks_train_the_same_to_the_bit(ranks):
    states, _, _ = ranks
    for state in states:
        for name in ("shared", "failing", "out", "max_share"):
            assert state[name]["state"] == state["plain"]["state"], name


@pytest.mark.full
def test_two_ranks_share_the_features(ranks):
    (first, second), folder, _ = ranks
    assert first["shared"]["drawn"] == [0, 2]
    assert second["shared"]["drawn"] == [1]
    assert first["shared"]["history"] == second["shared"]["history"]
    # the same as of one rank
    assert first["shared"]["history"][-1]["mean_activation"] == pytest.approx(first["expected"])
    assert [len(each["max_share"]["history"]) for each in (first, second)] == [1, 1]
    run = featlight.open_run(folder / "runs" / "epoch-1-step-4")
    assert len(run) == 3


@pytest.mark.full
def test_a_failing_rank_hangs_nobody(ranks):
    (first, second), _, errors = ranks
    assert errors.count("FeatureMonitor: no pictures after step 2: RuntimeError: rank 1 fails") == 1
    # the other rank's features are logged
    assert first["failing"]["names"] == second["failing"]["names"] == ["net.3/00000", "net.3/00002"]
