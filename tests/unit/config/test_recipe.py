import math
from dataclasses import replace

import pytest
import yaml

import featlight
from featlight.config.optimizer import Optimizer
from featlight.config.presets import ARTICLE, NATURAL, RECIPES
from featlight.config.recipe import Octave, Recipe, Regularizers, anneal
from featlight.config.transform_settings import Jitter
from featlight.config.validation import assign, check
from featlight.errors import UsageError


def test_article_has_the_articles_numbers():
    assert ARTICLE.gradient == "raw"
    assert [(o.size, o.steps, o.lr, o.sigma) for o in ARTICLE.octaves] == [
        (299, 100, (0.4, 0.3), (2.4, 0.8)),
        (340, 100, (0.3, 0.2), (1.5, 0.4)),
        (380, 100, (0.2, 0.1), (1.1, 0.3)),
    ]
    assert ARTICLE.total_steps == 300


def test_annealing_starts_at_the_first_value_and_stops_a_step_short_of_the_second():
    assert anneal((0.4, 0.3), 0, 100) == 0.4
    assert anneal((2.4, 0.8), 50, 100) == pytest.approx(1.6)
    assert anneal((0.4, 0.3), 99, 100) == pytest.approx(0.301)


def test_steps_open_each_octave_once():
    recipe = Recipe([Octave(8, 2, (1, 0), None), Octave(16, 3, (3, 0), (0.6, 0.3))])
    steps = list(recipe.steps())
    assert [step.opens_octave for step in steps] == [True, False, True, False, False]
    assert [step.size for step in steps] == [(8, 8), (8, 8), (16, 16), (16, 16), (16, 16)]
    assert [step.lr for step in steps] == pytest.approx([1, 0.5, 3, 2, 1])
    assert [step.sigma for step in steps][:2] == [None, None]
    assert [step.sigma for step in steps][2:] == pytest.approx([0.6, 0.5, 0.4])


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"size": 1}, "size"),
        ({"steps": 0}, "steps"),
        ({"lr": (0.1, -0.1)}, "lr"),
        ({"lr": (math.nan, 0.1)}, "lr"),
        ({"sigma": (0.0, 1.0)}, "sigma"),
        ({"sigma": (1.0, math.inf)}, "sigma"),
    ],
)
def test_a_value_out_of_range_is_named(values, word):
    with pytest.raises(ValueError, match=f"^{word}: "):
        Octave(**{"size": 8, "steps": 1, "lr": (1.0, 1.0), "sigma": None, **values})


def test_a_recipe_needs_octaves_and_a_known_gradient():
    with pytest.raises(ValueError, match="octaves"):
        Recipe([])
    with pytest.raises(ValueError, match="allowed: raw, rms"):
        Recipe([Octave(8, 1, (1, 1))], "mean")


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        ("naturel", "recipe: no recipe 'naturel'; nearest: 'natural'"),
        ({"base": "lucd"}, "recipe.base: no recipe 'lucd'; nearest: 'lucid'"),
        ({"base": "natural", "optimiser": "adam"}, "recipe: no key 'optimiser'; nearest: 'optimizer'"),
        ({"base": "natural", "optimizer": "adm"}, "recipe.optimizer: no optimizer 'adm'; nearest: 'adam'"),
        ({"base": "natural", "optimizer": {"exponnt": 1}}, "no constant 'exponnt' of spectral; nearest: 'exponent'"),
        (
            {"base": "natural", "parameterization": "fourier"},
            "it optimizes an image tensor: set",
        ),
        ({"base": "natural", "gradient": "rms"}, "gradient: rms given with optimizer spectral"),
        ({"base": "maco", "range": "unbounded"}, "range: unbounded given with parameterization maco"),
        ({"base": "natural", "transforms": [{"jiter": 8}]}, "no transform 'jiter'; nearest: 'jitter'"),
        (
            {"base": "natural", "transforms": [{"scale": [1.1, 0.9]}]},
            "scale: [1.1, 0.9] given; the smaller number",
        ),
        ({"base": "natural", "transforms": [{"scale": 1.1}]}, "the smallest and the largest factor are needed"),
        ({"base": "natural", "transforms": [{"rotate": [-8, "x"]}]}, "rotate: 'x' given; a number"),
        ({"base": "natural", "redirected_relu": -1}, "redirected_relu: -1 given; a number of steps"),
        ({"base": "natural", "regularizers": {"tv": "much"}}, "regularizers"),
        ({"base": "natural", "octaves": 3}, "octaves"),
        ({"base": "maco", "transforms": [{"crop": {"boxes": 0, "side": [1, 1]}}]}, "crop: boxes: 0 given; 1 to 256"),
        (
            {"base": "maco", "transforms": [{"crop": {"boxes": 1, "side": [1, 1]}}, {"resized_crop": [0.5, 1]}]},
            "more than one of crop and resized_crop given; an image is cropped once",
        ),
    ],
)
def test_a_slip_in_a_recipe_is_a_line(recipe, line):
    with pytest.raises(UsageError) as caught:
        check({"recipe": recipe})
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_by_name_reads_back_from_yaml(name):
    config = check({"recipe": name})
    assert config.recipe == RECIPES[name]
    assert check(yaml.safe_load(config.to_yaml())).recipe == RECIPES[name]
    assert check({"recipe": {"base": name}}).recipe == RECIPES[name]


