"""The persons of a trial: a row each, with checked columns, scores and molecular class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.clinical.definitions import Overrides, did_you_mean, load_definition
from sjd_dask.clinical.measures import MEASURES, find_measure, score
from sjd_dask.clinical.sheet import Sheet, canonical_name
from sjd_dask.clinical.trials.criteria import evaluate, read_criterion
from sjd_dask.errors import DataError, SpecError
from sjd_dask.jobs.clinical_sheet import open_sheet
from sjd_dask.jobs.sheet_files import read_table

# Columns that a person's call becomes.
CLASS = "molecular_class"
# Short names, where the sheet has no column of that name.
SHORT = {"class": CLASS, "axis": "dominant"}
_OF_CALLS = {"call": CLASS, "status": "class_status", "confidence": "class_confidence"}


@dataclass(frozen=True)
class Screened:
    """Those who are screened.

    Attributes
    ----------
    frame : DataFrame
        A row for each person: ids, the columns asked for with checked values in their own units (others as they are),
        the scores, and ``molecular_class``, ``class_status``, ``class_confidence`` where there are calls.
    measures : tuple of str
        What was scored.
    notes : list of str
    id_notes : list of str
        What was done with ids; an id may stand in it.
    """

    frame: pd.DataFrame
    measures: tuple[str, ...]
    notes: list[str] = field(default_factory=list)
    id_notes: list[str] = field(default_factory=list)

    @property
    def person(self) -> pd.Series:
        """Who each row is: the person_id, or the sample_id of a sheet without persons."""
        return self.frame[names.PERSON_ID if names.PERSON_ID in self.frame else names.SAMPLE_ID]


def screened_persons(
    path: str,
    *,
    wanted: Mapping[str, str],
    scores: Sequence[str] | None = None,
    score_options: Mapping[str, Any] | None = None,
    calls: pd.DataFrame | None = None,
    screening: str | None = None,
    mapping: str | None = None,
    units: Mapping[str, str] | None = None,
    definitions: Overrides | None = None,
) -> Screened:
    """Read, score and join a sheet, and take the rows to screen.

    Parameters
    ----------
    path : str
        Sheet file, folder of parts, or cohort.
    wanted : mapping of str to str
        Columns that the protocol names, and where it does.
    scores : sequence of str, optional
        Measures; default: those that have a wanted column.
    score_options : mapping, optional
    calls : DataFrame, optional
        Columns ``sample_id`` or ``person_id``, and ``call``; perhaps ``visit``, ``status``, ``confidence``.
    screening : str, optional
        Query for the rows to screen.
    mapping : str, optional
        Mapping file.
    units, definitions : mapping, optional

    Raises
    ------
    SpecError
        A person with more than one row to screen; an unknown column or measure.
    DataError
        Values or ids that the sheet may not have; calls of nobody in the sheet.
    """
    opened = open_sheet(path, mapping=mapping, units=units, definitions=definitions)
    sheet = opened.read()
    notes: list[str] = []
    short = {name: SHORT[name] for name in wanted if name in SHORT and name not in sheet.frame}
    wanted = {short.get(name, name): where for name, where in wanted.items()}
    _known_columns(sheet, wanted, calls is not None)
    measures = tuple(_measures(sheet, wanted) if scores is None else [find_measure(one).name for one in scores])
    frame = _checked(sheet, wanted)
    if measures:
        made = score(sheet, list(measures), definitions=definitions, **(score_options or {}))
        ids = set(sheet.ids.columns)
        own = [name for name in made.columns if name not in ids]
        frame = pd.concat([frame.drop(columns=[name for name in own if name in frame]), made[own]], axis=1)
    elif score_options:
        raise SpecError("`score_options` are of measures, and the protocol names none: list them in `scores`")
    if calls is not None:
        frame, note = join_calls(frame, calls)
        notes.append(note)
    for name, column in short.items():
        twins = {name: column, f"{name}_reason": f"{column}_reason"}
        frame = frame.assign(**{new: frame[old] for new, old in twins.items() if old in frame})
    absent = []
    for name in wanted:
        known = canonical_name(name, definitions)
        if name in frame or known is None:
            continue
        if known[0] not in frame:
            absent.append(name)
        frame[name] = frame.get(known[0], np.nan)
    if absent:
        notes.append(f"the sheet has no column {', '.join(absent)}: what depends on it is unknown for everyone")
    if screening is not None:
        kept = evaluate(screening, frame, "screening") == 1
        if not kept.any():
            raise SpecError(f"`screening: {screening}` keeps none of the {len(frame):,} rows of the sheet")
        notes.append(f"screening keeps {int(kept.sum()):,} of {len(frame):,} rows")
        frame = frame[kept].reset_index(drop=True)
    found = Screened(frame, measures, notes, list(opened.notes))
    _one_row_each(found.person, screening)
    return found


def wanted_columns(queries: Mapping[str, str], columns: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """All columns that a protocol names, in order, each with the first place that names it.

    Parameters
    ----------
    queries, columns : mapping
        By their place in the protocol.
    """
    places = [(name, where) for where, query in queries.items() for name in read_criterion(query, where).columns]
    places += [(name, where) for where, named in columns.items() for name in named]
    found: dict[str, str] = {}
    for name, where in places:
        found.setdefault(name, where)
    return found


def _known_columns(sheet: Sheet, wanted: Mapping[str, str], with_calls: bool) -> None:
    """Refuse a name that is neither of the sheet, of the clinical columns, of a measure, nor of the calls."""
    strange = [name for name in wanted if name not in sheet.frame.columns and canonical_name(name) is None
               and not (with_calls and name in _OF_CALLS.values())]  # fmt: skip
    if not strange:
        return
    of_measures = {name for measure in MEASURES.values() for name in measure.columns}
    for name in strange:
        if name in of_measures:
            continue
        if name in _OF_CALLS.values():
            raise SpecError(f"`{wanted[name]}` names {name!r}, which comes with `calls`, and the protocol has none")
        near = did_you_mean(name, [*map(str, sheet.frame.columns), *sheet_columns(), *sorted(of_measures)])
        raise SpecError(
            f"`{wanted[name]}` names the column {name!r}, which neither the sheet nor any measure has{near}; the sheet "
            f"has {', '.join(map(str, sheet.frame.columns[:30]))}"
        )


def sheet_columns() -> list[str]:
    """Canonical names of the clinical columns."""
    return list(load_definition("columns")["columns"])


def _measures(sheet: Sheet, wanted: Iterable[str]) -> list[str]:
    """The first measure that has each wanted column; a column of the sheet that no measure recomputes needs none."""
    chosen: list[str] = []
    have: set[str] = set()
    recognised = set(sheet.recognised)
    for name in wanted:
        if name in have or (name in sheet.frame.columns and name not in recognised):
            continue
        for measure in MEASURES.values():
            if name in measure.columns and not measure.needs_model:
                # A recorded total that isn't there, nor its items, is missing like any column of a sheet.
                if name in recognised or not _is_total(name) or any(map(sheet.has, measure.needs)):
                    chosen.append(measure.name)
                    have |= set(measure.columns)
                break
    return chosen


def _is_total(name: str) -> bool:
    known = canonical_name(name)
    return known is not None and known[0] == name


def _checked(sheet: Sheet, wanted: Iterable[str]) -> pd.DataFrame:
    """The sheet with the values of wanted columns checked; flags are 1, 0 or missing."""
    frame = sheet.frame.copy()
    ids = sheet.ids
    for name in ids:
        frame[name] = ids[name].to_numpy()
    canonical = {found[0] for name in wanted if (found := canonical_name(name)) is not None}
    for name in sheet.recognised:
        if name not in canonical or name in ids:
            continue
        try:
            frame[name] = sheet.number(name)
        except TypeError:  # a category
            frame[name] = sheet.text(name)
    return frame


def read_calls(reference: str, cohort: str | None) -> pd.DataFrame:
    """Calls of a file, or of ``classes/NAME`` of a cohort.

    Raises
    ------
    SpecError
        A table without ids or without ``call``.
    """
    if cohort is not None and reference.startswith(f"{names.CLASSES}/"):
        from sjd_dask.store.cohort import open_cohort

        table: pd.DataFrame = open_cohort(cohort).result(reference).table().to_pandas()
        return table
    table = read_table(Path(reference))
    if "call" not in table or not {names.SAMPLE_ID, names.PERSON_ID} & set(table.columns):
        raise SpecError(
            f"{reference}: calls have the columns sample_id or person_id, and call; this table has "
            f"{', '.join(map(str, table.columns[:12]))}"
        )
    return table


def join_calls(frame: pd.DataFrame, calls: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Give each row its molecular class: by sample_id, else by person and visit, else by person.

    Returns
    -------
    frame : DataFrame
        With ``molecular_class`` (missing where not called), ``class_status``, ``class_confidence``.
    note : str
        By what was joined, and for how many.

    Raises
    ------
    SpecError
        The sheet has such a column already.
    DataError
        No row of the sheet is in the calls, or a person has several calls and nothing tells them apart.
    """
    taken = [name for name in _OF_CALLS.values() if name in frame]
    if taken:
        raise SpecError(
            f"the sheet has a column {taken[0]!r} already, and `calls` would make it: leave one of them out"
        )
    for keys in ([names.SAMPLE_ID], [names.PERSON_ID, names.VISIT], [names.PERSON_ID]):
        if not set(keys) <= set(frame.columns) or not set(keys) <= set(calls.columns):
            continue
        left, right = _key(frame, keys), _key(calls, keys)
        hit = left.isin(set(right.dropna()))
        if not hit.any():
            continue
        used = right.isin(set(left.dropna())).to_numpy()
        twice = right[used & right.duplicated(keep=False).to_numpy()]
        if len(twice):
            raise DataError(
                f"{' and '.join(keys)} {twice.iloc[0]!r} has more than one call, and the sheet does not tell which "
                "counts: give both tables the same sample_id, or a visit"
            )
        rows = calls[used].set_index(right[used])
        frame = frame.copy()
        for name, made in _OF_CALLS.items():
            if name in rows:
                frame[made] = left.map(rows[name]).to_numpy()
        called = int(frame[CLASS].notna().sum())
        return frame, (
            f"calls joined by {' and '.join(keys)}: {int(hit.sum()):,} of {len(frame):,} rows are in them, {called:,} "
            "have a class"
        )
    raise DataError(
        "no row of the sheet is in the calls, by sample_id or by person_id: "
        f"{frame[names.SAMPLE_ID].iloc[0]!r} is an id of the sheet, {calls.iloc[0, 0]!r} one of the calls"
    )


