"""What the page of all people shows: one row a person, at the visit that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.clinical.few_people import hide_small
from sjd_dask.clinical.measures import MEASURES
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.clinical.visits import sheet_baselines
from sjd_dask.errors import DataError, SpecError
from sjd_dask.jobs.clinical_sheet import open_sheet
from sjd_dask.jobs.people_counts import Counted, Histogram, count_answers, count_by_group, count_values
from sjd_dask.jobs.person_page_inputs import axis_options, axis_titles, scales, scored, selected, shown_measures
from sjd_dask.jobs.reported import in_order
from sjd_dask.jobs.trial_persons import CLASS, join_calls

RESPONSES = ("star", "cress")
DISTRIBUTED = ("essdai", "clinessdai", "esspri")
GLAND_TESTS = {
    "glands_schirmer": "Schirmer", "glands_oss": "ocular staining", "glands_van_bijsterveld": "van Bijsterveld",
    "glands_saliva": "saliva", "glands_biopsy": "focus score", "glands_ultrasound": "ultrasound (OMERACT)",
    "sgus_hocevar_positive": "ultrasound (Hocevar)",
}  # fmt: skip
OPEN, NO_CLASS = "open", "no class"
# Scores of which the page lists what is missing; those that are left out read the same columns.
REASONS = ("acr_eular", "essdai", "esspri", "sgus")


@dataclass(frozen=True)
class PeopleInputs:
    """The page of all people: counts and distributions, nobody's own values.

    Attributes
    ----------
    sheet : str
    n_persons, n_visits : int
    below : int
        A count of fewer people is not told, nor what would give it away.
    parts : dict
        ``axes``, ``dominant``, ``classification``, ``glands``, ``responses`` as far as they are there -> list of
        `Counted`.
    scores : dict
        Score -> `Histogram`.
    missing : list of (str, str, int)
        Measure, item, and in how many people it is missing; the most frequent first.
    scales, axes, reference
        As of `PersonInputs`.
    which : str
        The visit that is shown, in words.
    calls : str
    notes : list of str
    """

    sheet: str
    n_persons: int
    n_visits: int
    below: int
    parts: dict[str, list[Counted]]
    scores: dict[str, Histogram]
    missing: list[tuple[str, str, int]]
    scales: dict[str, dict[str, Any]]
    axes: pd.DataFrame
    reference: str
    which: str
    calls: str = ""
    notes: list[str] = field(default_factory=list)


def people_inputs(
    path: Path | str,
    *,
    mapping: Path | str | None = None,
    units: Mapping[str, str] | None = None,
    definitions: Mapping[str, Any] | None = None,
    baseline: str | None = None,
    reference: Path | str | None = None,
    cohort: str | None = None,
    calls: str | None = None,
    samples: str | None = None,
    below: int = 5,
) -> PeopleInputs:
    """Read a sheet and gather the page of all people.

    Parameters
    ----------
    path, mapping, units, definitions, reference
        As for `person_inputs`.
    baseline : str, optional
        Query of the visits that are shown and that responses are read against; default: each person's first visit.
    cohort, calls : str, optional
        A cohort and the name of its calls: the molecular class, by sample, else by person and visit, else by person.
    samples : str, optional
        Query of the rows that are read at all, such as ``disease == 'patient'``.
    below : int
        Counts of fewer people are not told.

    Raises
    ------
    SpecError
        No column that a score reads; fewer people than `below`; a cohort without calls' name or the other way round.
    DataError
        A value that isn't allowed or plausible; a first visit that nothing tells; calls of nobody in the sheet.
    """
    if (cohort is None) != (calls is None):
        raise SpecError("the molecular class comes from --cohort COHORT and --calls NAME together: give both, or none")
    opened = selected(open_sheet(path, mapping=mapping, units=units, definitions=definitions), samples)
    sheet = opened.read()
    sheet.check()
    name = Path(str(path)).name
    measures = shown_measures(sheet)
    options, compared = axis_options(opened, sheet, measures, name, reference)
    notes: list[str] = []
    rows, responding = _rows(sheet, baseline, notes)
    if len(rows) < below:
        raise SpecError(
            f"{name} has {len(rows):,} {'person' if len(rows) == 1 else 'people'}, and a page without names shows no "
            f"count of fewer than {below}: name one by --person ID, or lower --suppress-below"
        )
    single = [one for one in measures if not MEASURES[one].by_person]
    people, _ = scored(sheet.take(rows), single, definitions, options)
    if calls is not None and cohort is not None:
        people, note = _with_class(people, cohort, calls)
        # How many have no class may be a count of few.
        notes.append(note.split(":")[0])
    axes = axis_titles(measures, definitions)
    own_scales = scales(definitions)
    parts = _parts(people, axes, below)
    asked = [one for one in measures if one in RESPONSES]
    if asked and len(responding):
        found, _ = scored(sheet, asked, definitions, {"baseline": baseline})
        parts["responses"] = [
            count_answers(one.upper(), found[f"{one}_responder"].iloc[responding], below)
            for one in asked
            if f"{one}_responder" in found
        ]
    histograms = {
        name: count_values(people[name].to_numpy(dtype=float), float(own_scales[name]["ends"][1]), below)
        for name in DISTRIBUTED
        if name in people
    }
    return PeopleInputs(
        name,
        len(rows),
        sheet.n,
        below,
        {key: one for key, one in parts.items() if one},
        {key: one for key, one in histograms.items() if one is not None},
        _missing(people, below),
        own_scales,
        axes,
        compared,
        "first visit" if baseline is None else f"first visit with {baseline}",
        (calls or "").removeprefix(f"{names.CLASSES}/"),
        [*opened.notes, *notes],
    )


def _parts(people: pd.DataFrame, axes: pd.DataFrame, below: int) -> dict[str, list[Counted]]:
    parts: dict[str, list[Counted]] = {}
    if "dominant" in people:
        parts["axes"] = [
            count_answers(f"{one['number']}  {one['title']}", _or_open(people[f"axis{one['number']}_state"]), below)
            for _, one in axes.iterrows()
        ]
        dominant = _or_open(people["dominant"])
        if CLASS in people:
            parts["dominant"] = count_by_group(dominant, people[CLASS].astype(object).fillna(NO_CLASS), below)
        else:
            parts["dominant"] = [count_answers("all", dominant, below)]
    if "essdai_activity" in people:
        parts["activity"] = [count_answers("ESSDAI", _or_open(people["essdai_activity"]), below)]
    if "acr_eular_class" in people:
        parts["classification"] = [count_answers("all", people["acr_eular_class"], below)]
    parts["glands"] = [
        count_answers(title, people[column], below) for column, title in GLAND_TESTS.items() if column in people
    ]
    return parts


def _or_open(states: pd.Series) -> pd.Series:
    return states.astype(object).fillna(OPEN)


def _rows(sheet: Sheet, baseline: str | None, notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the rows that are shown, one a person, and of the newest visits that follow a baseline."""
    try:
        found = sheet_baselines(sheet, baseline)
    except DataError:
        if baseline is not None:
            raise
        # Without an order there are no responses; who is shown must still be one row a person. The error names people.
        notes.append(
            "no responses, and the first row of each person by sample id: nothing tells the order of some people's "
            "visits. `sjd score --measure star` says whose"
        )
        order, person, _ = _ordered(sheet)
        return np.sort(order[np.r_[True, person[1:] != person[:-1]]]), np.empty(0, dtype=np.int64)
    rows = np.flatnonzero(found.is_baseline)
    if not rows.size:
        raise SpecError(f"--baseline {baseline!r} keeps none of the {sheet.n:,} rows of the sheet")
    order, person, _ = _ordered(sheet)
    follows = found.follows[order]
    order, person = order[follows], person[follows]
    last = np.r_[person[1:] != person[:-1], True] if len(order) else np.empty(0, dtype=bool)
    return rows, order[last]


