"""What leaves a run, against what the run holds."""

import csv
import errno
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import ExifTags, Image

from featlight.cli.main import main
from featlight.config.tile import Term, Tile
from featlight.image_io import encode_png
from featlight.report.atlas_with_examples import draw_with_examples
from featlight.report.build import is_rendered, render
from featlight.store.records import parse_line
from featlight.store.snapshot import Snapshot
from tests import ROOT
from tests.made_up import activation, color, made_up_examples, made_up_run
from tests.unit.report.test_viewer import called

BOTH = Tile("both", (Term("Mixed_4a", 7), Term("Mixed_4a", 2)))


def export(*words, out="run"):
    return main(["export", "--out", str(out), *map(str, words)])


@pytest.fixture
def run():
    """A run in `run`, with every state a tile can be in."""
    vectors = {name: np.random.default_rng(0).random((20, 8)) for name in ("Mixed_4a", "Mixed_5a")}
    store = made_up_run(
        Path("run"),
        {"Mixed_4a": 20, "Mixed_5a": 3},
        named=[BOTH],
        dead={1},
        failed={2},
        missing={3, 4},
        octaves=True,
        vectors=vectors,
    )
    (store.root / "config.yaml").write_text("model: tiny_inception\n")
    return store


def there(store):
    return {file: record for file, record in store.records().items() if record["status"] != "failed"}


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def unpack(path, folder="site"):
    with zipfile.ZipFile(path) as site:
        assert site.testzip() is None
        site.extractall(folder)
        return {entry.filename: entry for entry in site.infolist()}


def everything(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def references(root):
    """Every file that the page may ask for, from the page and from what its scripts say."""
    found = set(re.findall(r'(?:src|href)="([^"#]+)"', (root / "index.html").read_text()))
    data, suffix = called(root / "assets/data.js", "run"), called(root / "assets/tiles.js", "files")["suffix"]
    found |= set(data["figures"]) | {"plan.json", "config.yaml"}
    for group in data["groups"]:
        found |= {*group["atlas"], *group["sheets"], *group["details"]}
        shown = [stem for stem, status in zip(group["stems"], group["status"], strict=True) if status in ("ok", "dead")]
        found |= {f"{group['folder']}/{stem}{suffix}" for stem in shown}
        for script in group["details"]:
            for tile in called(root / script, "details")["tiles"]:
                found |= set(tile["octaves"])
    return found


# Examples


def test_a_poster_shows_each_picture_with_its_three_best_examples(run, capsys):
    assert export("--poster", "a.png", "--examples", "--layer", "Mixed_5a") == 2
    assert "the run has none; featlight examples finds them" in capsys.readouterr().err
    made_up_examples(run)
    assert export("--poster", "a.png", "--examples", "--layer", "Mixed_5a", "--paper", "A4", "--dpi", "72") == 0
    with Image.open("a.png") as poster:
        colors = {near for _, near in poster.convert("RGB").getcolors(1 << 20)}
    place = [planned.file for planned in run.plan().tiles].index("tiles/Mixed_5a/00000.png")
    for number in (0, place + 1, place + 2, place + 3):  # the picture, and the three
        assert any(color(number) == pytest.approx(each, abs=4) for each in colors)
    assert export("--card", "card.md", "--examples") == 2
    assert "--examples: given without --poster" in capsys.readouterr().err


def test_an_atlas_of_pictures_with_examples_is_the_runs_own(run):
    made_up_examples(run)
    names = draw_with_examples(Snapshot.from_store(run, run.plan()))
    assert names == [f"atlas/{layer}.examples.png" for layer in ("Mixed_4a", "Mixed_5a", "named")]
    assert set(names) <= set(run.outputs())
    with Image.open(run.root / names[1]) as atlas:
        assert atlas.width > 3 * 2 * 112


# The zip


def test_examples_go_along_and_photographs_stay_where_that_is_asked(run):
    made_up_examples(run)
    render(run, run.plan())
    assert export("--zip", "site.zip") == 0
    names = unpack("site.zip")
    examples = {"examples/examples.jsonl", "examples/about.json"}
    pictures = {path.relative_to("run").as_posix() for path in Path("run/examples").rglob("*.jpg")}
    sheets = {path.relative_to("run").as_posix() for path in Path("run/assets").rglob("examples-*.jpg")}
    assert (len(pictures), len(sheets)) == (24, 3)
    assert examples | pictures | sheets <= names.keys()
    assert "`photographs`" in (card := Path("site/README.md").read_text())
    assert "their pictures, in `examples/`, are those images" in card.lower()
    assert export("--zip", "bare.zip", "--no-photos", "--card", "card.md") == 0
    names = unpack("bare.zip", "bare")
    assert not (examples | pictures | sheets) & names.keys()
    assert references(Path("bare")) <= names.keys()
    assert not [group for group in called("bare/assets/data.js", "run")["groups"] if {"example", "best"} & group.keys()]
    assert Path("bare/README.md").read_text() == Path("card.md").read_text()
    assert is_rendered(run, run.plan())  # the run's own page keeps its examples


@pytest.mark.parametrize("tiles", ["png", "webp"])
def test_the_page_in_a_zip_finds_all_that_it_asks_for(run, tiles, capsys):
    assert export("--zip", "site.zip", "--tiles", tiles) == 0
    names = unpack("site.zip")
    asked = references(Path("site"))
    assert asked <= names.keys()
    assert f"tiles/Mixed_4a/00000.{tiles}" in asked
    assert f"tiles/named/both.{tiles}" in asked
    assert "octaves/Mixed_4a/00000.2.png" in asked
    assert len([name for name in names if name.startswith("tiles/")]) == len(there(run)) == 21
    for file, record in there(run).items():
        with Image.open(Path("site") / Path(file).with_suffix(f".{tiles}")) as image:
            assert image.convert("RGB").getpixel((20, 20)) == pytest.approx(color(record["feature"]), abs=4)
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"zip     site\.zip: [\d.]+ KiB, {len(names)} files, tiles as .*", said[0])
    assert said[1].startswith("note    2 of 24 tiles are missing and 1 failed;")


