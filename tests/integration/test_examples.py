"""The images that excite each tile most: against a search by hand, with any number of workers, kills and bad files."""

import json
import multiprocessing
import os
import shutil
import time
import zlib
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

import featlight
from featlight.cli.main import main
from featlight.config.image_shape import Fit
from featlight.distributed.env import Worker
from featlight.distributed.signals import Stop
from featlight.errors import Interrupted, UsageError
from featlight.examples import histogram
from featlight.examples.decoding import fitted, open_image
from featlight.examples.find import ScanReport, find
from featlight.examples.manifest import ExamplesRequest
from featlight.plan.shared_config import config_for_others
from featlight.store.example_files import read_about, read_examples
from featlight.store.own_files import Deletion, find_orphans
from featlight.store.store import Store
from tests.photographs import crops, folder_of, planned_run
from tests.pngs import GRAY, part, png

RECIPE = featlight.Recipe([featlight.Octave(size=48, steps=2, lr=(0.1, 0.1))])
LAYERS = {"Mixed_3a": "0-7", "Mixed_4a": "0,5"}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return folder_of(tmp_path_factory.mktemp("photographs"), crops(40))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    planned_run(out, layer=LAYERS)
    return out


@pytest.fixture
def out(run) -> Path:
    return Path(shutil.copytree(run, "run"))


def look(out: Path, images: Path, *, workers: int = 1, stop: Stop | None = None, **asked: object) -> list[ScanReport]:
    """By workers one after the other, in this process."""
    request = ExamplesRequest(images, **{"batch_size": 8, "top": 3, **asked})
    return [find(out, request, worker=Worker(rank, workers), stop=stop, processes=0) for rank in range(workers)]


def written(out: Path) -> bytes:
    """All that people see of them."""
    pictures = [path.read_bytes() for path in sorted((out / "examples").rglob("*.jpg"))]
    return b"".join([(out / "examples/examples.jsonl").read_bytes(), *pictures])


def lines(out: Path) -> list[str]:
    return (out / "examples/examples.jsonl").read_text().splitlines()


def about(out: Path) -> dict[str, object]:
    return json.loads((out / "examples/about.json").read_text())


@pytest.fixture(scope="module")
def whole(run, images, tmp_path_factory) -> bytes:
    """What one worker finds, undisturbed."""
    out = shutil.copytree(run, tmp_path_factory.mktemp("whole") / "run")
    (report,) = look(out, images)
    assert (report.scored, report.left, report.about["images"]) == (40, 0, 40)
    assert len(list((out / "examples").rglob("*.jpg"))) == 10
    return written(out)


def test_it_is_what_a_search_by_hand_finds_in_double_precision(tmp_path):
    folder = folder_of(tmp_path / "images", crops(300, side=32))
    planned_run(tmp_path / "run", layer=LAYERS, precision="fp64")
    look(tmp_path / "run", folder, batch_size=50, fit=32, top=9)
    network, maps = featlight.load_model("tiny_inception").double(), {}
    for layer in LAYERS:
        network.get_submodule(layer).register_forward_hook(
            lambda _, __, output, name=layer: maps.update({name: output})
        )
    # two of these squares fell on the same place
    files = sorted({file.read_bytes(): file for file in sorted(folder.rglob("*.png"), reverse=True)}.values())
    assert len(files) == 299
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) for file in files])
    with torch.no_grad():
        network(pixels.double() / 255)
    ours = [json.loads(line) for line in lines(tmp_path / "run")]
    assert len(ours) == 10
    for line in ours:
        theirs = maps[line["layer"]][:, line["feature"]]  # (299, H, W)
        first, counts = line["histogram"]
        by_hand = torch.bucketize(theirs.mean((1, 2)), histogram.edges(), right=True).bincount(minlength=histogram.BINS)
        assert [0] * first + counts == by_hand[: first + len(counts)].tolist()
        assert sum(counts) == 299
        values, order = theirs.mean((1, 2)).sort(descending=True, stable=True)
        assert [found["file"] for found in line["images"]] == [
            files[i].relative_to(folder).as_posix() for i in order[:9]
        ]
        torch.testing.assert_close(torch.tensor([found["value"] for found in line["images"]]).double(), values[:9])
        for found, i in zip(line["images"], order, strict=False):
            row, column = found["neuron"]
            assert theirs[i, row, column] == pytest.approx(theirs[i].max().item(), abs=1e-12)


