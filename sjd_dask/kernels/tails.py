"""Tail probabilities of Student's t and Fisher's F, kept accurate where p-values are very small.

A genome-wide table is read at its smallest p-values, so the tails are computed directly (never as one minus a
distribution function) and stay within 1e-9 relative of the true value down to 1e-300, for whole, fractional, very
large and infinite degrees of freedom. Logarithmic tails go on where a double would underflow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import scipy.special as sc
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

FloatArray = NDArray[np.float64]

# Below this the plain tail is close to underflow and loses digits: the logarithmic form takes over.
_SMALLEST_PLAIN = 1e-290
# Above this many denominator degrees of freedom the incomplete beta function loses digits to cancellation, and an
# expansion around the chi-squared tail is the better one (both are within 1e-8 of each other here).
_LARGE_DF = 3e8
# Values given to one thread at a time: large enough that starting it costs nothing, small enough to stay in cache.
_CHUNK = 32768
# Points of the grid on which F values are matched between degrees of freedom.
_MATCH_GRID = 4096


def t_two_sided(t: ArrayLike, df: ArrayLike, *, threads: int = 1) -> FloatArray:
    """Two-sided p-value of a t statistic: 2 P(T > |t|).

    Parameters
    ----------
    t, df
        Statistics and degrees of freedom (> 0, may be fractional or infinite); they broadcast.
    threads
        Threads to spread the work over. The result does not depend on it.

    Returns
    -------
    ndarray of float64
        NaN where `t` or `df` is NaN, or where `df` is not positive.
    """
    return _spread(_t_two_sided, threads, t, df)


def f_upper(f: ArrayLike, df1: ArrayLike, df2: ArrayLike, *, threads: int = 1) -> FloatArray:
    """Upper tail of the F distribution: P(F > f) with `df1` and `df2` degrees of freedom; `df2` may be infinite.

    NaN in, or degrees of freedom that are not positive, give NaN; f <= 0 gives 1.
    """
    return _spread(_f_upper, threads, f, df1, df2)


def chi2_upper(x: ArrayLike, df: ArrayLike) -> FloatArray:
    """Upper tail of the chi-squared distribution: P(X > x). NaN in gives NaN."""
    result: FloatArray = sc.chdtrc(np.asarray(df, dtype=np.float64), np.asarray(x, dtype=np.float64))
    return result


def log_t_two_sided(t: ArrayLike, df: ArrayLike) -> FloatArray:
    """Natural logarithm of `t_two_sided`, finite where the p-value itself would underflow to zero."""
    t, df = (np.asarray(a, dtype=np.float64) for a in np.broadcast_arrays(t, df))
    # Beyond this t^2 would overflow, and the tail is a power of t.
    size = np.minimum(np.abs(t), 1e150)
    log_p = log_f_upper(size * size, 1.0, df)
    beyond = np.abs(t) > 1e150
    if beyond.any():
        log_p = np.array(log_p)
        log_p[beyond] -= df[beyond] * np.log(np.abs(t[beyond]) / 1e150)
    return log_p


def log_f_upper(f: ArrayLike, df1: ArrayLike, df2: ArrayLike) -> FloatArray:
    """Natural logarithm of `f_upper`, finite where the p-value itself would underflow to zero."""
    f, df1, df2 = (np.asarray(a, dtype=np.float64) for a in np.broadcast_arrays(f, df1, df2))
    plain = _f_upper(f, df1, df2)
    with np.errstate(divide="ignore"):
        log_tail = np.log(plain)
    far = plain < _SMALLEST_PLAIN
    if far.any():
        log_tail = np.array(log_tail)
        log_tail[far] = _log_f_far_upper(f[far], df1[far], df2[far])
    return log_tail


def log_f_lower(f: ArrayLike, df1: ArrayLike, df2: ArrayLike) -> FloatArray:
    """Natural logarithm of P(F < f), finite where it would underflow; `df2` may be infinite, `df1` may not."""
    f, df1, df2 = (np.asarray(a, dtype=np.float64) for a in np.broadcast_arrays(f, df1, df2))
    # Infinite or very large df2 loses nothing to the chi-squared form here: this tail is far below the mean.
    large = df2 > _LARGE_DF
    with np.errstate(divide="ignore", invalid="ignore"):
        lower = np.where(large, sc.chdtr(df1, df1 * f), sc.fdtr(df1, np.where(large, 1.0, df2), f))
        log_tail: FloatArray = np.log(lower)
        far = lower < _SMALLEST_PLAIN
        if far.any():
            log_tail = np.array(log_tail)
            log_tail[far] = _log_f_far_lower(f[far], df1[far], df2[far])
    return log_tail


def match_f(f: FloatArray, df1: float, new_df1: float, df2: float) -> FloatArray:
    """F values on `new_df1` numerator degrees of freedom with the tail probabilities of `f` on `df1`.

    `df2` stays and may be infinite. The smaller tail is matched, in logarithms. Long vectors are interpolated by a
    cubic spline over a grid of log f, which is exact to about 1e-10 relative.
    """
    f = np.asarray(f, dtype=np.float64)
    if f.size <= _MATCH_GRID:
        return _match_f(f, df1, new_df1, df2)
    log_f = np.log(f)
    grid = np.linspace(log_f.min(), log_f.max(), _MATCH_GRID)
    if grid[0] == grid[-1]:
        return _match_f(f, df1, new_df1, df2)
    moved = np.log(_match_f(np.exp(grid), df1, new_df1, df2)) - grid
    result: FloatArray = f * np.exp(CubicSpline(grid, moved)(log_f))
    return result


def _match_f(f: FloatArray, df1: float, new_df1: float, df2: float) -> FloatArray:
    """`match_f` by Newton's method: the log tails of log F are concave, so it can't run away."""
    upper = log_f_upper(f, df1, df2)
    lower = log_f_lower(f, df1, df2)
    new = np.array(f)
    for at, target, tail, sign in (
        (upper < lower, upper, log_f_upper, -1.0),
        (~(upper < lower), lower, log_f_lower, 1.0),
    ):
        value, wanted = new[at], target[at]
        for _ in range(100):
            log_p = tail(value, new_df1, df2)
            slope = sign * np.exp(np.log(value) + log_f_density(value, new_df1, df2) - log_p)
            step = (wanted - log_p) / slope
            value = value * np.exp(np.clip(step, -3.0, 3.0))
            if not np.any(np.abs(step) > 1e-13):
                break
        new[at] = value
    return new


def log_f_density(f: FloatArray, df1: float, df2: float) -> FloatArray:
    """Natural logarithm of the F density at f > 0; `df2` may be infinite."""
    a = df1 / 2
    if math.isinf(df2):
        return a * math.log(a) + (a - 1) * np.log(f) - a * f - math.lgamma(a)
    ratio = df1 / df2
    return a * math.log(ratio) + (a - 1) * np.log(f) - (a + df2 / 2) * np.log1p(ratio * f) - log_beta(a, df2 / 2)


def t_from_log_two_sided(log_p: ArrayLike, df: float, start: ArrayLike) -> FloatArray:
    """|t| whose two-sided p-value at `df` degrees of freedom has the logarithm `log_p`.

    Newton's method on log p as a function of log t. That function is decreasing and concave, so a `start` at or above
    the root moves down to it without overshoot. `start` must be such a value; where `log_p` is NaN the result is NaN.
    """
    target = np.asarray(log_p, dtype=np.float64)
    t = np.maximum(np.array(start, dtype=np.float64), 1e-300)
    for _ in range(100):
        log_tail = log_t_two_sided(t, df)
        # d log p / d log t = -2 t density(t) / p
        slope = -np.exp(math.log(2.0) + np.log(t) + _log_t_density(t, df) - log_tail)
        step = (target - log_tail) / slope
        t = t * np.exp(np.clip(step, -600.0, 2.0))
        if not np.any(np.abs(step) > 1e-13):
            break
    return t


def t_from_two_sided(p: ArrayLike, df: float) -> FloatArray:
    """|t| whose two-sided p-value at `df` degrees of freedom is `p` (1e-100 < p <= 1)."""
    p = np.asarray(p, dtype=np.float64)
    if math.isinf(df):
        result: FloatArray = -sc.ndtri(p / 2)
        return result
    t = -np.asarray(sc.stdtrit(df, p / 2), dtype=np.float64)
    # One Newton step removes what the library's own root search leaves.
    with np.errstate(all="ignore"):
        step = (_t_two_sided(t, np.asarray(df, dtype=np.float64)) - p) / (2 * np.exp(_log_t_density(t, df)))
    return np.where(np.isfinite(step) & (np.abs(step) < 1e-3 * t), t + step, t)


def _log_t_density(t: FloatArray, df: float) -> FloatArray:
    if math.isinf(df):
        return -0.5 * t * t - 0.5 * math.log(2 * math.pi)
    return -0.5 * math.log(df) - log_beta(df / 2, 0.5) - (df + 1) * np.log(np.hypot(1.0, t / math.sqrt(df)))


def _t_two_sided(t: FloatArray, df: FloatArray) -> FloatArray:
    """Plain tail. `stdtr` was the quickest and most accurate of SciPy's candidates (also betainc, fdtrc)."""
    with np.errstate(all="ignore"):
        p: FloatArray = 2.0 * sc.stdtr(df, -np.abs(t))
    infinite = np.isinf(df)
    if np.any(infinite):
        p = np.where(infinite, 2.0 * sc.ndtr(-np.abs(t)), p)
    return p


