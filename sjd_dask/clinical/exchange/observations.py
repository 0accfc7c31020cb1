"""What is known of each row: measurements, scores with their bounds, answers and molecular classes, before any format.

A value that is missing is no observation. A score that missing items leave open is one, with its bounds and no value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.clinical.columns import column_dictionary
from sjd_dask.clinical.definitions import Overrides, load_definition
from sjd_dask.clinical.measures import MEASURES
from sjd_dask.clinical.sheet import Sheet

SCORE_UNIT = "{score}"
DIMENSIONLESS = "1"
CALL = "molecular_class"
CALLED = "called"
# Texts of a table of scores that explain a score, and are no finding of their own.
_EXPLANATIONS = (
    "_reason", "_note", "_baseline", "_domains", "_derived", "_reference", "_label", "_evidence", "_organs",
    "_possible", "_at_means", "_endpoints", "axis2_positive",
)  # fmt: skip
# How a score was asked for.
_SETTINGS = ("_missing_as_negative",)
# Levels proposed from laboratory values are no findings until the clinic confirms them.
_PROPOSED = "_proposed"
_IDS = (names.SAMPLE_ID, names.PERSON_ID, names.VISIT, names.DATE)


@dataclass(frozen=True)
class Quantity:
    """Numbers of n rows.

    Attributes
    ----------
    name, title : str
    unit : str
        UCUM code.
    value, low, high : ndarray, (n,)
        `value` is NaN where it is not determined; then `low` and `high` are what it can be, or NaN where nothing is
        known. Where it is determined all three agree.
    reason : ndarray of object, (n,), or None
        Why it is not determined.
    """

    name: str
    title: str
    unit: str
    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    reason: NDArray[np.object_] | None = None


@dataclass(frozen=True)
class Presence:
    """Findings of n rows: `flag` (n,) is 1 present, 0 absent, NaN unknown."""

    name: str
    title: str
    flag: NDArray[np.float64]


@dataclass(frozen=True)
class Answer:
    """Categories of n rows: `text` (n,), None where there is none."""

    name: str
    title: str
    text: NDArray[np.object_]


Column = Quantity | Presence | Answer


def sheet_columns(sheet: Sheet, definitions: Overrides | None = None, without: Iterable[str] = ()) -> list[Column]:
    """The measurements of a sheet, each column that its dictionary knows, in the sheet's own units.

    Parameters
    ----------
    sheet : Sheet
    definitions : mapping, optional
        As the sheet was read with.
    without : iterable of str
        Columns to leave out: totals as recorded, where a computed score takes their place.

    Raises
    ------
    DataError
        A value that isn't allowed or plausible.
    """
    specs = column_dictionary(definitions).specs
    ucum = {unit: entry["ucum"] for unit, entry in load_definition("columns", definitions)["units"].items()}
    left_out = {*without, "age"}
    found: list[Column] = []
    for name in sheet.recognised:
        spec = specs[name]
        if name in left_out or spec["kind"] in ("id", "date", "category"):
            continue
        if spec["kind"] == "flag":
            found.append(Presence(name, spec["title"], sheet.flag(name)))
            continue
        values = sheet.number(name)
        unit = ucum[spec["unit"]] if "unit" in spec else SCORE_UNIT
        found.append(Quantity(name, spec["title"], unit, values, values, values))
    return found


def score_columns(table: pd.DataFrame) -> list[Column]:
    """The scores of a table as `score` returns it, rows aligned with the sheet's.

    A number is a score where the table has its bounds; one of which no item was known says nothing and is left out, as
    are proposals and texts that only explain.
    """
    titles = {column: words for one in MEASURES.values() for column, words in {**one.columns, **one.also}.items()}
    found: list[Column] = []
    for name in map(str, table.columns):
        kind, title = titles.get(name, ("", name))
        bounded = f"{name}_min" in table and f"{name}_max" in table
        if name in _IDS or _PROPOSED in name or name.endswith(_SETTINGS):
            continue
        if bounded and pd.api.types.is_numeric_dtype(table[name].dtype):
            found.append(_bounded(table, name, title))
        elif "_p_" in name:
            values = table[name].to_numpy(dtype=np.float64)
            found.append(Quantity(name, f"probability: {name}", DIMENSIONLESS, values, values, values))
        elif kind == "flag":
            found.append(Presence(name, title, _flags(table[name])))
        elif kind == "text" and not name.endswith(_EXPLANATIONS):
            found.append(Answer(name, title, _texts(table[name])))
    return found


def call_columns(calls: pd.DataFrame) -> list[Column]:
    """The molecular class of each row, rows aligned with the sheet's.

    Parameters
    ----------
    calls : DataFrame
        `call`, and `status`, `model` and `p_<class>` as far as they are there; missing rows have no call.

    Returns
    -------
    list
        The class, or "not called: <status>" where the classifier gave none; the model that said so; the probability of
        each class.
    """
    call = _texts(calls["call"])
    if "status" in calls:
        status = _texts(calls["status"])
        refused = np.array([one is None and why not in (None, CALLED) for one, why in zip(call, status, strict=True)])
        for row in np.flatnonzero(refused):
            call[row] = f"not called: {status[row]}"
    found: list[Column] = [Answer(CALL, "molecular class of the blood sample", call)]
    if "model" in calls:
        found.append(Answer(f"{CALL}_model", "model that gave the molecular class", _texts(calls["model"])))
    for name in map(str, calls.columns):
        if name.startswith(names.PROBABILITY):
            values = calls[name].to_numpy(dtype=np.float64)
            title = f"probability of molecular class {name.removeprefix(names.PROBABILITY)}"
            found.append(Quantity(f"{CALL}_{name}", title, DIMENSIONLESS, values, values, values))
    return found


def person_ids(sheet: Sheet) -> NDArray[np.object_]:
    """The person of each row, (n,); a row without `person_id` is a person of its own, known by its sample id."""
    samples = sheet.frame[names.SAMPLE_ID].to_numpy(dtype=object)
    if names.PERSON_ID not in sheet.frame:
        return samples
    persons = sheet.frame[names.PERSON_ID]
    return np.where(persons.isna(), samples, persons.to_numpy(dtype=object))


def names_of(columns: Sequence[Column]) -> set[str]:
    """The names of columns."""
    return {one.name for one in columns}


def _bounded(table: pd.DataFrame, name: str, title: str) -> Quantity:
    value, low, high = (table[f"{name}{end}"].to_numpy(dtype=np.float64) for end in ("", "_min", "_max"))
    if f"{name}_known" in table:
        nothing = np.isnan(value) & (table[f"{name}_known"].fillna(0).to_numpy(dtype=np.float64) == 0)
        low, high = np.where(nothing, np.nan, low), np.where(nothing, np.nan, high)
    reason = _texts(table[f"{name}_reason"]) if f"{name}_reason" in table else None
    known = ~np.isnan(value)
    title, unit = title.split(";")[0], DIMENSIONLESS if "probability" in name else SCORE_UNIT
    return Quantity(name, title, unit, value, np.where(known, value, low), np.where(known, value, high), reason)


def _flags(column: pd.Series) -> NDArray[np.float64]:
    return pd.to_numeric(column.astype(object), errors="coerce").to_numpy(dtype=np.float64)


def _texts(column: pd.Series) -> NDArray[np.object_]:
    values = column.astype(object).to_numpy(dtype=object, copy=True)
    empty = pd.isna(values) | (values == "")
    values[empty] = None
    values[~empty] = [str(one) for one in values[~empty]]
    return values
