"""Where a worker stands among all workers of a run, told by the variables of whatever started it. No torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from featlight.errors import UsageError


@dataclass(frozen=True)
class Place:
    """One worker among all.

    Args:
        rank: among all workers, from 0; the worker takes every chunk whose number leaves this rest.
        world: number of all workers.
        local_rank: among those of this machine; it chooses the GPU.
        starter: what started it; "" where the user did.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    starter: str = ""

    @property
    def variables(self) -> dict[str, str]:
        """What tells a process that this is its place."""
        return dict(zip(_LAUNCHER.names, map(str, (self.rank, self.world, self.local_rank)), strict=True))


ALONE = Place()


class _Starter(NamedTuple):
    """The variables in which a starter of processes tells each its rank, the number of all, and the local rank."""

    name: str
    rank: str
    world: str
    local_rank: str

    @property
    def names(self) -> tuple[str, str, str]:
        return self.rank, self.world, self.local_rank


LAUNCHER = "featlight"
_LAUNCHER = _Starter(LAUNCHER, "FEATLIGHT_RANK", "FEATLIGHT_WORLD_SIZE", "FEATLIGHT_LOCAL_RANK")
# Those of Lightning's cluster environments, and the first that fits: torchrun may itself run under srun, and srun sets
# PMI's variables too. Read here and not through Lightning, whose import takes seconds and whose MPI needs mpi4py.
_STARTERS = (
    _LAUNCHER,
    _Starter("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK"),  # and Kubeflow, and whoever sets them by hand
    _Starter("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
    _Starter("srun", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    _Starter("jsrun", "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_LOCAL_RANK"),
    _Starter("mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    _Starter("mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
)
# The number of this machine among `--num-nodes`, where each machine starts its own workers
_MACHINES = ("NODE_RANK", "JOB_COMPLETION_INDEX")  # by hand; a Kubernetes indexed job


def place_of(variables: Mapping[str, str]) -> Place:
    """The place of this process, as its environment tells it.

    Raises:
        UsageError: a variable holds no number, or a rank that is none.
    """
    for starter in _STARTERS:
        if starter.rank not in variables or starter.world not in variables:
            continue
        if starter.name == "srun" and variables.get("SLURM_JOB_NAME") in ("bash", "interactive"):
            continue  # a shell within an allocation
        rank, world, local_rank = (_number(variables, name) for name in starter.names)
        if not 0 <= rank < world:
            raise UsageError(f"{starter.rank}: {rank} given, of {world} workers ({starter.world}); 0 is the first")
        return Place(rank, world, local_rank, starter.name)
    return ALONE


class Crew(NamedTuple):
    """What this process shall do.

    Args:
        place: its own among the processes that were started.
        local: workers that it is to start here; 1 where it is a worker itself.
    """

    place: Place
    local: int

    @property
    def places(self) -> list[Place]:
        """Of the workers that it starts."""
        first, world = self.place.rank * self.local, self.place.world * self.local
        return [Place(first + i, world, i, LAUNCHER) for i in range(self.local)]


def crew_of(
    devices: Literal["auto"] | int,
    num_nodes: int,
    variables: Mapping[str, str],
    automatic: Callable[[], int] = lambda: 1,
) -> Crew:
    """How a config's devices and machines meet the processes that something has started.

    Args:
        devices: workers on each machine.
        num_nodes: machines.
        variables: of the environment.
        automatic: gives what `auto` means for a process that nothing has started.

    Raises:
        UsageError: they do not meet.
    """
    place = place_of(variables)
    if place.starter == LAUNCHER:
        return Crew(place, 1)
    if place.world == 1 and num_nodes > 1:
        place = Place(_machine(num_nodes, variables), num_nodes)
        return Crew(place, automatic() if devices == "auto" else devices)
    if place.world == 1:
        local = automatic() if devices == "auto" else devices
        return Crew(place if local == 1 else ALONE, local)
    if devices == "auto":
        if place.world % num_nodes:
            raise UsageError(f"num_nodes: {num_nodes} given, but {place.starter} started {place.world} workers")
        return Crew(place, 1)
    if place.world == devices * num_nodes or (num_nodes == 1 and place.world % devices == 0):
        return Crew(place, 1)
    if place.world == num_nodes:  # one process on each machine, to start the others there
        return Crew(place, devices)
    raise UsageError(
        f"devices: {devices} given, num_nodes: {num_nodes}, but {place.starter} started {place.world} workers; "
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
