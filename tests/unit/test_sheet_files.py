"""Tables of people and visits as files, the mapping file, and ids made where a sheet has none."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sjd_dask.errors import DataError, SpecError
from sjd_dask.jobs.clinical_sheet import open_sheet
from sjd_dask.jobs.mapping import read_mapping
from sjd_dask.jobs.sheet_files import read_table, write_table
from sjd_dask.jobs.table_writer import table_writer
from sjd_dask.store.cohort import create_cohort


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def sample_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sample_id": pd.Series(["01005", "x, y", 'q"q', "last"], dtype=object),
            "score": [0.1 + 0.2, np.nan, 1 / 3, -0.0],
            "items": [1, 2, 3, 4],
            "flag": pd.Series([True, False, None, True], dtype=object),
            "reason": pd.Series(["missing: renal, biological", "", None, "tab\there"], dtype=object),
        }
    )


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz", "tsv.gz", "parquet"])
def test_a_written_table_reads_back_bit_for_bit(tmp_path: Path, ending: str) -> None:
    frame = sample_frame()
    found = read_table(write_table(frame, tmp_path / f"t.{ending}"))
    assert list(found.columns) == list(frame.columns)
    assert found["sample_id"].tolist() == frame["sample_id"].tolist()
    assert found["score"].to_numpy().tobytes() == frame["score"].to_numpy().tobytes() or ending != "parquet"
    np.testing.assert_array_equal(found["score"], frame["score"])
    assert found["items"].tolist() == [1, 2, 3, 4]
    assert [None if pd.isna(one) else bool(one) for one in found["flag"]] == [True, False, None, True]
    assert found["reason"].fillna("").tolist() == ["missing: renal, biological", "", "", "tab\there"]
    assert [one.name for one in tmp_path.iterdir()] == [f"t.{ending}"]


@pytest.mark.parametrize("ending", ["csv", "tsv.gz", "json", "parquet"])
def test_a_table_in_pieces_is_the_file_of_the_whole(tmp_path: Path, ending: str) -> None:
    table = pa.Table.from_pandas(sample_frame(), preserve_index=False)
    whole = write_table(table, tmp_path / f"whole.{ending}")
    with table_writer(tmp_path / f"pieces.{ending}") as put:
        for start, stop in ((0, 1), (1, 1), (1, 4)):
            put(table.slice(start, stop - start))
        assert not (tmp_path / f"pieces.{ending}").exists()
    pieces = tmp_path / f"pieces.{ending}"
    if ending == "parquet":
        assert pq.read_table(pieces).equals(pq.read_table(whole))
    else:
        read = gzip.decompress if ending.endswith("gz") else bytes
        assert read(pieces.read_bytes()) == read(whole.read_bytes())
    with suppress(KeyboardInterrupt), table_writer(tmp_path / f"stopped.{ending}") as put:
        put(table)
        raise KeyboardInterrupt
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted([whole.name, pieces.name])


def test_days_are_written_as_days(tmp_path: Path) -> None:
    days = pd.to_datetime(pd.Series(["2022-07-18", None, "2021-01-02"]))
    frame = pd.DataFrame({"day": days, "moment": days + pd.Timedelta(hours=3)})
    lines = write_table(frame, tmp_path / "t.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["day", "2022-07-18", "", "2021-01-02"]
    assert lines[1].split(",")[1].startswith("2022-07-18 03:00:00")


def test_json_holds_rows_with_null_where_missing(tmp_path: Path) -> None:
    rows = json.loads(write_table(sample_frame(), tmp_path / "t.json").read_text(encoding="utf-8"))
    assert rows[0] == {
        "sample_id": "01005", "score": 0.30000000000000004, "items": 1, "flag": True,
        "reason": "missing: renal, biological",
    }  # fmt: skip
    assert rows[1]["score"] is None and rows[2]["flag"] is None and rows[2]["score"] == 1 / 3


def test_a_file_that_can_not_be_written_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"'t\.xlsx' ends in none of \.csv"):
        write_table(sample_frame(), tmp_path / "t.xlsx")
    with pytest.raises(SpecError, match="there is no folder"):
        write_table(sample_frame(), tmp_path / "no" / "t.csv")
    with pytest.raises(pa.ArrowInvalid):
        write_table(pd.DataFrame({"a": pd.Series([object()], dtype=object)}), tmp_path / "t.json")
    assert not list(tmp_path.iterdir())


def test_text_is_read_with_ids_dates_and_visits_as_they_stand(tmp_path: Path) -> None:
    text = "Patient ID;visit;date;igg;ssa;note\r\n007;1;2026-03-31;12,5;positive; two words \r\n08;2;;NA;;\r\n"
    frame = read_table(write(tmp_path / "t.csv", "\ufeff" + text))
    assert frame["Patient ID"].tolist() == ["007", "08"]
    assert frame["visit"].tolist() == [1, 2] and frame["visit"].dtype == np.int64
    assert frame["date"].iloc[0] == "2026-03-31" and frame["date"].isna().tolist() == [False, True]
    # A decimal comma is no number, and isn't taken for one.
    assert frame["igg"].iloc[0] == "12,5" and pd.isna(frame["igg"].iloc[1])
    assert frame["note"].iloc[0] == "two words"
    named = read_table(write(tmp_path / "u.csv", "visit,a\nV2,1\nV10,2\n"))
    assert named["visit"].tolist() == ["V2", "V10"]
    leading = read_table(write(tmp_path / "v.csv", "visit,a\n01,1\n02,2\n"))
    assert leading["visit"].tolist() == ["01", "02"]


def test_the_first_column_may_lack_its_name(tmp_path: Path) -> None:
    for text in ("\tx\nS1\t1\nS2\t2\n", "x\nS1\t1\nS2\t2\n"):
        assert read_table(write(tmp_path / "t.tsv", text))["sample_id"].tolist() == ["S1", "S2"]


def test_gzip_is_told_by_its_bytes_and_parts_are_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(gzip.compress(b"sample_id,a\nS1,1\n"))
    assert read_table(path)["a"].tolist() == [1]
    parts = tmp_path / "parts"
    parts.mkdir()
    for i in (1, 0):
        pd.DataFrame({"sample_id": [i], "day": pd.to_datetime(["2026-01-02"])}).to_parquet(parts / f"{i}.parquet")
    whole = read_table(parts)
    assert whole["sample_id"].tolist() == ["0", "1"] and whole["day"].tolist() == ["2026-01-02"] * 2


def test_a_cohort_gives_its_sample_sheet(tmp_path: Path) -> None:
    cohort = create_cohort(tmp_path / "cohort")
    with pytest.raises(DataError, match="has no samples yet"):
        read_table(tmp_path / "cohort")
    cohort.add_samples(pd.DataFrame({"igg": [12.5]}, index=pd.Index(["007"], name="sample_id")))
    frame = read_table(tmp_path / "cohort")
    assert frame["sample_id"].tolist() == ["007"] and frame["igg"].tolist() == [12.5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n1,2,3\n", "line 3 has 3 fields where the header has 2"),
        ("a,b\n1,2\n1\n", "line 3 has 1 fields"),
        ('a,b\n"1,2\n3,4\n', "is not closed"),
        ("a,a\n1,2\n", "column names are repeated: 'a'"),
        ("a,b\n", "no rows below it"),
        ("a,,b\n1,2,3\n", "column 2 has no name"),
        ("\n1\n", "first line is empty"),
        ("", "is empty"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_table(write(tmp_path / "t.csv", text))


@pytest.mark.parametrize("name", ["note", "sample_id"])
def test_bytes_that_are_no_text_are_refused_wherever_they_stand(tmp_path: Path, name: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(f"{name},b\n".encode() + b"x,1\n" * 600_000 + "Sjögren,2\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"UTF-?8"):
        read_table(path)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        read_table(tmp_path / "no.csv")
    with pytest.raises(DataError, match="the ending must tell the format"):
        read_table(write(tmp_path / "t.xlsx", "a"))
    with pytest.raises(DataError, match="not a Parquet file"):
        read_table(write(tmp_path / "t.parquet", "a"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"neither cohort\.toml nor a \.parquet file"):
        read_table(tmp_path / "empty")


# -- mapping ------------------------------------------------------------------

THEIRS = "Subject,Visit no,IgG result,Dry eyes?,PNS level,site\n007,1,1250,1,-99,A\n08,1,900,9,2,B\n"


def mapping(tmp_path: Path, text: str) -> Path:
    return write(tmp_path / "mapping.yaml", text)


def test_a_mapping_renames_recodes_and_gives_units(tmp_path: Path) -> None:
    rules = mapping(
        tmp_path,
        "columns:\n  Subject: person_id\n  Visit no: visit\n  IgG result: {to: igg, unit: mg/dL}\n"
        "  Dry eyes?: {to: dry_eyes_daily, values: {1: yes, 2: no, 9: null}}\n  PNS level: pns\nmissing: [-99]\n",
    )
    opened = open_sheet(write(tmp_path / "t.csv", THEIRS), mapping=rules)
    sheet = opened.read()
    assert sheet.frame["sample_id"].tolist() == ["007|1", "08|1"] and "made of person_id and visit" in opened.notes[0]
    assert opened.units == {"igg": "mg/dL"} and sheet.number("igg").tolist() == [12.5, 9.0]
    np.testing.assert_array_equal(sheet.flag("dry_eyes_daily"), [1, np.nan])
    np.testing.assert_array_equal(sheet.level("peripheral_nervous_system"), [np.nan, 2])
    assert sheet.frame["site"].tolist() == ["A", "B"]
    dropped = open_sheet(tmp_path / "t.csv", mapping=mapping(tmp_path, rules.read_text() + "others: drop\n"))
    assert "site" not in dropped.frame
    assert open_sheet(tmp_path / "t.csv", mapping=rules, units={"igg": "g/L"}).units == {"igg": "g/L"}


def test_words_of_yaml_and_of_the_table_are_the_same(tmp_path: Path) -> None:
    rules = read_mapping(mapping(tmp_path, "columns:\n  e: {to: aids, values: {Yes: 1, NO: 0, 2.0: 1}}\n"))
    frame, _ = rules.apply(pd.DataFrame({"e": ["YES", "no", "2", None, "positive"]}))
    assert frame["aids"].tolist()[:3] == [1, 0, 1] and frame["aids"].iloc[3] is None
    assert frame["aids"].iloc[4] == "positive"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("columns: {IgG resut: igg}", r"has no column 'IgG resut'; near to it: 'IgG result'"),
        ("columns: {site: igm}", r"'site' goes to 'igm', which no clinical sheet has \(did you mean 'igg'\?\)"),
        ("columns: {site: igg, Subject: igg}", "'site' and 'Subject' both go to 'igg'"),
        ("columns: {site: {to: igg, unti: x}}", r"unknown key `columns.site.unti` \(did you mean 'unit'\?\)"),
        ("colums: {site: igg}", r"unknown key `colums` \(did you mean 'columns'\?\)"),
        ("others: drop", "the key `columns` is required"),
        ("columns: {", "can't be read"),
        ("- a", "must hold `columns:`"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(tmp_path: Path, text: str, words: str) -> None:
    table = write(tmp_path / "t.csv", THEIRS)
    with pytest.raises(SpecError, match=words):
        open_sheet(table, mapping=mapping(tmp_path, text))


def test_a_column_that_a_mapped_one_would_double_is_refused(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "sample_id,lab,igg\nS1,1,2\n")
    with pytest.raises(SpecError, match="a column 'igg' beside 'lab', which the mapping makes 'igg'"):
        open_sheet(table, mapping=mapping(tmp_path, "columns: {lab: igg}"))


# -- ids ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ids", "note"),
    [
        ("sample_id,person_id\n01,P\n02,P\n", ["01", "02"], None),
        ("patient,visit,igg\n1,1,2\n1,2,2\n", ["1|1", "1|2"], "made of person_id and visit, as in '1|1'"),
        ("patient,date,igg\n01,2026-01-02,2\n", ["01|2026-01-02"], "made of person_id and date"),
        ("patient,igg\n01,2\n02,2\n", ["01", "02"], "each row is one person"),
    ],
)
def test_rows_get_an_id(tmp_path: Path, text: str, ids: list[str], note: str | None) -> None:
    opened = open_sheet(write(tmp_path / "t.csv", text))
    assert opened.frame["sample_id"].tolist() == ids
    assert len(opened.notes) == (note is not None) and all(note in one for one in opened.notes)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("igg,age\n1,2\n", SpecError, "neither `sample_id` nor `person_id`; it has 'igg', 'age'"),
        ("patient,igg\nP,1\nP,2\n", DataError, "person 'P' has more than one row"),
        ("patient,visit\nP,1\nP,1\n", DataError, "person 'P' has two rows of visit '1'"),
        ("patient,visit\nP,1\nQ,\n", DataError, "person 'Q' has a row without visit"),
        ("patient,visit\nP,1\n,2\n", DataError, "row 2 has no person_id"),
        ("sample_id,a\nS,1\nS,2\n", DataError, "1 sample id is repeated: 'S'"),
        ("sample_id,a\nS,1\n,2\n", DataError, "the sample id at position 2 is empty"),
        ("sample_id,sample,a\nS,T,1\n", SpecError, "'sample_id' and 'sample' both stand for 'sample_id'"),
    ],
)
def test_rows_that_nothing_tells_apart_are_refused(tmp_path: Path, text: str, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        open_sheet(write(tmp_path / "t.csv", text))