def _f_upper(f: FloatArray, df1: FloatArray, df2: FloatArray) -> FloatArray:
    large = df2 > _LARGE_DF
    with np.errstate(all="ignore"):
        if np.all(large):
            return _f_upper_large_df(f, df1, df2)
        p: FloatArray = sc.fdtrc(df1, df2, np.maximum(f, 0.0))
        if np.any(large):
            p = np.where(large, _f_upper_large_df(f, df1, df2), p)
    return p


def _f_upper_large_df(f: FloatArray, df1: FloatArray, df2: FloatArray) -> FloatArray:
    """Chi-squared tail with the first correction in 1 / df2.

    F's denominator is 1 + e with variance 2 / df2, so P(F > f) = Q(x) + x^2 Q''(x) / df2 + ..., with x = df1 f and Q
    the chi-squared tail. Written as a factor exp(...) it also carries the leading part of the next terms.
    """
    x = df1 * np.maximum(f, 0.0)
    tail = sc.chdtrc(df1, x)
    log_density = (df1 / 2 - 1) * np.log(x / 2) - x / 2 - sc.gammaln(df1 / 2) - math.log(2.0)
    curvature = np.exp(log_density) * (0.5 * x * x - (df1 / 2 - 1) * x)
    correction = np.where((tail > 0) & (x > 0), curvature / (tail * df2), 0.0)
    result: FloatArray = tail * np.exp(correction)
    return result


