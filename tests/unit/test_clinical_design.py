"""Designs of a trial: sizes and power by formula and by simulated trials."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from sjd_dask.clinical.trials import designs
from sjd_dask.clinical.trials.design_columns import TABLES
from sjd_dask.clinical.trials.designs import design
from sjd_dask.clinical.trials.enrichment import population
from sjd_dask.clinical.trials.outcomes import Outcome
from sjd_dask.clinical.trials.simulate import Sums, analyse, draw, monte_carlo_error
from sjd_dask.errors import SpecError

STRATA = [{"name": "C1", "share": 0.4}, {"name": "C2", "share": 0.35}, {"name": "C3", "share": 0.25}]
CLASSIFIER = {"target": ["C1"], "sensitivity": 0.9, "specificity": 0.9, "not_called": 0.1}
CHANGE = {"name": "change", "kind": "continuous", "sd": 6, "effect": 6}
SHARE = {"name": "share", "kind": "binary", "control": 0.3, "treatment": 0.6}


def spec(*endpoints, **more):
    made = {"strata": STRATA, "classifier": CLASSIFIER, "endpoints": list(endpoints) or [CHANGE], "simulate": False}
    return copy.deepcopy(made | more)


def sizes(found):
    return found.tables["sizes"].set_index(["design", "endpoint", "analysis"])


# ---- sizes ----


def test_one_stratum_is_the_plain_arithmetic():
    for endpoint, expected in (
        ({"name": "e", "kind": "continuous", "sd": 6, "effect": 3, "test": "normal"}, 63),
        ({"name": "e", "kind": "continuous", "sd": 6, "effect": 3}, 64),
        ({"name": "e", "kind": "continuous", "sd": 5, "effect": 1.2, "test": "normal"}, 273),
        ({"name": "e", "kind": "continuous", "sd": 5, "effect": 1.2}, 274),
        ({"name": "e", "kind": "binary", "control": 0.3, "treatment": 0.5}, 91),
        ({"name": "e", "kind": "binary", "control": 0.3, "treatment": 0.5, "method": "pooled"}, 93),
    ):
        found = design({"endpoints": [endpoint], "simulate": False})
        row = found.tables["sizes"].iloc[0]
        assert (row["n_treatment"], row["n_control"], row["n_total"]) == (expected, expected, 2 * expected)
        assert row["n_enrolled"] == row["n_screened"] == 2 * expected
        methods = found.tables["methods"].set_index("method")["n_control"]
        assert expected in methods.to_numpy()


def test_enrichment_by_the_rule_and_with_the_mixture():
    test = {**CHANGE, "effect": 3, "test": "normal"}
    found = sizes(design(spec(test)))["n_total_rule"]
    pure = 62.79103787
    who = population({"C1": 0.4, "C2": 0.35, "C3": 0.25}, ["C1"], sensitivity=0.9, specificity=0.9, not_called=0.1)
    assert found["pure", "change", "all"] == 126
    assert found["all_comers", "change", "all"] == np.ceil(126 / 0.16)
    assert found["enriched", "change", "target"] == np.ceil(126 / who.ppv**2)
    assert found["stratified", "change", "target"] == np.ceil(126 / who.ppv**2 / who.called)
    row = design(spec(test)).tables["enrichment"].iloc[0]
    assert row.tolist()[4:] == pytest.approx([126, 126 / 0.16, 126 / who.ppv**2, 126 / who.ppv**2 / who.called])
    assert (row["prevalence"], row["called"], row["ppv"]) == (0.4, who.called, who.ppv)
    # The mixture: delta^2 p (1 - p) more variance in the treatment arm.
    n = pure / 0.16 * (72 + 9 * 0.24) / 72
    assert sizes(design(spec(test)))["n_total"]["all_comers", "change", "all"] == 2 * np.ceil(n)


def test_screened_by_called_share_and_other_failures():
    found = sizes(design(spec(dropout=0.2, screen_failure=0.3)))
    row = found.loc["enriched", "change", "target"]
    called = 0.9 * (0.4 * 0.9 + 0.6 * 0.1)
    assert row["n_enrolled"] == 2 * np.ceil(row["n_control"] / 0.8)
    assert row["n_screened"] == np.ceil(row["n_enrolled"] / called / 0.7)
    everyone = found.loc["all_comers", "change", "all"]
    assert everyone["n_screened"] == np.ceil(everyone["n_enrolled"] / 0.7)


def test_a_covariate_saves_what_it_explains():
    plain = sizes(design({"endpoints": [{**CHANGE, "effect": 1}], "simulate": False}))["n_total"].iloc[0]
    saved = design(
        {"endpoints": [{**CHANGE, "effect": 1, "ancova": True, "baseline_correlation": 0.5}], "simulate": False}
    )
    assert sizes(saved)["n_total"].iloc[0] == pytest.approx(plain * 0.75, rel=0.01)


def test_prognosis_alone_is_removed_by_stratification():
    """Classes that differ in both arms widen an unstratified comparison, and not one within perfect calls."""
    perfect = {"target": ["C1"], "confusion": {name: {name: 1.0} for name in ("C1", "C2", "C3")}}
    same = {**CHANGE, "test": "normal", "effect": {"C1": 3, "C2": 3, "C3": 3}}
    apart = {**same, "control": {"C1": 0, "C2": 8, "C3": -6}}
    one, two = (sizes(design(spec(end, classifier=perfect)))["n_total"] for end in (same, apart))
    assert one["stratified", "change", "all"] == two["stratified", "change", "all"] == 126
    mean = 0.35 * 8 - 0.25 * 6
    between = 0.4 * mean**2 + 0.35 * (8 - mean) ** 2 + 0.25 * (6 + mean) ** 2
    assert two["all_comers", "change", "all"] == 2 * np.ceil(62.79103787 * (36 + between) / 36)


def test_responders_by_a_drop_come_from_the_placebo_model():
    drop = {"name": "essdai", "kind": "continuous", "sd": 6, "effect": 3, "placebo": "essdai", "week": 24,
            "baseline": {"mean": 10.1, "sd": 4}}  # fmt: skip
    found = design(spec(drop, {"name": "three", "kind": "binary", "drop": {"endpoint": "essdai", "at_least": 3}}))
    rows = found.tables["strata"].set_index(["design", "endpoint", "stratum"])
    placebo = 4.44 * 24 / 36.2
    assert rows.loc[("enriched", "essdai", "C1"), "control"] == pytest.approx(placebo)
    assert rows.loc[("enriched", "essdai", "C1"), "treatment"] == pytest.approx(placebo + 3)
    assert rows.loc[("enriched", "essdai", "C2"), "treatment"] == pytest.approx(placebo)
    from scipy.stats import norm

    assert rows.loc[("enriched", "three", "C1"), "treatment"] == pytest.approx(norm.sf((3 - placebo - 3) / 6))
    assert set(found.tables["placebo"]["mark"]) == {"S"}
    # A cut throws information away.
    n = sizes(found)["n_total"]
    assert n["pure", "three", "all"] > 1.3 * n["pure", "essdai", "all"]


def test_persons_lost_as_non_responders_weaken_the_effect():
    """Shares of 0.3 and 0.6 with a fifth lost are 0.24 and 0.48, of everyone enrolled."""
    found = design({"endpoints": [{**SHARE, "missing": "non_responder"}], "dropout": 0.2, "simulate": False})
    plain = design({"endpoints": [{**SHARE, "control": 0.24, "treatment": 0.48}], "simulate": False})
    row = found.tables["sizes"].iloc[0]
    assert row["n_enrolled"] == row["n_total"] == plain.tables["sizes"]["n_total"].iloc[0]


def test_an_endpoint_without_effect_has_no_size_and_says_why():
    found = sizes(design(spec(CHANGE, {**CHANGE, "name": "none", "effect": 0})))
    row = found.loc["all_comers", "none", "all"]
    assert pd.isna(row["n_total"]) and row["reason"].startswith("no effect")
    with pytest.raises(SpecError, match="no effect in the design all_comers"):
        design(spec({**CHANGE, "effect": 0}))
    assert design(spec({**CHANGE, "effect": 0}, n=100)).tables["power"]["power_formula"].iloc[0] == pytest.approx(0.05)


def test_the_rule_is_silent_where_it_does_not_hold():
    found = sizes(design(spec({**CHANGE, "effect": {"C1": 6, "C2": 1, "C3": 0}})))
    assert found["n_total_rule"].isna().all()
    row = design(spec({**CHANGE, "effect": {"C1": 6, "C2": 1, "C3": 0}})).tables["enrichment"].iloc[0]
    assert row["n_pure"] > 0 and np.isnan(row["n_all"])
    assert found["n_total"].notna().all()


def test_tables_have_the_described_columns():
    drop = {**CHANGE, "placebo": "essdai", "week": 24, "baseline": {"mean": 10.1, "sd": 4}}
    found = design(spec(drop, SHARE, n=60, simulate={"trials": 200}))
    assert set(found.tables) == set(TABLES) - {"arms"}
    for name, table in found.tables.items():
        expected = list(TABLES[name])
        if name == "calls":
            expected = [*expected[:-1], "share_C1", "share_C2", "share_C3"]
        assert list(table.columns) == expected, name


# ---- simulated trials ----


def test_simulated_power_is_the_formulas_within_its_error():
    found = design(spec({**CHANGE, "ancova": True, "baseline_correlation": 0.5}, {**SHARE, "method": "pooled"},
                        simulate={"trials": 10_000, "seed": 11}, correlation=0.3))  # fmt: skip
    power = found.tables["power"]
    assert (power["trials"] == 10_000).all()
    assert (power["power_error"] <= 0.005).all()
    smooth = power[power["endpoint"] == "change"]
    assert len(smooth) == 5
    assert (np.abs(smooth["power_simulated"] - smooth["power_formula"]) < 3.5 * smooth["power_error"]).all()
    # The level is held, under stratification too: common effect, those called target, interaction.
    assert (np.abs(smooth["type_one_error"] - 0.05) < 3.5 * smooth["type_one_error_error"]).all()
    exact = power[power["power_exact"].notna()]
    assert set(exact["analysis"]) == {"all", "target"}
    assert (np.abs(exact["power_simulated"] - exact["power_exact"]) < 3.5 * exact["power_error"]).all()
    assert (power["type_one_error"] < 0.05 + 4.5 * power["type_one_error_error"]).all()


def test_a_family_keeps_its_level_whatever_is_true():
    hypotheses = [{"endpoint": "change", "population": "target"}, {"endpoint": "change"}, {"endpoint": "share"}]
    drawn = {}
    for method in ("fixed_sequence", "holm", "hochberg", "bonferroni"):
        found = design(spec(CHANGE, {**SHARE, "method": "pooled"}, designs=["stratified"], n=160, correlation=0.5,
                            hierarchy={"method": method, "hypotheses": hypotheses},
                            simulate={"trials": 4_000, "seed": 2}))  # fmt: skip
        wrong = found.tables["familywise"]
        assert wrong["without_effect"].tolist() == ["change, share", "change", "share"]
        assert (wrong["false_rejection"] < 0.05 + 4 * wrong["error"]).all(), method
        drawn[method] = found.tables["hierarchy"]
    fixed = drawn["fixed_sequence"]
    assert (fixed["power_in_hierarchy"] <= fixed["power_by_itself"]).all()
    assert fixed["power_in_hierarchy"].is_monotonic_decreasing
    assert fixed["power_in_hierarchy"].iloc[0] == fixed["power_by_itself"].iloc[0]
    powers = {method: table["power_in_hierarchy"].to_numpy() for method, table in drawn.items()}
    assert (powers["bonferroni"] <= powers["holm"]).all() and (powers["holm"] <= powers["hochberg"]).all()
    assert powers["bonferroni"].mean() < powers["hochberg"].mean()
    # Without a correction the family would not keep it: three tests under the null reject something more often.
    assert drawn["bonferroni"]["alpha_alone"].tolist() == pytest.approx([0.05 / 3] * 3)


def test_trials_hang_on_the_seed_alone():
    asked = spec(CHANGE, n=80, simulate={"trials": 300, "seed": 7})
    one, again, other = (design({**asked, "simulate": {"trials": 300, "seed": s}}).tables["power"] for s in (7, 7, 8))
    pd.testing.assert_frame_equal(one, again)
    assert (one["power_simulated"] != other["power_simulated"]).any()


WHO = population({"C1": 0.4, "C2": 0.6}, ["C1"], sensitivity=0.8, specificity=0.9, not_called=0.2)


def outcome(**more):
    level, treated = np.array([1.0, 2.0]), np.array([4.0, 2.0])
    made = {"name": "e", "kind": "continuous", "control": level, "treatment": treated, "control_known": True,
            "sd": np.array([2.0, 3.0]), "correlation": np.zeros(2), "ancova": False, "test": "t"}  # fmt: skip
    return Outcome(**(made | more))


def drawn(design="stratified", **more):
    asked = {"n": 90, "allocation": (2, 1), "dropout": 0.0, "correlation": np.eye(1), "trials": 50, "seed": 4}
    return draw(WHO, [outcome()], design, **(asked | more))[0]


def test_more_trials_begin_with_the_same_ones():
    few, many = drawn(trials=1_500)[0], drawn(trials=5_000)[0]
    for name in Sums.__annotations__:
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[:1_500])


def test_arms_are_balanced_within_calls():
    sums = drawn(trials=400)[0]
    assert (sums.n.sum(axis=(1, 2)) == 90).all()
    off = np.abs(sums.n[..., 1] - 2 * sums.n[..., 0])
    assert off.max() <= 2  # a last incomplete block of three
    whole = drawn("all_comers", trials=400)[0]
    assert (whole.n.sum(axis=1) == [30, 60]).all()
    assert (np.abs(whole.n[..., 1] - 2 * whole.n[..., 0]) > 2).any()


def test_drawn_persons_have_the_declared_means_and_spread():
    with_effect, without = drawn(trials=4_000)
    joint = WHO.joint
    within = joint / joint.sum(axis=0)
    size, mean = with_effect.n.sum(axis=0), with_effect.y.sum(axis=0) / with_effect.n.sum(axis=0)
    null = without.y.sum(axis=0) / without.n.sum(axis=0)
    expected = np.array([1.0, 2.0]) @ within
    assert size.sum(axis=1) / size.sum() == pytest.approx(joint.sum(axis=0), abs=0.005)
    assert null == pytest.approx(np.column_stack([expected, expected]), abs=0.06)
    assert mean[:, 0] == pytest.approx(null[:, 0])
    assert mean[:, 1] - null[:, 1] == pytest.approx(3 * within[0], abs=0.06)
    square = without.yy.sum(axis=(0, 2)) / without.n.sum(axis=(0, 2))
    assert square == pytest.approx(np.array([1 + 4, 4 + 9]) @ within, rel=0.02)


def test_lost_persons_leave_the_sums_or_count_as_failures():
    assert drawn(dropout=0.3, trials=500)[0].n.sum() / (500 * 90) == pytest.approx(0.7, abs=0.01)
    rate = np.array([0.5, 0.5])
    blank = np.full(2, np.nan)
    one = outcome(kind="binary", control=rate, treatment=rate, sd=blank, test="pooled", non_responder=True)
    sums = draw(WHO, [one], "all_comers", n=90, allocation=(1, 1), dropout=0.3, correlation=np.eye(1), trials=500,
                seed=4)[0][0]  # fmt: skip
    assert sums.n.sum() == 500 * 90
    assert sums.y.sum() / sums.n.sum() == pytest.approx(0.35, abs=0.01)


def test_endpoints_are_correlated_as_said():
    """Two endpoints that share the baseline: total correlation 0.6, of which 0.25 comes by it."""
    from sjd_dask.clinical.trials.design_spec import parse_design
    from sjd_dask.clinical.trials.outcomes import outcomes, residual_correlation

    end = {**CHANGE, "sd": 1, "effect": 0, "control": 0, "ancova": True, "baseline_correlation": 0.5}
    made = parse_design({"endpoints": [end, {**end, "name": "other"}], "correlation": {"change": {"other": 0.6}}})
    found = outcomes(made, ("all",), np.array([True]))
    rest = residual_correlation(made, found)
    assert rest[0, 1] == pytest.approx((0.6 - 0.25) / 0.75)
    one = population({"all": 1.0}, ["all"])
    a, b = (pair[0] for pair in draw(one, found, "all_comers", n=50, allocation=(1, 1), dropout=0, correlation=rest,
                                     trials=4_000, seed=3))  # fmt: skip
    sums = [v.y[:, 0].sum(axis=1) for v in (a, b)]
    assert np.corrcoef(*sums)[0, 1] == pytest.approx(0.6, abs=0.04)
    assert (a.xy.sum() / a.n.sum()) == pytest.approx(0.5, abs=0.02)


def test_too_many_persons_are_not_drawn_and_it_is_said(monkeypatch):
    monkeypatch.setattr(designs, "MOST_PERSONS", 30_000)
    found = design(spec(CHANGE, n=200, simulate={"trials": 200}, designs=["all_comers"]))
    assert found.tables["power"]["power_simulated"].isna().all()
    assert any("was not simulated" in one and "at most 150 trials" in one for one in found.messages)


def test_a_small_trial_by_wald_is_told_of_its_level():
    found = design({"endpoints": [SHARE], "n": 16, "simulate": {"trials": 5_000}})
    assert any("type I error" in one and "method: pooled" in one for one in found.messages)


def test_the_error_of_a_share_of_trials():
    assert monte_carlo_error(0.8, 10_000) == pytest.approx(0.004)
    assert 0 < monte_carlo_error(1.0, 10_000) < 0.0001


# ---- what is said and what is refused ----


def test_assumptions_are_said():
    found = design(spec(CHANGE, SHARE, dropout=0.1))
    text = " ".join(found.messages)
    for words in ("nothing outside C1", "n_total_rule", "independent", "lost by chance", "belong to the target"):
        assert words in text
    named = design(spec({**CHANGE, "effect": {"C1": 6, "C2": 0, "C3": 0}}))
    assert "nothing outside" not in " ".join(named.messages)


def test_defaults_can_be_given_by_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("design: {power: {value: 0.9}}\n")
    found = design({"endpoints": [{**CHANGE, "effect": 3}], "simulate": False}, definitions={"trial_defaults": path})
    assert found.spec.power == 0.9
    assert found.tables["sizes"]["n_control"].iloc[0] == 86


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"alhpa": 0.05}, "unknown key `alhpa`; did you mean `alpha`"),
        ({"endpoints": [{**CHANGE, "efect": 1}]}, "unknown key `endpoints.0.efect`; did you mean `effect`"),
        ({"endpoints": []}, "`endpoints`"),
        ({"endpoints": [CHANGE, CHANGE]}, "two of the endpoints have the same name"),
        ({"endpoints": [{"name": "e", "kind": "continuous", "effect": 1}]}, "`endpoints.0.sd` is required"),
        ({"endpoints": [{**CHANGE, "sd": -1}]}, "sd is -1"),
        ({"endpoints": [{**CHANGE, "effect": {"C1": 3}}]}, "nothing of stratum 'C2'"),
        ({"endpoints": [{**CHANGE, "effect": {"C1": 3, "C2": 1, "C9": 1}}]}, "'C9' is no stratum"),
        ({"endpoints": [{**CHANGE, "placebo": "essdai"}]}, "needs `week` and `baseline"),
        ({"endpoints": [{**CHANGE, "effect": -3, "placebo": "essdai", "week": 24, "baseline": {"mean": 10, "sd": 4}}]},
         "as a number above 0"),
        ({"endpoints": [{**CHANGE, "sd": 1, "placebo": "essdai", "week": 24, "baseline": {"mean": 10, "sd": 4}}]},
         "not less than its sd"),
        ({"endpoints": [{**CHANGE, "ancova": True}]}, "needs `baseline_correlation`"),
        ({"endpoints": [{**SHARE, "control": 1.0}]}, "above 0 and below 1"),
        ({"endpoints": [{"name": "s", "kind": "binary", "control": 0.2}]}, "give both"),
        ({"endpoints": [CHANGE, {"name": "s", "kind": "binary", "drop": {"endpoint": "chnge", "at_least": 3}}]},
         "did you mean 'change'"),
        ({"endpoints": [CHANGE, {"name": "s", "kind": "binary", "drop": {"endpoint": "change", "at_least": 3}}]},
         "give that endpoint `control` or `placebo`"),
        ({"classifier": {"target": ["C1"], "ppv": 0.9}}, "ppv and called belong together"),
        ({"classifier": {"target": ["C1"], "ppv": 0.9, "called": 0.3, "sensitivity": 0.9}}, "give either"),
        ({"classifier": None, "designs": ["enriched"]}, "need a `classifier`"),
        ({"strata": None}, "a classifier calls strata"),
        ({"power": 0.01}, "above the level"),
        ({"alpha": 1e-300}, "can't be computed"),
        ({"arms": {"rule": "dunnet", "active": [{"name": "a"}, {"name": "b"}]}}, "'dunnett'"),
        ({"arms": {"rule": "dunnett", "active": [{"name": "a"}]}}, "at least 2"),
        ({"arms": {"rule": "dunnett", "active": [{"name": "a"}, {"name": "a"}]}}, "two of the arms"),
        ({"arms": {"rule": "dunnett", "active": [{"name": "a"}, {"name": "b"}]}, "n": 90}, "leave it out"),
        ({"arms": {"rule": "dunnett", "active": [{"name": "a"}, {"name": "b", "effect": {"chnge": 1}}]}},
         "did you mean 'change'"),
        ({"endpoints": [SHARE], "arms": {"rule": "dunnett", "active": [{"name": "a"}, {"name": "b", "effect": 9}]}},
         "must be above 0 and below 1"),
        ({"designs": []}, "`designs`.*at least 1"),
        ({"designs": ["enriched", "enriched"]}, "names one twice"),
        ({"endpoints": [{**CHANGE, "effect": float("nan")}]}, "finite"),
        ({"endpoints": [{**CHANGE, "sd": {"C1": float("inf"), "C2": 1, "C3": 1}}]}, "finite"),
        ({"endpoints": [{**CHANGE, "placebo": "essdai", "week": 24, "baseline": {"mean": -1, "sd": 4}}]},
         "a score between 0 and 123"),
        ({"allocation": [1, 0]}, "`allocation.1`"),
        ({"correlation": 1.0, "endpoints": [CHANGE, SHARE]}, "above -1 and below 1"),
        ({"correlation": {"change": {"shre": 0.1}}, "endpoints": [CHANGE, SHARE]}, "did you mean 'share'"),
        ({"correlation": -0.9, "endpoints": [CHANGE, SHARE, {**SHARE, "name": "third"}]}, "can't hold together"),
        ({"hierarchy": {"hypotheses": [{"endpoint": "chang"}]}}, "did you mean 'change'"),
        ({"hierarchy": {"hypotheses": [{"endpoint": "change"}, {"endpoint": "change"}]}}, "stands twice"),
        ({"hierarchy": {"method": "hochberg", "hypotheses": [{"endpoint": "change", "weight": 1}]}}, "weights belong"),
    ],
)  # fmt: skip
def test_specs_that_cannot_be(change, words):
    with pytest.raises(SpecError, match=words):
        design({key: value for key, value in (spec() | change).items() if value is not None})


def test_a_hypothesis_that_nobody_can_test_is_said():
    hierarchy = {"hypotheses": [{"endpoint": "change", "population": "target"}, {"endpoint": "change"}]}
    found = design(spec(designs=["all_comers", "enriched"], hierarchy=hierarchy))
    assert any("isn't tested" in one for one in found.messages)
    table = found.tables["hierarchy"]
    assert table["analysis"].tolist() == ["all", "target"]


def test_the_documented_example_comes_out():
    text = (Path(__file__).parents[2] / "docs" / "trial_design.md").read_text(encoding="utf-8")
    block = text.split("```yaml\n")[1].split("```")[0]
    found = design({**yaml.safe_load(block), "simulate": False}).tables["sizes"]
    found = found[found["endpoint"] == "essdai"]
    lines = [line for line in text.splitlines() if line.startswith("| ") and line.count("|") == 8][1:]
    assert len(lines) == len(found) == 6
    for line, (_, row) in zip(lines, found.iterrows(), strict=True):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        expected = [row["design"], row["analysis"], f"{row['effect']:.3g}"]
        expected += ["" if pd.isna(row[name]) else str(row[name])
                     for name in ("n_total", "n_total_rule", "n_enrolled", "n_screened")]  # fmt: skip
        assert cells == expected


def test_a_trial_that_cannot_be_analysed_finds_nothing():
    """An arm without anyone, or all of one group in one arm: no p-value, and no rejection."""
    zero = np.zeros((1, 3, 2))
    one_arm = Sums(
        *(np.array([[[a, 0.0], [0.0, b], [0.0, 0.0]]]) for a, b in ((4, 4), (8, 4), (20, 9))), zero, zero, zero
    )
    for made, sums in (
        (outcome(), one_arm),
        (outcome(kind="binary", test="unpooled"), Sums(one_arm.n, one_arm.n / 2, zero, zero, zero, zero)),
        (outcome(kind="binary", test="pooled"), Sums(one_arm.n, one_arm.n / 2, zero, zero, zero, zero)),
    ):
        for design_name, analysis in (("stratified", "all"), ("stratified", "target"), ("stratified", "interaction")):
            assert np.isnan(analyse(sums, made, WHO, design_name, analysis).p).all(), (made.test, analysis)
        assert not np.isnan(analyse(sums, made, WHO, "all_comers", "all").p).any()


def test_no_interaction_where_everyone_is_called_target():
    sure = {"target": ["C1", "C2", "C3"], "not_called": 0.1}
    found = design(spec(classifier=sure, n=60, simulate={"trials": 200}))
    assert found.tables["sizes"]["analysis"].tolist() == ["all", "all", "all", "target", "target"]
    assert found.tables["power"]["power_simulated"].notna().all()
    with pytest.raises(SpecError, match="nothing to compare"):
        design(spec(classifier=sure, stratified_for="interaction"))


def test_one_sided_tests_look_one_way():
    found = design(spec({**CHANGE, "effect": -6}, sided=1, n=90, simulate={"trials": 6_000, "seed": 5}))
    power = found.tables["power"]
    assert (np.abs(power["power_simulated"] - power["power_formula"]) < 3.5 * power["power_error"]).all()
    assert (np.abs(power["type_one_error"] - 0.05) < 3.5 * power["type_one_error_error"]).all()


def test_an_enormous_effect_still_needs_someone_in_each_arm():
    sizes = design({"endpoints": [{**CHANGE, "effect": 1e9, "test": "normal"}], "simulate": False}).tables["methods"]
    assert sizes[["n_treatment", "n_control"]].ge(1).all(axis=None)
