"""What a finished trial says by class or axis: the effect in each stratum, and whether the strata differ."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from sjd_dask.clinical.trials.criteria import UNDECIDED
from sjd_dask.clinical.trials.randomise import level_text
from sjd_dask.clinical.trials.reanalysis_data import (
    BINARY,
    CONTINUOUS,
    Floats,
    TrialData,
    arms_of,
    check_columns,
    counts_by_arm,
    more,
    numbers,
    who,
)
from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels.multiplicity import adjust

ALL = "all"
HOLM, FIXED_SEQUENCE = "holm", "fixed_sequence"
_LEVEL = 0.95
_MOST_LEVELS = 40


@dataclass(frozen=True)
class Reanalysis:
    """A finished trial by strata.

    Attributes
    ----------
    effects : DataFrame
        A row for each stratum (first ``all``, adjusted for the strata) and each arm but the control: ``by``, ``level``,
        ``arm``, ``control``, ``n_arm``, ``n_control`` (with an outcome), ``mean_arm``, ``mean_control`` (of a binary
        endpoint the shares of responders), ``effect``, ``standard_error``, ``low``, ``high``, ``p_value``; of a binary
        endpoint ``effect`` and its interval are log odds ratios, and ``odds_ratio``, ``odds_ratio_low``,
        ``odds_ratio_high``, ``risk_difference``, ``risk_difference_low``, ``risk_difference_high`` follow;
        ``reason`` where there is no effect.
    interactions : DataFrame
        A row for each column of strata: ``by``, ``test``, ``statistic``, ``df``, ``df_residual``, ``p_value``,
        ``p_holm`` (over the columns), ``levels``, ``left_out`` (levels that could not be compared), ``reason``.
    counts : DataFrame
        ``by``, ``level``, ``arm``, ``randomised``, ``analysed``, ``without_endpoint``, ``without_baseline``.
    control : str
        The arm the others are compared with.
    multiplicity : str
        How ``p_arms`` is adjusted: ``holm`` or ``fixed_sequence``; empty with one arm beside the control.
    notes : list of str
    """

    effects: pd.DataFrame
    interactions: pd.DataFrame
    counts: pd.DataFrame
    control: str = ""
    multiplicity: str = ""
    notes: list[str] = field(default_factory=list)


def reanalyse(
    table: pd.DataFrame,
    *,
    endpoint: str,
    arm: str,
    by: Sequence[str],
    control: str | None = None,
    kind: Literal["continuous", "binary"] = "continuous",
    baseline: str | None = None,
    missing: Literal["complete", "non_responder"] = "complete",
    sequence: Sequence[str] | None = None,
) -> Reanalysis:
    """Treatment effects by stratum and the test of treatment by stratum.

    Continuous: one linear model of strata, an effect of each arm in each stratum, and a common slope of the baseline,
    with HC3 standard errors and t on the residual degrees of freedom; the interaction is the Wald F-test that the
    effects are equal. Binary: the same with a logit link; the interaction is the likelihood ratio test; risk
    differences are unadjusted, with Newcombe's interval. The row ``all`` is the model without interaction. The
    strata of one trial are looked at after it ended: the p-values are exploratory unless they were planned.

    Parameters
    ----------
    table : DataFrame
        A row for each person randomised.
    endpoint : str
        A number, or 0/1 of a binary endpoint. Of binary endpoints, missing is left out (``complete``) or counted as no
        response (``non_responder``), never by itself.
    arm : str
        The column of arms.
    by : sequence of str
        Columns of strata, each analysed by itself; a person without a value is in the stratum ``unknown``, which is
        shown but doesn't enter the interaction test.
    control : str, optional
        The arm that the others are compared with; default: the only one called placebo or control.
    kind : {"continuous", "binary"}
    baseline : str, optional
        A number to adjust for; persons without it are left out.
    missing : {"complete", "non_responder"}
    sequence : sequence of str, optional
        The arms but the control in the order in which they are tested, each at the whole level until the first that
        isn't rejected: ``p_arms`` is then the greatest p so far. Default: Holm over the arms.

    Raises
    ------
    SpecError
        A column or an arm that isn't there.
    DataError
        A person without an arm or with two rows, an arm written in two ways, an endpoint or baseline that is no number
        or missing for everyone, a binary endpoint other than 0 and 1.

    References
    ----------
    [K] HC3: MacKinnon and White 1985; Newcombe 1998, method 10; Holm 1979.
    """
    check_columns(table, endpoint, arm, baseline, by)
    notes: list[str] = []
    y = numbers(table, endpoint)
    if kind == BINARY:
        wrong = np.flatnonzero(~np.isnan(y) & (y != 0) & (y != 1))
        if wrong.size:
            raise DataError(
                f"{who(table, wrong[0])}: the binary endpoint {endpoint!r} is {y[wrong[0]]:g}, and only 0 and 1 are "
                f"allowed{more(wrong)}; use `kind: continuous`, or make it 0 or 1"
            )
        if missing == "non_responder":
            filled = int(np.isnan(y).sum())
            y = np.where(np.isnan(y), 0.0, y)
            notes += (
                [f"{filled} persons without {endpoint} are counted as non-responders, as asked for"] if filled else []
            )
    elif missing == "non_responder":
        raise SpecError("`missing: non_responder` belongs to `kind: binary`")
    codes, arms = arms_of(table, arm, control, sequence)
    x = None if baseline is None else numbers(table, baseline)
    used = ~np.isnan(y) if x is None else ~np.isnan(y) & ~np.isnan(x)
    left = int((~used).sum())
    if left:
        notes.append(f"{left} of {len(table)} persons are left out: they lack {endpoint}"
                     + (f" or {baseline}" if baseline else ""))  # fmt: skip
    if not used.any():
        raise DataError(
            f"nobody of the trial's {len(table):,} persons has {endpoint}"
            + (f" and {baseline}" if baseline else "")
            + ": there is nothing to compare"
        )
    if x is not None and np.ptp(x[used]) == 0:
        raise DataError(
            f"the baseline {baseline!r} is {x[used][0]:g} for everyone with an outcome, which adjusts for nothing: "
            "leave `baseline` out, or name another column"
        )
    data = TrialData(y[used], codes[used], arms, None if x is None else x[used], kind)
    effects, interactions, counts = [], [], []
    for column in by:
        levels = level_text(table[column])
        if len(set(levels)) > _MOST_LEVELS:
            raise SpecError(
                f"`reanalysis: by` names {column!r}, which has {len(set(levels)):,} different values: take a column of "
                "groups, such as the state of an axis in place of its position"
            )
        counts.append(counts_by_arm(column, levels, codes, arms, y, x))
        made, test = _one_column(column, levels[used], data)
        effects += made
        interactions.append(test)
    if not by:
        effects, counts = _overall(data, None, ALL), [counts_by_arm(ALL, np.full(len(table), ALL), codes, arms, y, x)]
    found = pd.DataFrame(interactions)
    if len(found):
        found.insert(6, "p_holm", adjust(found["p_value"].to_numpy(dtype=float), "holm"))
    rows = pd.DataFrame(effects)
    method = "" if len(arms) < 3 else HOLM if sequence is None else FIXED_SEQUENCE
    if method:
        rows.insert(list(rows).index("p_value") + 1, "p_arms", _over_arms(rows, method))
        notes.append(
            f"p_arms of {len(arms) - 1} arms against {arms[0]}: "
            + ("Holm" if method == HOLM else f"fixed sequence {', '.join(arms[1:])}")
            + ", within each stratum"
        )
    return Reanalysis(rows, found, pd.concat(counts, ignore_index=True), arms[0], method, notes)


def _over_arms(rows: pd.DataFrame, method: str) -> Floats:
    """p adjusted over the arms of each stratum, which stand in their order. After a missing one a sequence is over."""
    out = np.full(len(rows), np.nan)
    for places in rows.groupby(["by", "level"], sort=False).indices.values():
        p = rows["p_value"].to_numpy(dtype=np.float64)[places]
        out[places] = adjust(p, "holm") if method == HOLM else np.maximum.accumulate(p)
    return out


# ---- models ----


def _one_column(by: str, levels: NDArray[Any], data: TrialData) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    known = sorted(set(levels))
    reasons = {level: _reasons(data, levels == level) for level in known}
    rows = _overall(data, levels, by)
    cells = {level: [i for i, reason in enumerate(reasons[level], start=1) if not reason] for level in known}
    effects = _effects(data, levels, {level: arms for level, arms in cells.items() if arms})
    for level in known:
        rows += _rows(data, levels == level, by, level, effects, reasons[level])
    compared = {level: arms for level, arms in cells.items() if arms and level not in UNDECIDED}
    n_arms = len(data.arms) - 1
    left_out = ", ".join(
        level if level not in compared else f"{level} ({', '.join(_without(data, compared[level]))})"
        for level in known if len(compared.get(level, [])) < n_arms
    )  # fmt: skip
    empty = {"by": by, "test": "", "statistic": np.nan, "df": np.nan, "df_residual": np.nan, "p_value": np.nan,
             "levels": len(known), "left_out": left_out, "reason": ""}  # fmt: skip
    if not _pairs(compared):
        return rows, {**empty, "reason": "fewer than two strata can be compared"}
    return rows, {**empty, **_interaction(data, levels, compared)}


def _without(data: TrialData, arms: list[int]) -> list[str]:
    return [name for i, name in enumerate(data.arms) if i and i not in arms]


def _pairs(cells: dict[str, list[int]]) -> list[tuple[tuple[str, int], tuple[str, int]]]:
    """Of each arm, each stratum with the next one that has the arm too."""
    found = []
    for i in sorted({i for arms in cells.values() for i in arms}):
        with_it = [(level, i) for level, arms in cells.items() if i in arms]
        found += list(pairwise(with_it))
    return found


def _reasons(data: TrialData, here: NDArray[np.bool_]) -> list[str]:
    """Why each arm but the control has no estimate of its own in a stratum, or an empty text."""
    said = []
    for i, name in enumerate(data.arms):
        y = data.y[here & (data.arm == i)]
        reason = ""
        if len(y) < 2:
            reason = f"fewer than 2 persons of arm {name} with an outcome"
        elif data.kind == BINARY and (y == y[0]).all():
            reason = f"all persons of arm {name} have the same outcome, so the odds ratio has no finite estimate"
        said.append(reason)
    return [said[0] or one for one in said[1:]]


def _columns(cells: dict[str, list[int]], *, interaction: bool) -> list[tuple[str, int]]:
    """The effects of a model, in the order of its columns: (stratum, arm), or ("all", arm)."""
    if interaction:
        return [(level, i) for level, arms in cells.items() for i in arms]
    return [(ALL, i) for i in sorted({i for arms in cells.values() for i in arms})]


def _design(data: TrialData, levels: NDArray[Any], cells: dict[str, list[int]], *, interaction: bool) -> Floats:
    """Columns: a mean for each stratum; effects of arms (for each stratum, arms within it); the baseline, centred."""
    parts = [(levels == level)[:, None].astype(float) for level in cells]
    for level, i in _columns(cells, interaction=interaction):
        within = levels == level if interaction else np.ones(len(levels), dtype=bool)
        parts.append((within & (data.arm == i))[:, None].astype(float))
    if data.baseline is not None:
        parts.append((data.baseline - data.baseline.mean())[:, None])
    return np.concatenate(parts, axis=1)


def _within(data: TrialData, levels: NDArray[Any], cells: dict[str, list[int]]) -> NDArray[np.bool_]:
    """The persons a model is about: those of the arms that a stratum can compare, and its control."""
    keep = np.zeros(len(data.y), dtype=bool)
    for level, arms in cells.items():
        keep |= (levels == level) & np.isin(data.arm, [0, *arms])
    return keep


def _fit(data: TrialData, design: Floats) -> Any:
    """The fitted model; None where it can't be."""
    # The modules themselves: statsmodels.api takes three times as long to import.
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM
    from statsmodels.regression.linear_model import OLS
    from statsmodels.tools.sm_exceptions import PerfectSeparationError

    if len(design) <= design.shape[1] or np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    with warnings.catch_warnings():
        # Separation and a lack of convergence are told by the row's reason, not by a warning.
        warnings.simplefilter("ignore")
        try:
            if data.kind == CONTINUOUS:
                return OLS(data.y, design).fit(cov_type="HC3", use_t=True)
            found = GLM(data.y, design, family=Binomial()).fit(tol=1e-12, maxiter=200)
        except (PerfectSeparationError, np.linalg.LinAlgError):
            return None
    # Beyond an odds of e^15 the data part the outcomes; a larger number would be of the iteration, not of the data.
    return found if found.converged and np.abs(design @ found.params).max() < 15 else None


