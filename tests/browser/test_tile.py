"""Tiles, links and comparisons in a real browser."""

import pytest

from tests.browser.window import count, opened, settle, shows
from tests.made_up import color

pytestmark = pytest.mark.browser


def test_a_link_opens_its_tile_and_survives_a_reload(page, runs):
    opened(page, runs / "one", "#Mixed_5a/00006")
    for _ in range(2):
        title = page.locator("#detail-title")
        assert title.inner_text().split() == ["6", "Mixed_5a"]
        detail = page.locator("#detail")
        detail.locator(".plot").wait_for()
        text = detail.inner_text()
        words = ("0.25\nbefore", "22.5\nafter", "22.3\ngain", "2\ngradient norm")
        for word in (*words, "Seed\n999", "4 steps at 32 px", "Octave by octave"):
            assert word in text
        assert "--layer Mixed_5a --features 6 " in detail.locator("pre").inner_text()
        assert page.locator("#detail .picture img").evaluate("(image) => image.naturalWidth") == 40
        assert page.locator("#detail .strip img").count() == 2
        page.reload()
        page.wait_for_function("() => document.getElementById('detail').open")
    page.keyboard.press("Escape")
    assert not page.locator("#detail").is_visible()
    assert "#" not in page.url
    page.go_back()
    page.locator("#detail").wait_for()
    assert title.inner_text().startswith("6")


def test_a_link_to_no_tile_says_so(page, runs):
    page.goto((runs / "one" / "index.html").as_uri() + "#Mixed_4a/99999")
    page.wait_for_function("() => document.getElementById('count').textContent")
    assert count(page) == "No tile Mixed_4a/99999 in this run."


@pytest.mark.parametrize(
    "hash", ["%", "Mixed_4a/%zz", "%E0%A4/x", "Mixed_4a/00001&with=%", "&with=%zz&run=%", "&run=..%2F%E0"]
)
def test_percent_codes_that_are_broken_are_read_as_they_stand(page, runs, hash):
    opened(page, runs / "one", f"#{hash}")
    assert page.locator("#detail").is_visible() == hash.startswith("Mixed_4a/00001")
    if "/%" in hash or hash.endswith("/x"):
        assert page.locator("#count").inner_text() == f"No tile {hash} in this run."
    page.evaluate("location.hash = '#Mixed_4a/00002'")
    page.locator("#detail .plot").wait_for()
    assert page.evaluate("Featlight.detail.folderOf({ base: 'http://x/50%/' })") == "50%"


def test_a_click_opens_the_tile_under_it(page, runs):
    opened(page, runs / "one")
    box = page.locator("#grid canvas").bounding_box()
    place = page.evaluate("Featlight.layout.boxOf(Featlight.app.grid.layout, 5)")
    page.mouse.click(box["x"] + place["x"] + 10, box["y"] + place["y"] + 10)
    assert page.url.endswith("#Mixed_4a/00005")
    page.get_by_role("button", name="Next tile").click()
    assert page.url.endswith("#Mixed_4a/00006")


def test_two_tiles_side_by_side(page, runs):
    opened(page, runs / "one", "#Mixed_4a/00008")
    page.keyboard.press("c")
    assert "Comparing with 8 of Mixed_4a" in page.locator("#pinned").inner_text()
    page.evaluate("Featlight.app.act.open(Featlight.app.state.run.tiles.get('Mixed_5a/00002'))")
    assert page.url.endswith("#Mixed_5a/00002&with=Mixed_4a/00008")
    for _ in range(2):
        page.locator("#detail .plot").nth(1).wait_for()
        assert [text.split() for text in page.locator("#detail h2").all_inner_texts()] == [
            ["2", "Mixed_5a"],
            ["8", "Mixed_4a"],
        ]
        page.reload()
    page.locator("#detail").get_by_role("button", name="Stop comparing").click()
    assert page.url.endswith("#Mixed_5a/00002")
    page.wait_for_function("() => document.querySelectorAll('#detail h2').length === 1")


def test_two_runs_side_by_side(page, runs):
    opened(page, runs / "one")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_label("Folder of the other run").fill("../two")
    page.get_by_role("button", name="Compare").click()
    page.wait_for_function("() => Featlight.app.state.other")
    assert page.url.endswith("#&run=..%2Ftwo")
    page.reload()
    page.wait_for_function("() => Featlight.app.state.other")
    page.evaluate("scrollTo(0, 0)")  # to the form, far down, it was scrolled before
    settle(page)
    assert "Right: two (tiny_inception, RANDOM WEIGHTS, seed 1)" in page.locator("#pinned").inner_text()
    for index in (0, 2, 5):
        assert shows(page, index, color(index))
        assert shows(page, index, color(index + 7), beside=True)
    page.evaluate("Featlight.app.act.open(Featlight.app.grid.tiles[2])")
    page.locator("#detail .plot").nth(1).wait_for()
    assert "of two" in page.locator("#detail").inner_text()
    assert "RANDOM WEIGHTS, seed 1" in page.locator("#detail").inner_text()


def test_a_path_that_is_no_run_is_not_followed(page, runs):
    for path in ("https://example.com/x", "/etc", "file:///etc", "a/../../b", "//host/x"):
        opened(page, runs / "one", f"#&run={path.replace('/', '%2F')}")
        assert "is not a relative path" in count(page)
        assert page.evaluate("Featlight.app.state.other") is None


@pytest.mark.parametrize("width", [390, 1000])
def test_nothing_runs_off_the_side(page, runs, width):
    page.set_viewport_size({"width": width, "height": 844})

    def fits():
        widths = page.evaluate("[document.documentElement, document.querySelector('dialog')].map((e) => e.scrollWidth)")
        return max(widths) <= width

    for hash, ready in (
        ("", "#grid"),
        ("#Mixed_4a/00002", "#detail .plot"),
        ("#Mixed_4a/00002&with=Mixed_4a/00005", "#detail article:nth-child(2) .plot"),
    ):
        opened(page, runs / "one", hash)
        page.locator(ready).wait_for()
        assert fits()
        page.keyboard.press("Escape")
    for name in ("Pictures", "Run"):
        page.get_by_role("button", name=name, exact=True).click()
        assert page.locator("h2:visible").count() > 0
        assert fits()


def test_pictures_and_run(page, runs):
    opened(page, runs / "one")
    page.get_by_role("button", name="Pictures").click()
    hrefs = page.locator("#view-pictures a").evaluate_all("(all) => all.map((a) => a.href)")
    assert (runs / "one/atlas/Mixed_4a.png").as_uri() in hrefs
    assert page.locator("#view-pictures img").first.evaluate("(i) => i.decode().then(() => i.naturalWidth)") == 1536
    page.get_by_role("button", name="Run", exact=True).click()
    assert "Metric\nl1" in page.locator("#view-run").inner_text()
    opened(page, runs / "two")
    assert page.locator(".head .loud").inner_text() == "RANDOM WEIGHTS, seed 1"
