"""What only a file of a run names is neither imported nor opened by any command; pages that are not our drawing."""

import json
import shutil
import subprocess
import sys
import webbrowser
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import featlight
from featlight.cli.commands import COMMANDS
from featlight.cli.main import main, parser
from featlight.distributed.launcher import featlight_command
from featlight.report.viewer.page import CODE
from tests import ROOT
from tests.integration.foreign.hands import one_line, plan_with
from tests.photographs import crops, folder_of, planned_run

# What each command is typed with on a hostile run, and how it may end; a new command needs a line here.
EXPECTED = {
    "verify": [(["verify"], {0, 1}), (["verify", "--repair"], {0, 1})],
    "view": [(["view"], {0})],
    "tensorboard": [(["tensorboard"], {0})],
    "examples": [(["examples", "--images", "photos"], {2})],
    "circuits": [(["circuits"], {2})],
    "alike": [(["alike", "--method", "pca"], {0, 2})],
    "export": [
        (["export", "--zip", "s.zip", "--card", "c.md", "--webp", "w", "--poster", "p.png", "--dpi", "50"], {0})
    ],
}
# And likewise the run's own modes, whose network is that of a config which the user names.
OWN = ["--config", "small.yaml"]
MODES = {
    "--render-only": ([], {0}),
    "--dry-run": (OWN, {0, 2}),
    "--list-layers": (OWN, {0}),
    "--list-models": (["tiny_*"], {0}),
    "--print-config": (OWN, {0}),
    "--fresh": (OWN, {0}),
    "--version": ([], {0}),
    "": (OWN, {0, 2}),
}
TYPED = [(words, codes) for lines in EXPECTED.values() for words, codes in lines]
TYPED += [([flag, *words] if flag else words, codes) for flag, (words, codes) in MODES.items()]
opened: list[str] = []
watching = [False]


def _watch(event, arguments):
    if watching[0] and event in ("open", "import", "os.listdir", "os.scandir") and "trap" in str(arguments[0]):
        opened.append(f"{event} {arguments[0]}")


@pytest.fixture(scope="session", autouse=True)
def _audited():
    sys.addaudithook(_watch)  # for good: Python takes none away


@pytest.fixture
def watched():
    opened.clear()
    watching[0] = True
    yield opened
    watching[0] = False


def trap(name):
    """A module that leaves a mark when it is imported."""
    return f"open({str(Path('mark').absolute())!r}, 'a').write({name!r})\ndef build():\n    raise SystemExit(3)\n"


@pytest.fixture
def hostile(run, monkeypatch):
    """A run in which every file that names something names a trap, and the user stands beside it."""
    for place in (Path(), run):
        (place / "trap_network.py").write_text(trap("network"))
    place = Path("traps").absolute()
    (place / "images").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(place / "trap.png")
    Image.new("RGB", (8, 8)).save(place / "images/trap.png")
    np.save(place / "trap.npy", np.ones((6, 8), np.float32))
    (place / "trap.pt").write_bytes(b"no weights")
    (place / "trap.csv").write_text("0,trap\n")
    Path("photos").mkdir()
    Image.new("RGB", (48, 48)).save("photos/a.png")
    names = {
        "model": "trap_network:build",
        "weights": f"{place}/trap.pt",
        "labels": f"{place}/trap.csv",
        "directions": f"{place}/trap.npy",
        "init": f"{place}/trap.png",
        "caricature": f"{place}/trap.png",
        "objective": "trap_network:build 1",
        "examples": {"images": f"{place}/images"},
        "variants": [{"name": "a", "init": f"{place}/trap.png"}],
    }
    values = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(values | names))

    def change(plan):
        plan["network"] |= {"model": names["model"], "asked": names["weights"], "file": names["weights"]}
        plan["fingerprints"][""] |= {"model": names["model"]}

    plan_with(change)
    monkeypatch.syspath_prepend(str(run.absolute()))
    monkeypatch.syspath_prepend(str(Path().absolute()))
    monkeypatch.setattr(webbrowser, "open", lambda address: True)
    monkeypatch.setattr("os.execv", lambda program, words: None)
    return run


