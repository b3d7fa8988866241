"""Similarity map of a layer's tiles: a two-dimensional embedding with clusters, as a table, a picture and a view."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from featlight.analysis.similar_tiles import (
    FEWEST,
    Method,
    assign_to_grid,
    can_project,
    cluster,
    default_clusters,
    has_umap,
    project,
    unit_rows,
)
from featlight.config.user_text import expanded
from featlight.errors import UsageError, memory_errors, unknown
from featlight.report.build import drawn_files, render, write_similarity
from featlight.report.sections import Atlas, atlases
from featlight.store.similarity import SimilarityTable
from featlight.store.snapshot import Snapshot
from featlight.store.store import Store

METHODS = ("auto", *get_args(Method))


@memory_errors()
def find_alike(
    out: str | Path,
    *,
    layers: Sequence[str] = (),
    method: Literal["auto"] | Method = "auto",
    clusters: int | None = None,
) -> dict[str, SimilarityTable]:
    """Embed the tiles of each layer in two dimensions, and cluster them.

    A tile's vector is the mean activations of all features of the layer, scaled to length 1. k-means clusters the
    vectors, not the embedding. Both use a fixed seed. The picture and the viewer place each tile on a grid, near its
    point.

    Args:
        out: run directory.
        layers: names of layers, or of atlases (`variant/layer`); by default all with at least four tiles whose vectors
            differ.
        method: "umap" preserves neighborhoods (`pip install 'featlight[umap]'`), "pca" projects onto the two
            directions of the largest variance; "auto" is UMAP if it is installed, else PCA.
        clusters: number of clusters; None for the square root of half the number of tiles, from 2 to 40.

    Returns:
        Similarity tables by the name of the atlas. They are also in `alike/<name>.json` of the run directory, with a
        picture in `alike/<name>.png`.

    Raises:
        UsageError: there is no run, no such layer, too few tiles, or UMAP is not installed.
        StorageError: the run directory cannot be written.

    Example:
        >>> alike = featlight.find_alike("runs/efficientnet_lite0-blocks.4.0")["blocks.4.0"]
        >>> dict(zip(alike.tiles, alike.clusters))["tiles/blocks.4.0/00012.png"]
    """
    if method not in METHODS:
        raise UsageError(f"method: {unknown('method', method, METHODS)}")
    if clusters is not None and clusters < 1:
        raise UsageError(f"clusters: {clusters} given; 1 or more are allowed")
    if method == "umap" and not has_umap():
        raise UsageError("method: umap is not installed; run pip install 'featlight[umap]', or choose pca")
    store = Store(expanded(out))
    plan = store.need_plan()
    store.check_writable()
    drawn_files(store, plan, ["assets"])  # the picture takes small tiles from these sheets
    snapshot = Snapshot.from_store(store, plan)
    if method == "auto":
        method = "umap" if has_umap() else "pca"
    tables = {}
    for atlas in _select(atlases(snapshot), layers):
        tables[atlas.section.name] = table = _similarity_table(atlas, method, clusters)
        write_similarity(snapshot, atlas, table)
    render(store, plan)
    return tables


def _select(candidates: Sequence[Atlas], layers: Sequence[str]) -> list[Atlas]:
    """Return the atlases of the given layers or, without layers, all that can be embedded."""
    known = dict.fromkeys(name for atlas in candidates for name in (atlas.section.name, atlas.section.layer) if name)
    for layer in layers:
        if layer not in known:
            raise UsageError(f"layer: {unknown('layer', layer, known)}")
    chosen = [atlas for atlas in candidates if not layers or {atlas.section.name, atlas.section.layer} & {*layers}]
    embeddable = [atlas for atlas in chosen if atlas.vectors is not None and can_project(unit_rows(atlas.vectors)[1])]
    names = [atlas.section.name for atlas in embeddable]
    others = [atlas.section.name for atlas in chosen if atlas.section.name not in names]
    if others and (layers or not embeddable):
        raise UsageError(f"{others[0]}: fewer than {FEWEST} tiles with different vectors; make more tiles of the layer")
    return embeddable


def _similarity_table(atlas: Atlas, method: Method, count: int | None) -> SimilarityTable:
    assert atlas.vectors is not None
    present, rows = unit_rows(atlas.vectors)
    points, description = project(rows, method)
    grid = assign_to_grid(points)
    return SimilarityTable(
        of=atlas.digest,
        words=description,
        tiles=[atlas.section.tiles[i].file for i in present],
        x=points[:, 0].tolist(),
        y=points[:, 1].tolist(),
        clusters=cluster(rows, count or default_clusters(len(rows))).tolist(),
        columns=grid.columns,
        rows=grid.rows,
        places=grid.places.tolist(),
    )
