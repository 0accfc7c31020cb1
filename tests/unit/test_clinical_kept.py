"""What is computed once for a sheet is the same for every caller, and no caller can change it."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.clinical import Sheet, score
from sjd_dask.clinical.kept import _KEPT, kept_by_sheet


def sheet() -> Sheet:
    return Sheet.read(pd.DataFrame({"sample_id": ["a", "b"], "dryness": [1.0, 2.0], "fatigue": 3.0, "pain": 4.0}))


def test_a_function_is_computed_once_for_each_sheet_and_options() -> None:
    calls: list[Any] = []

    @kept_by_sheet
    def doubled(given: Sheet, *, by: float = 2.0, definitions: Any = None) -> pd.DataFrame:
        calls.append((by, definitions))
        return pd.DataFrame({"x": given.number("dryness") * by})

    one, other = sheet(), sheet()
    first = doubled(one)
    for same in (doubled(one, by=2.0), doubled(one, definitions=None)):
        np.testing.assert_array_equal(same["x"], [2, 4])
    assert len(calls) == 1
    doubled(other), doubled(one, by=3), doubled(one, definitions={"a": {"b": 1}}), doubled(one, definitions={"a": 1})
    assert len(calls) == 5
    # Written to, a caller's copy leaves the kept one alone.
    first.loc[0, "x"] = -1
    first["y"] = 0
    np.testing.assert_array_equal(doubled(one)["x"], [2, 4])
    assert list(doubled(one)) == ["x"] and len(calls) == 5


def test_what_is_kept_goes_with_its_sheet() -> None:
    one = sheet()
    score(one, ["esspri", "axes"])
    assert one in _KEPT
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None and all(kept() is not None for kept in _KEPT.keyrefs())


def test_a_definition_of_the_users_is_not_taken_for_the_shipped_one() -> None:
    one = sheet()
    shipped = score(one, "esspri")["esspri_acceptable"]
    own = score(one, "esspri", definitions={"esspri": {"acceptable": {"below": 2.9}}})["esspri_acceptable"]
    assert shipped.tolist() == [1, 1] and own.tolist() == [1, 0]
    with pytest.raises(Exception, match="no section"):
        score(one, "esspri", definitions={"esspri": {"acceptabel": {"below": 2.9}}})
