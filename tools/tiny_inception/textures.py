"""Textures that fill the picture: each takes a turned, scaled and warped plane and returns its layers.

The planes come with about three units across half the picture, so a period of 1 is about ten pixels.
"""

import math

import torch
from torch import Tensor

from tools.tiny_inception.canvas import Plane, fold, inside, layers

TURN = 2 * math.pi


def gratings(p: Plane) -> Tensor:
    """Straight parallel stripes."""
    return layers(inside(fold(p.x) - p.uniform(0.15, 0.3), 0.25))


def checkers(p: Plane) -> Tensor:
    """A chessboard."""
    wave = (p.x * math.pi).sin() * (p.y * math.pi).sin()
    return layers(inside(-wave, 0.3))


def dots(p: Plane) -> Tensor:
    """Discs on a lattice, every other row moved by half a step on some."""
    row = p.y.round()
    x = p.x + 0.5 * (row % 2) * p.chance(0.5)
    distance = torch.hypot(fold(x), p.y - row)
    return layers(inside(distance - p.uniform(0.22, 0.36), 0.12))


def target(p: Plane) -> Tensor:
    """Concentric rings."""
    return layers(inside(fold(p.r * 0.8) - p.uniform(0.18, 0.3), 0.2))


def spiral(p: Plane) -> Tensor:
    """One to three arms that wind around a point."""
    hand = 1 - 2.0 * p.chance(0.5)
    phase = p.r * 0.7 + hand * p.integer(1, 3) * p.angle / TURN
    return layers(inside(fold(phase) - p.uniform(0.18, 0.3), 0.2))


def rays(p: Plane) -> Tensor:
    """Wedges that meet at a point."""
    return layers(inside(fold(p.integer(5, 11) * p.angle / TURN) - p.uniform(0.18, 0.3), 0.2))


def zigzag(p: Plane) -> Tensor:
    """Stripes with sharp corners."""
    phase = p.y + p.uniform(1.2, 2.0) * fold(p.x * p.uniform(0.35, 0.6))
    return layers(inside(fold(phase) - p.uniform(0.18, 0.28), 0.2))


def waves(p: Plane) -> Tensor:
    """Stripes with round bends and a thin crest."""
    phase = p.y + p.uniform(0.25, 0.4) * (p.x * p.uniform(2.0, 3.2)).sin()
    near = fold(phase)
    return layers(inside(near - p.uniform(0.24, 0.32), 0.2), inside(near - 0.1, 0.15))


def bricks(p: Plane) -> Tensor:
    """Courses of bricks in mortar, each brick a little lighter or darker."""
    y = p.y * 1.1
    row = y.floor()
    x = p.x * 0.6 + 0.5 * (row % 2)
    joint = torch.minimum(fold(x) / 0.6, fold(y) / 1.1)
    brick = inside(p.uniform(0.07, 0.12) - joint, 0.08)
    shade = ((x.floor() * 12.9 + row * 78.2).sin() * 43.7) % 1
    return layers(brick, brick * shade * 0.8)


def _hexagonal(p: Plane) -> tuple[Tensor, Tensor]:
    """Offsets from the nearest centre of a hexagonal lattice of step 1, each (B, H, W)."""
    root = math.sqrt(3)
    ax, ay = p.x - p.x.round(), p.y - (p.y / root).round() * root
    bx, by = p.x - p.x.floor() - 0.5, p.y - ((p.y / root).floor() + 0.5) * root
    first = ax**2 + ay**2 < bx**2 + by**2
    return torch.where(first, ax, bx), torch.where(first, ay, by)


def honeycomb(p: Plane) -> Tensor:
    """Hexagonal cells between thin walls, a drop in each."""
    x, y = _hexagonal(p.scaled(0.8))
    x, y = x.abs(), y.abs()
    wall = 0.5 - torch.maximum(x, 0.5 * x + math.sqrt(0.75) * y)
    return layers(inside(wall - p.uniform(0.05, 0.1), 0.08), inside(torch.hypot(x, y) - 0.22, 0.15))


def triangles(p: Plane) -> Tensor:
    """A tiling of triangles in two colours."""
    root = math.sqrt(3)
    parts = [(p.y / root * 2), (p.x - p.y / root), (p.x + p.y / root)]
    parity = torch.stack([(part * math.pi).sin() for part in parts]).prod(0)
    return layers(inside(-parity, 0.2))


def scales(p: Plane) -> Tensor:
    """Overlapping round scales with a rim, as on a fish."""
    rim, glow = torch.ones_like(p.x), torch.zeros_like(p.x)
    base = p.y.floor()
    for k in (2, 1, 0, -1):  # each row of scales lies over the one below it
        row = base + k
        x = p.x + 0.5 * (row % 2)
        distance = torch.hypot(x - x.round(), (p.y - row + 0.3) * 0.75) - 0.56
        cover = inside(distance, 0.08)
        rim = rim * (1 - cover) + cover * inside(-distance - 0.1, 0.08)
        glow = glow * (1 - cover) + cover * inside(distance + 0.32, 0.3)
    return layers(rim, glow)


