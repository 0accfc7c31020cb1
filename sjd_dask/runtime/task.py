"""What runs inside a worker: settings of the process, the common data of a run, and one partition.

Imported by workers; kept light.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import distributed

from sjd_dask.errors import SjdError
from sjd_dask.runtime.parts import PartStore
from sjd_dask.runtime.plan import Partition
from sjd_dask.runtime.process import keep_freed_memory, limit_threads, peak_memory, reset_peak


@dataclasses.dataclass(frozen=True)
class Work:
    """What is the same for all partitions of a run. Sent to each worker once."""

    function: Callable[[Any, Partition], Any]
    common: Any
    parts: PartStore
    topic: str


@dataclasses.dataclass(frozen=True)
class Done:
    """What a task sends back: numbers only; the data is in the part file."""

    index: int
    seconds: float
    rows: int
    bytes: int
    peak_rss: int
    worker: str


@dataclasses.dataclass(frozen=True)
class Refused:
    """An error that the package raised on purpose: computing again would meet it again."""

    index: int
    error: SjdError


_WORK: dict[str, Work] = {}


class WorkPlugin(distributed.WorkerPlugin):  # type: ignore[misc]
    """Bring a run's common data to every worker, also to those that join later."""

    idempotent = False

    def __init__(self, token: str, work: Work) -> None:
        self.name = f"sjd-work-{token}"
        self.token = token
        self.work = work

    def setup(self, worker: distributed.Worker) -> None:
        """Keep the data where the tasks find it."""
        _WORK[self.token] = self.work

    def teardown(self, worker: distributed.Worker) -> None:
        """Forget it when the run ends."""
        _WORK.pop(self.token, None)


class SettingsPlugin(distributed.WorkerPlugin):  # type: ignore[misc]
    """One thread of each numerical library per task, and memory rules that suit tasks which keep nothing.

    Tasks leave their result in a file, so there is nothing to spill, and a worker that pauses because its allocator
    kept memory may never wake. Termination at the limit stays: it becomes a clear error.
    """

    name = "sjd-settings"
    idempotent = True

    def __init__(self, ignore_interrupt: bool) -> None:
        self.ignore_interrupt = ignore_interrupt

    def setup(self, worker: distributed.Worker) -> None:
        """Apply the settings to this process."""
        limit_threads()
        keep_freed_memory()
        manager = worker.memory_manager
        for name in ("memory_target_fraction", "memory_spill_fraction", "memory_pause_fraction"):
            if hasattr(manager, name):
                setattr(manager, name, False)
        if self.ignore_interrupt and threading.current_thread() is threading.main_thread():
            # Ctrl-C in a terminal reaches every process of the group; the driver decides what ends.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self.ignore_interrupt:
            logging.getLogger("distributed.worker").addFilter(_worth_telling)


def _worth_telling(record: logging.LogRecord) -> bool:
    """A worker of this machine that finds its scheduler gone is one that the driver is just ending, or one whose driver
    died: a stack trace in the driver's terminal tells nobody anything."""
    return "during heartbeat" not in str(record.msg)


def run_partition(token: str, partition: Partition) -> Done | Refused:
    """Compute one partition and write its part. Runs in a worker."""
    worker = distributed.get_worker()
    work = _WORK[token]
    address = str(worker.address)
    worker.log_event(work.topic, {"what": "started", "index": partition.index, "worker": address})
    reset_peak()
    begin = time.perf_counter()
    try:
        payload = work.function(work.common, partition)
        written = work.parts.write(partition, payload)
    except SjdError as error:
        return Refused(partition.index, error)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        worker.log_event(work.topic, {"what": "failed", "index": partition.index, "worker": address, "reason": reason})
        raise
    seconds = time.perf_counter() - begin
    rows = int(getattr(payload, "num_rows", 0))
    done = Done(partition.index, seconds, rows, written, peak_memory(), address)
    numbers = dataclasses.asdict(done)
    worker.log_event(work.topic, {"what": "done", "index": partition.index, "worker": address, "numbers": numbers})
    return done


def probe(dask_worker: distributed.Worker) -> dict[str, Any]:
    """What this worker's process is: versions, threads and memory."""
    import threadpoolctl

    import sjd_dask
    from sjd_dask.runtime.limits import memory_limit

    limits = [memory_limit()]
    if dask_worker.memory_manager.memory_limit:
        limits.append(int(dask_worker.memory_manager.memory_limit))
    return {
        "sjd_dask": sjd_dask.__version__,
        "python": sys.version.split()[0],
        "nthreads": int(dask_worker.state.nthreads),
        "memory": min(limits),
        "rayon": os.environ.get("RAYON_NUM_THREADS"),
        "numba": os.environ.get("NUMBA_NUM_THREADS"),
        "blas": max(
            (int(pool["num_threads"]) for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"),
            default=1,
        ),
        "pid": os.getpid(),
    }
