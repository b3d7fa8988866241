"""Tokens that do not depend on the image: class and register tokens, before the first attention mixes all tokens."""

from collections.abc import MutableMapping
from typing import Any

from torch import Tensor

from featlight.models.output_layout import parts
from featlight.models.token_grid import FixedTokens

ROUNDING = 1e-4  # relative to the largest difference of a token between two images


def record_fixed(found: MutableMapping[int, FixedTokens], value: Any) -> None:
    """Record the number of fixed tokens of each tensor, by its number of tokens; the first tensor decides.

    Args:
        found: results so far.
        value: structure of the inputs or the output of a module for two different images.
    """
    for _, tensor in parts(value):
        if tensor.ndim == 3 and tensor.is_floating_point() and 2 in tensor.shape[:2]:
            batch = 0 if tensor.shape[0] == 2 else 1
            first, second = tensor.detach().unbind(batch)
            change = (first - second).abs()  # (T, C), or (C, T)
            for each in (change.amax(1), change.amax(0)) if change.numel() else ():
                fixed = _fixed(each)
                if fixed is not None:
                    found.setdefault(len(each), fixed)


def _fixed(change: Tensor) -> FixedTokens | None:
    """Return the number of tokens at the start and at the end that change by rounding only; None if there are none.

    Args:
        change: difference of each token between two images, (T,).
    """
    differs = (change > ROUNDING * change.max()).nonzero()[:, 0].tolist()
    if not differs or len(differs) == len(change):
        return None
    fixed = FixedTokens(differs[0], len(change) - 1 - differs[-1])
    return fixed if sum(fixed) else None
