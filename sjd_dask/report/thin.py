"""Fewer points where they would cover each other, so that a page of a million features stays small."""

from __future__ import annotations

import numpy as np

# Significant points above this number are thinned like the rest, the smallest p-values last.
KEPT = 20_000
# Fewer points than this are all drawn.
FEW = 5_000


def one_per_cell(x: np.ndarray, y: np.ndarray, columns: int, rows: int) -> np.ndarray:
    """Indices of the first point in each cell of a grid over the points, ascending.

    Parameters
    ----------
    x, y : ndarray (n,)
        Finite coordinates.
    columns, rows : int
        Size of the grid; about the size of the picture in dots gives a picture that looks the same.
    """
    if x.size == 0:
        return np.empty(0, dtype=np.int64)

    def cell(values: np.ndarray, n: int) -> np.ndarray:
        low, high = values.min(), values.max()
        return ((values - low) * ((n - 1) / max(high - low, 1e-300))).astype(np.int64)

    _, first = np.unique(cell(x, columns) * rows + cell(y, rows), return_index=True)
    return np.sort(first)


def thin(x: np.ndarray, y: np.ndarray, important: np.ndarray, columns: int, rows: int) -> np.ndarray:
    """Indices of the points to draw: all important ones up to a cap (highest ``y`` first), one a cell of the rest.

    Parameters
    ----------
    x, y : ndarray of float (n,)
    important : ndarray of bool (n,)
    columns, rows : int
        Grid for the rest.

    Returns
    -------
    ndarray of int, ascending.
    """
    if x.size <= FEW:
        return np.arange(x.size)
    chosen = np.flatnonzero(important)
    if chosen.size > KEPT:
        chosen = chosen[np.argsort(-y[chosen], kind="stable")[:KEPT]]
    rest = np.ones(x.size, dtype=bool)
    rest[chosen] = False
    others = np.flatnonzero(rest)
    return np.sort(np.concatenate([chosen, others[one_per_cell(x[others], y[others], columns, rows)]]))


def log_spaced(n: int, points: int = 1500, head: int = 400) -> np.ndarray:
    """Ranks 0 to n - 1 for a quantile plot: the first ``head`` all, then evenly on a logarithmic scale."""
    if n <= points:
        return np.arange(n)
    tail = np.geomspace(head, n, points - head) - 1
    return np.unique(np.concatenate([np.arange(head), np.round(tail).astype(np.int64)]))
