"""Faults that a run must survive: each has the right exit code and error line, and no tile is lost or corrupt.

| fault | test |
|---|---|
| SIGKILL during an optimization | test_run: a_killed_run_goes_on_bit_for_bit |
| SIGKILL during a write | a_run_killed_at_a_rename_goes_on |
| SIGKILL between the rename and the record | a_run_killed_at_a_rename_goes_on |
| SIGKILL while the atlas is drawn | test_run: a_run_killed_while_it_draws_is_drawn_by_the_next |
| SIGTERM, SIGUSR1, SIGINT | test_run: a_signal_stops_the_run_and_the_next_goes_on |
| disk too small for the run | a_run_that_cannot_fit_does_not_start |
| disk full: plan, tiles, atlas | a_file_that_cannot_grow_is_exit_74 |
| disk full during a run | test_run: a_full_disk_is_exit_74_and_the_next_run_goes_on |
| disk full: TensorBoard | no_room_for_tensorboard_is_one_warning |
| TensorBoard raises an error | test_run: a_broken_tensorboard_is_one_warning |
| $TMPDIR full | a_run_needs_no_folder_for_temporary_files |
| read-only directory | a_directory_that_takes_no_files_is_exit_74 |
| file in place of a folder | a_file_where_a_folder_must_be_is_exit_74 |
| truncated, bit-flipped or deleted tile | a_harmed_tile_is_found_removed_and_made_again |
| truncated, bit-flipped or deleted float image | a_harmed_float_image_is_found_and_made_again |
| truncated vectors | harmed_vectors_are_told_and_made_again |
| torn record | a_torn_record_is_found_and_its_tile_made_again |
| torn line of records | test_store: a_torn_line_is_passed_over_and_swallows_nothing |
| two runs in one directory at once | two_runs_at_once_make_the_same_tiles |
| second run in a directory | test_run: a_run_that_starts_second_follows_or_is_refused |
| changed recipe on resume | a_changed_recipe_is_refused |
| other changed settings on resume | test_run: another_run_in_the_directory_is_refused_unless_fresh |
| truncated, HTML, wrong-shape or pickled-code weights | bad_weights_are_exit_3 |
| weights of another network | test_catalog: a_bad_weight_file_is_refused_in_one_line |
| broken YAML | a_bad_config_file_is_exit_2 |
| unknown key | test_schema: a_slip_is_answered_in_one_line |
| misspelled layer, feature out of range | what_the_network_lacks_is_exit_2 |
| wrong flag | test_run: a_slip_has_its_exit_code_and_one_line_and_writes_nothing |
| NaN in the objective | test_run: a_failed_tile_is_said_and_tried_again |
| out of memory | out_of_memory_halves_the_batch_and_goes_on |
| out of memory with one image | no_memory_for_one_image_is_said |
| dead feature | test_run: dead_features_are_marked_and_no_failure |
"""

import errno
import json
import os
import resource
import shutil
import tempfile
from collections import Counter, namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import nn

import featlight
import featlight.run.shard
from featlight.cli.main import main
from featlight.engine.module import FeatureVisualizer
from featlight.errors import StorageError
from featlight.store.guard.open_folder import OpenFolder
from tests import ROOT, other_process
from tests.conftest import awake, hand_made
from tests.unit.models.test_catalog import bad_file

OCTAVE = {"size": 24, "steps": 2, "lr": [0.1, 0.05], "sigma": None}
CONFIG = {
    "model": "tests.integration.test_faults:small",
    "layer": ["2"],
    "features": "0-5",
    "batch_size": 2,
    "threads": 1,
    "devices": 1,
    "recipe": {"octaves": [OCTAVE]},
    "out": "run",
}
NOBODY = 99_999_999  # no system counts its processes that far
TILES = 6


def test_the_table_cites_tests_that_exist():
    cited = [line.split("|")[2].strip().rpartition(": ") for line in __doc__.splitlines()[4:]]
    for module, _, name in cited:
        (path,) = (ROOT / "tests").rglob(f"{module or Path(__file__).stem}.py")
        assert f"def test_{name}(" in path.read_text(), name


def small():
    return awake(hand_made(), 32)


class Killed(BaseException):
    """As SIGKILL: nobody catches it."""


def run(*flags, **changes):
    Path("small.yaml").write_text(yaml.safe_dump({**CONFIG, **changes}))
    return main(["--config", "small.yaml", *flags])


def verify(*flags, out="run"):
    return main(["verify", "--out", out, *flags])


