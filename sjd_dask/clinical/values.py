"""One column of a sheet as float64: words read, units converted, and what can't be refused by sample and column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sjd_dask.clinical.columns import Columns
from sjd_dask.errors import DataError


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _refuse(name: str, ids: np.ndarray, raw: pd.Series, bad: np.ndarray, why: str) -> None:
    rows = np.flatnonzero(bad)
    more = "" if len(rows) == 1 else f" (and {len(rows) - 1:,} more in this column)"
    value = raw.iloc[rows[0]]
    shown = value.item() if isinstance(value, np.generic) else value
    raise DataError(f"sample {ids[rows[0]]!r}, column {name!r}: {shown!r} {why}{more}")


def as_floats(series: pd.Series, name: str, columns: Columns, ids: np.ndarray) -> np.ndarray:
    """Values as float64 with NaN for the missing; words such as `positive` or `not available` as the dictionary says.

    Raises
    ------
    DataError
        A value that is no number and no known word, or is infinite.
    """
    if pd.api.types.is_bool_dtype(series.dtype) or pd.api.types.is_numeric_dtype(series.dtype):
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    elif pd.api.types.is_datetime64_any_dtype(series.dtype):
        _refuse(name, ids, series, np.ones(len(series), dtype=bool), "is a date, not a number")
    else:
        values = _words(series, name, columns, ids)
    if np.isinf(values).any():
        _refuse(name, ids, series, np.isinf(values), "is not a finite number; leave a missing value empty")
    return values


def _words(series: pd.Series, name: str, columns: Columns, ids: np.ndarray) -> np.ndarray:
    """Text to numbers through the distinct texts only."""
    codes, distinct = pd.factorize(series)
    flag = columns.specs[name]["kind"] == "flag"
    table = np.full(len(distinct) + 1, np.nan)
    unread = np.zeros(len(distinct) + 1, dtype=bool)
    for place, text in enumerate(distinct):
        word = str(text).strip().lower()
        if word in columns.missing:
            continue
        number = _number(word)
        if number is None and flag:
            number = columns.words.get(word)
        if number is None:
            unread[place] = True
        elif np.isnan(number):
            unread[place] = word not in columns.missing
        else:
            table[place] = number
    if unread.any():
        want = "yes or no (1/0, true/false, yes/no, positive/negative)" if flag else "a number with a decimal point"
        why = f"can't be read; write {want}, or leave it empty where it is missing"
        _refuse(name, ids, series, unread[codes], why)
    return table[codes]


def checked(values: np.ndarray, raw: pd.Series, name: str, columns: Columns, ids: np.ndarray) -> np.ndarray:
    """The values of a column, recoded where its entry says so, all allowed and plausible.

    Raises
    ------
    DataError
        Names sample, column, value and what is allowed; where another unit would make it plausible, that unit.
    """
    spec = columns.specs[name]
    known = ~np.isnan(values)
    if spec["kind"] in ("flag", "level"):
        return _on_levels(values, raw, name, spec, known, ids)
    if "range" in spec:
        low, high = spec["range"]
        bad = known & ((values < low) | (values > high))
        if bad.any():
            _refuse(name, ids, raw, bad, _implausible(float(values[bad][0]), spec, name))
    if spec.get("integer"):
        bad = known & (values != np.round(values))
        if bad.any():
            _refuse(name, ids, raw, bad, "is no whole number, and this column holds whole numbers")
    return values


def _on_levels(
    values: np.ndarray, raw: pd.Series, name: str, spec: dict[str, Any], known: np.ndarray, ids: np.ndarray
) -> np.ndarray:
    recode = spec.get("recode")
    allowed = [0, 1] if spec["kind"] == "flag" else list(recode or spec["levels"])
    bad = known & ~np.isin(values, np.asarray(allowed, dtype=np.float64))
    if bad.any():
        kind = "a flag, 0 or 1" if spec["kind"] == "flag" else f"one of {', '.join(map(str, allowed))}"
        _refuse(name, ids, raw, bad, f"is not allowed: it is {kind}")
    if recode:
        values = values.copy()
        before = values.copy()
        for given, meant in recode.items():
            values[before == float(given)] = float(meant)
    return values


def _implausible(value: float, spec: dict[str, Any], name: str) -> str:
    low, high = spec["range"]
    unit = spec.get("unit", "")
    unit = "" if unit == "score" else f" {unit}"
    others = [
        other
        for other, divide in spec.get("units", {}).items()
        if divide != 1 and low <= value / divide <= high and other != spec.get("unit")
    ]
    remedy = f"it would be plausible in {' or '.join(others)}: say units={{{name!r}: {others[0]!r}}}" if others else ""
    remedy = remedy or "correct it, or leave it empty where it is missing"
    return f"is implausible: {value:.6g}{unit} is outside {low:g} to {high:g}{unit}; {remedy}"
