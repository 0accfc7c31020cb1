"""Distances and inner products of samples, all at once or summed over groups in stripes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sjd_dask.kernels.grouping import silhouettes

Floats = NDArray[np.float64]
# Rows of distances that are held at a time where the whole matrix isn't wanted.
ROWS = 512


def inner_products(values: Floats) -> Floats:
    """Inner products of samples with the features centred, (n, n)."""
    centred = values - values.mean(axis=0)
    return np.asarray(centred @ centred.T)


def sample_distances(values: Floats, distance: str) -> Floats:
    """Distances of samples (rows), (n, n), exactly symmetric, 0 on the diagonal.

    Parameters
    ----------
    values : ndarray (n, p)
    distance : str
        "pearson" or "spearman": 1 - correlation, in 0..2; a sample without variance is at 1 from all others.
        "euclidean".
    """
    table = _table(values, distance)
    out = _stripe(table, 0, len(table), distance)
    out = (out + out.T) / 2.0
    np.fill_diagonal(out, 0.0)
    return np.asarray(out)


def silhouette_widths(values: Floats, labellings: Sequence[NDArray[np.int64]], distance: str) -> list[Floats]:
    """Silhouette widths of samples for several labellings (n,), without a matrix of all distances.

    See `sjd_dask.kernels.grouping.silhouettes` for samples alone and single groups.
    """
    table = _table(values, distance)
    n = len(table)
    sizes = [int(labels.max()) + 1 for labels in labellings]
    members = np.zeros((n, sum(sizes)))
    at = np.cumsum([0, *sizes])
    for begin, labels in zip(at, labellings, strict=False):
        members[np.arange(n), begin + labels] = 1.0
    sums = np.empty_like(members)
    for start in range(0, n, ROWS):
        stop = min(n, start + ROWS)
        stripe = _stripe(table, start, stop, distance)
        stripe[np.arange(stop - start), np.arange(start, stop)] = 0.0
        sums[start:stop] = stripe @ members
    return [silhouettes(sums[:, at[i] : at[i + 1]], labels) for i, labels in enumerate(labellings)]


def _table(values: Floats, distance: str) -> Floats:
    """Rows whose inner products give the distance."""
    if distance == "euclidean":
        return np.asarray(values - values.mean(axis=0))
    table = _ranks(values) if distance == "spearman" else values
    centred = table - table.mean(axis=1, keepdims=True)
    norms = np.sqrt(np.einsum("ij,ij->i", centred, centred))
    return np.asarray(centred / np.where(norms > 0, norms, 1.0)[:, None])


def _ranks(values: Floats) -> Floats:
    # Loaded for ranks only: it takes longer to load than all else that groups samples.
    from scipy.stats import rankdata

    return np.asarray(rankdata(values, axis=1))


def _stripe(table: Floats, start: int, stop: int, distance: str) -> Floats:
    products = table[start:stop] @ table.T
    if distance != "euclidean":
        return np.asarray(1.0 - np.clip(products, -1.0, 1.0))
    squares = np.einsum("ij,ij->i", table, table)
    return np.asarray(np.sqrt(np.maximum(squares[start:stop, None] + squares - 2.0 * products, 0.0)))
