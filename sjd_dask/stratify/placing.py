"""What each algorithm says of a sample that it hasn't seen: which group is nearest by the measure of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sjd_dask.kernels.principal import principal_components
from sjd_dask.stratify.distances import sample_distances
from sjd_dask.stratify.draws import FEATURES, position_keys, ranking
from sjd_dask.stratify.recipe import HIERARCHICAL, KMEANS, MIXTURE, PAM, Recipe, n_drawn

Floats = NDArray[np.float64]
Labels = NDArray[np.int8]
# Samples that are placed at a time.
BLOCK = 512
# Scores nearer than this to each other (relative to their size) are a tie. Rounding is a thousand times smaller.
TIE = 1e-10
# The mixture's variances are at least this share of the largest variance, as in the fit of a resample.
LEAST_VARIANCE = 1e-3


def sample_table(values: Floats, distance: str) -> Floats:
    """Rows whose inner products give the distance: unit vectors for a correlation, the values for "euclidean"."""
    if distance == "euclidean":
        return values
    if distance == "spearman":
        from scipy.stats import rankdata

        values = rankdata(values, axis=1)
    centred = values - values.mean(axis=1, keepdims=True)
    norms = np.sqrt(np.einsum("ij,ij->i", centred, centred))
    return np.asarray(centred / np.where(norms > 0, norms, 1.0)[:, None])


def at_distance(rows: Floats, table: Floats, distance: str) -> Floats:
    """Distances of some rows of a `sample_table` to others, (n, m)."""
    if distance != "euclidean":
        return np.asarray(1.0 - np.clip(rows @ table.T, -1.0, 1.0))
    mean = table.mean(axis=0)
    a, b = rows - mean, table - mean
    squares = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b) - 2.0 * (a @ b.T)
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)))


def rule_bytes(m: int, p: int, recipe: Recipe) -> int:
    """Bytes of the rules of one round."""
    width = 8 * sum(recipe.k)
    by_distance = HIERARCHICAL in recipe.algorithms and recipe.distance == "euclidean"
    linear = sum(name != MIXTURE for name in recipe.algorithms) - by_distance
    loadings = 8 * recipe.mixture_components * p if recipe.feature_fraction < 1.0 else 0
    return max(1, width * (p * linear + m * by_distance + 2 * recipe.mixture_components) + loadings)


@dataclass(frozen=True)
class _View:
    """Rounds that draw the same features, all or some."""

    columns: NDArray[np.int64] | None
    start: int
    stop: int


class Rules:
    """How samples join the groups of some rounds.

    Parameters
    ----------
    values : ndarray (m, p)
        Of the samples that made the groups, in the order of their ids.
    recipe : Recipe
    labels : ndarray of int8 (R, n_algorithms, n_k, m)
    start, stop : int
        Rounds.

    Notes
    -----
    hierarchical: the group of smallest mean distance to its members, for every linkage. kmeans: of the nearest
    centroid. pam: of the nearest medoid, the member of smallest summed distance to the others. mixture: of the largest
    density times weight, of Gaussians with diagonal covariances that have the weights, means and variances of the
    groups, on the principal components of the samples that made them. Each with the features that the round drew.

    A mean of correlation distances is linear in the sample, so that one product with the mean of the members' unit
    vectors stands for the distances to all of them; only a mean of Euclidean distances needs each.
    """

    def __init__(self, values: Floats, recipe: Recipe, labels: Labels, start: int, stop: int) -> None:
        self.recipe = recipe
        self.start, self.stop = start, stop
        self.values = values
        self.mean = values.mean(axis=0)
        self.sizes = np.asarray(recipe.k, dtype=np.int64)
        self.labels = labels
        p = values.shape[1]
        if recipe.feature_fraction == 1.0:
            self.views = [_View(None, start, stop)]
        else:
            keys, width = position_keys(p), n_drawn(p, recipe.feature_fraction)
            self.views = [
                _View(np.sort(ranking(keys, recipe.seed, r, FEATURES)[:width]), r, r + 1) for r in range(start, stop)
            ]
        self._linear: dict[int, tuple[Floats, Floats]] = {}
        self._members: list[Floats] = []
        self._loadings: list[Floats] = []
        self._densities: list[tuple[Floats, Floats]] = []
        for a, algorithm in enumerate(recipe.algorithms):
            if algorithm == MIXTURE:
                self._mixture(a)
            elif algorithm == HIERARCHICAL and recipe.distance == "euclidean":
                self._members = [self._shares(a, view)[0] for view in self.views]
            else:
                parts = [self._weights(a, algorithm, view) for view in self.views]
                self._linear[a] = (
                    np.concatenate([part[0] for part in parts], axis=1) if len(parts) > 1 else parts[0][0],
                    np.concatenate([part[1] for part in parts]),
                )

    def _shares(self, a: int, view: _View) -> tuple[Floats, NDArray[np.int64]]:
        """Columns of the groups of a view: 1 / size for members, (m, rounds * sum(k)); and the sizes."""
        m, total = len(self.values), int(self.sizes.sum())
        shares = np.zeros((m, (view.stop - view.start) * total))
        counts = np.zeros(shares.shape[1], dtype=np.int64)
        every = np.arange(m)
        at = 0
        for r in range(view.start, view.stop):
            for j, k in enumerate(self.recipe.k):
                line = self.labels[r, a, j].astype(np.int64)
                drawn = every[line >= 0]
                shares[drawn, at + line[drawn]] = 1.0
                counts[at : at + k] = np.bincount(line[drawn], minlength=k)
                at += k
        shares /= np.maximum(counts, 1)
        return shares, counts

    def _weights(self, a: int, algorithm: str, view: _View) -> tuple[Floats, Floats]:
        """Weights (p, columns) and offsets (columns,): the score of a sample is offset - sample @ weights."""
        shares, counts = self._shares(a, view)
        values = self.values if view.columns is None else self.values[:, view.columns]
        if algorithm == KMEANS or self.recipe.distance == "euclidean":
            table = values - (self.mean if view.columns is None else self.mean[view.columns])
        else:
            table = sample_table(values, self.recipe.distance)
        if algorithm == PAM:
            weights = table[self._medoids(shares, values)].T
        else:
            weights = table.T @ shares
        offsets = np.zeros(weights.shape[1])
        if algorithm == KMEANS or self.recipe.distance == "euclidean":
            offsets = np.einsum("ij,ij->j", weights, weights) / 2.0
        offsets = np.where(counts > 0, offsets, np.inf)
        if view.columns is None:
            return np.ascontiguousarray(weights), offsets
        whole = np.zeros((self.values.shape[1], weights.shape[1]))
        whole[view.columns] = weights
        return whole, offsets

    def _medoids(self, shares: Floats, values: Floats) -> NDArray[np.int64]:
        """The member of smallest summed distance to the others, of each group (columns of `shares`)."""
        sums = sample_distances(values, self.recipe.distance) @ shares
        return np.asarray(np.where(shares > 0, sums, np.inf).argmin(axis=0))

    def _mixture(self, a: int) -> None:
        for view in self.views:
            values = self.values if view.columns is None else self.values[:, view.columns]
            mean = self.mean if view.columns is None else self.mean[view.columns]
            scores, _ = principal_components(values, self.recipe.mixture_components)
            scores = np.ascontiguousarray(scores[:, ~np.isnan(scores).any(axis=0)])
            found = (values - mean).T @ scores / np.einsum("ij,ij->j", scores, scores)
            loadings = np.zeros((self.values.shape[1], found.shape[1]))
            loadings[slice(None) if view.columns is None else view.columns] = found
            self._loadings.append(loadings)
            shares, counts = self._shares(a, view)
            total = np.repeat(
                [(self.labels[r, a, 0] >= 0).sum() for r in range(view.start, view.stop)], self.sizes.sum()
            )
            means = shares.T @ scores
            variances = np.maximum(shares.T @ (scores * scores) - means * means, 0.0)
            drawn = np.stack([self.labels[r, a, 0] >= 0 for r in range(view.start, view.stop)])
            spread = np.repeat([float(scores[one].var(axis=0).max()) for one in drawn], self.sizes.sum())
            variances += LEAST_VARIANCE * spread[:, None]
            constant = 0.5 * (np.log(variances) + means * means / variances).sum(axis=1) - np.log(
                np.maximum(counts, 1) / total
            )
            weights = np.concatenate([means / variances, -0.5 / variances], axis=1).T
            self._densities.append((weights, np.where(counts > 0, constant, np.inf)))

    def scores(self, values: Floats) -> Iterator[tuple[int, Floats, Floats]]:
        """Scores of samples for the groups of all rounds, algorithm by algorithm.

        Parameters
        ----------
        values : ndarray (n, p)

        Yields
        ------
        algorithm : int
        scores : ndarray (n, rounds * sum(k))
            The least one is nearest.
        tolerance : ndarray (n,)
            What counts as a tie.
        """
        recipe = self.recipe
        centred = values - self.mean
        norms = np.einsum("ij,ij->i", centred, centred)
        unit = None
        for a, algorithm in enumerate(recipe.algorithms):
            if algorithm == MIXTURE:
                parts = []
                for loadings, (weights, constant) in zip(self._loadings, self._densities, strict=True):
                    there = centred @ loadings
                    parts.append(constant - np.concatenate([there, there * there], axis=1) @ weights)
                scores = np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
                least = scores.min(axis=1)
                yield a, scores, TIE * (1.0 + np.abs(least))
            elif algorithm == HIERARCHICAL and recipe.distance == "euclidean":
                parts = []
                for view, members in zip(self.views, self._members, strict=True):
                    pick = slice(None) if view.columns is None else view.columns
                    distances = at_distance(values[:, pick], self.values[:, pick], recipe.distance)
                    parts.append(np.where(members.any(axis=0), distances @ members, np.inf))
                yield a, np.concatenate(parts, axis=1), TIE * (1.0 + np.sqrt(norms))
            elif algorithm == KMEANS or recipe.distance == "euclidean":
                weights, offsets = self._linear[a]
                yield a, offsets - centred @ weights, TIE * (1.0 + norms)
            elif recipe.distance == "spearman" and recipe.feature_fraction < 1.0:
                weights, offsets = self._linear[a]
                width = int(self.sizes.sum())
                scores = np.empty((len(values), weights.shape[1]))
                for i, view in enumerate(self.views):
                    assert view.columns is not None
                    ranks = sample_table(values[:, view.columns], recipe.distance)
                    own = slice(i * width, (i + 1) * width)
                    scores[:, own] = offsets[own] - ranks @ weights[view.columns, own]
                yield a, scores, np.full(len(values), TIE)
            else:
                weights, offsets = self._linear[a]
                unit = sample_table(values, recipe.distance) if unit is None else unit
                yield a, offsets - unit @ weights, np.full(len(values), TIE)
