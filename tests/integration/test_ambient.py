"""Nothing that a caller has switched on changes a bit or breaks a call, and all of it is as it was afterwards."""

import contextlib
import dataclasses
import locale
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import featlight

RECIPE = dataclasses.replace(
    featlight.NATURAL,
    octaves=(featlight.Octave(16, 2, (0.05, 0.03), (0.5, 0.4)), featlight.Octave(20, 2, (0.05, 0.03))),
    transforms=(featlight.Jitter(2), featlight.Rotate(-5, 5), featlight.Noise(0.1, 0.1)),
)


class Warns(nn.Module):
    """Makes numbers of its own, attends, and warns at every call."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.GELU(), nn.AdaptiveAvgPool2d(4))
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        warnings.warn("as some networks do", stacklevel=1)
        tokens = self.first(images).flatten(2).transpose(1, 2)
        tokens = tokens + self.attend(tokens, tokens, tokens, need_weights=False)[0] + torch.linspace(0, 1, 8)
        return self.last(tokens.transpose(1, 2).unflatten(2, (4, 4)))


def drawn() -> list[Tensor]:
    return list(featlight.visualize(NETWORK, "last", [0, 2], recipe=RECIPE, progress=False))


def equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    NETWORK = Warns().eval()


@contextlib.contextmanager
def switched(write: Any, value: Any, before: Any) -> Iterator[None]:
    write(value)
    try:
        yield
    finally:
        write(before)


class Stretches(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        return 1.5 * result if isinstance(result, Tensor) and result.is_floating_point() else result


class StretchesMaps(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        return 1.5 * result if func is torch.ops.aten.convolution.default else result


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Hooks of all modules and all optimizers."""
    handles = [
        nn.modules.module.register_module_forward_hook(lambda *words: 2 * words[2]),
        nn.modules.module.register_module_full_backward_hook(lambda *_: None),
        register_optimizer_step_post_hook(lambda optimizer, *_: optimizer.param_groups[0]["params"][0].data.mul_(2)),
    ]
    yield
    for handle in handles:
        handle.remove()


@contextlib.contextmanager
def strict() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def precision_of(module: Any, value: str, before: str) -> Any:
    return switched(lambda word: setattr(module, "fp32_precision", word), value, before)


backends = torch.backends
AMBIENT = {
    "nothing": contextlib.nullcontext,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast to half": lambda: torch.autocast("cpu", torch.float16),
    "default dtype float64": lambda: switched(torch.set_default_dtype, torch.float64, torch.float32),
    "default dtype bfloat16": lambda: switched(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "default device": lambda: switched(torch.set_default_device, "meta", None),
    "device": lambda: torch.device("meta"),
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "deterministic": lambda: switched(torch.use_deterministic_algorithms, True, False),
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True),
    "matmul": lambda: switched(torch.set_float32_matmul_precision, "medium", "highest"),
    "precision": lambda: precision_of(backends, "tf32", "none"),
    "precision of a part": lambda: precision_of(backends.cuda.matmul, "tf32", "none"),
    "mkldnn": lambda: backends.mkldnn.flags(enabled=False, allow_tf32=None),
    "cudnn": lambda: backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=True),
    "attention": lambda: nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH),
    "flush": lambda: switched(torch.set_flush_denormal, True, False),
    "function mode": Stretches,
    "dispatch mode": StretchesMaps,
    "fake tensors": torch._subclasses.FakeTensorMode,
    "saved tensors": lambda: torch.autograd.graph.saved_tensors_hooks(lambda each: 2 * each, lambda each: each),
    "global hooks": watched,
    "cached weights": nn.utils.parametrize.cached,
    "swapped weights": lambda: switched(torch.__future__.set_swap_module_params_on_conversion, True, False),
    "warnings": strict,
    "numpy's errors": lambda: np.errstate(all="raise"),
    "numpy's prints": lambda: np.printoptions(precision=1),
    "torch's prints": lambda: switched(lambda digits: torch.set_printoptions(precision=digits), 1, 4),
    "recursion": lambda: switched(sys.setrecursionlimit, len(list(frames())) + 40, sys.getrecursionlimit()),
    "logging": lambda: switched(logging.disable, logging.CRITICAL, logging.NOTSET),
    "locale": lambda: switched(lambda name: locale.setlocale(locale.LC_ALL, name), "C.UTF-8", locale.setlocale(0)),
}


