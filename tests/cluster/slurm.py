"""A SLURM cluster of two nodes on one machine: daemons of its own, in a folder of its own, on ports of its own."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests import ROOT

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "sinfo", "scancel")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
NODES = ("n1", "n2")

# Two partitions over both nodes; a job of `high` preempts those of `low`. A requeued job waits until its old
# credential has expired: cred_expire, 120 seconds by default. With config_overrides, nodes may claim more cores than
# the machine has.
CONFIG = """
ClusterName=featlight
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
KillWait=5
SlurmdTimeout=10
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={n1} CPUs=4 RealMemory=8000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={n2} CPUs=4 RealMemory=8000
PartitionName=low Nodes=n1,n2 Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=high Nodes=n1,n2 PriorityTier=10
"""


def missing() -> str | None:
    """Return why no cluster can be started here; None if one can."""
    lacking = [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]
    if lacking:
        return f"no {', '.join(lacking)}: apt-get install slurmctld slurmd slurm-client munge"
    return None if os.geteuid() == 0 else "SLURM's daemons need root"


class NotStartedError(Exception):
    """The daemons do not run on this machine; the message holds their logs."""


class Cluster:
    """A running cluster.

    Args:
        folder: folder of its configuration, state and logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        python = Path(sys.executable)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SLURM_")},
            **{"SLURM_CONF": str(folder / "slurm.conf"), "PATH": PATH, "PYTHON": str(python)},
            **{"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        }
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start all daemons, and wait until both nodes are idle.

        Raises:
            NotStartedError: they do not start.
        """
        with contextlib.ExitStack() as stack:  # ports that are free now
            sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            ctld, n1, n2 = (each.getsockname()[1] for each in sockets)
        text = CONFIG.format(host=socket.gethostname(), folder=self.folder, ctld=ctld, n1=n1, n2=n2)
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        names = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        files = [f"--{option}={self.folder}/munge.{name}" for option, name in names.items()]
        try:
            self._start_daemons(key, files)
        except AssertionError as error:
            raise NotStartedError(str(error)) from None

    def _start_daemons(self, key: Path, files: list[str]) -> None:
        self._start("munged", "munged", "--foreground", "--force", f"--key-file={key}", *files)
        self._wait(lambda: (self.folder / "munge.socket").exists(), "munged does not listen")
        self._start("slurmctld", "slurmctld", "-D", "-c")
        for node in NODES:
            self.start_node(node)
        self._wait(lambda: self.run("sinfo", "-h", "-N", "-o", "%t").split() == ["idle"] * 4, "the nodes are not idle")

    def start_node(self, node: str) -> None:
        """Start the daemon of a node."""
        (self.folder / node).mkdir(exist_ok=True)
        self._start(node, "slurmd", "-D", "-N", node, "-c")

    def kill_node(self, node: str) -> None:
        """Kill a node's daemon and all that runs on the node, as a loss of power does."""
        daemon = self._daemons.pop(node)
        for process in [daemon.pid, *self._processes_of(node)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, 9)
        daemon.wait()

    def end(self) -> None:
        """Cancel all jobs and stop all daemons, the last first."""
        with contextlib.suppress(subprocess.SubprocessError):
            self.run("scancel", "--full", "--user=root", check=False)
            self._wait(lambda: not self.run("squeue", "-h", check=False), "jobs do not end", seconds=15)
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
        for daemon in reversed(self._daemons.values()):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def run(self, *words: str, check: bool = True, **variables: str) -> str:
        """Run a command of SLURM's, and return what it prints."""
        environment = {**self.environment, **variables}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
        assert not check or done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout.strip()

    def submit(self, *words: str, **variables: str) -> str:
        """Submit a job, and return its number."""
        return self.run("sbatch", "--parsable", *words, **variables)

    def state(self, job: str) -> dict[str, str]:
        """Return what SLURM says of a job, by its names: JobState, ExitCode, Restarts ..."""
        text = self.run("scontrol", "-o", "show", "job", job)
        return dict(word.split("=", 1) for word in text.splitlines()[0].split() if "=" in word)

    def wait(self, job: str, *states: str, seconds: float = 240) -> dict[str, str]:
        """Wait until a job is in one of the states, by default until it has ended."""
        wanted = states or ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        self._wait(lambda: self.state(job)["JobState"] in wanted, f"job {job} is not {wanted}", seconds=seconds)
        return self.state(job)

    def _start(self, name: str, *words: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(words, env=self.environment, stdout=out, stderr=out)

    def _processes_of(self, node: str) -> list[int]:
        """Return the processes that SLURM has started on a node, by the variable that it gives to each."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                variables = (path / "environ").read_bytes().split(b"\0")
                ours = f"SLURM_CONF={self.folder}/slurm.conf".encode() in variables
                if (ours and f"SLURMD_NODENAME={node}".encode() in variables) or (
                    f"[slurmstepd: {node}".encode() in (path / "cmdline").read_bytes()
                ):
                    found.append(int(path.name))
        return found

    def _wait(self, done: Callable[[], object], what: str, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while not done():
            logs = {path.name: path.read_text(errors="replace")[-1500:] for path in self.folder.glob("*.log")}
            assert time.monotonic() < until, (what, logs)
            time.sleep(0.2)
