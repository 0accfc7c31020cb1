"""The few lines that tell of a table of scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from sjd_dask.clinical.measures import Measure
from sjd_dask.jobs.score_summary import MOST_REASONS, summarise
from sjd_dask.jobs.score_table import as_table

MEASURE = Measure(
    "m",
    lambda sheet: pd.DataFrame(),
    "a measure",
    columns={
        "m": ("number", "value"),
        "m_class": ("text", "state"),
        "m_flag": ("flag", "yes or no"),
        "m_known": ("integer", "items"),
        "m_since": ("text", "an id"),
        "m_reason": ("text", "why"),
    },
)


def frame(n: int = 40) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sample_id": [f"S{i}" for i in range(n)],
            "date": pd.to_datetime(["2026-01-02"] * (n - 1) + [None]),
            "m": [np.nan, *range(n - 1)],
            "m_class": np.array([None, *["low", "high", "low"] * n], dtype=object)[:n],
            "m_flag": [1.0, 0.0, np.nan, 1.0] * (n // 4),
            "m_known": [3.0, np.nan] * (n // 2),
            "m_since": [f"S{i}" for i in range(n)],
            "m_reason": [f"missing: {i % 9}" if i % 4 == 0 else "" for i in range(n)],
        }
    )


@pytest.mark.parametrize("pieces", [1, 3])
def test_states_and_reasons_are_counted(pieces: int) -> None:
    table = as_table(frame(), [MEASURE])
    if pieces > 1:
        table = pa.concat_tables([table.slice(0, 7), table.slice(7, 20), table.slice(27)])
    found = summarise(table, [MEASURE])["m"]
    assert (found["determined"], found["undetermined"]) == (39, 1)
    assert found["states"] == {
        "m_class": {"low": 26, "high": 13, "undetermined": 1},
        "m_flag": {"yes": 20, "no": 10, "undetermined": 10},
    }
    assert len(found["reasons"]) == MOST_REASONS and sum(found["reasons"].values()) < 10
    assert found["other_reasons"] == 9 - MOST_REASONS and "" not in found["reasons"]


def test_types_are_those_declared_whatever_the_rows_hold() -> None:
    whole = as_table(frame(), [MEASURE])
    assert [str(one.type) for one in whole.schema] == [
        *["dictionary<values=string, indices=int32, ordered=0>"] * 2, "double",
        "dictionary<values=string, indices=int32, ordered=0>", "bool", "int64",
        *["dictionary<values=string, indices=int32, ordered=0>"] * 2,
    ]  # fmt: skip
    empty = frame().iloc[:2].assign(m=np.nan, m_class=None, m_flag=np.nan, m_known=np.nan, m_reason=None)
    assert as_table(empty, [MEASURE]).schema == whole.schema
    assert whole.column("date").to_pylist()[-2:] == ["2026-01-02", None]
    assert whole.column("m_known").to_pylist()[:2] == [3, None]
