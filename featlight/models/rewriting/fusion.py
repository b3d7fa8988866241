"""Fold the batch norms of a frozen network into the convolutions before them: the same function, one pass less.

A run of the network shows which norm follows which convolution, so nesting and names do not matter. A norm before its
convolution stays.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from featlight.models.copying import duplicate
from featlight.models.hooks import forward_hooks
from featlight.models.rewriting.convolutions import PaddedConv2d
from featlight.models.rewriting.trace import is_hooked

BATCH_NORM_ACT = "timm.layers.norm_act.BatchNormAct2d"  # a batch norm with dropout and activation
CONV_SAME = "timm.layers.conv2d_same.Conv2dSame"  # a convolution with TensorFlow's padding
# Their gradients need their inputs, so that autograd copies these before they work in place
NEED_INPUT = (nn.ReLU6, nn.Hardtanh, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Mish)
TOLERANCE = 1e-3  # relative to an output's largest value; a fold that changes the function differs by far more


class Fold(NamedTuple):
    """Names of a convolution and of the batch norm that takes its output."""

    convolution: str
    norm: str


def find_folds(network: nn.Module, images: Sequence[Tensor]) -> list[Fold]:
    """Return the convolutions whose output only a batch norm takes, if both are called once.

    Args:
        network: frozen network.
        images: images of every size to run, (N, C, H, W).

    Returns:
        Folds; none if all folds together would change an output of the network.
    """
    try:
        first, *others = (_seen(network, each) for each in images)
        folds = [fold for fold in first if all(fold in other for other in others)]
        return folds if folds and _same(network, fold_in(network, folds), images[0], folds) else []
    except (Exception, SystemExit):  # a network may raise anything, for example at a size that it does not take
        return []


def _seen(network: nn.Module, images: Tensor) -> list[Fold]:
    names = _names(network)
    calls: Counter[nn.Module] = Counter()
    made: list[tuple[Tensor, int, nn.Module]] = []  # keeps tensors alive, so that their ids stay unique
    found: dict[nn.Module, nn.Module] = {}
    uses = _Uses()

    def enter(module: nn.Module, *_: Any) -> None:
        uses.inside = module

    def leave(module: nn.Module, given: Any, output: Any) -> None:
        uses.inside = None
        calls[module] += 1
        if isinstance(module, nn.BatchNorm2d):
            for tensor, version, convolution in made:
                if tensor is given[0] and tensor._version == version:
                    found[module] = convolution
        elif isinstance(output, Tensor):
            uses.forget(output)
            made.append((output, output._version, module))

    modules = [module for module in names if _can_fold(module)]
    hooks = forward_hooks([(module, leave) for module in modules], [(module, enter) for module in modules])
    with hooks, torch.no_grad(), uses:
        network(images.clone(memory_format=torch.preserve_format))
    taken = {convolution: uses.modules_using(output) for output, _, convolution in made}
    return [
        Fold(names[convolution], names[norm])
        for norm, convolution in found.items()
        if calls[norm] == calls[convolution] == 1
        and taken[convolution] == {norm}
        and all(uses.modules_using(tensor) <= {norm} for tensor in [*norm.parameters(), *norm.buffers()])
        and all(None not in uses.modules_using(tensor) for tensor in convolution.parameters())
    ]


class _Uses(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own __init_subclass__
    """Records the modules whose operations use each tensor; None stands for code outside of these modules."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.inside: nn.Module | None = None
        self._takers: dict[int, set[nn.Module | None]] = {}

    def modules_using(self, tensor: Tensor) -> set[nn.Module | None]:
        return self._takers.get(tensor.untyped_storage().data_ptr(), set())

    def forget(self, tensor: Tensor) -> None:
        """Forget the uses of a new tensor's memory, which may have held another tensor."""
        self._takers.pop(tensor.untyped_storage().data_ptr(), None)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor) and leaf.layout == torch.strided:
                self._takers.setdefault(leaf.untyped_storage().data_ptr(), set()).add(self.inside)
        return func(*args, **(kwargs or {}))


def _names(network: nn.Module) -> dict[nn.Module, str]:
    return {module: name for name, module in network.named_modules()}


def _can_fold(module: nn.Module) -> bool:
    """Return whether a module is a plain batch norm or convolution: no subclass that does more, and no hooks."""
    if is_hooked(module) or "forward" in vars(module):
        return False
    if _is_norm(module):
        return module._buffers.get("running_mean") is not None
    # modules that compute their weights at every call (weight norm, parametrizations) must keep them
    return _is_exactly(module, nn.Conv2d, CONV_SAME) and isinstance(module._parameters.get("weight"), Tensor)


def _is_norm(module: nn.Module) -> bool:
    return _is_exactly(module, nn.BatchNorm2d, BATCH_NORM_ACT)


def _is_exactly(module: nn.Module, kind: type[nn.Module], other: str) -> bool:
    """Return whether a module's class is torch's own or a library's class of that name, and no subclass."""
    own = type(module)
    return own is kind or f"{own.__module__}.{own.__qualname__}" == other


class _Activation(nn.Module):
    """The dropout and activation of a folded norm."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.drop, self.act = norm.get_submodule("drop"), norm.get_submodule("act")

    def forward(self, x: Tensor) -> Any:
        return self.act(self.drop(x))


def _same(network: nn.Module, other: nn.Module, images: Tensor, folds: Sequence[Fold]) -> bool:
    """Return whether all modules have equal outputs in two networks, except for the folded convolutions."""
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


def fold_in(network: nn.Module, folds: Collection[Fold]) -> nn.Module:
    """Return a copy of a frozen network with folded norms; the norms become identities or activations.

    In-place activations that would first copy their input no longer work in place.

    y = (W x + b - mean) / sqrt(var + eps) * gamma + beta, computed in float64 and rounded once: torch's
    `fuse_conv_bn_weights` computes in the network's precision and gives other bits.
    """
    network = duplicate(network)
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
        if type(convolution) is not nn.Conv2d and convolution.dilation == (1, 1):
            _replace(network, convolution_name, PaddedConv2d(convolution))
        _replace(network, norm_name, nn.Identity() if type(norm) is nn.BatchNorm2d else _Activation(norm))
    for module in network.modules() if folds else ():  # with folds, all outputs were compared
        if type(module) in NEED_INPUT and not is_hooked(module) and "forward" not in vars(module):
            module.inplace = False  # type: ignore[assignment]
    return network


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)
