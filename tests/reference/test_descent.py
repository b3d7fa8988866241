"""featlight beside a literal one-image loop: the whole descent in float64, each gradient in float32."""

import copy

import pytest
import torch

import featlight
from featlight.config.tile import feature_tile
from featlight.models.frozen import frozen_copy
from featlight.models.prepared import PreparedNetwork
from featlight.objectives.objective import Objective
from tests.conftest import awake
from tests.literal import layer_function, trajectory

CPU = torch.device("cpu")
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


def gradient_differences(network, layer, size, feature, dtype):
    """Along the literal float32 trajectory, each step's gradient as a run takes it, less the literal one, over its std.

    The network is a run's own: norms folded, channels last, its graph rewritten, in the run's precision.
    """
    engine = PreparedNetwork(frozen_copy(network, CPU, torch.float32), [size], dtype=dtype, device=CPU)
    chunk = [0, feature, 1]
    outputs = engine.optimized([layer], {layer: set(chunk)})
    maps = {layer: engine.surveys[size][layer].map_size}
    objective = Objective([feature_tile(layer, number) for number in chunk], "l1", 200.0, maps)
    for x, theirs in trajectory(layer_function(network, layer), feature, octaves(size, 1.0), torch.float32):
        if theirs is None:
            break
        batch = x.expand(3, -1, -1, -1).clone(memory_format=outputs.format).requires_grad_(True)
        objective(outputs(batch)).loss.sum().backward()
        yield (batch.grad[1] - theirs[0]) / theirs.std()


@pytest.mark.parametrize(("name", "layer", "size", "features"), CASES)
def test_float32_gradients_agree_along_the_literal_trajectory(network_of, name, layer, size, features):
    found = list(gradient_differences(network_of(name), layer, size, features[-1], torch.float32))
    largest = sorted(difference.abs().max().item() for difference in found)
    assert largest[len(largest) // 2] < 1e-4
    assert all(difference.square().mean().sqrt() < 0.05 for difference in found)


@pytest.mark.parametrize(("name", "layer", "size", "features"), CASES)
def test_bf16_gradients_agree_as_far_as_was_measured(network_of, name, layer, size, features):
    found = list(gradient_differences(network_of(name), layer, size, features[-1], torch.bfloat16))
    rms = sorted(difference.square().mean().sqrt().item() for difference in found)
    # measured: 0.002 to 0.20 in the median, 0.62 at the most, where a ReLU or a pool has chosen otherwise
    assert rms[len(rms) // 2] < 0.3
    assert rms[-1] < 1


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
