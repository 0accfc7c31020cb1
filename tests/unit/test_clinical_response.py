"""STAR, CRESS and change, cut-off by cut-off, from the published tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.clinical.acr_eular import acr_eular
from sjd_dask.clinical.response import change, cress, left_out_tests, star
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.errors import DataError, SpecError

NAN = float("nan")
# A pair of visits at which nothing improves.
STILL = {
    "clinessdai": 10, "esspri": 6.0, "schirmer": 2.0, "oss": 6.0, "saliva_unstimulated": 0.1, "sgus_hocevar": 20,
    "igg": 15.0, "rf": 100.0,
}  # fmt: skip
DOMAINS = ("systemic", "patient_reported", "lacrimal", "salivary", "biological")


def sheet(base: dict[str, Any], follow: dict[str, Any], **more: Any) -> Sheet:
    """One person of two visits; what isn't named stands still, and None is missing."""
    rows = [{**STILL, **base}, {**STILL, **follow}]
    frame = pd.DataFrame(rows).assign(sample_id=["b", "f"], person_id="01005", visit=[1, 2])
    return Sheet.read(frame, **more)


def follow_up(measure: Any, base: dict[str, Any], follow: dict[str, Any], **more: Any) -> dict[str, Any]:
    result: dict[str, Any] = measure(sheet(base, follow), **more).iloc[1].to_dict()
    return result


def same(found: float, expected: float) -> bool:
    return bool(found == expected or (np.isnan(found) and np.isnan(expected)))


