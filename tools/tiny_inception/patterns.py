"""Labelled pictures drawn from nothing but a generator: what the embedded network learns from.

A new class is one function in `textures.py` or `shapes.py`, one entry in `TABLE` and its name in `CLASSES`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from featlight.models.sources.embedded import CLASSES, SIDE
from tools.tiny_inception import shapes, textures
from tools.tiny_inception.canvas import Plane, paint, parse_palette, random_palette, uniform

OWN_COLOURS = 0.7  # share of the pictures in their class's own colours; the others get random ones


@dataclass(frozen=True)
class Pattern:
    """One class.

    Args:
        draw: a plane to coverage layers, shape (B, K, H, W).
        palettes: its own colours: the ground's, then one per layer.
        object: whether it stands on a patterned ground; else it fills the picture.
        upright: whether it only leans a little instead of turning freely.
    """

    draw: Callable[[Plane], Tensor]
    palettes: tuple[str, ...]
    object: bool = False
    upright: bool = False


def _texture(draw: Callable[[Plane], Tensor], *palettes: str) -> Pattern:
    return Pattern(draw, palettes)


def _object(draw: Callable[[Plane], Tensor], *palettes: str, upright: bool = False) -> Pattern:
    return Pattern(draw, palettes, object=True, upright=upright)


TABLE: dict[str, Pattern] = {
    "gratings": _texture(textures.gratings, "10206b ffd23f", "f4f1e8 c1272d"),
    "checkers": _texture(textures.checkers, "111111 f5f5f0", "7a1f5c f2c14e"),
    "dots": _texture(textures.dots, "ffe45e e6194b", "1b998b fff3c7"),
    "target": _texture(textures.target, "f7f7f7 d7263d", "12355b 4cc9f0"),
    "spiral": _texture(textures.spiral, "3a0ca3 f72585", "fff1d0 2a9d8f"),
    "rays": _texture(textures.rays, "e63946 ffd166", "0b3954 8fd3fe"),
    "zigzag": _texture(textures.zigzag, "5f0f40 fb8b24", "e0fbfc 0f7173"),
    "waves": _texture(textures.waves, "04395e 1c8fc4 e0fbff", "1b4965 5fa8d3 fefae0"),
    "bricks": _texture(textures.bricks, "cfc6b8 a63a24 d9714e", "3b2f2f c8553d e9a178"),
    "honeycomb": _texture(textures.honeycomb, "f6a400 5b2c06 ffd75e", "ffbf1f 3d1c02 fff0a8"),
    "triangles": _texture(textures.triangles, "2d6a4f f9dc5c", "ef476f 118ab2"),
    "scales": _texture(textures.scales, "06373a 12908e 9ff0c8", "3c1361 a4508b ffd6a5"),
    "weave": _texture(textures.weave, "2b1a0e c98b3c 8a5a2b c98b3c", "14213d e5e5e5 fca311 e5e5e5"),
    "plaid": _texture(textures.plaid, "b3202a 16324f f3e9d2", "1f5b3a 0b2239 f2c14e"),
    "net": _texture(textures.net, "0d3b66 f4d35e ee964b", "f1faee 5a189a 9d4edd"),
    "cells": _texture(textures.cells, "1d1135 7bc74d e8f48c", "331832 d81e5b f0a6ca"),
    "pebbles": _texture(textures.pebbles, "2f2f36 8c8f94 e2ddd0", "38302e 9c6644 f0d9b5"),
    "leopard": _texture(textures.leopard, "e0a458 2a1a0b b5651d", "f2c879 1c1208 a8581f"),
    "labyrinth": _texture(textures.labyrinth, "f8f8f2 0a0a0a", "ff6b6b 2ec4b6"),
    "clouds": _texture(textures.clouds, "2d7dd2 f7fbff", "f08a5d 4b3b8f"),
    "marble": _texture(textures.marble, "f2f0eb c9cfcb 3f5a52", "1e4d3b 3c7a5e e9f5db"),
    "wood": _texture(textures.wood, "6b3a15 cf9150 4a2408", "8a4b1f e0ab6b 5c3011"),
    "noise": _texture(textures.noise, "444444 b0b0b0 ffffff", "702963 3fa796 fdf0d5"),
    "camouflage": _texture(textures.camouflage, "a39a6b 4b5d34 6e4f2f 20261a", "d9c7a0 8a7a4f 5d6b3f 3b2c1e"),
    "gradient": _texture(textures.gradient, "ff7e5f 5b2a86", "00a6a6 f9e784"),
    "disc": _object(shapes.disc, "2a6f97 12263a e63946 ffd6c9", "d8f3dc 3d1f00 f77f00 ffe8a3"),
    "ring": _object(shapes.ring, "355070 1a1423 ffca3a", "ffe5d9 3c096c 9d4edd"),
    "triangle": _object(shapes.triangle, "fefae0 5a0f0f d62828 fcbf49", "264653 081c24 2ec4b6 f4f1de"),
    "square": _object(shapes.square, "f1c0e8 22223b 3a86ff ffffff", "8d99ae 2b2d42 fb5607 ffe066"),
    "hexagon": _object(shapes.hexagon, "ffd6a5 2f184b 7b2cbf c77dff", "14342b 0b1a16 60d394 f9f871"),
    "star": _object(shapes.star, "0b1d51 05091f ffe14d", "9b2226 3b0a0c ffd166"),
    "cross": _object(shapes.cross, "f8f9fa 5c0011 e01e37", "006d77 00292e edf6f9"),
    "heart": _object(shapes.heart, "ffd9e3 6a040f e5173f ffb3c1", "4a4e69 3c0d25 ff4d8d ffe3ee", upright=True),
    "moon": _object(shapes.moon, "0a1440 050a20 f6efb4", "22184f 0d0826 dfe7fd"),
    "flower": _object(shapes.flower, "2f7d32 5c0a3b f062a6 b5196b ffe14d", "1f6f54 7a1f0a ff7b3a c23616 fff3b0"),
    "sun": _object(shapes.sun, "58b7f0 ffd500 e07a00 ffea61", "f9a26c fff07a b3321b ff5a36"),
    "eye": _object(
        shapes.eye, "e0ac86 5a2d1a fbfbf7 3f8fd2 0a0a0a ffffff", "c68863 3f1d10 f7f5ee 4f9d4b 0a0a0a ffffff"
    ),
    "face": _object(shapes.face, "6ec6ff 4d3200 ffd91a 2b1600", "7d5ba6 3a1f0a ffc38a 301000", upright=True),
    "fish": _object(
        shapes.fish, "0f6ea8 3d1500 ff8c1a fff4e0 ffffff 101010", "16807a 10214d f7d038 2456a6 ffffff 101010"
    ),
    "butterfly": _object(shapes.butterfly, "a8d672 1a0f0a ff8f1f fff0b3 14100c", "f5d7e8 0b1340 2f7bf0 ffd84d 10101c"),
    "tree": _object(
        shapes.tree, "9fd8f5 6b4020 14471e 3da34a e0242f", "f7dfa5 5a3418 4d2600 e57b1f ffe14d", upright=True
    ),
    "house": _object(
        shapes.house,
        "8fd0f0 4a3020 f3dfb8 c8372d 6b3f1d ffe873",
        "b7d79a 3a2a3a e9f0f5 3b5b92 a0522d fff2a8",
        upright=True,
    ),
    "leaf": _object(shapes.leaf, "f4ead0 12381a 46a64a d6f2a0", "3d2b1f 5a1a0a d9622b ffd27a"),
    "mushroom": _object(
        shapes.mushroom,
        "4f8f3f f5ead6 5a0c0c df2b2b fff7ee",
        "2b4a3f ece0c8 4a2308 b5702b ffe9c2",
        upright=True,
    ),
    "ladybird": _object(shapes.ladybird, "7cc04a 141414 141414 e3241b 181010", "dfeaf5 1a1408 1a1408 f7b21a 20140a"),
}


def _texture_plane(plane: Plane) -> Plane:
    """Turned by any angle, its middle anywhere near, three to five periods across half the picture."""
    plane = plane.shifted(plane.uniform(-0.4, 0.4), plane.uniform(-0.4, 0.4)).any_turn()
    return plane.scaled(plane.uniform(2.0, 3.6)).warped(plane.uniform(0, 0.25))


def _object_plane(plane: Plane, upright: bool) -> Plane:
    """Turned, stretched and bent a little; in some pictures the object stands in a two by two block."""
    repeat = 1.0 + plane.chance(0.2)
    offset = plane.uniform(-1, 1) * (repeat - 1)
    x, y = ((c * repeat + offset + 1) % 2 - 1 for c in (plane.x, plane.y))
    plane = Plane(torch.where(repeat > 1, x, plane.x), torch.where(repeat > 1, y, plane.y), plane.generator)
    reach = (repeat - 1) * 0.7  # objects in a block keep to their quarter
    plane = plane.shifted(plane.uniform(-0.3, 0.3) * (1 - reach), plane.uniform(-0.3, 0.3) * (1 - reach))
    plane = plane.turned(plane.uniform(-0.4, 0.4)) if upright else plane.any_turn()
    plane = plane.scaled(plane.uniform(1.05, 1.5) - 0.1 * reach)
    squeeze = plane.uniform(0.9, 1.1)
    return Plane(plane.x * squeeze, plane.y / squeeze, plane.generator).warped(plane.uniform(0, 0.07))


def _ground(plane: Plane) -> Tensor:
    """A faint pattern that lightens and darkens the ground of objects, near [-1, 1], shape (B, H, W)."""
    t = plane.any_turn().scaled(plane.uniform(2, 5))
    stripes, lattice = (t.x * math.pi).sin(), (t.x * math.pi).sin() * (t.y * math.pi).sin()
    kind = plane.integer(0, 3)
    fields = torch.where(kind == 0, stripes, torch.where(kind == 1, lattice, plane.fractal(3)))
    return torch.where(kind == 3, plane.y, fields) * plane.uniform(0, 0.25)


def _palettes(pattern: Pattern, count: int, generator: torch.Generator) -> Tensor:
    """Colours for each picture: its class's own, varied, or random ones, shape (B, K + 1, 3)."""
    own = torch.stack([parse_palette(text) for text in pattern.palettes])  # (palettes, K + 1, 3)
    chosen = own[torch.randint(len(own), (count,), generator=generator)]  # (B, K + 1, 3)
    chosen = chosen + torch.randn(chosen.shape, generator=generator) * 0.07
    other = random_palette(count, own.shape[1], generator)
    return torch.where(uniform(count, 0, 1, generator) < OWN_COLOURS, chosen, other).clamp(0, 1)


