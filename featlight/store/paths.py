"""Paths, names and size limits in a run directory."""

import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, get_args

from pydantic import AfterValidator, Field

from featlight.config.schema import Extra
from featlight.plan.plan import Plan, PlannedTile
from featlight.store.guard.run_folder import DEEPEST

PLAN = "plan.json"
NOTE = ".running"  # names the process that is working here
EXAMPLES, ABOUT_EXAMPLES = "examples/examples.jsonl", "examples/about.json"
CIRCUITS = "circuits/circuits.jsonl"
OUTPUTS = "outputs.txt"  # paths of the files that are derived from tiles and records, for --fresh
OWN_NAMES = (
    *("alike", "assets", "atlas", "circuits", "config.yaml", "examples", "figures", "floats", "index.html", "maps"),
    *("octaves", "records", "tensorboard", "tiles", "vectors"),
)
# Largest sizes of a run's files, in bytes: a directory may come from anybody
PLAN_BYTES, PLAN_VALUES = 512 << 20, 16_000_000  # a million tiles take 200 bytes and 8 values each
RECORDS_BYTES = 4 << 30  # of one worker: about 2 kB for each of a million tiles
PICTURE_BYTES = 256 << 20  # an uncompressed tile of 8192 x 8192 px
ARRAY_BYTES = 4 << 30  # the float image of such a tile has 1.6 GB, the vectors of ten thousand tiles 0.4 GB
TEXT_BYTES = 64 << 20  # config, list of outputs, page
NOTE_BYTES = 4096
_LONGEST = 255  # characters of a name
_UNSAFE = re.compile(r'[\\:*?"<>|]')  # characters with a meaning in paths of other systems


def is_run_name(name: str) -> bool:
    """Return whether a name is a safe path of a run's own file, from the run directory."""
    parts = name.split("/")
    return (
        len(parts) <= DEEPEST
        and parts[0] in OWN_NAMES
        and all(part and part[0] != "." and len(part) <= _LONGEST for part in parts)
        and name.isprintable()
        and not _UNSAFE.search(name)
    )


def is_tile_name(name: str) -> bool:
    """Return whether a name can be the path of a tile."""
    return name.startswith("tiles/") and name.endswith(".png") and name.count("/") in (2, 3) and is_run_name(name)


def _tile_name(name: str) -> str:
    if not is_tile_name(name):
        raise ValueError("not the name of a tile")
    return name


TileName = Annotated[str, AfterValidator(_tile_name)]
Number = Annotated[int, Field(ge=0, lt=2**53)]


class RunPaths:
    """The paths of one run directory.

    Args:
        root: run directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def float_path(self, file: str) -> Path:
        """Return the path of a tile's unclipped image, given the tile's file."""
        return (self.root / "floats" / file.removeprefix("tiles/")).with_suffix(".safetensors")

    def alpha_path(self, file: str) -> Path:
        """Return the path of a tile's opacity, a gray picture beside the tile; black pixels are transparent."""
        return (self.root / file).with_suffix(".alpha.png")

    def parts(self, planned: PlannedTile, plan: Plan) -> Iterator[Path]:
        """Yield the paths of a tile's picture, and of its opacity if the recipe makes one."""
        yield self.root / planned.file
        if plan.settings[planned.variant].recipe.keeps_alpha:
            yield self.alpha_path(planned.file)

    def octave_path(self, file: str, number: int | str) -> Path:
        """Return the path of a tile's small picture at the end of an octave, counted from 1."""
        return (self.root / "octaves" / file.removeprefix("tiles/")).with_suffix(f".{number}.png")

    def map_path(self, file: str) -> Path:
        """Return the path of the activation maps of a tile's terms: safetensors, (H, W) each, by number from 0."""
        return (self.root / "maps" / file.removeprefix("tiles/")).with_suffix(".safetensors")

    def extra_paths(
        self, planned: PlannedTile, plan: Plan, extras: Sequence[Extra] = get_args(Extra)
    ) -> Iterator[Path]:
        """Yield the paths of a tile's additional files."""
        for extra in extras:
            match extra:
                case "floats":
                    yield self.float_path(planned.file)
                case "maps":
                    yield self.map_path(planned.file)
                case "octaves":
                    octaves = len(plan.settings[planned.variant].recipe.octaves)
                    yield from (self.octave_path(planned.file, number) for number in range(1, octaves + 1))

    @property
    def example_list(self) -> Path:
        """The list of the dataset's images, and the settings of the search."""
        return self.root / "examples" / "images.json"

    def example_path(self, file: str) -> Path:
        """Return the path of the picture of a tile's examples, given the tile's file."""
        return (self.root / "examples" / file.removeprefix("tiles/")).with_suffix(".jpg")

    def example_paths(self, files: Iterable[str]) -> Iterator[Path]:
        """Yield the paths of some tiles' examples, and of the files that describe the search."""
        yield from (self.root / EXAMPLES, self.root / ABOUT_EXAMPLES, self.example_list)
        yield from map(self.example_path, files)

    def example_findings(self, worker: str) -> Path:
        """Return the path of a worker's intermediate results."""
        return self.root / "examples" / "found" / f"{worker}.safetensors"

    def circuit_findings(self, worker: str) -> Path:
        """Return the path of a worker's circuits, until those of all tiles are found."""
        return self.root / "circuits" / "found" / f"{worker}.jsonl"

    def vector_path(self, files: Iterable[str]) -> Path:
        """Return the path of a chunk's vectors, given its tiles' files."""
        return self.root / "vectors" / "chunks" / f"{sha256(' '.join(files).encode()).hexdigest()[:16]}.npy"
