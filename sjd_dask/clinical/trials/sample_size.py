"""How many persons two arms need, and what power a number gives: means and proportions, by formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from sjd_dask.errors import SpecError

FloatArray = NDArray[np.float64]

CONTINUOUS_TESTS = ("normal", "t")
BINARY_METHODS = ("unpooled", "pooled")
_MOST = 1e9  # persons in the control arm: beyond it a trial isn't one


@dataclass(frozen=True)
class SampleSize:
    """Persons that a comparison of two arms needs.

    Attributes
    ----------
    control_exact : float
        The control arm before rounding up.
    treatment, control, total : int
        Persons with an outcome.
    enrolled_treatment, enrolled_control, enrolled : int
        Persons to randomise when a share is lost before the outcome.
    power : float
        Of the rounded numbers.
    """

    control_exact: float
    treatment: int
    control: int
    enrolled_treatment: int
    enrolled_control: int
    power: float

    @property
    def total(self) -> int:
        return self.treatment + self.control

    @property
    def enrolled(self) -> int:
        return self.enrolled_treatment + self.enrolled_control


def critical(alpha: float, sided: int, df: ArrayLike = np.inf) -> FloatArray:
    """The test's critical value, from the t distribution with ``df`` degrees of freedom (infinite: normal)."""
    df = np.asarray(df, dtype=np.float64)
    exact = np.isfinite(df)
    upper = -np.asarray(special.stdtrit(np.where(exact, df, 1.0), alpha / sided))
    return np.where(exact, upper, -special.ndtri(alpha / sided))


def power_of_test(
    effect: ArrayLike,
    standard_error: ArrayLike,
    *,
    estimated: ArrayLike | None = None,
    df: ArrayLike = np.inf,
    alpha: float = 0.05,
    sided: int = 2,
    strict: bool = True,
) -> FloatArray:
    """Power of the test of an estimate against 0.

    Parameters
    ----------
    effect, standard_error
        Expectation and true standard error of the estimate.
    estimated
        The standard error that the test itself uses, where it is another one (a pooled variance, for example).
    df
        Degrees of freedom of the estimated standard error; infinite for a test by the normal distribution.
    alpha, sided
        Level, and 1 or 2 sides.
    strict
        Count rejections in the wrong direction too, so that the power at no effect is ``alpha``.

    Returns
    -------
    ndarray of float64
        Broadcast over the arguments. By the noncentral t distribution where ``df`` is finite.

    References
    ----------
    K: Chow, Shao, Wang, Lokhnygina, *Sample Size Calculations in Clinical Research*.
    """
    effect, error, df = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (effect, standard_error, df)))
    ratio = np.ones_like(error) if estimated is None else np.asarray(estimated, dtype=np.float64) / error
    shift = np.abs(effect) / error
    limit = critical(alpha, sided, df) * ratio
    exact = np.isfinite(df)
    safe = np.where(exact, df, 1.0)
    # The upper tail as the lower one of the mirrored distribution: 1 - cdf is not a number for large shifts.
    power = np.where(exact, special.nctdtr(safe, -shift, -limit), special.ndtr(shift - limit))
    if strict and sided == 2:
        # The wrong tail is below the normal one at -shift: nothing that shows beyond 8, where the library loses it.
        near = np.minimum(shift, 8.0)
        wrong = np.where(exact, special.nctdtr(safe, near, -limit), special.ndtr(-limit - near))
        power = power + np.where(shift < 8.0, wrong, 0.0)
    return np.asarray(power, dtype=np.float64)


def smallest_control(power_at: Callable[[float], float], target: float, least: float = 2.0) -> float:
    """The control arm, not rounded, at which a power that grows with it reaches ``target``.

    Raises
    ------
    SpecError
        The power stays below the target up to a billion persons, or can't be computed.
    """

    def at(n: float) -> float:
        power = power_at(n)
        if math.isnan(power):
            raise SpecError(
                f"a power of {target:g} can't be computed: the level or the effect is beyond what the distributions "
                "give. Look at `alpha`, `effect` and `sd`"
            )
        return power

    if at(least) >= target:
        return least
    low, high = least, 2.0 * least
    while at(high) < target:
        low, high = high, 2.0 * high
        if high > _MOST:
            raise SpecError(
                f"a power of {target:g} isn't reached with a billion persons an arm: the effect is too small for "
                "its spread"
            )
    return float(optimize.brentq(lambda n: at(n) - target, low, high, xtol=1e-9, rtol=1e-13))


def rounded(control: float, ratio: float, dropout: float) -> SampleSize:
    """Whole persons of both arms; ``ratio`` is treatment to control, and ``power`` is left to the caller."""
    # A root found to 1e-9 mustn't cost a person where the arithmetic gives a whole number.
    # However large the effect, an arm without anyone compares nothing.
    arms = [max(1, math.ceil(n - 1e-6)) for n in (control * ratio, control)]
    enrolled = [math.ceil(n / (1.0 - dropout) - 1e-9) for n in arms]
    return SampleSize(control, arms[0], arms[1], enrolled[0], enrolled[1], math.nan)


