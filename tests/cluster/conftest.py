"""One cluster for all tests, and what a run by one worker makes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from featlight.cli.main import main
from tests.cluster.slurm import Cluster, NotStartedError, missing
from tests.integration.test_run import CONFIG, tiles

STEPS = [{"size": 32, "steps": 60, "lr": [0.1, 0.05], "sigma": [1.0, 0.5]}]
RUN = {**CONFIG, "features": "0-31", "recipe": {"octaves": STEPS, "gradient": "rms"}}


@pytest.fixture(scope="session")
def slurm(tmp_path_factory) -> Iterator[Cluster]:
    if reason := missing():
        pytest.skip(reason)
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    except NotStartedError as error:
        pytest.skip(str(error))
    finally:
        cluster.end()


@pytest.fixture(scope="session")
def reference(tmp_path_factory) -> dict[str, bytes]:
    """The tiles of one worker, made in this process."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "one.yaml").write_text(yaml.safe_dump({**RUN, "out": str(folder / "run")}))
    assert main(["--config", str(folder / "one.yaml"), "--devices", "1"]) == 0
    return tiles(folder / "run")


@pytest.fixture(autouse=True)
def _config() -> None:
    Path("small.yaml").write_text(yaml.safe_dump(RUN))
