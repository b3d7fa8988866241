"""Attributions and expanded weights: against hooks on the untouched network, and against convolution by hand."""

import copy
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

import featlight
from featlight.config.tile import Term, Tile

RECIPE = featlight.Recipe([featlight.Octave(size=32, steps=2, lr=(0.1, 0.1))], range="unbounded")


def run_of(network: nn.Module, layers, out: str = "run", recipe=RECIPE, **given) -> dict[str, dict]:
    """Draw a few tiles, find their circuits, and return the lines by tile."""
    quiet = {"precision": "fp64", "batch_size": 4, "out": out, "progress": False}
    top = given.pop("top", 100)
    directions = given.get("directions")
    featlight.visualize(network, layers, recipe=recipe, **quiet, **given)
    featlight.find_circuits(out, network=network, directions=directions, top=top, progress=False)
    return {
        line["tile"]: line for line in map(json.loads, Path(out, "circuits/circuits.jsonl").read_text().splitlines())
    }


def image_of(tile: str, out: str = "run") -> Tensor:
    return load_file(Path(out, tile.replace("tiles/", "floats/", 1)).with_suffix(".safetensors"))["image"][
        None
    ].double()


def by_hooks(network: nn.Module, image: Tensor, layers, value, as_map=lambda z: z) -> dict[str, Tensor]:
    """Return the attributions of all features of some layers of the untouched network."""
    kept: dict[str, Tensor] = {}

    def keep(name):
        def hook(module, args, output):
            kept[name] = output.clone()
            kept[name].retain_grad()
            return kept[name].clone()

        return hook

    handles = [network.get_submodule(name).register_forward_hook(keep(name)) for name in layers]
    network(image.clone().requires_grad_(True))
    for handle in handles:
        handle.remove()
    value(kept).backward()
    pairs = {name: (kept[name].grad, kept[name].detach()) for name in layers}
    return {name: as_map(g * z) for name, (g, z) in pairs.items() if g is not None}


def check(parts: list[dict], theirs: Tensor, top: int = 100) -> None:
    """Compare the parts of one layer with all attributions (C,)."""
    ours = [part["attribution"] for part in parts]
    expected = [float(each) for each in theirs[theirs.abs().argsort(descending=True)][:top] if each != 0]
    assert ours == pytest.approx(expected, rel=1e-5, abs=1e-12)
    for part in parts:
        assert part["attribution"] == pytest.approx(float(theirs[part["feature"]]), rel=1e-5, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "layers"),
    [("hand_made", ["0", "1", "2", "5"]), ("resnet18", ["bn1", "layer1.1.bn2", "layer1", "layer2.0", "layer2"])],
)
def test_attributions_are_those_of_hooks_on_the_untouched_network(network_of, name, layers):
    network = network_of(name)
    lines = run_of(network, dict.fromkeys(layers, "0,3"), top=5)
    double = copy.deepcopy(network).double()
    for tile, line in lines.items():

        def value(kept, layer=line["layer"], feature=line["feature"]):
            return kept[layer][0, feature].mean()

        earlier = layers[: layers.index(line["layer"])]
        assert list(line["from"]) == earlier
        assert line["image"] == "float"
        theirs = by_hooks(
            double, image_of(tile), layers[: layers.index(line["layer"]) + 1], value, lambda z: z[0].sum((1, 2))
        )
        for layer in earlier:
            check(line["from"][layer], theirs[layer], 5)
    assert len(lines) == 2 * len(layers)


class Tokens(nn.Module):
    """A class token and 16 patch tokens, attention, and a map with channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 8, 8)
        self.cls_token = nn.Parameter(torch.randn(1, 1, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
        self.last = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), self.patch(x).flatten(2).mT], 1)
        return self.head(self.last(self.block(x))[:, 0])


def test_tokens_and_flat_layers():
    torch.manual_seed(0)
    network = Tokens().eval()
    lines = run_of(network, {"patch": "0", "block": "1", "last": "2", "head": "3"}, prefix_tokens=1)
    double = copy.deepcopy(network).double()

    def mapped(z: Tensor) -> Tensor:
        return z[0].sum((1, 2)) if z.ndim == 4 else z[0, 1:].sum(0) if z.ndim == 3 else z[0]

    values = {"block": lambda kept: kept["block"][0, 1:, 1].mean(), "head": lambda kept: kept["head"][0, 3]}
    for tile, line in lines.items():
        if line["layer"] not in values:
            continue
        names = ["patch", "block", "last", "head"]
        names = names[: names.index(line["layer"]) + 1]
        theirs = by_hooks(double, image_of(tile), names, values[line["layer"]], mapped)
        for layer, parts in line["from"].items():
            check(parts, theirs[layer])
            assert all(part["weight"] is None for part in parts) or (layer, line["layer"]) == ("last", "head")
    assert set(lines["tiles/head/00003.png"]["from"]) == {"patch", "block", "last"}


class ChannelsLast(nn.Module):
    """A layer norm over features that come last, and an activation that writes into its input."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, 4)
        self.norm = nn.LayerNorm(6)
        self.up = nn.Linear(6, 12)
        self.act = nn.ReLU(inplace=True)
        self.down = nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        return x + self.down(self.act(self.up(self.norm(x))))