def n_for_means(
    effect: float,
    sd: float,
    *,
    sd_control: float | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
    sided: int = 2,
    allocation: tuple[float, float] = (1, 1),
    test: str = "normal",
    dropout: float = 0.0,
) -> SampleSize:
    """Persons needed to find a difference of means.

    Parameters
    ----------
    effect
        Difference of the arms' means, in the endpoint's units; the sign doesn't matter.
    sd, sd_control
        Standard deviation within the arms, in the same units; ``sd_control`` where the control arm has another.
    alpha, power, sided
    allocation
        Treatment to control.
    test
        "normal": n = (1 + 1/r) (z_alpha/2 + z_beta)^2 sd^2 / effect^2 in the control arm at r : 1, which for equal
        arms is 2 (z_alpha/2 + z_beta)^2 sd^2 / effect^2. "t": by the noncentral t distribution of the test with
        pooled variance.
    dropout
        Share lost before the outcome; the persons to randomise are reckoned from it, the power isn't.

    Raises
    ------
    SpecError
        No effect, or a value outside its range.

    Examples
    --------
    >>> n_for_means(3, 6).control, n_for_means(3, 6, test="t").control
    (63, 64)

    References
    ----------
    K: two-sample z and t tests; the same numbers as R's power.t.test.
    """
    _check(alpha, power, sided, allocation, dropout)
    _known("test", test, CONTINUOUS_TESTS)
    spread = sd if sd_control is None else sd_control
    for name, value in (("sd", sd), ("sd_control", spread)):
        if not value > 0 or not math.isfinite(value):
            raise SpecError(f"{name} is {value}; a standard deviation is a number above 0")
    _has_effect(effect)
    ratio = allocation[0] / allocation[1]

    def at(n: float, strict: bool = False) -> float:
        return power_for_means(effect, sd, n * ratio, n, sd_control=sd_control, alpha=alpha, sided=sided, test=test,
                               strict=strict)  # fmt: skip

    if test == "normal":
        z = float(critical(alpha, sided) + stats.norm.ppf(power))
        control = z * z * (sd * sd / ratio + spread * spread) / (effect * effect)
    else:
        control = smallest_control(at, power, least=max(2.0, 2.0 / ratio))
    size = rounded(control, ratio, dropout)
    reached = power_for_means(effect, sd, size.treatment, size.control, sd_control=sd_control, alpha=alpha, sided=sided,
                              test=test)  # fmt: skip
    return replace(size, power=reached)


def power_for_means(
    effect: float,
    sd: float,
    n_treatment: float,
    n_control: float,
    *,
    sd_control: float | None = None,
    alpha: float = 0.05,
    sided: int = 2,
    test: str = "normal",
    strict: bool = True,
) -> float:
    """Power to find a difference of means with so many persons an arm. See :func:`n_for_means`.

    ``strict=False`` leaves out rejections in the wrong direction, as textbook formulas and R's default do.
    """
    _known("test", test, CONTINUOUS_TESTS)
    spread = sd if sd_control is None else sd_control
    error = math.sqrt(sd * sd / n_treatment + spread * spread / n_control)
    df = math.inf
    estimated = error
    if test == "t":
        df = n_treatment + n_control - 2
        pooled = ((n_treatment - 1) * sd * sd + (n_control - 1) * spread * spread) / df
        estimated = math.sqrt(pooled * (1 / n_treatment + 1 / n_control))
    return float(power_of_test(effect, error, estimated=estimated, df=df, alpha=alpha, sided=sided, strict=strict))


def n_for_proportions(
    treatment: float,
    control: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    sided: int = 2,
    allocation: tuple[float, float] = (1, 1),
    method: str = "unpooled",
    dropout: float = 0.0,
) -> SampleSize:
    """Persons needed to find a difference of two shares of responders.

    Parameters
    ----------
    treatment, control
        Shares of responders, in (0, 1).
    method
        Variance under which the test compares: "unpooled", each arm's own; "pooled", of both arms taken together (as
        R's power.prop.test and the chi-squared test without continuity correction).

    See :func:`n_for_means` for the others.

    Examples
    --------
    >>> n_for_proportions(0.5, 0.3).control, n_for_proportions(0.5, 0.3, method="pooled").control
    (91, 93)

    References
    ----------
    K: normal approximation of the difference of two proportions.
    """
    _check(alpha, power, sided, allocation, dropout)
    for name, value in (("treatment", treatment), ("control", control)):
        if not 0 < value < 1:
            raise SpecError(f"the share of responders under {name} is {value}; it must be above 0 and below 1")
    _has_effect(treatment - control)
    ratio = allocation[0] / allocation[1]

    def at(n: float) -> float:
        return power_for_proportions(treatment, control, n * ratio, n, alpha=alpha, sided=sided, method=method,
                                     strict=False)  # fmt: skip

    size = rounded(smallest_control(at, power, least=max(2.0, 2.0 / ratio)), ratio, dropout)
    reached = power_for_proportions(treatment, control, size.treatment, size.control, alpha=alpha, sided=sided,
                                    method=method)  # fmt: skip
    return replace(size, power=reached)


