"""Count the dead features of each layer, and how many of them redirected ReLU gradients make alive.

python -m benchmarks.dead --model efficientnet_lite0

A feature is dead if no step has a gradient, because its ReLUs never activate. One short octave of `natural` runs first
without redirected gradients, then with them for the dead features.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

import featlight
from benchmarks.record import surroundings, write
from featlight.config.presets import NATURAL
from featlight.config.recipe import Recipe

LAYERS = {
    "tiny_inception": [
        *("Conv2d_1a_5x5", "Conv2d_2a_3x3", "Mixed_3a", "Mixed_4a", "Mixed_4b", "Mixed_4c", "Mixed_5a", "Mixed_5b"),
    ],
    "efficientnet_lite0": ["bn1", *(f"blocks.{stage}.0.bn2" for stage in range(7)), "bn2"],  # outputs of ReLU6
}
AT_ONCE = 32


def recipe(size: int, steps: int, redirected: int) -> Recipe:
    """Return `natural` with one octave."""
    octave = replace(NATURAL.octaves[0], size=size, steps=steps)
    return replace(NATURAL, octaves=(octave,), redirected_relu=redirected)


def dead(network: nn.Module, layer: str, features: str | Sequence[int], how: Recipe) -> list[int]:
    """Return the features that are dead under a recipe."""
    if not isinstance(features, str) and not features:
        return []
    found = featlight.visualize(network, layer, features, recipe=how, batch_size=AT_ONCE, progress=False)
    return [record["feature"] for record in found.records if record["status"] == "dead"]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=LAYERS, default="tiny_inception")
    parser.add_argument("--layer", action="append", help="layer, repeatable (default: all outputs of ReLUs)")
    parser.add_argument("--size", type=int, default=96, help="image size in pixels (default: 96)")
    parser.add_argument("--steps", type=int, default=24, help="optimization steps (default: 24)")
    parser.add_argument("--out", type=Path, help="JSON file for the record")
    options = parser.parse_args(arguments)
    network = featlight.load_model(options.model)
    layers = {found.name: found.features for found in featlight.list_layers(network, size=options.size)}
    rows = []
    print("| layer | features | dead | alive with a redirected ReLU |")
    print("|---|---|---|---|")
    for layer in options.layer or LAYERS[options.model]:
        before = dead(network, layer, "all", recipe(options.size, options.steps, 0))
        after = dead(network, layer, before, recipe(options.size, options.steps, NATURAL.redirected_relu))
        rows.append({"layer": layer, "features": layers[layer], "dead": len(before), "alive": len(before) - len(after)})
        print(f"| {layer} | {layers[layer]} | {len(before)} | {len(before) - len(after)} |", flush=True)
    if options.out is not None:
        here = surroundings(torch.device("cpu"), "benchmarks.dead", arguments)
        write(options.out, {**here, "model": options.model, "size": options.size, "steps": options.steps, "rows": rows})


if __name__ == "__main__":
    main()
