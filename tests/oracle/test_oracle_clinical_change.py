"""Change from baseline in real visits of persons with lupus (GSE65391), against pandas.

The engine takes any score with bounds: here SLEDAI, with a drop of 4 as the improvement.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sjd_dask.clinical.response import change
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.errors import DataError

RULES = {
    "change": {
        "replace": True,
        "improvement": {"sledai_drop": {"measure": "sledai", "rule": "drop", "at_least": 4}},
        "acceptable": {"sledai": {"measure": "sledai", "rule": "state_below", "below": 4}},
    }
}


@pytest.fixture(scope="module")
def visits(reference_data: Path) -> pd.DataFrame:
    path = reference_data / "data" / "sle_wb_GSE65391_training" / "phenotype.csv"
    frame = pd.read_csv(path, index_col=0, dtype=str, keep_default_na=False).rename_axis("sample_id")
    return frame.rename(columns={"subject": "person_id"})[["person_id", "visit", "sledai", "disease_state"]]


def test_two_arrays_of_one_visit_are_no_baseline(visits: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"'BAY-H241': nothing tells which of its samples is earlier.* 15 more persons"):
        change(Sheet.read(visits), definitions=RULES)


def test_change_of_real_visits_is_what_pandas_says(visits: pd.DataFrame) -> None:
    single = visits[visits["disease_state"] == "SLE"]
    sheet = Sheet.read(single)
    found = change(sheet, definitions=RULES).set_index(sheet.ids["sample_id"])
    ordered = single.assign(
        visit=pd.to_numeric(single["visit"], errors="coerce"), sledai=single["sledai"].astype(float)
    )
    ordered = ordered.sort_values(["person_id", "visit"])
    first = ordered.groupby("person_id")["sledai"].transform("first")
    expected = (ordered["sledai"] - first)[ordered["person_id"].duplicated()]
    assert len(expected) > 400
    np.testing.assert_array_equal(found.loc[expected.index, "sledai_change"], expected)
    improved = found.loc[expected.index, "sledai_improved"] == "yes"
    np.testing.assert_array_equal(improved, expected <= -4)
    assert 20 < improved.sum() < len(expected) - 20
    rest = found.index.difference(expected.index)
    assert len(rest) == single["person_id"].nunique() and found.loc[rest, "sledai_change"].isna().all()
    state = found["sledai_acceptable_state"] == "yes"
    np.testing.assert_array_equal(state[ordered.index], ordered["sledai"] < 4)
