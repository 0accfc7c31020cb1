"""Clusters found again and frozen: known groups come back under their names, and what is missing stays open."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from clusters_scene import INTEGRATED_GROUPS, SYMPTOM_GROUPS, SYMPTOMS, everything, symptoms
from sklearn.cluster import AgglomerativeClustering
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score

from sjd_dask.clinical import group_fit, score
from sjd_dask.clinical.group_fit import fit_groups, name_groups, ward_groups
from sjd_dask.clinical.integrated_clusters import fit_integrated
from sjd_dask.clinical.multinomial_file import read_model, write_model
from sjd_dask.clinical.symptom_clusters import fit_nsst
from sjd_dask.errors import DataError, SpecError


@pytest.fixture(scope="module")
def symptom_model() -> dict[str, Any]:
    return fit_nsst(symptoms(400)[1], name="a simulated cohort")


@pytest.fixture(scope="module")
def integrated_model() -> dict[str, Any]:
    return fit_integrated(everything(400, missing=0.03)[1])


# Two groups by one number: the group of more pain above 4, by odds of e per point.
BY_HAND = {
    "measure": "nsst", "source": "made by hand", "groups": ["less", "more"], "intercepts": [0.0, -4.0],
    "items": [
        {"name": "pain", "low": 0, "high": 10, "slopes": [0.0, 1.0]},
        {"name": "fatigue", "low": 0, "high": 10, "slopes": [0.0, 0.1]},
    ],
}  # fmt: skip


def one(**values: float | None) -> pd.DataFrame:
    return pd.DataFrame([{"sample_id": "a", **values}])


def by_hand(**values: float | None) -> pd.Series:
    return score(one(**values), "nsst", model=BY_HAND).iloc[0]


# -- what a model says -------------------------------------------------------------------------------------------------


def test_probabilities_are_those_of_the_coefficients() -> None:
    row = by_hand(pain=6, fatigue=5)
    assert row["nsst"] == "more" and row["nsst_reason"] == "" and row["nsst_known"] == row["nsst_items"] == 2
    assert row["nsst_probability"] == pytest.approx(1 / (1 + np.exp(-2.5)), abs=1e-15)
    assert row["nsst_probability_min"] == row["nsst_probability"] == row["nsst_probability_max"]
    assert row["nsst_p_less"] == pytest.approx(1 - row["nsst_p_more"], abs=1e-15)
    assert row["nsst_label"] == "coefficients from a file"


@pytest.mark.parametrize(
    ("pain", "group", "possible"),
    [(2.9, "less", "less"), (3.0, "less", "less"), (3.1, None, "less or more"),
     (4.0, None, "less or more"), (4.1, "more", "more")],
)  # fmt: skip
def test_a_missing_item_leaves_open_what_its_range_can_change(pain: float, group: str | None, possible: str) -> None:
    # Fatigue adds 0 to 1. At 3.0 the most it adds makes both equal, and of equals the first counts; at 4.0 the least.
    row = by_hand(pain=pain, fatigue=None)
    assert (row["nsst"] if isinstance(row["nsst"], str) else None) == group
    assert row["nsst_possible"] == possible
    assert row["nsst_reason"] == "missing: fatigue"
    assert np.isnan(row["nsst_probability"]) and np.isnan(row["nsst_p_more"])
    assert row["nsst_p_more_min"] == pytest.approx(1 / (1 + np.exp(4 - pain)), abs=1e-15)
    assert row["nsst_p_more_max"] == pytest.approx(1 / (1 + np.exp(3 - pain)), abs=1e-15)
    assert np.isnan(row["nsst_probability_min"]) == (group is None)


def test_nothing_known_is_no_group() -> None:
    row = by_hand(pain=None, fatigue=None)
    assert row["nsst"] is None and row["nsst_at_means"] is None and row["nsst_possible"] == "less or more"
    assert row["nsst_reason"] == "missing: pain, fatigue"
    assert 0 <= row["nsst_p_less_min"] < 0.5 < row["nsst_p_less_max"] <= 1


def completions(frame: pd.DataFrame, ends: dict[str, tuple[float, float]]) -> pd.DataFrame:
    """Every row with its missing items at every combination of their ends; `of` is the row it completes."""
    full = []
    for row in frame[list(ends)].itertuples():
        values = row._asdict()
        at = values.pop("Index")
        open_ = [name for name in ends if np.isnan(values[name])]
        for corner in itertools.product(*[ends[name] for name in open_]):
            full.append({**values, **dict(zip(open_, corner, strict=True)), "sample_id": str(len(full)), "of": at})
    return pd.DataFrame(full)


def test_missing_numbers_against_every_corner(symptom_model: dict[str, Any]) -> None:
    """Scores are linear: what is possible is decided at the ends of the missing items' ranges."""
    _, frame = symptoms(80, seed=5, missing=0.15)
    found = score(frame, "nsst", model=symptom_model)
    full = completions(frame, dict(zip(SYMPTOMS, [(0, 10)] * 3 + [(0, 21)] * 2, strict=True)))
    completed = score(full, "nsst", model=symptom_model)
    n_named = 0
    for i, own in completed.groupby(full["of"].to_numpy()):
        row = found.loc[i]
        groups = set(own["nsst"])
        assert groups <= set(row["nsst_possible"].split(" or "))
        if isinstance(row["nsst"], str):
            assert groups == {row["nsst"]}
            n_named += row["nsst_known"] < 5
        for group in SYMPTOM_GROUPS:
            p = own[f"nsst_p_{group}"]
            assert row[f"nsst_p_{group}_min"] <= p.min() + 1e-12 and p.max() - 1e-12 <= row[f"nsst_p_{group}_max"]
    assert n_named > 3


