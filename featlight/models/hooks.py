"""Looking into a network while it runs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def forward_hooks(pairs: Sequence[tuple[nn.Module, Callable[..., None]]]) -> Iterator[None]:
    """Forward hooks that are gone afterwards, whatever happens."""
    handles = [module.register_forward_hook(hook) for module, hook in pairs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def running(network: nn.Module, note: Callable[[str, Any], None] = lambda *_: None) -> Iterator[list[str]]:
    """Follow a network while it runs.

    Args:
        network: whose modules are followed.
        note: told of what goes into and comes out of each module, with the name of the module whose doing that is:
            a module's input is its caller's.

    Yields:
        The names of the modules at work, the innermost last.
    """
    stack = [""]
    names = {module: name for name, module in network.named_modules()}

    def enter(module: nn.Module, given: Any, words: Any) -> None:
        note(stack[-1], (given, words))
        stack.append(names[module])

    def leave(module: nn.Module, _: Any, output: Any) -> None:
        while len(stack) > 1 and stack.pop() != names[module]:
            pass  # one that failed, which somebody has caught
        note(names[module], output)

    entering = [module.register_forward_pre_hook(enter, with_kwargs=True) for module in names]
    try:
        with forward_hooks([(module, leave) for module in names]):
            yield stack
    finally:
        for handle in entering:
            handle.remove()
