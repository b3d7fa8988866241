"""Networks of every family that people bring: what is recorded is what a hook on the untouched network sees."""

import pytest
import torch
from torch import nn

import featlight
from featlight.config.tile import Term, Tile
from featlight.errors import UsageError, listed
from featlight.models.layer_info import left_out
from featlight.models.layers import survey_of
from featlight.models.probing.forward_pass import NEEDED
from tests.families import FAMILIES, last, patches
from tests.literal import trajectory


@pytest.fixture(scope="module")
def built():
    """Each network, built once."""
    networks: dict[str, nn.Module] = {}

    def build(name):
        if name not in networks:
            torch.manual_seed(1)
            networks[name] = FAMILIES[name].build().eval()
        return networks[name]

    return build


def seen(network: nn.Module, module: str, images: torch.Tensor):
    """What a module gives, by a hook of our own."""
    given = []
    handle = network.get_submodule(module).register_forward_hook(lambda *each: given.append(each[2]))
    with torch.no_grad():
        network(images)
    handle.remove()
    return given[-1]


def recipe(size: int) -> featlight.Recipe:
    return featlight.Recipe([featlight.Octave(size, 2, (0.1, 0.1), None)], "rms")


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_recorded_is_what_a_hook_sees(built, name):
    network, family = built(name), FAMILIES[name]
    feature, has_class = family.features - 2, family.prefix is not None and family.has_class
    terms = {"map": Term(family.layer, feature), "neuron": Term(family.layer, feature, 1.0, "neuron", (1, 2))}
    if has_class:
        terms["class"] = Term(family.layer, feature, tokens="class")
    tiles = [Tile(word, (term,)) for word, term in terms.items()]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    found = featlight.visualize(
        network, tiles=tiles, recipe=recipe(family.size), metric="l2", normalize="none", progress=False
    )
    given = family.part(seen(network, family.module, found.images))
    maps = family.read(given)[:, feature]  # (3, H, W)
    assert family.read(given).shape[1] == family.features
    expected = [maps[0].mean(), maps[1, 1, 2], *([given[2, 0, feature]] if has_class else [])]
    recorded = torch.tensor([record["activation_end"] for record in found.records])
    torch.testing.assert_close(recorded, torch.stack(expected), atol=1e-5, rtol=1e-4)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in before.items())
    assert all(record["status"] == "ok" for record in found.records)


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.prefix is not None])
def test_prefix_tokens_stand_apart(built, name):
    family = FAMILIES[name]
    layers = {layer.name: layer for layer in featlight.list_layers(built(name), family.size)}
    tokens = layers[family.layer].tokens
    assert (tokens.prefix, tokens.has_class) == (family.prefix, family.has_class)


