"""Values of a run directory that are read back: in checked types and bounds, or not at all."""

import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from featlight.drawing.example_strip import ExampleTile, MeasuredPaths, encode_strip, what_is_shown
from featlight.errors import FeatlightError, StorageError
from featlight.image_io import encode_jpeg
from featlight.result import open_run
from featlight.store.example_files import example_lines, read_about, read_answers
from featlight.store.guard.bounds import FREE
from featlight.store.paths import ABOUT_EXAMPLES, EXAMPLES
from featlight.store.similarity import SimilarityTable, read_similarity
from featlight.store.store import Store
from featlight.store.verify import verify
from tests.made_up import flat, made_up_examples, made_up_run


@pytest.fixture
def store(tmp_path: Path) -> Store:
    vectors = {"Mixed_4a": np.eye(4, dtype=np.float32)}
    store = made_up_run(tmp_path, {"Mixed_4a": 4}, vectors=vectors, octaves=True)
    made_up_examples(store)
    return store


def put(tree: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        tree = tree[key]
    tree[path[-1]] = value


ENDLESS = float("inf")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("tile",), "tiles/../../x.png"),
        (("images", 0, "value"), float("nan")),
        (("images", 0, "value"), True),
        (("images", 0, "value"), "1"),
        (("images", 0, "box"), [0, 0, 1.0, 1]),
        (("images", 0, "box"), [0, 0, True, 1]),
        (("images", 0, "box"), [0, 0, ENDLESS, 1]),
        (("images", 0, "neuron"), [-1, 0]),
        (("images", 0, "neuron"), [0.0, 0]),
        (("images", 0, "file"), 5),
        (("images",), [{}]),
        (("histogram",), [0, [1.5]]),
        (("histogram",), [True, [1]]),
        (("histogram",), [0, [0] * 1001]),
        (("paths",), {"a": float("inf")}),
        (("paths",), {"a": "1"}),
        (("paths",), {str(number): 1.0 for number in range(1001)}),
    ],
)
def test_a_line_of_examples_that_holds_anything_else_is_left_out(store, path, value):
    lines = (store.root / EXAMPLES).read_text().splitlines()
    changed = json.loads(lines[1])
    put(changed, path, value)
    (store.root / EXAMPLES).write_text("\n".join([lines[0], json.dumps(changed), *lines[2:]]) + "\n")
    assert [found is None for _, found in example_lines(store.folder)] == [False, True, False, False]
    assert len(read_answers(store.folder)) == 3


def test_a_second_line_of_a_tile_counts_for_nothing(store):
    before, lines = read_answers(store.folder), (store.root / EXAMPLES).read_bytes().splitlines(keepends=True)
    (store.root / EXAMPLES).write_bytes(b"".join([*lines, lines[1].replace(b"class/0", b"other/0")]))
    assert read_answers(store.folder) == before
    assert [found is None for _, found in example_lines(store.folder)] == [False] * 4 + [True]


@pytest.mark.parametrize("content", [b"{}\n", b"\n", b"[" * 99 + b"\n", b"9" * 500 + b"\n"])
def test_endless_lines_of_examples_are_refused(store, content):
    (store.root / EXAMPLES).write_bytes(content * (1 << 13))
    with mock.patch("featlight.store.guard.bounds.FREE", FREE // 64):
        with pytest.raises(StorageError, match=r"examples.jsonl: more than a run"):
            read_answers(store.folder)
        (store.root / EXAMPLES).unlink()
        (store.root / "outputs.txt").write_bytes(content * (1 << 13))
        with pytest.raises(StorageError, match=r"outputs.txt: more than a run"):
            store.outputs()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("images", value) for value in (True, -1, 1.0, ENDLESS)),
        *(("refused_files", value) for value in ([], {"a": 1})),
        *(("top", "3"), ("stamp", 1), ("folder", "x" * 5000), ("duplicates", 10**400)),
    ],
)
def test_what_examples_are_of_is_not_believed(store, key, value):
    about = json.loads((store.root / ABOUT_EXAMPLES).read_text())
    assert read_about(store.folder) is not None
    (store.root / ABOUT_EXAMPLES).write_text(json.dumps(about | {key: value}))
    assert read_about(store.folder) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("x", value) for value in ([0.0, float("nan")], ["0", 1.0])),
        *(("clusters", value) for value in ([True, 1], [3, 1])),
        *(("places", value) for value in ([0, 0], [0, 1.0], [0, 2])),
        *(("tiles", value) for value in (["a", "a"], "ab")),
        *(("columns", ENDLESS), ("rows", 0), ("y", [0.0])),
    ],
)
def test_a_plane_that_nobody_laid_out_is_none(store, key, value):
    path = store.root / "alike/Mixed_4a.json"
    good = SimilarityTable(
        of="x", words="y", tiles=["a", "b"], x=[0, 1], y=[0, 1], clusters=[1, 2], columns=2, rows=1, places=[0, 1]
    )
    store.write(path, good.model_dump_json().encode())
    assert read_similarity(store.folder, path) == good
    path.write_text(json.dumps(good.model_dump() | {key: value}))
    assert read_similarity(store.folder, path) is None


@pytest.mark.parametrize("boxes", ["[[1e999,0,1,1]]", "[[0.5,0,1,1]]", "[[true,0,1,1]]", "[[0,0,1]]", "3", "[" * 9999])
def test_boxes_of_a_strip_are_not_believed(store, boxes):
    path = store.example_path("tiles/Mixed_4a/00000.png")
    shown = ExampleTile("x", ((0, 0, 1, 1),))
    path.write_bytes(encode_strip(flat(1), shown))
    assert what_is_shown(store.folder, path) == shown
    path.write_bytes(encode_jpeg(flat(1), 85, comment=f'["x",{boxes}]'))
    assert what_is_shown(store.folder, path) is None


@pytest.mark.parametrize("paths", ['["y",{"a":1e999}]', '["y",{"a":"1"}]', '["y",[1]]', "[1,{}]", "null"])
def test_paths_of_a_strip_are_not_believed(store, paths):
    path = store.example_path("tiles/Mixed_4a/00000.png")
    shown = ExampleTile("x", ((0, 0, 1, 1),), MeasuredPaths("y", {"a": -1.5}))
    path.write_bytes(encode_strip(flat(1), shown))
    assert what_is_shown(store.folder, path) == shown
    path.write_bytes(encode_jpeg(flat(1), 85, comment=f'["x",[[0,0,1,1]],{paths}]'))
    assert what_is_shown(store.folder, path) is None


def test_what_is_larger_than_its_tile_is_not_read(store):
    """Sparse files: each of these was read whole, some of them for its last bytes."""
    tile = store.need_plan().tiles[0]
    record = store.records()[tile.file] | {"bytes": 200 << 20, "float_sha256": "0" * 64}
    (store.root / "records/worker-0.jsonl").write_text(json.dumps(record) + "\n")
    for path in (store.root / tile.file, store.float_path(tile.file), store.octave_path(tile.file, 1)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        with path.open("r+b") as file:
            file.truncate(200 << 20)
    vectors = store.vector_path(planned.file for planned in store.need_plan().tiles)
    with vectors.open("r+b") as file:
        file.truncate(3 << 30)
    with mock.patch("hashlib.file_digest", side_effect=AssertionError):
        problems = {problem.path: problem for problem in verify(store.root).problems}
    assert problems[tile.file].what == "209,715,200 bytes; a file of this tile has 1,074,176 at most"
    assert not problems[tile.file].remove
    with pytest.raises(FeatlightError, match="at most"):
        open_run(store.root)[0]
