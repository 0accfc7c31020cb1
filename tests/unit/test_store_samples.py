"""Sample columns, their types and their history."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from store_helpers import betas, put

from sjd_dask.errors import DataError
from sjd_dask.store.cohort import create_cohort


def test_types_come_back(tmp_path: Path) -> None:
    cohort = create_cohort(tmp_path / "c")
    frame = pd.DataFrame(
        {
            "age": [40, 51, 62],
            "crp": [1.5, np.nan, 3.25],
            "batch": ["01", "02", None],
            "case": [True, False, True],
            "maybe": pd.array([True, None, False], dtype="boolean"),
            "n": pd.array([1, None, 3], dtype="Int64"),
            "date": pd.to_datetime(["2026-01-02", None, "2026-03-04"]),
            "kind": pd.Categorical(["x", "y", "x"]),
            "mixed": [1, "two", None],
            "nothing": [None, None, None],
        },
        index=pd.Index(["01005", "s2", "3"], name="id"),
    )
    assert cohort.add_samples(frame, "first") == 1
    read = cohort.samples()
    assert list(read.index) == ["01005", "s2", "3"] and read.index.name == "sample_id"
    assert list(read.columns) == list(frame.columns)
    kinds = {name: str(dtype) for name, dtype in read.dtypes.items()}
    assert kinds["age"] == "int64" and kinds["crp"] == "float64" and kinds["batch"] == "str" and kinds["case"] == "bool"
    assert kinds["n"] == "float64" and kinds["maybe"] == "object" and kinds["mixed"] == "str"
    assert read["batch"].tolist()[:2] == ["01", "02"] and read["batch"].isna().tolist() == [False, False, True]
    assert read["maybe"].tolist() == [True, None, False]
    assert read["date"].tolist()[0] == "2026-01-02" and read["mixed"].tolist()[:2] == ["1", "two"]
    assert read["nothing"].isna().all()


def test_history_and_no_op(tmp_path: Path) -> None:
    cohort = create_cohort(tmp_path / "c")
    sheet = pd.DataFrame({"age": [40.0, 50.0], "sex": ["F", "M"]}, index=["a", "b"])
    assert cohort.add_samples(sheet) == 1
    assert cohort.add_samples(sheet) is None
    assert cohort.add_samples(pd.DataFrame({"age": [41.0]}, index=["a"])) == 2
    assert cohort.add_samples(pd.DataFrame({"sex": [None], "bmi": [22.5]}, index=["b"])) == 3
    now, then = cohort.samples(), cohort.samples(snapshot=1)
    assert now.loc["a", "age"] == 41 and now.loc["a", "sex"] == "F"
    assert pd.isna(now.loc["b", "sex"]) and now.loc["b", "bmi"] == 22.5
    assert then.loc["a", "age"] == 40 and then.loc["b", "sex"] == "M" and "bmi" not in then
    assert cohort.samples(snapshot=0).empty


def test_samples_of_an_assay_without_sheet(tmp_path: Path) -> None:
    cohort = create_cohort(tmp_path / "c")
    put(cohort, "meth", ["z", "a"], betas(2, 3, 0))
    assert list(cohort.samples().index) == ["z", "a"] and not len(cohort.samples().columns)
    cohort.add_samples(pd.DataFrame({"age": [3]}, index=["a"]))
    read = cohort.samples()
    assert list(read.index) == ["a", "z"] and read["age"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("frame", "match"),
    [
        (pd.DataFrame({"age": [1, 2]}, index=["a", "a"]), "appear twice in the sheet: 'a'"),
        (pd.DataFrame({"age": [1, 2]}, index=["a", ""]), "row 2 of the sample sheet has an empty sample id"),
        (pd.DataFrame({"age": [1, 2]}, index=["a", None]), "row 2"),
        (pd.DataFrame({"age": []}), "no rows"),
        (pd.DataFrame([[1, 2]], index=["a"], columns=["x", "x"]), "column 'x' appears twice"),
        (pd.DataFrame({"": [1]}, index=["a"]), "without a name"),
        (pd.DataFrame({"x": [np.inf]}, index=["a"]), "infinite"),
    ],
)
def test_bad_sheets(tmp_path: Path, frame: pd.DataFrame, match: str) -> None:
    cohort = create_cohort(tmp_path / "c")
    with pytest.raises(DataError, match=match):
        cohort.add_samples(frame)
    assert cohort.snapshot() == 0


def test_samples_read_in_pieces_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = create_cohort(tmp_path / "c")
    for number in range(7):
        more = {} if number % 3 else {"late": [None if number == 3 else "x"], "mixed": [number if number else "word"]}
        index = pd.Index([f"s{number}"], name="sample_id")
        cohort.add_samples(pd.DataFrame({"age": [number], "flag": [number > 2], **more}, index=index))
    put(cohort, "meth", ["s1", "own"], betas(2, 3, 0))
    whole = cohort.samples()
    assert list(whole.columns) == ["age", "flag", "late", "mixed"] and list(whole.index)[-1] == "own"
    assert whole.loc["s6", "mixed"] == "6" and pd.isna(whole.loc["s1", "late"])
    for size in (1, 2, 7):
        monkeypatch.setattr("sjd_dask.store.catalogue.samples._AT_ONCE", size)
        pd.testing.assert_frame_equal(cohort.samples(), whole)


def test_a_hundred_thousand_samples(tmp_path: Path) -> None:
    cohort = create_cohort(tmp_path / "c")
    n = 100_000
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"age": rng.integers(18, 90, n), "sex": rng.choice(["F", "M"], n), "crp": rng.random(n), "batch": "b1"},
        index=[f"s{number:06d}" for number in range(n)],
    )
    cohort.add_samples(frame)
    start = time.perf_counter()
    read = cohort.samples()
    seconds = time.perf_counter() - start
    pd.testing.assert_frame_equal(read, frame, check_names=False, check_index_type=False)
    # Measured 0.5 s; a machine that is busy with other tests takes longer.
    assert seconds < 8
