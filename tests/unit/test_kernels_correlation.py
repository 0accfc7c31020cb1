"""Within-block correlation and the least squares it leads to."""

from __future__ import annotations

import numpy as np
import pytest

from sjd_dask.errors import DataError, DesignError
from sjd_dask.kernels.correlation import consensus_correlation, duplicate_correlation, whiten
from sjd_dask.kernels.gls import gls_fit
from sjd_dask.kernels.linear_contrasts import contrast_fit


@pytest.fixture
def setting():
    rng = np.random.default_rng(4)
    block = rng.permutation(np.repeat(np.arange(12), [1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 5, 6]))
    n = block.size
    design = np.column_stack([np.ones(n), np.arange(n) % 2, rng.normal(size=n)])
    y = rng.normal(size=(n, 40)) + np.linspace(0, 1.5, 40) * rng.normal(size=(12, 40))[block] + 50
    missing = y.copy()
    missing[rng.random(y.shape) < 0.15] = np.nan
    return block, design, y, missing


def correlation_matrix(block, rho):
    same = block[:, None] == block[None, :]
    return np.where(same, rho, 0.0) + np.diag(np.full(block.size, 1.0 - rho))


def restricted(rho, y, design, block):
    """Minus twice the restricted log likelihood by dense matrices."""
    v = correlation_matrix(block, rho)
    inverse = np.linalg.inv(v)
    information = design.T @ inverse @ design
    beta = np.linalg.solve(information, design.T @ inverse @ y)
    rest = y - design @ beta
    df = y.size - design.shape[1]
    return np.linalg.slogdet(v)[1] + np.linalg.slogdet(information)[1] + df * np.log(rest @ inverse @ rest)


@pytest.mark.parametrize("which", ["complete", "missing"])
def test_reml_is_the_maximum_of_the_likelihood(setting, which):
    block, design, y, missing = setting
    values = y if which == "complete" else missing
    rho = duplicate_correlation(values, design, block, method="reml")
    low, high = 1 / (1 - 6) + 0.01, 0.99
    grid = np.linspace(low, high, 60)
    for feature in range(0, 40, 4):
        seen = np.isfinite(values[:, feature])
        data = values[seen, feature], design[seen], block[seen]
        best = restricted(rho[feature], *data)
        assert best <= min(restricted(r, *data) for r in grid) + 1e-8
        for step in (-1e-3, 1e-3):
            if low < rho[feature] + step < high:
                assert restricted(rho[feature] + step, *data) > best


def test_methods_agree_with_small_blocks(setting):
    block, design, y, missing = setting
    for values in (y, missing):
        limma = duplicate_correlation(values, design, block)
        reml = duplicate_correlation(values, design, block, method="reml")
        # The variance floor and the early end of the first show in a few features.
        inside = reml < 0.6
        assert np.median(np.abs(limma - reml)[inside]) < 1e-4
        np.testing.assert_allclose(limma[inside], reml[inside], atol=0.05)


@pytest.mark.parametrize("method", ["limma", "reml"])
def test_features_samples_and_labels(setting, method):
    block, design, _, missing = setting
    rho = duplicate_correlation(missing, design, block, method=method)
    assert np.array_equal(duplicate_correlation(missing[:, 7:9], design, block, method=method), rho[7:9])
    order = np.random.default_rng(0).permutation(block.size)
    names = np.array([f"person {b}" for b in block])
    turned = duplicate_correlation(missing[order], design[order], names[order], method=method)
    np.testing.assert_allclose(turned, rho, atol=2e-6)


@pytest.mark.parametrize("method", ["limma", "reml"])
def test_features_that_say_nothing(setting, method):
    block, design, y, _ = setting
    odd = y[:, :4].copy()
    odd[:, 0] = 3.0
    odd[:, 1] = np.nan
    odd[5:, 2] = np.nan
    odd[block != 11, 3] = np.nan
    assert np.isnan(duplicate_correlation(odd, design, block, method=method)).all()


