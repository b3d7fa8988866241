"""What TensorBoard is given, read back: curves, pictures, words, and the projector's files."""

import io
import resource
import threading
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import yaml
from google.protobuf import text_format
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

import featlight
from featlight.cli.main import main
from featlight.config.validation import check, read
from featlight.distributed.env import Worker
from featlight.drawing.sprite_sheet import SmallTiles
from featlight.plan.plan import PlannedTile
from featlight.plan.request import RunRequest
from featlight.report.build import render
from featlight.report.tensorboard import projector
from featlight.report.tensorboard.events import EventLog
from featlight.report.tensorboard.writer import TensorBoard, catch_up
from featlight.run.worker import make
from featlight.store.guard.run_folder import RunFolder
from featlight.store.store import Store
from tests.integration.test_run import CONFIG, records
from tests.made_up import color, made_up_run

STEPS = 5  # of the recipe
SIZES = [32, 32, 32, 40, 40, 40]  # before each step, and after the last


@pytest.fixture
def config() -> Path:
    path = Path("small.yaml")
    path.write_text(yaml.safe_dump(CONFIG))
    return path


def events(out="run"):
    guidance = {"images": 0, "scalars": 0, "tensors": 0}
    return EventAccumulator(f"{out}/tensorboard", size_guidance=guidance).Reload()


def curve(log, tag):
    return {event.step: event.value for event in log.Scalars(tag)}


def picture(event):
    return Image.open(io.BytesIO(event.encoded_image_string))


def test_the_numbers_are_those_of_the_records(config):
    assert main(["--config", str(config)]) == 0
    log, found = events(), records()
    columns = np.array([[value for _, value in record["curve"]] for record in found])
    for name, share in (("p05", 0.05), ("p50", 0.5), ("p95", 0.95)):
        ours = curve(log, f"activation/Mixed_4a/{name}")
        assert list(ours.values()) == pytest.approx(np.quantile(columns, share, axis=0), rel=1e-5)
    assert curve(log, "activation/Mixed_4a/size") == dict(enumerate(SIZES))
    for name in ("total_variation", "high_frequency_share"):
        last = float(np.median([record[name] for record in found]))
        assert curve(log, f"image/Mixed_4a/{name}")[6] == pytest.approx(last, rel=1e-5)
    assert curve(log, "progress/tiles_done") == {4: 4, 6: 6}
    first, second = columns[:4], columns[4:]
    live = [*np.median(first, axis=0), *np.median(second, axis=0)]
    assert curve(log, "live/activation/p50") == pytest.approx(dict(enumerate(live)), rel=1e-5)
    norms = [record["gradient_norm"] for record in found]
    assert curve(log, "health/grad_norm/p50") == pytest.approx({0: np.median(norms[:4]), 6: np.median(norms[4:])})
    assert curve(log, "health/failed") == {0: 0, 6: 0}
    ends = float(np.median([record["activation_end"] for record in found]))
    assert curve(log, "result/activation_after") == pytest.approx({6: ends}, rel=1e-5)
    tags = log.Tags()
    assert sum(len(tags[kind]) for kind in ("scalars", "images", "tensors")) < 60


def test_the_pictures_are_the_tiles(config):
    assert main(["--config", str(config)]) == 0
    log = events()
    mosaics = log.Images("atlas/Mixed_4a")
    assert [event.step for event in mosaics] == [4, 6]
    assert all(event.encoded_image_string[:2] == b"\xff\xd8" for event in mosaics)  # JPEG
    whole = np.asarray(picture(mosaics[-1]).convert("RGB"), dtype=float)
    assert whole.shape == (2 * 128, 3 * 128, 3)
    with Image.open("run/tiles/Mixed_4a/00004.png") as tile:
        theirs = np.asarray(tile.convert("RGB").resize((128, 128), Image.Resampling.LANCZOS), dtype=float)
    assert np.abs(whole[128:, 128:256] - theirs).mean() < 6
    assert np.abs(np.asarray(picture(mosaics[0]).convert("RGB"), dtype=float)[128:, 128:] - 255).mean() < 1
    (evolution,) = log.Images("evolution/Mixed_4a")
    assert evolution.height > 6 * 96
    assert len(list(Path("run/octaves/Mixed_4a").iterdir())) == 6 * 2


