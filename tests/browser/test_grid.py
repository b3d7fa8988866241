"""The grid in a real browser: what is drawn, filtered, sorted, and reached by keys."""

import io
import shutil
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from featlight.config.recipe import Octave, Recipe
from featlight.report.build import render
from tests.browser.window import (
    DEAD,
    FAILED,
    MISSING,
    PAPER,
    VECTORS,
    count,
    current_option,
    labels,
    near,
    opened,
    pixel,
    settle,
    shows,
)
from tests.made_up import activation, color, made_up_run

pytestmark = pytest.mark.browser


def test_every_tile_is_there_and_in_its_colour(page, runs):
    opened(page, runs / "one")
    assert count(page) == "108 tiles"
    assert labels(page)[:2] == ["Mixed_4a/00000", "Mixed_4a/00001"]
    for index in (0, 1, 2, 7, 12):
        assert pixel(page, index) == near(color(index))
    page.keyboard.press("End")  # not on the grid yet: nothing moves
    assert page.locator("#about").inner_text().startswith('<img src="x" onerror="boom()"> · 105 of 108 tiles, 3 dead')
    assert "RANDOM" not in page.locator("body").inner_text()


def test_dead_failed_and_missing_tiles_are_shown_as_such(page, runs):
    opened(page, runs / "one")
    paper = PAPER["light"]
    red, green, blue = color(3)
    faded = tuple(0.35 * ink + 0.65 * white for ink, white in zip((red, green, blue), paper, strict=True))
    assert pixel(page, 3) == near(faded)
    page.fill("#search", "60-62")
    assert [pixel(page, i) for i in range(3)] == [paper] * 3
    page.locator("#grid").focus()
    page.keyboard.press("Home")
    assert current_option(page).inner_text() == "60, Mixed_4a, failed"
    page.keyboard.press("Enter")
    assert page.locator("#detail .picture.none").inner_text() == "failed"
    assert page.locator("#detail .reason").inner_text() == "failed: <b>not finite</b>"


def test_filters_count_right(page, runs):
    opened(page, runs / "one")
    page.select_option("#status", "dead")
    assert (count(page), labels(page)) == ("3 of 108 tiles", [f"Mixed_4a/{i:05d}" for i in sorted(DEAD)])
    page.select_option("#status", "failed")
    assert count(page) == "1 of 108 tiles"
    page.select_option("#status", "")
    page.select_option("#layer", "Mixed_5a")
    assert count(page) == "7 of 108 tiles"
    page.fill("#low", "30")
    page.fill("#high", "80")
    inside = [i for i in range(7) if 30 <= activation(i) <= 80]
    assert labels(page) == [f"Mixed_5a/{i:05d}" for i in inside]
    page.fill("#low", "1e9")
    assert page.locator("#empty").is_visible()
    page.click("#reset")
    assert count(page) == "108 tiles"
    page.fill("#search", "5, 10-12")
    assert count(page) == "5 of 108 tiles"  # 5 of both layers, 10 to 12 of the first
    page.fill("#search", "BOTH")
    assert labels(page) == ["named/both"]


def test_sorting(page, runs):
    opened(page, runs / "one")
    page.select_option("#layer", "Mixed_4a")
    alive = sorted(set(range(100)) - DEAD - FAILED - MISSING, key=activation, reverse=True)
    page.select_option("#sort", "end")
    order = [f"Mixed_4a/{i:05d}" for i in [*alive, *sorted(DEAD), *sorted(FAILED | MISSING)]]
    assert labels(page) == order
    settle(page)
    assert pixel(page, 0) == near(color(alive[0]))
    page.click("#reverse")
    assert labels(page)[: len(DEAD) + 1] == [f"Mixed_4a/{i:05d}" for i in [*sorted(DEAD), alive[-1]]]
    page.select_option("#sort", "gain")
    assert labels(page)[-4] == f"Mixed_4a/{alive[0]:05d}"
    page.select_option("#sort", "feature")
    assert labels(page) == [f"Mixed_4a/{i:05d}" for i in reversed(range(100))]