def test_missing_categories_against_every_completion() -> None:
    model = fit_integrated(everything(300)[1], ["articular", "pulmonary", "anti_ssa", "dryness", "pain"])
    ends = {"articular": (0, 1), "pulmonary": (0, 1), "anti_ssa": (0, 1), "dryness": (0, 7), "pain": (0, 7)}
    assert set(ends) == {variable["name"] for variable in model["variables"]}
    _, frame = everything(60, seed=6, missing=0.4)
    frame = frame[frame[list(ends)].notna().any(axis=1)].reset_index(drop=True)
    found = score(frame, "integrated", model=model)
    full = completions(frame, ends)
    completed = score(full, "integrated", model=model)
    counts = {True: 0, False: 0}
    for i, own in completed.groupby(full["of"].to_numpy()):
        row, groups = found.loc[i], set(own["integrated"])
        assert ({row["integrated"]} == groups) if len(groups) == 1 else row["integrated"] is None
        assert groups <= set(row["integrated_possible"].split(" or "))
        counts[len(groups) == 1] += row["integrated_known"] < 5
    assert min(counts.values()) > 3


# -- finding groups again ----------------------------------------------------------------------------------------------


def test_known_symptom_groups_come_back_under_their_names(symptom_model: dict[str, Any]) -> None:
    truth, frame = symptoms(1000, seed=9)
    found = score(frame, "nsst", model=symptom_model)
    assert symptom_model["groups"] == SYMPTOM_GROUPS and symptom_model["label"] == "re-derived"
    assert "re-derived on 400 persons of a simulated cohort" in symptom_model["source"]
    assert adjusted_rand_score(truth, found["nsst"]) > 0.9
    assert (found["nsst"] == truth).mean() > 0.95
    assert symptom_model["fit"]["agreement_held_out"] > 0.95
    assert (found["nsst_label"] == "re-derived").all()


def test_known_integrated_groups_come_back_under_their_names(integrated_model: dict[str, Any]) -> None:
    truth, frame = everything(1000, seed=9)
    found = score(frame, "integrated", model=integrated_model)
    assert integrated_model["groups"] == INTEGRATED_GROUPS
    assert adjusted_rand_score(truth, found["integrated"]) > 0.75
    assert (found["integrated"] == truth).mean() > 0.9


def test_groups_of_two_halves_are_alike_where_there_are_groups(symptom_model: dict[str, Any]) -> None:
    assert symptom_model["fit"]["split_half"] > 0.9 and symptom_model["fit"]["warnings"] == []
    rng = np.random.default_rng(1)
    burden = rng.normal(size=(200, 1))
    noise = pd.DataFrame(np.clip(5 + 1.5 * (burden + rng.normal(size=(200, 5))), 0, 10), columns=SYMPTOMS)
    model = fit_nsst(noise.assign(sample_id=[str(i) for i in range(200)]))
    assert model["fit"]["split_half"] < 0.45
    assert "people may lie on a continuum" in model["fit"]["warnings"][0]
    assert by_hand(pain=1)["nsst_label"] == "coefficients from a file"
    assert (
        score(noise.assign(sample_id=noise.index.astype(str)), "nsst", model=model)["nsst_label"]
        .eq(model["label"])
        .all()
    )
    assert model["label"] == "re-derived, halves disagree"


