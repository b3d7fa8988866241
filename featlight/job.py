"""A run put together: the network, cut and surveyed, and the plan that all its workers follow."""

import datetime
import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import lightning
import torch
import torchvision
from torch import Tensor, nn

from featlight.config import Config
from featlight.errors import UsageError
from featlight.fingerprint import figure_of, file_sha256, fingerprint, refuse_other
from featlight.image import read_image
from featlight.network import LayerOutputs, Survey, check_independent, frozen_copy, survey
from featlight.objective import MapSize
from featlight.plan import Plan, Planned, Settings, auto_batch_size, settings_of
from featlight.recipe import NAMED_STARTS
from featlight.version import __version__
from featlight.wanted import wanted_tiles
from featlight.zoo import checksum, load, source_of

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp64": torch.float64}


def versions() -> dict[str, str]:
    """Of what the images hang on."""
    packages = {module.__name__: str(module.__version__) for module in (torch, torchvision, lightning)}
    return {"featlight": __version__, "python": platform.python_version(), **packages}


def device_of(accelerator: str) -> torch.device:
    """The device of a config's `accelerator`: CUDA where there is one, else the CPU; never MPS unasked.

    Raises:
        UsageError: a GPU is asked for and there is none.
    """
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise UsageError("accelerator: gpu given, but no CUDA GPU is visible; allowed: auto, cpu")
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")


@dataclass
class Job:
    """All that a run needs before its first step.

    Args:
        config: settled.
        device: of the network and the images.
        network: frozen, on the device, in the run's precision.
        surveys: of the network, by image size, in pixels: one for each octave.
        settings: by variant.
        plan: of the run directory, extended by what this config asks for.
        wanted: the tiles that this config asks for, in order.
        known: the plan that the directory held; None where it held none.
        normalize: mean and std of the pixels that the network is to get; None for raw pixels.
    """

    config: Config
    device: torch.device
    network: nn.Module
    surveys: Mapping[int, Survey]
    settings: Mapping[str, Settings]
    plan: Plan
    wanted: list[Planned]
    known: Plan | None
    normalize: tuple[Sequence[float], Sequence[float]] | None

    @cached_property
    def first_maps(self) -> dict[int, dict[str, MapSize]]:
        return {size: {layer.name: layer.map_size for layer in s.usable} for size, s in self.surveys.items()}

    def network_at(self, layers: tuple[str, ...]) -> LayerOutputs:
        """The network, cut after the last of these layers."""
        found = next(iter(self.surveys.values()))
        plain = any(survey.format == torch.contiguous_format for survey in self.surveys.values())
        format = torch.contiguous_format if plain else torch.channels_last
        dtype = DTYPES[self.config.precision]
        return LayerOutputs(self.network, [found[name] for name in layers], self.normalize, format, self.device, dtype)


def prepare(
    config: Config,
    known: Plan | None = None,
    *,
    network: nn.Module | None = None,
    device: torch.device | None = None,
    init: Tensor | None = None,
) -> Job:
    """Load, survey and plan.

    Args:
        config: settled.
        known: the plan of the run directory, if there is one; it is not changed.
        network: instead of loading the config's.
        device: instead of the config's.
        init: instead of the config's.

    Raises:
        UsageError: what the network does not have, or a plan of another fingerprint.
        WeightsError: the weights cannot be had.
    """
    for key, value in (("devices", config.devices), ("num_nodes", config.num_nodes)):
        if value not in ("auto", 1):
            raise UsageError(f"{key}: {value} given; this version runs one worker")
    if config.compile == "on":
        raise UsageError("compile: on given; this version does not compile")
    device = device_of(config.accelerator) if device is None else device
    network = load(config.model, config.weights, seed=config.seed) if network is None else network
    source, sha256 = source_of(network), checksum(network)
    dtype = DTYPES[config.precision]
    frozen = frozen_copy(network, device, dtype)
    check_independent(frozen, source.model)
    normalize = None
    if config.normalize == "weights":
        if source.mean is None or source.std is None:
            raise UsageError(f"normalize: weights given, but what {source.model} was trained with is not known")
        normalize = (source.mean, source.std)
        if hasattr(frozen, "transform_input"):
            frozen.transform_input = True  # type: ignore[assignment]
    if config.layer is None and config.tiles is None:
        names = [layer.name for layer in survey(frozen, 224, device, dtype).usable]
        raise UsageError(
            f"--layer: none given, and {source.model} has no default; allowed: {', '.join(names[:24])}"
            + (f", ... (--list-layers prints all {len(names)})" if len(names) > 24 else "")
        )
    settings = settings_of(config)
    sizes = dict.fromkeys(octave.size for way in settings for octave in way.recipe.octaves)
    surveys = {size: survey(frozen, size, device, dtype) for size in sizes}
    wanted = wanted_tiles(config, settings, surveys, source.model)
    plan = _plan(config, known, settings, wanted, device, sha256, init)
    if known is None:
        plan.network = {
            "model": source.model,
            "weights": source.weights,
            "sha256": sha256,
            "asked": config.weights,
            "file": None if source.file is None else str(source.file),
            "file_sha256": None if source.file is None else file_sha256(source.file),
        }
    used = {term.layer for planned in wanted for term in planned.tile.terms}
    for size, found in surveys.items():
        for layer in used:
            found.need(layer, source.model)  # at every octave's size, before any step
        plan.layers.setdefault(str(size), {}).update({name: list(found[name].shape) for name in used})
    plan.add(wanted)
    plan.figure = figure_of(config)
    ways = {way.variant: way for way in settings}
    return Job(config, device, frozen, surveys, ways, plan, wanted, known, normalize)


def _plan(
    config: Config,
    known: Plan | None,
    settings: list[Settings],
    wanted: list[Planned],
    device: torch.device,
    sha256: str,
    init: Tensor | None,
) -> Plan:
    """A new plan, or the known one with the fingerprints of new variants; without this config's tiles yet."""
    if known is None:
        batch_size = config.batch_size
        if batch_size == "auto":
            batch_size = auto_batch_size(len(wanted), gpu=device.type == "cuda")
        threads = torch.get_num_threads() if config.threads == "auto" else config.threads
        plan = Plan(datetime.date.today().isoformat(), {}, {}, {}, batch_size, threads, versions())
    else:
        plan = Plan.from_json(known.to_json())
    for way in settings:
        init_sha256 = init_checksum(way.init) if init is None else init_checksum(init, [tile.file for tile in wanted])
        ours = fingerprint(way, config, plan, weights_sha256=sha256, init_sha256=init_sha256)
        refuse_other(plan, way.variant, ours, config.out)
        plan.fingerprints[way.variant] = ours
    return plan


def init_checksum(init: str | Tensor, files: Sequence[str] = ()) -> str | None:
    """SHA-256 of the pixels of a start, and of whose they are where each tile has its own; None for a start by name."""
    if isinstance(init, str):
        if init in NAMED_STARTS:
            return None
        init = read_image(Path(init))
    owners = repr(list(files)) if init.ndim == 4 else ""
    return hashlib.sha256(init.detach().cpu().contiguous().numpy().tobytes() + owners.encode()).hexdigest()
