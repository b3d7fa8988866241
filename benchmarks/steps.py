"""Methods to make one gradient step, from the article's to featlight's, with one optimization added at a time."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms.functional import gaussian_blur

import featlight
from featlight.config.named_starts import noise
from featlight.config.tile import feature_tile
from featlight.engine.device import memory_of
from featlight.engine.step import NEW, make_pipeline, step
from featlight.models.extractor import LayerOutputs
from featlight.models.frozen import frozen_copy
from featlight.models.layers import survey
from featlight.models.prepared import PreparedNetwork
from featlight.objectives.objective import Objective
from featlight.plan.batching import auto_batch_size

SIGMA, LR = 1.0, 0.01
FEW = 8  # features of a chunk, all in the first branch of a layer with branches


@dataclass
class Way:
    """A method to make steps.

    Args:
        name: name of the method.
        batch: number of images in a step.
        step: function that makes a step.
        network_only: function that makes only the network's forward and backward pass; None if it is not separate.
        dtype: floating-point type.
    """

    name: str
    batch: int
    step: Callable[[], None]
    network_only: Callable[[], None] | None
    dtype: torch.dtype


def article(network: nn.Module, layer: str, size: int, device: torch.device) -> Way:
    """Return the article's method: one image, weights not frozen; the forward pass stops at the layer."""
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    found = survey(network, size, device)
    network.to(memory_format=torch.contiguous_format)  # torchvision's format, which the survey changed
    cut = LayerOutputs(network, [found[layer]], device=device)
    image = noise(size, 999)[None].to(device)  # (1, 3, S, S)

    def step() -> None:
        nonlocal image
        image = image.detach().requires_grad_(True)
        loss = (200.0 - cut(image)[layer][0, 0]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        assert image.grad is not None
        with torch.no_grad():
            image = gaussian_blur(image - LR * image.grad, [3, 3], [SIGMA, SIGMA])

    return Way("the article's way", 1, step, None, torch.float32)


def plain(network: nn.Module, layer: str, size: int, batch: int, device: torch.device) -> Way:
    """Return the usual code: a forward pass of the whole network with a hook at the layer, and a backward pass."""
    images = noise(size, 999).expand(batch, 3, size, size).to(device).clone()
    found: list[Tensor] = []
    network.get_submodule(layer).register_forward_hook(lambda _, __, output: found.append(output))

    def step() -> None:
        network(images.detach().requires_grad_(True))
        found.pop().sum().backward()  # type: ignore[no-untyped-call]

    return Way("plain forward and backward", batch, step, None, torch.float32)


def of_outputs(name: str, outputs: LayerOutputs, layer: str, size: int, batch: int, device: torch.device) -> Way:
    """Return featlight's step of a batch, without Lightning."""
    tiles = [feature_tile(layer, feature) for feature in range(batch)]
    objective = Objective(tiles, "l1", 200.0, {})
    start = noise(size, 999).expand(batch, 3, size, size).to(device).clone()
    images, state = start.contiguous(memory_format=outputs.format), NEW
    recipe = featlight.Recipe([featlight.Octave(size, 1, (LR, LR), (SIGMA, SIGMA))])
    pipeline = make_pipeline(recipe, [0] * batch, device)
    (settings,) = recipe.steps()

    def network_only() -> None:
        outputs(images.detach().requires_grad_(True))[layer].sum().backward()  # type: ignore[no-untyped-call]

    def whole_step() -> None:
        nonlocal images, state
        images, state, _ = step(images, state, settings, outputs, objective, pipeline)

    return Way(name, batch, whole_step, network_only, outputs._dtype)


def batch_of(engine: PreparedNetwork, layer: str, device: torch.device) -> int:
    """Return the batch size of a run over many features."""
    image, memory = engine.image_memory([layer]), memory_of(device)
    return auto_batch_size(1 << 20, gpu=device.type == "cuda", image=image, memory=memory)


def ways(network: nn.Module, layer: str, size: int, batch: int, device: torch.device, compile: bool) -> list[Way]:
    """Return the article's method, then featlight's optimizations, each on top of those before it.

    Args:
        network: any network.
        layer: layer of the features.
        size: image size, in pixels.
        batch: number of images in a batch; 0 for a run's choice.
        device: device of the network.
        compile: whether to compile graphs, too.
    """
    frozen = frozen_copy(network, device, torch.float32)
    plain_survey = survey(frozen, size, device)
    frozen.to(memory_format=torch.contiguous_format)
    found = [plain_survey[layer]]

    def engine(dtype: torch.dtype, compiled: bool = False) -> PreparedNetwork:
        copy = frozen_copy(network, device, torch.float32)
        return PreparedNetwork(copy, [size], dtype=dtype, device=device, compile=compiled)

    def way(name: str, outputs: LayerOutputs, made: PreparedNetwork) -> Way:
        return of_outputs(name, outputs, layer, size, batch or batch_of(made, layer, device), device)

    fp32, bf16 = engine(torch.float32), engine(torch.bfloat16)
    folded = engine(torch.float32).folded([layer])._network.to(memory_format=torch.contiguous_format)
    some = {layer: range(FEW)}
    images = batch or batch_of(fp32, layer, device)
    every = [
        article(frozen_copy(network, device, torch.float32), layer, size, device),
        plain(frozen_copy(network, device, torch.float32), layer, size, images, device),
        way("frozen, in a batch", LayerOutputs(frozen, found, device=device), fp32),
        way("+ norms folded", LayerOutputs(folded, found, device=device), fp32),
        way("+ channels last", fp32.folded([layer]), fp32),
        way("+ pools moved", fp32.optimized([layer]), fp32),
        way("+ one branch", fp32.optimized([layer], some), fp32),
    ]
    if compile:
        made = engine(torch.float32, True)
        every.append(way("+ compiled", made.optimized([layer]), made))
    every.append(way("bf16, all of these", bf16.optimized([layer], some), bf16))
    if compile:
        made = engine(torch.bfloat16, True)
        every.append(way("bf16, compiled", made.optimized([layer]), made))
    return every


def lucent(network: nn.Module, layer: str, size: int, steps: int) -> float | None:
    """Return torch-lucent's seconds per step of one image; None if it is not installed."""
    try:
        from lucent.optvis import param, render
    except ImportError:
        return None
    network = copy.deepcopy(network)  # lucent leaves its hooks on every module
    options = {"thresholds": (steps,), "transforms": [], "show_image": False, "progress": False, "preprocess": False}
    started = time.perf_counter()
    render.render_vis(
        network,
        f"{layer.replace('.', '_')}:0",
        param_f=lambda: param.image(size, fft=False, decorrelate=False),
        fixed_image_size=size,
        **options,
    )
    return (time.perf_counter() - started) / steps


def product(network: nn.Module, layer: str, size: int, batch: int, steps: int, precision: str) -> float:
    """Return the seconds per image of `featlight.visualize`, with everything that a run does."""
    recipe = featlight.Recipe([featlight.Octave(size, steps, (LR, LR), (SIGMA, SIGMA))])
    features = range(max(batch, FEW))
    result = featlight.visualize(
        network, layer, features, recipe=recipe, precision=precision, batch_size=batch or "auto", progress=False
    )
    return sum(record["seconds"] for record in result.records) / len(features)


def flops(way: Way) -> float:
    """Return the floating-point operations of a step of one image."""
    with FlopCounterMode(display=False) as counter:
        way.step()
    return counter.get_total_flops() / way.batch


def matrix_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Return the operations per second of a large matrix product, the best of several runs."""
    n = 8192 if device.type == "cuda" else 1536
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    return 2 * n**3 / seconds(lambda: a @ b, 5, device)


def seconds(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Return the seconds of the fastest of several runs."""
    return min(times(work, repeats, device))


def times(work: Callable[[], object], repeats: int, device: torch.device) -> Sequence[float]:
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - started)
    return found


def agreement(one: Tensor, other: Tensor) -> float:
    """Return the correlation of two images."""
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]).double())[0, 1])
