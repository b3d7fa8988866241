"""Workers that Open MPI and torchrun start."""

import os
import shutil
import subprocess
import sys

import pytest

from tests import ROOT
from tests.integration.test_run import tiles

pytestmark = [pytest.mark.cluster, pytest.mark.full]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
FEATLIGHT = [sys.executable, "-m", "featlight", "--config", "small.yaml"]


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="no mpirun: apt-get install openmpi-bin")
def test_mpirun(reference):
    command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "4", *FEATLIGHT]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("32 tiles: 32 made, 0 kept, 0 dead, 0 failed; ") == 1
    assert tiles() == reference
