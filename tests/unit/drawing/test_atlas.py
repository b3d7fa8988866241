import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from PIL import Image, ImageChops, ImageStat

from featlight.drawing.atlas import SAMPLE, draw_atlas, draw_grid
from featlight.drawing.sheet import Cell, Drawing, Heading, Sheet, draw_sheet, lay_out
from featlight.drawing.square import HAIRLINE
from featlight.drawing.text import GLYPHS, measure, plain, shorten, wrap
from featlight.image_io import encode_png

WHITE = (255, 255, 255)
Box = tuple[int, int, int, int]


def color(i: int) -> tuple[int, int, int]:
    """One that no text, panel or other tile has."""
    return (40 + i % 200, 200 - i // 200, 90)


def solid(i: int, side: int = 64) -> Callable[[], Image.Image]:
    return lambda: Image.new("RGB", (side, side), color(i))


def cells(count: int, side: int = 64, marks: dict[int, str] | None = None) -> list[Cell]:
    return [Cell(str(i), solid(i, side), (marks or {}).get(i)) for i in range(count)]


def boxes(picture: Image.Image) -> dict[tuple[int, int, int], Box]:
    """Where each tile's colour is: left, top, right, bottom."""
    found: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
    pixels = picture.load()
    assert pixels is not None
    for y in range(picture.height):
        for x in range(picture.width):
            r, g, b = pixels[x, y]
            if b == 90 and 40 <= r < 240 and 150 <= g <= 200:
                found.setdefault((r, g, b), []).append((x, y))
    return {
        key: (
            min(x for x, _ in at),
            min(y for _, y in at),
            max(x for x, _ in at) + 1,
            max(y for _, y in at) + 1,
        )
        for key, at in found.items()
    }


def blank(picture: Image.Image) -> bool:
    return picture.getextrema() == ((255, 255),) * 3


def tinted(picture: Image.Image) -> bool:
    red, _, blue = picture.split()
    return ImageChops.difference(red, blue).getextrema()[1] > 40  # type: ignore[operator]


def margins_are_blank(picture: Image.Image, margin: int = 16) -> bool:
    w, h = picture.size
    edges = [(0, 0, w, margin), (0, h - margin, w, h), (0, 0, margin, h), (w - margin, 0, w, h)]
    return all(blank(picture.crop(edge)) for edge in edges)


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (7, 3), (16, None), (40, None)])
def test_every_tile_stands_whole_and_in_reading_order(count: int, columns: int | None) -> None:
    found = boxes(draw_grid(cells(count), title="layer", columns=columns, tile=64))
    assert set(found) == {color(i) for i in range(count)}
    assert {(right - left, bottom - top) for left, top, right, bottom in found.values()} == {(64, 64)}
    places = sorted(found, key=lambda key: (found[key][1], found[key][0]))
    assert places == [color(i) for i in range(count)]
    if columns is not None:
        assert len({box[0] for box in found.values()}) == min(columns, count)
    gaps = {b[0] - a[2] for a in found.values() for b in found.values() if a[1] == b[1] and a[2] <= b[0]}
    assert not gaps or min(gaps) == 2


def test_a_tile_is_drawn_pixel_for_pixel() -> None:
    tile = Image.effect_noise((96, 96), 90).convert("RGB")
    picture = draw_grid([Cell("0", lambda: tile), Cell("1", solid(1, 96))], title="layer", columns=2)
    left, top, _, _ = boxes(picture)[color(1)]
    pitch = 96 + 2
    assert ImageChops.difference(picture.crop((left - pitch, top, left - 2, top + 96)), tile).getbbox() is None


def test_a_white_tile_is_framed() -> None:
    """On white paper it would be taken for a place that is empty."""
    whites = [Cell(str(i), lambda i=i: Image.new("RGB", (64, 64), (255 - i, 255, 255))) for i in (0, 40)]
    sheet = lay_out(whites, Heading("", "", "", ""), 2, 64)
    picture = draw_sheet(sheet)
    tiles = [picture.crop((x, sheet.top, x + 64, sheet.top + 64)) for x in (sheet.left, sheet.left + sheet.across)]
    assert [tile.getpixel((0, 9)) for tile in tiles] == [HAIRLINE, (215, 255, 255)]
    assert tiles[0].getpixel((1, 9)) == WHITE


