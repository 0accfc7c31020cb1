"""Publishing a night: arrivals, sample columns, results and calls in one transaction under one snapshot number."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from sjd_dask.errors import Busy, DataError
from sjd_dask.store.catalogue import samples as sample_records
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.calls import CallChanges, insert_calls
from sjd_dask.store.catalogue.publish import at_the_same_moment, check_assay, check_withdrawn, compare_rows, insert_rows
from sjd_dask.store.catalogue.results import NewResult, insert_result, next_version, parse_ref
from sjd_dask.store.catalogue.runs import set_if_held
from sjd_dask.store.catalogue.session import Catalogue, new_snapshot
from sjd_dask.store.catalogue.staging import take_staging
from sjd_dask.store.segment import SegmentRecord

__all__ = ["Arrival", "CallChanges", "PublishedNight", "check_newest", "publish_night"]


@dataclass(frozen=True)
class Arrival:
    """A finished segment that is not published yet.

    Attributes
    ----------
    staging_id : str
    record : SegmentRecord
    row_hashes : list of str
        One a row, in the segment's order.
    replace : bool
        Whether its rows may take the place of live rows with other content.
    """

    staging_id: str
    record: SegmentRecord
    row_hashes: list[str]
    replace: bool = False

    @property
    def assay(self) -> str:
        """The assay it belongs to."""
        return self.record.assay

    def hashes(self) -> dict[str, str]:
        """Row hashes by sample."""
        return dict(zip(self.record.sample_ids, self.row_hashes, strict=True))


@dataclass(frozen=True)
class PublishedNight:
    """What a night changed.

    Attributes
    ----------
    refs : list of str
        ``kind/name@version`` of the results, in the order given.
    snapshot : int or None
        The number of the change; None where nothing changed.
    n_new, n_replaced, n_same : int
        Rows of new samples, rows that retired an older one, rows that were there already.
    n_columns : int
        Samples whose columns changed.
    n_calls : int
        Calls that were retired or made.
    unused : list of Arrival
        Arrivals whose rows were all there already; their bytes can go.
    """

    refs: list[str]
    snapshot: int | None
    n_new: int = 0
    n_replaced: int = 0
    n_same: int = 0
    n_columns: int = 0
    n_calls: int = 0
    unused: list[Arrival] = field(default_factory=list)


def publish_night(
    catalogue: Catalogue,
    run_id: str,
    epoch: int,
    arrivals: Sequence[Arrival],
    sheets: Sequence[pd.DataFrame],
    items: Sequence[NewResult],
    calls: CallChanges | None,
    message: str,
    after: Mapping[str, int],
    check: Callable[[sa.Connection], None] | None = None,
    who: str | None = None,
) -> PublishedNight:
    """Make a night visible. See `Cohort.publish_night`."""
    twice = [
        key for key, n in Counter((a.assay, one) for a in arrivals for one in a.record.sample_ids).items() if n > 1
    ]
    if twice:
        raise DataError(f"{len(twice)} samples are in two arrivals of one night, as {twice[0][1]!r} of {twice[0][0]!r}")
    columns: dict[str, dict[str, Any]] = {}
    for sheet in sheets:
        if not len(sheet):
            continue
        for sample_id, record in sample_records.checked_records(sheet).items():
            columns[sample_id] = {**columns.get(sample_id, {}), **record}
    # Made before the lock is taken: others wait for what happens within it.
    stored = [] if calls is None else calls.stored()
    try:
        with catalogue.write() as connection:
            if check is not None:
                check(connection)
            set_if_held(connection, run_id, epoch, {"state": "published", "finished": time.time()})
            check_newest(connection, after)
            return _publish(connection, run_id, arrivals, columns, items, calls, stored, message, who)
    except IntegrityError as error:
        raise at_the_same_moment(", ".join(sorted({one.assay for one in arrivals})) or "this cohort") from error


def check_newest(connection: sa.Connection, after: Mapping[str, int]) -> None:
    """Refuse (Busy) where a result has another newest version than expected; 0 stands for none."""
    results = t.results.c
    for ref, expected in after.items():
        kind, name, _ = parse_ref(ref)
        query = sa.select(sa.func.max(results.version)).where(
            results.kind == kind, results.name == name, results.retired_in.is_(None)
        )
        found = int(connection.execute(query).scalar() or 0)
        if found != expected:
            now = f"{kind}/{name}@{found}" if found else f"{kind}/{name} (taken back)"
            raise Busy(
                f"another run published {now} at the same moment, where this one goes on from version {expected}; "
                f"nothing was published here. Run the same command again."
            )


def _publish(
    connection: sa.Connection,
    run_id: str,
    arrivals: Sequence[Arrival],
    columns: dict[str, dict[str, Any]],
    items: Sequence[NewResult],
    calls: CallChanges | None,
    stored: Sequence[tuple[Any, ...]],
    message: str,
    who: str | None,
) -> PublishedNight:
    for one in arrivals:
        take_staging(connection, one.staging_id)
    check_withdrawn(connection, [sample for one in arrivals for sample in one.record.sample_ids], columns)
    compared = [compare_rows(connection, one.record, one.row_hashes, replace=one.replace) for one in arrivals]
    changed = sample_records.changed_records(connection, columns) if columns else {}
    versions = [next_version(connection, item.kind, item.name) for item in items]
    refs = [f"{item.kind}/{item.name}@{version}" for item, version in zip(items, versions, strict=True)]
    n_new, n_replaced = sum(len(one.new) for one in compared), sum(len(one.other) for one in compared)
    n_calls = len(calls) if calls is not None else 0
    unused = [arrival for arrival, rows in zip(arrivals, compared, strict=True) if not rows.changes]
    snapshot: int | None = None
    if n_new or n_replaced or changed or items or n_calls:
        counts = [(n_new, "new rows"), (n_replaced, "replaced rows"), (n_calls, "calls")]
        said = ", ".join(f"{count} {what}" for count, what in counts if count)
        text = "; ".join(part for part in (", ".join(refs), said, message) if part)
        snapshot = new_snapshot(connection, "night", text, who=who, run_id=run_id)
        for arrival, rows in zip(arrivals, compared, strict=True):
            if rows.changes:
                # The first arrival of a new assay has just decided its features.
                check_assay(connection, arrival.record)
                insert_rows(connection, rows, snapshot)
        if changed:
            sample_records.insert_records(connection, changed, snapshot)
        for item, version in zip(items, versions, strict=True):
            insert_result(connection, item, version, snapshot, run_id)
        if calls is not None:
            insert_calls(connection, calls, stored, run_id, snapshot)
    known = connection.execute(sa.select(t.runs.c.meta).where(t.runs.c.id == run_id)).scalar()
    connection.execute(
        sa.update(t.runs)
        .where(t.runs.c.id == run_id)
        .values(message=", ".join(refs), meta=json.dumps({**json.loads(known or "{}"), "published": refs}))
    )
    n_same = sum(one.n_same for one in compared)
    return PublishedNight(refs, snapshot, n_new, n_replaced, n_same, len(changed), n_calls, unused)
