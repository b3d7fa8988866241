"""The plane of tiles that are alike, in a real browser: drawn, dragged, zoomed, walked, and opened."""

import io

import numpy as np
import pytest
from PIL import Image

import featlight
from tests.browser.window import near, opened
from tests.made_up import color, made_up_run

pytestmark = pytest.mark.browser
VECTORS = np.eye(3)[[0] * 6 + [1] * 9 + [2] * 5] + 0.1 * np.random.default_rng(2).random((20, 3))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("alike") / "run"
    made_up_run(root, {"a": 20, "b": 20, "c": 3}, vectors=dict.fromkeys("abc", VECTORS), missing={7})
    featlight.find_alike(root, method="pca", clusters=3)
    return root


def looked(page, run, hash="#alike"):
    page.goto("about:blank")
    page.goto((run / "index.html").as_uri() + hash)
    page.wait_for_function("() => Featlight.app.plane()?.scale")


def middle(page, number):
    """Where the middle of a tile is on the screen, by the tile's number in its layer."""
    return page.evaluate(
        """(number) => {
            const plane = Featlight.app.plane();
            const { column, row } = plane.spots.find(({ tile }) => tile.place === number);
            const box = plane.host.getBoundingClientRect();
            const at = (start, place) => start + (place + 0.5) * plane.scale;
            const { clientLeft, clientTop } = plane.host;
            return [box.x + clientLeft + at(plane.left, column), box.y + clientTop + at(plane.top, row)];
        }""",
        number,
    )


def shown(page, number, expected):
    """Whether the middle of a tile has a color, within two seconds."""
    for _ in range(20):
        with Image.open(io.BytesIO(page.screenshot())) as image:
            if image.convert("RGB").getpixel(tuple(map(round, middle(page, number)))) == near(expected):
                return True
        page.wait_for_timeout(100)
    return False


def test_every_tile_stands_on_its_place(page, run):
    looked(page, run)
    assert page.locator("#view-alike").is_visible()
    assert page.evaluate("Featlight.app.plane().spots.length") == 19
    for number in (0, 6, 8, 19):
        assert shown(page, number, color(number))
    assert page.locator("#view-alike p").inner_text().startswith("19 tiles by the mean activations")


def test_a_click_opens_a_tile_and_escape_leads_back_to_it(page, run):
    opened(page, run)
    page.click("[data-view=alike]")
    page.mouse.click(*middle(page, 6))
    page.wait_for_function("() => location.hash === '#a/00006'")
    assert page.locator("#detail").is_visible()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => location.hash === '#a/00005'")
    page.keyboard.press("Escape")
    page.wait_for_function("() => location.hash === '#alike&at=a/00005'")
    assert page.evaluate("Featlight.app.plane().current.tile.key") == "a/00005"
    page.wait_for_function("() => document.activeElement.className === 'plane'")


def test_a_tile_that_is_opened_elsewhere_is_closed_there(page, run):
    looked(page, run)
    page.mouse.click(*middle(page, 6))
    page.wait_for_function("() => location.hash === '#a/00006'")
    page.go_back()
    page.wait_for_function("() => location.hash === '#alike'")
    page.click("[data-view=tiles]")
    page.locator("#grid").focus()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.wait_for_function("() => location.hash === '#a/00000'")
    page.keyboard.press("Escape")
    page.wait_for_function("() => location.hash === ''")
    assert page.locator("#view-tiles").is_visible()


def test_a_drag_and_the_wheel_move_what_is_under_them(page, run):
    looked(page, run)
    before = middle(page, 0)
    page.mouse.move(*before)
    page.mouse.wheel(0, -300)
    page.wait_for_function("() => !Featlight.app.plane().whole")
    assert middle(page, 0) == pytest.approx(before, abs=1.5)
    page.mouse.down()
    page.mouse.move(before[0] + 60, before[1] + 40, steps=4)
    page.mouse.up()
    assert middle(page, 0) == pytest.approx([before[0] + 60, before[1] + 40], abs=1.5)
    assert page.locator("#detail").is_hidden()  # a drag is no click
    page.click("text=See all")
    assert page.evaluate("Featlight.app.plane().whole")


def test_a_cluster_stands_before_the_others(page, run):
    looked(page, run)
    options = page.locator("#view-alike select[aria-label=Cluster] option").all_inner_texts()
    assert options == ["all", "1 · 8 tiles", "2 · 6 tiles", "3 · 5 tiles"]
    page.select_option("#view-alike select[aria-label=Cluster]", "2")
    assert shown(page, 3, color(3))
    faded = np.add(0.14 * np.array(color(16)), 0.86 * np.array([255, 255, 255]))
    assert not shown(page, 16, color(16))
    with Image.open(io.BytesIO(page.screenshot())) as image:
        seen = image.convert("RGB").getpixel(tuple(map(round, middle(page, 16))))
    assert np.abs(np.subtract(seen, faded)).max() < 40  # over its cluster's color
    page.keyboard.press("Escape")


def test_keys_walk_the_plane(page, run):
    looked(page, run)
    page.locator(".plane").focus()
    seen = set()
    for key in ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"):
        for _ in range(12):
            page.keyboard.press(key)
            seen.add(page.evaluate("Featlight.app.plane().current.tile.place"))
    assert len(seen) > 8
    tile = page.evaluate("Featlight.app.plane().current.tile.key")
    heard = page.locator(".plane output").inner_text()
    assert heard.startswith(f"{int(tile[2:])}, a, activation ")
    assert ", cluster " in heard
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.getElementById('detail').open")
    assert page.evaluate("location.hash") == f"#{tile}"


def test_links_show_a_layer_or_a_tile(page, run):
    looked(page, run, "#alike&at=b")
    assert page.evaluate("Featlight.app.plane().group.name") == "b"
    opened(page, run, "#b/00012")
    page.keyboard.press("m")
    page.wait_for_function("() => location.hash === '#alike&at=b/00012'")
    assert page.evaluate("Featlight.app.plane().current.tile.key") == "b/00012"
    page.wait_for_function("() => document.activeElement.className === 'plane'")  # which rings the tile
    page.select_option("#view-alike select[aria-label=Layer]", "a")
    assert page.evaluate("Featlight.app.plane().group.name") == "a"


def test_the_grid_is_filtered_by_cluster(page, run):
    opened(page, run)
    page.select_option("#cluster", "3")
    assert page.evaluate("Featlight.app.grid.tiles.map(({ key }) => key)") == [
        f"{layer}/{i:05d}" for layer in "ab" for i in range(15, 20)
    ]
    page.click("#reset")
    assert page.locator("#count").inner_text() == "43 tiles"


def test_a_run_that_nobody_has_looked_at_has_no_such_part(page, runs):
    opened(page, runs / "one")
    assert page.locator("[data-view=alike]").is_hidden()
    assert page.locator("#cluster").is_hidden()
