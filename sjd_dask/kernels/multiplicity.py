"""Many tests at once: adjusted p-values, q-values and the inflation of a set of tests."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.special as sc
from numpy.typing import ArrayLike, NDArray

from sjd_dask.errors import SpecError
from sjd_dask.kernels.smoothing_spline import smooth_to_df
from sjd_dask.kernels.tails import t_two_sided

FloatArray = NDArray[np.float64]

#: Median of the chi-squared distribution with one degree of freedom.
MEDIAN_CHI2_1 = float(sc.chdtri(1.0, 0.5))

METHODS = ("BH", "BY", "bonferroni", "holm", "hochberg")


def benjamini_hochberg(p: ArrayLike) -> FloatArray:
    """False discovery rate adjusted p-values (Benjamini and Hochberg 1995).

    Parameters
    ----------
    p
        p-values of any shape. Missing ones stay NaN and are not counted as tests.

    Returns
    -------
    ndarray of float64
        For p of rank i among m: the smallest over j >= i of p_(j) m / j, at most 1. Equal p get equal values.
    """
    return adjust(p, "BH")


def adjust(p: ArrayLike, method: str = "BH") -> FloatArray:
    """Adjusted p-values by one of `METHODS`; NaN stay NaN and are not counted (as R's p.adjust).

    ``BH`` Benjamini-Hochberg and ``BY`` Benjamini-Yekutieli control the false discovery rate; ``bonferroni``, ``holm``
    and ``hochberg`` the family-wise error.
    """
    if method not in METHODS:
        raise SpecError(f"unknown adjustment {method!r}: choose one of {', '.join(METHODS)}")
    values = np.asarray(p, dtype=np.float64)
    out = np.full(values.shape, np.nan)
    kept = ~np.isnan(values)
    known = values[kept]
    m = known.size
    if m == 0:
        return out
    if method == "bonferroni":
        out[kept] = np.minimum(1.0, m * known)
        return out
    order = np.argsort(known)  # ties end equal whatever their order
    ascending = known[order]
    rank = np.arange(1, m + 1, dtype=np.float64)
    if method == "holm":
        adjusted = np.maximum.accumulate((m + 1 - rank) * ascending)
    else:
        if method == "hochberg":
            scaled = (m + 1 - rank) * ascending
        else:
            factor = np.sum(1.0 / rank) if method == "BY" else 1.0
            scaled = factor * m / rank * ascending
        adjusted = np.minimum.accumulate(scaled[::-1])[::-1]
    known_adjusted = np.empty(m)
    known_adjusted[order] = np.minimum(1.0, adjusted)
    out[kept] = known_adjusted
    return out


@dataclass(frozen=True)
class Storey:
    """q-values and the estimated share of true null hypotheses."""

    q: FloatArray
    pi0: float
    tuning: FloatArray  # the lambda values tried
    pi0_path: FloatArray  # the raw estimate at each


def storey_q(
    p: ArrayLike,
    *,
    tuning: ArrayLike | None = None,
    method: str = "smoother",
) -> Storey:
    """q-values with an estimated share of null hypotheses (Storey and Tibshirani 2003; Storey, Taylor, Siegmund 2004).

    Parameters
    ----------
    p
        p-values in [0, 1], any shape; NaN stay NaN and are not counted.
    tuning
        One lambda in [0, 1), or an ascending grid of at least four; default 0.05, 0.10, ..., 0.95.
    method
        How the estimates over the grid are joined: ``smoother``, a cubic smoothing spline with 3 effective degrees of
        freedom read at the largest lambda; or ``bootstrap``, the closed-form minimum of the bootstrap's mean squared
        error. Ignored when `tuning` is a single number.

    Raises
    ------
    SpecError
        For p outside [0, 1], a bad grid or method, or an estimated share that is not positive (p-values that are
        not those of a valid test); the remedy is a fixed `tuning`, or the Benjamini-Hochberg adjustment.
    """
    values = np.asarray(p, dtype=np.float64)
    kept = ~np.isnan(values)
    known = values[kept]
    m = known.size
    if m and (known.min() < 0 or known.max() > 1):
        raise SpecError(f"p-values must lie in [0, 1]; found {known.min():g} to {known.max():g}")
    steps = 0.05 + np.arange(19) * 0.05 if tuning is None else tuning
    grid: FloatArray = np.atleast_1d(np.asarray(steps, dtype=np.float64))
    _check_grid(grid, method)
    if m == 0:
        return Storey(np.full(values.shape, np.nan), math.nan, grid, np.full(grid.shape, np.nan))
    ascending = np.sort(known)
    above = m - np.searchsorted(ascending, grid, side="left")
    path = above / (m * (1.0 - grid))
    if grid.size == 1:
        pi0 = min(float(path[0]), 1.0)
    elif method == "smoother":
        pi0 = min(float(smooth_to_df(grid, path, 3.0)[-1]), 1.0)
    else:
        lowest = float(np.quantile(path, 0.1))
        error = above / (m**2 * (1.0 - grid) ** 2) * (1.0 - above / m) + (path - lowest) ** 2
        pi0 = min(float(path[error == error.min()].min()), 1.0)
    if pi0 <= 0:
        raise SpecError(
            f"the estimated share of true null hypotheses is {pi0:.4g}, so q-values can't be computed: give a fixed "
            "lambda (for example 0.5), or use the Benjamini-Hochberg adjustment"
        )
    return Storey(pi0 * benjamini_hochberg(values), pi0, grid, path)


def genomic_inflation(*, p: ArrayLike | None = None, t: ArrayLike | None = None, df: ArrayLike | None = None) -> float:
    """Inflation lambda: median of the tests' one-degree chi-squared over its expected median (Devlin, Roeder 1999).

    Parameters
    ----------
    p
        Two-sided p-values; or give
    t, df
        t statistics and their degrees of freedom (default infinite: z scores). They are turned into p-values first,
        so a lambda of 1 means no inflation whatever the degrees of freedom.

    Returns
    -------
    float
        NaN when nothing is left after dropping missing values. Call it genomic only for genome-wide sets.
    """
    if (p is None) == (t is None):
        raise SpecError("give either p or t to genomic_inflation, not both or neither")
    if p is None:
        p = t_two_sided(np.asarray(t, dtype=np.float64), np.inf if df is None else df)
    known = np.asarray(p, dtype=np.float64)
    known = known[~np.isnan(known)]
    if known.size == 0:
        return math.nan
    # Chi-squared decreases with p, and the median of an even number is the mean of the two middle chi-squared values.
    middle = known.size // 2
    if known.size % 2:
        centre = [np.partition(known, middle)[middle]]
    else:
        part = np.partition(known, [middle - 1, middle])
        centre = [part[middle - 1], part[middle]]
    return float(np.mean(sc.chdtri(1.0, np.array(centre)))) / MEDIAN_CHI2_1


def _check_grid(grid: FloatArray, method: str) -> None:
    if method not in ("smoother", "bootstrap"):
        raise SpecError(f"unknown method {method!r} for the share of null hypotheses: smoother or bootstrap")
    if grid.size > 1 and (grid.size < 4 or np.any(np.diff(grid) <= 0)):
        raise SpecError("the grid of lambda needs one value, or at least four in ascending order")
    if np.any(grid < 0) or np.any(grid >= 1) or np.any(np.isnan(grid)):
        raise SpecError("every lambda must lie in [0, 1)")
