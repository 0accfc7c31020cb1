"""Cubic smoothing spline with a wanted number of effective degrees of freedom, for short series."""

from __future__ import annotations

import numpy as np
import scipy.optimize
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import BSpline

FloatArray = NDArray[np.float64]

# What R's smoothing spline has for the integral of u^2 from 0 to 1.
_THIRD = 0.3330


def smooth_to_df(x: ArrayLike, y: ArrayLike, df: float) -> FloatArray:
    """Fitted values of the cubic smoothing spline through (x, y) that spends about `df` degrees of freedom.

    The fit minimises sum (y - f(x))^2 + penalty * integral f''^2 with a knot at every x; its degrees of freedom are
    the trace of the matrix that maps y to the fit. So that q-values stay comparable with published ones, the penalty is
    the one R's ``smooth.spline(x, y, df=)`` ends with, not the one of the exact trace: it is searched on the scale
    penalty = ratio * 256^(3 s - 1), s in [-1.5, 1.5], by Brent's bounded minimisation of (trace - df)^2 to 1e-4 in s;
    the fit is that of the last s tried, not of the best; and the integral takes .3330 for one third. The trace then
    differs from `df` by up to about 1e-3.

    Parameters
    ----------
    x
        (n,) strictly ascending, 4 <= n < 50 (the search is by dense matrices, and R thins the knots from 50 on).
    y
        (n,) finite.

    Returns
    -------
    ndarray
        (n,) fitted values.
    """
    x = np.asarray(x, dtype=np.float64)
    y = np.asarray(y, dtype=np.float64)
    if x.size < 4 or x.size >= 50 or np.any(np.diff(x) <= 0):
        raise ValueError("a smoothing spline here needs 4 to 49 strictly ascending x")
    scaled = (x - x[0]) / (x[-1] - x[0])
    knots = np.concatenate((np.zeros(3), scaled, np.ones(3)))
    n_basis = x.size + 2
    spline = BSpline(knots, np.eye(n_basis), 3)
    basis = spline(scaled)
    penalty = curvature(spline, scaled)
    gram = basis.T @ basis
    # The scale of the search: traces of both matrices without their two or three outermost entries.
    inner = slice(2, n_basis - 3)
    ratio = np.trace(gram[inner, inner]) / np.trace(penalty[inner, inner])

    def hat(s: float) -> FloatArray:
        weight = ratio * 256.0 ** (3.0 * s - 1.0)
        solved: FloatArray = basis @ np.linalg.solve(gram + weight * penalty, basis.T)
        return solved

    last = basis

    def miss(s: float) -> float:
        nonlocal last
        last = hat(s)
        return 3.0 + (df - float(np.trace(last))) ** 2

    scipy.optimize.minimize_scalar(miss, bounds=(-1.5, 1.5), method="bounded", options={"xatol": 1e-4})
    fitted: FloatArray = last @ y
    return fitted


def curvature(spline: BSpline, breaks: FloatArray) -> FloatArray:
    """Integrals of products of second derivatives, which are straight lines a + b u, 0 <= u <= 1, between breaks."""
    width = np.diff(breaks)
    # Read inside the intervals, where the lines can't be confused with their neighbours'.
    quarter, three = (spline(breaks[:-1] + share * width, 2) for share in (0.25, 0.75))
    slope = 2.0 * (three - quarter)
    left = quarter - slope / 4.0
    weight = width[:, None]
    cross = left.T @ (slope * weight)
    square = slope.T @ (slope * weight)
    return np.asarray(left.T @ (left * weight) + (cross + cross.T) / 2.0 + _THIRD * square)
