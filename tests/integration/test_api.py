import base64
import io
import os
import pickle
import re
import signal
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import featlight
from featlight.config.presets import DEFAULT_LAYERS, NATURAL
from featlight.config.tile import feature_tile
from featlight.engine.module import FeatureVisualizer
from featlight.errors import UsageError
from featlight.plan.plan import PlannedTile
from featlight.result import Result
from tests.conftest import hand_made


def visualize(small_recipe, *args, network=None, **options):
    network = hand_made() if network is None else network
    return featlight.visualize(network, *args, recipe=small_recipe, progress=False, **options)


def test_images_in_the_order_asked_for(small_recipe):
    result = visualize(small_recipe, "4", [5, 0, 9])
    assert result.images.shape == (3, 3, 40, 40)
    assert result.images.dtype == torch.float32
    assert [record["feature"] for record in result.records] == [5, 0, 9]
    alone = visualize(small_recipe, "4", 9, batch_size=4)
    batch = visualize(small_recipe, "4", "9,3,2,1", batch_size=4)
    assert torch.equal(alone.images[0], batch.images[0])
    assert torch.equal(result[-1], result.images[2])
    with pytest.raises(IndexError):
        result[3]


def test_the_same_call_gives_the_same_bits_whatever_the_global_seed(small_recipe):
    torch.manual_seed(1)
    one = visualize(small_recipe, "4", "0-4").images
    torch.manual_seed(2)
    assert torch.equal(one, visualize(small_recipe, "4", "0-4").images)
    assert not torch.equal(one, visualize(small_recipe, "4", "0-4", seed=1).images)


def test_several_layers_and_all_features(small_recipe):
    result = visualize(small_recipe, {"1": "0-1", "3": [2]})
    assert [record["name"] for record in result.records] == ["1/00000", "1/00001", "3/00002"]
    assert len(visualize(small_recipe, ["1", "3"]).records) == 20


def test_a_directory_keeps_what_was_made(small_recipe, monkeypatch):
    network = hand_made()
    first = visualize(small_recipe, "4", [3, 1], network=network, out="run")
    in_memory = visualize(small_recipe, "4", [3, 1], network=network, batch_size=2)
    assert torch.equal(first.images, in_memory.images)
    more = visualize(small_recipe, "4", [1, 7], network=network, out="run")
    assert torch.equal(more[0], first[1])
    opened = featlight.open("run")
    assert [record["feature"] for record in opened.records] == [3, 1, 7]
    assert torch.equal(opened.images[:2], first.images)
    with monkeypatch.context() as patch:
        patch.setattr(FeatureVisualizer, "training_step", None)
        again = visualize(small_recipe, "4", [3, 1], network=network, out="run")
    assert torch.equal(again.images, first.images)
    assert not list(Path("run").rglob("*.tmp"))


def test_another_network_in_the_directory_is_refused(small_recipe):
    network = hand_made()
    visualize(small_recipe, "4", [0], network=network, out="run")
    with torch.no_grad():
        network[0].bias += 1
    with pytest.raises(ValueError, match=r"run holds another run \(weights: there"):
        visualize(small_recipe, "4", [0], network=network, out="run")


