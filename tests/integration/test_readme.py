"""The README's commands and its Python, as a reader would type them."""

import re
import shlex

import pytest
from PIL import Image

from featlight.cli import commands
from featlight.cli.main import main
from tests import ROOT

TEXT = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^    (?:.*&& )?python train_viz\.py *(.*)$", TEXT, re.MULTILINE)


def test_the_commands_are_found():
    assert len(COMMANDS) >= 7
    assert '    pip install -e ".[test]" && pytest\n' in TEXT


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main([*shlex.split(command), "--print-config"]) == 0
    assert "model:" in capsys.readouterr().out


def test_every_other_command_is_there(capsys):
    known = {"alike", "examples", "export", "verify", "view", "tensorboard"}
    named = set(re.findall(r"(?:featlight|train_viz\.py) ([a-z]+)\b", TEXT)) & known
    assert named == commands.COMMANDS.keys()
    for line in re.findall(r"^    featlight (.*)$", TEXT, re.MULTILINE):
        assert main(shlex.split(line)) == 2  # there is no such run here
        assert "holds no run" in capsys.readouterr().err


def test_the_python_runs():
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    assert names["result"].images.shape[:2] == (3, 3)
    with Image.open("features.png") as image:
        assert image.width > 300


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_every_file_that_is_named_exists(page):
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("https://") or (page.parent / link).exists(), link
    for name in re.findall(r"`((?:featlight|configs|docs)/[\w./]+)`", text):
        assert (ROOT / name).exists(), name