def _effects(
    data: TrialData, levels: NDArray[Any], cells: dict[str, list[int]], *, interaction: bool = True
) -> dict[tuple[str, int], tuple[float, ...]]:
    if not cells:
        return {}
    keep = _within(data, levels, cells)
    part = data.part(keep)
    model = _fit(part, _design(part, levels[keep], cells, interaction=interaction))
    if model is None:
        return {}
    # Between equal outcomes there is nothing but rounding, which would pass for certainty.
    least = 1e-9 * float(np.abs(part.y).max()) if data.kind == CONTINUOUS else 0.0
    columns = _columns(cells, interaction=interaction)
    return {one: _estimate(model, len(cells) + place, least) for place, one in enumerate(columns)}


def _estimate(model: Any, place: int, least: float) -> tuple[float, ...]:
    """Effect, standard error, ends of the interval, p; the effect alone where the error isn't above ``least``."""
    effect, error = float(model.params[place]), float(model.bse[place])
    t = stats.t(model.df_resid) if getattr(model, "use_t", False) else stats.norm()
    if not (np.isfinite(error) and error > least):
        return effect, np.nan, np.nan, np.nan, np.nan
    reach = float(t.ppf(0.5 + _LEVEL / 2)) * error
    return effect, error, effect - reach, effect + reach, float(2 * t.sf(abs(effect / error)))


