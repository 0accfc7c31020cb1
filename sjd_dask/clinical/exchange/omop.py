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
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.clinical.exchange.observations import Column, Presence, Quantity
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.errors import DataError

# Columns of the table in the model's order, with their types.
MEASUREMENT = {
    "measurement_id": "Int64", "person_id": "Int64", "measurement_concept_id": "Int64", "measurement_date": "str",
    "measurement_datetime": "str", "measurement_time": "str", "measurement_type_concept_id": "Int64",
    "operator_concept_id": "Int64", "value_as_number": "float64", "value_as_concept_id": "Int64",
    "unit_concept_id": "Int64", "range_low": "float64", "range_high": "float64", "provider_id": "Int64",
    "visit_occurrence_id": "Int64", "visit_detail_id": "Int64", "measurement_source_value": "str",
    "measurement_source_concept_id": "Int64", "unit_source_value": "str", "unit_source_concept_id": "Int64",
    "value_source_value": "str", "measurement_event_id": "Int64", "meas_event_field_concept_id": "Int64",
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
) -> Iterator[pd.DataFrame]:
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
    DataFrame
        Columns `MEASUREMENT`; `measurement_id` counts from 1.

    Raises
    ------
    DataError
        A row with a measurement and no date.
    """
    days = _days(sheet)
    made = 0
    for start in range(0, sheet.n, BLOCK):
        part = slice(start, min(start + BLOCK, sheet.n))
        pieces = [piece for column in columns for piece in _pieces(column, part, terms)]
        if not pieces:
            continue
        found = pd.concat(pieces, ignore_index=True)
        found = found.iloc[np.argsort(found["row"].to_numpy(), kind="stable")]
        rows = found.pop("row").to_numpy() + start
        undated = rows[pd.isna(days[rows])]
        if len(undated):
            raise DataError(
                f"sample {sheet.frame[names.SAMPLE_ID].iloc[int(undated[0])]!r} has no date "
                f"({int(pd.isna(days).sum()):,} of {sheet.n:,} rows), and OMOP requires one of every measurement: add "
                "a column 'date', or leave these rows out"
            )
        found["measurement_id"] = made + 1 + np.arange(len(found))
        found["person_id"] = numbers[rows]
        found["visit_occurrence_id"] = rows + 1
        found["measurement_date"] = days[rows]
        found["measurement_type_concept_id"] = terms["record"]["measurement_type"]["concept_id"]
        found["measurement_source_concept_id"] = 0
        made += len(found)
        yield found.reindex(columns=list(MEASUREMENT)).astype(MEASUREMENT).reset_index(drop=True)


def _pieces(column: Column, part: slice, terms: Mapping[str, Any]) -> Iterator[pd.DataFrame]:
    common = {
        "measurement_concept_id": _concept(terms["concepts"], column.name),
        "measurement_source_value": column.name[:MOST_CHARACTERS],
    }
    if isinstance(column, Quantity):
        common |= {"unit_concept_id": _concept(terms["units"], column.unit), "unit_source_value": column.unit}
        value, low, high = column.value[part], column.low[part], column.high[part]
        known = np.flatnonzero(~np.isnan(value))
        if len(known):
            yield pd.DataFrame({"row": known, "value_as_number": value[known], **common})
        open_rows = np.flatnonzero(np.isnan(value) & ~np.isnan(low) & ~np.isnan(high))
        for operator, ends in (("at_least", low), ("at_most", high)) if len(open_rows) else ():
            operator_id = terms["operators"][operator]["concept_id"]
            yield pd.DataFrame(
                {
                    "row": open_rows, "value_as_number": ends[open_rows], "operator_concept_id": operator_id,
                    "value_source_value": "undetermined", **common,
                }
            )  # fmt: skip
    elif isinstance(column, Presence):
        flag = column.flag[part]
        for kind, wanted in (("present", 1), ("absent", 0)):
            rows = np.flatnonzero(flag == wanted)
            concept = terms["values"][kind]["concept_id"]
            if len(rows):
                yield pd.DataFrame({"row": rows, "value_as_concept_id": concept, "value_source_value": kind, **common})
    else:
        text = column.text[part]
        rows = np.flatnonzero(~pd.isna(text))
        if len(rows):
            given = [one[:MOST_CHARACTERS] for one in text[rows]]
            yield pd.DataFrame({"row": rows, "value_as_concept_id": 0, "value_source_value": given, **common})


def _concept(table: Mapping[str, Any], name: str) -> int:
    return int(table[name]["concept_id"]) if name in table else 0


def _days(sheet: Sheet) -> NDArray[np.object_]:
    """The day of each row as ISO text, None where there is none."""
    ids = sheet.ids
    if names.DATE not in ids:
        return np.full(sheet.n, None, dtype=object)
    dates = ids[names.DATE]
    return dates.dt.strftime("%Y-%m-%d").astype(object).where(dates.notna(), None).to_numpy(dtype=object)
