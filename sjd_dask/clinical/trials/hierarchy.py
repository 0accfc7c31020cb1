"""Several hypotheses, one alpha: fixed sequence, Hochberg, Holm, Bonferroni, on many trials at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sjd_dask.errors import SpecError

METHODS = ("fixed_sequence", "hochberg", "holm", "bonferroni")


def rejections(
    p: ArrayLike, method: str, *, alpha: float = 0.05, weights: Sequence[float] | None = None
) -> NDArray[np.bool_]:
    """Which hypotheses are rejected when their family shares one alpha.

    Parameters
    ----------
    p
        p-values, (trials, hypotheses) or (hypotheses,), in the order of the hierarchy. A missing one is no evidence: it
        rejects nothing, and stops a fixed sequence.
    method
        "fixed_sequence": in order, each at the whole alpha, until the first that isn't rejected. "bonferroni": each at
        its share. "holm": as Bonferroni, where the alpha of the rejected passes to the others (by their weights).
        "hochberg": step-up; the family-wise level holds for independent or positively dependent tests.
    alpha
        Level of the family.
    weights
        For "bonferroni" and "holm": shares of alpha, scaled to sum to 1; default equal.

    Returns
    -------
    ndarray of bool
        The shape of ``p``.

    Raises
    ------
    SpecError
        An unknown method, weights that don't fit, p-values outside [0, 1].

    References
    ----------
    K: Maurer, Hothorn, Lehmacher 1995 (fixed sequence); Holm 1979; Hochberg 1988.
    """
    if method not in METHODS:
        raise SpecError(f"method {method!r} is not known; choose from {', '.join(METHODS)}")
    values = np.asarray(p, dtype=np.float64)
    table = np.where(np.isnan(values), 1.0, np.atleast_2d(values)) if values.ndim < 2 else np.where(
        np.isnan(values), 1.0, values
    )  # fmt: skip
    if ((table < 0) | (table > 1)).any():
        raise SpecError(f"p-values lie between 0 and 1; found {np.nanmin(values):g} to {np.nanmax(values):g}")
    m = table.shape[1]
    share = _scaled(weights, m, method)
    if method == "fixed_sequence":
        found = np.logical_and.accumulate(table <= alpha, axis=1)
    elif method == "bonferroni":
        found = table <= alpha * share
    elif method == "hochberg":
        found = _hochberg(table, alpha)
    else:
        found = _holm(table, alpha, share)
    return found.reshape(values.shape)


def levels(method: str, m: int, *, alpha: float = 0.05, weights: Sequence[float] | None = None
           ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """Level at which each hypothesis is tested when no other is rejected, and when all others are, (m,) each."""
    share = _scaled(weights, m, method)
    whole = np.full(m, alpha)
    if method == "fixed_sequence":
        return np.where(np.arange(m) == 0, alpha, 0.0), whole
    if method == "bonferroni":
        return alpha * share, alpha * share
    if method == "holm":
        return alpha * share, whole
    return whole / m, whole


def _scaled(weights: Sequence[float] | None, m: int, method: str) -> NDArray[np.float64]:
    if weights is None:
        return np.full(m, 1.0 / m)
    if method not in ("bonferroni", "holm"):
        raise SpecError(f"weights belong to bonferroni and holm, not to {method}")
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != (m,) or not (given > 0).all():
        raise SpecError(f"weights are {list(weights)}; give {m} numbers above 0, one a hypothesis")
    return given / given.sum()


def _hochberg(p: NDArray[np.float64], alpha: float) -> NDArray[np.bool_]:
    m = p.shape[1]
    ascending = np.sort(p, axis=1)
    passed = ascending <= alpha / (m - np.arange(m))
    last = np.where(passed.any(axis=1), m - 1 - np.argmax(passed[:, ::-1], axis=1), -1)
    limit = np.where(last >= 0, np.take_along_axis(ascending, np.maximum(last, 0)[:, None], axis=1)[:, 0], -1.0)
    return p <= limit[:, None]


def _holm(p: NDArray[np.float64], alpha: float, share: NDArray[np.float64]) -> NDArray[np.bool_]:
    order = np.argsort(p / share, axis=1, kind="stable")
    sorted_share = share[order]
    left = np.cumsum(sorted_share[:, ::-1], axis=1)[:, ::-1]  # weights of the hypotheses not yet rejected
    passed = np.logical_and.accumulate(np.take_along_axis(p, order, axis=1) * left <= alpha * sorted_share, axis=1)
    found = np.empty_like(passed)
    np.put_along_axis(found, order, passed, axis=1)
    return found