def frames() -> Iterator[Any]:
    frame = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back  # type: ignore[assignment]


def settings() -> list[Any]:
    return [
        torch.get_default_dtype(),
        torch._C._len_torch_function_stack(),
        torch.utils._python_dispatch._len_torch_dispatch_stack(),
        [(torch.is_autocast_enabled(each), torch.get_autocast_dtype(each)) for each in ("cpu", "cuda")],
        (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        (torch.are_deterministic_algorithms_enabled(), torch.is_anomaly_enabled(), torch.get_num_threads()),
        torch._C._autograd._top_saved_tensors_default_hooks(True),
        [torch._C._get_fp32_precision_getter(*each) for each in (("generic", "all"), ("cuda", "matmul"))],
        (backends.mkldnn.enabled, backends.cudnn.benchmark, backends.cudnn.allow_tf32),
        (backends.cuda.flash_sdp_enabled(), torch.__future__.get_swap_module_params_on_conversion()),
        len(nn.modules.module._global_forward_hooks),
        nn.utils.parametrize._cache_enabled,
        list(warnings.filters),
        (np.geterr(), np.get_printoptions(), torch._tensor_str.get_printoptions()),
        (sys.getrecursionlimit(), logging.root.manager.disable, locale.setlocale(locale.LC_ALL)),
        (logging.getLogger("lightning.pytorch").level, signal.getsignal(signal.SIGTERM), dict(os.environ)),
    ]


def streams() -> list[Any]:
    return [torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()]


@pytest.fixture(scope="module")
def expected() -> list[Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return drawn()


@pytest.mark.filterwarnings("ignore:as some networks do", "ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("name", AMBIENT)
def test_nothing_around_a_call_changes_a_bit(name, expected):
    drew = streams()
    with AMBIENT[name]():
        before = settings()
        images = drawn()
        after = settings()
    assert after == before
    assert streams() == drew
    assert images[0].dtype == torch.float32
    assert equal(images, expected)


@pytest.mark.filterwarnings("ignore:as some networks do")
@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.vmap])
def test_nor_does_a_transform_of_functions(transform, expected):
    found = []

    def function(x):
        found.append(drawn())
        return (x * x).sum()

    transform(function)(torch.ones(3))
    assert equal(found[0], expected)


@pytest.mark.filterwarnings("ignore:as some networks do")
def test_a_compiled_function_may_call_it(expected):
    found = []

    def function(x):
        found.append(drawn())
        return x + len(featlight.list_layers(NETWORK, 16))

    torch.compile(function, backend="eager")(torch.ones(3))
    assert equal(found[0], expected)


@pytest.mark.filterwarnings("ignore:as some networks do")
def test_several_threads_wait_for_each_other(expected):
    found = []
    torch.set_default_dtype(torch.float64)
    try:
        threads = [threading.Thread(target=lambda: found.append(drawn())) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert len(found) == 3
    assert all(equal(images, expected) for images in found)


def other_entries(out: str) -> list[Any]:
    """What every other function of the package gives."""
    network = featlight.load_model("tiny_inception", "none", seed=3)
    layers = featlight.list_layers(network, 32)
    words = {"recipe": RECIPE, "out": out, "progress": False}
    run = featlight.visualize(network, layers[1].name, [0, 1], **words)
    found = featlight.find_examples(out, "images", network=network, top=2, progress=False)
    rows = featlight.encoder_directions("sae.npz", 8)
    return [
        [(layer.name, layer.shape) for layer in layers],
        [value.tolist() for value in network.state_dict().values()],
        run.images.tolist(),
        np.asarray(run.show()).tolist(),
        featlight.open_run(out).images.tolist(),
        [[(each.file, each.value, each.box) for each in examples] for examples in found.examples],
        np.asarray(rows).tolist(),
    ]


def test_all_functions_are_guarded():
    Path("images").mkdir()
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(f"images/{seed}.png")
    np.savez("sae.npz", W_enc=np.arange(8 * 16, dtype=np.float32).reshape(8, 16))
    expected = other_entries("plain")
    with contextlib.ExitStack() as stack:
        for name in AMBIENT.keys() - {"fake tensors", "function mode", "dispatch mode", "precision of a part"}:
            stack.enter_context(AMBIENT[name]())
        assert other_entries("switched") == expected
