"""A frozen network with the statistics of the inputs of its batch norms."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from featlight.models.extractor import LayerOutputs
from featlight.models.hooks import forward_hooks
from featlight.models.rewriting.fusion import Fold
from featlight.models.rewriting.graph import copied, taken
from featlight.objectives.norm_statistics import Moments, NormTarget

SWITCHED_OFF = 1e-3  # weight of a norm, relative to its largest, below which nothing sees the channel


class MeasuredNorm(NamedTuple):
    """A batch norm whose input is measured.

    Args:
        name: name of the module whose input or output is measured.
        is_output: whether its output is measured: that of a convolution into which the norm is folded.
        measure: function from the map to its moments.
        target: statistics of photographs.
    """

    name: str
    is_output: bool
    measure: "NormMoments"
    target: NormTarget


class NormMoments(nn.Module):
    """The mean and the mean square of each channel of a map, in the units of a norm.

    Args:
        shift: mean of photographs, (C,).
        scale: what the norm divides by, (C,).
    """

    def __init__(self, shift: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.shift, self.scale = shift, scale  # no buffers, which a cast would round

    def forward(self, x: Tensor) -> Moments:
        mean, square = _NormMoments.apply(x, self.shift, self.scale)
        return Moments(mean, square)


class _NormMoments(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, shift, scale)
        # on a CPU image by image, whose differences stay in the cache
        parts = torch.split(x, 1 if x.device.type == "cpu" else len(x))
        means, squares = zip(*(_moments(part, shift) for part in parts), strict=True)
        return torch.cat(means) / scale, torch.cat(squares) / scale.square()  # (N, C) each

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        x, shift, scale = ctx.saved_tensors
        positions = x.shape[2] * x.shape[3]
        slope = 2 * gradients[1] / scale.square() / positions  # (N, C)
        level = gradients[0] / scale / positions - slope * shift
        pulled = torch.addcmul(level[:, :, None, None].to(x.dtype), x, slope[:, :, None, None].to(x.dtype))
        return pulled, None, None


def _moments(x: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the mean square of each channel, without its shift; (N, C, H, W) to (N, C) each."""
    # shifted first: with a large mean, the difference of two squares would lose its digits
    centered = x.to(shift.dtype) - shift[:, None, None]
    return centered.mean((2, 3)), centered.square_().mean((2, 3))


class MeasuredOutputs:
    """The outputs of some layers, with the moments of the norms before them.

    Args:
        plain: outputs, whose modules are measured by hooks.
        network: network of these outputs.
        norms: norms to measure, in the order of their calls.
        function: function that computes outputs and moments from the network's input; None for hooks.
    """

    def __init__(
        self,
        plain: LayerOutputs,
        network: nn.Module,
        norms: Sequence[MeasuredNorm],
        function: Callable[[Tensor], tuple[Mapping[str, Tensor], list[Moments]]] | None = None,
    ) -> None:
        self._plain, self._network, self.norms, self._function = plain, network, norms, function

    @property
    def format(self) -> torch.memory_format:
        """Memory format of the network's input."""
        return self._plain.format

    @property
    def targets(self) -> list[NormTarget]:
        """Statistics of photographs at each norm."""
        return [norm.target for norm in self.norms]

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Return each layer's output, (N, C, H, W)."""
        return self.measured(images)[0]

    def measured(self, images: Tensor) -> tuple[dict[str, Tensor], list[Moments]]:
        """Return each layer's output, (N, C, H, W), and the moments of each norm's input.

        Args:
            images: pixels, (N, C, H, W).
        """
        if self._function is not None:
            outputs, moments = self._function(self._plain.network_input(images))
            return self._plain.computed_by(lambda _: outputs)(images), moments
        found: dict[str, Moments] = {}
        modules = dict(self._network.named_modules(remove_duplicate=False))
        after = [(modules[each.name], _after(each, found)) for each in self.norms if each.is_output]
        before = [(modules[each.name], _before(each, found)) for each in self.norms if not each.is_output]
        with forward_hooks(after, before):
            outputs = self._plain(images)
        return outputs, [found[norm.name] for norm in self.norms]


