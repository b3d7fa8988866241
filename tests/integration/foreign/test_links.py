"""Links, and names that lead out of a run directory."""

import itertools
import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import pytest

from featlight.cli.main import main
from tests.integration.foreign.hands import RECORDS, TILES, one_line, outside, plan_with, renamed, tiles, typed

LINKS = {
    **dict.fromkeys([".running", "outputs.txt", RECORDS, "config.yaml", "index.html", "plan.json", TILES[0]], "file"),
    **dict.fromkeys(["floats/2/00001.safetensors", "assets/data.js", "atlas/2.png"], "file"),
    **dict.fromkeys(
        ["assets", "tiles", "tiles/2", "tensorboard", "records", "vectors/chunks", "atlas", "floats"], "folder"
    ),
}


@pytest.mark.parametrize("word", ["more", "render", "repair", "zip", "fresh"])
@pytest.mark.parametrize("name", LINKS)
def test_a_link_is_not_followed(run, name, word, capsys):
    path, before = run / name, outside()
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(Path("outside", LINKS[name]).resolve())
    torn = "torn{\n" if name == RECORDS else ""
    Path("outside/folder/worker-0.jsonl").write_text(f"{torn}precious\n")
    before = outside()
    capsys.readouterr()
    code = typed(word)
    assert outside() == before
    assert code in (0, 1, 2, 74)
    if code in (2, 74):
        one_line(capsys)


@pytest.mark.parametrize("name", [RECORDS, "outputs.txt", ".running", "config.yaml", TILES[0]])
def test_a_file_with_another_name_elsewhere_is_changed_here_alone(run, name):
    for path in (run / name, Path("outside/other")):
        path.unlink(missing_ok=True)
    Path("outside/other").write_bytes(b"torn{\n" * 3)
    os.link("outside/other", run / name)
    before = outside()
    for word in ("more", "repair", "render"):
        typed(word)
    assert outside() == before


def named(name):
    return lambda values: values["tiles"][0].update(name=name)


def of_layer(layer):
    def change(values):
        for shapes in values["layers"].values():
            shapes[layer] = [8, 4, 4]
        for tile in values["tiles"]:
            tile["terms"][0].update(layer=layer, region="prefix", index=0)
        values["figure"] = {"kind": "growth"}

    return change


@pytest.fixture(autouse=True)
def _folder_above(tmp_path, monkeypatch) -> None:
    """Run each test one folder deeper, so that the folder above it is the test's own."""
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")


OUT = ["../../home", "..", "/abs", "a/../../b", ".hidden", "a\0b", "a\nb", "C:\\x", "x" * 300, ""]


WORDS = itertools.cycle(["render", "zip", "fresh"])  # two lists of ten and nine: each word meets both


@pytest.mark.parametrize(
    ("change", "word"), list(zip([*map(renamed, OUT[:-1]), *map(named, OUT)], WORDS, strict=False))
)
def test_names_in_a_plan_are_checked(run, change, word, capsys):
    plan_with(change)
    before = {str(path) for path in Path().resolve().parent.rglob("*")}
    capsys.readouterr()
    assert typed(word) == 2
    assert "plan.json: damaged (" in one_line(capsys)
    assert {str(path) for path in Path().resolve().parent.rglob("*")} - before == set()
    assert len(tiles()) == 6


@pytest.mark.parametrize("layer", ["../../escaped", "a/b", "/tmp/escaped"])
def test_a_layers_name_is_no_path(run, layer):
    """Figures of a growth are named by their layer, which may have any name."""
    plan_with(of_layer(layer))
    before = {path for path in Path().resolve().parent.rglob("*") if "run" not in path.parts}
    typed("render")
    assert {path for path in Path().resolve().parent.rglob("*") if "run" not in path.parts} == before
    assert all(len(path.relative_to(run).parts) == 2 for path in run.glob("figures/**/*"))


HOSTILE = ["../outside/file", "tiles/../../outside/file", "/etc/passwd", "outside/file", "notes.txt", "..\\x", "a\0b"]


@pytest.mark.parametrize("word", ["fresh", "repair", "zip", "more"])
def test_names_in_other_files_are_passed_over(run, word):
    (run / "notes.txt").write_text("mine")
    record = json.loads((run / RECORDS).read_text().splitlines()[0])
    with (run / RECORDS).open("a") as file:
        file.write("".join(json.dumps({**record, "file": name}) + "\n" for name in HOSTILE))
    with (run / "outputs.txt").open("a") as file:
        file.write("\n".join(HOSTILE) + "\n")
    before = outside()
    assert typed(word) in (0, 1)
    assert outside() == before
    assert (run / "notes.txt").read_text() == "mine"


def test_a_zip_holds_names_of_a_run_alone(run):
    with (run / "outputs.txt").open("a") as file:
        file.write("assets/../../outside/file\nassets/..\\..\\x\nvectors//x\natlas/\x1b[2J\n")
    (run / "assets/..\\..\\x").write_text("x")
    assert typed("zip") == 0
    with zipfile.ZipFile("site.zip") as site:
        names = site.namelist()
    assert all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._/-]*", name) and ".." not in name for name in names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "name", ["vectors/2.npy", "octaves/2/00001.1.png", "figures", "vectors", "config.yaml", "octaves"]
)
def test_what_lies_behind_a_link_is_not_taken_into_a_zip(run, name):
    assert typed("render") == 0
    kept = Path("outside/kept")
    (run / name).rename(kept)
    secrets = [path.read_bytes() for path in (kept, *kept.rglob("*")) if path.is_file()]
    (run / name).symlink_to(kept.resolve())
    assert typed("zip") in (0, 74)
    if Path("site.zip").exists():
        with zipfile.ZipFile("site.zip") as site:
            inside = [site.read(entry) for entry in site.namelist() if entry.startswith(name)]
        assert not [content for content in inside if content in secrets and content]


@pytest.mark.parametrize("name", ["vectors/chunks", "vectors"])
def test_arrays_behind_a_link_are_not_worked_in(run, name):
    """Where the page is made again before it leaves, from what the run itself holds."""
    (run / name).rename("outside/kept")
    (run / name).symlink_to(Path("outside/kept").resolve())
    (run / "index.html").unlink()
    before = outside()
    assert typed("zip") == 0
    assert outside() == before
    with zipfile.ZipFile("site.zip") as site:
        details = site.read("assets/tiles/2/00.js").decode()
    assert "neighbours" not in details


@pytest.mark.parametrize("name", ["tiles/2", TILES[2]])
def test_pictures_behind_a_link_do_not_leave(run, name, capsys):
    (run / name).rename("outside/kept")
    (run / name).symlink_to(Path("outside/kept").resolve())
    for words in (["--zip", "site.zip"], ["--webp", "webp"], ["--poster", "p.png", "--dpi", "50"]):
        capsys.readouterr()
        assert main(["export", "--out", "run", *words]) == 1
        assert "links are not followed" in one_line(capsys)
    assert not Path("site.zip").exists()
