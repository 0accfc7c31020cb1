"""Tables of an explanation that sample columns give: clinic, what may explain the groups, stability, agreement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sjd_dask import names
from sjd_dask.errors import DataError, SpecError
from sjd_dask.jobs.stratify_tables import agreement_table
from sjd_dask.stratify.clinic import clinical_tests, group_summary
from sjd_dask.stratify.shares import FEWEST_PERSONS, ShareProblem, share_problem
from sjd_dask.stratify.stability import agreement_within, transitions

if TYPE_CHECKING:
    from sjd_dask.jobs.explain_inputs import ExplainedGroups
    from sjd_dask.jobs.explain_spec import ExplainSpec
    from sjd_dask.store.cohort import Cohort

EVERYTHING = "all of these"
COMPOSITION, INTERFERON = "composition", "interferon"


def clinic_tables(spec: ExplainSpec, groups: ExplainedGroups) -> dict[str, pa.Table]:
    """Tests of sample columns between the groups, and what each group (and the healthy) has."""
    columns = list(
        dict.fromkeys([*spec.clinical, *groups.cells, *([spec.sex] if spec.sex else []), *spec.batches, *spec.drugs])
    )
    if not columns:
        return {}
    tested = clinical_tests(
        groups.sheet, groups.patients, columns, person=spec.person, visit=spec.visit, seed=spec.seed
    )
    role = {name: "clinical" for name in columns}
    role |= {name: COMPOSITION for name in groups.cells}
    role |= {name: "sex" for name in [spec.sex] if name} | dict.fromkeys(spec.batches, "batch")
    role |= dict.fromkeys(spec.drugs, "drug") | dict.fromkeys(spec.clinical, "clinical")
    tested.insert(1, "role", tested["column"].map(role))
    return {
        "clinical": _arrow(tested),
        "clinical_groups": _arrow(group_summary(groups.sheet, groups.compared, columns)),
    }


def share_problems(
    spec: ExplainSpec, groups: ExplainedGroups, sheet: pd.DataFrame, asked: dict[str, list[str]]
) -> tuple[list[ShareProblem], list[dict[str, Any]]]:
    """Every set of columns by itself, all together, and beyond the composition of cells.

    Returns
    -------
    problems : list of ShareProblem
    rows : list of dict
        ``what``, ``beyond``, ``columns``, ``note``: why there is no share. Those without a note belong to the problems,
        in order.
    """
    given = {name: columns for name, columns in asked.items() if columns}
    cells = given.get(COMPOSITION, [])
    named = [name for name in given if name != INTERFERON]
    wanted: list[tuple[str, list[str], list[str]]] = [(name, given[name], []) for name in named]
    if len(named) > 1:
        wanted.append((EVERYTHING, [one for name in named for one in given[name]], []))
    wanted += [(name, given[name], []) for name in given if name == INTERFERON]
    if cells:
        wanted += [(name, columns, cells) for name, columns in given.items() if name != COMPOSITION]
    problems, rows = [], []
    for name, columns, base in wanted:
        row = {"what": name, "beyond": COMPOSITION if base else "", "columns": ", ".join(columns), "note": ""}
        problem = share_problem(name, sheet, groups.patients, columns, base, spec.person, spec.seed)
        if problem is None:
            row["note"] = (
                f"fewer than {FEWEST_PERSONS} {'persons' if spec.person else 'samples'} in two groups have all of its "
                "columns, or these have one value only"
            )
        else:
            problems.append(problem)
        rows.append(row)
    return problems, rows


def stability_tables(spec: ExplainSpec, groups: ExplainedGroups) -> dict[str, pa.Table]:
    """Whether replicates of a specimen, and samples of a person, stay in one group."""
    sheet, labels = groups.sheet, groups.groups
    kinds = pd.Series(["healthy" if one in set(groups.healthy) else "other" for one in labels.index], labels.index)
    rows, tables = [], {}
    if spec.specimen is not None:
        found = agreement_within(labels, sheet[spec.specimen], kinds, seed=spec.seed)
        rows.append({"what": "replicates of a specimen", "column": spec.specimen, **found})
    if spec.person is not None:
        one_each = labels
        if spec.specimen is not None:
            # Replicates agree because they are the same blood; what is asked is whether the person is the same again.
            specimen = sheet.loc[labels.index, spec.specimen]
            one_each = labels[~(specimen.duplicated() & specimen.notna()).to_numpy()]
        for what, chosen in (("samples of a person", one_each), ("samples of a patient", _patients(one_each, groups))):
            if what == "samples of a person" or len(chosen) < len(one_each):
                found = agreement_within(chosen, sheet[spec.person], kinds, seed=spec.seed)
                rows.append({"what": what, "column": spec.person, **found})
        visits = sheet[spec.visit] if spec.visit else None
        tables["visits"] = _arrow(transitions(one_each, sheet[spec.person], visits))
    if rows:
        tables["stability"] = _arrow(pd.DataFrame(rows))
    return tables


def _patients(labels: pd.Series, groups: ExplainedGroups) -> pd.Series:
    return labels[~labels.index.isin(groups.healthy)]


def agreement_tables(spec: ExplainSpec, groups: ExplainedGroups, cohort: Cohort) -> dict[str, pa.Table]:
    """Agreement with other labellings, and the cross tables it is counted from.

    Raises
    ------
    SpecError
        One that is no grouping.
    DataError
        One that shares no sample with these groups.
    """
    if not spec.compare:
        return {}
    frame = pd.DataFrame(index=groups.groups.index)
    for name in spec.compare:
        if name.startswith("strata/"):
            result = cohort.result(name)
            if result.kind != names.STRATA:
                raise SpecError(f"`compare`: {name} is no grouping")
            other = result.to_pandas(columns=[names.SAMPLE_ID, "stratum"]).set_index(names.SAMPLE_ID)["stratum"]
            frame[result.ref] = other.reindex(frame.index)
            if frame[result.ref].isna().all():
                raise DataError(f"`compare`: {result.ref} shares no sample with {groups.result.ref}")
        else:
            frame[name] = groups.sheet.loc[frame.index, name]
    strata = groups.groups.to_numpy(dtype=object)
    found = agreement_table(frame, list(frame.columns), strata)
    cross = []
    for name in frame.columns:
        values = frame[name]
        if pd.api.types.is_numeric_dtype(values) and values.nunique() > 20:
            values = pd.qcut(values, 4, duplicates="drop")
        known = values.notna().to_numpy()
        counts = pd.crosstab(strata[known], values[known].astype(str).to_numpy())
        cross += [
            {"column": name, "level": str(level), "group": str(group), "n": int(counts.loc[group, level])}
            for level in counts.columns
            for group in counts.index
        ]
    long = pd.DataFrame(cross, columns=["column", "level", "group", "n"]).astype({"n": np.int64})
    return {"agreement": _arrow(found), "cross": _arrow(long)}


def _arrow(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)
