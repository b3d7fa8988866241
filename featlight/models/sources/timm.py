"""Networks of timm by name, `timm/<name>`, with their weights from the caches that timm itself uses."""

import math
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any
from urllib.parse import urlparse

import torch
from torch import nn

from featlight.errors import UsageError, WeightsError, unknown
from featlight.models import weights as weight_files
from featlight.models.sources import download, hub
from featlight.models.sources.entry import NetworkEntry

PREFIX = "timm/"
FILES = ("model.safetensors", "pytorch_model.bin")  # that timm keeps weights in, the better one first


def names() -> list[str]:
    """Every architecture, and every tag of its weights."""
    import timm

    return [PREFIX + name for name in sorted({*timm.list_models(), *timm.list_pretrained()})]


def has(name: str) -> bool:
    """Whether it is one of timm's names, without the prefix."""
    import timm

    return bool(timm.is_model(name.partition(".")[0]))


def entry(model: str) -> NetworkEntry:
    """A network of timm by name, `timm/resnet50.a1_in1k` say.

    Raises:
        UsageError: timm has none of that name.
    """
    import timm
    from timm.models import get_pretrained_cfg

    name = model.removeprefix(PREFIX)
    architecture, _, tag = name.partition(".")
    if not has(architecture) or (tag and name not in timm.list_pretrained()):
        raise UsageError(f"--model: {unknown('network', model, names(), 'in timm')}")
    said: Any = get_pretrained_cfg(name)
    config: Mapping[str, Any] = {} if said is None else said.to_dict()

    def build(**options: Any) -> nn.Module:
        network: nn.Module = timm.create_model(name, **options)
        return network

    def load(file: Path) -> nn.Module:
        return _loaded(build, config, file)

    def find(weights: str) -> tuple[str, Path]:
        if weights != "DEFAULT":
            raise WeightsError(f"{model} has no weights named {weights!r}; DEFAULT, none, or a file of weights")
        return f"timm {config.get('tag') or 'weights'}", _file(model, config)

    pixels: tuple[int, ...] = tuple(config.get("input_size") or ())
    return NetworkEntry(
        build,
        lambda _: build(),
        find,
        load=load,
        mean=_numbers(config.get("mean")),
        std=_numbers(config.get("std")),
        size=(pixels[1], pixels[2]) if pixels else None,
        resize=math.floor(min(pixels[1:]) / (config.get("crop_pct") or 1)) if pixels else None,
        interpolation="bicubic" if config.get("interpolation") == "bicubic" else "bilinear",
        classes=(lambda: class_names(config)) if _subset(config) or config.get("label_names") else None,
    )


def _numbers(values: Any) -> tuple[float, ...] | None:
    return None if values is None else tuple(map(float, values))


def _file(model: str, config: Mapping[str, Any]) -> Path:
    """The file of a network's weights, in the hub's cache or in that of torch.

    Raises:
        WeightsError: it is not there and cannot be downloaded, or timm knows of none.
    """
    repository, url = config.get("hf_hub_id"), config.get("url")
    if not repository and not url:
        raise WeightsError(f"{model} has no weights in timm; --weights none (random), or a file of weights")
    if not repository:
        return download.cached(str(url), model)
    repository, _, revision = str(repository).partition("@")
    files = [config["hf_hub_filename"]] if config.get("hf_hub_filename") else FILES
    found = hub.in_cache(repository, files, revision or None)
    if found is None and url:
        in_torch = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(str(url)).path).name
        found = in_torch if in_torch.is_file() else None
    return found or hub.cached(repository, files, model, revision or None)


def _loaded(build: Any, config: Mapping[str, Any], file: Path) -> nn.Module:
    """The network with a file of weights as timm publishes it, whose names timm itself translates.

    Raises:
        WeightsError: the file does not fit.
    """
    own_way = file.suffix == ".npz"
    given = {"file": str(file)} if own_way else {"state_dict": dict(weight_files.read(file))}
    try:
        network: nn.Module = build(pretrained=True, pretrained_cfg_overlay={**given, "custom_load": own_way})
    except Exception as error:  # translations fail in any way where the file is another network's
        raise WeightsError(
            f"weights {file}: they do not fit ({shorten(str(error), 240, placeholder=' ...')})"
        ) from None
    said: Any = network.pretrained_cfg
    for key in given:
        said.pop(key, None)  # the weights themselves
    said["custom_load"] = config.get("custom_load", False)
    return network


def _subset(config: Mapping[str, Any]) -> str | None:
    from timm.data.imagenet_info import infer_imagenet_subset

    found: str | None = infer_imagenet_subset(dict(config))
    return found


def class_names(config: Mapping[str, Any]) -> list[str]:
    """Of a network's last layer, in the order of its outputs."""
    from timm.data.imagenet_info import ImageNetInfo

    if config.get("label_names"):
        return list(map(str, config["label_names"]))
    info: Any = ImageNetInfo(_subset(config) or "imagenet-1k")
    return [str(info.index_to_description(i)) for i in range(info.num_classes())]


def trained_with(network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and std of the pixels of a network of timm's own, as it says them; None of any other."""
    config = getattr(network, "pretrained_cfg", None)
    if not isinstance(config, Mapping) or "architecture" not in config:
        return None
    mean, std = _numbers(config.get("mean")), _numbers(config.get("std"))
    return None if mean is None or std is None else (mean, std)
