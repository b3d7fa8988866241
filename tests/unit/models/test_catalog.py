"""Networks by name, their weights through torchvision's own cache, and every way in which a weight file can be bad."""

import logging
import pickle
import time

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

import featlight
from featlight.errors import UsageError, WeightsError
from featlight.models.catalog import checksum, has_more_parameters, load_model, source_of


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """torchvision's cache, empty, and a network that cannot be reached."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))

    def unreachable(url, *args):
        raise OSError("unreachable")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    return tmp_path / "hub" / "hub" / "checkpoints"


def put(cache, model, state):
    cache.mkdir(parents=True, exist_ok=True)
    weights = torchvision.models.get_model_weights(model).DEFAULT
    path = cache / weights.url.rpartition("/")[2]
    torch.save(state, path)
    return weights, path


def random_state(model, **options):
    torch.manual_seed(5)
    return torchvision.models.get_model(model, weights=None, **options).state_dict()


@pytest.mark.parametrize("model", ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "googlenet"])
def test_real_names_load_through_torchvisions_cache(cache, model, caplog):
    options = {"init_weights": False, "aux_logits": True} if model == "googlenet" else {}
    state = random_state(model, **options)
    weights, path = put(cache, model, state)
    with caplog.at_level(logging.WARNING, "featlight"):
        network = load_model(model)
    assert not network.training
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in state.items())
    assert not getattr(network, "transform_input", False)
    source = source_of(network)
    assert (source.model, source.weights, source.file) == (model, weights.name, path)
    assert source.mean == tuple(weights.transforms().mean)
    assert "not torchvision's file" in caplog.text  # its hash is not the real file's, and that is said


def test_densenets_old_names_are_understood(cache):
    state = random_state("densenet121")
    old = {
        name.replace("norm1.", "norm.1.")
        .replace("norm2.", "norm.2.")
        .replace("conv1.", "conv.1.")
        .replace("conv2.", "conv.2.")
        if "denselayer" in name
        else name: value
        for name, value in state.items()
    }
    assert old.keys() != state.keys()
    put(cache, "densenet121", old)
    assert checksum(load_model("densenet121")) == checksum_of(state, "densenet121")


def checksum_of(state, model):
    network = torchvision.models.get_model(model, weights=None)
    network.load_state_dict(state)
    return checksum(network)


def test_missing_weights_name_the_file_the_place_and_the_ways_out(cache):
    started = time.perf_counter()
    with pytest.raises(WeightsError) as caught:
        load_model("inception_v3")
    message = str(caught.value)
    assert caught.value.exit_code == 3
    for part in ("inception_v3_google", str(cache), "unreachable", "--weights FILE", "tiny_inception"):
        assert part in message
    assert "\n" not in message
    assert not cache.parent.exists(), "nothing may be left behind"
    assert time.perf_counter() - started < 5


def test_random_weights_hang_on_the_seed_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one, same, other = (
        load_model("resnet18", "none", seed=3),
        load_model("resnet18", "none", seed=3),
        load_model("resnet18", "none"),
    )
    assert torch.equal(before, torch.random.get_rng_state())
    assert checksum(one) == checksum(same) != checksum(other)
    assert source_of(one).weights == "RANDOM WEIGHTS, seed 3"


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_from_a_file(tmp_path, suffix):
    state = random_state("squeezenet1_1")
    path = tmp_path / f"my.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save({"state_dict": state}, path)
    network = load_model("squeezenet1_1", str(path))
    assert checksum(network) == checksum_of(state, "squeezenet1_1")
    assert source_of(network).weights == path.name


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def bad_file(path, kind):
    torch.save(random_state("squeezenet1_1"), path)
    match kind:
        case "truncated":
            path.write_bytes(path.read_bytes()[:5000])
        case "page":
            path.write_text("<!DOCTYPE html><html>404</html>")
        case "code":
            path.write_bytes(pickle.dumps({"a": Evil()}))
        case "torch code":
            torch.save({"a": Evil()}, path)
        case "shape":
            torch.save({name: value[:1] for name, value in random_state("squeezenet1_1").items()}, path)
        case "names":
            torch.save({"other": torch.zeros(1)}, path)
        case "no state":
            torch.save([torch.zeros(1)], path)
        case "missing":
            path.unlink()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # of torch, at a file that is refused
@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("truncated", "damaged or not weights"),
        ("page", "a web page, not weights"),
        ("code", "could run code"),
        ("torch code", "could run code"),
        ("shape", "do not fit SqueezeNet: size mismatch"),
        ("names", "do not fit SqueezeNet: Missing key"),
        ("no state", "not a state dict"),
        ("missing", "no such file"),
    ],
)
def test_a_bad_weight_file_is_refused_in_one_line(tmp_path, capsys, kind, word):
    path = tmp_path / "bad.pth"
    bad_file(path, kind)
    with pytest.raises(WeightsError, match=word) as caught:
        load_model("squeezenet1_1", str(path))
    assert "\n" not in str(caught.value)
    assert "code ran" not in capsys.readouterr().out


def test_a_bad_safetensors_file_is_refused(tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"\x10\0\0\0\0\0\0\0nonsense")
    with pytest.raises(WeightsError, match=r"bad\.safetensors"):
        load_model("squeezenet1_1", str(path))


@pytest.mark.parametrize(
    ("model", "line"),
    [
        ("resnet_50", "--model: no network 'resnet_50' in torchvision.models; nearest: 'resnet50'"),
        ("resnet50d", "no network 'resnet50d' in torchvision.models; timm has it: timm/resnet50d"),
        ("timm/resnet5", "--model: no network 'timm/resnet5' in timm; nearest: 'timm/resnet50'"),
        ("timm/resnet50.a1_in1", "in timm; nearest: 'timm/resnet50.a1_in1k'"),
        ("hf/./nowhere", "--model hf/./nowhere: no such folder, and not a repository's name"),
        ("no.such:thing", "--model no.such:thing: No module named 'no'"),
        ("tests.conftest:nothing", "has no attribute 'nothing'"),
        ("tests.unit.models.test_catalog:give_text", "it gives a str, not an nn.Module"),
    ],
)
def test_an_unknown_network_is_refused_in_one_line(model, line):
    with pytest.raises(UsageError, match=line):
        load_model(model, "none")


@pytest.mark.parametrize("model", ["resnet18", "tiny_inception"])
def test_an_unknown_weights_name_is_refused(model):
    with pytest.raises(WeightsError, match="no weights 'IMAGENET' of"):
        load_model(model, "IMAGENET")


def give_text():
    return "text"


def give_network():
    return nn.Sequential(nn.Conv2d(3, 4, 3))


def test_a_users_own_network_by_path(tmp_path):
    state = give_network().state_dict()
    save_file(state, tmp_path / "own.safetensors")
    network = load_model("tests.unit.models.test_catalog:give_network", str(tmp_path / "own.safetensors"))
    assert torch.equal(network.state_dict()["0.weight"], state["0.weight"])
    assert source_of(load_model("tests.unit.models.test_catalog:give_network")).weights == "as built"


@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
def test_every_network_of_torchvision_has_its_weights_file(cache, name):
    """Its real weights are looked for in the cache under torchvision's own name."""
    with pytest.raises(WeightsError) as caught:
        load_model(name)
    assert torchvision.models.get_model_weights(name).DEFAULT.url.rpartition("/")[2] in str(caught.value)


