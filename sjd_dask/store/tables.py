"""Result tables: Parquet files under ids that never change."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from sjd_dask.errors import DataError
from sjd_dask.store.catalogue.results import TableFile
from sjd_dask.store.files import Files, writing

TableLike: TypeAlias = Any  # pa.Table | pa.RecordBatchReader; Arrow ships no types
ROW_GROUP = 262_144
# Rows that tell whether a column repeats itself.
_LOOK = 1000


def write_table(files: Files, table: TableLike) -> TableFile:
    """Write a table under a new id; the hash is of the file's bytes."""
    path = f"tables/{secrets.token_hex(12)}.parquet"
    with writing(files.where(path), "the result was not published"):
        if files.is_local:
            with files.new_local_file(path) as temporary:
                n_rows = _write(temporary, table)
                size, digest = temporary.stat().st_size, hash_file(temporary)
        else:
            with tempfile.TemporaryDirectory() as folder:
                temporary = Path(folder) / "table.parquet"
                n_rows = _write(temporary, table)
                size, digest = temporary.stat().st_size, hash_file(temporary)
                files.write_bytes(path, temporary.read_bytes())
    return TableFile(path, size, digest, n_rows)


def _write(path: Path, table: TableLike) -> int:
    schema = table.schema
    first = table.slice(0, _LOOK) if isinstance(table, pa.Table) else None
    # A dictionary of mostly distinct values is as long as the column. LZ4 writes doubles twice as fast as zstd.
    repeated = [name for name in schema.names if first is not None and len(first[name].unique()) <= first.num_rows // 2]
    n_rows = 0
    with pq.ParquetWriter(path, schema, compression="lz4", use_dictionary=repeated, write_statistics=False) as writer:
        if isinstance(table, pa.Table):
            writer.write_table(table, row_group_size=ROW_GROUP)
            return int(table.num_rows)
        for batch in table:
            writer.write_batch(batch)
            n_rows += batch.num_rows
    return n_rows


def hash_file(path: Path) -> str:
    """blake2b-128 of a file's bytes."""
    digest = blake2b(digest_size=16)
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


@contextmanager
def open_table(files: Files, table: TableFile) -> Iterator[pq.ParquetFile]:
    """Open a stored table for reading.

    Raises
    ------
    DataError
        It is lost or damaged.
    """
    try:
        if files.is_local:
            where = files.local_path(table.path)
            if where.stat().st_size != table.n_bytes:
                raise DataError(f"table {where} has {where.stat().st_size} bytes, not {table.n_bytes}; restore it")
            source: object = where
        else:
            source = pa.BufferReader(files.read_bytes(table.path))
        with pq.ParquetFile(source) as opened:
            yield opened
    except FileNotFoundError as error:
        raise DataError(f"table {files.where(table.path)} is lost; restore it from a backup") from error
    except pa.ArrowInvalid as error:
        raise DataError(f"table {files.where(table.path)} is damaged ({error}); restore it from a backup") from error


def file_digest(files: Files, path: str) -> str:
    """blake2b-128 of a stored file."""
    if files.is_local:
        return hash_file(files.local_path(path))
    return blake2b(files.read_bytes(path), digest_size=16).hexdigest()
