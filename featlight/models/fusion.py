"""Batch norms of a frozen network taken into the convolutions before them: the same function, a pass over memory less.

Which norm follows which convolution is seen while the network runs, not read from names, so nesting does not matter:
torchvision's BasicConv2d, a Sequential and a residual block alike. A norm that comes before its convolution stays.
"""

import copy
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from featlight.models.hooks import forward_hooks

TOLERANCE = 1e-3  # of the largest value of an output in float32; a fold that changes the function is off by far more


class Fold(NamedTuple):
    """A convolution and the batch norm that takes its output, by module name."""

    convolution: str
    norm: str


def find_folds(network: nn.Module, images: Tensor) -> list[Fold]:
    """Every batch norm of a frozen network whose one input is the output of a convolution, each called once.

    Args:
        network: in eval mode.
        images: to run, (N, 3, S, S); the network may write into them.

    Returns:
        None of them where the folds, all together, would change an output of the network.
    """
    names = _names(network)
    calls: dict[nn.Module, int] = {}
    made: list[tuple[Tensor, int, nn.Module]] = []  # kept alive, so that no two are the same object
    found: dict[nn.Module, nn.Module] = {}

    def look(module: nn.Module, given: Any, output: Any) -> None:
        calls[module] = calls.get(module, 0) + 1
        if isinstance(module, nn.BatchNorm2d):
            for tensor, version, convolution in made:
                if tensor is given[0] and tensor._version == version:
                    found[module] = convolution
        elif isinstance(output, Tensor):
            made.append((output, output._version, module))

    with forward_hooks([(module, look) for module in names if _can_fold(module)]), torch.no_grad():
        try:
            network(images.clone(memory_format=torch.preserve_format))
        except Exception:  # a network may raise anything at a size that it does not take
            return []
    folds = [
        Fold(names[convolution], names[norm])
        for norm, convolution in found.items()
        if calls[norm] == calls[convolution] == 1 and sum(c is convolution for c in found.values()) == 1
    ]
    return folds if folds and _same(network, fold(network, folds), images, folds) else []


def _names(network: nn.Module) -> dict[nn.Module, str]:
    return {module: name for name, module in network.named_modules()}


def _can_fold(module: nn.Module) -> bool:
    if isinstance(module, nn.BatchNorm2d):
        return module.running_mean is not None
    # what computes its weights anew at every call (weight norm, parametrizations) must keep them
    return type(module) is nn.Conv2d and isinstance(module._parameters.get("weight"), Tensor)


def _same(network: nn.Module, other: nn.Module, images: Tensor, folds: Sequence[Fold]) -> bool:
    """Whether every module gives what it gave, except for the convolutions that were folded into."""
    left_out = {fold.convolution for fold in folds}
    ours, theirs = _outputs(network, images, left_out), _outputs(other, images, left_out)
    return len(ours) == len(theirs) and all(
        (mine - yours).abs().amax() <= TOLERANCE * mine.abs().amax()
        for mine, yours in zip(ours, theirs, strict=True)
        if mine.numel()
    )


def _outputs(network: nn.Module, images: Tensor, left_out: Collection[str]) -> list[Tensor]:
    outputs: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.is_floating_point():
            outputs.append(output.clone())

    chosen = [(module, keep) for module, name in _names(network).items() if name not in left_out]
    with forward_hooks(chosen), torch.no_grad():
        network(images.clone(memory_format=torch.preserve_format))
    return outputs


def fold(network: nn.Module, folds: Collection[Fold]) -> nn.Module:
    """A copy of a frozen network with these norms folded; what was a norm gives its input back.

    y = (W x + b - mean) / sqrt(var + eps) * gamma + beta, worked out in float64 and rounded once.
    """
    network = copy.deepcopy(network)
    for convolution_name, norm_name in folds:
        convolution, norm = network.get_submodule(convolution_name), network.get_submodule(norm_name)
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = (norm.running_var.double() + norm.eps).rsqrt()  # (C,)
        shift = -norm.running_mean.double()  # (C,)
        if convolution.bias is not None:
            shift = shift + convolution.bias.double()
        if norm.weight is not None:
            scale = scale * norm.weight.double()
        shift = shift * scale
        if norm.bias is not None:
            shift = shift + norm.bias.double()
        weight = convolution.weight
        folded = (weight.double() * scale[:, None, None, None]).to(weight.dtype)  # (C, C', K, K)
        convolution.weight = nn.Parameter(folded, requires_grad=False)
        convolution.bias = nn.Parameter(shift.to(weight.dtype), requires_grad=False)
        parent, _, child = norm_name.rpartition(".")
        setattr(network.get_submodule(parent), child, nn.Identity())
    return network
