"""What the browser's tests share: opening a run, and reading what is on the screen.

Conditions to wait for are functions: the page's policy forbids to evaluate strings again and again. Pixels are read
from screenshots, as a canvas of pictures from disk may not be read by the page.
"""

import io

import numpy as np
import pytest
from PIL import Image

VECTORS = np.random.default_rng(0).random((100, 8))
DEAD, FAILED, MISSING = {3, 4, 50}, {60}, {61, 62}
PAPER = {"light": (252, 251, 249), "dark": (17, 17, 19)}


def opened(page, run, hash=""):
    page.goto("about:blank")
    page.goto((run / "index.html").as_uri() + hash)
    page.wait_for_function("() => performance.getEntriesByName('featlight-first-tiles').length")
    settle(page)


def settle(page):
    """Wait until all pictures in view have come and been drawn."""
    page.wait_for_function(
        "() => [...Featlight.app.grid.sprites.sheets.values(), ...Featlight.app.grid.sprites.full.values()]"
        ".every((image) => image.complete)"
    )
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def current_option(page):
    """What a screen reader reads of the grid."""
    return page.locator("#grid").get_by_role("option", selected=True)


def labels(page):
    return page.evaluate("Featlight.app.grid.tiles.map((tile) => tile.key)")


def count(page):
    return page.locator("#count").inner_text()


def pixel(page, index, *, beside=False, across=0.5):
    """The color in the middle of a tile of the grid, or at another share of its width, on the screen."""
    x, y = page.evaluate(
        """([index, beside, across]) => {
            const { grid } = Featlight.app;
            const { x, y } = Featlight.layout.boxOf(grid.layout, index);
            const host = grid.host.getBoundingClientRect();
            const { size } = grid.layout;
            return [host.left + x + across * size + (beside ? size + 1 : 0), host.top + y + size / 2];
        }""",
        [index, beside, across],
    )
    with Image.open(io.BytesIO(page.screenshot())) as image:
        return image.convert("RGB").getpixel((round(x), round(y)))


def shows(page, index, expected, **how):
    """Whether a tile has a color, within two seconds: on a busy machine its picture may still be on its way."""
    for _ in range(20):
        if pixel(page, index, **how) == near(expected):
            return True
        page.wait_for_timeout(100)
    return False


def near(expected):
    return pytest.approx(expected, abs=6)  # the sheets are JPEGs
