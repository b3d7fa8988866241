"""The regularizer `statistics` beside a literal loop with hooks on the untouched network."""

import pytest
import torch
import torchvision
from torch import nn

import featlight
from featlight.config.recipe import Regularizers
from featlight.errors import UsageError
from tests.conftest import awake
from tests.literal import descent

EARLY = 3.0


def literal_distance(network, x, ended, early=EARLY):
    """Return the distance of one image, and the output of the module `ended`, which ends the forward pass."""
    inputs, outputs, hooks = [], [], []
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(lambda m, args: inputs.append((m, args[0].clone()))))
        if name == ended:
            hooks.append(module.register_forward_hook(lambda _, __, z: outputs.append((len(inputs), z.clone()))))
    network(x)
    for hook in hooks:
        hook.remove()
    count, z = outputs[0]
    total = weights = 0.0
    for norm, given in inputs[:count]:
        s = (norm.running_var + norm.eps) ** 0.5
        terms = []
        for c in range(given.shape[1]):
            values = given[0, c].flatten()
            mean, deviation = values.mean(), values.std(correction=0)
            terms.append(((mean - norm.running_mean[c]) / s[c]) ** 2)
            terms[-1] = terms[-1] + ((deviation - norm.running_var[c] ** 0.5) / s[c]) ** 2
        weight = early if x.shape[2] / given.shape[2] < 6 else 1.0
        total, weights = total + weight * sum(terms) / len(terms), weights + weight
    return total / weights, z


def dense() -> nn.Module:
    """Return a network whose norms come before its convolutions, beside a branch that its layer does not use."""

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.norm = nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6)
            self.relu, self.conv = nn.ReLU(inplace=True), nn.Conv2d(6, 5, 3)
            self.unused = nn.Sequential(nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4))

        def forward(self, x):
            x = self.stem(x)
            self.unused(x)
            return self.conv(self.relu(self.norm(x)))

    torch.manual_seed(0)
    return Dense()


NETWORKS = {
    "hand_made": (None, "5"),
    "resnet18": (None, "layer2.0"),
    "dense": (dense, "conv"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_pictures_follow_the_literal_loop(network_of, name):
    build, layer = NETWORKS[name]
    network = network_of(name) if build is None else awake(build(), 32)
    network = network.double()
    weight, octaves = 3.0, [(32, 3, (0.05, 0.04), (0.8, 0.6)), (40, 2, (0.04, 0.02), None)]

    def loss(x):
        counted = network
        if name == "dense":
            counted = torch.nn.Module.__new__(type(network))
            counted.__dict__ = {**network.__dict__, "_modules": dict(network._modules)}
            counted._modules["unused"] = nn.Identity()
        distance, z = literal_distance(counted, x, layer)
        return (200.0 - z[0, 2]).sum() + weight * z[0, 2].numel() * distance

    expected = list(descent(loss, octaves))
    recipe = featlight.Recipe(
        [featlight.Octave(*octave) for octave in octaves],
        regularizers=Regularizers(statistics=weight, statistics_early=EARLY),
    )
    result = featlight.visualize(network, layer, [2, 1], recipe=recipe, precision="fp64", progress=False)
    theirs = expected[-1][0][0]
    assert (expected[0][0][0].std(), (theirs - expected[-2][0][0]).abs().max()) > (0, 0)
    assert (result.images[0] - theirs).abs().max() < 1e-6 * theirs.std()
    network.float()


def test_views_of_an_image_are_measured_together(network_of):
    recipe = featlight.Recipe(
        [featlight.Octave(32, 3, (0.05, 0.05))],
        transforms=({"crop": {"boxes": 3, "side": [0.9, 0.5]}},),
        regularizers=Regularizers(statistics=2.0),
    )
    network = network_of("hand_made")
    alone = featlight.visualize(network, "5", [3], recipe=recipe, batch_size=2, progress=False)
    beside = featlight.visualize(network, "5", [1, 3], recipe=recipe, batch_size=2, progress=False)
    assert torch.equal(alone.images[0], beside.images[1])


def test_a_network_without_norms_is_refused(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    recipe = featlight.Recipe([featlight.Octave(32, 1, (0.1, 0.1))], regularizers=Regularizers(statistics=1.0))
    with pytest.raises(UsageError, match=r"regularizers: statistics given, and .* has no batch norm .* before 2"):
        featlight.visualize(network, "2", [0], recipe=recipe, progress=False)
    with pytest.raises(UsageError, match=r"recipe: photographic given, and .* before 2; give natural, or give a later"):
        featlight.visualize(network, "2", [0], recipe="photographic", progress=False)


def test_pictures_are_nearer_to_the_statistics(network_of):
    network = network_of("hand_made")
    octaves = [featlight.Octave(32, 12, (0.02, 0.02))]
    distances = []
    for weight in (0.0, 5.0):
        recipe = featlight.Recipe(octaves, regularizers=Regularizers(statistics=weight), gradient="rms")
        image = featlight.visualize(network, "5", [2], recipe=recipe, progress=False).images
        distances.append(literal_distance(network, image, "5")[0].item())
    assert distances[1] < distances[0] / 2


@pytest.mark.full
def test_dead_and_switched_off_channels_cost_nothing():
    network = awake(torchvision.models.resnet18(), 64).double()
    network.bn1.running_var[3] = 0.0
    network.bn1.weight.data[4] = 0.0
    recipe = featlight.Recipe([featlight.Octave(64, 3, (0.05, 0.05))], regularizers=Regularizers(statistics=1.0))
    images = featlight.visualize(network, "layer1", [0], recipe=recipe, precision="fp64", progress=False).images
    assert images.isfinite().all()


def test_rounded_networks_keep_the_statistics_exact(network_of):
    """In bfloat16, the pictures approach the same statistics as in float32."""
    network = network_of("hand_made")
    distances = {}
    for precision, weight in (("fp32", 0.0), ("fp32", 5.0), ("bf16", 5.0)):
        recipe = featlight.Recipe(
            [featlight.Octave(32, 12, (0.02, 0.02))], regularizers=Regularizers(statistics=weight), gradient="rms"
        )
        images = featlight.visualize(network, "5", [2], recipe=recipe, precision=precision, progress=False).images
        distances[precision, weight] = literal_distance(network, images, "5")[0].item()
    assert distances["bf16", 5.0] < distances["fp32", 0.0] / 2
    assert distances["bf16", 5.0] == pytest.approx(distances["fp32", 5.0], rel=0.2)
