"""`sjd compare`: what molecular class, clusters, axes and markers are beside one another, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from sjd_dask import names
from sjd_dask.clinical.cross_tables import cross_table, untold_groups
from sjd_dask.clinical.definitions import did_you_mean
from sjd_dask.clinical.group_markers import group_markers
from sjd_dask.designs.query import query_samples
from sjd_dask.errors import DataError, SpecError
from sjd_dask.jobs.clinical_sheet import open_sheet
from sjd_dask.jobs.folders import check_new_folder, whole_folder
from sjd_dask.jobs.sheet_files import write_table
from sjd_dask.jobs.trial_persons import CLASS, SHORT, join_calls, read_calls


@dataclass(frozen=True)
class Compared:
    """What was compared.

    Attributes
    ----------
    tables : dict of DataFrame
        ``cells`` and ``tests`` of the cross tables, ``markers`` and ``marker_tests`` of the markers, as far as asked.
    n_rows : int
        Rows with a group.
    notes : list of str
    """

    tables: dict[str, pd.DataFrame]
    n_rows: int
    notes: list[str] = field(default_factory=list)


def compare(
    path: str,
    groups: str,
    *,
    beside: Sequence[str] = (),
    markers: Sequence[str] = (),
    cohort: str | None = None,
    calls: str | None = None,
    samples: str | None = None,
    mapping: Path | str | None = None,
    below: int = 5,
) -> Compared:
    """Cross a grouping with others, and compare markers between its groups.

    Parameters
    ----------
    path : str
        Any table with ``sample_id``: what `sjd score` wrote, a sheet, or a cohort.
    groups : str
        Column of groups; ``molecular_class`` (or ``class``) is that of the calls.
    beside : sequence of str
        Columns to cross it with.
    markers : sequence of str
        Columns of numbers.
    cohort, calls : str, optional
        As in a trial: ``classes/NAME`` of the cohort, or a file of calls.
    samples : str, optional
        Query for the rows to keep; a person counts once.
    mapping : path, optional
    below : int
        Counts of fewer people are hidden.

    Raises
    ------
    SpecError
        No column of that name; nothing to compare with; calls without a cohort.
    DataError
        A person with several rows; one group only.
    """
    if not beside and not markers:
        raise SpecError("there is nothing to compare with: name columns by --with, or numbers by --markers")
    opened = open_sheet(path, mapping=mapping)
    frame, notes = opened.frame, list(opened.notes)
    if calls is not None:
        where = calls if "/" in calls or "." in calls else f"{names.CLASSES}/{calls}"
        if where.startswith(f"{names.CLASSES}/") and cohort is None:
            raise SpecError(f"{where} is a result of a cohort: give --cohort, or a file of calls")
        frame, note = join_calls(frame, read_calls(where, cohort))
        notes.append(note)
    elif cohort is not None:
        raise SpecError("--cohort is asked for its calls: name them by --calls")
    indexed = frame.set_index(names.SAMPLE_ID)
    if samples is not None:
        indexed = indexed.loc[query_samples(indexed, samples).index]
        notes.append(f"--samples keeps {len(indexed):,} of {len(frame):,} rows")
    label = _column(indexed, groups)
    persons = indexed.get(names.PERSON_ID)
    if persons is not None and persons[indexed[label].notna()].dropna().duplicated().any():
        raise DataError(
            "some persons have several rows with a group, and would count as several people: keep one, such as "
            "--samples 'visit == 1'"
        )
    tables: dict[str, pd.DataFrame] = {}
    # One choice for all tables: where one showed the size of a group that another hides, the small one would follow.
    untold = untold_groups(indexed[label], below)
    if beside:
        crossed = {one: _column(indexed, one) for one in beside}
        found = {
            one: cross_table(
                indexed[label], indexed[name], persons=persons, minimum=below, key=f"{groups}/{one}", untold=untold
            )
            for one, name in crossed.items()
        }
        tables["cells"] = _stacked(groups, {one: table.cells for one, table in found.items()})
        tables["tests"] = _stacked(groups, {one: pd.DataFrame([table.test]) for one, table in found.items()})
    if markers:
        told = group_markers(
            indexed[label],
            indexed,
            columns=[_column(indexed, one) for one in markers],
            persons=persons,
            minimum=below,
            untold=untold,
        )
        tables["markers"], tables["marker_tests"] = told.groups, told.tests
    return Compared(tables, int(indexed[label].notna().sum()), notes)


def write_compared(found: Compared, folder: Path) -> list[Path]:
    """Write the tables as CSV into a new folder, which appears whole or not at all.

    Raises
    ------
    SpecError
        The folder exists, or its parent doesn't.
    """
    check_new_folder(folder)
    with whole_folder(folder) as temporary:
        for name, table in found.tables.items():
            write_table(table, temporary / f"{name}.csv")
    return [folder / f"{name}.csv" for name in found.tables]


def _column(frame: pd.DataFrame, name: str) -> str:
    found = name if name in frame else SHORT.get(name, name)
    if found not in frame:
        hint = " (give --calls)" if found == CLASS else did_you_mean(name, [*map(str, frame.columns), *SHORT])
        raise SpecError(f"the table has no column {name!r}{hint}; it has {', '.join(map(str, frame.columns[:20]))}")
    return found


def _stacked(groups: str, parts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    rows: list[Any] = []
    for beside, part in parts.items():
        made = part.copy()
        made.insert(0, "groups", groups)
        made.insert(1, "beside", beside)
        rows.append(made)
    return pd.concat(rows, ignore_index=True)
