"""A site from a zip, in a real browser."""

import io
import zipfile

import pytest
from PIL import Image

from featlight.cli.main import main
from tests.browser.window import count, near, opened, pixel, settle
from tests.made_up import color

pytestmark = pytest.mark.browser


def test_a_site_with_webp_tiles_shows_the_right_ones(page, runs, tmp_path):
    assert main(["export", "--out", str(runs / "one"), "--zip", "site.zip", "--tiles", "webp"]) == 0
    with zipfile.ZipFile("site.zip") as file:
        file.extractall(tmp_path / "site")
    opened(page, tmp_path / "site", "#Mixed_5a/00006")
    picture = page.locator("#detail .picture img")
    page.wait_for_function("() => document.querySelector('#detail .picture img').naturalWidth === 40")
    assert picture.get_attribute("src").endswith("/tiles/Mixed_5a/00006.webp")
    with Image.open(io.BytesIO(picture.screenshot())) as image:
        assert image.convert("RGB").getpixel((image.width // 2, image.height // 2)) == near(color(6))
    page.keyboard.press("Escape")
    page.fill("#search", "5-6")
    assert count(page) == "4 of 108 tiles"
    page.evaluate("Featlight.app.grid.zoom(1)")  # so large that the tiles themselves are drawn, not small ones
    settle(page)
    full = page.evaluate("[...Featlight.app.grid.sprites.full].map(([name, image]) => [name, image.naturalWidth])")
    drawn = {name.split("/tiles/")[1]: width for name, width in full}
    assert {drawn[f"{layer}/{i:05d}.webp"] for layer in ("Mixed_4a", "Mixed_5a") for i in (5, 6)} == {40}
    assert all(name.endswith(".webp") for name in drawn)
    assert (pixel(page, 0), pixel(page, 1)) == (near(color(5)), near(color(6)))
