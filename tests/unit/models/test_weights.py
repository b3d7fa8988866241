"""Weight files as training leaves them: what fits without doubt is taken and said once, the rest is one line."""

import argparse
import logging

import lightning as L
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from featlight.config.paths import weights_file
from featlight.errors import WeightsError
from featlight.models.registry import load_model, source_of

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
    (lambda: {"state_dict": under("encoder.")}, 'do not fit Sequential: Missing key(s) in state_dict: "0.weight"'),
    (
        lambda: {"state_dict": weights(), "args": argparse.Namespace(lr=1)},
        "holds more than tensors (argparse.Namespace)",
    ),
    (lambda: plain(), "loading it could run code; where you trust it, save its tensors alone"),
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
