"""Kernels of the resamples against the libraries whose numbers they are to give."""

from __future__ import annotations

import warnings

import kmedoids
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

import sjd_dask as sjd
from sjd_dask.errors import SpecError
from sjd_dask.kernels import linkage as linkage_kernels
from sjd_dask.kernels.kmeans import kmeans_gram, kmeans_values
from sjd_dask.kernels.linkage import METHODS, average_merges, square_of, tree_of
from sjd_dask.kernels.medoids import build_medoids, swap_medoids
from sjd_dask.kernels.mixture import LEAST_VARIANCE, mixture_groups
from sjd_dask.stratify.choose import choose_k
from sjd_dask.stratify.distances import inner_products, sample_distances
from sjd_dask.stratify.draws import drawn, first_few, id_keys, ranking
from sjd_dask.stratify.resampling import resample_labels


def samples(seed: int, n: int, p: int = 6) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(n, p)) + 3.0 * random.normal(size=(4, p))[random.integers(0, 4, n)]


@pytest.mark.parametrize("method", METHODS)
def test_trees_are_those_of_scipy_bit_for_bit(method: str) -> None:
    random = np.random.default_rng(0)
    for trial in range(60):
        n = int(random.integers(2, 140))
        # Small whole numbers: nearly all distances are tied.
        square = random.integers(0, 6, (n, n)).astype(float) if trial % 2 else random.random((n, n))
        square = (square + square.T) / 2.0
        np.fill_diagonal(square, 0.0)
        rows = np.sort(random.permutation(n)[: max(2, 4 * n // 5)])
        merges, heights = tree_of(square, rows, METHODS[method])
        part = square_of(square, rows)
        assert np.array_equal(part, square[np.ix_(rows, rows)])
        theirs = linkage(squareform(part), method=method)
        assert np.array_equal(merges, theirs[:, :2].astype(int))
        assert np.array_equal(heights, theirs[:, 2])


def test_trees_of_triangles(monkeypatch: pytest.MonkeyPatch) -> None:
    triangle = squareform(sample_distances(samples(4, 50), "euclidean"), checks=False)
    theirs = linkage(triangle, method="average")[:, :2].astype(int)
    assert np.array_equal(average_merges(triangle), theirs)
    monkeypatch.setattr(linkage_kernels, "MOST_SQUARE", 10)
    assert np.array_equal(average_merges(triangle), theirs)


def test_medoids_are_those_of_the_kmedoids_package() -> None:
    for seed in range(40):
        distances = sample_distances(samples(seed, 10 + 3 * seed), "pearson")
        first = build_medoids(distances, 6)
        assert np.array_equal(first, kmedoids.pam_build(distances, 6).medoids)
        for k in (2, 4, 6):
            labels, medoids = swap_medoids(distances, first[:k])
            theirs = kmedoids.fastpam1(distances, first[:k].astype(np.uint64))
            assert np.array_equal(labels, theirs.labels)
            assert distances[:, medoids].min(axis=1).sum() == pytest.approx(theirs.loss, rel=1e-9)


def test_medoids_of_equal_samples_and_of_as_many_groups_as_samples() -> None:
    distances = sample_distances(np.repeat(samples(1, 4), 3, axis=0), "euclidean")
    labels, medoids = swap_medoids(distances, build_medoids(distances, 6))
    assert len(set(medoids)) == 6 and set(labels) == set(range(6))
    assert distances[np.arange(12), medoids[labels]].sum() == pytest.approx(0.0, abs=1e-6)
    small = sample_distances(samples(2, 5), "euclidean")
    assert sorted(swap_medoids(small, build_medoids(small, 5))[0]) == list(range(5))


def test_mixtures_are_those_of_scikit_learn() -> None:
    compared = 0
    for seed in range(12):
        values = samples(seed, 60 + 20 * seed, 8)
        for k in (2, 4, 6):
            start, _ = kmeans_values(values, np.array([np.random.default_rng(seed).permutation(len(values))[:k]]))
            counts = np.bincount(start, minlength=k)
            least = LEAST_VARIANCE * values.var(axis=0).max()
            groups = [values[start == c] for c in range(k)]
            model = GaussianMixture(
                k,
                covariance_type="diag",
                reg_covar=least,
                weights_init=counts / counts.sum(),
                means_init=np.stack([one.mean(axis=0) for one in groups]),
                precisions_init=1.0 / (np.stack([one.var(axis=0) for one in groups]) + least),
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                theirs = model.fit_predict(values)
            assert np.array_equal(mixture_groups(values, start, k), theirs)
            compared += 1
    assert compared == 36
    assert list(mixture_groups(values[:3], np.array([0, 2, 2], dtype=np.int8), 3)) == [0, 2, 2]


def _one_by_one(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Hartigan's moves, in the plainest words."""
    k = len(first)
    labels = ((values[:, None] - values[first]) ** 2).sum(axis=2).argmin(axis=1)
    moved = True
    while moved:
        moved = False
        for i in range(len(values)):
            counts = np.bincount(labels, minlength=k)
            a = labels[i]
            if counts[a] == 1:
                continue
            apart = np.array([((values[i] - values[labels == c].mean(axis=0)) ** 2).sum() for c in range(k)])
            cost = apart * counts / (counts + 1)
            cost[a] = apart[a] * counts[a] / (counts[a] - 1)
            if cost.argmin() != a:
                labels[i], moved = cost.argmin(), True
    return labels


def test_kmeans_moves_as_the_plain_words_say() -> None:
    for seed in range(8):
        values = samples(seed, 45)
        random = np.random.default_rng(seed)
        here = np.sort(random.permutation(45)[:36])
        first = random.permutation(36)[:3]
        wanted = _one_by_one(values[here], first)
        assert np.array_equal(kmeans_values(values[here], first[None])[0], wanted)
        mask = np.zeros(45, dtype=bool)
        mask[here] = True
        labels, inertia = kmeans_gram(inner_products(values), mask, here[first][None])
        assert np.array_equal(labels[here], wanted) and (labels[~mask] == -1).all()
        parts = [values[here][wanted == c] for c in range(3)]
        assert inertia == pytest.approx(sum(((one - one.mean(axis=0)) ** 2).sum() for one in parts), rel=1e-9)


def test_more_starts_are_never_worse() -> None:
    values = samples(3, 80)
    starts = np.stack([np.random.default_rng(i).permutation(80)[:4] for i in range(6)])
    every = np.ones(80, dtype=bool)
    single = [kmeans_gram(inner_products(values), every, one[None])[1] for one in starts]
    best, inertia = kmeans_gram(inner_products(values), every, starts)
    assert inertia == pytest.approx(min(single), rel=1e-9)
    assert adjusted_rand_score(best, kmeans_values(values, starts)[0]) == 1.0


def test_groups_don_t_hang_on_threads() -> None:
    values = samples(5, 60, 20)
    ids = [f"s{i}" for i in range(60)]
    data = xr.DataArray(values, dims=("samples", "features"), coords={"sample_id": ("samples", ids)})
    one, three = (sjd.stratify.find_groups(data, resamples=21, k=(1, 5), threads=n) for n in (1, 3))
    pd.testing.assert_frame_equal(one.strata.table, three.strata.table, check_exact=True)
    pd.testing.assert_frame_equal(one.choice.table, three.choice.table, check_exact=True)
    labels = resample_labels(values, ids, one.recipe)
    assert choose_k(values, ids, one.recipe, labels).table.equals(one.choice.table)
    with pytest.raises(SpecError, match="threads is 0"):
        sjd.stratify.find_groups(data, threads=0)


def test_shares_of_a_ranking() -> None:
    keys = id_keys([f"s{i}" for i in range(50)])
    for many in (keys, np.array([5, 5, 7, 7, 7, 1], dtype=np.uint64)):
        order = ranking(many, 3, 2**63 + 5)
        for count in (1, len(many) // 2, len(many)):
            assert np.array_equal(first_few(many, count, 3, 2**63 + 5), order[:count])
            assert np.array_equal(drawn(many, count, 3, 2**63 + 5), np.sort(order[:count]))
