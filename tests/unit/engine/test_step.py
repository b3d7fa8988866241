"""The pure step beside torch's own optimizer, and beside what Lightning runs, to the bit."""

import itertools

import pytest
import torch
from torch import nn
from torchvision.transforms.functional import gaussian_blur

import featlight
from featlight.config.named_starts import noise
from featlight.config.tile import feature_tile
from featlight.config.validation import check
from featlight.engine.setup import prepare
from featlight.engine.step import NEW, gradient_size, make_pipeline, step
from featlight.errors import UsageError
from featlight.models.extractor import LayerOutputs
from featlight.models.frozen import frozen_copy
from featlight.models.layers import survey
from featlight.objectives.objective import Objective
from featlight.param.image import own_seed
from featlight.param.registry import starting_parameters
from featlight.plan.request import RunRequest

CPU = torch.device("cpu")


def parts(network, features):
    frozen = frozen_copy(network, CPU, torch.float32)
    outputs = LayerOutputs(frozen, [survey(frozen, 32)["4"]])
    return outputs, Objective([feature_tile("4", feature) for feature in features], "l1", 200.0, {})


def images_of(count):
    return torch.stack([noise(32, seed) for seed in range(count)])


def painted(recipe, count=2):
    return make_pipeline(recipe, list(range(count)), CPU)


@pytest.mark.parametrize("sigma", [None, 0.8])
def test_a_step_is_sgd_and_then_a_blur(network_of, sigma):
    model, objective = parts(network_of("hand_made"), [0, 5])
    recipe = featlight.Recipe([featlight.Octave(32, 1, (0.1, 0.1), None if sigma is None else (sigma, sigma))])
    before, (settings,) = images_of(2), recipe.steps()
    kept = before.clone()
    ours, state, statistics = step(before, NEW, settings, model, objective, painted(recipe))
    theirs = nn.Parameter(before.clone())
    (200.0 - model(theirs)["4"][torch.arange(2), [0, 5]]).sum().backward()
    norm = theirs.grad.flatten(1).norm(dim=1)
    torch.optim.SGD([theirs], 0.1).step()
    expected = theirs.detach() if sigma is None else gaussian_blur(theirs.detach(), [3, 3], [sigma, sigma])
    assert torch.equal(ours, expected)
    assert torch.equal(before, kept)
    assert state == {}
    torch.testing.assert_close(statistics.gradient_norm, norm)
    torch.testing.assert_close(statistics.activation, model(before)["4"][torch.arange(2), [0, 5]].mean((1, 2)))


RECIPES = {
    "raw": {},
    "rms": {"gradient": "rms"},
    "natural": {
        "range": "sigmoid",
        "color": "decorrelated",
        "optimizer": "spectral",
        "transforms": ({"jitter": 2}, {"scale": [0.9, 1.1]}, {"rotate": [-8, 8]}, {"noise": 0.05}),
        "redirected_relu": 3,
    },
    "fourier": {"parameterization": "fourier", "range": "sigmoid", "color": "decorrelated", "optimizer": "adam"},
    "boxes": {"optimizer": "nadam", "transforms": ({"crop": {"boxes": 3, "side": [0.9, 0.5]}},), "range": "sigmoid"},
    "penalties": {"regularizers": featlight.config.recipe.Regularizers(tv=9.0, l1=1.0, l2=2.0)},
}


@pytest.mark.parametrize("name", RECIPES)
def test_steps_are_what_lightning_runs_to_the_bit(network_of, small_recipe, name):
    recipe = featlight.Recipe(small_recipe.octaves, **RECIPES[name])
    network, features = network_of("hand_made"), [0, 5]
    theirs = featlight.visualize(network, "4", features, recipe=recipe, batch_size=2, progress=False).images
    config = check({"model": "a:b", "layer": "4", "features": features, "recipe": recipe, "batch_size": 2})
    job = prepare(RunRequest(config.resolved(), network=network))
    chunk = job.plan.chunk(0, job.settings)
    model = job.network.optimized(chunk.layers, chunk.features)
    pipeline = make_pipeline(recipe, [own_seed(999, tile) for tile in chunk.tiles], CPU)
    views = [tile for tile in chunk.tiles for _ in range(pipeline.views.boxes)]
    objective = Objective(views, "l1", 200.0, job.first_maps[recipe.first_size])
    size = (recipe.first_size, recipe.first_size)
    parameters = starting_parameters(pipeline.parameterization, "noise", size, 999, chunk.tiles)
    for settings in recipe.steps():
        if settings.opens_octave:
            parameters, state = pipeline.parameterization.resized(parameters, size, settings.size), NEW
            size = settings.size
        if parameters.ndim == 4:
            parameters = parameters.contiguous(memory_format=model.format)
        parameters, state, _ = step(parameters, state, settings, model, objective, pipeline)
    assert torch.equal(pipeline.parameterization.image(parameters, size), theirs)


