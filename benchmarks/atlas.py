"""How fast featlight is on the machine at hand, side by side with the article's way.

python -m benchmarks.atlas                       # a table, and a record under benchmarks/results/
python -m benchmarks.atlas --whole-layer         # all features of the layer with the article's recipe, too: for a GPU
python -m benchmarks.atlas --recipes             # steps of whole recipes on EfficientNet-Lite0 instead, beside lucent's
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
    parser.add_argument("--model", help="with random weights: cost does not hang on them; inception_v3 else")
    parser.add_argument("--layer", help="Mixed_6b else; with --recipes blocks.4.0")
    parser.add_argument("--size", type=int, help="of the images, in pixels; 299 else, with --recipes 224")
    parser.add_argument("--batch-size", type=int, default=0, help="images at a time; 0: as a run settles it")
    parser.add_argument("--rounds", type=int, default=4, help="the ways alternate; the shortest of each counts")
    parser.add_argument("--product-steps", type=int, default=4, help="of featlight.visualize, and twice as many")
    parser.add_argument("--precisions", nargs="*", default=PRECISIONS, help="bf16 is slow where a CPU lacks it")
    parser.add_argument("--compile", action="store_true", help="compiled graphs, too; compiling takes minutes")
    parser.add_argument("--features", type=int, nargs="*", default=[16, 64, 256, 768], help="layer sizes to scale over")
    parser.add_argument(
        "--workers", type=int, nargs="*", default=[1, 2], help="worker counts to scale over, on the CPU"
    )
    parser.add_argument("--scale-size", type=int, default=0, help="of images over layer sizes, in pixels; 0: as --size")
    parser.add_argument("--worker-features", type=int, default=64, help="tiles of each run with workers")
    parser.add_argument("--precision-features", type=int, default=8, help="images to compare bf16 with fp32 on")
    parser.add_argument("--whole-layer", action="store_true", help="the whole layer with the article's recipe, too")
    parser.add_argument("--recipes", nargs="*", help="steps of these instead; lucid and natural where none is named")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2], help="with --recipes, on the CPU")
    parser.add_argument("--lucent", default=sys.executable, help="with --recipes: an interpreter that has torch-lucent")
    parser.add_argument("--name", default="", help="of the record; the device's where it is empty")
    words = parser.parse_args(arguments)
    if words.recipes is not None:
        if words.model is not None:
            parser.error(f"--model: {words.model} given; --recipes is of {LITE}")
        return whole_recipes(words, arguments)
    words.model, words.layer = words.model or "inception_v3", words.layer or "Mixed_6b"
    words.size = words.size or 299
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = featlight.load(words.model, "DEFAULT" if words.model == "tiny_inception" else "none")
    with repeatable(torch.get_num_threads()):
        ways = step_times(network, words, device)
    values: dict[str, Any] = {
        **record.surroundings(device, "benchmarks.atlas", arguments),
        "model": words.model,
        "layer": words.layer,
        "size": words.size,
        "ways": ways,
        "commands": runs.commands(),
        "layer_sizes": runs.layer_sizes(words.features, words.model, words.layer, words.scale_size or words.size),
        "workers": runs.workers(words.workers, words.worker_features, 2) if words.workers else [],
        "precision": precision_costs(words.precision_features) if words.precision_features else {},
    }
    if words.whole_layer:
        values["whole_layer"] = [whole_layer(network, words.layer, precision) for precision in words.precisions]
    _print(values)
    name = words.name or values.get("gpu", values["cpu"])["name"].lower().replace(" ", "-")
    record.write(record.TREE / "benchmarks" / "results" / f"{name}.json", values)
    return 0


def whole_recipes(words: argparse.Namespace, arguments: Sequence[str] | None) -> int:
    """Steps of whole recipes on the network that pip installs, a table and a record."""
    layer, size, batch = words.layer or DEFAULT_LAYERS[LITE], words.size or 224, words.batch_size or 8
    names, network = words.recipes or ["lucid", "natural"], featlight.load_model(LITE)
    rows = []
    for threads in words.threads:
        rows += recipes.recipe_times(network, names, layer, size, batch, threads, words.rounds, words.lucent)
    print(recipes.table(rows), end="")
    here = record.surroundings(torch.device("cpu"), "benchmarks.atlas", arguments)
    values = {**here, "model": LITE, "layer": layer, "size": size, "ways": rows}
    name = words.name or f"recipes-{here['cpu']['name'].lower().replace(' ', '-')}"
    record.write(record.TREE / "benchmarks" / "results" / f"{name}.json", values)
    return 0


def step_times(network: Any, words: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Seconds an image-step of each way, in alternating rounds, and what each reaches of the device."""
    layer, size, batch = words.layer, words.size, words.batch_size
    every = steps.ways(network, layer, size, batch, device, words.compile)
    if "bf16" not in words.precisions:
        every = [way for way in every if way.dtype != torch.bfloat16]
    best: dict[str, float] = {}
    alone: dict[str, float] = {}
    runs_of: dict[tuple[str, int], float] = {}  # seconds an image, by precision and steps
    for way in every:  # warm up, and compile
        started = time.perf_counter()
        way.step()
        print(f"{way.name}: first step {time.perf_counter() - started:.1f} s", flush=True)
    for _ in range(words.rounds):
        for way in every:
            taken = steps.seconds(way.step, 2, device) / way.batch
            best[way.name] = min(best.get(way.name, taken), taken)
            if way.network_only is not None:
                taken = steps.seconds(way.network_only, 2, device) / way.batch
                alone[way.name] = min(alone.get(way.name, taken), taken)
        for precision, count in product(words.precisions, (words.product_steps, 2 * words.product_steps)):
            taken = steps.product(network, layer, size, batch, count, precision)
            runs_of[precision, count] = min(runs_of.get((precision, count), taken), taken)
        taken_by_peer = steps.lucent(network, layer, size, words.product_steps)
        if taken_by_peer is not None:
            best["torch-lucent"] = min(best.get("torch-lucent", taken_by_peer), taken_by_peer)
    for precision in words.precisions:  # the longer run less the shorter one: without what every run costs once
        more = runs_of[precision, 2 * words.product_steps] - runs_of[precision, words.product_steps]
        best[f"featlight.visualize, {precision}"] = more / words.product_steps
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
    """What bf16 costs: images of the embedded network, whose weights are trained, beside those of fp32."""
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
    """All features of the layer with the article's recipe, tiles on disk: seconds, tiles a second, peak memory."""
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
