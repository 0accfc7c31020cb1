"""A withdrawal, from the list of ids to the signed line in the audit.

In this order, so that it may stop anywhere: new files are written beside the old ones; one transaction shows the cohort
without these people and notes what is left to do; the old bytes go; everything is searched; the line is signed. Stopped
before the transaction nothing has happened; after it the same command goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from sjd_dask import names
from sjd_dask.errors import DataError
from sjd_dask.store.bundle import BUNDLES
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.session import in_pieces, now
from sjd_dask.store.catalogue.tombstones import withdrawn_ids
from sjd_dask.store.catalogue.withdrawals import (
    Pending,
    erase_for_good,
    publish_withdrawal,
    read_pending,
    refuse_at_work,
    sign_off,
    write_pending,
)
from sjd_dask.store.describe import iso_time
from sjd_dask.store.lease import NIGHT, Lease
from sjd_dask.store.segment import remove_segment
from sjd_dask.store.withdraw.folders import clean_inbox, clean_leftovers, clean_runs
from sjd_dask.store.withdraw.ids import Leaving
from sjd_dask.store.withdraw.people import Request, everybody, resolve
from sjd_dask.store.withdraw.results import ResultPlan, plan_results, words_of_results
from sjd_dask.store.withdraw.rules import Rules
from sjd_dask.store.withdraw.scan import find_beside, find_them, raw_names
from sjd_dask.store.withdraw.segments import Rewriting, Rewritten, Touched, touched_segments

if TYPE_CHECKING:
    from sjd_dask.store.cohort import Cohort

EXPIRE_HOURS: Final = 720.0
Progress = Callable[[str], None]


@dataclass
class WithdrawReport:
    """What a withdrawal did, or would do. It holds no ids.

    Attributes
    ----------
    status : str
        ``withdrawn``, ``would_withdraw`` (dry run), or ``unchanged``: all of them had been withdrawn before.
    ended_earlier : bool
        A withdrawal that had been stopped was ended first.
    n_persons, n_samples, n_gone, n_unknown : int
        People, their samples, ids withdrawn before, and ids that were never seen.
    n_segments, n_rows : int
        Segments written anew, and rows in them that left (of every view).
    results : list of str
        Results whose tables or parameters named them.
    blocked : list of {ref, why}
        Parameters that copied values of one person: nobody can use them any more.
    needs_retraining : list of str
        Models that they trained.
    may_rest_on : list of str
        Results computed while they were here.
    removed : list of str
        Files of inboxes that were removed.
    beside : list of str
        Files in the cohort's folder that this package did not write and that name them: to be looked after by hand.
    backups_expire : str
        When copies made before must be gone.
    snapshot : int or None
    signed : dict
        The line in the audit.
    """

    status: str = "unchanged"
    ended_earlier: bool = False
    n_persons: int = 0
    n_samples: int = 0
    n_gone: int = 0
    n_unknown: int = 0
    n_segments: int = 0
    n_rows: int = 0
    results: list[str] = field(default_factory=list)
    blocked: list[dict[str, str]] = field(default_factory=list)
    needs_retraining: list[str] = field(default_factory=list)
    may_rest_on: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    backups_expire: str = ""
    snapshot: int | None = None
    signed: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class Order:
    """How to withdraw.

    Attributes
    ----------
    person : str
        The sample column of people.
    id_columns : tuple of str
        Further sample columns that hold ids.
    allow_unknown : bool
        Whether ids that this cohort has never seen get a tombstone too.
    expire_hours : float
        How long copies made before may be kept.
    inboxes : tuple of Path
        Folders of which files taken in or refused go, where they hold values of these people.
    matrix_ids : callable, optional
        The ids in a matrix file.
    """

    person: str = names.PERSON_ID
    id_columns: tuple[str, ...] = ()
    allow_unknown: bool = False
    expire_hours: float = EXPIRE_HOURS
    inboxes: tuple[Path, ...] = ()
    matrix_ids: Callable[[Path], Iterable[str]] | None = None
    who: str | None = None


def withdraw(
    cohort: Cohort,
    ids: Sequence[str],
    rules: Rules,
    order: Order | None = None,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> WithdrawReport:
    """Take people out of a cohort, past views included.

    Parameters
    ----------
    ids : sequence of str
        Ids of people, or of samples of which no person is known.
    rules : Rules
        What stored numbers are copies of one person's.

    Raises
    ------
    DataError
        Ids that the cohort has never seen, samples of people who have ids of their own, a damaged file; or after the
        work a place that still names one of them.
    Busy
        A run, a writer, a night or another withdrawal is at work. Nobody was withdrawn.
    """
    order = order or Order()
    if dry_run:
        return _plan_only(cohort, ids, rules, order, progress)
    with Lease(cohort.catalogue, NIGHT) as lease:
        with cohort.catalogue.read() as connection:
            pending = read_pending(connection)
        report = WithdrawReport()
        if pending is not None:
            _end(cohort, pending, _again(cohort, pending, ids, order), order, report, progress)
            report.ended_earlier = True
        request = _request(cohort, ids, order)
        report.n_gone, report.n_unknown = len(request.gone), len(request.unknown)
        if not request.leaving.ids and not request.unknown:
            return report
        pending = _begin(cohort, request, rules, order, report, progress, lease)
        _end(cohort, pending, request.leaving, order, report, progress)
        return report


def _request(cohort: Cohort, ids: Sequence[str], order: Order) -> Request:
    if not ids:
        raise DataError("there are no ids in the list; nobody was withdrawn")
    with cohort.catalogue.read() as connection:
        request = resolve(connection, ids, person=order.person, id_columns=order.id_columns)
    if request.unknown and not order.allow_unknown:
        shown = ", ".join(map(repr, request.unknown[:5])) + (", ..." if len(request.unknown) > 5 else "")
        raise DataError(
            f"{len(request.unknown)} of the {len(ids)} ids are neither people nor samples of this cohort: {shown}; "
            f"nobody was withdrawn. Correct them (people are those of the sample column {order.person!r}), or say "
            "--allow-unknown: then they will be dropped should they ever come."
        )
    words = request.leaving.words | words_of_results(cohort, request.leaving)
    return dataclasses.replace(request, leaving=dataclasses.replace(request.leaving, words=words))


def _first_shown(cohort: Cohort, leaving: Leaving) -> int | None:
    """The change that first showed one of them."""
    first: list[int] = []
    with cohort.catalogue.read() as connection:
        for piece in in_pieces(sorted(leaving.samples)):
            query = sa.select(sa.func.min(t.rows.c.published_in)).where(t.rows.c.sample_id.in_(piece))
            one = connection.execute(query).scalar()
            first += [] if one is None else [int(one)]
    return min(first, default=None)


def _note(report: WithdrawReport, request: Request, touched: list[Touched], plan: ResultPlan) -> None:
    report.n_persons, report.n_samples = request.n_people, len(request.leaving.samples)
    report.n_segments = len(touched)
    report.n_rows = sum(one.n_rows - sum(len(row.ids) for row in one.stay) for one in touched)
    report.results = plan.rewritten
    report.blocked = [{"ref": ref, "why": why} for ref, why in plan.blocked]
    report.needs_retraining, report.may_rest_on = plan.retrain, plan.rest_on


def _plan_only(
    cohort: Cohort, ids: Sequence[str], rules: Rules, order: Order, progress: Progress | None
) -> WithdrawReport:
    request = _request(cohort, ids, order)
    report = WithdrawReport("would_withdraw" if request.leaving.ids or request.unknown else "unchanged")
    report.n_gone, report.n_unknown = len(request.gone), len(request.unknown)
    touched = touched_segments(cohort, request.leaving, progress)
    since = _first_shown(cohort, request.leaving)
    plan = ResultPlan()
    plan_results(cohort, request.leaving, rules, plan, since=since, write=False, progress=progress)
    _note(report, request, touched, plan)
    report.beside = find_beside(cohort, request.leaving)
    return report


def _begin(
    cohort: Cohort,
    request: Request,
    rules: Rules,
    order: Order,
    report: WithdrawReport,
    progress: Progress | None,
    lease: Lease,
) -> Pending:
    """Everything up to the transaction that shows the cohort without them."""
    leaving = request.leaving
    cohort.sweep_dead()
    with cohort.catalogue.read() as connection:
        refuse_at_work(connection)
    touched = touched_segments(cohort, leaving, progress)
    rewriting, plan = Rewriting(cohort, lease), ResultPlan()
    try:
        rewritten: list[Rewritten] = list(rewriting.write(touched, progress))
        since = _first_shown(cohort, leaving)
        plan_results(cohort, leaving, rules, plan, since=since, write=True, progress=progress)
        _note(report, request, touched, plan)
        report.backups_expire = iso_time(now() + order.expire_hours * 3600)
        pending = Pending(
            snapshot=0,
            persons=sorted(leaving.persons),
            samples=sorted(leaving.samples),
            id_columns=sorted(leaving.id_columns),
            words=sorted(leaving.words),
            segments=[[one.assay, one.info.id] for one in touched],
            files=[file.path for file in plan.old],
            tombstones=sorted({*leaving.ids, *request.unknown}),
            facts={
                "persons": report.n_persons,
                "samples": report.n_samples,
                "unknown": report.n_unknown,
                "segments": report.n_segments,
                "rows": report.n_rows,
                "results": report.results,
                "blocked": report.blocked,
                "needs_retraining": report.needs_retraining,
                "backups_expire": report.backups_expire,
            },
        )
        with cohort.catalogue.write() as connection:
            lease.check(connection)
            publish_withdrawal(
                connection,
                leaving,
                rewritten,
                plan.changed,
                n_results=plan.n_results,
                staged=rewriting.staged,
                pending=pending,
                who=order.who,
            )
    except BaseException:
        # Stopped just after the transaction everything written is in use.
        with cohort.catalogue.read() as connection:
            is_published = read_pending(connection) is not None
        if not is_published:
            rewriting.abandon()
            for file in plan.new:
                _delete(cohort, file.path)
        raise
    return pending


def _again(cohort: Cohort, pending: Pending, ids: Sequence[str], order: Order) -> Leaving:
    """The people of a withdrawal that was stopped; once their ids are forgotten, those of the list that left."""
    persons, samples = set(pending.persons), set(pending.samples)
    with cohort.catalogue.read() as connection:
        if not pending.tombstones:
            persons = withdrawn_ids(connection, ids)
        stay = everybody(connection, order.person) - persons - samples
    return Leaving(
        frozenset(persons), frozenset(samples), frozenset(pending.id_columns), frozenset(pending.words), frozenset(stay)
    )


def _end(
    cohort: Cohort, pending: Pending, leaving: Leaving, order: Order, report: WithdrawReport, progress: Progress | None
) -> None:
    """Everything after that transaction; each step may be done twice."""
    if pending.persons or pending.samples or pending.tombstones:
        for assay, segment_id in pending.segments:
            remove_segment(cohort.files, assay, segment_id)
        for path in pending.files:
            _delete(cohort, path)
        clean_leftovers(cohort, leaving)
        clean_runs(cohort, leaving)
        for inbox in order.inboxes:
            report.removed += clean_inbox(inbox, leaving, order.matrix_ids)
        left = find_them(cohort, leaving, progress)
        if left:
            raise DataError(
                f"{len(left)} places still name people who were withdrawn: {', '.join(left[:10])}"
                f"{', ...' if len(left) > 10 else ''}. The cohort shows none of them any more, but their bytes are "
                "there. Run the same command again; if it ends so again, remove what is named by hand."
            )
        _forget(cohort, pending)
    if progress:
        progress("writing the database anew")
    cohort.catalogue.vacuum()
    if raw_names(cohort, leaving):
        raise DataError(
            "the database's file still holds the id of somebody who was withdrawn, though no record does. Run the same "
            "command again when nobody else has it open."
        )
    report.beside = find_beside(cohort, leaving)
    with cohort.catalogue.write() as connection:
        report.signed = sign_off(connection, {**pending.facts, "places_left": 0}, order.who)
        write_pending(connection, None)
    report.status, report.snapshot, facts = "withdrawn", pending.snapshot, pending.facts
    report.n_persons, report.n_samples = facts["persons"], facts["samples"]
    report.n_segments, report.n_rows = facts["segments"], facts["rows"]
    report.results, report.blocked = facts["results"], facts["blocked"]
    report.needs_retraining, report.backups_expire = facts["needs_retraining"], facts["backups_expire"]


def _delete(cohort: Cohort, path: str) -> None:
    if path.startswith(f"{BUNDLES}/"):
        cohort.files.delete_tree(path)
    else:
        cohort.files.delete(path)


def _forget(cohort: Cohort, pending: Pending) -> None:
    """Take the ids out of the note of what is left to do."""
    pending.persons, pending.samples, pending.tombstones, pending.words = [], [], [], []
    pending.segments, pending.files = [], []
    with cohort.catalogue.write() as connection:
        erase_for_good(connection)
        write_pending(connection, pending)
