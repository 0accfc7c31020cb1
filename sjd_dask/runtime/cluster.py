"""Where tasks run: processes on this machine, a scheduler that runs already, Slurm or Kubernetes.

Settings that every cluster gets, and why:

- one task at a time per thread, and one thread of each numerical library per task. Locally the variables are set
  before the
  process starts, because BLAS reads them when it loads;
- processes are spawned, never forked: the fast codec library hangs after a fork;
- nothing is spilled and no worker pauses: tasks keep nothing in memory, and a paused worker might never wake.
  Termination
  at 95 % of the limit stays.
"""

# mypy: disable-error-code="no-untyped-call,attr-defined"

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sjd_dask.errors import Interrupted, PlanRefused, SjdError, SpecError
from sjd_dask.runtime.limits import available_cpus, memory_limit
from sjd_dask.runtime.plan import PROCESS_BYTES, size
from sjd_dask.runtime.spec import (
    AddressSpec,
    ClusterSpec,
    KubernetesSpec,
    LocalSpec,
    SlurmSpec,
    TlsSpec,
    memory_bytes,
    read_cluster_spec,
)

if TYPE_CHECKING:
    import distributed

CONNECT_SECONDS = 8.0
CLOSE_SECONDS = 10.0
# The rest is for the driver, which also holds the scheduler.
LOCAL_MEMORY_SHARE = 0.9

WORKER_CONFIG: dict[str, Any] = {
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.worker.profile.enabled": False,
}
# Read when the library loads, so before the process starts. They also land in the driver's environment, where it is
# too late to matter.
_BEFORE_START = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# Read at first use; kept out of the driver's environment, where they would slow its own kernels.
_IN_WORKER = (*_BEFORE_START, "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS")


class Cluster:
    """An open cluster. Use it in a `with` block, or call `close`.

    Attributes
    ----------
    client
        The distributed client.
    n_workers
        Tasks that can run at the same time.
    threads_per_worker
        Tasks that run at the same time in one process; 1 for the clusters this package starts.
    memory_per_worker
        Bytes one task may use, by the workers' own view.
    description
        One line for people.
    """

    def __init__(
        self,
        client: distributed.Client,
        description: str,
        owned: Any = None,
        ignore_interrupt: bool = False,
        environment: dict[str, str] | None = None,
    ) -> None:
        from sjd_dask.runtime.budget import inspect_workers

        self.client = client
        self.description = description
        self._owned = owned
        self._environment = environment
        found = inspect_workers(client, description, ignore_interrupt)
        self.n_workers = found.n_slots
        self.threads_per_worker = found.threads_per_worker
        self.memory_per_worker = found.memory_per_task
        self.warnings = found.warnings

    @property
    def is_local(self) -> bool:
        """Whether the workers are processes of this machine: they share its page cache with the driver."""
        from sjd_dask.runtime.local import LocalProcesses

        return isinstance(self._owned, LocalProcesses)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Cluster({self.description}, n_workers={self.n_workers}, memory_per_worker={self.memory_per_worker})"

    def close(self) -> None:
        """Let go of the cluster, and end what was started for it. Never hangs and never raises: a dead scheduler
        can't answer."""
        from sjd_dask.runtime.budget import forget_settings

        if self._owned is None and self.client.status == "running":
            forget_settings(self.client)
        _close(self.client, self._owned)
        if self._environment is not None:
            for name in _BEFORE_START:
                if name not in self._environment:
                    os.environ.pop(name, None)


def open_cluster(
    spec: str | Path | None = "local", workers: int | None = None, memory: str | int | None = None
) -> Cluster:
    """Open a cluster and check that its workers can do the work.

    Parameters
    ----------
    spec
        `local`, an address `tcp://host:port` or `tls://host:port` (certificates from Dask's own configuration, or
        from a YAML file), or the path of a YAML file with a key `kind` (local, address, slurm, kubernetes).
    workers
        Number of workers, over the file's. Local default: the processors this process may use.
    memory
        Memory per worker, over the file's: bytes, or a text such as 700MB. Local default: equal shares of nine
        tenths of what this process may use.

    Returns
    -------
    Cluster
        Also a context manager.

    Raises
    ------
    SpecError
        An unknown kind, key or file; workers with another version of this package.
    MissingDependency
        Slurm or Kubernetes without its extra.
    SjdError
        Nobody answers at the address, or no worker comes.
    """
    _refuse_unguarded_script()
    chosen = read_cluster_spec(spec)
    if workers is not None:
        if workers < 1:
            raise SpecError(f"{workers} workers can't do anything; give at least 1")
        chosen.workers = workers
    if memory is not None:
        if isinstance(chosen, AddressSpec):
            raise SpecError(f"the memory of workers at {chosen.address} is set where they are started, not here")
        memory_bytes(memory)
        chosen.memory = memory
    return _open(chosen)


def _open(spec: ClusterSpec) -> Cluster:
    match spec:
        case LocalSpec():
            return _open_local(spec)
        case AddressSpec():
            return _open_address(spec)
        case SlurmSpec():
            from sjd_dask.runtime.slurm import start_slurm

            return _adopt(start_slurm(spec), f"{spec.workers} Slurm workers", spec.minimum, spec.wait)
        case KubernetesSpec():
            from sjd_dask.runtime.kubernetes import start_kubernetes

            return _adopt(start_kubernetes(spec), f"{spec.workers} Kubernetes workers", spec.minimum, spec.wait)


def _refuse_unguarded_script() -> None:
    # A spawned process imports the main script first; one that opens a cluster on import would start processes
    # without end.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SpecError(
            "the main script opens a cluster when it is imported, and worker processes import it: "
            'put the work under `if __name__ == "__main__":`'
        )


