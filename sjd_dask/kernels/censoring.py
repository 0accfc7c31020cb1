"""Values below the limit of detection.

Hornung and Reed (1990, Applied Occupational and Environmental Hygiene 5:46) compare the substitutes: limit / sqrt(2)
for mildly skewed concentrations, limit / 2 for strongly skewed ones.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# What a censored value becomes, as a share of its limit.
SUBSTITUTES: Final[dict[str, float]] = {"half": 0.5, "sqrt2": 1 / math.sqrt(2), "limit": 1.0, "missing": math.nan}


def below_limit(values: Floats, limits: Floats, *, missing_is_below: bool = False) -> Bools:
    """Where values lie below their limit, (n, p).

    Parameters
    ----------
    values : ndarray (n, p)
        Concentrations; NaN = missing.
    limits : ndarray (p,)
        Limit of each feature in the unit of the values; NaN: none known, and nothing lies below it.
    missing_is_below : bool
        Take a missing value of a feature with a limit as one below it, for tables that leave such cells blank.
    """
    below: Bools = np.asarray(values) < limits  # comparisons with NaN are False
    if missing_is_below:
        below |= np.isnan(values) & ~np.isnan(limits)
    return below


def substitute(values: Floats, below: Bools, limits: Floats, handling: str) -> Floats:
    """A copy of the values with those below their limit replaced.

    Parameters
    ----------
    values : ndarray (n, p)
    below : ndarray of bool (n, p)
        From `below_limit`.
    limits : ndarray (p,)
    handling : str
        Key of `SUBSTITUTES`.
    """
    replaced: Floats = np.where(below, limits * SUBSTITUTES[handling], values)
    return replaced
