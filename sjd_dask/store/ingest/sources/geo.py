"""GEO series matrix: text with `!Sample_` lines that describe the arrays, then a table of values."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from sjd_dask import names
from sjd_dask.errors import DataError
from sjd_dask.store.ingest.sheets import check_dates, infer_columns
from sjd_dask.store.ingest.sources.base import SourceOptions
from sjd_dask.store.ingest.sources.lines import LineReader
from sjd_dask.store.ingest.sources.numbers import split_line
from sjd_dask.store.ingest.sources.text import TextSource

_BEGIN = "!series_matrix_table_begin"
_END = b"!series_matrix_table_end"
_CHARACTERISTICS = "characteristics_ch"


def is_series_matrix(path: Path) -> bool:
    """Does the file start like a GEO series matrix?"""
    reader = LineReader(path)
    try:
        line = reader.read_line()
        return line is not None and line.lstrip(b'"').startswith((b"!Series_", b"!Sample_"))
    finally:
        reader.close()


class GeoSource(TextSource):
    """Table of a series matrix; see `open_geo`."""

    def _text_blocks(self) -> Iterator[tuple[int, bytes]]:
        for line, text in self._reader.blocks():
            end = text.find(_END)
            while end > 0 and text[end - 1 : end] not in (b"\n", b'"'):
                end = text.find(_END, end + 1)
            if end < 0:
                yield line, text
                continue
            body = text[:end].rstrip(b'"')
            if body:
                yield line, body
            return
        raise DataError(
            f"{self.path}: the table has no end mark ({_END.decode()}): the file is cut off after line "
            f"{self._reader.line - 1:,}. Download it again."
        )


def _sample_columns(path: Path, lines: list[tuple[str, list[str]]]) -> pd.DataFrame:
    ids = next((values for key, values in lines if key == "geo_accession"), None)
    if ids is None:
        raise DataError(f"{path}: the line !Sample_geo_accession is missing; it names the samples.")
    columns: dict[str, list[str | None]] = {}

    def put(name: str, position: int, value: str) -> None:
        column = columns.setdefault(name, [None] * len(ids))
        before = column[position]
        # A key given twice for one array keeps both values; nothing is dropped in silence.
        column[position] = value if before is None or before == value else f"{before}; {value}"

    for key, values in lines:
        if len(values) != len(ids):
            raise DataError(f"{path}: !Sample_{key} has {len(values):,} values for {len(ids):,} samples.")
        for position, value in enumerate(values):
            if not value:
                continue
            if key.startswith(_CHARACTERISTICS):
                # The order of the keys may differ from sample to sample, so each value is filed under its own key.
                name, colon, text = value.partition(":")
                if colon and name.strip():
                    put(name.strip(), position, text.strip())
                else:
                    put(key, position, value)
            elif key == "title":
                put("title", position, value)
            elif key == "source_name_ch1":
                put("source_name", position, value)
    frame = pd.DataFrame(columns, index=pd.Index(ids, name="sample_id", dtype=object), dtype=object)
    if names.DATE in frame.columns:
        try:
            check_dates(frame[names.DATE], str(path))
        except DataError:
            # The file can't be edited for a column that only happens to have this name; kept as text under another.
            frame = frame.rename(columns={names.DATE: "date_as_given"})
    return infer_columns(frame, str(path))


def open_geo(path: Path, options: SourceOptions) -> GeoSource:
    """Open a GEO series matrix.

    Samples are named by their accession (GSM...). `title`, `source_name` and each key of the characteristics become
    sample columns. Features are in rows.

    Raises
    ------
    DataError
        No table, no accessions, a table whose header names other samples, or one that is cut off.
    """
    reader = LineReader(path)
    try:
        described: list[tuple[str, list[str]]] = []
        while True:
            number = reader.line
            raw = reader.read_line()
            if raw is None:
                raise DataError(f"{path}: there is no {_BEGIN}: the series matrix has no table of values.")
            try:
                fields = split_line(raw, "\t")
            except csv.Error as error:
                raise DataError(
                    f"{path}: line {number:,}: a quoted field is not closed on its line ({error})."
                ) from None
            if fields[0] == _BEGIN:
                break
            if fields[0].startswith("!Sample_"):
                described.append((fields[0].removeprefix("!Sample_"), fields[1:]))
        header = reader.read_line()
        listed = split_line(header, "\t")[1:] if header else []
        if header is None or not listed or header.lstrip(b'"').startswith(_END):
            raise DataError(
                f"{path}: the table of the series matrix is empty. GEO keeps the values of sequencing series in "
                "supplementary files: ingest one of those."
            )
        columns = _sample_columns(path, described)
        if set(listed) != set(columns.index):
            other = sorted(set(listed) ^ set(columns.index))
            raise DataError(
                f"{path}: the header of the table and !Sample_geo_accession name different samples, e.g. {other[0]!r}."
            )
        source = GeoSource(path, reader, "\t", "features", listed)
        source.sample_columns = columns
        source.rows_may_be_told = False
        if options.rows == "samples":
            raise DataError(f"{path}: a series matrix has features in rows; leave out --rows samples.")
        return source
    except BaseException:
        reader.close()
        raise
