"""The frozen network as it runs: norms folded, in the run's precision and memory format, cut where a chunk needs it."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import torch
from torch import Tensor, fx, nn

from featlight.config.inputs.sizes import ImageSize, pixels_of
from featlight.config.settings import Channels, PrefixTokens
from featlight.config.tile import CLASS
from featlight.errors import UsageError
from featlight.models.copying import duplicate
from featlight.models.extractor import LayerOutputs
from featlight.models.frozen import cast, lay_out
from featlight.models.layer_info import Layer
from featlight.models.layers import Survey, surveys
from featlight.models.probing.inputs import Inputs
from featlight.models.redirected import has_smooth
from featlight.models.rewriting.activated import activated
from featlight.models.rewriting.fusion import Fold, find_folds, fold_in
from featlight.models.rewriting.graph import ChosenFeatures, count_channels, needed_branches, shortened, with_branches
from featlight.models.rewriting.trace import NoGraphError, operations, traced
from featlight.models.sources.pixels import words_of
from featlight.param.image import MeanAndStd, noise, normalized

# Of the largest value of an output; another tensor is off by far more than rounding
ANY = Inputs()
TOLERANCE, COARSE_TOLERANCE = 1e-3, 0.1


def samples(size: ImageSize, channels: int = 3) -> Tensor:
    """Two images to look into a network with, as a descent starts: some networks take one image for none."""
    return torch.stack([noise(size, 0, channels), noise(size, 1, channels)])  # (2, C, H, W)


def module_name(output: str) -> str:
    """Of the module that gives an output: a part of what it gives, or its class token, stands after its name."""
    return output.removesuffix(CLASS).partition(":")[0]


def exact_dtype(dtype: torch.dtype) -> torch.dtype:
    """In which a network that is to run in `dtype` is held and folded first: at least float32."""
    return torch.promote_types(dtype, torch.float32)


@dataclass
class _Cut:
    """The network, cut after the last of some layers.

    Args:
        layers: by name.
        plain: as it is.
        whole: what gives all of the layers: the graph where that is less work.
        graph: the network's graph, its channels counted; None where it has none, or that gives something else.
        why: it has no graph.
    """

    layers: tuple[str, ...]
    plain: LayerOutputs
    whole: LayerOutputs
    graph: fx.GraphModule | None = None
    why: str = ""
    narrowed: dict[tuple[tuple[str, tuple[int, int]], ...], LayerOutputs] = field(default_factory=dict)


class PreparedNetwork:
    """Makes the cut networks of a run.

    Args:
        network: as `frozen_copy` gives it, in `exact_dtype`; it belongs to this object from now on.
        sizes: of all images, in pixels.
        dtype: of the network as it runs.
        device: of the network.
        normalize: mean and std of the pixels that the network is to get; None for raw pixels.
        compile: whether to run compiled graphs.
        channels: which dimension of an output is the feature.
        prefix_tokens: how many tokens stand before the patches.
        inputs: what the network takes.
    """

    def __init__(
        self,
        network: nn.Module,
        sizes: Sequence[ImageSize],
        *,
        dtype: torch.dtype,
        device: torch.device,
        normalize: MeanAndStd | None = None,
        compile: bool = False,
        channels: Channels = "auto",
        prefix_tokens: PrefixTokens = "auto",
        inputs: Inputs = ANY,
    ) -> None:
        self._network = network
        self.dtype, self.device, self._normalize, self._compile = dtype, device, normalize, compile
        self.in_channels, self._inputs = inputs.channels, inputs
        needed = {view.size for view in inputs.views.values()}
        seen = sorted({*sizes, *needed}, key=pixels_of)
        self.folds = find_folds(network, [self._samples(size).to(exact_dtype(dtype)) for size in seen])
        self._compiled: dict[tuple[str, ...], LayerOutputs] = {}  # compiling takes minutes
        self._made: tuple[tuple[Fold, ...], nn.Module] | None = None
        self._cut: _Cut | None = None
        self._given: nn.Module | None = None
        folded = self._folded(tuple(self.folds))
        found = surveys(folded, seen, device, dtype, channels, prefix_tokens, inputs.channels, normalize)
        self.surveys: dict[ImageSize, Survey] = {size: self._seen_at(size, found) for size in sizes}
        plain = any(found.format == torch.contiguous_format for found in self.surveys.values())
        self.format = torch.contiguous_format if plain else torch.channels_last
        smallest = min(needed or sizes, key=pixels_of)
        self._sample = self._samples(smallest).contiguous(memory_format=self.format)

    def _samples(self, size: ImageSize) -> Tensor:
        return samples(size, self.in_channels).to(self.device)

    def _seen_at(self, size: ImageSize, found: Mapping[ImageSize, Survey]) -> Survey:
        """The layers for images of a size: as they are seen at the size that the network takes, where it has one."""
        view = self._inputs.views.get(size)
        if view is None:
            return found[size]
        own = {name: layer for name, layer in found[size].items() if module_name(name) in view.free}
        return found[view.size].with_layers(own, size)

    def views(self, layers: Sequence[str]) -> Mapping[ImageSize, ImageSize]:
        """By size of the images, at which the network is to see them for the sake of these layers; else as they are."""
        views = self._inputs.views.items()
        return {size: view.size for size, view in views if not set(map(module_name, layers)) <= view.free}

    def optimized(self, layers: Sequence[str], features: ChosenFeatures | None = None) -> LayerOutputs:
        """The network, cut after the last of these layers; a convolution among them keeps what it gives unfolded.

        Args:
            layers: by name.
            features: by layer, those that are looked for: others may be given as 0. None for all of them.

        Raises:
            UsageError: it is to be compiled, and cannot be.
        """
        key = tuple(layers)
        if key in self._compiled:
            return self._compiled[key]
        cut = self._cut_at(key)
        if self._compile:
            self._compiled[key] = self._compiled_graph(cut)
            return self._compiled[key]
        return cut.whole if features is None else self._narrowed(cut, features)

    def folded(self, layers: Sequence[str]) -> LayerOutputs:
        """The same, except for norms that are folded: nothing is rewritten."""
        return self._cut_at(tuple(layers)).plain

    def folds_at(self, layers: Sequence[str]) -> tuple[Fold, ...]:
        """The norms that are folded where these layers are looked at: of none that follows a convolution among them."""
        found = next(iter(self.surveys.values()))
        modules = {self._network.get_submodule(found[layer].module) for layer in layers}  # one may have several names
        return tuple(fold for fold in self.folds if self._network.get_submodule(fold.convolution) not in modules)

    def original(self, layers: Sequence[str]) -> LayerOutputs:
        """The network as it was given, in the run's precision: nothing folded, traced or laid out anew."""
        return self._outputs(self.given, layers, torch.contiguous_format)

    def original_copy(self, layers: Sequence[str]) -> LayerOutputs:
        """The same, by a copy of its own: what one of them keeps from call to call, the other does not see."""
        return self._outputs(duplicate(self.given), layers, torch.contiguous_format)

    @cached_property
    def has_smooth(self) -> bool:
        """Whether a GELU or SiLU runs in it."""
        return has_smooth(self.given, self.sample)

    @property
    def input_words(self) -> str:
        """What the network is fed, for people."""
        return words_of(self._network, self._normalize)

    @property
    def sample(self) -> Tensor:
        """Two images of the smallest size, as the network is given them."""
        return normalized(self._sample.to(self.dtype), self._normalize)

    @property
    def image_dtype(self) -> torch.dtype:
        """Of the images, which are float32 at least whatever the network's precision."""
        return exact_dtype(self.dtype)

    @property
    def given(self) -> nn.Module:
        """The network as it was given, in the run's precision."""
        if self._given is None:
            self._given = self._network
            if self.dtype != exact_dtype(self.dtype):
                self._given = duplicate(self._network)
                cast(self._given, self.device, self.dtype)
        return self._given

    def image_memory(self, layers: Collection[str]) -> int:
        """What one image takes, in bytes, as far as these layers need the network to run.

        Counted are itself and the outputs of all modules that hold no others, at the largest size, and gradients.
        """
        survey = self.surveys[max(self.surveys, key=pixels_of)]
        names = list(survey)
        last = max((names.index(name) for name in layers), default=len(names) - 1)
        parents = {name.rpartition(".")[0] for name in names}
        counted = [name for name in names[: last + 1] if name not in parents and not name.endswith(CLASS)]
        maps = sum(prod(survey[name].shape) for name in counted)
        return 2 * (self.in_channels * pixels_of(survey.size) + maps) * self.dtype.itemsize

    def _folded(self, folds: tuple[Fold, ...]) -> nn.Module:
        """The network with these norms folded, the last one kept: most chunks share it."""
        if self._made is None or self._made[0] != folds:
            folded = fold_in(self._network, folds)
            cast(folded, self.device, self.dtype)
            self._made = folds, folded
        return self._made[1]

    def _outputs(self, network: nn.Module, layers: Sequence[str], format: torch.memory_format) -> LayerOutputs:
        """A network of ours, cut after the last of these layers."""
        found = next(iter(self.surveys.values()))
        wanted: list[Layer] = [found[name] for name in layers]
        views = self.views(layers)
        return LayerOutputs(network, wanted, self._normalize, format, self.device, self.dtype, self.surveys, views)

    def _cut_at(self, layers: tuple[str, ...]) -> _Cut:
        """The last one is kept: most chunks share it."""
        if self._cut is None or self._cut.layers != layers:
            self._cut = self._make(layers)
        return self._cut

    def _make(self, layers: tuple[str, ...]) -> _Cut:
        network = self._folded(self.folds_at(layers))
        lay_out(network, self.format)
        plain = self._outputs(network, layers, self.format)
        try:
            graph = self._graph(network, plain, layers)
            if graph is None:
                return _Cut(layers, plain, plain, why=f"it gives other values for {' and '.join(layers)}")
            shorter = shortened(graph)
            with torch.no_grad():
                count_channels(shorter or graph, plain.prepared(self._sample))
        except (Exception, SystemExit) as error:  # tracing may raise anything, and a network is free not to be a graph
            why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            return _Cut(layers, plain, plain, why=why)
        whole = plain
        if shorter is not None and self._same(_by(shorter, plain), plain, layers):
            graph, whole = shorter, _by(shorter, plain)
        joined = activated(graph)
        if joined is not None and self._same(_by(joined, plain), plain, layers):
            whole = _by(joined, plain)
        return _Cut(layers, plain, whole, graph)

    def _graph(self, network: nn.Module, plain: LayerOutputs, layers: tuple[str, ...]) -> fx.GraphModule | None:
        """The network's graph; None where it gives something else."""
        images = plain.prepared(self._sample)
        found = next(iter(self.surveys.values()))
        wanted = [found[layer] for layer in layers]
        try:
            graph = traced(network, wanted, images)
        except NoGraphError:  # it overwrites what it gives, say
            graph = traced(network, wanted, images, inplace=False)
        ours = _by(graph, plain)
        return graph if self._same(ours, plain, layers) and self._operations(ours) == self._operations(plain) else None

    def _operations(self, outputs: LayerOutputs) -> Counter[tuple[str, int, str]]:
        return operations(outputs(self._sample.clone().requires_grad_(True)))

    def _narrowed(self, cut: _Cut, features: ChosenFeatures) -> LayerOutputs:
        found = next(iter(self.surveys.values()))
        first = {
            layer: chosen
            for layer, chosen in features.items()
            if found[layer].dimension == 1 and found[layer].tokens is None
        }
        kept = {} if cut.graph is None else needed_branches(cut.graph, first)
        if cut.graph is None or not kept:
            return cut.whole
        key = tuple(sorted(kept.items()))  # torch.fx forgets no code that it has made: make each but once
        if key not in cut.narrowed:
            branches = with_branches(cut.graph, kept)
            narrowed = _by(activated(branches) or branches, cut.plain)
            cut.narrowed[key] = narrowed if self._same(narrowed, cut.whole, cut.layers, features) else cut.whole
        return cut.narrowed[key]

    def _compiled_graph(self, cut: _Cut) -> LayerOutputs:
        if cut.graph is None:
            raise UsageError(f"compile: on given, but the network is no plain graph ({cut.why}); allowed: auto, off")
        return _by(cut.graph, cut.plain, compile=True)

    def _same(
        self, ours: LayerOutputs, theirs: LayerOutputs, layers: Sequence[str], features: ChosenFeatures | None = None
    ) -> bool:
        """Whether they give the same except for rounding; where features are named, of these."""
        tolerance = TOLERANCE if self.dtype == exact_dtype(self.dtype) else COARSE_TOLERANCE
        with torch.no_grad():
            mine, yours = ours(self._sample), theirs(self._sample)
        for layer in layers:
            looked_for = list((features or {}).get(layer, range(yours[layer].shape[1])))
            difference = (mine[layer] - yours[layer])[:, looked_for].abs().amax((1, 2, 3))  # (2,)
            if not (difference <= tolerance * yours[layer].abs().amax((1, 2, 3))).all():
                return False
        return True


def _by(graph: fx.GraphModule, plain: LayerOutputs, *, compile: bool = False) -> LayerOutputs:
    """The outputs of a cut network, given by its graph."""

    def run(images: Tensor) -> Mapping[str, Tensor]:
        found: Mapping[str, Tensor] = graph(plain.prepared(images))
        return found

    return plain.of(torch.compile(run) if compile else run)
