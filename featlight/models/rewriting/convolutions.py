"""Convolutions with fewer passes over maps: TensorFlow's padding without a copy, and the activation before in place.

An activation and the only convolution that takes its output become one autograd operation. It works in place: forward
on a map that nothing else takes, and backward on the gradient that the convolution has just computed. The bits of
values and gradients stay equal.
"""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.overrides import has_torch_function_unary

from featlight.models.rewriting.graph import copied, is_alone, is_kind, module_of, taken


class PaddedConv2d(nn.Module):
    """A convolution with TensorFlow's `SAME` padding, which puts an odd zero at the end.

    The library pads both sides equally. A depthwise kernel gets leading zeros and padding for these: equal sums with a
    few more products, but without copies of the map in the forward and backward pass. For other kernels the products
    would cost more than the copies.

    Args:
        convolution: timm's convolution without dilation; its weight and bias are shared.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.kernel_size, self.stride = convolution.kernel_size, convolution.stride
        self.dilation, self.groups = convolution.dilation, convolution.groups
        self.is_depthwise = convolution.groups == convolution.in_channels

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self._zeros(x)
        weight, padding = self.weight, (rows // 2, columns // 2)
        if self.is_depthwise:
            weight, padding = self.padded(x)
        elif rows % 2 or columns % 2:
            x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
            padding = 0, 0
        return F.conv2d(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def padded(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return a kernel with leading zeros, and its padding, for a map."""
        rows, columns = self._zeros(x)
        return F.pad(self.weight, (columns % 2, 0, rows % 2, 0)), ((rows + 1) // 2, (columns + 1) // 2)

    def _zeros(self, x: Tensor) -> tuple[int, int]:
        """Return the total number of zeros that a map needs in each direction."""
        sides = zip(x.shape[2:], self.kernel_size, self.stride, strict=True)
        rows, columns = (max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in sides)
        return rows, columns


class Activation(NamedTuple):
    """An activation whose gradient follows from its output.

    Args:
        function: function from a map to a new map.
        write: the function in place.
        pull: function that turns the gradient of the output, given with the output, into that of the input, in place.
    """

    function: Callable[[Tensor], Tensor]
    write: Callable[[Tensor], Any]
    pull: Callable[[Tensor, Tensor], Any]


def _pull_relu(gradient: Tensor, given: Tensor) -> None:
    torch.ops.aten.threshold_backward.grad_input(gradient, given, 0, grad_input=gradient)


RELU = Activation(F.relu, F.relu_, _pull_relu)


def clamp(low: float, high: float) -> Activation:
    """Return a Hardtanh, such as ReLU6, from its smallest and its largest output."""

    def pull(gradient: Tensor, given: Tensor) -> None:
        torch.ops.aten.hardtanh_backward.grad_input(gradient, given, low, high, grad_input=gradient)

    return Activation(lambda x: F.hardtanh(x, low, high), lambda x: F.hardtanh_(x, low, high), pull)


class ActivatedConv2d(nn.Module):
    """A frozen convolution with the activation before it, which works in place.

    Args:
        activation: activation of the input.
        convolution: convolution with zero padding; its weight and bias are shared.
    """

    def __init__(self, activation: Activation, convolution: nn.Conv2d | PaddedConv2d) -> None:
        super().__init__()
        self.activation, self.convolution = activation, convolution

    def forward(self, x: Tensor) -> Tensor:
        if has_torch_function_unary(x):  # a torch mode, such as redirected ReLUs, must see the activation
            plain: Tensor = self.convolution(self.activation.function(x))
            return plain
        own = self.convolution
        weight, padding = own.padded(x) if isinstance(own, PaddedConv2d) else (own.weight, own.padding)
        output: Tensor = _Activated.apply(
            x, self.activation, weight, own.bias, (own.stride, padding, own.dilation, own.groups)
        )
        return output


class _Activated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, activation: Activation, weight: Tensor, bias: Tensor | None, options: tuple[Any, ...]
    ) -> Tensor:
        activation.write(x)
        ctx.save_for_backward(x, weight)
        ctx.activation, ctx.options = activation, options
        return F.conv2d(x, weight, bias, *options)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.options
        gradient, _, _ = torch.ops.aten.convolution_backward(
            *(gradients[0], x, weight, None, stride, padding, dilation),
            *(False, (0, 0), groups, (True, False, False)),  # not transposed; the gradient of the input only
        )
        ctx.activation.pull(gradient, x)
        return gradient, None, None, None, None


def activated(graph: fx.GraphModule) -> fx.GraphModule | None:
    """Return a copy in which convolutions absorb the activations before them; None if there are none."""
    graph = fx.GraphModule(graph, copied(graph))
    found = [_take_activation(graph, node) for node in list(graph.graph.nodes)]
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph if any(found) else None


def _take_activation(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Merge a convolution with the activation before it if nothing else takes the activation's input or output."""
    convolution, before = module_of(graph, node), _source(graph, node)
    if before is None or not _is_plain(convolution):
        return False
    activation, behind = _activation(graph, before), _source(graph, before)
    if activation is None or behind is None or not _is_fresh(graph, behind):
        return False
    name = f"activated_{node.name}"
    graph.add_submodule(name, ActivatedConv2d(activation, convolution))
    with graph.graph.inserting_before(node):
        node.replace_all_uses_with(graph.graph.call_module(name, (behind,)))
    graph.graph.erase_node(node)
    return True


def _is_plain(module: nn.Module | None) -> TypeGuard[nn.Conv2d | PaddedConv2d]:
    """Return whether a module is a convolution with a frozen kernel and the same zero padding at every size."""
    if isinstance(module, PaddedConv2d):
        return module.is_depthwise
    if type(module) is not nn.Conv2d or module.padding_mode != "zeros" or isinstance(module.padding, str):
        return False
    return isinstance(module._parameters.get("weight"), Tensor)


def _activation(graph: fx.GraphModule, node: fx.Node) -> Activation | None:
    """Return a node's activation; of functions only ReLU, because the arguments of others have many forms."""
    if is_kind(graph, node, F.relu, nn.ReLU):
        return RELU
    module = module_of(graph, node)
    if isinstance(module, nn.Hardtanh) and type(module) in (nn.Hardtanh, nn.ReLU6):
        return clamp(module.min_val, module.max_val)
    return None


def _source(graph: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """Return the node whose output this one takes, skipping identities; None if other nodes take it, too."""
    source = taken(node)
    while is_alone(source) and type(module_of(graph, source)) is nn.Identity:
        source = taken(source)
    return source if is_alone(source) else None


def _is_fresh(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node returns a new tensor that its own gradient does not need."""
    if node.op == "call_function":
        return node.target in (operator.add, torch.add, torch.conv2d)
    return type(module_of(graph, node)) in (nn.Conv2d, PaddedConv2d, ActivatedConv2d, nn.MaxPool2d)
