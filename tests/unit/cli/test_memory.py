"""A memory that is full, or a stack, is one line wherever it is noticed."""

from pathlib import Path
from unittest import mock

import pytest

import featlight
from featlight.cli.main import main
from featlight.errors import StorageError
from featlight.store.store import Store
from tests.made_up import made_up_run

ERRORS = {MemoryError: "out of memory; ", RecursionError: "out of stack: "}


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
