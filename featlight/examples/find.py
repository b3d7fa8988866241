"""Find a run's examples: index the images, score a worker's share, and write the results when all are scored."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from featlight.config.image_shape import pixels_of
from featlight.distributed.env import ALONE, Worker
from featlight.distributed.signals import Stop
from featlight.engine.device import keep_memory, return_memory
from featlight.errors import listed, plural
from featlight.examples.decoding import decoder_errors
from featlight.examples.finish import merge_states, write_examples
from featlight.examples.image_index import find_images
from featlight.examples.manifest import (
    POLL_SECONDS,
    SCORED_PIXELS,
    Echo,
    ExamplesRequest,
    ManifestBuilder,
    ScanManifest,
)
from featlight.examples.pictures import draw_pictures
from featlight.examples.scan import ProgressLine, decoding_processes, scan_share
from featlight.examples.scorer import ActivationScorer, load_scorer
from featlight.examples.worker_state import WorkerState, missing_parts, read_states
from featlight.plan.sources import NOTHING_TYPED, TypedSources
from featlight.report.build import is_rendered, render
from featlight.store.example_files import beaten, found_files, read_answers
from featlight.store.store import Store

REFUSED_NAMED = 3  # names in the last lines


@dataclass(frozen=True)
class ScanReport:
    """Result of a worker's call of `find`.

    Args:
        scored: images scored by this worker.
        scored_by_all: images scored by all workers since this worker began.
        rate: images per second of all workers.
        left: images that no worker has scored.
        about: content of `about.json`; None if images are left.
    """

    scored: int
    scored_by_all: int
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
    echo: Echo = lambda _: None,
    network: nn.Module | None = None,
    device: torch.device | None = None,
    processes: int | None = None,
    others_gone: threading.Event | None = None,
    patience: float = 0.0,
) -> ScanReport:
    """Find the examples of a run, or a worker's share; the worker that scores the last image writes the results.

    Args:
        out: run directory.
        request: requested examples.
        typed: sources of the run's network that the user has typed.
        worker: this worker.
        stop: request to stop, checked before every chunk.
        echo: prints a line.
        network: network to use instead of loading the run's.
        device: device to use instead of the first available one.
        processes: decoding processes of this worker; None for a number that fits the machine.
        others_gone: event that is set when the other workers have ended; None if nothing can tell.
        patience: seconds to wait without a sign of other workers.

    Raises:
        FeatlightError: see its subclasses.
    """
    stop = stop or Stop()
    store = Store(out)
    plan = store.need_plan()
    store.check_writable()
    stamp_before = store.folder.stamp(store.example_list)
    listing = find_images(request.images, without=out)
    return_memory()
    scorer = load_scorer(store, plan, request.fit, typed, worker, network, device)
    if scorer.fit.size is not None and pixels_of(scorer.fit.size) <= SCORED_PIXELS:
        keep_memory()  # faster
    store.hold(plan)
    stop.check()
    builder = ManifestBuilder(store, request, scorer, plan, listing)
    if worker.rank == 0:
        manifest = builder.create_or_extend(echo)
        echo(_first_line(manifest, scorer))
        if listing.skipped_text:
            echo(listing.skipped_text)
    else:
        manifest = builder.wait(stamp_before, worker, stop)
    progress = ProgressLine(echo if worker.rank == 0 else lambda _: None, worker.world_size)
    processes = decoding_processes(scorer.device, worker.world_size) if processes is None else processes
    with decoder_errors(stop):
        before = scan_share(store, manifest, scorer, worker, stop, progress, processes)
    states = _await_states(store, manifest, stop, others_gone, patience)
    left = manifest.image_count(missing_parts(manifest, states))
    by_all, rate = before - left, progress.rate(before - left)
    if left:
        return ScanReport(progress.scored, by_all, rate, left, None)
    top = merge_states(manifest, states)
    with decoder_errors(stop):
        shown = draw_pictures(store, plan, manifest, scorer, top, worker, stop, processes, paths=request.paths)
    about = write_examples(store, plan, manifest, scorer, states, top, shown, listing.skipped)
    if store.folder.is_folder(store.root / "assets") and not is_rendered(store, plan):
        render(store, plan)  # the viewer shows the examples
    return ScanReport(progress.scored, by_all, rate, 0, about)


def _await_states(
    store: Store, manifest: ScanManifest, stop: Stop, others_gone: threading.Event | None, patience: float
) -> list[WorkerState]:
    """Return the states of all workers once all images are scored or no other worker seems to be running."""
    seen, since = None, time.monotonic()
    while True:
        gone = others_gone is not None and others_gone.is_set()  # before reading, so that no state is missed
        stamps = [store.folder.stamp(path) for path in found_files(store.folder)]
        if gone or stamps != seen or time.monotonic() - since > patience:
            states = read_states(store, manifest)
            silent = others_gone is None and time.monotonic() - since > patience
            if gone or silent or not missing_parts(manifest, states):
                return states
            since = time.monotonic() if stamps != seen else since
            seen = stamps
        stop.check()
        time.sleep(POLL_SECONDS)


def _first_line(manifest: ScanManifest, scorer: ActivationScorer) -> str:
    images = manifest.images
    duplicates = f" ({images.duplicates} duplicates are counted once)" if images.duplicates else ""
    return (
        f"{len(images.unique)} images of {manifest.folder}{duplicates}, {len(scorer.keys)} tiles of "
        f"{plural(len(scorer.layers), 'layer')}, {scorer.fit.in_words()}, {manifest.settings['batch_size']} at a time "
        f"on {scorer.device.type}"
    )


def last_lines(report: ScanReport, out: Path) -> list[str]:
    """Return the lines to print after a finished scan."""
    about = report.about
    assert about is not None
    rate = f", {report.scored_by_all} of them now, {report.rate:.1f} images/s" if report.scored_by_all else ""
    duplicates = f", {about['duplicates']} duplicates counted once" if about["duplicates"] else ""
    lines = [f"{about['images']} images scanned{rate}{duplicates}"]
    if about["refused"]:
        refused = [f"{name} ({reason})" for name, reason in about["refused_files"].items()]
        lines.append(f"{about['refused']} files could not be used: {listed(refused, REFUSED_NAMED)}")
    store = Store(out)
    ends = {file: record["activation_end"] for file, record in store.records().items()}
    answers = read_answers(store.folder)
    more, compared = beaten({file: answer.images for file, answer in answers.items()}, ends)
    if compared:
        lines.append(f"{more} of {compared} tiles excite their feature more than any of these images")
    paths = [answer.path for answer in answers.values() if answer.path is not None]
    if paths:
        lines.append(
            f"path similarity {median(paths):.2f}, the median of {plural(len(paths), 'tile')} "
            "(1: processed like its own examples, 0: like any of these images)"
        )
    return lines
