"""The objectives of a batch of images: from layer outputs to one loss per image, without a loop over images."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from featlight.config.losses import METRICS
from featlight.config.regions import MapSize
from featlight.config.settings import Settings
from featlight.config.tile import Term, Tile
from featlight.objectives.directions import Directions
from featlight.objectives.diversity import gram_similarity, whole_groups
from featlight.objectives.masks import region_mask


class Scores(NamedTuple):
    loss: Tensor  # (N,)
    activation: Tensor  # (N,), mean of the neurons that each image's objective selects
    neurons: Tensor | int = 1  # number of these neurons, (N,) or equal for all


def objective_of(
    settings: Settings,
    tiles: Sequence[Tile],
    first_maps: Mapping[str, MapSize],
    directions: Directions | None = None,
    boxes: int = 1,
) -> "Objective":
    """Make the objective of a batch from a run's settings."""
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
    """The objective of each image of a batch.

    Args:
        tiles: tile of each image, all of one signature (the same layers in the same order).
        metric: distance between the selected neurons and the target, applied once per term.
        target: target activation.
        first_maps: map size of each layer in the first octave; the terms' positions refer to it.
        directions: directions that terms refer to; None if terms refer to features.
        cosine_power: exponent of the cosine between a direction and each position's features.
        faces: number of diverse images of each feature; 1 for no diversity.
        diversity_weight: weight of the similarity within a feature's images, per selected neuron.
        boxes: number of views of each image, adjacent in the outputs.
    """

    def __init__(
        self,
        tiles: Sequence[Tile],
        metric: str,
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
        loss = METRICS[metric]
        self._metric, self._target = loss.function, target if loss.has_target else 0.0
        self._first_maps = first_maps
        self._directions = directions
        self._power = cosine_power
        self._operands: dict[tuple[int, torch.device], Tensor | None] = {}
        self._cache: dict[tuple[int, torch.device, MapSize], tuple[Tensor, Tensor | None]] = {}

    def __call__(self, outputs: Mapping[str, Tensor], reference: Mapping[str, Tensor] | None = None) -> Scores:
        """Return the loss and the mean activation of each view.

        Args:
            outputs: output of each layer, (N x boxes, C, H, W).
            reference: output of each layer for the image to caricature, (N x boxes, C, H, W).
        """
        losses: list[Tensor] = []
        sums: list[Tensor] = []
        counts: list[Tensor | int] = []
        for slot, terms in enumerate(self._slots):
            output = outputs[terms[0].output]  # (N, C, H, W)
            weights, mask = self._selection(slot, output)
            operand = self._operand(slot, output, reference)
            z, value = terms[0].measure.read(output, operand, self._power)  # (N, K, H, W) each
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
            loss = loss + self._similarity_loss(outputs[self._slots[0][0].output], len(loss)) * counts[0]
        return Scores(loss, sum(sums[1:], sums[0]) / sum(counts), sum(counts))

    def _similarity_loss(self, output: Tensor, views: int) -> Tensor:
        """Return each view's penalty for the similarity of its image to the others, per neuron, (N x boxes,)."""
        images = self._groups * self._faces
        similarity = gram_similarity(output[: images * self._boxes], self._faces, self._boxes)  # (images,)
        penalty = (self._diversity_weight * similarity).repeat_interleave(self._boxes)
        return torch.cat([penalty, penalty.new_zeros(views - len(penalty))])

    def maps(self, outputs: Mapping[str, Tensor], reference: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """Return the map of each term's feature or direction, or the mean map of all features.

        Args:
            outputs: output of each layer, (N, C, H, W).
            reference: output of each layer for the image to caricature, (N, C, H, W).

        Returns:
            (N, H, W) for each term.
        """
        found = []
        for slot, terms in enumerate(self._slots):
            output = outputs[terms[0].output]  # (N, C, H, W)
            every = torch.arange(len(output), device=output.device)
            found.append(terms[0].measure.maps(output, every, self._operand(slot, output, reference)))
        return found

    def _operand(self, slot: int, output: Tensor, reference: Mapping[str, Tensor] | None) -> Tensor | None:
        """Return what a slot's terms differ in, see `Measure.read`; it is read once for each device."""
        measure, terms = self._slots[slot][0].measure, self._slots[slot]
        if measure.needs_image:
            assert reference is not None
            return reference[terms[0].output]
        key = (slot, output.device)
        if key not in self._operands:
            self._operands[key] = operand_of(terms, self._directions, output.device)
        return self._operands[key]

    def _selection(self, slot: int, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return weights (N,) and region masks (N, 1, H, W), cached by map size and device."""
        now: MapSize = (output.shape[2], output.shape[3])
        key = (slot, output.device, now)
        if key not in self._cache:
            terms = self._slots[slot]
            weights = torch.tensor([term.weight for term in terms], dtype=torch.float64)
            mask = None
            if any(term.region != "map" for term in terms):
                first = self._first_maps[terms[0].output]
                mask = torch.stack([region_mask(term, first, now) for term in terms]).unsqueeze(1).to(output.device)
            self._cache[key] = (weights.to(output.device), mask)
        return self._cache[key]


def operand_of(terms: Sequence[Term], directions: Directions | None, device: torch.device) -> Tensor | None:
    """Return what some terms of one measure differ in, see `Measure.operand`."""
    operand = terms[0].measure.operand(terms, directions)
    return None if operand is None else torch.from_numpy(operand).to(device)