def test_large_trees_are_those_of_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(3).normal(size=(80, 3))
    own = ward_groups(points, 5)
    monkeypatch.setattr(group_fit, "MOST_SQUARE", 10)
    np.testing.assert_array_equal(ward_groups(points, 5), own)
    assert adjusted_rand_score(AgglomerativeClustering(5).fit_predict(points), own) == 1.0


def test_noise_is_named_by_number() -> None:
    centres = pd.DataFrame({"pain": [0.5, 0.6], "dryness": [0.5, 0.6]})
    rules = [
        {"group": "low", "pick": "lowest", "of": {"pain": 1, "dryness": 1}, "must_be": "below"},
        {"group": "high", "pick": "highest", "of": {"pain": 1, "dryness": 1}, "must_be": "above"},
        {"group": "dry", "pick": "highest", "of": {"dryness": 1, "pain": -1}, "must_be": "above"},
        {"group": "other", "pick": "highest", "of": {"fatigue": 1}, "must_be": "above"},
    ]
    named = name_groups(centres, [3, 9], rules)
    assert named.names == ("group 1", "high")
    assert named.how[1]["value"] == pytest.approx(0.6) and not named.how[0]["named"]


def test_the_model_is_a_ridge_logistic_regression_of_wards_groups() -> None:
    rng = np.random.default_rng(2)
    points = rng.normal(size=(90, 3)) + np.repeat(np.eye(3) * 3, 30, axis=0)
    ids = [str(i) for i in range(90)]
    fitted = fit_groups(points, ids, 3, ridge=1.0, folds=5)
    np.testing.assert_array_equal(fitted.groups, ward_groups(points, 3))
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(points, fitted.groups)
    np.testing.assert_allclose(fitted.coefficients[:-1].T, theirs.coef_, atol=1e-4)


def test_one_visit_of_each_person_is_fitted_on() -> None:
    _, frame = symptoms(200)
    once = frame.assign(person_id=frame["sample_id"], visit=1)
    later = symptoms(200, seed=8)[1].assign(person_id=frame["sample_id"], visit=2)
    later["sample_id"] = later["sample_id"] + "b"
    both = pd.concat([later, once]).sample(frac=1, random_state=1)
    assert fit_nsst(both) == fit_nsst(once)
    chosen = fit_nsst(both, baseline="visit == 2")
    assert chosen["items"] == fit_nsst(later)["items"] and chosen["fit"]["baseline"] == "visit == 2"


def test_persons_with_missing_symptoms_are_left_out_and_counted() -> None:
    _, frame = symptoms(200)
    holed = frame.copy()
    holed.loc[:19, "fatigue"] = np.nan
    model = fit_nsst(holed)
    assert model["fit"]["persons_incomplete"] == 20
    assert model["items"] == fit_nsst(frame.iloc[20:])["items"]


def test_of_very_many_persons_some_are_drawn_by_id() -> None:
    _, frame = symptoms(300)
    few = {"nsst": {"fit": {"most_persons": {"value": 120}}}}
    model = fit_nsst(frame, definitions=few)
    assert model["fit"]["persons"] == 120 and model["fit"]["persons_not_drawn"] == 180
    assert fit_nsst(frame.iloc[::-1], definitions=few) == model


def test_rare_categories_are_passive() -> None:
    _, frame = everything(200)
    frame["renal"] = 0.0
    frame.loc[:3, "renal"] = 1.0
    model = fit_integrated(frame)
    assert "renal: yes" in model["fit"]["passive"]
    assert "renal" not in [one["name"] for one in model["variables"]]


