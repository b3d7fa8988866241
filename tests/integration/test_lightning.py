"""Networks as they are trained: within callbacks, after a fit, wrapped, and holding what has no copy."""

import inspect
import logging
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import featlight
from featlight.errors import UsageError

RECIPE = featlight.Recipe([featlight.Octave(12, 1, (0.4, 0.3))])


class Trained(L.LightningModule):
    """A network that draws random numbers where it is trained, and keeps statistics."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Dropout(0.3), nn.Conv2d(width, 3, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = self(batch[0]).square().mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("validation", self(batch[0]).mean())

    test_step = validation_step

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 0.01)


def look(network: nn.Module, layer: Any = "net.3") -> Tensor:
    return featlight.visualize(network, layer, [0], recipe=RECIPE, progress=False).images


def state_of(trainer: L.Trainer, module: L.LightningModule) -> list[Any]:
    optimizers = [optimizer.state_dict()["state"] for optimizer in trainer.optimizers]
    return [
        {name: value.tolist() for name, value in module.state_dict().items()},
        [None if each.grad is None else each.grad.tolist() for each in module.parameters()],
        [each.requires_grad for each in module.parameters()],
        [each.training for each in module.modules()],
        str(optimizers),
        (torch.get_rng_state().tolist(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        (trainer.global_step, trainer.current_epoch, trainer.state, trainer.training, trainer.validating),
        {name: float(value) for name, value in trainer.callback_metrics.items()},
    ]


HOOKS = [
    name for name, function in inspect.getmembers(L.Callback, inspect.isfunction) if name.startswith(("on_", "setup"))
]


class Looks(L.Callback):
    """Looks at the network in every hook, where it is first called."""

    def __init__(self, *, looks: bool) -> None:
        self.seen: set[str] = set()
        self.looks = looks

    def _look(self, hook: str, trainer: L.Trainer, module: L.LightningModule) -> None:
        if hook in self.seen:
            return
        self.seen.add(hook)
        if self.looks:
            before = state_of(trainer, module)
            assert look(module).shape == (1, 3, 12, 12)
            assert state_of(trainer, module) == before, hook


def _hook(name: str) -> Any:
    def hook(self: Looks, trainer: L.Trainer, module: L.LightningModule, *_: Any, **__: Any) -> None:
        self._look(name, trainer, module)

    return hook


for _name in HOOKS:
    setattr(Looks, _name, _hook(_name))


def trained(*, looks: bool, precision: Any = "32-true") -> tuple[list[Any], Trained, L.Trainer, set[str]]:
    torch.manual_seed(0)
    module, callback = Trained(), Looks(looks=looks)
    words = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = L.Trainer(max_epochs=1, callbacks=[callback], logger=CSVLogger("logs"), precision=precision, **words)
    images = DataLoader(TensorDataset(torch.rand(4, 3, 12, 12)), 2)
    trainer.fit(module, images, images)
    trainer.test(module, images, verbose=False)
    predicted = trainer.predict(module, images)
    return [state_of(trainer, module), [each.tolist() for each in predicted]], module, trainer, callback.seen


pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*number of training batches", "ignore:.*LeafSpec"
)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_is_the_same_to_the_bit_with_a_look_in_every_hook(precision):
    ours, module, trainer, seen = trained(looks=True, precision=precision)
    theirs, _, _, _ = trained(looks=False, precision=precision)
    assert ours == theirs
    assert set(HOOKS) - seen <= {"on_exception", "on_load_checkpoint"}
    plain = nn.Sequential()
    plain.net = module.net.float()
    plain.net.eval()
    assert torch.equal(look(module), look(plain)), "after the fit"
    trainer.save_checkpoint("last.ckpt")
    assert torch.equal(look(Trained.load_from_checkpoint("last.ckpt")), look(plain))


def network_of(**attributes: Any) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential()
    network.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3))
    for name, value in attributes.items():
        setattr(network, name, value)
    return network


class Helper:
    """Holds the network, and what cannot be copied."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.lock = [network], threading.Lock()


