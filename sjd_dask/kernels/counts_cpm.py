"""Log counts per million of sequencing counts; each row by its own library size and frozen numbers alone."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def log_cpm(values: FloatArray, library_size: FloatArray, mean_size: float, prior_count: float) -> FloatArray:
    """Log2 counts per million with a prior count that grows with the library (edgeR's cpm(log=TRUE)).

    Parameters
    ----------
    values
        (n, p) counts.
    library_size
        (n,) effective library sizes.
    mean_size
        Mean effective library size of the reference set.
    prior_count
        Added to a count in a library of mean size; above 0.
    """
    prior = prior_count * library_size / mean_size
    total = np.log(library_size + 2 * prior)
    out = values + prior[:, None]
    np.log(out, out=out)
    out -= (total - math.log(1e6))[:, None]
    out /= math.log(2.0)
    return out
