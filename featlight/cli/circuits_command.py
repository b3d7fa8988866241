"""`featlight circuits`: the earlier features that excite and inhibit each tile of a run."""

import os
from collections.abc import Sequence
from pathlib import Path

from featlight.config.schema import Accelerator, Config
from featlight.console import link, say
from featlight.distributed.env import worker_from_env
from featlight.distributed.signals import Stop
from featlight.errors import listed, plural
from featlight.plan.sources import TypedSources, sources_of
from featlight.store.paths import CIRCUITS
from featlight.store.store import Store

DEFAULT_TOP = 8
EPILOG = """
Each tile is attributed to the features of every earlier layer of the run, on its own final image. Run the same command
again to continue after an interruption, or after the run has grown. Under srun and torchrun, each process is a worker.
Exit codes: 0 done; 2 usage, or no run; 3 weights; 74 disk full or no permission to write; 75 stopped early (run the
same command again to continue).
"""


def find_circuits(
    out: Path, top: int, layers: Sequence[str], typed: TypedSources, accelerator: Accelerator = "auto"
) -> int:
    """Find the circuits of a run, or a worker's share of them; return the exit code.

    Args:
        out: run directory.
        top: features kept for each tile and earlier layer.
        layers: layers whose tiles are attributed; none for all.
        typed: sources of the run's network that the user typed.
        accelerator: kind of device.
    """
    store = Store(out)
    sources_of(out, store.need_plan(), typed)  # check before anything is imported
    worker = worker_from_env(os.environ)
    with Stop().listening() as stop:
        from featlight.circuits.find import find
        from featlight.engine.device import device_of

        device = device_of(accelerator, worker)
        report = find(out, top, layers, typed=typed, worker=worker, stop=stop, echo=say, device=device)
    for layer, others in report.beside.items():
        if others and worker.rank == 0:
            say(f"{layer}: not fed by {listed(sorted(others))}, though listed earlier")
    if report.left:
        say(f"worker {worker.rank + 1}: done; other workers have {plural(report.left, 'tile')} left")
        return 0
    rate = f", {report.found / report.seconds:.1f} tiles/s" if report.found else ""
    say(f"{plural(report.found + report.kept, 'tile')}: {report.found} attributed, {report.kept} kept{rate}")
    say("circuits     ", link(store.root / CIRCUITS))
    return 0


def find_for_run(config: Config) -> int:
    """Find the circuits that a run's config requests."""
    assert config.out is not None
    # sources in the user's own config count as typed; those in a run's config.yaml do not
    typed = TypedSources(config.model, config.weights, config.directions)
    return find_circuits(Path(config.out), DEFAULT_TOP, (), typed, config.accelerator)
