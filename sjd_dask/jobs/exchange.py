"""`sjd exchange`: a clinical sheet with its scores and molecular classes, in the formats that others read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from sjd_dask import __version__, names
from sjd_dask.clinical.definitions import Overrides, did_you_mean, load_definition
from sjd_dask.clinical.exchange.observations import (
    Column,
    call_columns,
    names_of,
    person_ids,
    score_columns,
    sheet_columns,
)
from sjd_dask.designs.query import query_samples
from sjd_dask.errors import DataError, SpecError
from sjd_dask.jobs.clinical_sheet import open_sheet
from sjd_dask.jobs.folders import check_new_folder, whole_folder
from sjd_dask.jobs.sheet_files import read_table, write_table
from sjd_dask.store.ingest.ids import check_ids, name_some

if TYPE_CHECKING:
    from sjd_dask.clinical.sheet import Sheet

PHENOPACKETS, OMOP = "phenopackets", "omop"
FORMATS = (PHENOPACKETS, OMOP)
# What `sjd score --measure acr-eular` says of a person who meets the criteria.
_CRITERIA, _MET = "acr_eular_class", "definite"
_LONGEST_NAME = 240  # bytes of a file name, with room for what a file system adds


@dataclass(frozen=True)
class Exchanged:
    """What `exchange` wrote.

    Attributes
    ----------
    folder : str
    files : list of str
        Of OMOP, the tables; of Phenopackets, none: there is one a person.
    counts : dict
        Persons, rows of the sheet, measurements.
    notes : list of str
    """

    folder: str
    files: list[str]
    counts: dict[str, int]
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"folder": self.folder, "files": self.files, **self.counts, "notes": self.notes}


def exchange(
    sheet: Path | str,
    out: Path | str,
    to: str,
    *,
    scores: Path | str | None = None,
    cohort: str | None = None,
    calls: str | None = None,
    mapping: Path | str | None = None,
    units: Mapping[str, str] | None = None,
    definitions: Overrides | None = None,
    patients: str | None = None,
    persons: Path | str | None = None,
) -> Exchanged:
    """Write what is known of each person in a format of exchange.

    Parameters
    ----------
    sheet : path or URL
        A clinical sheet: a file, a folder of Parquet parts, or a cohort.
    out : path
        A folder to make; it appears whole or not at all.
    to : {"phenopackets", "omop"}
        ``PERSON.json`` for each person; or ``measurement.csv`` with ``person_ids.csv`` and ``visit_ids.csv``.
    scores : path, optional
        A table that ``sjd score`` wrote, joined by `sample_id`.
    cohort, calls : str, optional
        The molecular classes ``classes/CALLS`` of a cohort, joined by `sample_id`. They go together.
    mapping, units : optional
        How the sheet's columns are to be read; see `open_sheet`.
    definitions : mapping, optional
        Laid over the shipped definitions, such as ``{"omop": FILE}``.
    patients : str, optional
        Query of the rows whose persons have Sjögren disease. Default: those that the scores say meet the 2016 criteria;
        without such a column no disease is stated of anyone.
    persons : path, optional
        Table of `person_source_value` and `person_id`: numbers that OMOP rows of these persons must have.

    Raises
    ------
    SpecError
        Another format, a folder that holds something, calls without cohort, a table of persons without its columns.
    DataError
        What the sheet, the scores or the calls get wrong; OMOP rows without a date.
    MissingDependency
        Phenopackets without the package ``phenopackets``.
    """
    if to not in FORMATS:
        raise SpecError(f"--to {to!r}: no such format{did_you_mean(to, FORMATS)}; there are {' and '.join(FORMATS)}")
    if (cohort is None) != (calls is None):
        raise SpecError("--cohort and --calls go together: the cohort, and the name of its calls")
    if persons is not None and to != OMOP:
        raise SpecError("--persons is for --to omop: other formats keep the ids of persons as they are")
    target = Path(out)
    check_new_folder(target)
    opened = open_sheet(sheet, mapping=mapping, units=units, definitions=definitions)
    read = opened.read()
    notes = list(opened.notes)
    columns: list[Column] = []
    table = None
    if scores is not None:
        table = _aligned(read_table(scores), read, str(scores), notes)
        columns += score_columns(table)
        if not columns:
            raise DataError(
                f"{scores} holds no score: its columns are {name_some(map(str, table.columns), 8) or 'none but ids'}. "
                "Give a table that `sjd score` wrote"
            )
    if cohort is not None and calls is not None:
        calls = f"{names.CLASSES}/{calls.removeprefix(f'{names.CLASSES}/')}"
        columns += call_columns(_aligned(_calls(cohort, calls), read, calls, notes))
    columns = [*sheet_columns(read, definitions, without=names_of(columns)), *columns]
    if not columns:
        raise DataError(f"{sheet}: no column that a clinical sheet knows, and no scores or calls: nothing to write")
    with whole_folder(target) as folder:
        if to == PHENOPACKETS:
            stated = _patients(read, table, patients, notes)
            return _write_packets(read, columns, stated, definitions, folder, target, notes)
        return _write_omop(read, columns, persons, definitions, folder, target, notes)


def _write_packets(
    sheet: Sheet,
    columns: list[Column],
    patients: NDArray[np.bool_] | None,
    definitions: Overrides | None,
    folder: Path,
    target: Path,
    notes: list[str],
) -> Exchanged:
    from sjd_dask.clinical.exchange.phenopackets import Packets

    created = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    count = 0
    for person, text in Packets(sheet, columns, patients, created, __version__, definitions):
        file = folder / _file_name(person)
        try:
            with file.open("x", encoding="utf-8") as opened:
                opened.write(text)
        except FileExistsError:
            raise DataError(f"person {person!r}: another person's file has the same name {file.name!r} here") from None
        count += 1
    return Exchanged(str(target), [], {"persons": count, "rows": sheet.n}, notes)


def _write_omop(
    sheet: Sheet,
    columns: list[Column],
    persons: Path | str | None,
    definitions: Overrides | None,
    folder: Path,
    target: Path,
    notes: list[str],
) -> Exchanged:
    from sjd_dask.clinical.exchange import omop

    terms = load_definition("omop", definitions)
    ids = person_ids(sheet)
    numbered = omop.person_numbers(ids, None if persons is None else _known_persons(persons))
    numbers = pd.Series(ids).map(numbered.set_index("person_source_value")["person_id"]).to_numpy(dtype=np.int64)
    schema = pa.schema([(name, _ARROW[kind]) for name, kind in omop.MEASUREMENT.items()])
    count = 0
    with pacsv.CSVWriter(folder / "measurement.csv", schema, write_options=_PLAIN) as writer:
        for piece in omop.measurement_rows(sheet, columns, numbers, terms):
            length = len(piece["measurement_id"])
            filled = [
                _arrow(piece[one.name], one.type) if one.name in piece else pa.nulls(length, one.type) for one in schema
            ]
            writer.write_table(pa.Table.from_arrays(filled, schema=schema))
            count += length
    write_table(numbered, folder / "person_ids.csv")
    write_table(omop.visit_numbers(sheet, numbers), folder / "visit_ids.csv")
    unmapped = sorted({one.name for one in columns} - set(terms["concepts"]))
    if unmapped:
        notes.append(
            f"{len(unmapped)} of {len(columns)} columns have measurement_concept_id 0 ({name_some(unmapped, 5)}): give "
            "your vocabulary's concepts by --definition omop=FILE"
        )
    files = [str(target / one) for one in ("measurement.csv", "person_ids.csv", "visit_ids.csv")]
    return Exchanged(str(target), files, {"persons": len(set(ids)), "rows": sheet.n, "measurements": count}, notes)


_ARROW = {"int64": pa.int64(), "float64": pa.float64(), "str": pa.string()}
_PLAIN = pacsv.WriteOptions(quoting_style="needed")


def _arrow(values: np.ma.MaskedArray, kind: pa.DataType) -> pa.Array:
    return pa.array(values.data, kind, mask=np.ma.getmaskarray(values))


def _aligned(table: pd.DataFrame, sheet: Sheet, where: str, notes: list[str]) -> pd.DataFrame:
    """The rows of a table for each row of the sheet, by sample id; missing where the table has none."""
    if names.SAMPLE_ID not in table:
        raise SpecError(
            f"{where} has no column 'sample_id'; it has {name_some(map(str, table.columns), 12)}. Scores and calls are "
            "joined to the sheet by it"
        )
    check_ids(table[names.SAMPLE_ID].fillna("").to_numpy(dtype=object), "sample", where)
    samples = sheet.frame[names.SAMPLE_ID]
    rows = table.set_index(names.SAMPLE_ID)
    found = samples.isin(rows.index)
    if not found.any():
        raise DataError(
            f"{where}: none of its {len(rows):,} samples is in the sheet; its first is {rows.index[0]!r}, the sheet's "
            f"{samples.iloc[0]!r}"
        )
    if not found.all() or len(rows) > found.sum():
        notes.append(f"{where}: {int(found.sum()):,} of the sheet's {sheet.n:,} rows are in its {len(rows):,}")
    return rows.reindex(samples.to_numpy()).reset_index(drop=True)


def _calls(cohort: str, calls: str) -> pd.DataFrame:
    from sjd_dask.store.cohort import open_cohort

    table: pd.DataFrame = open_cohort(cohort).result(calls).to_pandas()
    return table if names.SAMPLE_ID in table else table.reset_index()


def _patients(
    sheet: Sheet, scores: pd.DataFrame | None, query: str | None, notes: list[str]
) -> NDArray[np.bool_] | None:
    """Rows that say their person has the disease; None where nothing tells."""
    if query is None:
        if scores is None or _CRITERIA not in scores:
            notes.append(
                "no disease is stated of anyone: name the patients by --patients QUERY, or give scores of acr-eular"
            )
            return None
        met = (scores[_CRITERIA] == _MET).fillna(False).to_numpy(dtype=bool)
        notes.append(f"the disease is stated of persons who meet the 2016 ACR/EULAR criteria: {int(met.sum()):,} rows")
        return met
    frame = sheet.frame
    if scores is not None:
        frame = pd.concat([frame, scores.drop(columns=[one for one in scores if one in frame])], axis=1)
    asked = frame.set_index(names.SAMPLE_ID)
    return np.asarray(asked.index.isin(query_samples(asked, query, "patients").index), dtype=bool)


def _known_persons(path: Path | str) -> dict[str, int]:
    table = read_table(path, is_id=lambda name: name == "person_source_value")
    wanted = ("person_source_value", "person_id")
    lacking = [one for one in wanted if one not in table]
    if lacking:
        raise SpecError(
            f"{path} has no column {lacking[0]!r}; a table of persons has {' and '.join(wanted)}, as `person_ids.csv` "
            "of an earlier export"
        )
    numbers = pd.to_numeric(table["person_id"], errors="coerce")
    bad = numbers.isna() | (numbers % 1 != 0) | (numbers < 1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        given = table.iloc[row]
        raise DataError(
            f"{path}: person {given['person_source_value']!r} has person_id {given['person_id']!r}; it must be a whole "
            "number above 0"
        )
    for name, values in (("person_source_value", table["person_source_value"]), ("person_id", numbers.astype(object))):
        twice = values[values.duplicated()]
        if len(twice):
            raise DataError(f"{path}: {name} {twice.iloc[0]!r} comes more than once: one row a person")
    return dict(zip(table["person_source_value"], numbers.astype(int).tolist(), strict=True))


def _file_name(person: str) -> str:
    """A file name that no id can turn into another folder's."""
    name = quote(person, safe=" @+,=()")
    name = f"%2E{name[1:]}" if name.startswith(".") else name
    if len(name.encode()) > _LONGEST_NAME:
        raise DataError(f"the id of person {person[:40]!r}... is too long for a file name ({len(person):,} characters)")
    return f"{name}.json"
