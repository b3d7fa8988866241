"""Measures: what a term reads at each position of its layer's output. No import of torch.

A measure is a class here and its place in `MEASURES`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from featlight.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Operand = np.ndarray[Any, Any] | None

LEAST_COSINE = 0.1  # lower bound, so that every position has a gradient, as in lucid


class TermFields(Protocol):
    """The fields of a term that a measure looks at."""

    @property
    def layer(self) -> str: ...

    @property
    def feature(self) -> int | None: ...

    @property
    def direction(self) -> tuple[float, ...] | str | None: ...


class DirectionsShape(Protocol):
    """The shape of an array of directions."""

    @property
    def count(self) -> int: ...

    @property
    def features(self) -> int: ...  # length of each direction


class DirectionRows(DirectionsShape, Protocol):
    """An array of directions whose rows can be read."""

    def rows(self, numbers: Sequence[int]) -> "np.ndarray[Any, Any]": ...


class Measure(ABC):
    """A value, or a value of each feature, at each position of a layer's output."""

    name: ClassVar[str]
    word: ClassVar[str] = ""  # value of a term's `direction` that selects the measure
    stem: ClassVar[str]  # pattern of what `file_stem` returns
    reads_one_feature: ClassVar[bool] = False  # other measures read all features of the layer
    has_direction: ClassVar[bool] = False  # the exponent `cosine_power` applies
    needs_image: ClassVar[bool] = False  # the operand is the layer's output for the image to caricature

    def selects(self, term: TermFields) -> bool:
        """Return whether a term's feature and direction select this measure."""
        return term.direction == self.word

    def check(self, term: TermFields) -> None:
        """Raise ValueError if a term's feature does not fit its direction."""
        if term.feature is not None:
            raise ValueError(_FEATURE_OR_DIRECTION)

    def check_layer(self, term: TermFields, layer: str, features: int, directions: DirectionsShape | None) -> None:
        """Check a term against its layer.

        Args:
            term: term of this measure.
            layer: name of the layer.
            features: number of its features.
            directions: shape of the run's directions; None without directions.

        Raises:
            UsageError: the layer lacks the feature, or the direction has another length.
        """
        return

    @abstractmethod
    def label(self, term: TermFields) -> str:
        """Return the start of a tile's label, such as `654`."""

    @abstractmethod
    def file_stem(self, term: TermFields) -> str:
        """Return the start of a tile's file name, such as `00654`."""

    def operand(self, terms: Sequence[TermFields], directions: DirectionRows | None) -> "Operand":
        """Return what the terms differ in, a row for each term; None if they do not differ.

        Args:
            terms: K terms of this measure.
            directions: the run's directions; None without directions.
        """
        return None

    @abstractmethod
    def read(self, output: "Tensor", operand: Any, power: float) -> "tuple[Tensor, Tensor]":
        """Return what is recorded and what is maximized, (N, K, H, W) each.

        Args:
            output: output of the layer, (N, C, H, W).
            operand: operand of the images' terms as a tensor, (N,), (N, C), or (N, C, H, W) for `needs_image`.
            power: exponent of the cosine.
        """

    @abstractmethod
    def maps(self, output: "Tensor", images: "Tensor", operand: Any) -> "Tensor":
        """Return the map of each pair of an image and a term, or the mean map of all features, (M, H, W).

        Args:
            output: output of the layer, (N, C, H, W).
            images: index of each pair's image, (M,).
            operand: operand of each pair's term, (M,) or (M, C).
        """

    @abstractmethod
    def totals(self, output: "Tensor", operand: Any) -> "Tensor":
        """Return the sum of each term's values over all positions, (N, K).

        The bits of a term's sums do not depend on the other terms.

        Args:
            output: output of the layer, (N, C, H, W).
            operand: operand of the terms as a tensor, (K,) or (K, C).
        """

    def values_per_position(self, features: int) -> int:
        """Return the number of values at a position of a layer with a number of features."""
        return 1


class FeatureMeasure(Measure):
    """One feature."""

    name = "feature"
    stem = r"\d{5,}"
    reads_one_feature = True

    def selects(self, term: TermFields) -> bool:
        return term.direction is None and term.feature is not None

    def check(self, term: TermFields) -> None:
        pass

    def check_layer(self, term: TermFields, layer: str, features: int, directions: DirectionsShape | None) -> None:
        if term.feature is not None and term.feature >= features:
            raise UsageError(f"features: {term.feature} given; layer {layer!r} has {features}, 0 to {features - 1}")

    def label(self, term: TermFields) -> str:
        return str(term.feature)

    def file_stem(self, term: TermFields) -> str:
        return f"{term.feature:05d}"

    def operand(self, terms: Sequence[TermFields], directions: DirectionRows | None) -> "Operand":
        import numpy as np

        return np.array([term.feature for term in terms], np.int64)

    def read(self, output: "Tensor", operand: Any, power: float) -> "tuple[Tensor, Tensor]":
        z = output[range(len(operand)), operand].unsqueeze(1)  # (N, 1, H, W)
        return z, z

    def maps(self, output: "Tensor", images: "Tensor", operand: Any) -> "Tensor":
        return output[images, operand]

    def totals(self, output: "Tensor", operand: Any) -> "Tensor":
        return output.sum((2, 3))[:, operand]


