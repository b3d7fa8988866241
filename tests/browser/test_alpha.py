"""Tiles with transparencies in a real browser: on white and as they are, small and large, in the grid and alone."""

import io

import pytest
from PIL import Image

from featlight.report.build import render
from tests.browser.window import near, opened, pixel, settle
from tests.made_up import color, half, made_up_run

pytestmark = pytest.mark.browser
WHITE = (255, 255, 255)


@pytest.fixture(scope="module")
def transparent(tmp_path_factory):
    store = made_up_run(tmp_path_factory.mktemp("maco") / "run", {"Mixed_4a": 12}, dead={3}, alpha=half)
    render(store, store.plan())
    return store.root


def sides(page, index):
    """The colors in a tile's clear half and in its opaque half."""
    return pixel(page, index, across=0.25), pixel(page, index, across=0.75)


@pytest.mark.parametrize("zoom", ["0", "100"], ids=["from the sheets", "from the tiles"])
def test_the_switch_shows_tiles_on_white_or_as_they_are(page, transparent, zoom):
    opened(page, transparent)
    page.locator("#zoom").fill(zoom)
    switch = page.locator("#alpha")
    for laid in (True, False, True):
        settle(page)
        assert switch.get_attribute("aria-pressed") == str(laid).lower()
        for index in (0, 1):
            assert sides(page, index) == (near(WHITE if laid else color(index)), near(color(index)))
        switch.click()


def test_an_open_tile_is_on_white_until_a_key_says_otherwise(page, transparent):
    opened(page, transparent, "#Mixed_4a/00005")
    picture = page.locator("#detail .picture")
    for laid in (True, False):
        page.wait_for_function(
            "() => [...document.querySelectorAll('#detail .picture img')].every((image) => image.complete)"
        )
        with Image.open(io.BytesIO(picture.screenshot())) as image:
            shown = image.convert("RGB")
        found = [shown.getpixel((round(share * shown.width), shown.height // 2)) for share in (0.25, 0.75)]
        assert found == [near(WHITE if laid else color(5)), near(color(5))]
        assert page.locator("#detail .alpha[aria-pressed]").get_attribute("aria-pressed") == str(laid).lower()
        page.keyboard.press("o")
    page.keyboard.press("Escape")
    assert page.locator("#alpha").get_attribute("aria-pressed") == "true"


def test_a_run_without_transparencies_has_no_switch(page, runs):
    opened(page, runs / "two")
    before = pixel(page, 4)
    assert not page.locator("#alpha").is_visible()
    page.keyboard.press("o")
    settle(page)
    assert pixel(page, 4) == before