def test_channels_last_and_writes_into_a_layers_output():
    torch.manual_seed(0)
    network = ChannelsLast().eval()
    lines = run_of(network, {"stem": "0", "norm": "0", "up": "0", "down": "2"})
    double = copy.deepcopy(network).double()
    line = lines["tiles/down/00002.png"]
    theirs = by_hooks(
        double, image_of(line["tile"]), ["stem", "norm", "up", "down"],
        lambda kept: kept["down"][0, ..., 2].mean(),
        lambda z: z[0].sum((1, 2)) if z.shape[1] == 6 and z.shape[-1] == 8 else z[0].sum((0, 1)),
    )  # fmt: skip
    assert set(line["from"]) == {"stem", "norm", "up"}
    for layer, parts in line["from"].items():
        check(parts, theirs[layer])
    assert {part["weight"] for part in line["from"]["stem"]} == {None}  # the layer norm is not linear
    weights = double.down.weight[2].detach()
    assert {p["feature"]: p["weight"] for p in line["from"]["up"]} == pytest.approx(
        {p["feature"]: float(weights[p["feature"]]) for p in line["from"]["up"]}, rel=1e-5
    )


def test_attributions_and_biases_sum_to_the_activation_where_the_network_is_piecewise_linear(network_of):
    network = network_of("hand_made")
    lines = run_of(network, {"2": "0", "5": "0-11"})
    double = copy.deepcopy(network).double()
    second, norm = double[3], double[4]
    for line in lines.values():
        if line["layer"] != "5" or line["activation"] == 0:
            continue
        with torch.no_grad():
            z = double[:3](image_of(line["tile"]))
            passes = (double[:5](image_of(line["tile"]))[0, line["feature"]] > 0).double().mean()
        f = line["feature"]
        scale = norm.weight[f] / (norm.running_var[f] + norm.eps).sqrt()
        bias = float(((second.bias[f] - norm.running_mean[f]) * scale + norm.bias[f]).detach() * passes)
        attributed = sum(part["attribution"] for part in line["from"]["2"])
        assert z.shape[1] == 8
        assert attributed + bias == pytest.approx(line["activation"], rel=1e-4)


def chain() -> nn.Sequential:
    """Strides, padding, groups and depthwise parts, each with an activation of another kind."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU6(),
        nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2),
        nn.SiLU(inplace=True),
        nn.Conv2d(8, 8, 5, padding=2, groups=8),
        nn.BatchNorm2d(8),
        nn.Hardswish(),
        nn.Conv2d(8, 6, 1),
    ).eval()


def test_expanded_weights_are_those_of_convolving_by_hand():
    network = chain()
    with torch.no_grad():
        network[5].running_var.uniform_(0.5, 2)
        network[5].weight.uniform_(-1, 1)
    (line,) = [line for line in run_of(network, {"1": "0", "7": "2"}).values() if line["layer"] == "7"]
    assert len(line["from"]["1"]) == 4
    for part in line["from"]["1"]:
        # a neuron of the map of 16 x 16 sees 2 * 2 + 3 = 11 neurons; each active neuron k is moved to its middle
        kernel = torch.zeros(11, 11, dtype=torch.float64)
        for row in range(11):
            for column in range(11):
                z = torch.zeros(1, 4, 32, 32, dtype=torch.float64)
                z[0, part["feature"], 2 * 8 - 5 + row, 2 * 8 - 5 + column] = 1
                for module in network[2:]:
                    if isinstance(module, nn.Conv2d):
                        z = F.conv2d(z, module.weight.double(), None, module.stride, module.padding, 1, module.groups)
                    elif isinstance(module, nn.BatchNorm2d):
                        z = z * (module.weight / (module.running_var + module.eps).sqrt()).double()[:, None, None]
                kernel[row, column] = z[0, 2, 8, 8].detach()
        assert part["weight"] == pytest.approx(float(kernel.sum()), rel=1e-5)
        assert part["block"] == 2
        padded = F.pad(kernel, (0, 1, 0, 1))
        blocks = padded.reshape(6, 2, 6, 2).sum((1, 3))
        torch.testing.assert_close(torch.tensor(part["kernel"]).double(), blocks, rtol=1e-2, atol=1e-4)


def test_a_residual_path_adds_to_the_kernel_and_a_gate_leaves_none():
    class Block(nn.Module):
        def __init__(self, gate: bool) -> None:
            super().__init__()
            self.inner, self.gate = nn.Conv2d(4, 4, 3, padding=1), gate
            self.squeeze = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.inner(x))
            return x + (y * self.squeeze(y.mean((2, 3), keepdim=True)).sigmoid() if self.gate else y)

    for gate in (False, True):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), Block(gate), nn.Conv2d(4, 5, 1)).eval()
        lines = run_of(network, {"0": "0", "1": "0", "2": "1"}, out=f"gate-{gate}")
        for part in lines["tiles/1/00000.png"]["from"]["0"]:
            expected = float(network[1].inner.weight[0, part["feature"]].sum().detach()) + (part["feature"] == 0)
            assert part["weight"] == (None if gate else pytest.approx(expected, rel=1e-5))
        parts = lines["tiles/2/00001.png"]["from"]
        assert all((part["weight"] is None) is gate for part in parts["0"])
        assert [part["weight"] for part in parts["1"]] == pytest.approx(
            [network[2].weight[1, part["feature"]].item() for part in parts["1"]], rel=1e-5
        )


class Branches(nn.Module):
    """Two branches, a module that is called twice, and layers of which one does not feed the other."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.left, self.right = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.shared = nn.Conv2d(4, 4, 1)
        self.end = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        left, right = F.relu(self.left(x)), F.relu(self.right(x))
        return self.end(torch.cat([self.shared(F.relu(self.shared(left))), right], 1))


