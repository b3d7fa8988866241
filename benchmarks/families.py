"""Make one step on the smallest network of every timm family, at its last layer with a map.

python -m benchmarks.families [FAMILY ...] [--write docs/networks.md]

A family is one of timm's modules. Weights are random. Each family runs in its own process with limited memory, and
every outcome is reported. A step is that of a run, without a run's checks before it.
"""

import argparse
import contextlib
import multiprocessing
import resource
import time
import warnings
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import timm
import torch

from benchmarks.tables import markdown_table, write_between
from featlight.config.named_starts import noise
from featlight.config.tile import feature_tile
from featlight.engine.invariance_checks import check_final
from featlight.models.frozen import frozen_copy
from featlight.models.layer_info import Layer
from featlight.models.prepared import PreparedNetwork
from featlight.objectives.objective import Objective

CPU = torch.device("cpu")
MEMORY, PATIENCE = 16 * 2**30, 1200  # limits of a family: bytes and seconds
HEAD = ("family", "smallest member", "input, px", "layers", "last map", "its map", "step")


class Outcome(NamedTuple):
    """Result of a family."""

    family: str
    member: str
    size: int = 0
    usable: int = 0  # layers
    every: int = 0
    layer: str = ""  # layer of the step
    map: str = ""
    refusal: str = ""  # reason without a step

    def row(self) -> tuple[str, ...]:
        """Return the cells of the table."""
        step = "made" if not self.refusal else "refused: " + self.refusal.replace("|", "/")
        layers = f"{self.usable} of {self.every}" if self.every else ""
        layer = f"`{self.layer}`" if self.layer else ""
        return self.family, f"`{self.member}`", str(self.size), layers, layer, self.map, step


def smallest(family: str) -> str:
    """Return the member with the fewest parameters; one that cannot be built on the meta device comes last."""

    def parameters(name: str) -> float:
        with torch.device("meta"), contextlib.suppress(Exception):
            return sum(each.numel() for each in timm.create_model(name).parameters())
        return float("inf")

    return min(timm.list_models(module=family), key=parameters)


def tried(family: str, member: str) -> Outcome:
    """Survey a member of a family, and make one step at its last layer with a map."""
    torch.manual_seed(0)
    network = timm.create_model(member).eval()
    size = int(network.pretrained_cfg["input_size"][-1])
    found = Outcome(family, member, size, every=sum(1 for _ in network.named_modules()) - 1)
    try:
        prepared = PreparedNetwork(frozen_copy(network, CPU, torch.float32), [size], dtype=torch.float32, device=CPU)
        survey = prepared.surveys[size]
        if not survey.usable:
            return found._replace(refusal=survey.failure or "no layer")
        last = [layer for layer in survey.usable if layer.map_size != (1, 1)][-1]
        found = found._replace(usable=len(survey.usable), layer=last.name, map=f"{last.features} of {last.map_label}")
        return found._replace(refusal=stepped(prepared, last, size))
    except Exception as error:
        return found._replace(refusal=" ".join(f"{type(error).__name__}: {error}".split())[:200])


def stepped(prepared: PreparedNetwork, layer: Layer, size: int, feature: int | None = 0) -> str:
    """Make a step for a layer's first feature, or for all if it is dead; return the reason of a failure, or ""."""
    layers = (layer.name,)
    chosen = {} if feature is None else {layer.name: {feature}}
    outputs = prepared.optimized(layers, chosen)
    objective = Objective([feature_tile(layer.name, feature)], "l1", 200.0, {layer.name: layer.map_size})
    images = noise(size, seed=0)[None].requires_grad_(True)  # (1, 3, S, S)
    objective(outputs(images)).loss.sum().backward()
    if images.grad is None or not images.grad.any():
        return "no gradient" if feature is None else stepped(prepared, layer, size, None)
    moved = (images - images.grad / images.grad.square().mean().sqrt()).detach()
    with torch.no_grad():
        ours, theirs = outputs(moved), prepared.original(layers)(moved)
    other = check_final(prepared, moved, ours, theirs, chosen)
    return "" if other is None else "the optimized network disagrees with the original"


def _child(family: str, member: str, answer: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    answer.send(tried(family, member))


def alone(family: str) -> Outcome:
    """Try a family's smallest member in its own process."""
    member = smallest(family)
    context = multiprocessing.get_context("fork")  # keeps the imports
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(family, member, sender))
    process.start()
    sender.close()
    try:
        if not receiver.poll(PATIENCE):
            return Outcome(family, member, refusal=f"not done after {PATIENCE} s")
        return receiver.recv()  # type: ignore[no-any-return]
    except EOFError:
        return Outcome(family, member, refusal="its process was killed, perhaps for memory")
    finally:
        process.kill()
        process.join()


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Return a Markdown table, with the number of successes above it."""
    made = sum(not outcome.refusal for outcome in outcomes)
    versions = f"timm {timm.__version__}, torch {torch.__version__.partition('+')[0]}"
    rows = markdown_table(HEAD, [outcome.row() for outcome in outcomes])
    return [f"{made} of {len(outcomes)} families make a step ({versions}).", "", *rows]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY", help="module of timm (default: all)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table between the marks in this file")
    options = parser.parse_args(arguments)
    outcomes = []
    for family in options.families or timm.list_modules():
        started = time.perf_counter()
        outcomes.append(alone(family))
        print(*outcomes[-1], f"{time.perf_counter() - started:.0f} s", sep=" · ", flush=True)
    lines = table(outcomes)
    print(lines[0])
    if options.write is not None:
        write_between(options.write, "families", lines)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
