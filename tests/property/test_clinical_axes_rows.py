"""Axes of any sheet: intervals hold the completed row, worse items never lower a position, rows stand alone."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from sjd_dask.clinical import AxisReference, Sheet, axis_positions, load_definition, score
from sjd_dask.clinical.axis_dominance import dominance

GRADES = ("sgus_parotid_right", "sgus_parotid_left", "sgus_submandibular_right", "sgus_submandibular_left")
# Column -> values, from health to worst.
ITEMS: dict[str, list[float]] = {
    **{name: [float(one) for one in own["levels"]] for name, own in load_definition("essdai")["items"].items()},
    **{f"schirmer_{eye}": [35, 15, 10, 5.5, 5, 2, 0] for eye in ("right", "left")},
    **{f"oss_{eye}": [0, 2, 4, 5, 8, 12] for eye in ("right", "left")},
    **{f"van_bijsterveld_{eye}": [0, 3, 4, 9] for eye in ("right", "left")},
    "saliva_unstimulated": [1, 0.3, 0.11, 0.1, 0.05, 0],
    **{gland: [0, 1, 2, 3] for gland in GRADES},
    "focus_score": [0, 0.9, 1, 3, 8],
    **{scale: [0, 2, 4.9, 5, 7, 10] for scale in ("dryness", "fatigue", "pain")},
    "anxiety": [0, 10, 11, 21],
    **{flag: [0, 1] for flag in ("sleep_disturbance", "fibromyalgia", "widespread_pain")},
}
PARTS = ("function", "structure", "inflammation")
NUMBERS = ("axis1_position", "axis2_position", *(f"axis2_{part}_position" for part in PARTS), "axis3_position")
FLAGS = ("axis2_early_inflammatory", "axis3_high_burden", "axis3_amplification")
STATES = ("axis1_state", "axis2_state", *(f"axis2_{part}_state" for part in PARTS))
PERCENTILES = ("axis1_percentile", "axis2_percentile", "axis3_percentile")


def drawn(seed: int, n: int, missing: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Complete rows, and the same with values taken out."""
    random = np.random.default_rng(seed)
    whole = pd.DataFrame({name: random.choice(values, n) for name, values in ITEMS.items()}, dtype=float)
    # Calm rows as well: else some test of axis 2 is nearly always positive.
    calm = random.random((n, len(ITEMS))) < random.choice([0.0, 0.7, 1.0], n)[:, None]
    whole = whole.mask(calm, [values[0] for values in ITEMS.values()], axis=1)
    holes = whole.mask(random.random(whole.shape) < missing)
    ids = pd.DataFrame({"sample_id": [f"S{i}" for i in range(n)]})
    return pd.concat([ids, whole], axis=1), pd.concat([ids, holes], axis=1)


def reference() -> AxisReference:
    return AxisReference.fit(Sheet.read(drawn(0, 300, 0.0)[0]), "drawn")


REFERENCE = reference()


@settings(deadline=None, max_examples=6)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.9))
def test_what_missing_items_leave_open_holds_what_they_turn_out_to_be(seed: int, missing: float) -> None:
    whole, holes = drawn(seed, 120, missing)
    done, known = (score(one, "axes", reference=REFERENCE) for one in (whole, holes))
    for name in (*NUMBERS, *PERCENTILES, "dominant_margin"):
        value, low, high = done[name], known[f"{name}_min"], known[f"{name}_max"]
        assert (low <= value + 1e-9).all() and (value <= high + 1e-9).all(), name
        exact = known[name].notna()
        assert (known.loc[exact, name] == low[exact]).all() and (low[exact] == high[exact]).all()
        np.testing.assert_allclose(known.loc[exact, name], value[exact], atol=1e-9)
    for name in (*STATES, *FLAGS, "dominant", "axes_endpoints", "axes_immunotherapy"):
        said = known[name].notna()
        assert (known.loc[said, name] == done.loc[said, name]).all(), name
        assert done[name].notna().all(), name
    # A high burden may turn out to be amplification, and nothing else may.
    said = known["axis3_state"].notna() & (known["axis3_state"] != done["axis3_state"])
    assert set(known.loc[said, "axis3_state"]) <= {"high burden"}
    assert set(done.loc[said, "axis3_state"]) <= {"amplification"}


@settings(deadline=None, max_examples=6)
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(ITEMS)))
def test_a_worse_item_lowers_no_position_and_ends_no_state(seed: int, name: str) -> None:
    _, frame = drawn(seed, 60, 0.2)
    values = ITEMS[name]
    steps = [axis_positions(Sheet.read(frame.assign(**{name: value}))) for value in values]
    bad = {"active", "impaired", "positive", "high burden", "amplification"}
    for better, worse in pairwise(steps):
        ends = [column + end for column in NUMBERS for end in ("_min", "_max")]
        assert (better[ends].to_numpy() <= worse[ends].to_numpy() + 1e-12).all()
        for column in (*STATES, "axis3_state"):
            assert worse.loc[better[column].isin(bad), column].isin(bad).all(), column


@settings(deadline=None, max_examples=5)
@given(st.integers(0, 2**32 - 1), st.integers(1, 59))
def test_a_row_is_the_same_in_any_company_and_order(seed: int, cut: int) -> None:
    _, frame = drawn(seed, 60, 0.3)
    whole = score(frame, "axes", reference=REFERENCE)
    order = np.random.default_rng(seed).permutation(60)
    parts = pd.concat(
        [score(part, "axes", reference=REFERENCE) for part in (frame.iloc[order[:cut]], frame.iloc[order[cut:]])]
    )
    again = parts.set_index("sample_id").loc[frame["sample_id"]].reset_index()
    for name in whole.columns:
        one, other = whole[name], again[name]
        assert one.isna().equals(other.isna()), name
        if one.dtype == np.float64:
            assert one.to_numpy().tobytes() == other.to_numpy().tobytes(), name
        else:
            assert (one.dropna() == other.dropna()).all(), name


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_dominance_is_what_every_completion_agrees_on(data: Any) -> None:
    """Three axes on whole tens of percentiles: every point of a grid within the ranges is tried, with every state."""
    ends = data.draw(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=3))
    low, high = (10.0 * np.array([[pick(one) for one in ends]]) for pick in (min, max))
    states = np.array([data.draw(st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=3, max_size=3))])
    axes = ("systemic", "gland", "symptoms")
    found = dominance(low, high, states, axes, load_definition("axes"), REFERENCE)
    sides = [np.arange(low[0, at], high[0, at] + 1, 5) for at in range(3)]
    sides += [np.array([0.0, 1.0]) if np.isnan(one) else np.array([one]) for one in states[0]]
    tried = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 6)
    points, flags = tried[:, :3], tried[:, 3:]
    top, ranked = points.argmax(axis=1), np.sort(points, axis=1)
    margin = ranked[:, 2] - ranked[:, 1]
    leads = (margin >= 10) & (flags[np.arange(len(top)), top] == 1)
    possible = {(*axes, "none dominates")[one] for one in np.where(leads, top, 3)}
    assert set(found["dominant_possible"][0].split("; ")) == possible
    said = found["dominant"][0]
    assert possible == {said} if pd.notna(said) else len(possible) > 1
    assert (found["dominant_margin_min"][0], found["dominant_margin_max"][0]) == (margin.min(), margin.max())
