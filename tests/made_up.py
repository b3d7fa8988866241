"""Run directories with tiles of known colors and numbers, written quickly without a network."""

import io
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

from featlight.config.image_shape import size_key
from featlight.config.recipe import Octave, Recipe
from featlight.config.settings import Settings
from featlight.config.tile import Tile, feature_tile
from featlight.drawing.example_strip import ExampleTile, draw_strip, encode_strip
from featlight.image_io import encode_png
from featlight.plan.plan import NetworkInfo, Plan, PlannedTile
from featlight.store.paths import ABOUT_EXAMPLES, EXAMPLES
from featlight.store.store import Store

RECIPE = Recipe((Octave(32, 4, (0.4, 0.3), (1.2, 0.6)), Octave(40, 3, (0.3, 0.1))), gradient="rms")
STEPS = RECIPE.total_steps
MACO = Recipe((Octave(32, 4, (0.4, 0.3)), Octave(40, 3, (0.3, 0.1))), parameterization="maco", range="sigmoid")


def color(number: int) -> tuple[int, int, int]:
    return (37 * number + 90) % 256, (91 * number + 40) % 256, (151 * number + 200) % 256


def flat(number: int) -> Image.Image:
    return Image.new("RGB", (40, 40), color(number))


def half(number: int) -> Image.Image:
    """Return an alpha channel: transparent at the left, opaque at the right."""
    return Image.fromarray(np.repeat(np.uint8([[0] * 20 + [255] * 20]), 40, 0))


def activation(number: int) -> float:
    """Return a final activation: each of 0.5, 1.5, ..., 99.5 once among 100 tiles, in mixed order."""
    return (number * 37) % 100 + 0.5


def made_up_plan(
    tiles: Sequence[PlannedTile] = (),
    *,
    variants: Sequence[str] = ("",),
    recipe: Recipe = RECIPE,
    batch_size: int = 4,
    weights: str = "embedded weights",
    layers: "Mapping[str, Mapping[str, tuple[int, ...]]] | None" = None,
    **settings: object,
) -> Plan:
    """Return the plan of a run of the embedded network, without making the run."""
    settled = {"weights": "0" * 64, "recipe": recipe, "batch_size": batch_size, "threads": 1, "compile": "off"}
    plan = Plan(
        created="2026-01-02",
        network=NetworkInfo(
            model="tiny_inception",
            weights=weights,
            sha256="0" * 64,
            asked="DEFAULT",
            file="there",
            file_sha256="1" * 64,
        ),
        batch_size=batch_size,
        threads=1,
        versions={"featlight": "0.1.0"},
        settings={variant: Settings(**{**settled, **settings}) for variant in variants},
        layers={size: dict(shapes) for size, shapes in (layers or _layers(recipe, tiles)).items()},
    )
    plan.add(tiles)
    return plan


