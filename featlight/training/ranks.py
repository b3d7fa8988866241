"""What the ranks of a training tell each other."""

from typing import TypeVar

import torch

T = TypeVar("T")


def exchange(value: T, ranks: int) -> list[T]:
    """Return the values of all ranks, by rank; every rank calls it.

    Args:
        value: this rank's value.
        ranks: number of ranks.
    """
    if ranks == 1:
        return [value]
    values: list[T | None] = [None] * ranks
    torch.distributed.all_gather_object(values, value)
    return [each for each in values if each is not None]
