"""Scores as a typed table: the same columns and types for one row and for a million, in one process and in many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sjd_dask import names
from sjd_dask.clinical.measures import MEASURES, Measure

IDS = (names.SAMPLE_ID, names.PERSON_ID, names.VISIT, names.DATE)
_CODED = pa.dictionary(pa.int32(), pa.string())
_TYPES = {"number": pa.float64(), "integer": pa.int64(), "text": _CODED, "flag": pa.bool_()}
# As result tables of jobs name their types.
DTYPES = {"number": "double", "integer": "int64?", "text": "string?", "flag": "bool?"}


def declared(measures: Sequence[Measure]) -> dict[str, tuple[str, str]]:
    """Column -> (type, what it holds), of all these measures; what declares it first counts, as in `score`."""
    found: dict[str, tuple[str, str]] = {}
    for measure in measures:
        for name, one in {**measure.columns, **measure.also}.items():
            found.setdefault(name, one)
    return found


def as_table(frame: pd.DataFrame, measures: Sequence[Measure]) -> pa.Table:
    """Scores as an Arrow table.

    Parameters
    ----------
    frame : DataFrame
        As `clinical.score` gives it.
    measures : sequence of Measure
        Those it holds; they declare the types.

    Returns
    -------
    pyarrow.Table
        Ids and dates (ISO) as text, numbers as double, counts as int64, flags as bool, all else text; null where
        missing. Text is dictionary-encoded; `sheet_files.write_table` writes it plainly.
    """
    types = declared(measures)
    arrays, fields = [], []
    for name in frame.columns:
        kind = "text" if name in IDS else types[name][0] if name in types else _kind(frame[name])
        fields.append(pa.field(str(name), _TYPES[kind]))
        arrays.append(_array(frame[name], kind))
    return pa.table(arrays, schema=pa.schema(fields))


def _kind(column: pd.Series) -> str:
    """Of a column that no measure declares: its name hangs on the data or the options."""
    if pd.api.types.is_bool_dtype(column.dtype):
        return "flag"
    return "number" if pd.api.types.is_numeric_dtype(column.dtype) else "text"


def _array(column: pd.Series, kind: str) -> pa.Array:
    if kind == "text":
        return _text(column)
    if column.dtype == object:
        column = pd.to_numeric(column.where(column.notna(), np.nan), errors="raise")
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    missing = np.isnan(values)
    if kind == "number":
        return pa.array(values, mask=missing)
    if kind == "integer":
        return pa.array(np.where(missing, 0, values).astype(np.int64), mask=missing)
    return pa.array(np.where(missing, 0, values) != 0, mask=missing)


def _text(column: pd.Series) -> pa.Array:
    """Codes and the texts they stand for: states and reasons repeat themselves, and a table of them is mostly text."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        column = _days(column)
    codes, different = pd.factorize(column)
    try:
        texts = pa.array(different, pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # something else than texts is among them
        texts = pa.array([_plain(one) for one in different], pa.string())
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=codes < 0), texts)


def _days(column: pd.Series) -> pd.Series:
    """Days as ISO text, with the time where there is one: of each row by itself, whatever other rows have."""
    codes, different = pd.factorize(column)
    moments = pd.Series(different)
    midnight = moments == moments.dt.normalize()
    days, times = (moments.dt.strftime(form) for form in ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"))
    return pd.Series(np.array([*days.where(midnight, times), None], dtype=object)[codes])


def _plain(value: Any) -> str:
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def score_columns() -> dict[str, tuple[str, str]]:
    """Every column that `sjd score` can write, with its type in result tables and what it holds."""
    found: dict[str, tuple[str, str]] = {}
    for measure in MEASURES.values():
        for name, (kind, text) in {**measure.columns, **measure.also}.items():
            found.setdefault(name, (DTYPES[kind], f"{measure.name}: {text}."))
    return found
