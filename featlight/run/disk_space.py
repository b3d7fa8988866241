"""How much room a run needs on disk, and whether it is there."""

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from featlight.analysis.neighbors import neighbors_kept
from featlight.config.inputs.sizes import pixels_of
from featlight.config.schema import Extra
from featlight.console import format_bytes
from featlight.drawing.sprite_sheet import sprite_side
from featlight.errors import StorageError
from featlight.plan.plan import EXAMPLES, OCTAVE_PICTURE, Plan
from featlight.report.sections import sections
from featlight.report.tensorboard.projector import MOST_POINTS, square
from featlight.store.records import TileRecord

# Measured on `natural` pictures of 192 px; README, "Limits", says how far others were from it.
PNG_SHARE = 0.75  # of the raw bytes, of tiles and of the atlas made from them
MOSAIC_SHARE = 0.4  # bytes a pixel, of TensorBoard's JPEG mosaics
MOSAICS, MOSAIC_PIXELS, MOSAIC_SIDE = 10, 2048**2 / 1.5, 128  # at most; pixels of one, and side of a tile in it
SPRITE_SHARE = 0.6  # bytes a pixel, of the viewer's JPEG sprites
VIEWER = 75_000  # bytes of the viewer itself
WORDS = 3072  # bytes of a tile's record, and of its lines in the plan and the viewer
EVENTS = 4096  # bytes of a chunk's numbers in TensorBoard
CURVES = 32_768  # bytes of a layer's curves there, and of the words around its pictures
POINT = 5.2  # bytes of a number in its projector
SHEET_PIXELS = 8192**2 / 1.55  # a larger atlas is cut into pages, with an overview beside them
OVERVIEW_PIXELS = 4096**2 / 1.55
ENOUGH = 8  # tiles that are there already, to go by them


def expected_bytes(
    plan: Plan, there: Mapping[str, TileRecord], missing: Collection[str], extras: Collection[Extra]
) -> int:
    """What the missing tiles of a run will take: themselves, their records and vectors, atlas, page, TensorBoard.

    A tile's bytes depend on what it shows: where enough of a variant's tiles are there, they are gone by. Figures are
    left out.

    Args:
        plan: of the run.
        there: records of the tiles that are there, by file.
        missing: files of the tiles to be made.
        extras: what is kept of each tile besides its picture; maps are small, and left out.
    """
    if not missing:
        return 0
    pngs = {variant: _tile_bytes(plan, there, variant) for variant in plan.settings}
    total = float(VIEWER)
    examples = {file for files in plan.octave_samples().values() for file in files}
    for section in sections(plan):
        mine = [planned for planned in section.tiles if planned.file in missing]
        if not mine:
            continue
        settings = plan.settings[section.variant]
        octave_sizes = [octave.size for octave in settings.recipe.octaves]
        png, pixels = pngs[section.variant], pixels_of(octave_sizes[-1])
        features = plan.shape(section.variant, mine[0].tile.terms[0].output)[0]
        each = 2 * png + 2 * 4 * features + WORDS  # the atlas and the layer's vectors hold each tile once more
        each += SPRITE_SHARE * sprite_side(len(section.tiles)) ** 2 + 4 * neighbors_kept(len(section.tiles))
        if settings.recipe.keeps_alpha:  # and the small tiles without it
            each += PNG_SHARE * pixels + SPRITE_SHARE * sprite_side(len(section.tiles)) ** 2
        if "floats" in extras:
            each += plan.network.in_channels * pixels * (8 if settings.precision == "fp64" else 4)
        points = min(MOST_POINTS, len(section.tiles))
        each += (POINT * features + SPRITE_SHARE * square(points)[1] ** 2) * points / len(section.tiles)
        total += each * len(mine)
        followed = mine if "octaves" in extras else [p for p in mine if p.file in examples]
        total += 3 * OCTAVE_PICTURE**2 * PNG_SHARE * len(octave_sizes) * len(followed)
        total += OCTAVE_PICTURE**2 * MOSAIC_SHARE * len(octave_sizes) * min(EXAMPLES, len(mine)) + CURVES
        if len(section.tiles) * pixels > SHEET_PIXELS:
            total += 3 * OVERVIEW_PIXELS * png / (3 * pixels)
        chunks = -(-len(mine) // plan.largest_batch)
        mosaic = min(MOSAIC_PIXELS, len(section.tiles) * MOSAIC_SIDE**2)
        total += mosaic * MOSAIC_SHARE * (min(MOSAICS, chunks) + 1) / 2 + EVENTS * (chunks + 5)
    return round(total)


def _tile_bytes(plan: Plan, there: Mapping[str, TileRecord], variant: str) -> float:
    """Of a tile's PNG in a variant, on average."""
    sizes = [
        there[planned.file]["bytes"] or 0
        for planned in plan.tiles
        if planned.variant == variant and planned.file in there
    ]
    if len(sizes) >= ENOUGH:
        return float(sum(sizes) / len(sizes))
    return float(3 * pixels_of(plan.settings[variant].recipe.final_size) * PNG_SHARE)


def free_bytes(folder: Path) -> int:
    """What the file system of a folder, which need not exist yet, has left for this user."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def check_room(folder: Path, needed: int) -> None:
    """Make sure that so many bytes fit.

    Raises:
        StorageError: they do not.
    """
    free = free_bytes(folder)
    if needed > free:
        raise StorageError(
            f"{folder}: no room: about {format_bytes(needed)} needed, {format_bytes(free)} free; "
            "make room, and the same command goes on, or give another --out"
        )