def _ordered(sheet: Sheet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids = sheet.ids.set_index(names.SAMPLE_ID)
    return in_order(ids)


def _with_class(people: pd.DataFrame, cohort: str, calls: str) -> tuple[pd.DataFrame, str]:
    from sjd_dask.store.cohort import open_cohort

    plain = calls.removeprefix(f"{names.CLASSES}/")
    table = open_cohort(cohort).result(f"{names.CLASSES}/{plain}").to_pandas()
    return join_calls(people, table)


def _missing(people: pd.DataFrame, below: int) -> list[tuple[str, str, int]]:
    """In how many people which item is missing; the items are read from the reasons, once a distinct reason."""
    rows: list[tuple[str, str, int]] = []
    for measure in REASONS:
        column = f"{measure}_reason"
        if column not in people:
            continue
        counts: dict[str, int] = {}
        for reason, n in people[column].value_counts().items():
            for part in str(reason).split("; "):
                if part.startswith("missing: "):
                    for item in part.removeprefix("missing: ").split(", "):
                        counts[item] = counts.get(item, 0) + int(n)
        rows += [
            (measure, item, n)
            for item, n in counts.items()
            if not hide_small(np.array([[n, len(people) - n]]), below).any()
        ]
    return sorted(rows, key=lambda row: (-row[2], row[:2]))
