"""The commands and the Python of the README and the first pages of the docs, as a reader would type them."""

import re
import shlex

import pytest
from PIL import Image

from featlight.cli import commands
from featlight.cli.main import main
from tests import ROOT

TEXT = (ROOT / "README.md").read_text()
PAGES = [TEXT, *((ROOT / "docs" / f"{name}.md").read_text() for name in ("runs", "networks"))]
RUN = re.compile(r"^    (?:.*&& )?(?:python train_viz\.py|featlight) *((?:-.*)?)$", re.MULTILINE)
COMMANDS = dict.fromkeys(words for page in PAGES for words in RUN.findall(page) if words != "--help")


def test_the_commands_are_found():
    assert len(RUN.findall(TEXT)) >= 7
    assert len(COMMANDS) >= 20
    assert '    pip install -e ".[test]" && pytest\n' in TEXT


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)
    assert main(words if "--list-models" in words else [*words, "--print-config"]) == 0
    assert capsys.readouterr().out


def test_every_other_command_is_there(capsys):
    known = {"alike", "circuits", "examples", "export", "verify", "view", "tensorboard"}
    named = set(re.findall(r"^    featlight ([a-z]+)\b", TEXT, re.MULTILINE)) & known
    assert named == commands.COMMANDS.keys()
    for line in re.findall(r"^    featlight (.*)$", TEXT, re.MULTILINE):
        assert main(shlex.split(line)) == 2  # there is no such run here
        assert "holds no run" in capsys.readouterr().err


def python_of(text):
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    return names


def test_the_python_runs():
    assert python_of(TEXT)["result"].images.shape[:2] == (3, 3)
    with Image.open("features.png") as image:
        assert image.width > 300


def test_the_python_of_a_run_on_disk_runs():
    names = python_of(PAGES[1])
    assert len(names["featlight"].open_run("runs/mine").records) == len(names["result"].images) == 2


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))],
    ids=lambda page: page.name,
)
def test_every_file_that_is_named_exists(page):
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("https://") or (page.parent / link).exists(), link
    for name in re.findall(r"`((?:featlight|configs|docs)/[\w./]+)`", text):
        assert (ROOT / name).exists(), name
