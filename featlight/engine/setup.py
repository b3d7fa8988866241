"""A run put together: the network, cut and surveyed, and the plan that all its workers follow."""

import datetime
import hashlib
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import lightning
import torch
import torchvision
from torch import Tensor, nn

from featlight.config.recipe import NAMED_STARTS
from featlight.config.schema import Config
from featlight.distributed.env import ALONE, LAUNCHER, Worker
from featlight.errors import UsageError
from featlight.models.layer_info import ImageMemory
from featlight.models.layers import check_independent, frozen_copy, survey
from featlight.models.prepared import PreparedNetwork, exact_dtype
from featlight.models.registry import checksum, load, source_of
from featlight.objectives.regions import MapSize
from featlight.param.image import read_image
from featlight.plan.batching import auto_batch_size
from featlight.plan.fingerprint import figure_of, file_sha256, fingerprint, refuse_other
from featlight.plan.plan import Plan, Planned, Settings, settings_of
from featlight.plan.selection import wanted_tiles
from featlight.version import __version__

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp64": torch.float64}


def versions() -> dict[str, str]:
    """Of what the images hang on."""
    packages = {module.__name__: str(module.__version__) for module in (torch, torchvision, lightning)}
    return {"featlight": __version__, "python": platform.python_version(), **packages}


def device_of(accelerator: str, worker: Worker = ALONE) -> torch.device:
    """A worker's device: with CUDA a GPU of its own among those that are visible, else the CPU; never MPS unasked.

    Args:
        accelerator: as in a config.
        worker: whose device; where only one GPU is visible, whoever started the worker has chosen it.

    Raises:
        UsageError: a GPU is asked for and there is none, or there are fewer than workers.
    """
    gpus = torch.cuda.device_count() if accelerator != "cpu" and torch.cuda.is_available() else 0
    if accelerator == "gpu" and not gpus:
        raise UsageError("accelerator: gpu given, but no CUDA GPU is visible; allowed: auto, cpu")
    if not gpus:
        return torch.device("cpu")
    index = 0 if gpus == 1 and worker.launcher != LAUNCHER else worker.local_rank
    if index >= gpus:
        raise UsageError(f"devices: a worker {index + 1} on this machine, but {gpus} GPUs are visible; a GPU each")
    return torch.device("cuda", index)


@dataclass
class Job:
    """All that a run needs before its first step.

    Args:
        config: settled.
        worker: this one.
        device: of the network and the images.
        engine: makes the cut networks, frozen, on the device, in the run's precision.
        settings: by variant.
        plan: of the run directory, extended by what this config asks for.
        wanted: the tiles that this config asks for, in order.
        known: the plan that the directory held; None where it held none.
    """

    config: Config
    worker: Worker
    device: torch.device
    engine: PreparedNetwork
    settings: Mapping[str, Settings]
    plan: Plan
    wanted: list[Planned]
    known: Plan | None

    @cached_property
    def first_maps(self) -> dict[int, dict[str, MapSize]]:
        surveys = self.engine.surveys.items()
        return {size: {layer.name: layer.map_size for layer in found.usable} for size, found in surveys}


