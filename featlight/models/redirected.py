"""ReLUs that let a gradient through where they would let none, so that features which start dead can wake.

with redirected_relus():
    outputs = network(images)  # the same values; the backward pass may follow later, outside
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

INFINITE = float("inf")


class Redirected(torch.autograd.Function):
    """A ReLU from `low` to `high` whose gradient, for an image that gets none at all, goes where it can do something.

    An image whose units here are all in the flat parts passes on the part of its gradient that would move them, in a
    descent, out of these: up from the lower one, down from the upper one.

    Source: lucid, `optvis/overrides/redirected_relu_grad.py`; here for each image by itself, not for the batch.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bounds = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        (x,) = ctx.saved_tensors
        low, high = ctx.bounds
        own: Tensor = torch.ops.aten.hardtanh_backward(gradient, x, low, high)
        alive = own.any((1, 2, 3)) if own.ndim == 4 else own.flatten(1).any(1)  # (N,)
        if alive.device.type == "cpu" and alive.all():  # elsewhere the question would wait for the device
            return own, None, None
        useful = ((x <= low) & (gradient < 0)) | ((x >= high) & (gradient > 0))
        return torch.where(alive.view(-1, *[1] * (x.ndim - 1)), own, gradient * useful), None, None


def _relu(x: Tensor, *_: Any, **__: Any) -> tuple[Tensor, float, float]:
    return x, 0.0, INFINITE


def _relu6(x: Tensor, *_: Any, **__: Any) -> tuple[Tensor, float, float]:
    return x, 0.0, 6.0


def _hardtanh(
    x: Tensor, min_val: float = -1.0, max_val: float = 1.0, *_: Any, **__: Any
) -> tuple[Tensor, float, float]:
    return x, min_val, max_val


# What modules and functional calls come down to, and how each is called
_CALLS: Mapping[Callable[..., Any], Callable[..., tuple[Tensor, float, float]]] = {
    F.relu: _relu,
    torch.relu: _relu,
    Tensor.relu: _relu,
    F.relu6: _relu6,
    F.hardtanh: _hardtanh,
}


class _Redirecting(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _CALLS:
            return func(*args, **kwargs)
        x, low, high = _CALLS[func](*args, **kwargs)
        return Redirected.apply(x, low, high)


@contextmanager
def redirected_relus() -> Iterator[None]:
    """For a while, every ReLU, ReLU6 and Hardtanh that runs redirects its gradient."""
    with _Redirecting():
        yield