def _layers(recipe: Recipe, tiles: Sequence[PlannedTile]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return layer shapes that contain the features of all tiles."""
    terms = [term for planned in tiles for term in planned.tile.terms]
    return {size_key(recipe.first_size): {term.layer: (100, 4, 4) for term in terms}}


def made_up_run(
    root: Path,
    layers: Mapping[str, int],
    *,
    variants: Sequence[str] = ("",),
    named: Sequence[Tile] = (),
    dead: Collection[int] = (),
    failed: Collection[int] = (),
    missing: Collection[int] = (),
    picture: Callable[[int], Image.Image] = flat,
    weights: str = "embedded weights",
    octaves: bool = False,
    vectors: "Mapping[str, np.ndarray] | None" = None,
    alpha: Callable[[int], Image.Image] | None = None,
    recipe: Recipe = RECIPE,
) -> Store:
    """Write the plan, tiles, records and vectors of a run.

    Args:
        root: new directory.
        layers: numbers of features by layer.
        variants: names of variants; each has all tiles.
        named: additional named tiles.
        dead, failed, missing: features of the first layer with this status.
        picture: function that draws the tile of a feature.
        weights: description of the weights.
        octaves: whether to write pictures of the octaves.
        vectors: vectors by layer, (features, width).
        alpha: function that draws the alpha channel of a feature's tile; the recipe is then `MACO`.
        recipe: recipe of all variants.
    """
    plan = made_up_plan(variants=variants, weights=weights, recipe=recipe if alpha is None else MACO)
    # vectors have a number for every feature of their layer, also for those without a tile
    widths = {layer: vectors[layer].shape[1] if vectors else 0 for layer in layers}
    shapes = {layer: (max(features, widths[layer]), 4, 4) for layer, features in layers.items()}
    plan.layers = {size_key(recipe.first_size): shapes}
    for variant in variants:
        tiles = [feature_tile(layer, i) for layer, features in layers.items() for i in range(features)]
        plan.add([PlannedTile(variant, tile) for tile in (*tiles, *named)])
    store = Store(root)
    store.write_plan(plan)
    lines = []
    first = next(iter(layers))
    for planned in plan.tiles:
        layer, number = planned.tile.terms[0].layer, planned.tile.terms[0].feature or 0
        marks = {"dead": dead, "failed": failed, "missing": missing}
        status = next((word for word, among in marks.items() if layer == first and number in among), "ok")
        if status == "missing":
            continue
        start, end = (0.0, 0.0) if status == "dead" else (0.25, activation(number))
        buffer, transparency = io.BytesIO(), None
        picture(number).save(buffer, "PNG", compress_level=1)
        if status != "failed":
            path = root / planned.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(buffer.getvalue())
            if alpha is not None:
                transparency = encode_png(alpha(number), {"Software": "featlight 0"})
                store.write(store.alpha_path(planned.file), transparency)
            for place in range(1, octaves * len(RECIPE.octaves) + 1):
                store.write(store.octave_path(planned.file, place), buffer.getvalue())
        lines.append(
            json.dumps(
                {
                    "name": planned.tile.name,
                    "file": planned.file,
                    "layer": layer,
                    "feature": number,
                    "variant": planned.variant,
                    "status": status,
                    "reason": {"dead": "no gradient", "failed": "<b>not finite</b>"}.get(status),
                    "activation_start": start if status != "failed" else None,
                    "activation_end": end if status != "failed" else None,
                    "gradient_norm": 0.0 if status == "dead" else 2.0,
                    "curve": [[step, start + (end - start) * step / STEPS] for step in range(STEPS + 1)],
                    "seconds": 0.5,
                    "sha256": f"{planned.variant}{layer}{number}",
                    "bytes": len(buffer.getvalue()),
                    "alpha_sha256": transparency and sha256(transparency).hexdigest(),
                    "fingerprint": plan.digest(planned.variant),
                }
            )
        )
    (root / "records").mkdir()
    (root / "records/worker-0.jsonl").write_text("\n".join(lines) + "\n")
    for members in plan.chunks if vectors else []:
        terms = [plan.tiles[i].tile.terms[0] for i in members]
        path = store.vector_path(plan.tiles[i].file for i in members)
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = np.stack([vectors[term.layer][term.feature or 0] for term in terms]).astype(np.float32)
        unknown = plan.shape(plan.tiles[members[0]].variant, terms[0].layer)[0] - rows.shape[1]
        np.save(path, np.pad(rows, ((0, 0), (0, unknown))))
    return store


def made_up_examples(store: Store, count: int = 3, picture: Callable[[int], Image.Image] = flat) -> None:
    """Write examples of a run's tiles: crops of tile n have the colors n + 1, n + 2, ..., whole images are black."""
    plan = store.need_plan()
    lines = []
    for number, planned in enumerate(plan.tiles):
        crops = [picture(number + place + 1) for place in range(count)]
        wholes = [Image.new("RGB", (80, 40)) for _ in crops]
        strip = draw_strip(crops, wholes, [(10, 10, 30, 30)] * count)
        path = store.example_path(planned.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_strip(strip, ExampleTile("made up", ((10, 10, 30, 30),) * count)))
        found = [
            {
                "file": f"class/{place}.png",
                "value": activation(number) / (place + 2),
                "box": [10, 10, 30, 30],
                "neuron": [0, 1],
                "class": "drawn",
            }
            for place in range(count)
        ]
        lines.append(
            json.dumps(
                {"tile": planned.file, "layer": "x", "feature": number, "images": found, "histogram": [64, [5, 0, 7]]}
            )
        )
    about = {"stamp": "made up", "folder": "photographs", "images": 1000, "duplicates": 2, "refused": 1}
    about |= {"refused_files": {"bad.png": "no PNG, JPEG or WebP picture"}, "top": count}
    (store.root / EXAMPLES).write_text("\n".join(lines) + "\n")
    (store.root / ABOUT_EXAMPLES).write_text(json.dumps(about))
