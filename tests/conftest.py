"""Fixtures that several tests share: small networks with activations, and one CPU thread for each test."""

import os
from collections.abc import Callable, Iterator
from unittest import mock

import pytest
import torch
import torchvision
from torch import nn

import featlight

LONGEST = ("test_launcher.py", "test_notebook.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest tests first, so that all processes end at about the same time."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


for _name in [name for name in os.environ if name.startswith(("SLURM_", "PMI_", "PMIX_", "OMPI_"))]:
    del os.environ[_name]  # in a cluster's interactive job, tests are no workers of it
torch.set_num_threads(1)  # for fixtures of modules and sessions, too: the number of threads changes bits
_warned: list[object] = []  # warnings inside a featlight call, where pytest's filter does not apply


def pytest_warning_recorded(warning_message: object) -> None:
    if "as some networks do" not in str(warning_message):
        _warned.append(warning_message)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail on warnings inside featlight calls, too."""
    if _warned:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Undo what a test has set."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_worker(monkeypatch) -> None:
    """Run commands in the test's own process, unless the test asks for workers."""
    monkeypatch.setattr("featlight.cli.making.workers_of", lambda *words: 1)


@pytest.fixture(autouse=True)
def _soon_alone(monkeypatch) -> None:
    """Shorten the minute after which a worker decides that it is alone."""
    monkeypatch.setattr("featlight.run.follower.PATIENCE", 0.1)


@pytest.fixture(autouse=True)
def _own_environment(tmp_path_factory) -> Iterator[None]:
    """Keep the user's cache out, and restore the environment: Lightning's launchers set NODE_RANK and the like."""
    with mock.patch.dict(os.environ, XDG_CACHE_HOME=str(tmp_path_factory.getbasetemp() / "cache")):
        yield


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch) -> None:
    """Run each test in its own folder."""
    monkeypatch.chdir(tmp_path)


def awake(network: nn.Module, size: int) -> nn.Module:
    """Compute batch-norm statistics from noise; with default ones, deep features of random networks are dead."""
    torch.manual_seed(1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # average over all batches
        network.train()(torch.rand(4, 3, size, size) / 10 + 0.5)
    return network.eval()


def hand_made() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(inplace=True),
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "hand_made": (hand_made, 32),
    "resnet18": (lambda: torchvision.models.resnet18(), 64),
    "googlenet": (lambda: torchvision.models.googlenet(aux_logits=False, init_weights=False), 64),
    "inception_v3": (lambda: torchvision.models.inception_v3(aux_logits=False, init_weights=False), 80),
}
_made: dict[str, nn.Module] = {}


@pytest.fixture
def network_of() -> Callable[[str], nn.Module]:
    """Return a random network by name, with active features. Tests share the object, so a change would show."""

    def make(name: str) -> nn.Module:
        if name not in _made:
            torch.manual_seed(0)
            build, size = NETWORKS[name]
            _made[name] = awake(build(), size)
        return _made[name]

    return make


@pytest.fixture
def small_recipe() -> featlight.Recipe:
    return featlight.Recipe(
        [
            featlight.Octave(size=32, steps=4, lr=(0.4, 0.3), sigma=(1.2, 0.6)),
            featlight.Octave(size=40, steps=3, lr=(0.3, 0.1), sigma=(0.9, 0.4)),
        ]
    )
