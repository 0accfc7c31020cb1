"""Moderated tests against limma: small simulated tables kept here, and large public data where it is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sjd_dask.kernels import moderation
from sjd_dask.kernels.linear_contrasts import contrast_fit
from sjd_dask.kernels.linear_fit import finish, refit_columns
from sjd_dask.kernels.linear_sums import accumulate, linear_design, new_sums
from sjd_dask.kernels.lowess import lowess
from sjd_dask.kernels.prior import fit_f_dist
from sjd_dask.kernels.robust_prior import fit_f_dist_robust

REFERENCE = Path(__file__).parent / "reference"


def table(name, folder=REFERENCE, **options):
    frame = pd.read_csv(folder / f"{name}.tsv.gz", sep="\t", dtype=str, keep_default_na=False, **options)
    return frame.apply(lambda column: column.replace("NA", "NaN").astype(float))


def part(frame, prefix):
    return frame[[c for c in frame.columns if c.startswith(prefix)]].to_numpy(float).T.copy()


def relative(found, wanted, floor=0.0):
    """Largest error over max(|wanted|, floor); missing and infinite values must be in the same places."""
    found = np.broadcast_to(np.asarray(found, float), np.shape(wanted))
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    known = ~(np.isnan(wanted) | (found == wanted))
    if not known.any():
        return 0.0
    assert np.isfinite(found[known]).all()
    error = np.abs(found[known] - wanted[known])
    return float(np.max(error / np.maximum(np.abs(wanted[known]), max(floor, 1e-300))))


def check(found, wanted, prior_tolerance=1e-9):
    assert relative(found.s2_prior, wanted["s2_prior"].to_numpy()) <= prior_tolerance
    assert relative(found.df_prior, wanted["df_prior"].to_numpy()) <= prior_tolerance
    assert relative(found.s2_post, wanted["s2_post"].to_numpy()) <= prior_tolerance
    assert relative(found.df_total, wanted["df_total"].to_numpy()) <= prior_tolerance
    assert relative(found.statistic, part(wanted, "t."), 1.0) <= 1e-7
    assert relative(found.p_value, part(wanted, "p.")) <= 1e-6
    assert relative(found.log_odds, part(wanted, "B."), 1.0) <= 1e-7
    if "var_prior.1" in wanted:
        assert relative(found.var_prior, part(wanted, "var_prior.")[:, 0]) <= 1e-8


def moderated(frame, **options):
    return moderation.moderate(
        part(frame, "coef."),
        part(frame, "stdev_unscaled."),
        frame["sigma"].to_numpy() ** 2,
        frame["df_residual"].to_numpy(),
        frame["Amean"].to_numpy(),
        **options,
    )


def f_from_correlations(frame, covariance):
    """Quadratic form of the overall F test, with one correlation matrix for all features."""
    scale = np.sqrt(np.diag(covariance))
    z = part(frame, "coef.") / part(frame, "stdev_unscaled.")
    return np.einsum("if,ij,jf->f", z, np.linalg.inv(covariance / np.outer(scale, scale)), z)


@pytest.mark.parametrize("robust", [False, True], ids=["plain", "robust"])
@pytest.mark.parametrize("trend", [False, True], ids=["flat", "trend"])
@pytest.mark.parametrize("data", ["full", "na"])
def test_from_values_to_moderated_tests(data, trend, robust):
    y = table("moderation_y" if data == "full" else "moderation_y_missing").to_numpy().T
    if data == "na":
        y = np.delete(y, 19, axis=1)  # limma refuses a trend with a feature that has no value
    name = f"moderation_{data}_{'trend' if trend else 'flat'}_{'robust' if robust else 'plain'}"
    wanted = table(name)
    design = linear_design(table("moderation_design").to_numpy())
    sums = new_sums(design, y.shape[1])
    accumulate(sums, design.q, np.ascontiguousarray(y), has_intercept=design.has_intercept)
    fit = finish(sums, design)
    fit = refit_columns(fit, design, y[:, fit.needs_columns])
    tested = contrast_fit(fit, design, table("moderation_contrasts").to_numpy(), "limma")
    found = moderation.moderate(
        tested.effects,
        tested.stdev_unscaled,
        fit.sigma2,
        fit.df_residual,
        fit.mean,
        trend=trend,
        robust=robust,
    )
    check(found, wanted, 1e-7)
    f, p = moderation.f_test(tested.f_quadratic, tested.f_rank, found.s2_post, found.df_f)
    assert relative(f, wanted["F"].to_numpy()) <= 1e-7
    assert relative(p, wanted["F_p"].to_numpy()) <= 1e-6


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("two_features", {}),
        ("one_feature", {}),
        ("seven_features", {"trend": True, "robust": True}),
        ("equal_plain", {}),
        ("equal_robust", {"robust": True}),
        ("zero_plain", {}),
        ("zero_robust", {"robust": True}),
    ],
)
def test_unusual_sets_of_features(name, options):
    wanted = table(f"moderation_{name}")
    found = moderated(wanted, **options)
    check(found, wanted)
    assert bool(found.notes) == name.startswith("zero")


def test_priors_and_lowess():
    data = table("prior")
    var, df, covariate = (data[c].to_numpy() for c in ("var", "df", "covariate"))
    for number, prior in enumerate(
        [
            fit_f_dist(var, df),
            fit_f_dist_robust(var, df),
            fit_f_dist(var, df, covariate),
            fit_f_dist_robust(var, df, covariate),
        ],
        start=1,
    ):
        # The reference ends its search for the robust degrees of freedom at 1e-8.
        assert relative(prior.s2_prior, data[f"scale{number}"].to_numpy()) <= (1e-6 if number % 2 == 0 else 1e-10)
        assert relative(prior.df_prior, data[f"df{number}"].to_numpy()) <= (1e-5 if number % 2 == 0 else 1e-10)
    assert relative(lowess(covariate, var, span=0.4), data["lowess"].to_numpy()) <= 1e-10


LARGE = [
    ("ALL_full_contrast_default", {}, "ALL"),
    ("ALL_full_contrast_trend", {"trend": True}, "ALL"),
    ("ALL_full_contrast_robust", {"robust": True}, "ALL"),
    ("ALL_full_contrast_trendrobust", {"trend": True, "robust": True}, "ALL"),
    ("ALL_na_contrast_default", {}, "ALL"),
    ("khan_contrast_default", {}, "khan"),
    ("khan_contrast_trendrobust", {"trend": True, "robust": True}, "khan"),
]


@pytest.mark.parametrize(("name", "options", "data"), LARGE, ids=[case[0] for case in LARGE])
def test_public_data(reference_data, name, options, data):
    folder = reference_data / "oracles" / "limma"
    wanted = pd.read_csv(folder / f"{name}.tsv.gz", sep="\t", index_col=0)
    found = moderated(wanted, threads=2, **options)
    check(found, wanted, 1e-9 if not options.get("robust") else 1e-7)
    design = pd.read_csv(folder / f"{data}_design.tsv.gz", sep="\t", index_col=0).to_numpy(float)
    contrasts = pd.read_csv(folder / f"{data}_contrasts.tsv.gz", sep="\t", index_col=0).to_numpy(float)
    covariance = contrasts.T @ np.linalg.inv(design.T @ design) @ contrasts
    f, p = moderation.f_test(f_from_correlations(wanted, covariance), len(covariance), found.s2_post, found.df_f)
    assert relative(f, wanted["F"].to_numpy()) <= 1e-7
    assert relative(p, wanted["F_p"].to_numpy()) <= 1e-6
