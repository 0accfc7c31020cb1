"""Tables of people and visits as files: clinical sheets come in, tables of scores go out.

Reads a million rows in seconds, since nothing here works a row at a time.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from sjd_dask import names
from sjd_dask.clinical.columns import column_dictionary
from sjd_dask.errors import DataError
from sjd_dask.jobs.table_writer import (
    PARQUET_ENDINGS,
    TEXT_ENDINGS,
    bare_ending,
    check_writable,
    write_json,
    write_table,
)
from sjd_dask.store.files import is_url
from sjd_dask.store.ingest.ids import name_some
from sjd_dask.store.ingest.sheets import MISSING_WORDS
from sjd_dask.store.ingest.sources.lines import LineReader
from sjd_dask.store.ingest.sources.numbers import split_line
from sjd_dask.store.ingest.sources.text import sniff_delimiter

__all__ = ["check_writable", "id_header", "read_table", "visit_numbers", "write_json", "write_table"]


def id_header(name: str) -> bool:
    """Whether a column of that name holds ids: those of a clinical sheet, and whatever ends in ``_id``."""
    known = column_dictionary().canonical(name)
    if known is not None:
        return known[0] in (names.SAMPLE_ID, names.PERSON_ID)
    return name == "" or name.lower().endswith(("_id", " id")) or name.lower() == "id"


def read_table(path: Path | str, *, is_id: Callable[[str], bool] = id_header) -> pd.DataFrame:
    """A table from a file, a folder of Parquet parts, or the sample sheet of a cohort.

    Parameters
    ----------
    path : path or URL
        ``.csv``, ``.tsv``, ``.txt`` (also gzipped), ``.parquet``; a folder of Parquet files, read in the order of their
        names; a folder or URL that holds ``cohort.toml``.
    is_id : callable
        Says of a column's name whether it holds ids, which are never read as numbers (``01005`` keeps its zero).
        Default: ``sample_id`` and ``person_id`` under any of their spellings, and whatever ends in ``_id``.

    Returns
    -------
    DataFrame
        Rows in the file's order. Numbers are float64 or int64, flags bool, all else text; dates are text as written.
        Missing: an empty field and the usual words (NA, NaN, null, ...). The ids of a first column without a name are
        called ``sample_id``.

    Raises
    ------
    DataError
        No such file, another kind of file, lines of unequal length, column names that are empty or repeated, no rows.
    """
    if is_url(str(path)) or (Path(path) / "cohort.toml").is_file():
        from sjd_dask.store.cohort import open_cohort

        sheet = open_cohort(str(path)).samples()
        if sheet.empty:
            raise DataError(f"the cohort {path} has no samples yet: bring some in with `sjd ingest` or `sjd samples`.")
        return sheet.reset_index()
    file = Path(path)
    if file.is_dir():
        parts = sorted(one for one in file.iterdir() if one.suffix.lower() in PARQUET_ENDINGS)
        if not parts:
            raise DataError(f"the folder {file} holds neither cohort.toml nor a .parquet file.")
        frame = pd.concat([_read_parquet(one) for one in parts], ignore_index=True)
    elif not file.is_file():
        raise DataError(f"there is no file {file}.")
    elif file.suffix.lower() in PARQUET_ENDINGS:
        frame = _read_parquet(file)
    elif bare_ending(file) in TEXT_ENDINGS:
        frame = _read_text(file, is_id)
    else:
        raise DataError(
            f"{file}: the ending must tell the format; a table is .csv, .tsv or .txt (also .gz), .parquet, a folder of "
            "Parquet files, or a cohort."
        )
    frame = frame.rename(columns={"": names.SAMPLE_ID}) if names.SAMPLE_ID not in frame else frame
    _check_names(file, list(frame.columns))
    if frame.empty:
        raise DataError(f"{file}: there is a header and no rows below it.")
    return _with_text_ids(frame, is_id)


# -- reading ------------------------------------------------------------------


def _read_parquet(file: Path) -> pd.DataFrame:
    try:
        frame = pq.read_table(file).to_pandas()
    except pa.ArrowInvalid as error:
        raise DataError(f"{file} is not a Parquet file that can be read: {error}") from error
    if frame.index.name or not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index()
    frame.columns = [str(one).strip() for one in frame.columns]
    for name in frame.columns:
        if isinstance(frame[name].dtype, pd.CategoricalDtype):
            frame[name] = frame[name].astype(object)
        elif frame[name].dtype.kind == "M":
            frame[name] = _date_text(frame[name])
    return frame


def _date_text(column: pd.Series) -> pd.Series:
    """Days as text; with the time where there is one."""
    whole = (column.dropna() == column.dropna().dt.normalize()).all()
    written = column.dt.strftime("%Y-%m-%d" if whole else "%Y-%m-%dT%H:%M:%S").astype(object)
    return written.where(column.notna(), None)


def _read_text(file: Path, is_id: Callable[[str], bool]) -> pd.DataFrame:
    reader = LineReader(file)
    try:
        header = reader.read_line()
        if header is None or not header.strip():
            raise DataError(f"{file}: the first line is empty; a header of column names is needed.")
        first = next((block.split(b"\n", 1)[0] for _, block in reader.blocks()), None)
    finally:
        reader.close()
    if first is None:
        raise DataError(f"{file}: there is a header and no rows below it.")
    try:
        delimiter = _delimiter(file, header, first)
        columns = [one.strip() for one in split_line(header, delimiter)]
        width = len(split_line(first, delimiter))
    except csv.Error as error:
        raise DataError(f"{file}: a quoted field of the first lines is not closed ({error}).") from None
    if width == len(columns) + 1:
        columns = ["", *columns]  # R leaves the name of the first column out.
    _check_names(file, columns)
    table = _parse(file, columns, delimiter, {one for one in columns if one == names.VISIT or is_id(one)})
    frame = table.to_pandas()
    if names.VISIT in frame:
        frame[names.VISIT] = visit_numbers(frame[names.VISIT])
    return frame


def _delimiter(file: Path, header: bytes, first: bytes) -> str:
    """What parts both header and first row into the same number of fields; the ending's own where that is no help."""
    own = TEXT_ENDINGS[bare_ending(file)]
    order = [own, *(one for one in "\t,;|" if one != own)]
    for one in order:
        width = len(split_line(header, one))
        if width > 1 and width == len(split_line(first, one)):
            return one
    return sniff_delimiter(file, header, first) if any(one.encode() in header for one in order) else own


