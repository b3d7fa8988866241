"""A memory that is full, or a stack, is one line wherever it is noticed."""

from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import featlight
from featlight.cli.main import main
from featlight.errors import StorageError, memory_errors
from featlight.store.store import Store
from tests.made_up import made_up_run

ERRORS = {MemoryError: "out of memory; ", RecursionError: "out of stack: "}


class Greedy(nn.Module):
    """A network that allocates more memory than any machine has, first in Python or first in torch."""

    def __init__(self, take: Callable[[], object]) -> None:
        super().__init__()
        self.take = take

    def forward(self, images: Tensor) -> Tensor:
        self.take()
        return images


def greedy() -> nn.Module:
    bytearray(1 << 60)
    return nn.Identity()


def too_much() -> nn.Module:
    torch.empty(1 << 60, dtype=torch.uint8)
    return nn.Identity()


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(
    "words",
    [
        ["--render-only"],
        ["--dry-run"],
        ["verify"],
        ["verify", "--repair"],
        ["examples", "--images", "."],
        ["alike"],
        ["export", "--card", "card.md"],
    ],
    ids=" ".join,
)
def test_of_each_command(words: list[str], error: type[Exception], tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    made_up_run(tmp_path / "run", {"Mixed_4a": 3})
    with mock.patch.object(Store, "plan", side_effect=error("many words\nin lines")):
        assert main([*words, "--out", "run"]) == StorageError.exit_code
    said = capsys.readouterr().err
    assert said.startswith(f"featlight: {ERRORS[error]}")
    assert said.count("\n") == 1


@pytest.mark.parametrize("error", ERRORS)
def test_from_python(error: type[Exception], tmp_path: Path) -> None:
    made_up_run(tmp_path, {"Mixed_4a": 3})
    result = featlight.open_run(tmp_path)
    with mock.patch.object(Store, "plan", side_effect=error):
        for call in (featlight.open_run, featlight.find_alike, lambda out: featlight.find_examples(out, images=out)):
            with pytest.raises(StorageError, match=ERRORS[error]):
                call(tmp_path)
    with mock.patch("featlight.result.read_picture", side_effect=error):
        for read in (lambda: result[0], lambda: result.images, result.show):
            with pytest.raises(StorageError, match=ERRORS[error]):
                read()


@pytest.mark.parametrize("build", [greedy, too_much])
def test_of_a_network(build: Callable[[], nn.Module]) -> None:
    with pytest.raises(StorageError, match=ERRORS[MemoryError]):
        featlight.load_model(f"{__name__}:{build.__name__}")


def test_of_a_layer() -> None:
    with pytest.raises(StorageError, match=ERRORS[MemoryError]):
        featlight.list_layers(Greedy(greedy))
    with pytest.raises(StorageError, match=ERRORS[MemoryError]):
        featlight.visualize(Greedy(greedy), "take")


def test_of_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "sae.npz", W_enc=np.ones((2, 3), np.float32))
    torch.save({}, tmp_path / "weights.pt")
    read = mock.patch("featlight.objectives.directions.npy.read_magic", side_effect=MemoryError)
    with read, pytest.raises(StorageError, match=ERRORS[MemoryError]):
        featlight.encoder_directions(tmp_path / "sae.npz")
    with mock.patch("torch.load", side_effect=MemoryError), pytest.raises(StorageError, match=ERRORS[MemoryError]):
        featlight.load_model("tiny_inception", str(tmp_path / "weights.pt"))


def test_another_error_is_raised_unchanged() -> None:
    with pytest.raises(RuntimeError, match=r"^mine$"), memory_errors():
        raise RuntimeError("mine")
