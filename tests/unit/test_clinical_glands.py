"""Gland tests: each cut-off just below, at and above, per eye and gland; each value missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.clinical import load_definition, score

GLANDS = ("sgus_parotid_right", "sgus_parotid_left", "sgus_submandibular_right", "sgus_submandibular_left")


def one(measure: str, **values: Any) -> pd.Series:
    return score(pd.DataFrame([{"sample_id": "S1", **values}]), measure).iloc[0]


@pytest.mark.parametrize(
    ("test", "positive", "negative"),
    [("schirmer", (5, 4.9, 0), (5.1, 6, 35)), ("oss", (5, 12), (4, 0)), ("van_bijsterveld", (4, 9), (3, 0))],
)
def test_eyes(test: str, positive: tuple[float, ...], negative: tuple[float, ...]) -> None:
    for eye, other in (("right", "left"), ("left", "right")):
        for value in positive:
            found = one("glands", **{f"{test}_{eye}": value})
            assert (found[f"glands_{test}"], found[f"glands_{test}_{eye}"]) == ("positive", "positive")
            assert found[f"glands_{test}_{other}"] == "unknown"
        for value in negative:
            found = one("glands", **{f"{test}_{eye}": value})
            assert (found[f"glands_{test}"], found[f"glands_{test}_{eye}"]) == ("unknown", "negative")
            assert one("glands", **{f"{test}_{eye}": value, f"{test}_{other}": value})[f"glands_{test}"] == "negative"
            assert one("glands", **{test: value})[f"glands_{test}"] == "negative"


@pytest.mark.parametrize(
    ("test", "column", "positive", "negative"),
    [("saliva", "saliva_unstimulated", (0.1, 0.0), (0.11, 2)), ("biopsy", "focus_score", (1, 3.2), (0.99, 0)),
     *[("ultrasound", gland, (2, 3), ()) for gland in GLANDS]],
)  # fmt: skip
def test_one_value(test: str, column: str, positive: tuple[float, ...], negative: tuple[float, ...]) -> None:
    for value in positive:
        assert one("glands", **{column: value})[f"glands_{test}"] == "positive"
    for value in negative:
        assert one("glands", **{column: value})[f"glands_{test}"] == "negative"


def test_counts_of_positive_tests_keep_the_unknown_ones_open() -> None:
    found = one("glands", schirmer=3, saliva_unstimulated=0.4, focus_score=np.nan, anti_ssa=1)
    assert (found["glands_min"], found["glands_max"], found["glands_known"], found["glands_items"]) == (1, 5, 2, 6)
    assert np.isnan(found["glands"])
    assert found["glands_reason"] == "missing: oss, van_bijsterveld, biopsy, ultrasound"
    # Saliva in another unit: 1 mL in 15 minutes is 0.067 mL/min.
    assert one("glands", **{"saliva [mL/15min]": 1})["glands_saliva"] == "positive"
    whole = one("glands", schirmer=3, oss=5, van_bijsterveld=0, saliva=0.05, focus_score=0, **dict.fromkeys(GLANDS, 1))
    assert (whole["glands"], whole["glands_min"], whole["glands_max"], whole["glands_reason"]) == (3, 3, 3, "")


def test_a_recorded_value_that_contradicts_the_eyes_is_told() -> None:
    found = one("glands", schirmer_right=3, schirmer_left=20, schirmer=12)
    assert found["glands_schirmer"] == "positive"
    assert found["glands_reason"].endswith("schirmer: eyes and recorded value disagree, the eyes count")
    assert "disagree" not in one("glands", schirmer_right=3, schirmer_left=20, schirmer=3)["glands_reason"]
    assert "disagree" not in one("glands", schirmer_right=20, schirmer=3)["glands_reason"]


@pytest.mark.parametrize("gland", GLANDS)
def test_omeract_sum_and_each_gland_missing(gland: str) -> None:
    grades = {one: 1 for one in GLANDS}
    assert tuple(one("sgus", **grades)[["sgus", "sgus_min", "sgus_max", "sgus_positive"]]) == (4, 4, 4, "negative")
    for grade, word in ((0, "negative"), (1, "negative"), (2, "positive"), (3, "positive")):
        found = one("sgus", **{**grades, gland: grade})
        assert (found["sgus"], found["sgus_positive"], found["sgus_known"]) == (3 + grade, word, 4)
    open_one = one("sgus", **{**grades, gland: np.nan})
    assert tuple(open_one[["sgus_min", "sgus_max", "sgus_known", "sgus_positive"]]) == (3, 6, 3, "unknown")
    assert np.isnan(open_one["sgus"]) and open_one["sgus_reason"] == f"missing: {gland}"


def test_all_glands_at_their_highest_are_twelve_and_nothing_is_open() -> None:
    assert one("sgus", **dict.fromkeys(GLANDS, 3))["sgus"] == 12
    nothing = one("sgus", sgus_hocevar=16)
    assert (nothing["sgus_min"], nothing["sgus_max"], nothing["sgus_known"]) == (0, 12, 0)


@pytest.mark.parametrize(("total", "word"), [(16, "negative"), (17, "positive"), (48, "positive"), (np.nan, "unknown")])
def test_hocevar(total: float, word: str) -> None:
    found = one("sgus", sgus_hocevar=total, sgus_parotid_left=0)
    assert found["sgus_hocevar_positive"] == word and found["sgus_positive"] == "unknown"


def test_cut_offs_of_glands_and_of_classification_are_the_same_as_shipped() -> None:
    """They are two tables, so that one can be changed alone; nobody changed one by accident."""
    glands, criteria = load_definition("glands")["tests"], load_definition("acr_eular")["items"]
    pairs = [("schirmer", "schirmer", "schirmer"), ("oss", "ocular_staining", "oss"),
             ("van_bijsterveld", "ocular_staining", "van_bijsterveld"), ("saliva", "unstimulated_saliva", "saliva"),
             ("biopsy", "focal_lymphocytic_sialadenitis", "biopsy")]  # fmt: skip
    for test, item, own in pairs:
        assert glands[test]["test"] == criteria[item]["tests"][own]
