"""Whether a picture can be what it says: asked of the network before the first step, and of the images after the last.

Before: an image must not depend on its neighbours, on chance or on earlier calls, or its picture shows something else,
and other bits come with another order or number of workers. After: what was descended, folded and rewritten, must be
the network as it was given, on the very images that it has led to.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from featlight.config.inputs.sizes import ImageSize, both_sides
from featlight.config.recipe import Recipe
from featlight.engine.device import is_out_of_memory
from featlight.engine.network_probe import NetworkProbe
from featlight.errors import UsageError, in_a_line
from featlight.models.copying import reachable
from featlight.models.prepared import PreparedNetwork
from featlight.objectives.own import OwnObjective
from featlight.param.image import noise
from featlight.param.registry import parameterization_of

Outputs = Mapping[str, Tensor]

# By the network's type, what still counts as rounding: of the largest value that an image gives in a layer; feature by
# feature, of that feature's largest, and a tenth of it of the layer's. Beyond that, 32 times what a change of the
# images' last digits does: a deep network may amplify these.
ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.1}
AMPLIFIED = 32
# Between equal numbers of images: on a CPU bits are equal (the last digit is given away all the same: a refusal must be
# sure), and a GPU may add in another order.
STEADY, REORDERED = 4, 1e-4  # of the largest value, the first times the images' last digit


def check_network(
    network: PreparedNetwork, layers: Sequence[str], size: ImageSize, batch_size: int, name: str, *, bounded: bool
) -> None:
    """Ask the network, as it was given and in the run's precision, for all layers of a run.

    Args:
        network: prepared.
        layers: by name.
        size: of the first octave's images, in pixels.
        batch_size: images that are to be optimised together.
        name: of the network, for messages.
        bounded: whether the pixels of a run's images stay in [0, 1].

    Raises:
        UsageError: what an image gives depends on something else, or no gradient reaches it.
    """
    extreme = _full_range if bounded else _far
    probe = NetworkProbe(network, layers, name)
    for company in sorted({max(3, batch_size), 3}, reverse=True):
        images = _company(network, size, company, noise, beside=noise)
        try:
            asked = _check_company(probe, images, _company(network, size, company, noise, beside=extreme))
            far = [_company(network, size, 3, extreme, beside=kind) for kind in (noise, extreme)]
            _check_company(probe, *far)
            probe.check_whole(torch.cat([images[:1], far[0][:1]]))
            single = _check_alone(probe, network, images, asked, batch_size)
            probe.check_gradient(images[: 1 if single else 2])
        except Exception as error:  # of memory: the descent meets it again, with fewer images at a time
            if not is_out_of_memory(error):
                raise
        else:
            return


Kind = Callable[[ImageSize, int, int], Tensor]  # from size, seed and number of channels to an image


def _company(network: PreparedNetwork, size: ImageSize, count: int, kind: Kind, *, beside: Kind) -> Tensor:
    """Two images to ask for, and between them their neighbours.

    Args:
        network: that is to be asked.
        size: in pixels.
        count: of images.
        kind: of the first and the last.
        beside: kind of the neighbours.

    Returns:
        (count, C, H, W); the first and the last are the same whatever the neighbours.
    """
    made = [(kind, 0), *((beside, 2 + i) for i in range(count - 2)), (kind, 1)]
    images = [each(size, seed, network.in_channels) for each, seed in made]
    return torch.stack(images).to(network.device, network.image_dtype)


def _far(size: ImageSize, seed: int, channels: int) -> Tensor:
    """An image as a descent may end, or further out: pixels in [-3, 4), or ten times that for every other seed."""
    return (70 * noise(size, seed, channels) - 38) * (1 + 9 * (seed % 2))


def _full_range(size: ImageSize, seed: int, channels: int) -> Tensor:
    """An image of all pixels in [0, 1], or of 0 and 1 alone for every other seed."""
    image = (10 * noise(size, seed, channels) - 5).clamp(0, 1)
    return image.round() if seed % 2 else image


def _check_company(probe: NetworkProbe, ours: Tensor, theirs: Tensor) -> Outputs:
    """The first and the last image beside others, beside again others, and beside the first ones again."""
    first, other, again = probe.ask(ours), probe.ask(theirs), probe.ask(ours)
    steady = STEADY * torch.finfo(ours.dtype).eps if ours.device.type == "cpu" else REORDERED
    for layer in probe.layers:
        if _differ(first[layer], again[layer], steady):
            probe.refuse_unsteady(layer, ours)
        if _differ(first[layer], other[layer], steady):
            where = probe.first_difference(ours, theirs)
            probe.refuse(layer, f"an image depends on its neighbours: beside others it gives something else{where}")
    return first


def _check_alone(probe: NetworkProbe, network: PreparedNetwork, images: Tensor, many: Outputs, batch_size: int) -> bool:
    """Whether an image alone gives what it gives beside others; False where the network takes none alone."""
    try:
        one = probe.ask(images[:1])
    except UsageError as error:
        if batch_size > 1:
            return False  # nobody asks for it
        raise UsageError(f"{error}; batch_size: 2 or more is needed (--batch-size 2)") from None
    for layer in probe.layers:
        alone, beside = one[layer][:1], many[layer][:1]
        if _differ(alone, beside, ROUNDING[network.dtype]):
            nudged = probe.ask(_nudged(images, network.dtype))[layer][:1]
            if _difference(alone, beside) > AMPLIFIED * _difference(nudged, beside):
                probe.refuse(layer, "an image depends on its neighbours: alone it gives something else")
    return True


def check_function(
    function: OwnObjective, network: PreparedNetwork, layers: Sequence[str], size: ImageSize, batch_size: int
) -> None:
    """Ask an objective of the user's own as a network is asked.

    Args:
        function: the objective.
        network: prepared, and checked.
        layers: by name.
        size: of the first octave's images, in pixels.
        batch_size: images that are to be optimised together.

    Raises:
        UsageError: what it gives for an image depends on something else, or no gradient reaches the image.
    """
    network_alone = network.original(layers)
    count = max(3, batch_size)
    images = _company(network, size, count, noise, beside=noise).requires_grad_(True)
    ours = network_alone(images)
    with torch.no_grad():
        theirs = network_alone(_company(network, size, count, noise, beside=_full_range))
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
    if not reached or torch.autograd.grad(scores.loss.sum(), images, allow_unused=True)[0] is None:
        raise UsageError(f"{function.word}: no gradient reaches the image from what it gives (a detach(), an argmax?)")
    with torch.no_grad():
        values = [function(each).loss for each in (ours, ours, theirs, {name: each[:1] for name, each in ours.items()})]
    first, again, beside, alone = (value.view(-1, 1) for value in values)
    if _differ(first, again, STEADY * torch.finfo(first.dtype).eps):
        raise UsageError(f"{function.word} gives something else the second time: it draws chance or keeps state")
    ends = [0, -1]
    near = _differ(first[ends], beside[ends], ROUNDING[network.dtype])
    if near or _differ(first[:1], alone, ROUNDING[network.dtype]):
        raise UsageError(
            f"{function.word} looks at other images of the batch: beside others, an image gets another number; "
            "let it compute each image by itself"
        )


def check_parameterization(recipe: Recipe, channels: int) -> None:
    """Ask a parameterization of the user's own for images at every size of a recipe, alone and beside others.

    Raises:
        UsageError: it fails, gives no images, mixes them, or lets no gradient through.
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
                raise UsageError(f"{word} mixes the images of a batch, draws chance or keeps state")


