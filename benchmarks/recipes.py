"""Time of a recipe's steps and their parts on a trained network, compared with the article's code and with lucent."""

import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from benchmarks import steps
from benchmarks.pictures import peer
from featlight.config.presets import RECIPES
from featlight.config.tile import feature_tile
from featlight.engine.device import keep_memory, repeatable
from featlight.engine.step import NEW, make_pipeline, step
from featlight.models.catalog import source_of
from featlight.models.frozen import frozen_copy
from featlight.models.prepared import PreparedNetwork
from featlight.objectives.objective import Objective
from featlight.optimizers import apply_rule
from featlight.param.registry import starting_parameters

CPU = torch.device("cpu")
ARTICLE, PEER = "the article's way", "lucent"


@dataclass(frozen=True)
class Parts:
    """A recipe's step on a batch of images, whole and in parts, as functions."""

    batch: int
    whole: Callable[[], None]
    network: Callable[[], None]  # forward and backward pass of the transformed images
    views: Callable[[], None]  # forward and backward pass of the transforms
    optimizer: Callable[[], None]  # update of the parameters


def parts_of(name: str, engine: PreparedNetwork, layer: str, size: int, batch: int) -> Parts:
    """Return a recipe's step at one size, after the steps with redirected ReLU gradients.

    Args:
        name: name of the recipe.
        engine: network to optimize on.
        layer: layer of the features.
        size: image size, in pixels.
        batch: number of images in a batch.
    """
    shipped = RECIPES[name]
    octave = replace(shipped.octaves[-1], size=size)
    recipe = replace(shipped, octaves=(octave,), redirected_relu=0)
    outputs, maps = engine.optimized([layer]), {layer: engine.surveys[size][layer].map_size}
    tiles = [feature_tile(layer, feature) for feature in range(batch)]
    pipeline, objective = make_pipeline(recipe, range(batch), CPU), Objective(tiles, "l1", 200.0, maps)
    settings = list(recipe.steps())[1]
    kind = pipeline.parameterization
    parameters = pipeline.in_fast_layout(starting_parameters(kind, "noise", (size, size), 999, tiles), outputs.format)
    image = kind.image(parameters, settings.size).detach()
    shown = pipeline.views(image, 1)
    pulled = torch.randn(shown.shape).to(memory_format=outputs.format)  # as the network gives it back
    gradient = torch.randn_like(parameters)
    state: Any = NEW
    _, moving = apply_rule(pipeline.optimizer, parameters, gradient, NEW, settings.lr)

    def whole() -> None:
        nonlocal parameters, state
        parameters, state, _ = step(parameters, state, settings, outputs, objective, pipeline)

    def network() -> None:
        objective(outputs(shown.detach().requires_grad_(True))).loss.sum().backward()  # type: ignore[no-untyped-call]

    def views() -> None:
        leaf = image.detach().requires_grad_(True)
        torch.autograd.backward(pipeline.views(leaf, 1), pulled)

    def optimizer() -> None:
        apply_rule(pipeline.optimizer, parameters, gradient, moving, settings.lr)

    return Parts(batch, whole, network, views, optimizer)


def article_way(network: nn.Module, layer: str, size: int) -> Callable[[], None]:
    """Return a step of one image as in the article's listing."""
    return steps.article(frozen_copy(network, CPU, torch.float32), layer, size, CPU).step


def recipe_times(
    network: nn.Module,
    names: Sequence[str],
    layer: str,
    size: int,
    batch: int,
    threads: int,
    rounds: int,
    python: str = sys.executable,
) -> list[dict[str, Any]]:
    """Measure each method in alternating rounds, of which the fastest counts; return a row for each.

    Args:
        network: trained network.
        names: names of recipes.
        layer: layer of the features.
        size: image size, in pixels.
        batch: number of images in a batch.
        threads: number of CPU threads.
        rounds: number of rounds over all methods.
        python: Python interpreter; lucent is measured if it is installed there.
    """
    keep_memory()
    source = source_of(network)
    fed = None if source.mean is None or source.std is None else (source.mean, source.std)
    has_peer = peer.version(python) is not None
    with repeatable(threads):
        engine = PreparedNetwork(
            frozen_copy(network, CPU, torch.float32), [size], dtype=torch.float32, device=CPU, normalize=fed
        )
        recipes = {name: parts_of(name, engine, layer, size, batch) for name in names}
        article = article_way(network, layer, size)
        best: dict[tuple[str, str], float] = {}
        kernel: dict[str, float] = {}
        for _ in range(rounds):
            _keep(best, (ARTICLE, "whole"), steps.seconds(article, 3, CPU))
            for name, parts in recipes.items():
                before = _processor()
                for part in ("whole", "network", "views", "optimizer"):
                    _keep(best, (name, part), steps.seconds(getattr(parts, part), 4, CPU) / parts.batch)
                taken = [after - first for after, first in zip(_processor(), before, strict=True)]
                kernel[name] = taken[1] / sum(taken)
            if has_peer:
                _keep(best, (PEER, "whole"), peer.seconds_a_step(python, network, threads, layer, size))
    return [_row(name, best, kernel.get(name), batch if name in recipes else 1, threads) for name in _names(best)]


def _row(
    name: str, best: dict[tuple[str, str], float], kernel: float | None, batch: int, threads: int
) -> dict[str, Any]:
    whole, lucent = best[name, "whole"], best.get((PEER, "whole"))
    parts = {part: best[name, part] for part in ("network", "views", "optimizer") if (name, part) in best}
    return {
        "way": name,
        "threads": threads,
        "batch_size": batch,
        "seconds_per_image_step": whole,
        "times_lucent": None if lucent is None else lucent / whole,
        "shares": {part: taken / whole for part, taken in parts.items()},
        "kernel": kernel,
    }


def _names(best: dict[tuple[str, str], float]) -> list[str]:
    return list(dict.fromkeys(name for name, _ in best))


def _keep(best: dict[tuple[str, str], float], key: tuple[str, str], taken: float) -> None:
    best[key] = min(best.get(key, taken), taken)


def _processor() -> tuple[float, float]:
    """Return this process's CPU seconds in user code and in the kernel."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime, used.ru_stime


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows of `recipe_times` as a Markdown table."""
    lines = [
        "| | threads | batch | ms an image-step | times lucent | network | transforms | optimizer | kernel |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        shares = row["shares"]
        cells = [f"{shares[part]:.1%}" if part in shares else "" for part in ("network", "views", "optimizer")]
        times = "" if row["times_lucent"] is None else f"{row['times_lucent']:.1f}"
        kernel = "" if row["kernel"] is None else f"{row['kernel']:.1%}"
        taken = f"{1000 * row['seconds_per_image_step']:.1f}"
        row_cells = [row["way"], str(row["threads"]), str(row["batch_size"]), taken, times, *cells, kernel]
        lines.append(f"| {' | '.join(row_cells)} |")
    return "\n".join(lines) + "\n"
