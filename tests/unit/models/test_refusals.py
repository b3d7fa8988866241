"""What featlight does not show says what it is, and what to type instead; what it says to type works."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import featlight
from featlight.cli.main import main
from featlight.errors import UsageError, WeightsError
from featlight.models import weights
from featlight.models.frozen import frozen_copy
from featlight.models.layers import list_layers, survey, survey_of
from tests.conftest import hand_made
from tests.strange.networks import Does, conv


def test_a_list_of_layers_names_its_own():
    network = Does(lambda self, x: self.steps[1](self.steps[0](x)), steps=nn.ModuleList([conv(), conv(6, 4)]))
    with pytest.raises(UsageError, match=r"it is a ModuleList, .* not called itself; .*: steps.0, steps.1, .*'st"):
        survey_of(network, 16).need("steps", "net")
    network = Does(lambda self, x: self.parts["one"](x), parts=nn.ModuleDict({"one": conv(), "two": conv()}))
    with pytest.raises(UsageError, match=r"it is a ModuleDict, .*: parts.one, or several by the pattern 'parts\.\*\*'"):
        survey_of(network, 16).need("parts", "net")


def test_a_network_of_videos_says_so():
    network = nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.ReLU())
    with pytest.raises(UsageError, match=r"'0' is a Conv3d: the network takes videos or volumes, \(N, C, T, H, W\)"):
        list_layers(network, 16)
    with pytest.raises(UsageError, match="'0' is a Conv3d: the network takes videos or volumes"):
        featlight.visualize(network, "1", [0], progress=False)


class Still(nn.Module):
    """As the refusal and docs/networks.md say."""

    def __init__(self, network):
        super().__init__()
        self.network, self.end = network, nn.Identity()

    def forward(self, x):
        return self.end(self.network(x.unsqueeze(2).repeat(1, 1, 8, 1, 1)))


def test_a_network_of_videos_runs_on_a_still():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 5))
    with pytest.raises(
        UsageError, match=r"give a module whose forward returns network\(x.unsqueeze\(2\).repeat\(1, 1, 8"
    ):
        list_layers(network, 16)
    assert [layer.name for layer in list_layers(Still(network), 16)][-2:] == ["network", "end"]
    recipe = featlight.Recipe(octaves=[featlight.Octave(16, 2, (0.1, 0.1))])
    made = featlight.visualize(Still(network), "network.4", [3], recipe=recipe, progress=False)
    with torch.no_grad():
        video = made.images.unsqueeze(2).repeat(1, 1, 8, 1, 1)
        assert made.records[0]["activation_end"] == pytest.approx(network(video)[0, 3].item(), rel=1e-4)
    maps = nn.Sequential(network[0], Mean())
    assert featlight.visualize(Still(maps), "end", [2], recipe=recipe, progress=False).records[0]["status"] == "ok"


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(2)


class Rearrange(nn.Module):
    """As einops' layer is: its pattern says how many dimensions it takes."""

    def __init__(self, pattern):
        super().__init__()
        self.pattern = pattern

    def forward(self, x):
        raise KeyError(x.ndim)


Rearrange.__module__ = "einops.layers.torch"


@pytest.mark.parametrize(
    ("first", "line"),
    [
        (Rearrange("b c (f pf) (h p1) (w p2) -> b f (h w) (p1 p2 pf c)"), "'0' is a Rearrange of 5 .* takes videos or"),
        (Rearrange("b c (n p) -> b n (p c)"), r"'0' is a Rearrange of 3 .* takes sequences or audio, \(N, C, L\)"),
        (nn.Conv1d(1, 4, 3), r"'0' is a Conv1d: the network takes sequences or audio, \(N, C, L\)"),
        (nn.LSTM(4, 4), r"no layer runs at 16 x 16 px: [A-Z][^;]*$"),
        (Rearrange("b c (h p1) (w p2) -> b (h w) (p1 p2 c)"), "KeyError: 4; if the network"),  # of images, too
    ],
)
def test_a_network_of_other_inputs_says_so(first, line):
    with pytest.raises(UsageError, match=line):
        list_layers(nn.Sequential(first, nn.Linear(4, 4)), 16)


class TwoTowers(nn.Module):
    """As CLIP is: images alone are not enough."""

    def __init__(self):
        super().__init__()
        self.text_model, self.vision_model = nn.Linear(4, 4), hand_made()

    def forward(self, input_ids=None, pixel_values=None):
        return self.text_model(pixel_values.mean()), self.vision_model(pixel_values)


def test_a_network_of_images_and_words_names_its_part():
    with pytest.raises(UsageError, match=r"its part 'vision_model' \(Sequential\) .*: give network.vision_model"):
        list_layers(TwoTowers(), 32)
    with pytest.raises(UsageError, match=r"no layer runs at .*: give network.vision_model"):
        featlight.visualize(TwoTowers(), "0", [0], progress=False)
    assert list_layers(TwoTowers().vision_model, 32)


def test_windows_of_images_are_counted():
    network = Does(lambda self, x: self.first(x.unfold(2, 8, 8).movedim(2, 1).flatten(0, 1)[..., :8]), first=conv())
    with pytest.raises(UsageError, match=r"first: it gives \(4, 6, .*\) for 2 images: 2 windows or regions of each"):
        survey_of(network, 16)


