"""Multiple correspondence analysis: categories and persons as points, one person placed at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from sjd_dask.kernels.additive import category_scores

Floats = NDArray[np.float64]

# An inertia below this part of the largest is a rounding error.
_NOTHING = 1e-12


@dataclass(frozen=True)
class Mca:
    """A fitted analysis of p variables with J categories.

    Attributes
    ----------
    eigenvalues : ndarray (axes,)
        Inertias of the indicator matrix along the axes kept, falling.
    total : float
        Inertia of all axes: J / p - 1 where nothing is missing.
    coordinates : ndarray (J, axes)
        Standard coordinates of the categories: a person lies at the mean of those of its p categories.
    shares : ndarray (J,)
        Share of each category among the persons with a value of its variable.
    """

    eigenvalues: Floats
    total: float
    coordinates: Floats
    shares: Floats


def fit_mca(codes: NDArray[np.int8], sizes: NDArray[np.int64], n_axes: int) -> Mca:
    """Correspondence analysis of the indicator matrix of categorical variables.

    Parameters
    ----------
    codes : ndarray of int8 (n, p)
        Category of each variable, 0 to sizes - 1; negative is missing. Every category occurs.
    sizes : ndarray of int64 (p,)
        Categories of each variable.
    n_axes : int
        Axes wanted; fewer where fewer have an inertia.

    Returns
    -------
    Mca
        The largest coordinate of each axis is positive, so that the same values give the same axes.

    Notes
    -----
    A missing value counts as the shares of its variable's categories among those who have one (fuzzy coding): it then
    pulls a person nowhere, and adds 0 to its coordinates. Without missing values the axes are those of
    correspondence analysis of the indicator matrix [1]_ (mark K; R's FactoMineR gives the same).

    References
    ----------
    .. [1] Greenacre, Correspondence Analysis in Practice: multiple correspondence analysis (mark K).
    """
    n, p = codes.shape
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    table = np.zeros((n, int(offsets[-1])))
    shares = np.empty(table.shape[1])
    for j in range(p):
        own = slice(offsets[j], offsets[j + 1])
        known = codes[:, j] >= 0
        table[np.flatnonzero(known), offsets[j] + codes[known, j]] = 1.0
        shares[own] = table[known, own].mean(axis=0)
        table[~known, own] = shares[own]
    mass = shares / p
    # Squared, these are the inertias that every cell adds.
    residual = (table / p - mass) / np.sqrt(mass) / np.sqrt(n)
    gram = residual.T @ residual
    size = len(gram)
    wanted = min(n_axes, size - p, n - 1)
    values, vectors = eigh(gram, subset_by_index=[size - max(wanted, 1), size - 1])
    values, vectors = values[::-1], vectors[:, ::-1]
    found = int(np.count_nonzero(values > values[0] * _NOTHING)) if values[0] > 0 else 0
    vectors = vectors[:, :found]
    coordinates = vectors / np.sqrt(mass)[:, None]
    largest = np.abs(coordinates).argmax(axis=0)
    coordinates *= np.where(coordinates[largest, np.arange(found)] < 0, -1.0, 1.0)
    return Mca(values[:found], float(np.trace(gram)), coordinates, shares)


def place(codes: NDArray[np.int8], sizes: NDArray[np.int64], coordinates: Floats) -> Floats:
    """Principal coordinates of persons, (n, axes): the mean of the points of their categories.

    Parameters
    ----------
    codes : ndarray of int8 (n, p)
        Negative: missing, adds 0.
    sizes : ndarray of int64 (p,)
    coordinates : ndarray (J, axes)
        Of `Mca`.
    """
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    nothing = np.zeros(coordinates.shape[1])
    total = category_scores(np.ascontiguousarray(codes), offsets, np.ascontiguousarray(coordinates), nothing)
    return np.asarray(total / codes.shape[1])
