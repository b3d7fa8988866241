"""Figures of circuits: which features they show, where, and what they refuse."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from featlight.config.schema import Figure
from featlight.config.validation import check
from featlight.drawing.circuit import EXCITES, INHIBITS, CircuitNode, draw_circuit, draw_kernel, place_circuit
from featlight.drawing.sheet import Cell
from featlight.errors import UsageError
from featlight.plan.circuit_tiles import check_circuit_figure, circuit_tiles
from featlight.report.build import render
from featlight.report.circuit_figures import CircuitTrees, strongest
from featlight.report.viewer.circuits import CircuitLinks
from featlight.store.circuit_files import Part, read_circuits
from featlight.store.paths import CIRCUITS
from tests.made_up import made_up_run
from tests.unit.report.test_viewer_circuits import line, part


@pytest.fixture
def store(tmp_path):
    store = made_up_run(tmp_path / "run", {"a": 4, "b": 3, "c": 2}, vectors={n: np.ones((4, 6)) for n in "abc"})
    lines = [
        line("tiles/b/00000.png", "b", 0, {"a": [part(3, -2.5, 0.5, kernel=[[1.0, -0.5]]), part(1, 1.25)]}),
        line("tiles/b/00002.png", "b", 2, {"a": [part(1, 7.0)]}),
        line("tiles/c/00001.png", "c", 1, {"a": [part(1, -3.0)], "b": [part(0, 4.0), part(2, -3.0), part(5, -1.0)]}),
        line("tiles/c/00000.png", "c", 0, {"a": [part(2, 2.0)], "b": []}),
    ]
    store.write(store.root / CIRCUITS, "".join(lines).encode())
    return store


def numbers(branch):
    """Return a tree as nested lists: layer, feature, whether it is drawn, attribution, parts."""
    attribution = None if branch.part is None else branch.part.attribution
    drawn = branch.planned is not None
    return [branch.layer, branch.feature, drawn, attribution, [numbers(each) for each in branch.parts]]


def trees(store, layers=()):
    plan = store.need_plan()
    return CircuitTrees(CircuitLinks.from_plan(plan, read_circuits(store.folder, plan)), layers)


def test_a_tile_is_followed_through_the_nearest_earlier_layers(store):
    tile = next(planned for planned in store.need_plan().tiles if planned.file == "tiles/c/00001.png")
    assert numbers(trees(store).tree(tile)) == [
        *("c", 1, True, None),
        [
            ["b", 0, True, 4.0, [["a", 1, True, 1.25, []], ["a", 3, True, -2.5, []]]],
            ["b", 2, True, -3.0, [["a", 1, True, 7.0, []]]],
            ["b", 5, False, -1.0, []],  # the run lacks this feature
        ],
    ]
    assert numbers(trees(store, ["a"]).tree(tile)) == ["c", 1, True, None, [["a", 1, True, -3.0, []]]]


@pytest.mark.parametrize(
    ("attributions", "count", "shown"),
    [
        ([5, -4, 3, 2, -1], 4, [5, 3, -4, -1]),
        ([5, 4, 3, 2, -1], 4, [5, 4, 3, -1]),
        ([-5, -4, -3], 2, [-5, -4]),
        ([-5, 4], 1, [4]),
        ([-5], 1, [-5]),
        ([0], 4, []),
    ],
)
def test_the_strongest_parts_of_both_signs_are_shown(attributions, count, shown):
    parts = [Part(feature=i, attribution=value) for i, value in enumerate(attributions)]
    assert [chosen.attribution for chosen in strongest(parts, count)] == shown


def node(attribution, *parts):
    return CircuitNode(Cell("7", lambda: Image.new("RGB", (20, 20), (10, 200, 30))), attribution, None, parts)


def test_no_tiles_overlap_and_each_stands_at_the_middle_of_its_parts():
    pair = (node(2.0, node(1.0)), node(-1.0))
    root = node(None, node(8.0, *pair), node(4.0), node(-2.0, *pair), node(-1.0, *pair))
    places = list(place_circuit(root, 50).walk())
    boxes = np.array([(each.x, each.y, each.x + each.side, each.y + each.side) for each in places])
    for i, (left, top, right, bottom) in enumerate(boxes):
        others = np.delete(boxes, i, 0)
        apart = (others[:, 0] >= right) | (others[:, 2] <= left) | (others[:, 1] >= bottom) | (others[:, 3] <= top)
        assert apart.all()
    assert boxes[:, 1].min() >= 50
    first = places[0]
    assert first.middle == (first.parts[0].middle + first.parts[-1].middle) // 2
    assert [each.share for each in first.parts] == [1.0, 0.5, 0.25, 0.125]
    picture = draw_circuit(root, ["d", "c", "b", "a"], title="t", subtitle="s", footer="f")
    assert picture.width <= 1400  # legible when scaled to 1200
    counts = {pixel: count for count, pixel in picture.getcolors(1 << 24)}
    assert counts[(10, 200, 30)] == sum(each.side**2 for each in places)
    assert counts[EXCITES] > counts[INHIBITS] > 0  # bars and numbers


def test_a_kernel_is_red_where_it_excites_and_blue_where_it_inhibits():
    picture = draw_kernel([[2.0, -1.0], [0.0, -2.0]])
    width, height = picture.size
    at = [picture.getpixel((x, y)) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    pale = tuple(round((255 + channel) / 2) for channel in INHIBITS)
    assert at[0] == EXCITES
    assert at[2:] == [(255, 255, 255), INHIBITS]
    assert np.abs(np.subtract(at[1], pale)).max() <= 1


def test_the_figure_shows_the_last_layer_or_the_chosen_tiles(store):
    plan = store.need_plan()
    assert [each.file for each in circuit_tiles(plan, Figure(kind="circuit"))] == [
        "tiles/c/00000.png",
        "tiles/c/00001.png",
    ]
    chosen = Figure(kind="circuit", tiles=("b/2",))
    assert [each.file for each in circuit_tiles(plan, chosen)] == ["tiles/b/00002.png"]
    check_circuit_figure(plan, chosen)
    with pytest.raises(UsageError, match=r"figure\.tiles: no tile 'b/22' in this run; nearest: 'b/2'"):
        check_circuit_figure(plan, Figure(kind="circuit", tiles=("b/22",)))
    with pytest.raises(UsageError, match=r"figure\.layers: no layer 'd' in this run"):
        check_circuit_figure(plan, Figure(kind="circuit", layers=("d",)))


def test_a_run_draws_its_circuits_and_lists_their_links(store):
    plan = replace(store.need_plan(), figure=Figure(kind="circuit", tiles=("c/1",)))
    render(store, plan)
    with Image.open(store.root / "figures/circuit-c-00001.png") as image:
        colors = {pixel for _, pixel in image.convert("RGB").getcolors(1 << 24)}
    for file in ("tiles/c/00001.png", "tiles/b/00002.png", "tiles/a/00003.png"):
        with Image.open(store.root / file) as tile:
            assert tile.convert("RGB").getpixel((20, 20)) in colors
    assert (store.root / "figures/circuit.csv").read_text().splitlines() == [
        "tile,depth,layer,feature,part_layer,part_feature,part_tile,attribution,weight",
        "c/00001,1,c,1,b,0,b/00000,4.0,",
        "c/00001,2,b,0,a,1,a/00001,1.25,",
        "c/00001,2,b,0,a,3,a/00003,-2.5,0.5",
        "c/00001,1,c,1,b,2,b/00002,-3.0,",
        "c/00001,2,b,2,a,1,a/00001,7.0,",
        "c/00001,1,c,1,b,5,,-1.0,",
    ]
    assert "figures/circuit-c-00001.png" in (store.root / "index.html").read_text()


def test_a_run_without_circuits_draws_no_figure_of_them(store):
    store.write(store.root / CIRCUITS, b"")
    render(store, replace(store.need_plan(), figure=Figure(kind="circuit")))
    assert not (store.root / "figures").exists()


@pytest.mark.parametrize(
    ("figure", "line"),
    [
        ({"kind": "circuit"}, "figure: kind circuit given; it needs circuits: true"),
        ({"kind": "grid", "tiles": ["a/1"]}, "figure: tiles given for kind grid; tiles belong to kind circuit: remove"),
        (
            {"kind": "grid", "layers": ["a"]},
            "figure: layers given for kind grid; layers belong to kind circuit: remove",
        ),
    ],
)
def test_a_figure_of_circuits_needs_circuits_and_has_keys_of_its_own(figure, line):
    with pytest.raises(UsageError, match=line):
        check({"model": "tiny_inception", "figure": figure})
