"""Consensus over landmarks: groups are made of some samples, and every sample joins them, at a cost linear in n."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sjd_dask.errors import DataError
from sjd_dask.kernels.placing import nearest_groups, summed_shares
from sjd_dask.kernels.principal import principal_components
from sjd_dask.stratify.choose import COMBINED
from sjd_dask.stratify.draws import id_keys, ranking
from sjd_dask.stratify.placing import BLOCK, Rules, at_distance, rule_bytes, sample_table
from sjd_dask.stratify.recipe import Recipe

Floats = NDArray[np.float64]
LANDMARKS = 5
# Weights of rounds (float64) that are held at a time; more rounds than fit are worked off one part after another.
RULE_BYTES = 512 << 20
N_COMPONENTS = 4
# Silhouettes and components are sums that a library makes in blocks, whose last digits hang on a sample's neighbours.
DECIMALS = 9


def draw_landmarks(
    sample_ids: Sequence[str], n_landmarks: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Landmarks and, disjoint from them, as many samples (or all others) to check them with.

    Parameters
    ----------
    sample_ids : sequence of str (n,)
    n_landmarks, seed : int
        A sample's place in the draw hangs on the seed and its id alone.

    Returns
    -------
    landmarks, check : ndarray of int64
        Places in `sample_ids`, each in the order of the ids.
    """
    place = ranking(id_keys(sample_ids), seed, LANDMARKS)

    def by_id(chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray(sorted(chosen.tolist(), key=lambda i: sample_ids[i]), dtype=np.int64)

    return by_id(place[:n_landmarks]), by_id(place[n_landmarks : 2 * n_landmarks])


@dataclass(frozen=True)
class Placed:
    """Samples among the groups of the landmarks.

    Attributes
    ----------
    groups : ndarray of int8 (n, n_k)
        The group of all algorithms together at each k: of largest mean consensus.
    separate : ndarray of int8 (n, n_algorithms)
        The group of each algorithm alone at the chosen k, in that algorithm's own numbers.
    means : ndarray (n, k)
        Mean consensus with the landmarks of each group at the chosen k, a landmark itself not counted.
    silhouette : ndarray (n,)
        Among the landmarks, in the distance of the recipe.
    components : ndarray (n, N_COMPONENTS)
        Principal components of the landmarks; NaN where there are fewer.
    """

    groups: NDArray[np.int8]
    separate: NDArray[np.int8]
    means: Floats
    silhouette: Floats
    components: Floats


@dataclass(frozen=True)
class Landmarks:
    """Landmarks, how every resample grouped them, and their groups.

    Parameters
    ----------
    values : ndarray (m, p)
    sample_ids : tuple of str (m,)
        In order.
    recipe : Recipe
    labels : ndarray of int8 (R, n_algorithms, n_k, m)
        All rounds of `resample_labels` on the landmarks.
    groups : mapping of (algorithm, k) to ndarray of int64 (m,)
        Their consensus groups, `Choice.groups`.
    k : int
        The number of groups wanted, one of ``recipe.k``.

    Notes
    -----
    In every round a sample joins, for each algorithm and k, the group that the algorithm would give it: see
    `sjd_dask.stratify.placing.Rules`. Landmarks are placed by the same rule as all others. The consensus of a sample
    with a landmark is the share of the rounds that drew the landmark in which both are in one group; the sample's
    group is the one of largest mean consensus (of equals the first).
    """

    values: Floats
    sample_ids: tuple[str, ...]
    recipe: Recipe
    labels: NDArray[np.int8]
    groups: Mapping[tuple[str, int], NDArray[np.int64]]
    k: int

    @property
    def n_rounds(self) -> int:
        """Rounds at a time."""
        return int(max(1, min(len(self.labels), RULE_BYTES // rule_bytes(*self.values.shape, self.recipe))))

    @cached_property
    def explained(self) -> list[float]:
        """Shares of the landmarks' variance of the components."""
        _, shares = principal_components(self.values, N_COMPONENTS)
        return [float(one) for one in shares if np.isfinite(one)]

    @cached_property
    def _only_rules(self) -> Rules:
        return Rules(self.values, self.recipe, self.labels, 0, len(self.labels))

    def _rules(self, start: int, stop: int) -> Rules:
        # Kept by a worker for its next task where they are few.
        if stop - start == len(self.labels):
            return self._only_rules
        return Rules(self.values, self.recipe, self.labels, start, stop)

    @cached_property
    def _loadings(self) -> tuple[Floats, Floats]:
        mean = self.values.mean(axis=0)
        scores, _ = principal_components(self.values, N_COMPONENTS)
        squares = np.einsum("ij,ij->j", scores, scores)
        return mean, (self.values - mean).T @ np.nan_to_num(scores) / squares

    @cached_property
    def _drawn(self) -> Floats:
        """How many rounds drew each landmark, (m,)."""
        return np.asarray((self.labels[:, 0, 0] >= 0).sum(axis=0), dtype=np.float64)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.sample_ids)}

    def place(self, values: Floats, sample_ids: Sequence[str]) -> Placed:
        """Groups of any samples, landmarks among them or not.

        Parameters
        ----------
        values : ndarray (n, p)
        sample_ids : sequence of str (n,)

        Raises
        ------
        DataError
            Infinite values; samples without variance where the distance is a correlation.
        """
        n, recipe = len(values), self.recipe
        if not np.isfinite(values).all():
            bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
            raise DataError(
                f"{len(bad)} samples have infinite values, {sample_ids[int(bad[0])]} first: leave them out with "
                "`samples`, or correct them and ingest them again."
            )
        flat = np.flatnonzero(np.ptp(values, axis=1) == 0) if recipe.distance != "euclidean" else np.empty(0, np.int64)
        if flat.size:
            raise DataError(
                f"{flat.size} samples have the same value in all {values.shape[1]} features, "
                f"{sample_ids[int(flat[0])]} first: they have no {recipe.distance} correlation with any other. Leave "
                "them out, choose other features, or use distance: euclidean."
            )
        joined = np.empty((len(recipe.algorithms), n, len(recipe.k), len(self.labels)), dtype=np.int8)
        step = self.n_rounds
        for start in range(0, len(self.labels), step):
            rules = self._rules(start, min(len(self.labels), start + step))
            for row in range(0, n, BLOCK):
                block = values[row : row + BLOCK]
                for a, scores, tolerance in rules.scores(block):
                    nearest_groups(
                        scores, np.asarray(recipe.k, dtype=np.int64), tolerance, joined[a, row : row + BLOCK], start
                    )
        own = np.array([self._place.get(name, -1) for name in sample_ids], dtype=np.int64)
        return self._judged(values, joined, own)

    def _judged(self, values: Floats, joined: NDArray[np.int8], own: NDArray[np.int64]) -> Placed:
        recipe = self.recipe
        n, n_algorithms = len(own), len(recipe.algorithms)
        groups = np.empty((n, len(recipe.k)), dtype=np.int8)
        separate = np.empty((n, n_algorithms), dtype=np.int8)
        chosen = np.empty((n, self.k))
        for j, k in enumerate(recipe.k):
            total = np.zeros((n, k))
            for a in range(n_algorithms):
                total += self._means(joined[a, :, j], a, j, self.groups[COMBINED, k], own)
            total /= n_algorithms
            groups[:, j] = total.argmax(axis=1)
            if k == self.k:
                chosen = total
                for a, algorithm in enumerate(recipe.algorithms):
                    means = self._means(joined[a, :, j], a, j, self.groups[algorithm, k], own)
                    separate[:, a] = means.argmax(axis=1)
        label = groups[:, recipe.k.index(self.k)].astype(np.int64)
        mean, loadings = self._loadings
        components = np.where(np.isnan(loadings).any(axis=0), np.nan, (values - mean) @ np.nan_to_num(loadings))
        return Placed(
            groups, separate, chosen, self._silhouettes(values, label, own), np.round(components, DECIMALS) + 0.0
        )

    def _means(
        self, joined: NDArray[np.int8], a: int, j: int, groups: NDArray[np.int64], own: NDArray[np.int64]
    ) -> Floats:
        """Mean consensus of samples with groups of landmarks, (n, k)."""
        k, counts = self.recipe.k[j], np.bincount(groups).astype(np.float64)
        labels = self.labels[:, a, j]
        table = np.zeros((len(labels), k, len(counts)))
        weight = 1.0 / np.maximum(self._drawn, 1.0)
        for r, line in enumerate(labels):
            drawn = np.flatnonzero(line >= 0)
            np.add.at(table[r], (line[drawn], groups[drawn]), weight[drawn])
        means = summed_shares(np.ascontiguousarray(joined), table / counts)
        for i in np.flatnonzero(own >= 0):
            landmark = own[i]
            group = groups[landmark]
            itself = weight[landmark] * np.count_nonzero(labels[:, landmark] == joined[i])
            # Alone in its group a landmark is one with it, as in the consensus of all pairs.
            others = counts[group] - 1.0
            means[i, group] = (means[i, group] * counts[group] - itself) / others if others else 1.0
        return means

    def _silhouettes(self, values: Floats, label: NDArray[np.int64], own: NDArray[np.int64]) -> Floats:
        groups = self.groups[COMBINED, self.k]
        counts = np.bincount(groups, minlength=self.k).astype(np.float64)
        members = np.zeros((len(groups), self.k))
        members[np.arange(len(groups)), groups] = 1.0
        table = sample_table(self.values, self.recipe.distance)
        sums = np.empty((len(values), self.k))
        for row in range(0, len(values), BLOCK):
            block = sample_table(values[row : row + BLOCK], self.recipe.distance)
            sums[row : row + BLOCK] = at_distance(block, table, self.recipe.distance) @ members
        others = np.broadcast_to(counts, sums.shape).copy()
        known = np.flatnonzero(own >= 0)
        others[known, groups[own[known]]] -= 1.0
        means = np.where(others > 0, sums / np.maximum(others, 1.0), np.inf)
        every = np.arange(len(values))
        mine = means[every, label]
        alone = others[every, label] == 0
        means[every, label] = np.inf
        nearest = means.min(axis=1)
        larger = np.maximum(mine, nearest)
        usable = ~alone & np.isfinite(nearest) & (larger > 0)
        widths = np.where(usable, nearest - mine, 0.0) / np.where(usable, larger, 1.0)
        return np.asarray(np.round(widths, DECIMALS) + 0.0)
