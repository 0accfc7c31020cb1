"""Several active arms against one control: levels by table and simulation, sizes, powers of the family."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sjd_dask.clinical.trials import design, n_for_means, n_for_proportions
from sjd_dask.clinical.trials.arms import RULES, all_rejected, any_rejected, comparison_level
from sjd_dask.clinical.trials.design_columns import TABLES

CHANGE = {"name": "essdai", "kind": "continuous", "sd": 6, "effect": 3}
SHARE = {"name": "responder", "kind": "binary", "control": 0.3, "treatment": 0.5}
DOSES = [{"name": "240 mg"}, {"name": "160 mg", "effect": 0.8}]


def arms(rule: str, *endpoints: dict[str, Any], active: list[dict[str, Any]] = DOSES, **more: Any) -> pd.DataFrame:
    given = {"endpoints": list(endpoints or [CHANGE]), "arms": {"rule": rule, "active": active}, "simulate": False}
    found = design({**given, **more}).tables["arms"]
    assert list(found) == list(TABLES["arms"])
    return found


@pytest.mark.parametrize(
    ("sided", "values"), [(2, {2: 2.21, 3: 2.35, 4: 2.44, 5: 2.51}), (1, {2: 1.92, 3: 2.06, 4: 2.16, 5: 2.23})]
)
def test_dunnetts_published_limits(sided: int, values: dict[int, float]) -> None:
    """Dunnett 1955 and 1964, alpha 0.05, infinite degrees of freedom."""
    for k, value in values.items():
        level = comparison_level("dunnett", k, alpha=0.05, sided=sided, ratio=1)
        assert round(float(stats.norm.isf(level / sided)), 2) == value


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_the_integrals_are_those_of_the_multivariate_normal(ratio: float) -> None:
    shifts, limit = np.array([2.9, 2.1, 0.0]), 2.2
    cov = np.full((3, 3), ratio / (1 + ratio))
    np.fill_diagonal(cov, 1.0)
    law = stats.multivariate_normal(shifts, cov)
    inside = law.cdf(np.full(3, limit), lower_limit=np.full(3, -limit))
    beyond = stats.multivariate_normal(-shifts, cov).cdf(np.full(3, -limit))
    assert any_rejected(shifts, limit, sided=2, ratio=ratio) == pytest.approx(1 - inside, abs=2e-4)
    assert all_rejected(shifts, limit, ratio=ratio) == pytest.approx(beyond, abs=2e-4)


def test_levels_lie_between_bonferronis_and_the_whole() -> None:
    for ratio in (0.2, 1.0, 5.0):
        level = comparison_level("dunnett", 3, alpha=0.05, sided=2, ratio=ratio)
        assert 0.05 / 3 < level < 0.05
    assert comparison_level("bonferroni", 4, alpha=0.05, sided=2, ratio=1) == 0.0125
    assert comparison_level("fixed_sequence", 4, alpha=0.05, sided=2, ratio=1) == 0.05


def test_sizes_are_those_of_the_arm_that_needs_most_at_its_level() -> None:
    for rule in RULES:
        found = arms(rule, {**CHANGE, "test": "normal"}, SHARE, dropout=0.1)
        level = comparison_level(rule, 2, alpha=0.05, sided=2, ratio=1)
        n = {"essdai": n_for_means(2.4, 6, alpha=level), "responder": n_for_proportions(0.46, 0.3, alpha=level)}
        for row in found.itertuples():
            each = n[row.endpoint].control
            assert (row.n_arm, row.n_control, row.n_total) == (each, each, 3 * each)
            assert row.n_enrolled == 3 * int(np.ceil(each / 0.9 - 1e-9)) and row.alpha == level
            assert row.power >= 0.8 and row.power_any + 1e-9 > row.power_in_family > row.power_all - 1e-9


def test_an_allocation_gives_the_control_more() -> None:
    row = arms("dunnett", active=[{"name": name} for name in "abcd"], allocation=[1, 2]).iloc[0]
    assert row["n_control"] in (2 * row["n_arm"], 2 * row["n_arm"] - 1)
    assert row["n_total"] == 4 * row["n_arm"] + row["n_control"]


def test_an_arm_without_effect_has_no_size_and_leaves_the_others_theirs() -> None:
    found = arms("bonferroni", active=[{"name": "a"}, {"name": "b", "effect": 0}]).set_index("arm")
    assert found["reason"]["a"] == "" and "no effect" in found["reason"]["b"]
    assert found["n_arm"].nunique() == 1 and found["power"]["b"] == pytest.approx(0.0125, abs=1e-3)


def test_responders_by_a_drop_follow_their_endpoint() -> None:
    change = {**CHANGE, "control": 2.0}
    drop = {"name": "response", "kind": "binary", "drop": {"endpoint": "essdai", "at_least": 3}}
    found = arms("dunnett", change, drop).set_index(["endpoint", "arm"])["effect"]
    share = stats.norm.sf((3 - np.array([5.0, 4.4, 2.0])) / 6)
    assert found["response"].to_numpy() == pytest.approx(share[:2] - share[2])


def test_the_other_tables_are_at_the_level_of_one_comparison() -> None:
    given = {"endpoints": [CHANGE], "arms": {"rule": "bonferroni", "active": DOSES}, "simulate": False}
    found = design(given)
    assert found.tables["power"]["alpha"].tolist() == [0.025] and found.spec is not None and found.spec.alpha == 0.05
    assert any("2 active arms" in one and "0.025" in one for one in found.messages)


@pytest.mark.parametrize("rule", ["dunnett", "fixed_sequence"])
def test_simulated_trials_of_three_arms(rule: str) -> None:
    """By means and variances of arms, which is all a t-test reads; without any effect, and as designed."""
    trials, rng = 40_000, np.random.default_rng(11)
    table = arms(rule)
    n, alpha = int(table["n_arm"].iloc[0]), float(table["alpha"].iloc[0])

    def rejected(effects: tuple[float, ...]) -> Any:
        mean = rng.normal(effects, 6 / np.sqrt(n), (trials, 3))
        var = 36 * rng.chisquare(n - 1, (trials, 3)) / (n - 1)
        t = (mean[:, 1:] - mean[:, :1]) / np.sqrt((var[:, 1:] + var[:, :1]) / n)
        hit = 2 * stats.t.sf(np.abs(t), 2 * n - 2) <= alpha
        return np.logical_and.accumulate(hit, axis=1) if rule == "fixed_sequence" else hit

    false = rejected((0, 0, 0)).any(axis=1).mean()
    assert abs(false - 0.05) < 4 * np.sqrt(0.05 * 0.95 / trials)
    hit = rejected((0, 3.0, 2.4))
    found = [*hit.mean(axis=0), hit.any(axis=1).mean(), hit.all(axis=1).mean()]
    wanted = [*table["power_in_family"], table["power_any"].iloc[0], table["power_all"].iloc[0]]
    assert np.abs(np.array(found) - wanted).max() < 4 * 0.5 / np.sqrt(trials)
