"""The page of a night: what arrived, who changed and why, what became of every sample, and whether the data drift."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sjd_dask.report import facts
from sjd_dask.report.format import count, number, spec_text
from sjd_dask.report.layer_facts import Rows
from sjd_dask.report.night_facts import REASONS
from sjd_dask.report.page import TEMPLATES, Picture, environment, picture_uri
from sjd_dask.report.suppress import short

MOST_DRAWN, MOST_LISTED = 40, 60
LEVELS = {
    "none": ("no", "drift seen"),
    "warn": ("Drift", "seen, published with a warning"),
    "hold": ("Drift", "seen, held back"),
}
KINDS = {"feature": "feature", "score": "score", "status": "share of a status", "panel": "panel"}


def render_night(report: Mapping[str, Any], spec: Mapping[str, Any] | None = None) -> str:
    """The page of one ``changes/NAME``.

    Parameters
    ----------
    report : mapping
        From :func:`sjd_dask.report.night_facts.night_report`.
    spec : mapping, optional
        The spec of the night.

    Returns
    -------
    str
        HTML that fetches nothing and runs nothing. User text is escaped.
    """
    below = int(report["suppress_below"])
    return (
        environment()
        .get_template("night.html.j2")
        .render(
            title=report["title"],
            reference=report["result"],
            export_name=str(report["result"]).split("@")[0].split("/")[-1],
            cohort_path=str(report["cohort"].get("path") or "COHORT"),
            style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
            warnings=_warnings(report),
            cards=_cards(report),
            below=below if below > 1 else None,
            reasons=_reasons(report["changes"]),
            moves=_moves(report["changes"]),
            arrivals=_arrivals(report),
            sheets=[(one["file"], short(one["n_samples"])) for one in report["sheets"]],
            quarantined=[(one["file"], one.get("reason", "")) for one in report["quarantined"]],
            n_quarantined=report["n_quarantined"],
            waiting=report["waiting"],
            statuses=_both(report["statuses"], "status", "Samples"),
            status_picture=_status_picture(report["statuses"]),
            reported=_both(report["reported"], "call", "Persons"),
            drift=report["drift"],
            drift_rows=_drift_rows(report["drift"]),
            drift_picture=_drift_picture(report["drift"]),
            persons=_persons(report),
            what=_what(report),
            where=facts.of_cohort(report),
            provenance=facts.provenance(report),
            spec=spec_text(spec) if spec else "",
        )
    )


def _warnings(report: Mapping[str, Any]) -> list[str]:
    drift = report["drift"] or {}
    found = list(report["warnings"])
    if drift.get("level") == "hold" and drift.get("accepted"):
        found.append("Drift would have held this night back; it was published because somebody accepted it.")
    if drift.get("level") in ("warn", "hold"):
        found += [one for one in drift["messages"] if one not in found]
    if report["n_quarantined"]:
        noun = "file was" if report["n_quarantined"] == 1 else "files were"
        found.append(f"{count(report['n_quarantined'])} {noun} put into quarantine and not read.")
    return found


def _cards(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    arrived, changes, drift = report["arrived"], report["changes"], report["drift"]
    cards = [(short(arrived["n_new"]), "new samples", f"{short(arrived['n_replaced'])} corrected")]
    if report["n_scored"] is not None or report["n_samples"] is not None:
        of = f"of {count(report['n_samples'])} samples" if report["n_samples"] is not None else ""
        cards.append((short(report["n_scored"]), "samples scored tonight", of))
    # New persons have no report to change.
    cards.append((short(changes["n_persons"]), "persons reported otherwise", "than before, new ones included"))
    if drift is not None:
        value, noun = LEVELS[drift["level"]]
        if drift["level"] == "hold" and drift["accepted"]:
            noun = "seen, and accepted"
        cards.append((value, noun, ""))
    if report["n_quarantined"]:
        noun = "file" if report["n_quarantined"] == 1 else "files"
        cards.append((count(report["n_quarantined"]), f"{noun} in quarantine", ""))
    return cards


def _reasons(changes: Mapping[str, Any]) -> Rows | None:
    rows = [[one["reason"], REASONS.get(one["reason"], ""), short(one["n"])] for one in changes["reasons"]]
    return Rows([("reason", False), ("meaning", False), ("rows", True)], rows, len(rows)) if rows else None


def _moves(changes: Mapping[str, Any]) -> Rows | None:
    rows = [
        [one["from"] or "nothing", one["to"] or "nothing", short(one["persons"])]
        for one in changes["reported"][:MOST_LISTED]
    ]
    columns = [("reported before", False), ("reported now", False), ("persons", True)]
    return Rows(columns, rows, len(changes["reported"])) if rows else None


def _arrivals(report: Mapping[str, Any]) -> Rows | None:
    columns = [("file", False), ("assay", False), ("new", True), ("corrected", True), ("unchanged", True),
               ("of withdrawn people", True)]  # fmt: skip
    rows = [
        [str(one.get("file", "")), str(one.get("assay", ""))]
        + [short(one[kind]) for kind in ("n_new", "n_replaced", "n_unchanged", "n_withdrawn")]
        for one in report["arrivals"][:MOST_LISTED]
    ]
    return Rows(columns, rows, report["n_files"]) if rows else None


def _both(found: list[dict[str, Any]], key: str, noun: str) -> Rows | None:
    if not found:
        return None
    has_before = "before" in found[0]
    columns = [(key, False), (f"{noun.lower()} now", True)] + ([("the night before", True)] if has_before else [])
    rows = [
        [str(one[key]).replace("_", " ") if key == "status" else str(one[key]), short(one["n"])]
        + ([short(one["before"])] if has_before else [])
        for one in found
    ]
    return Rows(columns, rows, len(rows))


def _status_picture(rows: list[dict[str, Any]]) -> Picture | None:
    if not any(one["n"] for one in rows):
        return None
    from sjd_dask.report import night_figures

    said = ", ".join(f"{one['status'].replace('_', ' ')} {short(one['n'])}" for one in rows)
    return Picture(
        "wide", picture_uri(night_figures.statuses(rows)), f"Samples by status: {said}.", "Samples by status."
    )


def _span(drift: Mapping[str, Any]) -> str:
    """What is drawn: tonight, or the newest samples where tonight's are too few."""
    spans = {one["span"] for one in drift["variables"]}
    return "night" if "night" in spans else "window"