def _open_local(spec: LocalSpec) -> Cluster:
    import dask
    import distributed

    from sjd_dask.runtime.local import LocalProcesses

    n_workers = spec.workers or available_cpus()
    total = memory_limit()
    per_worker = memory_bytes(spec.memory) or int(total * LOCAL_MEMORY_SHARE) // n_workers
    if per_worker < PROCESS_BYTES:
        # Such a worker would be killed while it loads its libraries, sooner or later, and again after each restart.
        raise PlanRefused(
            f"{n_workers} local workers would have {size(per_worker)} each, and a worker takes about "
            f"{size(PROCESS_BYTES)} before its first task: give each more (`memory` in the cluster file) or use fewer"
        )
    environment = dict(os.environ)
    config = {
        **WORKER_CONFIG,
        **{f"distributed.nanny.pre-spawn-environ.{name}": "1" for name in _BEFORE_START},
    }
    owned = client = None
    with dask.config.set(config):
        try:
            owned = LocalProcesses(
                n_workers=n_workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=per_worker,
                dashboard_address=None,
                # Any free port: the fixed default would collide when two runs share a machine.
                scheduler_kwargs={"dashboard_address": ":0", "dashboard": False},
                silence_logs=logging.ERROR,
                local_directory=str(spec.scratch) if spec.scratch else None,
                env=dict.fromkeys(_IN_WORKER, "1"),
            )
            client = distributed.Client(owned, set_as_default=False)
            return Cluster(
                client,
                f"{n_workers} local processes",
                owned=owned,
                ignore_interrupt=True,
                environment=environment,
            )
        except SjdError:
            _close(client, owned)
            raise
        except (RuntimeError, OSError, TimeoutError) as error:
            _close(client, owned)
            raise SjdError(
                f"{n_workers} local worker processes could not be started: {error}. In a script, put the work under "
                '`if __name__ == "__main__":`; else look at free memory and the limit of processes (ulimit -u).'
            ) from error
        except BaseException:
            _close(client, owned)
            raise


def security_of(tls: TlsSpec | None) -> distributed.Security | None:
    if tls is None:
        return None
    import distributed

    names = {
        f"tls_{role}_{part}": str(getattr(tls, part))
        for role in ("client", "worker", "scheduler")
        for part in ("cert", "key")
    }
    return distributed.Security(tls_ca_file=str(tls.ca_file), require_encryption=True, **names)


def _open_address(spec: AddressSpec) -> Cluster:
    import distributed

    security = security_of(spec.tls)
    _greet(spec.address, security)
    try:
        client = distributed.Client(spec.address, timeout=30, security=security, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise _nobody(spec.address, error) from error
    return _finish(client, None, f"workers at {spec.address}", spec.workers, spec.wait)


def _nobody(address: str, error: BaseException) -> SjdError:
    tls = (
        " A tls:// cluster needs certificates: `tls` with ca_file, cert and key in a cluster file, or Dask's "
        "configuration (`sjd certs` makes all of these)."
        if address.startswith("tls://")
        else ""
    )
    return SjdError(
        f"no Dask scheduler answers at {address} within {CONNECT_SECONDS:.0f} s "
        f"({str(error) or type(error).__name__}). "
        f"Start one (`dask scheduler`, then `dask worker {address}`) or correct the address.{tls}"
    )


def _greet(address: str, security: distributed.Security | None) -> None:
    """Exchange one message with the scheduler. A Client that fails to connect blocks for seconds when it is
    collected."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    import distributed
    from distributed.comm import connect

    arguments = (security or distributed.Security()).get_connection_args("client")

    async def greet() -> None:
        async with asyncio.timeout(CONNECT_SECONDS):
            comm = await connect(address, timeout=CONNECT_SECONDS, **arguments)
            try:
                await comm.write({"op": "identity", "n_workers": 0, "reply": True})
                answer = await comm.read()
            finally:
                comm.abort()
        if not isinstance(answer, dict) or answer.get("type") != "Scheduler":
            raise ConnectionError("something else than a Dask scheduler answers there")

    # A thread of its own: a notebook's thread runs an event loop already.
    with ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(asyncio.run, greet()).result()
        except SjdError:
            raise
        except Exception as error:
            # What a foreign server sends can fail in any way while it is decoded.
            raise _nobody(address, error) from error


def _adopt(owned: Any, description: str, minimum: int, wait: float) -> Cluster:
    import distributed

    try:
        client = distributed.Client(owned, timeout=60, set_as_default=False)
    except BaseException:
        _close(None, owned)
        raise
    return _finish(client, owned, description, minimum, wait)


def _finish(client: distributed.Client, owned: Any, description: str, minimum: int, wait: float) -> Cluster:
    try:
        try:
            client.wait_for_workers(minimum, timeout=wait)
        except TimeoutError as error:
            there = len(client.nthreads())
            raise Interrupted(
                f"{description}: {there} of at least {minimum} workers came within {wait:g} s. "
                f"Look at the queue and the workers' logs, or ask for fewer."
            ) from error
        return Cluster(client, description, owned=owned)
    except BaseException:
        _close(client, owned)
        raise


def _close(client: distributed.Client | None, owned: Any) -> None:
    # The scheduler may be gone, and then closing complains in many ways; none of them helps anybody.
    for thing in (client, owned):
        if thing is not None:
            with _quiet(), contextlib.suppress(Exception):
                thing.close(timeout=CLOSE_SECONDS)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # distributed gives its loggers levels of their own, so each has to be told.
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "distributed"]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
