"""Beta values of methylation arrays and their M-values.

M = log2(beta / (1 - beta)), the logit scale on which variances are about equal (Du and others 2010, BMC
Bioinformatics 11:587). At beta 0 or 1 it is infinite, so beta is clipped to [BETA_CLIP, 1 - BETA_CLIP] first: half a
step of a 16-bit code, M = -17 ... 17.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sjd_dask.errors import SpecError

Floats = NDArray[np.float64]

BETA_CLIP = 2.0**-17


def beta_to_m(values: NDArray[Any], clip: float = BETA_CLIP) -> Floats:
    """M-values of beta values, any shape; NaN stays NaN.

    Parameters
    ----------
    values : ndarray
        Beta values, shares between 0 and 1.
    clip : float
        Betas below `clip` or above 1 - `clip` are taken as these.

    Raises
    ------
    SpecError
        If `clip` is not between 0 and 0.5, both left out.
    """
    if not 0.0 < clip < 0.5:
        raise SpecError(f"clip must lie between 0 and 0.5, not {clip}")
    beta = np.clip(np.asarray(values, dtype=np.float64), clip, 1.0 - clip)
    m_values: Floats = np.log2(beta / (1.0 - beta))
    return m_values


def beta_table(scale: float, fill: int | None, n_codes: int = 65536) -> Floats:
    """Look-up table from stored codes to beta = code * scale, (n_codes,) float64.

    `fill` is NaN, and so is a code that would stand for more than 1 by over half a step: no such value was ever stored.
    """
    if not scale > 0.0:
        raise SpecError(f"the scale of a code must be positive, not {scale}")
    beta = np.arange(n_codes, dtype=np.float64) * scale
    beta[beta > 1.0 + scale / 2.0] = np.nan
    np.minimum(beta, 1.0, out=beta)
    if fill is not None:
        if not 0 <= fill < n_codes:
            raise SpecError(f"the fill code {fill} is not one of {n_codes} codes")
        beta[fill] = np.nan
    return beta


def beta_to_m_table(scale: float, fill: int | None, n_codes: int = 65536, clip: float = BETA_CLIP) -> Floats:
    """Look-up table from stored codes of beta values to M-values, (n_codes,) float64; NaN means missing."""
    return beta_to_m(beta_table(scale, fill, n_codes), clip)
