"""The pixels that a network expects, according to the network itself or its library."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from featlight.errors import WeightsError
from featlight.models.sources import download, huggingface, timm

MeanAndStd = tuple[tuple[float, ...], tuple[float, ...]]

RADIOGRAPHS: MeanAndStd = (0.5,), (1 / 2048,)  # maps pixels from [0, 1] to torchxrayvision's [-1024, 1024]
NAMES = (
    *(("mean", "std"), ("means", "stds"), ("MEAN", "STD"), ("_mean", "_std")),
    *(("image_mean", "image_std"), ("pixel_mean", "pixel_std"), ("norm_mean", "norm_std")),
)


def trained_with(network: nn.Module) -> MeanAndStd | None:
    """Return the mean and std of the pixels that a network expects, if its library has recorded them with it."""
    return timm.trained_with(network) or _open_clip(network) or _radiographs(network) or _transformers(network)


def normalizes_itself(network: nn.Module) -> str | None:
    """Return the name of the module in which a network normalizes its pixels; "" for itself, None if there is none."""
    for name, module in network.named_modules():
        if _is_open_clip(module):  # it only records the pair and does not apply it
            continue
        if _attributes(module):
            return str(name)
        for attribute, value in vars(module).items():
            steps = value if isinstance(value, list | tuple) else getattr(value, "transforms", [value])
            if isinstance(steps, list | tuple) and any(map(_attributes, steps)):  # torchvision's Compose, for example
                return f"{name}.{attribute}".strip(".")
    return None


def recorded(network: nn.Module) -> str | None:
    """Return the name of a network's attribute with the mean and std of its pixels as timm resolves them, or None."""
    for name, module in network.named_modules():
        config = vars(module).get("data_config")
        if isinstance(config, Mapping) and _numbers(config.get("mean")) and _numbers(config.get("std")):
            return f"{name}.data_config".strip(".")
    return None


def _attributes(holder: object) -> MeanAndStd | None:
    """Return the mean and std that a module or a transform holds as attributes."""
    for names in NAMES:
        mean, std = (_numbers(getattr(holder, name, None)) for name in names)
        if mean and std and len(mean) == len(std) and all(value > 0 for value in std) and mean != (0,):
            return mean, std  # a mean of zero is that of added noise
    return None


def _numbers(given: Any) -> tuple[float, ...]:
    if isinstance(given, Tensor) and given.is_floating_point() and given.ndim <= 4 and given.device.type != "meta":
        return tuple(given.detach().flatten()[:64].tolist())
    if isinstance(given, float):
        return (given,)
    is_list = isinstance(given, Iterable) and not isinstance(given, str | Tensor | nn.Module)
    values = list(given) if is_list and len(given) <= 64 else []
    return tuple(map(float, values)) if all(isinstance(value, int | float) for value in values) else ()


def _is_open_clip(module: object) -> bool:
    return type(module).__module__.startswith("open_clip")


def _open_clip(network: nn.Module) -> MeanAndStd | None:
    for tower in (network, getattr(network, "visual", None)):
        mean, std = (_numbers(getattr(tower, name, None)) for name in ("image_mean", "image_std"))
        if _is_open_clip(tower) and mean and std:
            return mean, std
    return None


def _radiographs(network: nn.Module) -> MeanAndStd | None:
    module = type(network).__module__
    return RADIOGRAPHS if module in ("torchxrayvision.models", "torchxrayvision.autoencoders") else None


def _transformers(network: nn.Module) -> MeanAndStd | None:
    """Read the preprocessor's file beside a network's weights on this machine."""
    name = getattr(network, "name_or_path", "")
    if not type(network).__module__.startswith("transformers.") or not isinstance(name, str) or not name:
        return None
    try:
        folder, file_name = Path(name), huggingface.PREPROCESSOR
        file = folder / file_name if folder.is_dir() else download.in_hub_cache(name, [file_name])
        mean, std = (None, None) if file is None else huggingface.read_mean_and_std(file)
    except (WeightsError, OSError, ValueError, TypeError):  # no file, no repository's name, or no numbers
        return None
    return None if mean is None or std is None else (mean, std)


def describe_input(network: nn.Module, normalize: tuple[Iterable[float], Iterable[float]] | None) -> str:
    """Describe the pixels that a network receives.

    Args:
        network: frozen network.
        normalize: mean and std that featlight normalizes with; None for raw pixels.
    """
    own = normalizes_itself(network)
    if normalize is None:
        inside = "" if own is None else f"; the network normalizes them itself ({own or type(network).__name__})"
        record = recorded(network)
        if own is None and record is not None:
            inside = f"; to apply mean and std of the network's {record}, set normalize"
        return f"pixels from 0 (black) to 1 (white), as they are{inside}"
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in normalize)
    twice = "" if own is None else f"; and {own or type(network).__name__} in the network normalizes them again"
    return f"pixels from 0 (black) to 1 (white), less mean {mean}, over std {std}{twice}"
