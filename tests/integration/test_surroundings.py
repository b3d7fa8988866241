"""What lies around the program: users' own modules, leftover variables, files' and terminals' ways, by command line."""

import io
import json
import os
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import featlight
from featlight.cli.main import main
from featlight.config.tile import feature_tile
from featlight.console import say
from featlight.distributed.env import ALONE, Worker, announced_by, worker_from_env
from featlight.distributed.launcher import UNKNOWN_MEMORY, machine_memory
from featlight.models.catalog import load_model
from featlight.plan.parsing import read_plan
from featlight.plan.plan import PlannedTile
from featlight.store.store import Store

RECIPE = {"octaves": [{"size": 24, "steps": 2, "lr": [0.1, 0.05], "sigma": None}]}
NETWORK = """
import torch
def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), torch.nn.Conv2d(6, 4, 3))
"""


def run(model, *flags, **changes):
    config = {"model": model, "layer": ["1"], "batch_size": 2, "threads": 1, "recipe": RECIPE, "out": "run", **changes}
    Path("own.yaml").write_text(yaml.safe_dump(config))
    return main(["--config", "own.yaml", *flags])


def tiles(out="run"):
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(Path(out).glob("tiles/**/*.png"))}


@pytest.fixture
def own(monkeypatch):
    """Write a module of the user's own into the folder where the user stands; every test's has a name of its own."""
    monkeypatch.setattr(sys, "path", ["/elsewhere", *sys.path])  # as the installed command begins

    def write(text, name=None, **siblings):
        name = name or f"own_{abs(hash(text))}"
        Path(f"{name}.py").write_text(text)
        for sibling, content in siblings.items():
            Path(f"{sibling}.py").write_text(content)
        return f"{name}:build"

    yield write
    for module in [name for name in sys.modules if name.startswith(("own_", "sibling_"))]:
        del sys.modules[module]


# a user's module, the exit code, and what is said of it
MODULES = [
    ("import sys\nsys.exit(0)", 2, r"importing it ended the program, with exit code 0; move what does not belong"),
    ("raise SystemExit('no data set')", 2, "importing it ended the program, with exit code no data set"),
    (
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('data')\np.parse_args()",
        2,
        "importing it ended the program, with exit code 2 (own",
    ),
    (f"import argparse\np = argparse.ArgumentParser()\np.add_argument('--epochs')\np.parse_args()\n{NETWORK}", 0, ""),
    (f"import sys\nassert len(sys.argv) == 1, sys.argv\n{NETWORK}", 0, ""),
    ("def build():\n    exit(3)", 2, "calling it ended the program, with exit code 3"),
    ("def build():\n    raise KeyError('data')", 2, "calling it failed: KeyError: 'data'"),
    ("import nothing_of_that_name", 2, "No module named 'nothing_of_that_name'"),
    (
        f"{NETWORK}\nclass Ends(torch.nn.Conv2d):\n    def forward(self, x):\n        exit(0)\n"
        "def build():\n    return torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), Ends(6, 4, 3))",
        2,
        "layer '1' in own",
    ),
]


@pytest.mark.parametrize(("text", "code", "line"), MODULES)
def test_a_module_of_the_users_own_ends_nothing_in_silence(own, capsys, text, code, line):
    assert run(own(text)) == code
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == (1 if code else 0)
    assert len(tiles()) == (0 if code else 4)


@pytest.mark.parametrize("first", ["", "cwd", "/elsewhere"])  # `python -m`, a script of this folder's, an installed one
def test_siblings_are_found_late_however_the_program_is_started(own, monkeypatch, first):
    sibling = f"sibling_{abs(hash(first))}"
    late = (
        f"{NETWORK}\nclass Late(torch.nn.ReLU):\n    def forward(self, x):\n        from {sibling} import factor\n"
        "        return super().forward(x) * factor\n"
        f"def build():\n    import {sibling}\n    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), Late())"
    )
    model = own(late, **{sibling: "factor = 2.0"})
    monkeypatch.setattr(sys, "path", [str(Path.cwd()) if first == "cwd" else first, *sys.path[1:]])
    assert run(model) == 0


def test_an_attribute_of_that_name_is_the_users_own(own):
    text = NETWORK.replace("    return ", "    network = ") + "    network.transform_input = True\n    return network\n"
    assert load_model(own(text)).transform_input is True
    assert load_model("googlenet", "none").transform_input is False


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("featlight.run.monitor.PATIENCE", 0.2)
    monkeypatch.setattr("featlight.run.monitor.POLL", 0.05)


