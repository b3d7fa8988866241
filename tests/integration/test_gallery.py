"""The documents' pictures, from runs that are made up."""

from pathlib import Path

import pytest
from PIL import Image

from featlight.drawing.animation import encode_animation
from featlight.errors import UsageError
from tools import gallery


def test_every_run_that_needs_no_weights_is_in_it():
    names = [path.stem for path in gallery.configs()]
    assert names[:2] == ["quickstart", "depth"]
    assert {"features", "growth", "layers", "metrics", "neurons", "raw", "together"} <= set(names)
    assert [path.stem for path in gallery.configs(["raw"])] == ["raw"]
    with pytest.raises(UsageError, match=r"gallery: 'rwa' given; allowed: quickstart, .*raw"):
        gallery.configs(["rwa"])


def test_a_slip_is_answered_in_one_line(capsys):
    assert gallery.main(["rwa"]) == 2
    assert capsys.readouterr().err.startswith("featlight: gallery: 'rwa' given; allowed: ")


@pytest.fixture
def made_up(monkeypatch):
    """Runs that end at once; the figures that they should have left are put there by hand."""
    asked = []
    monkeypatch.setattr(gallery, "featlight", lambda words: asked.append(words) or 0)
    figures = Path("runs/growth/figures")
    figures.mkdir(parents=True)
    # one much like the one before would become one with it
    frames = [Image.new("RGB", (416, 495), (i, 80 * (i % 3), 255 * (i // 3 % 2))) for i in range(101)]
    for format in ("WEBP", "GIF"):
        content = encode_animation(frames, milliseconds=50, format=format)
        (figures / f"growth-grown-a-1.{format.lower()}").write_bytes(content)
    (figures / "growth-natural-a-1.webp").write_bytes(encode_animation(frames[:5], milliseconds=50, format="WEBP"))
    Image.new("RGB", (2400, 900), "red").save(figures / "added-grown-a-1.png")
    (figures / "growth.csv").write_text("tile,status\n")
    return asked


def test_figures_become_small_documents(made_up, capsys):
    assert gallery.main(["growth", "--docs", "docs"]) == 0
    assert [words[2:] for words in made_up] == [["--out", "runs/growth"]]
    assert made_up[0][1].endswith("configs/offline/growth.yaml")
    found = {str(path) for path in Path("docs").rglob("*.*")}
    images = {f"docs/images/{name}" for name in ("growth.webp", "growth-natural.webp", "growth-added.jpg")}
    assert found == {"docs/tables/growth.csv", *images}
    assert all(path in capsys.readouterr().out for path in sorted(found)[:1])
    with Image.open("docs/images/growth-added.jpg") as picture:
        assert picture.size == (1200, 450)
    with Image.open("docs/images/growth.webp") as animation:
        assert (animation.n_frames, animation.width) == (34, 288)  # every third, the last among them
        animation.seek(33)
        assert animation.convert("RGB").getpixel((9, 9))[0] == pytest.approx(100, abs=3)
    assert Path("docs/tables/growth.csv").read_text() == "tile,status\n"


def test_a_run_that_does_not_end_well_ends_the_gallery(monkeypatch):
    monkeypatch.setattr(gallery, "featlight", lambda words: 75)
    assert gallery.main(["raw", "--docs", "docs"]) == 75
    assert not Path("docs").exists()
