"""Looking into a network while it runs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

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
