"""Many workers, each in its worker, within this process: who does what, what is refused, what is shown."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from unittest import mock

import lightning as L
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from featlight.cli.main import main, parser
from featlight.config.tile import feature_tile
from featlight.config.validation import check, read
from featlight.distributed import launcher as launch
from featlight.distributed.env import ALONE, LAUNCHER, Launch, Worker, launch_from_env, worker_from_env
from featlight.engine.device import device_of
from featlight.engine.module import FeatureVisualizer
from featlight.engine.setup import prepare
from featlight.errors import Interrupted, UsageError
from featlight.plan.plan import Plan, PlannedTile
from featlight.plan.request import RunRequest
from featlight.report.build import state_of
from featlight.report.tensorboard.events import PREFIX, EventLog
from featlight.run.worker import make
from featlight.store import records as records_module
from featlight.store.guard.run_folder import RunFolder
from featlight.store.records import RecordLog
from featlight.store.snapshot import Snapshot
from featlight.store.store import Store
from tests import ROOT
from tests.integration.test_run import CONFIG, records, run, tiles
from tests.made_up import made_up_plan

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
SRUN = {"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0", "SLURM_JOB_NAME": "atlas"}


@pytest.fixture
def config() -> Path:
    path = Path("small.yaml")
    path.write_text(yaml.safe_dump(CONFIG))
    return path


@pytest.mark.parametrize(
    ("variables", "worker"),
    [
        ({}, Worker()),
        (TORCHRUN, Worker(3, 4, 1, "torchrun")),
        ({**SRUN, **TORCHRUN}, Worker(3, 4, 1, "torchrun")),  # torchrun under srun
        ({"RANK": "1", "WORLD_SIZE": "2"}, Worker(1, 2, 0, "torchrun")),  # Kubeflow
        (SRUN, Worker(2, 4, 0, "srun")),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "3"}, Worker(2, 3, 0, "srun")),  # a step of a part of the allocation
        ({**SRUN, "SLURM_JOB_NAME": "interactive"}, Worker()),
        (
            {"JSM_NAMESPACE_RANK": "1", "JSM_NAMESPACE_SIZE": "2", "JSM_NAMESPACE_LOCAL_RANK": "1"},
            Worker(1, 2, 1, "jsrun"),
        ),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}, Worker(0, 2, 0, "mpirun")),
        ({"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1"}, Worker(1, 2, 1, "mpirun")),
        ({**TORCHRUN, **Worker(1, 2, 1).variables}, Worker(1, 2, 1, LAUNCHER)),
    ],
)
def test_a_place_is_read_from_what_started_the_process(variables, worker):
    assert worker_from_env(variables) == worker


@pytest.mark.parametrize("rank", ["4", "-1", "x"])
def test_a_rank_that_is_none_is_refused(rank):
    with pytest.raises(UsageError, match="RANK: "):
        worker_from_env({**TORCHRUN, "RANK": rank})


@pytest.mark.parametrize(
    ("devices", "num_nodes", "variables", "launch"),
    [
        ("auto", 1, {}, Launch(ALONE, 3)),
        (1, 1, {}, Launch(ALONE, 1)),
        (4, 1, {"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, Launch(ALONE, 4)),  # a batch script without srun
        ("auto", 1, TORCHRUN, Launch(Worker(3, 4, 1, "torchrun"), 1)),
        ("auto", 2, TORCHRUN, Launch(Worker(3, 4, 1, "torchrun"), 1)),
        (2, 2, TORCHRUN, Launch(Worker(3, 4, 1, "torchrun"), 1)),
        (2, 1, TORCHRUN, Launch(Worker(3, 4, 1, "torchrun"), 1)),
        (8, 4, TORCHRUN, Launch(Worker(3, 4, 1, "torchrun"), 8)),  # one process on each machine starts eight
        (2, 3, {"NODE_RANK": "1"}, Launch(Worker(1, 3), 2)),
        (1, 3, {"JOB_COMPLETION_INDEX": "2"}, Launch(Worker(2, 3), 1)),
    ],
)
def test_devices_and_machines_meet_what_was_started(devices, num_nodes, variables, launch):
    assert launch_from_env(devices, num_nodes, variables, lambda: 3) == launch


@pytest.mark.parametrize(
    ("devices", "num_nodes", "variables", "message"),
    [
        (3, 1, TORCHRUN, "devices: 3 given, num_nodes: 1, but torchrun started 4 workers"),
        ("auto", 3, TORCHRUN, "num_nodes: 3 given, but torchrun started 4 workers"),
        (2, 2, {}, "num_nodes: 2 given, but the number of this machine is unknown"),
        (2, 2, {"NODE_RANK": "2"}, "NODE_RANK: 2 given for 2 machines"),
    ],
)
def test_what_does_not_meet_is_refused(devices, num_nodes, variables, message):
    with pytest.raises(UsageError, match=message):
        launch_from_env(devices, num_nodes, variables)


def test_the_workers_of_several_machines_have_every_rank_once():
    workers = [worker for machine in range(3) for worker in Launch(Worker(machine, 3), 2).workers]
    assert [(worker.rank, worker.world_size, worker.local_rank) for worker in workers] == [
        (i, 6, i % 2) for i in range(6)
    ]


def test_a_worker_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of("auto", Worker(3, 4, 1, "torchrun")) == torch.device("cuda", 1)
    assert device_of("cpu", Worker(3, 4, 1, "torchrun")) == torch.device("cpu")
    with pytest.raises(UsageError, match="a worker 3 on this machine, but 2 GPUs are visible"):
        device_of("gpu", Worker(2, 4, 2, LAUNCHER))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # srun --gpus-per-task shows each task its own
    assert device_of("auto", Worker(3, 4, 1, "srun")) == torch.device("cuda", 0)


def planned(count: int, batch_size: int) -> Plan:
    return made_up_plan([PlannedTile("", feature_tile("a", i)) for i in range(count)], batch_size=batch_size)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 4, 21])
def test_every_chunk_falls_to_one_worker_whatever_is_done(world, count):
    plan = planned(count, 4)
    everything = {tile.file for tile in plan.tiles}
    shares = [plan.share(rank, world, everything) for rank in range(world)]
    assert sorted(chain.from_iterable(shares)) == list(range(len(plan.chunks)))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    left = {plan.tiles[i].file for members in plan.chunks[1::2] for i in members}
    late = [plan.share(rank, world, left) for rank in range(world)]  # one that starts late sees less, and still agrees
    assert all(set(few) <= set(many) for few, many in zip(late, shares, strict=True))
    assert sorted(chain.from_iterable(late)) == list(range(1, len(plan.chunks), 2))


@pytest.mark.parametrize("strategy", ["auto", "ddp"])
def test_other_strategies_are_refused_before_they_wrap_anything(config, strategy):
    job = prepare(RunRequest(check({**read(config), "out": None})))
    chunks = [job.plan.chunk(0, job.settings)]
    module = FeatureVisualizer(job, chunks, job.plan.batch_size, lambda _: None)
    trainer = L.Trainer(
        strategy=strategy, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, max_epochs=1
    )
    try:
        with pytest.raises(UsageError, match="would mix the images of several workers"):
            trainer.fit(module)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def test_our_strategy_takes_one_device_and_synchronises_nothing():
    with pytest.raises(UsageError, match="one device for each process"):
        L.Trainer(strategy="independent", accelerator="cpu", devices=2, logger=False, enable_checkpointing=False)
    trainer = L.Trainer(strategy="independent", accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    tensor = torch.tensor([1.0])
    assert trainer.strategy.all_gather(tensor) is tensor
    assert trainer.strategy.reduce(tensor) is tensor
    assert trainer.strategy.broadcast("mine") == "mine"
    assert not torch.distributed.is_initialized()


def work(config: Path, rank: int, world_size: int, **others: object):
    return make(
        RunRequest(check(read(Path(config))).resolved()), worker=Worker(rank, world_size, rank, "test"), **others
    )


@pytest.mark.parametrize("features", ["0-12", "0-2", "3"])  # uneven shares, fewer chunks than workers, one tile
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_workers_make_what_one_makes_and_the_last_draws(features, order, capsys):
    Path("w.yaml").write_text(yaml.safe_dump({**CONFIG, "features": features, "out": "many"}))
    gone = threading.Event()
    gone.set()
    outcomes = {rank: work("w.yaml", rank, 3, others_gone=gone) for rank in order}
    assert run("w.yaml", "--out", "one", "--devices", "1") == 0
    assert tiles("many") == tiles("one")
    assert Path("many/atlas/Mixed_4a.png").read_bytes() == Path("one/atlas/Mixed_4a.png").read_bytes()
    chunks = len({record["chunk"] for record in records("many")})
    assert [path.name for path in sorted(Path("many/records").iterdir())] == [
        f"worker-{rank}.jsonl" for rank in range(min(chunks, 3))
    ]
    assert len(records("many")) == len(tiles("one"))
    own = {record["file"] for record in records("many") if record["chunk"] % 3 == 0}
    assert len(outcomes[0].missing) == (0 if order[-1] == 0 else len(tiles("one")) - len(own))
    assert not outcomes[1].missing
    shares = [line for line in capsys.readouterr().out.splitlines() if line.startswith("worker ")]
    assert shares[order.index(1)].startswith(f"worker 2 of 3 on {socket.gethostname()}, cpu: ")


def test_what_another_worker_left_is_said_and_made_by_the_next_run(config, capsys, monkeypatch):
    monkeypatch.setattr("featlight.run.monitor.PATIENCE", 0.3)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "1"}.items():
        monkeypatch.setenv(name, value)
    assert run(config) == 75
    told = capsys.readouterr()
    assert "4 tiles: 4 made" in told.out
    assert told.err.startswith("featlight: 2 of 6 tiles are missing (tiles/Mixed_4a/00004.png, ")
    monkeypatch.setenv("RANK", "1")
    assert run(config) == 0
    assert "tiles: " not in capsys.readouterr().out  # the first alone has the last word
    assert run(config, "--metric", "l3") == 2
    assert run(config, "--seed", "1") == 2
    assert capsys.readouterr().err == ""  # likewise
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name)
    assert run(config) == 0
    assert "6 tiles: 0 made, 6 kept" in capsys.readouterr().out


def test_the_first_follows_the_others_until_all_is_drawn(config, monkeypatch):
    """The other's share is written while the first waits for it."""
    assert run(config, "--out", "whole") == 0
    follow = []

    def sleep(seconds):
        if not follow:
            follow.append(seconds)
            work(config, 1, 2)

    monkeypatch.setattr("featlight.run.monitor.time.sleep", sleep)
    outcome = work(config, 0, 2)
    assert follow
    assert (outcome.made, outcome.missing, outcome.failed) == (6, [], {})
    assert tiles() == tiles("whole")
    events = EventAccumulator("run/tensorboard", size_guidance={"scalars": 0}).Reload()
    assert [value.value for value in events.Scalars("progress/tiles_done")] == [4, 6]
    assert [value.step for value in events.Scalars("health/failed")] == [0, 6]  # the chunks, in the plan's order


