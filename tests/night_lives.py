"""Lives of a night: processes that are begun from a warm one, and end by SIGKILL or by themselves.

Starting Python and loading the libraries takes seconds; here a server that has loaded them forks for each life.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_PRELOADED = (
    "night_scene", "sjd_dask.jobs.nightly", "sjd_dask.jobs.rollback", "sjd_dask.jobs.withdraw", "sjd_dask.jobs.train",
    "sjd_dask.runtime.runs", "sjd_dask.store.ingest.sources.npz", "sklearn.linear_model", "skops.io",
)  # fmt: skip


def context() -> Any:
    """The server of warm processes."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload([__name__, *_PRELOADED])
    return made


class Life:
    """One process that calls a function."""

    def __init__(self, function: Callable[..., None], *arguments: Any, errors: Path | None = None) -> None:
        self.errors = errors
        self.process = context().Process(target=_live, args=(function, arguments, errors))
        self.process.start()

    @property
    def is_running(self) -> bool:
        return bool(self.process.is_alive())

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL, wherever it is."""
        if self.is_running:
            self.signal(signal.SIGKILL)
        self.process.join(60)

    def end(self, timeout: float = 240.0) -> int:
        """Its exit code."""
        self.process.join(timeout)
        if self.is_running:
            self.kill()
            raise AssertionError(f"a process was not through after {timeout} s")
        code: int = self.process.exitcode
        if code == 1 and self.errors is not None and self.errors.exists():
            raise AssertionError(self.errors.read_text())
        return code


def _live(function: Callable[..., None], arguments: Sequence[Any], errors: Path | None) -> None:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        function(*arguments)
    except Exception:
        if errors is not None:
            errors.write_text(traceback.format_exc())
        sys.exit(1)


def strike_at(moment: str, count: int, number: int = signal.SIGKILL) -> None:
    """Have this process get a signal at the so-manieth time that it comes to a moment of a night.

    Moments: `staged` (a file is written, not published), `scored` (a part is there), `before` (all is ready to be
    published), `within` (the transaction is open), `after` (it is published, no file is moved), `moved` (a file is).
    """
    from sjd_dask.jobs import inbox
    from sjd_dask.runtime.parts import PartStore
    from sjd_dask.store.catalogue import nights
    from sjd_dask.store.cohort import Cohort

    left = [count]

    def after(owner: Any, name: str, *, first: bool = False) -> None:
        original = getattr(owner, name)

        def wrapped(*arguments: Any, **keys: Any) -> Any:
            if first:
                _strike(left, number)
            result = original(*arguments, **keys)
            if not first:
                _strike(left, number)
            return result

        setattr(owner, name, wrapped)

    if moment == "staged":
        after(inbox, "_stage")
    elif moment == "scored":
        after(PartStore, "write")
    elif moment == "before":
        after(Cohort, "publish_night", first=True)
    elif moment == "within":
        after(nights, "insert_calls")
    elif moment == "after":
        after(Cohort, "publish_night")
    else:
        after(inbox, "_move")


def _strike(left: list[int], number: int) -> None:
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), number)
