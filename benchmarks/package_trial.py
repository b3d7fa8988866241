"""Networks of packages that nobody here wrote, and the trial of one in a process of its own.

python -m benchmarks.package_trial NUMBER ANSWER     # called where the package is installed; the answer is JSON
"""

import copy
import importlib.metadata
import json
import resource
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.transforms import Normalize

import featlight

MEMORY = 8 * 2**30  # bytes of a trial
STEPS, FEATURE = 8, 1
NEAR = 1e-4  # of an activation, between ours and the hook's: folded norms and other layouts round otherwise

Reading = Callable[[Any], Tensor]
Feed = Callable[[Tensor], Tensor]


def by_map(output: Tensor) -> Tensor:
    """Features of a map (N, C, H, W) by their mean, (N, C)."""
    return output.mean((2, 3))


def by_patches(prefix: int) -> Reading:
    """Features of the patches of (N, T, C), behind the tokens that are no patches."""
    return lambda output: output[:, prefix:].mean(1)


def as_given(pixels: Tensor) -> Tensor:
    return pixels


def for_radiographs(pixels: Tensor) -> Tensor:
    """As torchxrayvision's own `normalize` does."""
    return (2 * pixels - 1) * 1024


for_clip = Normalize(
    (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
)  # as OpenAI's README has it


class Trial(NamedTuple):
    """A network of a package, and one of its layers.

    Args:
        package: name in the package index.
        module: what is imported of it.
        typed: an expression that builds the network.
        layer: name of the layer.
        size: side of the images, in pixels.
        read: features (N, C) of what the layer's module gives, by hand.
        feed: what the network is fed for pixels from 0 to 1.
        hooked: name of the module that gives what the layer does, where hooks on the layer's own see several calls.
    """

    package: str
    module: str
    typed: str
    layer: str
    size: int
    read: Reading = by_map
    feed: Feed = as_given
    hooked: str = ""


class Outcome(NamedTuple):
    """What became of a trial.

    Args:
        version: version of the package; "" where the package is missing.
        layers: how many of the network's layers are listed.
        every: how many names its modules have.
        map: features and map of the layer.
        start: activation of the feature at the start.
        recorded: activation of the feature at the end.
        by_hook: the same, as a hook on a copy of the network sees it.
        changed: what differs of the network after the call.
        refusal: why there is no picture.
    """

    version: str = ""
    layers: int = 0
    every: int = 0
    map: str = ""
    start: float = 0.0
    recorded: float = 0.0
    by_hook: float = 0.0
    changed: str = ""
    refusal: str = ""


PARTS = "image_size=64, patch_size=8, num_classes=10, dim=96, depth=4, heads=3, mlp_dim=192"
SMALL = "image_size=64, patch_size=8, hidden_size=96, num_hidden_layers=4, num_attention_heads=3"
UNET = "spatial_dims=2, in_channels=1, out_channels=2, channels=(8, 16, 32), strides=(2, 2)"
YOLO = 'ultralytics.YOLO("yolo11n.yaml").model'
TRIALS = (
    Trial("ultralytics", "ultralytics", YOLO, "model.2", 96),
    Trial("ultralytics", "ultralytics", YOLO, "model.0.act", 96, hooked="model.0"),  # one SiLU for all of it
    Trial(
        package="segmentation-models-pytorch",
        module="segmentation_models_pytorch",
        typed='segmentation_models_pytorch.Unet("resnet18", encoder_weights=None)',
        layer="decoder.blocks.2",
        size=64,
    ),
    Trial(
        package="open_clip_torch",
        module="open_clip",
        typed='open_clip.create_model("ViT-B-32")',
        layer="visual.transformer.resblocks.5",
        size=224,
        read=by_patches(1),
        feed=for_clip,
    ),
    Trial(
        package="torchxrayvision",
        module="torchxrayvision",
        typed='featlight.load_model("torchxrayvision.models:DenseNet", "none")',
        layer="features.denseblock2",
        size=224,
        feed=for_radiographs,
    ),
    Trial(
        package="facenet-pytorch",
        module="facenet_pytorch",
        typed='featlight.load_model("facenet_pytorch:InceptionResnetV1", "none")',
        layer="repeat_1",
        size=96,
    ),
    Trial("monai", "monai.networks.nets", f"monai.networks.nets.UNet({UNET})", "model.1.submodule", 64),
    Trial("vit-pytorch", "vit_pytorch", f"vit_pytorch.ViT({PARTS})", "transformer.layers.2.1", 64, by_patches(1)),
    Trial("vit-pytorch", "vit_pytorch", f"vit_pytorch.SimpleViT({PARTS})", "transformer.layers.2.1", 64, by_patches(0)),
    *(
        Trial(
            package="transformers",
            module="transformers",
            typed=f"transformers.{name}Model(transformers.{name}Config({SMALL}))",
            layer=layer,
            size=64,
            read=by_patches(1),
        )
        for name, layer in (
            ("ViT", "layers.2"),
            ("Dinov2", "encoder.layer.2.mlp.activation_fn"),
            ("CLIPVision", "encoder.layers.2"),
        )
    ),
)


def tried(trial: Trial) -> Outcome:
    """Build a network, list its layers, and make a picture of a feature."""
    try:
        names: dict[str, Any] = {"featlight": featlight}
        exec(f"import {trial.module}", names)
        found = Outcome(importlib.metadata.version(trial.package))
    except ImportError as error:  # the package's own, or of something that it needs
        return Outcome(refusal=_line(error))
    try:
        torch.manual_seed(0)
        network = eval(trial.typed, names).eval()
        return pictured(trial, network, found)
    except Exception as error:
        return found._replace(refusal=_line(error))


def pictured(trial: Trial, network: nn.Module, found: Outcome) -> Outcome:
    """Add what comes of a network to an outcome."""
    original = copy.deepcopy(network)
    layers = featlight.list_layers(network, size=trial.size)
    every = sum(1 for name, _ in network.named_modules(remove_duplicate=False) if name)
    found = found._replace(layers=len({layer.module for layer in layers}), every=every)
    layer = next((layer for layer in layers if layer.name == trial.layer), None)
    if layer is not None:
        found = found._replace(map=f"{layer.features} of {layer.map_label}")
    octave = featlight.Octave(trial.size, STEPS, (0.03, 0.02), (0.5, 0.4))
    recipe = replace(featlight.NATURAL, octaves=(octave,))
    before = state_of(network)
    try:
        made = featlight.visualize(network, trial.layer, [FEATURE], recipe=recipe, progress=False)
    finally:
        after = state_of(network)
        found = found._replace(
            changed=", ".join(name for name in before | after if before.get(name) != after.get(name))
        )
    (record,) = made.records
    by_hook = hooked(original, trial, made.images)
    ends = {"start": record["activation_start"], "recorded": record["activation_end"], "by_hook": by_hook}
    return found._replace(**ends, refusal="" if record["status"] == "ok" else record["status"])


def hooked(network: nn.Module, trial: Trial, images: Tensor) -> float:
    """Activation of the feature, as a hook on the network sees it."""
    given: list[Any] = []
    network.get_submodule(trial.hooked or trial.layer).register_forward_hook(lambda _, __, output: given.append(output))
    with torch.no_grad():
        network(trial.feed(images))
    return float(trial.read(given[-1])[0, FEATURE])


def state_of(network: nn.Module) -> dict[str, Any]:
    """All that a call could change of a network, by name."""
    found: dict[str, Any] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        hooks = {key: len(value) for key, value in vars(module).items() if key.endswith("_hooks")}
        found[f"module {name}"] = (type(module), id(module), module.training, sorted(vars(module)), hooks)
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        bits = tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        flags = (
            tensor.dtype,
            tensor.device,
            tensor.stride(),
            tensor.data_ptr(),
            tensor.requires_grad,
            tensor.grad is None,
        )
        found[f"tensor {name}"] = (hash(bits), *flags)
    return found


def _line(error: Exception) -> str:
    kind = "" if isinstance(error, featlight.errors.FeatlightError) else f"{type(error).__name__}: "
    return shorten(kind + str(error), 300, placeholder=" ...")


def main(arguments: Sequence[str] | None = None) -> int:
    number, answer = sys.argv[1:] if arguments is None else arguments
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    Path(answer).write_text(json.dumps(tried(TRIALS[int(number)])))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
