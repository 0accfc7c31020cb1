"""Three-valued logic on arrays: 1 yes, 0 no, NaN unknown; and comparisons that keep the unknown unknown.

Kleene's rules: "all of" is no as soon as one is no, whatever the unknown ones; "any of" is yes as soon as one is yes.

Comparisons allow for rounding in the last digits of a float: a value within one part in 10^9 of a cut-off is at the
cut-off, so a mean of 0.1 and 0.2 and 0.3 meets "at least 0.2" and 1610 mg/dL is 16.1 g/L.
"""

from __future__ import annotations

import numpy as np

_RELATIVE = 1e-9


def _floats(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)


def all_of(*flags: np.ndarray) -> np.ndarray:
    """1 where all are 1, 0 where any is 0, else NaN. Arrays of one shape."""
    result = _floats(flags[0])
    for flag in flags[1:]:
        other = _floats(flag)
        no = (result == 0) | (other == 0)
        result = np.where(no, 0.0, result * other)
    return result.copy() if len(flags) == 1 else result


def any_of(*flags: np.ndarray) -> np.ndarray:
    """1 where any is 1, 0 where all are 0, else NaN. Arrays of one shape."""
    return negate(all_of(*(negate(flag) for flag in flags)))


def negate(flag: np.ndarray) -> np.ndarray:
    """1 for 0, 0 for 1, NaN for NaN."""
    return 1.0 - _floats(flag)


def _slack(cut: float) -> float:
    return _RELATIVE * max(1.0, abs(cut))


def _keep_unknown(answer: np.ndarray, values: np.ndarray) -> np.ndarray:
    result = answer.astype(np.float64)
    result[np.isnan(values)] = np.nan
    return result


def at_least(values: np.ndarray, cut: float) -> np.ndarray:
    """1 where value >= cut, 0 where it is less, NaN where the value is unknown."""
    values = np.atleast_1d(_floats(values))
    return _keep_unknown(values >= cut - _slack(cut), values)


def at_most(values: np.ndarray, cut: float) -> np.ndarray:
    """1 where value <= cut, 0 where it is more, NaN where the value is unknown."""
    values = np.atleast_1d(_floats(values))
    return _keep_unknown(values <= cut + _slack(cut), values)


def below(values: np.ndarray, cut: float) -> np.ndarray:
    """1 where value < cut, 0 where not, NaN where the value is unknown."""
    return negate(at_least(values, cut))


def above(values: np.ndarray, cut: float) -> np.ndarray:
    """1 where value > cut, 0 where not, NaN where the value is unknown."""
    return negate(at_most(values, cut))


def bounds(*flags: np.ndarray, weights: list[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points observed and the points attainable.

    Parameters
    ----------
    flags
        k arrays of 1, 0, NaN.
    weights
        k points, not negative.

    Returns
    -------
    observed, attainable
        Sum of the points of the items that are 1; the same with every unknown item counted as 1.
    """
    if len(flags) != len(weights):
        raise ValueError(f"{len(flags)} items but {len(weights)} weights")
    observed = np.zeros(np.shape(flags[0]))
    attainable = np.zeros(np.shape(flags[0]))
    for flag, weight in zip(flags, weights, strict=True):
        flag = _floats(flag)
        observed += weight * (flag == 1)
        attainable += weight * (flag != 0)
    return observed, attainable
