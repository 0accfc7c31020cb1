"""Who may enter a trial: yes, no or undetermined, and why, for each person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.clinical.reasons import by_pattern, join_reasons
from sjd_dask.clinical.threeway import negate
from sjd_dask.clinical.trials.criteria import evaluate, missing_columns, read_criterion

YES, NO, UNDETERMINED = "yes", "no", "undetermined"
PASS, FAIL, UNKNOWN = "pass", "fail", "unknown"
_IDS = (names.PERSON_ID, names.SAMPLE_ID, names.VISIT, names.DATE)


@dataclass(frozen=True)
class Rule:
    """One criterion of a protocol: a name, a query, and whether meeting it lets a person in or keeps one out."""

    name: str
    when: str
    kind: Literal["include", "exclude"] = "include"


@dataclass(frozen=True)
class Eligibility:
    """What became of everyone who was screened.

    Attributes
    ----------
    persons : DataFrame
        A row for each row screened, in order: the ids there are, ``eligible`` (yes, no, undetermined),
        ``first_failure``, ``failures`` and ``undetermined_by`` (text, empty where there is none), and
        ``criterion_<name>`` (pass, fail, unknown): an exclusion is passed by those it doesn't hold for.
    criteria : DataFrame
        A row for each criterion in order: ``criterion``, ``kind``, ``when``; each alone: ``screened``, ``passed``,
        ``failed``, ``unknown``; in sequence: ``entered`` (failed none before), ``failed_here``, ``left``, and of these
        ``left_certain`` (all known so far); ``failed_only_here``: failed this and no other.
    missing : DataFrame
        What to record to decide on the undetermined: ``item`` (of a score the item that its reason names, else the
        column), ``needed_for`` (columns of the criteria), ``undetermined`` (persons without it, on whom it bears),
        ``alone`` (persons for whom nothing else is missing).
    """

    persons: pd.DataFrame
    criteria: pd.DataFrame
    missing: pd.DataFrame

    @property
    def verdict(self) -> NDArray[Any]:
        """yes, no, undetermined, (n,)."""
        return self.persons["eligible"].to_numpy(dtype=object)


def eligibility(frame: pd.DataFrame, rules: Sequence[Rule]) -> Eligibility:
    """Judge every row by every criterion.

    A person is eligible when all are passed, not eligible as soon as one is failed, and undetermined else: what isn't
    recorded neither lets in nor keeps out. An unknown exclusion is never taken for absent.

    Parameters
    ----------
    frame : DataFrame (n rows)
        A row for each person to judge; the columns that the criteria name. See
        :func:`sjd_dask.clinical.trials.criteria.evaluate` for ranges of scores.
    rules : sequence of Rule
        Their names differ.

    Raises
    ------
    SpecError
        A criterion that can't be read or names an unknown column.
    """
    read = [read_criterion(rule.when, _key(rule)) for rule in rules]
    passed = np.ones((len(frame), len(rules)))
    for i, (rule, criterion) in enumerate(zip(rules, read, strict=True)):
        truth = evaluate(criterion, frame, _key(rule))
        passed[:, i] = truth if rule.kind == "include" else negate(truth)
    failed, unknown = passed == 0, np.isnan(passed)
    verdict = np.select([failed.any(axis=1), unknown.any(axis=1)], [NO, UNDETERMINED], YES).astype(object)
    open_rows = verdict == UNDETERMINED
    absent = [missing_columns(one, frame) for one in read]
    persons = frame[[name for name in _IDS if name in frame]].reset_index(drop=True).copy()
    persons["eligible"] = verdict
    labels = [rule.name for rule in rules]
    persons["first_failure"] = _first(failed, labels)
    persons["failures"] = _listed(failed, labels)
    persons["undetermined_by"] = _open_texts(frame, labels, unknown & open_rows[:, None], absent)
    words = np.array([FAIL, PASS, UNKNOWN], dtype=object)
    for i, label in enumerate(labels):
        persons[f"criterion_{label}"] = words[np.where(unknown[:, i], 2, passed[:, i]).astype(int)]
    return Eligibility(persons, _criteria(rules, passed), _to_record(frame, unknown & open_rows[:, None], absent))


def _key(rule: Rule) -> str:
    return f"{rule.kind} {rule.name!r}, when"


def _first(failed: NDArray[np.bool_], labels: list[str]) -> NDArray[Any]:
    place = np.where(failed.any(axis=1), failed.argmax(axis=1) if failed.shape[1] else 0, len(labels))
    return np.array([*labels, ""], dtype=object)[place]


def _listed(failed: NDArray[np.bool_], labels: list[str]) -> NDArray[Any]:
    texts = [np.array(["", label], dtype=object)[failed[:, i].astype(int)] for i, label in enumerate(labels)]
    return join_reasons(*texts) if texts else np.full(len(failed), "", dtype=object)


def _criteria(rules: Sequence[Rule], passed: NDArray[np.float64]) -> pd.DataFrame:
    rows = []
    inside = np.ones(len(passed), dtype=bool)
    certain = inside.copy()
    n_failed = (passed == 0).sum(axis=1)
    for i, rule in enumerate(rules):
        one = passed[:, i]
        entered = int(inside.sum())
        here = inside & (one == 0)
        inside = inside & ~here
        certain = certain & (one == 1)
        rows.append(
            {
                "criterion": rule.name, "kind": rule.kind, "when": rule.when, "screened": len(one),
                "passed": int((one == 1).sum()), "failed": int((one == 0).sum()), "unknown": int(np.isnan(one).sum()),
                "entered": entered, "failed_here": int(here.sum()), "left": int(inside.sum()),
                "left_certain": int(certain.sum()), "failed_only_here": int(((one == 0) & (n_failed == 1)).sum()),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _open_texts(
    frame: pd.DataFrame, labels: list[str], unknown: NDArray[np.bool_], absent: list[pd.DataFrame]
) -> NDArray[Any]:
    """``active disease: essdai (missing: renal); adult: age`` for the undetermined."""
    parts = []
    for i, label in enumerate(labels):
        rows = np.flatnonzero(unknown[:, i])
        if not rows.size:
            continue
        columns = list(map(str, absent[i]))
        codes: list[NDArray[Any]] = [absent[i][name].to_numpy()[rows] for name in columns]
        said: list[list[str]] = []
        for name in columns:
            values = _reasons(frame, name).iloc[rows]
            inner, texts = pd.factorize(values.fillna("").astype(str))
            codes.append(inner)
            said.append(list(map(str, texts)))

        def text(*code: int, columns: list[str] = columns, said: list[list[str]] = said, label: str = label) -> str:
            gone = []
            for j, name in enumerate(columns):
                why = said[j][code[len(columns) + j]]
                gone += [f"{name} ({why})" if why else name] if code[j] else []
            return f"{label}: {', '.join(gone)}" if gone else label

        column = np.full(len(frame), "", dtype=object)
        column[rows] = by_pattern(codes, text) if codes else label
        parts.append(column)
    return join_reasons(*parts) if parts else np.full(len(frame), "", dtype=object)


def _reasons(frame: pd.DataFrame, name: str) -> pd.Series:
    """Why a score, or a state that follows from one (``axis1_state``, ``acr_eular_class``), is open."""
    for reason in (f"{name}_reason", f"{name.rpartition('_')[0]}_reason"):
        if reason in frame:
            found: pd.Series = frame[reason]
            return found
    return pd.Series("", index=frame.index)


def _to_record(frame: pd.DataFrame, unknown: NDArray[np.bool_], absent: list[pd.DataFrame]) -> pd.DataFrame:
    """Items that the undetermined lack: of a score those that its reason names, else the column itself."""
    wanted: dict[str, NDArray[np.bool_]] = {}
    purpose: dict[str, list[str]] = {}
    for i, columns in enumerate(absent):
        for name in map(str, columns):
            rows = np.flatnonzero(unknown[:, i] & columns[name].to_numpy())
            codes, texts = pd.factorize(_reasons(frame, name).iloc[rows].fillna("").astype(str))
            for code, text in enumerate(texts):
                for item in _items(text) or [name]:
                    mask = wanted.setdefault(item, np.zeros(len(frame), dtype=bool))
                    mask[rows[codes == code]] = True
                    if name not in purpose.setdefault(item, []):
                        purpose[item].append(name)
    several = sum((mask.astype(int) for mask in wanted.values()), np.zeros(len(unknown), dtype=int))
    made = [
        {"item": item, "needed_for": ", ".join(purpose[item]), "undetermined": int(mask.sum()),
         "alone": int((mask & (several == 1)).sum())}
        for item, mask in wanted.items()
    ]  # fmt: skip
    table = pd.DataFrame(made, columns=["item", "needed_for", "undetermined", "alone"])
    return table.sort_values("undetermined", ascending=False, kind="stable").reset_index(drop=True)


def _items(reason: str) -> list[str]:
    """``missing: renal, biological; ...`` as names."""
    found = [part.partition("missing: ")[2] for part in reason.split("; ") if "missing: " in part]
    return list(dict.fromkeys(item.strip() for part in found for item in part.split(", ")))