def _overall(data: TrialData, levels: NDArray[Any] | None, by: str) -> list[dict[str, Any]]:
    places = np.full(len(data.y), ALL, dtype=object) if levels is None else levels
    everyone = np.ones(len(data.y), dtype=bool)
    reasons = _reasons(data, everyone)
    arms = [i for i, reason in enumerate(reasons, start=1) if not reason]
    use = np.isin(data.arm, [0, *arms])
    cells = {level: arms for level in sorted(set(places)) if arms and _tells(data, (places == level) & use)}
    return _rows(data, everyone, by, ALL, _effects(data, places, cells, interaction=False), reasons)


def _tells(data: TrialData, here: NDArray[np.bool_]) -> bool:
    """Whether a stratum says anything of a common effect: one person, or one outcome of all, takes up its own mean."""
    y = data.y[here]
    return len(y) > 1 and not (data.kind == BINARY and (y == y[0]).all())


def _rows(
    data: TrialData, here: NDArray[np.bool_], by: str, level: str,
    estimates: dict[tuple[str, int], tuple[float, ...]], reasons: list[str],
) -> list[dict[str, Any]]:  # fmt: skip
    control = data.y[here & (data.arm == 0)]
    rows = []
    for i, name in enumerate(data.arms[1:], start=1):
        y = data.y[here & (data.arm == i)]
        effect, error, low, high, p = estimates.get((level, i), (np.nan,) * 5)
        reason = reasons[i - 1]
        if not reason and np.isnan(effect):
            reason = "the model can't be fitted: too few persons, or an outcome that strata or baseline tell apart"
        elif not reason and np.isnan(error):
            reason = "outcomes do not differ beyond rounding, so there is no standard error"
        row: dict[str, Any] = {
            "by": by, "level": level, "arm": name, "control": data.arms[0], "n_arm": len(y), "n_control": len(control),
            "mean_arm": y.mean() if len(y) else np.nan, "mean_control": control.mean() if len(control) else np.nan,
            "effect": effect, "standard_error": error, "low": low, "high": high, "p_value": p,
        }  # fmt: skip
        if data.kind == BINARY:
            row |= {"odds_ratio": np.exp(effect), "odds_ratio_low": np.exp(low), "odds_ratio_high": np.exp(high)}
            row |= _risk_difference(y, control)
        rows.append({**row, "reason": reason})
    return rows


