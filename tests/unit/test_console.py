"""Lines on a terminal, and where there is none."""

import logging
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from featlight.console import Link, PrintableFormatter, link, printable, say
from tests import ROOT

SPEAK = "from pathlib import Path; from featlight.console import link, say; say(link(Path('runs/a b/ü.png')))"


def heard_on_a_terminal(kind):
    """What a program prints where its output is a pseudo-terminal of that kind."""
    reader, writer = pty.openpty()
    try:
        environment = {**os.environ, "TERM": kind}
        subprocess.run([sys.executable, "-c", SPEAK], stdout=writer, env=environment, cwd=ROOT, check=True)
        return os.read(reader, 4096).decode().rstrip("\r\n")
    finally:
        os.close(reader)
        os.close(writer)


def test_a_path_can_be_clicked_on_a_terminal():
    address = f"file://{ROOT}/runs/a%20b/%C3%BC.png"
    assert heard_on_a_terminal("xterm-256color") == f"\x1b]8;;{address}\x1b\\runs/a b/ü.png\x1b]8;;\x1b\\"


@pytest.mark.parametrize("kind", ["dumb", "linux"])
def test_a_terminal_that_may_print_what_it_does_not_know_gets_text(kind):
    assert heard_on_a_terminal(kind) == "runs/a b/ü.png"


def test_elsewhere_it_is_text(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert link(Path("runs/a")) == "runs/a"
    with Path("closed").open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
    assert link(Path("runs/a")) == "runs/a"
    monkeypatch.setattr(sys, "stdout", None)
    assert link(Path("runs/a")) == "runs/a"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("runs/a b/ü-日本.png", "runs/a b/ü-日本.png"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\nb\tc\rd\0e\x7f", "a\\nb\\tc\\rd\\x00e\\x7f"),
        ("\x9b2J\x85", "\\x9b2J\\x85"),  # control codes of one byte
        ("a\u202eb\u2066c\u200bd\u2028", "a\\u202eb\\u2066c\\u200bd\\u2028"),
        ("\udcff", "\\udcff"),  # a byte of a name that is not UTF-8
    ],
)
def test_what_moves_a_terminal_is_written_out(given, shown, capsys):
    assert printable(given) == shown
    say("page  ", given)
    assert capsys.readouterr().out == f"page  {shown}\n"
    record = logging.LogRecord("x", logging.WARNING, "x.py", 1, "who: %s", (given,), None)
    assert PrintableFormatter("featlight: %(message)s").format(record) == f"featlight: who: {shown}"


def test_a_link_keeps_its_codes_and_its_name_does_not(capsys):
    say("page  ", Link("\x1b]8;;file:///x\x1b\\x\x1b]8;;\x1b\\"))
    assert capsys.readouterr().out == "page  \x1b]8;;file:///x\x1b\\x\x1b]8;;\x1b\\\n"
    assert link(Path("a\x1bb")) == "a\\x1bb"
