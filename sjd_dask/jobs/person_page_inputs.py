"""What the page of a person shows: visits in order, scores and axes at each, calls, and what is missing to decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.clinical.definitions import did_you_mean, load_definition
from sjd_dask.clinical.measures import MEASURES, computable, score
from sjd_dask.designs.query import query_samples
from sjd_dask.errors import DataError, SpecError
from sjd_dask.jobs.clinical_sheet import ClinicalSheet, open_sheet
from sjd_dask.jobs.reported import in_order

if TYPE_CHECKING:
    from sjd_dask.clinical.sheet import Sheet
    from sjd_dask.jobs.history import PersonHistory

# What the pages show, in their order; nothing that needs a model of the cohort.
SHOWN = ("axes", "essdai", "clinessdai", "esspri", "acr_eular", "glands", "sgus", "star", "cress", "change")
AXES = "axes"
# A question a visit should answer: the measure, the column that answers it, what it asks, and the columns of the points
# and of the reason. The answers that leave it open are in `OPEN`.
QUESTIONS = (
    ("acr_eular", "acr_eular_class", "2016 ACR/EULAR class", "acr_eular", "acr_eular_reason"),
    ("acr_eular", "acr_eular_entry", "entry and exclusions", None, "acr_eular_note"),
    ("essdai", "essdai_activity", "ESSDAI activity", "essdai", "essdai_reason"),
    ("clinessdai", "clinessdai_activity", "ClinESSDAI activity", "clinessdai", "clinessdai_reason"),
    ("esspri", "esspri_acceptable", "acceptable symptoms (ESSPRI)", "esspri", "esspri_reason"),
    ("axes", "axis1_state", "axis 1", "axis1_position", "axis1_reason"),
    ("axes", "axis2_state", "axis 2", "axis2_position", "axis2_reason"),
    ("axes", "axis3_state", "axis 3", "axis3_position", "axis3_reason"),
    ("axes", "dominant", "dominant axis", None, "dominant_reason"),
    ("star", "star_responder", "STAR response", "star", "star_reason"),
    ("cress", "cress_responder", "CRESS response", "cress", "cress_reason"),
)
MOST_ALIKE = 20_000
OPEN = frozenset({"undecided", "undetermined", "unknown"})


@dataclass(frozen=True)
class PersonInputs:
    """A person's page as plain tables.

    Attributes
    ----------
    person, sheet : str
    visits : DataFrame
        One row a visit, in order: ``sample_id``, ``visit``, ``date`` (text), ``label``, and the measures' columns.
    measures : tuple of str
        What was scored.
    scales : dict
        Score -> its title, ends and the cut-offs of its states.
    axes : DataFrame
        One row an axis: ``number``, ``title``, ``unit``; empty where the sheet tells nothing of the axes.
    open : DataFrame
        ``label``, ``question``, ``so_far``, ``missing``: what is not decided at each visit, the newest visit first.
    history : PersonHistory or None
        Calls of a cohort.
    reference : str
        Name of the cohort the axes are compared with.
    notes : list of str
    """

    person: str
    sheet: str
    visits: pd.DataFrame
    measures: tuple[str, ...]
    scales: dict[str, dict[str, Any]]
    axes: pd.DataFrame
    open: pd.DataFrame
    history: PersonHistory | None
    reference: str
    notes: list[str] = field(default_factory=list)


def person_inputs(
    path: Path | str,
    person: str,
    *,
    mapping: Path | str | None = None,
    units: Mapping[str, str] | None = None,
    definitions: Mapping[str, Any] | None = None,
    baseline: str | None = None,
    reference: Path | str | None = None,
    cohort: str | None = None,
    calls: str | None = None,
    samples: str | None = None,
) -> PersonInputs:
    """Read a sheet and gather one person's page.

    Parameters
    ----------
    path : path or URL
        The sheet, as `sjd score` takes it.
    person : str
        A ``person_id``; the ``sample_id`` of a row without one.
    mapping, units, definitions
        As for `score_sheet`.
    baseline : str, optional
        Query of the rows that responses are read against; default: the person's first visit.
    reference : path, optional
        Reference cohort of the axes; default: the sheet itself.
    cohort, calls : str, optional
        A cohort and the name of its calls, for the history of the molecular class.
    samples : str, optional
        Query of the rows that are read at all, such as ``disease == 'patient'``.

    Raises
    ------
    SpecError
        Nobody of that name; a cohort without calls' name or the other way round; no column that a score reads.
    DataError
        A value of the person, or one that the reference of the axes reads, that isn't allowed or plausible.
    """
    if (cohort is None) != (calls is None):
        raise SpecError("the molecular class comes from --cohort COHORT and --calls NAME together: give both, or none")
    opened = selected(open_sheet(path, mapping=mapping, units=units, definitions=definitions), samples)
    sheet = opened.read()
    rows = rows_of(sheet, person)
    name = Path(str(path)).name
    measures = shown_measures(sheet)
    options, compared = axis_options(opened, sheet, measures, name, reference)
    own = sheet.take(rows)
    own.check()
    visits, notes = scored(own, measures, definitions, {**options, "baseline": baseline})
    visits = _in_order(visits)
    history = None
    if cohort is not None and calls is not None:
        history, note = _history(cohort, calls, person)
        notes += [note] if note else []
    return PersonInputs(
        person,
        name,
        visits,
        tuple(one for one in measures if any(column in visits for column in MEASURES[one].columns)),
        scales(definitions),
        axis_titles(measures, definitions),
        open_questions(visits, measures),
        history,
        compared,
        [*opened.notes, *notes],
    )


def selected(opened: ClinicalSheet, samples: str | None) -> ClinicalSheet:
    """The rows of a sheet that a query keeps, and a note of it.

    Raises
    ------
    SpecError
        A query that can't be evaluated or keeps nothing.
    """
    if samples is None:
        return opened
    kept = query_samples(opened.frame.set_index(names.SAMPLE_ID), samples)
    if kept.empty:
        raise SpecError(f"`samples: {samples}` keeps none of the {len(opened.frame):,} rows of the sheet")
    note = f"`samples: {samples}` keeps {len(kept):,} of {len(opened.frame):,} rows"
    return replace(opened, frame=kept.reset_index(), notes=[*opened.notes, note])


def rows_of(sheet: Sheet, person: str) -> np.ndarray:
    """Positions of a person's rows.

    Raises
    ------
    SpecError
        Nobody of that name.
    """
    ids = sheet.ids
    sample = ids[names.SAMPLE_ID].astype(object)
    owner = (
        ids[names.PERSON_ID].astype(object) if names.PERSON_ID in ids else pd.Series([None] * len(ids), dtype=object)
    )
    rows = np.flatnonzero((owner.where(owner.notna(), sample) == person).to_numpy())
    if not rows.size:
        what = "person_id" if names.PERSON_ID in ids else "sample_id"
        known = pd.Series(owner.where(owner.notna(), sample).unique(), dtype=object)
        # Only names that begin alike are compared: a sheet may have a million.
        alike = known[known.astype(str).str.startswith(person[: len(person) // 2])].head(MOST_ALIKE)
        raise SpecError(
            f"the sheet has no person {person!r}{did_you_mean(person, alike)}: persons are in its column {what}, "
            f"{len(known):,} of them"
        )
    return rows


def shown_measures(sheet: Sheet) -> list[str]:
    """What the sheet has columns for, of what the pages show.

    Raises
    ------
    SpecError
        Nothing.
    """
    there = set(computable(sheet))
    measures = [name for name in SHOWN if name in there]
    if not measures:
        near = [f"{header!r}{hint}" for header, hint in sheet.unknown.items() if hint]
        raise SpecError(
            f"the sheet has no column that {', '.join(one for one in SHOWN if one in MEASURES)} read"
            f"{'; headers that nearly fit: ' + ', '.join(near[:5]) if near else ''}. A mapping file gives its names"
        )
    return measures


def axis_options(
    opened: ClinicalSheet, sheet: Sheet, measures: Sequence[str], name: str, reference: Path | str | None
) -> tuple[dict[str, Any], str]:
    """The cohort that positions on the axes are compared with, fitted on all rows of the sheet unless it is given."""
    if AXES not in measures:
        if reference is not None:
            raise SpecError("--reference is for the axes, and the sheet has no column that they read")
        return {}, ""
    from sjd_dask.clinical.axis_reference import AxisReference, as_reference

    given = None if reference is None else as_reference(reference)
    cohort = given or AxisReference.fit(sheet, name, definitions=opened.definitions)
    return {"reference": cohort}, cohort.name


def scored(
    sheet: Sheet, measures: Sequence[str], definitions: Mapping[str, Any] | None, options: Mapping[str, Any]
) -> tuple[pd.DataFrame, list[str]]:
    """Ids and the columns of the measures; a response that can't be read is a note, not an end."""
    parts, notes = [sheet.ids], []
    for name in measures:
        taken = MEASURES[name].options
        own = {key: value for key, value in options.items() if key in taken and value is not None}
        try:
            made = score(sheet, name, definitions=definitions, **own)
        except DataError as error:
            if not MEASURES[name].by_person:
                raise
            notes.append(f"{name} is left out: {error}")
            continue
        parts.append(made.drop(columns=list(sheet.ids.columns)))
    frame = pd.concat(parts, axis=1)
    return frame.loc[:, ~frame.columns.duplicated()], list(dict.fromkeys(notes))