def test_a_checksum_sees_names_and_values():
    one, two = give_network(), give_network()
    two.load_state_dict(one.state_dict())
    assert checksum(one) == checksum(two)
    with torch.no_grad():
        two[0].bias[0] += 1e-6
    assert checksum(one) != checksum(two)


def test_models_are_listed_by_pattern():
    assert set(featlight.list_models("resnet1*")) == {"resnet18", "resnet101", "resnet152"}
    assert featlight.list_models()[0] == "tiny_inception"
    assert featlight.list_models("vit_b*") == ["vit_b_16", "vit_b_32"]
    assert {"timm/test_vit", "timm/test_vit.r160_in1k"} <= set(featlight.list_models("timm/test_vit*"))


def test_the_names_of_old_are_the_same_functions():
    assert featlight.load is featlight.load_model
    assert featlight.open is featlight.open_run


@pytest.mark.parametrize(
    ("model", "count"),
    [
        ("resnet18", 11_689_512),
        ("tiny_inception", None),
        ("timm/resnet10t", None),
        ("inception_v3", None),
    ],
)
def test_parameters_are_counted_before_a_network_is_built(model, count):
    before = torch.get_rng_state()
    network = load_model(model, "none")
    count = count or sum(parameter.numel() for parameter in network.parameters())
    assert has_more_parameters(model, count - 1)
    assert not has_more_parameters(model, count)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_that_cannot_be_counted_is_not_refused():
    assert not has_more_parameters("regnet_y_400mf", 1)  # copies values while it is built
    assert not has_more_parameters("no_such_network", 1)


def test_layers_that_are_replaced_while_a_network_is_built_count():
    assert not has_more_parameters("efficientnet_lite0", 10_000_000)
    assert has_more_parameters("efficientnet_lite0", 4_652_008)  # its own count
