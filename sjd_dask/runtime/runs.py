"""One run from claim to end: who drives it, where its files lie, and how it stops.

A run is named by its fingerprint. The first driver that claims it works; a second one gets `Busy` while the first
lives, goes on where a dead
one stopped, and does nothing where the result is published. Each claim after the first raises the run's epoch, and
publication compares it: a driver that was taken for dead and comes back publishes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Literal

from sjd_dask.errors import Busy, Interrupted, SjdError
from sjd_dask.runtime.events import Event, JsonLog, Listener, PartitionDone, RunStarted, broadcast
from sjd_dask.runtime.parts import PartStore
from sjd_dask.runtime.plan import Plan
from sjd_dask.store.catalogue.runs import Run, claim_run, finish_run, get_run, heartbeat_run
from sjd_dask.store.files import writing

if TYPE_CHECKING:
    from sjd_dask.store.cohort import Cohort

BEAT_SECONDS = 5.0
LOOK_SECONDS = 1.0
# A started child tells its parent the run it claimed through the file this names (see detached.py).
ANNOUNCE_VARIABLE = "SJD_ANNOUNCE_RUN"

State = Literal["new", "resumed", "published"]


def cancel_marker(run_id: str) -> str:
    """Path below the cohort's files of the mark that asks a run to stop."""
    return f"runs/{run_id}/cancel"


