"""The page of a person: axes and scores over visits, the molecular class, and what is missing to decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sjd_dask import names
from sjd_dask.report.format import count, number
from sjd_dask.report.history_page import _rows as call_rows
from sjd_dask.report.history_page import _text as cell
from sjd_dask.report.layer_facts import Rows
from sjd_dask.report.page import TEMPLATES, Picture, environment, picture_uri

# Scores that have a panel of their own.
DRAWN = ("essdai", "clinessdai", "esspri", "acr_eular")
# Columns of the table of visits: title, score (shown with its interval) or answer.
SCORES = (
    ("ESSDAI", "essdai"), ("activity", "essdai_activity"), ("ClinESSDAI", "clinessdai"), ("ESSPRI", "esspri"),
    ("acceptable", "esspri_acceptable"), ("ACR/EULAR", "acr_eular"), ("class", "acr_eular_class"),
    ("gland tests positive", "glands"), ("ultrasound", "sgus"), ("STAR", "star"), ("STAR response", "star_responder"),
    ("CRESS", "cress"), ("CRESS response", "cress_responder"),
)  # fmt: skip
GLANDS = (
    ("Schirmer", "glands_schirmer"), ("Schirmer right", "glands_schirmer_right"),
    ("Schirmer left", "glands_schirmer_left"),
    ("ocular staining", "glands_oss"), ("staining right", "glands_oss_right"), ("staining left", "glands_oss_left"),
    ("van Bijsterveld", "glands_van_bijsterveld"), ("saliva", "glands_saliva"), ("focus score", "glands_biopsy"),
    ("ultrasound", "glands_ultrasound"), ("Hocevar", "sgus_hocevar_positive"),
)  # fmt: skip
FLAGS = frozenset({"esspri_acceptable"})
CLASS_WORDS = {
    "definite": "met",
    "undecided": "undecided",
    "no": "not met",
    "excluded": "excluded",
    "not_entered": "no entry criterion",
    "child_not_met": "not met by a child: criteria for adults",
}


def render_person(
    person: str,
    visits: pd.DataFrame,
    *,
    sheet: str,
    axes: pd.DataFrame,
    scales: Mapping[str, Mapping[str, Any]],
    open_questions: pd.DataFrame,
    reference: str = "",
    calls: pd.DataFrame | None = None,
    classes: Sequence[str] = (),
    calls_name: str = "",
    notes: Sequence[str] = (),
) -> str:
    """The page of one person.

    Parameters
    ----------
    person, sheet : str
    visits : DataFrame
        One row a visit, in order: ``sample_id``, ``label``, maybe ``visit`` and ``date``, and the scores' columns.
    axes : DataFrame
        ``number``, ``name``, ``title``, ``unit`` of each axis; empty where there are none.
    scales : mapping
        See :func:`sjd_dask.report.person_figures.scores_over_visits`.
    open_questions : DataFrame
        ``label``, ``question``, ``so_far``, ``missing``.
    reference : str
        Name of the cohort whose percentiles the axes have.
    calls : DataFrame, optional
        As :func:`sjd_dask.report.history_page.render_history` takes them.
    classes : sequence of str
    calls_name : str
    notes : sequence of str

    Returns
    -------
    str
        HTML that fetches nothing and runs nothing. User text is escaped.
    """
    return (
        environment()
        .get_template("person.html.j2")
        .render(
            person=person,
            sheet=sheet,
            style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
            notes=list(notes),
            cards=_cards(visits, calls, len(open_questions)),
            axes_picture=_axes_picture(person, visits, axes, reference),
            axes_rows=_axes_rows(visits, axes),
            axes_reason=_one_reason(visits),
            axes_guessed="dominant" in visits and any(_likely(row) for _, row in visits.iterrows()),
            scores_picture=_scores_picture(person, visits, scales),
            scores_rows=_table(visits, SCORES),
            notes_rows=_notes(visits),
            gland_rows=_table(visits, GLANDS),
            calls_picture=None if calls is None else _calls_picture(person, calls, classes),
            calls_rows=None if calls is None else call_rows(calls),
            calls_name=calls_name,
            open_rows=_open_rows(open_questions),
        )
    )


def interval(row: pd.Series, score: str) -> str:
    """A score as a reader wants it: the number, or what it lies between."""
    if pd.notna(row.get(score)):
        return number(row[score], 3)
    low, high = row.get(f"{score}_min"), row.get(f"{score}_max")
    return "–" if pd.isna(low) or pd.isna(high) else f"{number(low, 3)} to {number(high, 3)}"


def _answer(row: pd.Series, column: str) -> str:
    value = row.get(column)
    if column in FLAGS:
        return "open" if pd.isna(value) else "yes" if value == 1 else "no"
    if column == "acr_eular_class":
        return CLASS_WORDS.get(str(value), str(value))
    if pd.isna(value):
        return "open" if column.endswith("_activity") else "–"
    return str(value).replace("_", " ")


def _cards(visits: pd.DataFrame, calls: pd.DataFrame | None, n_open: int) -> list[tuple[str, str, str]]:
    last = visits.iloc[-1]
    cards = [(count(len(visits)), "visit" if len(visits) == 1 else "visits", f"the newest: {last['label']}")]
    if "dominant" in visits:
        dominant = last["dominant"]
        said = "open" if pd.isna(dominant) else str(dominant)
        margin = interval(last, "dominant_margin")
        margin = "" if margin == "–" else f"margin {margin} percentiles"
        cards.append((said, "dominant axis, newest visit", "; ".join(one for one in (_likely(last), margin) if one)))
    if "acr_eular_class" in visits:
        note = f"{interval(last, 'acr_eular')} points"
        met = visits["label"][visits["acr_eular_class"] == "definite"]
        if len(met) and last["acr_eular_class"] != "definite":
            note += f"; met at {met.iloc[0]}"
        cards.append((_answer(last, "acr_eular_class"), "2016 ACR/EULAR, newest visit", note))
    if "essdai" in visits:
        cards.append((interval(last, "essdai"), "ESSDAI, newest visit", _answer(last, "essdai_activity")))
    if calls is not None:
        known = calls.loc[
            calls["retired_in"].isna(), "reported" if calls["reported"].notna().any() else "call"
        ].dropna()
        cards.append((str(known.iloc[-1]) if len(known) else "–", "molecular class today", ""))
    cards.append((count(n_open), "open question" if n_open == 1 else "open questions", "over all visits"))
    return cards


def _likely(row: pd.Series) -> str:
    """The most probable answer where the dominant axis is open, and how probable it is."""
    likely, chance = row.get("dominant_likely"), row.get("dominant_likely_probability")
    if pd.isna(likely) or pd.isna(chance) or pd.notna(row["dominant"]):
        return ""
    return f"likely {likely}, {100 * min(float(chance), 0.99):.0f} %"


def _axes_picture(person: str, visits: pd.DataFrame, axes: pd.DataFrame, reference: str) -> Picture | None:
    if axes.empty or "axis1_percentile_min" not in visits:
        return None
    from sjd_dask.report.person_figures import axes_over_visits, has_percentiles

    compared = reference or "the reference"
    said = "; ".join(
        f"{row['label']}: " + ", ".join(f"axis {i} {_state(row, i)}" for i in axes["number"])
        for _, row in visits.iterrows()
    )
    return Picture(
        "wide",
        picture_uri(axes_over_visits(visits, axes)),
        f"Three axes of {person} over {len(visits)} visits. {said}.",
        (
            f"Percentile of the position among those of {compared}: 50 is as high as half of them. "
            if has_percentiles(visits, axes)
            else f"{compared} has no percentiles: positions in their own units. "
        )
        + "The bar is what is sure, the hatched part what the missing items leave open.",
    )


def _state(row: pd.Series, axis: Any) -> str:
    state = row.get(f"axis{axis}_state")
    return "open" if pd.isna(state) else str(state)


def _axes_rows(visits: pd.DataFrame, axes: pd.DataFrame) -> Rows | None:
    if axes.empty or "axis1_state" not in visits:
        return None
    columns = [("visit", False)]
    for _, axis in axes.iterrows():
        columns += [(f"axis {axis['number']}", False), ("position", True), ("percentile", True)]
    columns += [("dominant", False), ("margin", True)]
    rows = []
    for _, row in visits.iterrows():
        cells = [str(row["label"])]
        for i in axes["number"]:
            cells += [_state(row, i), interval(row, f"axis{i}_position"), interval(row, f"axis{i}_percentile")]
        dominant = "; ".join(one for one in ("open", _likely(row)) if one)
        cells += [dominant if pd.isna(row["dominant"]) else str(row["dominant"]), interval(row, "dominant_margin")]
        rows.append(cells)
    said = visits["dominant_reason"].fillna("").astype(str)
    # One reason for all stands below the table, once.
    if said.nunique() > 1:
        columns.append(("why", False))
        rows = [[*cells, why or "–"] for cells, why in zip(rows, said, strict=True)]
    return _filled(columns, rows)


def _one_reason(visits: pd.DataFrame) -> str:
    """Why no axis is named, where that is the same at every visit."""
    said = visits["dominant_reason"].fillna("").astype(str).unique() if "dominant_reason" in visits else []
    return str(said[0]) if len(said) == 1 else ""


def _scores_picture(person: str, visits: pd.DataFrame, scales: Mapping[str, Mapping[str, Any]]) -> Picture | None:
    drawn = [name for name in DRAWN if name in visits and visits[f"{name}_min"].notna().any()]
    if not drawn:
        return None
    from sjd_dask.report.person_figures import scores_over_visits

    said = "; ".join(
        f"{scales[name]['title']}: " + ", ".join(interval(row, name) for _, row in visits.iterrows()) for name in drawn
    )
    return Picture(
        "wide",
        picture_uri(scores_over_visits(visits, drawn, scales)),
        f"Scores of {person} over {len(visits)} visits. {said}.",
        "Dashed: where a state begins.",
    )


def _table(visits: pd.DataFrame, wanted: Sequence[tuple[str, str]]) -> Rows | None:
    """Visits in rows; scores with their intervals, answers as words."""
    there = [(title, column) for title, column in wanted if column in visits]
    if not there:
        return None
    is_score = {column: f"{column}_min" in visits for _, column in there}
    columns = [("visit", False), *((title, is_score[column]) for title, column in there)]
    rows = [
        [str(row["label"]), *(interval(row, c) if is_score[c] else _answer(row, c) for _, c in there)]
        for _, row in visits.iterrows()
    ]
    return _filled(columns, rows)


def _filled(columns: list[tuple[str, bool]], rows: list[list[str]]) -> Rows:
    """A table without the columns that say nothing at any visit, such as responses of a first one."""
    kept = [i for i in range(len(columns)) if any(row[i] != "–" for row in rows)]
    return Rows([columns[i] for i in kept], [[row[i] for i in kept] for row in rows], len(rows))


def _notes(visits: pd.DataFrame) -> list[tuple[str, str]]:
    """What must be said beside the class of a visit."""
    if "acr_eular_note" not in visits:
        return []
    noted = visits["acr_eular_note"].fillna("").astype(str)
    return [(str(label), text) for label, text in zip(visits["label"], noted, strict=True) if text]


def _open_rows(table: pd.DataFrame) -> Rows:
    columns = [("visit", False), ("question", False), ("so far", True), ("missing", False)]
    rows = [[cell(value) if value != "" else "–" for value in row] for row in table.itertuples(index=False, name=None)]
    return Rows(columns, rows, len(rows))


def _calls_picture(person: str, calls: pd.DataFrame, classes: Sequence[str]) -> Picture:
    from sjd_dask.report.history_figures import over_visits

    live = calls[calls["retired_in"].isna()]
    said = ", ".join(
        str(row["call"]) if pd.notna(row["call"]) else str(row["status"]).replace("_", " ")
        for _, row in live.iterrows()
    )
    dated = bool(len(live)) and live[names.DATE].notna().all()
    return Picture(
        "wide",
        picture_uri(over_visits(calls, classes)),
        f"Molecular class of {person} over {len(live)} samples: {said or 'none today'}.",
        ("By date of visit. " if dated else "In order of visits. ")
        + "Filled: called; hollow: no call, at the most probable class. Small and grey: calls that were replaced.",
    )
