"""Response to treatment: STAR, CRESS, and change between a visit and its baseline.

References
----------
STAR: Seror et al. 2022 (P). CRESS: Arends et al. 2021 (S; fewer than three evaluable items, P). Improvement and
acceptable state: Seror et al. 2016 (P). The rules are in ``definitions/star.yaml``, ``cress.yaml`` and ``change.yaml``,
each with its own mark; their eye cut-offs are not those of the classification criteria.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.clinical.definitions import Overrides, did_you_mean, load_definition
from sjd_dask.clinical.measures import Measure, find_measure, interval_columns
from sjd_dask.clinical.reasons import join_reasons, missing_reason
from sjd_dask.clinical.response_rules import EXACT_ONLY, Interval, judge
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.clinical.threeway import any_of, bounds
from sjd_dask.clinical.visits import Baselines, sheet_baselines
from sjd_dask.errors import SpecError

Floats = NDArray[np.float64]

YES, NO, UNDETERMINED = "yes", "no", "undetermined"
_ANSWERS = np.array([NO, YES, UNDETERMINED], dtype=object)
_EYES = ("right", "left")
# What becomes of a test that the sheet has no column for, beside one that it has.
LEFT_OUT, UNKNOWN = "left_out", "unknown"
# Measures whose tests are alternatives within domains.
RESPONSES = ("star", "cress")
_KEPT: WeakKeyDictionary[Sheet, dict[str, Interval]] = WeakKeyDictionary()


def star(sheet: Sheet, *, baseline: str | None = None, definitions: Overrides | None = None) -> pd.DataFrame:
    """Sjögren's Tool for Assessing Response: 0 to 9 points, a responder at 5 or more.

    Parameters
    ----------
    sheet : Sheet
        n rows, with `person_id` and what orders a person's visits.
    baseline : str, optional
        Query of the rows that are baselines; default: each person's earliest visit.
    definitions : mapping, optional
        ``{"star": FILE}`` lays a file over the shipped rules; one that says ``tests: {oss: null}`` leaves a test out.

    Returns
    -------
    DataFrame, n rows
        ``star`` and its bounds, ``star_responder`` (yes, no, undetermined), ``star_<domain>`` (1, 0, missing),
        ``star_baseline`` (its sample id) and ``star_reason``. A row that follows no baseline has no response: its
        columns are missing, no item is asked of it, and the reason says why.

    Raises
    ------
    SpecError
        No `person_id`; a definition with an unknown rule, domain, measure or column.
    DataError
        A person whose baseline is not clear.

    Notes
    -----
    Missing: a domain is met when one of its tests is met, not met when all are known and none is met, else unknown. An
    unknown domain counts 0 in ``star_min`` and its points in ``star_max``. A test whose column the sheet doesn't have,
    beside another of its domain, was not planned and is left out (``unplanned`` in the table); an empty one is unknown.
    The mean of both eyes is known when both eyes are, or when the sheet has one value a visit. A normal eye that stays
    normal earns its point. From a salivary flow of 0 any rise counts; a relative drop from 0 is never met.

    References
    ----------
    Seror et al. 2022, table 3 (P).
    """
    return _respond(sheet, "star", baseline, definitions)


def cress(sheet: Sheet, *, baseline: str | None = None, definitions: Overrides | None = None) -> pd.DataFrame:
    """Composite of Relevant Endpoints for Sjögren's Syndrome: 0 to 5 items, a responder at 3 or more.

    Parameters
    ----------
    sheet, baseline, definitions
        As for `star`; the definition is ``cress``.

    Returns
    -------
    DataFrame, n rows
        As for `star`, and ``cress_evaluable``: items of which at least one test is known. With fewer than three the
        person is no responder, as published, whatever the bounds leave open; the reason says so.

    Raises
    ------
    SpecError, DataError
        As `star`.

    Notes
    -----
    Missing: as for `star`, but for the rule on evaluable items.

    References
    ----------
    Arends et al. 2021: items and responder (S), fewer than three evaluable items (P), eye cut-offs (K).
    """
    return _respond(sheet, "cress", baseline, definitions)


def change(sheet: Sheet, *, baseline: str | None = None, definitions: Overrides | None = None) -> pd.DataFrame:
    """Change from baseline, minimal important improvement, and acceptable state.

    Parameters
    ----------
    sheet, baseline, definitions
        As for `star`; the definition is ``change``.

    Returns
    -------
    DataFrame, n rows
        For each measure of the definition: ``<m>_change`` with bounds (follow-up minus baseline: an improvement is
        negative), ``<m>_improved`` and, at every visit, ``<m>_acceptable_state`` (yes, no, undetermined); then
        ``change_baseline`` and ``change_reason``.

    Raises
    ------
    SpecError, DataError
        As `star`.

    Notes
    -----
    Missing: the bounds of a change are those of its two scores, taken apart; an improvement is decided when both
    corners agree.

    References
    ----------
    Seror et al. 2016: improvement of ESSDAI by 3, of ESSPRI by 1 point or 15 %; ESSDAI and ESSPRI below 5 (P).
    ClinESSDAI by 3 (K).
    """
    rules = load_definition("change", definitions)
    pairs = _pairs(sheet, "change", baseline)
    columns: dict[str, Any] = {}
    known = {}
    for measure in _measures_of(rules["improvement"].values()):
        base, follow = pairs.of(_score(sheet, measure, definitions))
        least, most = follow.low - base.high, follow.high - base.low
        known[measure] = least == most
        columns[f"{measure}_change"] = pairs.spread(np.where(known[measure], least, np.nan))
        columns[f"{measure}_change_min"], columns[f"{measure}_change_max"] = pairs.spread(least), pairs.spread(most)
        tests = {key: one for key, one in rules["improvement"].items() if one["measure"] == measure}
        met = any_of(*(judge(key, one, base, follow) for key, one in tests.items()))
        columns[f"{measure}_improved"] = pairs.spread(_answers(met))
    for key, one in rules.get("acceptable", {}).items():
        here = _score(sheet, one["measure"], definitions)
        columns[f"{one['measure']}_acceptable_state"] = _answers(judge(key, one, here, here))
    columns["change_baseline"] = pairs.baseline_ids(sheet)
    columns["change_reason"] = pairs.reasons(missing_reason(np.stack(list(known.values()), axis=1), list(known)))
    return _table(columns)


def left_out_tests(sheet: Sheet, name: str, definitions: Overrides | None = None) -> dict[str, str]:
    """Tests that the sheet has no column for, while it has one for another test of the same domain.

    Parameters
    ----------
    sheet : Sheet
    name : str
        ``star`` or ``cress``; its ``unplanned`` says what becomes of such tests.
    definitions
        As for `star`.

    Returns
    -------
    dict
        Test -> its domain, for those that are left out.
    """
    rules = load_definition(name, definitions)
    rule = rules.get("unplanned", {}).get("test", UNKNOWN)
    if rule not in (LEFT_OUT, UNKNOWN):
        raise SpecError(f"definition {name!r}: unplanned: test is {LEFT_OUT!r} or {UNKNOWN!r}, not {rule!r}")
    if rule == UNKNOWN:
        return {}
    there = {key: _has_column(sheet, test) for key, test in rules["tests"].items()}
    planned = {test.get("domain") for key, test in rules["tests"].items() if there[key]}
    return {
        key: str(test["domain"])
        for key, test in rules["tests"].items()
        if not there[key] and test.get("domain") in planned
    }


def _has_column(sheet: Sheet, test: Mapping[str, Any]) -> bool:
    column = test.get("column")
    if not isinstance(column, str):
        return True
    return any(sheet.has(one) for one in (column, *(f"{column}_{eye}" for eye in _EYES if test.get("eyes"))))


def _respond(sheet: Sheet, name: str, baseline: str | None, definitions: Overrides | None) -> pd.DataFrame:
    rules = load_definition(name, definitions)
    pairs = _pairs(sheet, name, baseline)
    domains = rules["domains"]
    flags: dict[str, list[Floats]] = {domain: [] for domain in domains}
    left_out = left_out_tests(sheet, name, definitions)
    for key, test in rules["tests"].items():
        if test.get("domain") not in flags:
            raise SpecError(
                f"definition {name!r}, test {key!r}: no domain {test.get('domain')!r}"
                f"{did_you_mean(str(test.get('domain')), flags)}; there are {', '.join(flags)}"
            )
        quantity = _quantity(sheet, f"definition {name!r}, test {key!r}", test, definitions)
        if key not in left_out:
            flags[test["domain"]].append(judge(key, test, *pairs.of(quantity)))
    nothing = np.full(len(pairs.rows), np.nan)
    met = {domain: any_of(*tests) if tests else nothing for domain, tests in flags.items()}
    least, most = bounds(*met.values(), weights=[float(one["points"]) for one in domains.values()])
    known = np.stack([~np.isnan(flag) for flag in met.values()], axis=1)
    cut = rules["responder"]["at_least"]
    answer = np.where(least >= cut, 1.0, np.where(most < cut, 0.0, np.nan))
    reason = missing_reason(known, list(met))
    columns: dict[str, Any] = {
        name: np.where(least == most, least, np.nan),
        f"{name}_min": least,
        f"{name}_max": most,
        f"{name}_known": known.sum(axis=1),
        f"{name}_items": np.full(len(least), len(domains)),
    }
    if "evaluable" in rules:
        evaluable = np.sum([_any_known(tests, len(answer)) for tests in flags.values()], axis=0)
        columns[f"{name}_evaluable"] = evaluable
        few = evaluable < rules["evaluable"]["at_least"]
        answer, said = _impute(name, rules["evaluable"], few, answer, len(domains))
        reason[few] = join_reasons(np.full(few.sum(), said, dtype=object), reason[few])
    columns[f"{name}_responder"] = _answers(answer)
    columns.update({f"{name}_{domain}": flag for domain, flag in met.items()})
    columns = {key: pairs.spread(one) for key, one in columns.items()}
    columns[f"{name}_baseline"] = pairs.baseline_ids(sheet)
    columns[f"{name}_reason"] = pairs.reasons(reason)
    return _table(columns)


@dataclass(frozen=True)
class _Pairs:
    """The visits that follow a baseline, k of n rows, each with it: only they have a response."""

    found: Baselines
    rows: NDArray[np.int64]
    base: NDArray[np.int64]

    def of(self, quantity: Interval) -> tuple[Interval, Interval]:
        """A quantity at baseline and at follow-up, (k,) each."""
        return self._taken(quantity, self.base), self._taken(quantity, self.rows)

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values of the k visits on all n rows; missing, or 0 of a count, on the others."""
        empty: Any = None if values.dtype == object else np.nan if values.dtype.kind == "f" else 0
        result = np.full(len(self.found.position), empty, dtype=values.dtype)
        result[self.rows] = values
        return result

    def reasons(self, reason: NDArray[np.object_]) -> NDArray[np.object_]:
        """Why there is no response, or what is missing of it, (n,)."""
        result = self.found.reason.copy()
        result[self.rows] = reason
        return result

    def baseline_ids(self, sheet: Sheet) -> NDArray[np.object_]:
        """The sample id of each row's baseline, (n,); a baseline's own."""
        position = self.found.position
        some = np.flatnonzero(position >= 0)
        result = np.full(len(position), None, dtype=object)
        result[some] = sheet.frame[names.SAMPLE_ID].to_numpy(dtype=object)[position[some]]
        return result

    @staticmethod
    def _taken(quantity: Interval, rows: NDArray[np.int64]) -> Interval:
        low = quantity.low[rows]
        return Interval(low, low if quantity.high is quantity.low else quantity.high[rows])


