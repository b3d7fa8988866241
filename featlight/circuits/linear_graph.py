"""The network with every activation function replaced by the identity, and which stretches of it are linear then."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node
from torch.overrides import TorchFunctionMode

# Activation functions, in each form in which a network may call them
_NAMES = (
    *("celu", "clamp", "clamp_max", "clamp_min", "clip", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh"),
    *("leaky_relu", "mish", "prelu", "relu", "relu6", "rrelu", "selu", "sigmoid", "silu", "softplus", "tanh"),
    "threshold",
)
_PLACES = (torch, F, Tensor, torch._C._nn)
IDENTITIES = {
    getattr(place, name + end)
    for place in _PLACES
    for name in _NAMES
    for end in ("", "_")
    if hasattr(place, name + end)
}
MAX_POOLS = {torch.max_pool2d, F.max_pool2d}
# Nodes of autograd's graph that are linear in their input
LINEAR = {
    *("AdaptiveAvgPool2DBackward", "AddBackward", "AliasBackward", "AsStridedBackward", "AvgPool2DBackward"),
    *("CatBackward", "CloneBackward", "ConstantPadNdBackward", "CudnnBatchNormBackward", "ExpandBackward"),
    *("IndexBackward", "MeanBackward", "MiopenBatchNormBackward", "MkldnnAdaptiveAvgPool2DBackward"),
    *("NativeBatchNormBackward", "NegBackward", "PermuteBackward", "PixelShuffleBackward", "PixelUnshuffleBackward"),
    *("ReflectionPad2DBackward", "ReplicationPad2DBackward", "ReshapeAliasBackward", "RollBackward", "RsubBackward"),
    *("SelectBackward", "SliceBackward", "SplitBackward", "SplitWithSizesBackward", "SqueezeBackward"),
    *("StackBackward", "SubBackward", "SumBackward", "TBackward", "ToCopyBackward", "TransposeBackward"),
    *("UnbindBackward", "UnsafeSplitBackward", "UnsafeViewBackward", "UnsqueezeBackward", "ViewBackward"),
    *("UpsampleBicubic2DBackward", "UpsampleBilinear2DBackward", "UpsampleNearest2DBackward"),
}
# Products, linear if the graph reaches at most one of these inputs: a weight has no gradient
FACTORS = {
    "AddmmBackward": (1, 2),
    "BmmBackward": (0, 1),
    "ConvolutionBackward": (0, 1),
    "LinearBackward": (0, 1),
    "MmBackward": (0, 1),
    "MulBackward": (0, 1),
}


class LinearizedActivations(TorchFunctionMode):
    """Replaces activation functions by the identity, and max pooling by average pooling, while it is entered.

    Source: Voss et al. 2021, Visualizing Weights, Distill.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in IDENTITIES:
            given = [*args, *(kwargs[name] for name in ("input", "self") if name in kwargs)][0]
            in_place = kwargs.get("inplace", False) or func.__name__.endswith("_")
            return given if in_place else given.clone()
        if func in MAX_POOLS:
            return _average_pool(*args, **kwargs)
        return func(*args, **kwargs)


def _average_pool(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    **rest: Any,
) -> Any:
    """Average pooling in place of max pooling; padding does not count."""
    if dilation not in (1, (1, 1), [1, 1]) or rest.get("return_indices", False):
        return F.max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode, **rest)
    return F.avg_pool2d(input, kernel_size, stride or None, padding, ceil_mode, count_include_pad=False)


def linear_edges(start: Tensor, edges: Mapping[str, GradientEdge]) -> set[str]:
    """Return the names of the edges between which and a tensor every path is linear.

    Args:
        start: result of the computation.
        edges: earlier places in the graph, by name.
    """
    names = list(edges)
    marks: dict[tuple[Node, int], int] = {}
    for bit, edge in enumerate(edges.values()):
        key = (edge.node, edge.output_nr)
        marks[key] = marks.get(key, 0) | 1 << bit
    below: dict[Node, int] = {}  # edges that are reached from a node's inputs, by bits
    spoiled = 0
    for node in _from_inputs_up(start.grad_fn):
        reached = 0
        for following, number in node.next_functions:
            if following is not None:
                reached |= marks.get((following, number), 0) | below[following]
        below[node] = reached
        spoiled |= 0 if _is_linear(node) else reached
    root = below[start.grad_fn] if start.grad_fn is not None else 0
    return {name for bit, name in enumerate(names) if root >> bit & 1 and not spoiled >> bit & 1}


def _from_inputs_up(root: Node | None) -> Iterable[Node]:
    """Yield the nodes of a graph, each after all nodes that it leads to."""
    done: set[Node] = set()
    stack: list[tuple[Node, bool]] = [] if root is None else [(root, False)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            yield node
        elif node not in done:
            done.add(node)
            stack.append((node, True))
            stack += [(each, False) for each, _ in node.next_functions if each is not None and each not in done]


def _is_linear(node: Node) -> bool:
    name = node.name().rstrip("0123456789")
    inputs = [following is not None for following, _ in node.next_functions]
    if name == "DivBackward":
        return not any(inputs[1:])
    if name in FACTORS:
        return sum(inputs[place] for place in FACTORS[name] if place < len(inputs)) <= 1
    if name == "NativeBatchNormBackward":
        return not getattr(node, "_saved_training", True)
    return name in LINEAR
