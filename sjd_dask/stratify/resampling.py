"""The same clusterings over and over on drawn samples and features: one task's share of the rounds."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage

from sjd_dask.kernels.grouping import condensed, cut_merges, kmeans_gram, kmeans_values
from sjd_dask.kernels.principal import principal_components
from sjd_dask.stratify.distances import inner_products, sample_distances
from sjd_dask.stratify.draws import FEATURES, SAMPLES, STARTS, id_keys, position_keys, ranking
from sjd_dask.stratify.recipe import HIERARCHICAL, KMEANS, MIXTURE, PAM, Recipe, check_values, n_drawn

Floats = NDArray[np.float64]
Labels = NDArray[np.int8]
# Above this many samples k-means works on values: inner products would be gathered anew for each resample.
GRAM_SAMPLES = 4096


def resample_labels(
    values: NDArray[np.float64], sample_ids: Sequence[str], recipe: Recipe, start: int = 0, stop: int | None = None
) -> Labels:
    """Cluster the rounds start..stop of the resamples.

    Parameters
    ----------
    values : ndarray (n, p)
        Samples in rows, no missing values.
    sample_ids : sequence of str (n,)
        Draws are keyed by them, so that the order of the rows doesn't matter.
    recipe : Recipe
    start, stop : int
        Rounds, from 0; default all of ``recipe.resamples``.

    Returns
    -------
    ndarray of int8 (stop - start, n_algorithms, n_k, n)
        Groups from 0, or -1 where a sample isn't drawn in a round. The numbers of groups mean nothing across rounds.

    Raises
    ------
    DataError, SpecError
        See `check_values`.

    Notes
    -----
    Method: consensus clustering (Monti et al. 2003). Every round draws floor(fraction x n) samples without replacement.
    """
    stop = recipe.resamples if stop is None else stop
    check_values(values, sample_ids, recipe)
    n = len(values)
    # One order for all callers: then sums and ties fall the same way, and labels are equal bit for bit.
    order = np.asarray(sorted(range(n), key=lambda i: sample_ids[i]), dtype=np.int64)
    table = np.ascontiguousarray(values[order], dtype=np.float64)
    keys = id_keys([sample_ids[i] for i in order])
    out = np.full((stop - start, len(recipe.algorithms), len(recipe.k), n), -1, dtype=np.int8)
    prepared = _Prepared(table, recipe) if recipe.feature_fraction == 1.0 else None
    m, width = n_drawn(n, recipe.sample_fraction), n_drawn(table.shape[1], recipe.feature_fraction)
    features = position_keys(table.shape[1])
    for at, round_ in enumerate(range(start, stop)):
        rows = np.sort(ranking(keys, recipe.seed, round_, SAMPLES)[:m])
        now = prepared
        if now is None:
            columns = np.sort(ranking(features, recipe.seed, round_, FEATURES)[:width])
            now = _Prepared(np.ascontiguousarray(table[:, columns]), recipe)
        for a, algorithm in enumerate(recipe.algorithms):
            out[at, a][:, order[rows]] = _cluster(algorithm, now, rows, keys[rows], recipe, round_)
    return out


def full_labels(values: NDArray[np.float64], sample_ids: Sequence[str], recipe: Recipe) -> Labels:
    """Cluster all samples on all features once, (n_algorithms, n_k, n): `resample_labels` with nothing left out."""
    whole = replace(recipe, sample_fraction=1.0, feature_fraction=1.0, starts=max(recipe.starts, 10))
    return resample_labels(values, sample_ids, whole, 0, 1)[0]


class _Prepared:
    """What the algorithms need of a table of samples, made when first asked for."""

    def __init__(self, table: Floats, recipe: Recipe) -> None:
        self.table = table
        self.distance = recipe.distance
        self.components = recipe.mixture_components
        self._distances: Floats | None = None
        self._gram: Floats | None = None
        self._scores: Floats | None = None

    @property
    def distances(self) -> Floats:
        if self._distances is None:
            self._distances = sample_distances(self.table, self.distance)
        return self._distances

    @property
    def gram(self) -> Floats:
        if self._gram is None:
            self._gram = inner_products(self.table)
        return self._gram

    @property
    def scores(self) -> Floats:
        if self._scores is None:
            scores, _ = principal_components(self.table, self.components)
            self._scores = np.ascontiguousarray(scores[:, ~np.isnan(scores).any(axis=0)])
        return self._scores


def _cluster(
    algorithm: str, prepared: _Prepared, rows: NDArray[np.int64], keys: NDArray[np.uint64], recipe: Recipe, round_: int
) -> Labels:
    """Groups of the drawn rows for every k, (n_k, m)."""
    if algorithm == HIERARCHICAL:
        tree = linkage(condensed(prepared.distances, rows), method=recipe.linkage)
        return np.asarray(cut_merges(tree[:, :2].astype(np.int64), np.asarray(recipe.k, dtype=np.int64)))
    starts = [
        np.stack([ranking(keys, recipe.seed, round_, STARTS, k, s)[:k] for s in range(recipe.starts)]) for k in recipe.k
    ]
    if algorithm == KMEANS:
        return np.stack(_kmeans(prepared, rows, starts))
    if algorithm == PAM:
        return np.stack(_pam(prepared.distances[np.ix_(rows, rows)], recipe.k))
    assert algorithm == MIXTURE
    return np.stack([_mixture(prepared.scores[rows], first) for first in starts])


def _kmeans(prepared: _Prepared, rows: NDArray[np.int64], starts: list[NDArray[np.int64]]) -> list[Labels]:
    if len(prepared.table) <= GRAM_SAMPLES:
        gram = prepared.gram[np.ix_(rows, rows)]
        return [kmeans_gram(gram, first)[0] for first in starts]
    table = prepared.table[rows]
    return [kmeans_values(table, first)[0] for first in starts]


def _pam(distances: Floats, sizes: tuple[int, ...]) -> list[Labels]:
    """Partitioning around medoids (Kaufman and Rousseeuw 1990): BUILD, then swaps as FastPAM1 finds them."""
    import kmedoids

    # BUILD is greedy, so its medoids for k are the first k of those for the largest.
    medoids = kmedoids.pam_build(distances, max(sizes)).medoids
    found = [kmedoids.fastpam1(distances, medoids[:k].copy()) for k in sizes]
    return [np.asarray(one.labels).astype(np.int8) for one in found]


def _mixture(scores: Floats, starts: NDArray[np.int64]) -> Labels:
    """Gaussian mixture with diagonal covariances, started from k-means."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    k = starts.shape[1]
    labels, _ = kmeans_values(scores, starts)
    counts = np.bincount(labels, minlength=k)
    if (counts == 0).any():
        return labels
    spread = float(scores.var(axis=0).max())
    means = np.stack([scores[labels == c].mean(axis=0) for c in range(k)])
    variances = np.stack([scores[labels == c].var(axis=0) for c in range(k)])
    model = GaussianMixture(
        k,
        covariance_type="diag",
        weights_init=counts / counts.sum(),
        means_init=means,
        precisions_init=1.0 / (variances + 1e-3 * spread),
        reg_covar=1e-3 * spread,
        random_state=0,
    )
    with warnings.catch_warnings():
        # A fit that stops at its last iteration is a clustering too; how steady it is shows in the consensus.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(model.fit_predict(scores)).astype(np.int8)
