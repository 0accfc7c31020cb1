"""What a finished trial says by class or axis: the effect in each stratum, and whether the strata differ."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from sjd_dask.clinical.definitions import did_you_mean
from sjd_dask.clinical.trials.randomise import UNKNOWN, level_text
from sjd_dask.errors import DataError, SpecError

Floats = NDArray[np.float64]
ALL = "all"
CONTINUOUS, BINARY = "continuous", "binary"
_LEVEL = 0.95
_MOST_LEVELS = 40
_CONTROLS = ("placebo", "control")


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
    notes : list of str
    """

    effects: pd.DataFrame
    interactions: pd.DataFrame
    counts: pd.DataFrame
    control: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Data:
    y: Floats
    arm: NDArray[np.int64]
    arms: list[str]
    baseline: Floats | None
    kind: str


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

    Raises
    ------
    SpecError
        A column or an arm that isn't there.
    DataError
        A person without an arm, an endpoint or baseline that is no number, a binary endpoint other than 0 and 1.

    References
    ----------
    [K] HC3: MacKinnon and White 1985; Newcombe 1998, method 10; Holm 1979.
    """
    for key, column in (("endpoint", endpoint), ("arm", arm), ("baseline", baseline), *(("by", one) for one in by)):
        if column is not None and column not in table:
            raise SpecError(
                f"`reanalysis: {key}` names the column {column!r}, which the trial's table lacks"
                f"{did_you_mean(column, table.columns)}; it has: {', '.join(map(str, table.columns[:30]))}"
            )
    notes: list[str] = []
    y = _numbers(table, endpoint)
    if kind == BINARY:
        wrong = np.flatnonzero(~np.isnan(y) & (y != 0) & (y != 1))
        if wrong.size:
            raise DataError(
                f"{_who(table, wrong[0])}: the binary endpoint {endpoint!r} is {y[wrong[0]]:g}, and only 0 and 1 are "
                f"allowed{_more(wrong)}; use `kind: continuous`, or make it 0 or 1"
            )
        if missing == "non_responder":
            filled = int(np.isnan(y).sum())
            y = np.where(np.isnan(y), 0.0, y)
            notes += (
                [f"{filled} persons without {endpoint} are counted as non-responders, as asked for"] if filled else []
            )
    elif missing == "non_responder":
        raise SpecError("`missing: non_responder` belongs to `kind: binary`")
    codes, arms = _arms(table, arm, control)
    x = None if baseline is None else _numbers(table, baseline)
    used = ~np.isnan(y) if x is None else ~np.isnan(y) & ~np.isnan(x)
    left = int((~used).sum())
    if left:
        notes.append(f"{left} of {len(table)} persons are left out: they lack {endpoint}"
                     + (f" or {baseline}" if baseline else ""))  # fmt: skip
    data = _Data(y[used], codes[used], arms, None if x is None else x[used], kind)
    effects, interactions, counts = [], [], []
    for column in by:
        levels = level_text(table[column])
        if len(set(levels)) > _MOST_LEVELS:
            raise SpecError(
                f"`reanalysis: by` names {column!r}, which has {len(set(levels)):,} different values: take a column of "
                "groups, such as the state of an axis in place of its position"
            )
        counts.append(_counts(column, levels, codes, arms, y, x))
        made, test = _one_column(column, levels[used], data)
        effects += made
        interactions.append(test)
    if not by:
        effects, counts = _overall(data, None, ALL), [_counts(ALL, np.full(len(table), ALL), codes, arms, y, x)]
    found = pd.DataFrame(interactions)
    if len(found):
        from sjd_dask.kernels.multiplicity import adjust

        found.insert(6, "p_holm", adjust(found["p_value"].to_numpy(dtype=float), "holm"))
    return Reanalysis(pd.DataFrame(effects), found, pd.concat(counts, ignore_index=True), arms[0], notes)


# ---- reading ----


def _numbers(table: pd.DataFrame, column: str) -> Floats:
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.flatnonzero((np.isnan(values) & table[column].notna().to_numpy()) | np.isinf(values))
    if wrong.size:
        raise DataError(
            f"{_who(table, wrong[0])}: {column!r} is {table[column].iloc[wrong[0]]!r}, which is no number{_more(wrong)}"
        )
    return values


def _arms(table: pd.DataFrame, column: str, control: str | None) -> tuple[NDArray[np.int64], list[str]]:
    gone = np.flatnonzero(table[column].isna())
    if gone.size:
        raise DataError(
            f"{_who(table, gone[0])}: no arm in the column {column!r}{_more(gone)}; everyone randomised has one"
        )
    text = level_text(table[column])
    known = sorted(set(text))
    if control is None:
        named = [one for one in known if one.casefold() in _CONTROLS]
        if len(named) != 1:
            raise SpecError(
                f"`reanalysis: control` is not given, and of the arms {', '.join(known)} not exactly one is called "
                f"{' or '.join(_CONTROLS)}: name the arm that the others are compared with"
            )
        control = named[0]
    if control not in known:
        raise SpecError(
            f"`reanalysis: control` is {control!r}, and the column {column!r} holds {', '.join(known)}"
            f"{did_you_mean(control, known)}"
        )
    if len(known) < 2:
        raise DataError(f"the column {column!r} holds one arm only, {control!r}: there is nothing to compare it with")
    arms = [control, *(one for one in known if one != control)]
    return np.array([arms.index(one) for one in text], dtype=np.int64), arms


def _who(table: pd.DataFrame, row: Any) -> str:
    for name in ("person_id", "sample_id"):
        if name in table:
            return f"{name} {table[name].iloc[row]!r}"
    return f"row {int(row) + 1}"


def _more(rows: NDArray[Any]) -> str:
    return f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""


def _counts(
    by: str, levels: NDArray[Any], codes: NDArray[np.int64], arms: list[str], y: Floats, x: Floats | None
) -> pd.DataFrame:
    rows = []
    no_x = np.zeros(len(y), dtype=bool) if x is None else np.isnan(x)
    for level in sorted(set(levels)):
        for i, name in enumerate(arms):
            here = (levels == level) & (codes == i)
            rows.append(
                {
                    "by": by, "level": level, "arm": name, "randomised": int(here.sum()),
                    "analysed": int((here & ~np.isnan(y) & ~no_x).sum()),
                    "without_endpoint": int((here & np.isnan(y)).sum()), "without_baseline": int((here & no_x).sum()),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


# ---- models ----


def _one_column(by: str, levels: NDArray[Any], data: _Data) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    known = sorted(set(levels))
    reasons = {level: _reason(data, levels == level) for level in known}
    fitted = [level for level in known if not reasons[level]]
    rows = [] if not known else _overall(data, levels, by)
    left_out = ", ".join(level for level in known if reasons[level] or level == UNKNOWN)
    empty = {"by": by, "test": "", "statistic": np.nan, "df": np.nan, "df_residual": np.nan, "p_value": np.nan,
             "levels": len(known), "left_out": left_out, "reason": ""}  # fmt: skip
    effects = _effects(data, levels, fitted) if fitted else {}
    for level in known:
        rows += _rows(data, levels == level, by, level, effects.get(level), reasons[level])
    compared = [level for level in fitted if level != UNKNOWN]
    if len(compared) < 2:
        return rows, {**empty, "reason": "fewer than two strata can be compared"}
    return rows, {**empty, **_interaction(data, levels, compared)}


def _reason(data: _Data, here: NDArray[np.bool_]) -> str:
    """Why a stratum has no estimate of its own, or an empty text."""
    for i, name in enumerate(data.arms):
        y = data.y[here & (data.arm == i)]
        if len(y) < 2:
            return f"fewer than 2 persons of arm {name} with an outcome"
        if data.kind == BINARY and (y == y[0]).all():
            return f"all persons of arm {name} have the same outcome, so the odds ratio has no finite estimate"
    return ""


def _design(data: _Data, levels: NDArray[Any], fitted: list[str], *, interaction: bool) -> Floats:
    """Columns: a mean for each stratum; effects of arms (for each stratum, arms within it); the baseline, centred."""
    strata = np.stack([levels == level for level in fitted], axis=1).astype(float)
    treated = np.stack([data.arm == i for i in range(1, len(data.arms))], axis=1).astype(float)
    parts = [strata]
    if interaction:
        parts.append((strata[:, :, None] * treated[:, None, :]).reshape(len(strata), -1))
    else:
        parts.append(treated)
    if data.baseline is not None:
        parts.append((data.baseline - data.baseline.mean())[:, None])
    return np.concatenate(parts, axis=1)


def _part(data: _Data, keep: NDArray[np.bool_]) -> _Data:
    x = None if data.baseline is None else data.baseline[keep]
    return _Data(data.y[keep], data.arm[keep], data.arms, x, data.kind)


def _fit(data: _Data, design: Floats) -> Any:
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


def _effects(data: _Data, levels: NDArray[Any], fitted: list[str]) -> dict[str, list[tuple[float, ...]]]:
    keep = np.isin(levels, fitted)
    part = _part(data, keep)
    model = _fit(part, _design(part, levels[keep], fitted, interaction=True))
    if model is None:
        return {}
    n_arms = len(data.arms) - 1
    first = len(fitted)
    return {level: [_estimate(model, first + s * n_arms + i) for i in range(n_arms)] for s, level in enumerate(fitted)}


def _estimate(model: Any, place: int) -> tuple[float, ...]:
    """Effect, standard error, ends of the interval, p."""
    effect, error = float(model.params[place]), float(model.bse[place])
    t = stats.t(model.df_resid) if getattr(model, "use_t", False) else stats.norm()
    if not (np.isfinite(error) and error > 0):
        return effect, np.nan, np.nan, np.nan, np.nan
    reach = float(t.ppf(0.5 + _LEVEL / 2)) * error
    return effect, error, effect - reach, effect + reach, float(2 * t.sf(abs(effect / error)))


def _overall(data: _Data, levels: NDArray[Any] | None, by: str) -> list[dict[str, Any]]:
    places = np.full(len(data.y), ALL, dtype=object) if levels is None else levels
    everyone = np.ones(len(data.y), dtype=bool)
    reason = _reason(data, everyone)
    estimates = None
    if not reason:
        known = [level for level in sorted(set(places)) if _tells(data, places == level)]
        keep = np.isin(places, known)
        part = _part(data, keep)
        model = _fit(part, _design(part, places[keep], known, interaction=False))
        if model is not None:
            estimates = [_estimate(model, len(known) + i) for i in range(len(data.arms) - 1)]
    return _rows(data, everyone, by, ALL, estimates, reason)


def _tells(data: _Data, here: NDArray[np.bool_]) -> bool:
    """Whether a stratum says anything of a common effect: one person, or one outcome of all, takes up its own mean."""
    y = data.y[here]
    return len(y) > 1 and not (data.kind == BINARY and (y == y[0]).all())


def _rows(
    data: _Data, here: NDArray[np.bool_], by: str, level: str, estimates: list[tuple[float, ...]] | None, reason: str
) -> list[dict[str, Any]]:
    if estimates is None and not reason:
        reason = "the model can't be fitted: too few persons, or an outcome that strata or baseline tell apart"
    control = data.y[here & (data.arm == 0)]
    rows = []
    for i, name in enumerate(data.arms[1:], start=1):
        y = data.y[here & (data.arm == i)]
        effect, error, low, high, p = (np.nan,) * 5 if estimates is None else estimates[i - 1]
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


def _interaction(data: _Data, levels: NDArray[Any], compared: list[str]) -> dict[str, Any]:
    keep = np.isin(levels, compared)
    part, places = _part(data, keep), levels[keep]
    full = _fit(part, _design(part, places, compared, interaction=True))
    n_arms = len(data.arms) - 1
    df = (len(compared) - 1) * n_arms
    if full is None:
        return {"df": df, "reason": "the model with treatment by stratum can't be fitted"}
    if data.kind == CONTINUOUS:
        first = len(compared)
        contrast = np.zeros((df, len(full.params)))
        for s in range(len(compared) - 1):
            for i in range(n_arms):
                contrast[s * n_arms + i, first + i] = -1
                contrast[s * n_arms + i, first + (s + 1) * n_arms + i] = 1
        test = full.f_test(contrast)
        return {"test": "Wald F, HC3", "statistic": float(np.squeeze(test.fvalue)), "df": df,
                "df_residual": float(full.df_resid), "p_value": float(np.squeeze(test.pvalue))}  # fmt: skip
    null = _fit(part, _design(part, places, compared, interaction=False))
    if null is None:
        return {"df": df, "reason": "the model without treatment by stratum can't be fitted"}
    statistic = max(float(null.deviance - full.deviance), 0.0)
    return {
        "test": "likelihood ratio",
        "statistic": statistic,
        "df": df,
        "p_value": float(stats.chi2.sf(statistic, df)),
    }
