"""Sample sheets and feature tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sjd_dask.errors import DataError
from sjd_dask.store.ingest import read_sheet
from sjd_dask.store.ingest.columns import load_sheet, merge_columns
from sjd_dask.store.ingest.sheets import unmatched


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_types_are_inferred_with_care(tmp_path: Path) -> None:
    sheet = read_sheet(
        write(
            tmp_path / "s.csv",
            "sample_id,age,visit,code,person_id,flag,site,note,big,date\n"
            "01005,61,1,007,12,TRUE,A,Not Applicable,12345678901234567890,2024-02-29\n"
            "01010,NA,2,012,13,false,,x,1,\n",
        )
    )
    assert list(sheet.index) == ["01005", "01010"] and sheet.index.name == "sample_id"
    assert sheet["age"].dtype == np.float64 and np.isnan(sheet["age"].iloc[1])
    assert sheet["visit"].dtype == np.int64
    assert sheet["code"].tolist() == ["007", "012"]
    assert sheet["person_id"].tolist() == ["12", "13"]
    assert sheet["flag"].tolist() == [True, False] and sheet["flag"].dtype == bool
    assert sheet["site"].tolist() == ["A", None]
    assert sheet["note"].tolist() == ["Not Applicable", "x"]
    assert sheet["big"].tolist() == ["12345678901234567890", "1"]
    assert sheet["date"].tolist() == ["2024-02-29", None]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("first.csv", ",age\nA,1\nB,2\n"),
        ("quoted.csv", '"","age"\n"A",1\n"B",2\n'),
        ("named.tsv", "id\tage\nA\t1\nB\t2\n"),
        ("other_place.csv", "age,sample_id\n1,A\n2,B\n"),
        ("r_style.txt", "age\tx\nA\t1\t3\nB\t2\t3\n"),
        ("semicolon.csv", "id;age\nA;1\nB;2\n"),
        ("semicolon_text.csv", "id;age;note\nA;1;2,5\nB;2;none, or 3\n"),
        ("blank_lines.csv", "id,age\nA,1\n\nB,2\n\n"),
    ],
)
def test_where_the_ids_are(tmp_path: Path, name: str, text: str) -> None:
    sheet = read_sheet(write(tmp_path / name, text))
    assert list(sheet.index) == ["A", "B"]
    assert sheet["age"].tolist() == [1, 2]


def test_chosen_id_column_and_ids_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "a,b\n1,X\n2,Y\n")
    assert list(read_sheet(path, id_column="b").index) == ["X", "Y"]
    with pytest.raises(DataError, match="no column 'c'"):
        read_sheet(path, id_column="c")
    assert list(read_sheet(write(tmp_path / "ids.csv", "sample_id\nA\nB\n")).index) == ["A", "B"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,age\nA,1\nA,2\n", "'A'"),
        ("id,age\nA,1\n,2\n", "position 2 is empty"),
        ("id,age\nA,1\nB\n", "line 3 has 1 fields"),
        ("id,age,age\nA,1,2\n", "repeated: 'age'"),
        ("id,age,\nA,1,2\n", "column 3 has no name"),
        ("id,age\n", "no rows"),
        ("id,date\nA,2024-02-30\n", "'A' is '2024-02-30'"),
        ("id,date\nA,5/21/1997\n", "not an ISO date"),
        ('id,age\n"A\tB",2\n', "control character"),
        ('id,age\n"A,2\n', "quoted field"),
        ("sample_id,age\nA,1,2\nB,3,4\n", "line 2 has 3 fields where the header has 2"),
        ("id;bmi\nA;23,5\nB;NA\n", "line 2, column 'bmi': '23,5' is not a number: use a decimal point"),
        ("id;age;bmi\nA;30;24\nB;31;23,5\n", "line 3, column 'bmi': '23,5'"),
    ],
)
def test_sheets_are_refused_with_the_offender(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_sheet(write(tmp_path / "s.csv", text))


def test_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        read_sheet(tmp_path / "none.csv")


def test_line_break_inside_quotes_keeps_line_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", 'id,note\nA,"two\nlines"\nB,x\nC\n')
    with pytest.raises(DataError, match="line 5 has 1"):
        read_sheet(path)


def test_parquet_sheet(tmp_path: Path) -> None:
    frame = pd.DataFrame({"sample_id": ["A", "B"], "person_id": [1, 2], "age": [1.5, np.nan], "sex": ["F", "NA"]})
    frame.to_parquet(tmp_path / "s.parquet")
    sheet = read_sheet(tmp_path / "s.parquet")
    assert sheet["person_id"].tolist() == ["1", "2"]
    assert sheet["age"].dtype == np.float64
    assert sheet["sex"].tolist() == ["F", None]


def test_frames_are_sheets_too() -> None:
    sheet = load_sheet(pd.DataFrame({"sample_id": [1, 2], "person_id": [7, None]}))
    assert list(sheet.index) == ["1", "2"]
    with pytest.raises(DataError, match="ISO date"):
        load_sheet(pd.DataFrame({"sample_id": ["a"], "date": ["May"]}))


def test_join_and_merge() -> None:
    sheet = pd.DataFrame({"age": [1, 2]}, index=["B", "C"])
    assert unmatched(["A", "B"], sheet) == (["A"], ["C"])
    own = pd.DataFrame({"age": [10, 20], "tissue": ["x", "y"]}, index=["A", "B"])
    merged = merge_columns(own, sheet)
    assert merged is not None
    assert merged["age"].tolist() == [10, 1, 2]
    assert merged["tissue"].tolist()[:2] == ["x", "y"]
    assert merge_columns(None, sheet) is sheet and merge_columns(own, None) is own
