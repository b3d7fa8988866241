"""The frozen network as it runs: norms folded, in the run's precision and memory format, cut where a chunk needs it."""

from collections.abc import Collection, Sequence
from math import prod

import torch
from torch import nn

from featlight.folding import Fold, find_folds, fold
from featlight.image import noise
from featlight.layer import Layer
from featlight.network import LayerOutputs, Survey, survey


def exact_dtype(dtype: torch.dtype) -> torch.dtype:
    """In which a network that is to run in `dtype` is held and folded first: at least float32."""
    return torch.promote_types(dtype, torch.float32)


class Engine:
    """Makes the cut networks of a run.

    Args:
        network: as `frozen_copy` gives it, in `exact_dtype`; it belongs to this object from now on.
        sizes: sides of all images, in pixels.
        dtype: of the network as it runs.
        device: of the network.
        normalize: mean and std of the pixels that the network is to get; None for raw pixels.
        compile: whether to run compiled graphs.
    """

    def __init__(
        self,
        network: nn.Module,
        sizes: Sequence[int],
        *,
        dtype: torch.dtype,
        device: torch.device,
        normalize: tuple[Sequence[float], Sequence[float]] | None = None,
        compile: bool = False,
    ) -> None:
        self._network = network
        self._dtype, self._device, self._normalize, self._compile = dtype, device, normalize, compile
        sample = noise(min(sizes), seed=0)[None].to(device, exact_dtype(dtype))  # (1, 3, S, S)
        self.folds = find_folds(network, sample)
        self._compiled: dict[tuple[str, ...], LayerOutputs] = {}  # compiling takes minutes
        self._made: tuple[tuple[Fold, ...], nn.Module] | None = None
        running = self._folded(tuple(self.folds))
        self.surveys: dict[int, Survey] = {size: survey(running, size, device, dtype) for size in sizes}
        plain = any(found.format == torch.contiguous_format for found in self.surveys.values())
        self.format = torch.contiguous_format if plain else torch.channels_last

    def at(self, layers: Sequence[str]) -> LayerOutputs:
        """The network, cut after the last of these layers; a convolution among them keeps what it gives unfolded.

        Raises:
            UsageError: it is to be compiled, and cannot be.
        """
        key = tuple(layers)
        if key in self._compiled:
            return self._compiled[key]
        network = self._folded(tuple(fold for fold in self.folds if fold.convolution not in layers))
        found = next(iter(self.surveys.values()))
        wanted: list[Layer] = [found[name] for name in layers]
        network.to(memory_format=self.format)
        outputs = LayerOutputs(network, wanted, self._normalize, self.format, self._device, self._dtype)
        if self._compile:
            from featlight.compilation import compiled  # the tracer is slow to import

            sample = noise(min(self.surveys), seed=0)[None].to(self._device).contiguous(memory_format=self.format)
            self._compiled[key] = outputs = outputs.of(compiled(network, key, outputs, sample))
        return outputs

    def image_bytes(self, layers: Collection[str]) -> int:
        """What the maps of one image take, with their gradients, as far as these layers need the network to run.

        Counted are the outputs of all modules that hold no others, at the largest size.
        """
        survey = self.surveys[max(self.surveys)]
        names = list(survey)
        last = max((names.index(name) for name in layers), default=len(names) - 1)
        parents = {name.rpartition(".")[0] for name in names}
        maps = sum(prod(survey[name].shape) for name in names[: last + 1] if name not in parents)
        return 2 * (3 * survey.size**2 + maps) * self._dtype.itemsize

    def _folded(self, folds: tuple[Fold, ...]) -> nn.Module:
        """The network with these norms folded, the last one kept: most chunks share it."""
        if self._made is None or self._made[0] != folds:
            self._made = folds, fold(self._network, folds).to(self._dtype)
        return self._made[1]
