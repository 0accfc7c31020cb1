"""Local false discovery rate of p-values: the share of null features among those with about the same p-value.

Efron's two-group estimate on probit-transformed p-values. The numbers are those of the estimate inside sva 3.46 (Leek
and others 2012), which weights features by it: R 4.2's binned kernel density, smoothed by a cubic smoothing spline that
generalised cross-validation chooses.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.fft
import scipy.linalg
import scipy.special as sc
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import BSpline

from sjd_dask.errors import DataError
from sjd_dask.kernels.smoothing_spline import curvature

FloatArray = NDArray[np.float64]

_GRID = 512
# Golden section, and the tolerances of the search for the penalty.
_GOLD = 0.381966011250105151795
_LOW, _HIGH, _TOLERANCE, _EPS, _MOST = -1.5, 1.5, 1e-4, 2e-8, 500


def local_fdr(
    p: ArrayLike,
    *,
    adjust: float = 1.5,
    eps: float = 1e-8,
    cut: float = 0.8,
) -> FloatArray:
    """Local false discovery rate of each feature, at most 1 and not falling with the p-value.

    Parameters
    ----------
    p
        (m,) p-values in [0, 1], m >= 2, no missing ones.
    adjust
        Factor on Silverman's bandwidth.
    eps
        p-values are drawn into [eps, 1 - eps] before the probit.
    cut
        The share of null features is estimated from p-values of at least this.

    Returns
    -------
    ndarray
        (m,) values in [0, 1].

    Raises
    ------
    DataError
        p-values are missing or outside [0, 1], are fewer than 4, or are all equal (no density).

    Notes
    -----
    Equals ``edge.lfdr`` inside sva 3.46 with its defaults, but for one case: where the spline dips below zero, sva's
    rate is negative and can stay so for the smallest p-values; here no rate is below zero.
    """
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or values.size < 4:
        raise DataError(f"a local false discovery rate needs at least 4 p-values; there are {values.size}")
    if not np.all((values >= 0) & (values <= 1)):
        raise DataError(
            f"{int(np.count_nonzero(~((values >= 0) & (values <= 1))))} of {values.size} p-values are missing or "
            "outside [0, 1]: leave those features out first"
        )
    null_share = min(float(np.mean(values >= cut)) / (1.0 - cut), 1.0)
    clipped = np.clip(values, eps, 1.0 - eps)
    x = sc.ndtri(clipped)
    if x.min() == x.max():
        raise DataError(f"all {values.size} p-values are {values[0]:g}: their density can't be estimated")
    grid, density = kernel_density(x, adjust=adjust)
    smooth = gcv_spline(grid, density)
    with np.errstate(divide="ignore"):
        rate = null_share * np.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi) / smooth(x)
    rate = np.clip(np.nan_to_num(rate, nan=1.0), 0.0, 1.0)
    order = np.argsort(clipped, kind="stable")
    climbing = np.maximum.accumulate(rate[order])
    out = np.empty(values.size)
    out[order] = climbing
    return out


def kernel_density(x: ArrayLike, *, adjust: float = 1.0) -> tuple[FloatArray, FloatArray]:
    """Gaussian kernel density at 512 points, from three bandwidths below the data to three above.

    The bandwidth is Silverman's rule of thumb times `adjust`; the values are spread linearly over 512 bins and
    convolved by FFT, then interpolated linearly: R 4.2's ``density(x, adjust=)`` (from R 4.4 on that function places
    its bins differently, by about 1e-3 of the density).

    Parameters
    ----------
    x
        (m,) finite values, not all equal.

    Returns
    -------
    ndarray, ndarray
        (512,) places and densities.
    """
    values = np.asarray(x, dtype=np.float64)
    m = values.size
    low, high = np.quantile(values, [0.25, 0.75])
    spread = float(values.std(ddof=1))
    narrow = min(spread, float(high - low) / 1.34) or spread
    width = adjust * 0.9 * narrow * m**-0.2
    start, stop = float(values.min()) - 3.0 * width, float(values.max()) + 3.0 * width
    lo, up = start - 4.0 * width, stop + 4.0 * width
    step = (up - lo) / (_GRID - 1)
    place = (values - lo) / step
    left = np.floor(place).astype(np.int64)
    share = place - left
    mass = np.bincount(left, (1.0 - share) / m, 2 * _GRID) + np.bincount(left + 1, share / m, 2 * _GRID)
    # Distances go up to twice the range over one bin fewer than there are: R's own spacing, kept for equal numbers.
    distance = np.linspace(0.0, 2.0 * (up - lo), 2 * _GRID)
    distance[_GRID + 1 :] = -distance[_GRID - 1 : 0 : -1]
    kernel = np.exp(-0.5 * (distance / width) ** 2) / (width * np.sqrt(2.0 * np.pi))
    spectrum = scipy.fft.fft(mass) * np.conj(scipy.fft.fft(kernel))
    density = np.maximum(0.0, scipy.fft.ifft(spectrum).real[:_GRID])
    places = np.linspace(start, stop, _GRID)
    return places, np.interp(places, np.linspace(lo, up, _GRID), density)


def gcv_spline(x: ArrayLike, y: ArrayLike) -> Callable[[FloatArray], FloatArray]:
    """Cubic smoothing spline whose penalty minimises generalised cross-validation; R's ``smooth.spline(x, y)``.

    Knots lie on a subset of the points by R's rule (119 of 512), the penalty is ratio * 256^(3 s - 1), and s in
    [-1.5, 1.5] is searched by Brent's method to 1e-4; the fit is that of the last s tried.

    Parameters
    ----------
    x
        (n,) strictly ascending, 200 <= n < 800.
    y
        (n,) finite.

    Returns
    -------
    callable
        The spline, for places within the range of x.
    """
    at = np.asarray(x, dtype=np.float64)
    target = np.asarray(y, dtype=np.float64)
    n = at.size
    if not 200 <= n < 800 or np.any(np.diff(at) <= 0):
        raise ValueError("this smoothing spline needs 200 to 799 strictly ascending x")
    lowest, reach = at[0], at[-1] - at[0]
    scaled = (at - lowest) / reach
    n_knots = int(2.0 ** (np.log2(100.0) + (np.log2(140.0) - np.log2(100.0)) * (n - 200) / 600.0))
    # The step is taken as R takes it, so that places that are whole numbers fall on the same side.
    chosen = np.trunc(np.arange(n_knots) * ((n - 1) / (n_knots - 1)) + 1e-12).astype(np.int64)
    chosen[-1] = n - 1
    breaks = scaled[chosen]
    knots = np.concatenate((np.zeros(3), breaks, np.ones(3)))
    n_basis = n_knots + 2
    spline = BSpline(knots, np.eye(n_basis), 3)
    basis = np.asarray(spline(scaled), dtype=np.float64)
    penalty = curvature(spline, breaks)
    gram = basis.T @ basis
    moment = basis.T @ target
    inner = slice(2, n_basis - 3)
    ratio = float(np.trace(gram[inner, inner]) / np.trace(penalty[inner, inner]))
    last = np.zeros(n_basis)

    def criterion(s: float) -> float:
        nonlocal last
        factor = scipy.linalg.cho_factor(gram + ratio * 256.0 ** (3.0 * s - 1.0) * penalty)
        last = scipy.linalg.cho_solve(factor, moment)
        spent = float(np.trace(scipy.linalg.cho_solve(factor, gram)))
        return float(np.mean((target - basis @ last) ** 2) / (1.0 - spent / n) ** 2)

    _search(criterion)
    fitted = BSpline(knots, last, 3)

    def evaluate(places: FloatArray) -> FloatArray:
        value: FloatArray = fitted((np.asarray(places, dtype=np.float64) - lowest) / reach)
        return value

    return evaluate


def _search(function: Callable[[float], float]) -> None:
    """Brent's bounded minimisation with the stopping rule of R's smoothing spline; what counts is its last call."""
    a, b = _LOW, _HIGH
    x = w = v = a + _GOLD * (b - a)
    fx = fw = fv = function(x)
    d = e = 0.0
    for _ in range(_MOST):
        middle = (a + b) / 2.0
        near = _EPS * abs(x) + _TOLERANCE / 3.0
        if abs(x - middle) <= 2.0 * near - (b - a) / 2.0:
            return
        golden = True
        if abs(e) > near:
            r = (x - w) * (fx - fv)
            q = (x - v) * (fx - fw)
            p = (x - v) * q - (x - w) * r
            q = (q - r) * 2.0
            if q > 0.0:
                p = -p
            q = abs(q)
            r, e = e, d
            golden = abs(p) >= abs(0.5 * q * r) or q == 0.0 or p <= q * (a - x) or p >= q * (b - x)
            if not golden:
                d = p / q
                u = x + d
                if u - a < 2.0 * near or b - u < 2.0 * near:
                    d = float(np.copysign(near, middle - x))
        if golden:
            e = a - x if x >= middle else b - x
            d = _GOLD * e
        u = x + (d if abs(d) >= near else float(np.copysign(near, d)))
        fu = function(u)
        if fu <= fx:
            if u >= x:
                a = x
            else:
                b = x
            v, fv, w, fw, x, fx = w, fw, x, fx, u, fu
        else:
            if u < x:
                a = u
            else:
                b = u
            if fu <= fw or w == x:
                v, fv, w, fw = w, fw, u, fu
            elif fu <= fv or v in (x, w):
                v, fv = u, fu
