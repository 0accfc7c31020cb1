"""Tables beside the sizes: strata of those enrolled, other tests, the hierarchy of endpoints."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask.clinical.definitions import did_you_mean
from sjd_dask.clinical.trials.comparisons import analyses
from sjd_dask.clinical.trials.design_spec import DesignSpec, Hypothesis
from sjd_dask.clinical.trials.enrichment import Population, enrich
from sjd_dask.clinical.trials.hierarchy import levels, rejections
from sjd_dask.clinical.trials.outcomes import Outcome
from sjd_dask.clinical.trials.sample_size import (
    BINARY_METHODS,
    CONTINUOUS_TESTS,
    exact_power_for_proportions,
    n_for_means,
    n_for_proportions,
)
from sjd_dask.clinical.trials.simulate import monte_carlo_error
from sjd_dask.errors import SpecError


def strata_table(spec: DesignSpec, who: Population, found: list[Outcome], planned: dict[str, int]) -> pd.DataFrame:
    """One row a design, endpoint and stratum: expected persons, and what each arm is expected to show."""
    treated, controls = spec.allocation or (1, 1)
    rows: list[dict[str, Any]] = []
    for name, n in planned.items():
        enrolled = who.enrolled(name)
        screened = n / who.taken(name) / (1.0 - (spec.screen_failure or 0.0))
        for one in found:
            for k, stratum in enumerate(who.strata):
                share = float(enrolled[k].sum())
                known = one.control_known
                rows.append({
                    "design": name, "endpoint": one.name, "stratum": stratum, "target": bool(who.target[k]),
                    "share_screened": who.shares[k], "share_enrolled": share, "screened": screened * who.shares[k],
                    "enrolled": n * share, "enrolled_treatment": n * share * treated / (treated + controls),
                    "enrolled_control": n * share * controls / (treated + controls),
                    "called_target": float(who.chances[k, who.positive].sum()), "not_called": float(who.chances[k, -1]),
                    "control": one.control[k] if known else np.nan, "treatment": one.treatment[k] if known else np.nan,
                    "effect": one.effect[k], "sd": one.sd[k],
                })  # fmt: skip
    return pd.DataFrame(rows)


def rule_holds(one: Outcome, who: Population) -> bool:
    """Whether the treatment does nothing outside the target strata, and the same in all of them."""
    return bool((np.abs(one.effect[~who.target]) < 1e-12).all() and np.ptp(one.effect[who.target]) < 1e-12)


def enrichment_table(sizes: pd.DataFrame, who: Population, found: list[Outcome]) -> pd.DataFrame:
    """What enrichment saves by the rule of squares, from the whole persons of the pure trial; one row an endpoint."""
    pure = sizes[sizes["design"] == "pure"].set_index("endpoint")["n_total"]
    rows: list[dict[str, Any]] = []
    for one in found:
        n = pure[one.name]
        row: dict[str, Any] = {"endpoint": one.name, "prevalence": who.prevalence, "called": who.called, "ppv": who.ppv,
                               "n_pure": np.nan if pd.isna(n) else float(n)}  # fmt: skip
        if not pd.isna(n) and rule_holds(one, who):
            saved = enrich(float(n), prevalence=who.prevalence, ppv=who.ppv, called=who.called)
            row |= {"n_all": float(saved.n_all), "n_enriched": float(saved.n_enriched),
                    "screened": float(saved.screened)}  # fmt: skip
        rows.append(row)
    columns = ["endpoint", "prevalence", "called", "ppv", "n_pure", "n_all", "n_enriched", "screened"]
    return pd.DataFrame(rows).reindex(columns=columns)


def methods_table(spec: DesignSpec, who: Population, found: list[Outcome]) -> pd.DataFrame:
    """Persons that each endpoint needs in its first target stratum alone, by every test that is known."""
    at = int(np.flatnonzero(who.target)[0])
    alpha, power, sided = spec.alpha or 0.0, spec.power or 0.0, spec.sided or 2
    common = {"alpha": alpha, "power": power, "sided": sided, "allocation": spec.allocation or (1, 1)}
    rows: list[dict[str, Any]] = []
    for one in found:
        if one.effect[at] == 0:
            continue
        for method in BINARY_METHODS if one.binary else CONTINUOUS_TESTS:
            exact = np.nan
            if one.binary:
                arms = (float(one.treatment[at]), float(one.control[at]))
                size = n_for_proportions(*arms, method=method, **common)
                exact = exact_power_for_proportions(
                    *arms, size.treatment, size.control, alpha=alpha, sided=sided, method=method
                )
            else:
                size = n_for_means(float(one.effect[at]), float(one.sd[at]), test=method, **common)
            rows.append({"endpoint": one.name, "stratum": who.strata[at], "method": method,
                         "n_treatment": size.treatment, "n_control": size.control, "n_total": size.total,
                         "power": size.power, "power_exact": exact})  # fmt: skip
    columns = ["endpoint", "stratum", "method", "n_treatment", "n_control", "n_total", "power", "power_exact"]
    return pd.DataFrame(rows, columns=columns)


def hierarchy_tables(
    spec: DesignSpec, who: Population, tested: dict[str, tuple[dict[tuple[str, str], Any], int]], messages: list[str]
) -> dict[str, pd.DataFrame]:
    """Power of each hypothesis within its family, and the chance of a false rejection.

    ``familywise`` has one row for each set of endpoints without effect: the others keep theirs. A rejection of any
    hypothesis about an endpoint without effect is a false one.
    """
    given = spec.hierarchy
    if given is None or given.method is None:
        return {}
    _known_endpoints(spec)
    rows: list[dict[str, Any]] = []
    wrong: list[dict[str, Any]] = []
    alpha = spec.alpha or 0.0
    for name, (found, _) in tested.items():
        asked = [(one, _analysis(one, who, name)) for one in given.hypotheses]
        for one, analysis in asked:
            if analysis is None:
                messages.append(
                    f"Hierarchy, design {name}: {one.endpoint} in those called target isn't tested, since nobody is "
                    "called there."
                )
        family: dict[tuple[str, str], Hypothesis] = {}
        for one, analysis in asked:
            if analysis is not None:
                family.setdefault((one.endpoint, analysis), one)
        if not family:
            continue
        weights = [one.weight for one in family.values()]
        scaled = None if any(w is None for w in weights) else [float(w) for w in weights if w is not None]
        alone, all_others = levels(given.method, len(family), alpha=alpha, weights=scaled)
        simulated = all(key in found for key in family)
        if simulated:
            designed = np.column_stack([found[key][0] for key in family])
            hit = rejections(designed, given.method, alpha=alpha, weights=scaled)
            wrong += _familywise(name, list(family), found, given.method, alpha, scaled)
        for i, (endpoint, analysis) in enumerate(family):
            row: dict[str, Any] = {
                "design": name, "order": i + 1, "endpoint": endpoint, "analysis": analysis, "method": given.method,
                "alpha_alone": alone[i], "alpha_after_all_others": all_others[i],
            }  # fmt: skip
            if simulated:
                in_family = float(hit[:, i].mean())
                row |= {"power_by_itself": float((designed[:, i] <= alpha).mean()), "power_in_hierarchy": in_family,
                        "power_error": monte_carlo_error(in_family, len(hit))}  # fmt: skip
            rows.append(row)
    tables = {"hierarchy": pd.DataFrame(rows)}
    if wrong:
        tables["familywise"] = pd.DataFrame(wrong)
    return tables


def _known_endpoints(spec: DesignSpec) -> None:
    names = [one.name for one in spec.endpoints]
    for one in spec.hierarchy.hypotheses if spec.hierarchy else []:
        if one.endpoint not in names:
            near = did_you_mean(one.endpoint, names)
            raise SpecError(f"hierarchy: no endpoint {one.endpoint!r}{near}; there are {', '.join(names)}")


def _analysis(one: Hypothesis, who: Population, design: str) -> str | None:
    """The analysis that tests a hypothesis in a design; None where it can't be. Everyone enriched was called target."""
    if design == "enriched":
        return "target"
    return one.population if one.population in analyses(who, design) else None


def _familywise(
    design: str, family: list[tuple[str, str]], found: dict[tuple[str, str], Any], method: str, alpha: float,
    weights: list[float] | None,
) -> list[dict[str, Any]]:  # fmt: skip
    endpoints = list(dict.fromkeys(endpoint for endpoint, _ in family))
    rows = []
    for states in product((True, False), repeat=len(endpoints)):
        null = {endpoint for endpoint, state in zip(endpoints, states, strict=True) if state}
        if not null:
            continue
        p = np.column_stack([found[key][1 if key[0] in null else 0] for key in family])
        is_null = np.array([key[0] in null for key in family])
        share = float(rejections(p, method, alpha=alpha, weights=weights)[:, is_null].any(axis=1).mean())
        rows.append({"design": design, "method": method, "without_effect": ", ".join(e for e in endpoints if e in null),
                     "alpha": alpha, "false_rejection": share, "error": monte_carlo_error(alpha, len(p)),
                     "trials": len(p)})  # fmt: skip
    return rows
