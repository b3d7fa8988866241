"""The circuit of an open tile in a real browser: links, the trail back, kernels, and features without a tile."""

import json

import numpy as np
import pytest

from featlight.report.build import render
from featlight.store.paths import CIRCUITS
from tests.browser.window import opened
from tests.made_up import made_up_run

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    store = made_up_run(
        tmp_path_factory.mktemp("runs") / "run", {"a": 6, "b": 4, "c": 2}, vectors={n: np.ones((6, 8)) for n in "abc"}
    )
    kernel = [[0.0, 1.0], [-0.5, 0.25]]

    def line(layer, feature, parts):
        values = {"tile": f"tiles/{layer}/{feature:05d}.png", "layer": layer, "feature": feature, "image": "png"}
        return json.dumps(values | {"from": parts, "activation": 1.0, "stamp": "x"}) + "\n"

    def part(feature, attribution, weight=None, **rest):
        return {"feature": feature, "attribution": attribution, "weight": weight, **rest}

    lines = [
        line("c", 1, {"b": [part(2, 3.0, 0.75, kernel=kernel), part(7, 2.0), part(0, -1.0)], "a": [part(4, 1.0)]}),
        line("b", 2, {"a": [part(5, 2.0), part(1, -1.5)]}),
        *(line("a", feature, {}) for feature in range(6)),
    ]
    store.write(store.root / CIRCUITS, "".join(lines).encode())
    render(store, store.plan())
    return store.root


def title(page):
    return page.locator("#detail-title").inner_text().split()


def test_one_walks_down_and_back(page, run):
    opened(page, run, "#c/00001")
    circuit = page.locator(".circuit")
    circuit.locator(".part").first.wait_for()
    assert circuit.locator("h4").all_inner_texts()[0] == "b"
    assert circuit.locator(".excites").first.locator("small").all_inner_texts() == ["2", "7"]
    assert circuit.locator(".inhibits").first.locator("small").all_inner_texts() == ["0"]
    assert circuit.locator("canvas.kernel").first.evaluate("(one) => [one.width, one.height]") == [2, 2]
    assert "--layer b --features 7 --out ." in circuit.inner_text()
    assert circuit.locator("span.part .none").inner_text() == "7"
    circuit.get_by_role("button", name="2 of b, attribution 3, weight 0.75").press("Enter")
    page.wait_for_function("() => document.getElementById('detail-title').textContent.includes('b')")
    page.locator(".trail").wait_for()
    assert page.url.endswith("#b/00002")
    page.get_by_role("button", name="5 of a, attribution 2").click()
    page.wait_for_function("() => document.querySelectorAll('.trail button').length === 2")
    assert "Feeds" in circuit.inner_text()
    page.keyboard.press("b")
    page.wait_for_function("() => document.querySelectorAll('.trail button').length === 1")
    assert title(page) == ["2", "b"]
    page.locator(".trail button").click()
    page.wait_for_function("() => location.hash === '#c/00001'")
    page.wait_for_function("() => !document.querySelector('.trail')")
    page.go_back()
    page.wait_for_function("() => location.hash === '#b/00002'")


def test_a_tile_without_a_circuit_shows_none(page, runs):
    opened(page, runs / "one", "#Mixed_5a/00006")
    page.locator("#detail .plot").wait_for()
    assert not page.locator(".circuit").is_visible()


def test_it_fits_a_phone(page, run):
    page.set_viewport_size({"width": 360, "height": 740})
    opened(page, run, "#c/00001")
    page.locator(".circuit .part").first.wait_for()
    assert page.evaluate("document.getElementById('detail').scrollWidth <= 360")
