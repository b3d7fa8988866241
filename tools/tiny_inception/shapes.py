"""Objects on a ground: each takes a plane whose object spans about -1 to 1 and returns its layers."""

import math

import torch
from torch import Tensor

from tools.tiny_inception.canvas import Plane, inside, layers

TURN = 2 * math.pi
RIM = 0.09  # width of the outline around an object


def _outlined(distance: Tensor) -> tuple[Tensor, Tensor]:
    """The outline's and the body's coverage from a signed distance."""
    return inside(distance - RIM), inside(distance)


def _disc(p: Plane, x: float, y: float, radius: float | Tensor) -> Tensor:
    """Signed distance to a disc around (x, y)."""
    return torch.hypot(p.x - x, p.y - y) - radius


def _box(p: Plane, x: float, y: float, half_width: float, half_height: float) -> Tensor:
    """Signed distance to a rectangle around (x, y)."""
    return torch.maximum((p.x - x).abs() - half_width, (p.y - y).abs() - half_height)


def _ellipse(p: Plane, x: float, y: float, half_width: float, half_height: float, turn: float = 0) -> Tensor:
    """About the signed distance to an ellipse around (x, y), turned by an angle in radians."""
    cos, sin = math.cos(turn), math.sin(turn)
    dx, dy = p.x - x, p.y - y
    reach = torch.hypot((dx * cos + dy * sin) / half_width, (dy * cos - dx * sin) / half_height)
    return (reach - 1) * min(half_width, half_height)


def _polygon(p: Plane, corners: int, apothem: float) -> Tensor:
    """Signed distance to a regular polygon, a corner up; the apothem is the distance to its sides."""
    sector = TURN / corners
    angle = (p.angle + math.pi / 2) % sector - sector / 2
    return p.r * angle.cos() - apothem


def disc(p: Plane) -> Tensor:
    """A ball with a bright side."""
    return layers(*_outlined(p.r - 0.85), inside(_disc(p, -0.25, -0.3, 0.3), 0.5))


def ring(p: Plane) -> Tensor:
    """A round band."""
    return layers(*_outlined((p.r - 0.68).abs() - 0.2))


def triangle(p: Plane) -> Tensor:
    """A triangle of equal sides."""
    return layers(*_outlined(_polygon(p, 3, 0.48)), inside(_polygon(p, 3, 0.2)))


def square(p: Plane) -> Tensor:
    """A square in a square."""
    return layers(*_outlined(_box(p, 0, 0, 0.72, 0.72)), inside(_box(p, 0, 0, 0.35, 0.35)))


def hexagon(p: Plane) -> Tensor:
    """A hexagon with a round hole."""
    return layers(*_outlined(_polygon(p, 6, 0.78)), inside(p.r - 0.3))


def star(p: Plane) -> Tensor:
    """A star of five points."""
    sector = TURN / 5
    angle = ((p.angle + math.pi / 2 + sector / 2) % sector - sector / 2).abs()  # 0 at a tip
    x, y = p.r * angle.cos() - 0.98, p.r * angle.sin()
    dx, dy = 0.42 * math.cos(sector / 2) - 0.98, 0.42 * math.sin(sector / 2)  # from a tip to a notch
    return layers(*_outlined((y * -dx + x * dy) / math.hypot(dx, dy)))


def cross(p: Plane) -> Tensor:
    """Two bars that cross."""
    return layers(*_outlined(torch.minimum(_box(p, 0, 0, 0.26, 0.9), _box(p, 0, 0, 0.9, 0.26))))


def heart(p: Plane) -> Tensor:
    """A heart with a bright side."""
    y = p.y - 0.1 + 0.55 * (p.x.abs() + 0.01).sqrt()
    return layers(*_outlined(torch.hypot(p.x, y) - 0.78), inside(_disc(p, -0.35, -0.35, 0.18), 0.2))


def moon(p: Plane) -> Tensor:
    """A crescent."""
    return layers(*_outlined(torch.maximum(p.r - 0.88, -_disc(p, 0.42, 0, 0.68))))


def flower(p: Plane) -> Tensor:
    """Five to eight petals around a middle."""
    petals = p.integer(5, 8)
    wave = (petals * p.angle).cos()
    vein = inside(0.9 - wave, 0.2) * inside(p.r - 0.7)
    body = p.r - 0.62 - 0.28 * wave
    return layers(*_outlined(body), vein * 0.6, inside(p.r - 0.27))


def sun(p: Plane) -> Tensor:
    """A disc with pointed rays that stand off it."""
    wave = (p.integer(9, 13) * p.angle).cos()
    ray = torch.maximum(p.r - 0.98, torch.maximum(0.62 - p.r, 1.5 * (p.r - 0.62) - 0.35 * wave))
    return layers(inside(ray), *_outlined(p.r - 0.45))


