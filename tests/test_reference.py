"""featlight beside a literal one-image loop: the whole descent in float64, each gradient in float32."""

import copy

import pytest
import torch

import featlight
from featlight.network import LayerOutputs, frozen_copy, survey
from featlight.objective import Objective
from featlight.tile import feature_tile
from tests.conftest import awake
from tests.literal import layer_function, trajectory

# network, layer, first size, features: whole modules, single convolutions, and batch norms that something overwrites
CASES = [
    ("hand_made", "4", 32, [0, 5, 11]),  # an in-place ReLU follows
    ("hand_made", "5", 32, [2, 3]),
    ("resnet18", "bn1", 64, [0, 9]),  # an in-place ReLU follows
    ("resnet18", "layer1.1.bn2", 64, [3, 60]),  # `out += identity` follows
    ("resnet18", "layer2", 64, [1, 100]),
    ("resnet18", "layer3.0.conv1", 64, [7]),
    ("googlenet", "inception3a", 64, [0, 255, 100]),
    ("inception_v3", "Conv2d_2a_3x3.bn", 80, [4]),  # F.relu(inplace=True) follows
    ("inception_v3", "Mixed_5b", 80, [0, 255]),
]


def octaves(size, factor):
    """Two short octaves, their steps scaled so that every case moves."""
    return [(size, 4, (0.4 * factor, 0.3 * factor), (2.4, 0.8)), (size + 8, 3, (0.3 * factor, 0.2 * factor), None)]


def recipe_of(table, gradient="raw"):
    return featlight.Recipe([featlight.Octave(*row) for row in table], gradient)


@pytest.mark.parametrize(("name", "layer", "size", "features"), CASES)
def test_float64_images_equal_the_literal_loops(network_of, name, layer, size, features):
    network = copy.deepcopy(network_of(name)).double()
    theirs = layer_function(network, layer)
    table = octaves(size, 1.0)
    ours = featlight.visualize(
        network, layer, features, recipe=recipe_of(table), precision="fp64", batch_size=2, progress=False
    )
    assert ours.images.dtype == torch.float64
    for image, feature in zip(ours.images, features, strict=True):
        path = list(trajectory(theirs, feature, table))
        start, final = path[0][0][0], path[-1][0][0]
        assert (image - final).abs().max() < 1e-6 * final.std()
        same_size = torch.nn.functional.interpolate(start[None], final.shape[-2:], mode="bilinear")[0]
        assert (final - same_size).square().mean().sqrt() > 0.1 * final.std(), "the case does not move"


@pytest.mark.parametrize("feature", [0, 5])
def test_rms_descent_equals_the_literal_loops(network_of, feature):
    network = copy.deepcopy(network_of("hand_made")).double()
    table = octaves(32, 0.05)
    ours = featlight.visualize(
        network, "4", [feature], recipe=recipe_of(table, "rms"), precision="fp64", progress=False
    )
    *_, (final, _) = trajectory(layer_function(network, "4"), feature, table, rms=True)
    assert (ours.images[0] - final[0]).abs().max() < 1e-6 * final.std()


@pytest.mark.parametrize(("name", "layer", "size", "features"), CASES)
def test_float32_gradients_agree_along_the_literal_trajectory(network_of, name, layer, size, features):
    network = network_of(name)
    feature = features[-1]
    frozen = frozen_copy(network, torch.device("cpu"), torch.float32)
    found = survey(frozen, size)
    outputs = LayerOutputs(frozen, [found[layer]])
    neighbours = [feature_tile(layer, 0), feature_tile(layer, feature), feature_tile(layer, 1)]
    objective = Objective(neighbours, "l1", 200.0, {layer: found[layer].map_size})
    largest = []
    for x, theirs in trajectory(layer_function(network, layer), feature, octaves(size, 1.0), torch.float32):
        if theirs is None:
            break
        batch = x.expand(3, -1, -1, -1).clone().requires_grad_(True)
        objective(outputs(batch)).loss.sum().backward()
        difference = batch.grad[1] - theirs[0]
        largest.append((difference.abs().max() / theirs.std()).item())
        assert difference.square().mean().sqrt() < 0.05 * theirs.std()
    assert sorted(largest)[len(largest) // 2] < 1e-4


def test_normalized_images_go_through_what_the_weights_were_trained_with():
    network = awake(featlight.load("googlenet", "none"), 64).double()
    table = octaves(64, 1.0)
    options = {"recipe": recipe_of(table), "precision": "fp64", "progress": False}
    ours = featlight.visualize(network, "inception3a", [100], normalize="weights", **options)
    trained = copy.deepcopy(network)
    trained.transform_input = True  # what torchvision's weights imply
    extract = layer_function(trained, "inception3a")
    mean, std = (torch.tensor(v).double().view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    *_, (final, _) = trajectory(lambda x: extract((x - mean) / std), 100, table)
    assert (ours.images[0] - final[0]).abs().max() < 1e-6 * final.std()
    raw = featlight.visualize(network, "inception3a", [100], **options)
    assert (ours.images - raw.images).abs().max() > 0.01
    assert not network.transform_input
