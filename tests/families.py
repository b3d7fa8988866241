"""A small random network of each family, and how to read its layers with a hook."""

from collections.abc import Callable
from typing import Any, NamedTuple

import timm
import torch
import transformers
from torch import Tensor, nn
from torchvision.models import SwinTransformer, VisionTransformer
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

TINY = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}

# transformers 5 has renamed modules
ACTIVATION, CLIP = (
    ("activation", "vision_model.") if int(transformers.__version__.partition(".")[0]) < 5 else ("activation_fn", "")
)

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


class Patches(nn.Module):
    """Cut an image into patches as einops' Rearrange does: (N, H W / P^2, 3 P^2), row by row."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.unfold(2, 8, 8).unfold(3, 8, 8)  # (N, 3, h, w, 8, 8)
        return x.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)


class Block(nn.Module):
    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.norm, self.act = nn.LayerNorm(24), nn.GELU()
        self.attention = nn.MultiheadAttention(24, 2, batch_first=batch_first)
        self.up, self.down = nn.Linear(24, 40), nn.Linear(40, 24)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        x = x + self.attention(y, y, y)[0]
        return x + self.down(self.act(self.up(x)))


class FixedViT(nn.Module):
    """A transformer for 32 px only, with a class token before the patches and register tokens after them.

    The token dimension is first unless `batch_first`.
    """

    def __init__(self, patches: nn.Module, *, batch_first: bool, registers: int = 0) -> None:
        super().__init__()
        self.patches, self.batch_first = patches, batch_first
        self.cls_token = nn.Parameter(torch.randn(1, 1, 24))
        self.positions = nn.Parameter(torch.randn(1, 17 + registers, 24))
        self.registers = nn.Parameter(torch.randn(1, registers, 24))
        self.dropout = nn.Dropout(0.1)
        self.blocks = nn.Sequential(*(Block(batch_first=batch_first) for _ in range(2)))
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x)
        tokens = tokens.flatten(2).transpose(1, 2) if tokens.ndim == 4 else tokens
        first, last = (each.expand(len(x), -1, -1) for each in (self.cls_token, self.registers))
        x = self.dropout(torch.cat([first, tokens, last], 1) + self.positions)
        x = self.blocks(x if self.batch_first else x.transpose(0, 1))
        return self.head(x[:, 0] if self.batch_first else x[0])


class Family(NamedTuple):
    build: Callable[[], nn.Module]
    layer: str
    read: Callable[[Tensor], Tensor]  # converts the output to (N, C, H, W)
    features: int
    prefix: int | None = None  # tokens before the patches
    has_class: bool = True
    size: int = 32
    part: Callable[[Any], Tensor] = lambda x: x  # selects a tensor from the module's output

    @property
    def module(self) -> str:
        """Name of the module to hook."""
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


def _rearranged() -> nn.Module:
    return FixedViT(nn.Sequential(Patches(), nn.LayerNorm(192), nn.Linear(192, 24)), batch_first=True)


def _tokens_first() -> nn.Module:
    return FixedViT(nn.Conv2d(3, 24, 8, 8), batch_first=False)


def _registers_last() -> nn.Module:
    return FixedViT(nn.Conv2d(3, 24, 8, 8), batch_first=True, registers=3)


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
    "dinov2": Family(lambda: _dinov2("Dinov2"), f"encoder.layer.1.mlp.{ACTIVATION}", patches(1), 96, 1),
    "dinov2, registers": Family(
        lambda: _dinov2("Dinov2WithRegisters", num_register_tokens=3),
        "encoder.layer.1",
        patches(4),
        24,
        4,
    ),
    "clip": Family(_clip, f"{CLIP}encoder.layers.1.mlp", patches(1), 24, 1),
    "transformers vit, a part": Family(
        _with_hidden_states, "0:hidden_states:1", patches(1), 24, 1, part=lambda x: x.hidden_states[1]
    ),
    "vit of rearranged patches": Family(_rearranged, "blocks.1.act", patches(1), 40, 1),
    "vit of rearranged patches, residual stream": Family(_rearranged, "blocks.0", patches(1), 24, 1),
    "vit of rearranged patches, patches": Family(_rearranged, "patches.0", patches(0), 192),
    "tokens first": Family(_tokens_first, "blocks.1.up", patches(1), 40, 1, part=lambda x: x.transpose(0, 1)),
    "tokens first, residual stream": Family(
        _tokens_first, "blocks.0", patches(1), 24, 1, part=lambda x: x.transpose(0, 1)
    ),
    "tokens first, a part": Family(
        _tokens_first, "blocks.0.attention:0", patches(1), 24, 1, part=lambda x: x[0].transpose(0, 1)
    ),
    "registers last": Family(_registers_last, "blocks.1.act", lambda x: patches(1)(x[:, :17]), 40, 1),
    "timm vit, patches": Family(
        _timm("vit_tiny_patch16_224", img_size=64, depth=1), "patch_embed", patches(0), 192, size=64
    ),
    "u-net": Family(lambda: UNet(), "up", lambda x: x, 8),
    "u-net, a part": Family(lambda: nn.Sequential(UNet()), "0:masks", lambda x: x, 4, part=lambda x: x["masks"]),
}
