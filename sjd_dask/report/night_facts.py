"""What a night did, as plain data: the JSON report, from which the page is drawn too."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from sjd_dask import names
from sjd_dask.report.suppress import suppress

# Reasons in the order of the page.
REASONS = {
    "new_person": "a person seen for the first time",
    "new_visit": "a new visit of a known person",
    "new_data": "corrected values or sample columns",
    "new_model": "another model in production",
    "threshold": "the same numbers under other thresholds, margin or eligibility",
    "withdrawn": "withdrawn",
    "rollback": "an earlier night was taken back",
}
MOST_VARIABLES, MOST_PERSONS, MOST_FILES = 400, 500, 200
FORMAT = 1
_COUNTED = re.compile(r"\b(\d[\d,]*) samples?\b")


def night_report(
    meta: Mapping[str, Any],
    tables: Mapping[str, pd.DataFrame],
    *,
    suppress_below: int | None = None,
    persons: bool = False,
) -> dict[str, Any]:
    """The facts of one ``changes/NAME``, ready for JSON.

    Parameters
    ----------
    meta : mapping
        The result's facts; every key is optional. ``model``, ``previous_model``, ``eligible``, ``margin``,
        ``suppress_below``, ``warnings``, ``cohort``, ``run``, ``spec`` as other results have them, and ``night``:

        - ``arrivals``: list of ``{file, assay, n_new, n_replaced, n_unchanged, n_withdrawn}``, the last being samples
          of withdrawn people that were left out;
        - ``sheets``: list of ``{file, n_samples}``;
        - ``quarantined``: list of ``{file, reason}``; ``waiting``: list of file names;
        - ``n_samples``, ``n_scored``: of the whole table, and computed tonight;
        - ``statuses``, ``previous_statuses``: samples by status; ``calls``, ``previous_calls``: persons by reported
          call (the previous ones absent on the first night);
        - ``drift``: ``{level, messages, accepted, limits}``, the last being its settings (default: those of the spec).
    tables : mapping of DataFrame
        ``table`` (the columns of ``changes/NAME``), and ``drift`` (of a drift report) where the night was watched.
    suppress_below : int, optional
        Counts below it aren't in the report; default: as the night was told, else 5.
    persons : bool
        List the persons too. Counts are given in full then: a list can be counted.

    Returns
    -------
    dict
        A count that isn't shown is None.
    """
    below = 1 if persons else int(suppress_below or meta.get("suppress_below") or 5)
    night: Mapping[str, Any] = meta.get("night") or {}
    table = tables["table"]
    report = {
        "format": FORMAT,
        "result": str(meta.get("reference") or names.CHANGES),
        "title": str(meta.get("title") or meta.get("reference") or names.CHANGES),
        "model": meta.get("model"),
        "previous_model": meta.get("previous_model"),
        "eligible": meta.get("eligible"),
        "margin": meta.get("margin"),
        "cohort": dict(meta.get("cohort") or {}),
        "run": dict(meta.get("run") or {}),
        "warnings": _warnings(meta, night, below, persons),
        "suppress_below": below,
        "names_persons": persons,
        "n_samples": night.get("n_samples"),
        "n_scored": _one(night.get("n_scored"), below),
        **_arrivals(night, below, persons),
        "statuses": _both(night.get("statuses"), night.get("previous_statuses"), "status", below),
        "reported": _both(night.get("calls"), night.get("previous_calls"), "call", below),
        "changes": _changes(table, below),
        "drift": _drift(night.get("drift") or {}, tables.get("drift"), (meta.get("spec") or {}).get("drift"), below),
    }
    if persons:
        # Those of whom something else was reported before come first: of a first night all others are new.
        before = table["reported_before"]
        told = before.notna() & (before != table["reported_call"])
        report["persons"] = _records(pd.concat([table[told], table[~told]]).head(MOST_PERSONS))
        report["n_persons_listed"], report["n_rows"] = min(len(table), MOST_PERSONS), len(table)
    return report


def night_json(report: Mapping[str, Any]) -> str:
    """The report as JSON text; numbers that aren't finite are null."""
    return json.dumps(_plain(report), indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"


def person_of(table: pd.DataFrame) -> pd.Series:
    """The person of each row; a sample without one is a person of its own."""
    return table[names.PERSON_ID].where(table[names.PERSON_ID].notna(), table[names.SAMPLE_ID])


def _one(n: Any, below: int) -> int | None:
    return None if n is None or 0 < int(n) < below else int(n)


def _warnings(meta: Mapping[str, Any], night: Mapping[str, Any], below: int, persons: bool) -> list[str]:
    """What the run warned of, without what other parts say, and without ids and counts of few."""
    found = []
    for one in meta.get("warnings") or []:
        text = str(one)
        if text.startswith("drift: ") and night.get("drift"):
            continue
        if not persons:
            # Reasons may name samples: of a file in quarantine it lies beside it.
            if " goes to quarantine: " in text:
                continue
            file, waits, _ = text.partition(" waits in the inbox: ")
            text = f"{file}{waits.removesuffix(': ')}"
            text = _COUNTED.sub(lambda match: f"fewer than {below} samples" if _few(match, below) else match[0], text)
        found.append(text)
    return found


def _few(match: re.Match[str], below: int) -> bool:
    return 0 < int(match[1].replace(",", "")) < below


def _arrivals(night: Mapping[str, Any], below: int, persons: bool) -> dict[str, Any]:
    rows = [dict(one) for one in night.get("arrivals") or []]
    kinds = ("n_new", "n_replaced", "n_unchanged", "n_withdrawn")
    totals = {kind: sum(int(one.get(kind) or 0) for one in rows) for kind in kinds}
    for one in rows:
        # How many samples a file holds is said nowhere: what is hidden is no remainder.
        one.update({kind: _one(one.get(kind) or 0, below) for kind in kinds})
    # The reason of a refusal names samples.
    aside = [
        {"file": str(one.get("file"))} | ({"reason": str(one.get("reason") or "")} if persons else {})
        for one in night.get("quarantined") or []
    ]
    sheets = [
        {"file": str(one.get("file")), "n_samples": _one(one.get("n_samples"), below)}
        for one in night.get("sheets") or []
    ]
    # A total would give a hidden count away.
    hides = {kind: any(one[kind] is None for one in rows) for kind in kinds}
    return {
        "arrived": {kind: None if hides[kind] else totals[kind] for kind in kinds},
        "arrivals": rows[:MOST_FILES],
        "n_files": len(rows),
        "sheets": sheets[:MOST_FILES],
        "quarantined": aside[:MOST_FILES],
        "n_quarantined": len(aside),
        "waiting": [str(one) for one in night.get("waiting") or []][:MOST_FILES],
    }


def _both(now: Any, before: Any, key: str, below: int) -> list[dict[str, Any]]:
    """Counts by status or call, tonight and the night before."""
    now, before = dict(now or {}), None if before is None else dict(before)
    order = [one for one in names.CALL_STATUSES if one in now or one in (before or {})]
    order += sorted({*now, *(before or {})} - set(order), key=str)
    shown, _ = suppress({one: int(now.get(one, 0)) for one in order}, below)
    rows: list[dict[str, Any]] = [{key: one, "n": shown[one]} for one in order]
    if before is not None:
        earlier, _ = suppress({one: int(before.get(one, 0)) for one in order}, below)
        for row in rows:
            row["before"] = earlier[row[key]]
    return rows


def _changes(table: pd.DataFrame, below: int) -> dict[str, Any]:
    """Rows by reason, and persons by what was and is reported of them."""
    reasons = Counter(str(one) for one in table["reason"])
    order = [one for one in REASONS if one in reasons] + sorted(set(reasons) - set(REASONS))
    by_reason, total = suppress({one: reasons[one] for one in order}, below)
    known = table[table[names.SAMPLE_ID].notna()]
    calls = known[["reported_before", "reported_call"]].astype(object)
    calls = calls.where(calls.notna(), None)
    flows: Counter[tuple[str | None, str | None]] = Counter()
    for _, old, new in {
        (person, old, new)
        for person, old, new in zip(person_of(known), calls["reported_before"], calls["reported_call"], strict=True)
        if old != new
    }:
        flows[old, new] += 1
    moved, n_moved = suppress(dict(sorted(flows.items(), key=lambda one: (-one[1], str(one[0])))), below)
    return {
        "n_rows": total,
        "reasons": [{"reason": one, "n": by_reason[one]} for one in order],
        "n_persons": n_moved,
        "reported": [{"from": old, "to": new, "persons": n} for (old, new), n in moved.items()],
    }


def _drift(
    facts: Mapping[str, Any], table: pd.DataFrame | None, limits: Mapping[str, Any] | None, below: int
) -> dict[str, Any] | None:
    if not facts and table is None:
        return None
    found: dict[str, Any] = {
        "level": str(facts.get("level") or "none"),
        "accepted": bool(facts.get("accepted")),
        "messages": [str(one) for one in facts.get("messages") or []],
        "limits": dict(facts.get("limits") or limits or {}),
        "variables": [],
    }
    if table is not None and len(table):
        ranked = table.assign(_order=table["level"].map({"hold": 0, "warn": 1}).fillna(2))
        ranked = ranked.sort_values(["_order", "psi"], ascending=[True, False], kind="stable").drop(columns="_order")
        found["variables"] = [_unless_few(row, below) for row in _records(ranked.head(MOST_VARIABLES))]
        found["n_variables"] = len(table)
    return found


def _unless_few(row: dict[str, Any], below: int) -> dict[str, Any]:
    """A row of the watch without the share of a status that few samples have."""
    if row["kind"] == "status" and row["share"] is not None and 0 < round(row["share"] * row["n_samples"]) < below:
        row["share"] = row["p_value"] = None
    return row


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    plain = table.astype(object)
    rows: list[dict[str, Any]] = plain.where(plain.notna(), None).to_dict("records")  # type: ignore[assignment]
    return rows


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
