"""Compare attributions with surgery: does setting a channel to its mean change an activation as its attribution says?

python -m benchmarks.circuits --out RUN [--features 4] [--crops 160]

For tiles of a run, each channel of the layer before is set to its mean over crops of scikit-image's photographs, in
the untouched network, on the tile's own picture. The effect on the tile's activation is compared with the attribution
(gradient times activation), and with the attribution against that mean (gradient times the difference from it), by
Spearman's rank correlation over all channels. The record is written to benchmarks/results/.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.record import TREE, surroundings, write
from featlight.circuits.attribution import attribute
from featlight.circuits.images import final_image
from featlight.circuits.network import CircuitNetwork, load_network
from featlight.engine.device import repeatable
from featlight.examples.activations import Activations
from featlight.models.hooks import forward_hooks
from featlight.plan.plan import PlannedTile
from featlight.plan.sources import NOTHING_TYPED, sources_of
from featlight.store.store import Store
from tests.photographs import crops

CPU = torch.device("cpu")
BATCH = 32  # channels that are changed together, each in its own copy of the picture
STRONGEST = 8


def ranks(values: Tensor) -> Tensor:
    return values.argsort().argsort().double()


def spearman(a: Tensor, b: Tensor) -> float:
    """Return the rank correlation of two vectors."""
    return float(torch.corrcoef(torch.stack([ranks(a), ranks(b)]))[0, 1])


def channel_means(network: CircuitNetwork, layer: str, images: Sequence[Tensor]) -> Tensor:
    """Return the mean of each channel of a layer over images and positions, (C,)."""
    with torch.no_grad():
        outputs = network.outputs.subset([layer])
        return torch.stack([outputs(image[None])[layer][0].mean((1, 2)) for image in images]).mean(0)


def effects(network: CircuitNetwork, planned: PlannedTile, image: Tensor, layer: str, means: Tensor) -> Tensor:
    """Return how far the activation falls when each channel of a layer is set to its mean, (C,)."""
    query = network.query(planned)
    value = Activations([query], CPU, network.directions)
    outputs = network.outputs.subset([term.output for term in query.terms])
    module = network.network.original_network.get_submodule(layer)
    changed: list[Tensor] = []
    with torch.no_grad():
        before = value(outputs(image[None]))[0, 0]
        for channels in torch.arange(len(means)).split(BATCH):

            def cut(_: Any, __: Any, output: Tensor, channels: Tensor = channels) -> Tensor:
                output = output.clone()  # (B, C, H, W)
                output[torch.arange(len(channels)), channels] = means[channels, None, None]
                return output

            with forward_hooks([(module, cut)]):
                changed.append(value(outputs(image[None].repeat(len(channels), 1, 1, 1)))[:, 0])
    return before - torch.cat(changed)


def compare(
    network: CircuitNetwork, planned: PlannedTile, image: Tensor, layer: str, means: Tensor
) -> dict[str, float]:
    """Return how well a tile's attributions to a layer agree with surgery on it."""
    query = network.query(planned)
    attributed = attribute(network, query, image, [layer]).by_layer[layer]
    linked = network.linked(image, [layer, *(term.output for term in query.terms)])
    a = Activations([query], CPU, network.directions)(linked.maps)[0, 0]
    gradient = linked.gradients(a, [layer])[layer][0].double()  # (C, H, W)
    against = attributed - (gradient * means.double()[:, None, None]).sum((1, 2))
    effect = effects(network, planned, image, layer, means)

    def strongest(values: Tensor) -> set[int]:
        return set(values.abs().topk(min(STRONGEST, len(values))).indices.tolist())

    return {
        "attribution": spearman(attributed, effect),
        "against_mean": spearman(against, effect),
        "strongest_by_both": len(strongest(attributed) & strongest(effect)),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="run with at least two layers")
    parser.add_argument("--features", type=int, default=4, help="tiles of each layer")
    parser.add_argument("--crops", type=int, default=160, help="crops of photographs for the means")
    parser.add_argument("--name", default="circuits", help="name of the record")
    args = parser.parse_args(arguments)
    store = Store(args.out)
    plan = store.need_plan()
    network = load_network(store, plan, sources_of(args.out, plan, NOTHING_TYPED), CPU, None)
    side = max(each.recipe.octaves[-1].size for each in plan.settings.values())
    photographs = [
        torch.from_numpy(np.array(crop)).permute(2, 0, 1).float() / 255 for crop in crops(args.crops, side=side)
    ]
    rows = []
    with repeatable(torch.get_num_threads()):
        for layer, later in zip(network.layers, network.layers[1:], strict=False):
            means = channel_means(network, layer, photographs)
            tiles = [planned for planned in plan.tiles if planned.tile.terms[0].output == later][: args.features]
            for planned in tiles:
                image, _ = final_image(store, plan, planned)
                found = compare(network, planned, image.float(), layer, means)
                rows.append({"layer": later, "from": layer, "feature": planned.tile.terms[0].feature, **found})
            own = [row for row in rows if row["layer"] == later]
            words = ", ".join(f"{key} {median(row[key] for row in own):.2f}" for key in found)
            print(f"{layer} to {later}: {words} (median of {len(own)} tiles)")
    write(
        TREE / "benchmarks/results" / f"{args.name}.json",
        {**surroundings(CPU, "benchmarks.circuits", arguments), "tiles": rows},
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
