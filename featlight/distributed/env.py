"""A worker's rank, world size and launcher, read from the environment. No torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from featlight.errors import UsageError


@dataclass(frozen=True)
class Worker:
    """A worker.

    Args:
        rank: number of the worker, from 0; it makes the chunks whose number modulo `world_size` is the rank.
        world_size: number of all workers.
        local_rank: number of the worker on its machine; it selects the GPU.
        launcher: name of the program that started the worker; "" for the user.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    launcher: str = ""

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that give a process this worker's rank."""
        return dict(zip(_OWN.names, map(str, (self.rank, self.world_size, self.local_rank)), strict=True))


ALONE = Worker()


class _Launcher(NamedTuple):
    """The names of the variables with which a launcher gives each process its rank, world size and local rank."""

    name: str
    rank: str
    world_size: str
    local_rank: str

    @property
    def names(self) -> tuple[str, str, str]:
        return self.rank, self.world_size, self.local_rank


LAUNCHER = "featlight"
_OWN = _Launcher(LAUNCHER, "FEATLIGHT_RANK", "FEATLIGHT_WORLD_SIZE", "FEATLIGHT_LOCAL_RANK")
# The launchers of Lightning's cluster environments; the first match counts: torchrun may run under srun, and srun also
# sets PMI's variables. Lightning itself is not used, because its import takes seconds and its MPI support needs mpi4py.
_LAUNCHERS = (
    _OWN,
    _Launcher("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK"),  # also Kubeflow, and variables set by hand
    _Launcher("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
    _Launcher("srun", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    _Launcher("jsrun", "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_LOCAL_RANK"),
    _Launcher("mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    _Launcher("mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
)
_STEP = ("SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS")  # set only by srun; a batch script has the other variables too
# The number of this machine, when each of `--num-nodes` machines starts its own workers
_MACHINES = ("NODE_RANK", "JOB_COMPLETION_INDEX")  # set by hand; set by a Kubernetes indexed job


def worker_from_env(variables: Mapping[str, str]) -> Worker:
    """Return the worker that this process is.

    Raises:
        UsageError: a variable is no number, or a rank is out of range.
    """
    for launcher in _LAUNCHERS:
        if launcher.rank not in variables or launcher.world_size not in variables:
            continue
        if launcher.name == "srun" and not _has_steps(variables):
            continue
        rank, world_size, local_rank = (_number(variables, name) for name in launcher.names)
        if not 0 <= rank < world_size:
            raise UsageError(
                f"{launcher.rank}: {rank} given for {world_size} workers ({launcher.world_size}); ranks start at 0"
            )
        return Worker(rank, world_size, local_rank, launcher.name)
    return ALONE


def _has_steps(variables: Mapping[str, str]) -> bool:
    """Return whether srun has started this process, not a shell or a batch script in an allocation."""
    if variables.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return False
    return any(name in variables for name in _STEP) or variables.get("SLURM_PROCID") != "0"  # a batch script has 0


def is_surely_started(worker: Worker, variables: Mapping[str, str]) -> bool:
    """Return whether a launcher has set more than the rank, which may be left over in the user's shell."""
    marks = {"torchrun": ("TORCHELASTIC_RUN_ID",), "srun": _STEP, "": ()}.get(worker.launcher)
    return marks is None or any(name in variables for name in marks)


def announced_by(worker: Worker, variables: Mapping[str, str]) -> tuple[str, str]:
    """Return what announced the other workers, and how to work alone.

    Returns:
        For example ("RANK=0 and WORLD_SIZE=2 (torchrun's)", "put env -u RANK -u WORLD_SIZE before the same command").
    """
    for launcher in _LAUNCHERS:
        if worker.launcher and launcher.name == worker.launcher and launcher.world_size in variables:
            names = [name for name in launcher.names if name in variables]
            given = " and ".join(f"{name}={variables[name]}" for name in launcher.names[:2])
            return f"{given} ({launcher.name}'s)", f"put env -u {' -u '.join(names)} before the same command"
    return "num_nodes and the number of this machine", "leave num_nodes out"


class Launch(NamedTuple):
    """The task of this process.

    Args:
        worker: number of this process among those that were started.
        local: number of workers to start on this machine; 1 if the process is a worker itself.
    """

    worker: Worker
    local: int

    @property
    def workers(self) -> list[Worker]:
        """The workers that this process starts."""
        first, world_size = self.worker.rank * self.local, self.worker.world_size * self.local
        return [Worker(first + i, world_size, i, LAUNCHER) for i in range(self.local)]


def launch_from_env(
    devices: Literal["auto"] | int,
    num_nodes: int,
    variables: Mapping[str, str],
    automatic: Callable[[], int] = lambda: 1,
) -> Launch:
    """Match a config's devices and machines with the processes that a launcher has started.

    Args:
        devices: workers on each machine.
        num_nodes: number of machines.
        variables: environment variables.
        automatic: returns the value of `auto` for a process without a launcher.

    Raises:
        UsageError: the numbers do not match.
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
            raise UsageError(
                f"num_nodes: {num_nodes} given, but {worker.launcher} started {worker.world_size} workers; leave it out"
            )
        return Launch(worker, 1)
    if worker.world_size == devices * num_nodes or (num_nodes == 1 and worker.world_size % devices == 0):
        return Launch(worker, 1)
    if worker.world_size == num_nodes:  # one process on each machine, which starts the others
        return Launch(worker, devices)
    raise UsageError(
        f"devices: {devices} given, num_nodes: {num_nodes}, but {worker.launcher} started {worker.world_size} workers; "
        "leave both out, or give values whose product is that number"
    )


def _machine(num_nodes: int, variables: Mapping[str, str]) -> int:
    for name in _MACHINES:
        if name in variables:
            number = _number(variables, name)
            if not 0 <= number < num_nodes:
                raise UsageError(f"{name}: {number} given for {num_nodes} machines (num_nodes); numbers start at 0")
            return number
    raise UsageError(
        f"num_nodes: {num_nodes} given, but the number of this machine is unknown; run the same command under srun or "
        f"torchrun, or set {_MACHINES[0]} to the number, from 0"
    )


def _number(variables: Mapping[str, str], name: str) -> int:
    given = variables.get(name, "0")
    if not given.isdecimal():
        raise UsageError(f"{name}: {given!r} given; give a whole number")
    return int(given)
