"""Sizes, powers, tests of simulated trials and adjusted p-values against R's own functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sjd_dask.clinical.trials.enrichment import NEGATIVE, NOT_CALLED, POSITIVE, population
from sjd_dask.clinical.trials.hierarchy import rejections
from sjd_dask.clinical.trials.outcomes import Outcome
from sjd_dask.clinical.trials.sample_size import (
    n_for_means,
    n_for_proportions,
    power_for_means,
    power_for_proportions,
)
from sjd_dask.clinical.trials.simulate import Sums, analyse

REFERENCE = Path(__file__).parent / "reference" / "trials"


def table(name):
    return pd.read_csv(REFERENCE / f"{name}.tsv.gz", sep="\t")


def test_sizes_of_t_tests():
    for row in table("means_n").itertuples():
        found = n_for_means(row.delta, row.sd, alpha=row.alpha, power=row.power, sided=row.sided, test="t")
        # R stops at two persons an arm, as here.
        assert found.control_exact == pytest.approx(max(row.n, 2.0), rel=1e-7), row
        assert found.control == np.ceil(max(row.n, 2.0))


def test_powers_of_t_tests():
    for row in table("means_power").itertuples():
        asked = (row.delta, row.sd, row.n, row.n)
        assert power_for_means(*asked, alpha=row.alpha, test="t") == pytest.approx(row.power, abs=1e-9), row
        one_tail = power_for_means(*asked, alpha=row.alpha, test="t", strict=False)
        assert one_tail == pytest.approx(row.power_one_tail, abs=1e-9), row


def test_sizes_and_powers_of_shares():
    for row in table("shares_n").itertuples():
        asked = {"alpha": row.alpha, "sided": row.sided, "method": "pooled"}
        assert n_for_proportions(row.p1, row.p2, power=row.power, **asked).control_exact == pytest.approx(
            row.n, rel=1e-7
        )
        assert power_for_proportions(row.p1, row.p2, 100, 100, **asked) == pytest.approx(row.power_at_100, abs=1e-9)


def test_adjusted_p_values():
    p = np.array([0.001, 0.02, 0.04, 0.049, 0.012, 0.2, 0.03, 0.03, 0.03, 0.051, 0.01, 0.001]).reshape(-1, 3)
    for method, rows in table("adjusted").groupby("method"):
        adjusted = rows[["h1", "h2", "h3"]].to_numpy()
        for alpha in (0.011, 0.031, 0.047, 0.09, 0.2):
            assert (rejections(p, method, alpha=alpha) == (adjusted <= alpha)).all(), (method, alpha)


WHO = population({"C1": 0.5, "C2": 0.5}, ["C1"], sensitivity=0.9, specificity=0.9, not_called=0.1)


def sums(column):
    trial = table("trial")
    trial = trial.assign(y=trial[column].astype(float), x=trial["baseline"])
    trial = trial.assign(yy=trial["y"] ** 2, xx=trial["x"] ** 2, xy=trial["x"] * trial["y"], n=1.0)
    cells = trial.groupby(["call", "arm"])[["n", "y", "yy", "x", "xx", "xy"]].sum()
    cells = cells.reindex(pd.MultiIndex.from_product([[POSITIVE, NEGATIVE, NOT_CALLED], [0, 1]]))
    return Sums(*(cells[name].to_numpy().reshape(1, 3, 2) for name in ("n", "y", "yy", "x", "xx", "xy")))


def outcome(kind, test, ancova=False):
    blank = np.zeros(2)
    return Outcome("e", kind, blank, blank, True, blank, blank, ancova, test)


@pytest.mark.parametrize("ancova", [False, True])
def test_a_trial_analysed_as_lm_does(ancova):
    expected = table("trial_means").set_index("analysis")
    suffix = "_ancova" if ancova else ""
    one = outcome("continuous", "t", ancova)
    for name, design, analysis in (
        ("all_comers", "all_comers", "all"),
        ("stratified", "stratified", "all"),
        ("target", "stratified", "target"),
        ("target", "enriched", "target"),
    ):
        found = analyse(sums("change"), one, WHO, design, analysis)
        row = expected.loc[name + suffix]
        assert found.estimate[0] == pytest.approx(row["estimate"], rel=1e-10)
        assert found.p[0] == pytest.approx(row["p"], rel=1e-9)
    inner, outer = (expected.loc[name + suffix] for name in ("target", "other"))
    found = analyse(sums("change"), outcome("continuous", "normal", ancova), WHO, "stratified", "interaction")
    gap = inner["estimate"] - outer["estimate"]
    assert found.estimate[0] == pytest.approx(gap, rel=1e-10)
    from scipy.stats import norm

    assert found.p[0] == pytest.approx(2 * norm.sf(abs(gap) / np.hypot(inner["error"], outer["error"])), rel=1e-9)


def test_a_trial_analysed_as_prop_test_and_mantelhaen_do():
    expected = table("trial_shares").set_index("analysis")["p"]
    one = outcome("binary", "pooled")
    for design in ("all_comers", "stratified"):
        found = analyse(sums("responder"), one, WHO, design, "all")
        assert found.p[0] == pytest.approx(expected[f"{design}_pooled"], rel=1e-10)