def _table(columns: dict[str, Any]) -> pd.DataFrame:
    """Text stays objects, missing None, whatever the rows hold: parts of a sheet have columns of one type."""
    return pd.DataFrame({key: pd.Series(one, dtype=one.dtype) for key, one in columns.items()})


def _impute(
    name: str, rule: Mapping[str, Any], few: NDArray[np.bool_], answer: Floats, n_items: int
) -> tuple[Floats, str]:
    """The published answer where too few items can be evaluated, and the words that say so."""
    otherwise = rule["otherwise"]
    if otherwise not in (NO, UNDETERMINED):
        raise SpecError(f"definition {name!r}: evaluable: otherwise is {NO!r} or {UNDETERMINED!r}, not {otherwise!r}")
    said = f"fewer than {rule['at_least']} of {n_items} items can be evaluated: counted as {otherwise}"
    return np.where(few, 0.0 if otherwise == NO else np.nan, answer), said


def _pairs(sheet: Sheet, name: str, baseline: str | None) -> _Pairs:
    if not sheet.has(names.PERSON_ID):
        raise SpecError(
            f"{name} compares the visits of a person, and the sheet has no column 'person_id'{_near(sheet)}"
        )
    found = sheet_baselines(sheet, baseline)
    rows = np.flatnonzero(found.follows)
    return _Pairs(found, rows, found.position[rows])


