"""One gradient step of a batch of images, as pure functions; the Lightning module is a shell around them.

    parameters, state, statistics = step(parameters, state, settings, model, objective, pipeline)

Parameters are the image tensor itself unless the recipe says otherwise. What an optimizer remembers from step to step
is its state.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from featlight.config.inputs.sizes import ImageSize
from featlight.config.optimizer import Optimizer
from featlight.config.recipe import Recipe, Regularizers, Step
from featlight.models.redirected import redirected_relus
from featlight.objectives.objective import Scores
from featlight.objectives.penalties import departure, penalty
from featlight.optimizers import NEW, OptimizerState, moved_by
from featlight.param.image import resize
from featlight.param.parameterization import Parameterization
from featlight.param.registry import parameterization_of
from featlight.transforms import RandomTransforms

__all__ = ["NEW", "OptimizerState", "RenderPipeline", "StepStatistics", "make_pipeline", "step"]

NetworkFunction = Callable[[Tensor], Mapping[str, Tensor]]  # images (N, C, H, W) to outputs (N, F, H', W') by layer
ObjectiveFunction = Callable[
    ..., Scores
]  # these outputs, and those of a guide, to losses and activations, (N x boxes,)


class StepStatistics(NamedTuple):
    """Of a step."""

    activation: Tensor  # (N,), before it
    gradient_norm: Tensor  # (N,), L2 norm of the gradient of each image


@dataclass(frozen=True)
class RenderPipeline:
    """How parameters become what the network sees, and how they move: a recipe put to work for one batch.

    Args:
        parameterization: from parameters to images.
        views: from images to what each step looks at.
        optimizer: the rule of descent.
        regularizers: what images pay for besides their objective.
        lifts: whether the network has a GELU or SiLU that could be lifted; to look for them at every step takes time.
        guide: the image that images are caricatures of, (1, C, H, W), in pixel units; None where they are none.
        start: by height and width, the images that they are to stay near, (N, C, H, W), in pixel units.
        stay: what they pay for leaving these.
    """

    parameterization: Parameterization
    views: RandomTransforms
    optimizer: Optimizer
    regularizers: Regularizers
    lifts: bool = True
    guide: Tensor | None = None
    start: Callable[[tuple[int, int]], Tensor] | None = None
    stay: float = 0.0

    def guided(
        self, model: NetworkFunction, size: tuple[int, int], count: int, step: int | None
    ) -> tuple[Mapping[str, Tensor], ...]:
        """What the network gives of the guide, seen as each of so many images is; nothing where there is none.

        Args:
            model: the network.
            size: height and width of the images.
            count: of them.
            step: whose views are taken; None for the images as they are.
        """
        if self.guide is None:
            return ()
        with torch.no_grad():
            images = resize(self.guide, size, antialias=True).expand(count, -1, -1, -1)  # (N, C, H, W)
            return (model(images if step is None else self.views(images, step)),)

    def laid_out(self, parameters: Tensor, network: torch.memory_format) -> Tensor:
        """Parameters as their steps are fastest: laid out for the network where it is shown them as they are."""
        if parameters.ndim != 4:
            return parameters
        return parameters.contiguous(memory_format=torch.contiguous_format if self.views.sampled else network)


def make_pipeline(
    recipe: Recipe,
    seeds: Sequence[int],
    device: torch.device,
    *,
    has_place: bool = True,
    lifts: bool = True,
    channels: int = 3,
    views: Mapping[ImageSize, ImageSize] | None = None,
) -> RenderPipeline:
    """A recipe put to work.

    Args:
        recipe: to follow.
        seeds: of each image.
        device: of the images.
        channels: of the images.
        views: by size of the images, that at which the network is to see them; else as they are.
        has_place: whether the features stand somewhere in an image: whether their maps have more than one position.
        lifts: whether the network has a GELU or SiLU.
    """
    transforms = recipe.transforms if has_place or recipe.object_transforms is None else recipe.object_transforms
    looks = RandomTransforms(transforms, seeds, recipe.total_steps, device, views)
    return RenderPipeline(parameterization_of(recipe, channels), looks, recipe.optimizer, recipe.regularizers, lifts)


def step(
    parameters: Tensor,
    state: OptimizerState,
    settings: Step,
    model: NetworkFunction,
    objective: ObjectiveFunction,
    pipeline: RenderPipeline,
) -> tuple[Tensor, OptimizerState, StepStatistics]:
    """Take one step: `evaluate`, the gradient, `update`. The arguments are not changed.

    Args:
        parameters: parameters of the images: the images themselves, (N, C, H, W), unless the recipe names others.
        state: state of the optimizer.
        settings: number, size, learning rate and blur of the step, and the rule for its gradient.
        model: frozen network, cut behind the objective's layers.
        objective: loss and activation of each view.
        pipeline: recipe, made ready for this batch.

    Returns:
        The new parameters, the new state, and the step's statistics.
    """
    parameters = parameters.detach().requires_grad_(True)
    images, scores = evaluate(parameters, settings, model, objective, pipeline)
    scores.loss.sum().backward(inputs=[parameters])  # type: ignore[no-untyped-call]  # a mean would depend on N
    assert parameters.grad is not None
    assert images.grad is not None
    statistics = StepStatistics(scores.activation, gradient_size(images.grad)[1])
    return *update(parameters.detach(), parameters.grad, state, settings, pipeline), statistics


def evaluate(
    parameters: Tensor, settings: Step, model: NetworkFunction, objective: ObjectiveFunction, pipeline: RenderPipeline
) -> tuple[Tensor, Scores]:
    """Decode parameters to images and score them: the first half of a step, up to the gradient.

    Returns:
        The images, (N, C, H, W), which keep their gradient, and the scores of each, (N,).
    """
    images = pipeline.parameterization.image(parameters, settings.size)
    if images is not parameters:
        images.retain_grad()
    views = pipeline.views(images, settings.number)
    guide = pipeline.guided(model, (images.shape[2], images.shape[3]), len(images), settings.number)
    redirects = settings.redirected or (settings.lifted and pipeline.lifts)
    with redirected_relus(settings.redirected) if redirects else nullcontext():
        outputs = model(views)
    scores = objective(outputs, *guide)
    loss, activation = (score.view(len(images), -1).mean(1) for score in scores[:2])  # over an image's boxes
    if pipeline.regularizers:
        loss = loss + penalty(images, pipeline.regularizers)
    if pipeline.start is not None:
        neurons = scores.neurons.view(len(images), -1)[:, 0] if isinstance(scores.neurons, Tensor) else scores.neurons
        away = departure(images, pipeline.start((images.shape[2], images.shape[3])))  # (N,)
        loss = loss + pipeline.stay * neurons * away
    return images, Scores(loss, activation)


def update(
    parameters: Tensor, gradient: Tensor, state: OptimizerState, settings: Step, pipeline: RenderPipeline
) -> tuple[Tensor, OptimizerState]:
    """Normalize the gradient, move by the optimizer's rule, then blur: the second half of a step.

    The blur is the article's smoothness prior.

    Args:
        parameters: parameters before the step, (N, ...).
        gradient: gradient of each image's own loss.
        state: state of the optimizer.
        settings: learning rate and blur of the step, and the rule for its gradient.
        pipeline: recipe, made ready for this batch.

    Returns:
        The new parameters and the new state.
    """
    if settings.gradient == "rms":
        gradient = gradient / gradient_size(gradient)[0]
    moved, state = moved_by(pipeline.optimizer, parameters, gradient, state, settings.lr)
    if settings.sigma is not None:
        moved = pipeline.parameterization.smoothed(moved, settings.sigma, settings.size)
    return moved, state


def gradient_size(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Root mean square, 1 where there is no gradient, and L2 norm of each image's gradient.

    Args:
        gradient: (N, ...).

    Returns:
        (N, 1, ...) and (N,). Both are exact for gradients whose squares would underflow, as in random networks.
    """
    dimensions = tuple(range(1, gradient.ndim))
    peak = gradient.abs().amax(dimensions, keepdim=True)  # (N, 1, ...)
    safe = torch.where(peak == 0, 1, peak)  # not `peak > 0`: a NaN stays a NaN
    rms = safe * (gradient / safe).square().mean(dimensions, keepdim=True).sqrt()  # (N, 1, ...)
    norm = rms.flatten() * gradient[0].numel() ** 0.5  # (N,)
    return torch.where(rms == 0, 1, rms), norm
