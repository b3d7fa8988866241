"""Rewrites of a network's graph that give equal outputs with less work.

A 1 x 1 convolution moves before the average pool that it follows (they commute; its bias comes last), so that the pool
has fewer channels. A ReLU moves behind the maximum pool that follows it, where maps are smaller. For a layer that is a
concatenation, only the branches with requested features run.
"""

from bisect import bisect
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

ChosenFeatures = Mapping[str, Collection[int]]  # requested features by layer
KeptBranches = Mapping[str, tuple[int, int]]  # first and last branch that run, by layer
CHANNELS = "channels"  # key in a node's `meta` for the channels of its map


def shortened(graph: fx.GraphModule) -> fx.GraphModule | None:
    """Return a copy with pools where they save work; None if there is nothing to move."""
    graph = fx.GraphModule(graph, copied(graph))
    moved = 0
    for node in list(graph.graph.nodes):
        moved += _narrow_before_pool(graph, node) or _pool_before_relu(graph, node)
    graph.recompile()
    return graph if moved else None


def _narrow_before_pool(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Move a 1 x 1 convolution to fewer channels before the average pool whose output only it takes."""
    convolution, pool = _narrowing_convolution(graph, node), taken(node)
    if convolution is None or not is_alone(pool) or not is_kind(graph, pool, F.avg_pool2d, nn.AvgPool2d):
        return False
    if not isinstance(taken(pool), fx.Node):
        return False
    with graph.graph.inserting_before(pool):
        weight = graph.graph.get_attr(f"{node.target}.weight")
        narrow = graph.graph.call_function(torch.conv2d, (pool.args[0], weight))
    pool.args = (narrow, *pool.args[1:])
    last = pool
    if convolution.bias is not None:
        with graph.graph.inserting_after(pool):
            bias = graph.graph.get_attr(f"{node.target}.bias")
        with graph.graph.inserting_after(bias):
            last = graph.graph.call_function(_add_bias, (pool, bias))
    node.replace_all_uses_with(last)
    graph.graph.erase_node(node)
    return True


def _pool_before_relu(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Move a ReLU behind the maximum pool that alone takes its output; the bits of values and gradients stay equal."""
    pool = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    relu = taken(node)
    if type(pool) is not nn.MaxPool2d or "forward" in vars(pool) or pool.return_indices or not is_alone(relu):
        return False
    if not is_kind(graph, relu, F.relu, nn.ReLU) or not is_alone(taken(relu)):
        return False
    users = list(node.users)
    node.args = (relu.args[0], *node.args[1:])
    with graph.graph.inserting_after(node):
        behind = graph.graph.node_copy(relu, lambda _: node)
    for user in users:
        user.replace_input_with(node, behind)
    graph.graph.erase_node(relu)
    return True


def count_channels(graph: fx.GraphModule, images: Tensor) -> None:
    """Record the number of channels in the `meta` of each node that returns a map.

    Args:
        graph: graph of a network.
        images: images to run, (N, C, H, W).
    """
    _Channels(graph).run(images)


def needed_branches(graph: fx.GraphModule, features: ChosenFeatures) -> KeptBranches:
    """Return the first and last branch that layers need, for concatenations with branches that can be omitted.

    Args:
        graph: graph with counted channels.
        features: requested features by layer; other layers need all features.
    """
    output, given = _given(graph)
    found = {}
    for layer, node in given.items():
        branches = _branches(node)
        once = set(node.users) == {output} and list(given.values()).count(node) == 1
        if layer not in features or branches is None or not once:
            continue
        ends = _ends(branches)
        needed = sorted({bisect(ends, feature) - 1 for feature in features[layer]})
        if needed[-1] - needed[0] + 1 < len(branches):
            found[layer] = (needed[0], needed[-1])
    return found


def with_branches(graph: fx.GraphModule, kept: KeptBranches) -> fx.GraphModule:
    """Return a copy that runs only some branches of its concatenations and returns 0 for the others."""
    graph = fx.GraphModule(graph, copied(graph))
    output, given = _given(graph)
    for layer, (first, last) in kept.items():
        branches = _branches(given[layer])
        assert branches is not None
        ends = _ends(branches)
        some = branches[first : last + 1]
        around = (0, 0, 0, 0, ends[first], ends[-1] - ends[last + 1])
        with graph.graph.inserting_before(output):
            whole = some[0] if len(some) == 1 else graph.graph.call_function(torch.cat, (some, 1))
            given[layer] = graph.graph.call_function(F.pad, (whole, around))
    output.args = (given,)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def _given(graph: fx.GraphModule) -> tuple[fx.Node, dict[str, fx.Node]]:
    """Return the output node, and the nodes of its layers."""
    (output,) = graph.graph.find_nodes(op="output")
    return output, dict(output.args[0])


def _ends(branches: Sequence[fx.Node]) -> list[int]:
    """Return the first channel of each branch in the concatenation, and the total number of channels."""
    return [0, *accumulate(branch.meta[CHANNELS] for branch in branches)]


def _narrowing_convolution(graph: fx.GraphModule, node: fx.Node) -> nn.Conv2d | None:
    """Return a node's module if it is a plain 1 x 1 convolution to fewer channels."""
    module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    if type(module) is not nn.Conv2d or "forward" in vars(module):
        return None
    if not isinstance(module._parameters.get("weight"), Tensor):
        return None
    plain = (module.kernel_size, module.stride, module.padding, module.groups) == ((1, 1), (1, 1), (0, 0), 1)
    return module if plain and module.out_channels < module.in_channels else None


def _add_bias(maps: Tensor, bias: Tensor) -> Tensor:
    return maps + bias[:, None, None]


class _Channels(fx.Interpreter):
    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor) and result.ndim == 4:
            n.meta[CHANNELS] = result.shape[1]
        return result


def _branches(node: fx.Node) -> list[fx.Node] | None:
    """Return the nodes that a node concatenates along the channels; None for other nodes."""
    if node.op != "call_function" or node.target is not torch.cat:
        return None
    parts = node.args[0] if node.args else node.kwargs.get("tensors")
    dimension = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    if dimension != 1 or not isinstance(parts, list | tuple):
        return None
    branches = [part for part in parts if isinstance(part, fx.Node) and CHANNELS in part.meta]
    return branches if len(branches) == len(parts) > 1 else None


def copied(graph: fx.GraphModule) -> fx.Graph:
    """Return a copy of a graph's nodes and their `meta`."""
    other = fx.Graph()
    other.output(other.graph_copy(graph.graph, {}))
    for ours, theirs in zip(other.nodes, graph.graph.nodes, strict=True):
        ours.meta = dict(theirs.meta)
    return other


def taken(node: fx.Node) -> Any:
    """Return a node's first positional argument."""
    return node.args[0] if node.args else None


def is_alone(node: Any) -> TypeGuard[fx.Node]:
    """Return whether a value is a node whose output only one other node takes."""
    return isinstance(node, fx.Node) and len(node.users) == 1


def module_of(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """Return the module that a node calls; None for functions and for modules with a replaced `forward`."""
    module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    return None if module is None or "forward" in vars(module) else module


def is_kind(graph: fx.GraphModule, node: fx.Node, function: Any, module: type[nn.Module]) -> bool:
    """Return whether a node calls this function or a module of exactly this class."""
    if node.op == "call_module":
        return type(module_of(graph, node)) is module
    return node.op == "call_function" and node.target is function