def _key(frame: pd.DataFrame, columns: list[str]) -> pd.Series:
    """Ids as text, the visits 2, 2.0 and "2" alike; missing where one of them is."""
    parts = []
    for name in columns:
        values = frame[name]
        text = values.map(lambda one: str(int(one)) if isinstance(one, (float, np.floating)) and one == one // 1
                          else str(one), na_action="ignore")  # fmt: skip
        parts.append(text.astype(object).where(values.notna(), None))
    if len(parts) == 1:
        return parts[0]
    whole = np.logical_and.reduce([part.notna().to_numpy() for part in parts])
    joined = parts[0].astype(str)
    for part in parts[1:]:
        joined = joined + "\x1f" + part.astype(str)
    return joined.astype(object).where(whole, None)


def _one_row_each(person: pd.Series, screening: str | None) -> None:
    nobody = person.isna()
    if nobody.any():
        raise DataError(f"row {int(np.flatnonzero(nobody)[0]) + 1} of those screened has no person_id: fill it in")
    twice = person[person.duplicated()]
    if len(twice):
        how = f"`screening: {screening}` keeps" if screening else "there is no `screening`, which leaves"
        raise SpecError(
            f"{how} more than one row of {twice.nunique():,} persons, {twice.iloc[0]!r} among them: a person is "
            "screened once; name the visit, such as `screening: \"visit == '1'\"`"
        )
