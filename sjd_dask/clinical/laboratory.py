"""ESSDAI's haematological and biological domains from laboratory values: proposals, as intervals of levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask.clinical.definitions import Overrides, load_definition
from sjd_dask.clinical.kept import kept_by_sheet
from sjd_dask.clinical.measures import Measure, text_kept
from sjd_dask.clinical.reasons import missing_reason
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.clinical.threeway import above, all_of, at_least, at_most, below
from sjd_dask.errors import SpecError

DOMAINS = ("haematological", "biological")
_COMPARISONS = {"below": below, "at_most": at_most, "at_least": at_least, "above": above}


def _condition(sheet: Sheet, entry: Mapping[str, Any], rule: str) -> np.ndarray:
    """Whether a condition holds: 1, 0, NaN unknown."""
    column = entry.get("column")
    if not isinstance(column, str):
        raise SpecError(f"definition 'laboratory', rule {rule!r}: a condition names no column: {dict(entry)!r}")
    asked = [name for name in (*_COMPARISONS, "is") if name in entry]
    if len(asked) != 1:
        raise SpecError(
            f"definition 'laboratory', rule {rule!r}: the condition on {column!r} needs one of "
            f"{', '.join((*_COMPARISONS, 'is'))}, and has {', '.join(asked) or 'none'}"
        )
    values = sheet.number(column)
    if asked[0] == "is":
        answer = np.where(np.isnan(values), np.nan, (values == float(entry["is"])).astype(np.float64))
    else:
        answer = _COMPARISONS[asked[0]](values, float(entry[asked[0]]))
    if "if_missing" in entry:
        answer = np.where(np.isnan(answer), _condition(sheet, entry["if_missing"], rule), answer)
    return answer


def _deciding_column(entry: Mapping[str, Any]) -> str:
    """The column that would decide a condition; where one stands in for another, the last."""
    return _deciding_column(entry["if_missing"]) if "if_missing" in entry else str(entry["column"])


def _rules(sheet: Sheet, domain: str, definition: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], np.ndarray]]:
    """The domain's rules, each with its answer: 1, 0, NaN unknown."""
    rules = []
    for name, rule in definition[domain].items():
        level = rule.get("level")
        if isinstance(level, bool) or not isinstance(level, (int, float)) or not rule.get("when"):
            raise SpecError(f"definition 'laboratory', rule {name!r}: it needs a level and at least one condition")
        rules.append((rule, all_of(*(_condition(sheet, one, name) for one in rule["when"]))))
    return rules


@kept_by_sheet
def derived_levels(sheet: Sheet, *, domain: str, definitions: Overrides | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest level of a domain that the laboratory values allow.

    Parameters
    ----------
    sheet
        The visits.
    domain
        ``haematological`` or ``biological``.
    definitions
        ``laboratory`` counts here.

    Returns
    -------
    low, high
        (n,) levels. Without any value: 0 and the highest.

    References
    ----------
    ESSDAI's definitions of the two domains (K).
    """
    return _interval(sheet, _rules(sheet, domain, load_definition("laboratory", definitions)))


def _interval(sheet: Sheet, rules: list[tuple[Mapping[str, Any], np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.zeros(sheet.n), np.zeros(sheet.n)
    for rule, answer in rules:
        level = float(rule["level"])
        low[(answer == 1) & (low < level)] = level
        high[(answer != 0) & (high < level)] = level
    return low, high


def _open(sheet: Sheet, rules: list[tuple[Mapping[str, Any], np.ndarray]], low: np.ndarray) -> np.ndarray:
    """Which missing values leave the domain open, as texts."""
    absent: dict[str, np.ndarray] = {}
    for rule, answer in rules:
        matters = np.isnan(answer) & (float(rule["level"]) > low)
        for column in dict.fromkeys(_deciding_column(one) for one in rule["when"]):
            here = matters & np.isnan(sheet.number(column))
            absent[column] = absent[column] | here if column in absent else here
    return missing_reason(~np.array(list(absent.values())).T, list(absent))


def laboratory(sheet: Sheet, *, definitions: Overrides | None = None) -> pd.DataFrame:
    """The levels that laboratory values propose for ESSDAI's haematological and biological domains.

    Parameters
    ----------
    sheet
        The visits.
    definitions
        ``laboratory`` counts here.

    Returns
    -------
    pandas.DataFrame
        For each domain ``<domain>_proposed`` (NaN where the missing values leave it open), ``_min``, ``_max`` and
        ``_reason``. They are proposals: the autoimmune origin of a finding is not in the laboratory values.

    References
    ----------
    ESSDAI's definitions of the two domains (K).
    """
    definition = load_definition("laboratory", definitions)
    parts: dict[str, np.ndarray] = {}
    for domain in DOMAINS:
        rules = _rules(sheet, domain, definition)
        low, high = _interval(sheet, rules)
        parts[f"{domain}_proposed"] = np.where(low == high, low, np.nan)
        parts[f"{domain}_proposed_min"] = low
        parts[f"{domain}_proposed_max"] = high
        parts[f"{domain}_proposed_reason"] = _open(sheet, rules, low)
    return text_kept(parts)


def _result_columns() -> dict[str, tuple[str, str]]:
    columns: dict[str, tuple[str, str]] = {}
    for domain in DOMAINS:
        columns[f"{domain}_proposed"] = ("number", f"level of the {domain} domain that laboratory values propose")
        columns[f"{domain}_proposed_min"] = ("number", "least level under the missing values")
        columns[f"{domain}_proposed_max"] = ("number", "greatest level under the missing values")
        columns[f"{domain}_proposed_reason"] = ("text", "values that are missing to decide it; empty where none")
    return columns


MEASURE = Measure(
    name="laboratory",
    function=laboratory,
    title="ESSDAI's haematological and biological levels as laboratory values propose them",
    needs=(
        *("neutrophils", "haemoglobin", "platelets", "lymphocytes"),
        *("clonal_component", "c3", "c3_low", "c4", "c4_low", "ch50_low", "igg", "igg_recent_drop"),
        "cryoglobulinaemia",
    ),
    columns=_result_columns(),
)