def test_no_more_mosaics_are_held_than_grow(config):
    """A run over a hundred layers must not hold a sheet for each."""
    assert main(["--config", str(config), "--layer", "Mixed_3a", "Mixed_4a"]) == 0
    store = Store(Path("run"))
    plan = store.plan()
    made = store.made(plan, plan.tiles)
    Path("run/tensorboard").rename("aside")
    board = TensorBoard(store, plan, dict(list(made.items())[:10]), list(made)[10:])
    board.start("")
    assert set(board._mosaics) == {"Mixed_4a"}  # Mixed_3a is whole
    board.add(list(made.values())[10:], 1.0)
    assert not board._mosaics
    assert {"atlas/Mixed_3a", "atlas/Mixed_4a"} <= set(events().Tags()["images"])


def test_the_words_are_there(config):
    assert main(["--config", str(config)]) == 0
    log = events()
    (text,) = log.Tensors("run/config/text_summary")
    assert "layer:" in text.tensor_proto.string_val[0].decode()
    (text,) = log.Tensors("run/summary/text_summary")
    summary = text.tensor_proto.string_val[0].decode()
    assert "| tiles | 6 |" in summary
    assert "| dead tiles | none |" in summary
    (layout,) = log.Tensors("custom_scalars__config__")
    charts = Layout.FromString(layout.tensor_proto.string_val[0])
    assert [category.title for category in charts.category] == ["live", "Mixed_4a"]
    band = charts.category[1].chart[0].margin.series[0]
    named = [band.value, band.lower, band.upper, *charts.category[1].chart[1].multiline.tag]
    assert set(named) <= set(log.Tags()["scalars"])


def test_what_a_run_was_made_with_is_said_once(config):
    assert main(["--config", str(config)]) == 0
    assert main(["--config", str(config), "--features", "0-9"]) == 0
    log = events()
    content = log.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    values = HParamsPluginData.FromString(content).session_start_info.hparams
    assert values["metric"].string_value == "l1"
    assert values["octaves"].string_value == "3 steps at 32 px, 2 steps at 40 px"
    assert values["layer"].string_value == "Mixed_4a"
    experiment = HParamsPluginData.FromString(log.SummaryMetadata("_hparams_/experiment").plugin_data.content)
    metrics = {info.name.tag for info in experiment.experiment.metric_infos}
    assert metrics <= set(log.Tags()["scalars"])


def test_a_layer_that_has_grown_has_curves_of_its_own_and_no_step_twice(config):
    assert main(["--config", str(config)]) == 0
    before = curve(events(), "activation/Mixed_4a/p50")
    assert main(["--config", str(config), "--features", "0-9"]) == 0
    log = events()
    assert curve(log, "activation/Mixed_4a/p50") == before
    columns = np.array([[value for _, value in record["curve"]] for record in records()])
    assert list(curve(log, "activation/Mixed_4a-10/p50").values()) == pytest.approx(
        np.median(columns, axis=0), rel=1e-5
    )
    for tag in log.Tags()["scalars"]:
        steps = [event.step for event in log.Scalars(tag)]
        assert len(set(steps)) == len(steps), tag
    assert list(curve(log, "live/activation/p50")) == list(range(3 * 6))  # the new chunk goes on behind the others


def test_the_number_of_workers_changes_no_curve(config, monkeypatch):
    """The second worker's chunk is there first, and waits for its turn."""
    assert main(["--config", str(config), "--features", "0-11", "--out", "one"]) == 0
    settled = check({**read(config), "features": "0-11", "out": "two"}).resolved()
    make(RunRequest(settled), worker=Worker(1, 2), others_gone=threading.Event())
    make(RunRequest(settled), worker=Worker(0, 2))
    one, two = events("one"), events("two")
    assert sorted(one.Tags()["scalars"]) == sorted(two.Tags()["scalars"])
    for tag in one.Tags()["scalars"]:
        if not tag.startswith("progress/"):
            ours, theirs = curve(two, tag), curve(one, tag)
            last = max(theirs)
            assert (ours == theirs) if not tag.startswith("image/") else (ours[last] == theirs[last]), tag
    assert list(curve(two, "live/activation/p50")) == list(range(3 * 6))


def test_a_chunk_that_nobody_makes_any_more_holds_nothing_back(config, monkeypatch):
    monkeypatch.setattr("featlight.run.monitor.PATIENCE", 0.1)
    settled = check({**read(config), "features": "0-11", "out": "run"}).resolved()
    assert make(RunRequest(settled), worker=Worker(0, 2)).missing
    assert curve(events(), "health/failed").keys() == {0, 12}  # the second worker's chunk lies between
    assert main(["--config", str(config), "--features", "0-11"]) == 0
    assert curve(events(), "health/failed").keys() == {0, 6, 12}


