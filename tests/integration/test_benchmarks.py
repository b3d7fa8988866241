"""The benchmark's arithmetic and its record; no time is asserted."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import featlight
from benchmarks import atlas, circuits, families, package_trial, packages, recipes, record, runs, steps
from benchmarks.dead import dead, recipe
from benchmarks.dead import main as count_dead
from featlight.models.frozen import frozen_copy
from featlight.models.prepared import PreparedNetwork
from featlight.plan.sources import NOTHING_TYPED, sources_of
from featlight.store.store import Store
from tests.conftest import hand_made

CPU = torch.device("cpu")


def test_a_recipes_step_is_measured_whole_and_in_parts(monkeypatch):
    network = featlight.load_model("tiny_inception")
    monkeypatch.setattr(recipes.peer, "version", lambda python: "0.1.8")
    monkeypatch.setattr(recipes.peer, "seconds_a_step", lambda *words: 1.0)
    rows = recipes.recipe_times(network, ["natural", "lucid"], "Mixed_3a", 32, 2, 1, 1)
    assert [row["way"] for row in rows] == [recipes.ARTICLE, "natural", "lucid", recipes.PEER]
    for row in rows:
        assert row["times_lucent"] == pytest.approx(1 / row["seconds_per_image_step"])
        assert all(share > 0 for share in row["shares"].values())
    assert rows[1]["shares"].keys() == {"network", "views", "optimizer"}
    assert recipes.table(rows).count("\n") == 2 + len(rows)


def test_the_record_holds_every_way_and_its_surroundings(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(record, "TREE", tmp_path)
    monkeypatch.setattr(steps, "matrix_rate", lambda *words: 1e9)  # a large product, slow where bf16 is not built in
    monkeypatch.setattr(steps, "product", lambda *words: 0.001 * words[4])  # of so few steps, noise is larger
    monkeypatch.setattr(runs, "commands", lambda: {"help": 1.0})
    monkeypatch.setattr(runs, "layer_sizes", lambda *words: [{"features": 2}])
    words = "--model tiny_inception --layer Mixed_3a --size 24 --batch-size 2 --rounds 1 --product-steps 2 --name here"
    assert atlas.main([*words.split(), "--workers", "--precision-features", "0"]) == 0
    values = json.loads((tmp_path / "benchmarks/results/here.json").read_text())
    assert values.keys() >= {"date", "commit", "versions", "cpu", "command", "ways", "commands", "layer_sizes"}
    ways = {way["way"]: way for way in values["ways"]}
    article = ways["the article's way"]["seconds_per_image_step"]
    for way in ways.values():
        assert way["times_the_article"] == pytest.approx(article / way["seconds_per_image_step"])
        assert way["share_of_matrix_rate"] > 0
    assert {
        "+ norms folded",
        "+ channels last",
        "+ one branch",
        "bf16, all of these",
        "featlight.visualize, fp32",
    } < ways.keys()
    printed = capsys.readouterr().out
    assert all(name in printed for name in ways)


def test_every_way_makes_the_step_that_it_says():
    """Each way's first step on one image is the article's."""
    network = hand_made().eval()
    moved = {}
    for way in steps.ways(network, "4", 32, 1, CPU, compile=False):
        way.step()
        held = (cell.cell_contents for cell in way.step.__closure__)
        images = next(value for value in held if isinstance(value, torch.Tensor))
        moved[way.name] = images.detach().float()
    assert moved.pop("plain forward and backward").std() > 0  # it makes none
    first = moved.pop("the article's way")
    for name, images in moved.items():
        assert torch.allclose(images, first, atol=2e-2 if "bf16" in name else 1e-5), name


def test_the_articles_way_has_its_own_layout():
    """Featlight's channels last would make it faster than it is."""
    network = hand_made().eval()
    steps.article(network, "4", 32, CPU).step()
    weight = network[3].weight
    assert weight.is_contiguous()
    assert weight.grad is not None


