"""Weight files as training leaves them: what fits without doubt is taken and said once, the rest is one line."""

import argparse
import json
import logging
import shlex
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from featlight.cli.main import main
from featlight.config.user_text import weights_file
from featlight.errors import FeatlightError, WeightsError
from featlight.models.catalog import load_model, source_of
from featlight.models.weights import read as read_weights

HERE = "tests.unit.models.test_weights"


def plain():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


class Inner(nn.Module):
    """Its own names begin with what are prefixes elsewhere."""

    def __init__(self):
        super().__init__()
        self.model, self.net = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)


def weights(seed=3, build=plain):
    torch.manual_seed(seed)
    return {name: torch.rand(value.shape) if value.ndim else value for name, value in build().state_dict().items()}


def under(prefix, seed=3):
    return {prefix + name: value for name, value in weights(seed).items()}


class Trained(L.LightningModule):
    def __init__(self, width=4):
        super().__init__()
        self.save_hyperparameters()
        self.net = plain()
        self.net.load_state_dict(weights())
        self.weight = nn.Parameter(torch.ones(width))


class Whole(L.LightningModule):
    def __init__(self, options):
        super().__init__()
        self.save_hyperparameters()
        self.weight = nn.Parameter(torch.ones(options["width"]))


class AnyWords(L.LightningModule):
    def __init__(self, **words):
        super().__init__()
        self.save_hyperparameters()
        self.weight = nn.Parameter(torch.ones(words["width"]))


class Classifier(nn.Sequential):
    def forward(self, images):
        return self[2](self[1](self[0](images)).mean((2, 3)))


def classifier():
    return Classifier(*plain())


def checkpoint(module):
    """As Lightning writes it."""
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint("trained.ckpt")
    return


