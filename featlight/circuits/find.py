"""Find the circuits of a run: one line for each tile, written as it is found, then sorted into one file."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featlight.circuits.attribution import attribute
from featlight.circuits.expanded import ExpandedWeights, kernels
from featlight.circuits.images import final_image, image_kind
from featlight.circuits.network import CircuitNetwork, load_network
from featlight.config.image_shape import ImageSize
from featlight.distributed.env import ALONE, Worker
from featlight.distributed.signals import Stop
from featlight.engine.device import device_of, keep_memory, repeatable
from featlight.errors import UsageError, unknown
from featlight.plan.plan import Plan, PlannedTile
from featlight.plan.sources import NOTHING_TYPED, TypedSources, sources_of
from featlight.report.build import is_rendered, render
from featlight.store.circuit_files import circuit_lines, found_circuits
from featlight.store.paths import CIRCUITS
from featlight.store.snapshot import Snapshot
from featlight.store.store import Store

FORMAT = 1  # of the lines; lines of another format are found again
THREADS = 1  # on a CPU: bits must not depend on the number of workers
INTERVAL = 10.0  # seconds between lines of progress
Echo = Callable[[str], object]  # prints a line


@dataclass
class CircuitReport:
    """Result of a worker's call of `find_circuits`.

    Args:
        found: tiles that this worker has attributed.
        kept: tiles whose circuits were there.
        left: tiles of other workers that are not attributed yet; with none left, the file is complete.
        seconds: time of this worker's tiles.
        beside: earlier layers that do not feed a layer, by this layer.
    """

    found: int = 0
    kept: int = 0
    left: int = 0
    seconds: float = 0.0
    beside: dict[str, set[str]] = field(default_factory=dict)


def find(
    out: Path,
    top: int,
    layers: Sequence[str] = (),
    *,
    typed: TypedSources = NOTHING_TYPED,
    worker: Worker = ALONE,
    stop: Stop | None = None,
    echo: Echo = lambda _: None,
    network: nn.Module | None = None,
    device: torch.device | None = None,
) -> CircuitReport:
    """Find the circuits of a run's tiles, or a worker's share of them.

    Args:
        out: run directory.
        top: features kept for each tile and earlier layer.
        layers: layers whose tiles are attributed; none for all.
        typed: sources of the run's network that the user has typed.
        worker: this worker.
        stop: request to stop, checked before every tile.
        echo: prints a line.
        network: network to use instead of loading the run's.
        device: device to use instead of the first available one.

    Raises:
        FeatlightError: see its subclasses.
    """
    stop, store = stop or Stop(), Store(out)
    plan = store.need_plan()
    _check_layers(plan, layers)
    sources = sources_of(out, plan, typed, given=network is not None)
    store.check_writable()
    snapshot = Snapshot.from_store(store, plan)
    keep_memory()
    device = device_of("auto", worker) if device is None else device
    loaded = load_network(store, plan, sources, device, network)
    store.hold(plan)
    search = _Search(snapshot, loaded, top)
    report = search.run(layers, worker, stop, echo)
    if report.left == 0:
        search.write(layers)
        if store.folder.is_folder(store.root / "assets") and not is_rendered(store, plan):
            render(store, plan)  # the viewer and the figure show the circuits
    return report


def _check_layers(plan: Plan, layers: Sequence[str]) -> None:
    known = dict.fromkeys(term.layer for planned in plan.tiles for term in planned.tile.terms)
    for layer in layers:
        if layer not in known:
            raise UsageError(f"--layer: {unknown('layer', layer, known, 'in this run')}")


class _Search:
    """The search for a run's circuits.

    Args:
        snapshot: run and its existing tiles.
        network: network of the run.
        top: features kept for each tile and earlier layer.
    """

    def __init__(self, snapshot: Snapshot, network: CircuitNetwork, top: int) -> None:
        self._snapshot, self._network, self._top = snapshot, network, top
        self._store, self._plan = snapshot.store, snapshot.plan
        self._expanded: dict[ImageSize, ExpandedWeights] = {}
        there = [planned for planned in self._plan.tiles if planned.file in snapshot.there]
        self._stamps = {planned.file: self._stamp(planned) for planned in there}
        self._tiles = there

    def run(self, layers: Sequence[str], worker: Worker, stop: Stop, echo: Echo) -> CircuitReport:
        """Attribute a worker's share of the tiles that have no circuit yet."""
        wanted = self._wanted(layers)
        known = self._known()
        missing = [planned for planned in wanted if planned.file not in known]
        own = {planned.file for planned in wanted[worker.rank :: worker.world_size]}
        share = [planned for planned in missing if planned.file in own]
        report = CircuitReport(kept=len(wanted) - len(missing))
        path, start = self._store.circuit_findings(f"worker-{worker.rank}"), time.monotonic()
        said = start
        with repeatable(THREADS):
            for number, planned in enumerate(share):
                stop.check()
                self._store.check_held()
                self._store.folder.append_line(path, self._line(planned, report))
                if time.monotonic() - said > INTERVAL:
                    said = time.monotonic()
                    echo(f"{number + 1} of {len(share)} tiles attributed to earlier layers")
        report.found, report.seconds = len(share), time.monotonic() - start
        known = self._known() if len(share) < len(missing) else known
        report.left = sum(planned.file not in known for planned in missing) if len(share) < len(missing) else 0
        return report

    def write(self, layers: Sequence[str]) -> None:
        """Write the lines of all tiles in the plan's order, and remove the workers' files."""
        known = self._known()
        lines = [known[planned.file] for planned in self._tiles if planned.file in known]
        self._store.write(self._store.root / CIRCUITS, b"".join(lines))
        for path in found_circuits(self._store.folder):
            self._store.folder.remove(path)
        self._store.folder.remove_folder(self._store.root / "circuits" / "found")

    def _wanted(self, layers: Sequence[str]) -> list[PlannedTile]:
        return [p for p in self._tiles if not layers or p.tile.terms[0].layer in layers]

    def _known(self) -> dict[str, bytes]:
        """Return the current lines by tile."""
        paths = [self._store.root / CIRCUITS, *found_circuits(self._store.folder)]
        found = (pair for path in paths for pair in circuit_lines(self._store.folder, path, self._plan))
        return {
            circuit.tile: line.rstrip(b"\r\n") + b"\n"
            for line, circuit in found
            if circuit is not None and self._stamps.get(circuit.tile) == circuit.stamp
        }

    def _stamp(self, planned: PlannedTile) -> str:
        """Return a checksum of everything that determines a tile's line."""
        record = self._snapshot.there[planned.file]
        kind = image_kind(self._store, planned)
        image = record["float_sha256"] if kind == "float" else record["sha256"]
        settings = (FORMAT, self._top, self._network.layers, self._network.sha256, kind, image, planned.file)
        return sha256(repr(settings).encode()).hexdigest()[:16]

    def _line(self, planned: PlannedTile, report: CircuitReport) -> bytes:
        """Return the line of a tile, without its end."""
        image, kind = final_image(self._store, self._plan, planned)
        query = self._network.query(planned)
        earlier = self._network.earlier(query)
        activation, by_layer = attribute(self._network, query, image, earlier)
        term = planned.tile.terms[0]
        weights = self._weights(planned, list(by_layer)) if len(planned.tile.terms) == 1 else {}
        report.beside.setdefault(term.output, set()).update(name for name in earlier if name not in by_layer)
        values = {
            "tile": planned.file,
            "layer": term.layer,
            "feature": term.feature,
            "image": kind,
            "from": {name: list(_parts(each, weights.get(name), self._top)) for name, each in by_layer.items()},
            "activation": rounded(activation),
            "stamp": self._stamps[planned.file],
        }
        return json.dumps(values, allow_nan=False, separators=(",", ":")).encode()

    def _weights(self, planned: PlannedTile, earlier: Sequence[str]) -> Mapping[str, Tensor]:
        size = self._plan.settings[planned.variant].recipe.final_size
        if size not in self._expanded:
            self._expanded.clear()  # one graph in memory; a plan's tiles of one size are together
            self._expanded[size] = ExpandedWeights(self._network, size)
        return self._expanded[size].derivatives(planned.tile.terms[0], earlier)


