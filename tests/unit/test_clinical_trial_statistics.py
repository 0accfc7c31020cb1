"""Sizes, enrichment, placebo and several hypotheses: the arithmetic of trials."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sjd_dask.clinical.definitions import load_definition
from sjd_dask.clinical.trials.enrichment import NOT_CALLED, enrich, population
from sjd_dask.clinical.trials.hierarchy import METHODS, levels, rejections
from sjd_dask.clinical.trials.placebo import placebo_model, placebo_table, responders
from sjd_dask.clinical.trials.sample_size import (
    exact_power_for_proportions,
    n_for_means,
    n_for_proportions,
    power_for_means,
    power_for_proportions,
    rounded,
)
from sjd_dask.errors import SpecError
from sjd_dask.kernels.multiplicity import adjust

EXAMPLES = load_definition("trial_defaults")["worked_examples"]


# ---- sizes of two arms ----


@pytest.mark.parametrize(
    ("effect", "sd", "test", "expected"),
    [(3, 6, "normal", 63), (3, 6, "t", 64), (1.2, 5, "normal", 273), (1.2, 5, "t", 274), (-3, 6, "normal", 63)],
)
def test_means(effect, sd, test, expected):
    found = n_for_means(effect, sd, test=test)
    assert (found.treatment, found.control, found.total) == (expected, expected, 2 * expected)
    assert found.power >= 0.8
    assert power_for_means(effect, sd, expected - 1, expected - 1, test=test) < 0.8


@pytest.mark.parametrize(("method", "expected"), [("unpooled", 91), ("pooled", 93)])
def test_shares(method, expected):
    found = n_for_proportions(0.5, 0.3, method=method)
    assert (found.treatment, found.control) == (expected, expected)
    assert n_for_proportions(0.3, 0.5, method=method).control == expected
    assert power_for_proportions(0.5, 0.3, expected - 1, expected - 1, method=method) < 0.8 <= found.power


def test_the_worked_examples_of_the_definitions_come_out():
    for name, one in EXAMPLES.items():
        asked = {"alpha": one["alpha"], "power": one["power"]}
        if one["kind"] == "continuous":
            found = {
                test: n_for_means(one["effect"], one["sd"], test=test, **asked).control for test in ("normal", "t")
            }
        else:
            shares = (one["treatment"], one["control"])
            found = {how: n_for_proportions(*shares, method=how, **asked).control for how in ("unpooled", "pooled")}
        assert found == {key: one[key] for key in found}, name


def test_an_uneven_allocation_by_hand():
    # (1 + 1/2) (1.959964 + 0.841621)^2 36 / 9 = 47.09 in the control arm, twice that in treatment.
    found = n_for_means(3, 6, allocation=(2, 1))
    assert found.control_exact == pytest.approx(1.5 * (1.959963985 + 0.841621234) ** 2 * 4)
    assert (found.treatment, found.control) == (95, 48)
    # An arm of another spread: (36 + 16) 7.8489 / 9 = 45.3.
    assert n_for_means(3, 6, sd_control=4).control == 46


def test_persons_lost_are_added_to_each_arm():
    found = n_for_means(3, 6, dropout=0.1)
    assert (found.control, found.enrolled_control, found.enrolled) == (63, 70, 140)
    # A whole number of tens stays one: no person is added by a rounding error.
    assert all(rounded(9.0 * k, 1.0, 0.1).enrolled_control == 10 * k for k in range(1, 200))


def test_exact_power_is_the_sum_over_outcomes():
    rng = np.random.default_rng(5)
    a, b = rng.binomial(30, 0.6, 200_000) / 30, rng.binomial(20, 0.25, 200_000) / 20
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.abs(a - b) / np.sqrt(a * (1 - a) / 30 + b * (1 - b) / 20)
    hit = np.where(np.isnan(z), False, z >= 1.959964).mean()
    exact = exact_power_for_proportions(0.6, 0.25, 30, 20)
    assert abs(hit - exact) < 4 * np.sqrt(exact * (1 - exact) / 200_000)
    # Two persons an arm: both variances are 0 only where all or none respond; then alone a difference shows.
    assert exact_power_for_proportions(0.5, 0.5, 2, 2) == pytest.approx(2 * 0.25 * 0.25)
    assert exact_power_for_proportions(0.5, 0.5, 2, 2, method="pooled") == pytest.approx(2 * 0.25 * 0.25)


def test_no_effect_gives_the_level():
    for test in ("normal", "t"):
        assert power_for_means(0, 6, 20, 40, test=test, alpha=0.03) == pytest.approx(0.03)
        assert power_for_means(0, 6, 20, 40, test=test, alpha=0.03, sided=1) == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: n_for_means(0, 6), "the effect is 0"),
        (lambda: n_for_means(3, 0), "sd is 0"),
        (lambda: n_for_means(3, 6, sided=3), "1 or 2 sides"),
        (lambda: n_for_means(3, 6, alpha=0), "alpha is 0"),
        (lambda: n_for_means(3, 6, power=0.02), "above the level"),
        (lambda: n_for_means(3, 6, power=1), "below 1"),
        (lambda: n_for_means(3, 6, dropout=1), "dropout is 1"),
        (lambda: n_for_means(3, 6, allocation=(1, 0)), "allocation"),
        (lambda: n_for_means(3, 6, test="welch"), "normal, t"),
        (lambda: n_for_proportions(1.0, 0.3), "share of responders under treatment is 1"),
        (lambda: n_for_proportions(0.3, 0.3), "the effect is 0"),
        (lambda: n_for_proportions(0.5, 0.3, method="exact"), "unpooled, pooled"),
        (lambda: n_for_means(1e-6, 6, test="t"), "a billion persons"),
    ],
)
def test_what_cannot_be_asked(call, words):
    with pytest.raises(SpecError, match=words):
        call()


@settings(max_examples=40, deadline=None)
@given(
    effect=st.floats(0.5, 8), sd=st.floats(1, 12), ratio=st.sampled_from([(1, 1), (2, 1), (1, 3)]),
    power=st.sampled_from([0.8, 0.9]), test=st.sampled_from(["normal", "t"]),
)  # fmt: skip
def test_the_size_is_the_smallest_that_has_the_power(effect, sd, ratio, power, test):
    found = n_for_means(effect, sd, allocation=ratio, power=power, test=test)
    assert found.power >= power - 1e-9
    less = found.control_exact * 0.97
    if less * min(1, ratio[0] / ratio[1]) > 2.0:  # two persons an arm are the fewest
        again = power_for_means(effect, sd, less * ratio[0] / ratio[1], less, test=test, strict=False)
        assert again < power
    assert n_for_means(effect / 2, sd, allocation=ratio, power=power, test=test).control >= found.control


# ---- enrichment ----


def test_enrichment_by_hand():
    found = enrich(126, prevalence=0.25, ppv=0.8, called=0.3)
    assert found.n_all == pytest.approx(126 * 16)
    assert found.n_enriched == pytest.approx(126 / 0.64)
    assert found.screened == pytest.approx(126 / 0.64 / 0.3)
    # A perfect classifier that calls all of the class: as the pure trial, and 1 / p are screened.
    perfect = enrich(126, prevalence=0.25, ppv=1.0, called=0.25)
    assert (perfect.n_enriched, perfect.screened) == (126, 504)
    assert enrich([126, 128], prevalence=[0.5, 1.0], ppv=1.0, called=0.5).n_all.tolist() == [504, 128]


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"prevalence": 0.2, "ppv": 0.9, "called": 0.5}, "contradict"),
        ({"prevalence": 0.9, "ppv": 0.1, "called": 0.5}, "contradict"),
        ({"prevalence": 0.0, "ppv": 0.9, "called": 0.5}, "prevalence is 0"),
        ({"prevalence": 0.2, "ppv": 1.1, "called": 0.1}, "ppv is 1.1"),
    ],
)
def test_shares_that_cannot_be(shares, words):
    with pytest.raises(SpecError, match=words):
        enrich(126, **shares)


CLASSES = {"C1": 0.3, "C2": 0.5, "C3": 0.2}


def test_a_classifier_by_rates_per_stratum():
    who = population(CLASSES, ["C1"], sensitivity=0.9, specificity={"C2": 0.99, "C3": 0.8}, not_called=0.1)
    yes = 0.9 * np.array([0.3 * 0.9, 0.5 * 0.01, 0.2 * 0.2])
    assert who.called == pytest.approx(yes.sum())
    assert who.ppv == pytest.approx(yes[0] / yes.sum())
    assert who.not_called == pytest.approx(0.1)
    assert who.prevalence == pytest.approx(0.3)
    for design in ("pure", "all_comers", "stratified", "enriched"):
        assert who.enrolled(design).sum() == pytest.approx(1)
    assert who.enrolled("enriched")[:, 0] == pytest.approx(yes / yes.sum())
    assert who.enrolled("all_comers").sum(axis=1) == pytest.approx([0.3, 0.5, 0.2])
    table = who.strata_table().set_index("stratum")
    assert table.loc["C1", "sensitivity"] == pytest.approx(0.9)
    assert table.loc["C3", "specificity"] == pytest.approx(0.8)
    assert np.isnan(table.loc["C1", "specificity"])
    assert who.calls_table().set_index("call").loc[NOT_CALLED, "share_C2"] == pytest.approx(0.5)


def test_a_classifier_by_predictive_value_is_the_one_by_rates():
    given_rates = population(CLASSES, ["C1"], sensitivity=0.9, specificity=0.95)
    given_ppv = population(CLASSES, ["C1"], ppv=given_rates.ppv, called=given_rates.called)
    assert given_ppv.joint == pytest.approx(given_rates.joint)


def test_a_classifier_by_confusion():
    who = population(CLASSES, ["C1", "C3"], confusion={
        "C1": {"C1": 0.7, "C2": 0.1, "C3": 0.1}, "C2": {"C2": 0.9, "C1": 0.1}, "C3": {"C3": 0.6, "C1": 0.1, "C2": 0.2},
    })  # fmt: skip
    assert who.calls == ("C1", "C2", "C3", NOT_CALLED)
    assert who.positive.tolist() == [True, False, True, False]
    assert who.not_called == pytest.approx(0.3 * 0.1 + 0.2 * 0.1)
    assert who.called == pytest.approx(0.3 * 0.8 + 0.5 * 0.1 + 0.2 * 0.7)
    assert who.ppv == pytest.approx((0.3 * 0.8 + 0.2 * 0.7) / who.called)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sensitivity": {"C2": 0.9}}, "'C2' isn't asked for"),
        ({"specificity": {"C2": 0.9}}, "says nothing of 'C3'"),
        ({"sensitivity": 1.2}, "sensitivity is 1.2"),
        ({"sensitivity": 0.0, "specificity": 1.0}, "nobody is called target"),
        ({"ppv": 0.9, "called": 0.32, "not_called": 0.5}, "more than all of it"),
        ({"confusion": {"C1": {"C1": 0.8, "C2": 0.4}, "C2": {}, "C3": {}}}, "'C1'.*sum to 1.2"),
        ({"confusion": {"C1": {"C1": 0.8}, "C2": {}}}, "says nothing of 'C3'"),
        ({"confusion": {"C1": {"other": 0.8}, "C2": {}, "C3": {}}}, "no call"),
        ({"ppv": 0.2, "called": 0.3}, r"0.2 belong to the target strata \(C1\), fewer than among everyone \(0.3"),
        ({"sensitivity": 0.1, "specificity": 0.8}, "would keep them out"),
        ({"confusion": {"C1": {"C1": 0.1}, "C2": {"C1": 0.5}, "C3": {}}}, "would keep them out"),
    ],
)
def test_classifiers_that_cannot_be(options, words):
    with pytest.raises(SpecError, match=words):
        population(CLASSES, ["C1"], **options)


def test_strata_that_cannot_be():
    with pytest.raises(SpecError, match=r"sum to 0\.8"):
        population({"C1": 0.3, "C2": 0.5}, ["C1"])
    with pytest.raises(SpecError, match="did you mean 'C1'"):
        population(CLASSES, ["C11"])


# ---- placebo ----


def test_placebo_by_hand():
    model = placebo_model()
    assert model.mark == "S"
    assert model.drop(10.1, 12.2) == pytest.approx(4.44 / 2)
    assert model.drop(14, 24) == pytest.approx((4.44 + 0.552 * 3.9) * 24 / 36.2)
    assert model.drop(14, 0) == 0
    assert model.drop(1, 24) == 0  # Emax would be below 0
    assert np.isnan(model.drop([np.nan, 10.1], 24)).tolist() == [True, False]
    assert model.slope_at(10.1, 24) == pytest.approx(0.552 * 24 / 36.2)
    assert model.slope_at(1, 24) == 0
    with pytest.raises(SpecError, match="week"):
        model.drop(10, -1)
    with pytest.raises(SpecError, match="did you mean 'essdai'"):
        placebo_model("esdai")


def test_placebo_of_the_users_own():
    model = placebo_model("essdai", {"placebo": {"models": {"essdai": {"half_time": 10.0}}}})
    assert (model.half_time, model.emax, model.mark) == (10.0, 4.44, "U")


def test_placebo_responders():
    table = placebo_table(placebo_model(), weeks=[24], baselines=[8, 14], sd=6, at_least=3)
    assert table["responders"].to_numpy() == pytest.approx(responders(table["drop"], 6, 3))
    assert responders(3.0, 6.0, 3.0) == pytest.approx(0.5)
    assert responders(9.0, 6.0, 3.0) == pytest.approx(0.841344746)


# ---- several hypotheses ----


def test_fixed_sequence_stops_at_the_first_that_fails():
    p = np.array([[0.01, 0.04, 0.2, 0.001], [0.06, 0.001, 0.001, 0.001], [0.05, 0.05, 0.05, 0.05]])
    expected = [[True, True, False, False], [False] * 4, [True] * 4]
    assert rejections(p, "fixed_sequence").tolist() == expected
    missing = rejections([0.01, np.nan, 0.01], "fixed_sequence")
    assert missing.tolist() == [True, False, False]


def test_weighted_by_hand():
    # alpha 0.05 as 0.04 and 0.01: Holm passes the whole on once the first is rejected.
    assert rejections([0.04, 0.03], "bonferroni", weights=[4, 1]).tolist() == [True, False]
    assert rejections([0.04, 0.03], "holm", weights=[4, 1]).tolist() == [True, True]
    assert rejections([0.041, 0.03], "holm", weights=[4, 1]).tolist() == [False, False]
    alone, after = levels("holm", 2, weights=[4, 1])
    assert alone == pytest.approx([0.04, 0.01])
    assert after == pytest.approx([0.05, 0.05])
    assert levels("fixed_sequence", 3)[0].tolist() == [0.05, 0, 0]
    assert levels("hochberg", 2)[0].tolist() == [0.025, 0.025]


@settings(max_examples=60, deadline=None)
@given(
    p=st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=5),
    method=st.sampled_from(["hochberg", "holm", "bonferroni"]), alpha=st.sampled_from([0.01, 0.05, 0.1]),
)  # fmt: skip
def test_many_trials_are_each_by_itself_the_adjusted_values(p, method, alpha):
    found = rejections(p, method, alpha=alpha)
    adjusted = np.array([adjust(row, method) for row in p])
    sure = np.abs(adjusted - alpha) > 1e-12
    assert (found == (adjusted <= alpha))[sure].all()


def test_hypotheses_that_cannot_be():
    with pytest.raises(SpecError, match="choose from"):
        rejections([0.1], "gatekeeping")
    with pytest.raises(SpecError, match="weights belong"):
        rejections([0.1, 0.2], "hochberg", weights=[1, 1])
    with pytest.raises(SpecError, match="give 2 numbers"):
        rejections([0.1, 0.2], "holm", weights=[1])
    with pytest.raises(SpecError, match="between 0 and 1"):
        rejections([0.1, 1.2], "holm")
    assert set(METHODS) == {"fixed_sequence", "hochberg", "holm", "bonferroni"}


def test_the_public_names_are_there():
    from sjd_dask.clinical import trials

    for name in trials.__all__:
        assert callable(getattr(trials, name)), name
    with pytest.raises(AttributeError, match="no attribute 'desing'"):
        trials.desing  # noqa: B018