def tiles(out="run"):
    return {path.name: path.read_bytes() for path in Path(out).glob("tiles/2/*.png")}


def age(out="run"):
    """Make everything an hour older, and its temporary files a dead process's: what verify finds after a while."""
    for path in [path for path in Path(out).rglob("*") if path.is_file()]:
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 3600))
        path.rename(path.with_name(path.name.replace(f".{os.getpid()}.", f".{NOBODY}.")))


def records(out="run"):
    return [json.loads(line) for path in Path(out).glob("records/*.jsonl") for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The tiles of a run that nothing befell, and the files that it put in their places, in order."""
    folder = tmp_path_factory.mktemp("clean")
    config = folder / "small.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    replace, renamed = OpenFolder.replace, []

    def note(self, name, target):
        renamed.append(target)
        return replace(self, name, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OpenFolder, "replace", note)
        assert main(["--config", str(config), "--out", str(folder / "run")]) == 0
    found = tiles(folder / "run")
    assert len(set(found.values())) == TILES
    return found, renamed


@pytest.fixture
def clean(undisturbed):
    return undisturbed[0]


def goes_on(clean, *flags):
    """The same command again makes the run whole, once and for all."""
    age()
    assert run(*flags) == 0
    assert tiles() == clean
    age()
    verify("--repair")
    assert tiles() == clean
    assert verify() == 0
    assert not [path for path in Path("run").rglob(".*") if path.is_file()]
    before = Path("run/records/worker-0.jsonl").read_bytes()
    assert run(*flags) == 0
    assert Path("run/records/worker-0.jsonl").read_bytes() == before
    assert tiles() == clean


@pytest.mark.parametrize("renamed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [0, 1, 2, 3, 4, 6, -1])
def test_a_run_killed_at_a_rename_goes_on(undisturbed, monkeypatch, at, renamed):
    """At the plan, the config, vectors, tiles, and last at the page: a new file half in its place."""
    clean, order = undisturbed
    last = at % len(order)
    replace, unlink, calls = OpenFolder.replace, OpenFolder.unlink, []

    def killed(self, name, target):
        calls.append(target)
        if len(calls) <= last:
            return replace(self, name, target)
        if renamed:
            replace(self, name, target)
        raise Killed

    def nobody_cleans_up(self, name):
        if len(calls) <= last:
            unlink(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(OpenFolder, "replace", killed)
        patch.setattr(OpenFolder, "unlink", nobody_cleans_up)
        with pytest.raises(Killed):
            run()
    done = order[: last + renamed]
    assert tiles().keys() == clean.keys() & set(done)
    assert len(records()) == len(clean.keys() & set(order[:last]))
    age()
    if Path("run/plan.json").exists():
        assert bool(list(Path("run").rglob("*.tmp"))) is not renamed
        assert verify("--repair") == (not renamed)
        assert verify() == 0
    goes_on(clean)
    assert Counter(record["file"] for record in records()).most_common(1)[0][1] == 1


def test_a_run_that_cannot_fit_does_not_start(clean, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 1000, 1000))
        patch.setattr(FeatureVisualizer, "training_step", None)
        assert run() == 74
    line = capsys.readouterr().err
    assert line.startswith("featlight: run: about ")
    assert "KiB needed, only 1000 B free; free some space" in line
    assert line.count("\n") == 1
    assert not tiles()
    goes_on(clean)


@pytest.mark.parametrize(("most", "tiles_there"), [(1000, 0), (20_000, TILES)])
def test_a_file_that_cannot_grow_is_exit_74(clean, capsys, most, tiles_there):
    """The system itself refuses: first the plan, then, with the tiles made, the atlas."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        assert run() == 74
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "run the same command again to continue" in capsys.readouterr().err
    assert len(tiles()) == tiles_there
    assert not list(Path("run").rglob("*.tmp"))
    goes_on(clean)


def test_no_room_for_tensorboard_is_one_warning(clean, monkeypatch, caplog, capsys):
    def full(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RecordWriter, "write", full)
    assert run() == 0
    assert tiles() == clean
    assert caplog.text.count("the run goes on without it") == 1
    assert "Traceback" not in capsys.readouterr().err


def test_a_run_needs_no_folder_for_temporary_files(clean, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv("TMPDIR", "/nowhere")
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", full)
    with pytest.raises(OSError, match="No space"):
        tempfile.mkstemp()
    assert run() == 0
    assert tiles() == clean


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO])
def test_a_directory_that_takes_no_files_is_exit_74(clean, monkeypatch, capsys, number):
    def refused(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(OpenFolder, "create", refused)  # the probe, before anything else
        patch.setattr(FeatureVisualizer, "training_step", None)
        assert run() == 74
    line = capsys.readouterr().err
    assert line.startswith("featlight: run: ")
    assert line.count("\n") == 1
    assert not any(Path("run").iterdir())
    goes_on(clean)


@pytest.mark.parametrize("name", ["tiles", "tiles/2", "records", "vectors", "atlas"])
def test_a_file_where_a_folder_must_be_is_exit_74(clean, capsys, name):
    assert run("--features", "0-1") == 0
    path = Path("run", name)
    path.rename("aside")
    path.write_text("")
    capsys.readouterr()
    assert run() == 74
    error = capsys.readouterr().err
    assert f"run/{name}" in error
    assert error.count("\n") == 1
    path.unlink()
    Path("aside").rename(path)
    goes_on(clean)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-9])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


