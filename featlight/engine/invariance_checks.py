"""Checks of the network before the first step and after the last.

Before the first step, an image's output must not depend on the rest of the batch, on random numbers or on earlier
calls: otherwise tiles would depend on their order and on the number of workers. After the last step, the folded and
rewritten network must agree with the original on the final images.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from featlight.config.image_shape import ImageSize, both_sides
from featlight.config.named_starts import noise
from featlight.config.recipe import Recipe
from featlight.engine.device import is_out_of_memory
from featlight.engine.network_probe import NetworkProbe
from featlight.errors import UsageError, in_a_line
from featlight.models.copying import reachable
from featlight.models.prepared import PreparedNetwork
from featlight.objectives.own import OwnObjective
from featlight.param.registry import parameterization_of

Outputs = Mapping[str, Tensor]

# Rounding by the network's data type, relative to an image's largest value in a layer; feature by feature, relative to
# the feature's largest value plus a tenth of the layer's. Larger differences are accepted up to 32 times the effect of
# a change in the images' last digits, because a deep network may amplify these.
ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.1}
AMPLIFIED = 32
# Between batches of one size: on a CPU bits are equal (a few last digits are tolerated all the same), and
# a GPU may add in another order. Relative to the largest value; the first in units of the images' last digit.
STEADY, REORDERED = 4, 1e-4


def check_network(
    network: PreparedNetwork, layers: Sequence[str], size: ImageSize, batch_size: int, name: str, *, bounded: bool
) -> None:
    """Check the original network, in the run's precision, at all layers of a run.

    Args:
        network: prepared network.
        layers: names of the layers.
        size: size of the first octave's images, in pixels.
        batch_size: number of images optimized together.
        name: name of the network, for messages.
        bounded: whether the pixels of a run's images stay in [0, 1].

    Raises:
        UsageError: an image's output depends on something else than the image, or no gradient reaches the image.
    """
    extreme = _full_range if bounded else _out_of_range
    probe = NetworkProbe(network, layers, name)
    for count in sorted({max(3, batch_size), 3}, reverse=True):
        images = _batch(network, size, count, noise, neighbors=noise)
        try:
            outputs = _check_batches(probe, images, _batch(network, size, count, noise, neighbors=extreme))
            extremes = [_batch(network, size, 3, extreme, neighbors=kind) for kind in (noise, extreme)]
            _check_batches(probe, *extremes)
            probe.check_whole(torch.cat([images[:1], extremes[0][:1]]))
            single = _check_alone(probe, network, images, outputs, batch_size)
            probe.check_gradient(images[: 1 if single else 2])
        except Exception as error:  # out of memory: the run halves its batch for the same reason
            if not is_out_of_memory(error):
                raise
        else:
            return


Kind = Callable[[ImageSize, int, int], Tensor]  # from size, seed and number of channels to an image


def _batch(network: PreparedNetwork, size: ImageSize, count: int, kind: Kind, *, neighbors: Kind) -> Tensor:
    """Make a batch of two images to compare, first and last, with their neighbors in between.

    Args:
        network: network that takes the images.
        size: size of the images, in pixels.
        count: number of images.
        kind: kind of the first and the last image.
        neighbors: kind of the images in between.

    Returns:
        (count, C, H, W); the first and the last image do not depend on the neighbors.
    """
    made = [(kind, 0), *((neighbors, 2 + i) for i in range(count - 2)), (kind, 1)]
    images = [each(size, seed, network.in_channels) for each, seed in made]
    return torch.stack(images).to(network.device, network.image_dtype)


def _out_of_range(size: ImageSize, seed: int, channels: int) -> Tensor:
    """Draw an image with pixels in [-3, 4), as an unbounded run may reach, or ten times that for every other seed."""
    return (70 * noise(size, seed, channels) - 38) * (1 + 9 * (seed % 2))


def _full_range(size: ImageSize, seed: int, channels: int) -> Tensor:
    """Draw an image with pixels in [0, 1], or with 0 and 1 alone for every other seed."""
    image = (10 * noise(size, seed, channels) - 5).clamp(0, 1)
    return image.round() if seed % 2 else image


def _check_batches(probe: NetworkProbe, ours: Tensor, theirs: Tensor) -> Outputs:
    """Check that the first and the last image give the same in two batches, and in the first batch again."""
    first, other, again = probe.run(ours), probe.run(theirs), probe.run(ours)
    steady = STEADY * torch.finfo(ours.dtype).eps if ours.device.type == "cpu" else REORDERED
    for layer in probe.layers:
        if _differ(first[layer], again[layer], steady):
            probe.refuse_unsteady(layer, ours)
        if _differ(first[layer], other[layer], steady):
            where = probe.first_difference(ours, theirs)
            probe.refuse(layer, f"an image depends on its neighbors: beside others it gives another output{where}")
    return first


def _check_alone(probe: NetworkProbe, network: PreparedNetwork, images: Tensor, many: Outputs, batch_size: int) -> bool:
    """Check that an image gives the same alone as in a batch; return False if the network takes no single image."""
    try:
        one = probe.run(images[:1])
    except UsageError as error:
        if batch_size > 1:
            return False  # the run needs no single image
        raise UsageError(f"{error}; batch_size: 2 or more is needed (--batch-size 2)") from None
    for layer in probe.layers:
        alone, beside = one[layer][:1], many[layer][:1]
        if _differ(alone, beside, ROUNDING[network.dtype]):
            nudged = probe.run(_nudged(images, network.dtype))[layer][:1]
            if _difference(alone, beside) > AMPLIFIED * _difference(nudged, beside):
                probe.refuse(layer, "an image depends on its neighbors: alone it gives another output")
    return True


def check_function(
    function: OwnObjective, network: PreparedNetwork, layers: Sequence[str], size: ImageSize, batch_size: int
) -> None:
    """Check the user's own objective in the way of a network.

    Args:
        function: objective.
        network: prepared network, already checked.
        layers: names of the layers.
        size: size of the first octave's images, in pixels.
        batch_size: number of images optimized together.

    Raises:
        UsageError: an image's value depends on something else than the image, or no gradient reaches the image.
    """
    network_alone = network.original(layers)
    count = max(3, batch_size)
    images = _batch(network, size, count, noise, neighbors=noise).requires_grad_(True)
    ours = network_alone(images)
    with torch.no_grad():
        theirs = network_alone(_batch(network, size, count, noise, neighbors=_full_range))
    held = [each for each in reachable(function) if isinstance(each, Tensor) and each.layout == torch.strided]
    before = [each.detach().clone() for each in held]
    scores = function(ours)
    changed = [pair for pair in zip(held, before, strict=True) if not _equal(*pair)]
    with torch.no_grad():
        for each, kept in changed:
            each.copy_(kept)
    if changed:
        raise UsageError(f"{function.word} changes a tensor that it uses; put the networks that it calls in eval mode")
    reached = scores.loss.requires_grad
    with in_a_line(f"{function.word}: no gradient can be taken"):
        gradient = torch.autograd.grad(scores.loss.sum(), images, allow_unused=True)[0] if reached else None
    if gradient is None:
        raise UsageError(f"{function.word}: no gradient reaches the image from what it gives (a detach(), an argmax?)")
    with torch.no_grad():
        values = [function(each).loss for each in (ours, ours, theirs, {name: each[:1] for name, each in ours.items()})]
    first, again, beside, alone = (value.view(-1, 1) for value in values)
    if _differ(first, again, STEADY * torch.finfo(first.dtype).eps):
        raise UsageError(
            f"{function.word} gives something else the second time: it draws random numbers or keeps state"
        )
    ends = [0, -1]
    near = _differ(first[ends], beside[ends], ROUNDING[network.dtype])
    if near or _differ(first[:1], alone, ROUNDING[network.dtype]):
        raise UsageError(
            f"{function.word} looks at other images of the batch: beside others, an image gets another number; "
            "let it compute each image by itself"
        )


def check_parameterization(recipe: Recipe, channels: int) -> None:
    """Check the user's own parameterization at every size of a recipe, for a single image and for a batch.

    Raises:
        UsageError: the parameterization fails, returns no images, mixes them, or passes no gradient.
    """
    assert isinstance(recipe.parameterization, type)
    word = f"parameterization: {recipe.parameterization.__name__}"
    with in_a_line(f"{word} fails"):
        made = parameterization_of(recipe, channels)
        old = both_sides(recipe.first_size)
        if made.range == "unbounded":
            parameters = made.of(torch.stack([noise(recipe.first_size, seed, channels) for seed in range(3)]))
        else:
            generators = (torch.Generator("cpu").manual_seed(seed) for seed in range(3))
            parameters = torch.stack([made.noise(old, generator) for generator in generators])
        for octave in recipe.octaves:
            size = both_sides(octave.size)
            parameters = made.resized(parameters, old, size) if size != old else parameters
            old, parameters = size, parameters.detach().requires_grad_(True)
            images: object = made.image(parameters, size)
            if not isinstance(images, Tensor) or images.shape != (3, channels, *size):
                what = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
                raise UsageError(
                    f"{word} gives {what} for three images; (3, {channels}, {size[0]}, {size[1]}) is needed"
                )
            if not images.requires_grad:
                raise UsageError(f"{word}: no gradient reaches its parameters from the images")
            torch.autograd.grad(images.sum(), parameters)
            alone, again = made.image(parameters[:1], size), made.image(parameters, size)
            if _differ(images[:1], alone, ROUNDING[torch.float32]) or not torch.equal(images, again):
                raise UsageError(f"{word} mixes the images of a batch, draws random numbers or keeps state")


def check_final(
    network: PreparedNetwork, images: Tensor, ours: Outputs, theirs: Outputs, features: Mapping[str, Collection[int]]
) -> str | None:
    """Return the first layer at which the optimized network differs from the original; None if they agree.

    Args:
        network: prepared network.
        images: final images, (N, C, H, W); images that are not finite have failed and are ignored.
        ours: outputs of the optimized network, by layer.
        theirs: outputs of the original network, by layer.
        features: visualized features of each layer; all features of a layer that is missing.
    """
    nudged: Outputs | None = None
    finite = images.isfinite().flatten(1).all(1)  # (N,)
    for layer, output in theirs.items():
        chosen = list(features.get(layer, range(output.shape[1])))
        difference = _distance(ours[layer][:, chosen], output[:, chosen])[finite]  # (M, F)
        each = output[:, chosen].abs().amax((2, 3))[finite]  # (M, F)
        every = output.abs().amax((1, 2, 3))[finite, None]  # (M, 1)
        tolerance = ROUNDING[network.dtype]
        suspect = ~(difference <= tolerance * (each + every / 10))
        if not suspect.any():
            continue
        if nudged is None:
            nudged = network.original(tuple(theirs))(_nudged(images, network.dtype))
        amplified = _distance(nudged[layer], output).amax(1)[finite, None]  # (M, 1)
        if (suspect & ~(difference <= AMPLIFIED * amplified)).any():
            return layer
    return None


def _equal(ours: Tensor, theirs: Tensor) -> bool:
    return torch.equal(ours.nan_to_num(), theirs.nan_to_num())


def _nudged(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Change the last digits of images, in a network's data type, and keep each image in its range."""
    generator = torch.Generator("cpu").manual_seed(0)
    draw = torch.rand(images.shape, generator=generator, dtype=torch.float32, device="cpu") * 2 - 1
    nudged = images * (1 + 2 * torch.finfo(dtype).eps * draw.to(images))
    return nudged.clamp(images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True))


def _differ(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    """Return whether an image's outputs (N, ...) differ by more than a fraction of its largest value."""
    pairs = zip(ours, theirs, strict=True)
    return any(bool(_difference(one, other) > tolerance * other.nan_to_num().abs().amax()) for one, other in pairs)


def _difference(ours: Tensor, theirs: Tensor) -> Tensor:
    return _absolute_difference(ours, theirs).amax()


def _distance(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return the largest difference of each feature's maps, (N, F, H, W) to (N, F)."""
    return _absolute_difference(ours, theirs).amax((2, 3))


def _absolute_difference(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return the absolute differences; two NaNs, and two equal infinities, count as equal."""
    equal = (ours == theirs) | (ours.isnan() & theirs.isnan())
    return torch.where(equal, 0, (ours - theirs).abs()).nan_to_num(torch.inf)