def eye(p: Plane) -> Tensor:
    """An almond with a white, an iris, a pupil and a glint."""
    almond = torch.hypot(p.x, p.y.abs() + 0.55) - 1.13
    look = p.uniform(-0.15, 0.15)
    ball = p.shifted(look, 0)
    white = inside(almond)
    iris, pupil, glint = (inside(_disc(ball, x, x, r)) * white for x, r in ((0, 0.42), (0, 0.2), (-0.13, 0.1)))
    return layers(inside(almond - 1.5 * RIM), white, iris, pupil, glint)


def face(p: Plane) -> Tensor:
    """A round face with two eyes and a mouth."""
    mouth = torch.maximum((_disc(p, 0, 0.05, 0.5)).abs() - 0.09, 0.25 - p.y)
    eyes = torch.hypot((p.x.abs() - 0.32), (p.y + 0.22) * 0.75) - 0.14
    return layers(*_outlined(p.r - 0.88), inside(torch.minimum(mouth, eyes)))


def fish(p: Plane) -> Tensor:
    """A fish: body, tail, stripes and an eye."""
    body = _ellipse(p, 0.15, 0, 0.75, 0.48)
    tail = torch.maximum((p.x + 0.7).abs() - 0.27, p.y.abs() - 0.1 + 0.9 * (p.x + 0.45))
    outline, fill = _outlined(torch.minimum(body, tail))
    stripe = inside(((p.x * 2.2 + 0.1 + 0.3 * p.y**2) % 1 - 0.5).abs() - 0.17) * inside(body + 0.05)
    stripe = stripe * inside(p.x - 0.45)
    return layers(outline, fill, stripe, inside(_disc(p, 0.6, -0.1, 0.15)), inside(_disc(p, 0.62, -0.1, 0.07)))


def butterfly(p: Plane) -> Tensor:
    """Four wings with spots, and a body."""
    half = Plane(p.x.abs(), p.y, p.generator)
    upper, lower = _ellipse(half, 0.52, -0.38, 0.48, 0.36, -0.7), _ellipse(half, 0.42, 0.45, 0.4, 0.28, 0.8)
    outline, fill = _outlined(torch.minimum(upper, lower))
    spots = torch.minimum(_disc(half, 0.62, -0.48, 0.18), _disc(half, 0.5, 0.52, 0.14))
    return layers(outline, fill, inside(spots), inside(_ellipse(p, 0, 0, 0.1, 0.7)))


def tree(p: Plane) -> Tensor:
    """A round crown with fruit, on a trunk."""
    trunk = _box(p, 0, 0.65, 0.13, 0.35)
    crown = torch.minimum(_disc(p, 0, -0.4, 0.5), torch.hypot(p.x.abs() - 0.38, p.y + 0.02) - 0.4)
    fruit = torch.minimum(_disc(p, 0.05, -0.5, 0.1), torch.hypot(p.x.abs() - 0.4, p.y) - 0.1)
    return layers(inside(trunk), *_outlined(crown), inside(fruit))


def house(p: Plane) -> Tensor:
    """Walls, a roof, a door and a window."""
    roof = torch.maximum(0.7 * p.x.abs() - 0.72 * (p.y + 0.95), p.y + 0.15)
    door, window = _box(p, -0.25, 0.62, 0.16, 0.28), _box(p, 0.28, 0.35, 0.17, 0.17)
    return layers(*_outlined(_box(p, 0, 0.38, 0.62, 0.52)), inside(roof), inside(door), inside(window))


def leaf(p: Plane) -> Tensor:
    """A pointed leaf with its veins."""
    blade = torch.hypot(p.x, p.y.abs() + 0.5) - 1.05
    rib = p.y.abs() - 0.05
    side = (((p.x - p.y.abs()) * 3.2) % 1 - 0.5).abs() - 0.13
    veins = inside(torch.minimum(rib, side * 0.3)) * inside(blade + 0.05)
    return layers(*_outlined(blade), veins)


def mushroom(p: Plane) -> Tensor:
    """A spotted cap on a stem."""
    cap = torch.maximum(_ellipse(p, 0, 0.05, 0.9, 0.85), p.y - 0.1)
    spots = torch.minimum(_disc(p, 0, -0.48, 0.17), torch.hypot(p.x.abs() - 0.5, p.y + 0.14) - 0.14)
    stem = _ellipse(p, 0, 0.45, 0.26, 0.5)
    return layers(inside(stem), *_outlined(cap), inside(spots))


def ladybird(p: Plane) -> Tensor:
    """A beetle: a head, two wing cases and spots."""
    head = _disc(p, 0, -0.72, 0.3)
    seam = p.x.abs() - 0.05
    spots = torch.minimum(*(torch.hypot(p.x.abs() - x, p.y - y) - 0.15 for x, y in ((0.4, -0.15), (0.35, 0.38))))
    outline, fill = _outlined(_disc(p, 0, 0.08, 0.76))
    return layers(inside(head), outline, fill, torch.maximum(inside(seam), inside(spots)) * fill)
