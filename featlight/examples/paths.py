"""Path similarity of a run's tiles: how far each is processed like its own examples, layer by layer."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from featlight.analysis.path_similarity import path_similarity, rank_vectors
from featlight.config.image_shape import Fit
from featlight.examples.decoding import network_input, open_image
from featlight.examples.manifest import ScanManifest
from featlight.examples.scorer import ActivationScorer
from featlight.models.extractor import LayerOutputs
from featlight.models.layer_info import Layer
from featlight.models.prepared import PreparedNetwork
from featlight.models.probing.own_outputs import own_outputs
from featlight.plan.plan import PlannedTile
from featlight.store.contents import read_picture
from featlight.store.records import TileRecord
from featlight.store.store import Store

RANDOM_IMAGES = 60
FEW_LAYERS, MOST_LAYERS = 8, 32
Ranks = Mapping[str, Tensor]  # standardized ranks of an image's channel means, (C,), by layer


@dataclass
class PathMeasure:
    """Measures the path similarity of a run's tiles.

    Args:
        store: store of the run.
        manifest: manifest of the scan.
        scorer: scorer of the run.
        records: last record of each tile, by its file.
    """

    store: Store
    manifest: ScanManifest
    scorer: ActivationScorer
    records: Mapping[str, TileRecord]
    _layers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _outputs: dict[tuple[str, ...], LayerOutputs] = field(default_factory=dict)
    _of_others: dict[tuple[str, ...], list[tuple[int, Ranks]]] = field(default_factory=dict)

    @cached_property
    def random_images(self) -> list[int]:
        """Numbers of images in a random order that depends on their contents alone."""
        entries = self.manifest.images.entries
        return sorted(
            self.manifest.images.unique.values(), key=lambda number: sha256(entries[number].sha256.encode()).digest()
        )

    def digest(self, planned: PlannedTile, shown: str) -> str | None:
        """Return a checksum of everything that a tile's path similarity depends on; None without a picture.

        Args:
            planned: tile.
            shown: digest of its examples.
        """
        record = self.records.get(planned.file)
        if record is None or record["sha256"] is None:
            return None
        entries = self.manifest.images.entries
        others = [entries[number].sha256 for number in self.random_images[: RANDOM_IMAGES + self._top]]
        return sha256(repr((record["sha256"], shown, others)).encode()).hexdigest()[:16]

    def keep(self, planned: PlannedTile, ranks: list[Ranks], pixels: Tensor) -> None:
        """Append the ranks of one of a tile's examples.

        Args:
            planned: tile.
            ranks: ranks of its examples so far.
            pixels: example as the network takes it, (1, C, H, W).
        """
        ranks.append(self._ranks(self._layers_before(planned.tile.terms[0].output), pixels))

    def values(self, planned: PlannedTile, own: Sequence[Ranks], examples: Container[int]) -> dict[str, float]:
        """Return a tile's path similarity by layer, in the order of the layers; without layers that have no scale.

        Args:
            planned: tile, whose picture exists.
            own: ranks of its examples.
            examples: image numbers of the examples.
        """
        layers = self._layers_before(planned.tile.terms[0].output)
        picture = self._ranks(layers, self._pixels(self._picture(planned), whole=True))
        others = [ranks for number, ranks in self._others(layers) if number not in examples][:RANDOM_IMAGES]
        if not own or not others:
            return {}
        values = {
            layer: path_similarity(picture[layer], _of_layer(own, layer), _of_layer(others, layer)) for layer in layers
        }
        return {layer: value for layer, value in values.items() if value is not None}

    @property
    def _top(self) -> int:
        return int(self.manifest.settings["top"])

    def _picture(self, planned: PlannedTile) -> Image.Image:
        return read_picture(self.store.folder, self.store.root / planned.file)

    def _pixels(self, image: Image.Image, *, whole: bool = False) -> Tensor:
        """Return an image as the network takes it, (1, C, H, W).

        Args:
            image: image.
            whole: whether to resize the whole image, without the margin that photographs lose.
        """
        fit = self.scorer.fit
        return self.scorer.pixels([network_input(image, Fit(fit.size) if whole else fit, self.scorer.channels)])

    def _layers_before(self, layer: str) -> tuple[str, ...]:
        if layer not in self._layers:
            self._layers[layer] = layers_before(self.scorer.network, layer)
        return self._layers[layer]

    def _others(self, layers: tuple[str, ...]) -> list[tuple[int, Ranks]]:
        """Return number and ranks of random images: enough if some of these are a tile's own examples."""
        if layers not in self._of_others:
            self._of_others = {layers: list(self._read_others(layers))}  # those of one layer, as tiles come by layer
        return self._of_others[layers]

    def _read_others(self, layers: tuple[str, ...]) -> Iterator[tuple[int, Ranks]]:
        entries, found = self.manifest.images.entries, 0
        for number in self.random_images:
            if found == RANDOM_IMAGES + self._top:
                return
            try:
                pixels = self._pixels(open_image(self.manifest.folder, entries[number]))
            except ValueError:  # listed by the scan
                continue
            found += 1
            yield number, self._ranks(layers, pixels)

    def _ranks(self, layers: tuple[str, ...], pixels: Tensor) -> Ranks:
        """Rank the channel means of one image at each layer, independently of all other images."""
        if layers not in self._outputs:
            self._outputs = {layers: self.scorer.network.folded(layers)}
        with torch.no_grad():
            outputs: Mapping[str, Any] = self._outputs[layers](pixels)
        return {name: rank_vectors(output.double().mean((2, 3)))[0] for name, output in outputs.items()}


def _of_layer(images: Sequence[Ranks], layer: str) -> Tensor:
    return torch.stack([ranks[layer] for ranks in images])  # (N, C)


def layers_before(network: PreparedNetwork, layer: str) -> tuple[str, ...]:
    """Return the layers that end before a layer, and the layer itself, in order.

    Layers inside of modules of the same depth as the layer are left out, unless there are few others, and so are
    containers that repeat the output of a part. Of many layers, evenly spaced ones are taken.

    Args:
        network: prepared network.
        layer: name of the layer.
    """
    survey = next(iter(network.surveys.values()))
    usable: list[Layer] = survey.usable
    names = [each.name for each in usable]
    last = names.index(layer) if layer in names else len(names)
    before = [name for name in names[:last] if not name.startswith(f"{layer}.")]
    deepest = max((name.count(".") for name in before), default=0)
    chosen: list[str] = []
    for depth in range(layer.count("."), max(deepest, layer.count(".")) + 1):
        shallow = [name for name in before if name.count(".") <= depth]
        chosen = own_outputs(network.original_network, network.sample, survey, shallow)
        if len(chosen) >= FEW_LAYERS:
            break
    if len(chosen) >= MOST_LAYERS:
        chosen = [chosen[i * (len(chosen) - 1) // (MOST_LAYERS - 2)] for i in range(MOST_LAYERS - 1)]
    return (*chosen, layer)
