"""`featlight view` and `featlight tensorboard`, up to the browser and to TensorBoard's own first page."""

import json
import re
import subprocess
import sys
import time
import urllib.request
import webbrowser
from pathlib import Path

import pytest

import featlight
from featlight.cli.main import main
from tests import ROOT
from tests.conftest import hand_made


@pytest.fixture
def run(small_recipe) -> Path:
    featlight.visualize(hand_made(), "4", [0, 1], recipe=small_recipe, out="a run", progress=False)
    return Path("a run")


@pytest.mark.parametrize("opens", [True, False])
def test_a_page_is_opened_from_disk_or_it_is_said_how(run, monkeypatch, capsys, opens):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or opens)
    assert main(["view", "--out", str(run)]) == 0
    assert opened == [f"file://{Path.cwd()}/a%20run/index.html"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "page         a run/index.html"
    how = "no browser can be opened here: copy the folder a run to a computer with one, and open index.html"
    assert lines[1:] == ([] if opens else [how])


class Executed(Exception):
    """Stands in for this process's end."""


@pytest.fixture
def executed(monkeypatch):
    def execute(program, words):
        assert program == sys.executable
        raise Executed(words[1:])

    monkeypatch.setattr("os.execv", execute)


@pytest.mark.parametrize(
    ("words", "theirs"),
    [
        ([], []),
        (["--port", "6007", "--host=0.0.0.0"], ["--port", "6007", "--host", "0.0.0.0"]),
        (["--", "--reload_interval", "30", "--"], ["--reload_interval", "30", "--"]),
        (["--port", "0", "--", "--port"], ["--port", "0", "--port"]),
    ],
)
def test_tensorboard_takes_over(run, executed, words, theirs):
    with pytest.raises(Executed) as caught:
        main(["tensorboard", "--out", str(run), *words])
    assert caught.value.args[0] == ["-P", "-m", "tensorboard.main", "--logdir", "a run/tensorboard", *theirs]


def test_tensorboard_shows_a_run(run):
    """For real, at a port that it takes by itself, until its first page and a run's tags have come."""
    words = ["tensorboard", "--out", str(run.absolute()), "--port", "0", "--host", "127.0.0.1"]
    deadline = time.monotonic() + 120
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def fetch(path):
        with direct.open(address + path, timeout=30) as answer:
            return answer.read().decode()

    def wait(look):
        """Look again until there is something to see."""
        while not (found := look()):
            assert process.poll() is None, Path("log").read_text()
            assert time.monotonic() < deadline, Path("log").read_text()
            time.sleep(0.1)
        return found

    with (
        Path("log").open("w") as log,
        subprocess.Popen([sys.executable, "-m", "featlight", *words], cwd=ROOT, stdout=log, stderr=log) as process,
    ):
        try:
            address = wait(lambda: re.search(r"http://127\.0\.0\.1:\d+", Path("log").read_text()))[0]
            assert "<title>TensorBoard</title>" in fetch("/")
            tags = wait(lambda: json.loads(fetch("/data/plugin/scalars/tags")))
        finally:
            process.kill()
    assert "activation/4/p50" in tags["."]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["view"], "--out: none given; the run directory is needed"),
        (["view", "--out", "nowhere"], "--out: nowhere holds no run"),
        (["view", "--out", "a run", "--port", "1"], "no flag '--port'; nearest: '--out'"),
        (["tensorboard", "--out", "nowhere"], "--out: nowhere holds no run"),
        (["tensorboard", "--prot", "1"], "no flag '--prot'; nearest: '--port'"),
        (
            ["tensorboard", "--out", "a run", "--port", "65536"],
            "--port: '65536' given; allowed: a number from 0 to 65535",
        ),
        (
            ["view", "--out", "bare"],
            "--out: bare has no index.html, the run's page; run its command with --render-only",
        ),
        (["tensorboard", "--out", "bare"], "--out: bare has no tensorboard, the run's TensorBoard log; "),
    ],
)
def test_a_slip_is_exit_2_and_one_line(executed, monkeypatch, capsys, words, line):
    monkeypatch.setattr(webbrowser, "open", None)
    Path("bare").mkdir()
    Path("bare/plan.json").touch()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"featlight: {line}")
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["view", "tensorboard"])
def test_help_comes_without_torch(command):
    code = "import atexit, sys; from featlight.cli.main import main; "
    code += "atexit.register(lambda: print('torch' in sys.modules)); "
    done = subprocess.run(
        [sys.executable, "-c", code + "main(sys.argv[1:])", command, "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert f"usage: featlight {command}" in done.stdout
    assert done.stdout.endswith("\nFalse\n")
