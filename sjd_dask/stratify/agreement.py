"""How far two labellings of the same samples agree."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import xlogy


def cross_table(first: NDArray[np.object_], second: NDArray[np.object_]) -> pd.DataFrame:
    """Counts of samples by both labellings; samples that either leaves open are left out."""
    known = pd.notna(first) & pd.notna(second)
    return pd.crosstab(pd.Series(first[known], name="first"), pd.Series(second[known], name="second"))


def adjusted_rand_index(table: pd.DataFrame) -> float:
    """Adjusted Rand index of a cross table (Hubert and Arabie 1985): 1 the same, 0 by chance.

    Two labellings of one group each agree: 1. NaN for fewer than two samples.
    """
    counts = table.to_numpy(dtype=np.float64)
    n = counts.sum()
    if n < 2:
        return float("nan")

    def pairs(numbers: NDArray[np.float64]) -> float:
        return float((numbers * (numbers - 1)).sum() / 2)

    both, first, second = pairs(counts), pairs(counts.sum(axis=1)), pairs(counts.sum(axis=0))
    expected = first * second / (n * (n - 1) / 2)
    most = (first + second) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


def mutual_information(table: pd.DataFrame) -> float:
    """Normalised mutual information of a cross table: over the mean of both entropies; 0 where either is 0 alone.

    NaN for no samples; 1 for two labellings of one group each.
    """
    counts = table.to_numpy(dtype=np.float64)
    n = counts.sum()
    if n < 1:
        return float("nan")
    shares = counts / n
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    first, second = -xlogy(rows, rows).sum(), -xlogy(columns, columns).sum()
    shared = xlogy(shares, shares).sum() + first + second
    mean = (first + second) / 2
    return 1.0 if mean == 0 else float(max(0.0, shared) / mean)
