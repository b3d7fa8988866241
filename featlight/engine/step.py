"""One gradient step of a batch of images, as pure functions.

    parameters, state, statistics = step(parameters, state, settings, model, objective, pipeline)

`step` composes `evaluate`, from parameters to scores, and `update`, from gradients to new parameters. The Lightning
module calls the two halves. Parameters are the images themselves, unless the recipe names another parameterization.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from featlight.config.image_shape import ImageSize
from featlight.config.optimizer import Optimizer
from featlight.config.recipe import Recipe, Regularizers, Step
from featlight.models.measured import MeasuredOutputs
from featlight.models.redirected import redirected_relus
from featlight.objectives.norm_statistics import statistics_distance
from featlight.objectives.objective import Scores
from featlight.objectives.penalties import departure, penalty
from featlight.optimizers import NEW, OptimizerState, apply_rule
from featlight.param.image import resize
from featlight.param.parameterization import Parameterization
from featlight.param.registry import parameterization_of
from featlight.transforms import RandomTransforms

__all__ = ["NEW", "OptimizerState", "RenderPipeline", "StepStatistics", "make_pipeline", "step"]

# images (N, C, H, W) to outputs (N, F, H', W') by layer
NetworkFunction = Callable[[Tensor], Mapping[str, Tensor]]
# outputs, and those of the caricatured image, to scores (N x boxes,)
ObjectiveFunction = Callable[..., Scores]


class StepStatistics(NamedTuple):
    """Statistics of one step."""

    activation: Tensor  # (N,), before the step
    gradient_norm: Tensor  # (N,), L2 norm of the gradient of each image


@dataclass(frozen=True)
class RenderPipeline:
    """A recipe, made ready for one batch: how parameters become views, and how they are updated.

    Args:
        parameterization: map from parameters to images.
        views: random transforms, from images to the network's input.
        optimizer: update rule.
        regularizers: weights of the penalties.
        lifts: whether the network has a GELU or SiLU whose gradient may be redirected; searching it each step is slow.
        reference: image to caricature, (1, C, H, W), in pixel units; None without one.
        start: function from height and width to the starting images, (N, C, H, W), in pixel units.
        stay: weight of the distance to the starting images.
    """

    parameterization: Parameterization
    views: RandomTransforms
    optimizer: Optimizer
    regularizers: Regularizers
    lifts: bool = True
    reference: Tensor | None = None
    start: Callable[[tuple[int, int]], Tensor] | None = None
    stay: float = 0.0

    def reference_outputs(
        self, model: NetworkFunction, images: Tensor, step: int | None
    ) -> tuple[Mapping[str, Tensor], ...]:
        """Return the network's outputs for the image to caricature, one copy per image; nothing without such an image.

        Args:
            model: frozen network.
            images: images of the batch, (N, C, H, W), whose size the image to caricature takes.
            step: number of the step whose transforms are applied; None for no transforms.
        """
        if self.reference is None:
            return ()
        with torch.no_grad():
            size = images.shape[2], images.shape[3]
            copies = resize(self.reference, size, antialias=True).expand(len(images), -1, -1, -1)  # (N, C, H, W)
            return (model(copies if step is None else self.views(copies, step)),)

    def in_fast_layout(self, parameters: Tensor, network: torch.memory_format) -> Tensor:
        """Return parameters in the fastest memory layout: the network's, if it sees them without transforms."""
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
    """Make a recipe ready for one batch.

    Args:
        recipe: recipe to follow.
        seeds: seed of the random transforms of each image.
        device: device of the images.
        has_place: whether the features have positions: whether their maps are larger than 1 x 1.
        lifts: whether the network has a GELU or SiLU.
        channels: number of channels of the images.
        views: input size of the network by image size, where the two differ.
    """
    transforms = recipe.transforms if has_place or recipe.object_transforms is None else recipe.object_transforms
    random_transforms = RandomTransforms(transforms, seeds, recipe.total_steps, device, views)
    parameterization = parameterization_of(recipe, channels)
    return RenderPipeline(parameterization, random_transforms, recipe.optimizer, recipe.regularizers, lifts)


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
    reference = pipeline.reference_outputs(model, images, settings.number)
    redirects = settings.redirected or (settings.lifted and pipeline.lifts)
    seen = f"the network fails at {views.shape[2]} x {views.shape[3]} px, the size of the views"
    with pipeline.views.in_a_line(seen), redirected_relus(settings.redirected) if redirects else nullcontext():
        outputs, moments = model.measured(views) if isinstance(model, MeasuredOutputs) else (model(views), [])
    scores = objective(outputs, *reference)
    loss, activation = (score.view(len(images), -1).mean(1) for score in scores[:2])  # over an image's boxes
    neurons = scores.neurons.view(len(images), -1)[:, 0] if isinstance(scores.neurons, Tensor) else scores.neurons
    weights = pipeline.regularizers
    if weights.of_pixels:
        loss = loss + penalty(images, weights)
    if weights.statistics:
        assert isinstance(model, MeasuredOutputs)
        unlike = statistics_distance(moments, model.targets, weights.statistics_early, pipeline.views.boxes)  # (N,)
        loss = loss + weights.statistics * neurons * unlike
    if pipeline.start is not None:
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
    moved, state = apply_rule(pipeline.optimizer, parameters, gradient, state, settings.lr)
    if settings.sigma is not None:
        moved = pipeline.parameterization.smoothed(moved, settings.sigma, settings.size)
    return moved, state


def gradient_size(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return the root mean square and the L2 norm of each image's gradient.

    Args:
        gradient: (N, ...).

    Returns:
        (N, 1, ...), 1 where the gradient is 0, and (N,). Both are exact even if the squares would underflow, as in
        random networks.
    """
    dimensions = tuple(range(1, gradient.ndim))
    peak = gradient.abs().amax(dimensions, keepdim=True)  # (N, 1, ...)
    safe = torch.where(peak == 0, 1, peak)  # not `peak > 0`: a NaN stays a NaN
    rms = safe * (gradient / safe).square().mean(dimensions, keepdim=True).sqrt()  # (N, 1, ...)
    norm = rms.flatten() * gradient[0].numel() ** 0.5  # (N,)
    return torch.where(rms == 0, 1, rms), norm
