"""What leaves a run that holds a user's photographs: no pixel of them where that is asked, and never a folder."""

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from featlight.cli.main import main
from featlight.config.schema import Figure
from featlight.config.tile import Term, Tile
from featlight.config.user_text import shared_reason
from featlight.plan.plan import Dictionary
from featlight.plan.shared_config import config_for_others
from featlight.report.atlas_with_examples import draw_with_examples
from featlight.report.build import is_rendered, render
from featlight.report.similarity_map import find_alike
from featlight.report.tensorboard.writer import TensorBoard
from featlight.store.paths import ABOUT_EXAMPLES, EXAMPLES
from featlight.store.snapshot import Snapshot
from featlight.store.store import Store
from tests.made_up import made_up_examples, made_up_run

BOTH = Tile("both", (Term("conv", 1), Term("conv", 2)))
CHECKSUM = "ab" * 32
NAMES = ("privatename", "privateclass", "privateset")  # an example's file, its folder, and the images' folder


def photograph(number=0):
    """Magenta and green, as nothing else in the run."""
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:, :20] = 255, 0, 255
    pixels[:, 20:] = 0, 255, 0
    return Image.fromarray(pixels)


def gray(number):
    return Image.new("RGB", (40, 40), (40 + 11 * number,) * 3)


@pytest.fixture
def folder(tmp_path):
    """A folder of the user's, with a name of its own."""
    folder = tmp_path / "secretfolder"
    folder.mkdir()
    return folder


@pytest.fixture
def run(folder):
    """A run with all that one can hold, of two variants, one of which starts at a photograph."""
    vectors = {"conv": np.random.default_rng(0).random((6, 8))}
    store = made_up_run(
        folder / "run",
        {"conv": 6},
        variants=("plain", "photo"),
        named=[BOTH],
        picture=gray,
        octaves=True,
        vectors=vectors,
    )
    plan = store.need_plan()
    plan.settings["photo"] = plan.settings["photo"].model_copy(update={"init": CHECKSUM, "stay": 1.0})
    plan.fingerprints["photo"] = plan.settings["photo"].fingerprint()
    network = plan.network.model_copy(update={"file": str(folder / "w.pt"), "asked": str(folder / "w.pt")})
    directions = Dictionary(asked=f"{folder}/d.npz:rows", count=6, features=8)
    plan = replace(plan, network=network, figure=Figure(kind="grid", rows="variant"), directions=directions)
    store.write_plan(plan)
    for planned in plan.tiles:
        if planned.variant == "photo":
            for path in (store.root / planned.file, *store.extra_paths(planned, plan, ["octaves"])):
                photograph().save(path, compress_level=1)
    records = store.root / "records/worker-0.jsonl"
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    for line in lines:
        line["bytes"] = (store.root / line["file"]).stat().st_size
        line["fingerprint"] = plan.digest(line["variant"])
        line["reason"] = f"RuntimeError: {folder}/network.py: line 3" if line["feature"] == 2 else None
    records.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    made_up_examples(store, picture=photograph)
    text = (store.root / EXAMPLES).read_text()
    (store.root / EXAMPLES).write_text(text.replace("class/", "privateclass/privatename-").replace("drawn", NAMES[1]))
    about = json.loads((store.root / ABOUT_EXAMPLES).read_text()) | {"folder": "privateset"}
    about["refused_files"] = {
        "gone.png": f"[Errno 2] No such file or directory: '{folder}/a b/gone.png'",
        "bad.png": f"cannot read {folder}/bad.png",
    }
    (store.root / ABOUT_EXAMPLES).write_text(json.dumps(about))
    here = str(folder)
    config = {"model": f"hf/{here}/net", "weights": f"{here}/w.pt:ema", "directions": f"{here}/d.npz:rows"}
    config |= {"init": f"{here}/privatename.png", "labels": f"{here}/labels.txt", "out": f"{here}/run"}
    config |= {"examples": {"images": f"{here}/privateset", "top": 3}}
    caricature = {"name": "photo", "caricature": f"{here}/privatename.png"}
    config |= {"variants": [{"name": "plain", "init": "noise"}, caricature]}
    (store.root / "config.yaml").write_text(yaml.safe_dump(config))
    render(store, plan)
    draw_with_examples(Snapshot.from_store(store, plan))
    find_alike(store.root, method="pca")
    return store


def export(store, *words):
    return main(["export", "--out", str(store.root), *map(str, words)])