def test_no_repeats_and_blocks_in_the_design(setting):
    _, design, y, _ = setting
    n = design.shape[0]
    with pytest.warns(UserWarning, match="every block has one sample"):
        assert not duplicate_correlation(y, design, np.arange(n)).any()
    with pytest.warns(UserWarning, match="already holds the blocks"):
        assert not duplicate_correlation(y, design[:, :2], np.arange(n) % 2).any()
    with pytest.raises(DesignError, match="full rank"):
        duplicate_correlation(y, design[:, [0, 1, 1]], np.arange(n) // 2)


def test_consensus():
    rho = np.array([0.1, 0.2, np.nan, 0.3, -0.9, 0.9, 0.2, 0.25])
    kept = np.sort(np.arctanh(rho[~np.isnan(rho)]))[1:-1]
    assert consensus_correlation(rho) == pytest.approx(np.tanh(kept.mean()))
    assert consensus_correlation([0.1, 0.2, 0.9], trim=0.5) == pytest.approx(0.2)
    with pytest.raises(DataError, match="no feature has enough"):
        consensus_correlation([np.nan])


@pytest.mark.parametrize("rho", [-0.15, 0.0, 0.4, 0.95])
def test_whitening(setting, rho):
    block, *_ = setting
    root = whiten(np.eye(block.size), block, rho)
    np.testing.assert_allclose(root @ correlation_matrix(block, rho) @ root.T, np.eye(block.size), atol=1e-12)
    np.testing.assert_allclose(root, root.T, atol=1e-14)


def test_impossible_correlation(setting):
    block, design, y, _ = setting
    for rho in (1.0, -0.2, np.nan):
        with pytest.raises(DesignError, match=r"must lie between -0\.2 and 1"):
            gls_fit(y, design, block, rho)


@pytest.mark.parametrize("which", ["complete", "missing"])
def test_gls_by_dense_matrices(setting, which):
    block, design, y, missing = setting
    values = (y if which == "complete" else missing).copy()
    if which == "missing":
        values[design[:, 1] == 1, 3] = np.nan  # second column is all zero for this feature
        values[:, 4] = np.nan
    rho = 0.35
    fit, whitened = gls_fit(values, design, block, rho)
    contrasts = np.array([[0.0, 1, 0], [0, 1, 1]]).T
    tested = contrast_fit(fit, whitened, contrasts)
    for feature in (0, 1, 2, 5, 39):
        seen = np.isfinite(values[:, feature])
        x, data = design[seen], values[seen, feature]
        inverse = np.linalg.inv(correlation_matrix(block[seen], rho))
        covariance = np.linalg.inv(x.T @ inverse @ x)
        beta = covariance @ x.T @ inverse @ data
        rest = data - x @ beta
        np.testing.assert_allclose(fit.coefficients[:, feature], beta, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(fit.stdev_unscaled[:, feature], np.sqrt(np.diag(covariance)), rtol=1e-10)
        np.testing.assert_allclose(fit.sigma2[feature], rest @ inverse @ rest / (seen.sum() - 3), rtol=1e-9)
        np.testing.assert_allclose(fit.mean[feature], data.mean(), rtol=1e-12)
        spread = contrasts.T @ covariance @ contrasts
        np.testing.assert_allclose(tested.effects[:, feature], contrasts.T @ beta, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(tested.stdev_unscaled[:, feature], np.sqrt(np.diag(spread)), rtol=1e-9)
        effects = contrasts.T @ beta
        wanted = effects @ np.linalg.solve(spread, effects)
        np.testing.assert_allclose(tested.f_quadratic[feature], wanted, rtol=1e-8)
    if which == "missing":
        assert np.isnan(fit.coefficients[:, 3]).tolist() == [False, True, False]
        assert fit.df_residual[3] == np.isfinite(values[:, 3]).sum() - 2
        assert np.isnan(tested.effects[:, 3]).all()
        assert np.isnan(fit.coefficients[:, 4]).all()
        assert fit.df_residual[4] == 0
        assert fit.n_samples[4] == 0


@pytest.mark.parametrize("intercept", [True, False])
def test_gls_keeps_its_digits_beside_a_large_mean(intercept):
    """A shift of all values belongs to the constant alone, written as a column or as the sum of the groups."""
    rng = np.random.default_rng(8)
    n = 48
    group = np.arange(n) % 2
    first = np.ones(n) if intercept else 1.0 - group
    design = np.column_stack([first, group, 2021.0 + rng.integers(-8, 9, n)])
    block = np.arange(n) // 3
    values = np.round(rng.normal(size=(n, 5)) * 2**20) / 2**20
    values[rng.random(n) < 0.2, 1] = np.nan
    values[:, 2] = 3.25
    values[group == 1, 3] = np.nan
    shift = 2.0**20
    contrasts = np.array([[0.0, 0, 1], [0, 1, -1], [1, 0, 0], [2, 1, 0]]).T
    own = np.array([0.0, 0, 1, 2]) if intercept else np.array([0.0, 1, 1, 3])
    for rho in (0.4, -0.1):
        tested = []
        for added in (0.0, shift):
            fit, whitened = gls_fit(values + added, design, block, rho)
            tested.append((fit, contrast_fit(fit, whitened, contrasts[:, :2]), contrast_fit(fit, whitened, contrasts)))
        (low, slopes, all_low), (high, shifted, all_high) = tested
        np.testing.assert_allclose(high.sigma2, low.sigma2, rtol=1e-10, atol=0)
        assert high.sigma2[2] == 0 == high.coefficients[2, 2]
        error = all_low.stdev_unscaled * np.sqrt(low.sigma2)
        error[:, 2] = 1e-3
        # The feature that lacks a group is worked out by itself, without the shift.
        error[:, 3] *= 1e4
        wanted = all_low.effects + own[:, None] * shift
        # The constant itself is far from the data, at the year 0.
        limit = np.array([1e-11, 1e-11, 1e-10, 1e-10])[:, None] * error + (own[:, None] > 0) * 1e-15 * shift * 100
        assert (np.isnan(wanted) == np.isnan(all_high.effects)).all()
        assert (np.abs(all_high.effects - wanted) <= limit)[np.isfinite(wanted)].all()
        if intercept:
            np.testing.assert_allclose(shifted.f_quadratic, slopes.f_quadratic, rtol=1e-9)
