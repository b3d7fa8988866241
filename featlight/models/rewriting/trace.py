"""The graph of a frozen network, if it certainly has the network's outputs and gradients.

A graph keeps no hooks, no torch modes and no in-place writes whose result is unused: `x.clamp_(-1, 1)` as a statement
vanishes. Networks with these run without a graph.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torchvision
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from featlight.models.copying import duplicate
from featlight.models.layer_info import Layer
from featlight.models.output_layout import part_of
from featlight.models.rewriting.convolutions import PaddedConv2d

_WRAPPED = (math, torchvision.ops)  # as torchvision traces its own networks
_LEAVES = tuple(
    each for each in vars(torchvision.ops).values() if isinstance(each, type) and issubclass(each, nn.Module)
)


class NoGraphError(Exception):
    """The network has no graph that certainly does the same."""


def traced(network: nn.Module, layers: Sequence[Layer], images: Tensor, *, inplace: bool = True) -> fx.GraphModule:
    """Return the graph of a frozen network from images to the outputs of some layers, by name.

    Args:
        network: network, which is not changed; the graph shares its parameters and buffers.
        layers: layers of the outputs.
        images: images to run, (N, C, H, W).
        inplace: whether in-place modules stay in place.

    Raises:
        NoGraphError: the graph would do something else.
        Exception: torch.fx cannot trace it; tracing may raise anything.
    """
    if any(is_hooked(module) for module in network.modules()):
        raise NoGraphError("it has hooks")
    structure = duplicate(network, share_tensors=True)  # a module that keeps its outputs would keep proxies
    if not inplace:
        for module in structure.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment]
    tracer = _Tracer(autowrap_modules=_WRAPPED)
    graph = tracer.trace(structure)
    modules = dict(structure.named_modules(remove_duplicate=False))
    given = {layer.name: _given(layer, tracer.given.get(modules[layer.module], [])) for layer in layers}
    nodes = {layer: proxy.node for layer, proxy in given.items() if isinstance(proxy, fx.Proxy)}
    if len(nodes) < len(layers):
        raise NoGraphError("it does not give every layer by itself")
    _end_with(graph, nodes)
    found = fx.GraphModule(structure, graph)
    _refuse_writes(found, images)
    found.graph.eliminate_dead_code()
    found.recompile()
    return found


def _given(layer: Layer, calls: Sequence[Any]) -> Any:
    """Return a layer's output from the outputs of its module's calls; None if it is unknown."""
    if not calls or (layer.call is not None and len(calls) != layer.calls):
        return None
    return part_of(calls[-1 if layer.call is None else layer.call - 1], layer.part)


def is_hooked(module: nn.Module) -> bool:
    """Return whether a module has forward or backward hooks."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def operations(outputs: Mapping[str, Tensor]) -> Counter[tuple[str, int, str]]:
    """Count the edges of the autograd graph behind some outputs.

    Returns:
        Counts of (operation, index of its input, operation that computed the input).
    """
    left = [_behind_copies(output.grad_fn) for output in outputs.values()]
    seen = set(left)
    found: Counter[tuple[str, int, str]] = Counter()
    while left:
        node = left.pop()
        for place, (other, _) in enumerate(node.next_functions if node is not None else ()):
            before = _behind_copies(other)
            found[_name(node), place, _name(before)] += 1
            if before not in seen:
                seen.add(before)
                left.append(before)
    return found


def _behind_copies(node: Any) -> Any:
    """Skip the copies that `LayerOutputs` makes of its outputs."""
    while _name(node) in ("CloneBackward", "AliasBackward"):
        node = node.next_functions[0][0]
    return node


def _name(node: Any) -> str:
    return "" if node is None else str(node.name()).rstrip("0123456789")


class _Tracer(fx.Tracer):
    """Records the outputs of each module, call by call."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.given: dict[nn.Module, list[Any]] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (*_LEAVES, PaddedConv2d)) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        given = super().call_module(m, forward, args, kwargs)
        self.given.setdefault(m, []).append(given)
        return given


def _end_with(graph: fx.Graph, nodes: Mapping[str, fx.Node]) -> None:
    """Remove the nodes after the last of some nodes, and return these as the graph's output."""
    for node in reversed(list(graph.nodes)):
        if node in nodes.values():
            break
        graph.erase_node(node)
    graph.output(dict(nodes))


def _refuse_writes(graph: fx.GraphModule, images: Tensor) -> None:
    """Raise NoGraphError if a node writes into a tensor that a later node takes, too."""
    run = _Writes(graph, garbage_collect_values=False)
    with torch.no_grad():
        run.run(images)
    order = {node: place for place, node in enumerate(graph.graph.nodes)}
    for writer, memory in run.written:
        for node, memories in run.memories.items():
            if order[node] < order[writer] and memory in memories:
                late = [user for user in node.users if order[user] > order[writer]]
                if late:
                    raise NoGraphError(f"{writer.name} writes into what {late[0].name} takes")


class _Writes(fx.Interpreter):
    """Runs a graph, and records the memory of each node's tensors and the nodes that write into their inputs."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.memories: dict[fx.Node, set[int]] = {}
        self.written: list[tuple[fx.Node, int]] = []

    def run_node(self, n: fx.Node) -> Any:
        given = [tensor for node in n.all_input_nodes for tensor in _tensors(self.env[node])]
        before = [tensor._version for tensor in given]
        result = super().run_node(n)
        changed = [tensor for tensor, version in zip(given, before, strict=True) if tensor._version != version]
        self.written += [(n, memory) for tensor in changed for memory in _memory(tensor)]
        self.memories[n] = {memory for tensor in _tensors(result) for memory in _memory(tensor)}
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    yield from (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))


def _memory(tensor: Tensor) -> Iterator[int]:
    if tensor.layout == torch.strided and tensor.untyped_storage().data_ptr():
        yield tensor.untyped_storage().data_ptr()