# item, baseline, follow-up, whether the domain's point is earned
SHARED = [
    # ESSPRI: 1 point, or 15 %
    ("patient_reported", {"esspri": 8}, {"esspri": 7.01}, 0),
    ("patient_reported", {"esspri": 8}, {"esspri": 7}, 1),
    ("patient_reported", {"esspri": 8}, {"esspri": 6.9}, 1),
    ("patient_reported", {"esspri": 2}, {"esspri": 1.71}, 0),
    ("patient_reported", {"esspri": 2}, {"esspri": 1.7}, 1),
    ("patient_reported", {"esspri": 2}, {"esspri": 1.69}, 1),
    ("patient_reported", {"esspri": 0}, {"esspri": 0}, 0),
    ("patient_reported", {"esspri": 1.2}, {"esspri": 0.2}, 1),
    ("patient_reported", {"esspri": None}, {}, NAN),
    ("patient_reported", {}, {"esspri": None}, NAN),
    # OSS: abnormal at 3, then a drop of 2; normal stays normal; the other test is silent
    ("lacrimal", {"oss": 3}, {"oss": 1.5}, 0),
    ("lacrimal", {"oss": 3}, {"oss": 1}, 1),
    ("lacrimal", {"oss": 3}, {"oss": 0}, 1),
    ("lacrimal", {"oss": 2.5}, {"oss": 2.5}, 1),
    ("lacrimal", {"oss": 0}, {"oss": 2.9}, 1),
    ("lacrimal", {"oss": 0}, {"oss": 3}, 0),
    ("lacrimal", {"oss": 6}, {"oss": 4}, 1),
    # Either test: one that is met is enough, one that is missing leaves a failure open
    ("lacrimal", {"schirmer": 2}, {"schirmer": 7, "oss": None}, 1),
    ("lacrimal", {}, {"oss": None}, NAN),
    ("lacrimal", {"schirmer": None}, {}, NAN),
    # Saliva: 25 %, from zero any rise; ultrasound: 25 %
    ("salivary", {"saliva_unstimulated": 0.1}, {"saliva_unstimulated": 0.1249}, 0),
    ("salivary", {"saliva_unstimulated": 0.1}, {"saliva_unstimulated": 0.125}, 1),
    ("salivary", {"saliva_unstimulated": 0.1}, {"saliva_unstimulated": 0.1251}, 1),
    ("salivary", {"saliva_unstimulated": 0}, {"saliva_unstimulated": 0}, 0),
    ("salivary", {"saliva_unstimulated": 0}, {"saliva_unstimulated": 0.001}, 1),
    ("salivary", {"sgus_hocevar": 20}, {"sgus_hocevar": 16}, 0),
    ("salivary", {"sgus_hocevar": 20}, {"sgus_hocevar": 15}, 1),
    ("salivary", {"sgus_hocevar": 20}, {"sgus_hocevar": 14}, 1),
    ("salivary", {"sgus_hocevar": 0}, {"sgus_hocevar": 0}, 0),
    ("salivary", {"saliva_unstimulated": None}, {}, NAN),
    ("salivary", {"saliva_unstimulated": None}, {"sgus_hocevar": 15}, 1),
    # IgG 10 %, RF 25 %
    ("biological", {"igg": 20}, {"igg": 18.01}, 0),
    ("biological", {"igg": 20}, {"igg": 18}, 1),
    ("biological", {"igg": 20}, {"igg": 17.99}, 1),
    ("biological", {"rf": 100}, {"rf": 75.1}, 0),
    ("biological", {"rf": 100}, {"rf": 75}, 1),
    ("biological", {"rf": 100}, {"rf": 74.9}, 1),
    ("biological", {"rf": 0}, {"rf": 0}, 0),
    ("biological", {"igg": None}, {}, NAN),
    ("biological", {"igg": None, "rf": None}, {"igg": None, "rf": None}, NAN),
]
STAR_ONLY = [
    ("systemic", {"clinessdai": 10}, {"clinessdai": 8}, 0),
    ("systemic", {"clinessdai": 10}, {"clinessdai": 7}, 1),
    ("systemic", {"clinessdai": 10}, {"clinessdai": 6}, 1),
    ("systemic", {"clinessdai": 2}, {"clinessdai": 0}, 0),
    ("systemic", {"clinessdai": None}, {}, NAN),
    # Schirmer: abnormal below 5
    ("lacrimal", {"schirmer": 4.9}, {"schirmer": 9.8}, 0),
    ("lacrimal", {"schirmer": 4.9}, {"schirmer": 9.9}, 1),
    ("lacrimal", {"schirmer": 5}, {"schirmer": 5}, 1),
    ("lacrimal", {"schirmer": 5}, {"schirmer": 4.9}, 0),
    ("lacrimal", {"schirmer": 20}, {"schirmer": 6}, 1),
]
CRESS_ONLY = [
    # A state at follow-up: the baseline says nothing
    ("systemic", {"clinessdai": 4}, {"clinessdai": 5}, 0),
    ("systemic", {"clinessdai": 10}, {"clinessdai": 6}, 0),
    ("systemic", {"clinessdai": 4}, {"clinessdai": 4}, 1),
    ("systemic", {"clinessdai": None}, {"clinessdai": 4}, 1),
    ("systemic", {"clinessdai": 4}, {"clinessdai": None}, NAN),
    # Schirmer: abnormal at 5 or less
    ("lacrimal", {"schirmer": 5}, {"schirmer": 9.9}, 0),
    ("lacrimal", {"schirmer": 5}, {"schirmer": 10}, 1),
    ("lacrimal", {"schirmer": 5.1}, {"schirmer": 5.1}, 1),
    ("lacrimal", {"schirmer": 5.1}, {"schirmer": 5}, 0),
]


def at_cut_offs(measure: Any, cases: list[tuple[str, dict[str, Any], dict[str, Any], float]]) -> pd.DataFrame:
    """One person a case, all in one sheet; the rows of the follow-ups, in order of the cases."""
    rows = [
        {**STILL, **values, "sample_id": f"{case}/{visit}", "person_id": f"P{case}", "visit": visit}
        for case, (_, *pair, _) in enumerate(cases)
        for visit, values in enumerate(pair)
    ]
    result: pd.DataFrame = measure(Sheet.read(pd.DataFrame(rows)))
    return result.iloc[1::2].reset_index(drop=True)


@pytest.fixture(scope="module")
def stars() -> pd.DataFrame:
    return at_cut_offs(star, SHARED + STAR_ONLY)


@pytest.fixture(scope="module")
def cresses() -> pd.DataFrame:
    return at_cut_offs(cress, SHARED + CRESS_ONLY)