def test_png_tiles_and_vectors_go_as_they_are(run):
    assert export("--zip", "site.zip") == 0
    unpack("site.zip")
    site, own = everything(Path("site")), everything(Path("run"))
    assert set(site) - set(own) == {"README.md", "metadata.csv", "records/records.jsonl"}
    assert {"vectors/Mixed_4a.npy", "vectors/Mixed_5a.npy"} <= site.keys()
    assert all(content == own[name] for name, content in site.items() if name in own)
    records = [parse_line(line) for line in site["records/records.jsonl"].splitlines()]
    assert {record["file"]: record for record in records} == run.records()


def test_only_the_suffix_differs_in_the_data_of_a_zip_with_webps(run):
    assert export("--zip", "site.zip", "--tiles", "webp") == 0
    unpack("site.zip")
    assert Path("site/assets/data.js").read_bytes() == Path("run/assets/data.js").read_bytes()
    suffixes = [called(root / "assets/tiles.js", "files") for root in (Path("site"), Path("run"))]
    assert suffixes == [{"suffix": ".webp"}, {"suffix": ".png"}]
    assert is_rendered(run, run.plan())  # the run's own page is as it was


def test_the_same_run_gives_the_same_bytes(run):
    files = []
    for name in ("a", "b"):
        assert export("--zip", f"{name}.zip", "--poster", f"{name}.pdf", "--layer", "Mixed_4a", "--dpi", 50) == 0
        assert export("--zip", f"{name}w.zip", "--tiles", "webp", "--quality", 70) == 0
        files.append([Path(f"{name}{end}").read_bytes() for end in (".zip", ".pdf", "w.zip")])
        for path in Path("run").rglob("*"):
            os.utime(path)
    assert files[0] == files[1]
    for entry in unpack("a.zip").values():
        assert entry.date_time == (1980, 1, 1, 0, 0, 0)
        stored = entry.filename.endswith((".png", ".jpg", ".webp"))
        assert entry.compress_type == (zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED)


def test_strangers_stay_at_home(run):
    render(run, run.plan())
    secret = Path("secret.txt")
    secret.write_text("secret")
    names = ["mine.txt", "tiles/Mixed_4a/99999.png", "tiles/mine.txt", "assets/mine.js", "records/mine.txt"]
    for name in names:
        (run.root / name).write_text("mine")
    (run.root / "assets/link.js").symlink_to(secret.resolve())
    with (run.root / "outputs.txt").open("a") as file:
        file.write("assets/../../secret.txt\n../secret.txt\nassets/link.js\n\n")
    assert export("--zip", "site.zip") == 0
    inside = unpack("site.zip")
    assert not {*names, "assets/link.js"} & inside.keys()
    assert not [name for name in inside if "secret" in name or ".." in name or name.startswith("/")]
    assert b"secret" not in Path("site.zip").read_bytes()


