"""ESSPRI: the mean of three scales, its acceptable state, and what a missing scale leaves open."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sjd_dask.clinical import esspri, score
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.errors import DataError


def one(**values: float | None) -> pd.Series:
    return score(pd.DataFrame([{"sample_id": "a", **values}]), "esspri").iloc[0]


def test_mean_of_three() -> None:
    result = one(dryness=7, fatigue=5, pain=4)
    assert result["esspri"] == 16 / 3 and result["esspri_known"] == result["esspri_items"] == 3


@pytest.mark.parametrize(
    ("scales", "mean", "acceptable"),
    [
        ((5, 5, 4.9), 14.9 / 3, 1),
        ((5, 5, 5), 5.0, 0),
        ((4.9, 5.0, 5.1), 5.0, 0),
        ((0.1, 4.9, 10.0), 5.0, 0),
        ((5, 5, 5.1), 15.1 / 3, 0),
        ((0, 0, 0), 0.0, 1),
        ((10, 10, 10), 10.0, 0),
    ],
)
def test_acceptable_is_below_five(scales: tuple[float, float, float], mean: float, acceptable: int) -> None:
    result = one(**dict(zip(("dryness", "fatigue", "pain"), scales, strict=True)))
    assert result["esspri"] == mean and result["esspri_acceptable"] == acceptable


def test_decimals_add_up_as_on_paper() -> None:
    assert one(dryness=0.1, fatigue=0.2, pain=0.3)["esspri"] == 0.6 / 3


@pytest.mark.parametrize("gone", ["dryness", "fatigue", "pain"])
def test_a_missing_scale_widens_the_mean(gone: str) -> None:
    result = one(**{**dict.fromkeys(("dryness", "fatigue", "pain"), 3.0), gone: None})
    assert np.isnan(result["esspri"]) and np.isnan(result["esspri_acceptable"])
    assert (result["esspri_min"], result["esspri_max"]) == (2, 16 / 3)
    assert result["esspri_known"] == 2 and result["esspri_reason"] == f"missing: {gone}"


def test_the_state_is_sure_where_the_interval_is_on_one_side() -> None:
    assert one(dryness=1, fatigue=3, pain=None)["esspri_acceptable"] == 1  # at most 14 / 3
    assert one(dryness=2, fatigue=3, pain=None)["esspri_acceptable"] != 1  # up to 5
    assert one(dryness=9, fatigue=6, pain=None)["esspri_acceptable"] == 0  # at least 5


def test_a_recorded_mean_counts_where_scales_are_missing() -> None:
    assert one(esspri=4.3, dryness=None)["esspri"] == 4.3
    result = one(dryness=4, fatigue=5, pain=7, esspri=5.3)
    assert result["esspri"] == 16 / 3 and result["esspri_reason"] == ""  # 5.3 is the mean, rounded
    assert "disagrees" in one(dryness=4, fatigue=5, pain=7, esspri=6)["esspri_reason"]
    assert "outside" in one(dryness=9, fatigue=9, esspri=1)["esspri_reason"]


@pytest.mark.parametrize("bad", [-0.1, 10.1])
def test_a_value_off_the_scale_is_refused(bad: float) -> None:
    with pytest.raises(DataError, match=r"'a', column 'pain'.*0 to 10"):
        one(pain=bad)


def test_a_scale_of_a_hundred_is_named_as_remedy_and_read() -> None:
    frame = pd.DataFrame([{"sample_id": "a", "dryness": 55, "fatigue": 5, "pain": 5}])
    with pytest.raises(DataError, match="0-100"):
        score(frame, "esspri")
    assert score(frame, "esspri", units={"dryness": "0-100"})["esspri"].tolist() == [15.5 / 3]


def test_the_function_of_its_own_gives_what_score_gives() -> None:
    frame = pd.DataFrame([{"sample_id": "a", "dryness": 5, "fatigue": 5, "pain": None}])
    own = esspri(Sheet.read(frame))
    pd.testing.assert_frame_equal(own, score(frame, "esspri")[list(own.columns)])