class AllFeaturesMeasure(Measure):
    """All features."""

    name = "all"
    stem = "all"

    def selects(self, term: TermFields) -> bool:
        return term.direction is None and term.feature is None

    def label(self, term: TermFields) -> str:
        return "all"

    def file_stem(self, term: TermFields) -> str:
        return "all"

    def read(self, output: "Tensor", operand: Any, power: float) -> "tuple[Tensor, Tensor]":
        return output, output

    def maps(self, output: "Tensor", images: "Tensor", operand: Any) -> "Tensor":
        return output[images].mean(1)

    def totals(self, output: "Tensor", operand: Any) -> "Tensor":
        return output.sum((1, 2, 3))[:, None]

    def values_per_position(self, features: int) -> int:
        return features


class DirectionMeasure(Measure):
    """The projection on a direction: a vector of the term's own, or a row of the run's directions."""

    name = "direction"
    word = "row"
    stem = r"\d{5,}"
    has_direction = True

    def selects(self, term: TermFields) -> bool:
        return term.direction == self.word or isinstance(term.direction, tuple)

    def check(self, term: TermFields) -> None:
        if (term.direction == self.word) != (term.feature is not None):
            raise ValueError(_FEATURE_OR_DIRECTION)

    def check_layer(self, term: TermFields, layer: str, features: int, directions: DirectionsShape | None) -> None:
        if isinstance(term.direction, tuple):
            length = len(term.direction)
        elif directions is None:
            raise UsageError("direction: row given, but no directions; add --directions FILE")
        else:
            length = directions.features
            if term.feature is not None and term.feature >= directions.count:
                last = directions.count - 1
                raise UsageError(
                    f"features: {term.feature} given; there are {directions.count} directions, 0 to {last}"
                )
        if length != features:
            raise UsageError(
                f"directions: {length} numbers each given; layer {layer!r} has {features} features: "
                "(directions, features) is needed"
            )

    def label(self, term: TermFields) -> str:
        return "direction" if term.feature is None else str(term.feature)

    def file_stem(self, term: TermFields) -> str:
        return f"{term.feature:05d}"

    def operand(self, terms: Sequence[TermFields], directions: DirectionRows | None) -> "Operand":
        import numpy as np

        rows = [term.feature for term in terms if term.direction == self.word and term.feature is not None]
        read = iter(()) if directions is None else iter(directions.rows(rows))
        return np.stack([next(read) if term.direction == self.word else np.asarray(term.direction) for term in terms])

    def read(self, output: "Tensor", operand: Any, power: float) -> "tuple[Tensor, Tensor]":
        return project(output, self._vectors(output, operand), power)

    def maps(self, output: "Tensor", images: "Tensor", operand: Any) -> "Tensor":
        return (output[images] * self._vectors(output, operand)).sum(1)

    def totals(self, output: "Tensor", operand: Any) -> "Tensor":
        import torch

        totals = output.sum((2, 3))  # (N, C)
        return torch.stack([(totals * vector).sum(1) for vector in operand.to(output.dtype)], 1)

    def _vectors(self, output: "Tensor", operand: Any) -> "Tensor":
        vectors: Tensor = operand.to(output.dtype)
        return vectors[:, :, None, None]


class ImageMeasure(DirectionMeasure):
    """The projection on the activations of the image to caricature, at each position."""

    name = "image"
    word = "image"
    stem = "caricature"
    needs_image = True

    def selects(self, term: TermFields) -> bool:
        return term.direction == self.word

    def check(self, term: TermFields) -> None:
        Measure.check(self, term)

    def check_layer(self, term: TermFields, layer: str, features: int, directions: DirectionsShape | None) -> None:
        pass

    def label(self, term: TermFields) -> str:
        return term.layer

    def file_stem(self, term: TermFields) -> str:
        return "caricature"

    def operand(self, terms: Sequence[TermFields], directions: DirectionRows | None) -> "Operand":
        return None

    def _vectors(self, output: "Tensor", operand: Any) -> "Tensor":
        vectors: Tensor = operand
        return vectors


_FEATURE_OR_DIRECTION = "direction: a vector or image needs no feature; row needs its number as feature"
MEASURES: dict[str, Measure] = {
    measure.name: measure for measure in (FeatureMeasure(), AllFeaturesMeasure(), DirectionMeasure(), ImageMeasure())
}
WORDS = tuple(measure.word for measure in MEASURES.values() if measure.word)


def measure_of(term: TermFields) -> Measure:
    """Return the measure that a term's feature and direction select."""
    return next(measure for measure in MEASURES.values() if measure.selects(term))


def project(output: "Tensor", vectors: "Tensor", power: float = 0.0) -> "tuple[Tensor, Tensor]":
    """Project features on each image's direction; return the projection and the value to maximize.

    Args:
        output: output z of a layer, (N, C, H, W).
        vectors: direction v of each image, (N, C, 1, 1), or of each position, (N, C, H, W).
        power: exponent p of the cosine; 0 for the plain projection.

    Returns:
        `z . v` and `z . v max(0.1, cos(z, v))^p` at each position, (N, 1, H, W) each.
    """
    import torch

    projection = (output * vectors).sum(1, keepdim=True)  # (N, 1, H, W)
    if power == 0:
        return projection, projection
    lengths = torch.linalg.vector_norm(output, dim=1, keepdim=True)  # (N, 1, H, W)
    lengths = lengths * torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    cosine = projection / lengths.clamp_min(torch.finfo(output.dtype).tiny)  # a zero vector has cosine 0
    return projection, projection * cosine.clamp_min(LEAST_COSINE) ** power
