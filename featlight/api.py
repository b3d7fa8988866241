"""`featlight.visualize`: the main job for any network, from Python."""

import operator
import signal
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, SupportsIndex

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from featlight.config.presets import DEFAULT_LAYERS
from featlight.config.recipe import Recipe
from featlight.config.tile import Index, Metric, Tile
from featlight.config.validation import check
from featlight.distributed.signals import Stop
from featlight.engine.chunk_result import ChunkResult
from featlight.engine.device import device_named
from featlight.engine.progress import Progress
from featlight.engine.setup import Job, prepare
from featlight.engine.trainer import descend
from featlight.errors import Interrupted
from featlight.models.registry import source_of
from featlight.param.image import check_starts
from featlight.result import Result
from featlight.run.commit import records_of
from featlight.run.worker import make_tiles, settle
from featlight.store.store import Record, Store


@torch.inference_mode(False)
def visualize(
    network: nn.Module,
    layer: str | Sequence[str] | Mapping[str, Any] | None = None,
    features: str | SupportsIndex | Sequence[SupportsIndex] = "all",
    *,
    tiles: Sequence[Tile] | None = None,
    recipe: Recipe | None = None,
    region: Literal["map", "row", "neuron", "prefix", "all"] = "map",
    index: Index | Literal["all"] = None,
    metric: Metric = "l1",
    target: float = 200.0,
    init: str | Path | Tensor = "noise",
    seed: int = 999,
    normalize: Literal["none", "weights"] = "none",
    device: str | torch.device = "auto",
    precision: Literal["fp32", "bf16", "fp64"] = "fp32",
    batch_size: int | Literal["auto"] = "auto",
    out: str | Path | None = None,
    progress: bool = True,
) -> Result:
    """Find the image that excites each feature most.

    Args:
        network: any; it takes (N, 3, S, S) images in pixel units and comes back exactly as it was.
        layer: dotted module name, several, or {name: features}; None for the network's own default.
        features: `all`, a number, numbers, or words as in `0-15,199`.
        tiles: instead of layer and features, objectives with names of their own.
        recipe: how to descend; None for the network's own, else the article's.
        region: neurons of each feature's map.
        index: which row, neuron or prefix; `all` for a tile for each.
        metric: distance to the target that is minimised.
        target: activation that every chosen neuron is drawn to.
        init: `noise`, `noise-per-feature`, `gray`, an image file, or a tensor (3, S, S) or (N, 3, S, S).
        seed: of the starting noise.
        normalize: `weights` feeds what the weights were trained with; for networks from `featlight.load`.
        device: `auto` (CUDA where there is one), or any that torch names.
        precision: `fp32`, `bf16` (the network only), or `fp64` (everything).
        batch_size: images optimised together.
        out: run directory, to keep what is made and to go on where a call was interrupted; float images are kept.
        progress: whether to show how far it is.

    Returns:
        Images, unclipped, in the order asked for, and their records.

    Raises:
        UsageError: an argument does not fit (a ValueError); WeightsError, StorageError: as they say.
        KeyboardInterrupt: Ctrl-C, at the end of a step.
    """
    source = source_of(network)
    if layer is None and tiles is None:
        layer = DEFAULT_LAYERS.get(source.model)
    values = {
        "model": source.model,
        "layer": list(layer) if isinstance(layer, tuple) else layer,
        "features": features if isinstance(features, str) else _numbers(features),
        "tiles": None if tiles is None else tuple(tiles),
        "recipe": recipe,
        "region": region,
        "index": index,
        "metric": metric,
        "target": target,
        "init": "a tensor" if isinstance(init, Tensor) else str(init),
        "seed": seed,
        "normalize": normalize,
        "precision": precision,
        "batch_size": batch_size,
        "weights": source.weights,
        "out": None if out is None else str(out),
        "float_images": out is not None,
    }
    config = check(values)
    store = None if out is None else Store(Path(out))
    pixels = init.detach().float() if isinstance(init, Tensor) else None
    where = None if device == "auto" else device_named(device)
    prepare_on = partial(prepare, network=network, device=where, init=pixels, threads=torch.get_num_threads())
    job = prepare_on(config, None if store is None else store.plan())
    if pixels is not None:
        check_starts(pixels, len(job.wanted))
    stop = Stop([signal.SIGINT], ends_process=False)
    with stop.listening():
        try:
            if store is None:
                images, records = _in_memory(job, stop, pixels, quiet=not progress)
            else:
                job = settle(job, store, prepare_on)
                make_tiles(job, store, stop=stop, init=pixels, quiet=not progress)
                images, records = {}, store.records()
        except Interrupted:
            if stop.asked_by is None:
                raise
            raise KeyboardInterrupt from None
    blank = torch.full((3, config.recipe.final_size, config.recipe.final_size), torch.nan, device="cpu")

    def read(place: int) -> Tensor:
        file = job.wanted[place].file
        if store is None:
            return images[file]
        return blank if records[file]["status"] == "failed" else load_file(store.float_path(file))["image"]

    title = " ".join([source.model, *(config.layer or {})])
    return Result(job.wanted, [records[planned.file] for planned in job.wanted], title, read)


def _numbers(features: SupportsIndex | Sequence[SupportsIndex]) -> list[int]:
    return [operator.index(f) for f in ([features] if isinstance(features, SupportsIndex) else features)]


def _in_memory(
    job: Job, stop: Stop, init: Tensor | None, *, quiet: bool
) -> tuple[dict[str, Tensor], dict[str, Record]]:
    """Images and records of a job that has no directory, by file."""
    images: dict[str, Tensor] = {}
    records: dict[str, Record] = {}
    progress = Progress(len(job.wanted), quiet=quiet)

    def on_chunk(result: ChunkResult) -> None:
        made = list(records_of(result, job.plan))
        for place, record in made:
            images[record["file"]] = result.images[place].contiguous()
            records[record["file"]] = record
        progress.add([record for _, record in made])

    numbers = range(len(job.plan.chunks))
    try:
        descend(job, numbers, on_chunk, callbacks=[progress], before_step=stop.check, init=init)
    finally:
        progress.close()
    return images, records
