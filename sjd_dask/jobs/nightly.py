"""A night: take in what has arrived, classify what needs it, say who changed and why, and publish it all at once."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.errors import SjdError
from sjd_dask.jobs import inbox
from sjd_dask.jobs.bundle import Bundle
from sjd_dask.jobs.class_tables import refused
from sjd_dask.jobs.classify import open_model
from sjd_dask.jobs.drift import NONE
from sjd_dask.jobs.inbox import Arrivals, Listing
from sjd_dask.jobs.night_changes import call_changes
from sjd_dask.jobs.night_drift import counting, judge, watched_samples
from sjd_dask.jobs.night_inputs import Before, Samples, read_before, read_samples
from sjd_dask.jobs.night_state import Rules, ToDo, find_work
from sjd_dask.jobs.night_tables import Made, make_tables
from sjd_dask.jobs.nightly_spec import NightlySpec
from sjd_dask.jobs.score import ScoreWork, make_work, read_histograms, read_scores, restricted_chain, score_task
from sjd_dask.jobs.spec import JobSpec, resolve_path
from sjd_dask.runtime.fingerprint import fingerprint
from sjd_dask.runtime.plan import Plan
from sjd_dask.store.catalogue.nights import CallChanges
from sjd_dask.store.cohort import open_cohort
from sjd_dask.store.compact import compact, count_small
from sjd_dask.store.rehearsal import rehearsal

if TYPE_CHECKING:
    from sjd_dask.jobs.driver import Runner
    from sjd_dask.runtime.runs import RunSession
    from sjd_dask.store.cohort import Cohort
    from sjd_dask.store.lease import Lease

# Segments with fewer samples are small.
SMALL_ROWS = 256
# Raised when calls, reports or changes come out different of the same data.
METHOD_VERSION = 1


@dataclass
class Look:
    """What a night found."""

    arrivals: Arrivals
    before: Before
    samples: Samples
    todo: ToDo
    work: ScoreWork | None
    watched: NDArray[np.bool_]

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to publish."""
        return self.todo.nothing and not self.arrivals.staged and not self.samples.changed_columns


