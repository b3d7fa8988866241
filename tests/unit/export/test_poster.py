"""Pages of a whole layer: their size on paper, how they are filled, and that the right tiles stand on them."""

import io
import re

import pytest
from PIL import Image

from featlight.drawing.sheet import Cell, Heading, draw_sheet
from featlight.export.poster import PAPERS, encode_poster, lay_out_poster
from tests.made_up import color

WORDS = Heading("tiny_inception Mixed_5a", "", "embedded weights · 56 steps · seed 999", "")
TEXT = {"Title": "tiny_inception Mixed_5a", "Software": "featlight 0.1.0"}


def cells(count, dead=()):
    def opens(i):
        return lambda: Image.new("RGB", (40, 40), color(i))

    return [Cell(str(i), opens(i), "dead: no gradient" if i in dead else None) for i in range(count)]


def place(sheet, i):
    """The left top corner of a tile."""
    return sheet.left + i % sheet.columns * sheet.across, sheet.top + i // sheet.columns * sheet.down


def largest_tile(count, width, height):
    """Of squares in a bare page, whatever the number of columns."""
    return max(min(width / columns, height / -(-count // columns)) for columns in range(1, count + 1))


@pytest.mark.parametrize("dpi", [100, 300])
@pytest.mark.parametrize("paper", PAPERS)
def test_a_page_is_as_large_as_its_paper(paper, dpi):
    sheet = lay_out_poster(cells(192), WORDS, paper, dpi)
    sides = sorted((sheet.width, sheet.height))
    assert sides == [round(side / 25.4 * dpi) for side in PAPERS[paper]]


def test_a_pdf_says_its_size_in_points_and_its_words():
    picture = draw_sheet(lay_out_poster(cells(12), WORDS, "A4", 100))
    pdf = encode_poster(picture, ".pdf", TEXT, 100, "2026-01-02")
    (box,) = re.findall(rb"/MediaBox \[ ([\d. ]+) \]", pdf)
    a4 = [0, 0, 210 / 25.4 * 72, 297 / 25.4 * 72]
    assert list(map(float, box.split())) == pytest.approx(a4, abs=0.5)
    assert b"(D:20260102000000Z)" in pdf
    assert TEXT["Title"].encode("utf-16-be") in pdf
    jpeg = pdf[pdf.index(b"\xff\xd8\xff") : pdf.rindex(b"endstream")]
    with Image.open(io.BytesIO(jpeg)) as inside:
        assert inside.size == picture.size
        assert inside.getpixel((400, 600)) == pytest.approx(picture.getpixel((400, 600)), abs=4)


def test_a_png_says_its_resolution():
    with Image.open(io.BytesIO(encode_poster(Image.new("RGB", (60, 90)), ".png", TEXT, 300, "2026-01-02"))) as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        assert image.text["Title"] == TEXT["Title"]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 12, 64, 192, 768, 2048])
def test_the_grid_fills_the_page(count):
    sheet = lay_out_poster(cells(count), WORDS, "A2", 300)
    short, long = sorted((sheet.width, sheet.height))
    assert sheet.tile > 0.65 * max(largest_tile(count, short, long), largest_tile(count, long, short))
    corners = [place(sheet, i) for i in range(count)]
    margin = short / 24
    right = max(x for x, _ in corners) + sheet.tile
    bottom = max(y for _, y in corners) + sheet.tile
    assert min(x for x, _ in corners) >= round(margin) - 1
    assert right <= sheet.width - round(margin) + 1
    assert bottom < sheet.height - margin
    if count > 5:  # fewer squares cannot fill it both ways
        assert right > sheet.width - 1.2 * margin
        assert bottom > sheet.height - 2.6 * margin
    assert sheet.across > sheet.tile
    assert sheet.down > sheet.tile + sheet.label


def test_the_way_round_is_the_one_with_the_larger_tiles():
    assert lay_out_poster(cells(2), WORDS, "A3", 100).width == 1654
    assert lay_out_poster(cells(12), WORDS, "A3", 100).width == 1169


def test_every_tile_stands_at_its_place_and_a_dead_one_is_marked():
    sheet = lay_out_poster(cells(60, dead={7}), WORDS, "A4", 150)
    picture = draw_sheet(sheet)
    half = sheet.tile // 2
    for i in range(60):
        x, y = place(sheet, i)
        middle = picture.getpixel((x + half, y + half))
        assert (middle == color(i)) == (i != 7)
        under = picture.crop((x, y + sheet.tile + 1, x + sheet.tile, y + sheet.down))
        assert under.getextrema() != ((255, 255),) * 3  # its number
    legend = [line for line in sheet.text_lines if line.swatch]
    assert [run.text for run in legend] == ["dead: no gradient (1 of 60)"]
    assert legend[0].y > place(sheet, 59)[1] + sheet.tile
    assert sheet.text_lines[0].text == WORDS.title


def test_numbers_can_be_read_on_paper():
    for paper in ("A2", "A1", "A0"):
        sheet = lay_out_poster(cells(768), WORDS, paper, 300)
        assert sheet.label >= 6 / 72 * 300


def test_tiles_are_opened_one_at_a_time_and_once():
    there, most, times = 0, 0, 0

    class Counted:
        def __init__(self):
            self.image = Image.new("RGB", (40, 40))

        def __enter__(self):
            nonlocal there, most, times
            there, times = there + 1, times + 1
            most = max(most, there)
            return self.image

        def __exit__(self, *_):
            nonlocal there
            there -= 1

    draw_sheet(lay_out_poster([Cell(str(i), Counted) for i in range(30)], WORDS, "A4", 50))
    assert (most, times) == (1, 30)


def test_what_does_not_fit_is_said():
    with pytest.raises(ValueError, match="200000 tiles do not fit A4 at 50 dpi"):
        lay_out_poster(cells(200_000), WORDS, "A4", 50)
    with pytest.raises(ValueError, match="at least one"):
        lay_out_poster([], WORDS, "A4", 50)