@pytest.mark.parametrize("workers", [2, 4])
def test_any_number_of_workers_finds_the_same_to_the_bit(out, images, whole, workers):
    reports = look(out, images, workers=workers)
    assert [report.about is not None for report in reports] == [False] * (workers - 1) + [True]
    assert written(out) == whole


def test_a_pass_that_is_stopped_goes_on_by_other_workers_and_loses_a_batch_at_most(out, images, whole):
    def kill_after(chunks: int) -> mock.Mock:
        return mock.Mock(check=mock.Mock(side_effect=[None] * (1 + chunks) + [Interrupted("killed")]))

    for workers, chunks in ((1, 1), (2, 1), (1, 2)):
        with pytest.raises(Interrupted, match="killed"):
            look(out, images, workers=workers, stop=kill_after(chunks))
    assert not (out / "examples/examples.jsonl").exists()
    (report,) = look(out, images)
    assert report.scored == 40 - 8 * (1 + 1 + 2)
    assert written(out) == whole
    (report,) = look(out, images)
    assert report.scored == 0


def test_findings_that_are_damaged_are_made_again(out, images, whole):
    look(out, images, workers=2)
    (out / "examples/found/worker-1.safetensors").write_bytes(b"torn")
    (report,) = look(out, images)
    assert report.scored == 16
    assert written(out) == whole


def test_what_two_workers_have_looked_at_both_counts_once(out, run, images, whole):
    look(out, images, workers=2)
    other = Path(shutil.copytree(run, "other"))
    look(other, images)
    shutil.copy(other / "examples/found/worker-0.safetensors", out / "examples/found/worker-1.safetensors")
    (report,) = look(out, images)
    assert report.scored == 16  # those of the first worker count, and the rest are looked at again
    assert written(out) == whole


def test_more_images_go_on_from_what_is_there_and_end_where_a_fresh_pass_does(out, run, images, whole, tmp_path):
    folder = shutil.copytree(images, tmp_path / "more")
    look(out, folder)
    folder_of(folder / "0" / "more", crops(21, seed=5))  # between those of before
    (report,) = look(out, folder)
    assert report.scored == 21
    fresh = Path(shutil.copytree(run, "fresh"))
    look(fresh, folder)
    assert written(out) == written(fresh)
    assert any("more" in line for line in lines(out))


def test_an_image_that_has_changed_begins_the_pass_anew(out, images, tmp_path):
    folder = shutil.copytree(images, tmp_path / "changing")
    look(out, folder)
    first = next(iter(read_examples(Store(out).folder).values()))[0].file
    Image.new("RGB", (64, 64)).save(folder / first)
    said: list[str] = []
    find(out, ExamplesRequest(folder, top=3, batch_size=8), echo=said.append, processes=0)
    assert said[0] == "all images are scanned again: an image of the earlier scan has changed or is gone"
    assert about(out)["images"] == 40
    find(out, ExamplesRequest(folder, top=2), echo=said.append, processes=0)
    assert "all images are scanned again: top changed" in said


def test_bad_files_are_named_duplicates_count_once_and_ties_go_by_path(out, images, tmp_path):
    folder = shutil.copytree(images, tmp_path / "bad")
    (folder / "empty.png").touch()
    (folder / "words.jpg").write_text("no picture")
    (folder / "torn.png").write_bytes((folder / "0/00000.png").read_bytes()[:3000])
    shutil.copy(folder / "0/00007.png", folder / "0/00003-again.png")
    same = Image.open(folder / "0/00011.png")
    same.save(folder / "0/00010-tie.png", compress_level=9)  # other bytes, and the same pixels
    gray = Image.fromarray((np.arange(64 * 80).reshape(64, 80) * 12).astype(np.uint16))
    gray.save(folder / "sixteen bit.png")
    same.convert("RGBA").save(folder / "clear.webp", lossless=True)
    same.convert("P").save(folder / "palette.png", transparency=0)
    look(out, folder, top=100)
    said = about(out)
    assert (said["images"], said["duplicates"], said["refused"]) == (44, 1, 3)
    assert said["refused_files"]["words.jpg"] == "no PNG, JPEG, WebP, GIF, TIFF or AVIF picture that can be read"
    assert said["refused_files"].keys() == {"empty.png", "torn.png", "words.jpg"}
    for found in read_examples(Store(out).folder).values():
        names = [each.file for each in found]
        assert len(set(names)) == len(names) == 44
        assert "0/00007.png" not in names  # its content stands under the earlier path
        tie = names.index("0/00010-tie.png")
        assert {names[tie + 1], names[tie + 2]} == {"0/00011.png", "clear.webp"}
        assert [each.value for each in found[tie : tie + 3]] == [found[tie].value] * 3
        assert names.index("0/00011.png") < names.index("clear.webp")


