"""What computing partitions led to: numbers, and an error that names its partition."""

from __future__ import annotations

import dataclasses
from typing import Any

from sjd_dask.errors import SjdError
from sjd_dask.runtime.plan import Partition


@dataclasses.dataclass(frozen=True)
class ExecutionReport:
    """What a run took, measured.

    Attributes
    ----------
    n_partitions, n_run, n_reused
        Partitions of the plan; computed now; found done.
    seconds, task_seconds
        Elapsed; sum over the tasks.
    bytes, rows
        Written now.
    peak_rss
        Highest resident memory of any worker during a task, in bytes.
    workers_lost, retried
        Workers that went away; partitions that were computed more than once.
    """

    n_partitions: int
    n_run: int
    n_reused: int
    seconds: float
    task_seconds: float
    bytes: int
    rows: int
    peak_rss: int
    workers_lost: int
    retried: int

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return dataclasses.asdict(self)


def renamed(error: SjdError, partition: Partition) -> SjdError:
    """The same error, with the partition in front of its message."""
    text = f"{partition}: {error}"
    error.args = (text,)
    if isinstance(error, ImportError):
        error.msg = text
    return error
