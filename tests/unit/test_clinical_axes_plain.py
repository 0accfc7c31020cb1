"""The axes of random rows against a plain reading of the rules, one row at a time, numbers written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sjd_dask.clinical import AxisReference, Sheet, score

WEIGHTS = {
    "constitutional": (3, 2), "lymphadenopathy": (4, 3), "glandular": (2, 2), "articular": (2, 3), "cutaneous": (3, 3),
    "pulmonary": (5, 3), "renal": (5, 3), "muscular": (6, 3), "peripheral_nervous_system": (5, 3),
    "central_nervous_system": (5, 3), "haematological": (2, 3), "biological": (1, 2),
}  # fmt: skip
GRADES = ("sgus_parotid_right", "sgus_parotid_left", "sgus_submandibular_right", "sgus_submandibular_left")
SCALES = ("dryness", "fatigue", "pain")
EVIDENCE = ("sleep_disturbance", "fibromyalgia", "widespread_pain")


def rows(n: int, seed: int, missing: float) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"sample_id": [f"S{i:04d}" for i in range(n)]})
    calm = random.random(n) < 0.5
    for name, (_, most) in WEIGHTS.items():
        level = np.where(random.random(n) < np.where(calm, 0.02, 0.25), random.integers(1, most + 1, n), 0)
        frame[name] = np.where((name == "central_nervous_system") & (level == 1), 2, level)
    for eye in ("right", "left"):
        frame[f"schirmer_{eye}"] = np.where(calm, random.integers(6, 36, n), random.integers(0, 36, n))
        frame[f"oss_{eye}"] = np.where(calm, random.integers(0, 5, n), random.integers(0, 13, n))
        frame[f"van_bijsterveld_{eye}"] = np.where(calm, random.integers(0, 4, n), random.integers(0, 10, n))
    frame["saliva_unstimulated"] = np.where(calm, 0.11, 0) + np.round(random.exponential(0.2, n), 2)
    for gland in GRADES:
        frame[gland] = np.where(calm, random.integers(0, 2, n), random.integers(0, 4, n))
    frame["focus_score"] = np.where(calm, 0.5, np.round(random.exponential(1, n), 1))
    for scale in SCALES:
        frame[scale] = random.integers(0, 11, n)
    frame["anxiety"] = random.integers(0, 22, n)
    for flag in EVIDENCE:
        frame[flag] = (random.random(n) < 0.2).astype(int)
    items = frame.columns[1:]
    frame[items] = frame[items].astype(float).mask(random.random((n, len(items))) < missing)
    return frame


def line(value: float, points: tuple[float, ...], ends: tuple[float, ...]) -> tuple[float, float]:
    if np.isnan(value):
        return 0.0, 1.0
    found = float(np.interp(value, points, ends))
    return found, found


def worst(spans: list[tuple[float, float]]) -> tuple[float, float]:
    return max(low for low, _ in spans), max(high for _, high in spans)


def any_positive(flags: list[bool | None]) -> bool | None:
    return True if True in flags else None if None in flags else False


def cut(value: float, positive: Any) -> bool | None:
    return None if np.isnan(value) else bool(positive(value))


def told(low: float, high: float, at: float) -> bool | None:
    return True if low >= at - 1e-9 else False if high < at - 1e-9 else None


def plain(row: dict[str, float]) -> dict[str, Any]:
    """One row, as the rules read."""
    low = sum(weight * (0 if np.isnan(row[name]) else row[name]) for name, (weight, _) in WEIGHTS.items())
    high = low + sum(weight * most for name, (weight, most) in WEIGHTS.items() if np.isnan(row[name]))
    active = told(low, high, 5)

    eyes = [[row[f"{test}_{eye}"] for eye in ("right", "left")] for test in ("schirmer", "oss", "van_bijsterveld")]
    schirmer, oss, bijsterveld = eyes
    grades = [row[gland] for gland in GRADES]
    positive = {
        "schirmer": any_positive([cut(one, lambda x: x <= 5) for one in schirmer]),
        "staining": any_positive(
            [cut(one, lambda x: x >= 5) for one in oss] + [cut(one, lambda x: x >= 4) for one in bijsterveld]
        ),
        "saliva": cut(row["saliva_unstimulated"], lambda x: x <= 0.1),
        "ultrasound": any_positive([cut(one, lambda x: x >= 2) for one in grades]),
        "biopsy": cut(row["focus_score"], lambda x: x >= 1),
    }
    spans = {
        "schirmer": worst([line(one, (0, 5, 15), (1, 0.5, 0)) for one in schirmer]),
        "staining": worst(
            [line(one, (0, 5, 12), (0, 0.5, 1)) for one in oss]
            + [line(one, (0, 4, 9), (0, 0.5, 1)) for one in bijsterveld]
        ),
        "saliva": line(row["saliva_unstimulated"], (0, 0.1, 0.4), (1, 0.5, 0)),
        "ultrasound": (
            sum(0 if np.isnan(one) else one for one in grades) / 12,
            sum(3 if np.isnan(one) else one for one in grades) / 12,
        ),
    }
    gland = [sum(one[end] for one in spans.values()) / 4 for end in (0, 1)]
    early = [
        positive["biopsy"],
        any_positive([cut(one, lambda x: x >= 3) for one in grades]),
        cut(row["saliva_unstimulated"], lambda x: x > 0),
    ]
    early[1] = None if early[1] is None else not early[1]

    known = [row[scale] for scale in SCALES if not np.isnan(row[scale])]
    least, most = sum(known) / 3, (sum(known) + 10 * (3 - len(known))) / 3
    burden = told(least, most, 5)
    evidence = any_positive(
        [cut(row[flag], lambda x: x == 1) for flag in EVIDENCE] + [cut(row["anxiety"], lambda x: x >= 11)]
    )
    amplified = False if burden is False or evidence is False else True if burden and evidence else None
    return {
        "axis1_state": {True: "active", False: "inactive", None: None}[active],
        "axis1_position_min": low,
        "axis1_position_max": high,
        "axis2_state": {True: "impaired", False: "not impaired", None: None}[any_positive(list(positive.values()))],
        "axis2_position_min": gland[0],
        "axis2_position_max": gland[1],
        "axis2_positive": "; ".join(name for name, one in positive.items() if one),
        "axis2_early_inflammatory": False if False in early else None if None in early else True,
        "axis3_state": None
        if burden is None
        else "amplification"
        if amplified
        else "high burden"
        if burden
        else "low burden",
        "axis3_position_min": least,
        "axis3_position_max": most,
        "axis3_amplification": amplified,
    }


def percentile(cohort: list[float], value: float, step: float) -> float:
    at = round(value / step)
    steps = [round(one / step) for one in cohort]
    return 100 * (sum(one < at for one in steps) + sum(one == at for one in steps) / 2) / len(steps)


def test_rows_are_as_the_rules_read() -> None:
    frame = pd.concat([rows(150, 1, 0.0), rows(150, 2, 0.08), rows(100, 3, 0.5)], ignore_index=True)
    frame["sample_id"] = [f"S{i:04d}" for i in range(len(frame))]
    found = score(frame, "axes")
    wanted = pd.DataFrame([plain(row) for row in frame.to_dict("records")])
    for name in wanted:
        if "position" in name:
            np.testing.assert_allclose(found[name], wanted[name].astype(float), atol=1e-12, err_msg=name)
        else:
            assert found[name].isna().tolist() == wanted[name].isna().tolist(), name
            assert found[name].dropna().tolist() == wanted[name].dropna().tolist(), name
    assert found["axis1_state"].value_counts(dropna=False).min() > 20
    assert found["axis2_state"].value_counts(dropna=False).min() > 20
    assert found["axis3_state"].value_counts(dropna=False).min() > 20


def test_dominance_of_complete_rows_is_as_the_rules_read() -> None:
    cohort, frame = rows(90, 5, 0.0), rows(150, 6, 0.0)
    reference = AxisReference.fit(Sheet.read(cohort), "drawn")
    found = score(frame, "axes", reference=reference)
    own = pd.DataFrame([plain(row) for row in cohort.to_dict("records")])
    steps = {"axis1": 1, "axis2": 0.01, "axis3": 0.05}
    for at, row in enumerate(frame.to_dict("records")):
        one = plain(row)
        ranks = [
            percentile(list(own[f"{axis}_position_min"]), one[f"{axis}_position_min"], step)
            for axis, step in steps.items()
        ]
        bad = [one["axis1_state"] == "active", one["axis2_state"] == "impaired", one["axis3_state"] != "low burden"]
        top = int(np.argmax(ranks))
        margin = sorted(ranks)[2] - sorted(ranks)[1]
        dominant = ("systemic", "gland", "symptoms")[top] if margin >= 10 and bad[top] else "none dominates"
        assert found["dominant"][at] == found["dominant_possible"][at] == dominant
        assert abs(found["dominant_margin"][at] - margin) < 1e-9
    assert found["dominant"].nunique() == 4
