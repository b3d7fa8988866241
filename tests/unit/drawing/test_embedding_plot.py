"""How large tiles on a plane are, that the picture stays within a side that every program opens."""

from itertools import pairwise

import numpy as np
import pytest

from featlight.analysis.similar_tiles import assign_to_grid
from featlight.drawing.embedding_plot import EmbeddingPlot, cluster_color, draw_embedding_plot, side_on_a_plane
from featlight.drawing.sheet import Cell, Heading


@pytest.mark.parametrize(("columns", "largest", "side"), [(4, 192, 192), (17, 192, 192), (40, 192, 97), (80, 192, 48)])
def test_tiles_are_as_large_as_there_is_room(columns, largest, side):
    assert side_on_a_plane(columns, largest) == side


def test_a_plane_of_65536_tiles_is_within_8192_px():
    points = np.stack([np.arange(65_536) % 256, np.arange(65_536) // 256], 1).astype(float)
    grid = assign_to_grid(points[:: 65_536 // 1024])._replace(columns=409, rows=273)  # a few tiles stand for all
    side = side_on_a_plane(409, 64)
    assert side >= 16
    picture = draw_embedding_plot(
        EmbeddingPlot([Cell("1", None)] * 1024, [1] * 1024, grid), Heading("", "", "", ""), side
    )
    assert max(picture.size) <= 8192


def test_colours_of_clusters_that_follow_each_other_are_far_apart():
    colors = [np.array(cluster_color(number)) for number in range(1, 41)]
    assert min(np.abs(one - other).max() for one, other in pairwise(colors)) > 60
    assert all(color.mean() < 130 for color in colors)  # white is read on them
