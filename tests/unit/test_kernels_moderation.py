"""Moderation: limits, missing values, threads, and what must not depend on the order of features."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special as sc

from sjd_dask.errors import DataError, DesignError
from sjd_dask.kernels.lowess import lowess
from sjd_dask.kernels.moderation import estimate_prior, f_test, moderate, squeeze_var, unmoderated
from sjd_dask.kernels.natural_spline import natural_spline
from sjd_dask.kernels.prior import Prior, fit_f_dist, trigamma_inverse
from sjd_dask.kernels.robust_prior import fit_f_dist_robust


@pytest.fixture
def features():
    rng = np.random.default_rng(3)
    n = 3000
    variance = 0.2 * 8 / rng.chisquare(8, n) * rng.chisquare(10, n) / 10
    stdev = np.array([[0.4], [0.6]])
    effects = rng.normal(size=(2, n)) * stdev * np.sqrt(variance)
    return effects, stdev, variance, np.full(n, 10.0), rng.normal(size=n)


def test_trigamma_inverse():
    for y in (1e-2, 0.5, 3.0, 1e3, 1e5):
        assert trigamma_inverse(float(sc.polygamma(1, y))) == pytest.approx(y, rel=1e-9)
    assert trigamma_inverse(1e-8) == 1e8
    assert trigamma_inverse(1e8) == 1e-4
    assert math.isnan(trigamma_inverse(-1.0))


def test_prior_is_recovered():
    rng = np.random.default_rng(1)
    variance = 0.5 * rng.f(8, 6, 200_000)
    for prior in (fit_f_dist(variance, 8), fit_f_dist_robust(variance, 8.0)):
        assert prior.s2_prior == pytest.approx(0.5, rel=0.02)
        assert np.median(prior.df_prior) == pytest.approx(6, rel=0.05)


@pytest.mark.parametrize("trend", [False, True])
@pytest.mark.parametrize("robust", [False, True])
def test_order_threads_and_missing_features(features, trend, robust):
    effects, stdev, variance, df, mean = features
    whole = moderate(effects, stdev, variance, df, mean, trend=trend, robust=robust)
    again = moderate(effects, stdev, variance, df, mean, trend=trend, robust=robust, threads=2)
    assert np.array_equal(whole.p_value, again.p_value)
    order = np.random.default_rng(0).permutation(variance.size)
    turned = moderate(effects[:, order], stdev, variance[order], df[order], mean[order], trend=trend, robust=robust)
    np.testing.assert_allclose(turned.statistic, whole.statistic[:, order], rtol=1e-10)
    # A feature without values changes nothing for the others.
    padded = moderate(
        np.column_stack([effects, [np.nan, np.nan]]),
        stdev,
        np.append(variance, np.nan),
        np.append(df, 0.0),
        np.append(mean, np.nan),
        trend=trend,
        robust=robust,
    )
    np.testing.assert_allclose(padded.statistic[:, :-1], whole.statistic, rtol=1e-10)
    assert np.isnan(padded.statistic[:, -1]).all()
    assert np.isnan(padded.p_value[:, -1]).all()
    assert np.isnan(padded.log_odds[:, -1]).all()
    np.testing.assert_allclose(padded.var_prior, whole.var_prior, rtol=1e-10)


def test_a_given_prior_makes_features_independent(features):
    effects, stdev, variance, df, _ = features
    prior = estimate_prior(variance, df)
    whole = moderate(effects, stdev, variance, df)
    half = moderate(effects[:, :700], stdev, variance[:700], df[:700], prior=prior)
    assert np.array_equal(half.statistic, whole.statistic[:, :700])
    assert np.array_equal(half.s2_post, whole.s2_post[:700])


def test_equal_variances_give_an_infinite_prior():
    rng = np.random.default_rng(2)
    variance = rng.chisquare(4, 500) / 4 * 0.9 + 0.1
    found = moderate(rng.normal(size=(1, 500)), 0.5, variance, 4.0)
    assert math.isinf(found.df_prior)
    assert np.all(found.s2_post == found.s2_prior)
    assert np.all(found.df_total == 4 * 500)
    assert np.all(np.isinf(found.df_f))
    assert np.isfinite(found.log_odds).all()


def test_few_features():
    one = moderate([[1.0]], [[0.5]], [2.0], [3.0])
    assert one.df_prior == 0
    assert one.s2_post[0] == 2.0
    two = moderate([[1.0, 2.0]], [[0.5]], [2.0, 3.0], [3.0, 3.0], robust=True)
    plain = moderate([[1.0, 2.0]], [[0.5]], [2.0, 3.0], [3.0, 3.0])
    np.testing.assert_array_equal(two.statistic, plain.statistic)


def test_no_residual_degrees_of_freedom():
    with pytest.raises(DesignError, match="no feature has residual degrees of freedom"):
        moderate([[1.0, 2.0]], [[0.5]], [np.nan, np.nan], [0.0, 0.0])
    with pytest.raises(DataError, match="no feature has a finite residual variance"):
        moderate([[1.0, 2.0]], [[0.5]], [np.nan, np.nan], [3.0, 3.0])
    with pytest.raises(DataError, match="no features"):
        moderate(np.empty((1, 0)), [[0.5]], [], [])
    with pytest.raises(DataError, match="more than half"):
        moderate([[1.0, 2, 3, 4]], [[0.5]], [0.0, 0, 0, 1], 3.0, robust=True)


def test_constant_features():
    variance = np.array([0.0, 1.0, 2.0, 1.5])
    found = moderate([[0.0, 1, 2, 3]], 0.5, variance, 4.0)
    assert found.statistic[0, 0] == 0
    assert "1 residual variances are zero" in found.notes[0]
    plain = unmoderated([[0.0, 1, 2, 3]], 0.5, variance, 4.0)
    assert np.isnan(plain.statistic[0, 0])
    assert np.isnan(plain.p_value[0, 0])
    assert plain.statistic[0, 1] == 2.0
    assert np.isnan(plain.log_odds).all()


def test_squeeze():
    squeezed = squeeze_var([1.0, 5.0, np.nan], [4.0, 4.0, 0.0], Prior(2.0, 4.0))
    np.testing.assert_allclose(squeezed, [1.5, 3.5, 2.0])
    squeezed = squeeze_var([1.0, 5.0], [4.0, 4.0], Prior(2.0, np.array([np.inf, 4.0])))
    np.testing.assert_allclose(squeezed, [2.0, 3.5])


def test_f_test_of_one_contrast_is_the_squared_t(features):
    effects, stdev, variance, df, _ = features
    found = moderate(effects[:1], stdev[:1], variance, df)
    f, p = f_test((effects[0] / stdev[0]) ** 2, 1, found.s2_post, found.df_total)
    np.testing.assert_allclose(f, found.statistic[0] ** 2, rtol=1e-12)
    np.testing.assert_allclose(p, found.p_value[0], rtol=1e-9)


def test_trend_with_a_mean_far_out():
    """The columns that are dropped from the basis are those of lm.fit: fitFDist(v, 6, covariate=x) of limma 3.54.1."""
    x = np.append(np.arange(1977.0, 2023.0), 1e9)
    variance = 1 + np.arange(1, 48) * 7 % 11 / 5 + (x > 2000)
    prior = fit_f_dist(variance, 6.0, x)
    assert prior.df_prior == math.inf
    wanted = [2.380216783701395, 2.649823787155872, 3.9384110910724255, 4.768931686345246]
    np.testing.assert_allclose(np.asarray(prior.s2_prior)[[0, 23, 45, 46]], wanted, rtol=1e-8)


def test_natural_spline_is_straight_outside():
    x = np.linspace(0.0, 10.0, 50)
    basis = natural_spline(x, 4)
    assert basis(x).shape == (50, 4)
    fitted = np.linalg.lstsq(basis(x), 2 * x + 1, rcond=None)[0]
    outside = np.array([-5.0, 12.0])
    np.testing.assert_allclose(basis(outside) @ fitted, 2 * outside + 1, atol=1e-9)


def test_lowess_keeps_lines_and_order():
    rng = np.random.default_rng(5)
    x = rng.normal(size=200)
    np.testing.assert_allclose(lowess(x, 3 * x - 1, span=0.4), 3 * x - 1, atol=1e-10)
    y = x**2 + rng.normal(size=200)
    fitted = lowess(x, y)
    order = rng.permutation(200)
    np.testing.assert_allclose(lowess(x[order], y[order]), fitted[order], atol=1e-12)
    assert lowess([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]).tolist() == pytest.approx([2.0, 2.0, 2.0])
    assert lowess([], []).size == 0
    assert lowess([1.0], [4.0]).tolist() == [4.0]
