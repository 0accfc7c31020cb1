"""ESSDAI and ClinESSDAI, written from the published tables: every weight by every level, every cut-off, every gap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.clinical import clinessdai, essdai, load_definition, score
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.errors import DataError, SpecError

# Domain: weight in ESSDAI, weight in ClinESSDAI, levels. As published, and not read from the definition files.
DOMAINS: dict[str, tuple[int, int | None, list[int]]] = {
    "constitutional": (3, 4, [0, 1, 2]),
    "lymphadenopathy": (4, 4, [0, 1, 2, 3]),
    "glandular": (2, 2, [0, 1, 2]),
    "articular": (2, 3, [0, 1, 2, 3]),
    "cutaneous": (3, 3, [0, 1, 2, 3]),
    "pulmonary": (5, 6, [0, 1, 2, 3]),
    "renal": (5, 6, [0, 1, 2, 3]),
    "muscular": (6, 7, [0, 1, 2, 3]),
    "peripheral_nervous_system": (5, 5, [0, 1, 2, 3]),
    "central_nervous_system": (5, 5, [0, 2, 3]),
    "haematological": (2, 2, [0, 1, 2, 3]),
    "biological": (1, None, [0, 1, 2]),
}
ZERO = dict.fromkeys(DOMAINS, 0)
EACH_LEVEL = [(name, level) for name, (_, _, levels) in DOMAINS.items() for level in levels]


def rows(*given: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([{"sample_id": f"s{i}", **row} for i, row in enumerate(given)])


@pytest.fixture(scope="module")
def each_level() -> pd.DataFrame:
    """A row for each domain at each level, the others at 0."""
    return score(rows(*({**ZERO, name: level} for name, level in EACH_LEVEL)), ["essdai", "clinessdai"])


@pytest.mark.parametrize(("place", "name", "level"), [(i, *one) for i, one in enumerate(EACH_LEVEL)])
def test_every_domain_at_every_level(each_level: pd.DataFrame, place: int, name: str, level: int) -> None:
    weight, clinical, _ = DOMAINS[name]
    result = each_level.iloc[place]
    assert result["essdai"] == result["essdai_min"] == result["essdai_max"] == weight * level
    assert result["clinessdai"] == (clinical or 0) * level
    assert (result["essdai_known"], result["clinessdai_known"]) == (12, 11)
    assert result["essdai_reason"] == "" and result["essdai_domains"] == "all"


def test_all_domains_at_their_most_are_123_and_135() -> None:
    worst = {name: max(levels) for name, (_, _, levels) in DOMAINS.items()}
    result = score(rows(worst), ["essdai", "clinessdai"])
    assert result["essdai"].tolist() == [123] and result["clinessdai"].tolist() == [135]


def test_nothing_known_is_the_whole_range() -> None:
    result = score(rows({"renal": None}), ["essdai", "clinessdai"]).iloc[0]
    assert np.isnan(result["essdai"]) and (result["essdai_min"], result["essdai_max"]) == (0, 123)
    assert np.isnan(result["clinessdai"]) and (result["clinessdai_min"], result["clinessdai_max"]) == (0, 135)
    assert result["essdai_known"] == 0 and result["essdai_activity"] is None


@pytest.mark.parametrize("name", DOMAINS)
def test_each_missing_domain_widens_the_score_and_is_named(name: str) -> None:
    weight, _, levels = DOMAINS[name]
    base = {**ZERO, "renal": 1} if name != "renal" else {**ZERO, "muscular": 1}
    known = 5 if name != "renal" else 6
    result = score(rows({**base, name: None}), "essdai").iloc[0]
    assert np.isnan(result["essdai"])
    assert (result["essdai_min"], result["essdai_max"]) == (known, known + weight * max(levels))
    assert result["essdai_known"] == 11 and result["essdai_items"] == 12
    assert result["essdai_reason"] == f"missing: {name}"


@pytest.mark.parametrize("name", DOMAINS)
def test_a_level_that_a_domain_has_not_is_refused(name: str) -> None:
    bad = max(DOMAINS[name][2]) + 1
    with pytest.raises(DataError, match=rf"'s0', column '{name}': {bad}.* 0"):
        score(rows({**ZERO, name: bad}), "essdai")


@pytest.mark.parametrize("bad", [1, -1, 1.5])
def test_the_central_nervous_system_has_no_level_one(bad: float) -> None:
    with pytest.raises(DataError, match=r"central_nervous_system.*one of 0, 2, 3"):
        score(rows({**ZERO, "central_nervous_system": bad}), "essdai")


# Totals around both cut-offs, by levels that make them.
TOTALS: dict[int, dict[str, int]] = {
    0: {},
    4: {"lymphadenopathy": 1},
    5: {"renal": 1},
    6: {"muscular": 1},
    13: {"renal": 1, "lymphadenopathy": 2},
    14: {"renal": 2, "lymphadenopathy": 1},
    15: {"renal": 3},
}


@pytest.mark.parametrize(
    ("total", "band"), [(0, "low"), (4, "low"), (5, "moderate"), (6, "moderate"), (13, "moderate")]
)
def test_bands_below_at_and_above_five(total: int, band: str) -> None:
    result = score(rows({**ZERO, **TOTALS[total]}), "essdai").iloc[0]
    assert (result["essdai"], result["essdai_activity"]) == (total, band)


@pytest.mark.parametrize(("total", "band"), [(13, "moderate"), (14, "high"), (15, "high")])
def test_bands_below_at_and_above_fourteen(total: int, band: str) -> None:
    result = score(rows({**ZERO, **TOTALS[total]}), "essdai").iloc[0]
    assert (result["essdai"], result["essdai_activity"]) == (total, band)


def test_a_band_is_given_where_the_interval_stays_in_it_and_only_there() -> None:
    inside = {**ZERO, "pulmonary": 1, "glandular": None}  # 5 to 9
    across = {**ZERO, "glandular": 1, "biological": 2, "articular": None}  # 4 to 10
    high = {**ZERO, "renal": 3, "muscular": None}  # 15 to 33
    result = score(rows(inside, across, high), "essdai")
    assert result["essdai_activity"].tolist() == ["moderate", None, "high"]
    assert result["essdai"].isna().all()


def test_a_subset_of_domains_says_so() -> None:
    frame = rows({**ZERO, "renal": 2, "articular": 3, "biological": None})
    result = score(frame, "essdai", domains=["renal", "articular", "cns"]).iloc[0]
    assert result["essdai"] == 16 and result["essdai_items"] == 3
    assert result["essdai_domains"] == "articular, renal, central_nervous_system"
    assert result["essdai_activity"] is None
    assert score(frame, "essdai", domains="renal, articular")["essdai"].tolist() == [16]


def test_clinessdai_leaves_the_biological_domain_out_of_a_subset() -> None:
    result = score(rows({"renal": 1}), ["essdai", "clinessdai"], domains=["renal", "biological"]).iloc[0]
    assert result["clinessdai_domains"] == "renal" and result["clinessdai"] == 6
    assert result["essdai_domains"] == "renal, biological" and np.isnan(result["essdai"])
    with pytest.raises(SpecError, match="ClinESSDAI has no domain biological"):
        score(rows({"renal": 1}), "clinessdai", domains=["biological"])


@pytest.mark.parametrize("domains", [["renl"], [], ["renal", "renal"]])
def test_domains_that_cannot_be_scored_are_refused(domains: list[str]) -> None:
    with pytest.raises(SpecError, match="renal"):
        score(rows(ZERO), "essdai", domains=domains)


def test_a_recorded_total_counts_only_where_items_are_missing_and_it_fits() -> None:
    result = score(
        rows(
            {**ZERO, "renal": 1, "essdai": 5},  # agrees
            {**ZERO, "renal": 1, "essdai": 7},  # disagrees: the items count
            {"renal": 1, "essdai": 8},  # fits the known item
            {"renal": 1, "essdai": 4},  # less than the known item allows
            {"essdai": 14},  # nothing else
            {"renal": None, "essdai": None},
        ),
        "essdai",
    )
    np.testing.assert_array_equal(result["essdai"], [5, 5, 8, np.nan, 14, np.nan])
    np.testing.assert_array_equal(result["essdai_min"], [5, 5, 8, 5, 14, 0])
    assert result["essdai_activity"].tolist() == ["moderate", "moderate", "moderate", None, "high", None]
    reasons = result["essdai_reason"].tolist()
    assert reasons[0] == "" and "disagrees" in reasons[1]
    assert reasons[2].startswith("the recorded total was used; missing: ")
    assert "outside what the known items allow" in reasons[3]
    assert reasons[4] == "the recorded total was used: no item is known"


def test_a_recorded_total_that_no_levels_of_the_missing_domains_give_is_not_used() -> None:
    one = {**ZERO, "cutaneous": None}  # 3 points a level: 0, 3, 6 or 9
    tables = [
        rows(*({**one, "essdai": total} for total in range(10))),
        rows(*({**ZERO, "renal": None, "muscular": None, "clinessdai": total} for total in range(40))),
        rows({"clinessdai": 1}, {"clinessdai": 2}, {"clinessdai": 134}, {"clinessdai": 135}),
    ]
    made = [
        {3 * level for level in range(4)},
        {6 * renal + 7 * muscular for renal in range(4) for muscular in range(4)},
        {2, 135},
    ]
    for table, name, possible in zip(tables, ("essdai", "clinessdai", "clinessdai"), made, strict=True):
        result = score(table, name)
        used = result[name].notna()
        assert set(table[name][used]) == possible
        np.testing.assert_array_equal(result[name][used], table[name][used])
    assert score(tables[0], "essdai")["essdai_reason"][4] == (
        "missing: cutaneous; no levels of the missing items give the recorded total, which was not used"
    )
    # What the laboratory leaves of a domain counts: platelets of 90 are level 2 or 3.
    low = {**ZERO, "haematological": None, "cytopenia_autoimmune": "yes", "platelets": 90}
    result = score(rows(*({**low, "essdai": total} for total in range(8))), "essdai")["essdai"]
    np.testing.assert_array_equal(result, [np.nan] * 4 + [4, np.nan, 6, np.nan])


def test_a_recorded_total_of_all_domains_is_not_that_of_a_subset() -> None:
    result = score(rows({"renal": None, "essdai": 9}), "essdai", domains=["renal"]).iloc[0]
    assert np.isnan(result["essdai"]) and result["essdai_max"] == 15


def test_laboratory_values_stay_proposals_until_an_origin_is_recorded() -> None:
    labs = {"hb": 9, "platelets": 200, "neutrophils": 3, "lymphocytes": 2}  # level 2
    gap = {**ZERO, "haematological": None, **labs}
    frame = rows(gap, {**gap, "cytopenia_autoimmune": "yes"}, {**gap, "cytopenia_autoimmune": "no"})
    proposed = score(frame, "essdai")
    np.testing.assert_array_equal(proposed["essdai"], [np.nan, 4, np.nan])
    np.testing.assert_array_equal(proposed["essdai_max"], [6, 4, 6])
    assert proposed["haematological_proposed"].tolist() == [2, 2, 2]
    assert proposed["essdai_derived"].tolist() == ["", "haematological", ""]
    used = score(frame, "essdai", laboratory="use")
    np.testing.assert_array_equal(used["essdai"], [4, 4, np.nan])
    ignored = score(frame, "essdai", laboratory="ignore")
    assert ignored["essdai"].isna().all() and ignored["haematological_proposed"].isna().all()


def test_a_recorded_domain_is_not_overruled_by_laboratory_values() -> None:
    frame = rows({**ZERO, "haematological": 1, "hb": 7, "cytopenia_autoimmune": 1})
    assert score(frame, "essdai", laboratory="use")["essdai"].tolist() == [2]


def test_incomplete_laboratory_values_bound_the_domain() -> None:
    frame = rows({**ZERO, "haematological": None, "platelets": 90, "cytopenia_autoimmune": 1})
    result = score(frame, "essdai").iloc[0]
    assert (result["essdai_min"], result["essdai_max"]) == (4, 6)  # level 2, or 3 by what wasn't measured
    assert result["essdai_known"] == 11 and result["essdai_reason"] == "missing: haematological"
    assert np.isnan(result["haematological_proposed"])


def test_an_unknown_way_with_laboratory_values_is_refused() -> None:
    with pytest.raises(SpecError, match="did you mean 'propose'"):
        score(rows(ZERO), "essdai", laboratory="proposed")


def test_the_function_of_its_own_gives_what_score_gives() -> None:
    frame = rows({**ZERO, "renal": 3}, {**ZERO, "renal": None})
    sheet = Sheet.read(frame)
    both = score(frame, ["essdai", "clinessdai"])
    pd.testing.assert_frame_equal(essdai(sheet), both[list(essdai(sheet).columns)])
    pd.testing.assert_frame_equal(clinessdai(sheet), both[list(clinessdai(sheet).columns)])


def test_a_users_weight_replaces_the_shipped_one() -> None:
    given = {"essdai": {"items": {"renal": {"weight": 10}}}}
    assert score(rows({**ZERO, "renal": 2}), "essdai", definitions=given)["essdai"].tolist() == [20]
    assert load_definition("essdai", given)["items"]["renal"]["mark"] == "U"
    with pytest.raises(SpecError, match="weight"):
        score(rows(ZERO), "essdai", definitions={"essdai": {"items": {"renal": {"weight": -1}}}})


def test_marks_of_the_published_weights() -> None:
    marks = {name: entry["mark"] for name, entry in load_definition("essdai")["items"].items()}
    assert {name for name, mark in marks.items() if mark == "P"} == set(list(DOMAINS)[:6])
    assert set(marks.values()) == {"P", "K"}
    assert {entry["mark"] for entry in load_definition("clinessdai")["items"].values()} == {"S"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"activity": {"middle": {"to": 3}}}, "band 'middle'"),
        ({"recorded": {"column": None}}, "says no 'column'"),
        ({"items": {"igg": {"weight": 1, "levels": [0, 1]}}}, "'igg' holds no levels"),
        ({"items": {"rnal": {"weight": 1, "levels": [0, 1]}}}, "did you mean 'renal'"),
        ({"items": {"renal": {"levels": ["low"]}}}, "levels must list"),
    ],
)
def test_a_definition_that_lacks_what_is_read_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        score(rows(ZERO), "essdai", definitions={"essdai": given})


def test_an_index_of_the_users_own_on_columns_of_their_own() -> None:
    definitions = {
        "columns": {"columns": {"spleen": {"kind": "level", "levels": [0, 1], "aliases": ["splenomegaly"]}}},
        "essdai": {"items": {"spleen": {"weight": 4, "levels": [0, 1]}}},
    }
    result = score(rows({**ZERO, "splenomegaly": 1}, ZERO), "essdai", definitions=definitions)
    assert result["essdai"].tolist()[0] == 4 and result["essdai_max"].tolist() == [4, 4]
    assert result["essdai_reason"].tolist() == ["", "missing: spleen"]


def test_without_a_recorded_origin_to_ask_for_proposals_stay_proposals() -> None:
    frame = rows({**ZERO, "haematological": None, "hb": 7, "cytopenia_autoimmune": 1})
    given = {"laboratory": {"origin": {"haematological": None}}}
    assert score(frame, "essdai")["essdai"].tolist() == [6]
    assert score(frame, "essdai", definitions=given)["essdai"].isna().all()
