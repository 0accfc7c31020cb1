"""From labels of resamples to the consensus of pairs, its curves and its groups."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage

from sjd_dask.errors import DataError
from sjd_dask.kernels.grouping import co_assignment, cut_merges

Consensus = NDArray[np.float32]
# Rows of the matrix that are counted at a time.
ROWS = 256


def consensus_matrix(labels: NDArray[np.int8]) -> Consensus:
    """Share of the resamples that drew both samples in which they shared a group.

    Parameters
    ----------
    labels : ndarray of int8 (R, n)
        Groups in each resample; -1: not drawn.

    Returns
    -------
    ndarray of float32 (n, n)
        Symmetric, 1 on the diagonal, 0 for pairs that were never drawn together (see `pairs_never_drawn`).
    """
    labels = np.ascontiguousarray(labels, dtype=np.int8)
    n = labels.shape[1]
    out = np.empty((n, n), dtype=np.float32)
    for start in range(0, n, ROWS):
        stop = min(n, start + ROWS)
        together, drawn = co_assignment(labels, start, stop)
        out[start:stop] = together / np.maximum(drawn, 1)
    np.fill_diagonal(out, 1.0)
    return out


def pairs_never_drawn(labels: NDArray[np.int8]) -> int:
    """How many pairs of samples no resample drew together."""
    labels = np.ascontiguousarray(labels, dtype=np.int8)
    n = labels.shape[1]
    never = 0
    for start in range(0, n, ROWS):
        stop = min(n, start + ROWS)
        _, drawn = co_assignment(labels, start, stop)
        drawn[np.arange(stop - start), np.arange(start, stop)] = 1
        never += int(np.count_nonzero(drawn == 0))
    return never // 2


def consensus_curves(matrix: Consensus) -> dict[str, Any]:
    """Distribution of the consensus over pairs of samples.

    Returns
    -------
    dict
        ``consensus`` (101 points 0..1), ``cdf`` (share of pairs at or below each), ``area`` under the curve over 100
        bins as ConsensusClusterPlus sums it, ``pac`` (proportion of ambiguous pairs, cdf(0.9) - cdf(0.1);
        Senbabaoglu et al. 2014).
    """
    n = len(matrix)
    points = np.linspace(0.0, 1.0, 101)
    counts = np.zeros(101, dtype=np.int64)
    for i in range(1, n):
        # A share such as 0.1 that float32 puts a hair above 0.1 belongs to 0.1.
        place = np.ceil(matrix[i, :i].astype(np.float64) * 100.0 - 1e-4).astype(np.int64)
        counts += np.bincount(np.clip(place, 0, 100), minlength=101)
    cdf = np.cumsum(counts) / max(1, counts.sum())
    return {"consensus": points, "cdf": cdf, "area": float(cdf[1:].sum() * 0.01), "pac": float(cdf[90] - cdf[10])}


def consensus_groups(matrix: Consensus, k: int) -> NDArray[np.int64]:
    """Groups of a consensus matrix: average linkage on 1 - consensus, cut at k.

    Returns
    -------
    ndarray of int64 (n,)
        Groups from 0 in order of their first sample.

    Raises
    ------
    DataError
        k above n.
    """
    return consensus_tree_groups(consensus_tree(matrix), (k,))[0]


def consensus_tree(matrix: Consensus) -> NDArray[np.float64]:
    """Average linkage on 1 - consensus, as SciPy gives it, (n - 1, 4)."""
    n = len(matrix)
    lines = np.empty(n * (n - 1) // 2)
    at = 0
    for i in range(n - 1):
        lines[at : at + n - 1 - i] = 1.0 - matrix[i, i + 1 :]
        at += n - 1 - i
    return np.asarray(linkage(lines, method="average"))


def consensus_tree_groups(tree: NDArray[np.float64], sizes: tuple[int, ...]) -> NDArray[np.int64]:
    """Cuts of `consensus_tree`, (n_k, n)."""
    n = len(tree) + 1
    if max(sizes) > n:
        raise DataError(f"k = {max(sizes)} groups can't be made of {n} samples. Lower k.")
    cut = cut_merges(tree[:, :2].astype(np.int64), np.asarray(sizes, dtype=np.int64))
    return np.asarray(cut).astype(np.int64)
