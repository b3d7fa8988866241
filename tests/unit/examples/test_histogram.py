"""How often which activation: against counting by hand."""

import torch

from featlight.examples import histogram
from tests import ROOT


def test_counts_are_those_of_counting_by_hand():
    values = torch.tensor([[0.0, 1.0, -1.0], [0.003, 1.18, -0.004], [torch.nan, 1e9, -1e9], [2**-8, 1.19, torch.inf]])
    counts = histogram.empty(3, torch.device("cpu"))
    histogram.count(counts, values[:2].double(), torch.arange(3))
    histogram.count(counts, values[2:, [1]].double(), torch.tensor([1]))
    histogram.count(counts, values[2:, [2, 0]].double(), torch.tensor([2, 0]))
    nothing, one = histogram.ONE_SIDE, histogram.ONE_SIDE + 1 + 8 * 4  # the bin about 0, and that from 1 on
    assert counts[0].nonzero()[:, 0].tolist() == [nothing, nothing + 1]
    assert counts[0, nothing] == 2
    assert counts[1].nonzero()[:, 0].tolist() == [one, one + 1, histogram.BINS - 1]
    assert counts[1, [one, one + 1]].tolist() == [2, 1]  # 1.18 lies below the fourth root of 2, 1.19 above it
    assert counts[2].nonzero()[:, 0].tolist() == [0, 2 * nothing - one + 1, nothing - 1]  # infinity counts nowhere


def test_the_viewer_has_the_same_bins():
    script = (ROOT / "featlight/report/viewer/static/plot.js").read_text()
    bins = [histogram.PER_OCTAVE, histogram.LOWEST, histogram.ONE_SIDE]
    assert f"const [PER_OCTAVE, LOWEST, ONE_SIDE] = {bins};" in script