HARMS = [(truncate, "truncated: "), (flip, "damaged: its checksum"), (Path.unlink, "missing")]


@pytest.mark.parametrize(("harm", "word"), HARMS)
def test_a_harmed_tile_is_found_removed_and_made_again(clean, capsys, harm, word):
    assert run() == 0
    assert verify() == 0
    harm(Path("run/tiles/2/00003.png"))
    capsys.readouterr()
    assert verify("--repair") == 1
    first, summary = capsys.readouterr().out.splitlines()[:2]
    assert first.startswith(f"tiles/2/00003.png: {word}")
    assert summary == "6 tiles: 5 whole, 1 harmed, 0 failed, 0 not made yet; 1 problem"
    assert tiles().keys() == clean.keys() - {"00003.png"}
    assert verify() == 0
    assert "5 whole, 0 harmed, 0 failed, 1 not made yet; 0 problems" in capsys.readouterr().out
    assert run() == 0
    assert "6 tiles: 1 made, 5 kept" in capsys.readouterr().out
    goes_on(clean)


@pytest.mark.parametrize(("harm", "word"), HARMS)
def test_a_harmed_float_image_is_found_and_made_again(clean, capsys, harm, word):
    assert run("--float-images") == 0
    assert verify() == 0
    path = Path("run/floats/2/00003.safetensors")
    before = path.read_bytes()
    harm(path)
    capsys.readouterr()
    assert verify("--repair") == 1
    first, summary = capsys.readouterr().out.splitlines()[:2]
    assert first.startswith("floats/2/00003.safetensors: ")
    assert summary == "6 tiles: 6 whole, 0 harmed, 0 failed, 0 not made yet; 1 problem"
    assert not path.exists()
    assert len(tiles()) == TILES
    assert verify() == 1  # until it is made again
    assert run("--float-images") == 0
    assert "6 tiles: 1 made, 5 kept" in capsys.readouterr().out
    assert path.read_bytes() == before
    goes_on(clean, "--float-images")


def test_harmed_vectors_are_told_and_made_again(clean, capsys):
    assert run() == 0
    path = min(Path("run/vectors/chunks").iterdir())
    before = path.read_bytes()
    truncate(path)
    capsys.readouterr()
    assert run("--render-only") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"featlight: {path}: damaged; `featlight verify --repair`")
    assert error.count("\n") == 1
    assert verify("--repair") == 1
    assert not path.exists()
    assert tiles() == clean
    capsys.readouterr()
    assert run() == 0
    assert "6 tiles: 0 made, 6 kept" in capsys.readouterr().out
    assert path.read_bytes() == before
    goes_on(clean)


def test_a_torn_record_is_found_and_its_tile_made_again(clean, capsys):
    assert run() == 0
    path = Path("run/records/worker-0.jsonl")
    truncate(path)
    age()
    capsys.readouterr()
    assert verify() == 1
    out = capsys.readouterr().out
    assert "records/worker-0.jsonl: line 6 is incomplete" in out
    assert "tiles/2/00005.png: has no record" in out
    assert "5 whole, 0 harmed, 0 failed, 1 not made yet; 1 problem" in out
    assert run() == 0
    assert "6 tiles: 1 made, 5 kept" in capsys.readouterr().out
    goes_on(clean)
    whole = [line for line in path.read_text().splitlines() if line.strip()]
    assert [json.loads(line)["feature"] for line in whole] == list(range(TILES))


