"""What a hook on the untouched network gives, and a literal descent on it: no code of featlight's."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tests.literal import descent

Octaves = Sequence[tuple[int, int, tuple[float, float], None]]


def precise(network: nn.Module) -> nn.Module:
    """In eval mode and float64, complex numbers kept; compiled parts as they were, for a compiler runs no hooks."""
    for name, part in list(network.named_children()):
        if hasattr(part, "_orig_mod"):
            setattr(network, name, part._orig_mod)
    network.train(False)
    for parts in vars(network).values():
        for part in parts if isinstance(parts, list) else []:  # which no method of the network's reaches
            if isinstance(part, nn.Module):
                precise(part)
    kinds = {True: torch.complex128, False: torch.float64}
    network._apply(lambda t: t.to(kinds[t.is_complex()]) if t.is_complex() or t.is_floating_point() else t)
    return network


def hooked(network: nn.Module, layers: Sequence[str], dimension: int) -> Callable[[Tensor], list[Tensor]]:
    """Images to what each layer gave at its last call, (N, C, H, W)."""

    def run(images: Tensor) -> list[Tensor]:
        given: dict[str, Tensor] = {}
        modules = dict(network.named_modules(remove_duplicate=False))
        handles = [
            modules[layer].register_forward_hook(
                lambda _, __, output, layer=layer: given.update({layer: output.clone()})
            )
            for layer in layers
        ]
        try:
            network(images.repeat(2, 1, 1, 1))  # some networks take one image for none
        finally:
            for handle in handles:
                handle.remove()
        found = [given[layer][: len(images)] for layer in layers]
        return [z[:, :, None, None] if z.ndim == 2 else z.movedim(dimension, 1) for z in found]

    return run


def descended(run: Callable[[Tensor], list[Tensor]], feature: int, octaves: Octaves, target: float = 200.0) -> Tensor:
    """The image (1, 3, S, S) that maximises one feature of each layer, one image at a time."""
    *_, (final, _) = descent(lambda x: sum((target - z[0, feature]).sum() for z in run(x)), octaves)
    return final
