"""A frozen network as a function from images to the outputs of chosen layers, run only as far as they need."""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from featlight.config.inputs.sizes import ImageSize, image_size
from featlight.models.hooks import forward_hooks
from featlight.models.layer_info import Layer
from featlight.models.layers import CPU
from featlight.models.outputs.structure import as_map, part_of
from featlight.param.image import resize


class LayerOutputs:
    """A frozen network, cut after the last of the chosen layers.

    Args:
        network: as `frozen_copy` gives it; it belongs to this object from now on.
        layers: what to give; of a module that is called several times, the call that its layer means.
        surveys: by size of the images in pixels and by name, the layers at that size: how often they are called, and
            the grid of their tokens. Where a size is not among them, as `layers` say.
        normalize: the (mean, std) of the pixels that the network expects, each of C; None for raw pixels.
        format: of the images that the network is given.
        device: of the network.
        dtype: of the network.
        views: by size of the images, to which other size they are brought first, for a network that takes no other.
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
        self._targets = [(modules[layer.module], self._keeper(layer)) for layer in layers]
        self._surveys = surveys or {}
        self._outputs: dict[str, Tensor] = {}
        self._left: dict[str, int] = {}  # calls, of each layer, until it has given what is looked for
        self._function: Callable[[Tensor], Mapping[str, Tensor]] | None = None
        self._normalize = None
        if normalize is not None:
            mean, std = (torch.tensor(v, device=device, dtype=dtype).view(-1, 1, 1) for v in normalize)
            self._normalize = (mean, std)

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Each layer's output, (N, C, H, W), in the images' dtype.

        Args:
            images: (N, C, H, W), in pixel units.
        """
        outputs = self._run(images) if self._function is None else self._function(images)
        layers = self._at(images)
        return {name: as_map(layers[name], output).to(images.dtype) for name, output in outputs.items()}

    def of(self, function: Callable[[Tensor], Mapping[str, Tensor]]) -> "LayerOutputs":
        """The same outputs, given by another function of images: the network's graph, say."""
        other = copy.copy(self)
        other._function = function
        return other

    def only(self, layers: Sequence[str]) -> "LayerOutputs":
        """Some of the outputs, to the bit as they are among the others; the network runs as far as these need it."""
        other = copy.copy(self)
        other._layers = {name: self._layers[name] for name in layers}
        modules = dict(zip(self._layers, (module for module, _ in self._targets), strict=True))
        other._targets = [(modules[name], other._keeper(layer)) for name, layer in other._layers.items()]
        return other

    def prepared(self, images: Tensor) -> Tensor:
        """Images as the network is given them."""
        size = image_size(*images.shape[-2:])
        if size in self._views:
            images = resize(images, self._views[size], antialias=True)
        # a network may write into its input
        x = images.to(self._dtype, copy=True, memory_format=self.format)
        return x if self._normalize is None else x.sub_(self._normalize[0]).div_(self._normalize[1])

    def _run(self, images: Tensor) -> dict[str, Tensor]:
        layers = self._at(images)
        self._outputs, self._left = {}, {name: layers[name].meant_call for name in self._layers}
        with forward_hooks(self._targets), suppress(_AllReached):
            self._network(self.prepared(images))
        outputs, self._outputs = self._outputs, {}
        return outputs

    def _at(self, images: Tensor) -> Mapping[str, Layer]:
        """The layers, for images of this size."""
        return self._surveys.get(image_size(*images.shape[-2:]), self._layers)

    def _keeper(self, layer: Layer) -> Callable[[nn.Module, Any, Any], None]:
        def keep(_: nn.Module, __: Any, output: Any) -> None:
            self._left[layer.name] -= 1
            if self._left[layer.name] != 0:
                return
            output = part_of(output, layer.part)
            self._outputs[layer.name] = output
            if len(self._outputs) == len(self._layers):
                raise _AllReached
            # what runs next may write into this tensor: an in-place ReLU, `out += identity`
            self._outputs[layer.name] = output.clone()

        return keep


class _AllReached(BaseException):
    """Ends a forward pass early; not an Exception, so that no network catches it."""
