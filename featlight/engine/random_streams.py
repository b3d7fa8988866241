"""Global random streams: detect draws, and seed the streams temporarily."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own __init_subclass__
    """Records the first operation that draws from torch's random stream."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = device
        self.stack: Sequence[str] = ("",)
        self.place: str | None = None  # the module that runs it

    def _state(self) -> Tensor:
        on_gpu = self._device.type == "cuda"
        parts = [torch.get_rng_state(), *([torch.cuda.get_rng_state(self._device)] if on_gpu else [])]
        return torch.cat(parts)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        seeded = torch.Tag.nondeterministic_seeded in func.tags  # attention too, which then draws nothing
        before = self._state() if seeded and self.place is None else None
        result = func(*args, **(kwargs or {}))
        if before is not None and not torch.equal(before, self._state()):
            self.place = self.stack[-1]
        return result


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed every global random stream inside the context, then restore them."""
    before = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
