"""Library sizes and scaling factors of sequencing counts, one sample at a time against frozen reference values.

A sample's raw factor depends on its own counts and on values that were frozen (a reference sample, geometric means,
which features count), never on other samples; the constant that centres the factors of the reference set is frozen by
the caller. On the set they were frozen from, the factors are those of edgeR 3.40 and DESeq2 1.38.

Missing rule: counts are finite and not negative; the caller has refused all else. Whole numbers are not required.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
GeometricMeans = Literal["ratio", "poscounts"]

# Log-ratios all below this: the sample is the reference, up to its depth (edgeR's constant).
_SAME = 1e-6


@dataclass(frozen=True)
class Trim:
    """How the trimmed mean of M values is taken (edgeR's calcNormFactors).

    Attributes
    ----------
    logratio_trim, sum_trim
        Shares of the features cut from each end by log-ratio and by abundance; below a half.
    weighting
        Weigh features by the inverse of the asymptotic variance of their log-ratio.
    acutoff
        Features whose mean log2 abundance is not above it are left out.
    """

    logratio_trim: float = 0.3
    sum_trim: float = 0.05
    weighting: bool = True
    acutoff: float = -1e10


def quantiles(values: FloatArray, p: float, keep: BoolArray | None = None) -> FloatArray:
    """Quantile of each row over the features in `keep`, by linear interpolation (R's type 7).

    Parameters
    ----------
    values
        (n, p) counts.
    p
        Probability, 0 to 1.
    keep
        (p,) features that take part; at least one. None: all.

    Returns
    -------
    ndarray, shape (n,)
    """
    used = values if keep is None or keep.all() else values[:, keep]
    position = (used.shape[1] - 1) * p
    low, high = math.floor(position), math.ceil(position)
    share = position - low
    out = np.empty(len(values))
    for i, row in enumerate(used):
        # NumPy's vectorised sort is faster than its selection.
        ordered = np.sort(row)
        below, above = ordered[low], ordered[high]
        out[i] = below if above == below else (1 - share) * below + share * above
    return out


def reference_by_quartiles(quartiles: FloatArray, root_sums: FloatArray) -> int:
    """Index of the sample that edgeR takes as the reference of TMM.

    Parameters
    ----------
    quartiles
        (n,) upper quartiles of the counts over library size.
    root_sums
        (n,) sums of the square roots of the counts: decide when most quartiles are zero.
    """
    if float(np.median(quartiles)) < 1e-20:
        return int(np.argmax(root_sums))
    return int(np.argmin(np.abs(quartiles - math.fsum(quartiles) / len(quartiles))))


def tmm_factors(
    values: FloatArray, library_size: FloatArray, reference: FloatArray, reference_size: float, trim: Trim
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Trimmed mean of M values of each row against the reference sample, not yet centred.

    Parameters
    ----------
    values
        (n, p) counts.
    library_size
        (n,) their library sizes, above 0.
    reference, reference_size
        (p,) counts of the reference sample and its library size.
    trim
        Shares to cut.

    Returns
    -------
    factors : ndarray, shape (n,)
        1 where all log-ratios are zero, or the trimming leaves nothing.
    n_common : ndarray of int64, shape (n,)
        Features with counts in both samples that entered; 0 means the factor says nothing.

    Notes
    -----
    Robinson and Oshlack (2010); the numbers are those of edgeR 3.40's calcNormFactors(method="TMM"), with its rule
    for ties: tied values have their mean rank, so they are kept or cut together.
    """
    p = values.shape[1]
    share = reference / reference_size
    log_share = _log2(share)
    m, a, v = np.empty(p), np.empty(p), np.empty(p)
    v_reference = np.zeros(p)
    there = reference > 0
    v_reference[there] = (reference_size - reference[there]) / reference_size / reference[there]
    factors, common = np.ones(len(values)), np.zeros(len(values), dtype=np.int64)
    for i, row in enumerate(values):
        n, largest = _tmm_terms(row, float(library_size[i]), share, log_share, v_reference, trim.acutoff, m, a, v)
        common[i] = n
        if largest < _SAME:
            continue
        m_low, m_high = _limits(m[:n], math.floor(n * trim.logratio_trim))
        a_low, a_high = _limits(a[:n], math.floor(n * trim.sum_trim))
        mean = _trimmed_mean(m[:n], a[:n], v[:n], m_low, m_high, a_low, a_high, trim.weighting)
        factors[i] = 2.0 ** (0.0 if math.isnan(mean) else mean)
    return factors, common


@njit(nogil=True, cache=True, error_model="numpy")
def _log2(x: FloatArray) -> FloatArray:
    """Logarithms by the C library, value by value, as R takes them: whether two values tie hangs on the last bit."""
    out = np.empty_like(x)
    for i in range(x.size):
        out[i] = np.log2(x[i])
    return out


@njit(nogil=True, cache=True, error_model="numpy")
def _tmm_terms(
    observed: FloatArray,
    size: float,
    share: FloatArray,
    log_share: FloatArray,
    v_reference: FloatArray,
    acutoff: float,
    m: FloatArray,
    a: FloatArray,
    v: FloatArray,
) -> tuple[int, float]:
    """Log-ratio, abundance and variance of the features with counts in both; their number and the largest ratio."""
    n = 0
    largest = -np.inf
    for g in range(observed.size):
        y = observed[g]
        if y > 0.0 and share[g] > 0.0:
            own = y / size
            ratio = np.log2(own / share[g])
            abundance = (np.log2(own) + log_share[g]) / 2.0
            if np.isfinite(ratio) and np.isfinite(abundance) and abundance > acutoff:
                m[n] = ratio
                a[n] = abundance
                v[n] = (size - y) / size / y + v_reference[g]
                largest = max(largest, abs(ratio))
                n += 1
    return n, largest


def _limits(x: FloatArray, cut: int) -> tuple[float, float]:
    """Smallest and largest value whose mean rank, ties counted, is not among the `cut` at either end."""
    n = x.size
    ordered = np.sort(x)
    low, high = float(ordered[cut]), float(ordered[n - 1 - cut])
    first, last = (int(np.searchsorted(ordered, low, side)) for side in ("left", "right"))
    if (first + 1 + last) / 2 < cut + 1:
        low = math.nextafter(low, math.inf)
    first, last = (int(np.searchsorted(ordered, high, side)) for side in ("left", "right"))
    if (first + 1 + last) / 2 > n - cut:
        high = math.nextafter(high, -math.inf)
    return low, high


@njit(nogil=True, cache=True, error_model="numpy")
def _trimmed_mean(
    m: FloatArray,
    a: FloatArray,
    v: FloatArray,
    m_low: float,
    m_high: float,
    a_low: float,
    a_high: float,
    weighting: bool,
) -> float:
    """Mean of the log-ratios within both limits, weighted by 1 / v; NaN when none is left."""
    above = below = 0.0
    for g in range(m.size):
        if m_low <= m[g] <= m_high and a_low <= a[g] <= a_high:
            weight = 1.0 / v[g] if weighting else 1.0
            term = m[g] * weight
            if not np.isnan(term):
                above += term
            below += weight
    return above / below


def tmmwsp_factors(
    values: FloatArray, library_size: FloatArray, reference: FloatArray, reference_size: float, trim: Trim
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Trimmed mean of M values with singleton pairing: as `tmm_factors`, steadier with many zeros.

    Positive counts whose partner is zero are paired by size, largest with largest, and take part. `acutoff` is not
    used. The numbers are those of edgeR 3.40's calcNormFactors(method="TMMwsp").
    """
    factors, common = np.ones(len(values)), np.zeros(len(values), dtype=np.int64)
    in_reference = reference > 1e-14
    for i, row in enumerate(values):
        in_row = row > 1e-14
        both = in_row & in_reference
        only_row, only_reference = row[in_row & ~in_reference], reference[in_reference & ~in_row]
        singles = min(only_row.size, only_reference.size)
        observed = np.concatenate([row[both], np.sort(only_row)[::-1][:singles]])
        partner = np.concatenate([reference[both], np.sort(only_reference)[::-1][:singles]])
        common[i] = observed.size
        if observed.size:
            factors[i] = _paired_factor(observed, partner, float(library_size[i]), reference_size, trim)
    return factors, common


def _paired_factor(y: FloatArray, ref: FloatArray, size: float, ref_size: float, trim: Trim) -> float:
    """Factor from features that are positive in both samples; ties in the log-ratio go by the shrunken one."""
    n = y.size
    share, ref_share = y / size, ref / ref_size
    m = _log2(share / ref_share)
    if np.max(np.abs(m)) < _SAME:
        return 1.0
    a = 0.5 * _log2(share * ref_share)
    shrunken = (y + 0.5) / (size + 0.5) / ((ref + 0.5) / (ref_size + 0.5))
    keep = _within(m, int(n * trim.logratio_trim), shrunken) & _within(a, int(n * trim.sum_trim))
    if not keep.any():
        return 1.0
    m, share, ref_share = m[keep], share[keep], ref_share[keep]
    if not trim.weighting:
        return float(2.0 ** np.mean(m))
    v = (1 - share) / share / size + (1 - ref_share) / ref_share / ref_size
    w = (1 + 1e-6) / (v + 1e-6)
    return float(2.0 ** (np.sum(w * m) / np.sum(w)))


def _within(x: FloatArray, cut: int, ties: FloatArray | None = None) -> BoolArray:
    """All but the `cut` first and last values in order; tied values go by `ties`, then by place."""
    ordered = np.sort(x)
    low, high = ordered[cut], ordered[x.size - 1 - cut]
    keep: BoolArray = (x >= low) & (x <= high)
    for end in (low, high):
        tied = np.flatnonzero(x == end)
        if ties is not None:
            tied = tied[np.argsort(_log2(ties[tied]), kind="stable")]
        first = int(np.searchsorted(ordered, end))
        keep[tied[: max(cut - first, 0)]] = False
        keep[tied[x.size - cut - first :]] = False
    return keep


def log_geometric_means(values: FloatArray, kind: GeometricMeans = "ratio") -> FloatArray:
    """Log of the geometric mean of each feature over all samples; NaN where it takes no part.

    Parameters
    ----------
    values
        (n, w) counts of all samples. The sum goes from the first sample to the last, whatever the width.
    kind
        ``ratio``: features with a zero take no part; ``poscounts``: zeros count as one, and only features that are
        zero everywhere take no part (DESeq2's types).
    """
    out = _log_sums(np.ascontiguousarray(values), kind == "poscounts")
    result: FloatArray = out / values.shape[0]
    return result


@njit(nogil=True, cache=True, error_model="numpy")
def _log_sums(values: FloatArray, skip_zeros: bool) -> FloatArray:
    n, w = values.shape
    total = np.zeros(w)
    rest = np.zeros(w)
    positive = np.zeros(w, dtype=np.int64)
    for i in range(n):
        for g in range(w):
            if values[i, g] > 0.0:
                # Neumaier's sum: what each addition rounds away is kept.
                x = np.log(values[i, g])
                s = total[g] + x
                rest[g] += (total[g] - s) + x if abs(total[g]) >= abs(x) else (x - s) + total[g]
                total[g] = s
                positive[g] += 1
    for g in range(w):
        total[g] = total[g] + rest[g] if positive[g] == n or (skip_zeros and positive[g] > 0) else np.nan
    return total


def size_factors(values: FloatArray, log_means: FloatArray) -> FloatArray:
    """DESeq2's size factor of each row: the median ratio to the geometric means over features with counts.

    Parameters
    ----------
    values
        (n, p) counts.
    log_means
        (p,) from `log_geometric_means`.

    Returns
    -------
    ndarray, shape (n,)
        NaN where no feature with a geometric mean has a count.

    Notes
    -----
    Anders and Huber (2010); estimateSizeFactorsForMatrix of DESeq2 1.38 (median of logarithms).
    """
    used = np.flatnonzero(~np.isnan(log_means))
    means = log_means[used]
    out = np.full(len(values), np.nan)
    for i, row in enumerate(values):
        own = row[used]
        there = own > 0
        if there.any():
            out[i] = math.exp(float(np.median(np.log(own[there]) - means[there])))
    return out


def rle_factors(values: FloatArray, library_size: FloatArray, log_means: FloatArray) -> FloatArray:
    """edgeR's relative log expression factor of each row, not yet centred: median ratio over library size.

    It differs from `size_factors` in the median of an even number (of ratios, not of logarithms), and in that features
    without counts take part. NaN where no feature has a geometric mean.
    """
    used = np.flatnonzero(~np.isnan(log_means))
    if not used.size:
        return np.full(len(values), np.nan)
    means = np.exp(log_means[used])
    medians = np.array([float(np.median(row[used] / means)) for row in values])
    result: FloatArray = medians / library_size
    return result


def centre(factors: FloatArray) -> float:
    """Log of the geometric mean of factors: divide by its exponential, and their product is one."""
    return math.fsum(np.log(factors)) / len(factors)
