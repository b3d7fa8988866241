"""A run knows its own files by their names and first bytes, whatever kind of tile they belong to."""

from itertools import product

import pytest

from featlight.config.tile import Term, Tile, diverse_tiles, feature_tile
from featlight.store.own_files import is_made_by_a_run
from featlight.store.store import Store

CHOICES = [(12, None), (1_234_567, None), (None, None), (None, "image"), (4, "row")]  # feature and direction
PLACES = [("map", None), ("row", 3), ("neuron", (0, 11)), ("prefix", 7)]
ONE_EACH = [
    feature_tile("a.b", feature, region, index, tokens, direction=direction)
    for (feature, direction), (region, index), tokens in product(CHOICES, PLACES, ("patches", "class"))
]
TILES = [face for tile in [Tile("mine.v2", (Term("a", 1),)), *ONE_EACH] for face in (tile, diverse_tiles(tile, 12)[11])]


def write(store, path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return is_made_by_a_run(store.folder, path)


@pytest.mark.parametrize("variant", ["", "fp64"])
def test_files_of_every_kind_of_tile_are_known(tmp_path, variant):
    store = Store(tmp_path)
    for file in (f"tiles/{tile.file(variant)}.png" for tile in TILES):
        assert write(store, tmp_path / file, b"\x89PNG\r\n Software\0featlight 1"), file
        assert write(store, store.alpha_path(file), b"\x89PNG\r\n Software\0featlight 1"), file
        assert write(store, store.octave_path(file, 2), b"\x89PNG\r\n"), file
        assert write(store, store.float_path(file), b'{"image":'), file
        assert write(store, store.map_path(file), b'{"0":'), file


@pytest.mark.parametrize("name", ["a/mine", "a/12", "a/00012-copy", "a/00012-face", "a/caricature2", "a/b/c/00012"])
def test_other_names_are_not(tmp_path, name):
    assert not write(Store(tmp_path), tmp_path / f"tiles/{name}.png", b"\x89PNG\r\n Software\0featlight 1")
