import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageFilter, ImageStat

from featlight.drawing.animation import GROWN, NEWEST, WAITING, encode_animation, growth_frames, octave_frames
from featlight.drawing.sheet import Cell
from featlight.drawing.square import MARKS

RED, BLUE = (200, 30, 40), (30, 60, 190)


def solid(color: tuple[int, int, int], side: int = 16) -> Callable[[], Image.Image]:
    return lambda: Image.new("RGB", (side, side), color)


def cells(count: int) -> list[Cell]:
    return [Cell(str(i), solid((20 + i, 90, 160))) for i in range(count)]


def textured(seed: int, size: tuple[int, int] = (61, 47)) -> Image.Image:
    """Smooth colours, different for each seed."""
    ramp = Image.linear_gradient("L").resize(size)
    bands = [ramp.rotate(40 * seed + turn, fillcolor=128) for turn in (0, 90, 200)]
    return Image.merge("RGB", bands).filter(ImageFilter.GaussianBlur(5))


def read(encoded: bytes) -> list[tuple[Image.Image, int]]:
    """Frames and their times, in milliseconds, as Pillow's own decoders see them."""
    frames = []
    with Image.open(io.BytesIO(encoded)) as image:
        count: int = image.n_frames  # type: ignore[attr-defined]
        assert count == 1 or image.info["loop"] == 0
        for i in range(count):
            image.seek(i)
            image.load()
            frames.append((image.convert("RGB"), int(image.info.get("duration", 0))))
    return frames


def distance(a: Image.Image, b: Image.Image) -> float:
    return max(ImageStat.Stat(ImageChops.difference(a, b)).rms)


def count(picture: Image.Image, color: tuple[int, int, int]) -> int:
    return {value: n for n, value in picture.getcolors(1 << 20) or []}.get(color, 0)


@pytest.mark.parametrize("format", ["WEBP", "GIF"])
def test_frames_come_back_in_order_with_their_times(format):
    frames = [textured(i) for i in range(5)]
    found = read(encode_animation(frames, milliseconds=80, format=format, hold_last_ms=1500, quality=90))
    assert [time for _, time in found] == [80, 80, 80, 80, 1500]
    for i, (picture, _) in enumerate(found):
        assert distance(picture, frames[i]) < 5  # of 255: lossy, or 256 colours
        assert distance(picture, frames[i - 1]) > 20


@pytest.mark.parametrize("format", ["WEBP", "GIF"])
def test_frames_that_are_alike_are_shown_as_long_as_all_of_them(format):
    frames = [textured(0)] * 4 + [textured(1)] + [textured(1)] * 2
    found = read(encode_animation(frames, milliseconds=50, format=format, hold_last_ms=1500))
    assert [time for _, time in found] == [4 * 50, 2 * 50 + 1500]
    for (picture, _), seed in zip(found, (0, 1), strict=True):
        assert distance(picture, textured(seed)) < 5


@pytest.mark.parametrize("format", ["WEBP", "GIF"])
def test_one_frame_is_an_animation_too(format):
    ((picture, _),) = read(encode_animation([Image.new("RGB", (9, 7), RED)], milliseconds=50, format=format))
    assert picture.size == (9, 7)
    assert distance(picture, Image.new("RGB", (9, 7), RED)) < 3


@pytest.mark.parametrize("format", ["WEBP", "GIF"])
def test_the_same_frames_give_the_same_bytes_whatever_they_carry(format):
    def frames(**info: object) -> list[Image.Image]:
        pictures = [textured(i) for i in range(3)]
        for picture in pictures:
            picture.info.update(info)
        return pictures

    first = encode_animation(frames(), milliseconds=80, format=format)
    carrying = frames(comment=b"x", duration=7, icc_profile=b"y" * 200, transparency=3, exif=b"z")
    assert encode_animation(iter(carrying), milliseconds=80, format=format) == first


@pytest.mark.parametrize("format", ["WEBP", "GIF"])
def test_white_paper_stays_white(format):
    picture = Image.new("RGB", (96, 96), (255, 255, 255))
    picture.paste(textured(2, (64, 64)), (16, 16))
    ((found, _),) = read(encode_animation([picture], milliseconds=80, format=format))
    assert found.getpixel((4, 4)) == (255, 255, 255)


