"""One forward pass of two noise images: the output of every module."""

import itertools
import re
from collections.abc import Mapping, MutableMapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from featlight.config.image_shape import ImageSize
from featlight.errors import one_line
from featlight.models.dimensions import ChannelTracker
from featlight.models.frozen import set_memory_format
from featlight.models.hooks import forward_hooks
from featlight.models.layer_info import part_suffix
from featlight.models.output_layout import ObservedOutput, parts
from featlight.models.probing.calls import meant_call, names_called, names_of
from featlight.models.probing.fixed_tokens import record_fixed
from featlight.models.probing.inputs import probe_images
from featlight.models.token_grid import FixedTokens
from featlight.param.image import MeanAndStd

# Names under which networks with several inputs keep the part that takes images
IMAGE_PARTS = ("vision_model", "visual", "vision_tower", "image_encoder", "vision_encoder", "model")
OTHER_INPUTS = {3: "sequences or audio, (N, C, L)", 5: "videos or volumes, (N, C, T, H, W)"}  # by dimensions
STILL = (
    ": give a module whose forward returns network(x.unsqueeze(2).repeat(1, 1, 8, 1, 1)), and a layer after the pools"
)
OTHER_INPUT_ERRORS = (TypeError, LookupError, AttributeError)  # before the first layer: an image is no valid input
WRAPPER = (
    "; if the network does not take one batch of images, give a module that holds it as self.network and whose "
    "forward(x) returns self.network(x, x) or self.network({'image': x}), with the network's own inputs"
)
CONVOLUTIONS: Mapping[type[nn.Module], int] = {nn.Conv1d: 3, nn.Conv2d: 4, nn.Conv3d: 5}
NEEDED = "(N, C, H, W), (N, T, C), (T, N, C) or (N, C)"


Part = tuple[str, ...]  # indices and keys in a structure
_Call = dict[Part, ObservedOutput]  # the output of one call, and each tensor in it


class ForwardPass(NamedTuple):
    """The result of one forward pass.

    Args:
        outputs: outputs by layer name, in the order in which the modules first ended.
        failure: error that ended the pass early; None if there was none.
        format: memory format of the images.
        fixed: tokens that do not depend on the image, by number of tokens.
    """

    outputs: dict[str, ObservedOutput]
    failure: str | None
    format: torch.memory_format
    fixed: Mapping[int, FixedTokens]


def run_probe(
    network: nn.Module,
    size: ImageSize,
    device: torch.device,
    dtype: torch.dtype,
    in_channels: int,
    pixels: MeanAndStd | None = None,
) -> ForwardPass:
    """Run two noise images through a network, channels last unless the network fails at that.

    Args:
        network: result of `frozen_copy`; its weights get the memory format of the images.
        size: size of the images in pixels.
        device: device of the network.
        dtype: precision of the network.
        in_channels: number of channels of the images.
        pixels: mean and std that images are normalized with.
    """
    images = probe_images(size, device, dtype, in_channels, pixels)  # (2, C, H, W)
    images = torch.stack([images[0], images[1].flip(-2, -1)])  # different images show which tokens depend on them
    result = _run(network, images, torch.channels_last)
    if result.failure is not None:
        result = _run(network, images, torch.contiguous_format)
    token_counts = {seen.shape[1] for seen in result.outputs.values() if seen.batch}
    if token_counts:  # another number of images shows whether their dimension is the second
        count = next(count for count in itertools.count(3) if count not in token_counts)
        others = _run(network, images[:1].expand(count, -1, -1, -1), result.format).outputs
        for name, seen in result.outputs.items():
            if seen.batch and (name not in others or not others[name].batch):
                text = ", ".join(map(str, (seen.shape[1], 2, seen.shape[2])))
                result.outputs[name] = seen._replace(refusal=f"it gives ({text}); {NEEDED} is needed")
    return result


def _run(network: nn.Module, images: Tensor, format: torch.memory_format) -> ForwardPass:
    set_memory_format(network, format)
    names = {module: module_names for module, module_names in names_of(network).items() if module_names != [""]}
    images = images.clone(memory_format=format)
    count = len(images)
    tracker = ChannelTracker(network)
    calls: dict[nn.Module, list[_Call]] = {}
    order: list[_Call] = []
    fixed: dict[int, FixedTokens] = {}
    producers: MutableMapping[Tensor, list[tuple[_Call, Part]]] = WeakTensorKeyDictionary()

    def record(module: nn.Module, inputs: Any, output: Any) -> None:
        _record_consumer(tracker, module, inputs, producers)
        call: _Call = {}
        calls.setdefault(module, []).append(call)
        order.append(call)
        record_fixed(fixed, [output])
        for part, value in [((), output), *parts(output)]:
            shape = tuple(value.shape) if isinstance(value, Tensor) else ()
            batch = int(len(shape) == 3 and shape[0] != count and shape[1] == count)
            refusal = _refusal(value, output, count, batch)
            by_kind, by_flow = None, None
            if len(shape) in (3, 4):
                by_kind = None if part else tracker.by_kind(module, value)
                by_flow = tracker.track(module, () if part else inputs, value)
                producers.setdefault(value, []).append((call, part))
            if batch:
                shape = (shape[1], shape[0], shape[2])
                by_kind, by_flow = (dimension if dimension == 2 else None for dimension in (by_kind, by_flow))
            call[part] = ObservedOutput(shape, refusal, by_kind, by_flow, 1, type(module).__name__, part, batch=batch)

    def record_inputs(_: nn.Module, *inputs: Any) -> None:
        record_fixed(fixed, inputs)

    failure = None
    before = [(module, record_inputs) for module in names]
    with forward_hooks([(module, record) for module in names], before), torch.no_grad():
        try:
            network(images.clone(memory_format=format))  # a network may write into its input
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:  # a network may raise anything at a size that it does not take
            failure = one_line(f"{type(error).__name__}: {error}", 300)
            failure += _advice(network) or (WRAPPER if not order and isinstance(error, OTHER_INPUT_ERRORS) else "")
    used_names = names_called(network, images)
    places = {id(call): place for place, call in enumerate(order)}
    outputs: list[tuple[int, str, ObservedOutput]] = []
    for module, module_names in names.items():
        module_calls = calls.get(module, [])
        for name in module_names if module_calls else ():
            meant = meant_call(name, module_names, used_names.get(module_names[0], []), len(module_calls))
            number = meant if isinstance(meant, int) else None
            call = module_calls[-1 if number is None else number - 1]
            place = places[id(module_calls[0] if number is None else call)]
            for part, seen in call.items():
                seen = seen._replace(calls=len(module_calls), call=number)
                seen = seen._replace(refusal=meant) if isinstance(meant, str) else seen
                outputs.append((place, name + part_suffix(part), seen))
    outputs.sort(key=itemgetter(0))
    return ForwardPass({name: seen for _, name, seen in outputs}, failure, format, fixed)


