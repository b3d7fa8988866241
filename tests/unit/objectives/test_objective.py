"""Every metric and region against a loop over rows, one image at a time."""

import itertools

import pytest
import torch

from featlight.config.losses import METRICS
from featlight.config.tile import Term, Tile, feature_tile
from featlight.objectives.objective import Objective
from tests.literal import chosen, loss_of

FIRST = (5, 4)  # the first octave's map
NOW = (7, 6)  # the map in hand
REGIONS = [("map", None), ("row", 3), ("neuron", (4, 1)), ("prefix", 0), ("prefix", 9), ("prefix", 19)]


def theirs_of(output, term, metric, target):
    features = range(output.shape[0]) if term.feature is None else [term.feature]
    rows = [row for f in features for row in chosen(output[f], term.region, term.index, FIRST)]
    return term.weight * loss_of(rows, metric, target), torch.cat(rows)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("feature", [2, None])
def test_a_batch_of_regions_equals_the_loop(metric, feature):
    torch.manual_seed(0)
    output = (torch.randn(len(REGIONS), 3, *NOW, dtype=torch.float64) * 100).requires_grad_(True)
    tiles = [Tile(f"t{i}", (Term("a", feature, 1.0, r, index),)) for i, (r, index) in enumerate(REGIONS)]
    ours = Objective(tiles, metric, 200.0, {"a": FIRST})({"a": output})
    (our_gradient,) = torch.autograd.grad(ours.loss.sum(), output)
    for i, tile in enumerate(tiles):
        loss, z = theirs_of(output[i], tile.terms[0], metric, 200.0)
        assert ours.loss[i].item() == pytest.approx(loss.item(), rel=1e-12)
        assert ours.activation[i].item() == pytest.approx(z.mean().item(), rel=1e-12)
        (gradient,) = torch.autograd.grad(loss, output)
        assert torch.allclose(our_gradient[i], gradient[i], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_a_sum_of_terms_has_the_sum_of_gradients(metric):
    torch.manual_seed(1)
    outputs = {name: torch.randn(1, 3, *NOW, dtype=torch.float64).requires_grad_(True) for name in "ab"}
    terms = (Term("a", 1, 2.0, "row", 2), Term("b", 0, 0.5))
    joint = Objective([Tile("both", terms)], metric, 200.0, dict.fromkeys("ab", FIRST))(outputs)
    alone = [Objective([Tile("one", (t,))], metric, 200.0, dict.fromkeys("ab", FIRST))(outputs) for t in terms]
    assert joint.loss.item() == pytest.approx(sum(score.loss.item() for score in alone))
    for name, score in zip("ab", alone, strict=True):
        (ours,) = torch.autograd.grad(joint.loss.sum(), outputs[name], retain_graph=True)
        (theirs,) = torch.autograd.grad(score.loss.sum(), outputs[name])
        assert torch.allclose(ours, theirs)


def test_a_prefix_of_all_neurons_is_the_map():
    output = torch.randn(2, 3, *NOW)
    tiles = [feature_tile("a", 1), feature_tile("a", 1, "prefix", FIRST[0] * FIRST[1] - 1)]
    scores = Objective(tiles, "l1", 200.0, {"a": FIRST})({"a": output[:1].expand(2, -1, -1, -1)})
    assert torch.allclose(scores.loss[0], scores.loss[1])


def test_the_first_octaves_positions_are_kept_where_the_map_is_the_same():
    output = torch.arange(20.0).view(1, 1, *FIRST)
    for m, n in itertools.product(range(FIRST[0]), range(FIRST[1])):
        scores = Objective([feature_tile("a", 0, "neuron", (m, n))], "l1", 0.0, {"a": FIRST})({"a": output})
        assert scores.activation.item() == output[0, 0, m, n]


def test_ties_share_the_gradient():
    output = torch.zeros(1, 1, 2, 2, requires_grad=True)
    Objective([feature_tile("a", 0)], "linf", 200.0, {"a": (2, 2)})({"a": output}).loss.sum().backward()
    assert torch.equal(output.grad, torch.full((1, 1, 2, 2), -0.25))


def test_l2_at_the_target_has_no_gradient_rather_than_nan():
    output = torch.full((1, 1, 2, 2), 200.0, requires_grad=True)
    Objective([feature_tile("a", 0)], "l2", 200.0, {"a": (2, 2)})({"a": output}).loss.sum().backward()
    assert torch.equal(output.grad, torch.zeros(1, 1, 2, 2))
