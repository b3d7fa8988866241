"""A short storm of damage in the gate; `python -m tests.fuzz_run` is the long one."""

from pathlib import Path
from unittest import mock

from tests.fuzz_run import fuzz


def test_whatever_is_damaged_nothing_is_lost():
    with mock.patch("webbrowser.open", return_value=True):
        report = fuzz(12, 3, Path().resolve())
    assert report.faults == []
    assert report.mutations == 12
    assert len(report.commands) >= 6