def _near(sheet: Sheet) -> str:
    return did_you_mean(names.PERSON_ID, sheet.unknown)


def _quantity(sheet: Sheet, where: str, test: Mapping[str, Any], definitions: Overrides | None) -> Interval:
    """What a test reads: a score with its bounds, or a measurement."""
    if "measure" in test:
        if test.get("rule") in EXACT_ONLY:
            raise SpecError(f"{where}: rule {test['rule']!r} is for a column, not for a measure with bounds")
        return _score(sheet, test["measure"], definitions)
    if "column" not in test:
        raise SpecError(f"{where}: name what it reads as 'measure' or 'column'")
    if test.get("eyes") not in (None, "mean"):
        raise SpecError(f"{where}: eyes: {test['eyes']!r} is not known here; both eyes enter as their 'mean'")
    return Interval.exact(_mean_of_eyes(sheet, test["column"]) if test.get("eyes") else sheet.number(test["column"]))


def _mean_of_eyes(sheet: Sheet, column: str) -> Floats:
    """The mean of both eyes where both are known, else the one value of the visit."""
    right, left = (sheet.number(f"{column}_{eye}") for eye in _EYES)
    both = (right + left) / 2
    return np.where(np.isnan(both), sheet.number(column), both)


def _score(sheet: Sheet, measure: str, definitions: Overrides | None) -> Interval:
    """The bounds of a score; found once for a sheet where the user gave no definitions."""
    kept = {} if definitions else _KEPT.setdefault(sheet, {})
    if measure not in kept:
        found = find_measure(measure).function(sheet, definitions=definitions)
        low, high = (found[f"{measure}_{end}"].to_numpy(dtype=np.float64) for end in ("min", "max"))
        kept[measure] = Interval(low, high)
    return kept[measure]


