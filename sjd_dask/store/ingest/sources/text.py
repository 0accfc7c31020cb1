"""TSV and CSV, plain or gzip: a header with ids, then one line for each feature (or sample) that starts with its id."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sjd_dask import names
from sjd_dask.errors import DataError
from sjd_dask.store.ingest.sources.base import Block, MatrixSource, Orientation, SourceOptions
from sjd_dask.store.ingest.sources.lines import LineReader
from sjd_dask.store.ingest.sources.numbers import parse_block, split_line

_BY_SUFFIX = {".tsv": "\t", ".tab": "\t", ".txt": "\t", ".csv": ","}
# Bytes of text after which compiling the parser pays.
COMPILE_AFTER = 32 << 20
_ID_NAMES = (names.FEATURE_ID, names.SAMPLE_ID)
_CANDIDATES = ("\t", ",", ";", " ", "|")


class TextSource(MatrixSource):
    """Delimited text, read line by line; see `open_text`."""

    def __init__(
        self, path: Path, reader: LineReader, delimiter: str, orientation: Orientation, minor_ids: list[str]
    ) -> None:
        super().__init__(path=path, orientation=orientation, minor_ids=minor_ids, dtype=np.dtype(np.float64))
        self.delimiter = delimiter
        self._reader = reader
        self._first_line = reader.line
        self.rows_may_be_told = True

    def where(self, major_index: int) -> str:
        return f"line {self._first_line + major_index:,}"

    def _text_blocks(self) -> Iterator[tuple[int, bytes]]:
        return self._reader.blocks()

    def blocks(self) -> Iterator[Block]:
        kinds = (self.major, self.minor)
        n_read = 0
        for line, text in self._text_blocks():
            n_read += len(text)
            compiled = n_read > COMPILE_AFTER
            ids, values = parse_block(text, line, self.delimiter, self.minor_ids, kinds, self.path, compiled=compiled)
            yield Block(ids, values)

    def close(self) -> None:
        self._reader.close()


def _bare_suffix(path: Path) -> str:
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".gzip"):
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def sniff_delimiter(path: Path, header: bytes, first: bytes | None) -> str:
    """The delimiter: by the suffix of the file if its first lines agree, else the first of tab, comma, semicolon,
    space, bar that does."""
    by_suffix = _BY_SUFFIX.get(_bare_suffix(path))
    order = [by_suffix] if by_suffix else []
    order += [d for d in _CANDIDATES if d != by_suffix]
    found: list[tuple[bool, int, str]] = []
    for delimiter in order:
        try:
            in_header = len(split_line(header, delimiter))
            in_first = in_header if first is None else len(split_line(first, delimiter))
        except csv.Error:
            continue
        if in_first > 1 and in_first - in_header in (0, 1):
            found.append((in_header == 1 or delimiter == " ", len(found), delimiter))
    if found:
        # One that the header lacks fits a header of one id alone; in `id;s1` over `cg1;0,5` it is the decimal comma.
        return min(found)[2]
    # Nothing fits: the suffix, or whatever the header holds, and the ragged line is named later.
    for delimiter in order:
        if delimiter != " " and delimiter.encode() in header:
            return delimiter
    raise DataError(
        f"{path}: the first line holds no delimiter (tab, comma, semicolon, space): a header of ids is needed, "
        f"and each line must start with an id. It begins with {header[:60]!r}."
    )


def open_text(path: Path, options: SourceOptions) -> TextSource:
    """Open delimited text.

    The delimiter follows the suffix (.csv comma; .tsv, .tab and .txt tab) unless the first two lines say otherwise.
    Rows are features unless ``options.rows`` is 'samples'. The first cell of the header may be empty, hold any name,
    or be left out altogether, as R's ``write.table`` does. Fields may be quoted; spaces around a field are dropped.

    Raises
    ------
    DataError
        Empty file, damaged gzip, not UTF-8, a header without ids.
    """
    reader = LineReader(path)
    try:
        header = reader.read_line()
        if header is None or not header.strip():
            raise DataError(f"{path}: the first line is empty; a header of ids is needed.")
        if b"\r" in header:
            raise DataError(
                f"{path}: the lines end in a lone carriage return (old Mac text). Save it with LF line ends."
            )
        first = reader.read_line()
        delimiter = sniff_delimiter(path, header, first)
        try:
            header_ids = split_line(header, delimiter)
            n_first = len(header_ids) if first is None else len(split_line(first, delimiter))
        except csv.Error as error:
            raise DataError(f"{path}: line 1 or 2: a quoted field is not closed on its line ({error}).") from None
        if first is None or not first.strip():
            raise DataError(f"{path}: there is a header and no values below it.")
        reader.put_back(first)
        # Where the ids have a name, a field more is one too many.
        headless = n_first == len(header_ids) + 1 and header_ids[0] not in _ID_NAMES
        minor_ids = header_ids if headless else header_ids[1:]
        return TextSource(path, reader, delimiter, options.rows or "features", minor_ids)
    except BaseException:
        reader.close()
        raise
