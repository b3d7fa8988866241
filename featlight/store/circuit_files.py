"""The circuits of a run, read from its directory. No torch."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from featlight.config.schema import MOST_TOP
from featlight.plan.plan import Plan, PlannedTile
from featlight.store.guard.bounds import Allowance, read_lines
from featlight.store.guard.run_folder import RunFolder
from featlight.store.paths import CIRCUITS, RECORDS_BYTES, Number, TileName

KERNEL_SIDE = 9  # cells; larger kernels are summed in blocks
LINE_BYTES = 16 << 20  # of a tile: a hundred parts in each of a few hundred layers

Word = Annotated[str, Field(max_length=4096)]
Cells = Annotated[tuple[float, ...], Field(min_length=1, max_length=KERNEL_SIDE)]


class Part(BaseModel):
    """An earlier feature that a tile is made of.

    Args:
        feature: channel of the earlier layer.
        attribution: sum over all positions of gradient times activation, on the tile's own image.
        weight: sum of the expanded kernel; None if the stretch between the layers is not linear without activations.
        kernel: rows of the expanded kernel, or of sums over square blocks of it; None if it has one position.
        block: side of these blocks.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    feature: Number
    attribution: float
    weight: float | None = None
    kernel: Annotated[tuple[Cells, ...], Field(min_length=1, max_length=KERNEL_SIDE)] | None = None
    block: Annotated[int, Field(ge=1, lt=2**20)] = 1

    @property
    def is_sound(self) -> bool:
        """Whether the kernel is a rectangle, and belongs to a weight."""
        return self.kernel is None or (self.weight is not None and len({len(row) for row in self.kernel}) == 1)


class TileCircuit(BaseModel):
    """The earlier features that a tile is made of.

    Args:
        tile: file of the tile.
        layer: layer of its first term.
        feature: feature of its first term; None if it has none.
        image: image on which gradients were computed: `float`, or `png` with its rounded pixels.
        parts: strongest features of each earlier layer, by falling size of the attribution.
        activation: mean activation on this image.
        stamp: checksum of the image, the network and the settings.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    tile: TileName
    layer: Word
    feature: Number | None
    image: Literal["float", "png"]
    parts: Annotated[Mapping[Word, Annotated[tuple[Part, ...], Field(max_length=MOST_TOP)]], Field(alias="from")]
    activation: float
    stamp: Word


def read_circuits(folder: RunFolder, plan: Plan) -> dict[str, TileCircuit]:
    """Return the circuit of each tile by its file; an empty dict if none were found. Invalid lines are skipped.

    Raises:
        StorageError: the file cannot be read.
    """
    lines = circuit_lines(folder, folder.root / CIRCUITS, plan)
    return {circuit.tile: circuit for _, circuit in lines if circuit is not None}


def circuit_lines(folder: RunFolder, path: Path, plan: Plan) -> Iterator[tuple[bytes, TileCircuit | None]]:
    """Yield each line, and its circuit; None if it cannot be parsed, repeats a tile, or disagrees with the plan.

    Raises:
        StorageError: the file cannot be read, or is too large.
    """
    tiles = {planned.file: planned for planned in plan.tiles}
    seen: set[str] = set()
    with suppress(FileNotFoundError), folder.open(path, RECORDS_BYTES) as file:
        for line, circuit in read_lines(file, partial(_parsed, plan, tiles), Allowance(folder, path), LINE_BYTES):
            is_new = circuit is not None and circuit.tile not in seen
            seen |= {circuit.tile} if circuit is not None else set()
            yield line, circuit if is_new else None


def _parsed(plan: Plan, tiles: Mapping[str, PlannedTile], line: bytes) -> TileCircuit | None:
    try:
        circuit = TileCircuit.model_validate_json(line, strict=True)
    except ValueError:
        return None
    planned = tiles.get(circuit.tile)
    return circuit if planned is not None and _agrees(circuit, planned, plan) else None


def _agrees(circuit: TileCircuit, planned: PlannedTile, plan: Plan) -> bool:
    """Return whether a circuit names only features of the plan's layers, each once and in order."""
    term, shapes = planned.tile.terms[0], plan.layers_of(planned.variant)
    if (circuit.layer, circuit.feature) != (term.layer, term.feature):
        return False
    for layer, parts in circuit.parts.items():
        shape: Any = shapes.get(layer)
        sizes = [abs(part.attribution) for part in parts]
        if shape is None or sizes != sorted(sizes, reverse=True) or len({part.feature for part in parts}) < len(parts):
            return False
        if not all(part.feature < shape[0] and part.is_sound for part in parts):
            return False
    return True


def found_circuits(folder: RunFolder) -> list[Path]:
    """Return the files with the circuits that workers have found so far, one of each."""
    results = folder.root / "circuits" / "found"
    return [results / name for name in folder.names(results) if name.endswith(".jsonl")]