def test_the_table_says_what_the_records_say(run):
    lines = Path("run/records/worker-0.jsonl").read_text().splitlines()
    made = [json.loads(line) for line in lines]
    for number, record in enumerate(made):
        record |= {"total_variation": number / 7, "high_frequency_share": number / 100}
    Path("run/records/worker-0.jsonl").write_text("".join(json.dumps(record) + "\n" for record in made))
    assert export("--zip", "site.zip") == 0
    unpack("site.zip")
    found = rows(Path("site/metadata.csv").read_text())
    kept = [record for record in made if record["status"] != "failed"]
    assert [row["file_name"] for row in found] == [record["file"] for record in kept]
    for row, record in zip(found, kept, strict=True):
        assert (Path("site") / row["file_name"]).is_file()
        for column in ("name", "layer", "variant", "status", "sha256"):
            assert row[column] == record[column]
        for column in ("feature", "activation_start", "activation_end", "total_variation", "high_frequency_share"):
            assert float(row[column]) == record[column]
    assert float(found[0]["activation_end"]) == activation(0)
    assert found[1]["status"] == "dead"


def test_a_page_that_is_out_of_date_is_made_again_first(run):
    render(run, run.plan())
    Path("run/tiles/Mixed_4a/00000.png").unlink()
    assert export("--zip", "site.zip") == 0
    names = unpack("site.zip")
    assert references(Path("site")) <= names.keys()
    assert called("site/assets/data.js", "run")["groups"][0]["status"][:5] == [
        *("missing", "dead", "failed", "missing", "missing")
    ]


# WebP tiles


def detailed(number):
    noise = np.random.default_rng(number).integers(0, 256, (10, 10, 3), np.uint8)
    return Image.fromarray(noise).resize((40, 40), Image.Resampling.BICUBIC)


def test_webps_keep_the_names_the_pixels_and_what_made_them(capsys):
    store = made_up_run(Path("run"), {"a": 6}, variants=("L1", "L2"), picture=detailed)
    terms = json.dumps({"terms": [{"layer": "a"}], "seed": 999})
    png = encode_png(detailed(2), {"Title": "a", "Software": "featlight 0.1.0", "featlight": terms})
    path = store.root / "tiles/L1/a/00002.png"
    before = path.stat().st_size
    path.write_bytes(png)
    records = Path("run/records/worker-0.jsonl")
    text = records.read_text().splitlines()
    text[2] = text[2].replace(f'"bytes": {before}', f'"bytes": {len(png)}')
    records.write_text("\n".join(text) + "\n")
    sizes = {}
    for quality in ("80", "90", "lossless"):
        assert export("--webp", quality, "--quality", quality) == 0
        names = {path.relative_to(quality).as_posix() for path in Path(quality).rglob("*") if path.is_file()}
        assert names == {f"{variant}/a/{i:05d}.webp" for variant in ("L1", "L2") for i in range(6)}
        sizes[quality] = sum(path.stat().st_size for path in Path(quality).rglob("*.webp"))
        with Image.open(f"{quality}/L1/a/00002.webp") as image:
            assert image.format == "WEBP"
            assert image.getexif()[ExifTags.Base.ImageDescription] == terms
            assert image.getexif()[ExifTags.Base.Software] == "featlight 0.1.0"
            off = np.abs(np.asarray(image.convert("RGB"), int) - np.asarray(detailed(2), int))
        assert off.mean() < 20
        assert (off.max() == 0) == (quality == "lossless")
    assert sizes["80"] < sizes["90"] < sizes["lossless"]
    assert "12 tiles as WebP at quality 80\n" in capsys.readouterr().out


# The card


def front(text):
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


def table_of(body, first):
    """A table of the card, by its first head; a row is a list of words."""
    lines = body[body.index(f"| {first} |") :].split("\n\n")[0].splitlines()
    return [[word.strip().replace("\\_", "_") for word in line.strip("|").split("|")] for line in lines[2:]]


def test_the_card_counts_what_is_there(run):
    assert export("--card", "card.md") == 0
    head, body = front(Path("card.md").read_text())
    assert head["pretty_name"] == "Features of tiny_inception: Mixed_4a, Mixed_5a, named tiles"
    assert head["size_categories"] == ["n<1K"]
    assert "feature-visualization" in head["tags"]
    assert "license" not in head
    assert table_of(body, "layer") == [
        ["Mixed_4a", "20", "16", "1", "1", "2"],
        ["Mixed_5a", "3", "3", "0", "0", "0"],
        ["named tiles", "1", "1", "0", "0", "0"],
        ["all", "24", "20", "1", "1", "2"],
    ]
    assert table_of(body, "octave") == [
        ["1", "32", "4", "0.4 to 0.3", "1.2 to 0.6"],
        ["2", "40", "3", "0.3 to 0.1", "none"],
    ]
    for words in (
        "21 images, lossless PNG",
        "embedded weights",
        "0" * 64,
        "2026-01-02",
        "- Seed: 999.",
        "- Metric: l1.",
    ):
        assert words in body
    assert "Benjamin Badger" in body
    assert "never trained" not in body