class RunSession:
    """A claimed run. Use it in a `with` block.

    Parameters
    ----------
    cohort
        An open cohort.
    fingerprint
        What the run computes, from `runtime.fingerprint`.
    spec
        The job spec as plain data, for the record.
    job, output
        The verb and the result's name.
    snapshot
        The view the run reads; default the present.
    on_event
        The user's listener; the log file is another.
    beat_seconds
        Time between two heartbeats.

    Attributes
    ----------
    state
        `new`, `resumed` or `published`. When published there is nothing to do.
    published
        References `kind/name@version` of this run's results, when published.
    run_id, epoch, attempt
        As in the catalogue.
    parts
        Where the parts lie.
    tell
        Listener that reaches the user's listener and `runs/<run>/<attempt>/log.jsonl`.

    Raises
    ------
    Busy
        On entering: a living driver has the run.
    """

    def __init__(
        self,
        cohort: Cohort,
        fingerprint: str,
        spec: Mapping[str, Any],
        job: str,
        output: str,
        *,
        snapshot: int | None = None,
        on_event: Listener | None = None,
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        self.cohort = cohort
        self.fingerprint = fingerprint
        self.spec = dict(spec)
        self.job = job
        self.output = output
        self.snapshot = snapshot
        self.published: list[str] = []
        self._user_listener = on_event
        self._beat_seconds = beat_seconds
        self._reason: str | None = None
        self._cancelled = False
        self._usurped: Busy | None = None
        self._over = threading.Event()
        self._ended = False
        self._beater: threading.Thread | None = None
        self._handlers: dict[int, Any] = {}
        self._status_lock = threading.Lock()
        self._progress: dict[str, Any] = {}

    def __enter__(self) -> RunSession:
        claim = claim_run(
            self.cohort.catalogue,
            self.fingerprint,
            job=self.job,
            output=self.output,
            spec=self.spec,
            snapshot=self.snapshot,
        )
        run = claim.run
        self.run_id: str = run.id
        self.epoch: int = run.epoch
        self.attempt: int = run.attempt
        self.state: State = {"new": "new", "resume": "resumed", "published": "published"}[claim.status]  # type: ignore[assignment]
        self.folder = f"runs/{self.run_id}/{self.attempt}"
        self.parts = PartStore(self.cohort.files, self.run_id, self.attempt)
        self._log: JsonLog | None = None
        self._log_copy: Path | None = None
        self.tell: Listener = broadcast([self._user_listener])
        if self.state == "published":
            self.published = published_references(self.cohort, claim.run)
            self._announce()
            return self
        try:
            self.cohort.files.delete(cancel_marker(self.run_id))
            self._open_log()
            self._write_status("running")
            self._announce()
        except BaseException as error:
            self._finish("failed", str(error))
            raise
        self._beater = threading.Thread(target=self._beat, name=f"heartbeat of run {self.run_id}", daemon=True)
        self._beater.start()
        self._take_signals()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.state == "published":
            return
        self._over.set()
        self._give_signals_back()
        if self._beater is not None:
            self._beater.join(timeout=30)
        try:
            self._leave(error)
        finally:
            self._close_log()

    def _leave(self, error: BaseException | None) -> None:
        if self._usurped is not None:
            if error is None or isinstance(error, (Interrupted, KeyboardInterrupt)):
                raise self._usurped from error
        elif error is None:
            if not self._ended:
                self._finish("failed", "the job ended without publishing a result")
        elif isinstance(error, (Interrupted, KeyboardInterrupt, SystemExit)) or self._reason is not None:
            # Ctrl-C reaches worker processes too, and what then breaks first (a cluster that is being started, say)
            # is no failure.
            text = str(error) if isinstance(error, Interrupted) else self._reason or type(error).__name__
            self._finish("cancelled" if self._cancelled else "interrupted", text)
            raise Interrupted(f"{text}; {self.hint}") from error
        else:
            self._finish("failed", f"{type(error).__name__}: {error}")

    @property
    def hint(self) -> str:
        """How to go on with this run."""
        return f"resume with: sjd resume {self.cohort.path} {self.run_id}"

    # -- what the job uses --------------------------------------------------------------------------------------------

    def save_plan(self, plan: Plan) -> None:
        """Keep the plan beside the parts."""
        self.cohort.files.write_bytes(f"{self.folder}/plan.json", _json(plan.to_json()))

    def previous_plan(self) -> Plan | None:
        """The newest plan of an earlier attempt. Its partitions should be used again: parts of other bounds don't
        count as done."""
        for attempt in range(self.attempt - 1, 0, -1):
            try:
                return Plan.from_json(
                    json.loads(self.cohort.files.read_bytes(f"runs/{self.run_id}/{attempt}/plan.json"))
                )
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return None

    def should_stop(self) -> str | None:
        """Why the run should stop now; None to go on. For `run_partitions`."""
        if self._usurped is not None:
            return "another driver took the run over"
        return self._reason

    def check(self) -> None:
        """Stop here if somebody asked for it.

        Raises
        ------
        Interrupted
            A signal or a cancel mark came.
        Busy
            Another driver took the run over.
        """
        if self._usurped is not None:
            raise self._usurped
        if self._reason is not None:
            raise Interrupted(self._reason)

    def stop(self, reason: str) -> None:
        """Ask this run to stop at the next occasion."""
        self._reason = self._reason or reason

    def finish(self, references: list[str]) -> None:
        """Say that the results are published."""
        if get_run(self.cohort.catalogue, self.run_id).state != "published":
            finish_run(self.cohort.catalogue, self.run_id, self.epoch, "published", ", ".join(references))
        self._ended = True
        self.published = list(references)
        self._write_status("published", results=self.published)

    # -- heartbeat, cancel mark, status -------------------------------------------------------------------------------

    def _beat(self) -> None:
        # The first look is only after a while: the claim was a heartbeat.
        last = time.monotonic()
        while not self._over.wait(min(LOOK_SECONDS, self._beat_seconds)):
            with contextlib.suppress(Exception):
                if self.cohort.files.exists(cancel_marker(self.run_id)):
                    self._cancel()
            if time.monotonic() - last < self._beat_seconds:
                continue
            last = time.monotonic()
            try:
                if heartbeat_run(self.cohort.catalogue, self.run_id, self.epoch):
                    self._cancel()
            except Busy as error:
                self._look_for_usurper(error)
                if self._usurped is not None:
                    return
            except Exception:  # a database that is away for a moment must not end the run; publication will tell
                continue
            with contextlib.suppress(Exception):
                self._write_status("running")

    def _look_for_usurper(self, error: Busy) -> None:
        # A locked catalogue is Busy too; only another epoch means that the run was taken over.
        with contextlib.suppress(SjdError):
            if get_run(self.cohort.catalogue, self.run_id).epoch != self.epoch:
                self._usurped = error

    def _cancel(self) -> None:
        self._cancelled = True
        self.stop("cancelled on request")

    def _follow(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._progress = {"done": event.n_reused, "partitions": event.n_partitions, "workers": event.n_workers}
        elif isinstance(event, PartitionDone):
            self._progress = {**self._progress, "done": event.n_done}

    def _write_status(self, state: str, **more: Any) -> None:
        status = {
            "run": self.run_id,
            "attempt": self.attempt,
            "epoch": self.epoch,
            "job": self.job,
            "output": self.output,
            "state": state,
            "time": round(time.time(), 3),
            **self._progress,
            **more,
        }
        with self._status_lock:
            if state == "running" and self._over.is_set():
                return
            self.cohort.files.write_bytes(f"{self.folder}/status.json", _json(status), durable=False)

    def _finish(self, state: str, message: str) -> None:
        self._ended = True
        self._over.set()
        # The error that led here matters more than one met while writing it down.
        with contextlib.suppress(SjdError, OSError):
            finish_run(self.cohort.catalogue, self.run_id, self.epoch, state, message)
        with contextlib.suppress(SjdError, OSError):
            self._write_status(state, message=message)

    # -- log, signals, announcement -----------------------------------------------------------------------------------

    def _open_log(self) -> None:
        if self.cohort.files.is_local:
            path = self.cohort.files.local_path(f"{self.folder}/log.jsonl")
            with writing(str(path), "nothing was started"):
                path.parent.mkdir(parents=True, exist_ok=True)
        else:
            # An object store can't append: the log is written here and sent at the end.
            handle, name = tempfile.mkstemp(prefix="sjd-log-", suffix=".jsonl")
            os.close(handle)
            path = self._log_copy = Path(name)
        self._log = JsonLog(path)
        self.tell = broadcast([self._log, self._follow, self._user_listener])

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
        if self._log_copy is not None:
            with contextlib.suppress(Exception):
                self.cohort.files.write_bytes(f"{self.folder}/log.jsonl", self._log_copy.read_bytes())
            self._log_copy.unlink(missing_ok=True)

    def _take_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._on_signal)

    def _give_signals_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._handlers = {}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._reason is not None and not self._cancelled:
            # The second one: end at once. The run is resumable all the same, its driver is dead.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self._cancelled = False
        self._reason = f"{signal.Signals(number).name} received"

    def _announce(self) -> None:
        target = os.environ.pop(ANNOUNCE_VARIABLE, None)
        if target:
            note = {"run": self.run_id, "attempt": self.attempt, "state": self.state, "folder": self.folder}
            temporary = Path(f"{target}.tmp")
            temporary.write_bytes(_json(note))
            temporary.replace(target)


open_run: Callable[..., RunSession] = RunSession


def published_references(cohort: Cohort, run: Run) -> list[str]:
    """References of what a run published; rows that it added to a version of a layer count as that version."""
    if "published" in run.meta:
        return [str(one) for one in run.meta["published"]]
    return [result.ref for result in cohort.results() if result.run == run.id]


def _json(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=1, sort_keys=True) + "\n").encode()
