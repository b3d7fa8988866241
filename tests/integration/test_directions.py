"""A run of directions, from the command line: rows, names, resume, verify, and what is refused."""

import json
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

import featlight
from featlight.cli.main import main
from featlight.plan.plan import Plan
from featlight.store.store import Store
from tools.dictionary import FOLDER, labels, mixtures

RUN = ["--model", "tiny_inception", "--layer", "Conv2d_2a_3x3", "--out", "run", "--batch-size", "4", "--directions"]
RECIPE = ["--set", "recipe.octaves=[{size: 48, steps: 3, lr: [0.03, 0.02]}]"]


def features_of(layer="Conv2d_2a_3x3"):
    network = featlight.load_model("tiny_inception")
    return next(found.features for found in featlight.list_layers(network, 48) if found.name == layer)


@pytest.fixture
def dictionary():
    np.save("rows.npy", np.eye(features_of(), dtype=np.float32)[:10])
    Path("names.txt").write_text("\n".join(f"name {i}" for i in range(10)))
    return "rows.npy"


def test_a_run_of_one_channel_each_is_bit_for_bit_that_of_the_channels(dictionary, capsys):
    words = [*RUN, dictionary, "--labels", "names.txt", "--features", "0-5", *RECIPE]
    assert main(words) == 0
    assert main(["verify", "--out", "run"]) == 0
    assert main([*RUN[:4], "--out", "channels", "--batch-size", "4", "--features", "0-5", *RECIPE]) == 0
    plan = Store(Path("run")).need_plan()
    assert [planned.label for planned in plan.tiles][:2] == ["0 name 0", "1 name 1"]
    assert Path("run/atlas/Conv2d_2a_3x3-directions.png").is_file()
    ours, theirs = featlight.open_run("run"), featlight.open_run("channels")
    assert (ours.images == theirs.images).all()
    vectors = [
        np.load(f"{run}.npy") for run in ("run/vectors/Conv2d_2a_3x3-directions", "channels/vectors/Conv2d_2a_3x3")
    ]
    assert np.array_equal(*vectors)
    assert "5 of 10 directions" not in capsys.readouterr().out

    # more rows extend it, by name too; nothing is made twice; other names are taken up
    capsys.readouterr()
    assert main([*RUN, dictionary, "--labels", "names.txt", "--features", "name 4,name 8", *RECIPE]) == 0
    assert "2 tiles: 1 made, 1 kept" in capsys.readouterr().out
    Path("names.txt").write_text("other")
    assert main([*RUN, dictionary, "--labels", "names.txt", "--features", "0", *RECIPE]) == 0
    assert "1 tile: 0 made, 1 kept" in capsys.readouterr().out
    assert Store(Path("run")).need_plan().tiles[0].label == "0 other"
    page = Path("run/assets/data.js").read_text()
    assert "0 other" in page
    assert "7 of 10 directions" in page

    # another dictionary is another run
    np.save("rows.npy", np.eye(features_of(), dtype=np.float32)[1:10])
    assert main([*RUN, dictionary, "--features", "0", *RECIPE]) == 2
    assert "holds another run (directions: there" in capsys.readouterr().err


def test_on_efficientnet_lite0_too_one_channel_is_bit_for_bit_that_channel():
    network = featlight.load_model("efficientnet_lite0")
    words = {"recipe": {"octaves": [{"size": 32, "steps": 2, "lr": [0.05, 0.03]}]}, "batch_size": 2, "progress": False}
    rows = np.eye(24, dtype=np.float16)[[3, 5]]  # of blocks.1.0
    theirs = featlight.visualize(network, "blocks.1.0", [3, 5], out="channels", **words)
    ours = featlight.visualize(network, "blocks.1.0", directions=rows, out="run", **words)
    assert [record["status"] for record in ours.records] == ["ok", "ok"]
    assert (ours.images == theirs.images).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rows.npy", "--features", "10"], "features: 10 given; there are 10 directions, 0 to 9"),
        (["wide.npy"], "directions: 3 numbers each given; layer 'Conv2d_2a_3x3' has"),
        (["rows.npy", "--region", "all"], "--region: all given with directions; allowed: map"),
        (["rows.npy", "--layer", "Mixed_3a"], "--directions: given for 2 layers"),
        (["rows.npy", "--features", "nobody"], "the features of layer 'Conv2d_2a_3x3' have no names"),
        (["odd.npy", "--features", "1,2"], "directions: odd.npy: row 2 holds NaN, Inf or a number beyond float32"),
        (["gone.npy"], "directions: gone.npy: No such file"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(dictionary, words, message, capsys):
    np.save("wide.npy", np.ones((2, 3)))
    np.save("odd.npy", np.diag([1, 1, np.nan] + [1.0] * (features_of() - 3)))
    assert main([*RUN, *words, *RECIPE]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Path("run").exists()


def test_names_are_gathered_once_however_many_tiles_there_are(dictionary, monkeypatch, capsys):
    words = [*RUN, dictionary, "--labels", "names.txt", *RECIPE]
    assert main(words) == 0
    asked = Mock(side_effect=Plan.titles.fget)
    monkeypatch.setattr(Plan, "titles", property(asked))
    assert main(words) == 0
    assert "10 tiles: 0 made, 10 kept" in capsys.readouterr().out
    assert asked.call_count < 10


def test_a_cosine_needs_a_direction(capsys):
    assert main(["--cosine-power", "2", "--features", "0"]) == 2
    assert "--cosine-power: 2 given, but no directions" in capsys.readouterr().err


def test_directions_of_python_go_on_where_they_were(network_of, small_recipe):
    rows = np.random.default_rng(1).standard_normal((3, 12))
    words = {"recipe": small_recipe, "progress": False, "out": "mine", "batch_size": 2}
    first = featlight.visualize(network_of("hand_made"), "4", directions=rows, **words)
    again = featlight.visualize(network_of("hand_made"), "4", directions=rows, **words)
    assert (first.images == again.images).all()
    assert [json.loads(line)["file"] for line in Path("mine/records/worker-0.jsonl").read_text().splitlines()] == [
        f"tiles/4-directions/{i:05d}.png" for i in range(3)
    ]
    with pytest.raises(featlight.errors.UsageError, match="holds another run"):
        featlight.visualize(network_of("hand_made"), "4", directions=rows + 1, **words)


def test_classes_are_chosen_by_name(capsys):
    words = ["--model", "tiny_inception", "--layer", "fc", "--out", "run", *RECIPE, "--features"]
    assert main([*words, "spiral,44,Heart"]) == 0
    labels = [planned.label for planned in Store(Path("run")).need_plan().tiles]
    assert labels == ["4 spiral", "44 ladybird", "32 heart"]
    assert main([*words, "nothing like it"]) == 2
    assert "features: no name 'nothing like it' among those of layer 'fc'" in capsys.readouterr().err


def test_the_dictionary_of_the_demo_is_what_its_tool_makes():
    found = mixtures(512, 112, 0)
    assert np.array_equal(np.load(FOLDER / "dictionary.npy"), found)
    assert (FOLDER / "dictionary.txt").read_text().splitlines() == labels(found)
    assert (found >= 0).all()
    assert ((found > 0).sum(1) == 3).all()