def test_the_columns_of_the_card_are_those_of_the_table(run):
    assert export("--zip", "site.zip", "--tiles", "webp", "--card", "card.md") == 0
    unpack("site.zip")
    card = Path("site/README.md").read_text()
    assert card == Path("card.md").read_text()
    assert "WebP at quality 90" in card
    head, body = front(card)
    assert [row[0].strip("`") for row in table_of(body, "column")] == list(
        rows(Path("site/metadata.csv").read_text())[0]
    )
    (files,) = (config["data_files"] for config in head["configs"])
    assert files[0] == "metadata.csv"
    names = everything(Path("site"))
    matched = [Path(name) for name in names if any(fnmatch(name, pattern) for pattern in files[1:])]
    assert len(matched) == 21
    assert {path.suffix for path in matched} == {".webp"}


def test_random_weights_and_words_from_outside():
    made_up_run(Path("run"), {"a": 2}, weights="RANDOM WEIGHTS, seed 7", variants=("L1", "L2"))
    assert export("--card", "card.md") == 0
    body = front(Path("card.md").read_text())[1]
    assert body.count("**RANDOM WEIGHTS, seed 7. The network was never trained") == 2
    assert ("### L1" in body, "### L2" in body) == (True, True)
    made_up_run(Path("wild"), {"a": 2}, weights="<img src=x>|[a](b) --- `x`")
    assert export("--card", "wild.md", out="wild") == 0
    text = Path("wild.md").read_text()
    assert r"| weights | \<img src=x\>\|\[a\](b) --- \`x\` |" in text
    assert front(text)[0]["configs"]


# Posters


def test_a_poster_of_a_layer(run, capsys):
    assert export("--poster", "a.png", "--layer", "Mixed_5a", "--paper", "a4", "--dpi", 100) == 0
    with Image.open("a.png") as image:
        assert sorted(image.size) == [827, 1169]
        assert image.text["Title"] == "tiny_inception Mixed_5a"
        colors = {found for _, found in image.convert("RGB").getcolors(1 << 24)}
    assert {color(i) for i in range(3)} <= colors
    assert color(5) not in colors
    assert re.match(r"poster  a\.png: [\d.]+ KiB, Mixed_5a on A4 upright, tiles of \d+ mm\n", capsys.readouterr().out)
    assert export("--poster", "b.pdf", "--layer", "Mixed_4a") == 0
    (box,) = re.findall(rb"/MediaBox \[ ([\d. ]+) \]", Path("b.pdf").read_bytes())
    a2 = [420 / 25.4 * 72, 594 / 25.4 * 72]
    assert sorted(map(float, box.split()))[2:] == pytest.approx(a2, abs=0.1)


def test_a_poster_of_a_variant_is_named_as_its_atlas(capsys):
    made_up_run(Path("run"), {"a": 3, "b": 2}, variants=("L1", "L2"))
    assert export("--poster", "p.png") == 2
    assert "--layer: a poster shows one of L1/a, L1/b, L2/a, L2/b; name it" in capsys.readouterr().err
    assert export("--poster", "p.png", "--layer", "b") == 2
    assert "one of L1/b, L2/b" in capsys.readouterr().err
    assert export("--poster", "p.png", "--layer", "L1/c") == 2
    assert "no layer 'L1/c' in this run; nearest: 'L1/" in capsys.readouterr().err
    assert export("--poster", "p.png", "--layer", "L2/b", "--dpi", 50) == 0
    with Image.open("p.png") as image:
        assert image.text["Title"] == "tiny_inception b L2"


