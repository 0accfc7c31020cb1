"""The three axes: each cut-off just below, at and above; each item missing; parts of axis 2; what dominates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.clinical import AxisReference, Sheet, axis_positions, load_definition, score
from sjd_dask.clinical.axes import place
from sjd_dask.errors import DataError, SpecError

DOMAINS = tuple(load_definition("essdai")["items"])
QUIET = dict.fromkeys(DOMAINS, 0)
GRADES = ("sgus_parotid_right", "sgus_parotid_left", "sgus_submandibular_right", "sgus_submandibular_left")
HEALTHY_GLANDS = {
    "schirmer_right": 20, "schirmer_left": 18, "oss_right": 0, "oss_left": 1, "saliva_unstimulated": 0.5,
    **dict.fromkeys(GRADES, 0), "focus_score": 0,
}  # fmt: skip
EASY = {"dryness": 1, "fatigue": 1, "pain": 1, "anxiety": 2}
NO_EVIDENCE = {"sleep_disturbance": 0, "fibromyalgia": 0, "widespread_pain": 0, "anxiety": 10}


def one(**values: Any) -> pd.Series:
    """State and position of one row."""
    return axis_positions(Sheet.read(pd.DataFrame([{"sample_id": "S1", **values}]))).iloc[0]


def cohort(n: int = 41) -> AxisReference:
    """ESSDAI 0, 1, ..., n - 1; gland position and ESSPRI spread evenly: percentiles can be told by hand."""
    positions = pd.DataFrame(
        {
            "axis1_position": np.arange(n, dtype=float),
            "axis2_position": np.arange(n) / (n - 1),
            "axis3_position": 10.0 * np.arange(n) / (n - 1),
        }
    )
    return AxisReference.from_positions(positions, "even cohort")


# ---- axis 1 ----


@pytest.mark.parametrize(
    ("levels", "points", "state"),
    [
        ({}, 0, "inactive"),
        ({"articular": 1, "haematological": 1}, 4, "inactive"),
        ({"cutaneous": 1, "glandular": 1}, 5, "active"),
        ({"renal": 1}, 5, "active"),
        ({"muscular": 1}, 6, "active"),
    ],
)
def test_systemic_activity_starts_at_five_points(levels: dict[str, int], points: int, state: str) -> None:
    found = one(**{**QUIET, **levels})
    assert (found["axis1_state"], found["axis1_position"]) == (state, points)
    assert found["axis1_organs"] == "; ".join(name for name in DOMAINS if name in levels)


def test_each_missing_domain_leaves_the_state_open_only_where_it_decides() -> None:
    weights = {name: own["weight"] * max(own["levels"]) for name, own in load_definition("essdai")["items"].items()}
    for name in DOMAINS:
        found = one(**{**QUIET, name: np.nan})
        assert (found["axis1_position_min"], found["axis1_position_max"]) == (0, weights[name])
        assert np.isnan(found["axis1_position"]) and found["axis1_reason"] == f"missing: {name}"
        assert found["axis1_state"] == "inactive" if weights[name] < 5 else pd.isna(found["axis1_state"])
        assert one(**{**QUIET, "renal": 1, "pulmonary": 1, name: np.nan})["axis1_state"] == "active"


def test_a_recorded_total_is_a_position() -> None:
    found = one(essdai=5)
    assert (found["axis1_state"], found["axis1_position"], found["axis1_organs"]) == ("active", 5, "")
    assert one(essdai=4)["axis1_state"] == "inactive"


# ---- axis 2 ----


def test_glands_in_health_are_not_impaired() -> None:
    found = one(**HEALTHY_GLANDS)
    assert (found["axis2_state"], found["axis2_positive"], found["axis2_reason"]) == ("not impaired", "", "")
    assert [found[f"axis2_{part}_state"] for part in ("function", "structure", "inflammation")] == ["negative"] * 3
    # Staining of 1 of 12 in the worse eye, a cut-off at 5: a tenth; the other three tests of the position at 0.
    assert found["axis2_position"] == pytest.approx(0.1 / 4)
    assert found["axis2_function_position"] == pytest.approx(0.1 / 3)


@pytest.mark.parametrize(
    ("change", "test", "part", "positive"),
    [
        ({"schirmer_left": 5}, "schirmer", "function", True),
        ({"schirmer_left": 5.1}, "schirmer", "function", False),
        ({"oss_right": 5}, "staining", "function", True),
        ({"oss_right": 4}, "staining", "function", False),
        ({"saliva_unstimulated": 0.1}, "saliva", "function", True),
        ({"saliva_unstimulated": 0.11}, "saliva", "function", False),
        ({"sgus_submandibular_left": 2}, "ultrasound", "structure", True),
        ({"sgus_submandibular_left": 1}, "ultrasound", "structure", False),
        ({"focus_score": 1}, "biopsy", "inflammation", True),
        ({"focus_score": 0.9}, "biopsy", "inflammation", False),
    ],
)
def test_one_positive_test_impairs_and_stays_in_its_part(
    change: dict[str, float], test: str, part: str, positive: bool
) -> None:
    found = one(**{**HEALTHY_GLANDS, **change})
    assert found["axis2_state"] == ("impaired" if positive else "not impaired")
    assert found["axis2_positive"] == (test if positive else "")
    for name in ("function", "structure", "inflammation"):
        assert found[f"axis2_{name}_state"] == ("positive" if positive and name == part else "negative")


def test_serology_is_no_gland_test() -> None:
    assert pd.isna(one(anti_ssa=1, igg=30, focus_score=np.nan)["axis2_state"])
    assert one(**HEALTHY_GLANDS, anti_ssa=1, igg=30)["axis2_state"] == "not impaired"


@pytest.mark.parametrize(
    ("test", "columns"),
    [
        ("schirmer", ("schirmer_left",)),
        ("staining", ("oss_right",)),
        ("saliva", ("saliva_unstimulated",)),
        ("ultrasound", (GRADES[0],)),
        ("biopsy", ("focus_score",)),
    ],
)
def test_unknown_is_never_negative(test: str, columns: tuple[str, ...]) -> None:
    found = one(**{**HEALTHY_GLANDS, **dict.fromkeys(columns, np.nan)})
    assert pd.isna(found["axis2_state"]) and found["axis2_reason"] == f"missing: {test}"
    whole = one(**HEALTHY_GLANDS)["axis2_position"]
    if test == "biopsy":  # rarely repeated: it has no part in the position of the axis
        assert found["axis2_position"] == whole
        assert (found["axis2_inflammation_position_min"], found["axis2_inflammation_position_max"]) == (0, 1)
    else:
        assert np.isnan(found["axis2_position"])
        assert found["axis2_position_min"] <= whole <= found["axis2_position_max"]
    # Another test that is positive settles it.
    other = {"saliva_unstimulated": 0.05} if test != "saliva" else {"focus_score": 2}
    assert one(**{**HEALTHY_GLANDS, **dict.fromkeys(columns, np.nan), **other})["axis2_state"] == "impaired"


def test_a_clinic_without_biopsies_says_so_in_its_definition() -> None:
    sheet = Sheet.read(pd.DataFrame([{"sample_id": "S1", **HEALTHY_GLANDS, "focus_score": np.nan}]))
    needs = {"axes": {"gland_not_impaired": {"needs": ["schirmer", "staining", "saliva", "ultrasound"]}}}
    assert axis_positions(sheet, definitions=needs)["axis2_state"].tolist() == ["not impaired"]
    wrong = {"axes": {"gland_not_impaired": {"needs": ["schirmer", "serology"]}}}
    with pytest.raises(SpecError, match="'serology'"):
        axis_positions(sheet, definitions=wrong)


@pytest.mark.parametrize(
    ("values", "part", "position"),
    [
        ({"schirmer": 0, "oss": 0, "saliva_unstimulated": 0.4}, "function", 1 / 3),
        ({"schirmer": 5, "oss": 5, "saliva_unstimulated": 0.1}, "function", 0.5),
        ({"schirmer": 10, "oss": 0, "saliva_unstimulated": 0.25}, "function", (0.25 + 0.25) / 3),
        ({"schirmer": 35, "oss": 12, "saliva_unstimulated": 5}, "function", 1 / 3),
        ({"schirmer": 15, "van_bijsterveld": 4, "saliva_unstimulated": 1}, "function", 0.5 / 3),
        ({"schirmer": 15, "oss": 0, "van_bijsterveld": 9, "saliva_unstimulated": 1}, "function", 1 / 3),
        (dict.fromkeys(GRADES, 1), "structure", 1 / 3),
        (dict.fromkeys(GRADES, 3), "structure", 1.0),
        ({"sgus_hocevar": 17}, "structure", 0.5),
        ({**dict.fromkeys(GRADES, 0), "sgus_hocevar": 48}, "structure", 0.0),
        ({"focus_score": 1}, "inflammation", 0.5),
        ({"focus_score": 4}, "inflammation", 1.0),
        ({"focus_score": 20}, "inflammation", 1.0),
        ({"focal_lymphocytic_sialadenitis": 0, "focus_score": np.nan}, "inflammation", 0.0),
    ],
)
def test_position_of_parts(values: dict[str, float], part: str, position: float) -> None:
    assert one(**values)[f"axis2_{part}_position"] == pytest.approx(position, abs=1e-12)


def test_the_worse_eye_counts_and_an_unknown_one_may_be_worse() -> None:
    base = {"oss": 0, "saliva_unstimulated": 1}
    assert one(**base, schirmer_right=2.5, schirmer_left=15)["axis2_function_position"] == pytest.approx(0.75 / 3)
    half = one(**base, schirmer_right=2.5)
    assert half["axis2_function_position_min"] == pytest.approx(0.75 / 3)
    assert half["axis2_function_position_max"] == pytest.approx(1 / 3)
    assert half["axis2_function_state"] == "positive"
    # One value for both is the worse eye's, unless the eye that is known is worse still.
    assert one(**base, schirmer_right=2.5, schirmer=5)["axis2_function_position"] == pytest.approx(0.75 / 3)
    assert one(**base, schirmer_right=10, schirmer=5)["axis2_function_position"] == pytest.approx(0.5 / 3)


def test_either_scale_can_be_enough() -> None:
    frame = pd.DataFrame([{"sample_id": "S1", **HEALTHY_GLANDS, "van_bijsterveld": np.nan}])
    assert pd.isna(axis_positions(Sheet.read(frame))["axis2_state"].iloc[0])
    either = {"axes": {"gland_tests": {"staining": {"use": "either"}}}}
    found = axis_positions(Sheet.read(frame), definitions=either).iloc[0]
    assert found["axis2_state"] == "not impaired" and found["axis2_position"] == pytest.approx(0.1 / 4)
    turned = frame.rename(columns={"oss_right": "a", "oss_left": "b"}).assign(oss=np.nan, van_bijsterveld=4)
    found = axis_positions(Sheet.read(turned), definitions=either).iloc[0]
    assert found["axis2_positive"] == "staining" and found["axis2_position"] == pytest.approx(0.5 / 4)


@pytest.mark.parametrize(
    ("change", "early"),
    [
        ({}, 1),
        ({"focus_score": 0.99}, 0),
        ({"focus_score": np.nan}, np.nan),
        ({GRADES[2]: 3}, 0),
        ({GRADES[2]: np.nan}, np.nan),
        ({"saliva_unstimulated": 0}, 0),
        ({"saliva_unstimulated": 0.01}, 1),
        ({"saliva_unstimulated": np.nan}, np.nan),
        ({"focus_score": np.nan, "saliva_unstimulated": 0}, 0),
    ],
)
def test_early_inflammatory_glands(change: dict[str, float], early: float) -> None:
    values = {**HEALTHY_GLANDS, "focus_score": 1, **dict.fromkeys(GRADES, 2), **change}
    np.testing.assert_equal(one(**values)["axis2_early_inflammatory"], early)


# ---- axis 3 ----


@pytest.mark.parametrize(
    ("scales", "state"),
    [((5, 5, 5), "high burden"), ((5, 5, 4.9), "low burden"), ((5, 5, 5.1), "high burden"), ((0, 0, 0), "low burden")],
)
def test_high_burden_starts_at_five(scales: tuple[float, ...], state: str) -> None:
    found = one(**dict(zip(("dryness", "fatigue", "pain"), scales, strict=True)), **NO_EVIDENCE)
    assert (found["axis3_state"], found["axis3_amplification"]) == (state, 0)
    assert found["axis3_high_burden"] == (state == "high burden") and found["axis3_evidence"] == ""


@pytest.mark.parametrize(
    ("evidence", "name"),
    [
        ({"sleep_disturbance": 1}, "sleep_disturbance"),
        ({"fibromyalgia": 1}, "fibromyalgia"),
        ({"widespread_pain": 1}, "widespread_pain"),
        ({"anxiety": 11}, "anxiety"),
        ({"anxiety": 21}, "anxiety"),
    ],
)
def test_amplification_needs_evidence_and_a_high_burden(evidence: dict[str, float], name: str) -> None:
    high = {"dryness": 6, "fatigue": 6, "pain": 6}
    found = one(**high, **{**NO_EVIDENCE, **evidence})
    assert (found["axis3_state"], found["axis3_amplification"], found["axis3_evidence"]) == ("amplification", 1, name)
    assert one(**high, **evidence)["axis3_state"] == "amplification"  # one is enough, whatever isn't recorded
    low = one(dryness=1, fatigue=1, pain=1, **{**NO_EVIDENCE, **evidence})
    assert (low["axis3_state"], low["axis3_amplification"], low["axis3_evidence"]) == ("low burden", 0, name)


def test_without_evidence_recorded_a_high_burden_stays_one_and_amplification_open() -> None:
    found = one(dryness=6, fatigue=6, pain=6, **{**NO_EVIDENCE, "fibromyalgia": np.nan})
    assert found["axis3_state"] == "high burden" and np.isnan(found["axis3_amplification"])
    assert found["axis3_reason"] == "amplification open, missing: fibromyalgia"


def test_a_missing_scale() -> None:
    open_one = one(dryness=6, fatigue=6, pain=np.nan, **NO_EVIDENCE)
    assert pd.isna(open_one["axis3_state"]) and np.isnan(open_one["axis3_high_burden"])
    assert (open_one["axis3_position_min"], open_one["axis3_position_max"]) == (4.0, pytest.approx(22 / 3))
    assert open_one["axis3_amplification"] == 0  # no evidence at all: high or not, no amplification
    assert one(dryness=8, fatigue=8, pain=np.nan)["axis3_state"] == "high burden"
    assert one(dryness=6, fatigue=6, pain=np.nan, fibromyalgia=1)["axis3_reason"] == "missing: pain"
    assert one(dryness=2, fatigue=2, pain=np.nan)["axis3_state"] == "low burden"


# ---- percentiles and dominance ----


def placed(position: tuple[float, float, float], *, states: tuple[Any, Any, Any], **spans: Any) -> pd.Series:
    columns: dict[str, Any] = {"axis2_early_inflammatory": np.nan}
    for at, (value, state) in enumerate(zip(position, states, strict=True), start=1):
        low, high = spans.get(f"axis{at}", (value, value))
        columns |= {f"axis{at}_state": state, f"axis{at}_position_min": low, f"axis{at}_position_max": high}
    return place(pd.DataFrame([columns]), cohort()).iloc[0]


ALL = ("active", "impaired", "high burden")
NONE = ("inactive", "not impaired", "low burden")


def test_percentiles_count_half_of_those_at_the_value() -> None:
    found = placed((20, 0.5, 5.0), states=ALL)
    for axis in ("axis1", "axis2", "axis3"):
        assert found[f"{axis}_percentile"] == pytest.approx(50)
    ends = placed((0, 1.0, 10.0), states=ALL)
    assert ends["axis1_percentile"] == pytest.approx(100 * 0.5 / 41)
    assert ends["axis2_percentile"] == pytest.approx(100 * 40.5 / 41) == ends["axis3_percentile"]
    beyond = placed((123, 0.0, 0.0), states=ALL)
    assert beyond["axis1_percentile"] == 100 and beyond["axes_reference"] == "even cohort"


@pytest.mark.parametrize(
    ("position", "states", "dominant"),
    [
        ((30, 0.25, 2.5), ALL, "systemic"),
        ((10, 0.75, 2.5), ALL, "gland"),
        ((10, 0.25, 7.5), ALL, "symptoms"),
        ((10, 0.25, 7.5), ("active", "impaired", "amplification"), "symptoms"),
        ((24, 0.5, 5.0), ALL, "none dominates"),  # 4 / 41: 9.8 percentiles
        ((25, 0.5, 5.0), ALL, "systemic"),  # 5 / 41: 12.2
        ((30, 0.25, 2.5), NONE, "none dominates"),
        ((30, 0.25, 2.5), ("inactive", "impaired", "high burden"), "none dominates"),
        ((30, 0.25, 2.5), (None, "impaired", "high burden"), None),
        ((30, 0.25, 2.5), ("active", None, None), "systemic"),
    ],
)
def test_dominance_needs_a_margin_and_a_state(
    position: tuple[float, float, float], states: tuple[Any, Any, Any], dominant: str | None
) -> None:
    found = placed(position, states=states)
    assert found["dominant"] == dominant or (dominant is None and pd.isna(found["dominant"]))
    ranked = sorted((position[0] / 40, position[1], position[2] / 10))
    assert found["dominant_margin"] == pytest.approx(100 * round((ranked[2] - ranked[1]) * 40) / 41)
    assert (found["dominant_reason"] == "") == (dominant in ("systemic", "gland", "symptoms"))


def test_overlapping_ranges_leave_dominance_open_and_apart_ones_do_not() -> None:
    apart = placed((30, 0, 2.5), states=ALL, axis2=(0.0, 0.5))
    assert apart["dominant"] == "systemic" and np.isnan(apart["dominant_margin"])
    assert apart["dominant_margin_min"] == pytest.approx(100 * 10 / 41)
    assert apart["dominant_margin_max"] == pytest.approx(100 * 20 / 41)
    over = placed((30, 0, 2.5), states=ALL, axis2=(0.0, 0.75))
    assert pd.isna(over["dominant"]) and over["dominant_reason"] == "known only as a range: gland"
    assert over["dominant_margin_min"] == 0
    # Whatever axis 2 turns out to be, it isn't far enough above: nothing dominates.
    none = placed((20, 0, 5), states=ALL, axis2=(0.0, 0.575))
    assert none["dominant"] == "none dominates"


def test_endpoints_and_immunotherapy_follow_the_dominant_axis() -> None:
    assert placed((30, 0.25, 2.5), states=ALL)["axes_endpoints"] == "essdai; clinessdai"
    assert placed((30, 0.25, 2.5), states=ALL)["axes_immunotherapy"] == 1
    symptoms = placed((10, 0.25, 7.5), states=ALL)
    assert symptoms["axes_endpoints"].split("; ")[0] == "esspri" and np.isnan(symptoms["axes_immunotherapy"])
    assert placed((20, 0.5, 5), states=ALL)["axes_endpoints"] == "star; cress"
    assert pd.isna(placed((30, 0.25, 2.5), states=(None, "impaired", "high burden"))["axes_endpoints"])
    frame = pd.DataFrame([{"sample_id": "S1", **QUIET, **HEALTHY_GLANDS, **EASY, **NO_EVIDENCE, "focus_score": 2}])
    assert score(frame, "axes", reference=cohort())["axes_immunotherapy"].tolist() == [1]  # early, inflammatory glands
    frame["focus_score"] = 0
    assert score(frame, "axes", reference=cohort())["axes_immunotherapy"].tolist() == [0]


def test_a_sheet_is_its_own_reference_by_default_and_too_small_ones_give_no_percentiles() -> None:
    n = 20
    frame = pd.DataFrame({"sample_id": [f"S{i:02d}" for i in range(n)], "essdai": np.arange(n), "esspri": 2.0})
    found = score(frame, "axes")
    assert found["axes_reference"].unique().tolist() == ["this sheet"]
    assert found["axis1_percentile"].tolist() == pytest.approx(100 * (np.arange(n) + 0.5) / n)
    assert found["axis3_percentile"].tolist() == [50.0] * n
    assert found["dominant_margin"].isna().all()
    assert set(found["dominant_reason"]) == {"the reference has 0 persons on axis gland, 20 needed"}
    small = score(frame.iloc[:19], "axes")
    assert small["axis1_percentile"].isna().all() and small["axis1_state"].notna().all()
    whole = pd.DataFrame([{"sample_id": "S1", **QUIET, **HEALTHY_GLANDS, **EASY}])
    assert score(whole, "axes")["dominant"].tolist() == ["none dominates"]  # nothing is active, whoever is compared


def test_definitions_are_configuration() -> None:
    frame = pd.DataFrame([{"sample_id": "S1", "essdai": 8, "esspri": 4.0}])
    given = {"axes": {"axes": {"systemic": {"at_least": 14}, "symptoms": {"at_least": 4}}}}
    found = axis_positions(Sheet.read(frame), definitions=given).iloc[0]
    assert (found["axis1_state"], found["axis3_state"]) == ("inactive", "high burden")
    clin = {"axes": {"axes": {"systemic": {"measure": "clinessdai"}}}}
    assert np.isnan(axis_positions(Sheet.read(frame), definitions=clin)["axis1_position"].iloc[0])
    with pytest.raises(SpecError, match="margin of dominance is 0"):
        score(frame, "axes", definitions={"axes": {"dominance": {"margin": {"percentiles": 0}}}})
    line = {"axes": {"gland_instruments": {"saliva": {"values": [0, 0.4, 0.1]}}}}
    with pytest.raises(SpecError, match="must ascend"):
        axis_positions(Sheet.read(frame), definitions=line)


def test_a_sheet_of_no_rows_or_of_nothing_known() -> None:
    frame = pd.DataFrame({"sample_id": ["a"], "fibromyalgia": ["yes"]})
    nothing = score(frame, "axes").iloc[0]
    assert nothing["dominant_possible"] == "systemic; gland; symptoms; none dominates"
    assert (nothing["axis1_position_min"], nothing["axis1_position_max"]) == (0, 123)
    assert nothing[["axis1_state", "axis2_state", "axis3_state", "dominant", "axes_endpoints"]].isna().all()
    empty = score(frame.iloc[:0], ["axes", "axes-change"])
    assert len(empty) == 0 and {"dominant", "axes_changed"} <= set(empty.columns)


def test_implausible_values_are_refused_by_name() -> None:
    frame = pd.DataFrame({"sample_id": ["a", "b"], "schirmer_right": [5, 500]})
    with pytest.raises(DataError, match=r"'b', column 'schirmer_right'"):
        score(frame, "axes")
