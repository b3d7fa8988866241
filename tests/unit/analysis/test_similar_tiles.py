"""Rows on a plane and in clusters, against numpy's own decomposition and clusters that were planted."""

import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.cluster import KMeans

from featlight.analysis.similar_tiles import assign_to_grid, can_project, cluster, default_clusters, project


def planted(sizes: "list[int]", width: int = 8, spread: float = 0.08) -> np.ndarray:
    """Unit rows around as many axes as there are sizes."""
    generator = np.random.default_rng(3)
    rows = np.concatenate([np.eye(width)[i] + spread * generator.normal(size=(n, width)) for i, n in enumerate(sizes)])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("width", [8, 40])  # fewer features than rows, and more
def test_pca_is_the_singular_vectors(width):
    rows = planted([5, 9, 4], width)
    centred = rows.astype(np.float64) - rows.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    expected = left[:, :2] * sizes[:2]
    places, words = project(rows, "pca")
    signs = np.sign((places * expected).sum(0))
    assert places == pytest.approx(expected * signs, abs=1e-5)
    assert words == f"PCA, two components with {(sizes[:2] ** 2).sum() / (sizes**2).sum():.0%} of the variance"
    assert (project(rows, "pca").places == places).all()


@pytest.mark.parametrize("width", [2, 30])
def test_rows_on_a_line_stay_on_it(width):
    rows = np.linspace(0, 1, 12)[:, None] * np.ones(width) / width**0.5  # as rows that are not of length 1 would be
    places = project(rows.astype(np.float32), "pca").places
    assert places[:, 1] == pytest.approx(np.zeros(12), abs=1e-5)
    assert np.abs(np.diff(places[:, 0])) == pytest.approx(np.full(11, 1 / 11), abs=1e-5)


def test_clusters_are_found_and_the_largest_is_the_first():
    found = cluster(planted([5, 9, 4]), 3)
    assert found.tolist() == [2] * 5 + [1] * 9 + [3] * 4


@pytest.mark.parametrize(("tiles", "width", "count"), [(60, 5, 4), (30, 50, 6), (200, 16, 9)])
def test_k_means_is_as_good_as_scikit_learns(tiles, width, count):
    rows = np.random.default_rng(tiles).normal(size=(tiles, width)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = cluster(rows, count)

    def spread(numbers):
        own = [rows[numbers == number] for number in np.unique(numbers)]
        return sum(((each - each.mean(0)) ** 2).sum() for each in own)

    theirs = KMeans(count, n_init=10, random_state=0).fit_predict(rows)
    assert len(np.unique(found)) == count
    assert spread(found) <= 1.02 * spread(theirs)
    sizes = np.bincount(found)[1:]
    assert (np.diff(sizes) <= 0).all()


def test_there_are_no_more_clusters_than_different_rows():
    rows = planted([1, 1])[[0, 1, 0, 1, 1]]
    assert cluster(rows, 4).tolist() == [2, 1, 2, 1, 1]


@pytest.mark.parametrize(("tiles", "clusters"), [(4, 2), (112, 7), (1280, 25), (65_536, 40)])
def test_how_many_clusters_there_are_follows_the_tiles(tiles, clusters):
    assert default_clusters(tiles) == clusters


def test_rows_must_differ():
    assert can_project(planted([4]))
    assert not can_project(planted([3]))
    assert not can_project(planted([3])[[0, 1, 2, 2, 1]])
    assert not can_project(np.float32([[1], [-1], [1], [-1], [1]]))


def literal_grid(points: np.ndarray) -> "list[int]":
    """Each point to the nearest free place, all places looked at."""
    grid = assign_to_grid(points)
    low, high = points.min(0), points.max(0)
    wanted = (points - low) / (high - low) * [grid.columns - 1, grid.rows - 1]
    middle = np.median(wanted, 0)
    order = sorted(range(len(points)), key=lambda i: ((wanted[i] - middle) ** 2).sum())
    taken: dict[int, int] = {}
    for i in order:
        free = [place for place in range(grid.columns * grid.rows) if place not in taken]

        def away(place, i=i):
            row, column = divmod(place, grid.columns)
            return (column - wanted[i][0]) ** 2 + (row - wanted[i][1]) ** 2

        taken[min(free, key=away)] = i
    return [place for place, _ in sorted(taken.items(), key=lambda item: item[1])]


@pytest.mark.parametrize("spread", [1.0, 0.02])
def test_every_point_has_the_nearest_free_place(spread):
    generator = np.random.default_rng(0)
    points = np.concatenate([generator.normal(size=(40, 2)) * spread, [[-3, -3], [3, 3], [3, -2]]])
    grid = assign_to_grid(points)
    assert len(set(grid.places.tolist())) == len(points)
    assert grid.places.tolist() == literal_grid(points)


def test_points_on_a_line_have_a_place_each():
    grid = assign_to_grid(np.stack([np.arange(9.0), np.zeros(9)], 1))
    assert len(set(grid.places.tolist())) == 9
    assert grid.places.max() < grid.columns * grid.rows


UMAP = """
import numpy as np
from featlight.analysis.similar_tiles import project
rows = np.load("rows.npy")
first, again = project(rows, "umap"), project(rows, "umap")
assert (first.places == again.places).all()
np.save("places.npy", first.places)
print(first.description)
"""


@pytest.mark.full
def test_umap_keeps_near_what_is_near(tmp_path):
    rows = planted([8, 8, 8])
    np.save(tmp_path / "rows.npy", rows)
    # interpreted: to compile it takes a minute
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", UMAP],
        cwd=tmp_path,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "UMAP, 15 neighbors\n"
    places = np.load(tmp_path / "places.npy")
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + np.diag([np.inf] * len(rows))
    assert (apart.argmin(1) // 8 == np.arange(24) // 8).all()