def test_every_command_has_its_line():
    group = next(group for group in parser()._action_groups if group.title == "other actions")
    assert EXPECTED.keys() == COMMANDS.keys()
    assert MODES.keys() - {""} == {action.option_strings[-1] for action in group._group_actions}


def test_the_documents_say_what_each_command_reads_and_may_run():
    rows = (ROOT / "docs/sharing.md").read_text().splitlines()
    for name in [*COMMANDS, *MODES.keys() - {"", "--version"}]:
        assert any(row.startswith(f"| `{name}`") for row in rows), name


@pytest.mark.parametrize(("words", "codes"), TYPED, ids=lambda value: value[0] if isinstance(value, list) else None)
def test_no_command_imports_or_opens_what_a_run_names(hostile, watched, words, codes):
    try:
        code = main([*words, "--out", "run"])
    except SystemExit as end:
        code = end.code
    code = code or 0  # of `execv`, which comes back here
    assert code in codes
    assert watched == []
    assert "trap_network" not in sys.modules
    assert not Path("mark").exists()


MODELS = [
    "trap_network:build",
    "hf/trap",
    "hf/./traps",
    "timm/hf-hub:trap/x",
    "timm/../x",
    "./trap",
    "trap:x",
    "http.server:test",
]


@pytest.mark.parametrize("model", MODELS)
def test_a_network_from_elsewhere_must_be_typed(hostile, watched, capsys, model):
    plan_with(lambda plan: plan["network"].update(model=model, asked="DEFAULT"))
    examples = ["examples", "--images", "photos", "--out", "run"]
    assert main(examples) == 2
    assert "--model: none given, and run names a network" in (line := one_line(capsys))
    assert "if you trust it, add --model " in line
    assert main([*examples, "--model", "os:getcwd"]) == 2
    assert f"--model: 'os:getcwd' given, and run was made with {model!r}; type --model" in one_line(capsys)
    assert watched == []


WEIGHTS = ["traps/trap.pt", "trap", "./DEFAULT", "traps/trap.pt:entry", "../trap.safetensors"]


@pytest.mark.parametrize("asked", WEIGHTS)
def test_weights_from_elsewhere_must_be_typed(hostile, watched, capsys, asked):
    Path("trap").write_bytes(b"no weights")
    watched.clear()
    plan_with(lambda plan: plan["network"].update(model="tiny_inception", asked=asked, file_sha256="0" * 64))
    examples = ["examples", "--images", "photos", "--out", "run"]
    assert main(examples) == 2
    assert "--weights: none given" in one_line(capsys)
    assert watched == []
    Path("mine.pt").write_bytes(b"other weights")
    for other in ("mine.pt", "DEFAULT", "none"):
        assert main([*examples, "--weights", other]) == 2
        assert f"--weights: {other!r} given, and run was made with other weights" in one_line(capsys)


@pytest.fixture
def planned():
    """A run of the package's own network and a folder of photographs."""
    planned_run(Path("run"), layer=["Mixed_3a"], features="0,1")
    return folder_of(Path("photos"), crops(3))


def test_the_network_is_the_plans_whatever_the_config_says(planned, watched):
    Path("trap_network.py").write_text(trap("network"))
    watched.clear()
    Path("run/config.yaml").write_text("model: trap_network:build\nweights: trap.pt\nexamples: {images: trap}\n")
    for name in ("DEFAULT", "tiny_inception"):
        Path(name).write_bytes(b"no weights")  # where the user stands: a name is no file
    words = ["examples", "--images", "photos", "--out", "run", "--devices", "1", "--top", "1"]
    assert main(words) == 0
    assert main([*words, "--model", "tiny_inception", "--weights", "DEFAULT"]) == 0
    assert watched == []
    assert not Path("mark").exists()


def test_other_weights_of_the_same_name_are_refused(planned, capsys):
    plan_with(lambda plan: plan["network"].update(sha256="0" * 64))
    assert main(["examples", "--images", "photos", "--out", "run", "--devices", "1"]) == 2
    assert "run was made with another network than this tiny_inception" in one_line(capsys)


