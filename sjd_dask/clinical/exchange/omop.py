"""Rows of the MEASUREMENT table of the OMOP common data model, version 5.4.

A score that missing items leave open is two rows, one with ``>=`` and its least value, one with ``<=`` and its
greatest: ``range_low`` and ``range_high`` are for a laboratory's normal range and stay empty. What has no concept
has 0.

References
----------
OMOP common data model 5.4, field-level definitions (P). Concepts: ``definitions/omop.yaml``, each with its mark.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.clinical.exchange.observations import Column, Presence, Quantity
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.errors import DataError

# Columns of the table in the model's order, with the type of their values.
MEASUREMENT = {
    "measurement_id": "int64", "person_id": "int64", "measurement_concept_id": "int64", "measurement_date": "str",
    "measurement_datetime": "str", "measurement_time": "str", "measurement_type_concept_id": "int64",
    "operator_concept_id": "int64", "value_as_number": "float64", "value_as_concept_id": "int64",
    "unit_concept_id": "int64", "range_low": "float64", "range_high": "float64", "provider_id": "int64",
    "visit_occurrence_id": "int64", "visit_detail_id": "int64", "measurement_source_value": "str",
    "measurement_source_concept_id": "int64", "unit_source_value": "str", "unit_source_concept_id": "int64",
    "value_source_value": "str", "measurement_event_id": "int64", "meas_event_field_concept_id": "int64",
}  # fmt: skip
MOST_CHARACTERS = 50  # of a source value, in the model's own definition
BLOCK = 20_000  # rows of the sheet that are turned at a time


def person_numbers(persons: NDArray[np.object_], known: Mapping[str, int] | None = None) -> pd.DataFrame:
    """The model's number of each person.

    Parameters
    ----------
    persons : ndarray of object, (n,)
        Ids of the sheet's rows.
    known : mapping, optional
        Numbers given before; they stay, and new persons get the next ones.

    Returns
    -------
    DataFrame
        `person_id` (integer) and `person_source_value`, one row a person: those known in their order, then the new
        ones in the order of their ids.
    """
    known = dict(known or {})
    start = max(known.values(), default=0) + 1
    new = sorted(set(persons) - set(known))
    numbers = {**known, **{one: start + place for place, one in enumerate(new)}}
    return pd.DataFrame({"person_id": list(numbers.values()), "person_source_value": list(numbers)})


def visit_numbers(sheet: Sheet, numbers: NDArray[np.int64]) -> pd.DataFrame:
    """The model's number of each row of the sheet, `visit_occurrence_id` from 1, beside the row's own ids."""
    ids = sheet.ids
    return pd.DataFrame(
        {
            "visit_occurrence_id": np.arange(1, sheet.n + 1),
            "person_id": numbers,
            "sample_source_value": ids[names.SAMPLE_ID],
            "visit_source_value": sheet.text(names.VISIT),
            "visit_start_date": _days(sheet),
        }
    )


def measurement_rows(
    sheet: Sheet, columns: Sequence[Column], numbers: NDArray[np.int64], terms: Mapping[str, Any]
) -> Iterator[dict[str, np.ma.MaskedArray]]:
    """The rows, in pieces: in order of the sheet's rows, then of the columns.

    Parameters
    ----------
    sheet : Sheet
        With a `date` in every row that has a measurement.
    columns : sequence of Column
    numbers : ndarray of int64, (n,)
        The model's number of each row's person.
    terms : mapping
        The definition ``omop``.

    Yields
    ------
    dict
        Columns of `MEASUREMENT` that hold something, all of one length, masked where missing; `measurement_id` counts
        from 1.

    Raises
    ------
    DataError
        A row with a measurement and no date.
    """
    days = _days(sheet)
    measured = _Terms.of(columns, terms)
    made = 0
    for start in range(0, sheet.n, BLOCK):
        part = slice(start, min(start + BLOCK, sheet.n))
        pieces = [piece for place, column in enumerate(columns) for piece in _pieces(place, column, part, terms)]
        if not pieces:
            continue
        found = {name: np.concatenate([one[name] for one in pieces]) for name in pieces[0]}
        order = np.argsort(found["row"], kind="stable")
        found = {name: values[order] for name, values in found.items()}
        rows, place = found["row"] + start, found["column"]
        undated = rows[days[rows] == None]  # noqa: E711
        if len(undated):
            raise DataError(
                f"sample {sheet.frame[names.SAMPLE_ID].iloc[int(undated[0])]!r} has no date "
                f"({int(pd.isna(days).sum()):,} of {sheet.n:,} rows), and OMOP requires one of every measurement: add "
                "a column 'date', or leave these rows out"
            )
        record_type = terms["record"]["measurement_type"]["concept_id"]
        columns_of_rows: dict[str, np.ma.MaskedArray] = {
            "measurement_id": np.ma.array(made + 1 + np.arange(len(rows))),
            "person_id": np.ma.array(numbers[rows]),
            "measurement_concept_id": np.ma.array(measured.concept[place]),
            "measurement_date": np.ma.array(days[rows]),
            "measurement_type_concept_id": np.ma.array(np.full(len(rows), record_type)),
            "operator_concept_id": np.ma.masked_less(found["operator"], 0),
            "value_as_number": np.ma.masked_invalid(found["number"]),
            "value_as_concept_id": np.ma.masked_less(found["answer"], 0),
            "unit_concept_id": np.ma.masked_less(measured.unit[place], 0),
            "visit_occurrence_id": np.ma.array(rows + 1),
            "measurement_source_value": np.ma.array(measured.name[place]),
            "measurement_source_concept_id": np.ma.array(np.zeros(len(rows), dtype=np.int64)),
            "unit_source_value": np.ma.array(measured.unit_name[place], mask=measured.unit[place] < 0),
            "value_source_value": np.ma.array(found["words"], mask=found["words"] == None),  # noqa: E711
        }
        made += len(rows)
        yield columns_of_rows


@dataclass(frozen=True)
class _Terms:
    """What rows of one column share, by the column's place; a unit of -1 is none."""

    name: NDArray[np.object_]
    concept: NDArray[np.int64]
    unit: NDArray[np.int64]
    unit_name: NDArray[np.object_]

    @classmethod
    def of(cls, columns: Sequence[Column], terms: Mapping[str, Any]) -> _Terms:
        units = [one.unit if isinstance(one, Quantity) else None for one in columns]
        return cls(
            np.array([one.name[:MOST_CHARACTERS] for one in columns], dtype=object),
            np.array([_concept(terms["concepts"], one.name) for one in columns]),
            np.array([-1 if unit is None else _concept(terms["units"], unit) for unit in units]),
            np.array(units, dtype=object),
        )


