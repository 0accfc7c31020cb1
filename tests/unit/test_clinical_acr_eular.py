"""2016 ACR/EULAR: each cut-off just below, at and above; each item missing; entry, exclusions, children."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.clinical import score
from sjd_dask.errors import SpecError

NO: dict[str, Any] = {
    "focus_score": 0.0, "anti_ssa": 0, "oss_right": 0, "oss_left": 0, "schirmer_right": 20, "schirmer_left": 20,
    "saliva_unstimulated": 0.5,
}  # fmt: skip
ITEMS = ("focal_lymphocytic_sialadenitis", "anti_ssa", "ocular_staining", "schirmer", "unstimulated_saliva")
ENTRY = ("dry_eyes_daily", "gritty_eyes", "tear_substitutes", "dry_mouth_daily", "liquids_to_swallow")
EXCLUSIONS = ("head_neck_radiation", "hepatitis_c_active", "aids", "sarcoidosis", "amyloidosis", "graft_versus_host",
              "igg4_related")  # fmt: skip
CLEAR = {**dict.fromkeys(ENTRY, 1), **dict.fromkeys(EXCLUSIONS, 0), "age": 50}


def one(definitions: Any = None, /, *, options: dict[str, Any] | None = None, **values: Any) -> pd.Series:
    """The result of one row that has only these columns, and serology not recorded."""
    frame = pd.DataFrame([{"sample_id": "S1", "anti_ssa": np.nan, **values}])
    return score(frame, "acr-eular", definitions=definitions, **(options or {})).iloc[0]


@pytest.mark.parametrize(
    ("item", "column", "positive", "negative", "points"),
    [
        ("focal_lymphocytic_sialadenitis", "focus_score", (1.0, 1.01, 12), (0.99, 0.0), 3),
        ("anti_ssa", "anti_ssa", (1, "positive", "yes", True), (0, "Negative", "no", False), 3),
        ("ocular_staining", "oss_right", (5, 6, 12), (4, 0), 1),
        ("ocular_staining", "oss_left", (5, 12), (4,), 1),
        ("schirmer", "schirmer_right", (5, 4.9, 0), (5.1, 6, 35), 1),
        ("schirmer", "schirmer_left", (5, 0), (6,), 1),
        ("unstimulated_saliva", "saliva_unstimulated", (0.1, 0.09, 0), (0.11, 0.1001, 1), 1),
    ],
)
def test_each_cut_off_just_below_at_and_above(
    item: str, column: str, positive: tuple[Any, ...], negative: tuple[Any, ...], points: int
) -> None:
    for values, word, got in ((positive, "positive", points), (negative, "negative", 0)):
        for value in values:
            found = one(**{**NO, column: value})
            assert found[f"acr_eular_item_{item}"] == word, (column, value)
            assert (found["acr_eular"], found["acr_eular_min"], found["acr_eular_max"]) == (got, got, got)
            assert (found["acr_eular_known"], found["acr_eular_items"], found["acr_eular_reason"]) == (5, 5, "")


@pytest.mark.parametrize(("value", "word"), [(4, "positive"), (5, "positive"), (3, "negative")])
def test_van_bijsterveld_has_its_own_cut_off(value: int, word: str) -> None:
    others = {name: one for name, one in NO.items() if not name.startswith("oss")}
    found = one(**others, van_bijsterveld_right=value, van_bijsterveld_left=0)
    assert found["acr_eular_item_ocular_staining"] == word
    assert one(**NO, van_bijsterveld_right=value, van_bijsterveld_left=0)["acr_eular_item_ocular_staining"] == word


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (dict.fromkeys(ITEMS, 1), ("definite", 9, 9)),
        ({"anti_ssa": 1, "schirmer": 1, **dict.fromkeys((ITEMS[0], ITEMS[2], ITEMS[4]), 0)}, ("definite", 4, 4)),
        ({"anti_ssa": 1, **dict.fromkeys((ITEMS[0], ITEMS[2], ITEMS[3], ITEMS[4]), 0)}, ("no", 3, 3)),
        ({ITEMS[0]: 1, **dict.fromkeys(ITEMS[1:], 0)}, ("no", 3, 3)),
        ({ITEMS[0]: 0, "anti_ssa": 0, **dict.fromkeys(ITEMS[2:], 1)}, ("no", 3, 3)),
        ({"anti_ssa": 1, "schirmer": 1}, ("definite", 4, 9)),
        ({"anti_ssa": 1}, ("undecided", 3, 9)),
        ({"anti_ssa": 1, "schirmer": 0, "ocular_staining": 0, ITEMS[0]: 0}, ("undecided", 3, 4)),
        ({"anti_ssa": 0, ITEMS[0]: 0}, ("no", 0, 3)),
        ({"anti_ssa": 0}, ("undecided", 0, 6)),
        ({}, ("undecided", 0, 9)),
    ],
)
def test_observed_and_attainable_make_the_class(known: dict[str, int], expected: tuple[str, int, int]) -> None:
    yes = {ITEMS[0]: {"focus_score": 2}, ITEMS[1]: {"anti_ssa": 1}, ITEMS[2]: {"oss_right": 9, "oss_left": 0},
           ITEMS[3]: {"schirmer_right": 2, "schirmer_left": 9}, ITEMS[4]: {"saliva_unstimulated": 0.02}}  # fmt: skip
    no = {ITEMS[0]: {"focus_score": 0}, ITEMS[1]: {"anti_ssa": 0}, ITEMS[2]: {"oss_right": 1, "oss_left": 0},
          ITEMS[3]: {"schirmer_right": 12, "schirmer_left": 9}, ITEMS[4]: {"saliva_unstimulated": 0.9}}  # fmt: skip
    values: dict[str, Any] = dict.fromkeys(NO, np.nan)
    for item, answer in known.items():
        values |= (yes if answer else no)[item]
    found = one(**values)
    assert (found["acr_eular_class"], found["acr_eular_min"], found["acr_eular_max"]) == expected
    assert found["acr_eular_known"] == len(known)
    absent = [item for item in ITEMS if item not in known]
    assert found["acr_eular_reason"] == (f"missing: {', '.join(absent)}" if absent else "")
    assert np.isnan(found["acr_eular"]) == (expected[1] != expected[2])


@pytest.mark.parametrize(
    ("column", "item"),
    [("focus_score", ITEMS[0]), ("anti_ssa", ITEMS[1]), ("saliva_unstimulated", ITEMS[4]),
     ("oss_left", ITEMS[2]), ("oss_right", ITEMS[2]), ("schirmer_left", ITEMS[3]), ("schirmer_right", ITEMS[3])],
)  # fmt: skip
def test_a_missing_value_leaves_its_item_open_and_nothing_else(column: str, item: str) -> None:
    for values in ({**NO, column: np.nan}, {name: value for name, value in NO.items() if name != column}):
        found = one(**values)
        assert found[f"acr_eular_item_{item}"] == "unknown"
        assert found["acr_eular_known"] == 4 and found["acr_eular_reason"] == f"missing: {item}"
        assert found["acr_eular_min"] == 0 and found["acr_eular_max"] == (3 if item in ITEMS[:2] else 1)


def test_one_eye_that_is_positive_decides_and_one_that_is_not_does_not() -> None:
    assert one(schirmer_right=3)["acr_eular_item_schirmer"] == "positive"
    assert one(schirmer_right=30)["acr_eular_item_schirmer"] == "unknown"
    # A value for both eyes is read as the worse one: it closes what an eye leaves open.
    assert one(schirmer=30)["acr_eular_item_schirmer"] == "negative"
    assert one(schirmer_right=30, schirmer=30)["acr_eular_item_schirmer"] == "negative"
    assert one(schirmer_right=30, schirmer=4)["acr_eular_item_schirmer"] == "positive"
    assert one(schirmer_right=3, schirmer=30)["acr_eular_item_schirmer"] == "positive"
    assert "schirmer: eyes and recorded value disagree" in one(schirmer_right=3, schirmer=30)["acr_eular_reason"]


def test_one_scale_of_staining_is_the_item_where_the_sheet_has_no_other() -> None:
    alone = one(oss=2)
    assert alone["acr_eular_item_ocular_staining"] == "negative"
    both = {"oss": 2, "van_bijsterveld": np.nan}
    assert one(**both)["acr_eular_item_ocular_staining"] == "unknown"
    assert one(**both, options={"one_scale": True})["acr_eular_item_ocular_staining"] == "negative"
    always = {"acr_eular": {"one_scale_decides": {"value": "always"}}}
    assert one(always, **both)["acr_eular_item_ocular_staining"] == "negative"
    neither = one(always, oss=np.nan, van_bijsterveld=np.nan)
    assert neither["acr_eular_item_ocular_staining"] == "unknown"
    assert one(oss=np.nan, van_bijsterveld=4)["acr_eular_item_ocular_staining"] == "positive"
    assert one(oss=4, van_bijsterveld=3)["acr_eular_item_ocular_staining"] == "negative"
    with pytest.raises(SpecError, match=r"one_scale_decides.*'often'.*never, always"):
        one({"acr_eular": {"one_scale_decides": {"value": "often"}}}, **both)


def test_a_biopsy_that_shows_another_disease_is_no_item() -> None:
    for flag, focus, word in [(0, 3, "negative"), (1, 3, "positive"), (np.nan, 3, "unknown"), (1, np.nan, "unknown"),
                              (0, np.nan, "negative"), (1, 0.5, "negative"), (np.nan, 0.5, "negative")]:  # fmt: skip
        found = one(focus_score=focus, focal_lymphocytic_sialadenitis=flag)
        assert found["acr_eular_item_focal_lymphocytic_sialadenitis"] == word, (flag, focus)
        assert ("recorded as false, which counts" in found["acr_eular_reason"]) == (flag == 0 and focus == 3)


def test_a_focus_score_counts_alone_where_the_sheet_has_no_column_to_confirm_it() -> None:
    assert one(focus_score=3)["acr_eular_item_focal_lymphocytic_sialadenitis"] == "positive"
    item = {"focal_lymphocytic_sialadenitis": {"tests": {"biopsy": {"confirmed_by": None}}}}
    found = one({"acr_eular": {"items": item}}, focus_score=3, focal_lymphocytic_sialadenitis=np.nan)
    assert found["acr_eular_item_focal_lymphocytic_sialadenitis"] == "positive"


def test_bounds_hold_every_completion_of_the_missing_cells_and_no_more() -> None:
    values = {"focus_score": (0, 1), "focal_lymphocytic_sialadenitis": (0, 1), "anti_ssa": (0, 1), "oss_left": (4, 5),
              "oss_right": (4, 5), "van_bijsterveld": (3, 4), "schirmer_left": (5, 6), "schirmer_right": (5, 6),
              "saliva_unstimulated": (0.1, 0.11), "gritty_eyes": (0, 1), "aids": (0, 1)}  # fmt: skip
    known = dict.fromkeys((*ENTRY, *EXCLUSIONS), 0) | {"essdai": 0, "age": 40}
    rng = np.random.default_rng(4)
    columns = np.array(list(values))
    for _ in range(12):
        row = known | {name: two[rng.integers(2)] for name, two in values.items()} | {"aids": 0}
        absent = rng.choice(columns, 5, replace=False)
        whole = [row | dict(zip(absent, one, strict=True)) for one in product(*(values[name] for name in absent))]
        frame = pd.DataFrame([row | dict.fromkeys(absent), *whole]).assign(sample_id=range(33))
        found = score(frame, "acr_eular")
        part, full = found.iloc[0], found.iloc[1:]
        assert (part["acr_eular_min"], part["acr_eular_max"]) == (full["acr_eular"].min(), full["acr_eular"].max())
        met = full["acr_eular_met"].unique()
        assert (np.isnan(part["acr_eular_met"]) and len(met) == 2) or met.tolist() == [part["acr_eular_met"]]


@pytest.mark.parametrize("question", ENTRY)
def test_any_symptom_enters(question: str) -> None:
    nothing = {**dict.fromkeys(ENTRY, 0), "essdai": 0}
    assert one(**nothing)["acr_eular_entry"] == "not_met"
    assert one(**nothing)["acr_eular_class"] == "not_entered"
    assert one(**{**nothing, question: 1})["acr_eular_entry"] == "met"
    assert one(**{**nothing, question: np.nan})["acr_eular_entry"] == "unknown"
    assert one(**{question: 1})["acr_eular_entry"] == "met"


def test_a_positive_domain_enters_and_a_total_stands_for_its_domains() -> None:
    quiet = dict.fromkeys(ENTRY, 0)
    levels = dict.fromkeys(
        ("constitutional", "lymphadenopathy", "glandular", "articular", "cutaneous", "pulmonary", "renal", "muscular",
         "peripheral_nervous_system", "central_nervous_system", "haematological", "biological"), 0,
    )  # fmt: skip
    assert one(**quiet)["acr_eular_entry"] == "unknown"
    assert one(**quiet, **levels)["acr_eular_entry"] == "not_met"
    for domain in levels:
        assert one(**quiet, **{**levels, domain: 2})["acr_eular_entry"] == "met"
        assert one(**quiet, **{**levels, domain: np.nan})["acr_eular_entry"] == "unknown"
    assert one(**quiet, essdai=3)["acr_eular_entry"] == "met"
    assert one(**quiet, **{**levels, "renal": np.nan}, essdai=0)["acr_eular_entry"] == "not_met"


@pytest.mark.parametrize("exclusion", EXCLUSIONS)
def test_any_exclusion_excludes_and_an_unknown_one_is_told(exclusion: str) -> None:
    met = {**NO, "anti_ssa": 1, "schirmer_left": 1, **CLEAR}
    assert tuple(one(**met)[["acr_eular_class", "acr_eular_met", "acr_eular_exclusion", "acr_eular_note"]]) == (
        "definite", 1.0, "none", "",
    )  # fmt: skip
    excluded = one(**{**met, exclusion: 1})
    assert (excluded["acr_eular_class"], excluded["acr_eular_met"]) == ("excluded", 0.0)
    assert excluded["acr_eular_exclusion"] == "present" and excluded["acr_eular_min"] == 4
    unknown = one(**{**met, exclusion: np.nan})
    assert (unknown["acr_eular_class"], unknown["acr_eular_exclusion"]) == ("definite", "unknown")
    assert np.isnan(unknown["acr_eular_met"])
    assert unknown["acr_eular_note"] == f"exclusions not recorded: {exclusion}"


def test_a_child_never_gets_a_bare_no() -> None:
    for age, expected in [(17.99, "child_not_met"), (18, "no"), (18.01, "no"), (5, "child_not_met"), (np.nan, "no")]:
        found = one(**NO, **{**CLEAR, "age": age})
        assert found["acr_eular_class"] == expected, age
        if np.isnan(age):
            assert np.isnan(found["acr_eular_child"]) and "age not recorded" in found["acr_eular_note"]
            assert found["acr_eular_met"] == 0
        else:
            assert found["acr_eular_child"] == (age < 18)
            assert ("made for adults" in found["acr_eular_note"]) == (age < 18)
            assert np.isnan(found["acr_eular_met"]) == (age < 18)
    child = {**CLEAR, "age": 9}
    assert one(**{**NO, "anti_ssa": 1, "schirmer_left": 1}, **child)["acr_eular_class"] == "definite"
    assert one(**NO, **{**child, "aids": 1})["acr_eular_met"] == 0


def test_missing_counts_as_negative_only_when_asked_for() -> None:
    values = {"anti_ssa": 1, "focus_score": np.nan}
    assert one(**values)["acr_eular_class"] == "undecided" and not one(**values)["acr_eular_missing_as_negative"]
    asked = one(**values, options={"missing_as_negative": True})
    assert (asked["acr_eular_class"], asked["acr_eular"], asked["acr_eular_max"]) == ("no", 3, 3)
    assert asked["acr_eular_missing_as_negative"] and asked["acr_eular_exclusion"] == "none"
    assert asked["acr_eular_entry"] == "unknown"


def test_the_weights_are_nine_and_a_table_can_be_replaced() -> None:
    from sjd_dask.clinical import load_definition

    table = load_definition("acr_eular")
    assert sum(item["points"] for item in table["items"].values()) == 9 and table["met_at"]["points"] == 4
    wider = {"acr_eular": {"items": {"schirmer": {"tests": {"schirmer": {"at_most": 10}}}}, "met_at": {"points": 3}}}
    found = one(wider, **{**NO, "schirmer_left": 9})
    assert found["acr_eular_item_schirmer"] == "positive"
    assert one(wider, **{**NO, "anti_ssa": 1})["acr_eular_class"] == "definite"


def test_a_test_with_two_cut_offs_is_refused() -> None:
    with pytest.raises(SpecError, match="one cut-off"):
        one({"acr_eular": {"items": {"schirmer": {"tests": {"schirmer": {"above": 10}}}}}}, schirmer=1)


def test_rows_keep_their_ids() -> None:
    frame = pd.DataFrame({"sample_id": ["01005", "2"], "anti_ssa": [1, 0]}, index=[7, 7])
    found = score(frame, "acr-eular")
    assert found["sample_id"].tolist() == ["01005", "2"]
    assert found["acr_eular_item_anti_ssa"].tolist() == ["positive", "negative"]