def _parts(attribution: Tensor, weights: Tensor | None, top: int) -> Iterator[dict[str, Any]]:
    """Yield the strongest features of an earlier layer, by falling size of the attribution; those with 0 are left out.

    Args:
        attribution: attribution of each feature, (C,).
        weights: expanded weights of the layer, (C, H, W); None if the stretch is not linear.
        top: largest number of features.
    """
    sizes = attribution.abs().nan_to_num(0, 0, 0)
    strongest = sizes.sort(descending=True, stable=True).indices[:top]
    features = [int(feature) for feature in strongest if sizes[feature] > 0]
    expanded = [None] * len(features) if weights is None else kernels(weights, features)
    for feature, each in zip(features, expanded, strict=True):
        part: dict[str, Any] = {"feature": feature, "attribution": rounded(float(attribution[feature]))}
        part["weight"] = None if each is None or not isfinite(each.weight) else rounded(each.weight)
        if each is not None and each.kernel is not None and part["weight"] is not None:
            part["kernel"] = [[rounded(value, 3) for value in row] for row in each.kernel.tolist()]
            part |= {"block": each.block} if each.block > 1 else {}
        yield part


def rounded(value: float, digits: int = 6) -> float:
    """Return a number with some significant digits; infinity and NaN, which JSON lacks, become 0."""
    return float(f"{value:.{digits}g}") if isfinite(value) else 0.0