def test_a_name_that_is_not_utf8_and_a_file_that_vanishes_change_nothing_else(run, images, tmp_path):
    said = []
    for name in ("clean", "strange"):
        folder = Path(shutil.copytree(images, tmp_path / name / "a b" / "set"))
        gone = folder / "0/00013.png"
        if name == "strange":
            shutil.copy(folder / "0/00007.png", folder / "\udcff\n.png")
            (folder / "\udcfe").mkdir()
            next(crops(1, seed=9)).save(folder / "\udcfe" / "b.png")
        out = Path(shutil.copytree(run, tmp_path / name / "run"))
        request = ExamplesRequest(folder, batch_size=8, top=3)
        report = find(out, request, echo=lambda _, gone=gone: gone.unlink(missing_ok=True), processes=0)  # once listed
        said.append(lines(out))
        for path in (out / "examples").rglob("*"):
            if path.is_file() and path.name != "images.json":  # which stays at home
                assert str(tmp_path).encode() not in path.read_bytes()
    assert said[0] == said[1]
    assert (report.about["images"], report.about["refused"]) == (39, 3)
    assert report.about["refused_files"]["\\udcff\\n.png"] == "its name is not UTF-8"
    assert report.about["refused_files"].keys() == {"0/00013.png", "\\udcff\\n.png", "\\udcfe/b.png"}
    assert read_about(Store(out).folder).images == 39


def test_hostile_pictures_are_named_and_change_nothing_else(out, images, whole, tmp_path):
    folder = shutil.copytree(images, tmp_path / "hostile")
    good = (folder / "0/00000.png").read_bytes()
    hostile = {
        "bits.png": png(2**26, 1, depth=1, color=GRAY),
        "profile.png": good[:-12] + part(b"iCCP", b"") + good[-12:],
        "swells.png": good[:33] + part(b"zTXt", b"x\0\0" + zlib.compress(bytes(3 << 20))) + good[33:],
    }
    for name, content in hostile.items():
        (folder / name).write_bytes(content)
    (folder / "sparse.png").touch()
    os.truncate(folder / "sparse.png", 8 << 30)
    look(out, folder)
    assert about(out)["refused_files"].keys() == {*hostile, "sparse.png"}
    assert str(tmp_path) not in json.dumps(about(out))
    assert whole.startswith((out / "examples/examples.jsonl").read_bytes())


def test_a_picture_of_40000_pixels_in_a_row_is_looked_at_in_its_middle(out, images, tmp_path):
    middle = np.full((1, 40_000, 3), 255, np.uint8)
    middle[:, 19_990:20_010] = (200, 30, 90)
    Image.fromarray(middle).save(tmp_path / "row.png")
    Image.new("RGB", (48, 48), (200, 30, 90)).save(tmp_path / "same.png")
    look(out, tmp_path, top=2)
    for found in read_examples(Store(out).folder).values():
        assert {each.file for each in found} == {"row.png", "same.png"}
        assert found[0].value == found[1].value


