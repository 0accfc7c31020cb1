"""Whether two labellings of the same things hang together: tests of a table of counts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

# Tables drawn where a chi-square test can't be trusted.
N_TABLES = 9_999


@dataclass(frozen=True)
class Independence:
    """A test of a table of counts.

    Attributes
    ----------
    test
        ``chi2``, ``permutation`` or ``none`` (a table of one row or column says nothing).
    statistic
        Pearson's chi-square, without correction; `df` its degrees of freedom.
    cramer_v
        Square root of chi-square over n times the smaller dimension less one: 0 independent, 1 one decides the other.
    """

    test: str
    statistic: float
    df: int
    p_value: float
    cramer_v: float


def independence(counts: NDArray[np.integer[Any]], key: str) -> Independence:
    """Test a table of counts for independence of rows and columns.

    Parameters
    ----------
    counts : ndarray of int (r, c)
        Rows and columns without a count are left out.
    key : str
        Names the tables that are drawn: the same key and counts, the same p-value.

    Returns
    -------
    Independence
        Chi-square where at least 80 % of the expected counts are 5 or more and none is below 1 (Cochran's rule), else
        the share of 9,999 tables of the same margins whose chi-square is as large.
    """
    counts = np.asarray(counts)
    counts = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0]
    if min(counts.shape) < 2:
        return Independence("none", np.nan, 0, np.nan, np.nan)
    found = scipy.stats.chi2_contingency(counts, correction=False)
    chi2, p, expected = float(found.statistic), float(found.pvalue), found.expected_freq
    test = "chi2"
    if expected.min() < 1 or (expected >= 5).mean() < 0.8:
        test, p = "permutation", _drawn_p(counts, expected, chi2, key)
    effect = float(np.sqrt(chi2 / counts.sum() / (min(counts.shape) - 1)))
    return Independence(test, chi2, int(found.dof), p, effect)


def _drawn_p(counts: NDArray[np.integer[Any]], expected: NDArray[np.float64], chi2: float, key: str) -> float:
    """Share of tables with these margins that are as far from independence."""
    rng = np.random.default_rng(int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little"))
    drawn = scipy.stats.random_table(counts.sum(axis=1), counts.sum(axis=0)).rvs(N_TABLES, random_state=rng)
    far = ((drawn - expected) ** 2 / expected).sum(axis=(1, 2))
    return float((1 + (far >= chi2 * (1 - 1e-12)).sum()) / (1 + N_TABLES))
