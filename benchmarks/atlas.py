"""Measure featlight's speed on this machine, compared with the article's code.

python -m benchmarks.atlas                       # prints a table, and writes a record under benchmarks/results/
python -m benchmarks.atlas --whole-layer         # also makes the whole layer with the article's recipe, for a GPU
python -m benchmarks.atlas --recipes             # compares steps of whole recipes on EfficientNet-Lite0 with lucent's
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from typing import Any

import torch

import featlight
from benchmarks import recipes, record, runs, steps
from featlight.config.presets import DEFAULT_LAYERS, LITE
from featlight.engine.device import repeatable

PRECISIONS = ("fp32", "bf16")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.atlas", description=__doc__)
    parser.add_argument("--model", help="network with random weights, which cost the same (default: inception_v3)")
    parser.add_argument("--layer", help="layer (default: Mixed_6b; with --recipes blocks.4.0)")
    parser.add_argument("--size", type=int, help="image size in pixels (default: 299; with --recipes 224)")
    parser.add_argument("--batch-size", type=int, default=0, help="images in a batch (default: as in a run)")
    parser.add_argument("--rounds", type=int, default=4, help="rounds over all methods; the fastest counts")
    parser.add_argument("--product-steps", type=int, default=4, help="steps of featlight.visualize")
    parser.add_argument("--precisions", nargs="*", default=PRECISIONS, help="precisions; bf16 is slow on older CPUs")
    parser.add_argument("--compile", action="store_true", help="measure compiled graphs, too; compiling takes minutes")
    parser.add_argument("--features", type=int, nargs="*", default=[16, 64, 256, 768], help="layer sizes to compare")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2], help="worker counts to compare, on the CPU")
    parser.add_argument("--scale-size", type=int, default=0, help="image size for --features (default: --size)")
    parser.add_argument("--worker-features", type=int, default=64, help="tiles of each run for --workers")
    parser.add_argument("--precision-features", type=int, default=8, help="images to compare bf16 with fp32")
    parser.add_argument("--whole-layer", action="store_true", help="make the layer with the article's recipe, too")
    parser.add_argument("--recipes", nargs="*", help="measure only steps of these recipes (default: lucid natural)")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2], help="CPU threads for --recipes")
    parser.add_argument("--lucent", default=sys.executable, help="Python interpreter with torch-lucent for --recipes")
    parser.add_argument("--name", default="", help="name of the record (default: the device's)")
    options = parser.parse_args(arguments)
    if options.recipes is not None:
        if options.model is not None:
            parser.error(f"--model: {options.model} given; --recipes measures {LITE}; leave out --model")
        return whole_recipes(options, arguments)
    options.model, options.layer = options.model or "inception_v3", options.layer or "Mixed_6b"
    options.size = options.size or 299
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = featlight.load(options.model, "DEFAULT" if options.model == "tiny_inception" else "none")
    with repeatable(torch.get_num_threads()):
        ways = step_times(network, options, device)
    values: dict[str, Any] = {
        **record.surroundings(device, "benchmarks.atlas", arguments),
        "model": options.model,
        "layer": options.layer,
        "size": options.size,
        "ways": ways,
        "commands": runs.commands(),
        "layer_sizes": runs.layer_sizes(
            options.features, options.model, options.layer, options.scale_size or options.size
        ),
        "workers": runs.workers(options.workers, options.worker_features, 2) if options.workers else [],
        "precision": precision_costs(options.precision_features) if options.precision_features else {},
    }
    if options.whole_layer:
        values["whole_layer"] = [whole_layer(network, options.layer, precision) for precision in options.precisions]
    _print(values)
    name = options.name or values.get("gpu", values["cpu"])["name"].lower().replace(" ", "-")
    record.write(record.TREE / "benchmarks" / "results" / f"{name}.json", values)
    return 0


def whole_recipes(options: argparse.Namespace, arguments: Sequence[str] | None) -> int:
    """Measure steps of whole recipes on EfficientNet-Lite0; print a table and write a record."""
    layer, size, batch = options.layer or DEFAULT_LAYERS[LITE], options.size or 224, options.batch_size or 8
    names, network = options.recipes or ["lucid", "natural"], featlight.load_model(LITE)
    rows = []
    for threads in options.threads:
        rows += recipes.recipe_times(network, names, layer, size, batch, threads, options.rounds, options.lucent)
    print(recipes.table(rows), end="")
    here = record.surroundings(torch.device("cpu"), "benchmarks.atlas", arguments)
    values = {**here, "model": LITE, "layer": layer, "size": size, "ways": rows}
    name = options.name or f"recipes-{here['cpu']['name'].lower().replace(' ', '-')}"
    record.write(record.TREE / "benchmarks" / "results" / f"{name}.json", values)
    return 0


def step_times(network: Any, options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Return seconds per image-step of each method, in alternating rounds, and shares of the device's peak rate."""
    layer, size, batch = options.layer, options.size, options.batch_size
    every = steps.ways(network, layer, size, batch, device, options.compile)
    if "bf16" not in options.precisions:
        every = [way for way in every if way.dtype != torch.bfloat16]
    best: dict[str, float] = {}
    alone: dict[str, float] = {}
    runs_of: dict[tuple[str, int], float] = {}  # seconds an image, by precision and steps
    for way in every:  # warm up, and compile
        started = time.perf_counter()
        way.step()
        print(f"{way.name}: first step {time.perf_counter() - started:.1f} s", flush=True)
    for _ in range(options.rounds):
        for way in every:
            taken = steps.seconds(way.step, 2, device) / way.batch
            best[way.name] = min(best.get(way.name, taken), taken)
            if way.network_only is not None:
                taken = steps.seconds(way.network_only, 2, device) / way.batch
                alone[way.name] = min(alone.get(way.name, taken), taken)
        for precision, count in product(options.precisions, (options.product_steps, 2 * options.product_steps)):
            taken = steps.product(network, layer, size, batch, count, precision)
            runs_of[precision, count] = min(runs_of.get((precision, count), taken), taken)
        taken_by_peer = steps.lucent(network, layer, size, options.product_steps)
        if taken_by_peer is not None:
            best["torch-lucent"] = min(best.get("torch-lucent", taken_by_peer), taken_by_peer)
    for precision in options.precisions:  # the difference of two runs excludes the fixed cost of a run
        more = runs_of[precision, 2 * options.product_steps] - runs_of[precision, options.product_steps]
        best[f"featlight.visualize, {precision}"] = more / options.product_steps
    work = {way.name: steps.flops(way) for way in every if way.network_only is not None}
    whole = next(iter(work.values()))
    rates = {dtype: steps.matrix_rate(dtype, device) for dtype in dict.fromkeys(way.dtype for way in every)}
    batches = {way.name: way.batch for way in every}
    found = []
    for name, taken in best.items():
        dtype = torch.bfloat16 if "bf16" in name else torch.float32
        outside = max(0.0, 1 - alone[name] / taken) if name in alone else None
        found.append(
            {
                "way": name,
                "batch_size": batches.get(name),
                "seconds_per_image_step": taken,
                "times_the_article": best["the article's way"] / taken,
                "share_outside_the_network": outside,
                "share_of_matrix_rate": work.get(name, whole) / taken / rates[dtype],
            }
        )
    return found