@pytest.mark.parametrize("asked", ["none", "DEFAULT"])
def test_a_huge_network_that_only_the_plan_names_is_not_built(planned, capsys, monkeypatch, asked):
    model = "timm/vit_gigantic_patch14_224"  # 1.8 billion parameters
    plan_with(lambda plan: plan["network"].update(model=model, asked=asked, weights=asked))
    monkeypatch.setattr("featlight.run.network.load_model", None)
    assert main(["examples", "--images", "photos", "--out", "run", "--devices", "1"]) == 2
    assert one_line(capsys) == (
        "featlight: --model: none given, and run names a network of more than 700,000,000 parameters; "
        f"if you trust it, add --model {model}\n"
    )


def test_what_the_user_types_is_loaded(planned):
    """A Python path and directions, typed as the plan says them."""
    np.save("rows.npy", np.random.default_rng(0).random((3, 96), np.float32))
    shutil.rmtree("run")
    Path("mine.py").write_text("import featlight\n\ndef build():\n    return featlight.load_model('tiny_inception')\n")
    planned_run(
        Path("run"), network=None, model="mine:build", layer=["Mixed_3a"], directions="rows.npy", features="all"
    )
    words = ["examples", "--images", "photos", "--out", "run", "--devices", "1", "--top", "1", "--fit", "48"]
    assert main([*words, "--model", "mine:build"]) == 2
    Path("rows.npy").rename("moved.npy")
    assert main([*words, "--model", "mine:build", "--directions", "moved.npy"]) == 0
    np.save("others.npy", np.ones((3, 96), np.float32))
    assert main([*words, "--model", "mine:build", "--directions", "others.npy"]) == 2
    assert main([*words, "--model", "mine:build", "--directions", "missing.npy"]) == 2
    found = Path("run/examples/examples.jsonl").read_bytes()
    network = featlight.load_model("tiny_inception")
    asked = {"directions": "moved.npy", "top": 1, "fit": 48, "progress": False}
    featlight.find_examples("run", "photos", network=network, **asked)
    assert Path("run/examples/examples.jsonl").read_bytes() == found
    plan_with(lambda plan: plan["directions"].update(asked="an array"))
    with pytest.raises(featlight.errors.UsageError, match="find_circuits take it as directions=array"):
        featlight.find_examples("run", "photos", network=network)


@pytest.mark.parametrize("place", ["traps/weights.pt", "up and down"])
def test_a_finished_run_opens_no_weights_that_its_plan_alone_names(tmp_path, watched, place):
    """Whether the weights are the same is told by a file that is the user's, or where libraries keep weights."""
    recipe = {"octaves": [{"size": 32, "steps": 1, "lr": [0.1, 0.1]}]}
    words = {"model": "tiny_inception", "layer": ["Mixed_3a"], "features": "0", "recipe": recipe, "devices": 1}
    Path("mine.yaml").write_text(yaml.safe_dump(words))
    assert main(["--config", "mine.yaml", "--out", "run"]) == 0
    Path("traps").mkdir()
    weights = Path(json.loads(Path("run/plan.json").read_text())["network"]["file"])
    shutil.copy(weights, "traps/weights.pt")
    up = f"{weights.parent}{'/..' * len(weights.parent.parts)}{tmp_path}/traps/weights.pt"
    plan_with(lambda plan: plan["network"].update(file="traps/weights.pt" if place.startswith("traps") else up))
    watched.clear()
    assert main(["--config", "mine.yaml", "--out", "run"]) == 0
    assert watched == []


SHADOWS = ("torch", "numpy", "yaml", "umap", "tensorboard", "PIL", "pydantic", "typing", "json", "logging", "argparse")


