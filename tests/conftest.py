"""What several tests share: small networks that move, and one CPU thread, so that tests do not fight over cores."""

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
    """The longest first: what begins last alone keeps one process busy."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


_warned: list[object] = []  # within a call of featlight's, where no filter makes a warning an error


def pytest_warning_recorded(warning_message: object) -> None:
    if "as some networks do" not in str(warning_message):
        _warned.append(warning_message)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Warnings are errors there too."""
    if _warned:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _one_worker(monkeypatch) -> None:
    """A command that is run within a test stays in its process, unless the test asks for workers."""
    monkeypatch.setattr("featlight.cli.making.workers_of", lambda *words: 1)


@pytest.fixture(autouse=True)
def _soon_alone(monkeypatch) -> None:
    """Another worker than the first, in a test, need not wait a minute to know that it is alone."""
    monkeypatch.setattr("featlight.run.follower.PATIENCE", 0.1)


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """Lightning's launchers write NODE_RANK and the like, which would place a later test's run on another machine."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch) -> None:
    """Runs land in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)


def awake(network: nn.Module, size: int) -> nn.Module:
    """Batch-norm statistics from one pass over noise: default ones leave the deep features of random networks dead."""
    torch.manual_seed(1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # the average of what is seen
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
    """A random network by name, awake; the same object every time, which also shows that nobody changes it."""

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
