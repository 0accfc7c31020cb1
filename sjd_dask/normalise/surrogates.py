"""Surrogate variables of a design, by passes over a reference set.

They stand for what moves many features at once and is not in the design: batches nobody wrote down, cell mixtures.
They are found in one cohort for one design, so there is nothing to freeze: a later sample has no place on them without
that design's outcome. Use them as covariates of an analysis; a chain for single samples corrects known batches, or
adjusts for cell fractions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.errors import DataError, DesignError, SpecError
from sjd_dask.kernels import surrogates as kernel
from sjd_dask.kernels.lfdr import local_fdr
from sjd_dask.normalise.method import Partial, Reference, Stripe

FloatArray = NDArray[np.float64]
WHY_NOT_FROZEN = (
    "surrogate variables belong to the cohort and the design they were found in: a new sample has none without its "
    "outcome, so they can't be frozen"
)
_FEWEST = 20


@dataclass(frozen=True)
class Surrogates:
    """Surrogate variables of a design.

    Attributes
    ----------
    vectors : DataFrame
        One row a sample (index sample_id), columns SV1, SV2, ...: orthonormal for ``irw``, of unit length for
        ``two_step``; the entry of largest size is positive.
    probabilities : DataFrame
        One row a feature (index feature_id): ``p_surrogate``, the posterior probability that the surrogate variables
        move the feature, and ``p_design``, that the terms of interest do (NaN for ``two_step``, whose ``p_surrogate``
        is 0 or 1). NaN for features left out.
    n_features : int
        Features used.
    n_missing, n_constant : int
        Features left out because a sample has no value, and because they don't vary beyond the design.
    notes : tuple of str
        What else had to be done.
    """

    vectors: pd.DataFrame
    probabilities: pd.DataFrame
    n_features: int
    n_missing: int
    n_constant: int
    notes: tuple[str, ...] = field(default=())


def num_sv(
    reference: Reference,
    design: FloatArray,
    method: Literal["leek", "be"] = "leek",
    *,
    rounds: int = 20,
    seed: int = 0,
) -> int:
    """Number of surrogate variables that the data hold beyond a design.

    Parameters
    ----------
    reference : Reference
        Log-like values (or M-values); of counts log(count + 1) is taken, as svaseq does. Features with a missing
        value, or without variance beyond the design, are left out.
    design : ndarray, shape (n, k)
        Full design, with the terms of interest.
    method : {"leek", "be"}
        ``leek``: the asymptotic rule of Leek (2011), two passes over the data with up to 1200 samples, more with more.
        ``be``: parallel analysis by permutation (Buja and Eyuboglu 1992), which tends to give more.
    rounds, seed : int
        Permutations of ``be``, named by the seed and the feature's number: the same in any partition. R's own random
        numbers are not reproduced.

    Returns
    -------
    int

    Raises
    ------
    DesignError
        The design has dependent columns, or too many for the samples.
    DataError
        Fewer than 20 features can be used; or negative counts.

    Notes
    -----
    sva 3.46's ``num.sv``.
    """
    if method not in ("leek", "be"):
        raise SpecError(f"unknown method {method!r} for the number of surrogate variables: leek or be")
    basis = kernel.orthonormal(_matched(design, reference))
    first = _first_pass(reference, basis)
    n = len(reference.sample_ids)
    at_once = kernel.rounds_at_once(n)
    if method == "leek":
        per_part = first.n_features // kernel.LEEK_PARTS
        order = np.where(first.keep, np.cumsum(first.keep) - 1, -1)
        parts: list[FloatArray] = []
        for start in range(0, kernel.LEEK_PARTS, at_once):
            wanted = range(start, min(start + at_once, kernel.LEEK_PARTS))
            common = {"order": order, "per_part": per_part, "parts": wanted, **_log(reference)}
            done = reference.by_features(_map_parts, common)
            parts.extend(done.sums[f"part_{j}"] for j in wanted)
        for before, after in pairwise(parts):
            after += before  # in place: ten sums over many samples are held once
        return kernel.leek_count(parts, basis, per_part)
    if rounds < 1:
        raise SpecError(f"the permutations need at least 1 round; got {rounds}")
    share = kernel.be_share(first.gram, basis, first.n_features)
    seeds = kernel.round_seeds(seed, rounds)
    permuted: list[FloatArray] = []
    for start in range(0, rounds, at_once):
        some = seeds[start : start + at_once]
        done = reference.by_features(
            _map_permuted, {"keep": first.keep, "basis": basis, "seeds": some, **_log(reference)}
        )
        permuted.extend(kernel.be_share(gram, basis, first.n_features) for gram in done.sums["grams"])
    return kernel.be_count(share, np.array(permuted))


def surrogate_variables(
    reference: Reference,
    design: FloatArray,
    null_design: FloatArray,
    n: int,
    method: Literal["irw", "two_step"] = "irw",
    *,
    n_iterations: int = 5,
) -> Surrogates:
    """Surrogate variables for a design.

    Parameters
    ----------
    reference : Reference
        As for `num_sv`; all its samples take part.
    design, null_design : ndarray, shape (n, k) and (n, k0)
        With and without the terms of interest; the null design within the design, and with an intercept.
    n : int
        How many; `num_sv` estimates it. 0 gives none.
    method : {"irw", "two_step"}
        ``irw``: iteratively reweighted (Leek and Storey 2008), two passes an iteration. ``two_step`` (Leek and Storey
        2007): features associated with each residual axis, then the axis of those; it may return fewer than asked.
    n_iterations : int
        Iterations of ``irw``; sva's default is 5 and its number is fixed, not run to convergence.

    Returns
    -------
    Surrogates

    Raises
    ------
    DesignError
        Designs that are not nested or leave no residual degrees of freedom; or surrogate variables so close to the
        design that they can't be told apart from it.
    DataError
        Fewer than 20 features can be used; or negative counts.

    Notes
    -----
    sva 3.46's ``sva`` and ``svaseq``. Signs of surrogate variables are arbitrary there and fixed here. When
    ``two_step`` drops an axis that is not the last, sva then compares later ones with the wrong residual axis; here
    each keeps its own.
    """
    if method not in ("irw", "two_step"):
        raise SpecError(f"unknown method {method!r} for surrogate variables: irw or two_step")
    if n < 0 or n_iterations < 1:
        raise SpecError(f"n must be 0 or more and n_iterations at least 1; got {n} and {n_iterations}")
    design, null_design = _matched(design, reference), _matched(null_design, reference)
    null, extra = kernel.nested(design, null_design)
    ones = np.ones(len(null))
    if np.linalg.norm(ones - null @ (null.T @ ones)) > 1e-7 * np.sqrt(len(ones)):
        raise DesignError("the null design needs an intercept: write it without `- 1` or `0 +`")
    full = np.column_stack((null, extra))
    if len(full) <= full.shape[1] + n:
        raise DesignError(
            f"{n} surrogate variables and a design of {full.shape[1]} columns leave no residual degrees of freedom "
            f"with {len(full)} samples: ask for fewer"
        )
    first = _first_pass(reference, full)
    if n == 0:
        return _result(reference, first, np.empty((len(full), 0)), {})
    start = kernel.leading_vectors(first.gram, n)
    if method == "two_step":
        return _two_step(reference, first, start)
    return _reweighted(reference, first, start, null, extra, n_iterations)


def _reweighted(
    reference: Reference, first: _First, start: FloatArray, null: FloatArray, extra: FloatArray, n_iterations: int
) -> Surrogates:
    vectors, keep = start, first.keep
    n = start.shape[1]
    surrogate = interest = weight = np.zeros(reference.n_features)
    for _ in range(n_iterations):
        what = f"the design with {n} surrogate variables"
        # Tests of the terms of interest given the surrogates, and of the surrogates given the null design.
        given = np.column_stack((null, kernel.beyond(null, vectors, what)))
        asked = kernel.beyond(given, extra, what)
        tests = reference.by_features(
            _map_tests, {"keep": keep, "null": null, "given": given, "asked": asked, **_log(reference)}
        ).columns
        surrogate, interest = np.full(keep.size, np.nan), np.full(keep.size, np.nan)
        interest[keep] = 1.0 - local_fdr(tests["interest"][keep])
        surrogate[keep] = 1.0 - local_fdr(tests["surrogate"][keep])
        weight = surrogate * (1.0 - interest)
        if not np.any(weight[keep] > 0):
            raise DataError(
                f"no feature is moved by the {n} surrogate variables alone: the data hold none beyond the design. "
                "Ask for fewer, or for none"
            )
        gram = reference.by_features(_map_weighted, {"keep": keep, "weight": weight[None], **_log(reference)})
        vectors = kernel.leading_vectors(gram.sums["grams"][0], n)
    return _result(reference, first, vectors, {"p_surrogate": surrogate, "p_design": interest})


def _two_step(reference: Reference, first: _First, axes: FloatArray) -> Surrogates:
    n_samples, n = axes.shape
    keep = first.keep
    null = np.full((n_samples, 1), n_samples**-0.5)
    alone = [kernel.beyond(null, axes[:, [i]]) for i in range(n)]
    p = reference.by_features(_map_axes, {"keep": keep, "null": null, "alone": alone, **_log(reference)}).columns["p"]
    used = np.zeros((n, keep.size))
    for i in range(n):
        used[i, keep] = local_fdr(p[i, keep]) < 0.1
    strong = [i for i in range(n) if used[i].sum() >= n_samples]
    notes: tuple[str, ...] = ()
    if len(strong) < n:
        weak = ", ".join(str(i + 1) for i in range(n) if i not in strong)
        notes = (
            f"{len(strong)} of {n} surrogate variables are returned: residual axes {weak} move fewer features "
            f"than there are samples ({n_samples})",
        )
    vectors = np.empty((n_samples, len(strong)))
    at_once = kernel.rounds_at_once(n_samples)
    for begin in range(0, len(strong), at_once):
        some = strong[begin : begin + at_once]
        done = reference.by_features(_map_weighted, {"keep": keep, "weight": used[some], **_log(reference)})
        for i, gram in zip(some, done.sums["grams"], strict=True):
            vectors[:, strong.index(i)] = kernel.nearest_vector(gram, axes[:, i])
    touched = np.where(keep, used[strong].any(axis=0), np.nan)
    return _result(reference, first, kernel.fix_signs(vectors), {"p_surrogate": touched}, notes)


@dataclass(frozen=True)
class _First:
    keep: NDArray[np.bool_]
    gram: FloatArray
    n_features: int
    n_missing: int
    n_constant: int


def _first_pass(reference: Reference, basis: FloatArray) -> _First:
    """Which features take part, and the sums of products of their residuals."""
    done = reference.by_features(_map_first, {"basis": basis, **_log(reference)})
    keep, complete = done.columns["keep"], done.columns["complete"]
    used = int(keep.sum())
    missing = int(np.count_nonzero(~complete))
    if used < _FEWEST:
        raise DataError(
            f"{used} of {keep.size} features can be used for surrogate variables, and at least {_FEWEST} are needed: "
            f"{missing} have missing values and {keep.size - used - missing} don't vary beyond the design. Leave out "
            "the samples with most missing values, or filter features after that"
        )
    return _First(keep, done.sums["gram"], used, missing, keep.size - used - missing)


def _matched(design: FloatArray, reference: Reference) -> FloatArray:
    matrix = np.asarray(design, dtype=np.float64)
    if matrix.ndim == 1:
        matrix = matrix[:, None]
    if len(matrix) != len(reference.sample_ids):
        raise DesignError(f"the design has {len(matrix)} rows and there are {len(reference.sample_ids)} samples")
    return matrix


def _log(reference: Reference) -> dict[str, Any]:
    return {"log": reference.scale == "counts"}


def _result(
    reference: Reference,
    first: _First,
    vectors: FloatArray,
    probabilities: dict[str, FloatArray],
    notes: tuple[str, ...] = (),
) -> Surrogates:
    nothing = np.full(reference.n_features, np.nan)
    return Surrogates(
        pd.DataFrame(
            vectors,
            index=pd.Index(reference.sample_ids, name="sample_id"),
            columns=[f"SV{i + 1}" for i in range(vectors.shape[1])],
        ),
        pd.DataFrame(
            {name: probabilities.get(name, nothing) for name in ("p_surrogate", "p_design")},
            index=pd.Index(reference.feature_ids, name="feature_id"),
        ),
        first.n_features,
        first.n_missing,
        first.n_constant,
        notes,
    )


def _values(stripe: Stripe, common: dict[str, Any]) -> FloatArray:
    """What is analysed: the values, or log(count + 1)."""
    if not common["log"]:
        return stripe.values
    negative = (stripe.values < 0).any(axis=0)
    if negative.any():
        raise DataError(
            f"feature {stripe.feature_ids[int(np.argmax(negative))]!r} has negative counts: surrogate variables of "
            "counts take their logarithm. Repair them, or name a layer of log values"
        )
    return np.log(stripe.values + 1.0)


def _kept(stripe: Stripe, common: dict[str, Any]) -> tuple[FloatArray, NDArray[np.int64]]:
    """Values of the features that take part, and their numbers within the stripe."""
    width = stripe.values.shape[1]
    at = np.flatnonzero(common["keep"][stripe.feature_start : stripe.feature_start + width])
    values = _values(stripe, common)
    return (values if at.size == width else values[:, at]), at


def _map_first(stripe: Stripe, common: dict[str, Any]) -> Partial:
    values = _values(stripe, common)
    complete, keep = kernel.usable(values, common["basis"])
    gram = kernel.residual_gram(values if keep.all() else values[:, keep], common["basis"])
    return Partial(sums={"gram": gram}, columns={"keep": keep, "complete": complete})


def _map_tests(stripe: Stripe, common: dict[str, Any]) -> Partial:
    values, at = _kept(stripe, common)
    null, given = common["null"], common["given"]
    out = {name: np.full(stripe.values.shape[1], np.nan) for name in ("interest", "surrogate")}
    out["interest"][at] = kernel.f_p_value(values, given, common["asked"])
    out["surrogate"][at] = kernel.f_p_value(values, null, given[:, null.shape[1] :])
    return Partial(columns=out)


def _map_axes(stripe: Stripe, common: dict[str, Any]) -> Partial:
    values, at = _kept(stripe, common)
    p = np.full((len(common["alone"]), stripe.values.shape[1]), np.nan)
    for i, axis in enumerate(common["alone"]):
        p[i, at] = kernel.f_p_value(values, common["null"], axis)
    return Partial(columns={"p": p})


def _map_weighted(stripe: Stripe, common: dict[str, Any]) -> Partial:
    values, at = _kept(stripe, common)
    weight = common["weight"][:, stripe.feature_start + at]
    return Partial(sums={"grams": np.array([kernel.weighted_gram(values, one) for one in weight])})


def _map_parts(stripe: Stripe, common: dict[str, Any]) -> Partial:
    """Sums of products of values, by tenths of the features that take part."""
    width = stripe.values.shape[1]
    order = common["order"][stripe.feature_start : stripe.feature_start + width]
    values = _values(stripe, common)
    n = len(values)
    sums = {}
    for j in common["parts"]:
        at = np.flatnonzero((order >= j * common["per_part"]) & (order < (j + 1) * common["per_part"]))
        if at.size:
            part = values[:, at]
            sums[f"part_{j}"] = part @ part.T
        elif stripe.feature_start == 0:
            sums[f"part_{j}"] = np.zeros((n, n))
    return Partial(sums=sums)


def _map_permuted(stripe: Stripe, common: dict[str, Any]) -> Partial:
    values, at = _kept(stripe, common)
    grams = kernel.permuted_grams(values, common["basis"], stripe.feature_start + at, common["seeds"])
    return Partial(sums={"grams": grams})
