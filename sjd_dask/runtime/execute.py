"""Run the partitions of a plan on a cluster, a bounded number at a time, and leave one part file each.

Retries are distributed's own: of a function that raised (not an error this package raised on purpose), and of tasks
whose worker died.
Everything that waits has a limit, so a scheduler that is gone, frozen or without workers ends in an error that says
how to go on.
"""

# mypy: disable-error-code="no-untyped-call,attr-defined"

from __future__ import annotations

import contextlib
import queue
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sjd_dask.errors import Interrupted, SjdError
from sjd_dask.runtime.events import (
    Event,
    Listener,
    PartitionDone,
    RunFailed,
    RunFinished,
    RunStarted,
    RunStopping,
)
from sjd_dask.runtime.here import Here
from sjd_dask.runtime.outcome import ExecutionReport, renamed
from sjd_dask.runtime.parts import PartStore
from sjd_dask.runtime.plan import Partition, size

if TYPE_CHECKING:
    from sjd_dask.runtime.cluster import Cluster
    from sjd_dask.runtime.task import Done, Work

WINDOW_PER_WORKER = 3
# A call that a living scheduler answers in milliseconds.
ANSWER_SECONDS = 20.0
# Without any answer for so long the scheduler counts as lost, even if its connection looks open.
SILENCE_SECONDS = 60.0
_POLL_SECONDS = 1.0
# How often a partition may be handed out again because its neighbour killed the worker they shared.
_INNOCENT_RETRIES = 10

Future = Any  # distributed's types don't say enough to check against
StopCheck = Callable[[], str | bool | None]


def run_partitions(
    cluster: Cluster | Here,
    function: Callable[[Any, Partition], Any],
    common: Any,
    partitions: Sequence[Partition],
    parts: PartStore,
    *,
    window: int | None = None,
    retries: int = 3,
    on_event: Listener | None = None,
    should_stop: StopCheck | None = None,
    worker_timeout: float = 300.0,
    projected_bytes: int | None = None,
) -> ExecutionReport:
    """Compute every partition whose part is not there yet.

    Parameters
    ----------
    cluster
        From `open_cluster`, or `Here` for a small run.
    function
        Top-level callable `f(common, partition)` that returns a `pyarrow.Table` or a mapping of plain JSON data. It
        may run more than once for a partition and must return the same each time.
    common
        Anything small that pickles: arrays, readers, numbers. It reaches each worker once, not once per task.
    partitions
        All partitions of the plan, with different indices.
    parts
        Where parts are looked for and written.
    window
        Most tasks at the scheduler at a time; default 3 per worker, so that no worker waits for the driver.
    retries
        How often a partition is computed again after its function raised.
    on_event
        Listener of the events.
    should_stop
        Asked at least once a second; a true value (its text is the reason) stops the run.
    worker_timeout
        Seconds without any worker after which the run ends.
    projected_bytes
        The plan's peak per task, for the message when workers die.

    Returns
    -------
    ExecutionReport

    Raises
    ------
    Interrupted
        Asked to stop; the scheduler is gone; there are no workers. Finished parts stay.
    SjdError
        A partition fails for good; what the function raised on purpose keeps its type. The message names the
        partition. Finished parts stay.
    """
    indices = [partition.index for partition in partitions]
    if len(set(indices)) != len(indices):
        raise ValueError("two partitions have the same index")
    if isinstance(cluster, Here):
        return cluster.run(function, common, partitions, parts, retries, on_event, should_stop)
    execution = _Execution(cluster, partitions, parts, retries, on_event, should_stop, worker_timeout, projected_bytes)
    return execution.run(function, common, window or WINDOW_PER_WORKER * cluster.n_workers)


