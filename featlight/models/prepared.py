"""The frozen network of a run: norms folded, in the run's precision and memory format, cut after a chunk's layers."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import torch
from torch import Tensor, fx, nn

from featlight.config.image_shape import ImageSize, pixels_of
from featlight.config.named_starts import noise
from featlight.config.settings import Channels, PrefixTokens
from featlight.config.tile import CLASS
from featlight.errors import UsageError, one_line
from featlight.models.copying import duplicate
from featlight.models.extractor import LayerOutputs
from featlight.models.frozen import cast, set_memory_format
from featlight.models.layers import Survey, surveys
from featlight.models.measured import MeasuredOutputs, agree, measured_norms, with_moments
from featlight.models.probing.inputs import Inputs
from featlight.models.redirected import has_smooth
from featlight.models.rewriting.convolutions import activated
from featlight.models.rewriting.fusion import Fold, find_folds, fold_in
from featlight.models.rewriting.graph import ChosenFeatures, count_channels, needed_branches, shortened, with_branches
from featlight.models.rewriting.trace import NoGraphError, operations, traced
from featlight.models.sources.pixels import describe_input
from featlight.param.image import MeanAndStd, normalized

ANY = Inputs()
# Relative to the largest value of an output; a wrong tensor differs by far more than rounding
TOLERANCE, COARSE_TOLERANCE = 1e-3, 0.1


def samples(size: ImageSize, channels: int = 3) -> Tensor:
    """Return two different noise images, (2, C, H, W); some networks drop the batch dimension of a single image."""
    return torch.stack([noise(size, 0, channels), noise(size, 1, channels)])


def exact_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the precision, at least float32, in which a network that runs in `dtype` is stored and folded."""
    return torch.promote_types(dtype, torch.float32)


@dataclass
class _Cut:
    """The network, cut after the last of some layers.

    Args:
        layers: names of the layers.
        plain: outputs of the folded network.
        whole: outputs of the graph if it does less work, else `plain`.
        graph: graph of the network with counted channels; None if it has no graph with equal outputs.
        reason: reason why it has no graph.
        narrowed: outputs of graphs with only some branches, by these branches.
    """

    layers: tuple[str, ...]
    plain: LayerOutputs
    whole: LayerOutputs
    graph: fx.GraphModule | None = None
    reason: str = ""
    narrowed: dict[tuple[tuple[str, tuple[int, int]], ...], LayerOutputs] = field(default_factory=dict)


