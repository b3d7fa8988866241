"""What only real processes can show: starting workers, their deaths, signals, torchrun, a SLURM job, a kill storm."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from featlight.cli.main import main
from tests import ROOT
from tests.integration.test_run import CONFIG, records, run, tiles
from tests.kill_storm import children

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
STEPS = [{"size": 32, "steps": 60, "lr": [0.1, 0.05], "sigma": [1.0, 0.5]}]
FEATLIGHT = [sys.executable, "-m", "featlight", "--config", "small.yaml"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The tiles of one worker, made in this process."""
    folder = tmp_path_factory.mktemp("reference")
    config = {**CONFIG, "features": "0-31", "recipe": {"octaves": STEPS, "gradient": "rms"}, "out": str(folder / "run")}
    (folder / "one.yaml").write_text(yaml.safe_dump(config))
    assert main(["--config", str(folder / "one.yaml"), "--devices", "1"]) == 0
    return tiles(folder / "run")


@pytest.fixture(autouse=True)
def _config():
    config = {**CONFIG, "features": "0-31", "recipe": {"octaves": STEPS, "gradient": "rms"}}
    Path("small.yaml").write_text(yaml.safe_dump(config))


def begin(*command, made=1, **variables):
    """A process in its own group, once it has made so many tiles, and its workers."""
    process = subprocess.Popen(
        command,
        env={**ENVIRONMENT, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while len(tiles()) < made:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return process, children(process.pid)


def gone(processes):
    """Whether they all end, without a word from us."""
    for _ in range(600):
        if not any(Path(f"/proc/{process}").exists() for process in processes):
            return True
        time.sleep(0.05)
    return False


def test_four_workers_make_what_one_makes(reference):
    done = subprocess.run([*FEATLIGHT, "--devices", "4"], env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert tiles() == reference
    shares = sorted(line for line in done.stdout.splitlines() if line.startswith("worker "))
    assert [line.split(":")[1] for line in shares] == [" 2 of 8 chunks, 2 of them to be made"] * 4
    assert done.stdout.count(" tiles, 4 at a time") == 1
    assert "32 tiles: 32 made, 0 kept, 0 dead, 0 failed; " in done.stdout
    assert len(records()) == 32
    assert len(list(Path("run/tensorboard").glob("events*"))) == 1


def test_a_worker_dies_the_other_finishes_and_another_number_of_workers_goes_on(reference):
    process, (*_, last) = begin(*FEATLIGHT, "--devices", "2")
    os.kill(last, signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75
    assert "featlight: worker 2 was ended by SIGKILL; the others continue\n" in err
    assert "of 32 tiles are missing (tiles/Mixed_4a/000" in err
    assert {record["chunk"] for record in records()} >= {0, 2, 4, 6}
    assert len(tiles()) < 32
    assert run("small.yaml", "--devices", "1") == 0
    assert tiles() == reference


@pytest.mark.parametrize(("number", "whom", "times"), [(signal.SIGINT, "group", 1), (signal.SIGTERM, "supervisor", 2)])
def test_signals_end_all_workers_and_leave_no_orphans(number, whom, times):
    process, workers = begin(*FEATLIGHT, "--devices", "2")
    assert len(workers) == 2
    for _ in range(times):
        os.killpg(process.pid, number) if whom == "group" else os.kill(process.pid, number)
        time.sleep(0.2)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 75
    assert gone(workers)
    if times == 1:
        assert err == f"featlight: stopped by {number.name}; run the same command again to continue\n"
    assert len(tiles()) < 32


@pytest.mark.full
def test_workers_end_with_a_supervisor_that_is_killed():
    process, workers = begin(*FEATLIGHT, "--devices", "2")
    process.kill()
    assert gone(workers)
    process.communicate()
    assert len(tiles()) < 32


def test_a_slip_of_all_workers_is_said_once():
    words = ["--devices", "2", "--weights", "no.pth"]
    done = subprocess.run([*FEATLIGHT, *words], env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, "featlight: weights no.pth: no such file\n")
    assert not Path("run").exists()


@pytest.mark.full
def test_two_nodes_of_torchrun(reference):
    """Two agents on one machine, two workers each."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "2"]
    command += ["--master-addr", "127.0.0.1", "--master-port", str(20000 + os.getpid() % 20000)]
    command += ["--no-python", sys.executable, "-m", "featlight", "--config", "small.yaml", "--num-nodes", "2"]
    agents = [
        subprocess.Popen(
            [*command[:3], "--node-rank", str(node), *command[3:]],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for node in range(2)
    ]
    told = [agent.communicate(timeout=200) for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], told
    assert tiles() == reference
    assert {word for out, _ in told for word in re.findall(r"worker \d of 4", out)} == {
        f"worker {i} of 4" for i in range(1, 5)
    }
    assert sum(out.count("32 tiles: 32 made") for out, _ in told) == 1


SRUN = """#!/bin/bash
[ "$1" = --kill-on-bad-exit=0 ] || exit 99
shift
trap 'kill -TERM $(jobs -p)' TERM
for rank in 0 1; do
    SLURM_PROCID=$rank SLURM_LOCALID=$rank SLURM_NODEID=0 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=2 "$@" &
    echo $! >> workers.txt
done
worst=0
for job in $(jobs -p); do
    wait $job; code=$?
    while kill -0 $job 2>/dev/null; do wait $job; code=$?; done  # a trap ends a wait early
    [ $code -gt $worst ] && worst=$code
done
exit $worst
"""


@pytest.mark.full
def test_the_slurm_script_is_requeued_and_ends(reference, capfd):
    """The script itself, under bash, with an `srun` that starts two tasks and a `scontrol` that notes its words."""
    tools = Path("bin")
    tools.mkdir()
    for name, text in {"srun": SRUN, "scontrol": '#!/bin/bash\necho "$@" >> requeued.txt\n'}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    variables = {"PATH": f"{tools.resolve()}:{os.environ['PATH']}", "SLURM_JOB_ID": "4711", "SLURM_NTASKS": "2"}
    script = ["bash", str(ROOT / "configs/slurm/run.sh"), "--config", "small.yaml"]
    process, _ = begin(*script, **variables)
    for worker in Path("workers.txt").read_text().split():  # as `--signal=TERM@60` does: the tasks, not the script
        os.kill(int(worker), signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert err == "featlight: stopped by SIGTERM; run the same command again to continue\n"
    assert Path("requeued.txt").read_text() == "requeue 4711\n"
    assert 0 < len(tiles()) < 32
    done = subprocess.run(script, env={**ENVIRONMENT, **variables}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert tiles() == reference
    assert Path("requeued.txt").read_text() == "requeue 4711\n"
    layers = {**variables, "LAYERS": "Mixed_3a Mixed_4a", "SLURM_ARRAY_TASK_ID": "1", "SLURM_RESTART_COUNT": "10"}
    done = subprocess.run([*script, "--out", "run-LAYER", "--print-config"], env={**ENVIRONMENT, **layers}, text=True)
    assert done.returncode == 0
    assert "out: run-Mixed_4a\n" in capfd.readouterr().out


@pytest.mark.full
def test_a_short_kill_storm():
    """In a process of its own, which forks."""
    command = [sys.executable, "-m", "tests.kill_storm", "--kills", "2", "--seed", "3"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["kills"] == 2
    assert report["runs"] >= 1
    assert not any(report[fault] for fault in ("missing", "different", "doubled", "corrupt"))
