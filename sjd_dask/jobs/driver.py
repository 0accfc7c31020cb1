"""From a spec to a published result: the order of steps that every job shares.

A job module gives ``prepare(spec, base) -> Job``. The driver claims the run, opens the cluster, checks the plan, lets
the job compute its parts, and publishes: one catalogue transaction, last.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from sjd_dask.errors import DataError, SpecError
from sjd_dask.jobs.spec import JOBS, JobSpec, parse_spec, read_spec

if TYPE_CHECKING:
    import pyarrow as pa

    from sjd_dask.runtime.cluster import Cluster
    from sjd_dask.runtime.detached import Submitted
    from sjd_dask.runtime.here import Here
    from sjd_dask.runtime.outcome import ExecutionReport
    from sjd_dask.runtime.plan import Partition, Plan
    from sjd_dask.runtime.runs import RunSession
    from sjd_dask.store.cohort import Cohort


# Jobs whose tasks are a pass over what they read: with so few bytes they end before a worker process could start.
PASSES = frozenset({"associate", "classify", "deconvolve", "nightly", "normalise"})
HERE_BYTES = 32 << 20


class Runner:
    """Runs the partitions of one phase on the cluster and gives back their parts, in order."""

    def __init__(self, cluster: Cluster | Here, session: RunSession, projected_bytes: int) -> None:
        self.cluster = cluster
        self.session = session
        self.projected_bytes = projected_bytes
        self.reports: list[ExecutionReport] = []

    def run(
        self, function: Callable[[Any, Partition], Any], common: Any, partitions: Sequence[Partition]
    ) -> Iterator[pa.Table]:
        """Compute what is missing of the partitions, then read all parts one after another."""
        from sjd_dask.runtime.execute import run_partitions

        report = run_partitions(
            self.cluster,
            function,
            common,
            partitions,
            self.session.parts,
            on_event=self.session.tell,
            should_stop=self.session.should_stop,
            projected_bytes=self.projected_bytes,
        )
        self.reports.append(report)
        return self.session.parts.tables(partitions)


class Job(Protocol):
    """What a prepared job offers. Nothing has been computed yet."""

    spec: JobSpec
    cohort: Cohort
    kind: str
    fingerprint: str
    snapshot: int
    warnings: list[str]

    def up_to_date(self) -> list[str] | None:
        """References of the results, where nothing is left to do whatever was run before; else None."""

    def plan(self, n_workers: int, memory_per_worker: int, *, calibrate: bool = False) -> Plan:
        """Partitions, bytes, memory, time."""

    def execute(self, plan: Plan, runner: Runner) -> tuple[dict[str, pa.Table], dict[str, Any]]:
        """Compute; give the tables to publish and the facts of the run."""

    def publish(self, session: RunSession, tables: dict[str, pa.Table], meta: dict[str, Any]) -> list[str]:
        """Make them visible in one transaction, and give the references of the results."""


@runtime_checkable
class HeldJob(Protocol):
    """A job that nobody else may do at the same time. What it will do, and so its fingerprint, is known once it is
    held."""

    notes: list[str]

    def hold(self) -> contextlib.AbstractContextManager[None]:
        """Keep others out, and find what there is to do."""


@dataclasses.dataclass
class Outcome:
    """What a run led to."""

    cohort: Cohort
    run: str
    state: str
    results: list[str]
    warnings: list[str]
    seconds: float
    notes: list[str] = dataclasses.field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain data for --json."""
        return {
            "run": self.run,
            "state": self.state,
            "results": self.results,
            "warnings": self.warnings,
            "notes": self.notes,
            "seconds": round(self.seconds, 3),
        }


def prepare(spec: JobSpec, base: Path) -> Job:
    """Open what the spec names and check it; nothing is computed."""
    job = str(spec.job)  # type: ignore[attr-defined]
    if job not in JOBS:
        raise SpecError(f"there is no job {job!r}")
    module = importlib.import_module(f"sjd_dask.jobs.{job}")
    prepared: Job = module.prepare(spec, base)
    return prepared


