"""Independent workers: a Lightning strategy without a process group."""

from typing import Any

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch.strategies import SingleDeviceStrategy, StrategyRegistry

from featlight.distributed.env import ALONE, Worker
from featlight.errors import UsageError


class WorkerEnvironment(ClusterEnvironment):
    """The rank and world size of a worker, in Lightning's form; it starts no process and needs no address.

    It replaces Lightning's own environments: SLURM's requeueing would load a checkpoint and then silently skip work.
    """

    def __init__(self, worker: Worker = ALONE) -> None:
        super().__init__()
        self._worker = worker

    creates_processes_externally = True
    main_address = "127.0.0.1"
    main_port = 0

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._worker.world_size

    def set_world_size(self, size: int) -> None:
        pass

    def global_rank(self) -> int:
        return self._worker.rank

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        return self._worker.local_rank

    def node_rank(self) -> int:
        return 0


class IndependentWorkers(SingleDeviceStrategy):
    """One device per process, and no synchronization of gradients, parameters or images.

    Ranks come from the cluster environment. Collective operations are those of a single device: they return their
    input.
    """

    strategy_name = "independent"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cluster_environment: ClusterEnvironment | None = None
        self.parallel_devices: list[torch.device] | None = None

    def set_world_ranks(self) -> None:
        """Take the ranks from the environment; the trainer calls it after it has set the two attributes above."""
        assert self.cluster_environment is not None
        assert self.parallel_devices is not None
        if len(self.parallel_devices) != 1:
            given = len(self.parallel_devices)
            raise UsageError(f"devices: {given} given; the strategy `independent` takes one device for each process")
        (self._root_device,) = self.parallel_devices
        self.world_size = self.cluster_environment.world_size()
        self.global_rank = self.cluster_environment.global_rank()
        self.local_rank = self.cluster_environment.local_rank()

    @property
    def is_global_zero(self) -> bool:
        return self.global_rank == 0


StrategyRegistry.register(
    IndependentWorkers.strategy_name, IndependentWorkers, description="one device a process, no synchronization"
)
