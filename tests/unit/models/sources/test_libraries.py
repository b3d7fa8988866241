"""Networks of timm and transformers, from files saved of their architectures where each library's cache keeps them."""

import json
import pickle
import sys
from pathlib import Path
from urllib.parse import urlparse

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model, ViTConfig, ViTForImageClassification

import featlight
from featlight.cli.main import main
from featlight.errors import UsageError, WeightsError
from featlight.models.catalog import source_of
from featlight.models.sources import download

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
REVISION = "a" * 40


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """The hub's cache and torch's, empty, and a network that cannot be reached."""

    def unreachable(url):
        raise OSError("unreachable")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(download, "_check_reachable", unreachable)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "hub"


def snapshot(cache: Path, repository: str) -> Path:
    """The folder in which the hub's client keeps a repository's files."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(REVISION)
    (folder / "snapshots" / REVISION).mkdir(parents=True)
    return folder / "snapshots" / REVISION


def equal(ours, theirs):
    theirs = theirs.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in ours.state_dict().items())


def test_a_network_of_timm_is_what_timm_builds(caches):
    theirs = timm.create_model("test_vit.r160_in1k").eval()
    save_file(theirs.state_dict(), snapshot(caches, "timm/test_vit.r160_in1k") / "model.safetensors")
    ours = featlight.load("timm/test_vit.r160_in1k")
    source, images = source_of(ours), torch.rand(1, 3, 160, 160)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))  # no normalization of ours in it
    assert (source.mean, source.std, source.size) == ((0.5,) * 3, (0.5,) * 3, (160, 160))
    assert (source.weights, source.classes()[1]) == ("timm r160_in1k", "goldfish, Carassius auratus")
    assert "state_dict" not in ours.pretrained_cfg
    assert not equal(featlight.load("timm/test_vit", "none"), theirs)


def test_timms_files_in_torchs_own_cache_are_taken_too(caches, tmp_path):
    theirs = timm.create_model("resnet18.a1_in1k")
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(theirs.state_dict(), folder / Path(urlparse(theirs.pretrained_cfg["url"]).path).name)
    assert equal(featlight.load("timm/resnet18"), theirs)


def test_names_that_timm_translates_are_translated_in_a_users_file_too(tmp_path):
    theirs = timm.create_model("convnext_atto", num_classes=1000)
    old = {"head.norm.": "norm.", "head.fc.": "head."}  # as its authors publish it
    state = theirs.state_dict()
    for new, name in old.items():
        state = {key.replace(new, name): value for key, value in state.items()}
    torch.save(state, tmp_path / "published.pth")
    torch.save({"state_dict": {f"model.{k}": v for k, v in theirs.state_dict().items()}}, tmp_path / "trained.ckpt")
    for name in ("published.pth", "trained.ckpt"):
        assert equal(featlight.load("timm/convnext_atto", str(tmp_path / name)), theirs)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_file_of_timms_that_does_not_fit_or_holds_code_is_refused(caches, name):
    path = snapshot(caches, "timm/test_vit.r160_in1k") / name
    if name.endswith("bin"):
        path.write_bytes(pickle.dumps({"head.weight": sys.exit}))
    else:
        save_file({"head.weight": torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match=r"weights .*(they do not fit|more than tensors|damaged)"):
        featlight.load("timm/test_vit")


@pytest.mark.parametrize("model", ["timm/test_vit", "hf/facebook/dinov2-small"])
@pytest.mark.parametrize("offline", [True, False])
def test_what_cannot_be_had_is_said_with_file_place_and_ways_out(caches, monkeypatch, capsys, model, offline):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    assert main(["--model", model, "--list-layers"]) == 3
    line = capsys.readouterr().err
    file, repository = {
        "timm/test_vit": ("model.safetensors or pytorch_model.bin", "timm/test_vit.r160_in1k"),
        "hf/facebook/dinov2-small": ("config.json", "facebook/dinov2-small"),
    }[model]
    place = caches / f"models--{repository.replace('/', '--')}"
    assert f"{file} is not in {place} and https://huggingface.co/{repository}/resolve/main/" in line
    assert ("HF_HUB_OFFLINE is set" if offline else "unreachable") in line
    assert f"`hf download {repository}`" in line
    assert "--weights FILE, --weights none" in line
    assert line.count("\n") == 1


def saved(kind: str, folder: Path):
    torch.manual_seed(0)
    vision = {**TINY, "intermediate_size": 32}
    if kind == "dinov2":
        network = Dinov2Model(Dinov2Config(**TINY))
    elif kind == "vit":
        network = ViTForImageClassification(ViTConfig(**vision, id2label={0: "cat", 1: "dog"}))
    else:
        text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}
        text |= {"bos_token_id": 0, "eos_token_id": 1, "intermediate_size": 32}
        network = CLIPModel(CLIPConfig(vision_config=vision, text_config=text))
    network.save_pretrained(folder)
    pixels = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    return network.eval()


@pytest.mark.parametrize("kind", ["dinov2", "vit", "clip"])
def test_networks_of_transformers_from_a_folder_and_from_the_hubs_cache(caches, tmp_path, kind):
    theirs = saved(kind, tmp_path / "own")
    theirs = theirs.vision_model if kind == "clip" else theirs
    folder = snapshot(caches, "owner/name")
    for path in (tmp_path / "own").iterdir():
        path.rename(folder / path.name)
    images = torch.rand(2, 3, 28, 28)
    for model in (f"hf/{folder}", "hf/owner/name"):
        ours = featlight.load(model)
        with torch.no_grad():
            assert torch.equal(ours(images)[0], theirs(images)[0])
        source = source_of(ours)
        assert (source.mean, source.std, source.size) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (28, 28))
        assert source.model == ("hf/owner/name" if model == "hf/owner/name" else f"hf/{REVISION}")
        assert (source.classes() if kind == "vit" else source.classes) == (["cat", "dog"] if kind == "vit" else None)
    assert featlight.load("hf/owner/name", "none").state_dict().keys() == ours.state_dict().keys()


def test_a_network_that_its_file_leaves_in_part_random_is_refused(tmp_path):
    saved("dinov2", tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(content | {"num_hidden_layers": 2}))
    with pytest.raises(WeightsError, match=r"do not fit Dinov2Model: nothing for .*layer\.1\."):
        featlight.load(f"hf/{tmp_path}")


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"model_type": "own", "auto_map": {"AutoModel": "own.Own"}}, "kind 'own' .a repository's code is not"),
        ({"architecture": "resnet50"}, "it is a network of timm; give --model timm/resnet50"),
        ({"model_type": "bert", "architectures": ["BertModel"]}, "of the kind 'bert' takes more than images"),
    ],
)
def test_what_is_no_vision_network_of_transformers_is_refused(tmp_path, config, line):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=line):
        featlight.load(f"hf/{tmp_path}")


def test_without_transformers_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert main(["--model", "hf/owner/name", "--list-layers"]) == 3
    assert "pip install 'featlight[hf]'" in capsys.readouterr().err


def test_timms_networks_bring_their_normalization_to_python():
    source = source_of(timm.create_model("test_vit"))
    assert (source.model, source.mean, source.std) == ("VisionTransformer", (0.5,) * 3, (0.5,) * 3)
    assert source_of(torch.nn.Identity()).mean is None


def test_models_are_listed(capsys):
    assert main(["--list-models", "resnet152"]) == 0
    found = capsys.readouterr().out.split()
    assert {"resnet152", "timm/resnet152.a1_in1k"} <= set(found)
    assert all("resnet152" in name for name in found)
    assert main(["--list-models", "timm/resnet_50"]) == 2
    assert "--list-models: no network 'timm/resnet_50'; nearest: 'timm/resnet50'" in capsys.readouterr().err


def test_weights_in_several_files_are_put_together(tmp_path):
    theirs = Dinov2Model(Dinov2Config(**TINY))
    theirs.save_pretrained(tmp_path / "dino", max_shard_size="4KB")
    index = tmp_path / "dino" / "model.safetensors.index.json"
    assert len(set(json.loads(index.read_text())["weight_map"].values())) > 1
    assert equal(featlight.load(f"hf/{tmp_path}/dino"), theirs)
    index.write_text(json.dumps({"weight_map": {"layernorm.weight": "../other.safetensors"}}))
    with pytest.raises(WeightsError, match="it names files of other folders"):
        featlight.load(f"hf/{tmp_path}/dino")


def test_a_repository_is_taken_as_it_was_at_a_revision(caches):
    repository, revisions = "owner/dino", {REVISION: 1, "b" * 40: 2}
    folder = snapshot(caches, repository).parent
    theirs = {}
    for revision, seed in revisions.items():
        torch.manual_seed(seed)
        theirs[revision] = Dinov2Model(Dinov2Config(**TINY))
        theirs[revision].save_pretrained(folder / revision)
    assert equal(featlight.load(f"hf/{repository}"), theirs[REVISION])
    assert equal(featlight.load(f"hf/{repository}@{'b' * 40}"), theirs["b" * 40])