def plan_job(
    spec_path: Path, overrides: Sequence[str] = (), *, cluster: str = "local", workers: int | None = None
) -> Plan:
    """The plan of a spec, with measured time; nothing is written.

    The memory of a worker is this machine's for `local` and the workers' own view otherwise.
    """
    from sjd_dask.runtime.cluster import open_cluster
    from sjd_dask.runtime.limits import available_cpus, memory_limit

    spec, base = read_spec(spec_path, list(overrides))
    job = prepare(spec, base)
    if cluster == "local":
        n_workers = workers or available_cpus()
        return job.plan(n_workers, memory_limit() // n_workers, calibrate=True)
    with open_cluster(cluster, workers=workers) as opened:
        return job.plan(opened.n_workers, opened.memory_per_worker, calibrate=True)


def run_job(
    spec_path: Path,
    overrides: Sequence[str] = (),
    *,
    cluster: str | Cluster = "local",
    workers: int | None = None,
    quiet: bool = False,
) -> Outcome:
    """Run a spec file. See :func:`run_spec`."""
    spec, base = read_spec(spec_path, list(overrides))
    return run_spec(spec, base, cluster=cluster, workers=workers, quiet=quiet)


def run_spec(
    spec: JobSpec, base: Path, *, cluster: str | Cluster = "local", workers: int | None = None, quiet: bool = False
) -> Outcome:
    """Run a checked spec: claim, plan, compute, publish.

    Parameters
    ----------
    spec, base : JobSpec, Path
        The spec and the folder its relative paths start from.
    cluster : str or Cluster
        Where tasks run; an open Cluster is used and left open.

    Raises
    ------
    SpecError, DataError, PlanRefused, Interrupted, Busy
        With the exit codes 2 to 6 of the contract.
    """
    return _run(prepare(spec, base), cluster, workers, quiet)


def stored_spec(spec: JobSpec) -> dict[str, Any]:
    """The spec as a run keeps it to be resumed: what was said and no defaults, since a key that belongs to another
    choice is refused when it is read again."""
    return {**spec.model_dump(mode="json", exclude_unset=True), "job": str(spec.job), "cohort": "."}  # type: ignore[attr-defined]


def _run(job: Job, cluster: str | Cluster, workers: int | None, quiet: bool) -> Outcome:
    if not isinstance(job, HeldJob):
        return _claim_and_run(job, cluster, workers, quiet)
    begin = time.perf_counter()
    with job.hold():
        outcome = _claim_and_run(job, cluster, workers, quiet)
    return dataclasses.replace(outcome, seconds=time.perf_counter() - begin, notes=job.notes)


def _claim_and_run(job: Job, cluster: str | Cluster, workers: int | None, quiet: bool) -> Outcome:
    from sjd_dask.runtime.events import Message, progress
    from sjd_dask.runtime.runs import open_run

    begin, spec = time.perf_counter(), job.spec
    if (there := job.up_to_date()) is not None:
        return Outcome(job.cohort, "", "unchanged", there, job.warnings, time.perf_counter() - begin)
    stored = stored_spec(spec)
    with open_run(
        job.cohort,
        job.fingerprint,
        stored,
        str(stored["job"]),
        spec.output,
        # The view the reader was built at: gc keeps the segments of that view while the run lives.
        snapshot=job.snapshot,
        on_event=progress(quiet=quiet),
    ) as session:
        if session.state == "published":
            return Outcome(
                job.cohort,
                session.run_id,
                "unchanged",
                list(session.published),
                job.warnings,
                time.perf_counter() - begin,
            )
        with _opened(job, cluster, workers) as opened:
            for warning in opened.warnings:
                session.tell(Message(warning, "warning"))
            plan = job.plan(opened.n_workers, opened.memory_per_worker)
            plan.check()
            session.save_plan(plan)
            runner = Runner(opened, session, plan.peak_bytes_per_task)
            tables, meta = job.execute(plan, runner)
            meta["run"] = {
                "id": session.run_id,
                "fingerprint": job.fingerprint,
                "cluster": opened.description,
                "seconds": round(time.perf_counter() - begin, 3),
                "tasks": sum(report.n_partitions for report in runner.reports),
                "reused": sum(report.n_reused for report in runner.reports),
                "peak_rss": max((report.peak_rss for report in runner.reports), default=0),
                **_versions(),
            }
            # A signal that came after the last partition counts too.
            session.check()
            references = job.publish(session, tables, meta)
            session.finish(references)
    return Outcome(job.cohort, session.run_id, "published", references, job.warnings, time.perf_counter() - begin)


def publish_tables(job: Job, session: RunSession, tables: dict[str, pa.Table], meta: dict[str, Any]) -> list[str]:
    """Publish the tables of a job as one result under its output's name."""
    result = job.cohort.publish_result(
        job.kind, job.spec.output, tables, meta, run_id=session.run_id, epoch=session.epoch
    )
    return [result.ref]


def resume_job(
    cohort_path: str, run_id: str, *, cluster: str = "local", workers: int | None = None, quiet: bool = False
) -> Outcome:
    """Go on with an interrupted or failed run by its id.

    Raises
    ------
    DataError
        The data or the sample sheet changed since the run began: its parts belong to what was there before.
    """
    from sjd_dask.store.catalogue.runs import get_run
    from sjd_dask.store.cohort import open_cohort

    cohort = open_cohort(cohort_path)
    stored = get_run(cohort.catalogue, run_id)
    spec = parse_spec({**stored.spec, "cohort": cohort.path}, f"run {stored.id}")
    job = prepare(spec, Path())
    # A held job's work is found when it runs: it takes up the parts of that run, or is a new one.
    if not isinstance(job, HeldJob) and job.fingerprint != stored.fingerprint:
        raise DataError(
            f"run {stored.id} can't be resumed: samples, sample columns or methods changed since it began, and its "
            "parts no longer fit. Run its spec again with `sjd run`: that is a new run."
        )
    return _run(job, cluster, workers, quiet)


def submit_job(
    spec_path: Path, overrides: Sequence[str] = (), *, cluster: str = "local", workers: int | None = None
) -> Submitted:
    """Check a spec, then run it in a process that goes on when this one ends."""
    from sjd_dask.runtime.detached import submit

    spec, base = read_spec(spec_path, list(overrides))
    job = prepare(spec, base)
    arguments = ["run", str(spec_path), "--cluster", cluster, *(f"--set={item}" for item in overrides)]
    if workers is not None:
        arguments += ["--workers", str(workers)]
    return submit(job.cohort, arguments)


def _opened(job: Job, cluster: str | Cluster, workers: int | None) -> Any:
    """Where the tasks run: the cluster that was named, or this process for a small pass that names none."""
    from contextlib import nullcontext

    from sjd_dask.runtime.cluster import open_cluster
    from sjd_dask.runtime.here import Here

    if not isinstance(cluster, str):
        return nullcontext(cluster)
    if cluster == "local" and workers is None and str(job.spec.job) in PASSES:  # type: ignore[attr-defined]
        here = Here()
        if job.plan(here.n_workers, here.memory_per_worker).bytes_in <= HERE_BYTES:
            return here
    return open_cluster(cluster, workers=workers)


def _versions() -> dict[str, Any]:
    import platform
    from importlib.metadata import version

    from sjd_dask import __version__

    libraries = ("dask", "distributed", "formulaic", "numba", "numpy", "pandas", "pyarrow", "scipy", "xarray", "zarr")
    return {
        "package_version": __version__,
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in libraries},
    }
