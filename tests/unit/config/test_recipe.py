import math

import pytest

from featlight.config.presets import ARTICLE
from featlight.config.recipe import Octave, Recipe, anneal


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
    assert [step.size for step in steps] == [8, 8, 16, 16, 16]
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
