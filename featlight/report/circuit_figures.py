"""Figures of circuits: a tile with its strongest parts, and their parts in turn."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from PIL import Image

from featlight.config.schema import Figure
from featlight.console import cell_text
from featlight.drawing.circuit import CircuitNode, draw_circuit
from featlight.drawing.sheet import Cell
from featlight.plan.circuit_tiles import circuit_tiles
from featlight.plan.plan import PlannedTile
from featlight.report.viewer.circuits import CircuitLinks
from featlight.store.circuit_files import Part, TileCircuit, read_circuits
from featlight.store.snapshot import Snapshot

BRANCHES = (4, 2, 1)  # parts of the tile, of each of its parts, and of each of theirs
FOOTER = (
    "To the right of each tile: earlier features that it is made of, with their attribution on its own picture. Red "
    "excites, blue inhibits. A bar compares the parts of one tile. A square shows the kernel of expanded weights."
)
COLUMNS = ("tile", "depth", "layer", "feature", "part_layer", "part_feature", "part_tile", "attribution", "weight")


@dataclass(frozen=True)
class Branch:
    """A feature in a circuit, with its strongest parts.

    Args:
        layer: layer of the feature.
        feature: number of the feature; None if the tile has none.
        planned: tile of the feature; None if the run has not drawn it.
        part: its numbers as a part of the later feature; None for the first.
        parts: its own strongest parts in the next layer.
    """

    layer: str
    feature: int | None
    planned: PlannedTile | None
    part: Part | None = None
    parts: Sequence["Branch"] = ()


@dataclass(frozen=True)
class CircuitTrees:
    """Trees of features, read from the circuits of a run.

    Args:
        links: links between the tiles of the run.
        layers: earlier layers of the columns; none for the nearest earlier layer of each tile.
    """

    links: CircuitLinks
    layers: Sequence[str] = ()

    def tree(self, planned: PlannedTile) -> Branch:
        """Return a tile's strongest parts, and their parts in turn."""
        term = planned.tile.terms[0]
        return self._grow(Branch(term.output, term.feature, planned), planned.variant, 0)

    def _grow(self, branch: Branch, variant: str, depth: int) -> Branch:
        """Return a branch with the parts that belong into the next column."""
        circuit = None if branch.planned is None else self.links.circuits.get(branch.planned.file)
        if circuit is None or depth == len(self.layers or BRANCHES):
            return branch
        layer = self.layers[depth] if self.layers else self._nearest(circuit, variant)
        shown = strongest(circuit.parts.get(layer, ()), BRANCHES[depth])
        parts = [Branch(layer, part.feature, self._tile(variant, layer, part), part) for part in shown]
        return replace(branch, parts=[self._grow(part, variant, depth + 1) for part in parts])

    def _nearest(self, circuit: TileCircuit, variant: str) -> str:
        """Return the nearest earlier layer of a tile; "" if it has none."""
        order = list(self.links.plan.layers_of(variant))
        return max(circuit.parts, key=order.index, default="")

    def _tile(self, variant: str, layer: str, part: Part) -> PlannedTile | None:
        return self._by_file.get(self.links.tiles.get((variant, layer, part.feature), ""))

    @cached_property
    def _by_file(self) -> dict[str, PlannedTile]:
        return {planned.file: planned for planned in self.links.plan.tiles}


def strongest(parts: Sequence[Part], count: int) -> list[Part]:
    """Return the strongest parts: those that excite, then those that inhibit.

    Half of them inhibit, rounded down; where there are too few of one kind, more of the other are returned.

    Args:
        parts: parts by falling size of the attribution.
        count: number of parts.
    """
    excite = [part for part in parts if part.attribution > 0]
    inhibit = [part for part in parts if part.attribution < 0]
    inhibit = inhibit[: max(count // 2, count - len(excite))]
    return [*excite[: count - len(inhibit)], *inhibit]


def circuit_pictures(
    snapshot: Snapshot, figure: Figure, cells: Mapping[str, Cell]
) -> Iterator[tuple[str, Branch, str, Image.Image]]:
    """Yield name, tree, title and picture of each chosen tile whose circuit has been found.

    Args:
        snapshot: snapshot of the run.
        figure: figure of circuits.
        cells: cells of the atlas by tile file.
    """
    plan = snapshot.plan
    links = CircuitLinks.from_plan(plan, read_circuits(snapshot.store.folder, plan))
    trees = CircuitTrees(links, figure.layers or ())
    for planned in circuit_tiles(plan, figure):
        tree = trees.tree(planned)
        if tree.parts:
            name = "-".join(filter(None, ["circuit", planned.variant, planned.tile.name.replace("/", "-")]))
            title = figure.title or f"{plan.network.model} {_words(planned)}: what it is made of"
            subtitle = f"{plan.network.weights} · {plan.created}"
            node = _node(tree, cells)
            picture = draw_circuit(node, _columns(tree), title=title, subtitle=subtitle, footer=FOOTER)
            yield name, tree, title, picture


def _words(planned: PlannedTile) -> str:
    return planned.label if planned.tile.is_named else f"{planned.tile.terms[0].layer} {planned.label}"


def _columns(tree: Branch) -> list[str]:
    """Return the layers of a tree's columns; a column with several layers has the names of all."""
    columns, level = [], [tree]
    while level:
        columns.append(", ".join(dict.fromkeys(branch.layer for branch in level)))
        level = [part for branch in level for part in branch.parts]
    return columns


def _node(branch: Branch, cells: Mapping[str, Cell]) -> CircuitNode:
    missing = Cell(str(branch.feature), None, "missing: not in this run")
    cell = missing if branch.planned is None else cells.get(branch.planned.file, missing)
    parts = [_node(part, cells) for part in branch.parts]
    if branch.part is None:
        return CircuitNode(cell, parts=parts)
    weight, kernel = branch.part.weight, branch.part.kernel
    if kernel is None and weight is not None:
        kernel = ((weight,),)
    return CircuitNode(cell, branch.part.attribution, kernel, parts)


def circuit_table(trees: Sequence[Branch]) -> str:
    """Return a CSV row for each link of the trees."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(COLUMNS)
    for tree in trees:
        assert tree.planned is not None
        writer.writerows([cell_text(tree.planned.tile.name), *row] for row in _rows(tree, 1))
    return lines.getvalue()


def _rows(branch: Branch, depth: int) -> Iterator[list[object]]:
    for each in branch.parts:
        assert each.part is not None
        tile = "" if each.planned is None else cell_text(each.planned.tile.name)
        feature = "" if branch.feature is None else branch.feature
        weight = "" if each.part.weight is None else each.part.weight
        ends = [cell_text(branch.layer), feature, cell_text(each.layer), each.feature, tile]
        yield [depth, *ends, each.part.attribution, weight]
        yield from _rows(each, depth + 1)
