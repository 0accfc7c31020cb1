"""Sample columns that arrive with a matrix: from the sheet and from the file itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from sjd_dask import names
from sjd_dask.errors import DataError
from sjd_dask.store.ingest.ids import check_ids, name_some
from sjd_dask.store.ingest.report import IngestReport
from sjd_dask.store.ingest.sheets import check_dates, read_sheet, unmatched


def load_sheet(samples: Path | str | pd.DataFrame, id_column: str | None = None) -> pd.DataFrame:
    """A sample sheet from a file, or from a DataFrame indexed by sample id (or with a column of sample ids).

    `person_id` becomes text, `date` must hold ISO dates; see `sjd_dask.store.ingest.sheets.read_sheet`.
    """
    if not isinstance(samples, pd.DataFrame):
        return read_sheet(samples, id_column)
    chosen = id_column or names.SAMPLE_ID
    frame = samples.set_index(chosen) if chosen in samples.columns else samples.copy()
    frame.index = pd.Index([str(i) for i in frame.index], name=names.SAMPLE_ID, dtype=object)
    frame.columns = pd.Index([str(c) for c in frame.columns], dtype=object)
    check_ids(list(frame.index), "sample", "the sample sheet")
    if names.PERSON_ID in frame.columns:
        text = [None if pd.isna(v) else str(v) for v in frame[names.PERSON_ID]]
        frame[names.PERSON_ID] = pd.Series(text, index=frame.index, dtype=object)
    if names.DATE in frame.columns and frame[names.DATE].dtype.kind != "M":
        text = [None if pd.isna(v) else str(v) for v in frame[names.DATE]]
        column = pd.Series(text, index=frame.index, dtype=object)
        check_dates(column, "the sample sheet")
        frame[names.DATE] = column
    return frame


def join_sheet(report: IngestReport, sample_ids: Sequence[str], sheet: pd.DataFrame, where: str) -> None:
    """Join a sheet to the samples of a matrix by id, and say in the report what has no partner.

    Raises
    ------
    DataError
        When nothing matches.
    """
    report.not_in_sheet, report.only_in_sheet = unmatched(sample_ids, sheet)
    if len(report.not_in_sheet) == len(sample_ids):
        raise DataError(
            f"none of the {len(sample_ids):,} samples of {where} ({name_some(sample_ids, 3)}) is in the sample sheet "
            f"({name_some(map(str, sheet.index[:4]), 3)}). Ids must be written the same way in both; if the sheet "
            f"keeps them in "
            "another column, call that column sample_id."
        )
    if report.not_in_sheet:
        report.warnings.append(
            f"{len(report.not_in_sheet):,} of {len(sample_ids):,} samples are not in the sample sheet: "
            f"{name_some(report.not_in_sheet)}"
        )
    if report.only_in_sheet:
        report.warnings.append(
            f"{len(report.only_in_sheet):,} samples of the sheet are not in the matrix; their columns are kept: "
            f"{name_some(report.only_in_sheet)}"
        )


def mixed_columns(known: pd.DataFrame, sheet: pd.DataFrame) -> list[str]:
    """Warnings of columns that hold one kind of value so far, and another kind in the sheet: all of it becomes text.

    Parameters
    ----------
    known : DataFrame
        The cohort's samples before the sheet, by sample id.
    sheet : DataFrame
    """
    rest = known[~known.index.isin(list(map(str, sheet.index)))]
    warnings = []
    for name in sheet.columns.intersection(rest.columns, sort=False):
        new = sheet[name].dropna()
        before, after = _kind(rest[name].dropna()), _kind(new)
        if before and after and before != after:
            odd = new if after == "text" else rest[name].dropna()
            warnings.append(
                f"column {name!r} held {before} and gets {after}: it is text from now on, and a factor in designs "
                f"({odd.iloc[0]!r} of sample {odd.index[0]!r})"
            )
    return warnings


def _kind(present: pd.Series) -> str | None:  # type: ignore[type-arg]
    if not len(present):
        return None
    inferred = pd.api.types.infer_dtype(present)
    return {
        "boolean": "true or false",
        "integer": "numbers",
        "floating": "numbers",
        "mixed-integer-float": "numbers",
    }.get(inferred, "text")


def merge_columns(own: pd.DataFrame | None, sheet: pd.DataFrame | None) -> pd.DataFrame | None:
    """Columns the matrix carries, and those of the sheet, which wins where both have a column."""
    if own is None or sheet is None:
        return sheet if own is None else own
    index = own.index.append(sheet.index.difference(own.index, sort=False))
    result = own.reindex(index)
    listed = index.isin(sheet.index)
    for name in sheet.columns:
        column = sheet[name].reindex(index)
        if name in own.columns:
            column = column.astype(object).where(listed, result[name].astype(object)).infer_objects()
        result[name] = column
    result.index.name = names.SAMPLE_ID
    return result
