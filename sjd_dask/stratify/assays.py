"""Consensus over several assays with samples missing in some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sjd_dask.kernels.grouping import co_assignment, rand_indices
from sjd_dask.stratify.consensus import ROWS, Consensus, consensus_curves, consensus_groups
from sjd_dask.stratify.distances import silhouette_widths
from sjd_dask.stratify.fusion import AssayTable, Floats, Places


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
        Mean adjusted Rand index of the rounds with the groups.
    silhouettes : ndarray (n_algorithms + 1,)
        Mean over samples of `mean_silhouettes`.
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


def judge(voices: Sequence[Voice], k: int, assays: Sequence[AssayTable], n: int, distance: str) -> Judged:
    """Groups of one k by each algorithm and by all, with what speaks for them.

    Parameters
    ----------
    voices : sequence of Voice
    k : int
    assays : sequence of AssayTable
    n : int
        All samples.
    distance : str
        Of the silhouettes.
    """
    n_algorithms = voices[0].labels.shape[1]
    sets = [*(of_algorithm(voices, a, n) for a in range(n_algorithms)), list(voices)]
    groups, curves, steady = [], [], []
    for some in sets:
        matrix, known = pooled_consensus(some, n)
        own = consensus_groups(matrix, k)
        groups.append(own)
        curves.append(known_curves(matrix, known))
        rounds = [
            rand_indices(np.ascontiguousarray(one.labels[:, a]), own[one.rows]) for one in some for a in one.algorithms
        ]
        steady.append(float(np.mean(np.concatenate(rounds))))
    widths = mean_silhouettes(assays, np.stack(groups), distance)
    means = [float(np.nanmean(one)) if np.isfinite(one).any() else np.nan for one in widths]
    return Judged(np.stack(groups), curves, np.array(steady), np.array(means))


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


def mean_silhouettes(assays: Sequence[AssayTable], labellings: NDArray[np.int64], distance: str) -> Floats:
    """Silhouette of every sample, the mean over the assays that have it, (n_labellings, n).

    NaN for a sample in no assay, and where the samples of its assays are all of one group.
    """
    sums, counts = np.zeros(labellings.shape), np.zeros(labellings.shape)
    for one in assays:
        widths = np.stack(silhouette_widths(one.values, [own[one.rows] for own in labellings], distance))
        there = np.isfinite(widths)
        sums[:, one.rows] += np.where(there, widths, 0.0)
        counts[:, one.rows] += there
    return np.where(counts > 0, sums / np.maximum(counts, 1.0), np.nan)
