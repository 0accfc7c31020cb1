"""A sheet that is cut and scored in parts gives every row the bits that the whole gives it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sjd_dask.clinical import MEASURES
from sjd_dask.errors import DataError, SjdError, SpecError
from sjd_dask.jobs.score_sheet import score_sheet
from sjd_dask.jobs.sheet_files import read_table, write_table
from sjd_dask.runtime.here import Here
from sjd_dask.simulate import Simulation

SHEET_ONLY = [name for name, one in MEASURES.items() if not one.needs_model and name != "sledai"]


@pytest.fixture(scope="module")
def sheet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Persons whose visits lie apart, units and words as a clinic writes them."""
    frame = Simulation(200, 5, seed=4, repeat_share=0.7).clinical_sheet().reset_index()
    frame = frame.sample(frac=1, random_state=1)
    frame["igg [mg/dL]"] = frame.pop("igg") * 100
    frame["haemoglobin_unit"] = "g/dL"
    frame.loc[frame.index[:40], "haemoglobin"] *= 10
    frame.loc[frame.index[:40], "haemoglobin_unit"] = "g/L"
    frame["anti_ssa"] = frame["anti_ssa"].map({1.0: "positive", 0.0: "Negative"}).fillna("unknown")
    frame.loc[frame.index[3], "person_id"] = None
    return write_table(frame, tmp_path_factory.mktemp("sheet") / "sheet.csv")


def scored(sheet: Path, out: Path, measures: list[str], **options: Any) -> pa.Table:
    done = score_sheet(sheet, out, measures=measures, **options)
    assert done.files == [str(out)]
    return pq.read_table(out)


@pytest.mark.parametrize("together", [False, True])
def test_scores_of_parts_are_those_of_the_whole(sheet: Path, tmp_path: Path, together: bool) -> None:
    frame = read_table(sheet)
    if together:  # a person's rows in one place are cut by rows, and written while others are scored
        frame = frame.sort_values("person_id", kind="stable")
    frame.loc[frame.index[7], "date"] = "2021-05-06T10:30:00"
    sheet = write_table(frame, tmp_path.parent / f"{tmp_path.name}.csv")
    whole = scored(sheet, tmp_path / "whole.parquet", SHEET_ONLY)
    parts = scored(sheet, tmp_path / "parts.parquet", SHEET_ONLY, cluster=Here(), partition_rows=23)
    assert parts["sample_id"].to_pylist() == frame["sample_id"].tolist()
    assert parts["date"].to_pylist()[7:9] == ["2021-05-06T10:30:00", frame["date"].iloc[8]]
    assert whole.num_rows > 80 and parts.schema == whole.schema
    for name in whole.column_names:
        assert parts.column(name).combine_chunks().equals(whole.column(name).combine_chunks()), name
    assert sorted(one.name for one in tmp_path.iterdir()) == ["parts.parquet", "whole.parquet"]


def test_the_order_of_the_rows_is_no_matter(sheet: Path, tmp_path: Path) -> None:
    frame = read_table(sheet)
    turned = write_table(frame.iloc[::-1], tmp_path / "turned.csv")
    whole = scored(sheet, tmp_path / "whole.parquet", SHEET_ONLY)
    other = scored(turned, tmp_path / "other.parquet", SHEET_ONLY)
    assert other.take(pa.array(range(len(frame) - 1, -1, -1))).equals(whole.combine_chunks())


def test_measures_of_a_visit_alone_are_cut_by_rows(sheet: Path, tmp_path: Path) -> None:
    alone = [name for name in SHEET_ONLY if not MEASURES[name].by_person]
    assert {"essdai", "esspri", "acr_eular"} <= set(alone) and {"star", "cress", "change"}.isdisjoint(alone)
    whole = scored(sheet, tmp_path / "whole.parquet", alone)
    parts = scored(sheet, tmp_path / "parts.parquet", alone, cluster=Here(), partition_rows=40)
    assert parts.equals(whole)


def test_a_bad_value_is_told_of_the_whole_sheet_and_leaves_nothing(sheet: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(sheet, dtype=str, keep_default_na=False)
    frame.loc[[9, 50, 90], "renal"] = "7"
    bad = write_table(frame, tmp_path / "bad.csv")
    said = set()
    for options in ({}, {"cluster": Here(), "partition_rows": 50}):
        with pytest.raises(DataError, match=f"'{frame['sample_id'][9]}', column 'renal': 7.*and 2 more") as found:
            score_sheet(bad, tmp_path / "o.csv", measures=["essdai"], **options)
        said.add(str(found.value))
        # A column that is not read may hold anything.
        score_sheet(bad, tmp_path / "esspri.csv", measures=["esspri"], **options)
    assert len(said) == 1 and sorted(one.name for one in tmp_path.iterdir()) == ["bad.csv", "esspri.csv"]


@pytest.mark.parametrize(
    ("query", "some"),
    [("igg > 1200", True), ("anti_ssa == 'positive'", True), ("anti_ssa == 1", False), ("visit == 1", True)],
)
def test_a_query_of_baselines_sees_the_sheet_as_it_was_given(
    sheet: Path, tmp_path: Path, query: str, some: bool
) -> None:
    given: dict[str, Any] = {"measures": ["star", "essdai"], "options": {"baseline": query}}
    done = score_sheet(sheet, tmp_path / "whole.parquet", **given)
    whole = pq.read_table(tmp_path / "whole.parquet")
    assert (whole["star_baseline"].null_count < whole.num_rows) == some
    assert any(f"no row is a baseline by {query!r}" in one for one in done.warnings) != some
    score_sheet(sheet, tmp_path / "parts.parquet", cluster=Here(), partition_rows=23, **given)
    assert pq.read_table(tmp_path / "parts.parquet").equals(whole)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"baseline": "visit == visit.min()"}, SpecError, "`visit.min()`, which is not allowed"),
        ({"baseline": "index == 3"}, SpecError, "'index', which does not exist; there are: sample_id"),
        ({"laboratory": "usse"}, SpecError, "'usse' (did you mean 'use'?)"),
        ({}, DataError, "and 2 more persons"),
    ],
)
def test_what_is_refused_is_refused_of_the_whole_sheet(
    sheet: Path, tmp_path: Path, options: dict[str, str], error: Any, words: str
) -> None:
    frame = read_table(sheet)
    several = frame.groupby("person_id")["sample_id"].transform("size") > 1
    frame.loc[frame["person_id"].isin(frame["person_id"][several].unique()[:3]), ["visit", "date"]] = None
    path = sheet if options else write_table(frame, tmp_path / "unclear.csv")
    said = set()
    for cut in ({}, {"cluster": Here(), "partition_rows": 23}):
        with pytest.raises(error) as found:
            score_sheet(path, tmp_path / "o.csv", measures=["star", "essdai"], options=options, **cut)
        assert words in str(found.value)
        said.add(str(found.value))
    assert len(said) == 1 and not (tmp_path / "o.csv").exists()


def test_a_piece_that_can_not_be_written_ends_the_run_and_leaves_nothing(
    sheet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(SjdError, match="No space left"):
        scored(sheet, tmp_path / "o.parquet", ["essdai"], cluster=Here(), partition_rows=23)
    assert not list(tmp_path.iterdir())
