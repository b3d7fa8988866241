"""How a signal ends a command: one line and exit code 75 from its first line on, whatever is being imported."""

import re
import signal
import subprocess
import sys

import pytest

from featlight.cli.commands import COMMANDS
from featlight.cli.main import main

# Signals itself while a module is imported: in Python's own code, in a compiled module, in one that takes seconds
IMPORTING = """
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Finder())
from featlight.__main__ import main
sys.exit(main())
"""


def python(code, *words):
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=100)


def test_nothing_is_imported_before_signals_are_heard():
    done = python("import sys; before = {*sys.modules}; import featlight.__main__; print(*{*sys.modules} - before)")
    assert {*done.stdout.split()} <= {f"featlight{name}" for name in ("", ".version", ".ending", ".__main__")}, done


@pytest.mark.parametrize(
    ("number", "module", "words"),
    [
        (signal.SIGINT, "featlight.cli.main", ["--help"]),
        (signal.SIGTERM, "pydantic_core._pydantic_core", ["verify", "--out", "run"]),
        (signal.SIGINT, "numpy._core._multiarray_umath", ["alike", "--out", "run"]),
        (signal.SIGUSR1, "torch._C", ["--list-layers", "--model", "tiny_inception"]),
    ],
)
def test_a_signal_during_an_import_is_one_line(number, module, words):
    done = python(IMPORTING.format(module=module, number=int(number)), *words)
    line = f"featlight: stopped by {number.name}; run the same command again to continue\n"
    assert (done.returncode, done.stdout, done.stderr) == (75, "", line)


def test_what_is_half_written_goes_when_a_signal_comes(tmp_path):
    code = """
import os, signal
from pathlib import Path
from featlight.ending import end_on_signals
from featlight.store.guard.atomic import replacing
end_on_signals()
with replacing(Path("poster.pdf")) as file:
    file.write(b"half")
    assert len(os.listdir()) == 1
    os.kill(os.getpid(), signal.SIGTERM)
"""
    assert python(code).returncode == 75
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_each_help_names_its_exit_code(command, capsys):
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    assert re.search(r"\b75 stopped", capsys.readouterr().out)