LEFT_OVER = [
    (
        {"RANK": "0", "WORLD_SIZE": "2"},
        "worker 1 of 2 waits for worker 2, announced by RANK=0 and WORLD_SIZE=2 (torchrun's)",
    ),
    (
        {"RANK": "1", "WORLD_SIZE": "2"},
        "worker 2 of 2 waits for worker 1, announced by RANK=1 and WORLD_SIZE=2 (torchrun's)",
    ),
    (
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "3", "SLURM_STEP_ID": "0"},
        "worker 1 of 3 waits for workers 2, 3, announced by SLURM_PROCID=0 and SLURM_NTASKS=3 (srun's)",
    ),
    ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "3"}, "worker 3 of 3 waits for workers 1, 2"),
]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("variables", "line"), LEFT_OVER)
def test_leftover_variables_are_told_and_the_same_command_ends_the_work(own, monkeypatch, capsys, variables, line):
    model = own(NETWORK)
    assert run(model, "--features", "0-5", layer=["0"], out="whole") == 0
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    capsys.readouterr()
    assert run(model, "--features", "0-5", layer=["0"]) == 75
    said = capsys.readouterr()
    assert line in said.out
    names = [name for name in variables if not name.startswith("SLURM_STEP")]
    assert f"to work alone, put env -u {' -u '.join(names)} before the same command" in said.out
    assert "are missing" in said.err
    assert 0 < len(tiles()) < 6
    assert run(model, "--features", "0-5", layer=["0"]) == 0
    assert tiles() == tiles("whole")
    assert Path("run/atlas/0.png").read_bytes() == Path("whole/atlas/0.png").read_bytes()


@pytest.mark.usefixtures("impatient")
def test_a_slip_is_said_by_whoever_may_be_alone(own, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(own(NETWORK), "--features", "9") == 2
    assert capsys.readouterr().err.startswith("featlight: worker 2: features: 9 given")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # torchrun is there: the first worker speaks
    assert run(own(NETWORK), "--features", "9") == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0", "SLURM_JOB_NAME": "atlas"},  # a batch script
        {"SLURM_PROCID": "1", "SLURM_NTASKS": "4", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "bash"},  # a shell by srun
        {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"},  # salloc
        {"WORLD_SIZE": "4"},
        {"RANK": "0"},
    ],
)
def test_variables_that_tell_of_no_worker_make_none(variables):
    assert worker_from_env(variables) == ALONE


def test_who_tells_of_other_workers():
    assert announced_by(Worker(1, 3), {"NODE_RANK": "1"}) == (
        "num_nodes and the number of this machine",
        "leave num_nodes out",
    )