def weave(p: Plane) -> Tensor:
    """Ribbons that go over and under each other; the last layer is the first one's visible part."""
    over = ((p.x.floor() + p.y.floor()) % 2) < 0.5
    across, along = (p.y - p.y.floor() - 0.5).abs(), (p.x - p.x.floor() - 0.5).abs()
    width = p.uniform(0.32, 0.42)
    warp, weft = inside(along - width, 0.1), inside(across - width, 0.1)
    return layers(torch.where(over, weft, warp * (1 - weft) * 0), weft * over, torch.where(over, warp * 0, warp))


def plaid(p: Plane) -> Tensor:
    """Broad and narrow see-through stripes in both directions."""
    width, thin = p.uniform(0.15, 0.3), p.uniform(0.03, 0.06)
    x, y = p.x * 0.6, p.y * 0.6
    broad = (inside(fold(x) - width, 0.05) + inside(fold(y) - width, 0.05)) * 0.5
    lines = torch.maximum(inside(fold(x - 0.5) - thin, 0.05), inside(fold(y - 0.5) - thin, 0.05))
    return layers(broad, lines)


def net(p: Plane) -> Tensor:
    """Thin lines that cross, a knot at each crossing."""
    x, y = fold(p.x * 0.8), fold(p.y * 0.8)
    lines = inside(torch.minimum(x, y) - p.uniform(0.05, 0.09), 0.06)
    return layers(lines, inside(torch.hypot(x, y) - 0.17, 0.06))


def _nearest(p: Plane) -> tuple[Tensor, Tensor, Tensor]:
    """Distances to the nearest and second nearest of 36 scattered points, and the nearest's index."""
    count = len(p.x)
    grid = torch.arange(6) * 1.3 - 3.25
    seeds = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1).view(1, 36, 2)
    seeds = seeds + (torch.rand(count, 36, 2, generator=p.generator) - 0.5) * 1.1  # (B, 36, 2)
    dx = p.x[:, None] - seeds[..., 0, None, None]  # (B, 36, H, W)
    dy = p.y[:, None] - seeds[..., 1, None, None]
    distance = torch.hypot(dx, dy)
    first, index = distance.min(1)
    second = distance.scatter(1, index[:, None], math.inf).amin(1)
    return first, second, index


def cells(p: Plane) -> Tensor:
    """Cells of a mosaic between dark joints, in two tones."""
    first, second, index = _nearest(p)
    wall = inside(p.uniform(0.12, 0.2) - (second - first), 0.1)
    return layers(wall, wall * (index % 3 == 0))


def pebbles(p: Plane) -> Tensor:
    """Round stones of different sizes, lit from above."""
    first, second, _ = _nearest(p)
    stone = inside(first / (first + second) - 0.44, 0.08)
    return layers(stone, stone * (1 - first * 1.5).clamp(0, 1))


def leopard(p: Plane) -> Tensor:
    """Broken dark rings with a filled middle."""
    first, second, _ = _nearest(p)
    radius = first / (first + second)
    broken = inside(p.smooth(14) - 0.35, 0.3)
    return layers(inside((radius - 0.3).abs() - 0.09, 0.06) * broken, inside(radius - 0.2, 0.06))


def labyrinth(p: Plane) -> Tensor:
    """Wandering stripes of one width, as on a zebra or a coral."""
    bend = p.smooth(5)
    phase = p.x * 0.55 + bend * p.uniform(0.9, 1.4)
    return layers(inside(fold(phase) - 0.25, 0.15))


def clouds(p: Plane) -> Tensor:
    """Soft heaps of noise."""
    return layers(inside(-p.fractal(3) - p.uniform(-0.2, 0.2), 0.9))


def marble(p: Plane) -> Tensor:
    """Thin veins that follow noise."""
    phase = p.x * 0.3 + p.fractal(3) * 0.9
    vein = (1 - fold(phase) * 5).clamp(0, 1)
    return layers(inside(-p.smooth(3), 1.5), vein)


def wood(p: Plane) -> Tensor:
    """Grain: long rings around knots, with fine fibres."""
    radius = torch.hypot(p.x * 0.25, p.y) + p.smooth(3) * 0.3
    fibre = inside(-((p.y * 9 + p.smooth(4)).sin() - 0.3), 1.0) * 0.3
    return layers(((radius * 1.3) % 1).clamp(0, 1), fibre)


def noise(p: Plane) -> Tensor:
    """Speckle, pixel by pixel."""
    grain = torch.randn(p.x.shape, generator=p.generator)
    return layers(inside(-grain, 1.0), inside(1.3 - grain, 0.5))


def camouflage(p: Plane) -> Tensor:
    """Flat patches of three colours on a fourth."""
    return layers(*(inside(0.15 - p.smooth(k) - 0.3 * p.smooth(2 * k), 0.08) for k in (5, 6, 7)))


def gradient(p: Plane) -> Tensor:
    """One colour that runs into another."""
    return layers((p.x * p.uniform(0.15, 0.3) + 0.5).clamp(0, 1))
