"""Names as file systems hold them: what can be written is read back as it was, all else is counted and named."""

import json
import os
import random
from types import SimpleNamespace

import pytest
import torch

from featlight.config.image_shape import Fit
from featlight.console import printable
from featlight.drawing.example_strip import ExampleTile
from featlight.examples.finish import write_examples
from featlight.examples.image_index import ImageIndex, find_images
from featlight.examples.manifest import ScanManifest, ScanSettings
from featlight.examples.worker_state import WorkerState
from featlight.report.build import render
from featlight.store.example_files import read_about, read_examples
from tests.made_up import made_up_run

CPU = torch.device("cpu")
SIGNS = (
    *("\n", "\r", "\t", "\x1b[31m", "\x7f", "\x85", "\u2028", "\u202e", "\u200f", "\ufeff", "א"),
    *(
        "\u00e9",
        "e\u0301",
        "中",
        "\N{GRINNING FACE}",
        " ",
        "-",
        ".",
        "%",
        "'",
        '"',
        "<script>",
        "</script>",
        "\\",
        "&",
        "#",
    ),
    *("a", "9", ":", "|", "*", "?", "{{", "\\udcff", "\udcff", "\udce9"),
)


def strange_names(seed, count=60):
    """Names of files and folders, up to 255 bytes long, some of which are not UTF-8."""
    draw = random.Random(seed)
    found = {"\udcff", "\\udcff", "-", "e\u0301", "\u00e9", "a" * 250, "é" * 125, "\n"}
    while len(found) < count:
        name = "".join(draw.choices(SIGNS, k=draw.choice((1, 2, 3, 5, 20))))
        if name not in (".", "..") and len(os.fsencode(name)) <= 250:
            found.add(name)
    return sorted(found)


def is_utf8(name):
    return os.fsencode(name).decode(errors="ignore") == name


@pytest.mark.parametrize("seed", range(3))
def test_names_are_read_as_they_were_written_and_others_are_counted(tmp_path, seed):
    names = strange_names(seed)
    folder = tmp_path / names[seed] / "\udcfe images"
    for number, name in enumerate(names):
        inside = names[number * 7 % len(names)] if number % 3 else "."
        path = folder / inside / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    good = {name for name in files if is_utf8(name)}
    assert 0 < len(good) < len(files) == len(names)

    found = find_images(folder)
    assert found.images.keys() == good
    assert len(found.unreadable) == len(files) - len(good)
    assert {printable(name) for name in files - good} == found.unreadable.keys()
    images = ImageIndex().extended(folder, found)
    assert images.matches(found)

    store = made_up_run(tmp_path / "run", {"a": 2})
    plan, top = store.need_plan(), len(good)
    keys = [planned.file for planned in plan.tiles]
    settings = ScanSettings(folder.as_uri(), Fit(8), 4, top, "network", "preparation", "normalize", "fp32").plain()
    manifest = ScanManifest(settings, images, (tuple(keys),))
    manifest.write(store)
    assert ScanManifest.read(store, len(files)) == manifest
    assert manifest.folder == folder
    state = WorkerState.empty(manifest, "worker-0", CPU)
    state.refused = {0: "damaged"}
    state.top.images[:] = torch.arange(top)
    state.top.values[:] = torch.arange(top, 0, -1)
    scorer = SimpleNamespace(keys=dict(zip(keys, keys, strict=True)))
    shown = dict.fromkeys(keys, ExampleTile("", ((0, 0, 1, 1),) * top))
    said = write_examples(store, plan, manifest, scorer, [state], state.top, shown, {})

    read = read_examples(store.folder)
    assert read.keys() == set(keys)
    for examples in read.values():
        assert [each.file for each in examples] == sorted(good)
        assert all((folder / each.file).is_file() for each in examples)
    lines = [json.loads(line) for line in (store.root / "examples/examples.jsonl").read_bytes().splitlines()]
    assert [[each.class_name for each in read[line["tile"]]] for line in lines] == [
        [each.get("class") for each in line["images"]] for line in lines
    ]
    about = read_about(store.folder)
    assert (about.images, about.refused) == (len(good) - 1, len(files) - len(good) + 1)
    assert about.refused_files.keys() == {printable(name) for name in said["refused_files"]}
    render(store, plan)
    assert (store.root / "index.html").is_file()
