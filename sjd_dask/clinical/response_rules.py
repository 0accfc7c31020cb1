"""Rules that compare a follow-up with its baseline, on intervals: yes, no, or unknown.

A measurement is known or not; a score is known to lie between two bounds. Every rule on scores is monotone in both of
its values, so it is decided when its least and its most favourable corner agree, and unknown otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sjd_dask.clinical.definitions import did_you_mean
from sjd_dask.clinical.threeway import above, at_least, at_most, below, negate
from sjd_dask.errors import SpecError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """What is known of a quantity, (n,) each: `low` = `high` where it is known, NaN where nothing bounds it."""

    low: Floats
    high: Floats

    @classmethod
    def exact(cls, values: Floats) -> Interval:
        return cls(values, values)


def judge(name: str, test: Mapping[str, Any], base: Interval, follow: Interval) -> Floats:
    """Whether each row meets a test.

    Parameters
    ----------
    name : str
        Of the test, for messages.
    test : mapping
        `rule` and its parameters.
    base, follow : Interval
        The row's baseline and the row itself, (n,).

    Returns
    -------
    ndarray, (n,)
        1 met, 0 not met, NaN unknown.

    Raises
    ------
    SpecError
        An unknown rule, or one without its parameters.
    """
    rule = test.get("rule")
    if rule not in RULES:
        raise SpecError(
            f"test {name!r}: no rule {rule!r}{did_you_mean(str(rule), RULES)}; there are {', '.join(RULES)}"
        )
    for key in PARAMETERS[rule]:
        if not any(isinstance(test.get(one), (int, float)) for one in key.split("|")):
            raise SpecError(f"test {name!r}: rule {rule!r} needs a number as {key.replace('|', ' or ')!r}")
    return RULES[rule](test, base, follow)


def _decide(worst: Floats, best: Floats) -> Floats:
    return np.where(worst == 1, 1.0, np.where(best == 0, 0.0, np.nan))


def _drop(test: Mapping[str, Any], base: Interval, follow: Interval) -> Floats:
    cut = test["at_least"]
    return _decide(at_least(base.low - follow.high, cut), at_least(base.high - follow.low, cut))


def _relative(base: Floats, difference: Floats) -> Floats:
    """Share of a baseline above zero; minus infinity at zero, from which nothing can drop."""
    share = np.divide(difference, base, out=np.full(len(base), -np.inf), where=base > 0)
    return np.where(np.isnan(base) | np.isnan(difference), np.nan, share)


def _relative_drop(test: Mapping[str, Any], base: Interval, follow: Interval) -> Floats:
    cut = test["at_least"]
    worst, best = _relative(base.low, base.low - follow.high), _relative(base.high, base.high - follow.low)
    return _decide(at_least(worst, cut), at_least(best, cut))


def _relative_rise(test: Mapping[str, Any], base: Interval, follow: Interval) -> Floats:
    any_rise = test.get("from_zero") == "any_rise"

    def met(start: Floats, end: Floats) -> Floats:
        result = at_least(_relative(start, end - start), test["at_least"])
        return np.where(start == 0, above(end - start, 0), result) if any_rise else result

    return _decide(met(base.high, follow.low), met(base.low, follow.high))


def _rise_or_stay_normal(test: Mapping[str, Any], base: Interval, follow: Interval) -> Floats:
    """Less is worse. Of measurements, which are exact."""

    def abnormal(values: Floats) -> Floats:
        if "abnormal_below" in test:
            return below(values, test["abnormal_below"])
        return at_most(values, test["abnormal_at_most"])

    return _or_stay_normal(abnormal(base.low), abnormal(follow.low), at_least(follow.low - base.low, test["at_least"]))


def _drop_or_stay_normal(test: Mapping[str, Any], base: Interval, follow: Interval) -> Floats:
    """More is worse. Of measurements, which are exact."""
    was = at_least(base.low, test["abnormal_at_least"])
    now = at_least(follow.low, test["abnormal_at_least"])
    return _or_stay_normal(was, now, at_least(base.low - follow.low, test["at_least"]))


def _or_stay_normal(was: Floats, now: Floats, improved: Floats) -> Floats:
    return np.where(np.isnan(was), np.nan, np.where(was == 1, improved, negate(now)))


def _state_below(test: Mapping[str, Any], base: Interval, follow: Interval) -> Floats:
    return _decide(below(follow.high, test["below"]), below(follow.low, test["below"]))


RULES: dict[str, Callable[[Mapping[str, Any], Interval, Interval], Floats]] = {
    "drop": _drop,
    "relative_drop": _relative_drop,
    "relative_rise": _relative_rise,
    "rise_or_stay_normal": _rise_or_stay_normal,
    "drop_or_stay_normal": _drop_or_stay_normal,
    "state_below": _state_below,
}
PARAMETERS: dict[str, tuple[str, ...]] = {
    "drop": ("at_least",),
    "relative_drop": ("at_least",),
    "relative_rise": ("at_least",),
    "rise_or_stay_normal": ("at_least", "abnormal_below|abnormal_at_most"),
    "drop_or_stay_normal": ("at_least", "abnormal_at_least"),
    "state_below": ("below",),
}
# Rules that are not monotone in the baseline: for measurements, not for scores with bounds.
EXACT_ONLY = ("rise_or_stay_normal", "drop_or_stay_normal")