def test_columns_of_the_users_own_are_categories() -> None:
    truth, frame = everything(300)
    frame["stage"] = np.where(truth == "HSA-like", "late", "early")
    frame["site"] = np.where(np.arange(300) % 3 == 0, 1.0, 2.0)
    frame.loc[5, "site"] = np.nan
    model = fit_integrated(frame, ["articular", "stage", "site", "pain", "anti_ssa"])
    by_name = {one["name"]: [c["name"] for c in one["categories"]] for one in model["variables"]}
    assert by_name["stage"] == ["early", "late"] and by_name["site"] == ["1", "2"]
    assert fit_integrated(frame, "articular, stage,site,pain,anti_ssa") == model
    found = score(frame, "integrated", model=model)
    assert found["integrated_known"].min() == 4 and found["integrated_reason"].iloc[5] == "missing: site"
    frame.loc[7, "stage"] = "middle"
    with pytest.raises(DataError, match=r"'00007'.*'stage': 'middle' was not there.*early, late"):
        score(frame, "integrated", model=model)


def test_either_eye_counts_and_an_unknown_eye_is_not_normal() -> None:
    _, frame = everything(200)
    rng = np.random.default_rng(3)
    frame["schirmer"] = np.nan
    frame["schirmer_right"] = rng.choice([3.0, 12.0], 200)
    frame["schirmer_left"] = rng.choice([3.0, 12.0], 200)
    columns = ["low_tears", "pain", "articular"]
    model = fit_integrated(frame, columns)
    eyes = [(12, 12), (12, None), (3, None), (5, 12), (6, 12)]
    rows = [
        {"sample_id": str(i), "schirmer_right": r, "schirmer_left": le, "pain": 1, "articular": 0}
        for i, (r, le) in enumerate(eyes)
    ]
    found = score(pd.DataFrame(rows), "integrated", model=model)
    assert found["integrated_known"].tolist() == [3, 2, 3, 3, 3]
    first, _, low, at_cut, above = found["integrated_axis1"]
    assert low == at_cut != first == above


# -- files and refusals ------------------------------------------------------------------------------------------------


def test_a_model_comes_back_from_its_file(symptom_model: dict[str, Any], tmp_path: Path) -> None:
    write_model(symptom_model, tmp_path / "model.json")
    assert read_model(tmp_path / "model.json", "nsst").model_dump() == symptom_model
    _, frame = symptoms(20, seed=3)
    pd.testing.assert_frame_equal(
        score(frame, "nsst", model=tmp_path / "model.json"), score(frame, "nsst", model=symptom_model)
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"groups": ["one"]}, "groups"),
        ({"intercepts": [0.0]}, "intercepts: 1 numbers for 2 groups"),
        ({"groups": ["less", "less"]}, "two groups have one name"),
        ({"items": []}, "items"),
        ({"colour": "red"}, "colour"),
        ({"source": ""}, "source"),
        ({"version": 9}, "version"),
        ({"intercepts": [0.0, float("nan")]}, "intercepts.1"),
        ({"measure": "integrated"}, "one of measure 'integrated'"),
        ({"items": [{"name": "pain", "low": 5, "high": 5, "slopes": [0, 1]}]}, "low 5 is not below high 5"),
        ({"items": [{"name": "pian", "low": 0, "high": 5, "slopes": [0, 1]}]}, "'pian'.*did you mean 'pain'"),
    ],
)
def test_a_model_that_is_none_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        score(one(pain=1), "nsst", model={**BY_HAND, **change})


def test_files_that_hold_no_model_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text(json.dumps(BY_HAND)[:50])
    (tmp_path / "list.json").write_text("[1]")
    for name, said in (("none.json", "can't be read"), ("cut.json", "damaged"), ("list.json", "holds no model")):
        with pytest.raises(SpecError, match=said):
            score(one(pain=1), "nsst", model=tmp_path / name)


def test_groups_are_not_found_without_a_model_or_people(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="--fit FILE"):
        score(one(pain=1), "nsst")
    with pytest.raises(SpecError, match="--fit FILE"):
        score(one(pain=1), "integrated")
    with pytest.raises(DataError, match=r"20 persons .* of 20 rows"):
        fit_nsst(symptoms(20)[1])
    _, frame = symptoms(100)
    with pytest.raises(DataError, match="fatigue is the same in all 100 persons"):
        fit_nsst(frame.assign(fatigue=3))
    with pytest.raises(SpecError, match=r"'articullar'.*did you mean 'articular'"):
        fit_integrated(everything(100)[1], ["articullar", "pain"])
    with pytest.raises(SpecError, match="'sample_id' has 100 different values"):
        fit_integrated(everything(100)[1], ["sample_id", "pain"])
    with pytest.raises(SpecError, match="two variables at least"):
        fit_integrated(everything(100)[1][["sample_id", "pain"]])
