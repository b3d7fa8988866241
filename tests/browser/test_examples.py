"""Examples in a real browser: in the grid beside their tiles, under the open tile, and left out."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from featlight.cli.main import main
from featlight.report.build import render
from featlight.store.paths import EXAMPLES
from featlight.store.store import Store
from tests.browser.window import opened, settle, shows
from tests.made_up import color, made_up_examples, made_up_run

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def exampled(tmp_path_factory):
    store = made_up_run(tmp_path_factory.mktemp("examples") / "run", {"Mixed_4a": 12}, dead={3})
    made_up_examples(store)
    render(store, store.plan())
    return store.root


def test_the_grid_shows_pictures_best_examples_or_both(page, exampled):
    opened(page, exampled)
    assert shows(page, 2, color(2))
    page.keyboard.press("e")
    settle(page)
    assert page.locator("#shows").input_value() == "example"
    assert shows(page, 2, color(3))
    page.locator("#shows").select_option("both")
    settle(page)
    assert shows(page, 2, color(2))
    assert shows(page, 2, color(3), beside=True)
    page.locator("#zoom").fill("100")  # from the sheets to the pictures themselves
    settle(page)
    assert shows(page, 0, color(1), beside=True)
    page.locator("#sort").select_option("example")
    values = page.evaluate("Featlight.app.grid.tiles.map((tile) => tile.example)")
    assert values == sorted(values, reverse=True)


def test_an_open_tile_has_its_examples_with_value_and_place(page, exampled):
    opened(page, exampled, "#Mixed_4a/00002")
    items = page.locator("#detail .examples li")
    items.first.wait_for()
    assert items.count() == 3
    assert items.nth(1).get_attribute("title") == "class/1.png"
    assert items.nth(1).inner_text().split() == ["24.8", "drawn"]  # 74.5 / 3
    plot = page.locator("#detail .under .plot")
    name = plot.get_attribute("aria-label").replace("\N{MINUS SIGN}", "-")
    assert name == "Activation on 12 images, from -0.00391 to 0.00552; its own picture: 74.5"
    assert plot.locator("rect").count() == 2
    places = page.get_by_role("img", name="class/1.png with the crop outlined")
    assert places.evaluate("(part) => part.style.backgroundPosition") == "50% 100%"


def test_path_similarity_is_drawn_and_sorts_tiles(page, exampled, tmp_path):
    out = Path(shutil.copytree(exampled, tmp_path / "run"))
    lines = [json.loads(line) for line in (out / EXAMPLES).read_text().splitlines()]
    for number, line in enumerate(lines[:-1]):  # the last one was not measured
        line["paths"] = {"first": 9.0, "second": 0.25, "Mixed_4a": -0.25 - number % 5}
    (out / EXAMPLES).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    render(Store(out), Store(out).plan())
    opened(page, out, "#Mixed_4a/00002")
    plot = page.get_by_role("img", name="Path similarity from first to Mixed_4a")
    plot.wait_for()
    assert plot.locator("circle title").all_text_contents()[1] == "second: 0.25"
    heights = [float(point.get_attribute("cy")) for point in plot.locator("circle").all()]
    zero, one = (float(line.get_attribute("y1")) for line in plot.locator("line").all())
    assert heights[0] < one < heights[1] < zero < heights[2]
    opened(page, out)
    page.locator("#sort").select_option("path")
    values = page.evaluate("Featlight.app.grid.tiles.map((tile) => tile.path)")
    assert values[-1] is None
    assert values[:-1] == sorted(values[:-1], reverse=True)
    assert values[0] == 0.0  # without the first layer
    opened(page, exampled)
    assert page.locator("#sort option[value=path]").get_attribute("hidden") is not None


def test_a_site_without_photographs_shows_no_examples(page, exampled, tmp_path):
    assert main(["export", "--out", str(exampled), "--zip", str(tmp_path / "site.zip"), "--no-photos"]) == 0
    with zipfile.ZipFile(tmp_path / "site.zip") as site:
        site.extractall(tmp_path / "site")
    opened(page, tmp_path / "site", "#Mixed_4a/00002")
    page.locator("#detail .plot").first.wait_for()
    assert page.locator("#detail .examples").count() == 0
    assert page.locator("#shows").is_hidden()