def test_each_label_is_drawn_under_its_tile() -> None:
    picture = draw_grid(cells(12), title="", columns=4, tile=64)
    names = set()
    for left, _, right, bottom in boxes(picture).values():
        name = picture.crop((left, bottom, right, bottom + 20))
        assert not blank(name)
        names.add(name.tobytes())
    assert len(names) == 12


def test_other_sizes_are_scaled_to_the_usual_one() -> None:
    sides = [64, 64, 32, 200, 90, 64, 16]
    mixed = [Cell(str(i), solid(i, side)) for i, side in enumerate(sides)]
    found = boxes(draw_grid(mixed, title="layer", tile=64))
    assert {(right - left, bottom - top) for left, top, right, bottom in found.values()} == {(64, 64)}
    wide = Cell("0", lambda: Image.new("L", (128, 64), 0))
    picture = draw_grid([wide, *cells(2)[1:]], title="", tile=128, columns=2)
    left, top, _, _ = boxes(picture)[color(1)]
    shape = picture.crop((left - 130, top, left - 2, top + 128)).convert("L").point(lambda v: 255 * (v == 0))
    assert shape.getbbox() == (0, 32, 128, 96)


@pytest.mark.parametrize(("count", "limit"), [(1, 640), (6, 640), (40, 1000), (200, 1000), (2000, 1600)])
def test_a_width_that_is_given_is_used_and_not_passed(count: int, limit: int) -> None:
    side = 380
    picture = draw_grid(cells(count, side), title="a layer", width_limit=limit)
    assert picture.width <= limit
    assert picture.width > 0.9 * limit or count < 12  # fewer fill a page of another shape
    assert len(boxes(picture)) == count


def test_a_width_that_suffices_changes_nothing() -> None:
    drawn = draw_grid(cells(6), title="a layer")
    assert draw_grid(cells(6), title="a layer", width_limit=1600).tobytes() == drawn.tobytes()


def test_tiny_tiles_are_enlarged_by_whole_pixels() -> None:
    tile = Image.effect_noise((24, 24), 90).convert("RGB")
    layer = [Cell("noise", lambda: tile), *cells(20, side=24)[1:]]
    picture = draw_grid(layer, title="layer", columns=20)
    left, top, right, _ = boxes(picture)[color(1)]
    assert right - left == 72
    shown = picture.crop((left - 74, top, left - 2, top + 72))
    assert ImageChops.difference(shown.resize((24, 24), Image.Resampling.NEAREST), tile).getbbox() is None
    assert ImageChops.difference(tile.resize((72, 72), Image.Resampling.NEAREST), shown).getbbox() is None


def test_marked_tiles_look_different_and_are_counted() -> None:
    marks = {3: "dead: no gradient", 5: "dead: no gradient", 7: "failed: not finite", 9: "missing"}
    plain_cells, marked = cells(16), cells(16, marks=marks)
    clean, picture = (draw_grid(c, title="layer", columns=4, tile=64) for c in (plain_cells, marked))
    assert set(boxes(clean)) - set(boxes(picture)) == {color(i) for i in marks}
    assert picture.height > clean.height  # the legend
    where = boxes(clean)
    inks = [ImageStat.Stat(picture.crop(where[color(i)]).convert("L")).stddev[0] for i in marks]
    assert min(inks) > 3
    captions = {i: picture.crop((b[0], b[3], b[2], b[3] + 20)) for i in range(16) for b in [where[color(i)]]}
    assert {i for i, caption in captions.items() if tinted(caption)} == set(marks)
    sheet = lay_out(marked, Heading("layer", "", "", ""), 4, 64)
    legend = [line.text for line in sheet.text_lines if line.swatch]
    assert legend == ["dead: no gradient (2 of 16)", "failed: not finite (1 of 16)", "missing (1 of 16)"]


def test_many_reasons_are_counted_by_kind() -> None:
    layer = cells(300, marks={i: f"failed: not finite at step {i}" for i in range(200)})
    legend = [line for line in lay_out(layer, Heading("layer", "", "", ""), 20, 64).text_lines if line.swatch]
    assert [run.text for run in legend] == ["failed (200 of 300)"]


