"""From labels of resamples to the consensus of pairs, its curves and its groups."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sjd_dask.errors import DataError
from sjd_dask.kernels.grouping import co_assignment, cut_merges
from sjd_dask.kernels.linkage import average_merges
from sjd_dask.kernels.pairs import never_together, pair_shares

Consensus = NDArray[np.float32]
Triangle = NDArray[np.float32]
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
    bits = np.packbits(np.asarray(labels).T >= 0, axis=1)
    words = np.zeros((len(bits), -(-bits.shape[1] // 8) * 8), dtype=np.uint8)
    words[:, : bits.shape[1]] = bits
    return int(never_together(words.view(np.uint64)))


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
    return _curves(matrix[i, :i] for i in range(1, n))


def triangle_curves(shares: Triangle) -> dict[str, Any]:
    """`consensus_curves` of `triangle_shares`."""
    step = 1 << 20
    return _curves(shares[start : start + step] for start in range(0, len(shares), step))


def _curves(pairs: Iterable[NDArray[np.float32]]) -> dict[str, Any]:
    points = np.linspace(0.0, 1.0, 101)
    counts = np.zeros(101, dtype=np.int64)
    for some in pairs:
        # A share such as 0.1 that float32 puts a hair above 0.1 belongs to 0.1.
        place = np.ceil(some.astype(np.float64) * 100.0 - 1e-4).astype(np.int64)
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


def consensus_tree(matrix: Consensus) -> NDArray[np.int64]:
    """Merges of average linkage on 1 - consensus, (n - 1, 2); see `sjd_dask.kernels.linkage.tree_of`."""
    n = len(matrix)
    lines = np.empty(n * (n - 1) // 2)
    at = 0
    for i in range(n - 1):
        lines[at : at + n - 1 - i] = 1.0 - matrix[i, i + 1 :]
        at += n - 1 - i
    return average_merges(lines)


def triangle_shares(labels: NDArray[np.int8]) -> Triangle:
    """Mean consensus of algorithms, of each pair once, (n (n - 1) / 2,).

    Parameters
    ----------
    labels : ndarray of int8 (R, n_algorithms, n)
        Groups in each resample; -1: not drawn. Algorithms have the same weight.

    Returns
    -------
    ndarray of float32
        The triangle above the diagonal, row after row: half the bytes of the matrix.
    """
    n = labels.shape[-1]
    by_algorithm = np.ascontiguousarray(labels.transpose(1, 0, 2), dtype=np.int8)
    return np.asarray(pair_shares(by_algorithm, 0, n, False))


def consensus_of_rounds(labels: NDArray[np.int8], k: int) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Groups and curves of the mean consensus of algorithms, without its matrix.

    Parameters
    ----------
    labels : ndarray of int8 (R, n_algorithms, n)
    k : int

    Returns
    -------
    groups : ndarray of int64 (n,)
        See `consensus_groups`.
    curves : dict
        See `consensus_curves`.

    Notes
    -----
    It takes 8 n^2 bytes: half a matrix of float64, and the copy that the linkage works on.
    """
    shares = triangle_shares(labels)
    curves = triangle_curves(shares)
    lines = np.empty(len(shares))
    for start in range(0, len(shares), 1 << 20):
        lines[start : start + (1 << 20)] = np.float32(1.0) - shares[start : start + (1 << 20)]
    del shares
    tree = average_merges(lines)
    return consensus_tree_groups(tree, (k,))[0], curves


def support_of_rows(
    labels: NDArray[np.int8], groups: NDArray[np.int64], k: int, start: int, stop: int
) -> NDArray[np.float64]:
    """Mean consensus of some samples with every group, itself not counted, (stop - start, k).

    Parameters
    ----------
    labels : ndarray of int8 (R, n_algorithms, n)
    groups : ndarray of int64 (n,)
    k : int
    start, stop : int
        The samples.
    """
    n = labels.shape[-1]
    by_algorithm = np.ascontiguousarray(labels.transpose(1, 0, 2), dtype=np.int8)
    counts = np.bincount(groups, minlength=k).astype(np.float64)
    out = np.empty((stop - start, k))
    for first in range(start, stop, ROWS):
        last = min(stop, first + ROWS)
        rows = pair_shares(by_algorithm, first, last, True).reshape(last - first, n)
        sums = np.stack([rows[:, groups == g].sum(axis=1, dtype=np.float64) for g in range(k)], axis=1)
        every, own = np.arange(last - first), groups[first:last]
        sums[every, own] -= 1.0  # itself
        members = np.broadcast_to(counts, sums.shape).copy()
        members[every, own] -= 1.0
        means = np.where(members > 0, sums / np.maximum(members, 1.0), 0.0)
        means[every, own] = np.where(members[every, own] > 0, means[every, own], 1.0)
        out[first - start : last - start] = means
    return out


def consensus_tree_groups(tree: NDArray[np.int64], sizes: tuple[int, ...]) -> NDArray[np.int64]:
    """Cuts of `consensus_tree`, (n_k, n)."""
    n = len(tree) + 1
    if max(sizes) > n:
        raise DataError(f"k = {max(sizes)} groups can't be made of {n} samples. Lower k.")
    cut = cut_merges(tree, np.asarray(sizes, dtype=np.int64))
    return np.asarray(cut).astype(np.int64)
