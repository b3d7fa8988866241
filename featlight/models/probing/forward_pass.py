"""One look at a network: what every module gives where two images of noise run through it."""

import itertools
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from featlight.config.inputs.sizes import ImageSize
from featlight.models.dimensions import ChannelTracker
from featlight.models.frozen import lay_out
from featlight.models.hooks import forward_hooks
from featlight.models.layer_info import part_words
from featlight.models.outputs.output_layout import ObservedOutput
from featlight.models.outputs.structure import parts
from featlight.models.probing.calls import meant_call, names_called, names_of
from featlight.param.image import MeanAndStd, noise, normalized

# Names under which networks of more than images keep the part that takes these
IMAGE_PARTS = ("vision_model", "visual", "vision_tower", "image_encoder", "vision_encoder", "model")
NEEDED = "(N, C, H, W), (N, T, C), (T, N, C) or (N, C)"


Part = tuple[str, ...]  # indices and keys in a structure
_Call = dict[Part, ObservedOutput]  # what one call gave, and each tensor in that


class ForwardPass(NamedTuple):
    """Two images of one size, run through a network."""

    seen: dict[str, ObservedOutput]  # by name, in the order in which they first ended
    failure: str | None
    format: torch.memory_format


def run_probe(
    network: nn.Module,
    size: ImageSize,
    device: torch.device,
    dtype: torch.dtype,
    in_channels: int,
    pixels: MeanAndStd | None = None,
) -> ForwardPass:
    """Run two images of noise through a network, channels last unless it cannot take them so.

    Args:
        network: as `frozen_copy` gives it; its weights are laid out as its images.
        size: of the images, in pixels.
        device: of the network.
        dtype: of the network.
        in_channels: of the images.
        pixels: mean and std that images are normalized with.
    """
    images = normalized(noise(size, 0, in_channels).expand(2, -1, -1, -1).to(device, dtype), pixels)  # (2, C, H, W)
    found = _run(network, images, torch.channels_last)
    found = found if found.failure is None else _run(network, images, torch.contiguous_format)
    tokens = {seen.output[1] for seen in found.seen.values() if seen.batch}
    if tokens:  # is it the images that stand second? With another number of them, it shows
        count = next(count for count in itertools.count(3) if count not in tokens)
        others = _run(network, images[:1].expand(count, -1, -1, -1), found.format).seen
        for name, seen in found.seen.items():
            if seen.batch and (name not in others or not others[name].batch):
                text = ", ".join(map(str, (seen.output[1], 2, seen.output[2])))
                found.seen[name] = seen._replace(refusal=f"it gives ({text}); {NEEDED} is needed")
    return found


def _run(network: nn.Module, images: Tensor, format: torch.memory_format) -> ForwardPass:
    lay_out(network, format)
    names = {module: every for module, every in names_of(network).items() if every != [""]}
    images = images.clone(memory_format=format)
    flow = ChannelTracker(network)
    calls: dict[nn.Module, list[_Call]] = {}
    makers: MutableMapping[Tensor, list[tuple[_Call, Part]]] = WeakTensorKeyDictionary()  # what gave a tensor

    def look(module: nn.Module, given: Any, output: Any) -> None:
        _note_taker(flow, module, given, makers)
        call: _Call = {}
        calls.setdefault(module, []).append(call)
        order.append(call)
        for part, value in _parts(output):
            shape = tuple(value.shape) if isinstance(value, Tensor) else ()
            batch = int(len(shape) == 3 and shape[0] != count and shape[1] == count)
            refusal = _refusal(value, output, count, batch)
            told: tuple[int | None, int | None] = (None, None)
            if len(shape) in (3, 4):
                told = (None if part else flow.kind(module, value), flow.note(module, () if part else given, value))
                makers.setdefault(value, []).append((call, part))
            if batch:
                shape = (shape[1], shape[0], shape[2])
                told = (told[0] if told[0] == 2 else None, told[1] if told[1] == 2 else None)
            call[part] = ObservedOutput(shape, refusal, *told, 1, type(module).__name__, part, batch=batch)

    count = len(images)
    order: list[_Call] = []
    failure = None
    with forward_hooks([(module, look) for module in names]), torch.no_grad():
        try:
            network(images.clone(memory_format=format))  # a network may write into its input
        except (Exception, SystemExit) as error:  # a network may raise anything at a size that it does not take
            failure = " ".join(f"{type(error).__name__}: {error}".split())[:300] + _advice(network)
    went_by = names_called(network, images)
    places = {id(call): place for place, call in enumerate(order)}
    found: list[tuple[int, str, ObservedOutput]] = []
    for module, every in names.items():
        made, went = calls.get(module, []), went_by.get(every[0], [])
        for name in every if made else ():
            meant = meant_call(name, every, went, len(made))
            call = made[meant - 1 if isinstance(meant, int) else -1]
            first = call if isinstance(meant, int) else made[0]
            for part, seen in call.items():
                seen = seen._replace(calls=len(made), call=meant if isinstance(meant, int) else None)
                seen = seen._replace(refusal=meant) if isinstance(meant, str) else seen
                found.append((places[id(first)], name + part_words(part), seen))
    found.sort(key=itemgetter(0))
    return ForwardPass({name: seen for _, name, seen in found}, failure, format)


