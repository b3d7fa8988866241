"""Layer names as the user sees them: without wrappers, and without the attribute that holds the network."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from featlight.config.choices import is_pattern
from featlight.errors import UsageError, listed, unknown

WRAPPERS = ("_orig_mod", "_forward_module", "module")  # of torch.compile, Fabric, and DDP


def plain_name(name: str) -> str:
    """Return a module's name without its wrappers: `net.layer3` for `net._orig_mod.layer3`."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def full_name(network: nn.Module, layer: str) -> str:
    """Return the name of a layer in a network, which may hold it further inside.

    Args:
        network: network, for example a LightningModule with the network in an attribute.
        layer: full name, name without wrappers, or the end of one module's name; a pattern or `all` is returned as
            it is.

    Raises:
        UsageError: no module, or more than one, has that name.
    """
    names = [name for name, _ in network.named_modules()]
    if layer in names:
        return layer
    same = [name for name in names if plain_name(name) == plain_name(layer)]
    ends = [name for name in names if plain_name(name).endswith(f".{plain_name(layer)}")]
    for found in (same[-1:], _outermost(ends)):
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(f"layer: {layer!r} given; {type(network).__name__} has several: {listed(found)}")
    if layer == "all" or is_pattern(layer):
        return layer
    raise UsageError(f"layer: {unknown('layer', layer, filter(None, names), f'in {type(network).__name__}')}")


def _outermost(names: Iterable[str]) -> list[str]:
    """Return the names with the fewest parts, of one module in several wrappers the innermost."""
    by_plain = {plain_name(name): name for name in names}
    depth = min((name.count(".") for name in by_plain), default=0)
    return [full for name, full in by_plain.items() if name.count(".") == depth]


def full_names(network: nn.Module, layer: Any) -> Any:
    """Return `layer` as `featlight.visualize` takes it, with full names in place of the user's.

    Raises:
        UsageError: no module, or more than one, has one of the names.
    """
    if isinstance(layer, str):
        return full_name(network, layer)
    if isinstance(layer, Mapping):
        return {full_names(network, each): features for each, features in layer.items()}
    if isinstance(layer, list | tuple):
        return [full_names(network, each) for each in layer]
    return layer


def holders(layer: Any) -> list[str]:
    """Return the names of the modules that hold all of the layers, from the whole network, ``, inwards."""
    words = [layer] if isinstance(layer, str) else list(layer) if isinstance(layer, Mapping | list) else []
    if not words or not all(isinstance(word, str) and not is_pattern(word) for word in words):
        return [""]
    parts = [word.split(".")[:-1] for word in words]
    shared: list[str] = []
    for at_depth in zip(*parts, strict=False):
        if len(set(at_depth)) > 1:
            break
        shared.append(at_depth[0])
    return [".".join(shared[:depth]) for depth in range(len(shared) + 1)]


def within(layer: Any, holder: str) -> Any:
    """Return `layer` with names that start at a holder."""
    if isinstance(layer, str):
        return layer.removeprefix(f"{holder}.") if holder else layer
    if isinstance(layer, Mapping):
        return {within(each, holder): features for each, features in layer.items()}
    return [within(each, holder) for each in layer] if isinstance(layer, list) else layer