def test_the_product_is_timed_an_image():
    assert 0 < steps.product(hand_made().eval(), "4", 32, 2, 2, "fp32") < 60


def test_operations_are_counted_for_one_image():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1))
    outputs = PreparedNetwork(
        frozen_copy(network, CPU, torch.float32), [16], dtype=torch.float32, device=CPU
    ).optimized(["0"])
    way = steps.of_outputs("", outputs, "0", 16, 4, CPU)
    forward = 2 * 16 * 16 * 8 * 3 * 9
    assert steps.flops(way) >= 2 * forward  # and the blur, itself a convolution


def test_a_command_that_fails_ends_the_benchmark():
    with pytest.raises(SystemExit, match="exit code 2"):
        runs.command("--sede", "1")


def test_the_peak_memory_is_the_commands_own():
    held = torch.ones(150_000_000)  # 600 MB of this process
    taken, peak = runs.command("--help")
    assert taken > 0
    assert 5_000_000 < peak < 4 * len(held) / 2


def test_dead_features_are_counted_with_and_without_redirected_relus():
    """A ReLU that is shut at faint noise, one that is open, and one that no image opens."""
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, 1.0, 0.0]).view(3, 1, 1, 1).expand(3, 3, 1, 1))
        network[0].bias.copy_(torch.tensor([-2.5, 0.0, -1.0]))
    assert dead(network, "1", "all", recipe(16, 12, 0)) == [0, 2]
    assert dead(network, "1", [0, 2], recipe(16, 12, 12)) == [2]
    assert dead(network, "1", [], recipe(16, 12, 12)) == []


def test_the_record_of_dead_features_has_a_row_for_each_layer(tmp_path, capsys):
    out = tmp_path / "dead.json"
    count_dead(["--layer", "Conv2d_1a_5x5", "--size", "24", "--steps", "2", "--out", str(out)])
    values = json.loads(out.read_text())
    assert values["command"].startswith("python -m benchmarks.dead --layer Conv2d_1a_5x5")
    (row,) = values["rows"]
    assert (row["layer"], row["features"]) == ("Conv2d_1a_5x5", 16)
    assert f"| Conv2d_1a_5x5 | 16 | {row['dead']} | {row['alive']} |" in capsys.readouterr().out


