"""Optimizers' update rules, as pure functions of the parameters, their gradient and the optimizer's state.

    parameters, state = RULES["adam"](parameters, gradient, state, lr=0.05, beta1=0.9, beta2=0.999, epsilon=1e-8)

Every rule moves each image by its own gradient alone: the first dimension is the batch, and nothing is summed over it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from featlight.config.optimizer import Optimizer
from featlight.errors import UsageError, in_a_line
from featlight.param.color import basis, mixed
from featlight.param.spectrum import bands, frequencies

OptimizerState = Mapping[str, Any]  # what a rule keeps from step to step
NEW: OptimizerState = {}  # before the first step
Rule = Callable[..., tuple[Tensor, OptimizerState]]
TINY = 1e-30  # lower bound of divisors


def sgd(parameters: Tensor, gradient: Tensor, state: OptimizerState, *, lr: float) -> tuple[Tensor, OptimizerState]:
    """Plain gradient descent, as in the article."""
    return torch.add(parameters, gradient, alpha=-lr), state


def adam(
    parameters: Tensor,
    gradient: Tensor,
    state: OptimizerState,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> tuple[Tensor, OptimizerState]:
    """Adam, equal to torch.optim's.

    Source: Kingma and Ba 2014, algorithm 1.
    """
    mean, square, count = _moments(gradient, state, beta1, beta2)
    scale = (square / (1 - beta2**count)).sqrt() + epsilon
    moved = parameters - lr / (1 - beta1**count) * mean / scale
    return moved, {"mean": mean, "square": square, "count": count}


def nadam(
    parameters: Tensor,
    gradient: Tensor,
    state: OptimizerState,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    momentum_decay: float,
) -> tuple[Tensor, OptimizerState]:
    """Adam with Nesterov momentum, equal to torch.optim's.

    Source: Dozat 2016.
    """
    mean, square, count = _moments(gradient, state, beta1, beta2)
    now, ahead = (beta1 * (1 - 0.5 * 0.96 ** (n * momentum_decay)) for n in (count, count + 1))
    product = state.get("product", 1.0) * now
    scale = (square / (1 - beta2**count)).sqrt() + epsilon
    moved = parameters - lr * (1 - now) / (1 - product) * gradient / scale
    moved = moved - lr * ahead / (1 - product * ahead) * mean / scale
    return moved, {"mean": mean, "square": square, "count": count, "product": product}


def _moments(gradient: Tensor, state: OptimizerState, beta1: float, beta2: float) -> tuple[Tensor, Tensor, int]:
    """Update the running means of the gradient and its square; return them and the number of steps."""
    mean = gradient * (1 - beta1) + state.get("mean", 0.0) * beta1
    square = gradient * gradient * (1 - beta2) + state.get("square", 0.0) * beta2
    return mean, square, state.get("count", 0) + 1


def spectral(
    parameters: Tensor,
    gradient: Tensor,
    state: OptimizerState,
    *,
    lr: float,
    exponent: float,
    beta1: float,
    beta2: float,
    contrast: float,
    bound: float,
    pull: float,
    floor: float,
) -> tuple[Tensor, OptimizerState]:
    """Adam in the whitened spectrum: equal steps for all frequency rings and decorrelated colors, smaller when finer.

    A change of parameters, for example to Fourier coefficients, is only another metric for the step, so the images
    themselves remain the parameters. After the step, contrast is bounded and each channel's mean moves toward gray.

    Args:
        parameters: images, (N, C, H, W); three channels are rgb, other channels count as decorrelated.
        gradient: gradient of the loss, (N, C, H, W).
        state: state after the last step at this size.
        lr: root mean square of the step, in the parameters' units.
        exponent: exponent of the step's falloff with frequency.
        beta1: decay of the running mean of the gradient.
        beta2: decay of the running mean of the gradient's power in each ring.
        contrast: largest standard deviation of an image over its pixels and channels; 0 for no bound.
        bound: largest distance of a pixel from gray; 0 for no bound.
        pull: fraction of the way to gray that each channel's mean moves.
        floor: smallest power of a ring, as a fraction of the strongest ring's, so that noise is not amplified.
    """
    size = parameters.shape[2], parameters.shape[3]
    if not state:
        rings = bands(size, 2, parameters).flatten(1)  # (K, H W')
        falloff = frequencies(size, parameters).clamp_min(1 / max(size)) ** -exponent  # (H, W')
        state = {"mean": 0.0, "power": 0.0, "count": 0, "rings": rings, "falloff": falloff}
    rings, falloff, count = state["rings"], state["falloff"], state["count"] + 1
    colors = basis(parameters) if parameters.shape[1] == 3 else None
    waves = torch.fft.rfft2(gradient)
    waves = waves if colors is None else mixed(waves, colors.T)  # (N, C, H, W'), in decorrelated colors
    power = torch.addcmul(waves.real.square(), waves.imag, waves.imag)  # (N, C, H, W')
    power = power.flatten(2) @ rings.T / rings.sum(1)  # (N, C, K)
    mean = (1 - beta1) * waves if count == 1 else _between(state["mean"], waves, 1 - beta1)
    power = beta2 * state["power"] + (1 - beta2) * power
    whitening = (power + floor * power.amax((1, 2), keepdim=True)) / (1 - beta2**count)  # (N, C, K)
    whitening = whitening.clamp_min(TINY).rsqrt() @ rings  # (N, C, H W')
    scale = whitening.view(mean.shape).mul_(falloff)
    stepped = mean * scale
    step = torch.fft.irfft2(stepped if colors is None else mixed(stepped, colors), s=size)  # (N, C, H, W)
    step_rms = torch.linalg.vector_norm(step, dim=(1, 2, 3), keepdim=True) / step[0].numel() ** 0.5  # (N, 1, 1, 1)
    # In the layout of the step: on a CPU, arithmetic between two layouts is several times slower than a conversion.
    moved = bound_contrast(torch.addcmul(parameters.contiguous(), step, -lr / step_rms.clamp_min(TINY)), contrast, pull)
    if bound:
        moved.clamp_(0.5 - bound, 0.5 + bound)
    moved = torch.empty_like(parameters).copy_(moved)  # in the layout of the parameters
    return moved, {**state, "mean": mean, "power": power, "count": count}


def _between(start: Tensor, end: Tensor, weight: float) -> Tensor:
    """Return `torch.lerp` of complex tensors, five times faster on a CPU."""
    return torch.view_as_complex(torch.lerp(torch.view_as_real(start), torch.view_as_real(end), weight))


def bound_contrast(images: Tensor, contrast: float, pull: float) -> Tensor:
    """Bound the contrast of images (N, C, H, W) and move the means of their channels toward 0.5."""
    mean = images.mean((2, 3), keepdim=True)  # (N, C, 1, 1)
    center = mean + pull * (0.5 - mean)
    if not contrast:
        return images - mean + center
    overall = mean.mean(1, keepdim=True)  # (N, 1, 1, 1)
    norm = torch.linalg.vector_norm(images - overall, dim=(1, 2, 3), keepdim=True)  # several times as fast as `std`
    deviation = norm / (images[0].numel() - 1) ** 0.5
    factor = (contrast / deviation.clamp_min(TINY)).clamp_max(1)  # (N, 1, 1, 1)
    return torch.addcmul(center - mean * factor, images, factor)


RULES: dict[str, Rule] = {"sgd": sgd, "adam": adam, "nadam": nadam, "spectral": spectral}


def apply_rule(
    rule: Optimizer, parameters: Tensor, gradient: Tensor, state: OptimizerState, lr: float
) -> tuple[Tensor, OptimizerState]:
    """Return the parameters and the state after one step of a rule."""
    if rule.function is not None:
        return _apply_own_rule(rule, parameters, gradient, state, lr)
    return RULES[rule.name](parameters, gradient, state, lr=lr, **dict(rule.constants))


def _apply_own_rule(
    rule: Optimizer, parameters: Tensor, gradient: Tensor, state: OptimizerState, lr: float
) -> tuple[Tensor, OptimizerState]:
    """Take a step by the user's own rule; at the first step, check that it repeats and treats each image alone."""
    word, function = f"optimizer: {rule.name}", rule.function
    assert function is not None

    def move(count: int) -> tuple[Tensor, OptimizerState]:
        with in_a_line(f"{word} fails"):
            given = parameters[:count].detach().clone(), gradient[:count].clone(), {**state}
            moved: Any = function(*given, lr=lr, **dict(rule.constants))
        whole = isinstance(moved, tuple) and len(moved) == 2 and isinstance(moved[1], Mapping)
        if not whole or not isinstance(moved[0], Tensor) or moved[0].shape != given[0].shape:
            what = tuple(moved.shape) if isinstance(moved, Tensor) else type(moved).__name__
            raise UsageError(
                f"{word} returns {what}; return a pair: parameters {tuple(given[0].shape)} and a dict, the new state"
            )
        return moved[0].detach().to(parameters), moved[1]

    moved, new = move(len(parameters))
    if not state:
        if not torch.allclose(move(len(parameters))[0], moved, equal_nan=True):
            raise UsageError(
                f"{word} returns another result the second time: it draws random numbers or keeps state; "
                "keep state in the dict that it returns"
            )
        if not torch.allclose(move(1)[0], moved[:1], rtol=1e-3, atol=1e-5, equal_nan=True):
            raise UsageError(f"{word} looks at other images of the batch; update each image by its own gradient alone")
    return moved, new
