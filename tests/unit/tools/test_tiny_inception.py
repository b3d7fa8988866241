"""The embedded network: what it is trained on, how it is trained, and the weights that are packaged."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from featlight.models.sources.embedded import CLASSES, WEIGHTS_FILE, TinyInception, load
from tools.tiny_inception.canvas import Plane, fold, inside, paint, parse_palette, random_palette
from tools.tiny_inception.learning import attack, correct, follow, gray_noise, wake_penalty
from tools.tiny_inception.patterns import TABLE, draw, draw_balanced
from tools.tiny_inception.train import Settings, batches, edge_kernels, initialise, main, rate_at, train

TRAIN_SEED = 2026


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    out = tmp_path_factory.mktemp("trained") / "weights.safetensors"
    words = ["--steps", "2", "--per-class", "2", "--held-out", "2", "--seed", str(TRAIN_SEED)]
    threads = torch.get_num_threads()
    main([*words, "--threads", "1", "--out", str(out)])  # as many as the tests that train again use
    torch.set_num_threads(threads)
    return out, json.loads(out.with_suffix(".json").read_text())


# what is drawn


def test_there_are_many_classes_each_with_its_own_name() -> None:
    assert len(CLASSES) == len(set(CLASSES)) >= 36
    assert tuple(TABLE) == CLASSES


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_has_a_colour_for_the_ground_and_for_each_layer(name: str) -> None:
    masks = TABLE[name].draw(Plane.flat(2, generator(0)).scaled(3))
    assert masks.shape[::2] == (2, 64)
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert {len(parse_palette(text)) for text in TABLE[name].palettes} == {masks.shape[1] + 1}


def test_pictures_lie_in_the_unit_range_and_use_most_of_it() -> None:
    images, _ = draw_balanced(2, generator(3))
    assert images.shape == (2 * len(CLASSES), 3, 64, 64)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < 0.02
    assert 0.98 < images.max() <= 1


def test_every_class_is_drawn_equally_often() -> None:
    _, labels = draw_balanced(3, generator(0))
    assert torch.bincount(labels).tolist() == [3] * len(CLASSES)


def test_the_same_seed_draws_the_same_bits_and_another_does_not() -> None:
    labels = torch.arange(0, len(CLASSES), 5)
    first, again, other = (draw(labels, generator(seed)) for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert (first - other).flatten(1).abs().amax(1).min() > 0.1


def test_drawing_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    draw_balanced(1, generator(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_two_pictures_of_a_class_differ() -> None:
    images, _ = draw_balanced(2, generator(5))
    first, second = images[::2], images[1::2]  # (classes, 3, H, W)
    assert ((first - second) ** 2).mean((1, 2, 3)).min() > 1e-3


def test_classes_draw_different_masks_on_the_same_plane() -> None:
    drawn = [TABLE[name].draw(Plane.flat(1, generator(1)).scaled(1.4))[0].amax(0) for name in CLASSES]
    flat = torch.stack(drawn).flatten(1)  # (classes, H * W)
    gaps = torch.cdist(flat, flat) + torch.eye(len(flat)) * 1e3
    assert gaps.min() > 1


def test_labels_may_come_in_any_order() -> None:
    labels = torch.tensor([CLASSES.index("noise"), CLASSES.index("gradient"), CLASSES.index("noise")])
    images = draw(labels, generator(2))
    roughness = images.diff(dim=-1).abs().mean((1, 2, 3))
    assert roughness[1] < roughness[0]
    assert roughness[1] < roughness[2]


def test_helpers_by_hand() -> None:
    assert fold(torch.tensor([0.25, 1.5, -0.9])).tolist() == pytest.approx([0.25, 0.5, 0.1])
    assert inside(torch.tensor([-1.0, 0.0, 1.0])).tolist() == [1, 0.5, 0]
    assert parse_palette("ff0000 003300").tolist() == [[1, 0, 0], [0, pytest.approx(0.2), 0]]
    ground, top = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([1.0, 0.5, 0.0])
    image = paint(torch.full((1, 1, 1, 1), 0.25), torch.stack([ground, top])[None])
    assert image.flatten().tolist() == pytest.approx([0.25, 0.5, 0.75])
    colours = random_palette(200, 4, generator(0))
    assert (colours[:, 1:] - colours[:, :-1]).abs().amax(-1).min() > 0.1


# how it is trained


class Slope(nn.Module):
    """Two scores: zero, and the sum of the pixels above middle gray."""

    def forward(self, x: Tensor) -> Tensor:
        total = (x - 0.5).sum((1, 2, 3))
        return torch.stack([torch.zeros_like(total), total], 1)


def test_an_attack_moves_each_picture_its_own_distance_towards_more_loss() -> None:
    images = torch.full((2, 3, 4, 4), 0.5)
    moved = attack(Slope(), images, torch.tensor([0, 1]), torch.tensor([0.5, 0.25])) - images
    assert moved.flatten(1).norm(dim=1).tolist() == pytest.approx([0.5, 0.25])
    assert moved[0].min() > 0 > moved[1].max()


def test_gray_noise_is_where_visualization_starts() -> None:
    noise = gray_noise(2, 32, generator(0))
    assert noise.shape == (2, 3, 32, 32)
    assert 0.5 <= noise.min() < 0.501
    assert 0.599 < noise.max() < 0.6


def test_the_wake_penalty_is_the_shortfall_before_the_relu() -> None:
    unit = nn.BatchNorm2d(2, eps=1e-12)
    with torch.no_grad():
        unit.bias.copy_(torch.tensor([-1.5, 0.0]))
    noise = torch.full((1, 2, 8, 8), 0.5)
    noise[..., 0, :] = 99  # the border does not count
    assert wake_penalty(unit, noise).item() == pytest.approx((0.2 + 1.0 + 0) / 2)
    assert unit.training
    assert not unit._forward_hooks


def test_the_average_follows_the_weights() -> None:
    average, network = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.constant_(average.weight, 1.0)
    nn.init.constant_(network.weight, 2.0)
    follow(average, network, 0.75)
    assert average.weight.item() == pytest.approx(1.25)


def test_training_starts_from_edges_without_a_mean() -> None:
    kernels = edge_kernels().flatten(1)  # (12, 75)
    assert kernels.mean(1).abs().max() < 1e-6
    gaps = torch.cdist(kernels, kernels) + torch.eye(12) * 9
    assert gaps.min() > 0.5
    network = TinyInception(len(CLASSES))
    initialise(network, generator(0))
    assert torch.equal(network.Conv2d_1a_5x5.conv.weight[:12].flatten(1), kernels)


def test_batches_are_balanced_and_none_is_lost() -> None:
    drawn = list(batches(Settings(steps=11, per_class=1), generator(0)))
    assert len(drawn) == 11
    assert all(torch.equal(labels, torch.arange(len(CLASSES))) for _, labels in drawn)


def test_the_learning_rate_rises_then_falls() -> None:
    rates = [rate_at(step, 100, 1.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[5] == 1
    assert rates[-1] < 1e-3


def test_training_writes_weights_that_load_and_figures_that_are_true(
    trained: tuple[Path, dict[str, object]],
) -> None:
    out, record = trained
    network = TinyInception(len(CLASSES))
    network.load_state_dict(load_file(out), strict=True)
    assert record["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert record["bytes"] == out.stat().st_size
    assert record["parameters"] == sum(p.numel() for p in network.parameters())
    assert record["torch"] == torch.__version__
    images, labels = draw_balanced(2, generator(int(str(record["held_out_seed"]))))
    right = correct(network.eval(), images, labels)
    assert record["held_out_pictures"] == len(labels)
    assert record["accuracy"] == pytest.approx(right.float().mean().item())
    per_class = record["accuracy_per_class"]
    assert isinstance(per_class, dict)
    assert list(per_class) == list(CLASSES)
    assert sum(per_class.values()) / len(CLASSES) == pytest.approx(record["accuracy"], abs=1e-3)


def test_the_same_seed_trains_the_same_weights(trained: tuple[Path, dict[str, object]]) -> None:
    out, _ = trained
    torch.manual_seed(1)  # the global seed has no part in it
    ours, _ = train(Settings(seed=TRAIN_SEED, steps=2, per_class=2), progress=False)
    theirs = load_file(out)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.state_dict().items())


def test_another_seed_trains_other_weights(trained: tuple[Path, dict[str, object]]) -> None:
    ours, _ = train(Settings(seed=TRAIN_SEED + 1, steps=1, per_class=2), progress=False)
    assert not torch.equal(ours.fc.weight, load_file(trained[0])["fc.weight"])


# what is packaged


def test_the_packaged_weights_are_small_and_known() -> None:
    record = json.loads(WEIGHTS_FILE.with_suffix(".json").read_text())
    network = load()
    assert not network.training
    assert sum(p.numel() for p in network.parameters()) == record["parameters"] < 1_000_000
    assert WEIGHTS_FILE.stat().st_size == record["bytes"] < 4_000_000
    assert hashlib.sha256(WEIGHTS_FILE.read_bytes()).hexdigest() == record["sha256"]
    assert record["accuracy"] >= 0.97
    assert list(record["accuracy_per_class"]) == list(CLASSES)


def test_loading_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    network = load()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.device.type == "cpu" and p.requires_grad for p in network.parameters())


def test_the_packaged_network_names_fresh_pictures() -> None:
    images, labels = draw_balanced(40, generator(20_000_003))
    assert correct(load(), images, labels).float().mean() >= 0.97


def test_any_size_from_32_pixels_on_gives_one_score_per_class() -> None:
    network = load()
    with torch.no_grad():
        assert [network(torch.rand(1, 3, s, s)).shape for s in (32, 45, 96)] == [(1, len(CLASSES))] * 3


def test_features_answer_gray_noise() -> None:
    network, noise = load(), gray_noise(1, 64, generator(999))
    shares: dict[str, float] = {}

    def keep(name: str) -> None:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            shares[name] = (output.amax((0, 2, 3)) > 0).float().mean().item()

        network.get_submodule(name).register_forward_hook(hook)

    layers = [name for name, _ in network.named_children() if name != "fc"]
    for name in layers:
        keep(name)
    with torch.no_grad():
        network(noise)
    assert min(shares.values()) >= 0.95, shares
