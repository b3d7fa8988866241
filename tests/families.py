"""One small network of each family that people bring, with random weights, and how a hook reads its layers by hand."""

from collections.abc import Callable
from typing import Any, NamedTuple

import timm
import torch
import transformers
from torch import Tensor, nn
from torchvision.models import SwinTransformer, VisionTransformer
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

TINY = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}

SWIN = {"img_size": 32, "window_size": 4, "embed_dim": 12, "depths": (1, 1), "num_heads": (2, 2)}


class UNet(nn.Module):
    """Down, and up again beside what was there on the way down; its parts stand in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.down = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU())
        self.up = nn.ConvTranspose2d(12, 8, 2, 2)
        self.last = nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        beside = self.first(x)
        return {"masks": self.last(torch.cat([beside, self.up(self.down(beside))], 1))}


class Family(NamedTuple):
    build: Callable[[], nn.Module]
    layer: str
    read: Callable[[Tensor], Tensor]  # from what it gives to (N, C, H, W), by hand
    features: int
    prefix: int | None = None  # tokens before the patches
    has_class: bool = True
    size: int = 32
    part: Callable[[Any], Tensor] = lambda x: x  # of what its module gives

    @property
    def module(self) -> str:
        """That a hook looks at."""
        return self.layer.partition(":")[0]


def patches(prefix: int, height: int = 4) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.stack(x[:, prefix:].transpose(1, 2).chunk(height, 2), 2)


def last(x: Tensor) -> Tensor:
    return torch.stack([x[..., feature] for feature in range(x.shape[-1])], 1)


def _dinov2(kind: str, **options: Any) -> nn.Module:
    config = getattr(transformers, f"{kind}Config")(**TINY, **options)
    return getattr(transformers, f"{kind}Model")(config)


def _clip() -> nn.Module:
    return transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**TINY, intermediate_size=40))


def _with_hidden_states() -> nn.Module:
    config = transformers.ViTConfig(**TINY, intermediate_size=40, output_hidden_states=True)
    return nn.Sequential(transformers.ViTModel(config))


def _swin() -> nn.Module:
    return SwinTransformer([4, 4], embed_dim=12, depths=[2, 2], num_heads=[2, 2], window_size=[4, 4])


def _convnext() -> nn.Module:
    return ConvNeXt([CNBlockConfig(12, 24, 2), CNBlockConfig(24, None, 1)])


def _timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, **options)


def _torchvision_vit() -> nn.Module:
    return VisionTransformer(image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=24, mlp_dim=40)


FAMILIES = {
    "timm vit, neurons": Family(_timm("test_vit", img_size=64), "blocks.1.mlp.act", patches(1), 192, 1, size=64),
    "timm vit, residual stream": Family(_timm("test_vit", img_size=64), "blocks.2", patches(1), 64, 1, size=64),
    "timm vit of any size": Family(
        _timm("test_vit", img_size=64, dynamic_img_size=True), "blocks.1", patches(1, 5), 64, 1, size=80
    ),
    "timm vit, registers": Family(_timm("test_vit3", img_size=64), "blocks.1.ls2", patches(1), 96, 1, False, size=64),
    "timm swin": Family(_timm("swin_tiny_patch4_window7_224", **SWIN), "layers.1.blocks.0.mlp.act", patches(0), 96),
    "timm swin, residual stream": Family(_timm("swin_tiny_patch4_window7_224", **SWIN), "layers.1.blocks.0", last, 24),
    "timm convnext": Family(_timm("test_convnext"), "stages.1.blocks.0", lambda x: x, 32),
    "timm convnext, channels last": Family(
        _timm("test_convnext2", use_grn=True), "stages.1.blocks.0.mlp.act", last, 256
    ),
    "torchvision vit": Family(
        _torchvision_vit,
        "encoder.layers.encoder_layer_0.mlp.1",
        patches(1),
        40,
        1,
    ),
    "torchvision swin": Family(_swin, "features.1.1", last, 12),
    "torchvision convnext": Family(_convnext, "features.1.0.block.4", last, 48),
    "dinov2": Family(lambda: _dinov2("Dinov2"), "encoder.layer.1.mlp.activation_fn", patches(1), 96, 1),
    "dinov2, registers": Family(
        lambda: _dinov2("Dinov2WithRegisters", num_register_tokens=3),
        "encoder.layer.1",
        patches(4),
        24,
        4,
    ),
    "clip": Family(_clip, "encoder.layers.1.mlp", patches(1), 24, 1),
    "transformers vit, a part": Family(
        _with_hidden_states, "0:hidden_states:1", patches(1), 24, 1, part=lambda x: x.hidden_states[1]
    ),
    "u-net": Family(lambda: UNet(), "up", lambda x: x, 8),
    "u-net, a part": Family(lambda: nn.Sequential(UNet()), "0:masks", lambda x: x, 4, part=lambda x: x["masks"]),
}