class _Execution:
    """The state of one call of `run_partitions`."""

    def __init__(
        self,
        cluster: Cluster,
        partitions: Sequence[Partition],
        parts: PartStore,
        retries: int,
        on_event: Listener | None,
        should_stop: StopCheck | None,
        worker_timeout: float,
        projected_bytes: int | None,
    ) -> None:
        self.cluster = cluster
        self.client: Any = cluster.client
        self.partitions = {partition.index: partition for partition in partitions}
        self.parts = parts
        self.retries = retries
        self.on_event = on_event
        self.should_stop = should_stop
        self.worker_timeout = worker_timeout
        self.projected_bytes = projected_bytes
        self.token = f"{parts.run_id}-{parts.attempt}-{uuid.uuid4().hex[:8]}"
        # Filled by the client's callback thread, emptied by the driver's.
        self.ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self.flying: dict[Future, int] = {}
        self.innocent: Counter[int] = Counter()
        self.done: list[Done] = []
        self.n_reused = 0
        now = time.monotonic()
        self.polled = self.answered = self.last_worker = now

    def tell(self, event: Event) -> None:
        if self.on_event is not None:
            self.on_event(event)

    def run(self, function: Callable[[Any, Partition], Any], common: Any, window: int) -> ExecutionReport:
        from sjd_dask.runtime.task import Work
        from sjd_dask.runtime.watch import WorkerWatch

        self.watch = WorkerWatch(self.on_event)
        begin = time.monotonic()
        done = self.parts.done(self.partitions.values(), self.on_event)
        self.n_reused = len(done)
        waiting = [index for index in self.partitions if index not in done]
        waiting.reverse()
        self.tell(RunStarted(len(self.partitions), self.n_reused, self.cluster.n_workers, window))
        try:
            if waiting:
                work = Work(function, common, self.parts, f"sjd-{self.token}")
                with self._work_on_workers(work):
                    self._loop(waiting, window)
        except BaseException as error:
            self.tell(RunFailed(f"{type(error).__name__}: {error}", self.n_done, len(self.partitions)))
            raise
        peak = max((item.peak_rss for item in self.done), default=0)
        seconds = time.monotonic() - begin
        self.tell(RunFinished(len(self.partitions), self.n_reused, seconds, peak))
        return ExecutionReport(
            n_partitions=len(self.partitions),
            n_run=len(self.done),
            n_reused=self.n_reused,
            seconds=seconds,
            task_seconds=sum(item.seconds for item in self.done),
            bytes=sum(item.bytes for item in self.done),
            rows=sum(item.rows for item in self.done),
            peak_rss=peak,
            workers_lost=self.watch.n_lost,
            retried=len(self.watch.retried),
        )

    @property
    def n_done(self) -> int:
        return self.n_reused + len(self.done)

    # -- the cluster's side -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _work_on_workers(self, work: Work) -> Iterator[None]:
        from sjd_dask.runtime.task import WorkPlugin

        plugin = WorkPlugin(self.token, work)
        try:
            self.watch.workers = set(self._answer(self._list_workers()))
        except Exception as error:
            raise _scheduler_lost("it does not answer") from error
        self.client.subscribe_topic(work.topic, self.watch.put)
        try:
            self._send(plugin)
            yield
        finally:
            # After a lost scheduler nobody answers, and nothing is left to forget.
            with contextlib.suppress(Exception):
                self.client.unsubscribe_topic(work.topic)
            if self.client.status == "running":
                with contextlib.suppress(Exception):
                    self._answer(self._forget(plugin.name))

    def _send(self, plugin: Any) -> None:
        # A worker that dies while the data goes round makes the call fail; the next one finds it gone.
        for attempt in range(3):
            try:
                self.client.register_plugin(plugin)
                return
            except (OSError, TimeoutError) as error:
                self._check_scheduler()
                if attempt == 2:
                    raise Interrupted(f"the common data could not be sent to the workers: {error}") from error
                time.sleep(1.0)

    async def _list_workers(self) -> list[str]:
        return list(await self.client.scheduler.ncores(workers=None))

    async def _forget(self, name: str) -> None:
        await self.client.scheduler.unregister_worker_plugin(name=name)

    async def _gather(self, futures: list[Future]) -> list[Any]:
        return list(await self.client.gather(futures, asynchronous=True))

    async def _cancel(self, futures: list[Future]) -> None:
        await self.client.cancel(futures, asynchronous=True)

    def _answer(self, coroutine: Any) -> Any:
        """Wait for a coroutine in the client's loop, but not for ever."""

        async def call() -> Any:
            return await coroutine

        try:
            return self.client.sync(call, asynchronous=False, callback_timeout=ANSWER_SECONDS)
        except BaseException:
            coroutine.close()
            raise

    # -- the loop -----------------------------------------------------------------------------------------------------

    def _loop(self, waiting: list[int], window: int) -> None:
        try:
            while waiting or self.flying:
                while waiting and len(self.flying) < window:
                    self._submit(waiting.pop())
                for future in self._next_ended():
                    self._settle(future)
                self._look_around()
            self._look_back()
        except BaseException:
            self._abandon()
            raise

    def _submit(self, index: int) -> None:
        from sjd_dask.runtime.task import run_partition

        try:
            future = self.client.submit(
                run_partition,
                self.token,
                self.partitions[index],
                key=f"partition-{self.token}-{index}-{self.innocent[index]}",
                pure=False,
                retries=self.retries,
            )
        except Exception as error:
            self._check_scheduler(error)
            raise
        self.flying[future] = index
        future.add_done_callback(self.ended.put)

    def _next_ended(self) -> list[Future]:
        """Futures that ended without a result; those with one are taken in."""
        found = []
        try:
            found.append(self.ended.get(timeout=0.25))
            while True:
                found.append(self.ended.get_nowait())
        except queue.Empty:
            pass
        unsure = []
        for future in found:
            if future.status == "finished" and future in self.flying:
                # The worker's note came before this and holds the numbers; fetching them would ask a worker that may
                # be dead.
                done = self.watch.take_done(self.flying[future])
                if done is None:
                    unsure.append(future)
                else:
                    self._arrived(future, done)
        if unsure:
            self._fetch(unsure)
        return [future for future in found if future.status != "finished"]

    def _fetch(self, futures: list[Future]) -> None:
        try:
            results = self._answer(self._gather(futures))
        except (OSError, TimeoutError):
            # The worker died between the end of the task and this call: the scheduler computes it again, and what the
            # next look at these futures brings is handled like any other end.
            self._check_scheduler()
            for future in futures:
                future.add_done_callback(self.ended.put)
            return
        except Exception as error:
            self._check_scheduler(error)
            raise
        for future, result in zip(futures, results, strict=True):
            self._arrived(future, result)

    def _arrived(self, future: Future, result: Any) -> None:
        from sjd_dask.runtime.task import Refused

        index = self.flying.pop(future)
        if isinstance(result, Refused):
            raise renamed(result.error, self.partitions[index])
        self.done.append(result)
        self.tell(
            PartitionDone(
                index=index,
                seconds=result.seconds,
                rows=result.rows,
                bytes=result.bytes,
                peak_rss=result.peak_rss,
                worker=result.worker,
                n_done=self.n_done,
                n_partitions=len(self.partitions),
            )
        )

    def _settle(self, future: Future) -> None:
        """Handle the end of a task that brought no result."""
        import distributed

        index = self.flying.get(future)
        if index is None:
            return
        if future.status == "pending":  # it is being computed again
            future.add_done_callback(self.ended.put)
            return
        if future.status != "error":
            self._check_scheduler()
            raise _scheduler_lost(f"partition {index} was {future.status}")
        try:
            error = future.exception(timeout=ANSWER_SECONDS)
        except Exception as problem:
            self._check_scheduler(problem)
            raise
        del self.flying[future]
        if not isinstance(error, distributed.KilledWorker):
            raise SjdError(
                f"{self.partitions[index]} failed {self.retries + 1} times: {type(error).__name__}: {error}. "
                f"The finished parts are kept: once the cause is gone, the same command goes on from them."
            ) from error
        self.watch.lose(str(getattr(error.last_worker, "address", error.last_worker)))
        culprit_known = any(self.watch.deaths.values())
        if culprit_known and not self.watch.deaths[index] and self.innocent[index] < _INNOCENT_RETRIES:
            self.innocent[index] += 1
            self._submit(index)
            return
        raise self._killed(index, error)

    def _killed(self, index: int, error: BaseException) -> SjdError:
        peak = max((item.peak_rss for item in self.done), default=0)
        figures = [f"a worker may use {size(self.cluster.memory_per_worker)}"]
        if self.projected_bytes:
            figures.append(f"the plan expected {size(self.projected_bytes)} for a task")
        if peak:
            figures.append(f"the largest task that ended used {size(peak)}")
        problem = SjdError(
            f"{self.partitions[index]} was given up: every worker that computed it died "
            f"({max(1, self.watch.deaths[index])} or more). {'; '.join(figures)}. "
            "Most often memory ran out: give each worker more, or use fewer workers on the machine; else look at "
            "the workers' logs. "
            f"The finished parts are kept: the same command goes on from them."
        )
        problem.__cause__ = error
        return problem

    # -- watching -----------------------------------------------------------------------------------------------------

    def _look_around(self) -> None:
        self.watch.read_notes()
        reason = self.should_stop() if self.should_stop is not None else None
        if reason:
            text = reason if isinstance(reason, str) else "asked to stop"
            self.tell(RunStopping(text))
            raise Interrupted(f"{text}: stopped with {self.n_done} of {len(self.partitions)} partitions done")
        now = time.monotonic()
        if now - self.polled < _POLL_SECONDS:
            return
        self._check_scheduler()
        try:
            present = set(self._answer(self._list_workers()))
            now = self.answered = time.monotonic()
        except Exception as error:
            self._check_scheduler(error)
            if time.monotonic() - self.answered > SILENCE_SECONDS:
                raise _scheduler_lost(f"it has not answered for {SILENCE_SECONDS:.0f} s") from error
            return
        finally:
            self.polled = time.monotonic()
        self.watch.compare(present)
        if present:
            self.last_worker = now
        elif now - self.last_worker > self.worker_timeout:
            raise Interrupted(
                f"there has been no worker for {self.worker_timeout:.0f} s; {self.n_done} of "
                f"{len(self.partitions)} partitions "
                f"are done and kept. Start workers again, then go on with the same command."
            )

    def _look_back(self) -> None:
        """Tell of a worker that died since the last look. All is done by now, so no answer is no harm."""
        with contextlib.suppress(Exception):
            self.watch.compare(self._answer(self._list_workers()))

    def _check_scheduler(self, error: BaseException | None = None) -> None:
        if self.client.status != "running":
            raise _scheduler_lost("its connection was lost") from error

    def _abandon(self) -> None:
        """Take back what is queued. Running tasks may still finish and leave their part, which then counts."""
        if self.flying and self.client.status == "running":
            with contextlib.suppress(Exception):
                self._answer(self._cancel(list(self.flying)))
        self.flying.clear()


def _scheduler_lost(detail: str) -> Interrupted:
    return Interrupted(
        f"the Dask scheduler is gone ({detail}). The finished parts are kept, and only the others will be computed: "
        f"start a scheduler and workers again"
    )
