"""Distances and inner products of samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]


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
    if distance == "euclidean":
        gram = inner_products(values)
        squares = np.diag(gram)
        out = np.sqrt(np.maximum(squares[:, None] + squares - 2.0 * gram, 0.0))
    else:
        table = rankdata(values, axis=1) if distance == "spearman" else values
        centred = table - table.mean(axis=1, keepdims=True)
        norms = np.sqrt(np.einsum("ij,ij->i", centred, centred))
        centred /= np.where(norms > 0, norms, 1.0)[:, None]
        out = 1.0 - np.clip(centred @ centred.T, -1.0, 1.0)
    out = (out + out.T) / 2.0
    np.fill_diagonal(out, 0.0)
    return np.asarray(out)