# What is refused


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "nothing to export; give one or more of --poster, --zip, --webp, --card"),
        (["--layer", "a"], "nothing to export"),
        (["--zip", "a.zip", "--dpi", "100"], "--dpi: given without --poster"),
        (["--card", "a.md", "--quality", "80"], "--quality: given without --webp or --zip"),
        (["--zip", "a.zip", "--quality", "80"], "--quality: given for PNG tiles, which are lossless"),
        (["--webp", "a", "--quality", "0"], "'0' given; allowed: 1 to 100, or lossless"),
        (["--zip", "a.zip", "--tiles", "gif"], "'gif'"),
        (["--poster", "a.jpg"], "must end with .pdf or .png"),
        (["--zip", "a"], "must end with .zip"),
        (["--card", "card"], "must end with .md"),
        (["--poster", "a.pdf", "--paper", "A9"], "no paper 'A9'; allowed: A4, A3, A2, A1, A0"),
        (["--poster", "a.pdf", "--dpi", "20"], "--dpi: 20 given; allowed: 50 to 600"),
        (["--zip", "run/a.zip"], "lies in the run directory"),
        (["--webp", "run/tiles"], "lies in the run directory"),
        (["--card", "sub/../run/a.md"], "lies in the run directory"),
        (["--zip", "folder.zip"], "folder.zip is there and is no regular file"),
        (["--card", "link.md"], "link.md is there and is no regular file"),
        (["--webp", "file"], "file is there and is no folder"),
        (["--pster", "a.pdf"], "no flag '--pster'; nearest: '--poster'"),
    ],
)
def test_slips_are_answered_in_a_line_and_nothing_is_written(run, words, complaint, capsys):
    Path("folder.zip").mkdir()
    Path("file").write_text("mine")
    Path("link.md").symlink_to("file")
    before = everything(Path())
    assert export(*words) == 2
    said = capsys.readouterr()
    assert complaint in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert everything(Path()) == before


def test_no_run_and_no_tile(capsys):
    assert main(["export", "--zip", "a.zip"]) == 2
    assert "--out: none given" in capsys.readouterr().err
    assert export("--zip", "a.zip", out="nowhere") == 2
    assert "nowhere holds no run" in capsys.readouterr().err
    made_up_run(Path("run"), {"a": 2}, missing={0, 1})
    assert export("--zip", "a.zip") == 2
    assert "run holds no tile yet" in capsys.readouterr().err
    assert not list(Path().glob("*.zip"))


def test_a_damaged_tile_is_named(run, capsys):
    path = Path("run/tiles/Mixed_4a/00005.png")
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert export("--zip", "a.zip", "--card", "a.md") == 1
    assert f"{path}: damaged; `featlight verify --repair` removes it" in capsys.readouterr().err
    render(run, run.plan())
    path.write_bytes(bytes(len(whole)))  # of the right size, and no picture
    assert export("--zip", "a.zip", "--tiles", "webp") == 1
    assert f"{path}: damaged (" in capsys.readouterr().err
    path.unlink()
    Path("elsewhere.png").write_bytes(whole)
    path.symlink_to(Path("elsewhere.png").resolve())
    assert export("--webp", "tiles") == 1
    assert f"{path}: no regular file" in capsys.readouterr().err
    assert not {path.name for path in Path().iterdir()} - {"run", "elsewhere.png"}  # nor a temporary file


def test_what_is_there_is_replaced_whole_or_not_at_all(run, monkeypatch, capsys):
    Path("a.zip").write_text("old")
    real = os.fsync

    def no_room(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    render(run, run.plan())
    monkeypatch.setattr(os, "fsync", no_room)
    assert export("--zip", "a.zip") == 74
    assert "a.zip: no space left" in capsys.readouterr().err
    assert Path("a.zip").read_text() == "old"
    assert {path.name for path in Path().iterdir()} == {"run", "a.zip"}
    monkeypatch.setattr(os, "fsync", real)
    assert export("--zip", "a.zip") == 0
    assert zipfile.is_zipfile("a.zip")


def test_a_webp_that_is_a_link_is_left_alone(run, capsys):
    Path("tiles/Mixed_4a").mkdir(parents=True)
    Path("tiles/Mixed_4a/00000.webp").symlink_to("../../run/plan.json")
    assert export("--webp", "tiles") == 2
    assert "00000.webp is there and is no regular file" in capsys.readouterr().err


def loaded(code):
    """The modules that some Python leaves loaded."""
    code = f"import sys; from featlight.cli.main import main\n{code}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, check=True
    )
    return set(done.stdout.split())


def test_exports_load_no_torch_and_help_no_pictures(run):
    words = ["export", "--out", "run", "--zip", "a.zip", "--webp", "w", "--card", "c.md", "--poster", "p.pdf"]
    modules = loaded(f"assert main({[*words, '--layer', 'Mixed_5a']!r}) == 0")
    assert "PIL.Image" in modules
    assert not {"torch", "lightning"} & modules
    modules = loaded("try: main(['export', '--help'])\nexcept SystemExit: pass")
    assert not {"torch", "numpy", "PIL.Image"} & modules
