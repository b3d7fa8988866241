"""The whole way: a folder's images listed, a worker's share of them looked at, and the examples written at the end."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from featlight.distributed.env import ALONE, Worker
from featlight.distributed.signals import Stop
from featlight.engine.allocator import keep_memory
from featlight.examples.finish import best, write_examples
from featlight.examples.image_index import find_images, some_names
from featlight.examples.manifest import ScanManifest
from featlight.examples.manifest_builder import POLL, ExamplesRequest, ManifestBuilder, Say
from featlight.examples.pictures import draw_pictures
from featlight.examples.scoring.loading import load_scorer
from featlight.examples.scoring.scorer import ActivationScorer
from featlight.examples.work import Pace, decoders, images_of, work
from featlight.examples.worker_state import WorkerState, all_worker_states, lacking
from featlight.plan.sources import NOTHING_TYPED, TypedSources
from featlight.report.build import is_rendered, render
from featlight.store.example_files import beaten, found_files, read_examples
from featlight.store.store import Store


@dataclass(frozen=True)
class ScanReport:
    """What has become of a pass.

    Args:
        looked_at: images, by this worker.
        now: images looked at by all workers since this one began.
        rate: images a second of all workers.
        left: images that nobody has looked at yet.
        about: what the examples were looked for among; None while images are left.
    """

    looked_at: int
    now: int
    rate: float
    left: int
    about: dict[str, Any] | None


def find(
    out: Path,
    request: ExamplesRequest,
    *,
    typed: TypedSources = NOTHING_TYPED,
    worker: Worker = ALONE,
    stop: Stop | None = None,
    say: Say = lambda _: None,
    network: nn.Module | None = None,
    device: torch.device | None = None,
    processes: int | None = None,
    others_gone: threading.Event | None = None,
    patience: float = 0.0,
) -> ScanReport:
    """Find the examples of a run, or a worker's share of them; who looks at the last image writes them all.

    Args:
        out: the run directory.
        request: what is asked for.
        typed: sources of the run's network that the user has typed.
        worker: this one.
        stop: asked before every batch.
        say: prints a line.
        network: instead of loading the run's.
        device: instead of the first that there is.
        processes: that decode images for this worker; None for as many as suit.
        others_gone: set once the other workers have ended; None where nobody can tell.
        patience: seconds without a sign of the other workers, after which none is waited for.

    Raises:
        FeatlightError: see its kinds.
    """
    stop = stop or Stop()
    store = Store(out)
    plan = store.need_plan()
    store.check_writable()
    listed_before = store.folder.stamp(store.example_list)
    found = find_images(request.images, without=out)
    keep_memory()
    scorer = load_scorer(store, plan, request.fit, typed, worker, network, device)
    store.hold(plan)
    stop.check()
    listing = ManifestBuilder(store, request, scorer, plan, found)
    if worker.rank == 0:
        known = listing.begin(say)
        say(_header(known, scorer))
        if found.skipped_words:
            say(found.skipped_words)
    else:
        known = listing.awaited(listed_before, worker, stop)
    pace = Pace(say if worker.rank == 0 else lambda _: None, worker.world_size)
    processes = decoders(scorer.device, worker.world_size) if processes is None else processes
    to_do = work(store, known, scorer, worker, stop, pace, processes)
    findings = _all_findings(store, known, stop, others_gone, patience)
    left = images_of(known, lacking(known, findings))
    now, rate = to_do - left, pace.rate_of(to_do - left)
    if left:
        return ScanReport(pace.seen, now, rate, left, None)
    top = best(known, findings)
    boxes = draw_pictures(store, plan, known, scorer, top, worker, stop, processes)
    about = write_examples(store, plan, known, scorer, findings, top, boxes, found.skipped)
    if store.folder.is_folder(store.root / "assets") and not is_rendered(store, plan):
        render(store, plan)  # the viewer shows them
    return ScanReport(pace.seen, now, rate, 0, about)


def _all_findings(
    store: Store, known: ScanManifest, stop: Stop, others_gone: threading.Event | None, patience: float
) -> list[WorkerState]:
    """Of all workers, once nothing is left, or nobody seems to be there who looks at what is left."""
    seen, since = None, time.monotonic()
    while True:
        gone = others_gone is not None and others_gone.is_set()  # before looking, so that nothing is missed
        stamps = [store.folder.stamp(path) for path in found_files(store.folder)]
        if gone or stamps != seen or time.monotonic() - since > patience:
            findings = all_worker_states(store, known)
            silent = others_gone is None and time.monotonic() - since > patience
            if gone or silent or not lacking(known, findings):
                return findings
            since = time.monotonic() if stamps != seen else since
            seen = stamps
        stop.check()
        time.sleep(POLL)


def _header(known: ScanManifest, scorer: ActivationScorer) -> str:
    images, twice = known.images, known.images.duplicates
    words = f"{len(images.first_of)} images of {known.folder}"
    words += f" ({twice} more of the same content are counted once)" if twice else ""
    layers = len(scorer.layers)
    return (
        f"{words}, {len(scorer.keys)} tiles of {layers} layer{'' if layers == 1 else 's'}, {scorer.fit.in_words()}, "
        f"{known.settings['batch_size']} at a time on {scorer.device.type}"
    )


def last_lines(report: ScanReport, out: Path) -> list[str]:
    """What to say of a pass over images for a run that has come to its end."""
    about = report.about
    assert about is not None
    rate = f", {report.now} of them now, {report.rate:.1f} images/s" if report.now else ""
    twice = f", {about['duplicates']} duplicates counted once" if about["duplicates"] else ""
    lines = [f"{about['images']} images looked at{rate}{twice}"]
    if about["refused"]:
        named = [f"{name} ({why})" for name, why in about["refused_files"].items()]
        lines.append(f"{about['refused']} could not be looked at: {some_names(named)}")
    store = Store(out)
    ends = {file: record["activation_end"] for file, record in store.records().items()}
    more, compared = beaten(read_examples(store.folder), ends)
    if compared:
        lines.append(f"{more} of {compared} pictures excite their feature more than any of these images does")
    return lines