@dataclass
class NightlyJob:
    """A prepared night: everything is opened and checked; what has arrived is read once the lease is held."""

    spec: NightlySpec
    cohort: Cohort
    bundle: Bundle
    model: str
    columns: list[str]
    snapshot: int
    fingerprint: str = ""
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kind: str = names.CLASSES
    _look: Look | None = None
    _made: Made | None = None
    _lease: Lease | None = None

    # -- the order of a night ------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Keep others out, look at what there is, and leave nothing half-written.

        Raises
        ------
        Busy
            Another night, or a withdrawal, is under way.
        """
        if self.spec.dry_run:
            with rehearsal(self.cohort) as copy:
                look = self._look = dataclasses.replace(self, cohort=copy)._see(take=True)
                self.snapshot = look.samples.assay.snapshot
                try:
                    yield
                finally:
                    inbox.give_up(copy, look.arrivals)
            return
        with self.cohort.lease() as self._lease:
            self.cohort.sweep_dead()
            look = self._look = self._see(take=True)
            for staged in look.arrivals.staged:
                self._lease.keep(staged.arrival.staging_id)
            try:
                yield
            finally:
                inbox.give_up(self.cohort, look.arrivals)

    def _see(self, *, take: bool) -> Look:
        """Read the inbox (`take`), the night before and the samples, and find what to do."""
        spec = self.spec
        before = read_before(self.cohort, spec.output)
        listing = Listing()
        if spec.inbox is not None and take:
            listing = inbox.list_inbox(Path(spec.inbox), self.cohort.assays(), spec.settle_seconds)
        arrivals = inbox.take_in(self.cohort, listing, () if before.night is None else before.night.files)
        try:
            assay = self.cohort.assay(spec.assay)
            self.snapshot = assay.snapshot
            staged = [one.arrival for one in arrivals.staged if one.arrival.assay == spec.assay]
            if staged:
                assay = assay.with_arrivals(staged)
            self.bundle.check_platform(assay)
            samples = read_samples(self.cohort, assay, arrivals.sheets, spec.eligible, self.columns)
            todo = find_work(samples.state, samples.people, self.rules, before.night)
            work = None
            sheet = samples.sheet.loc[todo.score]
            watched = watched_samples(self.cohort, self.bundle, samples.state.loc[todo.score], before.night)
            if todo.score:
                work = make_work(self.bundle, assay, sheet, counting(self.bundle, sheet, watched, spec.drift))
        except BaseException:
            inbox.give_up(self.cohort, arrivals)
            raise
        return Look(arrivals, before, samples, todo, work, watched)

    @property
    def rules(self) -> Rules:
        """What decides besides the data."""
        return Rules(self.bundle.hash, self.spec.eligible.strip(), self.spec.margin)

    def _name(self, look: Look) -> str:
        samples = look.samples
        return fingerprint(
            {
                "job": "nightly",
                "output": self.spec.output,
                "assay": self.spec.assay,
                "rules": dataclasses.asdict(self.rules),
                "drift": self.spec.drift.model_dump(mode="json"),
                "after": look.before.newest,
                "samples": _digest(samples.state.index),
                "state": {name: _digest(samples.state[name]) for name in samples.state},
                "people": {name: _digest(samples.people[name]) for name in samples.people},
                "files": look.arrivals.files,
                "version": METHOD_VERSION,
            }
        )

    def up_to_date(self) -> list[str] | None:
        """An empty list where nothing is to be published."""
        look = self._look
        assert look is not None
        self._warn(look)
        if self.spec.dry_run:
            self.notes += self._what_if(look)
            return []
        if not look.nothing:
            self.fingerprint = self._name(look)
            return None
        self._put_away(look)
        since = f" since {look.before.ref}" if look.before.ref else ""
        self.notes.append(f"nothing to do: no sample, sample column, model or rule changed{since}")
        return []

    def _warn(self, look: Look) -> None:
        for file, reason in look.arrivals.refused:
            self.warnings.append(f"{file.name} goes to quarantine: {reason}")
        for file in look.arrivals.left_out:
            self.warnings.append(
                f"{file.name} holds samples of withdrawn people: it is taken in without them and removed"
            )
        for name, reason in look.arrivals.waiting:
            self.warnings.append(f"{name} waits in the inbox: {reason}")
        if not look.samples.state["eligible"].any():
            self.warnings.append(
                f"`eligible: {self.spec.eligible}` selects none of {len(look.samples.state):,} samples"
            )

    def plan(self, n_workers: int, memory_per_worker: int, *, calibrate: bool = False) -> Plan:
        """One pass over the samples whose calls must be computed."""
        look = self._look or self._see(take=False)
        work, spec = look.work, self.spec
        n = len(look.samples.state)
        notes = [f"{len(look.todo.score):,} of {n:,} samples are classified anew"]
        if self._look is None and spec.inbox is not None:
            listing = inbox.list_inbox(Path(spec.inbox), self.cohort.assays(), spec.settle_seconds)
            notes.append(f"{len(listing.files):,} files in the inbox are not looked into before the night runs")
        return Plan(
            job="nightly",
            output=f"{self.kind}/{spec.output}",
            partitions=[] if work is None else work.partitions(spec.partition_samples),
            bytes_in=0 if work is None else _bytes_in(work),
            bytes_out=n * (len(self.bundle.classifier.classes) + 12) * 16,
            peak_bytes_per_task=0 if work is None else work.task_bytes(),
            driver_bytes=(256 << 20) + n * (len(self.bundle.classifier.classes) * 64 + 2000),
            notes=notes,
            n_workers=n_workers,
            memory_per_worker=memory_per_worker,
        )

    def execute(self, plan: Plan, runner: Runner) -> tuple[dict[str, pa.Table], dict[str, Any]]:
        """Score what needs it."""
        look = self._look
        assert look is not None
        look.samples.assay.check_chunks()
        parts = [] if look.work is None else list(runner.run(score_task, look.work, plan.partitions))
        self._make(look, parts, runner.session.run_id)
        assert self._made is not None
        return {"table": self._made.classes}, {}

    def _make(self, look: Look, parts: list[pa.Table], run: str) -> None:
        """Everything that is to be published."""
        scores = read_scores(parts, self.bundle.classifier.classes)
        samples = look.samples
        drift = judge(
            self.bundle, scores, read_histograms(parts), samples.sheet.loc[look.todo.score],
            samples.people[names.PERSON_ID], look.watched, look.before, self.spec.drift, run,
        )  # fmt: skip
        self.warnings += refused(scores)
        if drift is not None:
            # What is only said is in the night's report.
            self.warnings += [f"drift: {text}" for text in drift.messages if drift.level != NONE]
            if not self.spec.dry_run:
                drift.check(self.spec.drift.accept)
        self._made = make_tables(self, look, scores, drift, run)

    def publish(self, session: RunSession, tables: dict[str, pa.Table], meta: dict[str, Any]) -> list[str]:
        """One transaction; then the files of the inbox are put away."""
        look, made = self._look, self._made
        assert look is not None and made is not None
        before = look.before.night
        retire, rows = call_changes(before, made.night)
        done = self.cohort.publish_night(
            session.run_id,
            session.epoch,
            [one.arrival for one in look.arrivals.staged],
            look.arrivals.sheets,
            made.items({**meta, "warnings": list(self.warnings)}),
            CallChanges(self.spec.output, retire, rows),
            after=look.before.newest,
            lease=self._lease,
        )
        arrived = sorted({one.arrival.assay for one in look.arrivals.staged})
        look.arrivals.staged = []
        self._put_away(look)
        self._merge_small(arrived)
        return done.refs

    def _merge_small(self, assays: list[str]) -> None:
        """Keep the number of segments of a growing assay small; what is published is not touched."""
        most = self.spec.compact_above
        for name in assays if most else ():
            if count_small(self.cohort, name, SMALL_ROWS) <= most:
                continue
            try:
                compact(self.cohort, name, small_rows=SMALL_ROWS)
            except SjdError as error:
                self.warnings.append(f"the small segments of {name!r} were not merged: {error}")

    def _put_away(self, look: Look) -> None:
        if self.spec.inbox is not None:
            inbox.put_away(Path(self.spec.inbox), look.arrivals)

    def _what_if(self, look: Look) -> list[str]:
        """What a night would do: computed in this process, and forgotten."""
        arrivals, todo = look.arrivals, look.todo
        lines = [f"{one.name}: would go to quarantine: {reason}" for one, reason in arrivals.refused]
        lines += [f"{name}: would wait: {reason}" for name, reason in arrivals.waiting]
        for fact in arrivals.matrices:
            lines.append(
                f"{fact['file']}: {fact['n_new']:,} new, {fact['n_replaced']:,} replaced and {fact['n_unchanged']:,} "
                f"unchanged samples of {fact['assay']!r}"
            )
        lines += [f"{fact['file']}: sample columns of {fact['n_samples']:,} samples" for fact in arrivals.tables]
        if look.nothing:
            return [*lines, "nothing would be published"]
        lines.append(f"{len(todo.score):,} of {len(look.samples.state):,} samples would be classified by {self.model}")
        parts = [] if look.work is None else [score_task(look.work, one) for one in look.work.partitions()]
        self._make(look, parts, "dry run")
        assert self._made is not None
        counted = self._made.changes["reason"].value_counts()
        lines += [f"{count:,} rows of changes/{self.spec.output}: {reason}" for reason, count in counted.items()]
        return [*lines, f"{', '.join(self._made.names)} would be published"]


def prepare(spec: JobSpec, base: Path) -> NightlyJob:
    """Open the cohort and the model; nothing is read of the inbox.

    Raises
    ------
    SpecError, DataError
        Naming what the spec asks for and the cohort doesn't have, a model that can't be read, or another platform.
    """
    assert isinstance(spec, NightlySpec)
    cohort = open_cohort(resolve_path(spec.cohort, base))
    # A run that is taken up again starts from another folder.
    kept = spec if spec.inbox is None else spec.model_copy(update={"inbox": resolve_path(spec.inbox, base)})
    bundle, model, said = open_model(cohort, spec.model)
    assay = cohort.assay(spec.assay)
    bundle.check_platform(assay)
    if kept.inbox is not None:
        inbox.check_folder(Path(kept.inbox))
    restricted = restricted_chain(bundle)
    return NightlyJob(
        spec=kept,
        cohort=cohort,
        bundle=bundle,
        model=model,
        columns=list(restricted.columns),
        snapshot=assay.snapshot,
        warnings=said,
    )


def _digest(cells: Any) -> str:
    """A hash of a column's texts; missing ones are told from empty ones."""
    texts = ["n" if one is None else f"t{one}" for one in cells]
    return hashlib.blake2b(json.dumps(texts).encode(), digest_size=16).hexdigest()


def _bytes_in(work: ScoreWork) -> int:
    reader = work.matrix.reader
    return reader.n_samples * work.width * reader.dtype.itemsize
