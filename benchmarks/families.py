"""Every family of timm's architectures, at its smallest member: surveyed, and one step made at its last map.

python -m benchmarks.families [FAMILY ...] [--write docs/networks.md]

A family is one of timm's modules. Weights are random. Each family runs in a process of its own, whose memory is
limited, and is reported whatever becomes of it. A step is that of a run, without the questions that a run asks first.
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
from featlight.config.tile import feature_tile
from featlight.engine.invariance_checks import check_final
from featlight.models.frozen import frozen_copy
from featlight.models.layer_info import Layer
from featlight.models.prepared import PreparedNetwork
from featlight.objectives.objective import Objective
from featlight.param.image import noise

CPU = torch.device("cpu")
MEMORY, PATIENCE = 16 * 2**30, 1200  # bytes, and seconds, of a family
HEAD = ("family", "smallest member", "input, px", "layers", "last map", "its map", "step")


class Outcome(NamedTuple):
    """What became of a family."""

    family: str
    member: str
    size: int = 0
    usable: int = 0  # layers
    every: int = 0
    layer: str = ""  # of which a step was made
    map: str = ""
    refusal: str = ""  # why none was

    def row(self) -> tuple[str, ...]:
        """As it stands in the table."""
        step = "made" if not self.refusal else "refused: " + self.refusal.replace("|", "/")
        layers = f"{self.usable} of {self.every}" if self.every else ""
        layer = f"`{self.layer}`" if self.layer else ""
        return self.family, f"`{self.member}`", str(self.size), layers, layer, self.map, step


def smallest(family: str) -> str:
    """The member with the fewest parameters; one that cannot be counted without its memory counts as the largest."""

    def parameters(name: str) -> float:
        with torch.device("meta"), contextlib.suppress(Exception):
            return sum(each.numel() for each in timm.create_model(name).parameters())
        return float("inf")

    return min(timm.list_models(module=family), key=parameters)


def tried(family: str, member: str) -> Outcome:
    """Survey a member of a family, and make one step at its last map."""
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
    """Make a step at a layer's first feature, or where that is dead at all of them; what is wrong, "" for nothing."""
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
    return "" if other is None else "what runs is another network than the one given"


def _child(family: str, member: str, answer: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    answer.send(tried(family, member))


def alone(family: str) -> Outcome:
    """A family's smallest member, in a process of its own."""
    member = smallest(family)
    context = multiprocessing.get_context("fork")  # what is imported need not be imported again
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(family, member, sender))
    process.start()
    sender.close()
    try:
        if not receiver.poll(PATIENCE):
            return Outcome(family, member, refusal=f"not done after {PATIENCE} s")
        return receiver.recv()  # type: ignore[no-any-return]
    except EOFError:
        return Outcome(family, member, refusal="its process ended: of memory, say")
    finally:
        process.kill()
        process.join()


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """In Markdown, how many work before it."""
    made = sum(not outcome.refusal for outcome in outcomes)
    versions = f"timm {timm.__version__}, torch {torch.__version__.partition('+')[0]}"
    rows = markdown_table(HEAD, [outcome.row() for outcome in outcomes])
    return [f"{made} of {len(outcomes)} families make a step ({versions}).", "", *rows]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between the marks in this file")
    words = parser.parse_args(arguments)
    outcomes = []
    for family in words.families or timm.list_modules():
        started = time.perf_counter()
        outcomes.append(alone(family))
        print(*outcomes[-1], f"{time.perf_counter() - started:.0f} s", sep=" · ", flush=True)
    lines = table(outcomes)
    print(lines[0])
    if words.write is not None:
        write_between(words.write, "families", lines)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