def test_a_run_without_float_images_is_read_from_its_tiles(small_recipe):
    images = visualize(small_recipe, "4", [0], out="run").images
    for path in Path("run/floats").rglob("*.safetensors"):
        path.unlink()
    shown = featlight.open("run").images
    assert (shown - images.clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-6
    with pytest.raises(ValueError, match="holds no run"):
        featlight.open("elsewhere")


def test_named_tiles_with_terms_of_two_layers(small_recipe):
    both = featlight.Tile("both", [featlight.Term("1", 3), featlight.Term("4", 2, weight=0.5, region="row", index=4)])
    whole = featlight.Tile("whole", [featlight.Term("4")])
    result = visualize(small_recipe, tiles=[both, whole])
    assert [record["name"] for record in result.records] == ["both", "whole"]
    assert result.records[1]["feature"] is None


@pytest.mark.parametrize("init", ["noise", "noise-per-feature", "gray"])
def test_starts_by_name(small_recipe, init):
    assert visualize(small_recipe, "4", [0, 1], init=init).images.isfinite().all()


def test_a_start_of_ones_own(small_recipe):
    each = torch.rand(3, 3, 32, 32)
    before = each.clone()
    result = visualize(small_recipe, "4", [2, 0, 1], init=each, batch_size=2)
    for place, feature in enumerate([2, 0, 1]):
        alone = visualize(small_recipe, "4", [feature], init=each[place], batch_size=2)
        assert torch.equal(result[place], alone[0])
    assert torch.equal(each, before)


def test_a_start_of_bytes_is_the_start_that_they_show(small_recipe):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    floats = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    plain = visualize(small_recipe, "4", [0, 1], init=floats)
    for given in (pixels, Image.fromarray(pixels), torch.from_numpy(pixels).permute(2, 0, 1)):
        assert torch.equal(visualize(small_recipe, "4", [0, 1], init=given).images, plain.images)
    for features in ([0], [0, 1]):  # the start has one checksum whatever it came as
        visualize(small_recipe, "4", features, init=pixels if features == [0] else floats, out="run", batch_size=1)
    with pytest.raises(UsageError, match="values from 0 to 25"):
        visualize(small_recipe, "4", [0, 1], init=pixels.astype(np.float32))


def test_a_caricature_of_an_array_is_that_of_its_file(small_recipe):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save("photo.png")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    theirs = visualize(small_recipe, "4", caricature="photo.png").images
    for given in (pixels, Image.fromarray(pixels), tensor, tensor / 255, tensor[None]):
        assert torch.equal(visualize(small_recipe, "4", caricature=given).images, theirs)
    ours = visualize(small_recipe, "4", caricature=pixels, out="run")
    assert torch.equal(visualize(small_recipe, "4", caricature=tensor, out="run").images, ours.images)
    with pytest.raises(UsageError, match="caricature"):
        visualize(small_recipe, "4", caricature=255 - pixels, out="run")
    with pytest.raises(UsageError, match="caricature: values from 0 to 25"):
        visualize(small_recipe, "4", caricature=pixels.astype(np.float32))
    with pytest.raises(UsageError, match="caricature: a dict given; an image file, or an array of pixels"):
        visualize(small_recipe, "4", caricature={})


def test_the_grid_shows_itself(small_recipe):
    result = visualize(small_recipe, "4", [0, 1, 2])
    assert isinstance(result.show(), Image.Image)
    assert repr(result) == "<Sequential 4: 3 tiles, 0 dead, 0 failed>"


def notebook_picture(html):
    (data,) = re.findall(r'<img alt="[^"<>]*" style="[^"]*" src="data:image/jpeg;base64,([\w+/=]+)">', html)
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_notebook_shows_the_grid(small_recipe):
    result = visualize(small_recipe, "4", [0, 1, 2])
    html = result._repr_html_()
    assert "3 tiles, 0 dead, 0 failed</figcaption>" in html
    with notebook_picture(html) as ours:
        theirs = result.show()
        assert ours.size == theirs.size
        difference = np.abs(np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float))
    assert difference.mean() < 2  # of 255: a JPEG of good quality
    assert np.quantile(difference, 0.999) < 24


def made_up(count, read, layer="layer", status="ok", **more):
    tiles = [PlannedTile("", feature_tile(layer, i)) for i in range(count)]
    return Result(tiles, [{"status": status, "reason": None, **more}] * count, f"net {layer}", read)


def test_a_notebook_reads_large_results_one_image_at_a_time_and_shows_no_more_than_can_be_read():
    alive, most, reads = weakref.WeakSet(), [0], [0]

    def read(place):
        image = torch.rand(3, 40, 40)
        alive.add(image)
        most[0], reads[0] = max(most[0], len(alive)), reads[0] + 1
        return image

    html = made_up(3000, read)._repr_html_()
    assert most[0] <= 2
    assert reads[0] < 1100
    assert "3000 tiles, 0 dead, 0 failed; here are the first 1024, and show() draws all</figcaption>" in html
    with notebook_picture(html) as picture:
        assert 1400 < picture.width <= 1600


def test_a_notebook_is_told_in_text_that_cannot_be_markup():
    html = made_up(1, lambda _: torch.rand(3, 40, 40), '"><script>')._repr_html_()
    assert "<script" not in html
    assert 'alt="net &quot;&gt;&lt;script&gt;"' in html
    failed = made_up(2, None, status="failed", reason="not finite")
    assert "2 tiles, 0 dead, 2 failed" in failed._repr_html_()
    assert made_up(0, None, "<b>")._repr_html_() == "<p>net &lt;b&gt;: 0 tiles, 0 dead, 0 failed</p>"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"layer": "9"}, "no layer '9' in Sequential"),
        ({"layer": "4", "features": [12]}, "features: 12 given; layer '4' has 12"),
        ({}, "no default"),
        ({"layer": "4", "metric": "l9"}, "metric: 'l9' given; allowed"),
        ({"layer": "4", "normalize": "weights"}, "normalize: weights given"),
        ({"layer": "4", "init": "nosie"}, "init: 'nosie' given"),
        ({"layer": "4", "batch_size": 0}, "batch_size: 0 given"),
        ({"layer": "4", "region": "row", "index": 99}, "index: 99 given"),
    ],
)
def test_an_argument_that_does_not_fit_is_a_value_error(small_recipe, options, line):
    with pytest.raises(ValueError, match=line):
        visualize(small_recipe, **options)


