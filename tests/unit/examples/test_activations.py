"""What tiles answer to images: as their objectives do."""

import numpy as np
import pytest
import torch

from featlight.config.tile import Term, Tile
from featlight.examples.activations import Activations, TileQuery
from featlight.examples.scorer import query_key
from featlight.objectives.directions import Directions
from featlight.objectives.objective import Objective

MAPS = {"a": (4, 4), "b": (2, 2), "c": (1, 1)}
CPU = torch.device("cpu")
TILES = [
    Tile("map", [Term("a", 3)]),
    Tile("other", [Term("a", 0)]),
    Tile("all", [Term("b")]),
    Tile("row", [Term("a", 1, region="row", index=2)]),
    Tile("neuron", [Term("a", 2, region="neuron", index=(1, 3))]),
    Tile("prefix", [Term("b", 2, region="prefix", index=1)]),
    Tile("both", [Term("a", 3), Term("b", 1, weight=-2.0)]),
    Tile("twice", [Term("a", 3), Term("a", 1)]),
    Tile("flat", [Term("c", 4)]),
    Tile("along", [Term("a", direction=[1.0, -2.0, 0.5, 0.0, 3.0, 0.25])]),
    Tile("along-row", [Term("a", direction=[0.0, 1.0, 0.0, 0.0, 0.0, 0.0], region="row", index=2)]),
    Tile("kept", [Term("b", 1, direction="row")]),
]
DIRECTIONS = Directions(np.arange(12.0).reshape(3, 4) - 5, "made up")


@pytest.fixture
def outputs() -> dict[str, torch.Tensor]:
    """On images twice as wide as the first octave's."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"a": (3, 6, 4, 8), "b": (3, 4, 2, 4), "c": (3, 5, 1, 1)}
    return {name: torch.rand(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


def activations() -> Activations:
    return Activations([TileQuery.from_terms(tile.terms, MAPS) for tile in TILES], CPU, DIRECTIONS)


def test_values_are_the_objectives_own(outputs):
    ours = activations()(outputs)
    theirs = [Objective([tile] * 3, "l1", 200.0, MAPS, directions=DIRECTIONS)(outputs).activation for tile in TILES]
    torch.testing.assert_close(ours, torch.stack(theirs, 1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_bits_do_not_hang_on_which_other_tiles_there_are(format):
    generator = torch.Generator().manual_seed(0)
    shapes = {"a": (3, 6, 13, 17), "b": (3, 4, 9, 7), "c": (3, 5, 1, 1)}
    outputs = {name: torch.randn(shape, generator=generator).to(memory_format=format) for name, shape in shapes.items()}
    together = activations()(outputs)
    for tile in range(len(TILES)):
        chosen = [TileQuery.from_terms(other.terms, MAPS) for other in (TILES[tile], *TILES[tile + 2 :])]
        assert torch.equal(Activations(chosen, CPU, DIRECTIONS)(outputs)[:, 0], together[:, tile])


def test_the_strongest_neuron_is_that_of_the_first_terms_region(outputs):
    pairs = [(image, tile) for image in range(3) for tile in range(len(TILES))]
    images, tiles = (torch.tensor(column) for column in zip(*pairs, strict=True))
    for (image, tile), place in zip(pairs, activations().places(outputs, images, tiles).tolist(), strict=True):
        term = TILES[tile].terms[0]
        output = outputs[term.layer][image]  # (C, H, W)
        if term.direction is not None:
            vector = DIRECTIONS.values[term.feature] if term.direction == "row" else term.direction
            map = sum(number * plane for number, plane in zip(vector, output, strict=True))
        else:
            map = output.mean(0) if term.feature is None else output[term.feature]
        if term.region == "row":
            assert place[0] == 2
            assert map[2, place[1]] == map[2].max()
        elif term.region == "neuron":
            assert place == [1, 7]
        elif term.region == "prefix":
            assert place[0] == 0
        else:
            assert map[place[0], place[1]] == map.max()


def test_of_equal_neurons_the_first_is_taken():
    outputs = {"a": torch.zeros(1, 6, 4, 4), "b": torch.zeros(1, 4, 2, 2), "c": torch.zeros(1, 5, 1, 1)}
    place = activations().places(outputs, torch.tensor([0, 0]), torch.tensor([0, 3]))
    assert place.tolist() == [[0, 0], [2, 0]]


def test_tiles_that_look_for_the_same_are_alike_whatever_their_variants_first_map():
    maps = {"a": (8, 8)}
    assert TileQuery.from_terms(TILES[0].terms, maps) == TileQuery.from_terms(TILES[0].terms, MAPS)
    assert TileQuery.from_terms(TILES[3].terms, maps) != TileQuery.from_terms(TILES[3].terms, MAPS)


@pytest.mark.parametrize(
    ("name", "key"), [("map", "092ccb92a01bc6cc"), ("row", "60657dccf23e3800"), ("kept", "3e1677644e96a70f")]
)
def test_query_keys_are_those_of_earlier_versions(name, key):
    """A manifest on disk holds keys; other keys would start its scan again."""
    (tile,) = (tile for tile in TILES if tile.name == name)
    assert query_key(TileQuery.from_terms(tile.terms, MAPS), DIRECTIONS) == key
