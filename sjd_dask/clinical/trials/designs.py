"""How large a trial must be and what it will find: all comers, stratified and enriched designs beside each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask.clinical.definitions import Overrides
from sjd_dask.clinical.trials.arms import all_rejected, any_rejected, comparison_level, of_arm, shift_of
from sjd_dask.clinical.trials.comparisons import Comparison, analyses, compare
from sjd_dask.clinical.trials.design_columns import TABLES
from sjd_dask.clinical.trials.design_spec import Continuous, DesignSpec, Simulate, parse_design, with_defaults
from sjd_dask.clinical.trials.design_tables import (
    enrichment_table,
    hierarchy_tables,
    methods_table,
    rule_holds,
    strata_table,
)
from sjd_dask.clinical.trials.enrichment import Population, enrich, population
from sjd_dask.clinical.trials.outcomes import Outcome, outcomes, residual_correlation
from sjd_dask.clinical.trials.placebo import placebo_model, placebo_table
from sjd_dask.clinical.trials.sample_size import SampleSize, critical, rounded, smallest_control
from sjd_dask.clinical.trials.simulate import draw, monte_carlo_error, p_values
from sjd_dask.errors import SpecError

EVERYONE = "everyone"
#: Persons drawn for a design, trials x n: above it the simulation is left out, and said so.
MOST_PERSONS = 500_000_000
_NO_EFFECT = "no effect in this comparison: no number of persons finds it"


@dataclass(frozen=True)
class DesignReport:
    """What a design comes to.

    Attributes
    ----------
    tables : dict of str to DataFrame
        ``sizes``, ``power``, ``strata``, ``methods``; with several arms ``arms``; with a classifier ``classifier``,
        ``calls`` and ``enrichment``; with several hypotheses ``hierarchy`` and, simulated, ``familywise``; with a
        placebo model ``placebo``. Columns are in `design_columns.TABLES`.
    messages : list of str
        What was assumed and what to mind, one sentence each.
    spec : DesignSpec
        With every default filled in.
    """

    tables: dict[str, pd.DataFrame]
    messages: list[str] = field(default_factory=list)
    spec: DesignSpec | None = None


def design(spec: DesignSpec | Mapping[str, Any], *, definitions: Overrides | None = None) -> DesignReport:
    """Sizes and power of the designs of a trial, by formula and by simulation.

    With several active arms, ``arms`` holds the sizes of all of them together; the other tables are then about one arm
    with the whole effect and the control, at the level of one comparison.

    Parameters
    ----------
    spec
        See `DesignSpec`.
    definitions
        Files in place of the shipped ones ("trial_defaults", "placebo").

    Raises
    ------
    SpecError
        A spec that can't be understood or contradicts itself; an effect of 0 in those who set the size.

    References
    ----------
    K: Simon, Maitournam 2004 (targeted designs); Borm, Fransen, Lemmens 2007 (baseline as covariate). S: the placebo
    model. Defaults: K, definitions/trial_defaults.yaml.
    """
    spec = with_defaults(parse_design(spec), definitions)
    who = _population(spec)
    found = outcomes(spec, who.strata, who.target, definitions)
    correlation = residual_correlation(spec, found)
    dropout = _given(spec.dropout)
    counted = [one.counted(dropout) for one in found]
    family = spec
    if spec.arms is not None:
        spec = spec.model_copy(update={"alpha": _level(spec)})
    sizes = _sizes(spec, who, counted)
    planned = _planned(spec, who, sizes)
    messages = _assumptions(spec, who, found)
    if spec.arms is not None:
        messages.append(
            f"{len(spec.arms.active)} active arms against one control, {spec.arms.rule.replace('_', ' ')}: each "
            f"comparison is tested at {_given(spec.alpha):.4g}, and the sizes of the trial are in the table of arms. "
            "The other tables are about one arm with the whole effect and the control, at that level."
        )
    power, tested = _power(spec, who, found, counted, planned, correlation, messages)
    tables = {"sizes": sizes, "power": power, "strata": strata_table(spec, who, found, planned),
              "methods": methods_table(spec, who, counted)}  # fmt: skip
    if spec.arms is not None:
        tables["arms"] = _arms_table(spec, who, found)
    if spec.classifier is not None:
        tables |= {"classifier": who.strata_table(), "calls": who.calls_table(),
                   "enrichment": enrichment_table(sizes, who, found)}  # fmt: skip
    if spec.hierarchy is not None:
        tables |= hierarchy_tables(spec, who, tested, messages)
    placebo = [_placebo(one, definitions) for one in spec.endpoints if isinstance(one, Continuous) and one.placebo]
    if placebo:
        tables["placebo"] = pd.concat(placebo, ignore_index=True)
    return DesignReport(tables, messages, family)


def _population(spec: DesignSpec) -> Population:
    if spec.strata is None or spec.classifier is None:
        shares = {EVERYONE: 1.0} if spec.strata is None else {one.name: one.share for one in spec.strata}
        return population(shares, list(shares))
    given = spec.classifier
    return population(
        {one.name: one.share for one in spec.strata}, given.target, sensitivity=given.sensitivity,
        specificity=given.specificity, ppv=given.ppv, called=given.called, confusion=given.confusion,
        not_called=given.not_called,
    )  # fmt: skip


def _sizes(spec: DesignSpec, who: Population, found: list[Outcome]) -> pd.DataFrame:
    """Persons needed for each endpoint in each design."""
    rows = []
    reasons: list[str] = []
    for one in found:
        lost = 0.0 if one.non_responder else _given(spec.dropout)
        pure = _needed(compare(one, who, "pure", "all"), spec, lost)
        for name in (["pure"] if spec.classifier is not None else []) + list(spec.designs or []):
            for analysis in analyses(who, name):
                comparison = compare(one, who, name, analysis)
                size = _needed(comparison, spec, lost)
                row: dict[str, Any] = {"design": name, "endpoint": one.name, "analysis": analysis,
                                       "effect": comparison.effect, "used": comparison.used}  # fmt: skip
                if size is not None:
                    row |= {"n_treatment": size.treatment, "n_control": size.control, "n_total": size.total,
                            "n_enrolled": size.enrolled,
                            "n_screened": _screened(size.enrolled, who, name, spec)}  # fmt: skip
                row["n_total_rule"] = _rule(one, who, name, analysis, pure)
                reasons.append("" if size is not None else _NO_EFFECT)
                rows.append(row)
    wanted = ["design", "endpoint", "analysis", "effect", "used", "n_treatment", "n_control", "n_total", "n_total_rule",
              "n_enrolled", "n_screened"]  # fmt: skip
    table = pd.DataFrame(rows).reindex(columns=wanted)
    for name in wanted[5:]:
        table[name] = pd.array([None if pd.isna(v) else int(v) for v in table[name]], dtype="Int64")
    return table.assign(reason=reasons)


def _needed(comparison: Comparison, spec: DesignSpec, lost: float) -> SampleSize | None:
    """Persons of a comparison at the power of the spec; None where there is no effect to find."""
    if abs(comparison.effect) < 1e-12:
        return None
    treated, controls = spec.allocation or (1, 1)
    ratio = treated / controls
    alpha, sided, power = _given(spec.alpha), int(_given(spec.sided)), _given(spec.power)
    if not alpha / sided < power:
        raise SpecError(f"power is {power:g}; it must be above the level of the test, {alpha / sided:g}")
    least = max(2.0, 2.0 / ratio, (len(comparison.shares) + 3) / (1 + ratio)) / comparison.used

    def at(n: float) -> float:
        return comparison.power(n * (1 + ratio), ratio / (1 + ratio), alpha=alpha, sided=sided, strict=False)

    return rounded(smallest_control(at, power, least), ratio, lost)


def _level(spec: DesignSpec) -> float:
    """Level of the comparison of one active arm with the control."""
    assert spec.arms is not None
    treated, controls = spec.allocation or (1, 1)
    return comparison_level(
        spec.arms.rule, len(spec.arms.active), alpha=_given(spec.alpha), sided=int(_given(spec.sided)),
        ratio=treated / controls,
    )  # fmt: skip


def _arms_table(spec: DesignSpec, who: Population, found: list[Outcome]) -> pd.DataFrame:
    """One row a design, endpoint and active arm: as many persons as the arm that needs most takes for its power."""
    assert spec.arms is not None
    treated, controls = spec.allocation or (1, 1)
    ratio, alpha, sided = treated / controls, _given(spec.alpha), int(_given(spec.sided))
    limit = float(critical(alpha, sided))
    dropout = _given(spec.dropout)
    k = len(spec.arms.active)
    under = [[one.counted(dropout) for one in of_arm(spec, found, i)] for i in range(k)]
    rows: list[dict[str, Any]] = []
    for name in spec.designs or []:
        analysis = spec.stratified_for if name == "stratified" else analyses(who, name)[0]
        for e, endpoint in enumerate(found):
            lost = 0.0 if endpoint.non_responder else dropout
            comparisons = [compare(arm[e], who, name, analysis) for arm in under]
            needed = [_needed(one, spec, lost) for one in comparisons]
            known = [one for one in needed if one is not None]
            size = max(known, key=lambda one: one.control_exact) if known else None
            powers = [
                math.nan if size is None else
                one.power(size.control * (1 + ratio), ratio / (1 + ratio), alpha=alpha, sided=sided, strict=False)
                for one in comparisons
            ]  # fmt: skip
            shifts = [shift_of(power, limit) for power in powers]
            in_order = spec.arms.rule == "fixed_sequence"
            for i, (arm, one) in enumerate(zip(spec.arms.active, comparisons, strict=True)):
                row: dict[str, Any] = {"design": name, "endpoint": endpoint.name, "analysis": analysis, "arm": arm.name,
                                       "rule": spec.arms.rule, "alpha": alpha, "effect": one.effect}  # fmt: skip
                if size is not None:
                    enrolled = k * size.enrolled_treatment + size.enrolled_control
                    row |= {
                        "n_arm": size.treatment, "n_control": size.control,
                        "n_total": k * size.treatment + size.control,
                        "n_enrolled": enrolled, "n_screened": _screened(enrolled, who, name, spec), "power": powers[i],
                        "power_in_family": all_rejected(shifts[: i + 1], limit, ratio=ratio) if in_order else powers[i],
                        "power_any": powers[0] if in_order else any_rejected(shifts, limit, sided=sided, ratio=ratio),
                        "power_all": all_rejected(shifts, limit, ratio=ratio),
                    }  # fmt: skip
                row["reason"] = (
                    "" if needed[i] is not None else "no effect in this comparison: no number of persons finds it"
                )
                rows.append(row)
    table = pd.DataFrame(rows).reindex(columns=list(TABLES["arms"]))
    for name in ("n_arm", "n_control", "n_total", "n_enrolled", "n_screened"):
        table[name] = pd.array([None if pd.isna(v) else int(v) for v in table[name]], dtype="Int64")
    return table


def _rule(one: Outcome, who: Population, design: str, analysis: str, pure: SampleSize | None) -> float:
    """The pure trial's persons by the rule of squares; missing where the rule doesn't hold, or isn't about this."""
    if pure is None or analysis == "interaction" or not rule_holds(one, who):
        return math.nan
    found = enrich(pure.total, prevalence=who.prevalence, ppv=who.ppv, called=who.called)
    if design == "stratified" and analysis == "target":
        n = found.screened  # everyone who is screened enters, and the called are compared
    else:
        n = {"pure": found.n_pure, "enriched": found.n_enriched}.get(design, found.n_all)
    return math.ceil(float(n) - 1e-9)