class Handle(Helper):
    """Cannot be copied itself, as a handle to something outside."""

    def __reduce_ex__(self, _: Any) -> Any:
        raise TypeError("no copy of a handle")


def held_weakly() -> nn.Module:
    network = network_of()
    network.net[0].parent = [weakref.proxy(network), weakref.ref(network)]
    return network


def held_by(kind: type[Helper]) -> nn.Module:
    network = network_of()
    network.helper = kind(network)
    return network


def with_trainer() -> nn.Module:
    network = network_of()
    network.trainer = L.Trainer(logger=CSVLogger("logs"), accelerator="cpu", enable_progress_bar=False)
    network.log, network.callbacks = network.trainer.logger, network.trainer.callbacks
    network.trainer.network = network
    return network


def with_fabric() -> nn.Module:
    fabric = L.Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    network = network_of()
    return fabric.setup(network, torch.optim.SGD(network.parameters(), 0.1))[0]


def distributed() -> nn.Module:
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", f"file://{Path('group').absolute()}", rank=0, world_size=1)
    return nn.parallel.DistributedDataParallel(network_of())


def with_function() -> nn.Module:
    network = network_of()
    network.step = lambda images: network.net(images)
    network.forward = lambda images: network.step(images)
    return network


CARRIED = {
    "a logger": lambda: network_of(log=logging.getLogger("training"), file=sys.__stderr__),
    "locks": lambda: network_of(lock=threading.Lock(), thread=threading.current_thread(), since=time.time),
    "generators": lambda: network_of(numbers=(each for each in range(3)), stream=torch.Generator()),
    "an optimizer": lambda: network_of(optimizer=torch.optim.Adam(nn.Linear(2, 2).parameters())),
    "weak references": held_weakly,
    "a helper with a lock": lambda: held_by(Helper),
    "a handle": lambda: held_by(Handle),
    "a trainer": with_trainer,
    "a function": with_function,
}
WRAPPED = {
    "compiled": (lambda: torch.compile(network_of()), "_orig_mod."),
    "by Fabric": (with_fabric, "_forward_module."),
    "DDP": (distributed, "module."),
    "compiled DDP": (lambda: torch.compile(distributed()), "_orig_mod.module."),
    "DataParallel": (lambda: nn.DataParallel(network_of()), "module."),
}


@pytest.mark.parametrize("build", CARRIED.values(), ids=CARRIED)
def test_what_a_network_carries_is_left_alone(build):
    network = build()
    before = dict(vars(network))
    assert torch.equal(look(network), look(network_of()))
    assert vars(network) == before


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is:DeprecationWarning")  # of torch 2.11's own compiler
@pytest.mark.parametrize(("build", "prefix"), WRAPPED.values(), ids=WRAPPED)
def test_a_wrapper_changes_no_bit_and_its_names_are_the_layers(build, prefix):
    network = build()
    found = look(network, f"{prefix}net.3")
    assert torch.equal(found, look(network_of()))
    assert torch.equal(found, look(network, network.get_submodule(f"{prefix}net")[3]))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is:DeprecationWarning")  # of torch 2.11's own compiler
def test_a_wrapped_network_keeps_what_is_known_of_it():
    network = featlight.load_model("tiny_inception", "none")
    source = featlight.models.catalog.source_of(network)
    assert featlight.models.catalog.source_of(nn.DataParallel(network)) == source
    assert featlight.models.catalog.source_of(torch.compile(network)) == source


def test_a_network_that_needs_its_trainer_is_told_so():
    network = with_trainer()
    network.forward = lambda images: network.net(images) * network.trainer.current_epoch
    with pytest.raises(UsageError, match="it uses a Trainer, which is not part of the network"):
        look(network, "")
    torch.testing.assert_close(look(network), look(network_of()))  # a layer before that