def test_modules_where_the_user_stands_are_not_imported():
    """`python -m featlight` in a directory from anybody; workers, and TensorBoard, of a command in one."""
    for name in (*SHADOWS, "featlight"):
        folder = Path(name)
        folder.mkdir()
        for file in ("__init__.py", "main.py", "__main__.py"):
            (folder / file).write_text(f"open('mark', 'a').write({name!r})\n")
    ours = featlight_command("view", "--out", ".")
    done = subprocess.run(ours, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "featlight: --out: . holds no run\n")
    shutil.rmtree("featlight")  # `python -m` itself would take it
    done = subprocess.run([sys.executable, "-m", "featlight", *ours[-3:]], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "featlight: --out: . holds no run\n")
    assert not Path("mark").exists()


CHANGED = {
    "index.html": b"<!-- ours -->",
    "assets/app.js": b"alert(1)",
    "assets/data.js": b"alert(1)",
    "assets/tiles/2/00.js": b"alert(1)",
    "assets/style.css": b"* {}",
    "atlas/2.png": b"changed",
    "assets/tiles/2/00.jpg": b"changed",
}


def changed(run, name):
    """A part of the page changed, and all that vouches for it in the directory kept."""
    before = (run / name).read_bytes()
    (run / name).write_bytes(before + CHANGED[name])
    return before


@pytest.mark.parametrize("name", CHANGED)
def test_what_is_opened_is_what_this_version_draws(run, monkeypatch, name):
    seen = []
    monkeypatch.setattr(webbrowser, "open", lambda address: seen.append((run / name).read_bytes()) or True)
    before = changed(run, name)
    assert main(["view", "--out", "run"]) == 0
    assert seen == [before] or name.startswith("atlas/")  # a picture that the page links to


@pytest.mark.parametrize("name", CHANGED)
def test_what_is_exported_is_what_this_version_draws(run, name):
    before = changed(run, name)
    (run / "assets/stray.js").write_text("alert(1)")
    with (run / "outputs.txt").open("a") as file:
        file.write("assets/stray.js\n")
    assert main(["export", "--zip", "site.zip", "--out", "run"]) == 0
    with zipfile.ZipFile("site.zip") as site:
        assert site.read(name) == before
        assert "assets/stray.js" not in site.namelist()
        assert site.read("assets/app.js") == (CODE / "app.js").read_bytes()


def test_a_page_that_nobody_knows_is_drawn_again_and_a_known_one_is_not(run, monkeypatch, tmp_path):
    monkeypatch.setattr(webbrowser, "open", lambda address: True)
    assert main(["view", "--out", "run"]) == 0
    stamp = Path("run/index.html").stat().st_mtime_ns
    assert main(["view", "--out", "run"]) == 0
    assert Path("run/index.html").stat().st_mtime_ns == stamp
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    monkeypatch.setattr("featlight.store.guard.drawn._in_memory", {})
    assert main(["view", "--out", "run"]) == 0
    assert Path("run/index.html").stat().st_mtime_ns != stamp


@pytest.mark.parametrize("place", ["tensorboard/link", "tensorboard/deep/er/link"])
@pytest.mark.parametrize("target", ["outside/folder", "outside/file"])
def test_tensorboard_is_not_started_on_links(run, monkeypatch, capsys, place, target):
    monkeypatch.setattr("os.execv", None)
    (run / place).parent.mkdir(parents=True, exist_ok=True)
    (run / place).symlink_to(Path(target).resolve())
    assert main(["tensorboard", "--out", "run"]) == 2
    assert f"run/{place} is a link" in one_line(capsys)


@pytest.mark.parametrize("place", ["tensorboard", "tensorboard/deep"])
@pytest.mark.parametrize("path", ["/etc/passwd", "../../outside/file", "\\x2fetc/passwd"])
def test_tensorboard_is_not_started_on_a_configuration_that_leads_out(run, monkeypatch, capsys, place, path):
    monkeypatch.setattr("os.execv", None)
    (run / place).mkdir(exist_ok=True)
    words = f'embeddings {{\n  tensor_name: "a"\n  metadata_path: "{path}"\n}}\n'
    (run / place / "projector_config.pbtxt").write_text(words)
    assert main(["tensorboard", "--out", "run"]) == 2
    assert "projector_config.pbtxt was not written by featlight" in one_line(capsys)
