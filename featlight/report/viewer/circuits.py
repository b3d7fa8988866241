"""Circuits for the viewer: what each tile is made of and what it feeds, and commands for features without a tile."""

import base64
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featlight.plan.plan import Plan, PlannedTile
from featlight.store.circuit_files import Part, TileCircuit

Circuits = Mapping[str, TileCircuit]  # by tile file
SHOWN = 8  # features shown for each tile and layer
_Key = tuple[str, str, int | None]  # variant, output and feature of a tile


@dataclass(frozen=True)
class CircuitLinks:
    """The links between the tiles of a run, in both directions.

    Args:
        plan: plan of the run.
        circuits: circuits by tile file.
        tiles: file of the tile that shows a feature.
        fed: later tiles that each feature of a layer feeds, strongest first.
    """

    plan: Plan
    circuits: Circuits
    tiles: dict[_Key, str] = field(default_factory=dict)
    fed: dict[_Key, list[tuple[PlannedTile, Part]]] = field(default_factory=dict)

    @classmethod
    def from_plan(cls, plan: Plan, circuits: Circuits) -> "CircuitLinks":
        """Collect the links of a run."""
        links = cls(plan, circuits)
        for planned in plan.tiles if circuits else ():
            key = _key(planned)
            if key is not None:
                links.tiles.setdefault(key, planned.file)
            for layer, parts in _parts_of(circuits.get(planned.file)).items():
                for part in parts:
                    links.fed.setdefault((planned.variant, layer, part.feature), []).append((planned, part))
        for found in links.fed.values():
            found.sort(key=lambda pair: -abs(pair[1].attribution))
        return links

    def details(self, planned: PlannedTile) -> dict[str, Any]:
        """Return a tile's links for the viewer; nothing without circuits.

        `madeOf` and `feeds` list layers, the nearest first, and of each the features with their tile, attribution,
        weight and kernel. `draw` holds a command for the features without a tile, by layer.
        """
        circuit = self.circuits.get(planned.file)
        if circuit is None:
            return {}
        made_of, draw = [], {}
        for layer in sorted(circuit.parts, key=self._order(planned).index, reverse=True):
            shown = circuit.parts[layer][:SHOWN]
            files = [self.tiles.get((planned.variant, layer, part.feature)) for part in shown]
            made_of.append([layer, [_link(part.feature, file, part) for part, file in zip(shown, files, strict=True)]])
            missing = [part.feature for part, file in zip(shown, files, strict=True) if file is None]
            if missing:
                draw[layer] = _command(layer, missing)
        return {"madeOf": made_of, "feeds": self._feeds(planned), "draw": draw}

    def _feeds(self, planned: PlannedTile) -> list[list[Any]]:
        key, by_layer = _key(planned), dict[str, list[list[Any]]]()
        for other, part in self.fed.get(key, []) if key is not None else []:
            term = other.tile.terms[0]
            links = by_layer.setdefault(term.output, [])
            if len(links) < SHOWN:
                links.append(_link(other.label if other.tile.is_named else term.feature, other.file, part))
        return [[layer, by_layer[layer]] for layer in sorted(by_layer, key=self._order(planned).index)]

    def _order(self, planned: PlannedTile) -> list[str]:
        """Return the names of the layers in the network's order."""
        return list(self.plan.layers_of(planned.variant))


def _key(planned: PlannedTile) -> _Key | None:
    """Return what a tile shows; None if it is no single feature."""
    term = planned.tile.terms[0]
    if len(planned.tile.terms) > 1 or not term.measure.reads_one_feature:
        return None
    return planned.variant, term.output, term.feature


def _parts_of(circuit: TileCircuit | None) -> Mapping[str, Sequence[Part]]:
    return {} if circuit is None else circuit.parts


def _link(name: int | str | None, file: str | None, part: Part) -> list[Any]:
    tile = None if file is None else file.removeprefix("tiles/").removesuffix(".png")
    values = [name, tile, float(f"{part.attribution:.3g}")]
    weight = None if part.weight is None else float(f"{part.weight:.3g}")
    return [*values, weight, *([] if part.kernel is None else _packed(part.kernel))]


def _packed(kernel: Iterable[Sequence[float]]) -> list[Any]:
    """Return the width of a kernel and its values, relative to the largest, as signed bytes in base64."""
    values = np.array(list(kernel))  # (h, w)
    steps = np.rint(127 * values / max(np.abs(values).max(), np.finfo(float).tiny)).astype("i1")
    return [values.shape[1], base64.b64encode(steps.tobytes()).decode()]


def _command(layer: str, features: Sequence[int]) -> str:
    numbers = ",".join(map(str, sorted(features)))
    return f"featlight --config config.yaml --layer {shlex.quote(layer)} --features {numbers} --out ."
