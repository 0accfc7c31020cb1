"""Who may enter and why; how many there are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sjd_dask.clinical.trials.eligibility import Rule, eligibility
from sjd_dask.clinical.trials.feasibility import feasibility
from sjd_dask.errors import SpecError

RULES = [
    Rule("adult", "age >= 18"),
    Rule("active", "essdai >= 5"),
    Rule("hepatitis C", "hepatitis_c_active", "exclude"),
]
PEOPLE = pd.DataFrame(
    {
        "person_id": ["01", "02", "03", "04", "05", "06", "07"],
        "sample_id": list("abcdefg"),
        "age": [18.0, 17.9, 40, 40, 40, np.nan, 30],
        "essdai": [5.0, 9, 4, np.nan, np.nan, 8, 8],
        "essdai_min": [5.0, 9, 4, 3, 6, 8, 8],
        "essdai_max": [5.0, 9, 4, 8, 9, 8, 8],
        "essdai_reason": ["", "", "", "missing: renal", "missing: renal", "", ""],
        "hepatitis_c_active": [0.0, 0, 0, 0, 0, np.nan, 1],
        "site": ["A", "A", "A", "B", "B", "B", None],
    }
)


def test_each_person_is_judged_with_a_reason() -> None:
    found = eligibility(PEOPLE, RULES).persons
    assert found["person_id"].tolist() == PEOPLE["person_id"].tolist()
    assert found["eligible"].tolist() == ["yes", "no", "no", "undetermined", "yes", "undetermined", "no"]
    assert found["first_failure"].tolist() == ["", "adult", "active", "", "", "", "hepatitis C"]
    assert found["undetermined_by"].tolist()[3] == "active: essdai (missing: renal)"
    assert found["undetermined_by"].tolist()[5] == "adult: age; hepatitis C: hepatitis_c_active"
    assert (found["undetermined_by"] != "").tolist() == [False, False, False, True, False, True, False]
    assert found["criterion_hepatitis C"].tolist() == ["pass", "pass", "pass", "pass", "pass", "unknown", "fail"]


def test_a_state_has_the_reason_of_its_score() -> None:
    frame = pd.DataFrame({"acr_eular_class": ["undecided", "no"], "acr_eular_reason": ["missing: biopsy", ""]})
    found = eligibility(frame, [Rule("criteria", "acr_eular_class == 'definite'")]).persons
    assert found["undetermined_by"].tolist() == ["criteria: acr_eular_class (missing: biopsy)", ""]


def test_several_failures_are_all_named_and_an_unknown_one_beside_them_does_not_open_the_door() -> None:
    one = PEOPLE.iloc[[0]].assign(age=10.0, essdai=1.0, essdai_min=1.0, essdai_max=1.0, hepatitis_c_active=np.nan)
    found = eligibility(one, RULES).persons.iloc[0]
    assert (found["eligible"], found["failures"], found["undetermined_by"]) == ("no", "adult; active", "")


def test_criteria_alone_and_in_sequence() -> None:
    table = eligibility(PEOPLE, RULES).criteria.set_index("criterion")
    assert table.loc["active", ["passed", "failed", "unknown"]].tolist() == [5, 1, 1]
    assert table["entered"].tolist() == [7, 6, 5] and table["left"].tolist() == [6, 5, 4]
    assert table["left_certain"].tolist() == [5, 3, 2] and table["failed_only_here"].tolist() == [1, 1, 1]
    assert (table["passed"] + table["failed"] + table["unknown"] == 7).all()


def test_what_to_record() -> None:
    missing = eligibility(PEOPLE, RULES).missing.set_index("item")
    assert missing.loc["renal"].tolist() == ["essdai", 1, 1]
    assert missing.loc["age"].tolist() == ["age", 1, 0] and missing.loc["hepatitis_c_active", "alone"] == 0
    assert set(missing.index) == {"renal", "age", "hepatitis_c_active"}
    texts = ["missing: renal, biological", "missing: renal; pain open, missing: sleep, pain", ""]
    frame = pd.DataFrame({"essdai": [np.nan] * 3, "essdai_reason": texts})
    missing = eligibility(frame, [Rule("active", "essdai >= 5")]).missing.set_index("item")
    assert missing["undetermined"].to_dict() == {"renal": 2, "biological": 1, "sleep": 1, "pain": 1, "essdai": 1}
    assert missing["alone"].to_dict() == {"renal": 0, "biological": 0, "sleep": 0, "pain": 0, "essdai": 1}


def test_a_row_does_not_depend_on_others_or_their_order() -> None:
    whole = eligibility(PEOPLE, RULES).persons.set_index("sample_id")
    turned = eligibility(PEOPLE.iloc[::-1], RULES).persons.set_index("sample_id")
    pd.testing.assert_frame_equal(whole, turned.loc[whole.index])
    for i in range(len(PEOPLE)):
        alone = eligibility(PEOPLE.iloc[[i]], RULES).persons.set_index("sample_id")
        pd.testing.assert_frame_equal(alone, whole.iloc[[i]])


def test_without_criteria_everyone_may_enter() -> None:
    found = eligibility(PEOPLE, [])
    assert set(found.verdict) == {"yes"} and found.criteria.empty and found.missing.empty


def test_feasibility_counts() -> None:
    found = eligibility(PEOPLE, RULES)
    table = feasibility(PEOPLE, found, by=["site"], needed=10).set_index(["by", "level"])
    assert table.loc[("all", "all"), ["screened", "eligible", "undetermined", "not_eligible"]].tolist() == [7, 2, 2, 3]
    assert table.loc[("site", "A"), "eligible"] == 1 and table.loc[("site", "unknown"), "not_eligible"] == 1
    assert table.loc[("all", "all"), "eligible_share"] == pytest.approx(2 / 5)
    assert table.loc[("all", "all"), ["eligible_share_least", "eligible_share_most"]].tolist() == [2 / 7, 4 / 7]
    assert table.loc[("all", "all"), "to_screen"] == 25 and table.loc[("site", "A"), "to_screen"] == 50
    assert pd.isna(table.loc[("site", "unknown"), "to_screen"])
    # Wilson's interval of 2 of 5, written out.
    z = 1.959963984540054
    half = z * np.sqrt(0.4 * 0.6 / 5 + z * z / 100) / (1 + z * z / 5)
    middle = (0.4 + z * z / 10) / (1 + z * z / 5)
    assert table.loc[("all", "all"), ["eligible_share_low", "eligible_share_high"]].tolist() == pytest.approx(
        [middle - half, middle + half]
    )


def test_feasibility_by_a_column_that_is_not_there() -> None:
    with pytest.raises(SpecError, match="did you mean 'site'"):
        feasibility(PEOPLE, eligibility(PEOPLE, RULES), by=["sites"])
    with pytest.raises(SpecError, match="'site' twice"):
        feasibility(PEOPLE, eligibility(PEOPLE, RULES), by=["site", "site"])
