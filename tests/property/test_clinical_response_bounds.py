"""Responses under blanked items, better items, other rows and other orders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sjd_dask.clinical.response import change, cress, star
from sjd_dask.clinical.sheet import Sheet

LEVELS = {
    "constitutional": (0, 1, 2), "lymphadenopathy": (0, 1, 2, 3), "glandular": (0, 1, 2), "articular": (0, 1, 2, 3),
    "cutaneous": (0, 1, 2, 3), "pulmonary": (0, 1, 2, 3), "renal": (0, 1, 2, 3), "muscular": (0, 1, 2, 3),
    "peripheral_nervous_system": (0, 1, 2, 3), "central_nervous_system": (0, 2, 3), "haematological": (0, 1, 2, 3),
    "biological": (0, 1, 2),
}  # fmt: skip
# Column -> its greatest value, and whether more of it is better.
NUMBERS = {
    "dryness": (10, False), "fatigue": (10, False), "pain": (10, False), "schirmer_right": (12, True),
    "schirmer_left": (12, True), "oss_right": (12, False), "oss_left": (12, False), "saliva_unstimulated": (0.4, True),
    "sgus_hocevar": (48, False), "igg": (30, False), "rf": (200, False),
}  # fmt: skip
WHOLE = ("oss_right", "oss_left", "sgus_hocevar")
N = 60


def visits(seed: int) -> pd.DataFrame:
    """Two complete visits of each person: the second near the first, so that cut-offs are met and missed."""
    rng = np.random.default_rng(seed)
    frame: dict[str, Any] = {
        "sample_id": [f"S{i:03d}" for i in range(2 * N)],
        "person_id": [f"{i // 2:03d}" for i in range(2 * N)],
        "visit": np.tile([1, 2], N),
    }
    for name, levels in LEVELS.items():
        frame[name] = rng.choice(levels, 2 * N, p=np.r_[0.7, np.full(len(levels) - 1, 0.3 / (len(levels) - 1))])
    for name, (top, _) in NUMBERS.items():
        values = np.repeat(rng.uniform(0.02, 1, N), 2) * np.where(np.arange(2 * N) % 2, rng.uniform(0.6, 1.2, 2 * N), 1)
        values = np.clip(values, 0.01, 1) * top
        frame[name] = np.round(values) if name in WHOLE else values
    return pd.DataFrame(frame)


def blank(frame: pd.DataFrame, seed: int, share: float = 0.15) -> pd.DataFrame:
    items = [*LEVELS, *NUMBERS]
    absent = np.random.default_rng(seed).random((len(frame), len(items))) < share
    blanked = frame.copy()
    blanked[items] = frame[items].astype(float).mask(absent)
    return blanked


def score(measure: Any, frame: pd.DataFrame) -> pd.DataFrame:
    sheet = Sheet.read(frame)
    result: pd.DataFrame = measure(sheet).set_index(sheet.ids["sample_id"])
    return result


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("measure", [star, cress])
def test_bounds_hold_the_completed_response(measure: Any, seed: int) -> None:
    name = measure.__name__
    frame = visits(seed)
    whole, part = score(measure, frame), score(measure, blank(frame, seed))
    follow = whole[name].notna()
    assert follow.sum() == N and not (whole.loc[follow, f"{name}_responder"] == "undetermined").any()
    whole, part = whole[follow], part[follow]
    assert ((part[f"{name}_min"] <= whole[name]) & (whole[name] <= part[f"{name}_max"])).all()
    decided = part[f"{name}_responder"] != "undetermined"
    if name == "cress":
        decided &= part["cress_evaluable"] >= 3
    assert (part.loc[decided, f"{name}_responder"] == whole.loc[decided, f"{name}_responder"]).all()
    known = part[name].notna()
    assert (part.loc[known, name] == whole.loc[known, name]).all()
    domains = [column for column in whole if f"{name}_{column.removeprefix(f'{name}_')}" in DOMAINS[name]]
    sure = part[domains].notna()
    assert (part[domains].where(sure) == whole[domains].where(sure)).where(sure, True).all(axis=None)


DOMAINS = {
    name: [f"{name}_{one}" for one in ("systemic", "patient_reported", "lacrimal", "salivary", "biological")]
    for name in ("star", "cress")
}


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_bounds_hold_the_completed_change(seed: int) -> None:
    frame = visits(seed)
    whole, part = score(change, frame), score(change, blank(frame, seed))
    for measure in ("essdai", "clinessdai", "esspri"):
        found, true = part[f"{measure}_change_min"], whole[f"{measure}_change"]
        follow = true.notna()
        assert follow.sum() == N
        assert (found[follow] <= true[follow] + 1e-9).all()
        assert (part.loc[follow, f"{measure}_change_max"] >= true[follow] - 1e-9).all()
        decided = follow & (part[f"{measure}_improved"] != "undetermined")
        assert (part.loc[decided, f"{measure}_improved"] == whole.loc[decided, f"{measure}_improved"]).all()


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([*LEVELS, *NUMBERS]))
def test_a_better_item_at_follow_up_never_lowers_a_response(seed: int, item: str) -> None:
    frame = visits(seed)
    better = frame.copy()
    follow = better["visit"] == 2
    top, more_is_better = NUMBERS.get(item, (0, False))
    better.loc[follow, item] = top if more_is_better else min(0.1, frame[item].min()) if item == "igg" else 0
    for measure in (star, cress):
        name = measure.__name__
        before, after = score(measure, frame), score(measure, better)
        assert (after.loc[follow.to_numpy(), name] >= before.loc[follow.to_numpy(), name]).all()


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_row_depends_on_its_own_person_alone(seed: int) -> None:
    frame = blank(visits(seed), seed + 1)
    rng = np.random.default_rng(seed)
    persons = rng.choice(frame["person_id"].unique(), N // 3, replace=False)
    some = frame[frame["person_id"].isin(persons)].sample(frac=1, random_state=seed % 2**31)
    for measure in (star, cress, change):
        whole, part = score(measure, frame), score(measure, some)
        pd.testing.assert_frame_equal(whole.loc[part.index], part, check_exact=True)
