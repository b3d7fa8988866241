"""Which layers give something of their own: a container often gives just what its last part gave."""

import itertools
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from featlight.models.hooks import forward_hooks


class _Given(NamedTuple):
    output: tuple[int, int]  # number of the tensor, and of what was written into it
    calls: int
    has_gradient: bool


def own_outputs(network: nn.Module, images: Tensor, names: Sequence[str]) -> list[str]:
    """Those of some layers that give something which no other of them gives, each thing once, in their order.

    Of modules that give the very same tensor, that one stays which is called once, else the one that gave it first: of
    a container whose last part gives its output, the part. Layers that no gradient can reach the images from are left
    out, unless it reaches them from none.

    Args:
        network: as it was given, frozen, nothing folded.
        images: to run, of the network's type.
        names: of layers.
    """
    wanted = set(names)
    given = {name: each for name, each in _look(network, images).items() if name in wanted}  # parts before containers
    reached = [name for name, each in given.items() if each.has_gradient] or list(given)
    kept: dict[tuple[int, int], str] = {}
    for name in reached:
        before = kept.get(given[name].output)
        if before is None or (given[before].calls > 1 and given[name].calls == 1):
            kept[given[name].output] = name
    own = set(kept.values())
    return [name for name in names if name in own]


def _look(network: nn.Module, images: Tensor) -> Mapping[str, _Given]:
    names: dict[nn.Module, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    numbers: MutableMapping[Tensor, int] = (
        WeakTensorKeyDictionary()
    )  # a tensor that is gone may leave its place in memory to another one
    given: dict[str, _Given] = {}
    count = itertools.count()

    def look(module: nn.Module, _: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        number = numbers.setdefault(output, next(count))
        for name in names[module]:
            calls = given[name].calls + 1 if name in given else 1
            given[name] = _Given((number, output._version), calls, output.requires_grad)

    with forward_hooks([(module, look) for module in names]), torch.enable_grad(), suppress(Exception, SystemExit):
        network(images.detach().clone().requires_grad_(True).clone())  # where it ends early, others say why
    return given
