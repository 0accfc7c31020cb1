"""Tables as files, piece by piece: a large table of scores is written while it is made.

A file appears whole or not at all, and holds the same rows in whatever pieces they came.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sjd_dask.errors import SpecError
from sjd_dask.store.files import whole_or_nothing, writing

TEXT_ENDINGS = {".csv": ",", ".tsv": "\t", ".txt": "\t", ".tab": "\t"}
PARQUET_ENDINGS = (".parquet", ".pq")
WRITTEN = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ".json")
# Rows that are turned into text at a time.
_BLOCK_ROWS = 65_536
_GROUP_ROWS = 262_144

Write = Callable[[pa.Table], None]


@contextlib.contextmanager
def table_writer(path: Path | str) -> Iterator[Write]:
    """A function that writes the next rows of a table; the file is there when the block ends well.

    Parameters
    ----------
    path : path
        See `write_table`.

    Yields
    ------
    callable
        Takes an Arrow table; all of one schema, at least one.
    """
    target = Path(path)
    check_writable(target)
    with (
        writing(str(target), "nothing was written"),
        whole_or_nothing(target) as temporary,
        _FORMATS.get(bare_ending(target), _text)(target, temporary) as write,
    ):
        yield write


def write_table(frame: pd.DataFrame | pa.Table, path: Path | str) -> Path:
    """Write a table to a file, whole or not at all.

    Parameters
    ----------
    frame : DataFrame or Arrow table
        The columns of a DataFrame are written, its index is not.
    path : path
        ``.csv``, ``.tsv`` (also ``.gz``), ``.parquet``, or ``.json`` (a list of rows, null where missing). In text a
        float is the shortest number that reads back to the same bits, and a missing value an empty field.

    Raises
    ------
    SpecError
        Another ending, or no such folder.
    """
    # Arrow takes NaN of a frame as missing.
    table = frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame, preserve_index=False)
    with table_writer(path) as write:
        write(table)
    return Path(path)


def write_json(content: object, path: Path | str) -> Path:
    """Plain data as a JSON file, whole or not at all."""
    target = Path(path)
    with writing(str(target), "nothing was written"), whole_or_nothing(target) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return target


def check_writable(path: Path) -> None:
    """Refuse a file name before any work is done for it. See :func:`write_table`."""
    if not path.name.lower().endswith(WRITTEN):
        raise SpecError(f"{path.name!r} ends in none of {', '.join(WRITTEN)}: the ending chooses the format")
    if not path.absolute().parent.is_dir():
        raise SpecError(f"there is no folder {path.absolute().parent} to write {path.name} into: make it first")
    if path.is_dir():
        raise SpecError(f"{path} is a folder: name a file")


def bare_ending(file: Path) -> str:
    """The ending that tells the format, compression left out."""
    endings = [one.lower() for one in file.suffixes]
    if endings and endings[-1] in (".gz", ".gzip"):
        endings.pop()
    return endings[-1] if endings else ""


@contextlib.contextmanager
def _parquet(target: Path, temporary: Path) -> Iterator[Write]:
    with contextlib.ExitStack() as stack:
        opened: list[pq.ParquetWriter] = []

        def write(table: pa.Table) -> None:
            # Without Arrow's own schema dictionary-encoded text is read back as text.
            plain = table.replace_schema_metadata(None)
            if not opened:
                writer = pq.ParquetWriter(
                    temporary, plain.schema, compression="zstd", store_schema=False, write_statistics=False
                )
                opened.append(stack.enter_context(writer))
            opened[0].write_table(plain, row_group_size=_GROUP_ROWS)

        yield write


@contextlib.contextmanager
def _json(target: Path, temporary: Path) -> Iterator[Write]:
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write("[")
        between = "\n"

        def write(table: pa.Table) -> None:
            nonlocal between
            for batch in table.to_batches(max_chunksize=_BLOCK_ROWS):
                for row in batch.to_pylist():
                    stream.write(between + json.dumps(row, ensure_ascii=False))
                    between = ",\n"

        yield write
        stream.write("\n]\n")


@contextlib.contextmanager
def _text(target: Path, temporary: Path) -> Iterator[Write]:
    delimiter = TEXT_ENDINGS[bare_ending(target)]
    compression = "gzip" if target.suffix.lower() == ".gz" else None
    with pa.output_stream(str(temporary), compression=compression) as stream:
        begun = False

        def write(table: pa.Table) -> None:
            nonlocal begun
            if not begun:
                header = delimiter.join(_quoted_name(one, delimiter) for one in table.column_names)
                stream.write((header + "\n").encode())
                begun = True
            for batch in table.to_batches(max_chunksize=_BLOCK_ROWS):
                fields = [_fields(column, delimiter) for column in batch.columns]
                lines = pc.binary_join_element_wise(*fields, delimiter)
                stream.write(("\n".join(lines.to_pylist()) + "\n").encode())

        yield write


_FORMATS = {".parquet": _parquet, ".json": _json}


def _quoted_name(name: str, delimiter: str) -> str:
    text = pa.array([str(name)])
    return str(_fields(text, delimiter)[0].as_py())


def _fields(column: pa.Array, delimiter: str) -> pa.Array:
    """A column as text fields, quoted where they need it."""
    if not pa.types.is_dictionary(column.type):
        coded = column.dictionary_encode()
        if len(coded.dictionary) > len(column) // 4:
            return _as_text(column, delimiter)
        column = coded
    # Each different value is made a text once.
    texts = _as_text(column.dictionary, delimiter)
    return pc.fill_null(texts.take(column.indices), "")


def _as_text(column: pa.Array, delimiter: str) -> pa.Array:
    if pa.types.is_floating(column.type):
        # Arrow tells a missing number from NaN; in text both are an empty field.
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    if pa.types.is_timestamp(column.type):
        days = column.cast(pa.date32(), safe=False)
        column = days if pc.all(pc.equal(days.cast(column.type), column)).as_py() is not False else column
    text = pc.fill_null(column.cast(pa.string()), "")
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return text
    special = pc.match_substring_regex(text, f'["\r\n{delimiter}]')
    if not pc.any(special).as_py():
        return text
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(text, '"', '""'), '"', "")
    return pc.if_else(special, quoted, text)
