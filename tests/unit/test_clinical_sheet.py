"""A clinical sheet: headers, words, units, plausible values, ids, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from sjd_dask.clinical.sheet import Sheet
from sjd_dask.errors import DataError, SpecError


def sheet(columns: dict[str, Any], **options: Any) -> Sheet:
    n = len(next(iter(columns.values())))
    return Sheet.read(pd.DataFrame({"sample_id": [f"s{i}" for i in range(n)], **columns}), **options)


def test_absent_and_missing_are_not_a_number() -> None:
    read = sheet({"renal": [1, None]})
    np.testing.assert_array_equal(read.level("renal"), [1, np.nan])
    assert np.isnan(read.number("igg")).all() and read.has("renal") and not read.has("igg")
    assert read.recognised == ["sample_id", "renal"] and read.n == 2


@pytest.mark.parametrize(
    "word", ["", "NA", "n/a", "NaN", "None", "unknown", "Not Applicable", "Data Not Available", " "]
)
def test_words_for_missing(word: str) -> None:
    read = sheet({"anti_ssa": [word, "1"], "igg": [word, "12.5"], "renal": [word, "2"]})
    for values, known in ((read.flag("anti_ssa"), 1), (read.number("igg"), 12.5), (read.level("renal"), 2)):
        np.testing.assert_array_equal(values, [np.nan, known])


@pytest.mark.parametrize(("word", "value"), [("Yes", 1), ("TRUE", 1), ("positive", 1), ("+", 1), ("no", 0), ("Neg", 0)])
def test_words_of_flags(word: str, value: int) -> None:
    assert sheet({"ssa": [word]}).flag("anti_ssa").tolist() == [value]


@pytest.mark.parametrize(
    "values",
    [
        pd.array([True, None], dtype="boolean"),
        pd.array([1, None], dtype="Int64"),
        pd.Categorical(["yes", None]),
        np.array([1.0, np.nan], dtype=np.float32),
        pd.array(["1.0", None], dtype="string"),
        pd.array([True, None], dtype="bool[pyarrow]"),
        np.array([True, None], dtype=object),
    ],
)
def test_any_storage_of_a_flag(values: Any) -> None:
    np.testing.assert_array_equal(sheet({"anti_ssa": values}).flag("anti_ssa"), [1, np.nan])


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("anti_ssa", "perhaps", "write yes or no"),
        ("anti_ssa", 2, "a flag, 0 or 1"),
        ("igg", "12,5", "decimal point"),
        ("igg", "<0.1", "can't be read"),
        ("igg", "1_0", "can't be read"),
        ("igg", "inf", "not a finite number"),
        ("igg", np.inf, "not a finite number"),
        ("renal", 4, "one of 0, 1, 2, 3"),
        ("seizure", 4, "one of 0, 1, 8"),
        ("oss_right", 4.5, "whole numbers"),
        ("schirmer_left", 51, "0 to 50 mm"),
        ("schirmer_left", -1, "0 to 50 mm"),
        ("age", 200, "0 to 120"),
        ("igg", pd.Timestamp("2020-01-01"), "is a date"),
    ],
)
def test_what_is_not_allowed_names_sample_column_and_more(column: str, value: Any, says: str) -> None:
    read = Sheet.read(pd.DataFrame({"sample_id": ["01005", "01006"], column: [value, value]}))
    with pytest.raises(DataError, match=says) as caught:
        read.check()
    text = str(caught.value)
    assert "'01005'" in text and f"'{column}'" in text and "1 more" in text


@pytest.mark.parametrize("value", [0, 50])
def test_the_ends_of_a_range_are_plausible(value: float) -> None:
    assert sheet({"schirmer_right": [value]}).number("schirmer_right").tolist() == [value]


def test_a_column_that_no_measure_asks_for_may_hold_anything() -> None:
    read = sheet({"igg": ["see letter"], "renal": [1]})
    assert read.level("renal").tolist() == [1]
    with pytest.raises(DataError, match="see letter"):
        read.check()


def test_units_by_header_by_argument_and_by_row() -> None:
    assert sheet({"IgG [mg/dL]": [1610]}).number("igg").tolist() == [16.1]
    assert sheet({"igg": [1610]}, units={"IgG": "MG/DL"}).number("igg").tolist() == [16.1]
    by_row = sheet({"igg": [1610, 16.1, 16.1], "igg_unit": ["mg/dL", "g/L", None]})
    assert by_row.number("igg").tolist() == [16.1, 16.1, 16.1]
    rest = sheet({"igg": [1610, 16.1], "igg_unit": ["", "g/L"]}, units={"igg": "mg/dL"})
    assert rest.number("igg").tolist() == [16.1, 16.1]


@pytest.mark.parametrize(
    ("column", "unit", "given", "own"),
    [
        ("platelets", "cells/µL", 150_000, 150),
        ("platelets", "/mm3", 150_000, 150),
        ("lymphocytes", "10^9/L", 0.5, 0.5),
        ("lymphocytes", "10^3/uL", 0.5, 0.5),
        ("haemoglobin", "g/L", 120, 12),
        ("saliva_unstimulated", "mL/15 min", 1.5, 0.1),
        ("saliva_unstimulated", "uL/min", 100, 0.1),
        ("c3", "mg/dL", 90, 0.9),
        ("rf", "IU/L", 20_000, 20),
    ],
)
def test_units_of_laboratories(column: str, unit: str, given: float, own: float) -> None:
    assert sheet({f"{column} [{unit}]": [given]}).number(column).tolist() == [own]


@pytest.mark.parametrize(
    ("columns", "options", "says"),
    [
        ({"igg [mg/L]": [1]}, {}, "unknown unit 'mg/L' for column 'igg'"),
        ({"igg": [1]}, {"units": {"igg": "furlong"}}, "use g/L or mg/dL"),
        ({"igg": [1]}, {"units": {"iggg": "g/L"}}, "did you mean 'igg'"),
        ({"igg [g/L]": [1]}, {"units": {"igg": "mg/dL"}}, "keep one"),
        ({"igg": [1], "igg_unit": ["stone"]}, {}, "column 'igg_unit'"),
        ({"anti_ssa [g/L]": [1]}, {}, "has no unit"),
        ({"hb": [1], "hgb": [1]}, {}, "both stand for 'haemoglobin'"),
    ],
)
def test_headers_and_units_that_cannot_be_used(columns: dict[str, Any], options: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        sheet(columns, **options)


def test_unknown_headers_are_kept_and_nearly_known_ones_pointed_at() -> None:
    read = sheet({"haematologcal": [1], "treatment": ["a"]})
    assert read.unknown == {"haematologcal": " (did you mean 'haematological'?)", "treatment": ""}
    assert read.frame["treatment"].tolist() == ["a"]


def test_ids_are_texts_as_given() -> None:
    frame = pd.DataFrame(
        {"sample_id": ["01005", "01006"], "patient": [7, 8], "visit": [1, 2], "date": ["2020-03-01", ""]}
    )
    ids = Sheet.read(frame).ids
    assert ids["sample_id"].tolist() == ["01005", "01006"] and ids["person_id"].tolist() == ["7", "8"]
    assert ids["date"].tolist() == [pd.Timestamp("2020-03-01"), pd.NaT]
    as_float = Sheet.read(pd.DataFrame({"sample_id": ["a", "b"], "person_id": [7.0, np.nan]})).ids
    assert as_float["person_id"].tolist() == ["7", None]


def test_ids_in_the_index_and_in_a_dataset() -> None:
    frame = pd.DataFrame({"renal": [1, 2]}, index=pd.Index(["a", "b"], name="sample_id"))
    dataset = xr.Dataset(
        {"renal": ("samples", [1, 2]), "genes": (("samples", "features"), [[1], [2]])},
        coords={"sample_id": ("samples", ["a", "b"])},
    )
    for given in (frame, dataset):
        read = Sheet.read(given)
        assert read.ids["sample_id"].tolist() == ["a", "b"] and read.level("renal").tolist() == [1, 2]
    assert Sheet.read(Sheet.read(frame)).n == 2


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        (pd.DataFrame({"renal": [1]}), SpecError, "no column .* 'sample_id'"),
        (pd.DataFrame({"sample_id": ["a", None]}), DataError, "row 2 .* no sample_id"),
        (pd.DataFrame({"sample_id": ["a", " "]}), DataError, "row 2"),
        (pd.DataFrame({"sample_id": ["a", "a", "b"]}), DataError, "'a' comes more than once"),
        ([1, 2], SpecError, "DataFrame"),
    ],
)
def test_rows_that_cannot_be_told_apart(given: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Sheet.read(given)


def test_a_date_that_is_none_is_refused() -> None:
    with pytest.raises(DataError, match="'s1', column 'date': '31/12/2020'"):
        sheet({"date": ["2020-12-31", "31/12/2020"]}).check()


def test_categories_by_any_spelling() -> None:
    assert sheet({"sex": ["F", "male", None]}).text("sex").tolist() == ["female", "male", None]
    with pytest.raises(DataError, match="did you mean 'female'"):
        sheet({"sex": ["femal"]}).text("sex")
    assert sheet({"site": ["Oslo", ""]}).text("site").tolist() == ["Oslo", None]


def test_some_rows_are_the_rows_of_the_whole() -> None:
    whole = sheet({"igg": [1610, 16.1, 5], "igg_unit": ["mg/dL", "g/L", "g/L"], "renal": [0, 1, 2]})
    whole.level("renal")
    part = whole.take(np.array([2, 0]))
    assert part.number("igg").tolist() == [5, 16.1] and part.level("renal").tolist() == [2, 0]
    assert part.ids["sample_id"].tolist() == ["s2", "s0"]


def test_asking_for_the_wrong_kind_or_an_unknown_column() -> None:
    read = sheet({"renal": [1]})
    with pytest.raises(SpecError, match="did you mean 'renal'"):
        read.number("rnal")
    for wrong in (lambda: read.flag("renal"), lambda: read.level("igg"), lambda: read.number("sex")):
        with pytest.raises(SpecError, match="of kind"):
            wrong()


def test_values_cannot_be_changed_behind_the_sheets_back() -> None:
    with pytest.raises(ValueError, match="read-only"):
        sheet({"renal": [1]}).level("renal")[0] = 2


def test_the_frame_given_is_left_as_it_was() -> None:
    frame = pd.DataFrame({"sample_id": [1, 2], "Hb [g/L]": [120, 100]})
    before = frame.copy()
    Sheet.read(frame).check()
    pd.testing.assert_frame_equal(frame, before)


def test_a_message_also_says_what_the_sheet_calls_the_column() -> None:
    with pytest.raises(DataError, match=r"column 'haemoglobin' \('Hb \[g/L\]' in the sheet\): 12 is implausible"):
        sheet({"Hb [g/L]": [12]}).check()


def test_dates_are_those_of_the_clinics_own_clock() -> None:
    given = ["2026-03-31T23:30:00-05:00", "2026-04-01 01:00Z", "2026-04-02", "", "20260403", "2026-04-04T08:00:00.5+01"]
    days = ["2026-03-31", "2026-04-01", "2026-04-02", None, "2026-04-03", "2026-04-04"]
    found = sheet({"date": given}).ids["date"]
    assert found.dt.normalize().tolist() == pd.to_datetime(days).tolist()
    aware = pd.Series(pd.to_datetime(["2026-03-31 00:00"]).tz_localize("Europe/Paris"))
    assert sheet({"date": aware}).ids["date"].astype(str).tolist() == ["2026-03-31"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("0026-03-31", "'0026-03-31' is of no year of a visit"),
        ("3026-03-31", "is of no year of a visit"),
        ("31/03/2026", "is no date; write it as 2026-03-31"),
        (45000, "column 'date': 45000 is no date"),
    ],
)
def test_what_is_no_date_of_a_visit(given: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        sheet({"date": [given]}).ids  # noqa: B018


def test_the_end_of_a_range_is_plausible_in_every_unit() -> None:
    assert 0.01 / 0.1 < 0.1  # as floats
    np.testing.assert_allclose(sheet({"igg [g/dL]": [0.01, 15]}).number("igg"), [0.1, 150])
    with pytest.raises(DataError, match="implausible"):
        sheet({"igg [g/dL]": [0.0099]}).number("igg")


def test_a_unit_in_parentheses_is_one_where_the_column_has_it() -> None:
    read = sheet(
        {"IgG (mg/dL)": [1610], "Platelets (x10^9/L)": [150], "Pain (VAS)": [3], "hb (mmol)": [8], "x (y)": [1]}
    )
    assert read.recognised == ["sample_id", "igg", "platelets"]
    assert read.number("igg").tolist() == [16.1] and read.number("platelets").tolist() == [150]
    assert read.unknown == {
        "Pain (VAS)": " (did you mean 'pain [score]'?)",
        "hb (mmol)": " (did you mean 'haemoglobin [g/dL]'?)",
        "x (y)": "",
    }


def test_units_come_with_the_table_not_after_it() -> None:
    with pytest.raises(SpecError, match="was read already"):
        Sheet.read(sheet({"igg": [10]}), units={"igg": "g/L"})


def test_ids_among_several_levels_of_an_index() -> None:
    index = pd.MultiIndex.from_tuples([("p", "a"), ("p", "b")], names=["person_id", "sample_id"])
    assert Sheet.read(pd.DataFrame({"renal": [0, 1]}, index=index)).ids["sample_id"].tolist() == ["a", "b"]


def test_other_spellings_of_an_id_beside_the_id_itself_are_columns_like_any() -> None:
    read = sheet({"person_id": ["p1", "p2"], "subject": ["x", "y"], "sample": ["tube 1", "tube 2"]})
    assert read.ids["person_id"].tolist() == ["p1", "p2"] and read.ids["sample_id"].tolist() == ["s0", "s1"]
    assert read.frame["subject"].tolist() == ["x", "y"] and set(read.unknown) == {"subject", "sample"}