def test_what_cannot_be_an_animation_is_refused():
    with pytest.raises(ValueError, match="at least one frame"):
        encode_animation([], milliseconds=80, format="GIF")
    with pytest.raises(ValueError, match="frame 1 is"):
        encode_animation([textured(0), textured(0, (5, 5))], milliseconds=80, format="WEBP")
    with pytest.raises(ValueError, match="milliseconds: 10 given"):
        encode_animation([textured(0)], milliseconds=10, format="GIF")
    with pytest.raises(ValueError, match="hold_last_ms"):
        encode_animation([textured(0)], milliseconds=80, format="GIF", hold_last_ms=100_000)


def grown(mark: bool = False, last: int = 6) -> list[Image.Image]:
    positions = [(i // 4, i % 4) for i in range(last)]
    return list(growth_frames(cells(last), positions, (3, 4), title="a feature", mark=mark, size=120))


def test_growth_has_a_frame_for_each_neuron():
    frames = grown()
    assert len(frames) == 6
    assert len({frame.size for frame in frames}) == 1
    for i, frame in enumerate(frames):
        assert count(frame, (20 + i, 90, 160)) == 120 * 120  # the image itself, nothing upon it


def test_the_small_map_shows_who_takes_part():
    place = 4 * 4 - (4 + 4 - 1)  # a pitch of 4: squares of 3 x 3
    for i, frame in enumerate(grown()):
        assert count(frame, NEWEST) == place
        assert count(frame, GROWN) == i * place
        assert count(frame, WAITING) == (12 - 1 - i) * place


def test_a_large_map_fits_as_well():
    (frame,) = growth_frames(cells(1), [(0, 1)], (2, 90), title="t", size=90)
    assert count(frame, NEWEST) == 1
    assert count(frame, WAITING) == 179


def test_the_mark_is_at_the_newest_neurons_place():
    plain, marked = grown()[5], grown(mark=True)[5]
    left, top, right, bottom = ImageChops.difference(plain, marked).getbbox() or (0, 0, 0, 0)
    y, x = np.argwhere((np.asarray(plain) == (25, 90, 160)).all(-1)).min(0).tolist()
    # row 1, column 1 of 3 x 4 on 120 pixels, and a line of one pixel around it
    assert (left - x, top - y, right - x, bottom - y) == (30 - 1, 40 - 1, 60 + 1, 80 + 1)
    assert marked.getpixel((x + 45, y + 60)) == (25, 90, 160)  # it hides nothing inside


def test_marks_on_the_smallest_places_do_no_harm():
    (frame,) = growth_frames(cells(1), [(59, 59)], (60, 60), title="t", mark=True, size=60)
    assert count(frame, (20, 90, 160)) < 60 * 60


def test_a_dead_neuron_is_marked_as_in_the_atlas():
    dead = Cell("1", solid(RED), "dead: no gradient")
    first, second = growth_frames([cells(1)[0], dead], [(0, 0), (0, 1)], (1, 2), title="t", size=120)
    assert first.size == second.size
    assert count(second, RED) == 0  # a gray ghost, hatched
    assert count(second, MARKS["dead"]) > 0  # the reason instead of the position
    assert count(first, MARKS["dead"]) == 0


def test_positions_must_fit():
    with pytest.raises(ValueError, match=r"\(3, 0\) given; the map has 3 rows"):
        list(growth_frames(cells(1), [(3, 0)], (3, 4), title="t"))
    with pytest.raises(ValueError, match=r"zip\(\)"):
        list(growth_frames(cells(1), [(0, 0), (0, 1)], (3, 4), title="t"))


def test_octaves_are_scaled_to_one_size():
    steps = [Cell("", solid(RED, 20)), Cell("", solid(BLUE, 30)), Cell("", solid(RED, 40))]
    frames = list(octave_frames(steps, [20, 30, 40], title="a feature", size=120))
    assert len({frame.size for frame in frames}) == 1
    assert [count(frame, RED) for frame in frames] == [120 * 120, 0, 120 * 120]
    started = list(octave_frames(steps, [20, 30, 40], title="a feature", start=True, size=120))
    assert ImageChops.difference(frames[1], started[1]).getbbox() is not None  # octave 1 of 2, not 2 of 3
    with pytest.raises(ValueError, match=r"zip\(\)"):
        list(octave_frames(steps, [20, 30], title="t"))


def test_long_words_do_not_widen_a_frame():
    long, short = (
        next(octave_frames([Cell("", solid(RED))], [16], title=title, size=120)) for title in ("a long name " * 20, "t")
    )
    assert long.size == short.size
