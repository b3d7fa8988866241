"""Where things are in a run directory."""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import get_args

from featlight.config.schema import Extra
from featlight.plan.plan import Plan, Planned

PLAN = "plan.json"
NOTE = ".running"  # who is at work here
OUTPUTS = "outputs.txt"  # what is made from tiles and records, a path a line, so that --fresh knows its own files
OWN_NAMES = (
    *("assets", "atlas", "config.yaml", "figures", "floats", "index.html", "maps"),
    *("octaves", "records", "tensorboard", "tiles", "vectors"),
)


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

    def octave_path(self, file: str, number: int | str) -> Path:
        """Where the small picture of a tile at the end of an octave is, counted from 1."""
        return (self.root / "octaves" / file.removeprefix("tiles/")).with_suffix(f".{number}.png")

    def map_path(self, file: str) -> Path:
        """Where the maps of a tile's terms in its final image are: safetensors, (H, W) each, by their number from 0."""
        return (self.root / "maps" / file.removeprefix("tiles/")).with_suffix(".safetensors")

    def extra_paths(self, planned: Planned, plan: Plan, extras: Sequence[Extra] = get_args(Extra)) -> Iterator[Path]:
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

    def vector_path(self, files: Iterable[str]) -> Path:
        """Where the vectors of a chunk are, given its tiles' files."""
        return self.root / "vectors" / "chunks" / f"{sha256(' '.join(files).encode()).hexdigest()[:16]}.npy"