def _risk_difference(y: Floats, control: Floats) -> dict[str, float]:
    if not (len(y) and len(control)):
        return dict.fromkeys(("risk_difference", "risk_difference_low", "risk_difference_high"), np.nan)
    from statsmodels.stats.proportion import confint_proportions_2indep

    low, high = confint_proportions_2indep(y.sum(), len(y), control.sum(), len(control), method="newcomb")
    return {
        "risk_difference": float(y.mean() - control.mean()),
        "risk_difference_low": float(low),
        "risk_difference_high": float(high),
    }


def _interaction(data: TrialData, levels: NDArray[Any], cells: dict[str, list[int]]) -> dict[str, Any]:
    keep = _within(data, levels, cells)
    part, places = data.part(keep), levels[keep]
    full = _fit(part, _design(part, places, cells, interaction=True))
    pairs = _pairs(cells)
    df = len(pairs)
    if full is None:
        return {"df": df, "reason": "the model with treatment by stratum can't be fitted"}
    if data.kind == CONTINUOUS:
        if np.sqrt(full.scale) <= 1e-9 * float(np.abs(part.y).max()):
            return {"df": df, "reason": "outcomes do not differ beyond rounding"}
        at = {one: len(cells) + place for place, one in enumerate(_columns(cells, interaction=True))}
        contrast = np.zeros((df, len(full.params)))
        for row, (one, other) in enumerate(pairs):
            contrast[row, at[one]], contrast[row, at[other]] = -1, 1
        test = full.f_test(contrast)
        return {"test": "Wald F, HC3", "statistic": float(np.squeeze(test.fvalue)), "df": df,
                "df_residual": float(full.df_resid), "p_value": float(np.squeeze(test.pvalue))}  # fmt: skip
    null = _fit(part, _design(part, places, cells, interaction=False))
    if null is None:
        return {"df": df, "reason": "the model without treatment by stratum can't be fitted"}
    statistic = max(float(null.deviance - full.deviance), 0.0)
    return {
        "test": "likelihood ratio",
        "statistic": statistic,
        "df": df,
        "p_value": float(stats.chi2.sf(statistic, df)),
    }