def _parse(file: Path, columns: list[str], delimiter: str, ids: set[str]) -> pa.Table:
    ragged: list[Any] = []

    def keep(row: Any) -> str:
        ragged.append(row)
        return "error"

    types: dict[str, Any] = dict.fromkeys(ids, pa.string())
    try:
        with file.open("rb") as opened:
            compression = "gzip" if opened.read(2) == b"\x1f\x8b" else None
        with pa.input_stream(str(file), compression=compression) as stream:
            table = pacsv.read_csv(
                stream,
                # One thread: it knows the number of a bad line.
                pacsv.ReadOptions(column_names=columns, skip_rows=1, use_threads=False, block_size=4 << 20),
                pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=keep),
                pacsv.ConvertOptions(column_types=types, null_values=sorted(MISSING_WORDS), strings_can_be_null=True),
            )
    except pa.ArrowInvalid as error:
        if ragged:
            where = "" if ragged[0].number is None else f" {ragged[0].number:,}"
            raise DataError(
                f"{file}: line{where} has {ragged[0].actual_columns:,} fields where the header has {len(columns):,}. "
                "Every line must have the same number of fields."
            ) from None
        raise DataError(f"{file} can't be read as a table: {error}") from None
    for i, name in enumerate(columns):
        if pa.types.is_binary(table.column(i).type):  # what the reader makes of bytes that are no text
            _refuse_bytes(file, name, table.column(i))
    return pa.table({name: _plain(table.column(i)) for i, name in enumerate(columns)})


def _refuse_bytes(file: Path, name: str, column: pa.ChunkedArray) -> None:
    for row, value in enumerate(column.to_pylist(), start=1):
        try:
            (value or b"").decode("utf-8")
        except UnicodeDecodeError:
            raise DataError(
                f"{file}: column {name!r}, row {row:,} holds {value!r}, which is no UTF-8 text. Save the file as UTF-8."
            ) from None


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text without the spaces around it; dates and times as text."""
    if pa.types.is_temporal(column.type):
        return column.cast(pa.string())
    if pa.types.is_string(column.type):
        trimmed = pc.utf8_trim_whitespace(column)
        return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)
    if pa.types.is_null(column.type):
        return column.cast(pa.float64())
    return column


def visit_numbers(column: pd.Series) -> pd.Series:
    """Visits as numbers where all of them are plain whole numbers; text as it is otherwise (``01``, ``week 24``)."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column
    present = column.dropna()
    plain = present.astype(str).str.fullmatch(r"0|[1-9]\d{0,8}")
    if len(present) and bool(plain.all()):
        return pd.to_numeric(column) if len(present) < len(column) else column.astype("int64")
    return column.astype(object).where(column.notna(), None)


def _with_text_ids(frame: pd.DataFrame, is_id: Callable[[str], bool]) -> pd.DataFrame:
    """Ids as plain text objects; a number that holds an id is written without a decimal point."""
    for name in frame.columns:
        if not is_id(name):
            continue
        column = frame[name]
        if column.dtype.kind == "f" and (column.dropna() % 1 == 0).all():
            column = column.astype("Int64")
        frame[name] = column.astype("string").astype(object).where(column.notna(), None)
    return frame


def _check_names(file: Path, columns: list[str]) -> None:
    empty = [i for i, one in enumerate(columns) if not one and i > 0]
    if empty:
        raise DataError(
            f"{file}: column {empty[0] + 1} has no name. Only the first column may be unnamed (the sample ids)."
        )
    repeated = sorted({one for one in columns if one and columns.count(one) > 1})
    if repeated:
        raise DataError(f"{file}: column names are repeated: {name_some(repeated)}. Rename them.")