def _drift_picture(drift: Mapping[str, Any] | None) -> Picture | None:
    if not drift or not drift["variables"]:
        return None
    span = _span(drift)
    rows = [
        one for one in drift["variables"]
        if one["kind"] in ("feature", "score") and one["span"] == span and not one["batch"]
    ]  # fmt: skip
    if not rows:
        return None
    from sjd_dask.report import night_figures

    drawn = rows[:MOST_DRAWN]
    n = drawn[0]["n_samples"]
    whom = f"{count(n)} new samples" if span == "night" else f"the newest {count(n)} samples"
    rest = f" The {len(drawn)} of largest index, of {len(rows)}." if len(rows) > len(drawn) else ""
    moved = sum(one["level"] != "none" for one in rows)
    return Picture(
        "wide",
        picture_uri(night_figures.distances(drawn, drift["limits"])),
        f"Distance of {len(rows)} features and scores from the model's reference: {moved} have moved.",
        f"How {whom} lie against the model's reference. A variable has moved where it passes a level and what chance "
        f"gives so many persons (grey).{rest}",
    )


def _drift_rows(drift: Mapping[str, Any] | None) -> Rows | None:
    if not drift or not drift["variables"]:
        return None
    found = drift["variables"]
    chosen = [one for one in found if one["level"] != "none" or one["kind"] in ("status", "panel")]
    columns = [("level", False), ("variable", False), ("what", False), ("of", False), ("samples", True), ("PSI", True),
               ("chance", True), ("K-S", True), ("chance ", True), ("share", True), ("reference", True)]  # fmt: skip
    rows = []
    for one in chosen[:MOST_LISTED]:
        whom = "newest samples" if one["span"] == "window" else f"batch {one['batch']}" if one["batch"] else "tonight"
        hidden = one["kind"] == "status" and one["share"] is None
        numbers = [number(one[key], 3) for key in ("psi", "psi_limit", "ks", "ks_limit")]
        shares = ["*" if hidden else _percent(one["share"]), _percent(one["reference_share"])]
        name = str(one["variable"]).replace("_", " ") if one["kind"] == "status" else str(one["variable"])
        rows.append([one["level"], name, KINDS.get(one["kind"], one["kind"]), whom, count(one["n_samples"]), *numbers,
                     *shares])  # fmt: skip
    return Rows(columns, rows, len(chosen))


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{number(100 * share, 3)} %"


def _persons(report: Mapping[str, Any]) -> Rows | None:
    if not report["names_persons"]:
        return None
    keys = ("person_id", "sample_id", "visit", "reason", "previous_call", "call", "reported_before", "reported_call")
    columns = [(key.replace("_id", "").replace("_", " "), False) for key in keys] + [("confidence", True)]
    rows = [
        ["–" if one.get(key) is None else str(one[key]) for key in keys] + [number(one.get("confidence"), 3)]
        for one in report["persons"]
    ]
    return Rows(columns, rows, report["n_rows"])


def _what(report: Mapping[str, Any]) -> facts.Pairs:
    pairs: facts.Pairs = []
    if report["model"]:
        was = report["previous_model"]
        pairs.append(
            ("Model", str(report["model"]) + (f" (before: {was})" if was not in (None, report["model"]) else ""))
        )
    if report["eligible"]:
        pairs.append(("Eligible", str(report["eligible"])))
    if report["margin"] is not None:
        pairs.append(
            ("Margin of a report", f"{number(report['margin'])}, or two visits in a row that are called alike")
        )
    return pairs