def unpacked(path):
    with zipfile.ZipFile(path) as site:
        return {name: site.read(name) for name in site.namelist()}


def has_photograph(content):
    """Whether the magenta of the photograph is in a picture, at least a few pixels of it."""
    with Image.open(io.BytesIO(content)) as image:
        found = False
        for frame in range(getattr(image, "n_frames", 1)):
            image.seek(frame)
            red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), int), 2, 0)
            found |= np.count_nonzero((red > 215) & (green < 50) & (blue > 215)) >= 4
        return found


def pictures(files):
    return {name: content for name, content in files.items() if name.endswith((".png", ".jpg", ".webp", ".gif"))}


def holding(files, words):
    """The files in whose names or bytes some words are."""
    return {name for name, content in files.items() for word in words if word.encode() in name.encode() + content}


@pytest.mark.parametrize("tiles", ["png", "webp"])
def test_nothing_made_from_a_photograph_leaves_where_that_is_asked(run, folder, tiles, capsys):
    assert export(run, "--zip", "all.zip", "--tiles", tiles) == 0
    every = unpacked("all.zip")
    shown = {name.partition("/")[0] for name, content in pictures(every).items() if has_photograph(content)}
    # the search finds it wherever it is
    assert shown == {"alike", "assets", "atlas", "examples", "figures", "octaves", "tiles"}
    assert {"examples/examples.jsonl", "README.md", "config.yaml"} <= holding(every, NAMES)
    assert export(run, "--zip", "bare.zip", "--tiles", tiles, "--no-photos") == 0
    bare = unpacked("bare.zip")
    assert {name.partition("/")[0] for name in pictures(bare)} == {"alike", "assets", "atlas", "octaves", "tiles"}
    assert not [name for name, content in pictures(bare).items() if has_photograph(content)]
    assert not holding(bare, [*NAMES, CHECKSUM, "photo/"])
    assert not [name for name in bare if "examples" in name]
    assert len([name for name in bare if name.startswith("tiles/plain/conv/")]) == 6
    assert "note    7 tiles made from a photograph (init, caricature) left out" in capsys.readouterr().out


def test_no_folder_of_the_maker_leaves(run, folder):
    assert export(run, "--zip", "all.zip", "--card", "card.md", "--webp", "webp") == 0
    assert export(run, "--poster", "p.png", "--layer", "plain/conv", "--examples", "--dpi", 60) == 0
    files = unpacked("all.zip") | {str(path): path.read_bytes() for path in Path("webp").rglob("*.webp")}
    files |= {name: Path(name).read_bytes() for name in ("card.md", "p.png")}
    assert not holding(files, [folder.name, str(folder), str(Path.home()), str(folder.parent)])
    about = json.loads(files["examples/about.json"])
    assert about["refused_files"] == {
        "bad.png": "cannot read ...",
        "gone.png": "[Errno 2] No such file or directory: ...",
    }
    config = yaml.safe_load(files["config.yaml"])
    assert (config["weights"], config["init"], config["labels"]) == ("w.pt:ema", "privatename.png", "labels.txt")
    assert config["examples"]["images"] == "privateset"


def test_what_is_unpacked_without_photographs_is_a_whole_run(run):
    assert export(run, "--zip", "bare.zip", "--no-photos") == 0
    with zipfile.ZipFile("bare.zip") as site:
        site.extractall("bare")
    store = Store(Path("bare"))
    plan = store.need_plan()
    assert list(plan.settings) == ["plain"]
    assert is_rendered(store, plan)
    assert main(["verify", "--out", "bare"]) in (0, 1)  # its records' checksums are made up
    assert yaml.safe_load(Path("bare/config.yaml").read_text())["variants"] == [{"name": "plain", "init": "noise"}]


def test_posters_and_webps_leave_out_what_is_made_from_a_photograph(run, capsys):
    assert export(run, "--poster", "p.png", "--layer", "plain/conv", "--examples", "--no-photos") == 2
    assert "--examples: given with --no-photos" in capsys.readouterr().err
    assert export(run, "--poster", "p.png", "--layer", "photo/conv", "--no-photos") == 2
    assert "no layer 'photo/conv' in this run" in capsys.readouterr().err
    assert not Path("p.png").exists()
    assert export(run, "--webp", "webp", "--no-photos") == 0
    files = {str(path): path.read_bytes() for path in Path("webp").rglob("*.webp")}
    assert len(files) == 7
    assert not [name for name, content in files.items() if has_photograph(content)]