# a config's text, and what is said of it; "" where it works
WRITTEN = [
    ("seed: 1\nlayer: ['1']\nseed: 2\n", "line 3: the key 'seed' given again after line 1"),
    ("recipe:\n  octaves:\n  - {size: 24,\n     lr: [1, 1], size: 32}\n", "line 4: the key 'size' given"),
    ("seed: 12:30\n", "seed: '12:30' given; it should be a valid integer"),
    ("seed: 0x10\n", "seed: '0x10' given"),
    ("recipe: {octaves: [{size: 24, steps: 2, lr: 0.4}]}\n",
     "recipe.octaves[0].lr: 0.4 given; two numbers are needed, for first and last step, as in [0.4, 0.4]"),
    ("recipe: {octaves: {size: 24}}\n", "recipe.octaves: {'size': 24} given; a list in brackets is needed"),
    ("features: 010\nlayer: 1\n", ""),  # as written: the tenth
    ("keep_octaves: yes\nlayer: '1'\n", ""),
    ("layer: on\n", "no layer 'on'"),
    ("? [1, 2]\n: 3\n", "not YAML"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line"), WRITTEN)
def test_a_config_is_read_as_it_is_written(own, capsys, text, line):
    wide = own(NETWORK.replace("6, 4, 3", "6, 12, 3"))
    usual = {"model": wide, "threads": "1", "batch_size": "2", "recipe": json.dumps(RECIPE), "features": "0"}
    rest = "".join(f"{key}: {value}\n" for key, value in usual.items() if not text.startswith(f"{key}:"))
    Path("own.yaml").write_text(text + rest)
    assert main(["--config", "own.yaml", "--out", "run"]) == (2 if line else 0)
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == bool(line)
    if text.startswith("features"):
        assert list(tiles()) == ["tiles/1/00010.png"]


def test_homes_are_found_from_everywhere(own, monkeypatch, small_recipe):
    home = Path("home").absolute()
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    Path("~kept").mkdir()  # a folder of that name is meant where it is
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    featlight.visualize(network, "0", [0], recipe=small_recipe, out="~/runs/one", progress=False)
    assert len(featlight.open("~/runs/one")) == 1
    torch.save(network.state_dict(), home / "weights.pt")
    model = own("import torch\ndef build():\n    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))")
    Path("home/own.yaml").write_text(
        yaml.safe_dump({"model": model, "layer": ["0"], "features": "0", "recipe": RECIPE})
    )
    assert main(["--config", "~/own.yaml", "--weights", "~/weights.pt", "--out=~/runs/two"]) == 0
    assert main(["verify", "--out", "~/runs/two"]) == 0
    assert sorted(path.name for path in (home / "runs").iterdir()) == ["one", "two"]
    assert not Path("~").exists()


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", b"run/\\xe4\\u2192\n"), ("latin-1", b"run/\xe4\\u2192\n"), ("utf-8", None)]
)
def test_what_a_terminal_cannot_print_is_written_out(monkeypatch, encoding, shown):
    buffer = io.BytesIO()
    terminal = io.TextIOWrapper(buffer, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    say("run/ä→")
    say("run/\udcff")  # a name of bytes that are no text
    assert sys.stdout is terminal, "the next line must come too"
    lines = buffer.getvalue().splitlines(keepends=True)
    assert lines[0] == (shown or "run/ä→\n".encode())
    assert lines[1] == b"run/\\udcff\n"


NAMES = """
import torch
def build():
    torch.manual_seed(0)
    parts = {name: torch.nn.Conv2d(3, 3, 1) for name in ("Conv", "conv", "CONV", "aux", "x" * 300)}
    network = torch.nn.Sequential()
    for name, part in parts.items():
        network.add_module(name, part)
    return network
"""


def test_layers_have_files_that_every_system_takes(own, capsys):
    layers = ["Conv", "conv", "CONV", "aux", "x" * 300]
    assert run(own(NAMES), layer=layers, features="0") == 0
    folders = [Path(name).parts[1] for name in tiles()]
    assert len({folder.casefold() for folder in folders}) == len(layers)
    assert "Conv" in folders
    assert "aux" not in folders
    assert max(map(len, folders)) <= 200
    assert len(list(Path("run/atlas").iterdir())) == len({path.name.casefold() for path in Path("run/atlas").iterdir()})
    records = [json.loads(line) for line in Path("run/records/worker-0.jsonl").read_text().splitlines()]
    assert sorted(record["layer"] for record in records) == sorted(layers)
    capsys.readouterr()
    assert run(own(NAMES), layer=layers[::-1], features="0") == 0  # in another order they are the same
    assert "5 tiles: 0 made, 5 kept" in capsys.readouterr().out
    assert run(own(NAMES), layer=["CONV"], features="0", out="alone") == 0
    (alone,) = tiles("alone")
    assert alone in tiles()


def test_a_run_of_old_keeps_its_names(own):
    """Where a folder of that name was fine, as on Linux, the run goes on in it."""
    assert run(own(NAMES), layer=["conv", "aux"], features="0") == 0
    store = Store(Path("run"))
    plan = store.plan()
    old = [PlannedTile("", feature_tile(layer, 0, folder=layer)) for layer in ("conv", "aux")]
    for planned, now in zip(old, plan.tiles, strict=True):
        Path("run", planned.file).parent.mkdir(exist_ok=True)
        Path("run", now.file).rename(Path("run", planned.file))
        for path in (*Path("run/records").iterdir(), Path("run/plan.json")):
            path.write_text(path.read_text().replace(now.file, planned.file).replace(now.tile.name, planned.tile.name))
    assert read_plan(Path("run/plan.json").read_text()).folders == {"conv": "conv", "aux": "aux"}
    assert run(own(NAMES), layer=["conv", "aux"], features="0-1") == 0
    assert list(tiles()) == [f"tiles/{layer}/{feature:05d}.png" for layer in ("aux", "conv") for feature in (0, 1)]


def test_a_run_that_took_another_dimension_for_the_feature_is_refused(own, capsys):
    """As runs of a network with channels last did, in silence."""
    assert run(own(NETWORK), features="0") == 0
    path = Path("run/plan.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layers": {"24": {"1": [20, 4, 20]}}}))
    capsys.readouterr()
    assert run(own(NETWORK), features="0-1") == 2
    line = capsys.readouterr().err
    assert "layer '1' with shape (20, 4, 20) (features, height, width), but now its shape is (4, 20, 20)" in line


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["con"], "tiles: name 'con' given; allowed: up to 200 letters"),
        (["NUL.x"], "tiles: name 'NUL.x' given"),
        (["a."], "tiles: name 'a.' given"),
        (["Both", "both"], "tiles: the names 'Both' and 'both' given; they must differ in more than case"),
    ],
)
def test_names_that_some_system_does_not_take_are_refused(own, capsys, names, line):
    tiles = [{"name": name, "terms": [{"layer": "1", "feature": 0}]} for name in names]
    assert run(own(NETWORK), layer=None, tiles=tiles) == 2
    assert capsys.readouterr().err.startswith(f"featlight: own.yaml: {line}")


def test_a_system_need_not_tell_its_memory(own, monkeypatch):
    monkeypatch.delattr(os, "sysconf")
    assert machine_memory() == UNKNOWN_MEMORY
    assert run(own(NETWORK), batch_size="auto") == 0