def test_patterns_differ_without_a_tile_too() -> None:
    kinds = ["dead: x", "failed: x", "missing", "skipped", None]
    row = [Cell("0", None, kind) for kind in kinds] + cells(6)[5:]
    picture = draw_grid(row, title="", columns=6, tile=64)
    left, top, _, _ = boxes(picture)[color(5)]
    looks = {picture.crop((left - 66 * i, top, left - 66 * i + 64, top + 64)).tobytes() for i in range(1, 6)}
    assert len(looks) == 4  # an unknown mark and nothing to show are both an empty panel
    assert not any(blank(picture.crop((left - 66 * i, top, left - 66 * i + 64, top + 64))) for i in range(1, 6))


@pytest.mark.parametrize("count", [1, 3, 16, 64, 192, 500])
@pytest.mark.parametrize("side", [64, 144, 380])
def test_no_side_is_beyond_the_limit_and_pages_cover_each_cell_once(count: int, side: int) -> None:
    opened: list[int] = []

    def tile(i: int) -> Image.Image:
        opened.append(i)
        return Image.new("RGB", (side, side), color(i))

    layer = [
        Cell(str(i), lambda i=i: tile(i), "dead: no gradient" if i % 50 == 9 else None)  # type: ignore[misc]
        for i in range(count)
    ]
    pages: list[list[int]] = []
    suffixes = []
    for suffix, picture in draw_atlas(layer, title="layer " * 20, subtitle="recipe " * 50, side_limit=1500):
        assert max(picture.size) <= 1500
        suffixes.append(suffix)
        sampled = 0 if pages else -(-count // -(-count // SAMPLE))  # before the first some are opened for their size
        pages.append(opened[sampled:])
        opened.clear()
    assert [i for page in pages for i in page] == list(range(count))
    if len(pages) > 1:
        assert pages.pop() == []  # the overview shows what the pages have opened
        assert suffixes == [*(f"-p{n:02d}" for n in range(1, len(pages) + 1)), ""]
        assert {len(page) for page in pages[:-1]} <= {len(pages[0])}
        assert len(pages[-1]) <= len(pages[0])
    else:
        assert suffixes == [""]


def test_limits_hold_for_many_shapes() -> None:
    for count in [*range(1, 40, 3), 100, 333, 768]:
        for side in (64, 100, 256, 512):
            layer = [Cell(f"name {i} of a tile", None) for i in range(count)]
            layer[0] = Cell("0", solid(0, side))
            limit = 1024 + 37 * (count % 7)
            _, first = next(draw_atlas(layer, title="t", subtitle="s", side_limit=limit))
            assert max(first.size) <= limit


def test_full_pages_keep_the_tiles_size_and_say_where_they_are() -> None:
    layer = cells(90, side=144)
    sheets = dict(draw_atlas(layer, title="layer", side_limit=1500))
    assert list(sheets) == ["-p01", "-p02", ""]
    for number, suffix in enumerate(["-p01", "-p02"]):
        found = boxes(sheets[suffix])
        assert set(found) == {color(i) for i in range(45 * number, 45 * number + 45)}
        assert {right - left for left, _, right, _ in found.values()} == {144}
    heads = [sheet.crop((0, 0, 1500, 60)).tobytes() for sheet in sheets.values()]
    assert len(set(heads)) == 3
    assert set(boxes(sheets[""])) == {color(i) for i in range(90)}


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        ([str(i) for i in range(90)], "page 1 of 2, features 0-44"),
        ([f"{i} row 8" for i in range(90)], "page 1 of 2, 0 row 8 to 44 row 8"),
    ],
)
def test_what_a_page_says(labels: list[str], note: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def drawing(sheet: Sheet) -> Drawing:
        said.append(sheet.text_lines[1].text)
        return Drawing(sheet)

    for module in ("atlas", "sheet"):  # the overview is drawn by the first, pages by the second
        monkeypatch.setattr(f"featlight.drawing.{module}.Drawing", drawing)
    list(draw_atlas([Cell(label, solid(0, 144)) for label in labels], title="layer", side_limit=1500))
    kind = "features" if labels[1].isdigit() else "tiles"
    assert said[:2] == [f"all 90 {kind}, full size on 2 pages", note]


def test_one_tile_is_open_at_a_time_and_sheets_wait_until_asked_for() -> None:
    open_now, most, opened = 0, 0, 0

    @contextmanager
    def tile() -> Iterator[Image.Image]:
        nonlocal open_now, most, opened
        open_now, opened = open_now + 1, opened + 1
        most = max(most, open_now)
        yield Image.new("RGB", (380, 380))
        open_now -= 1

    sheets = draw_atlas([Cell(str(i), cast(Any, tile)) for i in range(30)], title="layer", side_limit=1500)
    assert opened == 0
    next(sheets)
    assert 30 < opened < 60  # for the sizes, and for the first page
    list(sheets)
    assert (opened, most, open_now) == (60, 1, 0)


@pytest.mark.parametrize("title", ["layer", "a_very_long_module_name." * 30, "many short words " * 40, "W" * 300])
@pytest.mark.parametrize("count", [1, 3, 24])
def test_words_never_run_off(title: str, count: int) -> None:
    layer = [Cell(title, solid(i), "failed: " + title if i % 2 else None) for i in range(count)]
    picture = draw_grid(layer, title=title, subtitle=title * 2, footer=title * 2)
    assert margins_are_blank(picture)
    first_row = min(box[1] for box in boxes(picture).values())
    assert first_row < 260  # what does not fit is cut, not stacked up


def test_landscapes() -> None:
    for count, side in [(16, 224), (64, 128), (100, 128), (192, 144), (768, 96)]:
        layer = [Cell(str(i), None) for i in range(count)]
        width, height = draw_grid(layer, title="layer", subtitle="recipe", tile=side).size
        assert 1.3 < width / height < 1.75
    layer = [Cell(str(i), None) for i in range(192)]
    assert 2400 <= draw_grid(layer, title="layer", tile=144).width <= 3200


def test_unknown_letters_are_spelled() -> None:
    said = plain(
        "Büro → Straße, Łódź \N{MULTIPLICATION SIGN} \N{GREEK SMALL LETTER SIGMA}=2.4\N{EN DASH}0.8,\n x² ≤ ½ Ω 特"
    )
    assert said == "Buro -> Strasse, Lodz x sigma=2.4-0.8, x2 <= 1/2 Omega ?"
    assert set(said) <= GLYPHS
    assert plain(said) == said
    title = "Büro \N{MULTIPLICATION SIGN} \N{GREEK SMALL LETTER SIGMA} 特徴 \N{COMBINING ACUTE ACCENT}\N{PILE OF POO}"
    assert not blank(draw_grid(cells(3), title=title).crop((0, 0, 552, 60)))


def test_wrapping() -> None:
    text = "three octaves · three hundred steps · seed 999"
    for width in (80, 120, 200, 400):
        lines = wrap(text, 14, width, 9)
        assert all(measure(line, 14) <= width for line in lines)
        assert not any(line.startswith("·") or line.endswith("·") for line in lines)
        assert " ".join(lines).replace(" ·", "") == text.replace(" ·", "")
    assert wrap(text, 14, 120, 2)[-1].endswith("…")
    assert wrap("", 14, 100, 2) == []
    assert wrap("inception.Mixed_6b.branch_pool", 14, 120, 3)[0][-1] in "._"
    assert shorten("short", 14, 400) == "short"
    assert measure(shorten(text, 14, 100), 14) <= 100


def test_same_input_same_bytes_and_text_comes_back() -> None:
    text = {"Title": "layer", "Recipe": "\N{GREEK SMALL LETTER SIGMA} 2.4, 特徴", "Seed": "999"}
    marks = {2: "dead: no gradient"}
    first, second = (draw_grid(cells(9, marks=marks), title="layer", subtitle="s") for _ in range(2))
    data = encode_png(first, text)
    assert data == encode_png(second, dict(reversed(text.items())))
    with Image.open(io.BytesIO(data)) as back:
        assert back.text == text  # type: ignore[attr-defined]
        assert ImageChops.difference(back.convert("RGB"), first).getbbox() is None


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one cell"):
        draw_grid([], title="layer")
    with pytest.raises(ValueError, match="side_limit is 500 px"):
        next(draw_atlas(cells(3), title="layer", side_limit=500))
    with pytest.raises(ValueError, match="100000 cells are too many for an overview of 1024 px"):
        next(draw_atlas([Cell("0", None)] * 100_000, title="layer", side_limit=1024))