def test_sorting_by_similarity_to_a_tile(page, runs):
    opened(page, runs / "one", "#Mixed_4a/00017")
    page.get_by_role("button", name="Similar").click()
    page.wait_for_function("() => document.getElementById('count').textContent.includes('similarity')")
    directions = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    cosines = directions @ directions[17]
    there = [i for i in range(100) if i not in FAILED | MISSING]
    ours = labels(page)
    assert ours[0] == "Mixed_4a/00017"
    assert sorted(ours[: len(there)]) == sorted(f"Mixed_4a/{i:05d}" for i in there)
    found = [cosines[int(key[-5:])] for key in ours[: len(there)]]
    assert all(a >= b - 1 / 127 for a, b in pairwise(found))  # kept in steps of 1/127
    assert count(page) == "100 of 108 tiles, by similarity to 17"
    page.select_option("#layer", "Mixed_5a")
    assert count(page) == "7 of 108 tiles"
    assert page.locator("#sort").input_value() == "feature"


def test_the_keyboard_walks_the_grid(page, runs):
    opened(page, runs / "one")
    page.locator("#grid").focus()
    columns = page.evaluate("Featlight.app.grid.layout.columns")

    def current():
        return current_option(page).inner_text().split(",")[0]

    assert current() == "0"
    for key, expected in [
        ("ArrowRight", 1),
        ("ArrowDown", 1 + columns),
        ("ArrowLeft", columns),
        ("ArrowUp", 0),
        ("ArrowUp", 0),
    ]:
        page.keyboard.press(key)
        assert current() == str(expected)
    page.keyboard.press("End")
    assert current() == "both"
    option = current_option(page)
    assert (option.get_attribute("aria-posinset"), option.get_attribute("aria-setsize")) == ("108", "108")
    assert page.locator("#grid").get_attribute("aria-activedescendant") == option.get_attribute("id")
    assert page.evaluate("scrollY") > 0
    settle(page)
    assert pixel(page, 107) == near(color(1))  # its first term's feature
    page.keyboard.press("ArrowUp")
    assert current() == "0"  # of the layer above, in the same column
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    assert page.url.endswith("#Mixed_4a/00001")
    page.keyboard.press("Escape")
    page.locator("#detail").wait_for(state="hidden")
    page.keyboard.press("/")
    page.keyboard.type("42")
    page.wait_for_function("() => Featlight.app.grid.tiles.length === 1")
    page.keyboard.press("Enter")
    assert current() == "42"
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()


def test_a_new_order_is_shown_from_its_start_and_said(page, runs):
    opened(page, runs / "one")
    page.locator("#grid").focus()
    page.keyboard.press("End")
    assert page.evaluate("() => Featlight.app.grid.offset()") > 0
    page.keyboard.press("a")
    assert page.evaluate("() => Featlight.app.grid.offset()") == 0
    page.keyboard.press("Home")
    best = max((i for i in range(100) if i not in DEAD | FAILED | MISSING), key=activation)
    assert current_option(page).inner_text().startswith(f"{best}, Mixed_4a, ")


def test_missing_data_are_said(page, runs, tmp_path):
    shutil.copytree(runs / "one/assets", tmp_path / "assets")
    shutil.copy(runs / "one/index.html", tmp_path)
    (tmp_path / "assets/data.js").write_text("")
    page.goto((tmp_path / "index.html").as_uri())
    assert "assets/data.js is missing or damaged" in count(page)