def _screened(enrolled: int, who: Population, design: str, spec: DesignSpec) -> int:
    return math.ceil(enrolled / who.taken(design) / (1.0 - _given(spec.screen_failure)) - 1e-9)


def _planned(spec: DesignSpec, who: Population, sizes: pd.DataFrame) -> dict[str, int]:
    """Persons enrolled in each design: those of the spec, or those that the first endpoint needs."""
    planned = {}
    for name in spec.designs or []:
        known = analyses(who, name)
        analysis = spec.stratified_for if name == "stratified" else known[0]
        if analysis not in known:
            raise SpecError(
                f"stratified_for: {analysis}: everyone with a call is called target, there is nothing to compare"
            )
        row = sizes[(sizes["design"] == name) & (sizes["analysis"] == analysis)].iloc[0]
        if spec.n is None and pd.isna(row["n_enrolled"]):
            raise SpecError(
                f"the first endpoint, {row['endpoint']}, has no effect in the design {name} ({analysis}): give an "
                "effect, or the number of persons as `n`"
            )
        planned[name] = int(spec.n if spec.n is not None else row["n_enrolled"])
    return planned


Tests = dict[str, tuple[dict[tuple[str, str], Any], int]]


def _power(
    spec: DesignSpec, who: Population, found: list[Outcome], counted: list[Outcome], planned: dict[str, int],
    correlation: np.ndarray, messages: list[str],
) -> tuple[pd.DataFrame, Tests]:  # fmt: skip
    alpha, sided = _given(spec.alpha), int(_given(spec.sided))
    treated, controls = spec.allocation or (1, 1)
    part = treated / (treated + controls)
    rows, tested = [], {}
    for name, n in planned.items():
        simulated = _simulated(spec, who, found, name, n, correlation, messages)
        trials = spec.simulate.trials or 0 if isinstance(spec.simulate, Simulate) else 0
        tested[name] = ({(found[e].name, a): p for (e, a), p in simulated.items()}, n)
        for e, one in enumerate(counted):
            kept = 1.0 if one.non_responder else 1 - _given(spec.dropout)
            for analysis in analyses(who, name):
                comparison = compare(one, who, name, analysis)
                row: dict[str, Any] = {
                    "design": name, "endpoint": one.name, "analysis": analysis, "n_enrolled": n,
                    "n_used": n * kept * comparison.used, "effect": comparison.effect, "alpha": alpha,
                    "power_formula": comparison.power(n, part, alpha=alpha, sided=sided, kept=kept, spread=True),
                    "power_exact": comparison.exact_power(n, part, alpha=alpha, sided=sided, kept=kept),
                }  # fmt: skip
                if (e, analysis) in simulated:
                    designed, null = (float((p <= alpha).mean()) for p in simulated[e, analysis])
                    row |= {"power_simulated": designed, "power_error": monte_carlo_error(designed, trials),
                            "type_one_error": null, "type_one_error_error": monte_carlo_error(alpha, trials),
                            "trials": trials}  # fmt: skip
                rows.append(row)
    table = pd.DataFrame(rows)
    for name in ("power_simulated", "power_error", "type_one_error", "type_one_error_error", "trials"):
        if name not in table:
            table[name] = np.nan
    table["trials"] = table["trials"].astype("Int64")
    _judge(spec, table, messages)
    return table, tested