def test_a_log_whose_worker_has_died_is_caught_up_before_it_is_shown(config, monkeypatch):
    assert main(["--config", str(config), "--features", "0-11", "--out", "whole"]) == 0
    settled = check({**read(config), "features": "0-11", "out": "run"}).resolved()
    make(RunRequest(settled), worker=Worker(1, 2), others_gone=threading.Event())
    monkeypatch.setattr("featlight.run.monitor.PATIENCE", 0.1)
    with monkeypatch.context() as patch:
        patch.setattr("featlight.run.monitor.TensorBoard.add", lambda *_: None)  # dead before it has written anything
        patch.setattr("featlight.run.monitor.TensorBoard.finish", lambda *_: None)
        patch.setattr("featlight.run.monitor.TensorBoard._live", lambda *_: None)
        patch.setattr("featlight.run.monitor.TensorBoard._grow", lambda *_: None)
        make(RunRequest(settled), worker=Worker(0, 2))
    assert "live/activation/p50" not in events().Tags()["scalars"]
    catch_up(Path("run"))
    for tag in ("live/activation/p50", "activation/Mixed_4a/p95", "health/grad_norm/p05"):
        assert curve(events(), tag) == curve(events("whole"), tag)
    assert curve(events(), "progress/tiles_done") == {12: 12}
    assert events().Images("evolution/Mixed_4a")
    logs = sorted(Path("run/tensorboard").glob("events*"))
    catch_up(Path("run"))
    assert sorted(Path("run/tensorboard").glob("events*")) == logs


def test_failures_are_counted_where_nothing_else_was_made(config):
    settled = check({**read(config), "features": "0-11", "out": "run"}).resolved()
    make(RunRequest(settled))
    store = Store(Path("run"))
    plan = store.plan()
    made = store.made(plan, plan.tiles[:4])
    board = TensorBoard(store, plan, made, [planned.file for planned in plan.tiles[4:]])
    Path("run/tensorboard").rename("aside")
    board.start("")
    for part in (plan.tiles[4:8], plan.tiles[8:]):
        board.add([{**store.records()[planned.file], "status": "failed"} for planned in part], 1.0)
    board.finish({})
    log = events()
    assert curve(log, "progress/failed") == {8: 4, 12: 8}
    assert curve(log, "progress/tiles_done") == {8: 4, 12: 4}
    assert curve(log, "activation/Mixed_4a/tiles") == {4: 4}  # what has failed is not waited for


def test_what_failed_and_is_made_after_all_counts_once(config):
    settled = check({**read(config), "features": "0-11", "out": "run"}).resolved()
    make(RunRequest(settled))
    store = Store(Path("run"))
    plan, all_made = store.plan(), list(store.records().values())
    Path("run/tensorboard").rename("aside")
    board = TensorBoard(store, plan, store.made(plan, plan.tiles[:4]), [planned.file for planned in plan.tiles[4:]])
    board.start("")
    board.add([{**record, "status": "failed"} for record in all_made[4:8]], 1.0)
    board.add([{**record, "status": "dead"} for record in all_made[4:]], 1.0)
    board.finish({})
    log = events()
    assert curve(log, "progress/failed") == {8: 4, 12: 0}
    assert curve(log, "progress/tiles_done") == {8: 4, 12: 12}
    assert curve(log, "progress/dead_share")[12] == pytest.approx(8 / 12)
    assert curve(log, "activation/Mixed_4a/tiles") == {12: 12}


def test_a_chunk_is_shown_without_going_through_the_whole_run(monkeypatch, tmp_path):
    store = made_up_run(tmp_path, {"layer": 400})
    plan, measured = store.plan(), {"total_variation": 0.1, "high_frequency_share": 0.1}
    made = [record | measured for record in store.records().values()]
    board = TensorBoard(store, plan, {}, [planned.file for planned in plan.tiles])
    board.start("")
    asked = Mock(side_effect=PlannedTile.file.fget)
    monkeypatch.setattr(PlannedTile, "file", property(asked))
    for start in range(0, 400, 4):
        board.add(made[start : start + 4], 1.0)
    board.finish({})
    assert not board.broken
    assert asked.call_count < 60 * 400  # a tenth of the run is shown at a time, of a hundred chunks


def test_a_layer_that_is_added_has_a_chart(config):
    assert main(["--config", str(config)]) == 0
    assert main(["--config", str(config), "--features", "0-9"]) == 0
    assert main(["--config", str(config), "--layer", "Mixed_3a"]) == 0
    charts = Layout.FromString(events().Tensors("custom_scalars__config__")[-1].tensor_proto.string_val[0])
    assert [category.title for category in charts.category] == ["live", "Mixed_3a", "Mixed_4a"]  # as in the network
    assert charts.category[2].chart[2].title == "activation, 10 tiles"


