"""Path similarity of vectors: against SciPy, and without a scale."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from featlight.analysis.path_similarity import path_similarity, rank_vectors


def test_ranks_give_spearman_correlations():
    values = torch.randint(0, 6, (5, 40), generator=torch.Generator().manual_seed(0)).double()  # many ties
    ours = rank_vectors(values)
    theirs = spearmanr(values.numpy(), axis=1).statistic
    np.testing.assert_allclose((ours @ ours.T).numpy(), theirs, atol=1e-12)


def test_an_example_is_at_one_and_a_random_image_at_zero():
    generator = torch.Generator().manual_seed(0)
    common, noise = torch.randn(500, generator=generator), torch.randn(90, 500, generator=generator)
    examples, others = rank_vectors(common + noise[:9]), rank_vectors(noise[9:69])
    like_examples = [path_similarity(each, examples, others) for each in rank_vectors(common + noise[69:79])]
    like_others = [path_similarity(each, examples, others) for each in rank_vectors(noise[79:89])]
    assert np.mean(like_examples) == pytest.approx(1, abs=0.1)
    assert np.mean(like_others) == pytest.approx(0, abs=0.1)
    assert path_similarity(rank_vectors(-common[None])[0], examples, others) < -1


def test_there_is_no_value_without_a_scale():
    noise = rank_vectors(torch.randn(8, 30, generator=torch.Generator().manual_seed(0)))
    constant = rank_vectors(torch.ones(1, 30))
    assert constant.isnan().all()
    assert path_similarity(noise[0], noise[1:2], noise[2:]) is None  # a single example
    assert path_similarity(noise[0], noise[1:4], noise[:0]) is None  # no other image
    assert path_similarity(constant[0], noise[1:4], noise[4:]) is None
    assert path_similarity(noise[0], torch.stack([noise[1], -noise[1]]), noise[1:2]) is None  # the examples are unlike
