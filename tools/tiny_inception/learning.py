"""What the training minimises, as functions of the network and its pictures."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMOOTHING = 0.05  # of the labels
WAKE_MARGIN = 0.2  # in standard deviations of a feature before its ReLU


def attack(network: nn.Module, images: Tensor, labels: Tensor, radius: Tensor) -> Tensor:
    """Moves each picture by a given distance towards more loss, in one step.

    Training on these makes the gradient with respect to the pixels follow shapes that people see.
    Source: Goodfellow et al. 2015 (fast gradient), Engstrom et al. 2019 (what robust gradients look like).

    Args:
        network: pictures to class scores.
        images: pictures in [0, 1], shape (B, 3, H, W).
        labels: class indices, shape (B,).
        radius: length of the step per picture, L2 norm in pixel units, shape (B,).

    Returns:
        Pictures in [0, 1] of shape (B, 3, H, W).
    """
    images = images.detach().requires_grad_()
    loss = F.cross_entropy(network(images).float(), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, images)  # (B, 3, H, W)
    direction = F.normalize(gradient.flatten(1), dim=1).view_as(images)
    return (images.detach() + direction * radius.view(-1, 1, 1, 1)).clamp(0, 1)


def gray_noise(count: int, side: int, generator: torch.Generator) -> Tensor:
    """Uniform noise in [0.5, 0.6), where feature visualization starts, shape (B, 3, side, side)."""
    return torch.rand(count, 3, side, side, generator=generator) / 10 + 0.5


def wake_penalty(network: nn.Module, noise: Tensor) -> Tensor:
    """How far features are from answering anywhere in the middle of gray noise: 0 when all of them do.

    A feature that is zero everywhere on the starting picture gets no gradient from it and stays gray.

    Args:
        network: a network whose ReLUs follow its batch normalisations; left in the mode it was in.
        noise: starting pictures of shape (B, 3, H, W).

    Returns:
        The mean shortfall below the margin, a scalar.
    """
    shortfalls: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        inner = output[..., 1:-1, 1:-1] if output.shape[-1] > 4 else output  # borders see the padding
        shortfalls.append(F.relu(WAKE_MARGIN - inner.amax((2, 3))).mean(0))  # (C,)

    training = network.training
    network.eval()
    handles = [m.register_forward_hook(keep) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    try:
        network(noise)
    finally:
        for handle in handles:
            handle.remove()
        network.train(training)
    return torch.cat(shortfalls).mean()


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Moves the running average of the weights and statistics towards the network's."""
    theirs = network.state_dict()
    for name, mine in average.state_dict().items():
        if mine.is_floating_point():
            mine.lerp_(theirs[name], 1 - decay)
        else:
            mine.copy_(theirs[name])


@torch.no_grad()
def correct(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Which pictures the network, in eval mode, names rightly, bool of shape (B,)."""
    named = [network(part).argmax(1) for part in torch.split(images, 128)]
    return torch.cat(named) == labels
