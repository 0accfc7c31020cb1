"""The test of no groups: its parts by hand, its level without groups, its power beside continuous factors."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from sjd_dask.kernels.separation import by_kurtosis, least_inertia, least_log_ratio, log_ratio, reined, whitened
from sjd_dask.stratify.choose import COMBINED, choose_k
from sjd_dask.stratify.null import (
    components_of,
    data_statistics,
    group_separation,
    n_beyond_noise,
    null_statistics,
    valley,
)
from sjd_dask.stratify.recipe import Recipe
from sjd_dask.stratify.resampling import resample_labels
from sjd_dask.stratify.strata import strata

SHARES = (0.33, 0.25, 0.29, 0.13)


def beside_factors(n: int, p: int, apart: float, factors: int, strength: float, seed: int):
    """Four classes, and continuous factors that every feature loads on."""
    random = np.random.default_rng(seed)
    truth = np.repeat(np.arange(4), np.round(np.array(SHARES) * n).astype(int))
    values = random.normal(size=(n, p)) + apart * random.normal(size=(4, p))[truth]
    values += strength * random.normal(size=(n, factors)) @ random.normal(size=(factors, p))
    return values, truth, [f"s{i:03}" for i in range(n)]


def test_whitened_and_reined_samples():
    random = np.random.default_rng(0)
    table = random.normal(size=(60, 4)) @ random.normal(size=(4, 4)) + 3.0
    table[7] += 1000.0
    white = whitened(table)
    assert np.allclose(white.mean(axis=0), 0, atol=1e-10)
    assert np.allclose(white.T @ white / 60, np.eye(4), atol=1e-8)
    near = reined(table, 3.0)
    far = np.sqrt((whitened(near) ** 2).sum(axis=1))
    assert far.argmax() == 7 and far.max() < 3.3
    # The others stay what they are to each other, and are no longer squeezed together in the direction of the one.
    others = np.arange(60) != 7
    shift = near[others] - table[others]
    assert np.median(np.abs(shift - np.median(shift, axis=0))) < 1e-9
    assert np.linalg.det(np.cov(white[others].T)) < 0.01 < 0.3 < np.linalg.det(np.cov(whitened(near)[others].T))


def test_log_ratio_is_that_of_the_scatter_matrices():
    random = np.random.default_rng(1)
    groups = random.integers(0, 3, 90)
    table = random.normal(size=(90, 5)) @ random.normal(size=(5, 5)) + random.normal(size=(3, 5))[groups]
    within = sum((table[groups == g] - table[groups == g].mean(axis=0)).T @ (table[groups == g]) for g in range(3))
    total = (table - table.mean(axis=0)).T @ table
    expected = np.linalg.slogdet(within)[1] - np.linalg.slogdet(total)[1]
    white = whitened(table)
    assert log_ratio(white, groups) == pytest.approx(expected, abs=1e-9)
    assert log_ratio(by_kurtosis(white), groups) == pytest.approx(expected, abs=1e-9)
    assert log_ratio(white, np.zeros(90, dtype=np.int64)) == pytest.approx(0.0, abs=1e-12)


def test_groups_are_found_whatever_the_scale_of_directions():
    values, truth, _ = beside_factors(200, 300, 0.5, 3, 1.0, 2)
    centred = values - values.mean(axis=0)
    left, spread, _ = np.linalg.svd(centred, full_matrices=False)
    starts = np.array([[3, 70, 120, 190], [1, 2, 3, 4], [199, 100, 50, 0]])
    found = []
    for scale in (spread[:6], np.ones(6), np.array([1, 100, 1, 0.01, 1, 10.0])):
        table = by_kurtosis(whitened(left[:, :6] * scale))
        value, labels = least_log_ratio(table, starts, 10)
        assert adjusted_rand_score(truth, labels) > 0.95
        assert value == pytest.approx(log_ratio(table, labels), abs=1e-9)
        found.append(value)
    assert np.ptp(found) < 1e-6
    # k-means of the same components sees the factors only.
    scores = np.ascontiguousarray(left[:, :6] * spread[:6])
    assert least_inertia(scores, starts, 20) == pytest.approx(
        min(_lloyd(scores, first, 20) for first in starts), rel=0.02
    )


def _lloyd(table, first, passes):
    centres = table[first]
    for _ in range(passes):
        labels = ((table[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
        centres = np.stack([table[labels == c].mean(axis=0) for c in range(len(first))])
    return ((table - centres[labels]) ** 2).sum() / (table**2).sum()


@pytest.mark.parametrize("factors", [0, 3, 8])
def test_components_beyond_noise(factors):
    random = np.random.default_rng(factors)
    values = random.normal(size=(120, 400)) + random.normal(size=(120, factors)) @ random.normal(size=(factors, 400))
    squares = np.linalg.svd(values - values.mean(axis=0), compute_uv=False) ** 2
    assert abs(n_beyond_noise(squares[:30], float(squares.sum()), 120, 400) - factors) <= 1


def test_groups_beside_strong_factors_are_found_and_the_algorithm_that_sees_them_is_trusted():
    values, truth, ids = beside_factors(160, 500, 0.5, 3, 0.6, 1)
    recipe = Recipe(resamples=20, k=(2, 3, 4, 5))
    labels = resample_labels(values, ids, recipe)
    choice = choose_k(values, ids, recipe, labels)
    assert choice.p_value == 0.005
    assert choice.k == 4
    assert choice.algorithms == ("mixture",)
    assert "Made without hierarchical, kmeans and pam" in choice.reason
    assert adjusted_rand_score(truth, choice.groups[COMBINED, 4]) > 0.95
    assert adjusted_rand_score(truth, choice.groups["kmeans", 4]) < 0.2
    table = choice.table.set_index(["algorithm", "k"])
    assert table.loc[("mixture", 4), "separation"] > 1 > 0 > table.loc[("kmeans", 4), "separation"]
    assert table["trusted"].groupby(level=0).all().to_dict() == {
        "hierarchical": False, "kmeans": False, "pam": False, "mixture": True, COMBINED: True,
    }  # fmt: skip
    found = strata(values, ids, *choice.trusted(recipe, labels), choice.k)
    assert adjusted_rand_score(truth, found.table["stratum"]) > 0.95
    assert list(found.by_algorithm) == ["mixture"]
    # Where none of the algorithms sees them, what they cut is not sold as groups.
    blind = Recipe(("kmeans",), resamples=20, k=(2, 3, 4, 5))
    choice = choose_k(values, ids, blind, labels[:, 1:2])
    assert (choice.k, choice.p_value, choice.algorithms) == (1, 0.005, ("kmeans",))
    assert "no groups that kmeans found are farther apart than cuts of data without groups" in choice.reason


def test_p_values_are_uniform_without_groups():
    """Short form: 60 layers of features that depend on their neighbours; a fifth of the p-values are below 0.2."""
    low = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        values = random.normal(size=(40, 30))
        for f in range(1, 30):
            values[:, f] += 0.9 * values[:, f - 1]
        ids = [f"s{i:02}" for i in range(40)]
        recipe = Recipe(k=(2, 3), seed=seed)
        draws = null_statistics(values, ids, recipe, 0, 19)
        base = components_of(values, ids, recipe)
        together = np.vstack([data_statistics(base, recipe), draws])
        best = ((together.mean(axis=0) - together) / together.std(axis=0)).max(axis=1)
        low += np.mean(best >= best[0]) <= 0.2
    # 12 expected; beyond 4..21 in 0.6 % of all sets of seeds.
    assert 4 <= low <= 21


def test_one_sample_far_from_all_makes_no_groups():
    values, _, ids = beside_factors(100, 200, 0.0, 2, 0.5, 4)
    values[17] += 6.0
    recipe = Recipe(("kmeans",), resamples=5, k=(2, 3))
    assert choose_k(values, ids, recipe, resample_labels(values, ids, recipe)).p_value > 0.02


def test_valleys_tell_groups_from_a_skewed_continuum():
    random = np.random.default_rng(6)
    ids = [f"s{i:03}" for i in range(300)]
    skewed = random.normal(size=(300, 60)) + 2 * random.exponential(size=(300, 1)) @ random.normal(size=(1, 60))
    recipe = Recipe(("kmeans",), resamples=10, k=(2, 3, 4, 5))
    choice = choose_k(skewed, ids, recipe, resample_labels(skewed, ids, recipe), k=3)
    table = choice.table.set_index(["algorithm", "k"])
    assert (table["valley_p"] > 0.5).all()
    # The Gaussian test may say that this is none, and then so does the reason.
    free = choose_k(skewed, ids, recipe, resample_labels(skewed, ids, recipe))
    assert (free.k == 1) != ("parts of a continuum that isn't Gaussian" in free.reason)
    values, _, ids = beside_factors(300, 200, 0.4, 0, 0.0, 5)
    labels = resample_labels(values, ids, recipe)
    choice = choose_k(values, ids, recipe, labels)
    table = choice.table.set_index(["algorithm", "k"])
    assert choice.k == 4 and table.loc[("kmeans", 4), "valley_p"] < 1e-4
    assert "continuum" not in choice.reason
    # Three samples are too few to say.
    assert valley(components_of(values, ids, recipe), (np.arange(300) > 296).astype(np.int64)) == 1.0


def test_values_without_any_variance_have_no_groups():
    values = np.full((12, 5), 3.0)
    ids = [f"s{i:02}" for i in range(12)]
    recipe = Recipe(("kmeans",), distance="euclidean", resamples=3, k=(2, 3))
    base = components_of(values, ids, recipe)
    assert base.depths == ()
    assert group_separation(base, [np.zeros(12, dtype=np.int64)]).size == 0
    choice = choose_k(values, ids, recipe, resample_labels(values, ids, recipe))
    assert (choice.k, choice.p_value) == (1, 1.0)