def test_layers_beside_each_other_are_left_out_and_shared_modules_mean_their_last_call(capsys):
    torch.manual_seed(0)
    network = Branches().eval()
    lines = run_of(network, dict.fromkeys(("stem", "left", "right", "shared", "end"), "0"))
    assert set(lines["tiles/right/00000.png"]["from"]) == {"stem"}  # not left, which ran before
    assert set(lines["tiles/shared/00000.png"]["from"]) == {"stem", "left"}
    assert set(lines["tiles/end/00000.png"]["from"]) == {"stem", "left", "right", "shared"}
    double = copy.deepcopy(network).double()
    x = image_of("tiles/end/00000.png").requires_grad_(True)
    stem = double.stem(x)
    left, right = F.relu(double.left(F.relu(stem))), F.relu(double.right(F.relu(stem)))
    last = double.shared(F.relu(double.shared(left)))
    a = double.end(torch.cat([last, right], 1))[0, 0].mean()
    (gradient,) = torch.autograd.grad(a, last)
    check(lines["tiles/end/00000.png"]["from"]["shared"], (gradient * last)[0].sum((1, 2)).detach())


def test_directions_regions_and_named_tiles():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1)).eval()
    double = copy.deepcopy(network).double()
    vector = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0, 0.25])
    tiles = [
        Tile("stem", [Term("0", 1)]),
        Tile("along", [Term("2", direction=vector)]),
        Tile("neuron", [Term("2", 3, region="neuron", index=(5, 7))]),
        Tile("sum", [Term("2", 3), Term("2", 4)]),
    ]
    lines = run_of(network, None, tiles=tiles)
    values = {
        "along": lambda kept: (kept["2"][0] * vector.double()[:, None, None]).sum(0).mean(),
        "neuron": lambda kept: kept["2"][0, 3, 5, 7],
        "sum": lambda kept: kept["2"][0, 3:5].mean(),
    }
    for name, value in values.items():
        line = lines[f"tiles/named/{name}.png"]
        check(
            line["from"]["0"],
            by_hooks(double, image_of(line["tile"]), ["0", "2"], value, lambda z: z[0].sum((1, 2)))["0"],
        )
        assert all((part["weight"] is None) is (name == "sum") for part in line["from"]["0"])
    along = lines["tiles/named/along.png"]["from"]["0"]
    expected = {k: float((vector @ network[2].weight[:, k].sum((1, 2))).detach()) for k in range(4)}
    assert {part["feature"]: part["weight"] for part in along} == pytest.approx(expected, rel=1e-4)


def test_before_a_global_pooling_a_class_has_its_own_weights():
    torch.manual_seed(0)
    network = torchvision.models.squeezenet1_1().eval()
    recipe = featlight.Recipe([featlight.Octave(size=64, steps=1, lr=(0.1, 0.1))], range="unbounded")
    lines = run_of(network, {"features.12": "0", "classifier.1": "5"}, recipe=recipe)
    weight = network.classifier[1].weight[5, :, 0, 0].detach()
    parts = lines["tiles/classifier.1/00005.png"]["from"]["features.12"]
    assert [part["weight"] for part in parts] == pytest.approx(
        [float(weight[part["feature"]]) for part in parts], rel=1e-5
    )
