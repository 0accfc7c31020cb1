"""Kernels of counts against plain re-statements of what they mean."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special as sc
import scipy.stats
from scipy.optimize import minimize_scalar

from sjd_dask.errors import DataError, DesignError
from sjd_dask.kernels import counts_dispersion, counts_factors, counts_filter, counts_means, counts_vst
from sjd_dask.kernels.counts_cpm import log_cpm
from sjd_dask.kernels.voom import voom_expression


def plain_tmm(y, ref, size, ref_size, trim):
    """The trimmed mean as it is defined, by ranks of all values."""
    both = (y > 0) & (ref > 0)
    y, ref = y[both], ref[both]
    # One by one: NumPy's logarithm of an array may differ in the last bit, and then other values tie.
    m = np.array([math.log2(one) for one in (y / size) / (ref / ref_size)])
    a = np.array([(math.log2(i) + math.log2(j)) / 2 for i, j in zip(y / size, ref / ref_size, strict=True)])
    v = (size - y) / size / y + (ref_size - ref) / ref_size / ref
    above = a > trim.acutoff
    m, a, v = m[above], a[above], v[above]
    n = len(m)
    if n == 0 or np.abs(m).max() < 1e-6:
        return 1.0
    cut_m, cut_a = int(n * trim.logratio_trim), int(n * trim.sum_trim)
    rank_m, rank_a = scipy.stats.rankdata(m), scipy.stats.rankdata(a)
    keep = (rank_m >= cut_m + 1) & (rank_m <= n - cut_m) & (rank_a >= cut_a + 1) & (rank_a <= n - cut_a)
    if not keep.any():
        return 1.0
    return 2 ** (np.average(m[keep], weights=1 / v[keep]) if trim.weighting else np.mean(m[keep]))


@pytest.mark.parametrize("trim", [
    counts_factors.Trim(), counts_factors.Trim(0.0, 0.0), counts_factors.Trim(0.45, 0.3, False),
    counts_factors.Trim(acutoff=-9.0),
])  # fmt: skip
@pytest.mark.parametrize("most", [3, 40, 100_000])
def test_tmm_keeps_or_cuts_ties_together(trim, most):
    draw = np.random.default_rng(most)
    for p in (1, 2, 7, 400):
        values = draw.integers(0, most, size=(6, p)).astype(float)
        values[:, 0] = draw.integers(1, most, size=6)
        size = values.sum(axis=1)
        found, common = counts_factors.tmm_factors(values, size, values[0], float(size[0]), trim)
        assert found[0] == 1 and common[0] <= np.count_nonzero(values[0])
        for i in range(1, 6):
            wanted = plain_tmm(values[i], values[0], size[i], size[0], trim)
            assert found[i] == pytest.approx(wanted, rel=1e-12), (p, i)


def test_tmm_without_a_common_feature_says_so():
    values = np.array([[0.0, 0.0, 5.0]])
    reference = np.array([3.0, 4.0, 0.0])
    factors, common = counts_factors.tmm_factors(values, np.array([5.0]), reference, 7.0, counts_factors.Trim())
    assert factors[0] == 1 and common[0] == 0
    # Singleton pairing pairs the 5 with the 4.
    _, common = counts_factors.tmmwsp_factors(values, np.array([5.0]), reference, 7.0, counts_factors.Trim())
    assert common[0] == 1


@pytest.mark.parametrize("most", [2, 5, 1000])
def test_singleton_pairing_cuts_ties_by_their_order(most):
    draw = np.random.default_rng(most)
    for n in (1, 2, 9, 60):
        x = draw.integers(0, most, n).astype(float)
        ties = draw.integers(1, 4, n).astype(float)
        for cut in range((n + 1) // 2):
            for second in (None, ties):
                order = np.argsort(x, kind="stable") if second is None else np.lexsort((second, x))
                assert set(np.flatnonzero(counts_factors._within(x, cut, second))) == set(order[cut : n - cut])


def test_quantiles_and_choice_of_reference():
    values = np.random.default_rng(2).poisson(4, size=(9, 101)).astype(float)
    keep = np.arange(101) % 3 > 0
    for p in (0.0, 0.33, 0.75, 1.0):
        assert counts_factors.quantiles(values, p) == pytest.approx(np.quantile(values, p, axis=1), rel=1e-14)
        wanted = np.quantile(values[:, keep], p, axis=1)
        assert counts_factors.quantiles(values, p, keep) == pytest.approx(wanted, rel=1e-14)
    roots = np.array([1.0, 3.0, 2.0])
    assert counts_factors.reference_by_quartiles(np.array([0.0, 0.0, 1.0]), roots) == 1
    assert counts_factors.reference_by_quartiles(np.array([1.0, 2.0, 6.0]), roots) == 1
    assert counts_factors.reference_by_quartiles(np.array([1.0, 1.0, 1.0]), roots) == 0


def test_geometric_means_take_zeros_by_their_rule():
    values = np.array([[1.0, 0.0, 4.0], [9.0, 0.0, 0.0]])
    ratio, zeros_as_one = (counts_factors.log_geometric_means(values, kind) for kind in ("ratio", "poscounts"))
    assert np.exp(ratio[0]) == pytest.approx(3) and np.isnan(ratio[1:]).all()
    assert np.exp(zeros_as_one[[0, 2]]) == pytest.approx([3, 2]) and np.isnan(zeros_as_one[1])
    assert np.isnan(counts_factors.size_factors(values, np.full(3, np.nan))).all()
    assert np.isnan(counts_factors.rle_factors(values, np.ones(2), np.full(3, np.nan))).all()


def test_log_values():
    values = np.random.default_rng(3).poisson(20, size=(3, 50)).astype(float)
    size = np.array([10.0, 30.0, 50.0])
    prior = 2 * size / 30
    wanted = np.log2((values + prior[:, None]) / (size + 2 * prior)[:, None] * 1e6)
    assert log_cpm(values, size, 30.0, 2.0) == pytest.approx(wanted, rel=1e-13)
    assert voom_expression(values, size) == pytest.approx(
        np.log2((values + 0.5) / (size + 1)[:, None] * 1e6), rel=1e-14
    )


def test_how_many_samples_must_have_counts():
    assert counts_filter.minimum_sample_size(8) == 8
    assert counts_filter.minimum_sample_size(30) == pytest.approx(10 + 20 * 0.7)
    assert counts_filter.minimum_sample_size(9, groups=list("aaabbbbcc")) == 2
    groups = np.repeat(np.eye(3), [3, 4, 2], axis=0)
    assert counts_filter.minimum_sample_size(9, design=groups) == pytest.approx(2)
    # Columns that depend on each other change nothing.
    twice = np.column_stack([groups, groups])
    assert counts_filter.minimum_sample_size(9, design=twice) == pytest.approx(2)
    with pytest.raises(DesignError, match="9 rows"):
        counts_filter.minimum_sample_size(9, design=np.ones((8, 1)))


def test_digamma():
    x = np.concatenate([np.geomspace(1e-9, 1e9, 400), [1.0, 2.0, 10.0, 0.5]])
    found = np.array([counts_dispersion._digamma(float(one)) for one in x])
    assert found == pytest.approx(sc.digamma(x), rel=1e-13, abs=1e-14)


def adjusted_likelihood(log_alpha, y, mu, x):
    alpha = np.exp(log_alpha)
    r = 1 / alpha
    w = 1 / (1 / mu + alpha)
    terms = sc.gammaln(y + r) - sc.gammaln(r) - y * np.log(mu + r) - r * np.log1p(mu * alpha)
    return terms.sum() - 0.5 * np.linalg.slogdet(x.T @ (w[:, None] * x))[1]


@pytest.mark.parametrize("columns", [1, 2, 4])
def test_dispersions_are_at_the_maximum(columns):
    draw = np.random.default_rng(columns)
    n = 40
    x = np.column_stack([np.ones(n), draw.normal(size=(n, columns - 1))])
    factors = np.exp(draw.normal(0, 0.4, n))
    mu = factors[:, None] * np.exp(draw.normal(5, 1, 25))
    y = draw.negative_binomial(4, 4 / (4 + mu)).astype(float)
    found = counts_dispersion.gene_dispersions(y, factors, x)
    assert np.median(found) == pytest.approx(0.25, rel=0.3)
    means = counts_means.fitted_means(np.ascontiguousarray(y.T), factors, x, found)
    for g, alpha in enumerate(found):
        a = np.log(alpha)
        step = 1e-4
        slope = adjusted_likelihood(a + step, y[:, g], means[g], x) - adjusted_likelihood(
            a - step, y[:, g], means[g], x
        )
        b, db, work = np.empty((columns, columns)), np.empty((columns, columns)), np.empty(columns)
        exact = counts_dispersion._slope(a, y[:, g], means[g], x, b, db, work)
        assert exact == pytest.approx(slope / (2 * step), abs=1e-5)
        best = minimize_scalar(lambda z, g=g: -adjusted_likelihood(z, y[:, g], means[g], x), bounds=(-6, 2)).x
        assert a == pytest.approx(best, abs=0.05)
        alone = counts_dispersion.gene_dispersions(y[:, [g]], factors, x)
        assert alone[0] == pytest.approx(alpha, rel=1e-12)


def test_dispersions_of_odd_features():
    y = np.zeros((6, 4))
    y[0, 1] = 1
    y[:, 2] = 50
    y[:, 3] = [0, 0, 0, 0, 0, 1e6]
    found = counts_dispersion.gene_dispersions(y, np.ones(6), np.ones((6, 1)))
    assert np.isnan(found[0]) and found[2] == pytest.approx(1e-8)
    assert 1 < found[3] <= 10 and 1e-8 <= found[1] <= 10
    with pytest.raises(DesignError, match="6 samples and 6 columns"):
        counts_dispersion.gene_dispersions(y, np.ones(6), np.eye(6))
    with pytest.raises(DesignError, match="depend on each other"):
        counts_dispersion.gene_dispersions(y, np.ones(6), np.ones((6, 2)))


def test_means_that_do_not_settle_go_to_the_optimiser():
    x = np.column_stack([np.ones(6), np.arange(6.0) - 2.5])
    y = np.array([[0.0, 0, 0, 0, 0, 900], [5, 6, 4, 5, 7, 5]])
    found = counts_means.fitted_means(y, np.ones(6), x, np.array([1e-8, 0.1]))
    assert (found >= 0.5).all() and np.isfinite(found).all()
    assert found[0, -1] == pytest.approx(900, rel=0.1)
    by_optimiser = counts_means._by_optimiser(y[1], np.ones(6), x, 0.1, np.array([2.0, 0.5]))
    assert by_optimiser == pytest.approx(found[1], rel=1e-3)


def test_trend():
    draw = np.random.default_rng(4)
    means = np.exp(draw.uniform(1, 8, 800))
    dispersions = (0.1 + 3 / means) * draw.gamma(5, 1 / 5, 800)
    trend = counts_vst.fit_trend(means, dispersions)
    assert trend.kind == "parametric" and not trend.note
    assert trend.asymptotic == pytest.approx(0.1, rel=0.2) and trend.extra == pytest.approx(3, rel=0.2)
    rising = counts_vst.fit_trend(means, 0.001 * means)
    assert rising.kind == "mean" and "does not fit" in rising.note and rising.extra == 0
    assert counts_vst.fit_trend(means[:1], dispersions[:1]).kind == "mean"
    with pytest.raises(DataError, match="lower limit"):
        counts_vst.fit_trend(means, np.full(800, 1e-8))


def test_trend_is_learnt_from_features_spread_over_the_means():
    means = np.concatenate([np.zeros(5), np.arange(6.0, 106.0)[::-1]])
    chosen = counts_vst.spread_over_means(means, 4)
    assert means[chosen].tolist() == [6, 39, 72, 105]
    assert counts_vst.spread_over_means(np.full(7, 9.0), 7).tolist() == list(range(7))
    with pytest.raises(DataError, match="only 100 of 105 have one: set n_sub to at most 100"):
        counts_vst.spread_over_means(means, 101)


def test_transform_is_increasing_and_near_log2():
    q = np.linspace(0, 1e6, 5000)[None]
    for trend in (counts_vst.Trend("parametric", 0.05, 2.0), counts_vst.Trend("mean", 0.05, 0.0)):
        found = counts_vst.transform(q, np.ones(1), trend)[0]
        assert (np.diff(found) > 0).all() and np.isfinite(found).all()
        assert found[-1] == pytest.approx(np.log2(1e6), abs=0.01)
        assert np.array_equal(found, counts_vst.transform(2 * q, np.array([2.0]), trend)[0])
