"""Rank, world size and launcher of a worker, read from the environment. No torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from featlight.errors import UsageError


@dataclass(frozen=True)
class Worker:
    """One worker among all.

    Args:
        rank: among all workers, from 0; the worker takes every chunk whose number leaves this rest.
        world: number of all workers.
        local_rank: among those of this machine; it chooses the GPU.
        launcher: what started it; "" where the user did.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    launcher: str = ""

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that make a process this worker."""
        return dict(zip(_OWN.names, map(str, (self.rank, self.world_size, self.local_rank)), strict=True))


ALONE = Worker()


class _Launcher(NamedTuple):
    """The variables in which a launcher of processes tells each its rank, the number of all, and the local rank."""

    name: str
    rank: str
    world_size: str
    local_rank: str

    @property
    def names(self) -> tuple[str, str, str]:
        return self.rank, self.world_size, self.local_rank


LAUNCHER = "featlight"
_OWN = _Launcher(LAUNCHER, "FEATLIGHT_RANK", "FEATLIGHT_WORLD_SIZE", "FEATLIGHT_LOCAL_RANK")
# Those of Lightning's cluster environments, and the first that fits: torchrun may itself run under srun, and srun sets
# PMI's variables too. Read here and not through Lightning, whose import takes seconds and whose MPI needs mpi4py.
_LAUNCHERS = (
    _OWN,
    _Launcher("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK"),  # and Kubeflow, and whoever sets them by hand
    _Launcher("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
    _Launcher("srun", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    _Launcher("jsrun", "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_LOCAL_RANK"),
    _Launcher("mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    _Launcher("mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
)
_STEP = ("SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS")  # of srun alone: a batch script has the others too
# The number of this machine among `--num-nodes`, where each machine starts its own workers
_MACHINES = ("NODE_RANK", "JOB_COMPLETION_INDEX")  # by hand; a Kubernetes indexed job


def worker_from_env(variables: Mapping[str, str]) -> Worker:
    """Which worker this process is.

    Raises:
        UsageError: a variable holds no number, or a rank that is none.
    """
    for launcher in _LAUNCHERS:
        if launcher.rank not in variables or launcher.world_size not in variables:
            continue
        if launcher.name == "srun" and not _has_steps(variables):
            continue
        rank, world_size, local_rank = (_number(variables, name) for name in launcher.names)
        if not 0 <= rank < world_size:
            raise UsageError(
                f"{launcher.rank}: {rank} given, of {world_size} workers ({launcher.world_size}); 0 is the first"
            )
        return Worker(rank, world_size, local_rank, launcher.name)
    return ALONE


def _has_steps(variables: Mapping[str, str]) -> bool:
    """Whether srun has started this process, and not a shell or a batch script within an allocation."""
    if variables.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return False
    return any(name in variables for name in _STEP) or variables.get("SLURM_PROCID") != "0"  # a batch script's


def is_surely_started(worker: Worker, variables: Mapping[str, str]) -> bool:
    """Whether the launcher has left more than the rank, which anybody may have set, or a shell have kept."""
    marks = {"torchrun": ("TORCHELASTIC_RUN_ID",), "srun": _STEP, "": ()}.get(worker.launcher)
    return marks is None or any(name in variables for name in marks)


def told_by(worker: Worker, variables: Mapping[str, str]) -> tuple[str, str]:
    """What says that there are other workers, and how to work alone.

    Returns:
        As in ("RANK=0 and WORLD_SIZE=2 (torchrun's)", "put env -u RANK -u WORLD_SIZE before the same command").
    """
    for launcher in _LAUNCHERS:
        if worker.launcher and launcher.name == worker.launcher and launcher.world_size in variables:
            names = [name for name in launcher.names if name in variables]
            given = " and ".join(f"{name}={variables[name]}" for name in launcher.names[:2])
            return f"{given} ({launcher.name}'s)", f"put env -u {' -u '.join(names)} before the same command"
    return "num_nodes and the number of this machine", "leave num_nodes out"


class Launch(NamedTuple):
    """What this process shall do.

    Args:
        worker: which one it is among the processes that were started.
        local: workers that it is to start here; 1 where it is a worker itself.
    """

    worker: Worker
    local: int

    @property
    def workers(self) -> list[Worker]:
        """Of the workers that it starts."""
        first, world_size = self.worker.rank * self.local, self.worker.world_size * self.local
        return [Worker(first + i, world_size, i, LAUNCHER) for i in range(self.local)]


def launch_from_env(
    devices: Literal["auto"] | int,
    num_nodes: int,
    variables: Mapping[str, str],
    automatic: Callable[[], int] = lambda: 1,
) -> Launch:
    """How a config's devices and machines meet the processes that something has started.

    Args:
        devices: workers on each machine.
        num_nodes: machines.
        variables: of the environment.
        automatic: gives what `auto` means for a process that nothing has started.

    Raises:
        UsageError: they do not meet.
    """
    worker = worker_from_env(variables)
    if worker.launcher == LAUNCHER:
        return Launch(worker, 1)
    if worker.world_size == 1 and num_nodes > 1:
        worker = Worker(_machine(num_nodes, variables), num_nodes)
        return Launch(worker, automatic() if devices == "auto" else devices)
    if worker.world_size == 1:
        local = automatic() if devices == "auto" else devices
        return Launch(worker if local == 1 else ALONE, local)
    if devices == "auto":
        if worker.world_size % num_nodes:
            raise UsageError(f"num_nodes: {num_nodes} given, but {worker.launcher} started {worker.world_size} workers")
        return Launch(worker, 1)
    if worker.world_size == devices * num_nodes or (num_nodes == 1 and worker.world_size % devices == 0):
        return Launch(worker, 1)
    if worker.world_size == num_nodes:  # one process on each machine, to start the others there
        return Launch(worker, devices)
    raise UsageError(
        f"devices: {devices} given, num_nodes: {num_nodes}, but {worker.launcher} started {worker.world_size} workers; "
        "leave both out, or let their product be that number"
    )


def _machine(num_nodes: int, variables: Mapping[str, str]) -> int:
    for name in _MACHINES:
        if name in variables:
            number = _number(variables, name)
            if not 0 <= number < num_nodes:
                raise UsageError(f"{name}: {number} given, of {num_nodes} machines (num_nodes); 0 is the first")
            return number
    raise UsageError(
        f"num_nodes: {num_nodes} given, but nothing says which machine this is; run the same command under srun or "
        f"torchrun, or set {_MACHINES[0]} to its number, from 0"
    )


def _number(variables: Mapping[str, str], name: str) -> int:
    given = variables.get(name, "0")
    if not given.isdecimal():
        raise UsageError(f"{name}: {given!r} given; a whole number is needed")
    return int(given)
