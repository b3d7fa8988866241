"""`featlight examples`: the images of a folder that excite each tile of a run most."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from featlight.config.image_shape import FitWord, parse_fit
from featlight.config.schema import Accelerator, Config
from featlight.console import link, say
from featlight.distributed.env import LAUNCHER, Launch, launch_from_env, worker_from_env
from featlight.distributed.launcher import Supervisor, check_gpus, featlight_command, listen, stamp, workers_of
from featlight.distributed.signals import Stop
from featlight.errors import Interrupted, UsageError
from featlight.plan.sources import TypedSources, sources_of
from featlight.store.heartbeat import PATIENCE
from featlight.store.paths import EXAMPLES
from featlight.store.store import Store

EPILOG = """
Run the same command again to continue after an interruption, or to include new images. Under srun and torchrun, each
process is a worker. The images themselves are not changed; crops of them are saved in the run directory.
Exit codes: 0 done; 2 usage, or no run; 3 weights; 74 disk full or no permission to write; 75 stopped early (run the
same command again to continue).
"""


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
    arguments: Sequence[str],
    num_nodes: int = 1,
    accelerator: Accelerator = "auto",
    *,
    paths: bool = False,
) -> int:
    """Find the examples of a run, or start the workers that do.

    Args:
        out: run directory.
        images: folder of the images.
        top: number of examples per tile.
        fit: input size of the images.
        batch_size: images per batch; None to choose automatically.
        devices: number of workers; None to choose automatically.
        typed: sources of the run's network that the user typed.
        arguments: arguments of this command, for the workers.
        num_nodes: number of machines that run this command.
        accelerator: kind of device for the workers.
        paths: whether to measure the path similarity of each tile.
    """
    if images is None:
        raise UsageError("--images: none given; a folder of PNG, JPEG or WebP files is needed")
    store = Store(out)
    sources_of(out, store.need_plan(), typed)  # check before anything is started or imported
    if not images.is_dir():
        raise UsageError(f"--images: {images} given, but it is not a folder; name an existing one")
    automatic: Callable[[], int] = partial(workers_of, accelerator)
    launch = launch_from_env(devices or "auto", num_nodes, os.environ, automatic)
    with Stop().listening() as stop:
        if launch.local > 1:
            return _supervise(store, launch, featlight_command("examples", *arguments), stop, accelerator)
        alone = listen(stop) if launch.worker.launcher == LAUNCHER else None
        from featlight.engine.device import device_of
        from featlight.examples.find import find, last_lines
        from featlight.examples.manifest import ExamplesRequest

        patience = PATIENCE if launch.worker.world_size > 1 else 0.0
        request = ExamplesRequest(images, top, fit, batch_size or "auto", paths)
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
            say(f"worker {launch.worker.rank + 1}: done; other workers have {report.left} images left")
            return 0
        raise Interrupted(f"{report.left} images are left; run the same command again")
    if launch.worker.rank == 0:
        for line in last_lines(report, out):
            say(line)
        say("examples     ", link(store.root / EXAMPLES))
    return 0


def check_folder(config: Config) -> None:
    """Raise UsageError before the run if the folder of its examples does not exist."""
    if config.examples is not None and not Path(config.examples.images).is_dir():
        raise UsageError(
            f"examples.images: {config.examples.images} given, but it is not a folder; name an existing one"
        )


def find_for_run(config: Config) -> int:
    """Find the examples that a run's config requests."""
    examples = config.examples
    assert examples is not None
    assert config.out is not None
    size = "x".join(map(str, examples.fit)) if isinstance(examples.fit, tuple) else str(examples.fit)
    arguments = ["--out", config.out, "--images", examples.images, "--top", str(examples.top), "--fit", size]
    batch_size, devices = (None if count == "auto" else count for count in (examples.batch_size, config.devices))
    arguments += [] if batch_size is None else ["--batch-size", str(batch_size)]
    # sources in the user's own config count as typed; those in a run's config.yaml do not
    typed = TypedSources(config.model, config.weights, config.directions)
    arguments += ["--model", config.model, "--weights", config.weights, "--accelerator", config.accelerator]
    arguments += [] if config.directions is None else ["--directions", config.directions]
    arguments += ["--paths"] if examples.paths else []
    return find_examples(
        Path(config.out),
        Path(examples.images),
        examples.top,
        examples.fit,
        batch_size,
        devices,
        typed,
        arguments,
        config.num_nodes,
        config.accelerator,
        paths=examples.paths,
    )


def draw_atlases(out: Path) -> None:
    """Draw the atlases with examples, in the first worker of a cluster or the process that started the workers."""
    from featlight.report.atlas_with_examples import draw_with_examples
    from featlight.store.snapshot import Snapshot

    store, worker = Store(out), worker_from_env(os.environ)
    if worker.rank == 0 and worker.launcher != LAUNCHER and store.folder.has(store.root / EXAMPLES):
        for name in draw_with_examples(Snapshot.from_store(store, store.need_plan())):
            say("atlas        ", link(store.root / name))


def _supervise(store: Store, launch: Launch, command: Sequence[str], stop: Stop, accelerator: Accelerator) -> int:
    check_gpus(accelerator, launch.local)
    before = stamp(store.example_list)
    supervisor = Supervisor(command, launch.workers, stop)
    # the first worker always rewrites the list that the others read
    first = launch.workers[0].rank == 0
    supervisor.run(hold=lambda: first and stamp(store.example_list) in (None, before))
    codes = set(supervisor.codes.values()) - {0}
    if not codes:
        return 0
    refused = sorted(codes & {1, 2, 3, 74})
    if refused:
        return refused[0]
    if stop.asked_by is None:
        raise Interrupted("a worker ended early; run the same command again to continue")
    return Interrupted.exit_code
