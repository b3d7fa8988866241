"""A frozen network as a function from images to the outputs of some layers; it runs no further than these."""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from featlight.config.image_shape import ImageSize, image_size
from featlight.models.hooks import forward_hooks
from featlight.models.layer_info import Layer
from featlight.models.layers import CPU
from featlight.models.output_layout import as_map, part_of
from featlight.param.image import resize


@dataclass(frozen=True)
class LinkedOutputs:
    """The outputs of some layers in one forward pass, and the places where their gradients arrive.

    Args:
        layers: layers by name, at the size of the images.
        maps: output of each layer, (N, C, H, W).
        edges: place of each layer's output in the graph; layers that no gradient of the images passes have none.
    """

    layers: Mapping[str, Layer]
    maps: dict[str, Tensor] = field(default_factory=dict)
    edges: dict[str, GradientEdge] = field(default_factory=dict)

    def gradients(self, value: Tensor, names: Sequence[str], *, retain: bool = False) -> dict[str, Tensor]:
        """Return the gradients of a value by some layers' outputs, (N, C, H, W).

        Args:
            value: number that the outputs determine.
            names: names of layers; those that the value does not depend on are left out of the result.
            retain: whether the graph is used again.
        """
        reached = [name for name in names if name in self.edges]
        if not reached or not value.requires_grad:
            return {}
        edges = [self.edges[name] for name in reached]
        found = torch.autograd.grad(value, edges, retain_graph=retain, allow_unused=True)
        pairs = zip(reached, found, strict=True)
        return {name: as_map(self.layers[name], gradient) for name, gradient in pairs if gradient is not None}


class LayerOutputs:
    """A frozen network, cut after the last of some layers.

    Args:
        network: result of `frozen_copy`, which the caller uses no more.
        layers: layers to return.
        normalize: (mean, std) of the pixels that the network expects, C values each; None for raw pixels.
        format: memory format of the network's input.
        device: device of the network.
        dtype: precision of the network.
        surveys: layers by image size in pixels and by name, with their calls and token grids at that size; `layers`
            for other sizes.
        views: size that the network requires, by image size.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[Layer],
        normalize: tuple[Sequence[float], Sequence[float]] | None = None,
        format: torch.memory_format = torch.contiguous_format,
        device: torch.device = CPU,
        dtype: torch.dtype = torch.float32,
        surveys: Mapping[ImageSize, Mapping[str, Layer]] | None = None,
        views: Mapping[ImageSize, ImageSize] | None = None,
    ) -> None:
        self.format = format
        self._views = views or {}
        self._network = network
        self._layers = {layer.name: layer for layer in layers}
        self._dtype = dtype
        modules = dict(network.named_modules(remove_duplicate=False))
        self._hooks = {layer.name: (modules[layer.module], self._hook(layer)) for layer in layers}
        self._surveys = surveys or {}
        self._outputs: dict[str, Tensor] = {}
        self._calls_left: dict[str, int] = {}  # by layer, until the call whose output it is
        self._function: Callable[[Tensor], Mapping[str, Tensor]] | None = None
        self._normalize = None
        if normalize is not None:
            mean, std = (torch.tensor(v, device=device, dtype=dtype).view(-1, 1, 1) for v in normalize)
            self._normalize = (mean, std)

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Return each layer's output, (N, C, H, W), in the images' precision.

        Args:
            images: pixels, (N, C, H, W).
        """
        outputs = self._run(images) if self._function is None else self._function(images)
        layers = self._at(images)
        return {name: as_map(layers[name], output).to(images.dtype) for name, output in outputs.items()}

    def computed_by(self, function: Callable[[Tensor], Mapping[str, Tensor]]) -> "LayerOutputs":
        """Return the same outputs, computed by another function of the images, such as the network's graph."""
        other = copy.copy(self)
        other._function = function
        return other

    def subset(self, layers: Sequence[str]) -> "LayerOutputs":
        """Return some of the outputs, with equal bits; the network runs no further than these."""
        other = copy.copy(self)
        other._layers = {name: self._layers[name] for name in layers}
        other._hooks = {name: (self._hooks[name][0], other._hook(layer)) for name, layer in other._layers.items()}
        return other

    def network_input(self, images: Tensor) -> Tensor:
        """Return images in the size, precision, memory format and normalization that the network takes."""
        size = image_size(*images.shape[-2:])
        if size in self._views:
            images = resize(images, self._views[size], antialias=True)
        # a network may write into its input
        x = images.to(self._dtype, copy=True, memory_format=self.format)
        return x if self._normalize is None else x.sub_(self._normalize[0]).div_(self._normalize[1])

    def _run(self, images: Tensor) -> dict[str, Tensor]:
        layers = self._at(images)
        self._outputs, self._calls_left = {}, {name: layers[name].call_number for name in self._layers}
        with forward_hooks(list(self._hooks.values())), suppress(_AllReachedError):
            self._network(self.network_input(images))
        outputs, self._outputs = self._outputs, {}
        return outputs

    def linked(self, images: Tensor) -> LinkedOutputs:
        """Run the network with gradients, and return each layer's output and its place in the graph.

        Args:
            images: pixels that require a gradient, (N, C, H, W).
        """
        layers = self._at(images)
        linked = LinkedOutputs(layers)
        hooks = [(module, self._link(layers[name], linked)) for name, (module, _) in self._hooks.items()]
        with forward_hooks(hooks), suppress(_AllReachedError):
            self._network(self.network_input(images))
        return linked

    def _link(self, layer: Layer, linked: LinkedOutputs) -> Callable[[nn.Module, Any, Any], Any]:
        calls = [0]

        def link(_: nn.Module, __: Any, output: Any) -> Any:
            calls[0] += 1
            if calls[0] != layer.call_number:
                return None
            # later modules get a copy: they may write into their input, also where it is a view
            own = part_of(output, layer.part) if layer.part else output.clone()
            linked.maps[layer.name] = as_map(layer, own.clone())
            if own.requires_grad:
                linked.edges[layer.name] = get_gradient_edge(own)
            if len(linked.maps) == len(self._hooks):
                raise _AllReachedError
            return None if layer.part else own

        return link

    def _at(self, images: Tensor) -> Mapping[str, Layer]:
        """Return the layers at the size of the images."""
        return self._surveys.get(image_size(*images.shape[-2:]), self._layers)

    def _hook(self, layer: Layer) -> Callable[[nn.Module, Any, Any], None]:
        def keep(_: nn.Module, __: Any, output: Any) -> None:
            self._calls_left[layer.name] -= 1
            if self._calls_left[layer.name] != 0:
                return
            output = part_of(output, layer.part)
            self._outputs[layer.name] = output
            if len(self._outputs) == len(self._layers):
                raise _AllReachedError
            # the next module may write into this tensor: an in-place ReLU, `out += identity`
            self._outputs[layer.name] = output.clone()

        return keep


class _AllReachedError(BaseException):
    """Ends a forward pass early; not an Exception, so that no network catches it."""
