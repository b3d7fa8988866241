"""Random transforms: each step sees its images shifted, scaled, rotated, cropped and with noise.

Random numbers depend only on the seed, the tile and the step, never on the rest of the batch, its size, the order or
the workers. One affine sampling applies all shifts, scales, rotations and crops.
"""

import math
import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from featlight.config.image_shape import ImageSize, both_sides, image_size
from featlight.config.transform_settings import (
    AffineTransform,
    Crop,
    Jitter,
    Lambda,
    Noise,
    Pad,
    ResizedCrop,
    Rotate,
    Scale,
    Transform,
    square,
)
from featlight.errors import UsageError, in_a_line
from featlight.param.image import resize

__all__ = ["Crop", "Jitter", "Noise", "Pad", "RandomTransforms", "ResizedCrop", "Rotate", "Scale"]

HeightWidth = tuple[int, int]


class RandomTransforms:
    """The random transforms of a batch of images.

    Args:
        transforms: transforms, in the order of application.
        seeds: seed of each image.
        steps: number of steps.
        device: device of the images.
        sizes: required size of the views by image size, for a network with a fixed input size.
    """

    def __init__(
        self,
        transforms: Sequence[Transform],
        seeds: Sequence[int],
        steps: int,
        device: torch.device,
        sizes: Mapping[ImageSize, ImageSize] | None = None,
    ) -> None:
        self._sizes = sizes or {}
        self._moves = [each for each in transforms if isinstance(each, AffineTransform)]
        self._pad = sum(each.pixels for each in transforms if isinstance(each, Pad))
        self._crop = next((each for each in transforms if isinstance(each, Crop)), None)
        self._noise = [each for each in transforms if isinstance(each, Noise)]
        self._own = [each for each in transforms if isinstance(each, Lambda)]
        self._checked: list[Lambda] = []
        self._steps, self._seeds = steps, seeds
        crops = [each for each in transforms if isinstance(each, Crop | ResizedCrop)]
        self.boxes = math.prod(each.boxes for each in crops)
        self._view = math.prod(each.view for each in crops)
        columns = sum(each.columns for each in self._moves) + 2 + 2  # the center of a box, the shift of the noise
        tables = [torch.rand(steps, self.boxes, columns, generator=_generator(seed)) for seed in seeds]
        self._on_cpu = torch.stack(tables, 1)  # (steps, N, boxes, columns), in [0, 1)
        self._draws = self._on_cpu.to(device)
        self._fields: tuple[HeightWidth, Tensor] | None = None
        self.sampled = bool(
            self._moves or self._pad or self._crop
        )  # whether views differ from the images by a sampling

    def __call__(self, images: Tensor, step: int) -> Tensor:
        """Return the views of one step, the network's input.

        Args:
            images: (N, C, H, W), in pixel units.
            step: number of the step.

        Returns:
            (N x boxes, C, H', W'): the views of the first image, then those of the second.
        """
        needed = self._sizes.get(image_size(*_size(images)))
        if self.sampled:
            height, width = (round(self._view * (side + 2 * self._pad)) for side in _size(images))
            size = (height, width) if needed is None else both_sides(needed)
            views = sampled(images, self._matrices(images, step), size, gray=self._pad > 0)
        else:
            views = images
        for each in self._own:
            views = self._transformed(each, views, step)
        if needed is not None:
            views = resize(views, needed, antialias=True)
        for noise in self._noise:
            share = step / max(1, self._steps - 1)
            strength = noise.start + (noise.end - noise.start) * share
            views = views + strength * self._field(views, step)
        return views

    def in_a_line(self, what: str) -> AbstractContextManager[None]:
        """Name the user's own transforms in errors that they may cause; other errors are raised unchanged.

        Args:
            what: what fails.
        """
        words = ", ".join(each.word for each in self._own)
        return in_a_line(f"transforms: {words}: {what}") if self._own else nullcontext()

    def _transformed(self, own: Lambda, views: Tensor, step: int) -> Tensor:
        """Apply the user's own transform to each image by itself, with random streams of that image and step."""
        word = f"transforms: {own.word}"

        def made(part: Tensor, seed: int) -> Tensor:
            number = int(torch.randint(2**31, (), generator=_generator(seed + 7919 * step)))
            torch.manual_seed(number)
            random.seed(number)
            np.random.seed(number)
            with in_a_line(f"{word} fails"):
                view: Any = own.function(part.clone(), step) if own.takes_step else own.function(part.clone())
            count, channels = part.shape[:2]
            if (
                not isinstance(view, Tensor)
                or view.ndim != 4
                or view.shape[:2] != (count, channels)
                or not len(view[0, 0])
            ):
                text = f"{tuple(view.shape)}" if isinstance(view, Tensor) else f"a {type(view).__name__}"
                raise UsageError(f"{word} gives {text} for {tuple(part.shape)}; ({count}, {channels}, H, W) is needed")
            if view.is_complex():
                raise UsageError(f"{word} gives complex numbers; floats are needed")
            if part.requires_grad and not view.requires_grad:
                raise UsageError(f"{word}: no gradient reaches the image from what it gives")
            return view.to(part)

        parts = list(zip(torch.split(views, self.boxes), self._seeds, strict=True))
        found = [made(*part) for part in parts]
        if len({view.shape for view in found}) > 1:
            raise UsageError(f"{word} gives views of several sizes; all images of a batch need one")
        if own not in self._checked and views.requires_grad:
            self._checked.append(own)
            part = parts[0][0].detach().requires_grad_(True)
            again = made(part, parts[0][1])
            if not torch.equal(again.nan_to_num(), found[0].nan_to_num()):
                raise UsageError(f"{word} gives something else the second time, from the same seed: it keeps state")
            with in_a_line(f"{word}: no gradient can be taken"):
                torch.autograd.grad(again.sum(), part)
        return torch.cat(found)

    def _matrices(self, images: Tensor, step: int) -> Tensor:
        """Return matrices (N x boxes, 2, 3) from positions in a view to positions in its image, both from -1 to 1."""
        draws = self._draws[step].flatten(0, 1).to(images.dtype)  # (N x boxes, columns)
        height, width = _size(images)
        padded = height + 2 * self._pad, width + 2 * self._pad
        grown = torch.eye(3, dtype=draws.dtype, device=draws.device)
        grown[0, 0], grown[1, 1] = padded[1] / width, padded[0] / height
        matrix = grown.expand(len(draws), 3, 3)  # from the last transform back to the first
        column = 0
        for move in self._moves:
            matrix = matrix @ move.matrix(draws[:, column : column + move.columns], padded)
            column += move.columns
        if self._crop is not None:
            first, last = self._crop.side
            share = first + (last - first) * step / max(1, self._steps - 1)
            matrix = matrix @ box(draws[:, -4:-2], share, self._crop.spread)
        return matrix[:, :2]

    def _field(self, views: Tensor, step: int) -> Tensor:
        """Return normal noise (N x boxes, C, H, W): each image's own field, shifted for each step and box."""
        size = _size(views)
        if self._fields is None or self._fields[0] != size:
            shape = (views.shape[1], *size)
            drawn = [torch.randn(shape, generator=_generator(seed ^ 1)) for seed in self._seeds]
            self._fields = size, torch.stack(drawn).to(views.device, views.dtype)
        shifts = (self._on_cpu[step, :, :, -2:] * torch.tensor(size)).long().flatten(0, 1).tolist()
        fields = self._fields[1].repeat_interleave(self.boxes, 0)
        return torch.stack([torch.roll(field, shift, (1, 2)) for field, shift in zip(fields, shifts, strict=True)])