def scales(definitions: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Ends of the scores and the cut-offs of their states, as the definitions say them."""
    found: dict[str, dict[str, Any]] = {}
    for name, title in (("essdai", "ESSDAI"), ("clinessdai", "ClinESSDAI")):
        table = load_definition(name, definitions)
        top = sum(one["weight"] * max(one["levels"]) for one in table["items"].values())
        cuts = {state: one["from"] for state, one in load_definition("essdai", definitions)["activity"].items()}
        found[name] = {"title": title, "ends": (0, top), "cuts": {key: one for key, one in cuts.items() if one > 0}}
    table = load_definition("esspri", definitions)
    found["esspri"] = {"title": "ESSPRI", "ends": (0, 10), "cuts": {"not acceptable": table["acceptable"]["below"]}}
    table = load_definition("acr_eular", definitions)
    top = sum(one["points"] for one in table["items"].values())
    cut = {"definite": table["met_at"]["points"]}
    found["acr_eular"] = {"title": "2016 ACR/EULAR points", "ends": (0, top), "cuts": cut}
    return found


def axis_titles(measures: Sequence[str], definitions: Mapping[str, Any] | None) -> pd.DataFrame:
    """Number, name, title and unit of each axis."""
    columns = ["number", "name", "title", "unit"]
    if AXES not in measures:
        return pd.DataFrame(columns=columns)
    table = load_definition(AXES, definitions)["axes"]
    rows = [(int(one["number"]), name, one["title"], one["unit"]) for name, one in table.items()]
    return pd.DataFrame(sorted(rows), columns=columns)


def open_questions(visits: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """What is not decided at each visit, and what would decide it; the newest visit first."""
    rows = []
    for _, visit in visits.iloc[::-1].iterrows():
        for measure, column, question, points, reason in QUESTIONS:
            if measure not in measures or column not in visits or not _is_open(visit, measure, column):
                continue
            said = "" if reason is None or pd.isna(visit.get(reason)) else str(visit[reason])
            rows.append((visit["label"], question, _so_far(visit, points), said.removeprefix("missing: ")))
    return pd.DataFrame(rows, columns=["label", "question", "so_far", "missing"])


def _is_open(visit: pd.Series, measure: str, column: str) -> bool:
    if column == "acr_eular_entry":
        return bool(visit["acr_eular_class"] == "definite" and pd.isna(visit["acr_eular_met"]))
    answer = visit[column]
    if pd.isna(answer):
        # A visit that follows no baseline has no response, and nothing is missing.
        return not MEASURES[measure].by_person
    return str(answer) in OPEN


def _so_far(visit: pd.Series, points: str | None) -> str:
    if points is None or pd.isna(visit.get(f"{points}_min")):
        return ""
    low, high = float(visit[f"{points}_min"]), float(visit[f"{points}_max"])
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"


def _in_order(visits: pd.DataFrame) -> pd.DataFrame:
    """Visits by date, else by their number; with a label each."""
    indexed = visits.set_index(names.SAMPLE_ID, drop=False).rename_axis(index=None)
    # One person's rows, whatever a missing person_id says.
    order, _, _ = in_order(indexed.assign(**{names.PERSON_ID: "one"}))
    visits = visits.iloc[order].reset_index(drop=True)
    if names.DATE in visits:
        dates = visits[names.DATE]
        visits[names.DATE] = dates.dt.strftime("%Y-%m-%d").astype(object).where(dates.notna(), None)
    labels = visits[names.SAMPLE_ID].astype(object)
    for name in (names.VISIT, names.DATE):
        if name in visits:
            labels = visits[name].map(visit_text, na_action="ignore").astype(object).where(visits[name].notna(), labels)
    visits.insert(1, "label", labels)
    return visits


def visit_text(value: Any) -> str:
    """A visit as people write it: 2.0 is 2."""
    return str(int(value)) if isinstance(value, (float, np.floating)) and float(value).is_integer() else str(value)


def _history(cohort: str, calls: str, person: str) -> tuple[PersonHistory | None, str]:
    from sjd_dask.jobs.history import person_history
    from sjd_dask.store.cohort import open_cohort

    opened = open_cohort(cohort)
    known = {one.name for one in opened.results() if one.kind == names.CLASSES}
    plain = calls.removeprefix(f"{names.CLASSES}/")
    if plain not in known:
        listed = ", ".join(sorted(known)) or "none"
        raise SpecError(f"the cohort has no calls named {plain!r}{did_you_mean(plain, known)}; it has: {listed}")
    try:
        return person_history(opened, plain, person), ""
    except SpecError as error:
        # Not everybody of a clinical sheet has a sample.
        return None, f"no molecular class: {error}"
