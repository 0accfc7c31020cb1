"""Consensus over several assays with samples missing in some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sjd_dask.kernels.grouping import co_assignment, rand_indices
from sjd_dask.kernels.kmeans import kmeans_values
from sjd_dask.stratify.consensus import ROWS, Consensus, consensus_curves, consensus_groups
from sjd_dask.stratify.distances import sample_distances
from sjd_dask.stratify.draws import STARTS, Keys, ranking
from sjd_dask.stratify.fusion import AssayTable, Floats, Places

# Rounds that stability is judged by, and starts of the k-means that joins the assays of one.
STABILITY_ROUNDS = 100
JOINING_STARTS = 5


@dataclass(frozen=True)
class Voice:
    """Rounds of one assay (or of all assays fused) at one k, and which of its algorithms count.

    Attributes
    ----------
    rows : ndarray of int64 (m,)
        Places of its samples among all.
    labels : ndarray of int8 (R, n_algorithms, m)
        Groups in each round; -1: not drawn.
    algorithms : tuple of int
        Those that take part in the consensus.
    """

    rows: Places
    labels: NDArray[np.int8]
    algorithms: tuple[int, ...]


@dataclass(frozen=True)
class Judged:
    """The groups of one k by each algorithm, and last by all together.

    Attributes
    ----------
    groups : ndarray of int64 (n_algorithms + 1, n)
        From 0 in order of the first sample.
    curves : list of dict
        See `consensus_curves`; over the pairs that some round drew together.
    stability : ndarray (n_algorithms + 1,)
        Mean adjusted Rand index of `joined_rounds` with the groups.
    silhouettes : ndarray (n_algorithms + 1,)
        Mean over samples of `joint_silhouettes`.
    """

    groups: NDArray[np.int64]
    curves: list[dict[str, Any]]
    stability: Floats
    silhouettes: Floats


def assay_consensus(labels: NDArray[np.int8], algorithms: Sequence[int]) -> tuple[Consensus, NDArray[np.bool_]]:
    """Mean over algorithms of the share of the rounds that drew both samples in which they shared a group.

    Parameters
    ----------
    labels : ndarray of int8 (R, n_algorithms, m)
    algorithms : sequence of int

    Returns
    -------
    matrix : ndarray of float32 (m, m)
        Symmetric, 1 on the diagonal, 0 where no round drew the pair together.
    known : ndarray of bool (m, m)
        Some round drew the pair together.
    """
    m = labels.shape[2]
    matrix, known = np.zeros((m, m), dtype=np.float32), np.zeros((m, m), dtype=bool)
    for a in algorithms:
        rounds = np.ascontiguousarray(labels[:, a])
        for start in range(0, m, ROWS):
            stop = min(m, start + ROWS)
            together, drawn = co_assignment(rounds, start, stop)
            known[start:stop] |= drawn > 0
            matrix[start:stop] += (together / np.maximum(drawn, 1)).astype(np.float32)
    matrix /= np.float32(len(algorithms))
    np.fill_diagonal(matrix, 1.0)
    np.fill_diagonal(known, True)
    return matrix, known


def pooled_consensus(voices: Sequence[Voice], n: int) -> tuple[Consensus, NDArray[np.bool_]]:
    """Mean consensus of the assays that have both samples of a pair.

    Returns
    -------
    matrix : ndarray of float32 (n, n)
        Of a pair that no assay has: see `through_others`.
    known : ndarray of bool (n, n)
        Some round of some assay drew the pair together.
    """
    total, count = np.zeros((n, n), dtype=np.float32), np.zeros((n, n), dtype=np.int16)
    for voice in voices:
        matrix, known = assay_consensus(voice.labels, voice.algorithms)
        square = np.ix_(voice.rows, voice.rows)
        total[square] += np.where(known, matrix, np.float32(0.0))
        count[square] += known
    np.fill_diagonal(total, 1.0)
    np.fill_diagonal(count, 1)
    known = count > 0
    return through_others(total / np.maximum(count, 1).astype(np.float32), known), known


def through_others(matrix: Consensus, known: NDArray[np.bool_]) -> Consensus:
    """Consensus where every pair has a value: of an unknown pair that which runs through other samples.

    Notes
    -----
    For a pair (i, j) without an assay in common, 2 sum_l c_il c_jl / sum_l (c_il + c_jl), over the samples l whose
    consensus with both is known: 1 where both keep the same company for sure, 0 where they never do, and c where all
    consensus is c. 0 where there is no such sample.
    """
    if known.all():
        return matrix
    out = matrix.copy()
    there = known.astype(np.float32)
    weights = np.where(known, matrix, np.float32(0.0))
    for start in range(0, len(matrix), ROWS):
        rows = slice(start, start + ROWS)
        unknown = ~known[rows]
        if unknown.any():
            shared = weights[rows] @ weights.T
            company = weights[rows] @ there.T + there[rows] @ weights.T
            guess = 2.0 * shared / np.where(company > 0, company, np.float32(1.0))
            out[rows][unknown] = guess[unknown]
    # Both halves alike to the last bit.
    return np.asarray((out + out.T) / np.float32(2.0))


def of_algorithm(voices: Sequence[Voice], a: int, n: int) -> list[Voice]:
    """One algorithm alone: in the assays where it counts, as long as they have all samples among them, else in all."""
    some = [one for one in voices if a in one.algorithms]
    if not some or len(np.unique(np.concatenate([one.rows for one in some]))) < n:
        some = list(voices)
    return [Voice(one.rows, one.labels, (a,)) for one in some]


def judge(voices: Sequence[Voice], k: int, distances: JointDistances, keys: Keys, seed: int) -> Judged:
    """Groups of one k by each algorithm and by all, with what speaks for them.

    Parameters
    ----------
    voices : sequence of Voice
    k : int
    distances : JointDistances
        Of the silhouettes.
    keys : ndarray of uint64 (n,)
        Of the samples, `id_keys`.
    seed : int
    """
    n_algorithms, n = voices[0].labels.shape[1], len(keys)
    sets = [*(of_algorithm(voices, a, n) for a in range(n_algorithms)), list(voices)]
    groups, curves, steady = [], [], []
    for some in sets:
        matrix, known = pooled_consensus(some, n)
        own = consensus_groups(matrix, k)
        groups.append(own)
        curves.append(known_curves(matrix, known))
        steady.append(float(np.mean(rand_indices(joined_rounds(some, k, keys, seed), own))))
    widths = distances.silhouettes(np.stack(groups))
    means = [float(np.nanmean(one)) if np.isfinite(one).any() else np.nan for one in widths]
    return Judged(np.stack(groups), curves, np.array(steady), np.array(means))


def joined_rounds(voices: Sequence[Voice], k: int, keys: Keys, seed: int) -> NDArray[np.int8]:
    """Groups that the assays make together within each of the first rounds, (rounds, n); -1: drawn in none.

    Notes
    -----
    An assay by itself may see only some of the groups, so its rounds can't say how steady the groups of all are. In
    each round k-means joins the labels that assays and algorithms give a sample (one column a label, assays of the same
    weight; where an assay hasn't drawn the sample, the mean of its columns).
    """
    n = len(keys)
    rounds = min(STABILITY_ROUNDS, *(len(one.labels) for one in voices))
    if len(voices) == 1 and len(voices[0].algorithms) == 1:
        out = np.full((rounds, n), -1, dtype=np.int8)
        out[:, voices[0].rows] = voices[0].labels[:rounds, voices[0].algorithms[0]]
        return out
    out = np.full((rounds, n), -1, dtype=np.int8)
    for r in range(rounds):
        columns, drawn = [], np.zeros(n, dtype=bool)
        for one in voices:
            weight = 1.0 / np.sqrt(len(one.algorithms))
            for a in one.algorithms:
                labels = one.labels[r, a]
                there = labels >= 0
                drawn[one.rows[there]] = True
                part = np.full((n, k), np.nan)
                part[one.rows[there]] = weight * (labels[there, None] == np.arange(k))
                columns.append(np.where(np.isnan(part), np.nanmean(part, axis=0), part))
        places = np.flatnonzero(drawn)
        table = np.ascontiguousarray(np.hstack(columns)[places])
        starts = [ranking(keys[places], seed, r, STARTS, k, s)[:k] for s in range(JOINING_STARTS)]
        out[r, places] = kmeans_values(table, np.stack(starts))[0]
    return out


class JointDistances:
    """Distances of samples over all assays: of a pair the mean over the assays that have both.

    The distances of each assay are divided by their mean, so that no assay counts more for its unit.

    Parameters
    ----------
    assays : sequence of AssayTable
    n : int
    distance : str
    """

    def __init__(self, assays: Sequence[AssayTable], n: int, distance: str) -> None:
        total, count = np.zeros((n, n)), np.zeros((n, n), dtype=np.int16)
        for one in assays:
            own = sample_distances(one.values, distance)
            m = len(own)
            square = np.ix_(one.rows, one.rows)
            total[square] += own / max(own.sum() / max(1, m * (m - 1)), np.finfo(np.float64).tiny)
            count[square] += 1
        np.fill_diagonal(count, 0)
        self.total = total / np.maximum(count, 1)
        self.known = (count > 0).astype(np.float64)

    def silhouettes(self, labellings: NDArray[np.int64]) -> Floats:
        """Silhouette widths over the known pairs, (n_labellings, n); NaN where a sample has no known pair in either its
        own group or any other."""
        n = len(self.total)
        every = np.arange(n)
        out = np.full(labellings.shape, np.nan)
        for line, labels in zip(out, labellings, strict=True):
            members = (labels[:, None] == np.arange(int(labels.max()) + 1)).astype(np.float64)
            counts = self.known @ members
            means = np.where(counts > 0, self.total @ members / np.maximum(counts, 1.0), np.nan)
            own = means[every, labels]
            means[every, labels] = np.nan
            far = ~np.isnan(means).all(axis=1)
            nearest = np.where(far, np.nanmin(np.where(far[:, None], means, 0.0), axis=1), np.nan)
            larger = np.maximum(own, nearest)
            line[:] = np.where(larger > 0, (nearest - own) / np.where(larger > 0, larger, 1.0), larger)
            # Alone in its group, as elsewhere: 0.
            line[members.sum(axis=0)[labels] == 1] = 0.0
        return out


def known_curves(matrix: Consensus, known: NDArray[np.bool_]) -> dict[str, Any]:
    """`consensus_curves` over the known pairs."""
    if known.all():
        return consensus_curves(matrix)
    counts = np.zeros(101, dtype=np.int64)
    for i in range(1, len(matrix)):
        line = matrix[i, :i][known[i, :i]].astype(np.float64)
        # As in `consensus_curves`: a share that float32 puts a hair above a point belongs to the point.
        place = np.clip(np.ceil(line * 100.0 - 1e-4).astype(np.int64), 0, 100)
        counts += np.bincount(place, minlength=101)
    cdf = np.cumsum(counts) / max(1, counts.sum())
    points = np.linspace(0.0, 1.0, 101)
    return {"consensus": points, "cdf": cdf, "area": float(cdf[1:].sum() * 0.01), "pac": float(cdf[90] - cdf[10])}
