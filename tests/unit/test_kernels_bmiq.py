"""Beta mixtures and the adjustment of type II probes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sjd_dask.kernels.bmiq import (
    START,
    BetaMixture,
    _quantile_map,
    adjust_type_two,
    beta_histogram,
    density_mode,
    fit_mixture,
    fit_type_two,
)

SHARES = np.array([0.45, 0.15, 0.40])
A, B = np.array([2.5, 4.0, 30.0]), np.array([40.0, 4.0, 3.0])
QUANTILES = np.linspace(0.01, 0.99, 99)


def draw(n, seed):
    rng = np.random.default_rng(seed)
    state = rng.choice(3, n, p=SHARES)
    return rng.beta(A[state], B[state])


def compressed(beta):
    """What type II probes make of a beta: both ends pulled in, and a bend."""
    return 0.04 + 0.88 * beta - 0.02 * np.sin(np.pi * beta)


def gap(one, other):
    return float(np.mean(np.abs(np.nanquantile(one, QUANTILES) - np.nanquantile(other, QUANTILES))))


@pytest.fixture(scope="module")
def array():
    type_one, truth = draw(40_000, 1), draw(90_000, 2)
    return type_one, truth, compressed(truth)


@pytest.fixture(scope="module")
def mixtures(array):
    first = fit_mixture(beta_histogram(array[0]), START)
    return first, fit_type_two(array[2], first)


def test_fit_finds_the_states(mixtures):
    first, second = mixtures
    assert first.mean == pytest.approx(A / (A + B), abs=0.01)
    assert first.share == pytest.approx(SHARES, abs=0.02)
    assert first.mode == pytest.approx((A[[0, 2]] - 1) / (A + B - 2)[[0, 2]], abs=0.02)
    assert second.mean[0] > first.mean[0] and second.mean[2] < first.mean[2]
    # As far as the modes are apart, so far were the ends pulled in.
    assert second.mode == pytest.approx(compressed(first.mode), abs=0.01)


def test_estimates_are_those_of_maximum_likelihood():
    """One state of a well separated mixture against scipy's fit to its values."""
    low = np.random.default_rng(5).beta(3.0, 60.0, 20_000)
    rest = np.concatenate([np.random.default_rng(6).beta(300, 300, 3000), np.random.default_rng(7).beta(90, 4, 9000)])
    found = fit_mixture(beta_histogram(np.concatenate([low, rest])), (0.25, 0.75))
    a, b, _, _ = stats.beta.fit(low, floc=0, fscale=1)
    assert (found.a[0], found.b[0]) == pytest.approx((a, b), rel=2e-3)


def test_types_become_alike(array, mixtures):
    type_one, truth, type_two = array
    first, second = mixtures
    done = adjust_type_two(type_two, second, first)
    # Measured: quantiles of the types 0.048 apart before and 0.0045 after; values 0.048 and 0.004 from their truth.
    assert gap(done, type_one) < gap(type_two, type_one) / 6
    assert np.mean(np.abs(done - truth)) < np.mean(np.abs(type_two - truth)) / 6
    for low, high in ((0.0, 0.4), (0.6, 1.0)):
        modes = [density_mode(beta_histogram(one), low, high) for one in (type_one, type_two, done)]
        assert abs(modes[2] - modes[0]) < abs(modes[1] - modes[0]) / 3
    order = np.argsort(type_two)
    assert (np.diff(done[order]) >= 0).all()
    assert done.min() >= 0 and done.max() <= 1


def test_two_halves_of_a_real_array(reference_data):
    """Real 27k betas (all type I): half of the probes are compressed as type II would be."""
    path = reference_data / "data" / "horvath_example55_27k" / "MethylationDataExample55.csv.gz"
    values = pd.read_csv(path, index_col=0).to_numpy(float).T
    half = np.random.default_rng(1).random(values.shape[1]) < 0.6
    pooled = fit_mixture(sum(beta_histogram(row[~half]) for row in values), START)
    for row in values:
        shrunk = 0.05 + 0.85 * row[half]
        done = adjust_type_two(shrunk, fit_type_two(shrunk, pooled), pooled)
        # The pooled state of other people stands in for the sample's own, so less is reached than above.
        assert gap(done, row[~half]) < gap(shrunk, row[~half]) / 2
        low = [density_mode(beta_histogram(one), 0.0, 0.4) for one in (row[~half], shrunk, done)]
        assert abs(low[2] - low[0]) < abs(low[1] - low[0]) / 10