def test_ctrl_c_is_a_keyboard_interrupt_and_the_call_can_be_repeated(small_recipe, monkeypatch):
    step = FeatureVisualizer.training_step

    def interrupt(self, batch, batch_idx):
        if self.trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, batch_idx)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for its background jobs
    with monkeypatch.context() as patch:
        patch.setattr(FeatureVisualizer, "training_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            visualize(small_recipe, "4", "0-3", batch_size=2, out="run")
    signal.signal(signal.SIGINT, before)
    assert len(featlight.open("run")) == 2
    assert len(visualize(small_recipe, "4", "0-3", batch_size=2, out="run")) == 4


@pytest.fixture
def signalled(small_recipe, monkeypatch):
    """A call that a signal reaches in its second chunk."""

    def call(number, **words):
        step = FeatureVisualizer.training_step

        def interrupt(self, batch, batch_idx):
            if self.trainer.current_epoch == 1 and batch_idx == 1:
                os.kill(os.getpid(), number)
            return step(self, batch, batch_idx)

        monkeypatch.setattr(FeatureVisualizer, "training_step", interrupt)
        try:
            return visualize(small_recipe, "4", "0-3", batch_size=2, **words)
        finally:
            monkeypatch.setattr(FeatureVisualizer, "training_step", step)

    return call


@pytest.fixture
def handler():
    """Sets the caller's handler of a signal for the length of a test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    yield signal.signal
    for number, each in before.items():
        signal.signal(number, each)


@pytest.mark.parametrize("words", [{}, {"out": "run"}])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_what_the_callers_handler_raises_comes_out_of_the_call(signalled, handler, number, words):
    handler(number, lambda *_: sys.exit(143))
    mine = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended:
        signalled(number, **words)
    assert ended.value.code == 143
    assert signal.getsignal(number) is mine


def test_a_handler_that_raises_nothing_is_called_and_the_call_goes_on(signalled, handler):
    heard = []
    handler(signal.SIGTERM, lambda number, _: heard.append(number))
    assert len(signalled(signal.SIGTERM)) == 4
    assert heard == [signal.SIGTERM]


def test_a_signal_that_nobody_handles_ends_the_process_as_ever(small_recipe, handler, monkeypatch):
    handlers, step = [], FeatureVisualizer.training_step

    def look(self, batch, batch_idx):
        handlers.append(signal.getsignal(signal.SIGTERM))
        return step(self, batch, batch_idx)

    handler(signal.SIGTERM, signal.SIG_DFL)
    monkeypatch.setattr(FeatureVisualizer, "training_step", look)
    visualize(small_recipe, "4", "0-1", batch_size=2)
    assert set(handlers) == {signal.SIG_DFL}


def test_bf16_is_the_networks_alone(small_recipe):
    exact = visualize(small_recipe, "4", "0-3").images
    coarse = visualize(small_recipe, "4", "0-3", precision="bf16").images
    assert coarse.dtype == torch.float32
    assert not torch.equal(exact, coarse)
    for one, other in zip(exact, coarse, strict=True):
        assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1] > 0.9


def test_a_network_by_name_has_a_layer_and_natural_pictures(monkeypatch):
    seen = {}
    monkeypatch.setattr("featlight.run.in_memory.descend", lambda job, *args, **options: seen.update(job=job))
    with pytest.raises(KeyError):  # nothing was made
        featlight.visualize(featlight.load("tiny_inception"), features="0", progress=False)
    config = seen["job"].config
    assert config.recipe == NATURAL
    assert list(config.layer) == [DEFAULT_LAYERS["tiny_inception"]]


def test_a_result_can_be_pickled(small_recipe):
    for out in (None, "run"):
        result = visualize(small_recipe, "4", [0, 2], out=out)
        again = pickle.loads(pickle.dumps(result))
        assert torch.equal(again.images, result.images)
        assert again.records == result.records
        assert again.examples == result.examples
