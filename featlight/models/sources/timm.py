"""timm's networks by name, `timm/<name>`, with weights from the caches that timm uses."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from featlight.errors import UsageError, WeightsError, unknown
from featlight.models import weights as weight_files
from featlight.models.sources import download
from featlight.models.sources.entry import NetworkEntry

PREFIX = "timm/"
FILES = ("model.safetensors", "pytorch_model.bin")  # timm's names for weight files, the preferred one first


def has(model: str) -> bool:
    return model.startswith(PREFIX)


def names() -> list[str]:
    """Return every architecture, and every architecture with a tag of its weights."""
    import timm

    return [PREFIX + name for name in sorted({*timm.list_models(), *timm.list_pretrained()})]


def is_architecture(name: str) -> bool:
    """Return whether timm has an architecture of that name, given without the prefix."""
    import timm

    return bool(timm.is_model(name.partition(".")[0]))


def entry(model: str) -> NetworkEntry:
    """Return a network of timm by name, such as `timm/resnet50.a1_in1k`.

    Raises:
        UsageError: timm has no network of that name.
    """
    import timm
    from timm.models import get_pretrained_cfg

    name = model.removeprefix(PREFIX)
    architecture, _, tag = name.partition(".")
    if not is_architecture(architecture) or (tag and name not in timm.list_pretrained()):
        raise UsageError(f"--model: {unknown('network', model, names(), 'in timm')}")
    pretrained: Any = get_pretrained_cfg(name)
    config: Mapping[str, Any] = {} if pretrained is None else pretrained.to_dict()

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
    """Return the file of a network's weights in the hub's cache or in torch's cache.

    Raises:
        WeightsError: timm names no file, or the file is missing and cannot be downloaded.
    """
    repository, url = config.get("hf_hub_id"), config.get("url")
    if not repository and not url:
        raise WeightsError(f"{model} has no weights in timm; --weights none (random), or a file of weights")
    if not repository:
        return download.from_torch_cache(str(url), model)
    repository, _, revision = str(repository).partition("@")
    files = [config["hf_hub_filename"]] if config.get("hf_hub_filename") else FILES
    cached = download.in_hub_cache(repository, files, revision or None)
    if cached is None and url and download.torch_cache_path(str(url)).is_file():
        cached = download.torch_cache_path(str(url))
    return cached or download.from_hub(repository, files, model, revision or None)


def _loaded(build: Any, config: Mapping[str, Any], file: Path) -> nn.Module:
    """Build the network from a file that timm publishes; timm translates the names of the tensors.

    Raises:
        WeightsError: the file does not fit.
    """
    is_numpy = file.suffix == ".npz"
    overlay = {"file": str(file)} if is_numpy else {"state_dict": dict(weight_files.read(file))}
    try:
        network: nn.Module = build(pretrained=True, pretrained_cfg_overlay={**overlay, "custom_load": is_numpy})
    except MemoryError:
        raise
    except Exception as error:  # a translation may raise anything if the file is another network's
        raise weight_files.misfit(file, error) from None
    built_config: Any = network.pretrained_cfg
    for key in overlay:
        built_config.pop(key, None)  # frees the weights
    built_config["custom_load"] = config.get("custom_load", False)
    return network


def _subset(config: Mapping[str, Any]) -> str | None:
    from timm.data.imagenet_info import infer_imagenet_subset

    subset: str | None = infer_imagenet_subset(dict(config))
    return subset


def class_names(config: Mapping[str, Any]) -> list[str]:
    """Return the names of a network's classes, in the order of its outputs."""
    from timm.data.imagenet_info import ImageNetInfo

    if config.get("label_names"):
        return list(map(str, config["label_names"]))
    info: Any = ImageNetInfo(_subset(config) or "imagenet-1k")
    return [str(info.index_to_description(i)) for i in range(info.num_classes())]


def trained_with(network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return the mean and std of the pixels that a network of timm was trained with; None for other networks."""
    config = getattr(network, "pretrained_cfg", None)
    if not isinstance(config, Mapping) or "architecture" not in config:
        return None
    mean, std = _numbers(config.get("mean")), _numbers(config.get("std"))
    return None if mean is None or std is None else (mean, std)
