"""The layers with outputs of their own: a container often returns the output of its last part."""

import itertools
from collections import Counter
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from featlight.models.hooks import forward_hooks
from featlight.models.layer_info import Layer


class _Output(NamedTuple):
    tensor: tuple[int, int]  # number and version of the tensor
    calls: int
    has_gradient: bool


def own_outputs(network: nn.Module, images: Tensor, layers: Mapping[str, Layer], names: Sequence[str]) -> list[str]:
    """Return one layer for each different output, in the order of `names`.

    Of the modules that return the same tensor, it keeps one that is called once, else the first: the last part of a
    container, not the container. It leaves out layers without a gradient to the images, unless no layer has one.

    Args:
        network: original network, frozen.
        images: images to run, in the network's precision, (N, C, H, W).
        layers: layers by name, for images of this size.
        names: names of the layers to choose from.
    """
    outputs = _outputs(network, images, {name: layers[name] for name in names})  # parts before containers
    differentiable = [name for name, output in outputs.items() if output.has_gradient] or list(outputs)
    kept: dict[tuple[int, int], str] = {}
    for name in differentiable:
        other = kept.get(outputs[name].tensor)
        if other is None or (outputs[other].calls > 1 and outputs[name].calls == 1):
            kept[outputs[name].tensor] = name
    own = set(kept.values())
    return [name for name in names if name in own]


def without_gradient(network: nn.Module, images: Tensor, layers: Mapping[str, Layer]) -> dict[str, Layer]:
    """Return the layers whose outputs have no gradient to the images, with this refusal; none if no layer has one.

    Args:
        network: original network, frozen.
        images: images to run, in the network's precision, (N, C, H, W).
        layers: usable layers by name, for images of this size.
    """
    outputs = _outputs(network, images, layers)
    constant = [name for name, output in outputs.items() if not output.has_gradient]
    refused = {name: replace(layers[name], refusal="no gradient reaches the image") for name in constant}
    return refused if len(refused) < len(outputs) else {}


def _outputs(network: nn.Module, images: Tensor, layers: Mapping[str, Layer]) -> Mapping[str, _Output]:
    modules = dict(network.named_modules(remove_duplicate=False))
    names: dict[nn.Module, list[str]] = {}
    for name, layer in layers.items():
        names.setdefault(modules[layer.module], []).append(name)
    numbers: MutableMapping[Tensor, int] = WeakTensorKeyDictionary()  # ids and addresses may be used again
    outputs: dict[str, _Output] = {}
    calls: Counter[nn.Module] = Counter()
    count = itertools.count()

    def record(module: nn.Module, _: Any, output: Any) -> None:
        calls[module] += 1
        if not isinstance(output, Tensor):
            return
        number = numbers.setdefault(output, next(count))
        for name in names[module]:
            if calls[module] == layers[name].call_number:
                outputs[name] = _Output((number, output._version), layers[name].calls, output.requires_grad)

    with forward_hooks([(module, record) for module in names]), torch.enable_grad(), suppress(Exception, SystemExit):
        network(images.detach().clone().requires_grad_(True).clone())  # errors are reported by `run_probe`
    return outputs