def test_zoom_shows_full_tiles_and_small_ones(page, runs):
    opened(page, runs / "one")
    page.locator("#grid").focus()
    before = page.evaluate("Featlight.app.grid.layout.size")
    for _ in range(9):
        page.keyboard.press("+")
    settle(page)
    assert page.evaluate("Featlight.app.grid.layout.size") > before
    assert page.evaluate("Featlight.app.grid.sprites.full.size") > 0
    assert pixel(page, 0) == pytest.approx(color(0), abs=1)  # the lossless tile, not the sheet
    for _ in range(20):
        page.keyboard.press("-")
    assert page.evaluate("Featlight.app.grid.layout.size") < before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(page, runs, scheme):
    page.emulate_media(color_scheme=scheme)
    opened(page, runs / "one")
    other = {"light": "dark", "dark": "light"}[scheme]

    def corner():
        with Image.open(io.BytesIO(page.screenshot())) as image:
            return image.convert("RGB").getpixel((4, 4)), image.convert("RGB").getpixel((500, 790))

    assert PAPER[scheme] in corner()[:1]
    while PAPER[other] not in corner()[:1]:
        page.locator("#theme").click()
    page.reload()
    assert corner()[0] == PAPER[other]  # remembered


def test_ten_thousand_tiles(page, many):
    opened(page, many)
    assert count(page) == "10,000 tiles"
    assert pixel(page, 1) == near(color(1))
    page.select_option("#status", "dead")
    assert count(page) == "1,250 of 10,000 tiles"
    page.select_option("#status", "ok")
    page.fill("#search", "9000-9999")
    assert labels(page) == [f"wide/{i:05d}" for i in range(9000, 10_000) if i % 8]
    page.click("#reset")
    page.locator("#grid").focus()
    page.keyboard.press("End")
    settle(page)
    assert current_option(page).get_attribute("aria-posinset") == "10000"
    assert pixel(page, 9999) == near(color(9999))
    page.select_option("#sort", "end")
    assert [int(key[-5:]) for key in labels(page)] == sorted(
        range(10_000), key=lambda i: (-activation(i) if i % 8 else 0.0, i)
    )


def test_a_tile_that_is_no_square_keeps_its_shape(page, tmp_path):
    tall = Recipe((Octave((30, 10), 4, (0.4, 0.3)), Octave((60, 20), 3, (0.3, 0.1))), gradient="rms")
    picture = partial(Image.new, "RGB", (20, 60))
    store = made_up_run(tmp_path / "tall", {"Mixed_4a": 4}, picture=lambda i: picture(color(i)), recipe=tall)
    render(store, store.plan())
    opened(page, tmp_path / "tall")
    for zoom in (0.2, 1):  # from a sheet of small tiles, and the tile itself
        page.evaluate(f"Featlight.app.grid.zoom({zoom})")
        settle(page)
        for across in (0.4, 0.5, 0.6):
            assert shows(page, 1, color(1), across=across)
        for across in (0.2, 0.8):
            assert shows(page, 1, PAPER["light"], across=across)


def test_the_network_is_a_list_of_layers_with_their_best_tiles(page, runs):
    opened(page, runs / "one")
    page.locator('[data-view="network"]').click()
    rows = page.locator("#view-network li")
    assert [words.splitlines()[0] for words in rows.all_inner_texts()] == ["Mixed_4a", "Mixed_5a", "named tiles"]
    assert "100 features, 4 \u00d7 4" in rows.nth(0).inner_text()
    assert "7 tiles of 8 features" in rows.nth(1).inner_text()
    strip = rows.nth(0).locator(".best button")
    alive = [i for i in range(100) if i not in {*DEAD, *FAILED, *MISSING}]
    best = sorted(alive, key=lambda i: -activation(i))[:12]
    shown = [words.split(",")[0] for words in strip.evaluate_all("all => all.map(one => one.ariaLabel)")]
    assert shown == [str(i) for i in best]
    for i in (0, 3):
        with Image.open(io.BytesIO(strip.nth(i).screenshot())) as image:
            assert image.convert("RGB").getpixel((image.width // 2, image.height // 2)) == near(color(best[i]))
    strip.nth(1).click()
    assert page.locator("#detail h2").inner_text().startswith(f"{best[1]} ")
    page.keyboard.press("Escape")
    page.locator('[data-view="network"]').click()
    rows.nth(1).locator(".layer button").click()
    assert count(page) == "7 of 108 tiles"
    assert page.locator("#grid").is_visible()