@numba.njit(nogil=True, cache=True)
def _stirling_rest(x: float) -> float:
    """lgamma(x) less its Stirling formula, for x >= 10 (DLMF 5.11.1)."""
    y = 1.0 / (x * x)
    tail = 1.0 / 1680.0 - y * (1.0 / 1188.0 - y * 691.0 / 360360.0)
    return (1.0 / 12.0 - y * (1.0 / 360.0 - y * (1.0 / 1260.0 - y * tail))) / x


@numba.njit(nogil=True, cache=True)
def log_beta(a: float, b: float) -> float:
    """log B(a, b) without the cancellation that differences of lgamma suffer for large arguments."""
    large, small = max(a, b), min(a, b)
    if large < 10.0:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    ratio = (
        _stirling_rest(large)
        - _stirling_rest(large + small)
        - (large - 0.5) * math.log1p(small / large)
        - small * math.log(large + small)
        + small
    )
    return math.lgamma(small) + ratio


@numba.njit(nogil=True, cache=True)
def _log_gamma_far(a: float, x: float) -> float:
    """log of the upper regularised incomplete gamma function Q(a, x) for x well above a (DLMF 8.9.2, Lentz)."""
    tiny = 1e-300
    b = x + 1.0 - a
    c = 1.0 / tiny
    d = 1.0 / b
    h = d
    for i in range(1, 2000):
        an = -i * (i - a)
        b += 2.0
        d = an * d + b
        if abs(d) < tiny:
            d = tiny
        c = b + an / c
        if abs(c) < tiny:
            c = tiny
        d = 1.0 / d
        delta = d * c
        h *= delta
        if abs(delta - 1.0) < 1e-15:
            break
    return a * math.log(x) - x - math.lgamma(a) + math.log(h)