def test_an_output_without_numbers_is_left_out():
    network = Does(
        lambda self, x: self.last(torch.cat([self.first(x), self.empty(x)], 1)),
        first=conv(padding=1),
        empty=Does(lambda self, x: x[:, :0]),  # as an encoder does that has no features at a stage
        last=conv(6, 4),
    )
    found = survey_of(network, 16)
    assert [layer.name for layer in found.usable] == ["first", "last"]
    with pytest.raises(UsageError, match=r"'empty' in net: it gives no numbers: its output is empty, \(2, 0, 16, 16\)"):
        found.need("empty", "net")
    recipe = featlight.Recipe(octaves=[featlight.Octave(16, 2, (0.1, 0.1), (0.5, 0.5))])
    made = featlight.visualize(network, "last", [3], recipe=recipe, normalize="none", progress=False)
    with torch.no_grad():
        assert made.records[0]["activation_end"] == pytest.approx(network(made.images)[0, 3].mean().item(), rel=1e-4)


class Predicts(nn.Module):
    """As a wrapper does that runs a copy of its network."""

    def __init__(self):
        super().__init__()
        self.model = hand_made()

    def forward(self, x):
        return [str(each) for each in copy.deepcopy(self.model)(x).argmax(1)]


def test_a_wrapper_that_calls_none_of_its_modules_names_its_network():
    with pytest.raises(UsageError, match=r"model.0: it is not called; its part 'model' .*: give network.model"):
        list_layers(Predicts(), 32)
    with pytest.raises(UsageError, match=r"no layer runs at 32 x 32 px: .*: give network.model"):
        survey(frozen_copy(Predicts(), torch.device("cpu"), torch.float32), 32).need("model.0", "net")


class Wrapper:
    def __init__(self):
        self.model = hand_made()


BUILDERS = """
from torch import nn
from tests.unit.models.test_refusals import Wrapper

def build(classes, *, width, depth=2):
    return nn.Conv2d(3, classes, width)

def wrapped():
    return Wrapper()

def network():
    return build(classes=4, width=3)
"""


def test_builders_and_wrappers_say_what_to_write(capsys):
    Path("builders.py").write_text(BUILDERS)

    def line(name):
        assert main(["--model", f"builders:{name}", "--list-layers"]) == 2
        return capsys.readouterr().err

    assert (
        "needs arguments (classes, width) and is called without any; give the path of a function that returns"
        in line("build")
    )
    assert "not an nn.Module; its .model is one (Sequential): give the path of a function" in line("wrapped")
    assert "a network of torchvision.models.segmentation; only classification networks" in (
        main(["--model", "fcn_resnet50", "--list-layers"]) and capsys.readouterr().err
    )
    with pytest.raises(ValueError, match=r"a Wrapper given; an nn.Module is needed \(its .model is one\)"):
        featlight.visualize(Wrapper(), "0", progress=False)


def test_the_advice_for_a_pickled_network_runs_as_printed():
    torch.save({"model": nn.Sequential(conv()), "epoch": 3}, "it's pickled.pth")
    with pytest.raises(WeightsError, match="save only its tensors, and give that file: ") as error:
        weights.read(Path("it's pickled.pth"))
    command = str(error.value).rpartition("give that file: ")[2].replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, check=True)
    assert set(weights.read(Path("it's pickled-tensors.pth"))) == {"0.weight", "0.bias"}


@pytest.mark.parametrize("method", ["__hash__", "__eq__"])
def test_modules_that_torch_cannot_tell_apart_are_refused_and_the_advice_works(method):
    class Own(nn.Conv2d):
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            if method == "__hash__":
                raise TypeError("no hash")
            return 1

    network = nn.Sequential(Own(3, 4, 3), nn.ReLU(), Own(4, 5, 3))
    problem = "fails: TypeError: no hash" if method == "__hash__" else "takes different modules as one"
    with pytest.raises(
        UsageError, match=f"network: Own defines __eq__ or __hash__, and .* {problem}; write Own.__eq__"
    ):
        featlight.visualize(network, "2", [0], progress=False)
    Own.__eq__, Own.__hash__ = object.__eq__, object.__hash__
    assert [layer.features for layer in list_layers(network, 16)] == [4, 4, 5]


class Wrapped(nn.Module):
    """As the refusal says."""

    def __init__(self, network, call):
        super().__init__()
        self.network, self.call = network, call

    def forward(self, x):
        return self.call(self.network, x)


@pytest.mark.parametrize(
    ("forward", "call"),
    [
        (lambda self, first, second: self.layer(first) + self.layer(second), lambda network, x: network(x, x)),
        (lambda self, batch: self.layer(batch["image"]), lambda network, x: network({"image": x})),
    ],
    ids=["two images", "a dict"],
)
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
def test_a_network_of_other_inputs_says_how_to_wrap_it(forward, call):
    network = type("Own", (nn.Module,), {"forward": forward})()
    network.layer = conv()
    with pytest.raises(UsageError, match=r"give a module that holds it as self.network and whose forward\(x\) returns"):
        list_layers(network, 16)
    assert next(layer.name for layer in list_layers(Wrapped(network, call), 16)) == "network.layer"
