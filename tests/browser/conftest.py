"""Runs to look at, and a window of a headless Chromium that fails on every error."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import featlight.report.build
from featlight.config.tile import Term, Tile
from featlight.drawing.sheet import Cell, Show
from featlight.report.build import render
from tests.browser.window import DEAD, FAILED, MISSING, VECTORS
from tests.made_up import flat, made_up_run

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Path:
    """Two runs side by side: `one` has two layers and a named tile, `two` the first layer in other colors."""
    root = tmp_path_factory.mktemp("runs")
    both = Tile("both", (Term("Mixed_4a", 1), Term("Mixed_4a", 2)))
    one = made_up_run(
        root / "one",
        {"Mixed_4a": 100, "Mixed_5a": 7},
        named=[both],
        dead=DEAD,
        failed=FAILED,
        missing=MISSING,
        weights='<img src="x" onerror="boom()">',
        vectors={"Mixed_4a": VECTORS, "Mixed_5a": VECTORS},
        octaves=True,
    )
    two = made_up_run(root / "two", {"Mixed_4a": 90}, picture=lambda i: flat(i + 7), weights="RANDOM WEIGHTS, seed 1")
    for store in (one, two):
        render(store, store.plan())
    return root


def small_tiles_alone(cells: Sequence[Cell], *, show: Show, **_: object) -> Iterator[tuple[str, Image.Image]]:
    """Draw only small tiles, without the atlas."""
    for place, cell in enumerate(cells):
        with cell.opened() as tile:
            show(place, tile)
    yield "", Image.new("RGB", (8, 8))


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """A run of 10,000 tiles in one layer."""
    root = tmp_path_factory.mktemp("many") / "run"
    store = made_up_run(root, {"wide": 10_000}, dead=range(0, 10_000, 8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(featlight.report.build, "draw_atlas", small_tiles_alone)
        render(store, store.plan())
    return root


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser) -> Iterator[Any]:
    """A window that fails on errors and on requests that are not for a file."""
    context = browser.new_context(viewport={"width": 1000, "height": 800}, color_scheme="light")
    context.set_default_timeout(60_000)  # a page waits for the tests beside it
    result = context.new_page()
    slips: list[str] = []

    def failed(request):
        if request.failure != "net::ERR_ABORTED":  # the window went on before its icon had come
            slips.append(f"{request.failure}: {request.url}")

    result.on("console", lambda message: slips.append(message.text) if message.type in ("error", "warning") else None)
    result.on("pageerror", lambda error: slips.append(str(error)))
    result.on("request", lambda request: None if request.url.startswith("file:") else slips.append(request.url))
    result.on("requestfailed", failed)
    yield result
    assert slips == []
    context.close()
