"""What a run will do, said before it does it: partitions, bytes, memory, tasks and time."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sjd_dask.errors import PlanRefused

if TYPE_CHECKING:
    from rich.table import Table

# Seconds the scheduler and the driver need for one task, whatever it computes.
TASK_SECONDS = 0.007
# What a worker holds before its first task: the interpreter, libraries and machine code.
PROCESS_BYTES = 220 << 20
# Share of a worker's memory a plan may fill: the rest is for the interpreter, libraries and what the allocator keeps.
MEMORY_SHARE = 0.8


@dataclasses.dataclass(frozen=True)
class Partition:
    """One task: a stripe of features, and whatever else its job needs to know.

    Attributes
    ----------
    index
        Position among the partitions of the run, from 0.
    feature_start, feature_stop
        Half-open range of features.
    extras
        Plain JSON data. Part of the partition's identity: a part computed with other extras doesn't count as done.
    """

    index: int
    feature_start: int
    feature_stop: int
    extras: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)

    @property
    def n_features(self) -> int:
        """Width of the stripe."""
        return self.feature_stop - self.feature_start

    def to_json(self) -> dict[str, Any]:
        """The partition as plain data."""
        return {
            "index": self.index,
            "feature_start": self.feature_start,
            "feature_stop": self.feature_stop,
            "extras": dict(self.extras),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Partition:
        """The inverse of `to_json`."""
        return cls(data["index"], data["feature_start"], data["feature_stop"], dict(data["extras"]))

    def __str__(self) -> str:
        return f"partition {self.index} (features {self.feature_start} to {self.feature_stop - 1})"


def feature_partitions(n_features: int, width: int, multiple_of: int = 1) -> list[Partition]:
    """Cut the features into stripes of nearly equal width.

    Parameters
    ----------
    n_features
        Number of features, at least 1.
    width
        Largest width of a stripe.
    multiple_of
        Chunk width of the store: inner borders fall on its multiples, so that no chunk is read twice. A `width`
        below it gives stripes that share chunks.

    Returns
    -------
    list of Partition
        In order, without gaps.
    """
    if n_features < 1 or width < 1 or multiple_of < 1:
        raise ValueError("n_features, width and multiple_of must be at least 1")
    unit = multiple_of if width >= multiple_of else 1
    units = math.ceil(n_features / unit)
    n_stripes = math.ceil(units / (width // unit))
    borders = [min(n_features, unit * (units * stripe // n_stripes)) for stripe in range(n_stripes)] + [n_features]
    return [Partition(index, borders[index], borders[index + 1]) for index in range(n_stripes)]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run will read, hold, write and take.

    Attributes
    ----------
    job, output
        The verb, and the result it will publish.
    partitions
        The tasks.
    bytes_in
        Bytes read from the store, decompressed.
    bytes_out
        Bytes of all parts, about.
    peak_bytes_per_task
        Projected peak memory of a worker while it computes one task, the interpreter and libraries included.
    driver_bytes
        Projected peak of the driver's reduce step.
    n_workers, memory_per_worker
        What the cluster offers; bytes one task may use.
    estimated_seconds
        From a short calibration; None where none was made.
    notes
        Lines for the reader.
    """

    job: str
    output: str
    partitions: list[Partition]
    bytes_in: int
    bytes_out: int
    peak_bytes_per_task: int
    driver_bytes: int
    n_workers: int
    memory_per_worker: int
    estimated_seconds: float | None = None
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def n_tasks(self) -> int:
        """Number of tasks."""
        return len(self.partitions)

    def rows(self) -> list[tuple[str, str]]:
        """The plan as (what, how much) pairs, for people."""
        time_text = "not estimated" if self.estimated_seconds is None else f"about {duration(self.estimated_seconds)}"
        widest = max((partition.n_features for partition in self.partitions), default=0)
        return [
            ("job", self.job),
            ("output", self.output),
            ("tasks", f"{self.n_tasks}, up to {widest} features each"),
            ("workers", f"{self.n_workers}, {size(self.memory_per_worker)} each"),
            ("reads", size(self.bytes_in)),
            ("writes", size(self.bytes_out)),
            ("peak memory per task", size(self.peak_bytes_per_task)),
            ("memory of the driver", size(self.driver_bytes)),
            ("time", time_text),
            *(("note", note) for note in self.notes),
        ]

    def render(self) -> str:
        """The plan as plain text, one line each."""
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)

    def table(self) -> Table:
        """The plan as a rich table."""
        from rich.table import Table

        table = Table(show_header=False, box=None)
        for name, value in self.rows():
            table.add_row(name, value)
        return table

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        data["partitions"] = [partition.to_json() for partition in self.partitions]
        data["n_tasks"] = self.n_tasks
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """The inverse of `to_json`."""
        known = {field.name: data[field.name] for field in dataclasses.fields(cls)}
        known["partitions"] = [Partition.from_json(item) for item in data["partitions"]]
        return cls(**known)

    def check(self, max_seconds: float | None = None, driver_limit: int | None = None) -> None:
        """Refuse a plan that can't fit.

        Parameters
        ----------
        max_seconds
            Longest time the user accepts; None for any.
        driver_limit
            Bytes the driver may use; None reads this process's own limit.

        Raises
        ------
        PlanRefused
            With the numbers and the remedy. Nothing was started.
        """
        from sjd_dask.runtime.limits import memory_limit

        usable = int(self.memory_per_worker * MEMORY_SHARE)
        if self.peak_bytes_per_task > usable:
            raise PlanRefused(
                f"{self.job}: one task needs about {size(self.peak_bytes_per_task)}, and a worker may use "
                f"{size(usable)} ({MEMORY_SHARE:.0%} of its {size(self.memory_per_worker)}). Nothing was started. "
                f"Use fewer workers on this machine, or give each at least "
                f"{size(math.ceil(self.peak_bytes_per_task / MEMORY_SHARE))} (`memory` in the cluster file)."
            )
        driver = memory_limit() if driver_limit is None else driver_limit
        if self.driver_bytes > driver * MEMORY_SHARE:
            raise PlanRefused(
                f"{self.job}: gathering the parts needs about {size(self.driver_bytes)} in the driver, which may use "
                f"{size(int(driver * MEMORY_SHARE))} ({MEMORY_SHARE:.0%} of {size(driver)}). Nothing was started. "
                f"Run the driver where there is more memory, or test fewer features or contrasts at a time."
            )
        if max_seconds is not None and self.estimated_seconds is not None and self.estimated_seconds > max_seconds:
            raise PlanRefused(
                f"{self.job}: the run would take about {duration(self.estimated_seconds)} on {self.n_workers} "
                "workers, and "
                f"{duration(max_seconds)} were allowed. Nothing was started. Use more workers, or allow more time."
            )


def calibrate(function: Callable[[], object], budget: float = 1.0, repeats: int = 5) -> float:
    """Seconds that one call takes, measured.

    The first call is a warm-up (compilation, open files) and counts only if it alone used up the budget. The median
    of the rest is returned.

    Parameters
    ----------
    function
        What to measure: a small piece of the work.
    budget
        Seconds to spend; at least one call is made, and no call starts after it.
    repeats
        Most calls to measure.
    """
    begin = time.perf_counter()
    function()
    first = time.perf_counter() - begin
    taken: list[float] = []
    while len(taken) < repeats and time.perf_counter() - begin < budget:
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) if taken else first


def estimate_seconds(seconds_per_partition: float, n_partitions: int, n_workers: int) -> float:
    """Expected time of a run: whole rounds over the workers, and the cost of scheduling each task."""
    rounds = math.ceil(n_partitions / max(1, n_workers))
    return rounds * (seconds_per_partition + TASK_SECONDS)


def size(n_bytes: float) -> str:
    """Bytes for people, in powers of 1000."""
    value = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
