"""A directory that vanishes, or gives way to another one, while a run is at work in it."""

import shutil
from pathlib import Path

import pytest

import featlight
import featlight.run.shard
from tests import other_process
from tests.integration.foreign.hands import TILES, everything, one_line, plan_with, tiles, typed


@pytest.mark.parametrize("chunk", [1, 2])
@pytest.mark.parametrize("kind", ["gone", "another", "replaced", "empty"])
def test_a_directory_that_goes_during_work_ends_the_run(whole, monkeypatch, capsys, kind, chunk):
    shutil.copy(whole / "small.yaml", "small.yaml")
    commit, count, there = featlight.run.shard.commit, [], []

    def before_it(*words):
        count.append(words)
        if len(count) == chunk:
            monkeypatch.setattr(featlight.run.shard, "commit", commit)
            Path("run").rename("aside")
            if kind == "another":
                flags = ["--seed", "5", "--features", "0-1", "--out", "other", "--devices", "1"]
                other_process("--config", "small.yaml", *flags)  # a process works on one run at a time
                Path("other").rename("run")
            if kind == "replaced":
                shutil.copytree("aside", "run")
                plan_with(lambda values: values["fingerprints"][""].update(target=3.0))
            if kind == "empty":
                Path("run").mkdir()
            Path("run/.running").unlink(missing_ok=True)
            there.append(everything())
        return commit(*words)

    monkeypatch.setattr(featlight.run.shard, "commit", before_it)
    capsys.readouterr()
    assert typed("run") == 75
    words = "another run has replaced this one" if kind in ("another", "replaced") else "the run was deleted"
    assert f"run: {words}" in one_line(capsys)
    assert [everything()] == there
    assert Path("run").exists() == (kind != "gone")


def test_a_directory_that_was_copied_and_put_back_goes_on(whole, monkeypatch):
    shutil.copy(whole / "small.yaml", "small.yaml")
    commit = featlight.run.shard.commit

    def before_it(*words):
        Path("run").rename("aside")
        shutil.copytree("aside", "run")
        shutil.rmtree("aside")
        return commit(*words)

    monkeypatch.setattr(featlight.run.shard, "commit", before_it)
    assert typed("run") == 0
    assert tiles() == {file: (whole / "run" / file).read_bytes() for file in TILES}
