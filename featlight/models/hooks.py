"""Hooks on the modules of a running network."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def forward_hooks(
    pairs: Sequence[tuple[nn.Module, Callable[..., None]]],
    before: Sequence[tuple[nn.Module, Callable[..., None]]] = (),
) -> Iterator[None]:
    """Register forward hooks, and remove them at the end.

    Args:
        pairs: modules and the hooks that run after them.
        before: modules and the hooks that run before them, with their keyword arguments.
    """
    handles = [module.register_forward_hook(hook) for module, hook in pairs]
    handles += [module.register_forward_pre_hook(hook, with_kwargs=True) for module, hook in before]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def running(network: nn.Module, note: Callable[[str, Any], None] = lambda *_: None) -> Iterator[list[str]]:
    """Follow the modules of a running network.

    Args:
        network: network to follow.
        note: function that receives the inputs and outputs of each module, with the name of the module that made
            them: a module's inputs come from the module that calls it.

    Yields:
        Names of the running modules, the innermost last.
    """
    stack = [""]
    names = {module: name for name, module in network.named_modules()}

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        note(stack[-1], (args, kwargs))
        stack.append(names[module])

    def leave(module: nn.Module, _: Any, output: Any) -> None:
        while len(stack) > 1 and stack.pop() != names[module]:
            pass  # a module that failed, in a network that caught the error
        note(names[module], output)

    with forward_hooks([(module, leave) for module in names], [(module, enter) for module in names]):
        yield stack
