"""The links between tiles in the viewer's data."""

import base64
import json

import numpy as np
import pytest

from featlight.report.build import is_rendered, render
from featlight.report.viewer.circuits import CircuitLinks
from featlight.store.circuit_files import read_circuits
from featlight.store.paths import CIRCUITS
from tests.made_up import made_up_run


def line(tile: str, layer: str, feature: int, parts: dict) -> str:
    values = {"tile": tile, "layer": layer, "feature": feature, "image": "png", "from": parts}
    return json.dumps(values | {"activation": 1.0, "stamp": "x"}) + "\n"


def part(feature: int, attribution: float, weight=None, **rest) -> dict:
    return {"feature": feature, "attribution": attribution, "weight": weight, **rest}


@pytest.fixture
def store(tmp_path):
    # the plan has 4 features in each layer; tiles 0 to 2 of the second are drawn
    store = made_up_run(tmp_path / "run", {"a": 4, "b": 3, "c": 2}, vectors={n: np.ones((4, 6)) for n in "abc"})
    lines = [
        line("tiles/b/00000.png", "b", 0, {"a": [part(3, -2.5, 0.5, kernel=[[1.0, -0.5]]), part(1, 1.25)]}),
        line("tiles/b/00001.png", "b", 1, {"a": [part(1, 7.0)]}),
        line("tiles/c/00001.png", "c", 1, {"a": [part(1, -3.0)], "b": [part(5, 4.0), part(2, 3.0), part(3, -1.0)]}),
        *(line(f"tiles/a/{i:05d}.png", "a", i, {}) for i in range(4)),
    ]
    store.write(store.root / CIRCUITS, "".join(lines).encode())
    return store


def test_a_tile_links_to_what_it_is_made_of_and_to_what_it_feeds(store):
    plan = store.need_plan()
    links = CircuitLinks.from_plan(plan, read_circuits(store.folder, plan))
    found = {planned.file: links.details(planned) for planned in plan.tiles}
    kernel = found["tiles/b/00000.png"]["madeOf"][0][1][0][5]
    assert np.frombuffer(base64.b64decode(kernel), "i1").tolist() == [127, -64]
    assert found["tiles/b/00000.png"]["madeOf"] == [
        ["a", [[3, "a/00003", -2.5, 0.5, 2, kernel], [1, "a/00001", 1.25, None]]]
    ]
    # the nearest layer first, and a command for features that the run has not drawn
    assert [layer for layer, _ in found["tiles/c/00001.png"]["madeOf"]] == ["b", "a"]
    assert found["tiles/c/00001.png"]["madeOf"][0][1][0] == [5, None, 4.0, None]
    command = "featlight --config config.yaml --layer b --features 3,5 --out ."
    assert found["tiles/c/00001.png"]["draw"] == {"b": command}
    # the nearest later layer first, the strongest tile first
    assert found["tiles/a/00001.png"]["feeds"] == [
        ["b", [[1, "b/00001", 7.0, None], [0, "b/00000", 1.25, None]]],
        ["c", [[1, "c/00001", -3.0, None]]],
    ]
    assert found["tiles/a/00002.png"] == {"madeOf": [], "feeds": [], "draw": {}}
    assert found["tiles/c/00000.png"] == {}  # no circuit found yet


def test_the_page_is_drawn_again_when_circuits_change(store):
    plan = store.need_plan()
    render(store, plan)
    assert is_rendered(store, plan)
    assert '"madeOf":[["a",[[1,"a/00001",7.0,null]]]]' in (store.root / "assets/tiles/b/00.js").read_text()
    store.write(store.root / CIRCUITS, b"")
    assert not is_rendered(store, plan)
