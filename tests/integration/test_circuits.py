"""`featlight circuits`: stops, workers, grown runs, received files, and the commands that know its files."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import yaml

import featlight
from featlight.circuits.find import find
from featlight.cli.main import main
from featlight.distributed.env import Worker
from featlight.distributed.signals import Stop
from featlight.errors import Interrupted
from featlight.store.own_files import Deletion, find_orphans
from featlight.store.paths import CIRCUITS
from featlight.store.store import Store
from featlight.store.verify import verify

LAYERS = {"Mixed_3a": "0-2", "Mixed_4a": "0,5", "fc": "3"}


def draw(out: Path, layers) -> None:
    recipe = {"octaves": [{"size": 48, "steps": 1, "lr": [0.1, 0.1]}]}
    config = {"model": "tiny_inception", "layer": layers, "recipe": recipe, "float_images": True}
    path = out.with_name(f"{out.name}.yaml")
    path.write_text(yaml.safe_dump(config))
    assert main(["--config", str(path), "--out", str(out)]) == 0


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    draw(out, LAYERS)
    return out


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory) -> bytes:
    """What one worker writes, undisturbed."""
    out = Path(shutil.copytree(run, tmp_path_factory.mktemp("whole") / "run"))
    assert find(out, 4).found == 6
    return (out / CIRCUITS).read_bytes()


@pytest.fixture
def out(run) -> Path:
    return Path(shutil.copytree(run, "run"))


def test_the_command_and_any_number_of_workers_write_the_same_bytes(out, whole, capsys):
    reports = [find(out, 4, worker=Worker(rank, 3)) for rank in range(3)]
    assert [report.left for report in reports] == [4, 2, 0]
    assert (out / CIRCUITS).read_bytes() == whole
    assert not (out / "circuits/found").exists()
    (out / CIRCUITS).unlink()
    assert main(["circuits", "--out", "run", "--top", "4"]) == 0
    assert "6 tiles: 6 attributed, 0 kept" in capsys.readouterr().out
    assert (out / CIRCUITS).read_bytes() == whole
    assert main(["circuits", "--out", "run", "--top", "4", "--layer", "fc"]) == 0
    assert "1 tile: 0 attributed, 1 kept" in capsys.readouterr().out
    assert (out / CIRCUITS).read_bytes() == whole


def test_a_stopped_search_goes_on(out, whole):
    stop, seen = Stop(), []

    def check() -> None:
        seen.append(None)
        if len(seen) == 4:
            raise Interrupted("stopped")

    stop.check = check
    with pytest.raises(Interrupted):
        find(out, 4, stop=stop)
    assert not find_orphans(Store(out), Store(out).need_plan(), Store(out).records()).leftovers
    report = find(out, 4)
    assert (report.found, report.kept) == (3, 3)
    assert (out / CIRCUITS).read_bytes() == whole


def test_a_grown_run_is_attributed_again(out, whole):
    find(out, 4)
    draw(out, {**LAYERS, "Mixed_5a": "1"})
    report = find(out, 4)
    assert (report.found, report.kept) == (7, 0)  # the class is now attributed to one more layer
    lines = [json.loads(line) for line in (out / CIRCUITS).read_text().splitlines()]
    (last,) = [line for line in lines if line["layer"] == "fc"]
    assert list(last["from"]) == ["Mixed_3a", "Mixed_4a", "Mixed_5a"]
    parts = [part for line in lines for parts in line["from"].values() for part in parts]
    assert max(len(parts) for line in lines for parts in line["from"].values()) == 4
    assert all(set(part) >= {"feature", "attribution", "weight"} for part in parts)


def test_it_is_in_the_result_and_in_the_exported_site(out):
    assert featlight.open_run(out).circuits == [None] * 6
    result = featlight.find_circuits(out, network=featlight.load_model("tiny_inception"), top=3, progress=False)
    first, last = result.circuits[0], result.circuits[-1]
    assert first.parts == {}
    assert [part.feature for part in last.parts["Mixed_4a"]] == [
        part["feature"] for part in json.loads((out / CIRCUITS).read_text().splitlines()[-1])["from"]["Mixed_4a"]
    ]
    assert main(["export", "--out", "run", "--zip", "site.zip"]) == 0
    with zipfile.ZipFile("site.zip") as site:
        assert site.read(CIRCUITS) == (out / CIRCUITS).read_bytes()
        site.extractall("site")
    assert featlight.open_run("site").circuits == result.circuits
    assert not verify(Path("site")).problems


def changed(line: dict, how: str) -> str:
    parts = line["from"]["Mixed_4a"]
    match how:
        case "infinite":
            parts[0]["attribution"] = 1e400
        case "not a number":
            return json.dumps(line).replace(str(parts[0]["attribution"]), "NaN", 1)
        case "too large a feature":
            parts[0]["feature"] = 10_000
        case "a negative feature":
            parts[0]["feature"] = -1
        case "another layer":
            line["from"]["Mixed_9z"] = parts
        case "twice":
            parts[1]["feature"] = parts[0]["feature"]
        case "out of order":
            parts.reverse()
        case "a wide kernel":
            parts[0]["kernel"] = [[0.0] * 10] * 3
        case "a ragged kernel":
            parts[0]["kernel"] = [[0.0], [0.0, 1.0]]
        case "another tile":
            line["tile"] = "tiles/fc/00004.png"
        case "outside":
            line["tile"] = "tiles/../../x.png"
        case "too many":
            line["from"]["Mixed_4a"] = [{**parts[0], "feature": i} for i in range(101)]
    return json.dumps(line)


@pytest.mark.parametrize(
    "how",
    [
        *("infinite", "not a number", "too large a feature", "a negative feature", "another layer", "twice"),
        *("out of order", "a wide kernel", "a ragged kernel", "another tile", "outside", "too many"),
    ],
)
def test_a_received_line_is_checked(out, whole, how):
    find(out, 4)
    lines = whole.decode().splitlines()
    (out / CIRCUITS).write_text("\n".join([*lines[:-1], changed(json.loads(lines[-1]), how)]) + "\n")
    assert [circuit is None for circuit in featlight.open_run(out).circuits] == [False] * 5 + [True]
    (problem,) = [each for each in verify(out).problems if each.path == CIRCUITS]
    assert "line 6 cannot be read; `featlight circuits` writes it again" in problem.what
    assert main(["verify", "--out", "run", "--repair"]) == 1
    assert find(out, 4).found == 1
    assert (out / CIRCUITS).read_bytes() == whole


def test_a_tile_counts_once(out, whole):
    find(out, 4)
    (out / CIRCUITS).write_bytes(whole + whole.splitlines(keepends=True)[0])
    assert len(verify(out).problems) == 1
    assert all(featlight.open_run(out).circuits)


def test_fresh_deletes_them(out):
    find(out, 4)
    (out / "circuits/mine.txt").write_text("mine")
    deletion = Deletion.from_store(Store(out))
    assert out / CIRCUITS in deletion.files
    deletion.carry_out()
    assert [path.name for path in out.rglob("circuits/*")] == ["mine.txt"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--layer", "Mixed_4b"], "no layer 'Mixed_4b' in this run; nearest: 'Mixed_4a'"),
        (["--top", "0"], "--top: '0' given; allowed: a whole number from 1 to 100"),
        (["--model", "resnet18"], "--model: 'resnet18' given, and run was made with 'tiny_inception'"),
        (["--directions", "d.npy"], "has no tiles of directions; leave it out"),
    ],
)
def test_a_slip_is_answered_in_one_line(out, capsys, given, words):
    assert main(["circuits", "--out", "run", *given]) == 2
    assert words in capsys.readouterr().err
