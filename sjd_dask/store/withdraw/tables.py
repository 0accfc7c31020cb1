"""Result tables without the rows, columns and cells of people who leave."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sjd_dask import names
from sjd_dask.store.catalogue.results import TableFile
from sjd_dask.store.files import Files
from sjd_dask.store.tables import TableLike, open_table, write_table
from sjd_dask.store.withdraw.ids import Leaving

# Columns of a square table beside its rows, in their order.
_WITH = re.compile(r"with_([0-9]+)")


def rewrite_table(files: Files, table: TableFile, leaving: Leaving) -> TableFile | None:
    """A table without them, under a new id; None where it names none of them."""
    with open_table(files, table) as opened:
        if not table_names(opened, leaving):
            return None
        content = opened.read()
    return write_table(files, without(content, leaving))


def table_names(opened: pq.ParquetFile, leaving: Leaving) -> bool:
    """Whether a table has a cell, a column or a remark in its schema that names one of them."""
    schema = opened.schema_arrow
    if any(name in leaving.ids for name in schema.names) or _metadata(schema, leaving) != schema.metadata:
        return True
    columns = [one.name for one in schema if _holds_text(one)]
    if not columns:
        return False
    wanted, seen = _values(leaving), set()
    for batch in opened.iter_batches(columns=columns):
        for name in batch.schema.names:
            values = _flat(pa.chunked_array([batch.column(name)]))
            if pc.any(pc.is_in(values, value_set=wanted)).as_py():
                seen.add(name)
            if leaving.is_id_column(name):
                if name in seen:
                    return True
            elif _changes(values, leaving):
                return True
    # Whether a column of another name holds ids is seen from all of it.
    return any(_holds_ids(opened.read([name]).column(0), leaving) for name in sorted(seen))


def words_in(opened: pq.ParquetFile, leaving: Leaving, *, features: bool = False) -> set[str]:
    """Those of their ids that are something else here: names of groups, of features, of batches.

    Parameters
    ----------
    features : bool
        Whether this is a table of features, in which nobody is named at all.
    """
    schema = opened.schema_arrow
    found: set[str] = set()
    columns = [one.name for one in schema if _holds_text(one, features=True) and not leaving.is_id_column(one.name)]
    if not columns:
        return set()
    for batch in opened.iter_batches(columns=columns):
        for name in batch.schema.names:
            values = _flat(pa.chunked_array([batch.column(name)]))
            hits = values.filter(pc.fill_null(pc.is_in(values, value_set=_values(leaving)), False)).unique().to_pylist()
            if hits and (
                features or name == names.FEATURE_ID or not _holds_ids(opened.read([name]).column(0), leaving)
            ):
                found |= set(hits)
    return found


def without(table: TableLike, leaving: Leaving) -> TableLike:
    """Rows whose ids are theirs go, and columns that bear their names; other texts that name them are scrubbed."""
    table = table.drop_columns([name for name in table.column_names if name in leaving.ids])
    wanted, gone = _values(leaving), pa.repeat(False, table.num_rows)
    original = {field.name: field.type for field in table.schema if _holds_text(field)}
    for position, field in enumerate(table.schema):
        if not _holds_text(field):
            continue
        column = table.column(position).combine_chunks()
        if _is_list(field.type):
            lists = [leaving.scrub_json(one, field.name) for one in column.to_pylist()]
            table = table.set_column(position, field, pa.array(lists, field.type))
            continue
        plain = column.cast(pa.string())
        if leaving.is_id_column(field.name) or _holds_ids(plain, leaving):
            gone = pc.or_(gone, pc.fill_null(pc.is_in(plain, value_set=wanted), False))
        elif changes := _changes(plain, leaving):
            plain = pa.array([changes.get(one, one) for one in plain.to_pylist()], pa.string())
        # Made anew also where it was a dictionary, which would go on listing values that no row has.
        table = table.set_column(position, field.with_type(plain.type), plain)
    keep = pc.invert(gone)
    table = _square(table, keep.to_pylist()).filter(keep)
    for position, name in enumerate(table.column_names):
        kind = original.get(name, table.column(position).type)
        if kind != table.column(position).type:
            column = table.column(position)
            column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column
            table = table.set_column(position, table.field(position).with_type(kind), column.cast(kind))
    return table.replace_schema_metadata(_metadata(table.schema, leaving))


def _square(table: TableLike, keep: list[bool]) -> TableLike:
    """A symmetric table has a column for each row: those of rows that go, go too, and the others move up."""
    beside = [name for name in table.column_names if _WITH.fullmatch(name)]
    if not beside or beside != [f"with_{i + 1}" for i in range(len(keep))]:
        return table
    table = table.drop_columns([name for name, stays in zip(beside, keep, strict=True) if not stays])
    count = 0
    renamed = []
    for name in table.column_names:
        if _WITH.fullmatch(name):
            count += 1
            name = f"with_{count}"
        renamed.append(name)
    return table.rename_columns(renamed)


def _values(leaving: Leaving) -> pa.Array:
    return pa.array(sorted(leaving.ids), pa.string())


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _holds_text(field: Any, *, features: bool = False) -> bool:
    if field.name == names.FEATURE_ID and not features:
        return False
    kind = field.type
    if _is_list(kind) or pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _flat(column: Any) -> Any:
    return pc.list_flatten(column).cast(pa.string()) if _is_list(column.type) else column.cast(pa.string())


def _changes(column: Any, leaving: Leaving) -> dict[str, str | None]:
    """What becomes of the texts of a column that holds no ids: those that name one of them."""
    made: dict[str, str | None] = {}
    for text in column.unique().to_pylist():
        if text is not None and text not in leaving.words and (scrubbed := leaving.scrub_text(text)) != text:
            made[text] = None if text in leaving.ids else scrubbed
    return made


def _holds_ids(column: Any, leaving: Leaving) -> bool:
    """Whether a column names one of them and holds nothing but ids, each about as often as people have samples."""
    if _is_list(column.type):
        return False
    values = column.cast(pa.string()).drop_null()
    distinct = set(values.unique().to_pylist())
    return not leaving.ids.isdisjoint(distinct) and leaving.are_ids(distinct, len(values))


def _metadata(schema: Any, leaving: Leaving) -> dict[bytes, bytes] | None:
    if schema.metadata is None:
        return None
    made = dict(schema.metadata)
    for key, value in schema.metadata.items():
        text = value.decode("utf-8", "surrogateescape")
        if (scrubbed := leaving.scrub_json_text(text)) == text:
            continue
        if key == b"pandas":
            # It describes the columns that were: pandas reads the table without it.
            del made[key]
        else:
            made[key] = scrubbed.encode("utf-8", "surrogateescape")
    return made or None
