"""Rank tests, Welch tests, adjusted p-values, q-values and tails against R."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sjd_dask.kernels import multiplicity, rank, tails
from sjd_dask.kernels.smoothing_spline import smooth_to_df

REFERENCE = Path(__file__).parent / "reference"


def table(name):
    frame = pd.read_csv(REFERENCE / f"{name}.tsv.gz", sep="\t", dtype=str, keep_default_na=False)
    return frame.apply(lambda column: column.replace("NA", "NaN").astype(float))


def close(found, wanted, rtol=1e-11):
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=1e-14)


def test_groups():
    y = table("groups_y").to_numpy().T
    wanted = table("groups_tests")
    two, four = np.repeat([0, 1], [9, 8]), np.repeat([0, 1, 2, 3], [5, 4, 5, 3])
    automatic = rank.wilcoxon(y, two)
    close(automatic.statistic, wanted["W"])
    close(automatic.p_value, wanted["p_auto"])
    close(rank.wilcoxon(y, two, exact=False).p_value, wanted["p_correct"])
    close(rank.wilcoxon(y, two, exact=False, correct=False).p_value, wanted["p_plain"])
    found = rank.kruskal(y, four)
    close(found.statistic, wanted["H"])
    close(found.p_value, wanted["H_p"])
    assert np.array_equal(found.df_numerator, wanted["H_df"], equal_nan=True) or np.isnan(wanted["H"][0])
    found = rank.welch(y, two)
    close(found.statistic, wanted["t"])
    close(found.df, wanted["t_df"])
    close(found.p_value, wanted["t_p"])
    found = rank.welch(y, four)
    close(found.statistic, wanted["F"])
    close(found.df, wanted["F_df"])
    close(found.p_value, wanted["F_p"])


def test_adjusted_p_values():
    wanted = table("adjusted")
    for method in multiplicity.METHODS:
        close(multiplicity.adjust(wanted["p"].to_numpy(), method), wanted[method])


def test_smoothing_spline():
    wanted = table("smooth_spline")
    close(smooth_to_df(wanted["x"], wanted["y"], 3.0), wanted["fit"], rtol=1e-8)


def test_t_tail():
    wanted = table("tails_t")
    t, df, log_p = (wanted[c].to_numpy() for c in ("t", "df", "log_p"))
    plain = log_p > np.log(1e-300)
    found = tails.t_two_sided(t, df)
    np.testing.assert_allclose(found[plain], np.exp(log_p[plain]), rtol=1e-10)
    finite = np.isfinite(log_p)
    np.testing.assert_allclose(tails.log_t_two_sided(t, df)[finite], log_p[finite], rtol=1e-12, atol=1e-9)


def test_f_tail():
    wanted = table("tails_f")
    f, df1, df2, log_p, log_lower = (wanted[c].to_numpy() for c in ("f", "df1", "df2", "log_p", "log_lower"))
    plain = log_p > np.log(1e-300)
    found = tails.f_upper(f, df1, df2)
    np.testing.assert_allclose(found[plain], np.exp(log_p[plain]), rtol=1e-8)
    # R's own logarithm goes astray for f of 1000 on 50 and 1e8 degrees of freedom (chi-squared tail: -24811).
    finite = np.isfinite(log_p) & ((df2 < 1e6) | (log_p > -3000))
    np.testing.assert_allclose(tails.log_f_upper(f, df1, df2)[finite], log_p[finite], rtol=1e-8, atol=1e-9)
    finite = np.isfinite(log_lower)
    np.testing.assert_allclose(tails.log_f_lower(f, df1, df2)[finite], log_lower[finite], rtol=1e-7, atol=1e-9)


def read(reference_data, name, **options):
    return pd.read_csv(reference_data / "oracles" / f"{name}.tsv.gz", sep="\t", **options)


def test_wilcoxon_and_welch_on_golub(reference_data):
    y = read(reference_data, "data/golub_expr", index_col=0).to_numpy(float).T
    groups = read(reference_data, "data/golub_samples", index_col=0)["cl"].to_numpy()
    wanted = read(reference_data, "tests/wilcox_golub", index_col=0)
    found = rank.wilcoxon(y, groups, exact=False)
    assert np.array_equal(found.statistic, wanted["W"])
    close(found.p_value, wanted["p_correct"])
    close(rank.wilcoxon(y, groups, exact=False, correct=False).p_value, wanted["p_nocorrect"])
    found = rank.welch(y, groups)
    close(found.statistic, wanted["welch_t"])
    close(found.df, wanted["welch_df"])
    close(found.p_value, wanted["welch_p"])


@pytest.mark.parametrize("name", ["khan_na", "ALL4000_ties"])
def test_kruskal_and_welch_anova(reference_data, name):
    if name == "khan_na":
        y = read(reference_data, "data/khan_expr", index_col=0).to_numpy(float).T
        groups = read(reference_data, "data/khan_samples")["class"]
    else:
        y = np.round(read(reference_data, "data/ALL_expr", index_col=0, nrows=4000).to_numpy(float), 1).T
        cells = read(reference_data, "data/ALL_samples", dtype=str)["BT"]
        groups = cells.where(~cells.str.startswith("T"), "T").replace({"B": "B01", "B1": "B01"})
    codes = pd.factorize(groups)[0]
    wanted = read(reference_data, f"tests/kruskal_{name}", index_col=0)
    found = rank.kruskal(y, codes)
    close(found.statistic, wanted["H"])
    close(found.p_value, wanted["p"])
    found = rank.welch(y, codes)
    close(found.statistic, wanted["welchF"])
    close(found.p_value, wanted["welchF_p"])


@pytest.mark.parametrize("name", ["hedenfalk", "ALL_sexage"])
def test_q_values(reference_data, name):
    wanted = read(reference_data, f"tests/qvalue_{name}")
    details = json.loads((reference_data / "oracles" / "tests" / f"qvalue_{name}.json").read_text())
    p = wanted["p"].to_numpy(float)
    smoother = multiplicity.storey_q(p)
    close(smoother.pi0_path, details["smoother"]["pi0_lambda"])
    assert smoother.pi0 == pytest.approx(details["smoother"]["pi0"], rel=1e-8)
    close(smoother.q, wanted["q_smoother"], rtol=1e-8)
    close(multiplicity.storey_q(p, method="bootstrap").q, wanted["q_bootstrap"])
    close(multiplicity.storey_q(p, tuning=0.5).q, wanted["q_lambda05"])
    for method in multiplicity.METHODS:
        close(multiplicity.adjust(p, method), wanted[method])