def box(draws: Tensor, share: float, spread: float) -> Tensor:
    """Return the matrix of a square crop, its center drawn around the middle of the image.

    Args:
        draws: (N, 2), in [0, 1).
        share: side of the crop, relative to the image's side.
        spread: standard deviation of the center, relative to the image's side.

    Returns:
        (N, 3, 3), in coordinates from -1 to 1.
    """
    radius = torch.sqrt(-2 * torch.log1p(-draws[:, :1]))  # Box-Muller: two uniform draws make two normal ones
    angle = 2 * torch.pi * draws[:, 1:2]
    center = 2 * spread * radius * torch.cat([torch.cos(angle), torch.sin(angle)], 1)
    center = center.clamp(share - 1, 1 - share)
    return square(torch.full_like(draws[:, 0], share), *center.unbind(1))


def sampled(images: Tensor, matrices: Tensor, size: HeightWidth, *, gray: bool = False) -> Tensor:
    """Sample views of images, bilinear.

    Args:
        images: (N, C, H, W), in pixel units.
        matrices: (N x boxes, 2, 3), from positions in a view to positions in its image, both from -1 to 1.
        size: height and width of the views, in pixels.
        gray: whether the outside of an image is gray, instead of mirrored.

    Returns:
        (N x boxes, C, *size).
    """
    boxes = len(matrices) // len(images)
    if boxes > 1:
        images = images.repeat_interleave(boxes, 0)
    grid = places(matrices, size)
    return sample(images - 0.5, grid, "zeros") + 0.5 if gray else sample(images, grid, "reflection")


def sample(images: Tensor, grid: Tensor, outside: Literal["zeros", "reflection"]) -> Tensor:
    """Return `grid_sample`, bilinear, without a gradient of the grid: the same bits, a fifth faster on a CPU."""
    views: Tensor = _Sample.apply(images, grid, ("zeros", "border", "reflection").index(outside))
    return views


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor, outside: int) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape, ctx.outside = images.shape, outside
        return torch.grid_sampler(images, grid, 0, outside, False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        unread = gradient.new_zeros(()).expand(ctx.shape)  # only the grid's gradient would need the images
        wanted = [True, False]
        arguments = (gradient, unread, grid, 0, ctx.outside, False, wanted)
        return torch.ops.aten.grid_sampler_2d_backward(*arguments)[0], None, None


def places(matrices: Tensor, size: HeightWidth) -> Tensor:
    """Return the position of each view pixel in its image: `affine_grid`, ten times faster on a CPU.

    Args:
        matrices: (N, 2, 3), from positions in a view to positions in its image, both from -1 to 1.
        size: height and width of the views, in pixels.

    Returns:
        (N, *size, 2), x and y.
    """
    rows, columns = (
        (torch.arange(side, dtype=matrices.dtype, device=matrices.device) * 2 + 1) / side - 1 for side in size
    )
    along = matrices[:, :, 0, None] * columns + matrices[:, :, 2, None]  # (N, 2, W)
    down = matrices[:, :, 1, None] * rows  # (N, 2, H)
    grid = matrices.new_empty(len(matrices), *size, 2)
    for axis in (0, 1):
        torch.add(along[:, axis, None, :], down[:, axis, :, None], out=grid[..., axis])
    return grid


def _generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def _size(images: Tensor) -> HeightWidth:
    return images.shape[2], images.shape[3]
