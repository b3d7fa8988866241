"""A small run, and copies of it to be damaged."""

import os
import shutil
import time
from pathlib import Path

import pytest
import yaml

from featlight.cli.main import main
from tests.integration.test_faults import CONFIG


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of six tiles that nothing befell, with float images and octaves."""
    folder = tmp_path_factory.mktemp("whole")
    config = folder / "small.yaml"
    config.write_text(
        yaml.safe_dump({**CONFIG, "float_images": True, "keep_octaves": True, "figure": {"kind": "grid"}})
    )
    assert main(["--config", str(config), "--out", str(folder / "run")]) == 0
    return folder


@pytest.fixture
def run(whole):
    """A copy of it, an hour old, in `run`; beside it a folder `outside`."""
    shutil.copytree(whole / "run", "run")
    shutil.copy(whole / "small.yaml", "small.yaml")
    Path("outside/folder").mkdir(parents=True)
    for name in ("file", "folder/file", "folder/worker-0.jsonl", "folder/00000.png"):
        Path("outside", name).write_text("precious\n")
    for path in Path("run").rglob("*"):
        os.utime(path, (time.time() - 3600,) * 2)
    return Path("run")
