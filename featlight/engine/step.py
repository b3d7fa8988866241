"""One gradient step of a batch of images, as pure functions; the Lightning module is a shell around them.

    images, state, statistics = step(images, state, settings, model, objective)

What an optimizer remembers from step to step is a mapping of tensors; plain descent remembers nothing.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from featlight.config.recipe import Gradient, Step
from featlight.objectives.objective import Scores
from featlight.param.image import blur

Model = Callable[[Tensor], Mapping[str, Tensor]]  # images (N, 3, H, W) to outputs (N, C, H', W') by layer
Objective = Callable[[Mapping[str, Tensor]], Scores]  # these outputs to losses and activations (N,)
State = Mapping[str, Tensor]
NEW: State = {}  # before the first step


class Statistics(NamedTuple):
    """Of a step."""

    activation: Tensor  # (N,), before it
    gradient_norm: Tensor  # (N,), L2 norm of each image's gradient


def step(
    images: Tensor, state: State, settings: Step, model: Model, objective: Objective
) -> tuple[Tensor, State, Statistics]:
    """Move every image against the gradient of its own loss, then blur: the article's smoothness prior.

    Args:
        images: (N, 3, H, W), in pixel units.
        state: of the optimizer.
        settings: learning rate, blur, and what is done to the gradient.
        model: the frozen network, up to the objective's layers.
        objective: of each image.

    Returns:
        Images and state after the step; the arguments are not changed.
    """
    images = images.detach().requires_grad_(True)
    scores = objective(model(images))
    scores.loss.sum().backward()  # type: ignore[no-untyped-call]  # a sum: a mean would depend on the batch size
    assert images.grad is not None
    gradient, norm = conditioned(images.grad, settings.gradient)
    moved, state = descended(images.detach(), gradient, state, settings.lr)
    return smoothed(moved, settings.sigma), state, Statistics(scores.activation, norm)


def conditioned(gradient: Tensor, rule: Gradient) -> tuple[Tensor, Tensor]:
    """Each image's gradient (N, 3, H, W) as the optimizer gets it, and its norm (N,) as it was."""
    scale, norm = gradient_size(gradient)
    return gradient / scale if rule == "rms" else gradient, norm


def descended(images: Tensor, gradient: Tensor, state: State, lr: float) -> tuple[Tensor, State]:
    """Plain gradient descent."""
    return torch.add(images, gradient, alpha=-lr), state


def smoothed(images: Tensor, sigma: float | None) -> Tensor:
    """Images (N, 3, H, W) after the blur of a step; None for none."""
    return images if sigma is None else blur(images, sigma)


def gradient_size(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Root mean square, 1 where there is no gradient, and L2 norm of each image's gradient.

    Args:
        gradient: (N, 3, H, W).

    Returns:
        (N, 1, 1, 1) and (N,). Both are exact for gradients whose squares would underflow, as in random networks.
    """
    peak = gradient.abs().amax((1, 2, 3), keepdim=True)  # (N, 1, 1, 1)
    safe = torch.where(peak == 0, 1, peak)  # not `peak > 0`: a NaN stays a NaN
    rms = safe * (gradient / safe).square().mean((1, 2, 3), keepdim=True).sqrt()  # (N, 1, 1, 1)
    norm = rms.flatten() * gradient[0].numel() ** 0.5  # (N,)
    return torch.where(rms == 0, 1, rms), norm
