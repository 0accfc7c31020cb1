"""The history of calls: every call that was ever published, from which change until which."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
import sqlalchemy as sa

from sjd_dask.errors import SpecError
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.samples import plain_value, typed_column
from sjd_dask.store.catalogue.session import in_pieces
from sjd_dask.store.segment import check_name

# What a caller says of a call; the run and the change are added when it is published.
COLUMNS: Final = (
    "sample_id", "person_id", "visit", "date", "status", "call", "top_class", "confidence", "model", "row_hash",
)  # fmt: skip


@dataclass(frozen=True)
class CallChanges:
    """What a change does to the calls of one output.

    Attributes
    ----------
    output : str
        The name that ``classes/NAME`` has.
    retire : sequence of str
        Samples whose call ends.
    rows : sequence of mapping
        New calls: `sample_id` and `status`, and of `COLUMNS` what is known. A new call ends the
        one that its sample has.
    """

    output: str
    retire: Sequence[str]
    rows: Sequence[Mapping[str, Any]]

    def __post_init__(self) -> None:
        check_name(self.output, "an output")
        for row in self.rows:
            strange = set(row) - set(COLUMNS)
            if strange or not row.get("sample_id") or not row.get("status"):
                raise ValueError(f"a call needs sample_id and status, and may have {COLUMNS}; this has {sorted(row)}")

    def __len__(self) -> int:
        return len({*self.retire, *(row["sample_id"] for row in self.rows)})


def insert_calls(connection: sa.Connection, changes: CallChanges, run_id: str | None, snapshot: int) -> None:
    """Retire and insert calls, inside the transaction that publishes them."""
    calls = t.calls.c
    ending = sorted({*map(str, changes.retire), *(str(row["sample_id"]) for row in changes.rows)})
    live = sa.and_(calls.output == changes.output, calls.retired_in.is_(None))
    for piece in in_pieces(ending):
        connection.execute(sa.update(t.calls).where(live, calls.sample_id.in_(piece)).values(retired_in=snapshot))
    if changes.rows:
        fixed = {"output": changes.output, "run_id": run_id, "published_in": snapshot}
        connection.execute(sa.insert(t.calls), [{**_stored(row), **fixed} for row in changes.rows])


def _stored(row: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: plain_value(row.get(name)) for name in COLUMNS}
    if plain["visit"] is not None:
        # A visit is a number or a name; as JSON it comes back as what it was.
        plain["visit"] = json.dumps(plain["visit"], ensure_ascii=False)
    for name in ("sample_id", "person_id", "date"):
        plain[name] = None if plain[name] is None else str(plain[name])
    return plain


def call_history(
    connection: sa.Connection, output: str, person_id: str | None, sample_id: str | None, live: bool
) -> pd.DataFrame:
    """See `Cohort.call_history`."""
    calls = t.calls.c
    since, until = t.snapshots.alias("since"), t.snapshots.alias("until")
    query = (
        sa.select(t.calls, since.c.time.label("published_at"), until.c.time.label("retired_at"))
        .join(since, since.c.id == calls.published_in)
        .outerjoin(until, until.c.id == calls.retired_in)
        .where(calls.output == output)
    )
    if person_id is not None:
        query = query.where(calls.person_id == person_id)
    if sample_id is not None:
        query = query.where(calls.sample_id == sample_id)
    if live:
        query = query.where(calls.retired_in.is_(None))
    records = [dict(record) for record in connection.execute(query.order_by(calls.id)).mappings()]
    if not records and connection.execute(sa.select(calls.id).where(calls.output == output).limit(1)).scalar() is None:
        known = connection.execute(sa.select(calls.output).distinct().order_by(calls.output)).scalars().all()
        raise SpecError(f"this cohort has no calls named {output!r}; it has: {', '.join(known) or 'none yet'}")
    for record in records:
        record["visit"] = None if record["visit"] is None else json.loads(record["visit"])
    # By day, where the day is known; then in order of publication. (Python's sort keeps that order.)
    records.sort(key=lambda record: (record["date"] is None, record["date"] or ""))
    index = pd.RangeIndex(len(records))
    kept = [*COLUMNS, "run_id", "published_in", "published_at", "retired_in", "retired_at"]
    return pd.DataFrame({name: typed_column([record[name] for record in records], index) for name in kept}, index=index)