def test_a_base_is_changed_in_parts():
    recipe = check({"recipe": {"base": "natural", "optimizer": {"exponent": 0.8}, "redirected_relu": 0}}).recipe
    assert dict(recipe.optimizer.constants) == {**dict(NATURAL.optimizer.constants), "exponent": 0.8}
    assert replace(recipe, optimizer=NATURAL.optimizer, redirected_relu=16) == NATURAL
    other = check({"recipe": {"base": "natural", "optimizer": {"name": "adam", "beta2": 0.99}}}).recipe
    assert other.optimizer == Optimizer("adam", beta2=0.99)  # another rule has other constants


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        (["recipe.optimizer.exponent=0.9"], {"optimizer": Optimizer("spectral", exponent=0.9)}),
        (["recipe=lucid", "recipe.octaves.0.steps=7"], {"octaves": (Octave(128, 7, (0.05, 0.05)),)}),
        (["recipe.octaves.1.sigma=null"], {"octaves": (NATURAL.octaves[0], replace(NATURAL.octaves[1], sigma=None))}),
        (["recipe.transforms=[{jitter: 3}]"], {"transforms": (Jitter(3),)}),
        (["recipe.regularizers.tv=0.5"], {"regularizers": Regularizers(tv=0.5)}),
    ],
)
def test_keys_inside_tables_are_set(assignments, expected):
    values = {}
    for assignment in assignments:
        assign(values, assignment)
    recipe = check(values).recipe
    assert {key: getattr(recipe, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("assignment", "line"),
    [
        ("recipe", "--set: 'recipe' given; KEY=VALUE is needed"),
        ("=3", "--set: '=3' given; KEY=VALUE is needed"),
        ("recpe.octaves=3", "--set recpe.octaves: no key 'recpe'; nearest: 'recipe'"),
        (
            "recipe.octaves.7.steps=3",
            "--set recipe.octaves.7.steps: '7' given; a number from 0 to 1 selects",
        ),
        ("recipe.octaves=[", "--set recipe.octaves: not YAML"),
    ],
)
def test_a_slip_in_an_assignment_is_a_line(assignment, line):
    with pytest.raises(UsageError) as caught:
        assign({}, assignment)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_recipe_is_written_with_what_the_package_gives():
    way = "{range: sigmoid, color: decorrelated, optimizer: {name: spectral, exponent: 0.8}, regularizers: {tv: 0.1}}"
    transforms = "[{pad: 4}, {jitter: 8}, {scale: [0.9, 1.1]}, {rotate: [-8, 8]}, "
    transforms += "{crop: {boxes: 2, side: [0.5, 0.2]}}, {noise: 0.1}]"
    octaves = [{"size": 64, "steps": 3, "lr": [0.1, 0.05], "sigma": None}]
    written = check({"recipe": {**yaml.safe_load(way), "transforms": yaml.safe_load(transforms), "octaves": octaves}})
    moves = [featlight.Pad(4), featlight.Jitter(8), featlight.Scale(0.9, 1.1), featlight.Rotate(-8, 8)]
    assert written.recipe == featlight.Recipe(
        [featlight.Octave(64, 3, (0.1, 0.05))],
        range="sigmoid",
        color="decorrelated",
        optimizer=featlight.Optimizer("spectral", exponent=0.8),
        transforms=[*moves, featlight.Crop(boxes=2, side=(0.5, 0.2)), featlight.Noise(0.1, 0.1)],
        regularizers=featlight.Regularizers(tv=0.1),
    )
    ours = {
        "article": featlight.ARTICLE,
        "natural": featlight.NATURAL,
        "photographic": featlight.PHOTOGRAPHIC,
        "lucid": featlight.LUCID,
        "maco": featlight.MACO,
    }
    assert {name: RECIPES[name] for name in ours} == ours
