"""Which images of a folder are looked at, told apart by content, and in which order."""

from pathlib import Path

import pytest

from featlight.errors import UsageError
from featlight.examples.image_index import ImageIndex, find_images


@pytest.fixture
def folder() -> Path:
    for name, content in {"b.png": "one", "a/x.JPG": "two", "c.webp": "one", "notes.txt": "three"}.items():
        path = Path("images", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return Path("images")


def listed(folder: Path, before: ImageIndex | None = None) -> ImageIndex | None:
    return (before or ImageIndex()).extended(folder, find_images(folder))


def test_images_of_any_depth_are_listed_by_path_and_each_content_counts_once(folder):
    images = listed(folder)
    assert [entry.name for entry in images.entries] == ["a/x.JPG", "b.png", "c.webp"]
    assert images.duplicates == 1
    assert images.names == {0: "a/x.JPG", 1: "b.png"}
    assert images.chunks(1) == [[0], [1]]


def test_what_comes_later_changes_no_chunk_that_is_there(folder):
    before = listed(folder)
    (folder / "a/a.png").write_text("four")
    (folder / "a/b.png").write_text("one")  # of a content that is known, at an earlier path
    images = listed(folder, before)
    assert images.chunks(2) == [*before.chunks(2), [3]]
    assert images.names == {0: "a/x.JPG", 1: "a/b.png", 3: "a/a.png"}
    assert images.ranks()[:2] == [2, 1]
    assert images.ranks()[3] == 0
    assert listed(folder, images) == images


def test_a_list_is_the_same_when_it_is_read(folder):
    before = listed(folder)
    (folder / "d.png").write_text("four")
    images = listed(folder, before)
    assert ImageIndex.from_json(images.to_json()) == images
    assert images.matches(find_images(folder))
    assert not before.matches(find_images(folder))


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_text("other")])
def test_an_image_that_is_gone_or_another_one_now_ends_the_list(folder, change):
    images = listed(folder)
    change(folder / "b.png")
    assert listed(folder, images) is None


def test_a_time_alone_changes_nothing(folder):
    images = listed(folder)
    (folder / "b.png").touch()
    again = listed(folder, images)
    assert again.names == images.names
    assert again.matches(find_images(folder))


def test_what_cannot_be_read_is_named_and_the_runs_own_folder_is_left_out(folder):
    (folder / "gone.png").symlink_to("nowhere")
    (folder / "folder.png").mkdir()
    (folder / "run").mkdir()
    (folder / "run/atlas.png").write_text("atlas")
    found = find_images(folder, without=folder / "run")
    assert found.images.keys() == {"a/x.JPG", "b.png", "c.webp"}
    assert found.unreadable == {"gone.png": "No such file or directory"}


def test_a_folder_without_images_is_refused(folder):
    with pytest.raises(UsageError, match="no such folder"):
        find_images(folder / "there")
    (folder / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no image"):
        find_images(folder / "empty")
