"""Tasks of a small run, one after another in the driver's process.

Starting worker processes takes seconds, most of it imports; a run that reads a few megabytes is done before they are
there. The tasks, their parts and what resumes them are the same as on a cluster.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from sjd_dask.errors import Interrupted, SjdError
from sjd_dask.runtime.events import Listener, PartitionDone, PartitionRetried, RunFailed, RunFinished, RunStarted
from sjd_dask.runtime.limits import memory_limit
from sjd_dask.runtime.outcome import ExecutionReport, renamed
from sjd_dask.runtime.parts import PartStore
from sjd_dask.runtime.plan import Partition
from sjd_dask.runtime.process import peak_memory, reset_peak

# The rest is for the driver's own work.
MEMORY_SHARE = 0.9
NAME = "this process"


class Here:
    """What stands in for a `Cluster` where a run is small. Closing it does nothing.

    Attributes
    ----------
    n_workers, threads_per_worker
        1.
    memory_per_worker
        Bytes a task may use.
    description
        One line for people.
    """

    n_workers = 1
    threads_per_worker = 1
    is_local = True
    description = NAME

    def __init__(self) -> None:
        self.memory_per_worker = int(memory_limit() * MEMORY_SHARE)
        self.warnings: list[str] = []

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing was started."""

    def run(
        self,
        function: Callable[[Any, Partition], Any],
        common: Any,
        partitions: Sequence[Partition],
        parts: PartStore,
        retries: int,
        on_event: Listener | None,
        should_stop: Callable[[], str | bool | None] | None,
    ) -> ExecutionReport:
        """Compute what is missing. See `runtime.execute.run_partitions` for what the arguments mean."""
        tell = on_event or _nobody
        begin = time.monotonic()
        done = parts.done(partitions, on_event)
        waiting = [partition for partition in partitions if partition.index not in done]
        tell(RunStarted(len(partitions), len(done), 1, 1))
        finished: list[PartitionDone] = []
        retried: set[int] = set()
        try:
            with _one_thread():
                for partition in waiting:
                    if should_stop is not None and (reason := should_stop()):
                        text = reason if isinstance(reason, str) else "asked to stop"
                        n_done = len(done) + len(finished)
                        raise Interrupted(f"{text}: stopped with {n_done} of {len(partitions)} partitions done")
                    one = self._compute(function, common, partition, parts, retries, tell, retried)
                    n_done = len(done) + len(finished) + 1
                    finished.append(PartitionDone(partition.index, *one, NAME, n_done, len(partitions)))
                    tell(finished[-1])
        except BaseException as error:
            tell(RunFailed(f"{type(error).__name__}: {error}", len(done) + len(finished), len(partitions)))
            raise
        seconds = time.monotonic() - begin
        peak = max((one.peak_rss for one in finished), default=0)
        tell(RunFinished(len(partitions), len(done), seconds, peak))
        return ExecutionReport(
            n_partitions=len(partitions),
            n_run=len(finished),
            n_reused=len(done),
            seconds=seconds,
            task_seconds=sum(one.seconds for one in finished),
            bytes=sum(one.bytes for one in finished),
            rows=sum(one.rows for one in finished),
            peak_rss=peak,
            workers_lost=0,
            retried=len(retried),
        )

    @staticmethod
    def _compute(
        function: Callable[[Any, Partition], Any],
        common: Any,
        partition: Partition,
        parts: PartStore,
        retries: int,
        tell: Listener,
        retried: set[int],
    ) -> tuple[float, int, int, int]:
        """Seconds, rows, bytes and peak memory of one partition, after its part is written."""
        for attempt in range(retries + 1):
            reset_peak()
            begin = time.perf_counter()
            try:
                payload = function(common, partition)
                written = parts.write(partition, payload)
            except SjdError as error:
                raise renamed(error, partition) from error
            except Exception as error:
                if attempt == retries:
                    raise SjdError(
                        f"{partition} failed {retries + 1} times: {type(error).__name__}: {error}. The finished parts "
                        "are kept: once the cause is gone, the same command goes on from them."
                    ) from error
                retried.add(partition.index)
                tell(PartitionRetried(partition.index, f"{type(error).__name__}: {error}", NAME))
                continue
            rows = int(getattr(payload, "num_rows", 0))
            return time.perf_counter() - begin, rows, written, peak_memory()
        raise AssertionError("not reached")


def _nobody(_: object) -> None:
    pass


def _one_thread() -> Any:
    """One thread for BLAS and OpenMP while tasks run, as in a worker: sums are the same in both places."""
    import threadpoolctl

    return threadpoolctl.threadpool_limits(limits=1)