def check_final(
    network: PreparedNetwork, images: Tensor, ours: Outputs, theirs: Outputs, features: Mapping[str, Collection[int]]
) -> str | None:
    """The first layer of which the network as it ran gives something else than as it was given; None for none.

    Args:
        network: prepared.
        images: that a descent has led to, (N, C, H, W); those that are not finite have failed and are left out.
        ours: outputs of the network as it ran, by layer.
        theirs: outputs of the network as it was given.
        features: by layer, those that were looked for; all of a layer that is not among them.
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
    """The images with other last digits, as a network of that type takes them, and each in its own range."""
    generator = torch.Generator("cpu").manual_seed(0)
    draw = torch.rand(images.shape, generator=generator, dtype=torch.float32, device="cpu") * 2 - 1
    nudged = images * (1 + 2 * torch.finfo(dtype).eps * draw.to(images))
    return nudged.clamp(images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True))


def _differ(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    """Whether some image's outputs (N, ...) differ by more than so much of its largest value."""
    pairs = zip(ours, theirs, strict=True)
    return any(bool(_difference(one, other) > tolerance * other.nan_to_num().abs().amax()) for one, other in pairs)


def _difference(ours: Tensor, theirs: Tensor) -> Tensor:
    return _apart(ours, theirs).amax()


def _distance(ours: Tensor, theirs: Tensor) -> Tensor:
    """The largest difference of each feature's maps, (N, F, H, W) to (N, F)."""
    return _apart(ours, theirs).amax((2, 3))


def _apart(ours: Tensor, theirs: Tensor) -> Tensor:
    """How far each value is off; two NaNs, and two equal infinities, are not."""
    equal = (ours == theirs) | (ours.isnan() & theirs.isnan())
    return torch.where(equal, 0, (ours - theirs).abs()).nan_to_num(torch.inf)
