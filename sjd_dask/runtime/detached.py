"""Runs whose client may go away: start, look, wait, cancel."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sjd_dask.errors import Busy, DataError, Interrupted, PlanRefused, SjdError, SpecError
from sjd_dask.runtime.runs import ANNOUNCE_VARIABLE, cancel_marker, published_references
from sjd_dask.store.catalogue.runs import get_run, request_cancel

if TYPE_CHECKING:
    from sjd_dask.store.cohort import Cohort

_BY_CODE: dict[int, type[SjdError]] = {2: SpecError, 3: DataError, 4: PlanRefused, 5: Interrupted, 6: Busy}


@dataclasses.dataclass(frozen=True)
class Submitted:
    """A driver that was started.

    Attributes
    ----------
    run_id, state
        The run it claimed, and whether that was new, resumed or published already.
    pid
        The driver's process.
    log
        What it prints.
    """

    run_id: str
    state: str
    pid: int
    log: Path


def submit(
    cohort: Cohort, arguments: Sequence[str], *, timeout: float = 120.0, module: str = "sjd_dask.cli"
) -> Submitted:
    """Start a driver in a session of its own and wait until it has claimed its run.

    Parameters
    ----------
    cohort
        The cohort the run belongs to.
    arguments
        Of `sjd`, for example `["run", "ewas.yaml", "--cluster", "slurm.yaml"]`.
    timeout
        Seconds until the run must be claimed.
    module
        What `python -m` runs.

    Returns
    -------
    Submitted
        The driver goes on after this process has ended, and after its terminal is closed.

    Raises
    ------
    SjdError
        The driver ended before it had a run: the error it printed, of the type its exit code says.
    """
    folder = Path(tempfile.mkdtemp(prefix="sjd-submit-"))
    note, log = folder / "run.json", folder / "driver.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, ANNOUNCE_VARIABLE: str(note)},
            start_new_session=True,
        )
    deadline = time.monotonic() + timeout
    while not note.exists():
        code = process.poll()
        if code is not None and not note.exists():
            text = log.read_text(errors="replace").strip()[-4000:]
            raise _BY_CODE.get(code, SjdError)(f"the driver ended with exit code {code} before it had a run: {text}")
        if time.monotonic() > deadline:
            process.terminate()
            process.wait(30)
            raise SjdError(f"the driver claimed no run within {timeout:.0f} s and was stopped; it printed to {log}")
        time.sleep(0.05)
    found = json.loads(note.read_text())
    note.unlink()
    if cohort.files.is_local:
        home = cohort.files.local_path(f"{found['folder']}/driver.log")
        # Another file system can't take the open file; then the log stays where it is.
        with contextlib.suppress(OSError):
            home.parent.mkdir(parents=True, exist_ok=True)
            log.rename(home)
            log = home
            folder.rmdir()
    # The driver outlives this process on purpose; without this, collecting the object would warn about it.
    process.returncode = 0
    return Submitted(found["run"], found["state"], process.pid, log)


def status(cohort: Cohort, run_id: str) -> dict[str, Any]:
    """What is known of a run: the catalogue's record, and the progress its driver last wrote.

    Parameters
    ----------
    cohort
        An open cohort.
    run_id
        Id of a run, or a beginning of it that no other run shares.

    Returns
    -------
    dict
        run, state (running, interrupted, failed, cancelled, published), job, output, attempt, message, and where
        known done, partitions, workers, results. A run whose driver died says `interrupted`.
    """
    run = get_run(cohort.catalogue, run_id)
    found: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(cohort.files.read_bytes(f"runs/{run.id}/{run.attempt}/status.json"))
    state, message = run.state, run.message
    if state == "running" and not run.is_live():
        state = "interrupted"
        message = f"its driver ({run.owner}) is gone; resume with: sjd resume {cohort.path} {run.id}"
    if state == "published":
        # The catalogue knows; the status file may have been written by the last heartbeat before the end.
        found["results"] = published_references(cohort, run)
    return {
        **found,
        "run": run.id,
        "state": state,
        "job": run.job,
        "output": run.output,
        "attempt": run.attempt,
        "message": message,
    }


def wait(cohort: Cohort, run_id: str, timeout: float | None = None, poll: float = 1.0) -> dict[str, Any]:
    """Wait until nobody works on a run.

    Returns
    -------
    dict
        As `status`.

    Raises
    ------
    SjdError
        It still runs after `timeout` seconds.
    """
    begin = time.monotonic()
    while True:
        found = status(cohort, run_id)
        if found["state"] != "running":
            return found
        if timeout is not None and time.monotonic() - begin > timeout:
            raise SjdError(f"run {found['run']} still runs after {timeout:.0f} s; it goes on")
        time.sleep(poll)


def cancel(cohort: Cohort, run_id: str) -> str:
    """Ask a run to stop; its driver sees it within seconds. Returns the full run id.

    Raises
    ------
    SjdError
        The run has ended already.
    """
    found = status(cohort, run_id)
    if found["state"] != "running":
        raise SjdError(f"run {found['run']} is not running (it is {found['state']}): there is nothing to cancel")
    request_cancel(cohort.catalogue, found["run"])
    cohort.files.write_bytes(cancel_marker(found["run"]), b"cancel\n")
    return str(found["run"])
