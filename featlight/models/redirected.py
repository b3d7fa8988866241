"""ReLUs that let a gradient through where they would let none, so that features which start dead can wake.

GELU and SiLU likewise: below their minimum they would let it through the wrong way round, and hardly any of it.

with redirected_relus():
    outputs = network(images)  # the same values; the backward pass may follow later, outside
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

INFINITE = float("inf")
FEW = 8  # channels or tokens that are asked first


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


class Smooth(NamedTuple):
    """An activation that falls to a minimum and rises from there on.

    Args:
        forward: of x.
        backward: from the gradient of what it gives, and x, to the gradient of x.
        lowest: where its minimum is.
    """

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]
    lowest: float


class RedirectedSmooth(torch.autograd.Function):
    """Such an activation; the gradient of an image that rests below the minimum wherever it is asked to move, goes up.

    What a descent is to raise would sink further from there, towards 0, and what it is to lower stays as it is.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, smooth: Smooth) -> Tensor:
        ctx.save_for_backward(x)
        ctx.smooth = smooth
        return smooth.forward(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        (x,) = ctx.saved_tensors
        own = ctx.smooth.backward(gradient, x)
        if x.device.type == "cpu":  # elsewhere the question would wait for the device
            few = (x[:, :FEW] > ctx.smooth.lowest) & (gradient[:, :FEW] != 0)  # nearly always enough to tell
            if few.flatten(1).any(1).all():
                return own, None
        below = x <= ctx.smooth.lowest
        alive = (~below & (gradient != 0)).flatten(1).any(1)  # (N,)
        useful = below & (gradient < 0)
        return torch.where(alive.view(-1, *[1] * (x.ndim - 1)), own, gradient * useful), None


def _gelu(x: Tensor, approximate: str = "none") -> tuple[Tensor, Smooth]:
    def forward(x: Tensor) -> Tensor:
        return F.gelu(x, approximate=approximate)

    def backward(gradient: Tensor, x: Tensor) -> Tensor:
        found: Tensor = torch.ops.aten.gelu_backward(gradient, x, approximate=approximate)
        return found

    return x, Smooth(forward, backward, -0.75246 if approximate == "tanh" else -0.75179)


def _silu(x: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Smooth]:
    return x, Smooth(F.silu, torch.ops.aten.silu_backward, -1.27846)


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
_SMOOTH_CALLS: Mapping[Callable[..., Any], Callable[..., tuple[Tensor, Smooth]]] = {F.gelu: _gelu, F.silu: _silu}


class _Redirecting(TorchFunctionMode):
    def __init__(self, relus: bool) -> None:
        super().__init__()
        self._relus = relus

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _SMOOTH_CALLS:
            return RedirectedSmooth.apply(*_SMOOTH_CALLS[func](*args, **kwargs))
        if func not in _CALLS or not self._relus:
            return func(*args, **kwargs)
        x, low, high = _CALLS[func](*args, **kwargs)
        return Redirected.apply(x, low, high)


class _Looking(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.found = False

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.found = self.found or func in _SMOOTH_CALLS
        return func(*args, **(kwargs or {}))


def has_smooth(function: Callable[[Tensor], Any], images: Tensor) -> bool:
    """Whether a GELU or SiLU runs in a function of images; what fails on the way is for others to say."""
    looking = _Looking()
    with torch.no_grad(), suppress(Exception, SystemExit), looking:
        function(images.clone())
    return looking.found


@contextmanager
def redirected_relus(relus: bool = True) -> Iterator[None]:
    """For a while, every ReLU, ReLU6, Hardtanh, GELU and SiLU that runs redirects its gradient.

    Args:
        relus: whether those with flat parts do; for GELU and SiLU it never does harm, for below the minimum their own
            gradient leads further down.
    """
    with _Redirecting(relus):
        yield
