"""Measure the viewer's speed with many tiles.

python -m benchmarks.viewer [--tiles 10000] [--examples 9] [--out DIR]

Writes an artificial run, draws it, opens it in Chromium, prints the measurements, and writes a record to
benchmarks/results/.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from benchmarks.record import TREE, surroundings, write
from featlight.report.build import render
from tests.made_up import made_up_examples, made_up_run

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
# milliseconds from the request of the page to its first tiles on the screen
LOADED = "performance.getEntriesByName('featlight-first-tiles')[0]?.startTime"

SCROLL = """() => new Promise((done) => {
    const taken = [];
    const step = () => {
        scrollBy(0, 120);
        const start = performance.now();
        Featlight.app.grid.draw();
        taken.push(performance.now() - start);
        if (taken.length < 60) requestAnimationFrame(step);
        else done(taken);
    };
    step();
})"""


def texture(number: int) -> Image.Image:
    """Return smooth noise of 144 px, which compresses about as well as a tile."""
    generator = np.random.default_rng(number)
    small = Image.fromarray(generator.integers(0, 256, (24, 24, 3), np.uint8))
    return small.resize((144, 144), Image.Resampling.BICUBIC)


def measure(page: Page, address: str, repeats: int) -> dict[str, float]:
    """Return medians of several measurements, in milliseconds."""
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    for _ in range(repeats):
        page.goto("about:blank")
        page.goto(address)
        page.wait_for_function(f"() => {LOADED}")
        note("load, until the first tiles are seen", page.evaluate(LOADED))
        for name, change in {
            "filter by activation": "document.getElementById('low').value = '50'",
            "search 1000-1999": "document.getElementById('search').value = '1000-1999'",
            "sort by activation": "document.getElementById('sort').value = 'end'",
        }.items():
            taken = page.evaluate(
                f"() => {{ {change}; const t = performance.now(); Featlight.app.refresh(); "
                "return performance.now() - t; }"
            )
            note(name, taken)
            page.evaluate("Featlight.app.reset()")
        for order in ("feature", "activation"):
            frames = page.evaluate(SCROLL)
            note(f"a frame while scrolling by {order}, median", float(np.median(frames)))
            note(f"a frame while scrolling by {order}, the slowest of 60", max(frames))
            page.evaluate("scrollTo(0, 0); Featlight.app.sortBy('end')")
            page.wait_for_timeout(1500)  # sprite sheets of the whole layer are loaded
    return {name: float(np.median(values)) for name, values in found.items()}


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=10_000, help="number of tiles (default: 10000)")
    parser.add_argument("--examples", type=int, default=0, help="number of examples of each tile (default: 0)")
    parser.add_argument("--repeats", type=int, default=5, help="number of repeats (default: 5)")
    parser.add_argument("--out", type=Path, help="run directory to keep; an existing run is used again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = options.out or Path(folder) / "run"
        if not (root / "index.html").is_file():
            vectors = np.random.default_rng(0).random((options.tiles, 256))
            started = time.perf_counter()
            store = made_up_run(root, {"layer": options.tiles}, picture=texture, vectors={"layer": vectors})
            if options.examples:
                made_up_examples(store, options.examples, texture)
            print(f"made up: {time.perf_counter() - started:.1f} s")
            plan = store.plan()
            assert plan is not None
            started = time.perf_counter()
            render(store, plan)
            print(f"drawn with its atlas: {time.perf_counter() - started:.1f} s")
        values = surroundings(torch.device("cpu"), "benchmarks.viewer")
        print(f"{options.tiles} tiles; {values['cpu']['name']}, {values['date']}")
        data = (root / "assets/data.js").stat().st_size / 1e6
        print(f"assets: {megabytes(root / 'assets'):.1f} MB, of it data.js {data:.2f} MB")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            print(f"Chromium {browser.version}, 1440 x 900 px")
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            measured = measure(page, (root / "index.html").resolve().as_uri(), options.repeats)
            for name, value in measured.items():
                print(f"{name}: {value:.1f} ms")
            values |= {"tiles": options.tiles, "examples": options.examples, "chromium": browser.version}
            browser.close()
    milliseconds = {name: round(value, 1) for name, value in measured.items()}
    path = TREE / "benchmarks" / "results" / f"viewer-{options.tiles}-tiles.json"
    write(path, values | {"milliseconds": milliseconds})


if __name__ == "__main__":
    main()