def power_for_proportions(
    treatment: float,
    control: float,
    n_treatment: float,
    n_control: float,
    *,
    alpha: float = 0.05,
    sided: int = 2,
    method: str = "unpooled",
    strict: bool = True,
) -> float:
    """Power to find a difference of two shares of responders, by the normal approximation."""
    _known("method", method, BINARY_METHODS)
    error = math.sqrt(treatment * (1 - treatment) / n_treatment + control * (1 - control) / n_control)
    estimated = error
    if method == "pooled":
        share = (n_treatment * treatment + n_control * control) / (n_treatment + n_control)
        estimated = math.sqrt(share * (1 - share) * (1 / n_treatment + 1 / n_control))
    return float(
        power_of_test(treatment - control, error, estimated=estimated, alpha=alpha, sided=sided, strict=strict)
    )


def exact_power_for_proportions(
    treatment: float,
    control: float,
    n_treatment: int,
    n_control: int,
    *,
    alpha: float = 0.05,
    sided: int = 2,
    method: str = "unpooled",
) -> float:
    """Power of the same test summed over every outcome of two binomial arms: no approximation but the test's own.

    An outcome in which the variance is 0 is a rejection when the arms differ and none when they don't.
    """
    _known("method", method, BINARY_METHODS)
    counts, chances = [], []
    for n, share in ((n_treatment, treatment), (n_control, control)):
        low, high = stats.binom.ppf([1e-13, 1 - 1e-13], n, share)
        counts.append(np.arange(int(low), int(high) + 1))
        chances.append(stats.binom.pmf(counts[-1], n, share))
    z = proportions_z(counts[0][:, None], n_treatment, counts[1][None, :], n_control, method)
    rejected = (np.abs(z) if sided == 2 else z * np.sign(treatment - control)) >= critical(alpha, sided)
    return float(chances[0] @ rejected @ chances[1])


def proportions_z(
    responders_treatment: ArrayLike, n_treatment: ArrayLike, responders_control: ArrayLike, n_control: ArrayLike,
    method: str = "unpooled",
) -> FloatArray:  # fmt: skip
    """z of the difference of two shares; infinite where the variance is 0 and the shares differ, else 0 there."""
    n1, n2 = np.asarray(n_treatment, dtype=np.float64), np.asarray(n_control, dtype=np.float64)
    p1, p2 = np.asarray(responders_treatment) / n1, np.asarray(responders_control) / n2
    if method == "pooled":
        share = (n1 * p1 + n2 * p2) / (n1 + n2)
        variance = share * (1 - share) * (1 / n1 + 1 / n2)
    else:
        variance = p1 * (1 - p1) / n1 + p2 * (1 - p2) / n2
    difference = p1 - p2
    return ratio_or_limit(difference, np.sqrt(np.maximum(variance, 0.0)))


def ratio_or_limit(estimate: FloatArray, error: FloatArray) -> FloatArray:
    """``estimate / error``; where the error is 0: 0 for no difference, infinite with its sign otherwise. NaN stays."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = estimate / error
    limit = np.where(estimate == 0, 0.0, np.copysign(np.inf, estimate))
    return np.where(error == 0, np.where(np.isnan(estimate), np.nan, limit), ratio)


def _known(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise SpecError(f"{name} {value!r} is not known; choose from {', '.join(known)}")


def _has_effect(effect: float) -> None:
    if effect == 0 or not math.isfinite(effect):
        raise SpecError(f"the effect is {effect}: no number of persons finds it. Give the difference worth finding")


def _check(alpha: float, power: float, sided: int, allocation: tuple[float, float], dropout: float) -> None:
    if sided not in (1, 2):
        raise SpecError(f"sided is {sided}; a test has 1 or 2 sides")
    if not 0 < alpha < 1:
        raise SpecError(f"alpha is {alpha}; it must be above 0 and below 1")
    if not alpha / sided < power < 1:
        raise SpecError(f"power is {power}; it must be above the level of the test ({alpha / sided:g}) and below 1")
    if len(allocation) != 2 or not all(part > 0 for part in allocation):
        raise SpecError(f"allocation is {list(allocation)}; give two numbers above 0, treatment and control")
    if not 0 <= dropout < 1:
        raise SpecError(f"dropout is {dropout}; it is a share, at least 0 and below 1")
