"""What a node of a network's graph is, and what it takes."""

from typing import Any, TypeGuard

from torch import fx, nn


def copied(graph: fx.GraphModule) -> fx.Graph:
    """The nodes anew, with what was noted of them."""
    other = fx.Graph()
    other.output(other.graph_copy(graph.graph, {}))
    for ours, theirs in zip(other.nodes, graph.graph.nodes, strict=True):
        ours.meta = dict(theirs.meta)
    return other


def taken(node: fx.Node) -> Any:
    """What a node takes first, where it stands without a keyword."""
    return node.args[0] if node.args else None


def is_alone(node: Any) -> TypeGuard[fx.Node]:
    """Whether it is a node whose output one other alone takes."""
    return isinstance(node, fx.Node) and len(node.users) == 1


def module_of(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that a node calls, unless its forward is its own; None for functions."""
    module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    return None if module is None or "forward" in vars(module) else module


def is_kind(graph: fx.GraphModule, node: fx.Node, function: Any, module: type[nn.Module]) -> bool:
    """Whether it calls a function, or a module of exactly this class."""
    if node.op == "call_module":
        return type(module_of(graph, node)) is module
    return node.op == "call_function" and node.target is function