def test_two_runs_at_once_make_the_same_tiles(clean, monkeypatch):
    """The second one starts and ends while the first one is between two chunks."""
    commit = featlight.run.shard.commit

    def other_first(*args, **kwargs):
        monkeypatch.setattr(featlight.run.shard, "commit", commit)
        other_process("--config", "small.yaml", "--devices", "1")  # a process works on one run at a time
        assert tiles() == clean
        return commit(*args, **kwargs)

    monkeypatch.setattr(featlight.run.shard, "commit", other_first)
    assert run() == 0
    goes_on(clean)


def test_a_changed_recipe_is_refused(clean, capsys):
    assert run() == 0
    capsys.readouterr()
    assert run(recipe={"octaves": [{**OCTAVE, "steps": 3}]}) == 2
    error = capsys.readouterr().err
    assert error.startswith("featlight: run holds another run (recipe: there ")
    assert error.count("\n") == 1
    goes_on(clean)


@pytest.mark.parametrize("kind", ["truncated", "page", "code", "torch code", "shape"])
def test_bad_weights_are_exit_3(capsys, kind):
    bad_file(Path("bad.pth"), kind)
    assert main(["--model", "squeezenet1_1", "--layer", "features.3", "--weights", "bad.pth"]) == 3
    out, error = capsys.readouterr()
    assert error.startswith("featlight: weights bad.pth: ")
    assert error.count("\n") == 1
    assert "code ran" not in out
    assert [path.name for path in Path().iterdir()] == ["bad.pth"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [1\n", "bad.yaml: not YAML: "),
        ("- 1\n", "bad.yaml: a list given; lines of `key: value` are needed"),
        ("modle: resnet18\n", "bad.yaml: no key 'modle'; nearest: 'model'"),
        ("recipe: {octaves: [{size: 2, step: 1}]}\n", "bad.yaml: recipe.octaves[0]: no key 'step'; nearest: 'steps'"),
        ("\x00", "bad.yaml: not YAML: "),
    ],
)
def test_a_bad_config_file_is_exit_2(capsys, text, line):
    Path("bad.yaml").write_text(text)
    assert main(["--config", "bad.yaml"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"featlight: {line}")
    assert error.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["bad.yaml"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"layer": ["22"]}, "no layer '22' in tests.integration.test_faults:small; nearest: '2'"),
        ({"features": "0,8"}, "features: 8 given; layer '2' has 8, 0 to 7"),
    ],
)
def test_what_the_network_lacks_is_exit_2(capsys, changes, line):
    assert run(**changes) == 2
    assert capsys.readouterr().err == f"featlight: {line}\n"
    assert not Path("run").exists()


class Narrow(nn.Module):
    """A network that has no memory for the gradients of more images than so many."""

    def __init__(self, most, error):
        super().__init__()
        self.body, self.most, self.error = awake(hand_made(), 32), most, error

    def forward(self, x):
        if x.requires_grad and len(x) > self.most:
            raise self.error
        return self.body(x)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_halves_the_batch_and_goes_on(small_recipe, caplog, error):
    options = {"layer": "body.4", "features": range(7), "recipe": small_recipe, "progress": False}
    whole = featlight.visualize(Narrow(99, None), batch_size=2, **options)
    halved = featlight.visualize(Narrow(2, error), batch_size=4, out="run", **options)
    assert torch.equal(whole.images, halved.images)
    assert [record["batch_size"] for record in halved.records] == [2] * 7
    assert [record["activation_end"] for record in halved.records] == [r["activation_end"] for r in whole.records]
    assert "no memory for 4 images at a time" in caplog.text
    for path in Path("run/vectors/chunks").iterdir():
        assert np.load(path).shape in ((4, 12), (3, 12))


def test_no_memory_for_one_image_is_said(small_recipe):
    network = Narrow(0, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(StorageError, match=r"^no memory for one image of body\.4"):
        featlight.visualize(network, "body.4", [0], recipe=small_recipe, batch_size=2, progress=False)


def test_no_memory_to_write_is_no_matter_of_the_batch(clean, monkeypatch, capsys):
    def none_left(*args, **kwargs):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(featlight.run.shard, "commit", none_left)
        assert run() == 74
    assert "not enough memory to write the chunk of 2/00000" in capsys.readouterr().err
    goes_on(clean)


def test_another_runtime_error_is_nobodys_memory(small_recipe):
    network = Narrow(1, RuntimeError("shape mismatch"))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        featlight.visualize(network, "body.4", range(2), recipe=small_recipe, batch_size=2, progress=False)
