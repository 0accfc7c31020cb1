"""Scores of gene modules: how far the genes of a set lie from the healthy, in their standard deviations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]


def module_scores(
    values: Floats, mean: Floats, sd: Floats, weights: sparse.csc_matrix, least_known: float = 0.5
) -> Floats:
    """Mean over genes of (x - mean of the healthy) / SD of the healthy.

    Parameters
    ----------
    values : ndarray (n, f)
        Features of the modules; NaN is missing.
    mean, sd : ndarray (f,)
        Of the healthy.
    weights : sparse matrix (f, m)
    least_known : float
        Share of a module's weight that must be known.

    Returns
    -------
    ndarray (n, m)
        Over the genes that are known; NaN where less than `least_known` of the weight is.
    """
    z = (values - mean) / sd
    known = np.isfinite(z)
    weight = known.astype(np.float64) @ abs(weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = (np.where(known, z, 0.0) @ weights) / weight
    scores[weight < least_known - 1e-12] = np.nan
    return np.asarray(scores)


def spread_of(values: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Mean, standard deviation, and whether that is a measure of spread, of the features of healthy samples.

    A feature of which more than half of the values are one (at the floor of the instrument) has a standard deviation
    that some few samples make: a score in its units would be of any size.

    Parameters
    ----------
    values : ndarray (n, f)

    Returns
    -------
    mean, sd : ndarray (f,)
    usable : ndarray of bool (f,)
    """
    known = np.isfinite(values)
    n = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, values, 0.0).sum(axis=0) / n
        centred = np.where(known, values - mean, 0.0)
        sd = np.sqrt((centred**2).sum(axis=0) / (n - 1))
    usable = (n >= 2) & np.isfinite(sd) & (sd > 0)
    for j in np.flatnonzero(usable):
        own = values[known[:, j], j]
        usable[j] = np.median(np.abs(own - np.median(own))) > 0
    return mean, sd, usable
