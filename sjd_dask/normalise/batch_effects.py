"""Effects of batches from their sums, and what a fit and an extension of ComBat share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.errors import DataError
from sjd_dask.kernels import batch as kernel
from sjd_dask.kernels import batch_prior as prior_kernel
from sjd_dask.normalise.formula import FrozenDesign
from sjd_dask.normalise.method import Arrays, Partial, Reference, Stripe

if TYPE_CHECKING:
    from sjd_dask.normalise.batch import Combat

# Parameters that have one entry, or one row, for each batch.
PER_BATCH = (
    "batch_levels",
    "batch_size",
    "is_extended",
    "n_unadjusted",
    "gamma_bar",
    "t2",
    "a_prior",
    "b_prior",
    "gamma_star",
    "delta_star",
)


def require_size(method: Combat, levels: list[str], size: NDArray[Any]) -> None:
    few = [f"{level!r} ({count})" for level, count in zip(levels, size, strict=True) if count < method.least]
    if few:
        raise DataError(
            f"step `combat` needs {method.least} samples of a batch, and these of column {method.batch!r} have fewer: "
            f"{', '.join(few[:10])}{', ...' if len(few) > 10 else ''}. Merge them with another batch, wait for more "
            f"samples, leave them out{'' if method.mean_only else ', or adjust means only (mean_only: true)'}."
        )


def shrink(
    method: Combat,
    reference: Reference,
    names: list[str],
    mean: NDArray[np.float64],
    squares: NDArray[np.float64],
    count: NDArray[np.float64],
) -> Arrays:
    """Priors and posterior effects of some batches, each over its features (all arrays: batches x features)."""
    scale = None if method.mean_only else squares / (count - 1)
    priors = [
        prior_kernel.estimate_prior(mean[b], None if scale is None else scale[b], name) for b, name in enumerate(names)
    ]
    found: Arrays = {
        name: np.array([getattr(one, name) for one in priors]) for name in ("gamma_bar", "t2", "a_prior", "b_prior")
    }
    gamma, delta = np.empty_like(mean), np.ones_like(mean)
    if method.prior == "nonparametric":
        common = (mean, squares, delta if scale is None else scale, count)
        weighted = reference.by_range(_weigh_range, common, mean.size).columns
        gamma, delta = weighted["gamma"].reshape(mean.shape), weighted["delta"].reshape(mean.shape)
    else:
        for b, name in enumerate(names):
            if scale is None:
                gamma[b] = prior_kernel.shrink_means(mean[b], priors[b])
            else:
                gamma[b], delta[b] = prior_kernel.shrink_parametric(
                    mean[b], squares[b], scale[b], count[b], priors[b], name
                )
    return {**found, "gamma_star": gamma, "delta_star": delta}


def spread(values: NDArray[np.float64], keep: NDArray[np.intp], n_features: int, neutral: float) -> NDArray[np.float64]:
    """Numbers of the adjusted features at their places among all."""
    out = np.full((*values.shape[:-1], n_features), neutral)
    out[..., keep] = values
    return out


def frozen_columns(parameters: Mapping[str, NDArray[Any]], samples: pd.DataFrame) -> NDArray[np.float64]:
    """Covariates of later samples, coded as at the fit."""
    frozen = FrozenDesign.from_text(str(parameters["covariate_design"]))
    whole = frozen.matrix(samples)
    return whole[:, [frozen.columns.index(str(name)) for name in parameters["term_names"]]]


def refuse_infinite(fit: kernel.BatchFit, stripe: Stripe) -> None:
    bad = np.flatnonzero(fit.status == kernel.INFINITE)
    if bad.size:
        raise DataError(
            f"step `combat` needs finite values, and feature {stripe.feature_ids[bad[0]]!r} has infinite ones "
            f"({bad.size} such features in this stripe): mark them as missing, or repair the step before"
        )


def _weigh_range(start: int, stop: int, common: Any) -> Partial:
    """Nonparametric effects of a piece of all batches' features, one batch after another."""
    mean, squares, scale, count = common
    width = mean.shape[1]
    gamma, delta = [], []
    while start < stop:
        b, first = divmod(start, width)
        last = min(width, first + stop - start)
        g, d = prior_kernel.shrink_nonparametric(first, last, mean[b], squares[b], scale[b], count[b])
        gamma.append(g)
        delta.append(d)
        start += last - first
    return Partial(columns={"gamma": np.concatenate(gamma), "delta": np.concatenate(delta)})
