"""The picture of a layer's tiles on a plane, those alike near each other."""

from dataclasses import replace
from functools import partial

import numpy as np

from featlight.analysis.embedding import GridLayout
from featlight.drawing.atlas import usual_side
from featlight.drawing.embedding_plot import EmbeddingPlot, draw_embedding_plot, side_on_a_plane
from featlight.drawing.sprite_sheet import SmallTiles, sprite_side
from featlight.image_io import encode_png
from featlight.report.sections import Atlas, heading
from featlight.store.similarity import SimilarityTable
from featlight.store.snapshot import Snapshot


def draw_alike(snapshot: Snapshot, atlas: Atlas, likeness: SimilarityTable) -> bytes:
    """The picture of a layer's tiles on a plane, a PNG; small ones come from the viewer's sheets."""
    section = atlas.section
    places = {planned.file: place for place, planned in enumerate(section.tiles)}
    chosen = [places[file] for file in likeness.tiles]
    cells = [atlas.cells[place] for place in chosen]
    side = side_on_a_plane(likeness.columns, usual_side(cells))
    if side <= sprite_side(len(section.tiles)):
        small = SmallTiles(snapshot.store, section.assets, len(section.tiles))
        cells = [
            replace(cell, open=partial(small.__getitem__, place)) for cell, place in zip(cells, chosen, strict=True)
        ]
    words = heading(snapshot.plan, section)
    said = f"tiles near each other are alike by the mean activations of the layer's features: {likeness.words}"
    clusters = f"{max(likeness.clusters)} clusters of the same vectors by k-means"
    title = f"{words.title}: which are alike"
    picture = draw_embedding_plot(
        EmbeddingPlot(cells, likeness.clusters, GridLayout(likeness.columns, likeness.rows, np.array(likeness.places))),
        replace(words, title=title, subtitle=f"{said} · {clusters} · {words.subtitle}"),
        side,
    )
    return encode_png(picture, {"Title": title, "Software": f"featlight {snapshot.plan.versions['featlight']}"})
