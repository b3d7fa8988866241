"""Isolate featlight from a caller's torch settings.

A call inside `torch.autocast`, under another default dtype or with warnings as errors gives the same bits as without
them. Afterwards all settings and random streams are as before.
"""

import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
import torch
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.nn.modules import module as hooks
from torch.nn.utils import parametrize
from torch.optim import optimizer as optimizers
from torch.utils._python_dispatch import _disable_current_modes

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")

DEEP = 3000  # recursion limit; nested networks are copied by recursion
NUMPY_PRINTS = {
    **{"precision": 8, "threshold": 1000, "edgeitems": 3, "linewidth": 75, "suppress": False, "formatter": None},
    **{"nanstr": "nan", "infstr": "inf", "sign": "-", "floatmode": "maxprec", "legacy": False},
}
LOW_DTYPES = {"cpu": torch.bfloat16, "cuda": torch.float16}  # autocast's defaults


class _Setting(NamedTuple):
    """A setting of the process: how to read and write it, and its default."""

    read: Callable[[], Any]
    write: Callable[[Any], object]
    default: Any

    def value(self) -> Any:
        try:
            return self.read()
        except RuntimeError:  # torch refuses to read a precision that was set by both its old and its new interface
            return None

    def change(self, value: Any) -> None:
        if self.value() != value:
            self.write(value)


def _attribute(owner: Any, name: str, default: Any) -> _Setting:
    return _Setting(partial(getattr, owner, name), partial(setattr, owner, name), default)


def _precision(backend: str, operation: str, default: str = "none") -> _Setting:
    read, write = torch._C._get_fp32_precision_getter, torch._C._set_fp32_precision_setter
    return _Setting(partial(read, backend, operation), partial(write, backend, operation), default)


def _hooks(table: dict[Any, Any]) -> _Setting:
    def write(others: dict[Any, Any]) -> None:
        table.clear()
        table.update(others)

    return _Setting(lambda: dict(table), write, {})


_cuda = torch.backends.cuda
# Set and restored in this order: a precision may include those after it
_SETTINGS = (
    _Setting(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    _Setting(
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        lambda mode: torch.use_deterministic_algorithms(mode[0], warn_only=mode[1]),
        (False, False),
    ),
    _Setting(
        lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        lambda mode: torch.set_anomaly_enabled(*mode),
        (False, True),
    ),
    _Setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
    _attribute(torch.backends.cudnn, "allow_tf32", True),
    *(_precision(backend, "all") for backend in ("generic", "cuda", "mkldnn")),
    *(_precision("cuda", operation, "tf32") for operation in ("conv", "rnn")),
    *(_precision("mkldnn", operation) for operation in ("conv", "rnn", "matmul")),
    _precision("cuda", "matmul"),
    _attribute(torch.backends.mkldnn, "enabled", True),
    _attribute(torch.backends.mkldnn, "deterministic", False),
    _Setting(torch._C._get_nnpack_enabled, torch._C._set_nnpack_enabled, True),
    _attribute(torch.backends.opt_einsum, "enabled", torch.backends.opt_einsum.is_available()),
    _attribute(torch.backends.opt_einsum, "strategy", "auto" if torch.backends.opt_einsum.is_available() else None),
    _Setting(torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled, True),
    _Setting(_cuda.flash_sdp_enabled, _cuda.enable_flash_sdp, True),
    _Setting(_cuda.mem_efficient_sdp_enabled, _cuda.enable_mem_efficient_sdp, True),
    _Setting(_cuda.math_sdp_enabled, _cuda.enable_math_sdp, True),
    _Setting(_cuda.cudnn_sdp_enabled, _cuda.enable_cudnn_sdp, True),
    _attribute(_cuda.matmul, "allow_fp16_reduced_precision_reduction", True),
    _attribute(_cuda.matmul, "allow_bf16_reduced_precision_reduction", True),
    _attribute(_cuda.matmul, "allow_fp16_accumulation", False),
    _attribute(torch.__future__, "_overwrite_module_params_on_conversion", False),
    _attribute(torch.__future__, "_swap_module_params_on_conversion", False),
    _attribute(parametrize, "_cache_enabled", 0),
    _Setting(
        torch._tensor_str.get_printoptions,
        lambda options: torch.set_printoptions(**options),  # type: ignore[no-untyped-call]
        {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None},
    ),
    *(_hooks(table) for name, table in vars(hooks).items() if name.startswith("_global_") and isinstance(table, dict)),
    *(_hooks(table) for name, table in vars(optimizers).items() if name.startswith("_global_optimizer")),
)

_lock = threading.RLock()


def not_compiled(function: Callable[Arguments, Value]) -> Callable[Arguments, Value]:
    """Run a function as it is where a function that calls it is compiled by `torch.compile`."""
    skipped: Callable[Arguments, Value] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]

    @wraps(function)
    def call(*args: Arguments.args, **options: Arguments.kwargs) -> Value:
        return skipped(*args, **options) if torch.compiler.is_compiling() else function(*args, **options)

    return call


@contextmanager
def isolated() -> Iterator[None]:
    """Run under torch's defaults, then restore settings and random streams; also a decorator.

    Calls from several threads wait for each other, because many settings, and torch's tracing, belong to the process.
    """
    with _lock, ExitStack() as stack:
        _enter_thread(stack)
        _enter_process(stack)
        yield


def _enter_thread(stack: ExitStack) -> None:
    """Set the defaults of torch's and NumPy's settings per thread."""
    while torch._C._len_torch_function_stack():  # a default device is one of these modes
        stack.callback(torch._C._push_on_torch_function_stack, torch._C._pop_torch_function_stack())
    default_device = vars(torch._GLOBAL_DEVICE_CONTEXT).pop("device_context", None)
    if default_device is not None:
        stack.callback(setattr, torch._GLOBAL_DEVICE_CONTEXT, "device_context", default_device)
    stack.enter_context(_disable_current_modes())
    stack.enter_context(temporarily_clear_interpreter_stack())
    while (pair := torch._C._autograd._top_saved_tensors_default_hooks(True)) is not None:
        torch._C._autograd._pop_saved_tensors_default_hooks()
        stack.callback(torch._C._autograd._push_saved_tensors_default_hooks, *pair)
    stack.enter_context(torch.inference_mode(False))
    stack.enter_context(torch.enable_grad())
    for device, dtype in LOW_DTYPES.items():
        stack.enter_context(torch.autocast(device, dtype, enabled=False, cache_enabled=True))
    stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
    stack.enter_context(np.printoptions(**NUMPY_PRINTS))


def _enter_process(stack: ExitStack) -> None:
    """Set the defaults of the process's settings."""
    before = [setting.value() for setting in _SETTINGS]
    stack.callback(_restore, before)
    for setting in _SETTINGS:
        setting.change(setting.default)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, DEEP))
    stack.callback(sys.setrecursionlimit, limit)
    stack.enter_context(warnings.catch_warnings())
    filters = [("default", *rest) if action == "error" else (action, *rest) for action, *rest in warnings.filters]
    warnings.filters[:] = filters  # type: ignore[index]
    stack.callback(random.setstate, random.getstate())
    stack.callback(np.random.set_state, np.random.get_state())
    stack.callback(torch.set_rng_state, torch.get_rng_state())
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        stack.callback(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
    elif torch.cuda.is_available():  # a seed set before the first use of a GPU applies to it
        stack.callback(torch.cuda.manual_seed_all, torch.initial_seed())


def _restore(values: Sequence[Any]) -> None:
    for setting, value in zip(_SETTINGS, values, strict=True):
        if value is not None:
            setting.change(value)