def _simulated(
    spec: DesignSpec, who: Population, found: list[Outcome], name: str, n: int, correlation: np.ndarray,
    messages: list[str],
) -> dict[tuple[int, str], tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    given = spec.simulate
    if not isinstance(given, Simulate) or given.trials is None or given.seed is None:
        return {}
    if given.trials * n > MOST_PERSONS:
        messages.append(
            f"The design {name} was not simulated: {given.trials:,} trials of {n:,} persons are more than "
            f"{MOST_PERSONS:,}. Ask for at most {MOST_PERSONS // n:,} trials (simulate: {{trials: ...}})."
        )
        return {}
    drawn = draw(who, found, name, n=n, allocation=spec.allocation or (1, 1), dropout=_given(spec.dropout),
                 correlation=correlation, trials=given.trials, seed=given.seed)  # fmt: skip
    directions = [float(np.sign(compare(one, who, name, analyses(who, name)[0]).effect) or 1.0) for one in found]
    return p_values(drawn, found, who, name, sided=int(_given(spec.sided)), directions=directions)


def _judge(spec: DesignSpec, table: pd.DataFrame, messages: list[str]) -> None:
    """Say where simulation and formula part, and where the type I error is above its level."""
    where = table["design"] + ", " + table["endpoint"] + ", " + table["analysis"]
    expected = table["power_exact"].fillna(table["power_formula"])
    apart = (table["power_simulated"] - expected).abs() > 4 * table["power_error"]
    for i in np.flatnonzero(apart):
        row = table.iloc[i]
        messages.append(
            f"{where[i]}: simulated power {row['power_simulated']:.4f} (Monte-Carlo error {row['power_error']:.4f}) "
            f"against {expected[i]:.4f} by formula, more than chance allows: the formula is an approximation, trust "
            "the simulation."
        )
    above = table["type_one_error"] - table["alpha"] > 4 * table["type_one_error_error"]
    for i in np.flatnonzero(above):
        messages.append(
            f"{where[i]}: type I error {table['type_one_error'][i]:.4f}, above its level {table['alpha'][i]:g} by more "
            f"than chance allows (error {table['type_one_error_error'][i]:.4f}): {_remedy(spec, table.iloc[i])}."
        )


def _remedy(spec: DesignSpec, row: pd.Series) -> str:
    """What holds the level better in a small trial."""
    one = next(one for one in spec.endpoints if one.name == row["endpoint"])
    if isinstance(one, Continuous):
        return "take `test: t`" if one.test == "normal" else "more persons are needed"
    return (
        "more persons are needed"
        if one.method == "pooled" or row["analysis"] == "interaction"
        else ("take `method: pooled`, or more persons")
    )


def _assumptions(spec: DesignSpec, who: Population, found: list[Outcome]) -> list[str]:
    said = []
    if spec.classifier is not None:
        for given, one in zip(spec.endpoints, found, strict=True):
            value = given.effect if isinstance(given, Continuous) else getattr(given, "treatment", None)
            if value is not None and not isinstance(value, Mapping):
                said.append(
                    f"{one.name}: the treatment is taken to do nothing outside {', '.join(spec.classifier.target)}; "
                    "name every stratum to say otherwise."
                )
        said.append(
            f"Of those screened {who.prevalence:.1%} belong to the target strata, {who.called:.1%} are called so (of "
            f"whom {who.ppv:.1%} do belong), and {who.not_called:.1%} get no call."
        )
        said.append(
            "n_total counts how much persons of one arm differ when the treatment works in some of them; n_total_rule "
            "(N / p^2, N / PPV^2) takes every class as equally variable."
        )
    if sum(one.base < 0 for one in found) > 1 and spec.correlation == 0.0:
        said.append("Endpoints are taken as independent within stratum and arm; give `correlation` to say otherwise.")
    if (spec.dropout or 0) > 0:
        said.append("Persons are lost by chance alone, whatever their arm and outcome.")
    return said


def _placebo(one: Continuous, definitions: Overrides | None) -> pd.DataFrame:
    model = placebo_model(one.placebo or "", definitions)
    table = placebo_table(model, definitions=definitions)
    table.insert(0, "endpoint", one.name)
    return table.assign(mark=model.mark)


def _given(value: float | None) -> float:
    if value is None:
        raise SpecError("a default of the design is missing: definitions/trial_defaults.yaml must name them all")
    return float(value)
