"""`featlight examples`: the images of a folder that excite each tile of a run most."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from featlight.config.inputs.fit import FitWord, parse_fit
from featlight.config.schema import Accelerator, Config
from featlight.console import link, say
from featlight.distributed.env import LAUNCHER, Launch, launch_from_env, worker_from_env
from featlight.distributed.launcher import Supervisor, check_gpus, featlight_command, listen, stamp, workers_of
from featlight.distributed.signals import Stop
from featlight.errors import Interrupted, UsageError
from featlight.plan.sources import TypedSources, sources_of
from featlight.store.paths import EXAMPLES
from featlight.store.store import Store

EPILOG = """
The same command again goes on where it was stopped, and with images that have come to the folder since. Under srun
and torchrun, each process is a worker. Nothing leaves the run directory: the images stay where they are.
Exit codes: 0 done; 2 usage, or no run; 3 weights; 74 no room or no right to write; 75 stopped early, the same command
goes on.
"""

PATIENCE = 60.0  # seconds without a sign of another worker, after which none is taken to be there


def fit_of(word: str) -> FitWord:
    try:
        return parse_fit(word)
    except ValueError as error:
        raise UsageError(f"--{error}") from None


def find_examples(
    out: Path,
    images: Path | None,
    top: int,
    fit: FitWord,
    batch_size: int | None,
    devices: int | None,
    typed: TypedSources,
    words: Sequence[str],
    num_nodes: int = 1,
    accelerator: Accelerator = "auto",
) -> int:
    """Find the examples of a run, or start the workers that do.

    Args:
        out: the run directory.
        images: the folder of the images.
        top: examples of each tile.
        fit: of the images.
        batch_size: None for what suits.
        devices: workers; None for what suits.
        typed: sources of the run's network that the user has typed.
        words: of this command, for the workers.
        num_nodes: machines that do so, each by the same command.
        accelerator: device kind of the workers.
    """
    if images is None:
        raise UsageError("--images: none given; a folder of PNG, JPEG or WebP files is needed")
    store = Store(out)
    sources_of(out, store.need_plan(), typed)  # refused before anything is started or imported
    if not images.is_dir():
        raise UsageError(f"--images: {images} given, and there is no such folder")
    automatic: Callable[[], int] = partial(workers_of, accelerator)
    launch = launch_from_env(devices or "auto", num_nodes, os.environ, automatic)
    with Stop().listening() as stop:
        if launch.local > 1:
            return _supervise(store, launch, featlight_command("examples", *words), stop, accelerator)
        alone = listen(stop) if launch.worker.launcher == LAUNCHER else None
        from featlight.engine.device import device_of
        from featlight.examples.find import find, last_lines
        from featlight.examples.manifest import ExamplesRequest

        patience = PATIENCE if launch.worker.world_size > 1 else 0.0
        request = ExamplesRequest(images, top, fit, batch_size or "auto")
        report = find(
            out,
            request,
            typed=typed,
            worker=launch.worker,
            stop=stop,
            echo=say,
            device=device_of(accelerator, launch.worker),
            others_gone=alone,
            patience=patience,
        )
    if report.about is None:
        if launch.worker.launcher:
            say(f"worker {launch.worker.rank + 1}: its share is done; {report.left} images are left to others")
            return 0
        raise Interrupted(f"{report.left} images are left; the same command looks at them")
    if launch.worker.rank == 0:
        for line in last_lines(report, out):
            say(line)
        say("examples     ", link(store.root / EXAMPLES))
    return 0


def check_folder(config: Config) -> None:
    """Raise UsageError where the folder of a run's examples is not there: before the run, and not after it."""
    if config.examples is not None and not Path(config.examples.images).is_dir():
        raise UsageError(f"examples.images: {config.examples.images} given, and there is no such folder")


def find_for_run(config: Config) -> int:
    """Find the examples that a run's config asks for."""
    asked = config.examples
    assert asked is not None
    assert config.out is not None
    size = "x".join(map(str, asked.fit)) if isinstance(asked.fit, tuple) else str(asked.fit)
    words = ["--out", config.out, "--images", asked.images, "--top", str(asked.top), "--fit", size]
    batch_size, devices = (None if count == "auto" else count for count in (asked.batch_size, config.devices))
    words += [] if batch_size is None else ["--batch-size", str(batch_size)]
    # the config that the user has named is the user's word, and the run's own config.yaml is not
    typed = TypedSources(config.model, config.weights, config.directions)
    words += ["--model", config.model, "--weights", config.weights, "--accelerator", config.accelerator]
    words += [] if config.directions is None else ["--directions", config.directions]
    return find_examples(
        Path(config.out),
        Path(asked.images),
        asked.top,
        asked.fit,
        batch_size,
        devices,
        typed,
        words,
        config.num_nodes,
        config.accelerator,
    )


def draw_atlases(out: Path) -> None:
    """Draw the atlases with examples; of workers, the first of a cluster does, or the process that started them."""
    from featlight.report.atlas_with_examples import draw_with_examples
    from featlight.store.snapshot import Snapshot

    store, worker = Store(out), worker_from_env(os.environ)
    if worker.rank == 0 and worker.launcher != LAUNCHER and store.folder.has(store.root / EXAMPLES):
        for name in draw_with_examples(Snapshot.of(store, store.need_plan())):
            say("atlas        ", link(store.root / name))


def _supervise(store: Store, launch: Launch, command: Sequence[str], stop: Stop, accelerator: Accelerator) -> int:
    check_gpus(accelerator, launch.local)
    before = stamp(store.example_list)
    supervisor = Supervisor(command, launch.workers, stop)
    # the first worker writes the list that all of them follow, and writes it every time
    first = launch.workers[0].rank == 0
    supervisor.run(hold=lambda: first and stamp(store.example_list) in (None, before))
    codes = set(supervisor.codes.values()) - {0}
    if not codes:
        return 0
    refused = sorted(codes & {1, 2, 3, 74})
    if refused:
        return refused[0]
    if stop.asked_by is None:
        raise Interrupted("a worker ended early; the same command goes on from here")
    return Interrupted.exit_code
