"""Running counts of a run's tiles: made, failed, awaited."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from featlight.report.sections import Section
from featlight.store.records import TileRecord


class Tally:
    """Counts of a run's tiles, updated record by record, so that no chunk costs a pass over all tiles.

    Args:
        sections: sections of the run.
        made: records of the tiles that exist at the start, by file.
        missing: files of the tiles to make.
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
        """Count a tile's record; a made tile overrides a failed one."""
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