def precision_costs(features: int) -> dict[str, float]:
    """Compare images in bf16 with those in fp32, on the embedded network, which is trained."""
    tiny = featlight.load()
    results = {
        p: featlight.visualize(tiny, "Mixed_5a", range(features), precision=p, progress=False) for p in PRECISIONS
    }
    fp32, bf16 = (results[p] for p in PRECISIONS)
    pairs = list(zip(fp32.images, bf16.images, strict=True))
    reached = [r["activation_end"] / s["activation_end"] for r, s in zip(bf16.records, fp32.records, strict=True)]
    return {
        "activation_reached": sum(reached) / len(reached),
        "correlation": sum(steps.agreement(one, other) for one, other in pairs) / len(pairs),
    }


def whole_layer(network: Any, layer: str, precision: str) -> dict[str, Any]:
    """Make all features of the layer with the article's recipe; return seconds, tiles per second and peak memory."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        result = featlight.visualize(
            network, layer, recipe=featlight.ARTICLE, precision=precision, out=f"{folder}/run", progress=False
        )
        total = time.perf_counter() - started
    optimisation = sum(record["seconds"] for record in result.records)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return {
        "precision": precision,
        "tiles": len(result),
        "seconds_of_optimisation": optimisation,
        "seconds_in_all": total,
        "tiles_per_second": len(result) / optimisation,
        "peak_device_bytes": peak,
    }


def _print(values: dict[str, Any]) -> None:
    print(f"\n{values['layer']} of {values['model']}, {values['size']} px")
    print(f"{'':28}{'batch':>6}{'ms/image-step':>14}{'x article':>11}{'outside':>9}{'matrix':>8}")
    for way in values["ways"]:
        outside = "" if way["share_outside_the_network"] is None else f"{way['share_outside_the_network']:.1%}"
        print(
            f"{way['way']:28}{way['batch_size'] or '':>6}{1000 * way['seconds_per_image_step']:14.1f}"
            f"{way['times_the_article']:11.2f}{outside:>9}{way['share_of_matrix_rate']:8.1%}"
        )
    for key in ("commands", "layer_sizes", "workers", "precision", "whole_layer"):
        if key in values:
            print(f"{key}: {values[key]}")


if __name__ == "__main__":
    raise SystemExit(main())
