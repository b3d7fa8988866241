"""The README's commands and its Python, as a reader would type them."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from featlight.cli import main

ROOT = Path(__file__).parents[1]
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


def test_the_python_runs():
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    assert names["result"].images.shape[:2] == (3, 3)
    with Image.open("features.png") as image:
        assert image.width > 300


def test_every_file_that_is_named_exists():
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / link).exists(), link
    for name in re.findall(r"`((?:featlight|configs)/[\w./]+)`", TEXT):
        assert (ROOT / name).exists(), name
