"""Results of a scan: `examples.jsonl` with one line per tile, best image first, and `about.json`."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any

import torch

from featlight.console import printable
from featlight.drawing.example_strip import ExampleTile
from featlight.examples.manifest import CPU, ScanManifest
from featlight.examples.pictures import RankedExample, ranked_examples
from featlight.examples.scorer import ActivationScorer
from featlight.examples.top_k import TopK, merged
from featlight.examples.worker_state import WorkerState
from featlight.plan.plan import Plan, PlannedTile
from featlight.store.paths import ABOUT_EXAMPLES, EXAMPLES
from featlight.store.store import Store

REFUSED_NAMED = 1000  # refused files that are listed by name
WORDNET = re.compile(r"n\d{8}")


def merge_states(manifest: ScanManifest, states: Sequence[WorkerState]) -> TopK:
    """Merge the top k of all workers, on the CPU."""
    return merged([state.top.to(CPU) for state in states], manifest.settings["top"], manifest.ranks)


def write_examples(
    store: Store,
    plan: Plan,
    manifest: ScanManifest,
    scorer: ActivationScorer,
    states: Sequence[WorkerState],
    top: TopK,
    shown: Mapping[str, ExampleTile],
    skipped: Mapping[str, int],
) -> dict[str, Any]:
    """Write the results.

    Args:
        store: store of the run.
        plan: plan of the run.
        manifest: manifest of the scan.
        scorer: scorer of the run.
        states: states of all workers.
        top: merged top k.
        shown: box of each example's receptive field, and path similarity, by the tile's file.
        skipped: number of images of other formats, by suffix.

    Returns:
        Content of `about.json`.
    """
    counts = torch.stack([state.histogram.to(CPU, torch.int64) for state in states]).sum(0)  # (T, BINS)
    lines = []
    for planned in plan.tiles:
        row = manifest.row_of[scorer.keys[planned.file]]
        values = _tile_line(planned, ranked_examples(top, row), shown[planned.file], manifest)
        lines.append(json.dumps(values | {"histogram": _without_empty_ends(counts[row].tolist())}))
    about = _about(manifest, states) | {"skipped": dict(sorted(skipped.items()))}
    store.write(store.root / ABOUT_EXAMPLES, json.dumps(about, indent=1).encode() + b"\n")
    store.write(store.root / EXAMPLES, "".join(f"{line}\n" for line in lines).encode())
    return about


def _tile_line(
    planned: PlannedTile, examples: Sequence[RankedExample], shown: ExampleTile, manifest: ScanManifest
) -> dict[str, Any]:
    term, images = planned.tile.terms[0], []
    for example, box in zip(examples, shown.boxes, strict=True):
        name = manifest.images.names[example.image]
        values = {"file": name, "value": example.value, "box": box, "neuron": example.neuron}
        class_name = class_of(name)
        images.append(values if class_name is None else values | {"class": class_name})
    paths = {} if shown.paths is None else {"paths": shown.paths.values}
    return {"tile": planned.file, "layer": term.layer, "feature": term.feature, "images": images} | paths


def class_of(name: str) -> str | None:
    """Return the class of an image by its folder, with the first word of ImageNet's class for a WordNet number.

    Args:
        name: path of the image relative to the dataset's folder, with slashes.

    Returns:
        None if the image is in no folder, or the folder's name has no letter.
    """
    folder = name.split("/")[-2] if "/" in name else ""
    if not any(character.isalpha() for character in folder):
        return None
    return _imagenet_classes().get(folder, folder) if WORDNET.fullmatch(folder) else folder


@cache
def _imagenet_classes() -> Mapping[str, str]:
    """Return ImageNet's class names by WordNet number; empty without timm."""
    try:
        from timm.data.imagenet_info import ImageNetInfo
    except ImportError:
        return {}
    info: Any = ImageNetInfo()
    every = range(info.num_classes())
    return {str(info.index_to_label_name(i)): str(info.index_to_description(i)).partition(",")[0] for i in every}


def _without_empty_ends(counts: Sequence[int]) -> tuple[int, list[int]]:
    """Return the index of the first bin with images, and the counts from it to the last such bin."""
    filled = [i for i, count in enumerate(counts) if count] or [0]
    return filled[0], list(counts[filled[0] : filled[-1] + 1])


def _about(manifest: ScanManifest, states: Sequence[WorkerState]) -> dict[str, Any]:
    images = manifest.images
    refused_images = {number: reason for state in states for number, reason in state.refused.items()}
    refused = {images.entries[number].name: reason for number, reason in refused_images.items()} | images.unreadable
    refused = dict(sorted(refused.items()))  # independent of the order of workers
    return {
        "format": 1,
        "stamp": manifest.checksum,
        "folder": printable(manifest.folder.name),
        "images": len(images.unique) - len(refused_images),
        "duplicates": images.duplicates,
        "refused": len(refused_images) + len(images.unreadable),
        "reasons": dict(Counter(refused.values()).most_common(10)),
        "refused_files": dict(islice(refused.items(), REFUSED_NAMED)),
        "top": manifest.settings["top"],
        "fit": manifest.settings["fit"],
    }
