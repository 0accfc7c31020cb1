"""What happens during a run, told as small records to whoever listens.

A listener is any callable that takes one event. Listeners run in the driver's thread and must be quick.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Any


@dataclasses.dataclass(frozen=True)
class Event:
    """Base of all events."""

    @property
    def kind(self) -> str:
        """Name of the event, as it stands in the log."""
        return type(self).__name__

    def to_json(self) -> dict[str, Any]:
        """The event as plain data."""
        return {"event": self.kind, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class RunStarted(Event):
    """Work begins: `n_reused` of `n_partitions` parts were already done."""

    n_partitions: int
    n_reused: int
    n_workers: int
    window: int


@dataclasses.dataclass(frozen=True)
class PartitionDone(Event):
    """One part is on disk. `n_done` counts the reused ones too; `peak_rss` is in bytes."""

    index: int
    seconds: float
    rows: int
    bytes: int
    peak_rss: int
    worker: str
    n_done: int
    n_partitions: int


@dataclasses.dataclass(frozen=True)
class PartitionRetried(Event):
    """A partition is computed again, because its function failed or its worker was lost."""

    index: int
    reason: str
    worker: str


@dataclasses.dataclass(frozen=True)
class PartInvalid(Event):
    """A part file of an earlier attempt is torn, changed or of another partition: it is ignored and computed again."""

    index: int
    path: str
    reason: str


@dataclasses.dataclass(frozen=True)
class WorkerLost(Event):
    """A worker went away with work on it."""

    worker: str
    n_workers: int


@dataclasses.dataclass(frozen=True)
class WorkerJoined(Event):
    """A worker came (back)."""

    worker: str
    n_workers: int


@dataclasses.dataclass(frozen=True)
class RunStopping(Event):
    """Somebody asked the run to stop."""

    reason: str


@dataclasses.dataclass(frozen=True)
class RunFinished(Event):
    """All parts are on disk."""

    n_partitions: int
    n_reused: int
    seconds: float
    peak_rss: int


@dataclasses.dataclass(frozen=True)
class RunFailed(Event):
    """The run ended without all its parts."""

    reason: str
    n_done: int
    n_partitions: int


@dataclasses.dataclass(frozen=True)
class Message(Event):
    """A line for the reader: `text`; `level` is info or warning."""

    text: str
    level: str = "info"


Listener = Callable[[Event], None]


def broadcast(listeners: Iterable[Listener | None]) -> Listener:
    """One listener that passes each event to all of `listeners`; None is skipped."""
    chosen = [listener for listener in listeners if listener is not None]

    def tell(event: Event) -> None:
        for listener in chosen:
            listener(event)

    return tell


class Recorder:
    """Keep all events, for tests and for the summary of a run."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Event]) -> list[Any]:
        """The events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]


class JsonLog:
    """Append each event to a file as one JSON line, with the time in seconds since 1970. Flushed line by line."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[str] = path.open("a", encoding="utf-8")

    def __call__(self, event: Event) -> None:
        if self._file.closed:
            return
        # A disk that is full must not end the run here: the next part says it more clearly.
        with contextlib.suppress(OSError):
            self._file.write(json.dumps({"time": round(time.time(), 3), **event.to_json()}, sort_keys=True) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file; later events are dropped."""
        with contextlib.suppress(OSError):
            self._file.close()

    def __enter__(self) -> JsonLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PlainLog:
    """Lines for a log: at every tenth of the work or every 30 s, and at once for what went wrong.

    Parameters
    ----------
    stream
        Where the lines go; standard error by default.
    seconds
        Longest silence while parts are finishing.
    """

    def __init__(self, stream: IO[str] | None = None, seconds: float = 30.0) -> None:
        self._stream = stream
        self._seconds = seconds
        self._tenth = -1
        self._spoke = 0.0
        self._started = time.monotonic()

    def __call__(self, event: Event) -> None:
        line = self._line(event)
        if line:
            self._spoke = time.monotonic()
            print(line, file=self._stream if self._stream is not None else sys.stderr, flush=True)

    def _line(self, event: Event) -> str | None:
        if isinstance(event, PartitionDone):
            tenth = event.n_done * 10 // max(1, event.n_partitions)
            if tenth == self._tenth and time.monotonic() - self._spoke < self._seconds:
                return None
            self._tenth = tenth
            return f"{event.n_done} of {event.n_partitions} partitions, {time.monotonic() - self._started:.0f} s"
        if isinstance(event, RunStarted):
            self._tenth = -1
            self._started = time.monotonic()
        return describe(event)


def describe(event: Event) -> str | None:
    """One line of English for an event, or None for those that need no line of their own."""
    match event:
        case RunStarted():
            kept = f", {event.n_reused} already done" if event.n_reused else ""
            return f"{event.n_partitions} partitions{kept}, {event.n_workers} workers"
        case PartitionRetried():
            return f"partition {event.index} is computed again: {event.reason} (worker {event.worker})"
        case PartInvalid():
            return f"warning: part {event.path} is ignored and computed again: {event.reason}"
        case WorkerLost():
            return f"warning: worker {event.worker} was lost; {event.n_workers} left"
        case WorkerJoined():
            return f"worker {event.worker} joined; {event.n_workers} now"
        case RunStopping():
            return f"stopping: {event.reason}"
        case RunFinished():
            peak = f"{event.peak_rss / 1e6:.0f} MB"
            return f"{event.n_partitions} partitions done in {event.seconds:.1f} s, peak memory of a worker {peak}"
        case RunFailed():
            return f"failed with {event.n_done} of {event.n_partitions} partitions done: {event.reason}"
        case Message():
            return f"warning: {event.text}" if event.level == "warning" else event.text
    return None


class ProgressBar:
    """A bar on a terminal (standard error), with lines above it for what went wrong."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("partitions"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
            console=Console(file=stream, stderr=stream is None),
        )  # fmt: skip
        self._task: Any = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._task = self._progress.add_task("partitions", total=event.n_partitions, completed=event.n_reused)
            self._progress.start()
        elif isinstance(event, PartitionDone) and self._task is not None:
            self._progress.update(self._task, completed=event.n_done)
        elif isinstance(event, (RunFinished, RunFailed, RunStopping)):
            self._progress.stop()
            if not isinstance(event, RunFinished):
                self._progress.console.print(describe(event), highlight=False, markup=False)
        else:
            line = describe(event)
            if line:
                self._progress.console.print(line, highlight=False, markup=False)

    def close(self) -> None:
        """Give the terminal back."""
        self._progress.stop()


def progress(quiet: bool = False, stream: IO[str] | None = None) -> Listener | None:
    """The listener that suits the stream: a bar on a terminal, plain lines elsewhere, None when quiet."""
    if quiet:
        return None
    target = stream if stream is not None else sys.stderr
    return ProgressBar(stream) if target.isatty() else PlainLog(stream)