@pytest.mark.parametrize("case", range(len(SHARED + STAR_ONLY)))
def test_star_domains_at_their_cut_offs(stars: pd.DataFrame, case: int) -> None:
    domain, _, _, point = (SHARED + STAR_ONLY)[case]
    found = stars.loc[case].to_dict()
    assert same(found[f"star_{domain}"], point)
    assert all(found[f"star_{other}"] == 0 for other in DOMAINS if other != domain)
    points = {"systemic": 3, "patient_reported": 3}.get(domain, 1)
    assert (found["star_min"], found["star_max"]) == (points * (point == 1), points * (point != 0))
    assert same(found["star"], NAN if np.isnan(point) else points * point)
    assert (found["star_known"], found["star_items"]) == (5 - np.isnan(point), 5)
    assert found["star_reason"] == (f"missing: {domain}" if np.isnan(point) else "")
    assert found["star_responder"] == "no"


@pytest.mark.parametrize("case", range(len(SHARED + CRESS_ONLY)))
def test_cress_items_at_their_cut_offs(cresses: pd.DataFrame, case: int) -> None:
    domain, _, _, point = (SHARED + CRESS_ONLY)[case]
    found = cresses.loc[case].to_dict()
    assert same(found[f"cress_{domain}"], point)
    assert all(found[f"cress_{other}"] == 0 for other in DOMAINS if other != domain)
    assert (found["cress_min"], found["cress_max"]) == (float(point == 1), float(point != 0))
    assert found["cress_responder"] == "no"


