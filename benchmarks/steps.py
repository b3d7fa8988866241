"""Ways to make one gradient step, from the article's to featlight's, a measure at a time."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms.functional import gaussian_blur

import featlight
from featlight.engine import Engine
from featlight.image import blur, noise
from featlight.network import LayerOutputs, frozen_copy, survey
from featlight.objective import Objective
from featlight.tile import feature_tile

SIGMA, LR = 1.0, 0.01


@dataclass
class Way:
    """A way to make steps.

    Args:
        name: of it.
        batch: images that a step moves.
        step: makes one.
        network_only: only runs the network forth and back; None where the two cannot be told apart.
        dtype: of its arithmetic.
    """

    name: str
    batch: int
    step: Callable[[], None]
    network_only: Callable[[], None] | None
    dtype: torch.dtype


def article(network: nn.Module, layer: str, size: int, device: torch.device) -> Way:
    """One image, the network's weights not frozen, as the article's listing does; stopped at the layer."""
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    found = survey(network, size, device)
    cut = LayerOutputs(network, [found[layer]], device=device)
    image = noise(size, 999)[None].to(device)  # (1, 3, S, S)

    def step() -> None:
        nonlocal image
        image = image.detach().requires_grad_(True)
        network.zero_grad(set_to_none=False)
        loss = (200.0 - cut(image)[layer][0, 0]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        assert image.grad is not None
        with torch.no_grad():
            image = gaussian_blur(image - LR * image.grad, [3, 3], [SIGMA, SIGMA])

    return Way("the article's way", 1, step, None, torch.float32)


def of_outputs(name: str, outputs: LayerOutputs, layer: str, size: int, batch: int, device: torch.device) -> Way:
    """Steps of a batch as featlight makes them, without Lightning around them."""
    tiles = [feature_tile(layer, feature) for feature in range(batch)]
    objective = Objective(tiles, "l1", 200.0, {})
    start = noise(size, 999).expand(batch, 3, size, size).to(device).clone()
    images = nn.Parameter(start.contiguous(memory_format=outputs.format))
    optimizer = torch.optim.SGD([images], LR)

    def network_only() -> None:
        optimizer.zero_grad()
        outputs(images)[layer].sum().backward()  # type: ignore[no-untyped-call]

    def step() -> None:
        optimizer.zero_grad()
        objective(outputs(images)).loss.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            images.copy_(blur(images, SIGMA))

    return Way(name, batch, step, network_only, outputs._dtype)


def ways(network: nn.Module, layer: str, size: int, batch: int, device: torch.device, compile: bool) -> list[Way]:
    """The article's, then each measure on top of those before it."""
    frozen = frozen_copy(network, device, torch.float32)
    plain_survey = survey(frozen, size, device)
    frozen.to(memory_format=torch.contiguous_format)
    found = [plain_survey[layer]]

    def engine(dtype: torch.dtype, compiled: bool = False) -> LayerOutputs:
        copy = frozen_copy(network, device, torch.float32)
        return Engine(copy, [size], dtype=dtype, device=device, compile=compiled).at([layer])

    folded = engine(torch.float32)._network.to(memory_format=torch.contiguous_format)
    every = [
        article(frozen_copy(network, device, torch.float32), layer, size, device),
        of_outputs("frozen, in a batch", LayerOutputs(frozen, found, device=device), layer, size, batch, device),
        of_outputs("+ norms folded", LayerOutputs(folded, found, device=device), layer, size, batch, device),
        of_outputs("+ channels last", engine(torch.float32), layer, size, batch, device),
    ]
    if compile:
        every.append(of_outputs("+ compiled", engine(torch.float32, True), layer, size, batch, device))
    every.append(of_outputs("bf16 network", engine(torch.bfloat16), layer, size, batch, device))
    if compile:
        every.append(of_outputs("bf16, compiled", engine(torch.bfloat16, True), layer, size, batch, device))
    return every


def lucent(network: nn.Module, layer: str, size: int, steps: int) -> float | None:
    """Seconds a step of the peer torch-lucent, one image; None where it is not installed."""
    try:
        from lucent.optvis import param, render
    except ImportError:
        return None
    network = copy.deepcopy(network)  # it leaves its hooks on every module
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
    """Seconds an image through `featlight.visualize`: Lightning, objective, steps, blur and the last look."""
    recipe = featlight.Recipe([featlight.Octave(size, steps, (LR, LR), (SIGMA, SIGMA))])
    result = featlight.visualize(
        network, layer, range(batch), recipe=recipe, precision=precision, batch_size=batch, progress=False
    )
    return sum(record["seconds"] for record in result.records) / batch


def flops(way: Way) -> float:
    """Floating-point operations of one image-step."""
    with FlopCounterMode(display=False) as counter:
        way.step()
    return counter.get_total_flops() / way.batch


def matrix_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Operations a second that a large matrix product reaches, the best of several."""
    n = 8192 if device.type == "cuda" else 1536
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    return 2 * n**3 / seconds(lambda: a @ b, 5, device)


def seconds(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """The shortest of several runs."""
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
    """The correlation of two images."""
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]).double())[0, 1])