def _draw_class(pattern: Pattern, count: int, generator: torch.Generator) -> Tensor:
    """Pictures of one class before light, blur and noise, shape (B, 3, H, W)."""
    flat = Plane.flat(count, generator)
    plane = _object_plane(flat, pattern.upright) if pattern.object else _texture_plane(flat)
    masks = pattern.draw(plane)  # (B, K, H, W)
    image = paint(masks, _palettes(pattern, count, generator))  # (B, 3, H, W)
    if pattern.object:
        image = image + (_ground(flat) * (1 - masks.amax(1)))[:, None]
    return image


def _photograph(image: Tensor, generator: torch.Generator) -> Tensor:
    """Light from one side, haze, blur and noise, as a camera adds; back in [0, 1]."""
    count = len(image)
    plane = Plane.flat(count, generator)
    lit = image * (1 + plane.any_turn().x * plane.uniform(0, 0.3))[:, None]
    haze = torch.where(plane.chance(0.15), plane.uniform(0.35, 1), plane.uniform(0.85, 1.1))[:, None]
    lit = (lit - 0.55) * haze + 0.55
    soft = gaussian_blur(lit, [5, 5], [1.0, 1.0])
    lit = lit.lerp(soft, (plane.uniform(-0.7, 1).clamp(min=0))[:, None])
    grain = torch.randn(lit.shape, generator=generator)
    return (lit + grain * plane.uniform(0, 0.05)[:, None]).clamp(0, 1)


def draw(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Draws one picture per label.

    Args:
        labels: class indices into `CLASSES`, shape (B,).
        generator: where all randomness comes from: the same state gives the same pictures.

    Returns:
        RGB pictures in [0, 1] of shape (B, 3, 64, 64).
    """
    images = torch.empty(len(labels), 3, SIDE, SIDE)
    for index, pattern in enumerate(TABLE.values()):
        chosen = (labels == index).nonzero()[:, 0]
        if len(chosen):
            images[chosen] = _draw_class(pattern, len(chosen), generator)
    return _photograph(images, generator)  # (B, 3, H, W)


def draw_balanced(per_class: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draws as many pictures of each class, in class order.

    Args:
        per_class: pictures per class.
        generator: where all randomness comes from.

    Returns:
        Pictures of shape (B, 3, 64, 64) in [0, 1] and labels of shape (B,).
    """
    labels = torch.arange(len(CLASSES)).repeat_interleave(per_class)  # (B,)
    return draw(labels, generator), labels
