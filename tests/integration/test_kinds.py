"""The documents' sheet of kinds, of one that takes no time."""

from dataclasses import replace

import pytest

from tools import kinds


@pytest.fixture
def _brief(monkeypatch):
    octaves = tuple(replace(octave, size=32, steps=2) for octave in kinds.RECIPE.octaves[:1])
    monkeypatch.setattr(kinds, "RECIPE", replace(kinds.RECIPE, octaves=octaves))


@pytest.mark.usefixtures("_brief")
def test_a_kind_is_drawn_and_its_row_written_between_the_marks(tmp_path):
    page = tmp_path / "networks.md"
    page.write_text("before\n<!-- kinds -->\nold\n<!-- end of kinds -->\nafter\n")
    assert kinds.main(["U-Net, a part of a dict", "--docs", str(tmp_path)]) == 0
    before, start, _, _, row, end, after = page.read_text().splitlines()
    assert (before, start, end, after) == ("before", "<!-- kinds -->", "<!-- end of kinds -->", "after")
    *_, recorded, by_hook = row.strip("| ").split(" | ")
    assert recorded == by_hook
    assert (tmp_path / "images" / "kinds.jpg").stat().st_size > 1000


@pytest.mark.usefixtures("_brief")
def test_what_a_hook_sees_otherwise_is_not_shown():
    unet = next(kind for kind in kinds.KINDS if kind.build is not None and "U-Net" in kind.name)
    with pytest.raises(AssertionError, match=r"U-Net, a part of a dict: .* by a hook, .* recorded"):
        kinds.shown(unet._replace(read=lambda given: kinds.first(given["masks"]) + 1))
