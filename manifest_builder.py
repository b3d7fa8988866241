"""What a pass is over: begun, or gone on with what has come since. The first worker says so, and all others follow."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from featlight.config.inputs.fit import FitWord
from featlight.distributed.env import LAUNCHER, Worker
from featlight.distributed.signals import Stop
from featlight.examples.image_index import FolderListing, ImageIndex
from featlight.examples.manifest import ScanManifest, ScanSettings, with_new
from featlight.examples.scoring.scorer import ActivationScorer
from featlight.plan.plan import Plan
from featlight.store.example_files import found_files
from featlight.store.store import Store

CPU_BATCH, GPU_BATCH = 32, 128  # images
POLL = 0.5  # seconds
Say = Callable[[str], object]


@dataclass(frozen=True)
class ExamplesRequest:
    """What examples are asked for.

    Args:
        images: the folder of the images.
        top: how many of each tile.
        fit: how an image is brought to the network: `auto`, `none`, or a size in pixels.
        batch_size: images that are looked at together; `auto`: as the pass that is there has it, or what suits.
    """

    images: Path
    top: int = 9
    fit: FitWord = "auto"
    batch_size: Literal["auto"] | int = "auto"


@dataclass(frozen=True)
class ManifestBuilder:
    """What a pass is to be over, by what was asked for and what is there.

    Args:
        store: of the run.
        request: what is asked for.
        scorer: of the run.
        plan: of the run.
        found: in the folder.
    """

    store: Store
    request: ExamplesRequest
    scorer: ActivationScorer
    plan: Plan
    found: FolderListing

    def begin(self, say: Say) -> ScanManifest:
        """Go on with the pass that is there, with what has come since, or begin another one; it is written in any case.

        Args:
            say: prints a line.
        """
        before = ScanManifest.read(self.store, len(self.found.images))
        if before is None and self.store.folder.has(self.store.example_list):
            say(f"the images are looked at anew: {self.store.example_list} is damaged")
        known, why = (None, "") if before is None else self._gone_on(before)
        if known is None:
            if before is not None:
                say(f"the images are looked at anew: {why}")
                for path in found_files(self.store.folder):
                    self.store.folder.remove(path)
            images = ImageIndex().followed_by(self.request.images, self.found)
            assert images is not None
            known = ScanManifest(self._settings(before), images, (tuple(self.scorer.queries),))
        elif before is not None and known.tiles != before.tiles:
            new = len(known.places) - len(before.places)
            say(
                f"{new} new tile{'' if new == 1 else 's'}: images that were looked at before are, for what is new alone"
            )
        known.write(self.store)
        return known

    def awaited(self, listed_before: tuple[int, ...] | None, worker: Worker, stop: Stop) -> ScanManifest:
        """The list that the first worker writes, which a worker that our launcher has started finds there.

        Args:
            listed_before: the stamp that the list had when this worker began.
            worker: this one.
            stop: asked now and then.
        """
        while True:
            known = ScanManifest.read(self.store, len(self.found.images))
            if known is not None and self._is_asked_for(known):
                written = self.store.folder.stamp(self.store.example_list) != listed_before
                if worker.launcher == LAUNCHER or written or known.images.is_of(self.found):
                    return known
            stop.check()
            time.sleep(POLL)

    def _settings(self, before: ScanManifest | None) -> dict[str, Any]:
        """In JSON's own types; the batch is that of the pass before, where nobody says another one."""
        batch_size = self.request.batch_size
        if batch_size == "auto":
            usual = GPU_BATCH if self.scorer.device.type == "cuda" else CPU_BATCH
            batch_size = usual if before is None else before.settings["batch_size"]
        settings = next(iter(self.plan.settings.values()))
        return ScanSettings(
            folder=str(self.request.images.resolve()),
            fit=self.scorer.fit,
            batch_size=batch_size,
            top=self.request.top,
            network=self.plan.network.sha256,
            preparation=self.scorer.preparation,
            normalize=str(settings.normalize),
            precision=settings.precision,
        ).plain()

    def _gone_on(self, before: ScanManifest) -> tuple[ScanManifest | None, str]:
        """A pass with what has come since; None where it cannot be gone on with, and why."""
        settings = self._settings(before)
        differing = [key for key, value in settings.items() if before.settings.get(key) != value]
        if differing:
            return None, f"another {', '.join(differing)} than before"
        tiles = with_new(before.tiles, self.scorer.queries)
        if tiles is None:
            return None, "the run looks for other things than before"
        images = before.images.followed_by(self.request.images, self.found)
        if images is None:
            return None, "an image that was listed has changed"
        return ScanManifest(settings, images, tiles), ""

    def _is_asked_for(self, known: ScanManifest) -> bool:
        return known.settings == self._settings(known) and with_new(known.tiles, self.scorer.queries) == known.tiles