@pytest.mark.parametrize("harm", ["torn", "garbage", "config"])
def test_a_damaged_log_is_shown_as_it_is(config, harm, caplog):
    assert main(["--config", str(config)]) == 0
    (path,) = Path("run/tensorboard").glob("events*")
    content = path.read_bytes()
    if harm == "config":
        path.unlink()
        Path("run/config.yaml").unlink()
    else:
        path.write_bytes(content[:500] + (b"" if harm == "torn" else b"\xff" * 400))
    catch_up(Path("run"))
    assert caplog.text.count("the log stays incomplete") == (harm == "config")
    if harm != "config":
        assert curve(events_after(path), "progress/tiles_done") == {6: 6}


def events_after(path):
    """What was added to a log beside a damaged file."""
    path.unlink()
    return events()


def test_a_log_that_does_not_fit_is_cut_where_it_was_whole():
    log = EventLog(RunFolder(Path()))
    log.scalar("a", 1.0, 0)
    log.flush()
    whole = log.path.read_bytes()
    log.text("b", "x" * 20_000, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 4000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            log.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert log.path.read_bytes() == whole


def config_of(out):
    found = ProjectorConfig()
    text_format.Parse(Path(out, "tensorboard/projector_config.pbtxt").read_text(), found)
    return found


def test_the_projector_has_a_point_for_every_tile(config):
    assert main(["--config", str(config)]) == 0
    (embedding,) = config_of("run").embeddings
    assert embedding.tensor_name == "Mixed_4a"
    root = Path("run/tensorboard")
    ours = np.loadtxt(root / embedding.tensor_path, delimiter="\t", ndmin=2)
    assert ours == pytest.approx(np.load("run/vectors/Mixed_4a.npy"), rel=6e-3)
    head, *lines = (root / embedding.metadata_path).read_text().splitlines()
    assert head.split("\t")[0] == "tile"
    rows = [line.split("\t") for line in lines]
    assert [row[:2] for row in rows] == [[f"Mixed_4a {i}", "ok"] for i in range(6)]
    assert [float(row[3]) for row in rows] == pytest.approx([r["activation_end"] for r in records()], rel=1e-3)
    side, _ = embedding.sprite.single_image_dim
    with Image.open(root / embedding.sprite.image_path) as sprite:
        assert sprite.size == (3 * side, 2 * side)
    assert featlight.open("run").records[4]["feature"] == 4


def test_points_are_shown_as_their_tiles_and_no_more_than_can_be_laid_out(tmp_path, monkeypatch):
    monkeypatch.setattr(projector, "MOST_POINTS", 10)
    vectors = np.arange(300 * 4, dtype=np.float32).reshape(300, 4)
    store = made_up_run(tmp_path, {"a": 300}, missing=[0, 299], vectors={"a": vectors})
    render(store, store.plan())
    (embedding,) = config_of(tmp_path).embeddings
    root = tmp_path / "tensorboard"
    tiles = [
        int(line.split("\t")[0].removeprefix("a "))
        for line in (root / embedding.metadata_path).read_text().splitlines()[1:]
    ]
    assert len(tiles) == 10
    assert (tiles[0], tiles[-1]) == (1, 298)  # evenly, from the first that is there to the last
    ours = np.loadtxt(root / embedding.tensor_path, delimiter="\t")
    assert ours[:, :4] == pytest.approx(vectors[tiles], rel=6e-3)
    side, _ = embedding.sprite.single_image_dim
    with Image.open(root / embedding.sprite.image_path) as sprite:
        for place, tile in enumerate(tiles):
            row, column = divmod(place, 4)
            seen = sprite.convert("RGB").getpixel((column * side + side // 2, row * side + side // 2))
            assert seen == pytest.approx(color(tile), abs=8)


@pytest.mark.parametrize("points", [1, 2, 768, 10_000, 1_000_000])
def test_a_sprite_is_within_tensorboards_limit(points):
    columns, side = projector.square(points)
    assert columns * columns >= points
    assert columns * side <= 8192


def test_small_tiles_are_found(tmp_path):
    store = made_up_run(tmp_path, {"a": 300})
    render(store, store.plan())
    small = SmallTiles(store, "assets/tiles/a/", 300)
    for i in (0, 17, 299, 255, 256, 1):
        assert small[i].getpixel((40, 40)) == pytest.approx(color(i), abs=6)
