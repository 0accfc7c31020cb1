"""Several active arms against one control: the level of each comparison, and what they find together."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import integrate, optimize, special

from sjd_dask.clinical.definitions import did_you_mean
from sjd_dask.clinical.trials.design_spec import Binary, DesignSpec
from sjd_dask.clinical.trials.outcomes import Outcome
from sjd_dask.clinical.trials.placebo import responders
from sjd_dask.clinical.trials.sample_size import critical
from sjd_dask.errors import SpecError

FloatArray = NDArray[np.float64]

RULES = ("bonferroni", "dunnett", "fixed_sequence")
_REACH = 9.0  # standard deviations of the shared control beyond which nothing is left


def comparison_level(rule: str, arms: int, *, alpha: float, sided: int, ratio: float) -> float:
    """Level of each comparison with the control, so that the family of them keeps ``alpha``.

    Parameters
    ----------
    rule
        "bonferroni": ``alpha / arms``. "dunnett": the comparisons share their control, so that their normal statistics
        have the correlation ratio / (1 + ratio), and the level is that at which the largest of them passes with chance
        ``alpha``. "fixed_sequence": ``alpha``, each arm tested only when all before it are rejected.
    arms
        Active arms.
    ratio
        Persons of an active arm to those of the control.

    Raises
    ------
    SpecError
        An unknown rule.

    References
    ----------
    K: Dunnett 1955 (his one-dimensional integral); fixed sequence: Maurer, Hothorn, Lehmacher 1995.
    """
    if rule not in RULES:
        raise SpecError(f"arms: rule {rule!r} is not known{did_you_mean(rule, RULES)}; choose from {', '.join(RULES)}")
    if rule == "fixed_sequence" or arms == 1:
        return alpha
    if rule == "bonferroni":
        return alpha / arms
    none = np.zeros(arms)

    def above(level: float) -> float:
        return any_rejected(none, float(critical(level, sided)), sided=sided, ratio=ratio) - alpha

    return float(optimize.brentq(above, alpha / arms * (1 - 1e-9), alpha, xtol=1e-15, rtol=1e-12))


def any_rejected(shifts: ArrayLike, limit: float, *, sided: int, ratio: float) -> float:
    """Chance that at least one comparison passes ``limit``; ``shifts`` are expectations of their normal statistics."""
    theta, root, rest = _of_control(shifts, ratio)

    def none_at(z: float) -> float:
        inside = special.ndtr((limit - theta + root * z) / rest)
        if sided == 2:
            inside = inside - special.ndtr((-limit - theta + root * z) / rest)
        return _density(z) * float(inside.prod())

    return 1.0 - _whole(none_at)


def all_rejected(shifts: ArrayLike, limit: float, *, ratio: float) -> float:
    """Chance that every comparison passes ``limit`` in its own direction."""
    theta, root, rest = _of_control(shifts, ratio)
    return _whole(lambda z: _density(z) * float(special.ndtr((theta - limit + root * z) / rest).prod()))


def _of_control(shifts: ArrayLike, ratio: float) -> tuple[FloatArray, float, float]:
    """Given how the shared control fell out, the comparisons are independent."""
    shared = ratio / (1.0 + ratio)
    return np.asarray(shifts, dtype=np.float64), math.sqrt(shared), math.sqrt(1.0 - shared)


def _density(z: float) -> float:
    return math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _whole(integrand: Callable[[float], float]) -> float:
    return float(integrate.quad(integrand, -_REACH, _REACH, epsabs=1e-13, epsrel=1e-12, limit=200)[0])


def of_arm(spec: DesignSpec, found: list[Outcome], place: int) -> list[Outcome]:
    """The endpoints under an active arm: the part of each effect that it has.

    Raises
    ------
    SpecError
        An endpoint that isn't named or isn't there.
    """
    assert spec.arms is not None
    one = spec.arms.active[place]
    names = [endpoint.name for endpoint in spec.endpoints]
    parts = one.effect if isinstance(one.effect, dict) else dict.fromkeys(names, one.effect)
    for name in parts:
        if name not in names:
            raise SpecError(f"arms: {one.name}: effect: no endpoint {name!r}{did_you_mean(name, names)}")
    for endpoint in spec.endpoints:
        drop = isinstance(endpoint, Binary) and endpoint.drop is not None
        if endpoint.name not in parts and not drop:
            raise SpecError(f"arms: {one.name}: effect says nothing of {endpoint.name!r}: name every endpoint")
    made: list[Outcome] = [
        outcome if outcome.base >= 0 else
        replace(outcome, treatment=outcome.control + parts[outcome.name] * (outcome.treatment - outcome.control))
        for outcome in found
    ]  # fmt: skip
    for i, (endpoint, outcome) in enumerate(zip(spec.endpoints, made, strict=True)):
        if outcome.base >= 0 and isinstance(endpoint, Binary) and endpoint.drop is not None:
            of = made[outcome.base]
            made[i] = replace(outcome, treatment=responders(of.treatment, of.sd, endpoint.drop.at_least))
        elif outcome.binary and not ((made[i].treatment > 0) & (made[i].treatment < 1)).all():
            worst = made[i].treatment[np.abs(made[i].treatment - 0.5).argmax()]
            raise SpecError(
                f"arms: {one.name}: its part of the effect makes the share of responders of {outcome.name} {worst:g}, "
                "which must be above 0 and below 1"
            )
    return made


def shift_of(power: float, limit: float) -> float:
    """Expectation of a normal statistic that passes ``limit`` with this chance."""
    return limit + float(special.ndtri(min(max(power, 1e-300), 1 - 1e-16)))
