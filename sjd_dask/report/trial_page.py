"""The page of a trial: who may enter, how many there are and are needed, the lists, and effects by stratum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask.report.format import count, number
from sjd_dask.report.layer_facts import Rows
from sjd_dask.report.page import TEMPLATES, Picture, environment, picture_uri
from sjd_dask.report.suppress import short
from sjd_dask.report.trial_hiding import PARTS, hidden_groups, of_three, persons_shown, steps_left

Tables = Mapping[str, pd.DataFrame]
MOST_BARS = 60
MOST_ROWS = 120


@dataclass(frozen=True)
class TrialSection:
    """A section of the page."""

    anchor: str
    title: str
    lead: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    tables: list[tuple[str, Rows]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def render_trial(facts: Mapping[str, Any], tables: Tables, *, hide_below: int = 5) -> str:
    """The page of a trial.

    Parameters
    ----------
    facts : mapping
        ``trial`` (its name), ``sections`` (those that are there), ``screened``, ``eligible`` (counts of yes, no,
        undetermined), ``design`` (``messages``), ``randomisation`` (``arms``, ``places``, ``sha256_of_list``,
        ``concealment``), ``reanalysis`` (a list), ``notes``.
    tables : mapping of str to DataFrame
        As in docs/trials.md. The list of allocations is never looked at.
    hide_below : int
        Counts from 1 to one less are not shown; 0 and 1 show all.

    Returns
    -------
    str
        HTML that fetches nothing and runs nothing. User text is escaped.
    """
    sections = []
    for name in facts["sections"]:
        sections += _MAKERS[name](facts, tables, hide_below)
    if facts.get("notes"):
        sections.append(TrialSection("notes", "Notes", lead=list(map(str, facts["notes"]))))
    return (
        environment()
        .get_template("trial.html.j2")
        .render(
            name=str(facts["trial"]),
            style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
            cards=_cards(facts, tables, hide_below),
            sections=sections,
            hide_below=hide_below,
        )
    )


def _cards(facts: Mapping[str, Any], tables: Tables, below: int) -> list[tuple[str, str, str]]:
    cards = []
    if "screened" in facts:
        cards.append((count(facts["screened"]), "screened", ""))
    if "eligibility" in facts["sections"]:
        shown = of_three(facts["eligible"], below)
        cards.append((short(shown["yes"]), "may enter", f"{short(shown['undetermined'])} undetermined"))
    if "design_sizes" in tables:
        for name, row in _planned(tables).items():
            cards.append((count(row["n_enrolled"]), f"to enrol, {name}", f"{count(row['n_screened'])} to screen"))
    if "randomisation" in facts:
        cards.append((count(facts["randomisation"]["places"]), "places on the lists", ""))
    for one in facts.get("reanalysis") or []:
        for test in one["interactions"]:
            if not test["reason"]:
                cards.append((number(test["p_value"], 2), f"p, treatment by {test['by']}", str(one["endpoint"])))
    return cards


# ---- eligibility and feasibility ----


def _eligibility(facts: Mapping[str, Any], tables: Tables, below: int) -> list[TrialSection]:
    from sjd_dask.report.trial_figures import funnel

    table = tables["criteria"]
    left = steps_left([int(facts["screened"]), *table["left"]], below)
    certain = steps_left([int(facts["screened"]), *table["left_certain"]], below)
    sure = [None if a is None or b is None or 0 < b - a < below else a for a, b in zip(certain, left, strict=True)]
    labels = ["screened", *(f"{'not ' if kind == 'exclude' else ''}{name}" for name, kind in
                            zip(table["criterion"], table["kind"], strict=True))]  # fmt: skip
    rows = []
    for i, (_, one) in enumerate(table.iterrows()):
        alone = of_three({part: int(one[part]) for part in ("passed", "failed", "unknown")}, below)
        numbers = [alone["passed"], alone["failed"], alone["unknown"], left[i + 1], sure[i + 1]]
        rows.append([str(one["criterion"]), str(one["kind"]), str(one["when"]), *map(short, numbers)])
    columns = [("criterion", False), ("kind", False), ("when", False), ("pass", True), ("fail", True),
               ("unknown", True), ("left in sequence", True), ("of these for sure", True)]  # fmt: skip
    shown = of_three(facts["eligible"], below)
    lead = [
        f"{short(shown['yes'])} of {count(facts['screened'])} persons meet every criterion, {short(shown['no'])} fail "
        f"at least one, and for {short(shown['undetermined'])} something that isn't recorded decides."
    ]
    found = [("Each criterion alone, and in sequence", Rows(columns, rows, len(rows)))]
    gaps = tables.get("to_record")
    if gaps is not None and len(gaps):
        kept = gaps.head(MOST_ROWS)
        rows = [
            [str(one["item"]), str(one["needed_for"]), _few(one["undetermined"], below), _few(one["alone"], below)]
            for _, one in kept.iterrows()
        ]
        head = [
            ("item", False),
            ("needed for", False),
            ("undetermined persons without it", True),
            ("it alone is missing", True),
        ]
        found.append(("What to record to decide", Rows(head, rows, len(gaps))))
    picture = Picture(
        "wide",
        picture_uri(funnel(labels, sure, left)),
        f"Persons left: {', '.join(f'{a} {short(b)}' for a, b in zip(labels, left, strict=True))}.",
        "In the protocol's order. Light: no criterion so far is failed, but one is unknown.",
    )
    note = (
        "Why each person may or may not enter is in eligibility.csv, which names persons: keep it as the sheet is kept."
    )
    return [TrialSection("eligibility", "Eligibility", lead, [picture], found, [note])]


def _feasibility(facts: Mapping[str, Any], tables: Tables, below: int) -> list[TrialSection]:
    from sjd_dask.report.trial_figures import by_group

    table = tables["feasibility"].head(MOST_ROWS)
    shown = hidden_groups(table, below)
    needed = facts.get("needed")
    columns = [("by", False), ("level", False), ("screened", True), ("may enter", True), ("undetermined", True),
               ("may not", True), ("share that may enter", True), ("95 %", True)]  # fmt: skip
    columns += [(f"to screen for {count(needed)}", True), ("95 %", True)] if needed else []
    rows = []
    for (_, one), parts in zip(table.iterrows(), shown, strict=True):
        hidden = any(value is None for value in parts.values())
        row = [str(one["by"]), str(one["level"]), "*" if hidden and int(one["screened"]) < below else
               count(one["screened"]), *(short(parts[part]) for part in PARTS)]  # fmt: skip
        share = "eligible_share"
        row += ["*", "*"] if hidden else [_percent(one[share]), _range(one, share, _percent)]
        if needed:
            row += ["*", "*"] if hidden else [_whole(one["to_screen"]), _range(one, "to_screen", _whole)]
        rows.append(row)
    groups = list(zip(table["by"].astype(str), table["level"].astype(str), strict=True))
    picture = Picture(
        "wide",
        picture_uri(by_group(groups[:MOST_BARS], shown[:MOST_BARS])),
        f"Persons who may enter, by {', '.join(dict.fromkeys(by for by, _ in groups))}.",
        "May enter / undetermined / may not. A person without a value is in the level unknown.",
    )
    notes = ["The share is of those decided; its interval is Wilson's."]
    if needed:
        notes.append("To screen: persons of all groups, until as many eligible ones of this group are found.")
    if len(tables["feasibility"]) > MOST_ROWS:
        notes.append(f"{count(len(tables['feasibility']) - MOST_ROWS)} more rows are in feasibility.csv.")
    return [
        TrialSection("feasibility", "Feasibility", [], [picture], [("Counts", Rows(columns, rows, len(rows)))], notes)
    ]


# ---- design and lists ----


def _planned(tables: Tables) -> dict[str, pd.Series]:
    """What each design enrols and screens: as its table of power and strata have it, or that of several arms."""
    if "design_arms" in tables:
        known = tables["design_arms"].drop_duplicates("design").dropna(subset=["n_enrolled"])
    else:
        strata = tables["design_strata"]
        first = strata[strata["endpoint"] == strata["endpoint"].iloc[0]]
        screened = np.ceil(first.groupby("design")["screened"].sum() - 1e-6)
        known = tables["design_power"].drop_duplicates("design")
        known = known.assign(n_screened=known["design"].map(screened))
    return {str(row["design"]).replace("_", " "): row for _, row in known.iterrows()}


def _design(facts: Mapping[str, Any], tables: Tables, below: int) -> list[TrialSection]:
    from sjd_dask.report.trial_figures import sizes

    pictures = []
    planned = _planned(tables)
    if planned:
        enrolled = [float(row["n_enrolled"]) for row in planned.values()]
        screened = [float(row["n_screened"]) for row in planned.values()]
        said = ", ".join(
            f"{name} {count(a)} of {count(b)}" for name, a, b in zip(planned, enrolled, screened, strict=True)
        )
        first = next(iter(planned.values()))
        pictures.append(
            Picture(
                "wide",
                picture_uri(sizes(list(planned), enrolled, screened)),
                f"Persons to enrol of those to screen: {said}.",
                f"For the endpoint {first['endpoint']}"
                + (f", all arms against the control ({first['rule']})." if "rule" in first else "."),
            )
        )
    titles = {"arms": "Several arms against one control", "sizes": "Persons needed",
              "power": "Power, by formula and simulated", "hierarchy": "Endpoints in order",
              "familywise": "False rejections of the family", "strata": "By stratum", "classifier": "The classifier",
              "calls": "What a call means", "methods": "Other tests", "placebo": "Under placebo",
              "enrichment": "By the rule of enrichment"}  # fmt: skip
    names = [name.removeprefix("design_") for name in tables if name.startswith("design_")]
    order = [*(name for name in titles if name in names), *(name for name in names if name not in titles)]
    found = [(titles.get(name, name), _plain_rows(tables[f"design_{name}"])) for name in order]
    return [TrialSection("design", "Design", [], pictures, found, list(facts["design"]["messages"]))]


def _randomisation(facts: Mapping[str, Any], tables: Tables, below: int) -> list[TrialSection]:
    one = facts["randomisation"]
    lead = [
        f"Permuted blocks for {', '.join(map(str, one['arms']))}; a list for each stratum.",
        str(one["concealment"]),
    ]
    table = tables["randomisation_balance"].drop(columns=["blocks"])
    note = f"SHA-256 of randomisation.csv: {one['sha256_of_list']}."
    return [TrialSection("randomisation", "Randomisation", lead, [], [("Lists", _plain_rows(table))], [note])]


# ---- re-analysis ----


def _reanalysis(facts: Mapping[str, Any], tables: Tables, below: int) -> list[TrialSection]:
    return [_one_reanalysis(i, one, tables, below) for i, one in enumerate(facts["reanalysis"])]


def _one_reanalysis(place: int, one: Mapping[str, Any], tables: Tables, below: int) -> TrialSection:
    from sjd_dask.report.trial_figures import forest

    ending = str(one["tables"])
    effects = tables[f"reanalysis{ending}"].copy()
    binary = one["kind"] == "binary"
    few = effects[["n_arm", "n_control"]].min(axis=1).lt(below) & effects[["n_arm", "n_control"]].max(axis=1).gt(0)
    shown = ["odds_ratio", "odds_ratio_low", "odds_ratio_high"] if binary else ["effect", "low", "high"]
    several = "p_arms" in effects
    effects.loc[few, [*shown, "mean_arm", "mean_control", "p_value", *(["p_arms"] if several else [])]] = np.nan
    effects.loc[few, "reason"] = f"fewer than {below} persons in an arm"
    persons = persons_shown(effects, below)
    drawn = pd.DataFrame(
        {
            "by": effects["by"], "level": effects["level"], "arm": effects["arm"], "effect": effects[shown[0]],
            "low": effects[shown[1]], "high": effects[shown[2]], "reason": effects["reason"],
            "n": persons,
            "weight": effects["n_arm"] + effects["n_control"],
        }
    )  # fmt: skip
    control = str(one["control"])
    label = (
        f"odds ratio of {one['endpoint']} against {control}"
        if binary
        else f"{one['endpoint']}: difference to {control}"
    )
    better = "right" if one["improvement"] == "up" else "left"
    svg = forest(drawn, axis_label=label, better=better, ratio=binary)
    tests = one["interactions"]
    lead = [_test_said(test) for test in tests]
    alt = "; ".join(f"{row.by} {row.level}, {row.arm}: {number(row.effect, 3)} ({number(row.low, 3)} to "
                    f"{number(row.high, 3)})" for row in drawn.itertuples())  # fmt: skip
    caption = (
        "Diamonds: everyone, adjusted for the strata; squares: each stratum, larger with more persons. Lines: 95 %."
    )
    caption += f" Adjusted for {one['baseline']}." if one["baseline"] else ""
    head = [("by", False), ("level", False), ("arm", False), ("persons, arm / control", True),
            ("share of responders" if binary else "mean", True), ("control", True),
            ("odds ratio" if binary else "effect", True), ("95 %", True), ("p", True),
            *([("p over arms", True)] if several else []), ("", False)]  # fmt: skip
    rows = []
    for (_, row), d in zip(effects.iterrows(), drawn.itertuples(), strict=True):
        rows.append(
            [
                str(row["by"]), str(row["level"]), str(row["arm"]), str(d.n), number(row["mean_arm"], 3),
                number(row["mean_control"], 3), number(d.effect, 3),
                "–" if pd.isna(d.low) else f"{number(d.low, 3)} to {number(d.high, 3)}",
                number(row["p_value"], 2), *([number(row["p_arms"], 2)] if several else []), str(row["reason"]),
            ]
        )  # fmt: skip
    notes = [
        "Strata that were not planned before the trial are exploratory: a difference between them is a question for "
        "the next trial.",
        *map(str, one["notes"]),
    ]
    return TrialSection(
        f"reanalysis-{place + 1}",
        f"Re-analysis: {one['endpoint']}",
        lead,
        [Picture("wide", picture_uri(svg), f"Effects by stratum. {alt}.", caption)],
        [("Effects", Rows(head, rows, len(rows)))],
        notes,
    )


def _test_said(test: Mapping[str, Any]) -> str:
    if test["reason"]:
        return f"Treatment by {test['by']}: not tested ({test['reason']})."
    df = number(test["df"]) if test["df_residual"] is None or pd.isna(test["df_residual"]) else (
        f"{number(test['df'])} and {number(test['df_residual'])}"
    )  # fmt: skip
    out = f" Left out of the test: {test['left_out']}." if test["left_out"] else ""
    several = f", {number(test['p_holm'], 2)} after Holm" if test["p_holm"] != test["p_value"] else ""
    return (
        f"Treatment by {test['by']}: p = {number(test['p_value'], 2)}{several} ({test['test']}, "
        f"{number(test['statistic'], 3)} on {df} degrees of freedom).{out}"
    )


# ---- cells ----


def _plain_rows(table: pd.DataFrame) -> Rows:
    kept = table.head(MOST_ROWS).dropna(axis=1, how="all")
    columns = [(str(name).replace("_", " "), pd.api.types.is_numeric_dtype(kept[name])) for name in kept]
    rows = [[_cell(value) for value in row] for row in kept.astype(object).itertuples(index=False)]
    return Rows(columns, rows, len(table))


def _cell(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if value is None or (not isinstance(value, (list, tuple)) and pd.isna(value)):
        return "–"
    if isinstance(value, (int, np.integer)):
        return count(value)
    return number(value) if isinstance(value, (float, np.floating)) else str(value)


def _few(value: Any, below: int) -> str:
    return "*" if 0 < int(value) < below else count(value)


def _range(row: pd.Series, name: str, form: Callable[[Any], str]) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "–" if pd.isna(low) and pd.isna(high) else f"{form(low)} to {form(high)}"


def _percent(value: Any) -> str:
    return "–" if pd.isna(value) else f"{100 * float(value):.1f} %"


def _whole(value: Any) -> str:
    return "–" if pd.isna(value) else count(value)


_MAKERS: dict[str, Any] = {
    "eligibility": _eligibility,
    "feasibility": _feasibility,
    "design": _design,
    "randomisation": _randomisation,
    "reanalysis": _reanalysis,
}
