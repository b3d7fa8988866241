from collections.abc import Callable

import pytest
from PIL import Image, ImageChops

from featlight.drawing.outline import OUTLINES, draw_heat
from featlight.drawing.rows import Row, draw_rows
from featlight.drawing.sheet import GRAY, INK, Cell
from featlight.drawing.square import MARKS, PANEL

LINE = 90  # a thin line is smoothed, so nowhere quite its colour
Box = tuple[int, int, int, int]
YELLOW, BLUE = OUTLINES["yellow"], OUTLINES["blue"]


def color(row: int, column: int) -> tuple[int, int, int]:
    """One that no text and no panel has."""
    return (40 + 10 * column, 200 - row, 90)


def solid(row: int, column: int, side: int = 64) -> Callable[[], Image.Image]:
    return lambda: Image.new("RGB", (side, side), color(row, column))


def row(number: int, length: int, name: str = "", note: str = "", marks: dict[int, str] | None = None) -> Row:
    cells = [Cell(str(i), solid(number, i), (marks or {}).get(i)) for i in range(length)]
    return Row(name or f"layer{number}", cells, note)


def box(picture: Image.Image, wanted: tuple[int, int, int], within: int = 0) -> Box | None:
    """Where a colour is, or one `within` so much of it: left, top, right, bottom."""
    apart = ImageChops.difference(picture, Image.new("RGB", picture.size, wanted)).split()
    most = ImageChops.lighter(ImageChops.lighter(*apart[:2]), apart[2])
    return most.point([255 * (value <= within) for value in range(256)]).getbbox()


def grid(picture: Image.Image, lengths: list[int]) -> list[list[Box]]:
    found = [[box(picture, color(r, c)) for c in range(length)] for r, length in enumerate(lengths)]
    assert all(place is not None for line in found for place in line)
    return found  # type: ignore[return-value]


@pytest.mark.parametrize(("rows", "columns"), [(3, 4), (5, 16), (11, 8)])
@pytest.mark.parametrize("headed", [False, True])
def test_tiles_stand_in_an_even_grid(rows, columns, headed):
    heads = [str(i) for i in range(columns)] if headed else None
    picture = draw_rows([row(r, columns) for r in range(rows)], title="t", columns=heads, tile=64)
    places = grid(picture, [columns] * rows)
    left, top = places[0][0][:2]
    down = places[1][0][1] - top
    assert down == 64 + 2 if headed else down > 64 + 9  # tiles touch where their numbers stand above the columns
    for r in range(rows):
        for c in range(columns):
            x, y = left + c * 66, top + r * down
            assert places[r][c] == (x, y, x + 64, y + 64)


def test_rows_may_be_of_different_length():
    picture = draw_rows([row(0, 2), row(1, 5), row(2, 1)], title="t", tile=64)
    places = grid(picture, [2, 5, 1])
    assert {line[0][0] for line in places} == {places[0][0][0]}
    after = places[0][1]
    rest = picture.crop((after[2], after[1], picture.width, after[3]))
    assert rest.getextrema() == ((255, 255),) * 3  # no panel where there is no cell


def test_an_empty_row_keeps_its_place():
    picture = draw_rows([row(0, 2), Row("none", []), row(2, 2)], title="t", tile=64)
    top, bottom = box(picture, color(0, 0)), box(picture, color(2, 0))
    assert top is not None
    assert bottom is not None
    assert bottom[1] - top[1] > 2 * 64


def test_names_are_at_the_left_half_way_down_their_tiles():
    picture = draw_rows([row(0, 4, "Mixed_6b"), row(1, 4, "Mixed_6c", note="768 features")], title="t", tile=96)
    places = grid(picture, [4, 4])
    gutter = places[0][0][0]
    for line, inks in zip(places, ([INK], [INK, GRAY]), strict=True):
        name = picture.crop((0, line[0][1], gutter, line[0][3]))
        left, top, right, bottom = ImageChops.invert(name).getbbox() or (0, 0, 0, 0)
        assert left > 16
        assert right < gutter - 4
        assert abs((top + bottom) / 2 - 48) < 6
        assert all(box(name, ink) for ink in inks)


def test_long_names_and_notes_leave_the_tiles_their_room():
    long = draw_rows([row(0, 4, "a.very.long.module.name." * 9, note="so many words " * 30)], title="t", tile=96)
    places = grid(long, [4])
    assert places[0][0][0] < 260
    assert long.height < 300
    name = long.crop((0, places[0][0][1], places[0][0][0] - 4, places[0][0][3]))
    assert box(long.crop((0, places[0][0][3], places[0][0][0], long.height)), INK) is None  # none runs out below
    assert box(name, INK) is not None


