"""Which features have enough counts to be worth testing: edgeR's filterByExpr (Chen, Lun and Smyth 2016)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sjd_dask.errors import DesignError

FloatArray = NDArray[np.float64]

# edgeR's: a sample size or a total that misses its limit by less than this reaches it.
_TOLERANCE = 1e-14


def minimum_sample_size(
    n: int,
    *,
    groups: ArrayLike | None = None,
    design: FloatArray | None = None,
    large_n: float = 10,
    min_prop: float = 0.7,
) -> float:
    """In how many samples a feature must have counts.

    Parameters
    ----------
    n
        Samples.
    groups
        (n,) labels: the size of the smallest group counts.
    design
        (n, k) design matrix: one over the largest leverage counts, an intercept added if the design has none. Only
        when `groups` is None; with neither, all samples are one group.
    large_n, min_prop
        Above `large_n` samples only this share of the rest is needed.

    Raises
    ------
    DesignError
        An empty design, or another number of rows.
    """
    if groups is not None:
        _, counts = np.unique(np.asarray(groups), return_counts=True)
        size = float(counts.min())
    elif design is not None:
        if design.ndim != 2 or len(design) != n or not design.size:
            raise DesignError(f"a design for {n} samples has {n} rows and at least one column, not {design.shape}")
        size = 1 / float(leverage(design).max())
    else:
        size = float(n)
    return large_n + (size - large_n) * min_prop if size > large_n else size


def leverage(design: FloatArray) -> FloatArray:
    """Diagonal of the projection on the columns of a design and an intercept; columns may depend on each other."""
    x = np.column_stack([np.ones(len(design)), design])
    left, size, _ = np.linalg.svd(x / np.maximum(np.abs(x).max(axis=0), 1e-300), full_matrices=False)
    basis = left[:, size > size[0] * 1e-7]
    result: FloatArray = np.einsum("ij,ij->i", basis, basis)
    return result


def samples_above(values: FloatArray, library_size: FloatArray, median_size: float, min_count: float) -> FloatArray:
    """In how many of these samples each feature reaches `min_count` in a library of median size.

    Parameters
    ----------
    values
        (n, p) counts.
    library_size
        (n,) effective library sizes.
    median_size
        Median effective library size of all samples.

    Returns
    -------
    ndarray, shape (p,)
        Whole numbers.
    """
    cutoff = min_count / median_size * 1e6
    out = np.zeros(values.shape[1])
    for row, size in zip(values, library_size, strict=True):
        out += row * (1e6 / size) >= cutoff
    return out


def expressed(
    above: FloatArray, total: FloatArray, minimum_size: float, min_total_count: float = 15
) -> NDArray[np.bool_]:
    """Mask of features kept, from `samples_above` and the total counts of all samples, both (p,)."""
    keep: NDArray[np.bool_] = (above >= minimum_size - _TOLERANCE) & (total >= min_total_count - _TOLERANCE)
    return keep