def prepare(
    config: Config,
    known: Plan | None = None,
    *,
    worker: Worker = ALONE,
    network: nn.Module | None = None,
    device: torch.device | None = None,
    init: Tensor | None = None,
    threads: int = 0,
) -> Job:
    """Load, survey and plan.

    Args:
        config: settled.
        known: the plan of the run directory, if there is one; it is not changed.
        worker: this one.
        network: instead of loading the config's.
        device: instead of the config's.
        init: instead of the config's.
        threads: what a new plan takes for `auto`; 0 for what suits as many workers as there are cores.

    Raises:
        UsageError: what the network does not have, or a plan of another fingerprint.
        WeightsError: the weights cannot be had.
    """
    device = device_of(config.accelerator, worker) if device is None else device
    network = load(config.model, config.weights, seed=config.seed) if network is None else network
    source, sha256 = source_of(network), checksum(network)
    dtype = DTYPES[config.precision]
    frozen = frozen_copy(network, device, exact_dtype(dtype))
    check_independent(frozen, source.model)
    normalize = None
    if config.normalize == "weights":
        if source.mean is None or source.std is None:
            raise UsageError(f"normalize: weights given, but what {source.model} was trained with is not known")
        normalize = (source.mean, source.std)
        if hasattr(frozen, "transform_input"):
            frozen.transform_input = True  # type: ignore[assignment]
    if config.layer is None and config.tiles is None:
        names = [layer.name for layer in survey(frozen, 224, device, exact_dtype(dtype)).usable]
        raise UsageError(
            f"--layer: none given, and {source.model} has no default; allowed: {', '.join(names[:24])}"
            + (f", ... (--list-layers prints all {len(names)})" if len(names) > 24 else "")
        )
    settings = settings_of(config)
    sizes = list(dict.fromkeys(octave.size for way in settings for octave in way.recipe.octaves))
    engine = PreparedNetwork(
        frozen, sizes, dtype=dtype, device=device, normalize=normalize, compile=config.compile == "on"
    )
    wanted = wanted_tiles(config, settings, engine.surveys, source.model)
    used = {term.layer for planned in wanted for term in planned.tile.terms}
    for found in engine.surveys.values():
        for layer in used:
            found.need(layer, source.model)  # at every octave's size, before any step
    plan = _plan(config, known, settings, wanted, engine.image_memory(used), threads, device, sha256, init)
    if known is None:
        plan.network = {
            "model": source.model,
            "weights": source.weights,
            "sha256": sha256,
            "asked": config.weights,
            "file": None if source.file is None else str(source.file),
            "file_sha256": None if source.file is None else file_sha256(source.file),
        }
    for size, found in engine.surveys.items():
        plan.layers.setdefault(str(size), {}).update({name: list(found[name].shape) for name in used})
    plan.add(wanted)
    plan.figure = figure_of(config)
    ways = {way.variant: way for way in settings}
    return Job(config, worker, device, engine, ways, plan, wanted, known)


def _plan(
    config: Config,
    known: Plan | None,
    settings: list[Settings],
    wanted: list[Planned],
    image: ImageMemory,
    threads: int,
    device: torch.device,
    sha256: str,
    init: Tensor | None,
) -> Plan:
    """A new plan, or the known one with the fingerprints of new variants; without this config's tiles yet."""
    if known is None:
        batch_size = config.batch_size
        if batch_size == "auto":
            gpu = device.type == "cuda"
            batch_size = auto_batch_size(len(wanted), gpu=gpu, image=image, memory=memory_of(device))
        if config.threads == "auto":  # a core is better used by another worker than by a second thread of this one
            threads = threads or max(1, torch.get_num_threads() // -(-len(wanted) // batch_size))
        else:
            threads = config.threads
        plan = Plan(datetime.date.today().isoformat(), {}, {}, {}, batch_size, threads, versions())
    else:
        plan = Plan.from_json(known.to_json())
    for way in settings:
        init_sha256 = init_checksum(way.init) if init is None else init_checksum(init, [tile.file for tile in wanted])
        ours = fingerprint(way, config, plan, weights_sha256=sha256, init_sha256=init_sha256)
        refuse_other(plan, way.variant, ours, config.out)
        plan.fingerprints[way.variant] = ours
    return plan


def memory_of(device: torch.device) -> int:
    """Of a GPU or of this machine, in bytes."""
    if device.type == "cuda":
        total: int = torch.cuda.get_device_properties(device).total_memory
        return total
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def init_checksum(init: str | Tensor, files: Sequence[str] = ()) -> str | None:
    """SHA-256 of the pixels of a start, and of whose they are where each tile has its own; None for a start by name."""
    if isinstance(init, str):
        if init in NAMED_STARTS:
            return None
        init = read_image(Path(init))
    owners = repr(list(files)) if init.ndim == 4 else ""
    return hashlib.sha256(init.detach().cpu().contiguous().numpy().tobytes() + owners.encode()).hexdigest()
