"""The dominant axis and its margin, where what is known of the positions settles them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask.clinical.axis_reference import AxisReference
from sjd_dask.clinical.reasons import listed, texts_at
from sjd_dask.clinical.threeway import at_least
from sjd_dask.errors import SpecError

AXES = ("systemic", "gland", "symptoms")
NONE_DOMINATES = "none dominates"


def dominance(
    low: np.ndarray,
    high: np.ndarray,
    states: np.ndarray,
    axes: Sequence[str],
    table: Mapping[str, Any],
    reference: AxisReference,
) -> dict[str, Any]:
    """Which axis stands highest in the reference cohort, by a margin.

    Parameters
    ----------
    low, high : ndarray (n, k)
        Percentiles between which each row lies on each axis; NaN where the cohort gives none.
    states : ndarray (n, k)
        1 where an axis is active, impaired or of high burden, 0 where it isn't, NaN open.
    axes
        k names.
    table
        Definition `axes`.

    Returns
    -------
    dict of columns (n,)
        ``dominant``: the axis whose percentile is above every other's by at least the margin, however the missing
        items turn out, and whose state calls for treatment; ``none dominates`` where no axis can be that; None where
        it is open. ``dominant_possible``: what it may turn out to be. ``dominant_margin``: highest less second highest
        percentile, NaN where open; ``_min``, ``_max``.
        ``dominant_reason``. ``axes_reference``.

    Raises
    ------
    SpecError
        A margin that isn't above 0.
    """
    margin = float(table["dominance"]["margin"]["percentiles"])
    if not margin > 0:
        raise SpecError(f"definition 'axes': the margin of dominance is {margin:g} percentiles; it must be above 0")
    needs_state = bool(table["dominance"]["needs_state"]["value"])
    lacking = np.isnan(low)
    least, most = np.where(lacking, 0.0, low), np.where(lacking, 100.0, high)
    margin_low, margin_high = _margins(least, most)
    surely, possibly = at_least(margin_low, margin) == 1, at_least(margin_high, margin) == 1
    if needs_state:
        surely, possibly = surely & (states == 1), possibly & (states != 0)
    none = ~possibly.any(axis=1)
    code = np.where(surely.any(axis=1), surely.argmax(axis=1), np.where(none, len(axes), len(axes) + 1))
    top_low, top_high = np.maximum(margin_low.max(axis=1), 0.0), margin_high.max(axis=1)
    unknown = lacking.any(axis=1)
    top_low, top_high = (np.where(unknown, np.nan, one) for one in (top_low, top_high))
    none_called_for = needs_state & (states == 0).all(axis=1)
    open_axes = np.where(lacking, 0, (least != most).astype(np.int8))
    return {
        "dominant": texts_at(code, [*axes, NONE_DOMINATES, None]),
        # Where no axis is sure to dominate, some completion leaves every one short of the margin or of its state.
        "dominant_possible": listed([*possibly.T, ~surely.any(axis=1)], [*axes, NONE_DOMINATES]),
        "dominant_margin": np.where((least == most).all(axis=1), top_low, np.nan),
        "dominant_margin_min": top_low,
        "dominant_margin_max": top_high,
        "dominant_reason": _reasons(code, none_called_for, open_axes, axes, margin, reference),
        "axes_reference": texts_at(np.zeros(len(low), dtype=np.int8), [reference.name]),
    }


def _margins(least: np.ndarray, most: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest lead of each axis over the highest other one, (n, k) each."""
    low, high = np.empty(least.shape), np.empty(least.shape)
    for at in range(least.shape[1]):
        others = [other for other in range(least.shape[1]) if other != at]
        low[:, at] = least[:, at] - most[:, others].max(axis=1)
        high[:, at] = most[:, at] - least[:, others].max(axis=1)
    return low, high


def _reasons(
    code: np.ndarray,
    none_called_for: np.ndarray,
    open_axes: np.ndarray,
    axes: Sequence[str],
    margin: float,
    reference: AxisReference,
) -> Any:
    few = [
        f"the reference has {reference.axes[axis].n_persons} persons on axis {axis}, {reference.least_persons} needed"
        for axis in axes
        if not reference.enough(axis)
    ]

    def text(dominant: int, nothing: int, *ranges: int) -> str:
        if dominant < len(axes):
            return ""
        if dominant == len(axes):
            if nothing:
                return "no axis is active, impaired or of high burden"
            return f"no active, impaired or high-burden axis leads the others by {margin:g} percentiles"
        spans = [axis for axis, one in zip(axes, ranges, strict=True) if one]
        return (
            "; ".join([*few, *([f"known only as a range: {', '.join(spans)}"] if spans else [])]) or "a state is open"
        )

    k = len(axes)
    pattern = (code * 2 + none_called_for) << k
    for at in range(k):
        pattern |= open_axes[:, at].astype(np.int64) << at
    codes, patterns = pd.factorize(pattern)
    unpacked = [(int(one) >> k, [int(one) >> at & 1 for at in range(k)]) for one in patterns]
    return texts_at(codes, [text(head // 2, head % 2, *ranges) for head, ranges in unpacked])
