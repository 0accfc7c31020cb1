"""Cell fractions and pieces of surrogate variables: against exhaustive search, and by their own definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sjd_dask.errors import DataError, DesignError
from sjd_dask.kernels import cells, surrogates
from sjd_dask.kernels.lfdr import local_fdr


def scene(seed, n=20, m=60, k=5, noise=0.1):
    rng = np.random.default_rng(seed)
    profiles = rng.beta(0.5, 0.5, (m, k))
    fractions = rng.dirichlet(np.full(k, 0.5), n) * rng.choice([0.7, 1.0, 1.3], (n, 1))
    return fractions @ profiles.T + rng.normal(0, noise, (n, m)), profiles


def best_by_search(y, w, total):
    """The best point over all sets of zero fractions, with the sum free or fixed."""
    k = w.shape[1]
    best, found = np.inf, None
    for size in range(k + 1):
        for at in itertools.combinations(range(k), size):
            for fixed in {"free": [False], "one": [True], "at_most_one": [False, True]}[total]:
                if fixed and size == 0:
                    continue
                part = w[:, at]
                system, right = part.T @ part, part.T @ y
                if fixed:
                    system = np.block([[system, np.ones((size, 1))], [np.ones((1, size)), np.zeros((1, 1))]])
                    right = np.append(right, 1.0)
                p = np.zeros(k)
                p[list(at)] = np.linalg.solve(system, right)[:size] if size else []
                if p.min() < -1e-12 or (total == "at_most_one" and p.sum() > 1 + 1e-12):
                    continue
                value = np.sum((y - w @ p) ** 2)
                if value < best:
                    best, found = value, p
    return found


@pytest.mark.parametrize("total", ["free", "at_most_one", "one"])
@pytest.mark.parametrize("noise", [0.0, 0.1, 3.0])
def test_constrained_is_the_best_of_all_active_sets(total, noise):
    y, w = scene(3, noise=noise)
    found = cells.constrained_fractions(y, w, total)
    wanted = np.array([best_by_search(one, w, total) for one in y])
    assert np.abs(found - wanted).max() < 1e-11
    assert found.min() >= 0.0


def test_twenty_types_keep_the_conditions_of_the_optimum():
    y, w = scene(5, n=40, m=200, k=20, noise=0.3)
    p = cells.constrained_fractions(y, w, "one")
    assert np.abs(p.sum(axis=1) - 1).max() < 1e-12
    slope = (y - p @ w.T) @ w
    multiplier = np.array([s[q > 0].mean() for s, q in zip(slope, p, strict=True)])[:, None]
    assert np.abs((slope - multiplier)[p > 0]).max() < 1e-10
    assert (slope - multiplier)[p == 0].max() < 1e-10


@pytest.mark.parametrize("kind", ["constrained", "robust"])
def test_missing_features_are_as_if_not_there(kind):
    y, w = scene(1)
    y[:, [3, 17, 40]] = np.nan
    y[5, 22] = np.inf
    solve = cells.constrained_fractions if kind == "constrained" else lambda a, b: cells.robust_fractions(a, b)[0]
    for i, one in enumerate(y):
        kept = np.isfinite(one)
        assert np.abs(solve(y, w)[i] - solve(one[None, kept], w[kept])[0]).max() < 1e-12


def test_robust_withstands_outlying_features():
    y, w = scene(2, noise=0.01)
    truth = cells.robust_fractions(y, w)[0]
    y[:, ::8] = 1.0
    assert np.abs(cells.robust_fractions(y, w)[0] - truth).max() < 0.1
    assert np.abs(cells.constrained_fractions(y, w, "one") - truth).max() > 0.1


def test_robust_without_an_answer():
    y, w = scene(2)
    fractions, converged = cells.robust_fractions(np.vstack((-(w @ np.ones(5)), y[0])), w, max_iterations=1)
    assert np.isnan(fractions[0]).all()
    assert not converged[1]
    few = np.full((1, 60), np.nan)
    few[0, :5] = 0.5
    assert np.isnan(cells.robust_fractions(few, w)[0]).all()
    few[0, 4] = np.nan
    assert np.isnan(cells.constrained_fractions(few, w)).all()


def test_an_exact_mixture_is_found_exactly():
    _, w = scene(4)
    p = np.array([[0.2, 0.0, 0.5, 0.3, 0.0]])
    assert np.abs(cells.constrained_fractions(p @ w.T, w, "one") - p).max() < 1e-12
    assert np.abs(cells.robust_fractions(p @ w.T, w)[0] - p).max() < 1e-12
    assert cells.residual_rms(p @ w.T + 0.1, w, p)[0] == pytest.approx(0.1)


def test_profiles_that_cannot_be_told_apart():
    _, w = scene(4)
    assert cells.distinct(w)
    assert not cells.distinct(np.column_stack((w, w[:, 0] + w[:, 1])))
    assert not cells.distinct(w[:4])
    with pytest.raises(DataError, match="missing or infinite"):
        cells.constrained_fractions(w.T, np.where(w == w[0, 0], np.nan, w))


def test_nested_designs():
    rng = np.random.default_rng(0)
    full = np.column_stack((np.ones(12), rng.normal(size=(12, 3))))
    null, extra = surrogates.nested(full, full[:, :2])
    assert null.shape == (12, 2) and extra.shape == (12, 2)
    assert np.abs(null.T @ extra).max() < 1e-14
    with pytest.raises(DesignError, match="columns that the design lacks"):
        surrogates.nested(full, rng.normal(size=(12, 1)))
    with pytest.raises(DesignError, match="the same"):
        surrogates.nested(full, full)
    with pytest.raises(DesignError, match="linear combinations"):
        surrogates.orthonormal(np.column_stack((full, full[:, 0] - full[:, 1])))
    with pytest.raises(DesignError, match="12 samples"):
        surrogates.orthonormal(np.eye(12))


def test_permutations_keep_values_and_are_named_by_seed_and_feature():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 9))
    index = np.arange(50)
    a, b = rows.copy(), rows[20:].copy()
    surrogates._shuffle_rows(a, index, np.uint64(7))
    surrogates._shuffle_rows(b, index[20:], np.uint64(7))
    assert np.array_equal(np.sort(a), np.sort(rows)) and not np.array_equal(a, rows)
    assert np.array_equal(a[20:], b)


def test_permutations_are_even():
    rows = np.tile(np.arange(4.0), (24_000, 1))
    surrogates._shuffle_rows(rows, np.arange(24_000), np.uint64(1))
    counts = np.unique(rows @ 4.0 ** np.arange(4), return_counts=True)[1]
    assert counts.size == 24 and ((counts - 1000) ** 2 / 1000).sum() < 50


def test_signs_do_not_hang_on_rounding():
    half = np.array([[0.5, -0.5, 0.5, -0.5]]).T
    assert np.array_equal(surrogates.fix_signs(-half), half)
    assert np.array_equal(surrogates.fix_signs(-half * (1 + 1e-14 * np.arange(4)[:, None])) > 0, half > 0)


def test_local_fdr_refuses_what_is_no_set_of_p_values():
    with pytest.raises(DataError, match="1 of 5 p-values"):
        local_fdr([0.1, 0.2, np.nan, 0.3, 0.4])
    with pytest.raises(DataError, match="at least 4"):
        local_fdr([0.1])
    with pytest.raises(DataError, match=r"all 9 p-values are 0\.5"):
        local_fdr(np.full(9, 0.5))
    rate = local_fdr(np.concatenate((np.full(50, 1e-12), np.linspace(0.001, 1, 400))))
    assert (np.diff(rate) >= 0).all() and rate.min() >= 0 and rate.max() <= 1
