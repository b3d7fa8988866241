"""Every family of timm's architectures, at its smallest member: surveyed, and one step made at its last map.

python -m benchmarks.families [FAMILY ...] [--write docs/networks.md]

A family is one of timm's modules. Weights are random. Each family runs in a process of its own, whose memory is
limited, and is reported whatever becomes of it.
"""

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import timm
import torch

import featlight
from featlight.models.layer_info import Layer

MEMORY, PATIENCE = 8 * 2**30, 420  # bytes, and seconds, of a family
START, END = "<!-- families -->", "<!-- end of families -->"
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
        return (
            self.family,
            f"`{self.member}`",
            str(self.size),
            layers,
            f"`{self.layer}`" * bool(self.layer),
            self.map,
            step,
        )


def smallest(family: str) -> str:
    """The member with the fewest parameters; one that cannot be counted without its memory counts as the largest."""

    def parameters(name: str) -> float:
        with torch.device("meta"), contextlib.suppress(Exception):
            return sum(each.numel() for each in timm.create_model(name).parameters())
        return float("inf")

    return min(timm.list_models(module=family), key=parameters)


def tried(family: str) -> Outcome:
    """Survey a family's smallest member, and make one step at its last map."""
    member = smallest(family)
    torch.manual_seed(0)
    network = timm.create_model(member).eval()
    size = int(network.pretrained_cfg["input_size"][-1])
    found = Outcome(family, member, size, every=sum(1 for _ in network.named_modules()) - 1)
    try:
        layers = featlight.list_layers(network, size)
        maps = [layer for layer in layers if layer.map_size != (1, 1)]
        last = (maps or layers)[-1]
        found = found._replace(usable=len(layers), layer=last.name, map=f"{last.features} of {last.map_words}")
        return found._replace(refusal=_step(network, last, size))
    except featlight.FeatlightError as error:
        return found._replace(refusal=str(error)[:200])


def _step(network: torch.nn.Module, layer: Layer, size: int) -> str:
    """Why no step can be made; "" where one was."""
    recipe = featlight.Recipe([featlight.Octave(size, 1, (1.0, 1.0), None)], "rms")
    result = featlight.visualize(network, layer.name, [0], recipe=recipe, batch_size=1, progress=False)
    record = result.records[0]
    return "" if record["status"] == "ok" else f"{record['status']} ({record['reason']})"


def _alone(family: str) -> Outcome:
    """In a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.families", "--one", family]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return Outcome(family, "?", refusal=f"not done after {PATIENCE} s")
    lines = ran.stdout.strip().splitlines()
    if ran.returncode or not lines:
        last = (ran.stderr.strip().splitlines() or ["no word"])[-1]
        return Outcome(family, "?", refusal=f"ended with {ran.returncode}: {last[:160]}")
    return Outcome(*json.loads(lines[-1]))


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """In Markdown, how many work before it."""
    made = sum(not outcome.refusal for outcome in outcomes)
    versions = f"timm {timm.__version__}, torch {torch.__version__.partition('+')[0]}"
    rows = [HEAD, tuple("---" for _ in HEAD), *(outcome.row() for outcome in outcomes)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [f"{made} of {len(outcomes)} families make a step ({versions}).", "", *lines]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between the marks in this file")
    parser.add_argument("--one", metavar="FAMILY", help="one family, here, its outcome in JSON")
    words = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if words.one:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        print(json.dumps(tried(words.one)))
        return 0
    outcomes = []
    for family in words.families or timm.list_modules():
        started = time.perf_counter()
        outcomes.append(_alone(family))
        print(*outcomes[-1], f"{time.perf_counter() - started:.0f} s", sep=" · ", flush=True)
    lines = table(outcomes)
    print(*lines[:1])
    if words.write is not None:
        before, _, rest = words.write.read_text().partition(START)
        after = rest.partition(END)[2]
        words.write.write_text("\n".join([before + START, *lines, END]) + after)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