def test_numbers_stand_above_the_columns_or_above_every_tile():
    once = draw_rows([row(0, 3), row(1, 3)], title="t", columns=["7", "8", "9"], tile=64)
    each = draw_rows([row(0, 3), row(1, 3)], title="t", tile=64)
    for picture, rows in ((once, grid(once, [3, 3])[:1]), (each, grid(each, [3, 3]))):
        for left, top, right, _ in (place for row_ in rows for place in row_):
            assert picture.crop((left, top - 12, right, top)).getextrema() != ((255, 255),) * 3
    (first, *_), (second, *_) = grid(once, [3, 3])
    assert second[1] - first[3] == 2  # no room for numbers between the rows


def test_short_heads_stand_on_the_tiles_beside_long_ones():
    picture = draw_rows([row(0, 2)], title="t", columns=["a b c d e f g h i j", "z"], tile=64)
    (_, (left, top, right, _)) = grid(picture, [2])[0]
    assert picture.crop((left, top - 14, right, top)).getextrema() != ((255, 255),) * 3
    assert picture.crop((left, top - 28, right, top - 15)).getextrema() == ((255, 255),) * 3


def test_marks_are_drawn_and_counted_as_in_the_atlas():
    marked = row(1, 3, marks={0: "dead: no gradient", 2: "failed: not finite"})
    missing = Row("layer2", [Cell("0", None, "missing: not made yet")])
    picture = draw_rows([row(0, 3), marked, missing], title="t", tile=96)
    assert box(picture, color(1, 0)) is None
    assert box(picture, color(1, 1)) is not None
    assert all(box(picture, ink, 30) for ink in MARKS.values())
    plain = draw_rows([row(0, 3), row(1, 3), row(2, 1)], title="t", tile=96)
    assert picture.height > plain.height  # the legend


def test_tiles_keep_their_own_size_unless_told():
    picture = draw_rows([Row("a", [Cell("0", solid(0, 0, 128)), Cell("1", solid(0, 1, 128))])], title="t")
    left, top, right, bottom = grid(picture, [2])[0][0]
    assert (right - left, bottom - top) == (128, 128)


def test_what_makes_no_figure_is_refused():
    for rows in ([], [Row("a", [])]):
        with pytest.raises(ValueError, match="at least one cell"):
            draw_rows(rows, title="t", tile=64)
    with pytest.raises(ValueError, match="columns: 2 given; the longest row has 3 cells"):
        draw_rows([row(0, 3)], title="t", columns=["0", "1"])


QUARTER = [[1.0, 0.0], [0.0, 0.0]]


def test_heat_keeps_colours_where_a_map_is_high():
    image = Image.new("RGB", (120, 120), (200, 40, 90))
    picture = draw_heat(image, QUARTER)
    assert picture.size == image.size
    assert picture.getpixel((10, 10)) == (200, 40, 90)
    faded = picture.getpixel((100, 100))
    assert isinstance(faded, tuple)
    assert max(faded) - min(faded) <= 2  # gray, and nearer to paper
    assert faded[0] > sum((200, 40, 90)) / 3
    left, top, right, bottom = box(picture, YELLOW, LINE) or (0, 0, 0, 0)
    assert (left, top) == (0, 0)  # it meets the picture's edges
    assert 50 < right < 75  # the level is crossed about half way
    assert 50 < bottom < 75


def test_two_heats_have_two_outlines():
    image = Image.new("RGB", (120, 120), (200, 40, 90))
    left, right = [[1.0, 0.0, 0.0]], [[0.0], [0.0], [0.0], [1.0]]  # each of a grid of its own
    picture = draw_heat(image, left, right)
    assert picture.getpixel((5, 5)) == picture.getpixel((110, 115)) == (200, 40, 90)
    yellow, blue = box(picture, YELLOW, LINE), box(picture, BLUE, LINE)
    assert yellow is not None
    assert blue is not None
    assert yellow[2] < 80
    assert blue[1] > 60
    with pytest.raises(ValueError, match="4 given; at most 3"):
        draw_heat(image, left, left, left, left)


def test_the_level_moves_the_outline():
    image = Image.new("RGB", (90, 90), (200, 40, 90))
    rights = []
    for level in (0.2, 0.5, 0.8):
        found = box(draw_heat(image, [[1.0, 0.0]], level=level), YELLOW, LINE)
        assert found is not None
        rights.append(found[2])
    assert rights[0] > rights[1] > rights[2]


def test_a_map_that_is_nowhere_or_everywhere_high():
    image = Image.linear_gradient("L").convert("RGB")
    assert ImageChops.difference(draw_heat(image, [[1.0]]), image).getbbox() is None
    cold = draw_heat(image, [[0.0, 0.0]])
    assert box(cold, YELLOW, LINE) is None
    assert cold.getpixel((0, 0)) == tuple(round(0.55 * value) for value in PANEL)