def test_families_are_tried_and_written_between_the_marks(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(families, "alone", lambda family: families.tried(family, "test_vit"))
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- families -->\nold\n<!-- end of families -->\nafter\n")
    assert families.main(["vision_transformer", "--write", str(page)]) == 0
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert lines[2].startswith("1 of 1 families make a step (timm ")
    row = "| vision_transformer | `test_vit` | 160 | 125 of 143 | `norm` | 64 of 10 x 10 + class | made |"
    assert row in lines


def test_the_smallest_member_has_the_fewest_parameters(monkeypatch):
    monkeypatch.setattr(families.timm, "list_models", lambda module: ["resnet34", "test_resnet", "resnet18", module])
    assert families.smallest("no such network") == "test_resnet"


TRIAL = package_trial.Trial(
    "timm", "timm", 'timm.create_model("test_resnet")', "layer2", 32, feed=lambda pixels: (pixels - 0.5) / 0.5
)


@pytest.mark.parametrize(
    ("trial", "what"),
    [
        (TRIAL, "made"),
        (TRIAL._replace(feed=package_trial.as_given), "a hook sees something else"),
        (TRIAL._replace(layer="layer5"), "refused: no layer 'layer5' in"),
        (TRIAL._replace(typed="timm.create_model()"), "refused: TypeError: "),
        (TRIAL._replace(typed="nn.Identity()"), "refused: NameError: "),
    ],
)
def test_a_packages_network_is_tried(trial, what):
    found = package_trial.tried(trial)
    package, typed, layer, size, layers, map_, step, start, recorded, by_hook, network = packages.row(trial, found)
    assert (package, typed) == (f"timm {families.timm.__version__}", f"`{trial.typed}`")
    assert step.startswith(what)
    if what == "made":
        assert (layer, size, layers, map_, network) == ("`layer2`", "32", "70 of 70", "48 of 4 x 4", "unchanged")
        assert recorded == by_hook != start


def test_a_network_that_comes_back_changed_is_said(monkeypatch):
    visualize = featlight.visualize

    def leaves_a_hook(network, *words, **options):
        network.layer1.register_forward_hook(lambda *_: None)
        network.bn1.running_mean += 1
        return visualize(network, *words, **options)

    monkeypatch.setattr(featlight, "visualize", leaves_a_hook)
    found = package_trial.tried(TRIAL)
    assert found.changed == "module layer1, tensor bn1.running_mean"
    assert packages.fault(found) == "the network came back changed"


def test_packages_are_written_between_the_marks_and_missing_ones_skipped(monkeypatch, tmp_path, capsys):
    here = TRIAL._replace(package="here")
    missing, slow, broken = (
        TRIAL._replace(package=name, module=f"no_{name}") for name in ("missing", "slow", "broken")
    )
    monkeypatch.setattr(packages, "TRIALS", (here, missing, slow, broken))
    monkeypatch.setattr(packages, "PACKAGES", ["here", "missing", "slow", "broken"])
    made = package_trial.Outcome("1.0", 3, 4, "8 of 2 x 2", 0.1, 0.5, 0.5)
    called = {}

    def run(command, env, timeout, **options):
        number, answer = command[-2:]
        called[number] = command[0], env["PYTHONPATH"].split(packages.os.pathsep)[0]
        if number == "2":
            raise packages.subprocess.TimeoutExpired(command, timeout)
        outcome = made if number == "0" else package_trial.tried(missing)
        package_trial.Path(answer).write_text(json.dumps(outcome))
        return packages.subprocess.CompletedProcess(command, int(number == "3"), "", "Traceback\nMemoryError: a | b\n")

    monkeypatch.setattr(packages.subprocess, "run", run)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- packages -->\nold\n<!-- end of packages -->\nafter\n")
    words = ["--path", f"here={tmp_path}", "--python", "missing=other/python", "--write", str(page)]
    assert packages.main(words) == 0
    assert called["0"] == (packages.sys.executable, str(tmp_path))
    assert called["1"][0] == "other/python"
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert lines[2].startswith("1 of 3 networks make a picture whose activation a hook confirms (torch ")
    _, there, late, failed, _, skipped, _, _ = lines[5:]
    typed = '`timm.create_model("test_resnet")` | `layer2` | 32'
    assert there == f"| here 1.0 | {typed} | 3 of 4 | 8 of 2 x 2 | made | 0.1 | 0.5 | 0.5 | unchanged |"
    assert late == f"| slow ? | {typed} |  |  | refused: not done after 120 s |  |  |  |  |"
    assert "refused: its process ended with code 1: MemoryError: a / b" in failed
    assert skipped == "Skipped: missing (ModuleNotFoundError: No module named 'no_missing')."
    assert "missing · timm.create_model" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["timmm"], ["--path", "monai"], ["--python", "no=python"]])
def test_packages_that_are_not_tried_are_refused(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        packages.main(words)
    assert "monai" in capsys.readouterr().err


def test_surgery_on_a_linear_stretch_is_the_attribution_against_the_mean():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    recipe = featlight.Recipe([featlight.Octave(size=24, steps=1, lr=(0.1, 0.1))])
    featlight.visualize(network, {"1": [0], "2": [1]}, recipe=recipe, out="run", progress=False)
    store = Store(Path("run"))
    plan = store.need_plan()
    loaded = circuits.load_network(store, plan, sources_of(store.root, plan, NOTHING_TYPED, given=True), CPU, network)
    image, _ = circuits.final_image(store, plan, plan.tiles[1])
    means = circuits.channel_means(loaded, "1", [torch.rand(3, 24, 24)])
    found = circuits.compare(loaded, plan.tiles[1], image, "1", means)
    assert found["against_mean"] == pytest.approx(1)
    assert found["strongest_by_both"] == 8
