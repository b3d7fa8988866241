"""A run's network as it looks at photographs: every tile's activation on a batch of images."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from featlight.config.inputs.fit import Fit
from featlight.config.inputs.sizes import ImageSize
from featlight.examples.scoring.activations import Activations, TileQuery
from featlight.models.catalog import Source
from featlight.models.extractor import LayerOutputs
from featlight.models.prepared import PreparedNetwork
from featlight.objectives.directions import Directions
from featlight.param.image import resize


@dataclass(frozen=True)
class ActivationScorer:
    """What looks.

    Args:
        source: of the network.
        channels: of the images that it takes.
        fit: of every image.
        network: that looks.
        whole: the outputs of all layers that the run's tiles look at.
        queries: what tiles look for, each once, by a key that says it all.
        keys: by the tile's file, the key of what it looks for.
        device: of the network.
        dtype: of the images.
        view: the size that every image is brought to, where the network takes no other and images are as they are.
        directions: that tiles are rows of; None where they are none.
    """

    source: Source
    channels: int
    fit: Fit
    network: PreparedNetwork
    whole: LayerOutputs
    queries: Mapping[str, TileQuery]
    keys: Mapping[str, str]
    device: torch.device
    dtype: torch.dtype
    view: ImageSize | None
    directions: Directions | None = None

    @cached_property
    def layers(self) -> list[str]:
        """What the tiles look at, by the names that a network's outputs have."""
        return layers_of(self.queries)

    @cached_property
    def activations(self) -> Activations:
        """Of all that the tiles look for, in order."""
        return Activations(list(self.queries.values()), self.device, self.directions)

    @cached_property
    def preparation(self) -> str:
        """Checksum of what changes the bits of a layer's output as other layers are queries at besides."""
        folds = self.network.folds_at(self.layers)
        views = self.network.views(self.layers)
        # an image as it is that one layer cannot take is queries at for none
        layers = sorted(self.layers) if self.fit.size is None else None
        return sha256(repr((folds, views, self.whole.format, layers)).encode()).hexdigest()[:16]

    def of(self, keys: Iterable[str]) -> "ActivationScorer":
        """The same for some of what is queries for, in this order."""
        return replace(self, queries={key: self.queries[key] for key in keys})

    def pixels(self, images: Sequence[Any]) -> Tensor:
        """Decoded images of one size as the network is given them but for normalization, (N, C, H, W)."""
        stacked = torch.stack([torch.from_numpy(image) for image in images]).to(self.device)  # (N, H, W, C), uint8
        x = stacked.permute(0, 3, 1, 2).to(self.dtype).contiguous() / 255
        return x if self.view is None else resize(x, self.view, antialias=True)

    def cut_at(self, output: str) -> LayerOutputs:
        """The network, cut after one output."""
        # a graph may hold the sizes that it was made at
        return self.network.folded([output]) if self.fit.size is None else self.network.optimized([output])

    def see(self, pixels: Tensor) -> dict[str, Tensor]:
        """Each output of the network that the tiles look at, (N, C, H, W)."""
        with torch.no_grad():
            return self._outputs(pixels)

    @cached_property
    def _outputs(self) -> LayerOutputs:
        return self.whole if self.fit.size is None else self.whole.subset(self.layers)


def layers_of(queries: Mapping[str, TileQuery]) -> list[str]:
    """What is queries at for the sake of all that is queries for, by the names that a network's outputs have."""
    return list(dict.fromkeys(term.output for look in queries.values() for term in look.terms))
