"""New batches for a frozen ComBat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels import batch as kernel
from sjd_dask.normalise.batch_design import sample_labels
from sjd_dask.normalise.batch_effects import PER_BATCH, frozen_columns, refuse_infinite, require_size, shrink
from sjd_dask.normalise.method import Arrays, Partial, Reference, Stripe, require_columns

if TYPE_CHECKING:
    from sjd_dask.normalise.batch import Combat


def extend(method: Combat, parameters: Mapping[str, NDArray[Any]], reference: Reference, batches: list[str]) -> Arrays:
    """Parameters with new batches added; those of the batches before stay as they are, bit for bit.

    A new batch is fitted against the frozen mean, covariates and pooled standard deviation, with priors of its own over
    the features. It differs from a new fit of everything in that the frozen standardisation has not seen it.

    Parameters
    ----------
    method : Combat
    parameters : dict of arrays
        From `fit`, or from an earlier `extend`.
    reference : Reference
        Holds the samples of the new batches; samples of other batches are not used.
    batches : list of str
        Labels of the new batches.

    Returns
    -------
    dict of arrays

    Raises
    ------
    SpecError
        A batch that has parameters already.
    DataError
        A batch with fewer than `min_samples` samples.

    Notes
    -----
    A feature that the new batch has too few values of, or only equal ones, gets no adjustment there; `n_unadjusted`
    counts them.
    """
    require_columns(method.apply_columns(), reference.samples, method.method)
    batches = [str(one) for one in batches]
    twice = sorted({b for b in batches if b in set(parameters["batch_levels"].tolist()) or batches.count(b) > 1})
    if twice or not batches:
        raise SpecError(
            f"batches {', '.join(map(repr, twice))} have parameters already, or are named twice; frozen ones are never "
            "changed: fit a new version of the chain instead"
            if twice
            else "name the batches to add"
        )
    n_features = parameters["grand_mean"].size
    if reference.n_features != n_features:
        raise DataError(f"the parameters are of {n_features} features and the samples have {reference.n_features}")
    labels = sample_labels(reference.samples, method.batch, method.method)
    place = {label: b for b, label in enumerate(batches)}
    codes = np.array([place.get(label, -1) for label in labels], dtype=np.int64)
    rows = np.flatnonzero(codes >= 0)
    size = np.bincount(codes[rows], minlength=len(batches))
    require_size(method, batches, size)
    terms = parameters.get("coefficients", np.zeros((0, n_features)))
    covariates = np.zeros((rows.size, 0))
    if terms.shape[0]:
        covariates = frozen_columns(parameters, reference.samples.iloc[rows])
    design = kernel.batch_design(codes[rows], len(batches))
    frozen = (parameters["grand_mean"], parameters["pooled_sd"], terms, covariates, rows)
    seen = reference.by_features(_extend_stripe, (design, 1 if method.mean_only else 2, frozen))
    at = np.flatnonzero(parameters["feature_status"] == kernel.ADJUSTED)
    added: Arrays = {
        "batch_levels": np.array(batches),
        "batch_size": size.astype(np.int64),
        "is_extended": np.ones(len(batches), dtype=bool),
        "n_unadjusted": np.full(len(batches), n_features, dtype=np.int64),
        "gamma_star": np.zeros((len(batches), n_features)),
        "delta_star": np.ones((len(batches), n_features)),
        **{name: np.full(len(batches), np.nan) for name in ("gamma_bar", "t2", "a_prior", "b_prior")},
    }
    for b, label in enumerate(batches):
        count, mean, rest = (seen.columns[name][b, at] for name in ("count", "level", "rest"))
        enough = count >= (1 if method.mean_only else 2)
        fine = enough & ~((rest == 0) & (count == size[b]) & (size[b] > 1))
        keep = at[fine]
        picked = (one[None, fine].astype(np.float64) for one in (mean, rest, count))
        shrunk = shrink(method, reference, [label], *picked)
        for name in ("gamma_bar", "t2", "a_prior", "b_prior"):
            added[name][b] = shrunk[name][0]
        for name in ("gamma_star", "delta_star"):
            added[name][b, keep] = shrunk[name][0]
        added["n_unadjusted"][b] -= keep.size
    return {
        name: np.concatenate([value, added[name]]) if name in PER_BATCH else value for name, value in parameters.items()
    }


def _extend_stripe(stripe: Stripe, common: Any) -> Partial:
    design, least, (grand, sd, terms, covariates, rows) = common
    here = slice(stripe.feature_start, stripe.feature_start + stripe.values.shape[1])
    values = stripe.values[rows] - grand[here]
    for j in range(terms.shape[0]):
        values -= covariates[:, j, None] * terms[j, here]
    values /= sd[here]
    fit = kernel.fit_batches(values, design, least)
    refuse_infinite(fit, stripe)
    return Partial(columns={"count": fit.count, "level": fit.level, "rest": fit.rest})