def test_map_is_the_two_beta_functions(mixtures):
    first, second = mixtures
    for k in (0, 1, 2):
        x = np.linspace(1e-6, 1 - 1e-6, 5001)
        high = x > second.mean[k]
        want = stats.beta.ppf(stats.beta.cdf(x, second.a[k], second.b[k]), first.a[k], first.b[k])
        other = stats.beta.isf(stats.beta.sf(x, second.a[k], second.b[k]), first.a[k], first.b[k])
        found = _quantile_map(x, second, first, k)
        # Far outside a state the tail is below the smallest double, and its map is held.
        tail = np.where(high, stats.beta.sf(x, second.a[k], second.b[k]), stats.beta.cdf(x, second.a[k], second.b[k]))
        assert np.max(np.abs(found - np.where(high, other, want))[tail > 1e-250]) < 1e-9
        assert (np.diff(found) >= 0).all()


def test_one_value_is_mapped_as_among_others(mixtures):
    first, second = mixtures
    x = np.linspace(0.01, 0.15, 50)
    alone = np.array([_quantile_map(x[i : i + 1], second, first, 0)[0] for i in range(50)])
    assert np.abs(alone - _quantile_map(x, second, first, 0)).max() < 1e-14


def test_missing_zero_and_one(array, mixtures):
    values = array[2].copy()
    values[:3] = [np.nan, 0.0, 1.0]
    done = adjust_type_two(values, mixtures[1], mixtures[0])
    assert np.isnan(done[0]) and np.isfinite(done[1:]).all()
    assert done[1] == done[1:].min() and done[2] == done[1:].max()


def test_histogram():
    counts = beta_histogram(np.array([0.0, 0.0, 0.25, 0.5, 0.75, 1.0, np.nan, -0.01]))
    assert counts.sum() == 7
    assert counts[0] == counts[-1] == 0
    assert counts[round(0.25 * 65534)] == 4 and counts[round(0.75 * 65534)] == 2
    assert beta_histogram(np.array([np.nan, 0.0, 1.0])).sum() == 0


def test_mode_as_r_density():
    """R: d <- density(x); d$x[which.max(d$y)], to a cell of each grid."""
    x = np.random.default_rng(3).beta(3, 30, 5000)
    kernel = stats.gaussian_kde(x, bw_method=1.0)
    spread = min(x.std(ddof=1), (np.quantile(x, 0.75) - np.quantile(x, 0.25)) / 1.34)
    kernel.set_bandwidth(0.9 * spread * 5000**-0.2 / x.std(ddof=1))
    grid = np.linspace(0, 0.4, 2001)
    assert density_mode(beta_histogram(x), 0.0, 0.4) == pytest.approx(grid[np.argmax(kernel(grid))], abs=2e-3)


@pytest.mark.parametrize(
    "values",
    [
        np.full(1000, 0.5),
        np.random.default_rng(0).beta(8, 8, 5000),
        np.random.default_rng(0).beta(2, 60, 5000),
        np.full(10, np.nan),
        np.array([0.0, 1.0]),
    ],
)
def test_no_three_states(values, mixtures):
    assert fit_mixture(beta_histogram(values), START) is None
    assert fit_type_two(values, mixtures[0]) is None


def test_no_room_between_the_states(mixtures):
    first = mixtures[0]
    wrong = BetaMixture(first.a[::-1].copy(), first.b[::-1].copy(), first.share, first.threshold, first.mode)
    values = np.concatenate([np.linspace(0.01, 0.15, 50), np.linspace(0.3, 0.6, 50), np.linspace(0.9, 0.99, 50)])
    assert adjust_type_two(values, first, wrong) is None
    assert adjust_type_two(values[:50], first, first) is None
    assert adjust_type_two(np.full(4, np.nan), first, first) is None
