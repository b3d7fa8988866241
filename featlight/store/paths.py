"""Where things are in a run directory."""

import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import get_args

from featlight.config.schema import Extra
from featlight.plan.plan import Plan, PlannedTile

PLAN = "plan.json"
NOTE = ".running"  # who is at work here
EXAMPLES, ABOUT_EXAMPLES = "examples/examples.jsonl", "examples/about.json"
OUTPUTS = "outputs.txt"  # what is made from tiles and records, a path a line, so that --fresh knows its own files
OWN_NAMES = (
    *("alike", "assets", "atlas", "config.yaml", "examples", "figures", "floats", "index.html", "maps"),
    *("octaves", "records", "tensorboard", "tiles", "vectors"),
)
# How large a run's files may be, in bytes. Beyond that they are no run's, or somebody fills a disk or a memory.
PLAN_BYTES, PLAN_VALUES = 512 << 20, 16_000_000  # a million tiles take 200 bytes and 8 values each
RECORDS_BYTES = 4 << 30  # of one worker, who writes some 2 kB for each of a million tiles
PICTURE_BYTES = 256 << 20  # a tile of 8192 x 8192 px, not compressed at all
ARRAY_BYTES = 4 << 30  # the float image of such a tile takes 1.6 GB, the vectors of ten thousand tiles 0.4 GB
TEXT_BYTES = 64 << 20  # config, list of outputs, page
NOTE_BYTES = 4096
_LONGEST, _DEEPEST = 255, 8  # characters of a name, names in a path
_UNSAFE = re.compile(r'[\\:*?"<>|]')  # what other systems, and those who unpack a zip there, read as their own


def is_run_name(name: str) -> bool:
    """Whether it can be the path of a run's own file, from the run directory: what stands in a file is not believed."""
    parts = name.split("/")
    return (
        len(parts) <= _DEEPEST
        and parts[0] in OWN_NAMES
        and all(part and part[0] != "." and len(part) <= _LONGEST for part in parts)
        and name.isprintable()
        and not _UNSAFE.search(name)
    )


def is_tile_name(name: str) -> bool:
    """Whether it can be the path of a tile."""
    return name.startswith("tiles/") and name.endswith(".png") and name.count("/") in (2, 3) and is_run_name(name)


class RunPaths:
    """The paths of one run directory.

    Args:
        root: the directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def float_path(self, file: str) -> Path:
        """Where the unclipped image of a tile is, given the tile's file."""
        return (self.root / "floats" / file.removeprefix("tiles/")).with_suffix(".safetensors")

    def alpha_path(self, file: str) -> Path:
        """Where the transparency of a tile is, beside it: gray, black where it is clear."""
        return (self.root / file).with_suffix(".alpha.png")

    def parts(self, planned: PlannedTile, plan: Plan) -> Iterator[Path]:
        """What a tile consists of: its picture, and its transparency where its recipe makes one."""
        yield self.root / planned.file
        if plan.settings[planned.variant].recipe.keeps_alpha:
            yield self.alpha_path(planned.file)

    def octave_path(self, file: str, number: int | str) -> Path:
        """Where the small picture of a tile at the end of an octave is, counted from 1."""
        return (self.root / "octaves" / file.removeprefix("tiles/")).with_suffix(f".{number}.png")

    def map_path(self, file: str) -> Path:
        """Where the maps of a tile's terms in its final image are: safetensors, (H, W) each, by their number from 0."""
        return (self.root / "maps" / file.removeprefix("tiles/")).with_suffix(".safetensors")

    def extra_paths(
        self, planned: PlannedTile, plan: Plan, extras: Sequence[Extra] = get_args(Extra)
    ) -> Iterator[Path]:
        """Where what is kept of a tile besides its picture is."""
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
        """Which images of which folder examples are looked for among, and how."""
        return self.root / "examples" / "images.json"

    def example_path(self, file: str) -> Path:
        """Where the picture of a tile's examples is, given the tile's file."""
        return (self.root / "examples" / file.removeprefix("tiles/")).with_suffix(".jpg")

    def example_paths(self, files: Iterable[str]) -> Iterator[Path]:
        """Where the examples of some tiles are, and what they were looked for among."""
        yield from (self.root / EXAMPLES, self.root / ABOUT_EXAMPLES, self.example_list)
        yield from map(self.example_path, files)

    def example_findings(self, worker: str) -> Path:
        """What one worker has found among them so far."""
        return self.root / "examples" / "found" / f"{worker}.safetensors"

    def vector_path(self, files: Iterable[str]) -> Path:
        """Where the vectors of a chunk are, given its tiles' files."""
        return self.root / "vectors" / "chunks" / f"{sha256(' '.join(files).encode()).hexdigest()[:16]}.npy"
