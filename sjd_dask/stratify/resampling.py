"""The same clusterings over and over on drawn samples and features: one task's share of the rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sjd_dask.kernels.grouping import cut_merges
from sjd_dask.kernels.kmeans import kmeans_gram, kmeans_values
from sjd_dask.kernels.linkage import METHODS, square_of, tree_of
from sjd_dask.kernels.medoids import build_medoids, swap_medoids
from sjd_dask.kernels.mixture import mixture_groups
from sjd_dask.kernels.principal import principal_components
from sjd_dask.stratify.distances import inner_products, sample_distances
from sjd_dask.stratify.draws import FEATURES, SAMPLES, STARTS, drawn, first_few, id_keys, position_keys
from sjd_dask.stratify.recipe import HIERARCHICAL, KMEANS, MIXTURE, PAM, Recipe, check_values, n_drawn

Floats = NDArray[np.float64]
Labels = NDArray[np.int8]
# Above this many samples k-means works on values: the inner products would be more than the values are.
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
    return Resampling(values, sample_ids, recipe).labels(start, recipe.resamples if stop is None else stop)


class Resampling:
    """Samples made ready once for many rounds; several threads may ask for rounds at the same time.

    Parameters
    ----------
    values, sample_ids, recipe
        See `resample_labels`.
    """

    def __init__(self, values: NDArray[np.float64], sample_ids: Sequence[str], recipe: Recipe) -> None:
        check_values(values, sample_ids, recipe)
        self.recipe = recipe
        # One order for all callers: then sums and ties fall the same way, and labels are equal bit for bit.
        self.order = np.asarray(sorted(range(len(values)), key=lambda i: sample_ids[i]), dtype=np.int64)
        self.table = np.ascontiguousarray(values[self.order], dtype=np.float64)
        self.keys = id_keys([sample_ids[i] for i in self.order])
        self.whole = _Prepared(self.table, recipe) if recipe.feature_fraction == 1.0 else None

    def prepare(self) -> None:
        """Make now what the first round would make: before threads start, so that each isn't made by several."""
        if self.whole is not None:
            self.whole.make()

    def labels(self, start: int, stop: int) -> Labels:
        """Labels of some rounds; see `resample_labels`."""
        recipe, (n, p) = self.recipe, self.table.shape
        out = np.full((stop - start, len(recipe.algorithms), len(recipe.k), n), -1, dtype=np.int8)
        m = n_drawn(n, recipe.sample_fraction)
        features, width = position_keys(p), n_drawn(p, recipe.feature_fraction)
        for at, round_ in enumerate(range(start, stop)):
            rows = drawn(self.keys, m, recipe.seed, round_, SAMPLES)
            now = self.whole
            if now is None:
                columns = drawn(features, width, recipe.seed, round_, FEATURES)
                now = _Prepared(np.ascontiguousarray(self.table[:, columns]), recipe)
            for a, algorithm in enumerate(recipe.algorithms):
                out[at, a][:, self.order[rows]] = _cluster(algorithm, now, rows, self.keys[rows], recipe, round_)
        return out


def full_labels(values: NDArray[np.float64], sample_ids: Sequence[str], recipe: Recipe) -> Labels:
    """Cluster all samples on all features once, (n_algorithms, n_k, n): `resample_labels` with nothing left out."""
    whole = replace(recipe, sample_fraction=1.0, feature_fraction=1.0, starts=max(recipe.starts, 10))
    found: Labels = resample_labels(values, sample_ids, whole, 0, 1)[0]
    return found


class _Prepared:
    """What the algorithms need of a table of samples, made when first asked for."""

    def __init__(self, table: Floats, recipe: Recipe) -> None:
        self.table = table
        self.recipe = recipe

    def make(self) -> None:
        """Make all that the recipe's algorithms need."""
        for algorithm in self.recipe.algorithms:
            if algorithm in (HIERARCHICAL, PAM):
                _ = self.distances
            elif algorithm == MIXTURE:
                _ = self.scores
            elif self.by_gram:
                _ = self.gram

    @property
    def by_gram(self) -> bool:
        """Whether k-means works on inner products."""
        return len(self.table) <= GRAM_SAMPLES

    @cached_property
    def distances(self) -> Floats:
        return sample_distances(self.table, self.recipe.distance)

    @cached_property
    def gram(self) -> Floats:
        return inner_products(self.table)

    @cached_property
    def scores(self) -> Floats:
        scores, _ = principal_components(self.table, self.recipe.mixture_components)
        return np.ascontiguousarray(scores[:, ~np.isnan(scores).any(axis=0)])


def _cluster(
    algorithm: str, prepared: _Prepared, rows: NDArray[np.int64], keys: NDArray[np.uint64], recipe: Recipe, round_: int
) -> Labels:
    """Groups of the drawn rows for every k, (n_k, m)."""
    if algorithm == HIERARCHICAL:
        merges, _ = tree_of(prepared.distances, rows, METHODS[recipe.linkage])
        return np.asarray(cut_merges(merges, np.asarray(recipe.k, dtype=np.int64)))
    if algorithm == PAM:
        return np.stack(_pam(square_of(prepared.distances, rows), recipe.k))
    starts = [
        np.stack([first_few(keys, k, recipe.seed, round_, STARTS, k, s) for s in range(recipe.starts)])
        for k in recipe.k
    ]
    if algorithm == KMEANS:
        return np.stack(_kmeans(prepared, rows, starts))
    assert algorithm == MIXTURE
    scores = np.ascontiguousarray(prepared.scores[rows])
    return np.stack([mixture_groups(scores, kmeans_values(scores, first)[0], first.shape[1]) for first in starts])


def _kmeans(prepared: _Prepared, rows: NDArray[np.int64], starts: list[NDArray[np.int64]]) -> list[Labels]:
    if not prepared.by_gram:
        table = prepared.table[rows]
        return [kmeans_values(table, first)[0] for first in starts]
    here = np.zeros(len(prepared.table), dtype=np.bool_)
    here[rows] = True
    return [kmeans_gram(prepared.gram, here, rows[first])[0][rows] for first in starts]


def _pam(distances: Floats, sizes: tuple[int, ...]) -> list[Labels]:
    """Partitioning around medoids (Kaufman and Rousseeuw 1990): BUILD, then the best swap until none helps."""
    # BUILD is greedy, so its medoids for k are the first k of those for the largest.
    medoids = build_medoids(distances, max(sizes))
    return [swap_medoids(distances, medoids[:k])[0] for k in sizes]