def test_a_fresh_start_is_one_workers_business(config, capsys, monkeypatch):
    assert run(config) == 0
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, "0" if name == "RANK" else value)
    assert run(config, "--fresh") == 2
    assert "--fresh: given to 4 workers, which would delete each other's work" in capsys.readouterr().err
    assert len(tiles()) == 6


def test_workers_that_start_together_load_once_each(config, monkeypatch):
    """The second has looked at the empty directory before the first writes the plan."""
    create, prepared = Store.create_plan, []
    monkeypatch.setattr("featlight.run.worker.prepare", lambda *a, **k: prepared.append(k) or prepare(*a, **k))

    def late(self, plan):
        monkeypatch.setattr(Store, "create_plan", create)
        assert create(self, plan)
        return create(self, plan)

    monkeypatch.setattr(Store, "create_plan", late)
    assert not work(config, 1, 2, others_gone=threading.Event()).missing
    assert len(prepared) == 1


def events_of(out="run"):
    accumulator = EventAccumulator(f"{out}/tensorboard", size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    tags = accumulator.Reload().Tags()
    read = {tag: [event.step for event in accumulator.Scalars(tag)] for tag in tags["scalars"]}
    read |= {tag: [event.step for event in accumulator.Images(tag)] for tag in tags["images"]}
    return read | {tag: [event.step for event in accumulator.Tensors(tag)] for tag in tags["tensors"]}


def test_a_resume_adds_no_doubles_to_tensorboard_and_nothing_is_left_out(config, monkeypatch):
    flush, flushed = EventLog.flush, []

    def lost(self):  # killed with events still in memory, though the tiles are on disk
        flushed.append(self)
        return flush(self) if len(flushed) < 3 else None

    with monkeypatch.context() as patch:
        patch.setattr(EventLog, "flush", lost)
        step = FeatureVisualizer.training_step

        def interrupt(self, batch, batch_idx):
            if self.trainer.current_epoch == 2:
                raise Interrupted("stopped")
            return step(self, batch, batch_idx)

        patch.setattr(FeatureVisualizer, "training_step", interrupt)
        assert run(config, "--features", "0-11") == 75
    assert len(tiles()) == 8
    assert run(config, "--features", "0-11") == 0
    Path("run/tiles/Mixed_4a/00001.png").unlink()
    assert run(config, "--features", "0-11") == 0
    steps = events_of()
    assert all(len(set(of)) == len(of) for of in steps.values())
    assert steps["health/failed"] == [0, 6, 12]
    assert steps["live/activation/p50"] == list(range(18))  # six of each of three chunks, in their order
    assert steps["atlas/Mixed_4a"][-1] == 12
    assert steps["activation/Mixed_4a/p50"] == list(range(6))


def test_a_full_disk_for_tensorboard_is_one_warning(config, monkeypatch, caplog, capsys):
    """From the second write of its events on."""
    appending = RunFolder.appending

    @contextmanager
    def full(self, path):
        more = path.name.startswith(PREFIX) and path.exists()
        with appending(self, path) as file:
            yield mock.Mock(wraps=file, write=mock.Mock(side_effect=OSError(28, os.strerror(28)))) if more else file

    monkeypatch.setattr(RunFolder, "appending", full)
    assert run(config) == 0
    assert [record.getMessage() for record in caplog.records] == [
        "TensorBoard: [Errno 28] No space left on device; the run goes on without it"
    ]
    assert capsys.readouterr().err == ""
    assert len(tiles()) == 6


def test_the_later_of_two_runs_warns(config, caplog, monkeypatch):
    run(config, "--features", "0")
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    note = Path("run/.running")
    note.write_text(json.dumps({"host": socket.gethostname(), "process": other.pid}))
    assert run(config) == 0
    assert f"process {other.pid} on {socket.gethostname()} seems to be at work in run too" in caplog.text
    assert not note.exists()
    note.write_text(json.dumps({"host": socket.gethostname(), "process": other.pid}))
    other.communicate()
    caplog.clear()
    assert run(config, "--features", "0-7") == 0  # that one has ended
    note.write_text(json.dumps({"host": "elsewhere", "process": 1}))
    os.utime(note, (time.time() - 3600,) * 2)
    assert run(config, "--features", "0-8") == 0  # and that one long ago
    assert caplog.text == ""


def test_a_ledger_reads_what_was_appended_and_no_torn_line(tmp_path):
    names = [f"tiles/a/{i}.png" for i in range(5)]
    path, lines = tmp_path / "records/worker-0.jsonl", [json.dumps({"file": n, "status": "ok"}) + "\n" for n in names]
    record_log = RecordLog(RunFolder(tmp_path))
    assert record_log.refresh() == []
    path.parent.mkdir()
    path.write_text(lines[0] + lines[1][:9])
    assert [record["file"] for record in record_log.refresh()] == names[:1]
    path.write_text(lines[0] + lines[1] + "torn{\n" + lines[2])
    (tmp_path / "records/worker-1.jsonl").write_text(lines[3])
    assert [record["file"] for record in record_log.refresh()] == names[1:4]
    assert record_log.refresh() == []
    path.unlink()
    assert [record["file"] for record in record_log.refresh()] == names[3:4]  # deleted by --fresh: all is read again
    assert record_log.records.keys() == {names[3]}


def test_a_finished_run_of_ten_thousand_tiles_loads_no_network(monkeypatch, capsys):
    """The layer, its tiles and its pictures are made up; only what the directory holds can say that all is there."""
    count = 10_000
    Path("many.yaml").write_text(yaml.safe_dump({**CONFIG, "devices": 2, "features": f"0-{count - 1}"}))
    plan = prepare(RunRequest(check({**read(Path("many.yaml")), "features": "0"}).resolved())).plan
    plan.layers["32"]["Mixed_4a"] = [count, 4, 4]
    plan.add([PlannedTile("", feature_tile("Mixed_4a", i)) for i in range(count)])
    store = Store(Path("run"))
    store.write_plan(plan)
    for folder in ("records", "tiles/Mixed_4a", "atlas", "assets"):
        Path("run", folder).mkdir(parents=True)
    values = {"status": "ok", "bytes": 3, "sha256": "0" * 64, "fingerprint": plan.digest(""), "curve": []}
    for rank in range(4):
        lines = [json.dumps({"file": tile.file, **values}) for tile in plan.tiles[rank::4]]
        Path(f"run/records/worker-{rank}.jsonl").write_text("\n".join(lines) + "\n")
    for tile in plan.tiles:
        Path("run", tile.file).write_bytes(b"png")
    for name in ("atlas/Mixed_4a.png", "assets/data.js"):
        Path("run", name).write_bytes(b"made up")
    Path("run/index.html").write_text(state_of(Snapshot.from_store(store, plan)))
    parsed, parse = [], records_module.from_json
    monkeypatch.setattr(records_module, "from_json", lambda line: parsed.append(line) or parse(line))
    for heavy in (
        "featlight.run.worker.make",
        "featlight.models.catalog.load_model",
        "featlight.engine.setup.load_model",
        "subprocess.Popen",
    ):
        monkeypatch.setattr(heavy, None)
    assert run("many.yaml") == 0
    assert capsys.readouterr().out.startswith(f"{count} tiles: 0 made, {count} kept, 0 dead, 0 failed\n")
    assert sum(b"Mixed_4a/0" in line for line in parsed if isinstance(line, bytes)) == count  # each record read once


def test_the_pods_of_the_documents_are_workers(monkeypatch):
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/clusters.md").read_text(), re.DOTALL)
    job = yaml.safe_load(text)["spec"]
    (container,) = job["template"]["spec"]["containers"]
    words = parser().parse_args(container["args"][1:])
    variables = {"JOB_COMPLETION_INDEX": "7"}
    assert job["completionMode"] == "Indexed"
    assert launch_from_env(int(words.devices), int(words.num_nodes), variables) == Launch(
        Worker(7, job["completions"]), 1
    )


def test_main_has_the_same_place_for_a_batch_script(config, monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert main(["--config", str(config), "--features", "0"]) == 0


def test_a_cpu_has_a_worker_for_each_core_and_chunk_that_its_memory_holds(monkeypatch):
    monkeypatch.setattr(launch, "visible_gpus", lambda accelerator: 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)), raising=False)
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 100 * 2**30 // 4096}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    assert [launch.workers_of("auto", chunks) for chunks in (None, 1, 4, 99)] == [6, 1, 4, 6]
    sizes["SC_PHYS_PAGES"] = 8 * 2**30 // 4096
    assert launch.workers_of("auto") == 2
    sizes["SC_PHYS_PAGES"] = 1
    assert launch.workers_of("auto") == 1
    monkeypatch.setattr(launch, "visible_gpus", lambda accelerator: 4)
    assert launch.workers_of("auto", 1) == 4
