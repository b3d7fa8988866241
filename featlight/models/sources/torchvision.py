"""The classification networks of torchvision.models by name, with weights from torch's cache."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torchvision
from torch import nn

from featlight.config.presets import EMBEDDED, LITE
from featlight.errors import UsageError, WeightsError, unknown
from featlight.models.sources import download
from featlight.models.sources.entry import NetworkEntry

HAS_AUXILIARY = ("inception_v3", "googlenet")


def has(model: str) -> bool:
    return model in names()


def names() -> list[str]:
    return list(torchvision.models.list_models(module=torchvision.models))


def transform_input(network: nn.Module) -> None:
    """Switch on the input transform of torchvision's Inception and GoogLeNet, whose weights come from TensorFlow."""
    # other classes may have an attribute of that name, too
    if type(network) in (torchvision.models.GoogLeNet, torchvision.models.Inception3):
        network.transform_input = True  # type: ignore[assignment]


def entry(model: str) -> NetworkEntry:
    """Return a network of torchvision.models by name.

    Raises:
        UsageError: there is no classification network of that name.
    """
    if model not in names() and model in torchvision.models.list_models():
        kind = torchvision.models.get_model_builder(model).__module__.split(".")[2]
        raise UsageError(
            f"--model: {model} given, a network of torchvision.models.{kind}; only classification networks have names. "
            f"Write a function that returns torchvision.models.get_model({model!r}, weights='DEFAULT') and give "
            "--model file:function"
        )
    if model not in names():
        raise UsageError(f"--model: {unknown('network', model, [EMBEDDED, LITE, *names()], 'in torchvision.models')}")

    def build(**options: bool) -> nn.Module:
        network: nn.Module = torchvision.models.get_model(model, weights=None, **options)
        return network

    choices = torchvision.models.get_model_weights(model)
    transforms = choices.DEFAULT.transforms()
    side = transforms.crop_size[0]

    def build_for(state: Mapping[str, Any]) -> nn.Module:
        if model not in HAS_AUXILIARY:
            return build()
        return build(aux_logits=any(key.startswith(("AuxLogits.", "aux1.")) for key in state), init_weights=False)

    def build_random() -> nn.Module:
        return build(aux_logits=False, init_weights=True) if model in HAS_AUXILIARY else build()

    def find(name: str) -> tuple[str, Path]:
        if name != "DEFAULT" and name not in choices.__members__:
            raise WeightsError(unknown("weights", name, ["DEFAULT", *choices.__members__, "none"], f"of {model}"))
        weights = choices[name] if name in choices.__members__ else choices.DEFAULT
        return weights.name, download.from_torch_cache(weights.url, f"{model} {weights.name}")

    return NetworkEntry(
        build_random,
        build_for,
        find,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        classes=lambda: list(choices.DEFAULT.meta["categories"]),
        size=(side, side),
        resize=transforms.resize_size[0],
        interpolation=transforms.interpolation.value,
    )
