"""Linear models, one feature like another, from sums that are taken up block by block.

``linear_design`` -> ``new_sums`` -> ``accumulate`` (each block of samples) -> ``finish`` -> ``refit_columns`` (the
few features in ``needs_columns``) -> ``contrast_fit``.

Rounding. A sum is one fused multiply-add after another in the order of the samples, so results are the same bits for
any cut into blocks of samples, stripes of features or chunks; another order of the samples changes them by about
1e-13 of a feature's spread. Values are centred by a pilot mean first. With precision='single' the products are
float32, 16 samples at a time, and go to float64 sums.
"""

from __future__ import annotations

from sjd_dask.kernels.linear_contrasts import ContrastFit, NaContrasts, contrast_fit
from sjd_dask.kernels.linear_fit import REST_TOLERANCE, LinearFit, finish, refit_columns
from sjd_dask.kernels.linear_sums import (
    PILOT_ROWS,
    RANK_TOLERANCE,
    LinearDesign,
    LinearSums,
    Precision,
    accumulate,
    aliased_columns,
    linear_design,
    new_sums,
)

__all__ = [
    "PILOT_ROWS",
    "RANK_TOLERANCE",
    "REST_TOLERANCE",
    "ContrastFit",
    "LinearDesign",
    "LinearFit",
    "LinearSums",
    "NaContrasts",
    "Precision",
    "accumulate",
    "aliased_columns",
    "contrast_fit",
    "finish",
    "linear_design",
    "new_sums",
    "refit_columns",
]