OPTIMIZER = {"state": {0: {"exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
# the file's name, what it holds, the network, and what is said; "" for nothing
LEFT = [
    ("a.pth", lambda: weights(), "plain", ""),
    ("a.ckpt", lambda: {"state_dict": weights(), "optimizer": OPTIMIZER}, "plain", "its entry 'state_dict'"),
    ("a.pth.tar", lambda: {"model_state_dict": weights(), "best": 0.7}, "plain", "its entry 'model_state_dict'"),
    ("a.bin", lambda: {"model": under("module.")}, "plain", "its entry 'model' without the prefix 'module.'"),
    ("a.pt", lambda: {"net": under("_orig_mod.module.")}, "plain", "without the prefix '_orig_mod.module.'"),
    ("weights", lambda: under("module._orig_mod."), "plain", "taken from it without the prefix 'module._orig_mod.'"),
    ("a.pkl", lambda: {"ema": {"module": weights()}, "steps": 7}, "plain", "its entry 'ema.module'"),
    ("a.v2", lambda: {"state_dict": under("model.net.") | {"loss.weight": torch.ones(2)}}, "plain",
     "without the prefix 'model.net.'; 1 other tensors in it are not used"),
    ("a.1", lambda: {**weights(), "epoch": 12}, "plain", ""),
    ("b.2", lambda: {"model": weights(), "ema": weights()}, "plain", "its entry 'model'"),
    ("a.3", lambda: weights(build=Inner), "Inner", ""),
    ("a.4", lambda: {"net": weights(build=Inner)}, "Inner", "its entry 'net'"),
    ("a.5:ema", lambda: {"model": weights(4), "ema": weights()}, "plain", ""),
    ("a.6", lambda: {"state_dict": under("module.encoder_q.")}, "plain", "without the prefix 'module.encoder_q.'"),
    ("a.7", lambda: under("base_model.model."), "plain", "without the prefix 'base_model.model.'"),
    ("a.8", lambda: {"student": under("module.backbone."), "epoch": 3}, "plain",
     "its entry 'student' without the prefix 'module.backbone.'"),
    ("a.9", lambda: under("_forward_module.encoder."), "plain", "without the prefix '_forward_module.encoder.'"),
    ("a.10:student", lambda: under("student.") | under("teacher.", 5), "plain", ""),
    ("a.11:state_dict.student", lambda: {"state_dict": under("student.") | under("teacher.", 5)}, "plain", ""),
    ("a.12:ema.module", lambda: {"ema": {"module": weights()}, "model": weights(4)}, "plain", ""),
    ("trained.ckpt", lambda: checkpoint(Trained()), "plain", "entry 'state_dict' without the prefix 'net.'; 1 other"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*treespec:FutureWarning")
@pytest.mark.parametrize(("name", "content", "build", "said"), LEFT)
def test_what_training_leaves_is_taken_and_said_once(name, content, build, said, caplog):
    held = content()
    file = name.partition(":")[0]
    if held is not None:
        torch.save(held, file)
    with caplog.at_level(logging.WARNING, "featlight"):
        network = load_model(f"{HERE}:{build}", name)
    expected = weights(build=globals()[build])
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())
    lines = [record.getMessage() for record in caplog.records if record.name == "featlight"]
    assert len(lines) == bool(said)
    assert all(said in line and line.startswith(f"weights {file}: taken from ") for line in lines)
    assert source_of(network).weights == name
    assert source_of(network).file.name == file


def test_a_safetensors_file_may_have_any_name():
    save_file(under("model."), "weights.bin")
    network = load_model(f"{HERE}:plain", "weights.bin")
    assert torch.equal(network[0].weight, weights()["0.weight"])


REFUSED = [
    (
        lambda: {"model": weights(1), "ema": weights(2)},
        "its entry 'model' and its entry 'ema' both fit, and differ",
    ),
    (lambda: under("model.", 1) | under("net.", 2), "it without the prefix 'model.' and it without the prefix 'net.'"),
    (lambda: {"epoch": 3, "best": 0.5}, "not a state dict (names and tensors); its entries are epoch, best"),
    (
        lambda: {"state_dict": {"encoder.1.weight": torch.ones(4)}},
        'do not fit Sequential: Missing key(s) in state_dict: "0.weight"',
    ),
    (
        lambda: {"state_dict": weights(), "args": argparse.Namespace(lr=1)},
        "holds more than tensors (argparse.Namespace)",
    ),
    (lambda: plain(), "loading it could run code; if you trust it, save only its tensors"),
    (lambda: torch.rand(3), "not a state dict (names and tensors)"),
]


@pytest.mark.parametrize(("content", "line"), REFUSED)
def test_what_is_in_doubt_or_none_is_one_line(content, line):
    torch.save(content(), "left.ckpt")
    with pytest.raises(WeightsError) as caught:
        load_model(f"{HERE}:plain", "left.ckpt")
    assert str(caught.value).startswith("weights left.ckpt: ")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_entry_that_is_not_there_is_told():
    torch.save({"model": weights(), "epoch": 1}, "left.ckpt")
    with pytest.raises(WeightsError, match="no entry 'emma'; it has model, epoch"):
        load_model(f"{HERE}:plain", "left.ckpt:emma")


HEADLESS = [
    lambda: {name: value for name, value in weights().items() if not name.startswith("2.")},
    lambda: {"student": {f"backbone.{name}": value for name, value in HEADLESS[0]().items()}},
    lambda: {**HEADLESS[0](), "2.weight": torch.rand(10, 4), "2.bias": torch.rand(10)},
    lambda: {**HEADLESS[0](), "2.0.weight": torch.rand(8, 4), "projector.weight": torch.rand(3, 3)},
]


@pytest.mark.parametrize("content", HEADLESS)
def test_a_head_may_be_missing_behind_the_layers_that_are_asked_for(content, caplog):
    torch.save(content(), "headless.pth")
    for layers in ([], ["2"], ["0", "2"], ["*"]):
        with pytest.raises(WeightsError, match="they do not fit"):
            load_model(f"{HERE}:plain", "headless.pth", layers=layers)
    network = load_model(f"{HERE}:plain", "headless.pth", layers=["0", "1"])
    assert torch.equal(network[0].weight, weights()["0.weight"])
    assert network[2].weight.isnan().all()
    assert "no weights for 2.weight, 2.bias, which come after 0, 1 and stay empty" in caplog.text


def test_a_file_that_lacks_more_than_a_head_is_refused():
    for lost in ("0.weight", "1.running_var"):
        torch.save({name: value for name, value in weights().items() if name != lost}, "holes.pth")
        with pytest.raises(WeightsError, match=f"Missing key.*{lost}"):
            load_model(f"{HERE}:plain", "holes.pth", layers=["1"])
    torch.save({**weights(), "1.more": torch.ones(1)}, "more.pth")
    with pytest.raises(WeightsError, match="Unexpected key"):
        load_model(f"{HERE}:plain", "more.pth", layers=["0"])


def test_a_run_needs_no_head(capsys):
    torch.save(HEADLESS[1](), "headless.pth")
    Path("small.yaml").write_text("recipe: {octaves: [{size: 16, steps: 2, lr: [0.1, 0.1], sigma: null}]}")
    words = ["--config", "small.yaml", "--model", f"{HERE}:classifier", "--weights", "headless.pth", "--out", "run"]
    assert main([*words, "--layer", "0", "--features", "0-1"]) == 0
    assert "2 tiles: 2 made" in capsys.readouterr().out
    assert main([*words, "--layer", "2", "--fresh"]) == 3
    assert "they do not fit Classifier" in capsys.readouterr().err


def test_two_that_fit_are_named_so_that_each_can_be_chosen():
    torch.save({"state_dict": under("student.", 1) | under("teacher.", 2)}, "two.ckpt")
    with pytest.raises(
        WeightsError, match=r"'student.' and its .* 'teacher.' both fit, .* two.ckpt:state_dict.teacher"
    ):
        load_model(f"{HERE}:plain", "two.ckpt")
    for seed, name in ((1, "student"), (2, "teacher"), (2, "state_dict.teacher")):
        network = load_model(f"{HERE}:plain", f"two.ckpt:{name}")
        assert torch.equal(network[0].weight, weights(seed)["0.weight"])


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*treespec:FutureWarning")
@pytest.mark.parametrize("kind", ["Trained", "Whole", "AnyWords"])
def test_a_checkpoint_says_with_what_its_module_is_built(kind):
    module = {
        "Trained": lambda: Trained(7),
        "Whole": lambda: Whole({"width": 7}),
        "AnyWords": lambda: AnyWords(width=7),
    }
    checkpoint(module[kind]())
    network = load_model(f"{HERE}:{kind}", "trained.ckpt")
    assert network.weight.shape == (7,)


@pytest.mark.parametrize("words", [{"evil": 1}, {"width": "seven"}, ["width"]])
def test_hyperparameters_that_do_not_fit_are_one_line(words):
    torch.save({"state_dict": weights(), "hyper_parameters": words}, "odd.ckpt")
    with pytest.raises(FeatlightError) as caught:
        load_model(f"{HERE}:Trained", "odd.ckpt")
    assert "\n" not in str(caught.value)


def test_no_line_ends_within_a_word():
    names = [f"part{number}.weight" for number in range(200)]
    torch.save({name: torch.ones(1) for name in names}, "many.pth")
    with pytest.raises(WeightsError) as caught:
        load_model(f"{HERE}:plain", "many.pth")
    *words, last = str(caught.value).split()
    assert last == "..."
    assert {word.strip('",') for word in words if "part" in word} <= set(names)


@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore:'torch.load' received a zip file")
def test_a_scripted_network_is_no_state_dict():
    torch.jit.script(nn.Sequential(nn.ReLU())).save("scripted.pt")
    with pytest.raises(WeightsError, match="a scripted network"):
        load_model(f"{HERE}:plain", "scripted.pt")


@pytest.mark.parametrize(
    ("words", "file"),
    [("DEFAULT", None), ("IMAGENET1K_V1", None), ("a.pth", "a.pth"), ("runs/last", "runs/last"), ("none", None)],
)
def test_a_name_has_neither_folders_nor_a_suffix(words, file):
    named = weights_file(words)
    assert (named and str(named[0])) == file


def test_an_index_of_sharded_weights_is_read_whole():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1))
    state = network.state_dict()
    files = {name: f"part-{name[0]}.safetensors" for name in state}
    for file in set(files.values()):
        save_file({name: state[name] for name in state if files[name] == file}, file)
    index = Path("model.safetensors.index.json")
    index.write_text(json.dumps({"metadata": {}, "weight_map": files}))
    found = read_weights(index)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], value) for name, value in state.items())
    for content, line in {
        '{"weight_map": {"a": "../part-0.safetensors"}}': "only files beside it are read",
        '{"weight_map": {"a": "gone.safetensors"}}': "no such file",
        "{}": "no index of sharded weights",
        "[": "no index of sharded weights",
    }.items():
        index.write_text(content)
        with pytest.raises(WeightsError, match=line):
            read_weights(index)


def test_averaged_weights_are_found_by_the_end_of_their_names(tmp_path):
    file = tmp_path / "w.pth"
    averaged = {f"{name}.ema": value for name, value in weights(4).items()}
    torch.save({"model": averaged}, file)
    assert holds(load_model(f"{HERE}:plain", str(file)), weights(4))
    torch.save(weights(3) | averaged, file)
    with pytest.raises(WeightsError, match=r"it and its entry 'ema' both fit, and differ; select one, as in w.pth:ema"):
        load_model(f"{HERE}:plain", str(file))
    assert holds(load_model(f"{HERE}:plain", f"{file}:ema"), weights(4))


def test_the_advice_for_arrays_of_numpy_works(tmp_path):
    file = tmp_path / "w.pth"
    torch.save({"state_dict": {name: value.numpy() for name, value in weights().items()}}, file)
    with pytest.raises(WeightsError, match=r"it holds more than tensors .*numpy.* python -c ") as refusal:
        load_model(f"{HERE}:plain", str(file))
    subprocess.run([sys.executable, *shlex.split(str(refusal.value).partition("python ")[2])], check=True)
    assert holds(load_model(f"{HERE}:plain", str(tmp_path / "w-tensors.pth")), weights())


def holds(network, state):
    return all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
