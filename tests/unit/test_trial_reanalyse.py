"""A finished trial by stratum: known truth, what can't be estimated, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.clinical.trials.reanalyse import Reanalysis, reanalyse
from sjd_dask.errors import DataError, SpecError


def trial(n: int, effect: dict[str, float], seed: int, *, binary: bool = False) -> pd.DataFrame:
    """A trial whose effect by class is known; half of each class in each arm."""
    rng = np.random.default_rng(seed)
    group = np.repeat(list(effect), n // len(effect))
    arm = np.tile(["active", "placebo"], len(group) // 2)
    baseline = rng.normal(10, 3, len(group))
    drop = np.array([effect[one] for one in group]) * (arm == "active")
    if binary:
        outcome = (rng.random(len(group)) < 1 / (1 + np.exp(0.4 - drop - 0.1 * (baseline - 10)))).astype(float)
    else:
        outcome = -2 - 0.3 * (baseline - 10) + drop + rng.normal(0, np.where(group == "C1", 2, 4))
    ids = [f"0{i:04d}" for i in range(len(group))]
    return pd.DataFrame({"person_id": ids, "arm": arm, "class_": group, "baseline": baseline, "y": outcome})


def run(table: pd.DataFrame, **options: Any) -> Reanalysis:
    return reanalyse(table, **{"endpoint": "y", "arm": "arm", "control": "placebo", "by": ["class_"], **options})


def test_the_truth_is_found() -> None:
    truth = {"C1": 0.0, "C2": -1.0, "C3": -4.0}
    found = run(trial(3000, truth, 1), baseline="baseline")
    effects = found.effects.set_index("level")
    for level, value in truth.items():
        row = effects.loc[level]
        assert abs(row["effect"] - value) < 4 * row["standard_error"] and row["standard_error"] < 0.3
    assert effects.loc["all", "effect"] == pytest.approx(-5 / 3, abs=0.4)
    assert found.interactions["p_value"].iloc[0] < 1e-10
    binary = run(trial(3000, {"C1": 0.0, "C3": 1.2}, 2, binary=True), baseline="baseline", kind="binary")
    effects = binary.effects.set_index("level")
    assert effects.loc["C3", "odds_ratio"] == pytest.approx(np.exp(1.2), rel=0.4)
    assert effects.loc["C1", "odds_ratio_low"] < 1 < effects.loc["C1", "odds_ratio_high"]
    row = effects.loc["C3"]
    assert row["risk_difference"] == pytest.approx(row["mean_arm"] - row["mean_control"])
    assert row["risk_difference_low"] < row["risk_difference"] < row["risk_difference_high"]


def test_the_interaction_test_holds_its_level_under_unequal_variances() -> None:
    """40 trials without any difference of effects; 10 of them below 0.05 would be met once in 40,000 times."""
    same = {"C1": -1.0, "C2": -1.0, "C3": -1.0}
    p = [run(trial(90, same, seed)).interactions["p_value"].iloc[0] for seed in range(40)]
    assert 1 <= np.sum(np.array(p) < 0.05) < 10


def test_persons_may_stand_in_any_order() -> None:
    table = trial(120, {"C1": 0.0, "C3": -3.0}, 4)
    one, other = run(table, baseline="baseline"), run(table.sample(frac=1, random_state=1), baseline="baseline")
    numbers = one.effects.columns[4:-1]
    np.testing.assert_allclose(one.effects[numbers].astype(float), other.effects[numbers].astype(float), rtol=1e-9)


def test_what_is_missing_is_counted_and_never_no_response() -> None:
    table = trial(200, {"C1": 0.0, "C3": 1.0}, 5, binary=True)
    table.loc[[0, 7, 150], "y"] = np.nan
    table.loc[[0, 33], "baseline"] = np.nan
    found = run(table, kind="binary", baseline="baseline")
    assert found.counts["randomised"].sum() == 200 and found.counts["analysed"].sum() == 196
    assert found.counts["without_endpoint"].sum() == 3 and found.counts["without_baseline"].sum() == 2
    assert "4 of 200 persons are left out" in found.notes[0]
    counted = run(table, kind="binary", missing="non_responder")
    assert counted.counts["analysed"].sum() == 200 and "3 persons without y" in counted.notes[0]
    everyone = counted.effects.set_index("level").loc["all"]
    assert everyone["n_arm"] + everyone["n_control"] == 200


def test_a_person_without_a_stratum_is_shown_and_not_compared() -> None:
    table = trial(120, {"C1": 0.0, "C3": -3.0}, 6)
    table.loc[:9, "class_"] = None
    found = run(table)
    assert found.effects["level"].tolist() == ["all", "C1", "C3", "unknown"]
    test = found.interactions.iloc[0]
    assert (test["left_out"], test["df"]) == ("unknown", 1)
    without = run(table[table["class_"].notna()]).interactions.iloc[0]
    assert without["p_value"] == pytest.approx(test["p_value"], rel=1e-12)


def test_a_stratum_that_can_t_be_estimated_says_why() -> None:
    table = trial(120, {"C1": 0.0, "C3": 1.0}, 7, binary=True)
    table.loc[(table["class_"] == "C3") & (table["arm"] == "placebo"), "y"] = 0.0
    found = run(table, kind="binary")
    row = found.effects.set_index("level").loc["C3"]
    assert np.isnan(row["effect"]) and "same outcome" in row["reason"] and "placebo" in row["reason"]
    assert np.isfinite(row["risk_difference"])
    assert found.interactions["reason"].iloc[0] == "fewer than two strata can be compared"
    assert np.isfinite(found.effects.set_index("level").loc["all", "effect"])
    few = pd.concat([table, table.iloc[:1].assign(class_="C9", person_id="new")])
    row = run(few).effects.set_index("level").loc["C9"]
    assert np.isnan(row["effect"]) and "fewer than 2 persons" in row["reason"]


def test_an_outcome_that_the_baseline_tells_apart_has_no_odds_ratio() -> None:
    table = trial(80, {"C1": 0.0, "C3": 0.0}, 8)
    table["y"] = (table["baseline"] > 10).astype(float)
    found = run(table, kind="binary", baseline="baseline")
    assert found.effects["effect"].isna().all() and found.effects["reason"].str.contains("tell apart").all()
    assert "can't be fitted" in found.interactions["reason"].iloc[0]


def test_several_arms_and_columns() -> None:
    table = trial(180, {"C1": 0.0, "C3": -3.0}, 9)
    table["arm"] = np.tile(["high", "low", "placebo"], 60)
    table["site"] = np.tile(["A", "B"], 90)
    found = run(table, by=["class_", "site"])
    assert found.effects.groupby("by").size().to_dict() == {"class_": 6, "site": 6}
    assert found.interactions["df"].tolist() == [2, 2]
    p = found.interactions["p_value"].to_numpy()
    assert found.interactions["p_holm"].to_numpy() == pytest.approx(
        np.where(p == p.min(), np.minimum(2 * p, 1), np.maximum(p, 2 * p.min()))
    )


@pytest.mark.parametrize(
    ("change", "options", "error", "said"),
    [
        ({}, {"endpoint": "yy"}, SpecError, "did you mean 'y'"),
        ({}, {"by": ["klass"]}, SpecError, "names the column 'klass'"),
        ({}, {"control": "Placebo"}, SpecError, "did you mean 'placebo'"),
        ({}, {"missing": "non_responder"}, SpecError, "belongs to `kind: binary`"),
        ({}, {"kind": "binary"}, DataError, "only 0 and 1"),
        ({"arm": None}, {}, DataError, "person_id '00003': no arm"),
        ({"y": "many"}, {}, DataError, "person_id '00003': 'y' is 'many'"),
        ({"y": np.inf}, {}, DataError, "no number"),
        ({"y": "yes"}, {}, DataError, "yes and no as 1 and 0"),
        ({"person_id": "00004"}, {}, DataError, "person_id '00004' has more than one row"),
        ({"arm": "Active "}, {}, DataError, "'Active ' and 'active', which would be two arms"),
        ({}, {"by": ["class_", "class_"]}, SpecError, "both name the column 'class_'"),
        ({}, {"baseline": "y"}, SpecError, "`reanalysis: endpoint` both name the column 'y'"),
        ({}, {"by": ["arm"]}, SpecError, "both name the column 'arm'"),
        ({}, {"sequence": ["placebo"]}, SpecError, "name each arm but the control once"),
    ],
)
def test_what_is_refused(change: dict[str, Any], options: dict[str, Any], error: type[Exception], said: str) -> None:
    table = trial(40, {"C1": 0.0, "C3": 1.0}, 10).astype({"y": object, "arm": object})
    for column, value in change.items():
        table.loc[3, column] = value
    with pytest.raises(error, match=said):
        run(table, **options)


def test_the_control_is_found_where_one_arm_is_called_so() -> None:
    table = trial(60, {"C1": 0.0, "C3": -3.0}, 12)
    assert run(table, control=None).control == "placebo"
    pd.testing.assert_frame_equal(run(table, control=None).effects, run(table).effects)
    with pytest.raises(SpecError, match="not exactly one"):
        run(table.replace({"arm": {"placebo": "usual care"}}), control=None)


def test_one_arm_is_no_trial() -> None:
    with pytest.raises(DataError, match="one arm only"):
        run(trial(40, {"C1": 0.0, "C3": 1.0}, 11).assign(arm="placebo"))


@pytest.mark.parametrize(("column", "value", "said"), [("y", np.nan, "nobody of the trial's 40 persons has y and"),
                                                       ("baseline", np.nan, "has y and baseline"),
                                                       ("baseline", 7.0, "is 7 for everyone")])  # fmt: skip
def test_a_column_that_says_nothing_is_refused(column: str, value: float, said: str) -> None:
    with pytest.raises(DataError, match=said):
        run(trial(40, {"C1": 0.0, "C3": 1.0}, 11).assign(**{column: value}), baseline="baseline")


def test_equal_outcomes_are_no_certainty() -> None:
    """Rounding of a model of a constant gave p = 0."""
    table = trial(80, {"C1": 0.0, "C3": 0.0}, 13)
    found = run(table.assign(y=1.0), baseline="baseline")
    assert found.effects["p_value"].isna().all() and found.effects["reason"].str.contains("do not differ").all()
    assert np.isnan(found.interactions["p_value"].iloc[0]) and found.interactions["reason"].iloc[0]
    table.loc[table["class_"] == "C3", "y"] = 2.0
    p = run(table).effects.set_index("level")["p_value"]
    assert np.isnan(p["C3"]) and p["C1"] > 0


def test_the_undetermined_are_no_stratum_to_compare() -> None:
    table = trial(180, {"C1": 0.0, "C2": -1.0, "C3": -3.0}, 6).replace({"class_": {"C2": "undetermined"}})
    found = run(table)
    test = found.interactions.iloc[0]
    assert (test["left_out"], test["df"]) == ("undetermined", 1) and "undetermined" in set(found.effects["level"])
    without = run(table[table["class_"] != "undetermined"]).interactions.iloc[0]
    assert without["p_value"] == pytest.approx(test["p_value"], rel=1e-12)


def doses(seed: int = 9) -> pd.DataFrame:
    table = trial(180, {"C1": 0.0, "C3": -3.0}, seed)
    return table.assign(arm=np.tile(["high", "low", "placebo"], 60))


def test_p_over_the_arms_by_holm_or_in_sequence() -> None:
    found = run(doses(), baseline="baseline")
    assert found.multiplicity == "holm" and any("p_arms of 2 arms against placebo: Holm" in one for one in found.notes)
    ordered = run(doses(), baseline="baseline", sequence=["low", "high"])
    assert ordered.multiplicity == "fixed_sequence" and ordered.effects["arm"].tolist()[:2] == ["low", "high"]
    for (_, one), (_, other) in zip(found.effects.groupby("level"), ordered.effects.groupby("level"), strict=True):
        p = one["p_value"].to_numpy()
        small, large = min(p), max(p)
        holm = np.minimum(np.where(p == small, 2 * small, max(2 * small, large)), 1)
        assert one["p_arms"].to_numpy() == pytest.approx(holm)
        low, high = other["p_value"]
        assert (low, high) == pytest.approx((p[1], p[0]))
        assert other["p_arms"].tolist() == pytest.approx([low, max(low, high)])
    two = run(trial(60, {"C1": 0.0, "C3": -3.0}, 12))
    assert two.multiplicity == "" and "p_arms" not in two.effects


def test_an_arm_that_a_stratum_lacks_takes_none_of_the_others_away() -> None:
    """As the model of the persons that can be compared, by statsmodels' own formula."""
    import statsmodels.formula.api as smf

    table = doses()
    keep = ~((table["class_"] == "C1") & (table["arm"] == "low")) | (
        table.index == table.index[table["arm"] == "low"][0]
    )
    table = table[keep].reset_index(drop=True)
    found = run(table, baseline="baseline")
    effects = found.effects.set_index(["level", "arm"])
    assert "fewer than 2 persons of arm low" in effects.loc[("C1", "low"), "reason"]
    part = table[~((table["class_"] == "C1") & (table["arm"] == "low"))]
    part = part.assign(**{f"{c}{a}": ((part["class_"] == c) & (part["arm"] == a)) * 1.0
                          for c, a in (("C1", "high"), ("C3", "high"), ("C3", "low"))})  # fmt: skip
    model = smf.ols("y ~ 0 + class_ + C1high + C3high + C3low + baseline", part).fit(cov_type="HC3", use_t=True)
    for level, arm in (("C1", "high"), ("C3", "high"), ("C3", "low")):
        row = effects.loc[(level, arm)]
        want = [model.params[level + arm], model.bse[level + arm], model.pvalues[level + arm]]
        assert [row["effect"], row["standard_error"], row["p_value"]] == pytest.approx(want, rel=1e-9)
    assert effects.loc[("C1", "high"), "p_arms"] == effects.loc[("C1", "high"), "p_value"]
    test = found.interactions.iloc[0]
    assert (test["df"], test["left_out"]) == (1, "C1 (low)")
    assert test["p_value"] == pytest.approx(float(model.f_test("C3high - C1high = 0").pvalue), rel=1e-9)
    overall = effects.loc["all"]
    assert overall["reason"].eq("").all() and overall.loc["low", "n_arm"] == effects.loc[("C3", "low"), "n_arm"] + 1
