"""ReLUs that pass a gradient to images that would get none, so that a feature can start from zero activation.

GELU and SiLU are redirected, too: below their minimum, their own gradient is small and has the wrong sign.

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
FEW = 8  # channels or tokens that are checked first


class Redirected(torch.autograd.Function):
    """A ReLU, clamped to [`low`, `high`], with a gradient for images whose units are all in the flat parts.

    Such an image gets the part of its gradient that moves units out of the flat parts in a descent: up from the lower
    part, down from the upper part.

    Source: lucid, `optvis/overrides/redirected_relu_grad.py`; here for each image separately, not for the batch.
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
        if alive.device.type == "cpu" and alive.all():  # other devices would have to synchronize
            return own, None, None
        useful = ((x <= low) & (gradient < 0)) | ((x >= high) & (gradient > 0))
        return torch.where(alive.view(-1, *[1] * (x.ndim - 1)), own, gradient * useful), None, None


class Smooth(NamedTuple):
    """An activation that falls to a minimum and rises after it.

    Args:
        forward: function of x.
        backward: function from the gradient of the output, and x, to the gradient of x.
        lowest: x at the minimum.
    """

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]
    lowest: float


class RedirectedSmooth(torch.autograd.Function):
    """A smooth activation with a redirected gradient for images whose units with a gradient are all below the minimum.

    There, a descent that should raise a unit would lower x further. Units that it should lower get no gradient.
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
        if x.device.type == "cpu":  # other devices would have to synchronize
            few = (x[:, :FEW] > ctx.smooth.lowest) & (gradient[:, :FEW] != 0)  # these nearly always decide
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
        pulled: Tensor = torch.ops.aten.gelu_backward(gradient, x, approximate=approximate)
        return pulled

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


# Functions that modules and functional calls end in, with functions that normalize their arguments
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


class _SmoothDetector(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.detected = False

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.detected = self.detected or func in _SMOOTH_CALLS
        return func(*args, **(kwargs or {}))


def has_smooth(function: Callable[[Tensor], Any], images: Tensor) -> bool:
    """Return whether a function of images runs a GELU or SiLU; errors of the function are ignored."""
    detector = _SmoothDetector()
    with torch.no_grad(), suppress(Exception, SystemExit), detector:
        function(images.clone())
    return detector.detected


@contextmanager
def redirected_relus(relus: bool = True) -> Iterator[None]:
    """Redirect the gradient of every ReLU, ReLU6, Hardtanh, GELU and SiLU that runs in this context.

    Args:
        relus: whether to redirect ReLU, ReLU6 and Hardtanh; GELU and SiLU are always redirected, because below the
            minimum their own gradient leads further down.
    """
    with _Redirecting(relus):
        yield
