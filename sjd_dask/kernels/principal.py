"""Principal components of a small table of values, and how much of its variance a factor explains."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh

Floats = NDArray[np.float64]


def principal_components(
    sketch: ArrayLike, n_components: int = 4, apart: NDArray[np.bool_] | None = None
) -> tuple[Floats, Floats]:
    """Scores of samples on the first components, columns centred and not scaled.

    Parameters
    ----------
    sketch : (n, m)
        Samples in rows. A missing value is taken as the mean of its column; columns without a value count for nothing.
    n_components : int
        Components wanted.
    apart : ndarray of bool (n,), optional
        Samples that don't shape the components, such as outliers: they are projected on those of the others.

    Returns
    -------
    scores : ndarray (n, n_components)
        NaN where there are fewer components than asked for.
    explained : ndarray (n_components,)
        Share of the total variance of the columns (of the samples that shape the components).

    Notes
    -----
    The sign of a component is free; here its largest loading is positive, so that the same values give the same
    picture. Eigenvectors of the smaller Gram matrix: (2048, 2048) at most for the sketches of a layer.
    """
    table = np.asarray(sketch, dtype=np.float64)
    shapes = np.ones(len(table), dtype=bool) if apart is None else ~apart
    mean = _means(table[shapes])
    centred = np.where(np.isnan(table[shapes]), 0.0, table[shapes] - mean)
    n, m = centred.shape
    scores = np.full((len(table), n_components), np.nan)
    explained = np.full(n_components, np.nan)
    total = float(np.einsum("ij,ij->", centred, centred))
    if not total > 0.0:
        return scores, explained
    by_samples = n <= m
    gram = centred @ centred.T if by_samples else centred.T @ centred
    size = len(gram)
    values, vectors = eigh(gram, subset_by_index=[max(0, size - n_components), size - 1])
    # Components that are rounding errors have no direction to draw.
    found = min(n_components, int(np.count_nonzero(values > values[-1] * 1e-12)))
    values, vectors = values[::-1][:found], vectors[:, ::-1][:, :found]
    loadings = centred.T @ vectors / np.sqrt(values) if by_samples else vectors
    largest = np.abs(loadings).argmax(axis=0)
    loadings = loadings * np.where(loadings[largest, np.arange(found)] < 0, -1.0, 1.0)
    scores[:, :found] = np.where(np.isnan(table), 0.0, table - mean) @ loadings
    explained[:found] = values / total
    return scores, explained


def variance_explained(values: ArrayLike, factor: ArrayLike) -> tuple[float, float]:
    """How much of the features' variance a factor explains: R^2 of a one-way model per feature, averaged.

    Parameters
    ----------
    values : (n, m)
        Samples in rows; NaN = missing, and left out feature by feature.
    factor : (n,)
        Whole numbers: codes of groups, negative = unknown (left out). Real numbers: a covariate, NaN = unknown.

    Returns
    -------
    share, weighted : float
        Mean of R^2 (eta^2 for groups) over the features that vary, and the mean weighted by their sums of squares.
        NaN when no feature varies.

    Notes
    -----
    A factor that means nothing explains (groups - 1) / (n - 1) on average: see `chance_share`.
    """
    table, by = np.asarray(values, dtype=np.float64), np.asarray(factor)
    is_group = bool(np.issubdtype(by.dtype, np.integer))
    known = by >= 0 if is_group else ~np.isnan(by)
    table, by = table[known], by[known]
    if table.shape[0] < 2:
        return float("nan"), float("nan")
    observed = ~np.isnan(table)
    count = observed.sum(axis=0)
    centred = _centred(table)
    total = np.einsum("ij,ij->j", centred, centred)
    if is_group:
        _, codes = np.unique(by, return_inverse=True)
        indicator = (codes[:, None] == np.arange(codes.max() + 1)).astype(np.float64)
        sums, counts = indicator.T @ centred, indicator.T @ observed
        between = (sums**2 / np.where(counts > 0, counts, 1)).sum(axis=0)
    else:
        x = np.where(observed, by[:, None], 0.0)
        x = np.where(observed, by[:, None] - x.sum(axis=0) / np.where(count > 0, count, 1), 0.0)
        square = np.einsum("ij,ij->j", x, x)
        between = np.einsum("ij,ij->j", x, centred) ** 2 / np.where(square > 0, square, np.inf)
    # Rounding leaves a constant column with a sum of squares that is not quite zero.
    size = np.where(observed, table, 0.0)
    varies = (count > 1) & (total > np.einsum("ij,ij->j", size, size) * 1e-24)
    if not varies.any():
        return float("nan"), float("nan")
    share = between[varies] / total[varies]
    return float(share.mean()), float(between[varies].sum() / total[varies].sum())


def chance_share(n_samples: int, n_groups: int) -> float:
    """Share of variance that a factor of `n_groups` groups (2 for a covariate) explains when it means nothing."""
    return (n_groups - 1) / (n_samples - 1) if n_samples > 1 else float("nan")


def _means(table: Floats) -> Floats:
    """Means of columns over their observed values; 0 for a column without one."""
    observed = ~np.isnan(table)
    count = observed.sum(axis=0)
    mean: Floats = np.where(observed, table, 0.0).sum(axis=0) / np.where(count > 0, count, 1)
    return mean


def _centred(table: Floats) -> Floats:
    """Columns less their means over the observed values, missing values 0."""
    centred: Floats = np.where(np.isnan(table), 0.0, table - _means(table))
    return centred
