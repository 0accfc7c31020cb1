"""What the driver knows of its workers: who is there, what runs where, what ended, and which partition was on a
worker that died."""

from __future__ import annotations

import queue
from collections import Counter
from collections.abc import Iterable
from typing import Any

from sjd_dask.runtime.events import Event, Listener, PartitionRetried, WorkerJoined, WorkerLost
from sjd_dask.runtime.task import Done


class WorkerWatch:
    """Notes of the workers, and the changes of their list, turned into knowledge and events.

    Notes of a task reach the driver before the scheduler's word that it ended: both go the same way, in order.

    Parameters
    ----------
    on_event
        Listener; called in the thread that calls `read_notes`, `compare` or `lose`.

    Attributes
    ----------
    workers
        Addresses that are there.
    deaths
        For each partition, how many workers died while they computed it.
    retried
        Partitions that were computed more than once.
    n_lost
        Workers that went away.
    """

    def __init__(self, on_event: Listener | None) -> None:
        self._on_event = on_event
        # Filled by the client's thread, emptied by the driver's.
        self._notes: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._running: dict[str, set[int]] = {}
        self._gone: set[str] = set()
        self._done: dict[int, Done] = {}
        self.workers: set[str] = set()
        self.deaths: Counter[int] = Counter()
        self.retried: set[int] = set()
        self.n_lost = 0

    def _tell(self, event: Event) -> None:
        if self._on_event is not None:
            self._on_event(event)

    def put(self, event: tuple[float, dict[str, Any]]) -> None:
        """Take a note; any thread may call it."""
        self._notes.put(event[1])

    def take_done(self, index: int) -> Done | None:
        """The numbers of a partition that ended, once."""
        self.read_notes()
        return self._done.pop(index, None)

    def read_notes(self) -> None:
        """Take in what the workers wrote."""
        while True:
            try:
                note = self._notes.get_nowait()
            except queue.Empty:
                return
            index, address = int(note["index"]), str(note["worker"])
            running = self._running.setdefault(address, set())
            if note["what"] == "started":
                running.add(index)
                if address not in self.workers and address not in self._gone:
                    # It came and worked between two looks at the list.
                    self.compare({*self.workers, address})
                continue
            running.discard(index)
            if note["what"] == "done":
                self._done[index] = Done(**note["numbers"])
            else:
                self.retried.add(index)
                self._tell(PartitionRetried(index, str(note["reason"]), address))

    def compare(self, present: Iterable[str]) -> None:
        """Take in the list of workers."""
        now = set(present)
        for address in sorted(now - self.workers):
            self.workers.add(address)
            self._tell(WorkerJoined(address, len(self.workers)))
        for address in sorted(self.workers - now):
            self.lose(address)

    def lose(self, address: str) -> None:
        """Take in that a worker is gone; nothing happens the second time."""
        if address not in self.workers:
            return
        self.read_notes()
        self.workers.discard(address)
        self._gone.add(address)
        self.n_lost += 1
        self._tell(WorkerLost(address, len(self.workers)))
        for index in sorted(self._running.pop(address, set())):
            self.deaths[index] += 1
            self.retried.add(index)
            self._tell(PartitionRetried(index, "its worker was lost", address))
