"""Parts of a whole: log odds of one part, and log ratios of all parts of a sample.

Centred log ratios are Aitchison's (1986, The Statistical Analysis of Compositional Data); zeros are replaced by a small
share that the other parts give up in proportion, so that their ratios stay as they were (multiplicative replacement,
Martín-Fernández and others 2003, Mathematical Geology 35:253).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def log_odds(values: Floats, offset: float, *, shrink: bool = False, base: float = math.e) -> Floats:
    """Log odds of shares, any shape; NaN stays NaN.

    Parameters
    ----------
    values : ndarray
        Shares in [0, 1].
    offset : float
        How far 0 and 1 are pulled in, in (0, 0.5); may be 0 where no value is 0 or 1.
    shrink : bool
        False: shares below `offset` are taken as `offset`, those above 1 - `offset` as that, others stay as they are.
        True: every share becomes offset + (1 - 2 offset) share, as car::logit's `adjust` and, with offset 1 / (2 n),
        Smithson and Verkuilen (2006, Psychological Methods 11:54).
    base : float
        Base of the logarithm.
    """
    share = np.asarray(values, dtype=np.float64)
    share = offset + (1.0 - 2.0 * offset) * share if shrink else np.clip(share, offset, 1.0 - offset)
    with np.errstate(divide="ignore"):
        odds: Floats = np.log(share) - np.log1p(-share)
    return odds if base == math.e else odds / math.log(base)


def close(values: Floats) -> Floats:
    """Rows divided by the sum of their observed parts, (n, p); a row without a positive sum is NaN."""
    whole = np.asarray(values, dtype=np.float64)
    total = np.nansum(whole, axis=1, keepdims=True)
    closed: Floats = whole / np.where(total > 0, total, np.nan)
    return closed


def replace_zeros(shares: Floats, replacement: Floats) -> Floats:
    """Closed rows in which zeros became small shares and the other parts gave these up in proportion.

    Parameters
    ----------
    shares : ndarray (n, p)
        Rows of sum 1 over their observed parts, from `close`; NaN = missing, and stays so.
    replacement : ndarray (p,)
        Share that a zero of each part becomes. A row whose zeros would take all of it comes back as NaN.
    """
    is_zero = shares == 0
    taken = np.where(is_zero, replacement, 0.0).sum(axis=1, keepdims=True)
    left = np.where(taken < 1, 1.0 - taken, np.nan)
    replaced: Floats = np.where(is_zero, np.where(taken < 1, replacement, np.nan), shares * left)
    return replaced


def centred_log_ratio(shares: Floats, base: float = math.e) -> Floats:
    """Logarithms of positive parts less their row mean over the observed parts, (n, p); NaN stays NaN.

    The mean of logarithms is the logarithm of the geometric mean. Rows need not be closed: the result does not depend
    on their sums.
    """
    logs = np.log(shares)
    observed = ~np.isnan(logs)
    n = observed.sum(axis=1, keepdims=True)
    centre = np.where(observed, logs, 0.0).sum(axis=1, keepdims=True) / np.where(n > 0, n, np.nan)
    ratio: Floats = logs - centre
    return ratio if base == math.e else ratio / math.log(base)
