"""Which tiles of a layer are alike: on a plane and in clusters, as a table, as a picture, and for the viewer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from featlight.analysis.embedding import (
    FEWEST,
    Method,
    assign_to_grid,
    can_project,
    cluster,
    default_clusters,
    has_umap,
    project,
)
from featlight.analysis.neighbors import unit_rows
from featlight.config.user_paths import expanded
from featlight.errors import UsageError, memory_errors, unknown
from featlight.report.alike_picture import draw_alike
from featlight.report.build import drawn_files, render
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
    """Find out which tiles of a run are alike, by the mean activations of all features of their layer.

    The plane is laid out by these, each tile's at length 1, and the clusters are k-means' of the same vectors, not of
    the plane; what both draw by chance has the same seed every time. The picture and the viewer set each tile on the
    free place of a grid that is nearest to its point.

    Args:
        out: the run directory.
        layers: names of layers, or of atlases (`variant/layer`); without any, all that have at least four tiles with
            different vectors.
        method: "umap" keeps near what is near (`pip install 'featlight[umap]'`), "pca" shows the two directions in
            which tiles differ most; "auto" is UMAP where that is installed.
        clusters: how many; None for the root of half the number of tiles, from 2 to 40.

    Returns:
        By the name of the atlas. The same is in `alike/<name>.json` of the run directory, the picture in
        `alike/<name>.png`.

    Raises:
        UsageError: no run, no such layer, too few tiles, or UMAP is not installed.
        StorageError: no room, or no right to write.

    Example:
        >>> alike = featlight.find_alike("runs/efficientnet_lite0-blocks.4.0")["blocks.4.0"]
        >>> dict(zip(alike.tiles, alike.clusters))["tiles/blocks.4.0/00012.png"]
    """
    if method not in METHODS:
        raise UsageError(f"method: {unknown('method', method, METHODS)}")
    if clusters is not None and clusters < 1:
        raise UsageError(f"clusters: {clusters} given; 1 or more are allowed")
    if method == "umap" and not has_umap():
        raise UsageError("method: umap is not installed: pip install 'featlight[umap]', or take pca")
    store = Store(expanded(out))
    plan = store.need_plan()
    store.check_writable()
    drawn_files(store, plan, ["assets"])  # small tiles are taken from its sheets
    snapshot = Snapshot.of(store, plan)
    found = {}
    for atlas in _chosen(atlases(snapshot), layers):
        how: Method = ("umap" if has_umap() else "pca") if method == "auto" else method
        found[atlas.section.name] = likeness = _likeness(atlas, how, clusters)
        store.write_output(atlas.section.likeness, likeness.model_dump_json().encode())
        picture = draw_alike(snapshot, atlas, likeness)
        store.write_output(atlas.section.alike, picture)
    render(store, plan)
    return found


def _chosen(there: Sequence[Atlas], layers: Sequence[str]) -> list[Atlas]:
    """Those of some layers, or all that a plane can show."""
    known = dict.fromkeys(name for atlas in there for name in (atlas.section.name, atlas.section.layer) if name)
    for layer in layers:
        if layer not in known:
            raise UsageError(f"layer: {unknown('layer', layer, known)}")
    asked = [atlas for atlas in there if not layers or {atlas.section.name, atlas.section.layer} & {*layers}]
    shown = [atlas for atlas in asked if atlas.vectors is not None and can_project(unit_rows(atlas.vectors)[1])]
    names = [atlas.section.name for atlas in shown]
    flat = [atlas.section.name for atlas in asked if atlas.section.name not in names]
    if flat and (layers or not shown):
        raise UsageError(f"{flat[0]}: fewer than {FEWEST} tiles whose vectors differ; no plane shows how")
    return shown


def _likeness(atlas: Atlas, method: Method, count: int | None) -> SimilarityTable:
    assert atlas.vectors is not None
    there, rows = unit_rows(atlas.vectors)
    points, words = project(rows, method)
    grid = assign_to_grid(points)
    return SimilarityTable(
        of=atlas.digest,
        words=words,
        tiles=[atlas.section.tiles[i].file for i in there],
        x=points[:, 0].tolist(),
        y=points[:, 1].tolist(),
        clusters=cluster(rows, count or default_clusters(len(rows))).tolist(),
        columns=grid.columns,
        rows=grid.rows,
        places=grid.places.tolist(),
    )