def test_other_formats_are_read_or_counted(out, images, tmp_path):
    folder = shutil.copytree(images, tmp_path / "formats")
    picture = next(crops(1, seed=3))
    for name in ("a.jfif", "b.TIF", "c.gif", "d.avif", "e.jpe"):
        picture.save(folder / name, format={"f": "JPEG", "e": "JPEG"}.get(name[-1]) if "j" in name else None)
    for name in ("f.bmp", "g.BMP", "h.heic", "i.svg", "notes.txt", "labels.json"):
        (folder / name).touch()
    said: list[str] = []
    find(out, ExamplesRequest(folder, top=3, batch_size=8), echo=said.append, processes=0)
    assert "4 files of other image formats (.bmp, .heic, .svg) skipped" in said
    assert about(out)["skipped"] == {".bmp": 2, ".heic": 1, ".svg": 1}
    assert (about(out)["images"], about(out)["refused"]) == (45 - about(out)["duplicates"], 0)
    (tmp_path / "none").mkdir()
    (tmp_path / "none/x.bmp").touch()
    with pytest.raises(UsageError, match=r"holds no image \(1 file of other image formats \(.bmp\) skipped\)"):
        look(out, tmp_path / "none")
    (tmp_path / "words").mkdir()
    (tmp_path / "words/notes.txt").touch()
    with pytest.raises(UsageError, match="holds no image; PNG"):
        look(out, tmp_path / "words")


def test_the_last_lines_count_all_workers(out, images):
    reports = look(out, images, workers=3)
    assert [report.scored for report in reports] == [16, 16, 8]
    assert [report.scored_by_all for report in reports] == [
        16,
        16,
        8,
    ]  # one after the other: what each found to be left
    (again,) = look(out, images)
    assert again.scored_by_all == 0


