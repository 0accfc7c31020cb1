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

_MANY: Final = 10_000


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
        known = set(COLUMNS)
        for row in self.rows:
            if not row.keys() <= known or not row.get("sample_id") or not row.get("status"):
                raise ValueError(f"a call needs sample_id and status, and may have {COLUMNS}; this has {sorted(row)}")

    def __len__(self) -> int:
        return len({*self.retire, *(row["sample_id"] for row in self.rows)})

    def stored(self) -> list[tuple[Any, ...]]:
        """The new calls as the catalogue keeps them, in the order of `COLUMNS`."""
        return list(zip(*(_column(name, [row.get(name) for row in self.rows]) for name in COLUMNS), strict=True))


def _column(name: str, values: list[Any]) -> list[Any]:
    if not set(map(type, values)) <= {str, type(None)}:
        values = [one if type(one) is str else plain_value(one) for one in values]
    if name == "visit":
        # A visit is a number or a name; as JSON it comes back as what it was.
        texts = {one: json.dumps(one, ensure_ascii=False) for one in set(values) - {None}}
        return [None if one is None else texts[one] for one in values]
    if name in ("sample_id", "person_id", "date"):
        return [None if one is None else str(one) for one in values]
    return values


def insert_calls(
    connection: sa.Connection,
    changes: CallChanges,
    stored: Sequence[tuple[Any, ...]],
    run_id: str | None,
    snapshot: int,
) -> None:
    """Retire and insert calls, inside the transaction that publishes them; `stored` was made before it."""
    calls = t.calls.c
    ending = {*map(str, changes.retire), *(one[0] for one in stored)}
    live = sa.and_(calls.output == changes.output, calls.retired_in.is_(None))
    retire = sa.update(t.calls).where(live).values(retired_in=snapshot)
    if len(ending) > _MANY:
        there = set(connection.execute(sa.select(calls.sample_id).where(live)).scalars())
        ending &= there
        if ending == there:
            # A new model: all calls end at once.
            connection.execute(retire)
            ending = set()
    for piece in in_pieces(sorted(ending)):
        connection.execute(retire.where(calls.sample_id.in_(piece)))
    if not stored:
        return
    # Straight to the driver: SQLAlchemy's own way of half a million records takes longer than the database does.
    names = [*COLUMNS, "output", "run_id", "published_in"]
    quote = connection.dialect.identifier_preparer.quote
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    statement = (
        f"INSERT INTO {quote(t.calls.name)} ({', '.join(map(quote, names))}) VALUES ({', '.join([mark] * len(names))})"
    )
    more = (changes.output, run_id, snapshot)
    for piece in in_pieces(list(stored), _MANY):
        connection.exec_driver_sql(statement, [(*row, *more) for row in piece])


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
