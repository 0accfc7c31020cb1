"""Sample sheets and feature tables: text in, a table by id with columns of a sensible type out."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.errors import DataError
from sjd_dask.store.ingest.ids import check_ids, name_some
from sjd_dask.store.ingest.sources.lines import LineReader
from sjd_dask.store.ingest.sources.numbers import MISSING_TOKENS, split_line
from sjd_dask.store.ingest.sources.text import sniff_delimiter

# 'None' is left out on purpose: it's an answer ("medication: None") as often as a hole.
MISSING_WORDS = frozenset((*MISSING_TOKENS, "<NA>", "#N/A"))
_LEADING_ZERO = re.compile(r"[+-]?0\d")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
# Whole numbers beyond this lose digits as float64, and are therefore codes rather than quantities.
_EXACT = 2**53
_TRUTH = {"true": True, "false": False}


def _infer(column: pd.Series) -> pd.Series:  # type: ignore[type-arg]
    """One column of text (missing: None) as bool, Int64, float64 or unchanged text."""
    present = [v for v in column if v is not None]
    if not present:
        return column
    if all(v.lower() in _TRUTH for v in present):
        flags = [None if v is None else _TRUTH[v.lower()] for v in column]
        if len(present) == len(column):
            return pd.Series(flags, index=column.index, dtype=bool)
        return pd.Series(flags, index=column.index, dtype="boolean")
    if any(_LEADING_ZERO.match(v) for v in present) or not all(_NUMBER.fullmatch(v) for v in present):
        return column
    if all(_WHOLE.fullmatch(v) for v in present):
        whole = [None if v is None else int(v) for v in column]
        if any(abs(v) > _EXACT for v in whole if v is not None):
            return column
        if len(present) == len(column):
            return pd.Series(whole, index=column.index, dtype=np.int64)
    numbers = [np.nan if v is None else float(v) for v in column]
    if not all(np.isfinite(v) for v, text in zip(numbers, column, strict=True) if text is not None):
        return column
    return pd.Series(numbers, index=column.index, dtype=np.float64)


def infer_columns(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Give columns of text their type.

    A column becomes numeric only if every value present is a plain number and none has a leading zero (``01005`` is
    a name); whole numbers with missing values become float64. ``true`` and ``false``, in any case, become bool.
    Columns called ``person_id`` or ``date``, or ending in ``_id``, stay text. Missing: '' and the usual words.

    Raises
    ------
    DataError
        A `date` column with a value that isn't an ISO date, naming the row.
    """
    result = {}
    for name in frame.columns:
        column = pd.Series(
            [None if _is_missing(v) else str(v).strip() for v in frame[name]], index=frame.index, dtype=object
        )
        if name == names.DATE:
            check_dates(column, where)
        keep = name == names.DATE or str(name).endswith("_id")
        result[name] = column if keep else _infer(column)
    return pd.DataFrame(result, index=frame.index)


def _is_missing(value: object) -> bool:
    return (
        value is None
        or value is pd.NA
        or (isinstance(value, float) and np.isnan(value))
        or (isinstance(value, str) and value.strip() in MISSING_WORDS)
    )


def check_dates(column: pd.Series, where: str) -> None:  # type: ignore[type-arg]
    """Refuse a column of text with a value that isn't an ISO date (a time may follow), naming the sample."""
    for sample, value in column.items():
        if value is None:
            continue
        try:
            if not re.match(r"\d{4}-\d{2}-\d{2}", value):
                raise ValueError
            pd.Timestamp(value)
        except ValueError:
            raise DataError(
                f"{where}: the date of {sample!r} is {value!r}, which is not an ISO date (2026-03-31). "
                "Dates must be written year-month-day; rename the column if it is something else."
            ) from None


def _read_text(path: Path) -> tuple[list[str], list[list[str]], list[int], str]:
    """Header, rows, their line numbers and the delimiter. Quoted fields may hold line breaks."""
    reader = LineReader(path)
    try:
        header = reader.read_line()
        if header is None or not header.strip():
            raise DataError(f"{path}: the first line is empty; a header of column names is needed.")
        lines = [text for _, text in reader.blocks()]
    finally:
        reader.close()
    body = b"".join(lines)
    first = body.split(b"\n", 1)[0] or None
    delimiter = sniff_delimiter(path, header, first) if _has_delimiter(header, first) else ","
    try:
        columns = split_line(header, delimiter)
        parsed = csv.reader(io.StringIO(body.decode("utf-8"), newline=""), delimiter=delimiter, strict=True)
        rows = []
        numbers = []
        line = 2
        for fields in parsed:
            if any(f.strip() for f in fields):
                rows.append([f.strip() for f in fields])
                numbers.append(line)
            line = parsed.line_num + 2
    except csv.Error as error:
        raise DataError(f"{path}: a quoted field is not closed, or quotes are misplaced ({error}).") from None
    return columns, rows, numbers, delimiter


def _has_delimiter(header: bytes, first: bytes | None) -> bool:
    return any(d in line for line in (header, first or b"") for d in (b"\t", b",", b";", b"|"))