@numba.njit(nogil=True, cache=True)
def _log_chi2_near_zero(x: float, df: float) -> float:
    """log P(X < x) of a chi-squared variable far below its mean, by the series DLMF 8.7.1."""
    if x <= 0.0:
        return -math.inf
    a = df / 2
    half = x / 2
    term = 1.0
    total = 1.0
    for k in range(1, 5000):
        term *= half / (a + k)
        total += term
        if term < 1e-17 * total:
            break
    return a * math.log(half) - half - math.lgamma(a + 1.0) + math.log(total)


@numba.njit(nogil=True, cache=True)
def _log_f_far(f: float, df1: float, df2: float) -> float:
    """log P(F > f) far in the tail: continued fraction of the incomplete beta function (DLMF 8.17.22, Lentz)."""
    if math.isinf(f):
        return -math.inf
    if math.isinf(df2):
        return _log_gamma_far(df1 / 2, df1 * f / 2)
    a = df2 / 2
    b = df1 / 2
    chi2 = df1 * f
    # The fraction loses about chi2 / df2 of its digits, the expansion of `_f_upper_large_df` errs by chi2^3 / 6 df2^2.
    if chi2**4 < 6e-16 * df2**3:
        log_tail = _log_gamma_far(b, chi2 / 2)
        log_density = (b - 1.0) * math.log(chi2 / 2) - chi2 / 2 - math.lgamma(b) - math.log(2.0)
        return log_tail + math.exp(log_density - log_tail) * (0.5 * chi2 * chi2 - (b - 1.0) * chi2) / df2
    ratio = chi2 / df2
    x = 1.0 / (1.0 + ratio)
    tiny = 1e-300
    c = 1.0
    d = 1.0 - (a + b) * x / (a + 1.0)
    if abs(d) < tiny:
        d = tiny
    d = 1.0 / d
    h = d
    for m in range(1, 5000):
        numerator = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        d = 1.0 + numerator * d
        c = 1.0 + numerator / c
        if abs(d) < tiny:
            d = tiny
        if abs(c) < tiny:
            c = tiny
        d = 1.0 / d
        h *= d * c
        numerator = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        d = 1.0 + numerator * d
        c = 1.0 + numerator / c
        if abs(d) < tiny:
            d = tiny
        if abs(c) < tiny:
            c = tiny
        d = 1.0 / d
        delta = d * c
        h *= delta
        if abs(delta - 1.0) < 1e-15:
            break
    return -a * math.log1p(ratio) - b * math.log1p(1.0 / ratio) - math.log(a) - log_beta(a, b) + math.log(h)


@numba.njit(nogil=True, cache=True)
def _log_f_far_upper(f: FloatArray, df1: FloatArray, df2: FloatArray) -> FloatArray:
    out = np.empty(f.size)
    for i in range(f.size):
        out[i] = _log_f_far(f[i], df1[i], df2[i])
    return out


@numba.njit(nogil=True, cache=True)
def _log_f_far_lower(f: FloatArray, df1: FloatArray, df2: FloatArray) -> FloatArray:
    """log P(F < f) far below the mean: the upper tail of 1 / F, or the chi-squared series for large df2."""
    out = np.empty(f.size)
    for i in range(f.size):
        if f[i] <= 0.0:
            out[i] = -math.inf
        elif df2[i] > _LARGE_DF:
            out[i] = _log_chi2_near_zero(df1[i] * f[i], df1[i])
        else:
            out[i] = _log_f_far(1.0 / f[i], df2[i], df1[i])
    return out


def _spread(function: Callable[..., FloatArray], threads: int, *arguments: ArrayLike) -> FloatArray:
    """Evaluate an elementwise function over broadcast arguments, in chunks on a few threads.

    SciPy's and NumPy's loops release the interpreter lock, so threads help.
    """
    arrays = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in arguments))
    shape = arrays[0].shape
    size = arrays[0].size
    if threads <= 1 or size <= _CHUNK:
        return np.asarray(function(*arrays), dtype=np.float64)
    flat = [a.reshape(-1) if a.flags.c_contiguous else a for a in arrays]
    if any(a.ndim != 1 for a in flat):
        flat = [np.ascontiguousarray(a).reshape(-1) for a in arrays]
    out = np.empty(size, dtype=np.float64)

    def work(start: int) -> None:
        stop = min(start + _CHUNK, size)
        out[start:stop] = function(*(a[start:stop] for a in flat))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(0, size, _CHUNK)))
    return out.reshape(shape)
