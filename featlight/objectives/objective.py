"""The objectives of a batch of images: layer outputs to one loss per image, without a loop over images."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from featlight.config.settings import Settings
from featlight.config.tile import Metric, Tile
from featlight.objectives.directions import Directions, vectors_of
from featlight.objectives.diversity import gram_similarity, whole_groups
from featlight.objectives.losses import METRIC_FUNCTIONS
from featlight.objectives.projection import along
from featlight.objectives.regions import MapSize, region_mask


class Scores(NamedTuple):
    loss: Tensor  # (N,)
    activation: Tensor  # (N,), the mean of the neurons that each image's objective chooses
    neurons: Tensor | int = 1  # how many these are, (N,) or the same for all


def objective_of(
    settings: Settings,
    tiles: Sequence[Tile],
    first_maps: Mapping[str, MapSize],
    directions: Directions | None = None,
    boxes: int = 1,
) -> "Objective":
    """What each image of a batch is to maximise by a run's settings; see `Objective`."""
    return Objective(
        tiles,
        settings.metric,
        settings.target,
        first_maps,
        directions=directions,
        cosine_power=settings.cosine_power,
        faces=settings.diversity,
        diversity_weight=settings.diversity_weight,
        boxes=boxes,
    )


class Objective:
    """What each image of a batch is to maximise.

    Args:
        tiles: one per image, all of one signature (the same layers in the same order).
        metric: distance between the chosen neurons and the target, applied once per term.
        target: the activation C that is aimed at.
        first_maps: each layer's map in the first octave, which the terms' positions count on.
        directions: that terms are rows of; None where none is.
        cosine_power: of a direction's cosine with each position's features.
        faces: images of each feature, which are to differ; 1 for no such groups.
        diversity_weight: of their likeness, as activation of every chosen neuron.
        boxes: views of each image, one after another in the outputs.
    """

    def __init__(
        self,
        tiles: Sequence[Tile],
        metric: Metric,
        target: float,
        first_maps: Mapping[str, MapSize],
        *,
        directions: Directions | None = None,
        cosine_power: float = 0.0,
        faces: int = 1,
        diversity_weight: float = 0.0,
        boxes: int = 1,
    ) -> None:
        assert len({tile.signature for tile in tiles}) == 1
        views = [tile for tile in tiles for _ in range(boxes)]
        self._slots = list(zip(*(tile.terms for tile in views), strict=True))  # [term][view]
        self._faces, self._boxes, self._diversity_weight = faces, boxes, diversity_weight
        self._groups = whole_groups(tiles, faces) if faces > 1 else 0
        self._metric = METRIC_FUNCTIONS[metric]
        self._target = 0.0 if metric == "squares" else target
        self._first_maps = first_maps
        self._directions = directions
        self._power = cosine_power
        self._vectors: dict[tuple[int, torch.device, torch.dtype], Tensor] = {}
        self._cache: dict[tuple[int, torch.device, MapSize], tuple[Tensor, Tensor, Tensor | None]] = {}

    def __call__(self, outputs: Mapping[str, Tensor], guide: Mapping[str, Tensor] | None = None) -> Scores:
        """The loss and the mean activation of each view.

        Args:
            outputs: each layer's output, (N x boxes, C, H, W).
            guide: the same of the image that the images are caricatures of.
        """
        losses: list[Tensor] = []
        sums: list[Tensor] = []
        counts: list[Tensor | int] = []
        for slot, terms in enumerate(self._slots):
            output = outputs[terms[0].output]  # (N, C, H, W)
            features, weights, mask = self._choice(slot, output)
            match terms[0].choice:
                case "all":
                    z = value = output
                case "direction" | "image":
                    z, value = along(output, self._vectors_of(slot, output, guide), self._power)  # (N, 1, H, W) each
                case _:
                    z = value = output[torch.arange(len(terms), device=output.device), features].unsqueeze(1)
            distance = self._target - value
            if mask is None:
                counts.append(z[0].numel())
            else:
                z, distance = z * mask, torch.where(mask, distance, 0)
                counts.append(mask.sum((1, 2, 3)) * z.shape[1])
            losses.append(weights.to(z.dtype) * self._metric(distance))
            sums.append(z.detach().sum((1, 2, 3)))
        loss = sum(losses[1:], losses[0])
        if self._groups:
            loss = loss + self._alike(outputs[self._slots[0][0].output], len(loss)) * counts[0]
        return Scores(loss, sum(sums[1:], sums[0]) / sum(counts), sum(counts))

    def _alike(self, output: Tensor, views: int) -> Tensor:
        """What each view pays for its picture's likeness to the others of its group, by neuron, (N x boxes,)."""
        images = self._groups * self._faces
        paid = self._diversity_weight * gram_similarity(
            output[: images * self._boxes], self._faces, self._boxes
        )  # (images,)
        paid = paid.repeat_interleave(self._boxes)
        return torch.cat([paid, paid.new_zeros(views - len(paid))])

    def maps(self, outputs: Mapping[str, Tensor], guide: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """The whole map of each term's feature or direction, the mean map where it takes all features.

        Args:
            outputs: each layer's output, (N, C, H, W).
            guide: as above.

        Returns:
            (N, H, W) for each term.
        """
        found = []
        for slot, terms in enumerate(self._slots):
            output = outputs[terms[0].output]  # (N, C, H, W)
            if terms[0].choice == "all":
                found.append(output.mean(1))
            elif terms[0].choice in ("direction", "image"):
                found.append(along(output, self._vectors_of(slot, output, guide))[0].squeeze(1))
            else:
                found.append(torch.stack([maps[term.feature or 0] for maps, term in zip(output, terms, strict=True)]))
        return found

    def _vectors_of(self, slot: int, output: Tensor, guide: Mapping[str, Tensor] | None) -> Tensor:
        """The directions of a slot's terms, (N, C, 1, 1), or of each position, (N, C, H, W)."""
        if self._slots[slot][0].choice == "image":
            assert guide is not None
            return guide[self._slots[slot][0].output]
        key = (slot, output.device, output.dtype)
        if key not in self._vectors:
            given = torch.from_numpy(vectors_of(self._slots[slot], self._directions))  # (N, C), read once
            self._vectors[key] = given.to(output.device, output.dtype)[:, :, None, None]
        return self._vectors[key]

    def _choice(self, slot: int, output: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Features (N,), weights (N,) and region masks (N, 1, H, W), made once per map size and device."""
        now: MapSize = (output.shape[2], output.shape[3])
        key = (slot, output.device, now)
        if key not in self._cache:
            terms = self._slots[slot]
            features = torch.tensor([term.feature or 0 for term in terms])
            weights = torch.tensor([term.weight for term in terms], dtype=torch.float64)
            mask = None
            if any(term.region != "map" for term in terms):
                first = self._first_maps[terms[0].output]
                mask = torch.stack([region_mask(term, first, now) for term in terms]).unsqueeze(1).to(output.device)
            self._cache[key] = (features.to(output.device), weights.to(output.device), mask)
        return self._cache[key]
