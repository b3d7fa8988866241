"""Draw the same features of a network again and again while it trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from featlight.api import LayerLike, visualize
from featlight.config.normalization import Normalization
from featlight.config.presets import NATURAL, RECIPES
from featlight.config.recipe import Octave, Recipe
from featlight.errors import FeatlightError, UsageError, unknown
from featlight.plan.plan import PlannedTile
from featlight.result import Result
from featlight.store.records import TileRecord
from featlight.training.names import full_names, holders, plain_name, within

# One octave of `natural` with few steps: a picture is drawn many times in a training
SHORT = replace(NATURAL, octaves=(Octave(96, 32, (0.04, 0.01), (0.5, 0.3)),), redirected_relu=8)


@dataclass(frozen=True)
class DrawnTile:
    """A tile that was drawn: its record, its image (C, H, W), and its opacity (H, W) if it has one."""

    tile: PlannedTile
    record: TileRecord
    image: Tensor
    alpha: Tensor | None


@dataclass(frozen=True)
class LayerPicture:
    """The features of one layer at one time of the training.

    Args:
        layer: name of the layer, as the user sees it.
        drawn: tiles, in order.
        title: title of the atlas.
        before: tiles of the layer's last picture, by file.
    """

    layer: str
    drawn: Sequence[DrawnTile]
    title: str
    before: Mapping[str, DrawnTile] = field(default_factory=dict)

    @cached_property
    def atlas(self) -> Image.Image:
        """The labeled grid of all features."""
        tiles, records = [each.tile for each in self.drawn], [each.record for each in self.drawn]
        images, alphas = [each.image for each in self.drawn], [each.alpha for each in self.drawn]
        return Result(tiles, records, self.title, images.__getitem__, alphas.__getitem__).show()

    @cached_property
    def similarities(self) -> dict[str, float]:
        """The similarity of each feature to its last picture, by file; features that failed are left out."""
        return {
            each.tile.file: image_similarity(each.image, self.before[each.tile.file].image)
            for each in self.drawn
            if each.tile.file in self.before and "failed" not in (each.record["status"], self._status_before(each))
        }

    def _status_before(self, drawn: DrawnTile) -> str:
        return self.before[drawn.tile.file].record["status"]

    @property
    def scalars(self) -> dict[str, float]:
        """The mean activation, the number of dead features, and the mean similarity to the last picture."""
        reached = [value for each in self.drawn if (value := each.record["activation_end"]) is not None]
        values = {"dead": float(sum(each.record["status"] == "dead" for each in self.drawn))}
        if reached:
            values["mean_activation"] = sum(reached) / len(reached)
        if self.similarities:
            values["similarity"] = sum(self.similarities.values()) / len(self.similarities)
        return values


def image_similarity(one: Tensor, other: Tensor) -> float:
    """Return the correlation of two images' pixels, each channel about its mean: 1 for equal images, 0 for unrelated.

    Args:
        one: image (C, H, W).
        other: image of the same shape.
    """
    first, second = (each.double() - each.double().mean((-2, -1), keepdim=True) for each in (one, other))
    lengths = first.norm() * second.norm()
    if not lengths:
        return float(torch.equal(one, other))
    return float((first * second).sum() / lengths)


class FeatureDrawer:
    """Draws the same features from the same seeds at any time of a training.

    Args:
        layer: layer as `featlight.visualize` takes it; a name may leave out the attribute that holds the network.
        features: features as `featlight.visualize` takes them.
        recipe: recipe or its name; None for a short one.
        normalize: normalization as `featlight.visualize` takes it.
    """

    def __init__(
        self,
        layer: Any,
        features: Any,
        *,
        recipe: Recipe | str | None = None,
        normalize: Normalization | Mapping[str, Sequence[float]] | str = "auto",
    ) -> None:
        if isinstance(recipe, str) and recipe not in RECIPES:
            raise UsageError(f"recipe: {unknown('recipe', recipe, RECIPES)}")
        self.layer, self.features = layer, features
        self.recipe = SHORT if recipe is None else RECIPES[recipe] if isinstance(recipe, str) else recipe
        self._words: dict[str, Any] = {"normalize": normalize, "progress": False}
        self._holder = ""
        self.tiles: list[PlannedTile] = []

    def check(self, network: nn.Module, device: torch.device) -> None:
        """Take one step with every feature, on a copy of the network.

        If the whole network takes no images, the first module that holds the layers and takes them is used.

        Args:
            network: network at the start of the training; it is not changed.
            device: device of the copy.

        Raises:
            FeatlightError: the features cannot be drawn.
        """
        layer, refusals = full_names(network, self.layer), []
        octaves = tuple(replace(octave, steps=1) for octave in self.recipe.octaves)
        most = min(self.recipe.redirected_relu, len(octaves))
        words = self._words | {"recipe": replace(self.recipe, octaves=octaves, redirected_relu=most), "device": device}
        for holder in holders(layer):
            try:
                tried = visualize(network.get_submodule(holder), within(layer, holder), self.features, **words)
            except FeatlightError as error:
                refusals.append(error)
                continue
            self._holder, self.tiles = holder, list(tried.tiles)
            self._words["batch_size"] = max(record["batch_size"] or 1 for record in tried.records)
            return
        raise refusals[0]

    def share(self, rank: int, ranks: int) -> list[PlannedTile]:
        """Return the tiles that one of several ranks draws."""
        return self.tiles[rank::ranks]

    def draw(
        self, network: nn.Module, device: torch.device, tiles: Sequence[PlannedTile], out: Path | None = None
    ) -> list[DrawnTile]:
        """Draw some tiles of the network as it is now.

        Args:
            network: network; it is not changed.
            device: device of the copy that is drawn from.
            tiles: some of the tiles.
            out: run directory; None for a picture in memory.

        Raises:
            FeatlightError: they cannot be drawn.
        """
        words = self._words | {"recipe": self.recipe, "device": device, "out": out}
        chosen: dict[LayerLike, list[int | None]] = {}
        for planned in tiles:
            (term,) = planned.tile.terms
            chosen.setdefault(term.layer, []).append(term.feature)
        result = visualize(network.get_submodule(self._holder), chosen, **words)
        return [
            DrawnTile(tile, record, result[place], result.read_alpha(place))
            for place, (tile, record) in enumerate(zip(result.tiles, result.records, strict=True))
        ]

    def pictures(self, drawn: Sequence[DrawnTile], title: str, before: Mapping[str, DrawnTile]) -> list[LayerPicture]:
        """Return the pictures of some drawn tiles, one for each layer.

        Args:
            drawn: tiles.
            title: what follows the layer's name in the titles, such as the epoch.
            before: tiles of the last pictures, by file.
        """
        by_layer: dict[str, list[DrawnTile]] = {}
        for each in drawn:
            name = f"{self._holder}.{each.tile.tile.terms[0].layer}".strip(".")
            by_layer.setdefault(plain_name(name), []).append(each)
        return [LayerPicture(layer, each, f"{layer}, {title}", before) for layer, each in by_layer.items()]
