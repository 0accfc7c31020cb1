"""Moves on the axes between visits: which visit is compared, bounds of the change, what is open."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sjd_dask.clinical import score
from sjd_dask.errors import DataError, SpecError

EVIDENCE = {"fibromyalgia": 0, "sleep_disturbance": 0, "widespread_pain": 0, "anxiety": 0}


def visits(**columns: list[float]) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    return pd.DataFrame(
        {"sample_id": [f"S{i}" for i in range(n)], "person_id": "P", "visit": range(1, n + 1), **EVIDENCE, **columns}
    )


def test_against_the_visit_before_whatever_the_order_of_the_rows() -> None:
    frame = visits(essdai=[2, 8, 8, 3], esspri=[6, 6, 4.9, 5])
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        found = score(frame.iloc[order], "axes-change").set_index("sample_id").loc[["S0", "S1", "S2", "S3"]]
        assert found["axes_since"].tolist()[1:] == ["S0", "S1", "S2"] and pd.isna(found["axes_since"].iloc[0])
        np.testing.assert_equal(found["axis1_change"].to_numpy(), [np.nan, 6, 0, -5])
        assert found["axis1_moved"].tolist()[1:] == ["inactive -> active", "", "active -> inactive"]
        assert found["axis3_moved"].tolist()[1:] == ["", "high burden -> low burden", "low burden -> high burden"]
        assert found["axis2_moved"].isna().all()
        assert found["axes_change_reason"].tolist() == ["no earlier visit", *["open: gland"] * 3]
        np.testing.assert_equal(found["axes_changed"].to_numpy(), [np.nan, 1, 1, 1])


def test_against_the_baseline() -> None:
    frame = visits(essdai=[2, 8, 3], esspri=[1, 1, 1])
    found = score(frame, "axes_change", since="baseline")
    assert found["axes_since"].tolist()[1:] == ["S0", "S0"]
    np.testing.assert_equal(found["axis1_change"].to_numpy(), [np.nan, 6, 1])
    named = score(frame, "axes_change", baseline="visit == 2")
    np.testing.assert_equal(named["axis1_change"].to_numpy(), [np.nan, np.nan, -5])
    assert named["axes_since"].isna().tolist() == [True, True, False]


def test_a_change_lies_within_what_both_visits_leave_open() -> None:
    found = score(visits(dryness=[4, 6], fatigue=[4, 6], pain=[np.nan, 6]), "axes_change").iloc[1]
    # 8/3 to 18/3 before, 18/3 after
    assert np.isnan(found["axis3_change"]) and pd.isna(found["axis3_moved"])
    assert (found["axis3_change_min"], found["axis3_change_max"]) == (0, pytest.approx(10 / 3))
    assert np.isnan(found["axes_changed"])


def test_evidence_that_was_not_recorded_before_is_no_change() -> None:
    frame = visits(esspri=[6, 6, 6], essdai=[0, 0, 0], fibromyalgia=[np.nan, 1, 0])
    found = score(frame, "axes_change")
    assert pd.isna(found["axis3_moved"].iloc[1]) and found["axis3_moved"].iloc[2] == "amplification -> high burden"
    rising = visits(esspri=[2, 6], essdai=[0, 0], fibromyalgia=[np.nan, np.nan])
    assert score(rising, "axes_change")["axis3_moved"].iloc[1] == "low burden -> high burden"


def test_the_dominant_axis_may_move() -> None:
    frame = pd.concat(
        [
            visits(essdai=[30, 0], esspri=[0, 9], saliva=[0.5, 0.5], schirmer=[30, 30], oss=[0, 0], focus_score=[0, 0]),
            *[
                visits(
                    essdai=[i], esspri=[i / 4], saliva=[0.02 * i], schirmer=[i], oss=[i // 4], focus_score=[1]
                ).assign(sample_id=f"R{i}", person_id=f"R{i}")
                for i in range(30)
            ],
        ]
    )
    for gland in ("sgus_parotid_right", "sgus_parotid_left", "sgus_submandibular_right", "sgus_submandibular_left"):
        frame[gland] = 0
    found = score(frame, "axes_change").iloc[1]
    assert found["dominant_moved"] == "systemic -> symptoms" and found["axes_changed"] == 1


def test_refused() -> None:
    frame = visits(essdai=[1, 2, 3]).assign(visit=[1, 2, 2])
    with pytest.raises(DataError, match=r"no order of the visits of person 'P'.*'S1' \(visit 2\) and 'S2' \(visit 2\)"):
        score(frame, "axes_change")
    with pytest.raises(SpecError, match="did you mean 'previous'"):
        score(frame, "axes_change", since="previus")
    alone = visits(essdai=[1, 2]).drop(columns=["person_id", "visit"])
    assert score(alone, "axes_change")["axes_since"].isna().all()  # a row without a person is a person of its own