class PreparedNetwork:
    """The network of a run in the forms that it needs: optimized, folded, and original.

    Args:
        network: result of `frozen_copy` in `exact_dtype`, which the caller uses no more.
        sizes: sizes of all images in pixels.
        dtype: precision in which the network runs.
        device: device of the network.
        normalize: mean and std that pixels are normalized with; None for raw pixels.
        compile: whether to compile the graphs.
        channels: feature dimension of all outputs, `first` or `last`; `auto` to determine it.
        prefix_tokens: number of tokens before the patches; `auto` to determine it.
        inputs: images that the network takes.
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
        fixed_sizes = {view.size for view in inputs.views.values()}
        all_sizes = sorted({*sizes, *fixed_sizes}, key=pixels_of)
        self.folds = find_folds(network, [self._samples(size).to(exact_dtype(dtype)) for size in all_sizes])
        self._compiled: dict[tuple[str, ...], LayerOutputs] = {}  # compiling takes minutes
        self._last_folded: tuple[tuple[Fold, ...], nn.Module] | None = None
        self._last_cut: _Cut | None = None
        self._last_measured: tuple[tuple[str, ...], MeasuredOutputs] | None = None
        folded = self._folded(tuple(self.folds))
        found = surveys(folded, all_sizes, device, dtype, channels, prefix_tokens, inputs.channels, normalize)
        self.surveys: dict[ImageSize, Survey] = {size: self._survey_at(size, found) for size in sizes}
        self._layers: Survey = next(iter(self.surveys.values()))
        plain = any(survey.format == torch.contiguous_format for survey in self.surveys.values())
        self.format = torch.contiguous_format if plain else torch.channels_last
        smallest = min(fixed_sizes or sizes, key=pixels_of)
        self._sample = self._samples(smallest).contiguous(memory_format=self.format)

    def _samples(self, size: ImageSize) -> Tensor:
        return samples(size, self.in_channels).to(self.device)

    def _survey_at(self, size: ImageSize, found: Mapping[ImageSize, Survey]) -> Survey:
        """Return the layers for images of a size, which may be resized to the network's input size."""
        view = self._inputs.views.get(size)
        if view is None:
            return found[size]
        own = {name: layer for name, layer in found[size].items() if layer.module in view.free}
        return found[view.size].with_layers(own, size)

    def views(self, layers: Sequence[str]) -> Mapping[ImageSize, ImageSize]:
        """Return the input size that these layers require, by image size; image sizes that they take are left out."""
        views = self._inputs.views.items()
        return {
            size: view.size for size, view in views if not {self._layers[name].module for name in layers} <= view.free
        }

    def optimized(self, layers: Sequence[str], features: ChosenFeatures | None = None) -> LayerOutputs:
        """Return the outputs of some layers with the least work; a convolution among the layers is not folded.

        Args:
            layers: names of the layers.
            features: requested features by layer, others may be 0; None for all features.

        Raises:
            UsageError: the network cannot be compiled.
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
        """Return the outputs of some layers of the network with folded norms, not rewritten as a graph."""
        return self._cut_at(tuple(layers)).plain

    def folds_at(self, layers: Sequence[str]) -> tuple[Fold, ...]:
        """Return the folds for some layers: no norm is folded into a convolution among these."""
        # a module may have several names
        modules = {self._network.get_submodule(self._layers[layer].module) for layer in layers}
        return tuple(fold for fold in self.folds if self._network.get_submodule(fold.convolution) not in modules)

    def original(self, layers: Sequence[str], *, copied: bool = False) -> LayerOutputs:
        """Return the outputs of some layers of the original network, in the run's precision.

        Args:
            layers: names of the layers.
            copied: whether to run a new copy, which shares no state between calls with the other forms.
        """
        network = duplicate(self.original_network) if copied else self.original_network
        return self._outputs(network, layers, torch.contiguous_format)

    def measured(self, layers: Sequence[str], *, original: bool = False) -> MeasuredOutputs:
        """Return the outputs of some layers with the moments of the norms before them; no branches are omitted.

        Args:
            layers: names of the layers.
            original: whether to run a new copy of the original network.
        """
        key = tuple(layers)
        if original:
            network = duplicate(self.original_network)
            plain = self._outputs(network, layers, torch.contiguous_format)
            norms = measured_norms(network, plain, self._sample, (), self._network, self.image_dtype)
            return MeasuredOutputs(plain, network, norms)
        if self._last_measured is None or self._last_measured[0] != key:
            self._last_measured = key, self._make_measured(key)
        return self._last_measured[1]

    @cached_property
    def has_smooth(self) -> bool:
        """Whether the network runs a GELU or SiLU."""
        return has_smooth(self.original_network, self.sample)

    @property
    def input_description(self) -> str:
        """The pixels that the network receives, described for the user."""
        return describe_input(self._network, self._normalize)

    @property
    def sample(self) -> Tensor:
        """Two noise images of the smallest size, normalized, in the run's precision, (2, C, H, W)."""
        return normalized(self._sample.to(self.dtype), self._normalize)

    @property
    def image_dtype(self) -> torch.dtype:
        """The precision of the images, at least float32."""
        return exact_dtype(self.dtype)

    @cached_property
    def original_network(self) -> nn.Module:
        """The original network in the run's precision."""
        if self.dtype == exact_dtype(self.dtype):
            return self._network
        network = duplicate(self._network)
        cast(network, self.device, self.dtype)
        return network

    def image_memory(self, layers: Collection[str]) -> int:
        """Return the memory of one image in bytes, up to the last of some layers.

        It counts the image and the outputs of all innermost modules at the largest size, and their gradients.
        """
        survey = self.surveys[max(self.surveys, key=pixels_of)]
        names = list(survey)
        last = max((names.index(name) for name in layers), default=len(names) - 1)
        parents = {name.rpartition(".")[0] for name in names}
        counted = [name for name in names[: last + 1] if name not in parents and not name.endswith(CLASS)]
        maps = sum(prod(survey[name].shape) for name in counted)
        return 2 * (self.in_channels * pixels_of(survey.size) + maps) * self.dtype.itemsize

    def _folded(self, folds: tuple[Fold, ...]) -> nn.Module:
        """Return the network with some norms folded; the last one is cached, because most chunks share it."""
        if self._last_folded is None or self._last_folded[0] != folds:
            folded = fold_in(self._network, folds)
            cast(folded, self.device, self.dtype)
            self._last_folded = folds, folded
        return self._last_folded[1]

    def _outputs(self, network: nn.Module, layers: Sequence[str], format: torch.memory_format) -> LayerOutputs:
        chosen = [self._layers[name] for name in layers]
        views = self.views(layers)
        return LayerOutputs(network, chosen, self._normalize, format, self.device, self.dtype, self.surveys, views)

    def _cut_at(self, layers: tuple[str, ...]) -> _Cut:
        """Return the network cut after some layers; the last one is cached, because most chunks share it."""
        if self._last_cut is None or self._last_cut.layers != layers:
            self._last_cut = self._make_cut(layers)
        return self._last_cut

    def _make_cut(self, layers: tuple[str, ...]) -> _Cut:
        network = self._folded(self.folds_at(layers))
        set_memory_format(network, self.format)
        plain = self._outputs(network, layers, self.format)
        try:
            graph = self._graph(network, plain, layers)
            if graph is None:
                return _Cut(layers, plain, plain, reason=f"it gives other values for {' and '.join(layers)}")
            shorter = shortened(graph)
            with torch.no_grad():
                count_channels(shorter or graph, plain.network_input(self._sample))
        except (Exception, SystemExit) as error:  # tracing may raise anything
            return _Cut(layers, plain, plain, reason=one_line(f"{type(error).__name__}: {error}", 200))
        whole = plain
        if shorter is not None and self._same(_computed_by(shorter, plain), plain, layers):
            graph, whole = shorter, _computed_by(shorter, plain)
        joined = activated(graph)
        if joined is not None and self._same(_computed_by(joined, plain), plain, layers):
            whole = _computed_by(joined, plain)
        return _Cut(layers, plain, whole, graph)

    def _make_measured(self, layers: tuple[str, ...]) -> MeasuredOutputs:
        folds = self.folds_at(layers)
        network = self._folded(folds)
        set_memory_format(network, self.format)
        plain, untouched = self._outputs(network, layers, self.format), self.original(layers)
        norms = measured_norms(self.original_network, untouched, self._sample, folds, self._network, self.image_dtype)
        measured = MeasuredOutputs(plain, network, norms)
        try:
            graph = self._graph(network, plain, layers, inplace=False)  # the moments need the maps in the backward pass
            graph = None if graph is None else with_moments(graph, norms)
            shorter = None if graph is None else shortened(graph)
        except (Exception, SystemExit):  # tracing may raise anything
            return measured
        for each in filter(None, (shorter, graph)):
            run = torch.compile(each) if self._compile else each
            found = MeasuredOutputs(plain, network, norms, run)
            if agree(found, measured, self._sample, self._tolerance):
                return found
        return measured

    def _graph(
        self, network: nn.Module, plain: LayerOutputs, layers: tuple[str, ...], *, inplace: bool = True
    ) -> fx.GraphModule | None:
        """Return the network's graph; None if its outputs or its gradients differ from the network's."""
        images = plain.network_input(self._sample)
        chosen = [self._layers[layer] for layer in layers]
        try:
            graph = traced(network, chosen, images, inplace=inplace)
        except NoGraphError:  # for example, a module overwrites the output of a layer
            graph = traced(network, chosen, images, inplace=False)
        outputs = _computed_by(graph, plain)
        is_equal = self._same(outputs, plain, layers) and self._operations(outputs) == self._operations(plain)
        return graph if is_equal else None

    def _operations(self, outputs: LayerOutputs) -> Counter[tuple[str, int, str]]:
        return operations(outputs(self._sample.clone().requires_grad_(True)))

    def _narrowed(self, cut: _Cut, features: ChosenFeatures) -> LayerOutputs:
        maps = {name: self._layers[name] for name in features}
        channels_first = {
            name: features[name] for name, layer in maps.items() if layer.dimension == 1 and layer.tokens is None
        }
        kept = {} if cut.graph is None else needed_branches(cut.graph, channels_first)
        if cut.graph is None or not kept:
            return cut.whole
        key = tuple(sorted(kept.items()))  # torch.fx never frees generated code, so generate each graph once
        if key not in cut.narrowed:
            branches = with_branches(cut.graph, kept)
            narrowed = _computed_by(activated(branches) or branches, cut.plain)
            cut.narrowed[key] = narrowed if self._same(narrowed, cut.whole, cut.layers, features) else cut.whole
        return cut.narrowed[key]

    def _compiled_graph(self, cut: _Cut) -> LayerOutputs:
        if cut.graph is None:
            raise UsageError(f"compile: on given, but the network has no graph ({cut.reason}); allowed: auto, off")
        return _computed_by(cut.graph, cut.plain, compile=True)

    @property
    def _tolerance(self) -> float:
        return TOLERANCE if self.dtype == exact_dtype(self.dtype) else COARSE_TOLERANCE

    def _same(
        self, ours: LayerOutputs, theirs: LayerOutputs, layers: Sequence[str], features: ChosenFeatures | None = None
    ) -> bool:
        """Return whether two networks agree up to rounding, on all features or on some."""
        tolerance = self._tolerance
        with torch.no_grad():
            mine, yours = ours(self._sample), theirs(self._sample)
        for layer in layers:
            compared = list((features or {}).get(layer, range(yours[layer].shape[1])))
            difference = (mine[layer] - yours[layer])[:, compared].abs().amax((1, 2, 3))  # (2,)
            if not (difference <= tolerance * yours[layer].abs().amax((1, 2, 3))).all():
                return False
        return True


def _computed_by(graph: fx.GraphModule, plain: LayerOutputs, *, compile: bool = False) -> LayerOutputs:
    """Return the outputs of a cut network, computed by its graph."""

    def run(images: Tensor) -> Mapping[str, Tensor]:
        outputs: Mapping[str, Tensor] = graph(plain.network_input(images))
        return outputs

    return plain.computed_by(torch.compile(run) if compile else run)