def test_the_size_of_a_gradient_is_exact_where_its_squares_underflow():
    gradient = torch.stack([torch.full((3, 4, 4), 1e-30), torch.zeros(3, 4, 4), torch.full((3, 4, 4), 3.0)])
    scale, norm = gradient_size(gradient)
    assert scale.flatten().tolist() == pytest.approx([1e-30, 1.0, 3.0])
    assert norm.tolist() == pytest.approx([1e-30 * 48**0.5, 0.0, 3 * 48**0.5])


WORDS = {
    "parameterization": ["pixel", "fourier", "maco"],
    "range": ["unbounded", "sigmoid"],
    "color": ["rgb", "decorrelated"],
    "optimizer": ["sgd", "adam", "nadam", "spectral"],
    "gradient": ["raw", "rms"],
    "sigma": [None, (0.8, 0.6)],
}
LOOKS = [
    {},
    {"transforms": [{"pad": 2}, {"jitter": 3}, {"resized_crop": [0.5, 1, 0.75, 2]}, {"rotate": [-9, 9]}]},
    {"transforms": [{"rotate": [-9, 9]}, {"noise": 0.1}]},
    {"transforms": [{"scale": [0.9, 1.1]}, {"crop": {"boxes": 2, "side": [0.8, 0.5]}}], "redirected_relu": 1},
    {"regularizers": {"tv": 0.1, "l1": 0.1, "l2": 0.1}},
]


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: ", ".join(look) or "plain")
def test_every_combination_works_or_says_why_not(network_of, look):
    model, _ = parts(network_of("hand_made"), [0, 5])
    refused = {}
    for values in itertools.product(*WORDS.values()):
        words = dict(zip(WORDS, values, strict=True))
        octaves = [{"size": size, "steps": 1, "lr": [0.1, 0.1], "sigma": words["sigma"]} for size in (24, 32)]
        parts_of_it = {key: word for key, word in words.items() if key != "sigma"}
        try:
            recipe = check({"recipe": {"octaves": octaves, **parts_of_it, **look}}).recipe
        except UsageError as error:
            refused[words["parameterization"], words["optimizer"]] = str(error)
            continue
        pipeline = painted(recipe)
        tiles = [feature_tile("4", feature) for feature in (0, 5) for _ in range(pipeline.views.boxes)]
        objective = Objective(tiles, "l1", 200.0, {"4": (32, 32)})
        parameters, size = starting_parameters(pipeline.parameterization, "noise", (24, 24), 1, tiles[:2]), (24, 24)
        for settings in recipe.steps():
            parameters = pipeline.parameterization.resized(parameters, size, settings.size)
            before, size = parameters, settings.size
            parameters, _, statistics = step(parameters, NEW, settings, model, objective, pipeline)
            assert parameters.isfinite().all(), words
            assert not torch.equal(parameters, before), words
            assert statistics.activation.isfinite().all(), words
        images = pipeline.parameterization.image(parameters, size)
        assert images.shape == (2, 3, 32, 32)
        if recipe.range == "sigmoid":
            assert 0 <= images.min() < images.max() <= 1, words
    spectral = {(each, "spectral") for each in WORDS["parameterization"]}
    assert refused.keys() == spectral | {("maco", each) for each in WORDS["optimizer"]}
    assert all(" given with " in line and "\n" not in line for line in refused.values()), refused