def test_each_image_as_it_is(out, tmp_path):
    sizes = [(64, 64), (80, 48), (33, 95), (64, 64)]
    for number, size in enumerate(sizes):
        next(crops(1, side=100, seed=number)).resize(size).save(tmp_path / f"{number}.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    look(out, tmp_path, fit="none", top=5)
    network, maps = featlight.load_model("tiny_inception"), {}
    network.Mixed_3a.register_forward_hook(lambda _, __, output: maps.update(it=output))
    first = next(iter(read_examples(Store(out).folder).values()))
    for found in first:
        with torch.no_grad():
            network(torch.from_numpy(np.array(Image.open(tmp_path / found.file))).permute(2, 0, 1)[None] / 255)
        assert found.value == pytest.approx(maps["it"][0, 0].mean().item(), rel=1e-4)
    assert len(first) + about(out)["refused"] == 5


def test_a_size_that_only_the_plan_names_is_bounded(out, images, tmp_path, capsys, monkeypatch):
    network = featlight.load_model("tiny_inception")
    network.featlight_source = replace(network.featlight_source, size=None)
    request = ExamplesRequest(images, top=3)
    find(out, replace(request, fit="none"), network=network, processes=0)
    before = written(out)
    monkeypatch.setattr("featlight.examples.scorer.MOST_AUTOMATIC", 48 * 48 - 1)
    with pytest.raises(UsageError, match=r"--fit: auto given, and the run's tiles have 48 px, .*example --fit 512"):
        find(out, request, network=network, processes=0)
    shutil.rmtree(out / "examples")
    find(out, replace(request, fit="none"), network=network, processes=0)
    assert written(out) == before


def test_images_of_any_size_are_held_up_to_a_limit(out, run, tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number, size in enumerate([(64, 64), (80, 48), (33, 95), (40, 40)]):
        next(crops(1, side=100, seed=number)).resize(size).save(folder / f"{number}.png")
    (folder / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    look(out, folder, fit="none", top=5)
    one_by_one, most = Path(shutil.copytree(run, "other")), []

    def counted(*given: object) -> object:
        most.append(given)
        return open_image(*given)

    with (
        mock.patch("featlight.examples.decoding.HELD_BYTES", -1),
        mock.patch("featlight.examples.pictures.HELD_BYTES", -1),
        mock.patch("featlight.examples.pictures.open_image", counted),
    ):
        look(one_by_one, folder, fit="none", top=5)
    assert len(most) == 10 * 4  # each example of each tile once
    assert written(one_by_one) == written(out)
    assert about(one_by_one)["refused_files"].keys() == about(out)["refused_files"].keys() >= {"torn.png"}


def test_the_box_is_what_the_neuron_sees_in_the_photograph(run, tmp_path):
    """A photograph of another size than the network's: its middle, enlarged."""
    out = Path(shutil.copytree(run, "run"))
    next(crops(1, side=80)).resize((40, 30)).save(tmp_path / "one.png")
    look(out, tmp_path, top=1)
    for line in lines(out):
        values = json.loads(line)
        (found,) = values["images"]
        left, top, right, bottom = found["box"]
        assert 4 <= left < right <= 35  # the middle of 40 pixels, as wide as high
        assert 0 <= top < bottom <= 30
        with Image.open(out / "examples" / values["tile"].removeprefix("tiles/").replace("png", "jpg")) as strip:
            assert strip.size == (112, 224)
        if values["layer"] == "Mixed_3a":
            assert max(right - left, bottom - top) <= 8  # of 30 pixels that the network sees as 64


def test_a_picture_that_is_gone_is_drawn_again_and_no_other(out, images, whole):
    look(out, images)
    pictures = sorted((out / "examples").rglob("*.jpg"))
    pictures[3].unlink()
    pictures[4].write_bytes(b"torn")
    before = [path.stat().st_mtime_ns for path in pictures[:3]]
    look(out, images)
    assert written(out) == whole
    assert [path.stat().st_mtime_ns for path in pictures[:3]] == before


def test_they_belong_to_the_run(out, images):
    look(out, images)
    deletion = Deletion.from_store(Store(out))
    assert not deletion.foreign
    torn = out / "examples/found/.worker-0.safetensors.123.tmp"
    torn.write_bytes(b"torn")
    os.utime(torn, (0, 0))
    orphans = find_orphans(Store(out), Store(out).need_plan(), {})
    assert (orphans.foreign, [path for path, _ in orphans.leftovers]) == ([], [torn])
    deletion = Deletion.from_store(Store(out))
    assert torn in deletion.files
    deletion.carry_out()
    assert not (out / "examples").exists()


class OneSize(nn.Module):
    """Takes images of 48 x 48 pixels alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image_size = 48
        self.maps = nn.Conv2d(3, 6, 3, stride=2)
        self.classes = nn.Linear(6 * 23 * 23, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classes(self.maps(x).relu().flatten(1))


@pytest.mark.parametrize("fit", ["auto", "none", 32, (40, 60)])
def test_a_network_of_one_size_sees_every_image_at_that_size(images, fit, tmp_path):
    out, network = tmp_path / "run", OneSize().eval()
    config = planned_run(
        out, layer="classes", recipe={"octaves": [{"size": 32, "steps": 1, "lr": [0.1, 0.1]}]}, network=network
    )
    assert config.layer == {"classes": None}
    find(out, ExamplesRequest(images, fit=fit, top=2), network=network, processes=0)
    found = read_examples(Store(out).folder)
    assert [len(each) for each in found.values()] == [2] * 5


def test_a_photograph_is_fitted_as_torchvision_does():
    from torchvision.transforms import v2

    photograph = next(crops(1, side=200)).crop((0, 0, 200, 131))
    for fit in (Fit(64, 72), Fit(96, None), Fit((40, 90), 64), Fit(224, 256, "bicubic")):
        sides = (fit.size, fit.size) if isinstance(fit.size, int) else fit.size
        shorter = fit.resize or max(sides)
        kind = v2.InterpolationMode.BICUBIC if fit.interpolation == "bicubic" else v2.InterpolationMode.BILINEAR
        theirs = v2.Compose([v2.Resize(shorter, kind), v2.CenterCrop(sides)])(photograph)
        if fit.size == (40, 90):  # theirs would fill up with black what is narrower
            assert fitted(photograph, fit).size == (90, 40)
        else:
            assert np.array_equal(np.array(fitted(photograph, fit)), np.array(theirs))


def test_an_image_that_keeps_its_size_is_bounded():
    largest = Image.new("RGB", (2048, 1024))
    assert fitted(largest, Fit()) is largest
    with pytest.raises(ValueError, match="2048 x 1025 pixels; without a fit at most 2,097,152 are allowed"):
        fitted(Image.new("RGB", (2048, 1025)), Fit())


def test_the_command_finds_them_by_processes_that_decode(out, images, whole, capfd):
    flags = ["--batch-size", "8", "--top", "3", "--devices", "1"]
    assert main(["examples", "--out", str(out), "--images", str(images), *flags]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == f"40 images of {images}, 10 tiles of 2 layers, middle 64 px, 8 at a time on cpu"
    assert lines[1].startswith("40 images scanned, 40 of them now, ")
    assert written(out) == whole


@pytest.mark.parametrize("place", ["scan._add_chunk", "pictures._picture"])
def test_a_decoding_process_that_is_killed_ends_the_command_in_one_line(place, out, images, whole, capfd, monkeypatch):
    flags = ["--out", str(out), "--images", str(images), "--batch-size", "8", "--top", "3", "--devices", "1"]

    def kill(*_: object) -> None:
        for process in multiprocessing.active_children():
            process.terminate()
        time.sleep(9)  # torch ends this by its error

    with monkeypatch.context() as patched:
        patched.setattr(f"featlight.examples.{place}", kill)
        assert main(["examples", *flags]) == 75
    assert capfd.readouterr().err == (
        "featlight: a decoding process was killed, or its memory was full; run the same command again to continue\n"
    )
    assert main(["examples", *flags]) == 0
    assert written(out) == whole


def test_a_config_asks_for_them_and_a_class_is_its_folder(images, capfd, tmp_path):
    folder = Path(shutil.copytree(images, tmp_path / "set" / "photographs")).parent
    for number in ("0",):
        (folder / "photographs" / number).rename(folder / "n01440764")
    config = {"model": "tiny_inception", "layer": {"Mixed_4a": "0-1"}, "out": "asked", "devices": 1}
    config |= {"recipe": {"octaves": [{"size": 32, "steps": 1, "lr": [0.1, 0.1]}]}}
    path = Path("asked.yaml")
    path.write_text(yaml.safe_dump(config | {"examples": {"images": "nowhere"}}))
    assert main(["--config", str(path)]) == 2
    assert "examples.images: nowhere given, but it is not a folder" in capfd.readouterr().err
    assert not Path("asked").exists()
    path.write_text(yaml.safe_dump(config | {"examples": {"images": str(folder), "top": 2, "fit": [40, 40]}}))
    assert main(["--config", str(path)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert any(line.startswith("40 images scanned") for line in lines)
    found = featlight.open_run("asked").examples
    assert [len(each) for each in found] == [2, 2]
    assert {each.class_name for each in found[0]} == {"tench"}
    assert config_for_others(Path("asked/config.yaml").read_bytes()).count(b"images: set") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--images: none given"),
        (["--images", "nowhere"], "--images: nowhere given, but it is not a folder"),
        (["--images", ".", "--top", "0"], "--top: '0' given; allowed: a whole number from 1 to 100"),
        (["--images", ".", "--fit", "7"], "--fit: '7' given; allowed: auto, none, or a size in pixels"),
        (["--images", ".", "--devices", "x"], "--devices: 'x' given"),
    ],
)
def test_a_slip_is_answered_in_one_line(out, capfd, flags, message):
    assert main(["examples", "--out", str(out), *flags]) == 2
    assert capfd.readouterr().err.startswith(f"featlight: {message}")


def test_in_python_a_network_of_ones_own_and_its_examples(images, tmp_path):
    network = OneSize().eval()
    made = featlight.visualize(network, "maps", [1, 4], recipe=RECIPE, out=tmp_path / "run", progress=False)
    assert made.examples == [(), ()]
    with pytest.raises(UsageError, match=r"featlight\.find_examples and featlight\.find_circuits take any network"):
        find(tmp_path / "run", ExamplesRequest(images), processes=0)
    result = featlight.find_examples(tmp_path / "run", images, network=network, top=2, fit=(48, 48), progress=False)
    assert [len(each) for each in result.examples] == [2, 2]
    assert result.examples[0][0].value >= result.examples[0][1].value
    assert '"best"' in (tmp_path / "run/assets/data.js").read_text()
    assert made.examples == result.examples
    for wrong in ({"top": 0}, {"fit": "big"}):
        with pytest.raises(UsageError):
            featlight.find_examples(tmp_path / "run", images, network=network, **wrong)


def test_another_network_is_refused(out, images):
    with pytest.raises(UsageError, match="was made with another network than this OneSize"):
        find(out, ExamplesRequest(images), network=OneSize(), processes=0)
