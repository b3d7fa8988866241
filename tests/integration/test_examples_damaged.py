"""What a pass over images reads back from disk: as it can have written it, or the images are looked at anew."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

import featlight
from featlight.errors import FeatlightError, StorageError, UsageError
from featlight.examples.manifest import ScanManifest
from featlight.examples.worker_state import WorkerState
from featlight.store.store import Store
from tests.integration.test_examples_grown import IMAGES, LITTLE, NETWORK, look, written
from tests.photographs import crops, folder_of, planned_run

BIG = b"9" * 10_000


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return folder_of(tmp_path_factory.mktemp("photographs"), crops(IMAGES))


@pytest.fixture(scope="module")
def done(images, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    planned_run(out, NETWORK, **LITTLE)
    look(out, images, top=4)
    return out


@pytest.fixture
def run(done, tmp_path) -> Path:
    return shutil.copytree(done, tmp_path / "run")


def to(*path: str | int, value: Any) -> Callable[[list[Any]], None]:
    """Put a value at a place of the list's two lines."""

    def change(lines: list[Any]) -> None:
        holder = lines
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = value

    return change


def gone(*path: str | int) -> Callable[[list[Any]], None]:
    def change(lines: list[Any]) -> None:
        holder = lines
        for key in path[:-1]:
            holder = holder[key]
        del holder[path[-1]]

    return change


def doubled(lines: list[Any]) -> None:
    lines[0]["tiles"][0].append(lines[0]["tiles"][0][0])


def twice(lines: list[Any]) -> None:
    lines[1]["name"][1] = lines[1]["name"][0]


SIZES = [0, -5, 10**7, True, "4", 4.0, None, float("nan")]
LISTS = {
    **{f"batch size {size}": to(0, "settings", "batch_size", value=size) for size in SIZES},
    **{f"top {size}": to(0, "settings", "top", value=size) for size in (0, -1, 101, True, 1e999)},
    "no batch size": gone(0, "settings", "batch_size"),
    "no settings": to(0, "settings", value=[]),
    "endless bytes": to(1, "bytes", 0, value=float("inf")),
    "fewer than no bytes": to(1, "bytes", 0, value=-1),
    "a part of a byte": to(1, "bytes", 0, value=1.5),
    "endless time": to(1, "time", 0, value=10**30),
    "another format": to(0, "format", value=True),
    "doubled tiles": doubled,
    "a part of no tile": to(0, "tiles", value=[[]]),
    "no tiles": to(0, "tiles", value=[]),
    "tiles that are none": to(0, "tiles", 0, 0, value=5),
    "an image twice": twice,
    "an image elsewhere": to(1, "name", 0, value="../00.png"),
    "an absolute image": to(1, "name", 0, value="/etc/passwd"),
    "no checksum": to(1, "sha256", 0, value="x"),
    "too few parts": to(1, "parts", value=[1]),
    "a part of less than none": to(1, "parts", value=[IMAGES + 1, -1]),
    "shorter": gone(1, "bytes", 0),
    "reasons that are none": to(1, "unreadable", value={"a": 1}),
}


def list_of(run: Path) -> list[Any]:
    """Its two lines, without a checksum, as an older version has written them."""
    lines = [json.loads(line) for line in (run / "examples/images.json").read_text().splitlines()]
    del lines[0]["sha256"]
    return lines


@pytest.mark.parametrize("change", LISTS.values(), ids=LISTS)
def test_a_list_that_no_pass_has_written_is_none(run, change):
    lines = list_of(run)
    assert ScanManifest.read(Store(run), IMAGES) is not None
    change(lines)
    (run / "examples/images.json").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert ScanManifest.read(Store(run), IMAGES) is None


@pytest.mark.parametrize("content", [b"", b"\n", b"[]\n[]\n", b"[" * 10**5, b"\xff\n", BIG, b'{"format":2}\n', b"null"])
def test_what_is_no_list_is_none(run, content):
    (run / "examples/images.json").write_bytes(content)
    assert ScanManifest.read(Store(run), IMAGES) is None


def test_a_list_of_more_than_the_folder_holds_is_not_read(run):
    with (run / "examples/images.json").open("ab") as file:
        file.truncate(2 << 30)
    with pytest.raises(StorageError, match="at most"):
        ScanManifest.read(Store(run), IMAGES)


def test_images_are_looked_at_anew_after_damage_and_give_the_same(run, done, images):
    lines = list_of(run)
    lines[0]["settings"]["batch_size"] = 0
    (run / "examples/images.json").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    said = look(run, images, top=4)
    assert said[0] == f"all images are scanned again: {run / 'examples/images.json'} is damaged"
    assert written(run) == written(done)


