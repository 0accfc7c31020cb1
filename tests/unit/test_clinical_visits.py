"""Which visit is the baseline: by date, else by visit, never by position."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sjd_dask.clinical.sheet import Sheet
from sjd_dask.clinical.visits import (
    IS_BASELINE,
    NO_BASELINE,
    NOT_AFTER,
    baseline_rows,
    baselines,
    sheet_baselines,
)
from sjd_dask.errors import DataError, SpecError


def sheet(rows: list[tuple[Any, ...]], columns: str = "sample_id person_id visit date") -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns.split()[: len(rows[0])])


def test_the_earliest_date_is_the_baseline_wherever_it_stands() -> None:
    frame = sheet(
        [
            ("b", "P1", "1", "2021-06-01"),
            ("c", "01005", "1", "2020-01-01"),
            ("a", "P1", "2", "2021-01-01"),
            ("d", "P1", "3", "2021-12-01"),
        ]
    )
    found = baselines(frame)
    np.testing.assert_array_equal(found.position, [2, 1, 2, 2])
    assert list(found.reason) == ["", IS_BASELINE, IS_BASELINE, ""]
    np.testing.assert_array_equal(found.follows, [True, False, False, True])


@pytest.mark.parametrize(
    "visits",
    [[10, 2, 1], ["10", "2", "01"], ["V10", "V2", "v1"], ["month 12", "month 6", "month 0"], [1.5, 1.0, 0.0]],
)
def test_visits_are_ordered_as_numbers_where_a_date_is_missing(visits: list[Any]) -> None:
    frame = pd.DataFrame({"sample_id": list("abc"), "person_id": "P", "visit": visits})
    np.testing.assert_array_equal(baseline_rows(frame), [2, 2, 2])
    dated = frame.assign(date=["2020-01-01", None, "2020-03-01"])
    np.testing.assert_array_equal(baseline_rows(dated), [2, 2, 2])


def test_visits_of_one_day_are_told_apart_by_their_visit() -> None:
    frame = sheet([("a", "P", "2", "2020-01-01"), ("b", "P", "1", "2020-01-01"), ("c", "P", "0", "2020-02-01")])
    np.testing.assert_array_equal(baseline_rows(frame), [1, 1, 1])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("a", "P7", "1", "2020-01-01"), ("b", "P7", "1", "2020-01-01")], ["P7", "'a'", "'b'", "2020-01-01"]),
        ([("a", "P7", "baseline"), ("b", "P7", "week 24")], ["P7", "'a'", "baseline", "week 24", "visit =="]),
        ([("a", "P7"), ("b", "P7"), ("c", "P8"), ("d", "P8")], ["P7", "'a'", "1 more person"]),
        ([("a", "P7", None), ("b", "P7", "1")], ["P7", "missing"]),
        ([("a", "P7", "1", "2020-01-01"), ("b", "P7", None, "2020-01-01")], ["P7"]),
    ],
)
def test_an_unclear_baseline_is_refused_by_name(rows: list[tuple[Any, ...]], words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        baselines(sheet(rows))
    for word in words:
        assert word in str(caught.value)


def test_a_single_visit_and_a_sample_without_a_person_need_no_order() -> None:
    frame = sheet([("a", "P1", None), ("b", None, "x"), ("c", None, "x")])
    np.testing.assert_array_equal(baseline_rows(frame), [0, 1, 2])
    assert len(baselines(frame.iloc[:0]).position) == 0


def test_a_query_names_the_baseline() -> None:
    frame = sheet(
        [
            ("s", "P1", "screening", "2020-01-01"),
            ("b", "P1", "baseline", "2020-02-01"),
            ("w", "P1", "week 24", "2020-08-01"),
            ("x", "P1", "blood", "2020-02-01"),
            ("n", "P2", "week 24", "2020-08-01"),
        ]
    )
    found = baselines(frame, "visit == 'baseline'")
    np.testing.assert_array_equal(found.position, [-1, 1, 1, -1, -1])
    assert list(found.reason) == [NOT_AFTER, IS_BASELINE, "", NOT_AFTER, NO_BASELINE]
    # Without dates nothing says that a text visit comes before the baseline.
    undated = baselines(frame.drop(columns="date"), "visit == 'baseline'")
    np.testing.assert_array_equal(undated.position, [1, 1, 1, 1, -1])
    # Of several that match, the earliest.
    np.testing.assert_array_equal(baseline_rows(frame, "visit != 'baseline'"), [0, 0, 0, 0, 4])
    np.testing.assert_array_equal(baseline_rows(frame.set_index("sample_id"), "sample_id == 'b'"), [-1, 1, 1, -1, -1])


def test_bad_dates_and_queries_are_named() -> None:
    frame = sheet([("a", "P1", "1", "2020-01-01"), ("b", "P1", "2", "31.12.2020"), ("c", "P1", "3", "31.12.2020")])
    with pytest.raises(DataError, match=r"'31\.12\.2020' of sample 'b'.*1 more date"):
        baselines(frame)
    with pytest.raises(SpecError, match="vist"):
        baselines(frame.drop(columns="date"), "vist == '1'")


def test_dates_may_be_text_or_timestamps_with_or_without_a_time() -> None:
    text = ["2020-01-02T10:00:00", "2020-01-02", "2020-03-01"]
    frame = pd.DataFrame({"sample_id": list("abc"), "person_id": "P", "date": text})
    np.testing.assert_array_equal(baseline_rows(frame), [1, 1, 1])
    stamps = frame.assign(date=pd.to_datetime(frame["date"], format="ISO8601"))
    np.testing.assert_array_equal(baseline_rows(stamps), [1, 1, 1])
    zoned = frame.assign(date=stamps["date"].dt.tz_localize("Europe/Paris"))
    np.testing.assert_array_equal(baseline_rows(zoned), [1, 1, 1])
    np.testing.assert_array_equal(sheet_baselines(Sheet.read(zoned)).position, [1, 1, 1])


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(12)), st.sets(st.integers(0, 2), min_size=1))
def test_order_of_rows_and_other_persons_change_nothing(order: list[int], persons: set[int]) -> None:
    frame = pd.DataFrame(
        {
            "sample_id": [f"S{i}" for i in range(12)],
            "person_id": [f"P{i % 3}" for i in range(12)],
            "visit": [f"V{11 - i}" for i in range(12)],
        }
    )
    whole = dict(zip(frame["sample_id"], frame["sample_id"].to_numpy()[baseline_rows(frame)], strict=True))
    some = frame.iloc[order]
    some = some[some["person_id"].isin([f"P{i}" for i in persons])]
    found = dict(zip(some["sample_id"], some["sample_id"].to_numpy()[baseline_rows(some)], strict=True))
    assert found == {sample: whole[sample] for sample in found}
