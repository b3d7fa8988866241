"""Which tiles of a run are there, have failed, or are awaited, counted as they come."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from featlight.report.sections import Section
from featlight.store.records import TileRecord


class Tally:
    """What has become of a run's tiles. A run of many chunks never goes through all of them after each chunk.

    Args:
        sections: of the run.
        made: the records of the tiles that are there at the start, by file.
        missing: files of the tiles that are to be made.
    """

    def __init__(self, sections: Sequence[Section], made: Mapping[str, TileRecord], missing: Collection[str]) -> None:
        self.made = dict(made)
        self.failed: set[str] = set()
        self.awaited = set(missing)
        self.dead = sum(record["status"] == "dead" for record in made.values())
        self._section_of = {planned.file: section.name for section in sections for planned in section.tiles}
        self.made_of = Counter(self._section_of[file] for file in made)  # by section
        self.failed_of: Counter[str] = Counter()

    def take(self, record: TileRecord) -> None:
        """Count what has come of a tile; one that is made beats one that has failed."""
        file, before = record["file"], self.made.get(record["file"])
        section = self._section_of[file]
        self.awaited.discard(file)
        if record["status"] == "failed":
            if before is None and file not in self.failed:
                self.failed.add(file)
                self.failed_of[section] += 1
            return
        if file in self.failed:
            self.failed.discard(file)
            self.failed_of[section] -= 1
        self.made[file] = record
        self.made_of[section] += before is None
        self.dead += (record["status"] == "dead") - (before is not None and before["status"] == "dead")
