"""Sample columns with their history: one JSON record a sample and change."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from sjd_dask import names
from sjd_dask.errors import DataError
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.session import as_of, in_pieces
from sjd_dask.store.catalogue.tombstones import id_text, withdrawn_ids

# Records that are taken apart at a time.
_AT_ONCE = 10_000


def plain_value(value: Any) -> Any:
    """A cell as JSON holds it: str, int, float, bool or None for missing."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if math.isinf(value):
            raise DataError("a sample column holds an infinite number")
        return value
    if isinstance(value, pd.Timestamp | datetime.datetime):
        text = value.isoformat()
        return text.removesuffix("T00:00:00")
    if isinstance(value, datetime.date):
        return value.isoformat()
    return str(value)


def checked_records(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The sheet as plain records by sample id.

    Raises
    ------
    DataError
        Empty or repeated ids or column names, or no row at all.
    """
    ids = ["" if _is_missing(one) else str(one) for one in frame.index]
    if not ids:
        raise DataError("the sample sheet has no rows")
    if "" in ids:
        raise DataError(f"row {ids.index('') + 1} of the sample sheet has an empty sample id")
    index = pd.Index(ids, dtype=object)
    if not index.is_unique:
        twice = sorted(set(index[index.duplicated()]))
        raise DataError(f"{len(twice)} sample ids appear twice in the sheet: {', '.join(map(repr, twice[:5]))}")
    columns = [str(one) for one in frame.columns]
    if len(set(columns)) != len(columns):
        raise DataError(f"column {next(one for one in columns if columns.count(one) > 1)!r} appears twice in the sheet")
    if "" in columns or names.SAMPLE_ID in columns:
        raise DataError("the sheet has a column without a name, or a second column 'sample_id' beside its index")
    values = [_plain_column(frame.iloc[:, position]) for position in range(len(columns))]
    rows = _across(values, len(ids))
    return {one: dict(zip(columns, cells, strict=True)) for one, cells in zip(ids, rows, strict=True)}


def _plain_column(column: pd.Series) -> list[Any]:
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iub":
        return list(column.to_numpy().tolist())
    cells = column.tolist()
    return [cell if type(cell) is str else plain_value(cell) for cell in cells]


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _across(columns: list[list[Any]], n_rows: int) -> Iterable[tuple[Any, ...]]:
    return zip(*columns, strict=True) if columns else [()] * n_rows


def changed_records(connection: sa.Connection, records: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The samples whose merged columns differ from what is known, with their new content."""
    columns = t.sample_columns.c
    query = sa.select(columns.sample_id, columns.content).where(columns.retired_in.is_(None))
    found: list[tuple[str, str]] = []
    if len(records) > 5000:
        # Reading all is quicker than naming many.
        found = [(one, content) for one, content in connection.execute(query) if one in records]
    else:
        for piece in in_pieces(list(records)):
            found += [(one, content) for one, content in connection.execute(query.where(columns.sample_id.in_(piece)))]
    known = dict(zip((one for one, _ in found), _parsed([content for _, content in found]), strict=True))
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    changed = {}
    for sample_id, record in records.items():
        before = known.get(sample_id)
        merged = record if before is None else {**before, **record}
        # 1, 1.0 and True are equal and not the same.
        if before is None or merged != before or list(map(type, merged.values())) != list(map(type, before.values())):
            changed[sample_id] = encode(merged)
    return changed


def withdrawn_samples(
    connection: sa.Connection, sample_ids: Iterable[str], columns: Mapping[str, Mapping[str, Any]]
) -> set[str]:
    """Those of the samples that were withdrawn, or whose person was, as `columns` or the cohort name the person."""
    ids = list(dict.fromkeys([*sample_ids, *columns]))
    if connection.execute(sa.select(t.tombstones.c.keyed_hash).limit(1)).scalar() is None:
        return set()
    known = t.sample_columns.c
    persons: dict[str, Any] = {}
    for piece in in_pieces(ids):
        query = sa.select(known.sample_id, known.content).where(known.retired_in.is_(None), known.sample_id.in_(piece))
        persons |= {one: json.loads(content).get(names.PERSON_ID) for one, content in connection.execute(query)}
    persons |= {one: record[names.PERSON_ID] for one, record in columns.items() if record.get(names.PERSON_ID)}
    asked = {one: text for one, value in persons.items() if (text := id_text(value)) is not None}
    gone = withdrawn_ids(connection, {*ids, *asked.values()})
    return {one for one in ids if one in gone or asked.get(one) in gone}


def _parsed(contents: list[str]) -> list[dict[str, Any]]:
    # One parse of one long text is several times faster than many parses.
    parsed: list[dict[str, Any]] = json.loads("[" + ",".join(contents) + "]")
    return parsed


def insert_records(connection: sa.Connection, changed: dict[str, str], snapshot: int) -> None:
    """Retire what was known of these samples and insert what is known now."""
    columns = t.sample_columns.c
    retire = sa.update(t.sample_columns).where(columns.retired_in.is_(None)).values(retired_in=snapshot)
    connection.execute(
        retire.where(columns.sample_id == sa.bindparam("this_sample")), [{"this_sample": one} for one in changed]
    )
    connection.execute(
        sa.insert(t.sample_columns),
        [{"sample_id": one, "content": content, "published_in": snapshot} for one, content in changed.items()],
    )


def read_samples(connection: sa.Connection, snapshot: int | None) -> pd.DataFrame:
    """All samples of a view: those of the sheets, then those that only an assay knows.

    Returns
    -------
    DataFrame
        Index `sample_id` (str), order of first arrival. A column is int64, float64 (missing as NaN), bool, or str; bool
        with missing values is object, and a column of mixed kinds is str.
    """
    columns = t.sample_columns.c
    found = connection.execute(
        sa.select(columns.sample_id, columns.content).where(as_of(t.sample_columns, snapshot)).order_by(columns.id)
    )
    ids: list[str] = []
    cells: dict[str, list[Any]] = {}
    # In pieces: as mappings, the records of many samples take ten times what their cells do.
    for piece in found.partitions(_AT_ONCE):
        records = _parsed([content for _, content in piece])
        for key in dict.fromkeys(key for record in records for key in record):
            cells.setdefault(key, [None] * len(ids))
        for key, held in cells.items():
            held += [record.get(key) for record in records]
        ids += [sample_id for sample_id, _ in piece]
    seen = set(ids)
    others = connection.execute(
        sa.select(t.rows.c.sample_id)
        .where(as_of(t.rows, snapshot), t.rows.c.assay.not_like("%@%"))  # a layer's samples are its source's
        .group_by(t.rows.c.sample_id)
        .order_by(sa.func.min(t.rows.c.id))
    ).scalars()
    unknown = [one for one in others if one not in seen]
    index = pd.Index(ids + unknown, dtype=str, name=names.SAMPLE_ID)
    typed = {key: typed_column(held + [None] * len(unknown), index) for key, held in cells.items()}
    return pd.DataFrame(typed, index=index)


def typed_column(values: list[Any], index: pd.Index) -> pd.Series:
    """A column of plain values with the type that fits all of them."""
    kinds = {type(value) for value in values}
    kinds.discard(type(None))
    missing = None in values
    if not kinds:
        return pd.Series(np.nan, index=index, dtype="float64")
    if kinds == {bool}:
        return pd.Series(values, index=index, dtype=object if missing else bool)
    if kinds == {int} and not missing and all(abs(value) < 2**63 for value in values):
        return pd.Series(values, index=index, dtype="int64")
    if kinds <= {int, float}:
        numbers = [math.nan if value is None else float(value) for value in values]
        return pd.Series(numbers, index=index, dtype="float64")
    if kinds != {str}:
        values = [None if value is None else str(value) for value in values]
    return pd.Series(values, index=index, dtype="str")