@pytest.mark.parametrize(
    ("name", "read", "index"),
    [
        ("timm vit of any size", lambda x: patches(1, x.shape[1] // 5)(x), ((1, 3))),
        ("timm vit, neurons", patches(1), None),
        ("dinov2", patches(1), None),
        ("registers last", lambda x: patches(1)(x[:, :17]), (3, 3)),
        ("torchvision swin", last, None),
        ("timm convnext, channels last", last, (2, 1)),
    ],
)
def test_float64_images_equal_the_literal_loops(built, name, read, index):
    """Tokens and channels last; where the network takes every size, over two octaves."""
    family, network = FAMILIES[name], built(name).double()
    sizes = [family.size, *([96] if name == "timm vit of any size" else [])]
    table = [(size, 3, (0.1, 0.05), (0.8, 0.4)) for size in sizes]
    region = {"region": "map" if index is None else "neuron", "index": index}
    ours = featlight.visualize(
        network,
        family.layer,
        [3],
        recipe=featlight.Recipe([featlight.Octave(*row) for row in table], "rms"),
        precision="fp64",
        normalize="none",
        progress=False,
        **region,
    )

    def function(x):
        given = []
        handle = network.get_submodule(family.module).register_forward_hook(lambda *each: given.append(each[2]))
        network(x)
        handle.remove()
        return family.read(given[0]) if x.shape[-1] == family.size else patches(1, 6)(given[0])

    *_, (final, _) = trajectory(function, 3, table, rms=True, **region)
    network.float()
    assert (ours.images[0] - final[0]).abs().max() < 1e-6 * final.std()
    assert final.std() > 0.05, "the case does not move"


@pytest.mark.parametrize("name", ["u-net, a part", "transformers vit, a part"])
def test_a_part_of_what_a_module_gives_is_a_layer_by_its_name(built, name, tmp_path):
    family = FAMILIES[name]
    found = featlight.visualize(
        built(name),
        family.layer,
        [1],
        recipe=recipe(family.size),
        normalize="none",
        out=tmp_path / "run",
        progress=False,
    )
    given = family.part(seen(built(name), family.module, found.images))
    recorded = found.records[0]["activation_end"]
    assert recorded == pytest.approx(family.read(given)[0, 1].mean().item(), rel=1e-4, abs=1e-5)
    (tile,) = (tmp_path / "run" / "tiles").rglob("*.png")
    assert ":" not in str(tile.relative_to(tmp_path))


def test_tokens_that_are_not_there_are_refused_in_one_line(built):
    with pytest.raises(UsageError, match=r"tokens: class given; layer 'up' in UNet has none .32 x 32."):
        featlight.visualize(built("u-net"), "up", [0], tokens="class", recipe=recipe(32), progress=False)
    with pytest.raises(UsageError, match=r"tokens: class given; layer 'blocks.1.ls2' in \w+ has none .4 x 4 . 1."):
        featlight.visualize(
            built("timm vit, registers"), "blocks.1.ls2", [0], tokens="class", recipe=recipe(64), progress=False
        )
    with pytest.raises(UsageError, match=r"layer '0' in Sequential: it gives a dict, not a tensor; add .*: :masks"):
        featlight.visualize(built("u-net, a part"), "0", [0], recipe=recipe(32), progress=False)


class Queries(nn.Module):
    """Tokens that are no map: as many as ever, of any size of image; and patches behind two of unknown kind."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.first = nn.Parameter(torch.randn(1, 2, 8))
        self.mixed = nn.Linear(8, 12)
        self.queries = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)  # (N, T, 8)
        x = self.mixed(torch.cat([self.first.expand(len(x), -1, -1), tokens], 1))
        return self.queries(tokens.mean(1, keepdim=True) + torch.zeros(1, 25, 8) + x[:, :1, :8])


def test_tokens_that_are_no_map_are_refused_and_the_users_word_counts():
    layers = {layer.name: layer for layer in featlight.list_layers(Queries(), 32)}
    assert (layers["mixed"].shape, layers["mixed"].tokens.prefix) == ((12, 4, 4), 2)
    assert not layers["mixed"].tokens.has_class
    assert "queries" not in layers
    told = {layer.name: layer for layer in featlight.list_layers(Queries(), 32, prefix_tokens=2)}
    assert told["mixed"].tokens.has_class  # the user knows that there are such
    wrong = {layer.name for layer in featlight.list_layers(Queries(), 32, prefix_tokens=3)}
    assert "mixed" not in wrong
    with pytest.raises(UsageError, match=r"25 tokens of 8 features, and the number .* set it, as in prefix_tokens: 1"):
        featlight.visualize(Queries(), "queries", [0], recipe=recipe(32), progress=False)


class Reads(nn.Module):
    """Second comes what is not the batch; and tokens first, of two alone."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.pairs, self.few, self.last = nn.Identity(), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2)  # (N, 8, T)
        self.pairs(tokens[:1].reshape(-1, 2, 4))
        return self.last(self.few(tokens[..., :2].permute(2, 0, 1)))


def test_what_only_looks_as_if_tokens_came_first_is_refused():
    found = survey_of(Reads(), 32)
    assert [layer.name for layer in found.usable] == ["patches"]
    with pytest.raises(UsageError, match=r"'pairs' in net: it gives \(16, 2, 4\); .* \(T, N, C\) or \(N, C\) is"):
        found.need("pairs", "net")


def test_what_is_left_out_is_counted_with_the_first_reasons():
    assert left_out(survey_of(FAMILIES["u-net"].build(), 32).left_out) == []
    lines = left_out(survey_of(Queries(), 32).left_out)
    assert lines[0] == "1 layer is left out:"
    assert lines[1].startswith("  queries: it gives 25 tokens of 8 features, and the number")
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(*(nn.Unflatten(1, (2, 2)) for _ in range(3))))
    network[1].forward = lambda x: (network[1][0](x), network[1][1](x))[0]
    assert left_out(survey_of(network, 32).left_out) == [
        "4 layers are left out:",
        f"  1.0 (and 2 more for the like): it gives (N, 2, 2, 30, 30); {NEEDED} is needed",
        "  1.2: it is not called",
    ]


def test_a_pattern_says_what_it_leaves_out(caplog):
    featlight.visualize(Queries(), "all", [0], recipe=recipe(32), progress=False)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[:1] == ["layer: 1 layer is left out:"]
    assert lines[1].startswith("layer:   queries: it gives 25 tokens of 8 features")
    caplog.clear()
    featlight.visualize(Queries(), "mix*", [0], recipe=recipe(32), progress=False)
    assert not caplog.records


def test_long_lists_of_layers_are_cut():
    assert listed(map(str, range(9))) == "0, 1, 2, 3, 4, 5, 6, 7, ... (9 in all)"
    assert listed(["a", "b"]) == "a, b"
