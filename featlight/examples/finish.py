"""From what all workers have found to a run's examples: one line for each tile, best image first."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import torch

from featlight.console import printable
from featlight.drawing.example_strip import Box
from featlight.examples.classes import class_of
from featlight.examples.manifest import CPU, ScanManifest
from featlight.examples.pictures import RankedExample, ranked_examples
from featlight.examples.scoring.scorer import ActivationScorer
from featlight.examples.top_k import TopK, merged
from featlight.examples.worker_state import WorkerState
from featlight.plan.plan import Plan, PlannedTile
from featlight.store.paths import ABOUT_EXAMPLES, EXAMPLES
from featlight.store.store import Store

REFUSED_NAMED = 1000  # images that could not be looked at, kept by name


def best(known: ScanManifest, findings: Sequence[WorkerState]) -> TopK:
    """The best of all workers, on the CPU."""
    return merged([found.top.to(CPU) for found in findings], known.settings["top"], known.ranks)


def write_examples(
    store: Store,
    plan: Plan,
    known: ScanManifest,
    scorer: ActivationScorer,
    findings: Sequence[WorkerState],
    top: TopK,
    boxes: Mapping[str, Sequence[Box]],
    skipped: Mapping[str, int],
) -> dict[str, Any]:
    """Write what was found; returns what there is to say about it.

    Args:
        store: of the run.
        plan: of the run.
        known: the pass.
        scorer: of the run.
        findings: of all workers.
        top: the best of them.
        boxes: by the tile's file, where each example's field lies.
        skipped: number of images of other formats, by suffix.
    """
    places = {planned.file: known.places[scorer.keys[planned.file]] for planned in plan.tiles}
    counts = sum(found.histogram.to(CPU, torch.int64) for found in findings)
    assert isinstance(counts, torch.Tensor)
    lines = [
        json.dumps(
            line_of(planned, ranked_examples(top, places[planned.file]), boxes[planned.file], known)
            | {"histogram": packed(counts[places[planned.file]].tolist())}
        )
        for planned in plan.tiles
    ]
    about = about_of(known, findings) | {"skipped": dict(sorted(skipped.items()))}
    store.write(store.root / ABOUT_EXAMPLES, json.dumps(about, indent=1).encode() + b"\n")
    store.write(store.root / EXAMPLES, "".join(f"{line}\n" for line in lines).encode())
    return about


def line_of(
    planned: PlannedTile, found: Sequence[RankedExample], boxes: Sequence[Box], known: ScanManifest
) -> dict[str, Any]:
    """A tile's examples in JSON's own types."""
    term, names = planned.tile.terms[0], known.images.names
    return {
        "tile": planned.file,
        "layer": term.layer,
        "feature": term.feature,
        "images": [
            {
                "file": names[each.image],
                "value": each.value,
                "box": box,
                "neuron": each.neuron,
                **_class(names[each.image]),
            }
            for each, box in zip(found, boxes, strict=True)
        ],
    }


def _class(name: str) -> dict[str, str]:
    found = class_of(name)
    return {} if found is None else {"class": found}


def packed(counts: Sequence[int]) -> tuple[int, list[int]]:
    """The number of the first bin that is not empty, and the counts from there to the last such one."""
    there = [place for place, count in enumerate(counts) if count] or [0]
    return there[0], list(counts[there[0] : there[-1] + 1])


def about_of(known: ScanManifest, findings: Sequence[WorkerState]) -> dict[str, Any]:
    """What the examples were looked for among: how many images, and which could not be looked at."""
    unseen = {number: why for found in findings for number, why in found.refused.items()}
    refused = {known.images.entries[number].name: why for number, why in unseen.items()} | known.images.unreadable
    refused = dict(sorted(refused.items()))  # whoever met them first
    return {
        "format": 1,
        "stamp": known.checksum,
        "folder": printable(known.folder.name),
        "images": len(known.images.first_of) - len(unseen),
        "duplicates": known.images.duplicates,
        "refused": len(unseen) + len(known.images.unreadable),
        "reasons": dict(Counter(refused.values()).most_common(10)),
        "refused_files": dict(islice(refused.items(), REFUSED_NAMED)),
        "top": known.settings["top"],
        "fit": known.settings["fit"],
    }
