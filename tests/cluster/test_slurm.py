"""The shipped script on a real SLURM: two nodes, preemption, time limits, lost tasks and nodes, arrays."""

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests import ROOT
from tests.cluster.conftest import RUN
from tests.integration.test_run import tiles

pytestmark = pytest.mark.cluster
SCRIPT = str(ROOT / "configs/slurm/run.sh")
SIZE = ["--nodes=2", "--ntasks-per-node=2", "--cpus-per-task=1"]
FEATLIGHT = ["--config", "small.yaml"]


def slower(steps=250):
    """The same tiles by more steps, so that a run is not over before something befalls it."""
    octaves = [{**RUN["recipe"]["octaves"][0], "steps": steps}]
    Path("small.yaml").write_text(yaml.safe_dump({**RUN, "recipe": {"octaves": octaves, "gradient": "rms"}}))


def until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, [path.read_text() for path in Path().glob("*.log")]
        time.sleep(0.1)


def by_one(slurm):
    """The tiles that one worker makes of the same config, without SLURM."""
    command = [slurm.environment["PYTHON"], "-m", "featlight", *FEATLIGHT, "--devices", "1", "--out", "one"]
    subprocess.run(command, env=slurm.environment, check=True, capture_output=True)
    return tiles("one")


def log_of(job):
    return Path(f"featlight-{job}.log").read_text()


def workers_of(job):
    """The processes that are tasks of the job's step, by their rank."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            lines = (path / "environ").read_bytes().decode(errors="replace").split("\0")
            variables = dict(line.split("=", 1) for line in lines if "=" in line)
            step = (variables.get("SLURM_JOB_ID"), variables.get("SLURM_STEP_ID"))
            if step == (job, "0") and b"featlight" in (path / "cmdline").read_bytes().split(b"\0"):
                found[int(variables["SLURM_PROCID"])] = int(path.name)
    return found


def test_the_script_on_two_nodes_makes_what_one_worker_makes(slurm, reference):
    job = slurm.submit(*SIZE, SCRIPT, *FEATLIGHT)
    state = slurm.wait(job)
    assert (state["JobState"], state["ExitCode"]) == ("COMPLETED", "0:0"), log_of(job)
    assert sorted(re.findall(r"n[12]", state["NodeList"].replace("n[1-2]", "n1 n2"))) == ["n1", "n2"]
    assert tiles() == reference
    assert log_of(job).count("32 tiles: 32 made, 0 kept, 0 dead, 0 failed; ") == 1
    assert "Warning" not in log_of(job)


@pytest.mark.full
def test_a_preempted_job_is_requeued_and_goes_on(slurm):
    slower()
    job = slurm.submit("--partition=low", *SIZE, SCRIPT, *FEATLIGHT)
    until(lambda: tiles())
    other = slurm.submit("--partition=high", "--nodes=2", "--exclusive", "--output=other.log", "--wrap", "sleep 1")
    assert slurm.wait(other)["JobState"] == "COMPLETED"
    state = slurm.wait(job)
    assert (state["JobState"], state["Restarts"]) == ("COMPLETED", "1"), log_of(job)
    assert "featlight: stopped by SIGTERM; run the same command again to continue\n" in log_of(job)
    assert tiles() == by_one(slurm)


@pytest.mark.full
def test_a_job_at_its_time_limit_requeues_itself(slurm):
    """A limit of two minutes, and TERM 75 seconds before it."""
    slower(6000)
    job = slurm.submit("--time=2", "--signal=TERM@75", *SIZE, SCRIPT, *FEATLIGHT)
    until(lambda: slurm.state(job).get("Restarts") == "1", 180)
    assert "featlight: stopped by SIGTERM; run the same command again to continue\n" in log_of(job)
    kept = tiles()
    slurm.wait(job, "RUNNING")
    until(lambda: len(tiles()) > len(kept))
    slurm.run("scancel", job)
    slurm.wait(job)
    assert kept.items() <= tiles().items()


@pytest.mark.full
def test_a_worker_that_is_killed_loses_nothing(slurm):
    slower()
    job = slurm.submit(*SIZE, SCRIPT, *FEATLIGHT)
    until(lambda: tiles() and len(workers_of(job)) == 4)
    os.kill(workers_of(job)[3], signal.SIGKILL)
    state = slurm.wait(job)
    assert state["JobState"] == "COMPLETED", log_of(job)
    assert tiles() == by_one(slurm)


@pytest.mark.full
def test_a_node_that_goes_down_loses_nothing(slurm):
    slower()
    job = slurm.submit(*SIZE, SCRIPT, *FEATLIGHT)
    until(lambda: tiles() and len(workers_of(job)) == 4)
    slurm.kill_node("n2")
    time.sleep(1)
    slurm.start_node("n2")
    state = slurm.wait(job)
    assert state["JobState"] == "COMPLETED", log_of(job)
    assert tiles() == by_one(slurm)


@pytest.mark.full
def test_an_array_has_a_run_for_each_layer(slurm):
    layers = ["Mixed_3a", "Mixed_4a"]
    words = ["--features", "0-3", "--out", f"{Path.cwd()}/LAYER"]
    script = ["--array=0-1", "--ntasks-per-node=2", "--cpus-per-task=1", SCRIPT]
    Path("small.yaml").write_text(yaml.safe_dump({key: RUN[key] for key in RUN if key not in ("layer", "out")}))
    job = slurm.submit(*script, *FEATLIGHT, *words, LAYERS=" ".join(layers))
    until(lambda: not slurm.run("squeue", "-h", "-j", job, check=False))
    for layer in layers:
        assert list(tiles(layer)) == [f"tiles/{layer}/{i:05d}.png" for i in range(4)]


@pytest.mark.full
def test_an_array_shares_one_run_though_its_tasks_start_one_after_the_other(slurm, reference):
    """Two at a time, of four; one that is cancelled is not missed."""
    script = ["--array=0-3%2", "--ntasks-per-node=1", "--cpus-per-task=1", "--output=array-%a.log", SCRIPT]
    job = slurm.submit(*script, *FEATLIGHT)
    until(lambda: tiles())
    slurm.run("scancel", f"{job}_0")
    until(lambda: not slurm.run("squeue", "-h", "-j", job, check=False), 240)
    assert tiles() == reference


@pytest.mark.full
def test_a_last_job_draws_what_the_others_left(slurm, reference):
    job = slurm.submit(*SIZE, SCRIPT, *FEATLIGHT)
    until(lambda: tiles())
    last = slurm.submit(f"--dependency=afterany:{job}", "--ntasks-per-node=1", "--cpus-per-task=1", SCRIPT, *FEATLIGHT)
    slurm.run("scancel", job)
    assert slurm.wait(last)["JobState"] == "COMPLETED", log_of(last)
    assert tiles() == reference


@pytest.mark.full
def test_srun_by_hand(slurm, reference):
    python = slurm.environment["PYTHON"]
    out = slurm.run("srun", "--nodes=2", "--ntasks=3", python, "-m", "featlight", *FEATLIGHT)
    assert out.count("32 tiles: 32 made, 0 kept, 0 dead, 0 failed; ") == 1
    assert tiles() == reference
