"""Natural cubic spline basis: cubic between the knots, straight lines beyond the ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class NaturalSpline:
    """A basis of `df` functions (constant included) that can be evaluated anywhere.

    Built by `natural_spline`; `knots` holds the boundary knots four times each and the interior ones once.
    """

    knots: FloatArray
    weights: FloatArray  # (number of B-splines, df): combinations whose curvature vanishes at both ends

    @property
    def df(self) -> int:
        """Number of basis functions."""
        return int(self.weights.shape[1])

    def __call__(self, x: FloatArray) -> FloatArray:
        """Basis at x (n,): an array (n, df). Beyond the boundary knots it goes on as a straight line."""
        low, high = self.knots[0], self.knots[-1]
        spline = BSpline(self.knots, self.weights, 3)
        out = np.asarray(spline(np.clip(x, low, high)), dtype=np.float64)
        for edge, beyond in ((low, x < low), (high, x > high)):
            if beyond.any():
                out[beyond] += (x[beyond] - edge)[:, None] * spline(edge, 1)[None, :]
        return out


def natural_spline(x: FloatArray, df: int) -> NaturalSpline:
    """Natural cubic splines with `df` degrees of freedom, constant included, and knots from the data.

    The boundary knots are the range of x and the df - 2 interior ones its equally spaced quantiles, as in R's
    ``splines::ns(x, df, intercept=TRUE)``; the space spanned is the same, the basis within it is another (orthogonal
    combinations of B-splines), so fitted and predicted values agree and coefficients don't. Interior knots that fall
    together stay repeated, which frees the fit there as it does in R.

    Parameters
    ----------
    x
        (n,) finite, at least two distinct values.
    df
        At least 2.
    """
    if df < 2:
        raise ValueError("a natural spline with a constant needs at least 2 degrees of freedom")
    low, high = float(x.min()), float(x.max())
    inner = np.quantile(x, np.linspace(0.0, 1.0, df)[1:-1]) if df > 2 else np.empty(0)
    knots = np.concatenate((np.full(4, low), inner, np.full(4, high)))
    n_splines = knots.size - 4
    second = BSpline(knots, np.eye(n_splines), 3)(np.array([low, high]), 2)
    # Columns of Q beyond the first two are orthogonal to both constraints.
    full, _ = np.linalg.qr(second.T, mode="complete")
    return NaturalSpline(knots, full[:, 2:])
