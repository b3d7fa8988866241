"""The disk space that a run needs."""

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from featlight.analysis.similar_tiles import neighbors_kept
from featlight.config.image_shape import pixels_of
from featlight.config.schema import Extra
from featlight.console import format_bytes
from featlight.drawing.sprite_sheet import sprite_side
from featlight.errors import StorageError
from featlight.plan.plan import OCTAVE_PICTURE, OCTAVE_SAMPLES, Plan
from featlight.report.sections import sections
from featlight.report.tensorboard.projector import MOST_POINTS, square
from featlight.store.records import TileRecord

# Measured on `natural` pictures of 192 px
PNG_SHARE = 0.75  # of the raw bytes, for tiles and atlases
MOSAIC_SHARE = 0.4  # bytes per pixel of TensorBoard's JPEG mosaics
MOSAICS, MOSAIC_PIXELS, MOSAIC_SIDE = 10, 2048**2 / 1.5, 128  # largest number, pixels of one, and side of a tile
SPRITE_SHARE = 0.6  # bytes per pixel of the viewer's JPEG sprites
VIEWER = 75_000  # bytes of the viewer's code
TEXT = 3072  # bytes of a tile's record and its entries in the plan and the viewer
EVENTS = 4096  # bytes of a chunk's numbers in TensorBoard
CURVES = 32_768  # bytes of a layer's curves and captions in TensorBoard
POINT = 5.2  # bytes of a number in TensorBoard's projector
SHEET_PIXELS = 8192**2 / 1.55  # a larger atlas is split into pages and gets an overview
OVERVIEW_PIXELS = 4096**2 / 1.55
ENOUGH = 8  # existing tiles from which the size of the others is estimated


def expected_bytes(
    plan: Plan, existing: Mapping[str, TileRecord], missing: Collection[str], extras: Collection[Extra]
) -> int:
    """Estimate the bytes of the missing tiles, with their records, vectors, atlas, page and TensorBoard log.

    The size of a tile depends on its content: it is estimated from the variant's existing tiles if there are enough.
    Figures and maps are left out.

    Args:
        plan: plan of the run.
        existing: records of the existing tiles, by file.
        missing: files of the tiles to be made.
        extras: additional files of each tile.
    """
    if not missing:
        return 0
    pngs = {variant: _tile_bytes(plan, existing, variant) for variant in plan.settings}
    total = float(VIEWER)
    examples = {file for files in plan.octave_samples().values() for file in files}
    for section in sections(plan):
        new = [planned for planned in section.tiles if planned.file in missing]
        if not new:
            continue
        settings = plan.settings[section.variant]
        octave_sizes = [octave.size for octave in settings.recipe.octaves]
        png, pixels = pngs[section.variant], pixels_of(octave_sizes[-1])
        features = plan.shape(section.variant, new[0].tile.terms[0].output)[0]
        each = 2 * png + 2 * 4 * features + TEXT  # the atlas and the layer's vectors repeat each tile
        each += SPRITE_SHARE * sprite_side(len(section.tiles)) ** 2 + 4 * neighbors_kept(len(section.tiles))
        if settings.recipe.keeps_alpha:  # the small tiles also without opacity
            each += PNG_SHARE * pixels + SPRITE_SHARE * sprite_side(len(section.tiles)) ** 2
        if "floats" in extras:
            each += plan.network.in_channels * pixels * (8 if settings.precision == "fp64" else 4)
        points = min(MOST_POINTS, len(section.tiles))
        each += (POINT * features + SPRITE_SHARE * square(points)[1] ** 2) * points / len(section.tiles)
        total += each * len(new)
        followed = new if "octaves" in extras else [p for p in new if p.file in examples]
        total += 3 * OCTAVE_PICTURE**2 * PNG_SHARE * len(octave_sizes) * len(followed)
        total += OCTAVE_PICTURE**2 * MOSAIC_SHARE * len(octave_sizes) * min(OCTAVE_SAMPLES, len(new)) + CURVES
        if len(section.tiles) * pixels > SHEET_PIXELS:
            total += 3 * OVERVIEW_PIXELS * png / (3 * pixels)
        chunks = -(-len(new) // plan.largest_batch)
        mosaic = min(MOSAIC_PIXELS, len(section.tiles) * MOSAIC_SIDE**2)
        total += mosaic * MOSAIC_SHARE * (min(MOSAICS, chunks) + 1) / 2 + EVENTS * (chunks + 5)
    return round(total)


def _tile_bytes(plan: Plan, existing: Mapping[str, TileRecord], variant: str) -> float:
    """Return the average size of a variant's PNGs."""
    sizes = [
        existing[planned.file]["bytes"] or 0
        for planned in plan.tiles
        if planned.variant == variant and planned.file in existing
    ]
    if len(sizes) >= ENOUGH:
        return float(sum(sizes) / len(sizes))
    return float(3 * pixels_of(plan.settings[variant].recipe.final_size) * PNG_SHARE)


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the file system that holds a folder, or will hold it."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def check_room(folder: Path, needed: int) -> None:
    """Check that a number of bytes is free.

    Raises:
        StorageError: the space does not suffice.
    """
    free = free_bytes(folder)
    if needed > free:
        raise StorageError(
            f"{folder}: about {format_bytes(needed)} needed, only {format_bytes(free)} free; "
            "free some space and run the same command again, or give another --out"
        )