POINTS = {
    "systemic": {"clinessdai": 4}, "patient_reported": {"esspri": 4.0}, "lacrimal": {"oss": 4.0},
    "salivary": {"sgus_hocevar": 15}, "biological": {"rf": 75.0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("met", "points", "responder"),
    [
        ((), 0, "no"),
        (("systemic", "lacrimal"), 4, "no"),
        (("patient_reported", "salivary"), 4, "no"),
        (("lacrimal", "salivary", "biological"), 3, "no"),
        (("systemic", "lacrimal", "biological"), 5, "yes"),
        (("patient_reported", "salivary", "biological"), 5, "yes"),
        (("systemic", "patient_reported"), 6, "yes"),
        (DOMAINS, 9, "yes"),
    ],
)
def test_star_responders(met: tuple[str, ...], points: int, responder: str) -> None:
    found = follow_up(star, {}, {key: value for one in met for key, value in POINTS[one].items()})
    assert (found["star"], found["star_responder"]) == (points, responder)
    assert (found["star_baseline"], found["star_reason"]) == ("b", "")


@pytest.mark.parametrize(("met", "responder"), [(DOMAINS[:2], "no"), (DOMAINS[:3], "yes"), (DOMAINS[1:5], "yes")])
def test_cress_responders(met: tuple[str, ...], responder: str) -> None:
    found = follow_up(cress, {}, {key: value for one in met for key, value in POINTS[one].items()})
    assert (found["cress"], found["cress_responder"], found["cress_evaluable"]) == (len(met), responder, 5)


def test_a_star_that_missing_domains_leave_open_is_undetermined() -> None:
    found = follow_up(star, {"esspri": None}, POINTS["systemic"])
    assert (found["star_min"], found["star_max"], found["star_responder"]) == (3, 6, "undetermined")
    assert np.isnan(found["star"]) and found["star_reason"] == "missing: patient_reported"
    sure = follow_up(star, {"igg": None, "rf": None}, POINTS["systemic"] | POINTS["patient_reported"])
    assert (sure["star_min"], sure["star_max"], sure["star_responder"]) == (6, 7, "yes")


def test_cress_with_fewer_than_three_evaluable_items_is_no_responder() -> None:
    absent = {"saliva_unstimulated": None, "sgus_hocevar": None, "igg": None, "rf": None}
    three = follow_up(cress, absent, {**absent, **POINTS["systemic"], **POINTS["patient_reported"]})
    assert (three["cress_evaluable"], three["cress_responder"]) == (3, "undetermined")
    assert (three["cress_min"], three["cress_max"], three["cress_reason"]) == (2, 4, "missing: salivary, biological")
    absent |= {"schirmer": None, "oss": None}
    two = follow_up(cress, absent, {**absent, **POINTS["systemic"], **POINTS["patient_reported"]})
    assert (two["cress_evaluable"], two["cress_responder"], two["cress_max"]) == (2, "no", 5)
    assert two["cress_reason"].startswith("fewer than 3 of 5 items can be evaluated: counted as no; missing: lacrimal")
    # One of two tests makes an item evaluable, though it leaves the item open.
    half = follow_up(cress, absent | {"oss": 6.0}, {**absent, "oss": 6.0})
    assert (half["cress_evaluable"], half["cress_known"]) == (3, 2)
    asked = follow_up(cress, absent, absent, definitions={"cress": {"evaluable": {"otherwise": "undetermined"}}})
    assert asked["cress_responder"] == "undetermined"


def test_the_mean_of_both_eyes_counts_and_one_eye_is_not_a_mean() -> None:
    eyes = {"schirmer": None, "oss": None, "oss_right": 6, "oss_left": 6}

    def lacrimal(base: dict[str, Any], follow: dict[str, Any]) -> float:
        return float(follow_up(star, eyes | base, eyes | follow)["star_lacrimal"])

    # 0 and 9 mm: the worse eye is abnormal, the mean of 4.5 is too; 2 and 8 are normal on the mean.
    assert lacrimal({"schirmer_right": 0, "schirmer_left": 9}, {"schirmer_right": 9, "schirmer_left": 9}) == 0
    assert lacrimal({"schirmer_right": 0, "schirmer_left": 9}, {"schirmer_right": 9, "schirmer_left": 10}) == 1
    assert lacrimal({"schirmer_right": 2, "schirmer_left": 8}, {"schirmer_right": 1, "schirmer_left": 9}) == 1
    assert np.isnan(lacrimal({"schirmer_right": 2, "schirmer_left": None}, {"schirmer_right": 30, "schirmer_left": 30}))
    both = {"schirmer_right": 2, "schirmer_left": None, "schirmer": 2}
    assert lacrimal(both, {"schirmer_right": 30, "schirmer_left": 30}) == 1


def test_eye_cut_offs_of_one_instrument_do_not_move_another() -> None:
    pair = ({"schirmer": 5, "oss": 6}, {"schirmer": 9, "oss": 6})
    assert follow_up(star, *pair)["star_lacrimal"] == 1 and follow_up(cress, *pair)["cress_lacrimal"] == 0
    moved = {"star": {"tests": {"schirmer": {"abnormal_below": 6}}}}
    assert follow_up(star, *pair, definitions=moved)["star_lacrimal"] == 0
    assert follow_up(cress, *pair, definitions=moved)["cress_lacrimal"] == 0
    kept = {"cress": {"tests": {"schirmer": {"abnormal_at_most": 4}}}}
    assert follow_up(cress, *pair, definitions=kept)["cress_lacrimal"] == 1
    assert follow_up(star, *pair, definitions=kept)["star_lacrimal"] == 1


def test_classification_and_response_read_an_eye_by_their_own_tables() -> None:
    """5 mm is positive for the criteria, normal for STAR; OSS 3 is abnormal for STAR, negative for the criteria."""
    eyes = sheet({"schirmer": 5, "oss": None}, {"schirmer": 5, "oss": None})
    assert acr_eular(eyes)["acr_eular_item_schirmer"].tolist() == ["positive", "positive"]
    assert star(eyes, definitions={"star": {"tests": {"oss": None}}})["star_lacrimal"].tolist()[1] == 1
    stained = sheet({"schirmer": None, "oss": 3}, {"schirmer": None, "oss": 2})
    assert acr_eular(stained)["acr_eular_item_ocular_staining"].tolist()[0] != "positive"
    assert star(stained, definitions={"star": {"tests": {"schirmer": None}}})["star_lacrimal"].tolist()[1] == 0
    # One eye of 0 and one of 12 mm: the worse eye decides for the criteria, their mean for STAR.
    apart = {"schirmer": None, "oss": None, "schirmer_right": 0, "schirmer_left": 12}
    assert acr_eular(sheet(apart, apart))["acr_eular_item_schirmer"].tolist() == ["positive", "positive"]
    assert star(sheet(apart, apart))["star_lacrimal"].tolist()[1] == 1


def test_a_trial_that_plans_one_test_of_two_takes_the_other_out() -> None:
    pair = ({"oss": None}, {"oss": None})
    assert np.isnan(follow_up(star, *pair)["star_lacrimal"])
    assert follow_up(star, *pair, definitions={"star": {"tests": {"oss": None}}})["star_lacrimal"] == 0


def test_missing_domains_of_an_index_bound_the_response() -> None:
    levels = {"clinessdai": None, **dict.fromkeys(("constitutional", "lymphadenopathy", "glandular", "articular",
              "cutaneous", "pulmonary", "renal", "muscular", "pns", "cns", "haematological"), 0)}  # fmt: skip
    # Twelve points at baseline; glandular missing at follow-up leaves 0 to 4 points.
    base = levels | {"articular": 2, "renal": 1}
    assert follow_up(star, base, levels | {"glandular": None})["star_systemic"] == 1
    assert (
        follow_up(star, levels | {"articular": 1}, levels | {"articular": 1, "glandular": None})["star_systemic"] == 0
    )
    assert np.isnan(follow_up(star, levels | {"articular": 2}, levels | {"glandular": None})["star_systemic"])
    # Pain missing: ESSPRI of (9 + 6 + ?) / 3 against 9.
    parts = {"esspri": None, "dryness": 9, "fatigue": 9, "pain": 9}
    assert np.isnan(follow_up(star, parts, parts | {"fatigue": 6, "pain": None})["star_patient_reported"])
    assert follow_up(star, parts, parts | {"dryness": 4, "fatigue": 9, "pain": None})["star_patient_reported"] == 1
    assert follow_up(star, parts | {"pain": 0}, parts | {"pain": None})["star_patient_reported"] == 0


def test_rows_without_a_response_say_why() -> None:
    frame = pd.DataFrame(
        {
            "sample_id": ["s", "b", "w", "n"], "person_id": ["A", "A", "A", "B"],
            "visit": ["screening", "baseline", "week 24", "week 24"],
            "date": ["2020-01-01", "2020-02-01", "2020-08-01", "2020-08-01"],
            "clinessdai": [12, 10, 4, 3], "esspri": [8, 8, 5, 5],
        }
    )  # fmt: skip
    found = star(Sheet.read(frame), baseline="visit == 'baseline'")
    assert list(found["star_reason"]) == [
        "not after the baseline visit", "the baseline visit", "missing: lacrimal, salivary, biological",
        "no baseline visit",
    ]  # fmt: skip
    assert list(found["star_responder"]) == [None, None, "yes", None]
    assert found.loc[[0, 1, 3], ["star", "star_min", "star_max", "star_systemic"]].isna().all(axis=None)
    assert list(found["star_baseline"]) == [None, "b", "b", None]
    changes = change(Sheet.read(frame), baseline="visit == 'baseline'")
    assert list(changes["esspri_acceptable_state"]) == ["no", "no", "no", "no"]
    assert list(changes["esspri_improved"]) == [None, None, "yes", None]


@pytest.mark.parametrize(
    ("base", "follow", "improved"),
    [
        ({"essdai": 10}, {"essdai": 8}, "no"),
        ({"essdai": 10}, {"essdai": 7}, "yes"),
        ({"essdai": None}, {"essdai": 7}, "undetermined"),
    ],
)
def test_minimal_important_improvement_of_essdai(base: Any, follow: Any, improved: str) -> None:
    found = follow_up(change, base, follow)
    assert found["essdai_improved"] == improved
    expected = NAN if improved == "undetermined" else follow["essdai"] - base["essdai"]
    assert same(found["essdai_change"], expected)
    assert found["essdai_change_min"] <= -2 and found["essdai_change_max"] >= -3
    assert found["change_reason"] == ("missing: essdai" if improved == "undetermined" else "")


@pytest.mark.parametrize(("esspri", "state"), [(4.99, "yes"), (5, "no"), (5.01, "no"), (None, "undetermined")])
def test_acceptable_state_is_below_five_at_any_visit(esspri: Any, state: str) -> None:
    found = change(sheet({"esspri": esspri, "essdai": 4}, {"esspri": esspri, "essdai": 5}))
    assert list(found["esspri_acceptable_state"]) == [state, state]
    assert list(found["essdai_acceptable_state"]) == ["yes", "no"]


def test_units_are_the_sheets_own() -> None:
    frame = pd.DataFrame({"sample_id": ["b", "f"], "person_id": "P", "visit": [1, 2], "igg [mg/dL]": [2000, 1800]})
    assert star(Sheet.read(frame))["star_biological"].tolist()[1] == 1
    mixed = pd.DataFrame({"sample_id": ["b", "f"], "person_id": "P", "visit": [1, 2], "igg": [2000, 18],
                          "igg_unit": ["mg/dL", "g/L"]})  # fmt: skip
    assert star(Sheet.read(mixed))["star_biological"].tolist()[1] == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tests": {"rf": {"rule": "relativ_drop"}}}, "did you mean 'relative_drop'"),
        ({"tests": {"rf": {"domain": "biologic"}}}, "did you mean 'biological'"),
        ({"tests": {"rf": {"at_least": None}}}, "needs a number as 'at_least'"),
        ({"tests": {"rf": {"column": "igm"}}}, "no clinical column 'igm'"),
        ({"tests": {"schirmer": {"eyes": "worst"}}}, "eyes: 'worst'"),
        ({"tests": {"clinessdai_drop": {"rule": "drop_or_stay_normal"}}}, "is for a column"),
        ({"tests": {"clinessdai_drop": {"measure": "clinesdai"}}}, "did you mean 'clinessdai'"),
    ],
)
def test_a_definition_that_makes_no_sense_is_refused(given: Any, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        star(sheet({}, {}), definitions={"star": given})


def test_a_sheet_without_persons_or_order_is_refused() -> None:
    frame = pd.DataFrame({"sample_id": ["a", "b"], "igg": [10, 12]})
    with pytest.raises(SpecError, match="person_id"):
        star(Sheet.read(frame))
    with pytest.raises(DataError, match="'P'"):
        cress(Sheet.read(frame.assign(person_id="P")))


@pytest.mark.parametrize("measure", [star, cress])
def test_a_test_without_a_column_was_not_planned(measure: Any) -> None:
    name = measure.__name__
    frame = pd.DataFrame(
        {
            "sample_id": ["a", "b"],
            "person_id": "p",
            "visit": [1, 2],
            "saliva_unstimulated": [0.0, 0.0],
            "schirmer_right": [2.0, 4.0],
            "schirmer_left": [2.0, 4.0],
        }
    )

    def at_follow_up(frame: pd.DataFrame, **more: Any) -> pd.Series:
        return measure(Sheet.read(frame), **more).iloc[1]

    alone = at_follow_up(frame)
    assert (alone[f"{name}_salivary"], alone[f"{name}_lacrimal"]) == (0, 0)
    assert np.isnan(alone[f"{name}_biological"])  # neither of its tests has a column: nobody knows
    assert left_out_tests(Sheet.read(frame), name) == {"oss": "lacrimal", "sgus_hocevar": "salivary"}
    # An empty cell is another matter: something was to be measured.
    empty = at_follow_up(frame.assign(oss=np.nan, sgus_hocevar=np.nan))
    assert np.isnan(empty[f"{name}_salivary"]) and np.isnan(empty[f"{name}_lacrimal"])
    asked = at_follow_up(frame, definitions={name: {"unplanned": {"test": "unknown"}}})
    assert np.isnan(asked[f"{name}_salivary"]) and np.isnan(asked[f"{name}_lacrimal"])
    with pytest.raises(SpecError, match="unplanned: test is 'left_out' or 'unknown', not 'maybe'"):
        at_follow_up(frame, definitions={name: {"unplanned": {"test": "maybe"}}})
