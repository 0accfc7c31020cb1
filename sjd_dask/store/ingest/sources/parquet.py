"""Parquet: one column of ids and one column of numbers for each sample (or feature)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sjd_dask import names
from sjd_dask.errors import DataError
from sjd_dask.store.ingest.ids import check_ids
from sjd_dask.store.ingest.sources.base import Block, MatrixSource, Orientation, SourceOptions, as_text, rows_per_block


class ParquetSource(MatrixSource):
    """Rows of a Parquet file; see `open_parquet`."""

    def __init__(
        self,
        path: Path,
        file: pq.ParquetFile,
        id_column: str,
        columns: list[str],
        orientation: Orientation,
        dtype: np.dtype[Any],
    ) -> None:
        super().__init__(path=path, orientation=orientation, minor_ids=columns, dtype=dtype)
        self._file = file
        self._id_column = id_column

    def _matrix(self, batch: pa.RecordBatch) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = np.empty((batch.num_rows, len(self.minor_ids)), dtype=self.dtype)
        for position, name in enumerate(self.minor_ids):
            column = batch.column(name)
            if column.null_count and self.dtype.kind != "f":
                # A hole among whole numbers: the block becomes float, where NaN can say so.
                values = values.astype(np.float64)
            values[:, position] = column.to_numpy(zero_copy_only=False)
        return values

    def blocks(self) -> Iterator[Block]:
        step = rows_per_block(len(self.minor_ids))
        columns = [self._id_column, *self.minor_ids]
        try:
            for batch in self._file.iter_batches(batch_size=step, columns=columns):
                if batch.num_rows:
                    yield Block(as_text(batch.column(self._id_column).to_pylist()), self._matrix(batch))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.path}: the Parquet file is damaged ({error}).") from None

    def close(self) -> None:
        self._file.close()


def _id_column(path: Path, schema: pa.Schema, columns: list[str]) -> str:
    for name in (names.FEATURE_ID, names.SAMPLE_ID):
        if name in columns:
            return name
    metadata = (schema.metadata or {}).get(b"pandas")
    if metadata:
        index = [c for c in json.loads(metadata).get("index_columns", []) if isinstance(c, str) and c in columns]
        if len(index) == 1:
            return index[0]
    for field in schema:
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type) or pa.types.is_dictionary(field.type):
            return str(field.name)
    raise DataError(
        f"{path}: there is no column of ids: call it feature_id (features in rows) or sample_id (samples in rows)."
    )


def open_parquet(path: Path, options: SourceOptions) -> ParquetSource:
    """Open a Parquet matrix.

    The ids are in the column `feature_id` or `sample_id`, which also says what the rows are; otherwise in the pandas
    index, otherwise in the first text column, and rows are features unless ``options.rows`` says otherwise. Every
    other column must be numeric; nulls are missing values.

    Raises
    ------
    DataError
        Not a Parquet file, no id column, columns that aren't numbers, no rows.
    """
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a Parquet file, or is cut off ({error}).") from None
    try:
        schema = file.schema_arrow
        columns = [str(n) for n in schema.names]
        check_ids(columns, "column", str(path))
        chosen = _id_column(path, schema, columns)
        says: Orientation | None = None
        if chosen in (names.FEATURE_ID, names.SAMPLE_ID):
            says = "features" if chosen == names.FEATURE_ID else "samples"
        if says is not None and options.rows is not None and options.rows != says:
            raise DataError(
                f"{path}: the id column is {chosen!r}, so rows are {says}: leave out --rows {options.rows}."
            )
        types = []
        for field in schema:
            if field.name == chosen:
                continue
            kind = field.type
            if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
                raise DataError(
                    f"{path}: column {field.name!r} is {kind}, not a number. Columns that are not values belong into a "
                    "sample sheet or a feature table."
                )
            types.append(np.dtype(kind.to_pandas_dtype()))
        if not types or file.metadata.num_rows == 0:
            raise DataError(f"{path}: the table has {file.metadata.num_rows:,} rows and {len(types):,} value columns.")
        dtype = np.dtype(np.result_type(*set(types)))
        if dtype == np.float16:
            dtype = np.dtype(np.float32)
        value_columns = [c for c in columns if c != chosen]
        source = ParquetSource(path, file, chosen, value_columns, says or options.rows or "features", dtype)
        source.rows_may_be_told = says is None
        return source
    except BaseException:
        file.close()
        raise
