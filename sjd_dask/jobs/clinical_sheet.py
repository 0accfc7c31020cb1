"""From a file that holds a clinical sheet to rows that carry an id: mapping file, units, and ids made where none is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.clinical.columns import column_dictionary
from sjd_dask.clinical.definitions import Overrides
from sjd_dask.errors import DataError, SpecError
from sjd_dask.jobs.mapping import read_mapping
from sjd_dask.jobs.sheet_files import id_header, read_table, visit_numbers
from sjd_dask.store.ingest.ids import check_ids, name_some

if TYPE_CHECKING:
    from sjd_dask.clinical.sheet import Sheet

IDS = (names.SAMPLE_ID, names.PERSON_ID)
# Between person and visit in an id made of both.
JOINT = "|"


@dataclass(frozen=True)
class ClinicalSheet:
    """A table ready for `clinical.Sheet.read`.

    Attributes
    ----------
    frame : DataFrame
        With ``sample_id``, ids as text, in the file's order.
    units : dict
        Unit by column, from the mapping file and the caller.
    notes : list of str
        What was done that a person should know.
    definitions : mapping, optional
        Laid over the shipped definitions.
    """

    frame: pd.DataFrame
    units: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    definitions: Overrides | None = None

    def read(self) -> Sheet:
        """As the scores take it. See `clinical.Sheet.read` for what is refused."""
        from sjd_dask.clinical.sheet import Sheet

        return Sheet.read(self.frame, units=self.units, definitions=self.definitions)


def open_sheet(
    path: Path | str,
    *,
    mapping: Path | str | None = None,
    units: Mapping[str, str] | None = None,
    definitions: Overrides | None = None,
) -> ClinicalSheet:
    """Read a clinical sheet from a file, a folder of Parquet parts, or a cohort.

    Parameters
    ----------
    path : path or URL
        See `sheet_files.read_table`.
    mapping : path, optional
        Mapping file, see `mapping.Mapped`.
    units : mapping, optional
        Unit by column; counts over the mapping file's.
    definitions : mapping, optional
        Definitions laid over the shipped ones; `columns` counts here.

    Raises
    ------
    DataError
        What `read_table` refuses; ids that are missing or repeated; two rows of a person at one visit.
    SpecError
        A mapping that doesn't fit; neither ``sample_id`` nor ``person_id``.
    """
    rules = None if mapping is None else read_mapping(mapping)
    columns = column_dictionary(definitions)
    theirs = set() if rules is None else set(rules.id_columns())

    def is_id(header: str) -> bool:
        known = columns.canonical(header)
        return header in theirs or id_header(header) or (known is not None and known[0] in IDS)

    frame = read_table(path, is_id=is_id)
    found: dict[str, str] = {}
    if rules is not None:
        frame, found = rules.apply(frame, Path(str(path)).name)
    frame, notes = with_ids(frame, Path(str(path)).name, definitions)
    return ClinicalSheet(frame, {**found, **(units or {})}, notes, definitions)


def with_ids(frame: pd.DataFrame, where: str, definitions: Overrides | None = None) -> tuple[pd.DataFrame, list[str]]:
    """The table with a ``sample_id``: its own, or one made of person and visit.

    Returns
    -------
    frame : DataFrame
        Id columns under their own names (``sample_id``, ``person_id``, ``visit``, ``date``), sample ids unique.
    notes : list of str
    """
    columns = column_dictionary(definitions)
    ids = (names.SAMPLE_ID, names.PERSON_ID, names.VISIT, names.DATE)
    renamed: dict[str, str] = {}
    for header in frame.columns:
        known = columns.canonical(header)
        if known is not None and known[0] in ids:
            if known[0] in renamed.values():
                other = next(one for one, name in renamed.items() if name == known[0])
                raise SpecError(f"{where}: columns {other!r} and {header!r} both stand for {known[0]!r}: rename one")
            renamed[header] = known[0]
    frame = frame.rename(columns=renamed)
    for name in IDS:
        if name in frame:
            frame[name] = _text(frame[name])
    if names.VISIT in frame:
        frame[names.VISIT] = visit_numbers(frame[names.VISIT])
    notes: list[str] = []
    if names.SAMPLE_ID not in frame:
        if names.PERSON_ID not in frame:
            raise SpecError(
                f"{where} has neither `sample_id` nor `person_id`; it has {name_some(map(str, frame.columns), 12)}. "
                "Rename the column that tells its rows apart, or name it in a mapping file"
            )
        made, note = _made_ids(frame, where)
        frame.insert(0, names.SAMPLE_ID, made)
        notes.append(note)
    check_ids(frame[names.SAMPLE_ID].fillna("").to_numpy(dtype=object), "sample", where)
    return frame, notes


def _made_ids(frame: pd.DataFrame, where: str) -> tuple[pd.Series, str]:
    person = frame[names.PERSON_ID]
    if person.isna().any():
        row = int(np.flatnonzero(person.isna())[0]) + 1
        raise DataError(
            f"{where}: row {row:,} has no person_id, and the sheet has no sample_id that would tell the row from others"
        )
    visit = next((name for name in (names.VISIT, names.DATE) if name in frame), None)
    if visit is None:
        twice = person[person.duplicated()]
        if len(twice):
            raise DataError(
                f"{where}: person {twice.iloc[0]!r} has more than one row ({len(twice):,} rows too many), and there is "
                "no sample_id, visit or date that tells them apart: add one of these columns"
            )
        return person, "no sample_id: each row is one person, and its sample_id is the person_id"
    text = _text(frame[visit])
    if text.isna().any():
        row = int(np.flatnonzero(text.isna())[0])
        raise DataError(
            f"{where}: person {person.iloc[row]!r} has a row without {visit}, and there is no sample_id: fill one in"
        )
    made = person.str.cat(text, sep=JOINT)
    twice = made[made.duplicated()]
    if len(twice):
        row = twice.index[0]
        raise DataError(
            f"{where}: person {person[row]!r} has two rows of {visit} {text[row]!r} ({len(twice):,} rows too many), "
            "and there is no sample_id: each row is one visit of one person; join the rows or add a sample_id"
        )
    return made.astype(object), f"no sample_id: made of person_id and {visit}, as in {made.iloc[0]!r}"


def _text(column: pd.Series) -> pd.Series:
    """Ids as text objects, whole numbers without a decimal point; None where missing."""
    if column.dtype.kind == "f" and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return column.astype("string").astype(object).where(column.notna(), None)
