"""Levels that laboratory values propose: each boundary just below, at and just above."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.clinical import score
from sjd_dask.errors import DataError, SpecError

NORMAL = {"neutrophils": 4.0, "haemoglobin": 14.0, "platelets": 250.0, "lymphocytes": 2.0}
QUIET = {
    **{name: 0 for name in ("clonal_component", "c3_low", "c4_low", "ch50_low", "cryoglobulinaemia")},
    **{"igg": 10.0, "igg_recent_drop": 0},
}
HAEMATOLOGICAL = [
    *[("neutrophils", value, level) for value, level in ((1.51, 0), (1.5, 0), (1.49, 1), (1.01, 1), (1.0, 2))],
    *[("neutrophils", value, level) for value, level in ((0.99, 2), (0.51, 2), (0.5, 2), (0.49, 3), (0.0, 3))],
    *[("haemoglobin", value, level) for value, level in ((12.1, 0), (12.0, 0), (11.9, 1), (10.1, 1), (10.0, 2))],
    *[("haemoglobin", value, level) for value, level in ((9.9, 2), (8.1, 2), (8.0, 2), (7.9, 3))],
    *[("platelets", value, level) for value, level in ((151, 0), (150, 0), (149, 1), (101, 1), (100, 2), (99, 2))],
    *[("platelets", value, level) for value, level in ((51, 2), (50, 2), (49, 3))],
    *[
        ("lymphocytes", value, level)
        for value, level in ((1.01, 0), (1.0, 0), (0.99, 1), (0.51, 1), (0.5, 2), (0.0, 2))
    ],
]
BIOLOGICAL = [
    *[({"igg": value}, level) for value, level in ((15.9, 0), (16.0, 1), (16.1, 1), (20.0, 1), (20.1, 2))],
    ({"igg": 5.1, "igg_recent_drop": 1}, 0),
    ({"igg": 5.0, "igg_recent_drop": 1}, 0),
    ({"igg": 4.9, "igg_recent_drop": 1}, 2),
    ({"igg": 4.9, "igg_recent_drop": 0}, 0),
    ({"clonal_component": 1}, 1),
    ({"c3_low": 1}, 1),
    ({"c4_low": 1}, 1),
    ({"ch50_low": 1}, 1),
    ({"cryoglobulinaemia": 1}, 2),
    ({"cryoglobulinaemia": 1, "igg": 17, "c3_low": 1}, 2),
]


def laboratory(**values: Any) -> pd.Series:
    return score(pd.DataFrame([{"sample_id": "a", **values}]), "laboratory").iloc[0]


@pytest.fixture(scope="module")
def boundaries() -> pd.DataFrame:
    """Every boundary in a row of its own, blood counts first."""
    rows = [{**QUIET, **NORMAL, name: value} for name, value, _ in HAEMATOLOGICAL]
    rows += [{**QUIET, **NORMAL, **given} for given, _ in BIOLOGICAL]
    return score(pd.DataFrame(rows).assign(sample_id=[f"s{i}" for i in range(len(rows))]), "laboratory")


@pytest.mark.parametrize(("place", "case"), list(enumerate(HAEMATOLOGICAL)))
def test_blood_counts(boundaries: pd.DataFrame, place: int, case: tuple[str, float, int]) -> None:
    result = boundaries.iloc[place]
    assert result["haematological_proposed"] == case[2] and result["haematological_proposed_reason"] == ""


@pytest.mark.parametrize(("place", "case"), list(enumerate(BIOLOGICAL)))
def test_serum_findings(boundaries: pd.DataFrame, place: int, case: tuple[dict[str, float], int]) -> None:
    assert boundaries.iloc[len(HAEMATOLOGICAL) + place]["biological_proposed"] == case[1]


@pytest.mark.parametrize(
    ("name", "most"), [("neutrophils", 3), ("haemoglobin", 3), ("platelets", 3), ("lymphocytes", 2)]
)
def test_a_count_that_was_not_made_leaves_the_level_open(name: str, most: int) -> None:
    result = laboratory(**{**NORMAL, name: None})
    assert np.isnan(result["haematological_proposed"])
    assert (result["haematological_proposed_min"], result["haematological_proposed_max"]) == (0, most)
    assert result["haematological_proposed_reason"] == f"missing: {name}"


def test_what_is_known_to_be_worst_needs_nothing_else() -> None:
    result = laboratory(platelets=40, cryoglobulinaemia=1)
    assert (result["haematological_proposed"], result["biological_proposed"]) == (3, 2)
    assert result["haematological_proposed_reason"] == "" and result["biological_proposed_reason"] == ""


@pytest.mark.parametrize(
    ("name", "most"), [("clonal_component", 1), ("c3_low", 1), ("igg", 2), ("cryoglobulinaemia", 2)]
)
def test_a_serum_finding_that_is_unknown_leaves_the_level_open(name: str, most: int) -> None:
    result = laboratory(**{**QUIET, "igg_recent_drop": 1, name: None})
    assert (result["biological_proposed_min"], result["biological_proposed_max"]) == (0, most)


def test_a_low_igg_of_unknown_onset_is_open() -> None:
    result = laboratory(**{**QUIET, "igg": 4.0, "igg_recent_drop": None})
    assert (result["biological_proposed_min"], result["biological_proposed_max"]) == (0, 2)
    assert result["biological_proposed_reason"] == "missing: igg_recent_drop"


@pytest.mark.parametrize(
    ("column", "value", "level"), [("c3", 0.9, 0), ("c3", 0.89, 1), ("c4", 0.1, 0), ("c4", 0.09, 1)]
)
def test_a_complement_value_stands_in_for_its_flag(column: str, value: float, level: int) -> None:
    assert laboratory(**{**QUIET, f"{column}_low": None, column: value})["biological_proposed"] == level


def test_the_laboratorys_own_flag_counts_before_the_value() -> None:
    assert laboratory(**{**QUIET, "c3_low": 0, "c3": 0.5})["biological_proposed"] == 0


def test_units_are_those_of_the_columns() -> None:
    frame = pd.DataFrame([{"sample_id": "a", **QUIET, **NORMAL, "igg": 1600, "Hb [g/L]": 100, "plt": 90_000}])
    frame = frame.drop(columns=["haemoglobin", "platelets"])
    result = score(frame, "laboratory", units={"igg": "mg/dL", "platelets": "cells/uL"}).iloc[0]
    assert (result["haematological_proposed"], result["biological_proposed"]) == (2, 1)


def test_an_implausible_value_names_the_unit_it_might_be_in() -> None:
    with pytest.raises(DataError, match=r"'a', column 'platelets': 90000.*0 to 2000 G/L.*plausible in cells/uL"):
        laboratory(platelets=90_000)


def test_a_rule_can_be_taken_out_and_a_broken_one_is_refused() -> None:
    frame = pd.DataFrame([{"sample_id": "a", **QUIET, "ch50_low": None}])
    assert np.isnan(score(frame, "laboratory")["biological_proposed"][0])
    without = {"laboratory": {"biological": {"ch50": None}}}
    assert score(frame, "laboratory", definitions=without)["biological_proposed"].tolist() == [0]
    for broken in (
        {"level": 1, "when": [{"column": "c3"}]},
        {"level": 1, "when": []},
        {"when": [{"column": "c3", "is": 1}]},
    ):
        with pytest.raises(SpecError, match="mine"):
            score(frame, "laboratory", definitions={"laboratory": {"biological": {"mine": broken}}})