def _parts(output: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """What a module gives, and each tensor in it where it is a structure."""
    yield (), output
    yield from parts(output)


def _note_taker(
    flow: ChannelTracker, module: nn.Module, given: Any, makers: Mapping[Tensor, Sequence[tuple[_Call, Part]]]
) -> None:
    """A norm, say, knows the dimensions of what it takes."""
    if given and isinstance(given[0], Tensor) and given[0].ndim in (3, 4):
        taken = flow.taken(module, given[0])
        for call, part in makers.get(given[0], ()) if taken is not None else ():
            if not call[part].batch or taken == 2:
                call[part] = call[part]._replace(taker=taken)


def _advice(network: nn.Module) -> str:
    """What to try where a network fails at images, in words that follow its error."""
    deep = next((name for name, each in network.named_modules() if isinstance(each, nn.Conv3d)), None)
    if deep is not None:
        return (
            f"; {deep!r} is a Conv3d: the network takes videos or volumes, (N, C, T, H, W), and its maps have "
            "a dimension more; featlight shows networks of images, (N, C, H, W)"
        )
    return part_advice(network)


def part_advice(network: nn.Module) -> str:
    """Which part of a network may take images where the whole shows no layer."""
    for name in IMAGE_PARTS:
        part = getattr(network, name, None)
        if isinstance(part, nn.Module) and list(part.children()):
            return f"; its part {name!r} ({type(part).__name__}) may take images by itself: give network.{name}"
    return ""


def _refusal(output: Any, whole: Any, count: int, batch: int) -> str | None:
    if not isinstance(output, Tensor):
        found = [part_words(part) for part, _ in parts(whole)]
        names = f"; say which part, after the layer's name: {', '.join(found[:12])}" if found else ""
        return f"it gives a {type(output).__name__}, not a tensor{names}"
    kind = str(output.dtype).removeprefix("torch.")
    if output.is_complex():
        return f"it gives complex numbers ({kind}); real ones are needed"
    if not output.is_floating_point() or output.layout != torch.strided:
        what = kind if output.layout == torch.strided else f"{kind}, {output.layout}".replace("torch.", "")
        return f"it gives numbers without a gradient ({what}); a dense tensor of floats is needed"
    shape = tuple(output.shape)
    if not output.numel():
        return f"it gives no numbers: its output is empty, ({', '.join(map(str, shape))})"
    if output.ndim in (2, 3, 4) and shape[batch] == count:
        return None
    text = ", ".join(map(str, ("N", *shape[1:]) if shape and shape[0] == count else shape))
    if output.ndim in (2, 3, 4) and shape[0] > count and shape[0] % count == 0:
        return f"it gives ({text}) for {count} images: {shape[0] // count} windows or regions of each, not one map"
    return f"it gives ({text}); {NEEDED} is needed"