def cell(name: str, place: Any, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(arrays: dict[str, Any], about: dict[str, Any]) -> None:
        arrays[name][place] = value

    return change


def cast(name: str, kind: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(arrays: dict[str, Any], about: dict[str, Any]) -> None:
        arrays[name] = arrays[name].astype(kind)

    return change


def said(key: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(arrays: dict[str, Any], about: dict[str, Any]) -> None:
        about[key] = value

    return change


FOUND = {
    "NaN": cell("values", (0, 0), np.nan),
    "endless": cell("values", (0, 0), np.inf),
    "no value of an image": cell("values", (0, 3), -np.inf),
    "out of order": cell("values", (0, 3), 1e9),
    "an image that nobody listed": cell("images", (0, 0), IMAGES),
    "less than no image": cell("images", (0, 0), -2),
    "a place of less than none": cell("places", (0, 0, 0), -1),
    "a place on no map": cell("places", (0, 0, 0), 1 << 20),
    "float places": cast("places", "float64"),
    "float images": cast("images", "float32"),
    "short values": cast("values", "float32"),
    "float counts": cast("histogram", "float64"),
    "fewer than none": cell("histogram", (0, 0), -1),
    "more images than there are": cell("histogram", (0, 0), IMAGES + 1),
    "done that is true": said("done", [[True]]),
    "done in part": said("done", [[0.0]]),
    "done that is none": said("done", 3),
    "chunks that are none": said("done", [[0, 1, 2, 3]]),
    "looked at nothing": said("done", [[]]),
    "more parts than there are": said("done", [[0, 1, 2], [0]]),
    "refused that is none": said("refused", [[IMAGES, "x"]]),
    "a reason that is none": said("refused", [[0, None]]),
    "of another pass": said("stamp", "0" * 16),
    "more arrays": lambda arrays, about: arrays.update(more=arrays["values"]),
    "fewer arrays": lambda arrays, about: arrays.pop("places"),
}


def spoil(run: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    path = run / "examples/found/worker-0.safetensors"
    arrays = {key: values.copy() for key, values in load(path.read_bytes()).items()}
    about = json.loads(arrays.pop("about").tobytes())
    about.pop("sha256", None)
    change(arrays, about)
    path.write_bytes(save(arrays | {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)}))


@pytest.mark.parametrize("change", FOUND.values(), ids=FOUND)
def test_what_no_worker_has_found_is_none(run, change):
    store, manifest = Store(run), ScanManifest.read(Store(run), IMAGES)
    spoil(run, lambda arrays, about: None)
    assert WorkerState.read(store, "worker-0", manifest) is not None
    spoil(run, change)
    assert WorkerState.read(store, "worker-0", manifest) is None


@pytest.mark.parametrize("change", [cell("values", (0, 0), 1e6), cell("histogram", (0, 0), 1), cell("places", 0, 1)])
def test_bits_that_flip_are_found(run, change):
    store, manifest = Store(run), ScanManifest.read(Store(run), IMAGES)
    path = run / "examples/found/worker-0.safetensors"
    arrays = {key: values.copy() for key, values in load(path.read_bytes()).items()}
    change(arrays, {})
    path.write_bytes(save(arrays))
    assert WorkerState.read(store, "worker-0", manifest) is None
    path = run / "examples/images.json"
    path.write_text(path.read_text().replace('"top": 4', '"top": 5'))
    assert ScanManifest.read(store, IMAGES) is None


def test_a_place_beyond_a_map_is_told(run, images):
    """How large a map is shows as it is looked at."""
    spoil(run, cell("places", (0, 0), 100))
    for path in (run / "examples").rglob("*.jpg"):
        path.unlink()
    with pytest.raises(FeatlightError, match="examples/found: damaged"):
        look(run, images, top=4)


def test_a_file_of_more_than_can_be_found_is_not_read(run):
    with (run / "examples/found/worker-0.safetensors").open("ab") as file:
        file.truncate(2 << 30)
    with pytest.raises(StorageError, match="at most"):
        WorkerState.read(Store(run), "worker-0", ScanManifest.read(Store(run), IMAGES))


@pytest.mark.parametrize("size", [0, -1, 4097])
def test_a_batch_that_is_none_is_refused(images, run, size):
    with pytest.raises(UsageError, match=f"batch_size: {size} given"):
        featlight.find_examples(run, images, batch_size=size)