def _pieces(place: int, column: Column, part: slice, terms: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Runs of rows that hold the same kind of value; `row` counts from the start of the part."""

    def run(rows: NDArray[np.int64], **given: Any) -> dict[str, Any]:
        filled = {"column": place, "operator": -1, "number": np.nan, "answer": -1, "words": None, **given}
        types = {"number": np.float64, "words": object}
        return {
            "row": rows,
            **{
                key: np.broadcast_to(np.asarray(one, types.get(key, np.int64)), len(rows))
                for key, one in filled.items()
            },
        }

    if isinstance(column, Quantity):
        value, low, high = column.value[part], column.low[part], column.high[part]
        known = np.flatnonzero(~np.isnan(value))
        yield run(known, number=value[known])
        left = np.flatnonzero(np.isnan(value) & ~np.isnan(low) & ~np.isnan(high))
        for operator, ends in (("at_least", low), ("at_most", high)):
            concept = terms["operators"][operator]["concept_id"]
            yield run(left, number=ends[left], operator=concept, words="undetermined")
    elif isinstance(column, Presence):
        for kind, wanted in (("present", 1), ("absent", 0)):
            rows = np.flatnonzero(column.flag[part] == wanted)
            yield run(rows, answer=terms["values"][kind]["concept_id"], words=kind)
    else:
        text = column.text[part]
        rows = np.flatnonzero(text != None)  # noqa: E711
        words = np.array([one[:MOST_CHARACTERS] for one in text[rows]], dtype=object)
        yield run(rows, answer=0, words=words)


def _concept(table: Mapping[str, Any], name: str) -> int:
    return int(table[name]["concept_id"]) if name in table else 0


def _days(sheet: Sheet) -> NDArray[np.object_]:
    """The day of each row as ISO text, None where there is none."""
    ids = sheet.ids
    if names.DATE not in ids:
        return np.full(sheet.n, None, dtype=object)
    dates = ids[names.DATE]
    return dates.dt.strftime("%Y-%m-%d").astype(object).where(dates.notna(), None).to_numpy(dtype=object)