def read_table(path: Path | str, id_column: str | None, default_id: str, kind: str) -> pd.DataFrame:
    """A table by id: see `read_sheet` for the rules; the index is called `default_id`.

    Parameters
    ----------
    path : path
        .csv, .tsv, .txt (optionally .gz), or .parquet.
    id_column : str, optional
        The column with the ids; otherwise the one called `default_id`, otherwise the first.
    default_id : str
    kind : str
        What a row is, for messages: ``"sample"`` or ``"feature"``.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no file {path}.")
    if path.suffix.lower() in (".parquet", ".pq"):
        import pyarrow.parquet as pq

        table = pq.read_table(path).to_pandas()
        if table.index.name or not isinstance(table.index, pd.RangeIndex):
            table = table.reset_index()
        columns = [str(c) for c in table.columns]
        typed: pd.DataFrame | None = table.set_axis(columns, axis=1)
        rows: list[list[str]] = []
    else:
        typed = None
        columns, rows, lines, delimiter = _read_text(path)
        # R leaves the name of the first column out; where the ids have a name, a field more is one too many.
        named = default_id in columns or id_column in columns
        if rows and not named and all(len(r) == len(columns) + 1 for r in rows):
            columns = ["", *columns]
        for row, line in zip(rows, lines, strict=True):
            if len(row) != len(columns):
                raise DataError(
                    f"{path}: line {line:,} has {len(row):,} fields where the header has {len(columns):,}. "
                    "Every line must have the same number of fields."
                )
        if delimiter == ";":
            _refuse_decimal_commas(path, columns, rows, lines)
    _check_columns(path, columns)
    if id_column is not None and id_column not in columns:
        raise DataError(f"{path}: there is no column {id_column!r}. It has: {name_some(columns, 20)}.")
    chosen = id_column if id_column is not None else default_id if default_id in columns else columns[0]
    if typed is not None:
        frame = typed
        ids = ["" if v is None or v is pd.NA or v != v else str(v) for v in frame[chosen]]
    else:
        frame = pd.DataFrame(rows, columns=pd.Index(columns, dtype=object), dtype=object)
        ids = [str(v) for v in frame[chosen]]
    if not ids:
        raise DataError(f"{path}: there is a header and no rows below it.")
    check_ids(ids, kind, f"{path}, column {chosen or 'without a name'!r}")
    frame = frame.drop(columns=[chosen]).set_axis(pd.Index(ids, name=default_id, dtype=object), axis=0)
    if typed is not None:
        text = [c for c in frame.columns if frame[c].dtype == object or isinstance(frame[c].dtype, pd.StringDtype)]
        if text:
            frame[text] = infer_columns(frame[text], str(path))
        for name in frame.columns:
            # An id stored as a number loses nothing as text; a category is text.
            if name.endswith("_id") or isinstance(frame[name].dtype, pd.CategoricalDtype):
                frame[name] = pd.Series(
                    [None if pd.isna(v) else str(v) for v in frame[name]], index=frame.index, dtype=object
                )
        return frame
    return infer_columns(frame, str(path))


def _refuse_decimal_commas(path: Path, columns: list[str], rows: list[list[str]], lines: list[int]) -> None:
    """A column of numbers with decimal commas would be text, and a factor in every design."""
    for place, name in enumerate(columns):
        present = [(row[place], line) for row, line in zip(rows, lines, strict=True) if row[place] not in MISSING_WORDS]
        commas = [(value, line) for value, line in present if _DECIMAL_COMMA.fullmatch(value)]
        if commas and all(_NUMBER.fullmatch(value.replace(",", ".", 1)) for value, _ in present):
            raise DataError(
                f"{path}: line {commas[0][1]:,}, column {name!r}: {commas[0][0]!r} is not a number: use a decimal "
                "point, not a comma."
            )


def _check_columns(path: Path, columns: list[str]) -> None:
    for position, name in enumerate(columns):
        if not name and position > 0:
            raise DataError(
                f"{path}: column {position + 1} has no name. Only the first column may be unnamed (the ids)."
            )
    check = [c for c in columns if c]
    if len(set(check)) != len(check):
        repeated = sorted({c for c in check if check.count(c) > 1})
        raise DataError(f"{path}: column names are repeated: {name_some(repeated)}. Rename them.")


def read_sheet(path: Path | str, id_column: str | None = None) -> pd.DataFrame:
    """A sample sheet.

    Parameters
    ----------
    path : path
        .csv, .tsv, .txt (optionally .gz) or .parquet. The delimiter follows the suffix unless the first lines say
        otherwise.
    id_column : str, optional
        The column with the sample ids. Default: `sample_id` if there is one, else the first column, whatever its name.

    Returns
    -------
    DataFrame
        Indexed by `sample_id` (str, never a number, so ``01005`` stays). Columns are read as text and typed by
        `infer_columns`: ``person_id`` and other ``*_id`` columns stay text. Missing values: '', NA, NaN, nan, null,
        NULL, N/A and '.'.

    Raises
    ------
    DataError
        Ragged lines, repeated or empty ids, repeated or missing column names, dates that aren't ISO dates; the
        offender is named.
    """
    return read_table(path, id_column, names.SAMPLE_ID, "sample")


def unmatched(matrix_ids: Iterable[str], sheet: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Ids of the matrix that the sheet lacks, and ids of the sheet that the matrix lacks, each in its own order."""
    matrix = list(matrix_ids)
    known = set(matrix)
    listed = set(map(str, sheet.index))
    return [i for i in matrix if i not in listed], [str(i) for i in sheet.index if i not in known]