def _record_consumer(
    tracker: ChannelTracker, module: nn.Module, inputs: Any, producers: Mapping[Tensor, Sequence[tuple[_Call, Part]]]
) -> None:
    """Record the feature dimension of a module's input, which a norm fixes, with the call that produced it."""
    if inputs and isinstance(inputs[0], Tensor) and inputs[0].ndim in (3, 4):
        dimension = tracker.by_consumer(module, inputs[0])
        for call, part in producers.get(inputs[0], ()) if dimension is not None else ():
            if not call[part].batch or dimension == 2:
                call[part] = call[part]._replace(by_consumer=dimension)


def _advice(network: nn.Module) -> str:
    """Return advice that follows the error of a network that fails at images; "" if there is none."""
    first: dict[int, tuple[str, nn.Module]] = {}  # modules by the number of dimensions of their inputs
    for name, module in network.named_modules():
        dimensions = _input_dimensions(module)
        if dimensions is not None:
            first.setdefault(dimensions, (name, module))
    taken = 5 if 5 in first else 3 if 3 in first and 4 not in first else None
    if taken is None:
        return part_advice(network)
    name, module = first[taken]
    kind = f"a {type(module).__name__}" + (f" of {taken} dimensions" if hasattr(module, "pattern") else "")
    return (
        f"; {name!r} is {kind}: the network takes {OTHER_INPUTS[taken]}; featlight visualizes networks that take "
        f"images, (N, C, H, W){STILL if taken == 5 else ''}"
    )


def _input_dimensions(module: nn.Module) -> int | None:
    """Return the number of dimensions that a module's inputs need; None for modules that take several."""
    for kind, dimensions in CONVOLUTIONS.items():
        if isinstance(module, kind):
            return dimensions
    pattern = getattr(module, "pattern", None)  # of einops' layers, as in "b c (f pf) (h p1) (w p2) -> b ..."
    if not type(module).__module__.startswith("einops") or not isinstance(pattern, str) or "..." in pattern:
        return None
    dimensions = len(re.sub(r"\([^)]*\)", "group", pattern.partition("->")[0]).split())
    return dimensions if dimensions in (*OTHER_INPUTS, 4) else None


def part_advice(network: nn.Module) -> str:
    """Return advice to give a part that may take images instead of the whole network; "" if there is none."""
    for name in IMAGE_PARTS:
        part = getattr(network, name, None)
        if isinstance(part, nn.Module) and list(part.children()):
            return f"; its part {name!r} ({type(part).__name__}) may take images by itself: give network.{name}"
    return ""


def _refusal(output: Any, whole: Any, count: int, batch: int) -> str | None:
    if not isinstance(output, Tensor):
        suffixes = [part_suffix(part) for part, _ in parts(whole)]
        advice = f"; add a part to the layer's name: {', '.join(suffixes[:12])}" if suffixes else ""
        return f"it gives a {type(output).__name__}, not a tensor{advice}"
    kind = str(output.dtype).removeprefix("torch.")
    if output.is_complex():
        return f"it gives complex numbers ({kind}); real ones are needed"
    if not output.is_floating_point() or output.layout != torch.strided:
        kind = kind if output.layout == torch.strided else f"{kind}, {output.layout}".replace("torch.", "")
        return f"it gives numbers without a gradient ({kind}); a dense tensor of floats is needed"
    shape = tuple(output.shape)
    if not output.numel():
        return f"it gives no numbers: its output is empty, ({', '.join(map(str, shape))})"
    if output.ndim in (2, 3, 4) and shape[batch] == count:
        return None
    text = ", ".join(map(str, ("N", *shape[1:]) if shape and shape[0] == count else shape))
    if output.ndim in (2, 3, 4) and shape[0] > count and shape[0] % count == 0:
        return f"it gives ({text}) for {count} images: {shape[0] // count} windows or regions of each, not one map"
    return f"it gives ({text}); {NEEDED} is needed"
