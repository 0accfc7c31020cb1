"""Endpoints of a design as numbers by stratum: what each arm is expected to show, and how much persons differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sjd_dask.clinical.definitions import Overrides, did_you_mean, load_definition
from sjd_dask.clinical.trials.design_spec import Binary, Continuous, DesignSpec
from sjd_dask.clinical.trials.placebo import placebo_model, responders
from sjd_dask.errors import SpecError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """One endpoint.

    Attributes
    ----------
    name, kind : str
        ``kind`` is "continuous" (larger is better) or "binary" (share of responders).
    control, treatment : ndarray of float64, (strata,)
        Expected improvement, or share of responders, in each arm.
    control_known : bool
        Whether the level under control was said; without it only differences mean something.
    sd : ndarray of float64, (strata,)
        Within stratum and arm; NaN for a binary endpoint.
    correlation : ndarray of float64, (strata,)
        With the baseline, within stratum and arm.
    ancova : bool
    test : str
        "normal" or "t"; for a binary endpoint "unpooled" or "pooled".
    non_responder : bool
        Persons lost count as non-responders.
    base : int
        Position of the endpoint whose drop makes a responder; -1: none.
    """

    name: str
    kind: str
    control: FloatArray
    treatment: FloatArray
    control_known: bool
    sd: FloatArray
    correlation: FloatArray
    ancova: bool
    test: str
    non_responder: bool = False
    base: int = -1

    @property
    def effect(self) -> FloatArray:
        return self.treatment - self.control

    @property
    def binary(self) -> bool:
        return self.kind == "binary"

    def without_effect(self) -> Outcome:
        """The same under the null hypothesis: treatment does what control does."""
        return replace(self, treatment=self.control)

    def counted(self, dropout: float) -> Outcome:
        """Shares of responders as the analysis sees them, where persons lost count as non-responders."""
        if not self.non_responder:
            return self
        kept = 1.0 - dropout
        return replace(self, control=self.control * kept, treatment=self.treatment * kept)


def outcomes(
    spec: DesignSpec, strata: tuple[str, ...], target: NDArray[np.bool_], definitions: Overrides | None = None
) -> list[Outcome]:
    """The endpoints of a spec, in its order.

    Raises
    ------
    SpecError
        A stratum that isn't named or isn't known, a correlation with the baseline of 1 or more, an endpoint that is
        made from one that isn't there.
    """
    outside = float(load_definition("trial_defaults", definitions)["design"]["outside_effect"]["value"])
    found: list[Outcome | None] = [
        _continuous(one, strata, target, outside, definitions) if isinstance(one, Continuous) else None
        for one in spec.endpoints
    ]
    for i, one in enumerate(spec.endpoints):
        if isinstance(one, Binary):
            found[i] = _binary(one, spec, found, strata, target)
    return [one for one in found if one is not None]


def _continuous(
    one: Continuous, strata: tuple[str, ...], target: NDArray[np.bool_], outside: float, definitions: Overrides | None
) -> Outcome:
    sd = _values(f"{one.name}: sd", one.sd, strata)
    if not (sd > 0).all():
        raise SpecError(f"{one.name}: sd is {sd.min():g}; a standard deviation is above 0")
    if isinstance(one.effect, Mapping):
        effect = _values(f"{one.name}: effect", one.effect, strata)
    else:
        effect = np.where(target, float(one.effect), outside)
    correlation = np.zeros(len(strata))
    control = np.zeros(len(strata)) if one.control is None else _values(f"{one.name}: control", one.control, strata)
    if one.placebo is not None and one.week is not None and one.baseline is not None:
        model = placebo_model(one.placebo, definitions)
        if not 0 <= one.baseline.mean <= model.largest_baseline:
            raise SpecError(
                f"{one.name}: baseline: mean is {one.baseline.mean:g}; the placebo model {model.name!r} is of a score "
                f"between 0 and {model.largest_baseline:g}"
            )
        control = np.full(len(strata), float(model.drop(one.baseline.mean, one.week)))
        if one.prognosis is not None:
            control = control + _values(f"{one.name}: prognosis", one.prognosis, strata)
        correlation = model.slope_at(one.baseline.mean, one.week) * one.baseline.sd / sd
        if (correlation >= 1).any():
            raise SpecError(
                f"{one.name}: over baselines with sd {one.baseline.sd:g} the placebo model alone spreads it by "
                f"{correlation.max() * sd.min():.3g} points, which is not less than its sd {sd.min():g}"
            )
    elif one.baseline_correlation is not None:
        correlation = np.full(len(strata), float(one.baseline_correlation))
    known = one.control is not None or one.placebo is not None
    return Outcome(one.name, "continuous", control, control + effect, known, sd, correlation, one.ancova, one.test)


def _binary(
    one: Binary, spec: DesignSpec, found: list[Outcome | None], strata: tuple[str, ...], target: NDArray[np.bool_]
) -> Outcome:
    base = -1
    if one.drop is not None:
        names = [other.name for other, made in zip(spec.endpoints, found, strict=True) if made and not made.binary]
        if one.drop.endpoint not in names:
            raise SpecError(
                f"{one.name}: there is no continuous endpoint {one.drop.endpoint!r}"
                f"{did_you_mean(one.drop.endpoint, names)}; there are: {', '.join(names) or 'none'}"
            )
        base = [other.name for other in spec.endpoints].index(one.drop.endpoint)
        of = found[base]
        if of is None or not of.control_known:
            raise SpecError(
                f"{one.name}: the share of responders hangs on how far {one.drop.endpoint} falls under control: give "
                "that endpoint `control` or `placebo`"
            )
        control = responders(of.control, of.sd, one.drop.at_least)
        treatment = responders(of.treatment, of.sd, one.drop.at_least)
    else:
        control = _values(f"{one.name}: control", one.control, strata)
        if isinstance(one.treatment, Mapping):
            treatment = _values(f"{one.name}: treatment", one.treatment, strata)
        else:
            treatment = np.where(target, one.treatment, control)
    blank = np.full(len(strata), np.nan)
    return Outcome(one.name, "binary", control, treatment, True, blank, np.zeros(len(strata)), False, one.method,
                   one.missing == "non_responder", base)  # fmt: skip


def _values(what: str, given: float | Mapping[str, float] | None, strata: tuple[str, ...]) -> FloatArray:
    if not isinstance(given, Mapping):
        return np.full(len(strata), np.nan if given is None else float(given))
    for name in given:
        if name not in strata:
            near = did_you_mean(name, strata)
            raise SpecError(f"{what}: {name!r} is no stratum{near}; there are {', '.join(strata)}")
    for name in strata:
        if name not in given:
            raise SpecError(f"{what} says nothing of stratum {name!r}: name every stratum, or give one number")
    return np.array([float(given[name]) for name in strata])


def residual_correlation(spec: DesignSpec, found: list[Outcome]) -> FloatArray:
    """Correlation of the endpoints within stratum and arm given the baseline, (endpoints, endpoints).

    The spec gives correlations as they are; what the baseline explains of them is taken off, by the mean over strata of
    each endpoint's tie to it. Rows of endpoints that are made from another one's drop are those of a draw of their own,
    which isn't used.

    Raises
    ------
    SpecError
        An unknown endpoint, a value outside (-1, 1), or correlations that can't hold together.
    """
    names = [one.name for one in found]
    total = np.eye(len(names))
    given = spec.correlation
    pairs = (
        [(a, b, value) for a, row in given.items() for b, value in row.items()]
        if isinstance(given, Mapping)
        else [(a, b, given) for a in names for b in names if a != b]
    )
    for a, b, value in pairs:
        for name in (a, b):
            if name not in names:
                raise SpecError(f"correlation: no endpoint {name!r}{did_you_mean(name, names)}")
        if a == b or not -1 < value < 1:
            raise SpecError(
                f"correlation of {a} and {b} is {value:g}; it lies above -1 and below 1, between two endpoints"
            )
        if found[names.index(a)].base < 0 and found[names.index(b)].base < 0:
            total[names.index(a), names.index(b)] = total[names.index(b), names.index(a)] = value
    tie = np.array([one.correlation.mean() for one in found])
    rest = (total - np.outer(tie, tie)) / np.sqrt(np.outer(1 - tie**2, 1 - tie**2))
    np.fill_diagonal(rest, 1.0)
    if np.linalg.eigvalsh(rest).min() <= 1e-12:
        raise SpecError("correlation: these values can't hold together (with those to the baseline): make them smaller")
    return rest
