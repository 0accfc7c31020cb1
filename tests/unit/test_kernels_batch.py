"""Kernels of batch effects against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from sjd_dask.errors import DataError, DesignError
from sjd_dask.kernels import batch, batch_prior
from sjd_dask.kernels.batch_removal import adjust_batches, subtract_terms


def scene(seed=0, n=40, width=50, k=2, n_batches=3, offset=0.0):
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(n) % n_batches)
    covariates = rng.normal(size=(n, k)) * 10 + 40
    values = rng.normal(size=(n, width)) * rng.gamma(3, 1, width) + offset + codes[:, None] * rng.normal(size=width)
    return values, codes, covariates


def plain_fit(y, codes, covariates, n_batches):
    """One feature by least squares."""
    there = np.isfinite(y)
    design = np.column_stack([np.eye(n_batches)[codes], covariates])[there]
    beta, *_ = np.linalg.lstsq(design, y[there], rcond=None)
    rest = y[there] - design @ beta
    squares = [np.sum(rest[codes[there] == b] ** 2) for b in range(n_batches)]
    return beta[:n_batches], beta[n_batches:], np.array(squares)


@pytest.mark.parametrize("k", [0, 1, 3])
@pytest.mark.parametrize("missing", [0.0, 0.1])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_fit_is_least_squares(k, missing, offset):
    values, codes, covariates = scene(k=k, offset=offset)
    values[np.random.default_rng(1).random(values.shape) < missing] = np.nan
    found = batch.fit_batches(values, batch.batch_design(codes, 3, covariates), 2)
    assert (found.status == batch.ADJUSTED).all()
    for f in range(values.shape[1]):
        level, beta, rest = plain_fit(values[:, f] - offset, codes, covariates, 3)
        scale = np.sqrt(rest.sum())
        np.testing.assert_allclose(found.level[:, f] - offset, level, rtol=1e-8, atol=1e-9 * (1 + offset / 1e2))
        np.testing.assert_allclose(found.coefficients[:, f], beta, atol=1e-9 * scale)
        np.testing.assert_allclose(found.rest[:, f], rest, rtol=1e-7)
        np.testing.assert_array_equal(found.count[:, f], np.bincount(codes[np.isfinite(values[:, f])], minlength=3))


@pytest.mark.parametrize("missing", [0.0, 0.05])
def test_width_of_a_stripe_changes_no_bit(missing):
    values, codes, covariates = scene(width=1100)
    values[np.random.default_rng(1).random(values.shape) < missing] = np.nan
    design = batch.batch_design(codes, 3, covariates)
    whole = batch.fit_batches(values, design, 2)
    for width in (1, 7, 513):
        for start in (0, 505):
            part = batch.fit_batches(values[:, start : start + width], design, 2)
            for name in ("count", "level", "rest", "coefficients", "status"):
                np.testing.assert_array_equal(
                    getattr(part, name), getattr(whole, name)[..., start : start + width], err_msg=name
                )


def test_status():
    values, codes, covariates = scene(width=8)
    values[codes == 1, 0] = 0.1
    values[:, 1] = 7.0
    values[np.flatnonzero(codes == 2)[1:], 2] = np.nan
    values[:, 3] = np.nan
    values[np.flatnonzero(codes == 1)[:3], 4] = np.nan
    values[5, 5] = np.inf
    values[:, 6] = 2 * covariates[:, 0] + codes
    flat_but_missing = np.flatnonzero(codes == 0)
    values[flat_but_missing, 7] = 3.0
    values[flat_but_missing[0], 7] = np.nan  # sva looks at complete batches only
    found = batch.fit_batches(values, batch.batch_design(codes, 3, covariates), 2)
    wanted = [
        batch.CONSTANT_IN_BATCH, batch.CONSTANT_IN_BATCH, batch.TOO_FEW_VALUES, batch.TOO_FEW_VALUES, batch.ADJUSTED,
        batch.INFINITE, batch.NO_VARIANCE, batch.ADJUSTED,
    ]  # fmt: skip
    assert found.status.tolist() == wanted
    one = batch.fit_batches(values, batch.batch_design(codes, 3, covariates), 1)
    assert one.status[2] == batch.ADJUSTED


@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_small_residuals_keep_their_digits(missing):
    values, codes, covariates = scene(width=30)
    noise = np.random.default_rng(2).normal(size=values.shape) * 1e-5
    values = noise + covariates @ np.array([[3.0], [1.0]])
    values[np.random.default_rng(1).random(values.shape) < missing] = np.nan
    found = batch.fit_batches(values, batch.batch_design(codes, 3, covariates), 2)
    for f in range(30):
        _, _, rest = plain_fit(np.where(np.isnan(values[:, f]), np.nan, noise[:, f]), codes, covariates, 3)
        np.testing.assert_allclose(found.rest[:, f], rest, rtol=1e-6)


def test_covariate_lost_with_missing_values():
    values, codes, _ = scene(width=2)
    group = (np.arange(values.shape[0]) < 6).astype(float)
    values[group == 1, 0] = np.nan
    found = batch.fit_batches(values, batch.batch_design(codes, 3, group[:, None]), 2)
    assert found.status.tolist() == [batch.NOT_ESTIMABLE, batch.ADJUSTED]


def test_design_of_deficient_rank():
    _, codes, covariates = scene()
    with pytest.raises(DesignError, match="combination"):
        batch.batch_design(codes, 3, np.column_stack([covariates, codes == 1]))
    with pytest.raises(DesignError, match="leave out empty"):
        batch.batch_design(codes, 4)
    with pytest.raises(DataError, match="stripe has shape"):
        batch.fit_batches(np.zeros((3, 2)), batch.batch_design(codes, 3), 2)


def test_degrees_of_freedom_of_batches():
    codes = np.array([0, 0, 0, 1, 1])
    only_second = np.array([0.0, 0, 0, 0, 1])[:, None]
    np.testing.assert_allclose(batch.batch_design(codes, 2, only_second).df_batch, [2, 0], atol=1e-12)


def effects(seed=3, n_features=70, n=9):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, n_features)) * np.sqrt(rng.gamma(4, 0.25, n_features)) + rng.normal(size=n_features)
    return z, z.mean(axis=0), z.var(axis=0) * n, z.var(axis=0, ddof=1), np.full(n_features, float(n))


def test_parametric_follows_the_samples():
    z, mean, squares, scale, count = effects()
    prior = batch_prior.estimate_prior(mean, scale, "x")
    gamma, delta = batch_prior.shrink_parametric(mean, squares, scale, count, prior, "x")
    g, d, n = mean.copy(), scale.copy(), len(z)
    while True:  # sva's loop, on samples
        new_g = (prior.t2 * n * mean + d * prior.gamma_bar) / (prior.t2 * n + d)
        new_d = (0.5 * ((z - new_g) ** 2).sum(axis=0) + prior.b_prior) / (n / 2 + prior.a_prior - 1)
        change = max((abs(new_g - g) / g).max(), (abs(new_d - d) / d).max())
        g, d = new_g, new_d
        if change <= 1e-4:
            break
    np.testing.assert_allclose(gamma, g, rtol=1e-12)
    np.testing.assert_allclose(delta, d, rtol=1e-12)


@pytest.mark.parametrize("n_features", [3, 70, 2100])
def test_nonparametric_follows_the_samples(n_features):
    z, mean, squares, scale, count = effects(n_features=n_features)
    stop = min(40, n_features)
    gamma, delta = batch_prior.shrink_nonparametric(0, stop, mean, squares, scale, count)
    for i in range(stop):
        g, d = np.delete(mean, i), np.delete(scale, i)
        likelihood = (2 * np.pi * d) ** (-len(z) / 2) * np.exp(-((z[:, i, None] - g) ** 2).sum(axis=0) / (2 * d))
        np.testing.assert_allclose(gamma[i], (g * likelihood).sum() / likelihood.sum(), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(delta[i], (d * likelihood).sum() / likelihood.sum(), rtol=1e-10)
    if stop > 2:
        parts = [batch_prior.shrink_nonparametric(a, b, mean, squares, scale, count) for a, b in ((0, 2), (2, stop))]
        np.testing.assert_array_equal(np.concatenate([p[0] for p in parts]), gamma)


def test_nonparametric_of_a_large_batch_stays_finite():
    _, mean, squares, scale, count = effects(n=3000)
    gamma, delta = batch_prior.shrink_nonparametric(0, 70, mean, squares, scale, count)
    assert np.isfinite(gamma).all() and (delta > 0).all()


def test_exponentials():
    x = -np.linspace(0, 699, 1024)
    bits = np.empty(1024)
    out = np.empty(1024)
    batch_prior._exponentials(x, 0.0, bits.view(np.int64), bits, out, 1024)
    np.testing.assert_allclose(out, np.exp(x), rtol=3e-16 * 700)


def test_priors_that_have_no_width():
    with pytest.raises(DataError, match="only 1 can be adjusted"):
        batch_prior.estimate_prior(np.ones(1), None, "x")
    with pytest.raises(DataError, match="batch 'x' has the same level"):
        batch_prior.estimate_prior(np.ones(5), np.arange(5.0), "x")
    with pytest.raises(DataError, match="same variance"):
        batch_prior.estimate_prior(np.arange(5.0), np.ones(5), "x")


@pytest.mark.parametrize("k", [0, 2])
def test_adjust(k):
    rng = np.random.default_rng(4)
    values = rng.normal(size=(20, 1500)) + 5
    values[3, 7] = np.nan
    codes = rng.integers(-1, 3, 20)
    c, coef = rng.normal(size=(20, k)), rng.normal(size=(k, 1500))
    mean, shift, ratio = rng.normal(size=1500), rng.normal(size=(3, 1500)), rng.gamma(3, 1, (3, 1500))
    untouched = rng.random(1500) < 0.1
    found = adjust_batches(values, codes, c, mean, coef, shift, ratio, untouched)
    m = mean + c @ coef
    wanted = np.where((codes[:, None] < 0) | untouched, values, (values - m - shift[codes]) * ratio[codes] + m)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(found[:, untouched], values[:, untouched])
    alone = [
        adjust_batches(values[i : i + 1], codes[i : i + 1], c[i : i + 1], mean, coef, shift, ratio, untouched)
        for i in range(20)
    ]
    np.testing.assert_array_equal(np.vstack(alone), found)
    with pytest.raises(DataError, match="don't fit"):
        adjust_batches(values, codes, c, mean[:-1], coef, shift, ratio, untouched)
    with pytest.raises(DataError, match="batch 3 is asked for"):
        adjust_batches(values, codes + 1, c, mean, coef, shift, ratio, untouched)


def test_subtract():
    rng = np.random.default_rng(5)
    values, rows, beta = rng.normal(size=(9, 1200)), rng.normal(size=(9, 3)), rng.normal(size=(3, 1200))
    values[2, 5] = np.nan
    found = subtract_terms(values, rows, beta)
    np.testing.assert_allclose(found, values - rows @ beta, atol=1e-12)
    np.testing.assert_array_equal(found[4:5], subtract_terms(values[4:5], rows[4:5], beta))
    with pytest.raises(DataError, match="don't fit"):
        subtract_terms(values, rows[:, :2], beta)