def _after(norm: MeasuredNorm, found: dict[str, Moments]) -> Callable[..., Any]:
    def measure(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        found[norm.name] = norm.measure(output)
        return output.clone()  # the next module may write into it

    return measure


def _before(norm: MeasuredNorm, found: dict[str, Moments]) -> Callable[..., Any]:
    def measure(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        found[norm.name] = norm.measure(args[0])
        return (args[0].clone(), *args[1:]), kwargs

    return measure


def measured_norms(
    network: nn.Module,
    outputs: LayerOutputs,
    images: Tensor,
    folds: Sequence[Fold],
    exact: nn.Module,
    dtype: torch.dtype,
) -> list[MeasuredNorm]:
    """Return the batch norms from which some layers are computed, in the order of their calls.

    A norm that is called several times is left out: its statistics are those of all calls.

    Args:
        network: network with its norms.
        outputs: outputs of the layers, of this network.
        images: images to run, (N, C, H, W), in pixel units.
        folds: norms that the measured form folds into convolutions.
        exact: the network before its values are rounded to the run's precision.
        dtype: precision of the statistics.
    """
    found: list[tuple[str, Tensor]] = []

    def keep(name: str) -> Callable[..., Any]:
        def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if not args or args[0].ndim != 4:
                return None
            given = args[0].clone()
            found.append((name, given))
            return (given, *args[1:]), kwargs

        return note

    names = {module: name for name, module in network.named_modules() if _has_statistics(module)}
    with forward_hooks([], [(module, keep(name)) for module, name in names.items()]), torch.enable_grad():
        given = outputs(images.detach().clone().requires_grad_(True))
    total = torch.stack([output.double().sum() for output in given.values()]).sum()
    gradients = torch.autograd.grad(total, [x for _, x in found], allow_unused=True) if found else ()
    calls = Counter(name for name, _ in found)
    folded = {fold.norm: fold.convolution for fold in folds}
    return [
        _measured_norm(exact.get_submodule(name), name, folded.get(name), images.shape[2] / x.shape[2], dtype)
        for (name, x), gradient in zip(found, gradients, strict=True)
        if gradient is not None and calls[name] == 1
    ]


def _has_statistics(module: nn.Module) -> bool:
    given = [module._buffers.get(name) for name in ("running_mean", "running_var")]
    return all(isinstance(each, Tensor) and each.ndim == 1 for each in given) and hasattr(module, "eps")


def _measured_norm(norm: Any, name: str, convolution: str | None, stride: float, dtype: torch.dtype) -> MeasuredNorm:
    """Describe a norm by its input, or by the output of the convolution into which it is folded."""
    variance = norm.running_var.double()
    scale = (variance + norm.eps).sqrt()  # (C,)
    weight = torch.ones_like(scale) if norm.weight is None else norm.weight.double()
    bias = torch.zeros_like(scale) if norm.bias is None else norm.bias.double()
    used = weight.abs() > SWITCHED_OFF * weight.abs().amax()  # (C,)
    shift, divisor = (norm.running_mean.double(), scale) if convolution is None else (bias, weight)
    divisor = torch.where(used, divisor, 1)
    counts = used.double() / used.sum().clamp_min(1)
    target = NormTarget((variance.sqrt() / scale).to(dtype), counts.to(dtype), stride)
    measure = NormMoments(shift.to(dtype), divisor.to(dtype))
    return MeasuredNorm(convolution or name, convolution is not None, measure, target)


def with_moments(graph: fx.GraphModule, norms: Sequence[MeasuredNorm]) -> fx.GraphModule | None:
    """Return a copy of a graph that returns its outputs and the moments of norms; None if it lacks one of these."""
    graph = fx.GraphModule(graph, copied(graph))
    calls = {str(node.target): node for node in graph.graph.nodes if node.op == "call_module"}
    (output,) = graph.graph.find_nodes(op="output")
    moments = []
    for number, norm in enumerate(norms):
        node = calls.get(norm.name)
        source = None if node is None else node if norm.is_output else taken(node)
        if node is None or not isinstance(source, fx.Node):
            return None
        graph.add_submodule(f"moments_{number}", norm.measure)
        with graph.graph.inserting_after(source):
            moments.append(graph.graph.call_module(f"moments_{number}", (source,)))
    output.args = ((output.args[0], moments),)
    graph.recompile()
    return graph


def agree(ours: MeasuredOutputs, theirs: MeasuredOutputs, images: Tensor, tolerance: float) -> bool:
    """Return whether two forms of a network have equal outputs and moments, up to rounding."""
    with torch.no_grad():
        mine, yours = ours.measured(images), theirs.measured(images)
    pairs = [(mine[0][layer], output) for layer, output in yours[0].items()]
    pairs += [(a, b) for one, other in zip(mine[1], yours[1], strict=True) for a, b in zip(one, other, strict=True)]
    return all(bool((a - b).abs().amax() <= tolerance * b.abs().amax()) for a, b in pairs)