def test_a_run_of_nothing_but_photographs_is_refused(run, capsys):
    plan = run.need_plan()
    for variant in plan.settings:
        plan.settings[variant] = plan.settings[variant].model_copy(update={"caricature": CHECKSUM})
        plan.fingerprints[variant] = plan.settings[variant].fingerprint()
    run.write_plan(plan)
    assert export(run, "--zip", "a.zip", "--no-photos") == 2
    assert "--no-photos: every tile is made from a photograph" in capsys.readouterr().err
    assert not Path("a.zip").exists()


def test_the_card_says_what_is_in(run):
    assert export(run, "--card", "all.md") == 0
    assert export(run, "--card", "bare.md", "--no-photos") == 0
    words = " ".join(Path("all.md").read_text().split())
    assert "The tiles of photo start at a picture that the user gave" in words
    assert "3 of 1,000 images of a data set (`privateset`)" in words
    words = " ".join(Path("bare.md").read_text().split())
    assert "Nothing in it was made from a photograph" in words
    assert "privateset" not in words


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("[Errno 2] No such file or directory: '/home/jane doe/a.png'", "[Errno 2] No such file or directory: ..."),
        ('cannot open "/home/jane/a b/c.png" twice', "cannot open ... twice"),
        (r"C:\Users\jane\a.png is damaged", "... is damaged"),
        (r"\\server\jane\a.png", "..."),
        ("~jane/a.png: no picture", "... no picture"),
        ("a/b.png and 1/2 of image/png", "a/b.png and 1/2 of image/png"),
        ("<b>not finite</b>", "<b>not finite</b>"),
        ("no PNG, JPEG or WebP picture", "no PNG, JPEG or WebP picture"),
        ("between '/home/jane", "between '..."),
    ],
)
def test_paths_in_a_reason_are_left_out(words, left):
    assert shared_reason(words) == left


def test_a_config_for_others_names_no_folder_also_of_a_network(run, folder):
    plan = run.need_plan()
    text = config_for_others((run.root / "config.yaml").read_bytes(), plan)
    assert yaml.safe_load(text)["model"] == "tiny_inception"  # as the plan calls it
    assert folder.name.encode() not in text
    board = TensorBoard(run, plan, {})
    board.start((run.root / "config.yaml").read_text())
    (log,) = (run.root / "tensorboard").glob("events*")
    assert b"init: privatename.png" in log.read_bytes()
    assert folder.name.encode() not in log.read_bytes()


def test_of_a_config_only_known_keys_are_shared():
    own = b"# featlight 0.1.0, torch 2\nmodel: tiny_inception\nlayer: [a.b]\n"
    assert config_for_others(own) == own
    known = {"model": "tiny_inception", "layer": {"/home/jane/x": ["C:\\jane\\x"]}}
    values = known | {"old_key": "x", 3: "x", "variants": [{"name": "/home/jane/x y"}], "region": "~jane/x"}
    shared = config_for_others(b"# of jane\n" + yaml.safe_dump(values).encode() + b"# by jane\n")
    assert yaml.safe_load(shared) == {
        "model": "tiny_inception",
        "layer": {"...": ["..."]},
        "variants": [{"name": "... y"}],
        "region": "...",
    }
    assert b"jane" not in shared


@pytest.mark.parametrize("name", ["\udcff\n", "<script>&%20'", "\u202e e\u0301", " - ", "a" * 255])
def test_commands_read_and_write_in_folders_of_any_name(name, capsys):
    vectors = {"conv": np.random.default_rng(0).random((4, 4))}
    store = made_up_run(Path(name) / "run", {"conv": 4}, vectors=vectors)
    made_up_examples(store)
    assert main(["alike", "--out", str(store.root), "--method", "pca"]) == 0
    assert is_rendered(store, store.need_plan())
    words = [word for kind in ("zip", "webp", "card", "poster") for word in (f"--{kind}", f"./{name}/a.{kind}")]
    assert (
        export(store, *[word.replace("a.card", "a.md").replace("a.poster", "a.png") for word in words], "--dpi", 60)
        == 0
    )
    assert {path.name for path in Path(name).iterdir()} == {"run", "a.zip", "a.webp", "a.md", "a.png"}
    with zipfile.ZipFile(Path(name) / "a.zip") as site:
        assert site.testzip() is None
    main(["verify", "--out", str(store.root)])
    said = capsys.readouterr()
    assert not {"\x1b", "\u202e"} & set(said.out + said.err)
    assert "Traceback" not in said.err
