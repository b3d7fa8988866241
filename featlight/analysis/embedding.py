"""Which tiles of a layer are alike, for the eye: points on a plane, and clusters.

k-means stands here because scikit-learn would bring SciPy, which torchmetrics loads where it finds it: a second of
every worker's start.
"""

import warnings
from importlib.util import find_spec
from math import sqrt
from typing import Any, Literal, NamedTuple

import numpy as np

Method = Literal["umap", "pca"]
FEWEST = 4  # different rows, for a plane that says anything
NEIGHBOURS = 15  # of each point, that UMAP keeps near it; its own default
MOST_CLUSTERS = 40  # that are made where nobody says how many: more can hardly be told apart
STARTS, MANY = 10, 4096  # of k-means, the best of which is taken; rows beyond which one must do
ROUNDS = 100  # of k-means at most; few rows change after fewer
SEED = 0  # of what is drawn by chance in both


class Points(NamedTuple):
    """Rows on a plane.

    Args:
        places: of each row, (N, 2) float64, across and down.
        words: how they came there.
    """

    places: "np.ndarray[Any, Any]"
    words: str


def has_umap() -> bool:
    """Whether umap-learn is installed."""
    return find_spec("umap") is not None


def differ(rows: "np.ndarray[Any, Any]") -> bool:
    """Whether rows differ enough, at least four of them and in two features, that a plane can show how."""
    return rows.shape[1] > 1 and len(np.unique(rows, axis=0)) >= FEWEST


def on_a_plane(rows: "np.ndarray[Any, Any]", method: Method) -> Points:
    """Lay rows out so that near ones are alike.

    Args:
        rows: of length 1, (N, features), that differ.
        method: "pca", the two directions in which they differ most, which keeps what is far apart; or "umap", which
            keeps what is near.
    """
    if method == "umap":
        return _umap(rows)
    return _pca(rows)


def _pca(rows: "np.ndarray[Any, Any]") -> Points:
    centred = rows.astype(np.float64) - rows.mean(0, dtype=np.float64)
    by_feature = len(rows) >= rows.shape[1]
    square = centred.T @ centred if by_feature else centred @ centred.T  # the smaller one has the same eigenvalues
    values, vectors = np.linalg.eigh(square)  # ascending
    values, vectors = values[:-3:-1], vectors[:, :-3:-1]
    places = centred @ vectors if by_feature else vectors * np.sqrt(np.maximum(values, 0))
    strongest = places[np.abs(places).argmax(0), [0, 1]]
    places *= np.sign(strongest)  # which way round is up to nobody
    return Points(places, f"PCA, two components with {values.sum() / square.trace():.0%} of the variance")


def _umap(rows: "np.ndarray[Any, Any]") -> Points:
    neighbours = min(NEIGHBOURS, len(rows) - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TensorFlow, which is not there
        from umap import UMAP

        # one thread: with a seed, two runs are equal only so
        model = UMAP(n_neighbors=neighbours, metric="cosine", init="pca", random_state=SEED, n_jobs=1)
        places = model.fit_transform(rows).astype(np.float64)
    return Points(places, f"UMAP, {neighbours} neighbours")


def usual_clusters(count: int) -> int:
    """How many clusters so many rows are put into, by a rule of thumb: the root of half their number."""
    return min(MOST_CLUSTERS, max(2, round(sqrt(count / 2))))


def in_clusters(rows: "np.ndarray[Any, Any]", count: int) -> "np.ndarray[Any, Any]":
    """Put rows into clusters by k-means: of each, the number of its own, from 1, the largest cluster first; (N,) int64.

    Args:
        rows: of length 1, (N, features).
        count: of clusters; no more than rows differ come out.
    """
    generator = np.random.default_rng(SEED)
    starts = STARTS if len(rows) <= MANY else 1
    _, found = min((_k_means(rows, count, generator) for _ in range(starts)), key=lambda each: each[0])
    names, found = np.unique(found, return_inverse=True)  # some may have remained empty
    number = np.empty(len(names), np.int64)
    number[np.argsort(-np.bincount(found), kind="stable")] = np.arange(1, len(names) + 1)
    named: np.ndarray[Any, Any] = number[found]
    return named


def _k_means(
    rows: "np.ndarray[Any, Any]", count: int, generator: np.random.Generator
) -> "tuple[float, np.ndarray[Any, Any]]":
    """Lloyd's algorithm: the sum of squared distances to the means, and the place of each row's mean; (N,) int64."""
    means = _far_apart(rows, count, generator)
    found = np.full(len(rows), -1)
    for _ in range(ROUNDS):
        away = 1 + (means**2).sum(1) - 2 * rows @ means.T  # (N, means), of rows of length 1
        before, found = found, away.argmin(1)
        if (found == before).all():
            break
        order = np.argsort(found, kind="stable")
        there, first, sizes = np.unique(found[order], return_index=True, return_counts=True)
        means[there] = np.add.reduceat(rows[order], first) / sizes[:, None]
    return float(away.min(1).sum()), found


def _far_apart(rows: "np.ndarray[Any, Any]", count: int, generator: np.random.Generator) -> "np.ndarray[Any, Any]":
    """Different rows to begin with, each drawn by its squared distance to those before it: k-means++."""
    chosen = [int(generator.integers(len(rows)))]
    away = np.full(len(rows), np.inf)
    while len(chosen) < count:
        away = np.minimum(away, ((rows - rows[chosen[-1]]) ** 2).sum(1, dtype=np.float64))
        if not away.any():
            break  # all that differ are there
        chosen.append(int(generator.choice(len(rows), p=away / away.sum())))
    return rows[chosen].copy()
