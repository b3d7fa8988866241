"""Which layers give something of their own: a container often gives just what its last part gave."""

import itertools
from collections import Counter
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from featlight.models.hooks import forward_hooks
from featlight.models.layer_info import Layer


class _Given(NamedTuple):
    output: tuple[int, int]  # number of the tensor, and of what was written into it
    calls: int
    has_gradient: bool


def own_outputs(network: nn.Module, images: Tensor, layers: Mapping[str, Layer], names: Sequence[str]) -> list[str]:
    """Those of some layers that give something which no other of them gives, each thing once, in their order.

    Of modules that give the very same tensor, that one stays which is called once, else the one that gave it first: of
    a container whose last part gives its output, the part. Layers that no gradient can reach the images from are left
    out, unless it reaches them from none.

    Args:
        network: as it was given, frozen, nothing folded.
        images: to run, of the network's type.
        layers: by name, as they are for such images.
        names: of layers.
    """
    wanted = {name: layers[name] for name in names}
    given = _look(network, images, wanted)  # parts before containers
    reached = [name for name, each in given.items() if each.has_gradient] or list(given)
    kept: dict[tuple[int, int], str] = {}
    for name in reached:
        before = kept.get(given[name].output)
        if before is None or (given[before].calls > 1 and given[name].calls == 1):
            kept[given[name].output] = name
    own = set(kept.values())
    return [name for name in names if name in own]


def _look(network: nn.Module, images: Tensor, layers: Mapping[str, Layer]) -> Mapping[str, _Given]:
    modules = dict(network.named_modules(remove_duplicate=False))
    names: dict[nn.Module, list[str]] = {}
    for name, layer in layers.items():
        names.setdefault(modules[layer.module], []).append(name)
    numbers: MutableMapping[Tensor, int] = (
        WeakTensorKeyDictionary()
    )  # a tensor that is gone may leave its place in memory to another one
    given: dict[str, _Given] = {}
    calls: Counter[nn.Module] = Counter()
    count = itertools.count()

    def look(module: nn.Module, _: Any, output: Any) -> None:
        calls[module] += 1
        if not isinstance(output, Tensor):
            return
        number = numbers.setdefault(output, next(count))
        for name in names[module]:
            if calls[module] == layers[name].meant_call:
                given[name] = _Given((number, output._version), layers[name].calls, output.requires_grad)

    with forward_hooks([(module, look) for module in names]), torch.enable_grad(), suppress(Exception, SystemExit):
        network(images.detach().clone().requires_grad_(True).clone())  # where it ends early, others say why
    return given