def _any_known(tests: Iterable[Floats], n: int) -> NDArray[np.int64]:
    known = np.zeros(n, dtype=bool)
    for one in tests:
        known |= ~np.isnan(one)
    return known.astype(np.int64)


def _answers(flag: Floats) -> NDArray[np.object_]:
    return _ANSWERS[np.where(np.isnan(flag), 2, flag).astype(np.int8)]


def _measures_of(tests: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(one["measure"] for one in tests))


_DOMAINS = ("constitutional", "lymphadenopathy", "glandular", "articular", "cutaneous", "pulmonary", "renal",
            "muscular", "peripheral_nervous_system", "central_nervous_system", "haematological")  # fmt: skip
_ESSPRI = ("esspri", "dryness", "fatigue", "pain")
_GLANDS = ("schirmer", "schirmer_right", "schirmer_left", "oss", "oss_right", "oss_left", "saliva_unstimulated",
           "sgus_hocevar")  # fmt: skip
_RESPONSE_NEEDS = ("clinessdai", *_DOMAINS, *_ESSPRI, *_GLANDS, "igg", "rf")


def _response_columns(name: str, title: str, domains: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    return {
        **interval_columns(name, title),
        f"{name}_responder": ("text", "yes, no or undetermined; missing for a visit that follows no baseline"),
        **{f"{name}_{domain}": ("flag", f"{words}: 1 met, 0 not met") for domain, words in domains.items()},
        f"{name}_baseline": ("text", "sample_id of the baseline"),
    }


_WORDS = {
    "systemic": "systemic activity", "patient_reported": "patient-reported outcome", "lacrimal": "lacrimal gland",
    "salivary": "salivary gland", "biological": "biological",
}  # fmt: skip
STAR = Measure(
    "star", star, "STAR: response against baseline", by_person=True, needs=_RESPONSE_NEEDS,
    columns=_response_columns("star", "STAR points, 0-9", _WORDS),
)  # fmt: skip
CRESS = Measure(
    "cress", cress, "CRESS: response against baseline", by_person=True, needs=_RESPONSE_NEEDS,
    columns={
        **_response_columns("cress", "CRESS items met, 0-5", _WORDS),
        "cress_evaluable": ("integer", "items of which at least one test is known"),
    },
)  # fmt: skip
CHANGE = Measure(
    "change", change, "Change from baseline, improvement, acceptable state", by_person=True,
    needs=("essdai", "clinessdai", *_DOMAINS, "biological", *_ESSPRI),
    columns={
        **{
            column: described
            for measure in ("essdai", "clinessdai", "esspri")
            for column, described in {
                f"{measure}_change": ("number", f"{measure}: follow-up minus baseline, negative is better"),
                f"{measure}_change_min": ("number", f"{measure}: least change under the missing items"),
                f"{measure}_change_max": ("number", f"{measure}: greatest change under the missing items"),
                f"{measure}_improved": ("text", f"{measure}: minimal important improvement; yes, no or undetermined"),
            }.items()
        },
        **{
            f"{measure}_acceptable_state": ("text", f"{measure} in its acceptable state at this visit")
            for measure in ("essdai", "esspri")
        },
        "change_baseline": ("text", "sample_id of the baseline"),
        "change_reason": ("text", "why a change is missing; empty where none is"),
    },
)  # fmt: skip
