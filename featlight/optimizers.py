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

OptimizerState = Mapping[str, Any]  # what a rule remembers from step to step
NEW: OptimizerState = {}  # before the first step
Rule = Callable[..., tuple[Tensor, OptimizerState]]
TINY = 1e-30  # under any gradient that float32 holds apart from zero


def sgd(parameters: Tensor, gradient: Tensor, state: OptimizerState, *, lr: float) -> tuple[Tensor, OptimizerState]:
    """Plain gradient descent, the article's."""
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
    """Adam, as torch.optim has it.

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
    """Adam with Nesterov's look ahead, as torch.optim has it.

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
    """Running means of the gradient and its square, and of how many steps."""
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
    """Adam in the whitened spectrum: rings of frequency and independent colours move alike, less the finer they are.

    A change of parameters, to Fourier coefficients say, is only another metric for the step; so the image itself stays
    what is optimised. Afterwards its contrast is held, and each channel's mean drawn towards gray.

    Args:
        parameters: images, (N, C, H, W), of three channels in rgb; others are taken as independent as they are.
        gradient: of the loss, likewise.
        state: of the last step at this size.
        lr: root mean square of the step, in the parameters' units.
        exponent: of the frequency that the step falls off with.
        beta1: decay of the running mean of the gradient.
        beta2: decay of the running mean of its power in each ring.
        contrast: standard deviation of an image over its pixels and channels, at most; 0 for no bound.
        bound: distance from gray that no pixel passes; 0 for none.
        pull: share of the way to gray that the mean of each channel goes.
        floor: share of the strongest ring's power that every ring is taken to have, so that silence is not amplified.
    """
    size = parameters.shape[2], parameters.shape[3]
    if not state:
        rings = bands(size, 2, parameters).flatten(1)  # (K, H W')
        falloff = frequencies(size, parameters).clamp_min(1 / max(size)) ** -exponent  # (H, W')
        state = {"mean": 0.0, "power": 0.0, "count": 0, "rings": rings, "falloff": falloff}
    rings, falloff, count = state["rings"], state["falloff"], state["count"] + 1
    colors = basis(parameters) if parameters.shape[1] == 3 else None
    waves = torch.fft.rfft2(gradient)
    waves = waves if colors is None else mixed(waves, colors.T)  # (N, C, H, W'), along independent colours
    power = torch.addcmul(waves.real.square(), waves.imag, waves.imag)  # (N, C, H, W')
    power = power.flatten(2) @ rings.T / rings.sum(1)  # (N, C, K)
    mean = (1 - beta1) * waves if count == 1 else _between(state["mean"], waves, 1 - beta1)
    power = beta2 * state["power"] + (1 - beta2) * power
    whitening = (power + floor * power.amax((1, 2), keepdim=True)) / (1 - beta2**count)  # (N, C, K)
    whitening = whitening.clamp_min(TINY).rsqrt() @ rings  # (N, C, H W')
    scale = whitening.view(mean.shape).mul_(falloff)
    stepped = mean * scale
    step = torch.fft.irfft2(stepped if colors is None else mixed(stepped, colors), s=size)  # (N, C, H, W)
    size_of_step = torch.linalg.vector_norm(step, dim=(1, 2, 3), keepdim=True) / step[0].numel() ** 0.5  # (N, 1, 1, 1)
    # Laid out as the step: on a CPU, arithmetic between two layouts costs several times as much as changing one.
    moved = held(torch.addcmul(parameters.contiguous(), step, -lr / size_of_step.clamp_min(TINY)), contrast, pull)
    if bound:
        moved.clamp_(0.5 - bound, 0.5 + bound)
    moved = torch.empty_like(parameters).copy_(moved)  # in the parameters' own layout
    return moved, {**state, "mean": mean, "power": power, "count": count}


def _between(start: Tensor, end: Tensor, weight: float) -> Tensor:
    """`torch.lerp` of complex tensors, in a fifth of its time on a CPU."""
    return torch.view_as_complex(torch.lerp(torch.view_as_real(start), torch.view_as_real(end), weight))


def held(images: Tensor, contrast: float, pull: float) -> Tensor:
    """Images (N, C, H, W) about 0.5 whose contrast is bounded, and whose channels' means are drawn towards 0.5."""
    mean = images.mean((2, 3), keepdim=True)  # (N, C, 1, 1)
    centre = mean + pull * (0.5 - mean)
    if not contrast:
        return images - mean + centre
    overall = mean.mean(1, keepdim=True)  # (N, 1, 1, 1)
    norm = torch.linalg.vector_norm(images - overall, dim=(1, 2, 3), keepdim=True)  # several times as fast as `std`
    deviation = norm / (images[0].numel() - 1) ** 0.5
    factor = (contrast / deviation.clamp_min(TINY)).clamp_max(1)  # (N, 1, 1, 1)
    return torch.addcmul(centre - mean * factor, images, factor)


RULES: dict[str, Rule] = {"sgd": sgd, "adam": adam, "nadam": nadam, "spectral": spectral}


def moved_by(
    rule: Optimizer, parameters: Tensor, gradient: Tensor, state: OptimizerState, lr: float
) -> tuple[Tensor, OptimizerState]:
    """Parameters and state after one step of a rule."""
    if rule.function is not None:
        return _moved_by_own(rule, parameters, gradient, state, lr)
    return RULES[rule.name](parameters, gradient, state, lr=lr, **dict(rule.constants))


def _moved_by_own(
    rule: Optimizer, parameters: Tensor, gradient: Tensor, state: OptimizerState, lr: float
) -> tuple[Tensor, OptimizerState]:
    """The same by a rule of the user's own, which is asked for each image alone too, and twice, at the first step."""
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
                f"{word} gives {what}; a pair is needed: parameters {tuple(given[0].shape)}, and a dict to remember"
            )
        return moved[0].detach().to(parameters), moved[1]

    moved, new = move(len(parameters))
    if not state:
        if not torch.allclose(move(len(parameters))[0], moved, equal_nan=True):
            raise UsageError(f"{word} gives something else the second time: it draws chance or keeps state of its own")
        if not torch.allclose(move(1)[0], moved[:1], rtol=1e-3, atol=1e-5, equal_nan=True):
            raise UsageError(f"{word} looks at other images of the batch; let it move each image by its own gradient")
    return moved, new
