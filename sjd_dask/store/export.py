"""Copies of a result for other tools."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sjd_dask.errors import SpecError
from sjd_dask.store.cohort import Cohort
from sjd_dask.store.export_matrix import open_matrix, write_matrix
from sjd_dask.store.files import whole_or_nothing, writing
from sjd_dask.store.result import MAIN, Result


def export(cohort: Cohort, ref: str, path: str | Path, table: str = MAIN) -> Path:
    """Write a result table, a layer or an assay to a file.

    Parameters
    ----------
    ref : str
        ``kind/name`` or ``kind/name@version``; ``layers/NAME[@VERSION]`` and ``assays/NAME`` are matrices, see
        `export_matrix.write_matrix` for how they are written.
    path : str or Path
        ``.tsv`` or ``.csv`` (UTF-8, LF, floats with 17 significant digits, missing as an empty field), ``.parquet``, or
        ``.zarr`` (a new folder; one variable a column, dim ``row``). An existing file is replaced when the new one is
        complete.
    table : str
        Which table of the result; default the main one.

    Raises
    ------
    SpecError
        Unknown result or ending, or a Zarr folder that exists.
    """
    target = Path(path)
    writers: dict[str, Callable[[Result, str, Path], None]] = {
        ".tsv": _write_tsv,
        ".csv": _write_csv,
        ".parquet": _write_parquet,
        ".zarr": _write_zarr,
    }
    writer = writers.get(target.suffix.lower())
    if writer is None:
        raise SpecError(f"{target.name!r} ends in none of {', '.join(writers)}: the ending chooses the format")
    matrix = open_matrix(cohort, ref)
    if matrix is not None and table != MAIN:
        raise SpecError(f"{ref} is a matrix and has no table {table!r}; leave the table out")
    if target.suffix.lower() == ".zarr" and target.exists():
        raise SpecError(f"{target} exists; remove it or choose another name")
    if matrix is not None:
        with writing(str(target), "nothing was exported"), whole_or_nothing(target) as temporary:
            write_matrix(matrix, temporary, target.suffix.lower())
        return target
    result = cohort.result(ref)
    result.file(table)
    with writing(str(target), "nothing was exported"), whole_or_nothing(target) as temporary:
        writer(result, table, temporary)
    return target


def _write_tsv(result: Result, table: str, path: Path) -> None:
    _write_text(result, table, path, "\t")


def _write_csv(result: Result, table: str, path: Path) -> None:
    _write_text(result, table, path, ",")


def _write_text(result: Result, table: str, path: Path, delimiter: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
        writer.writerow(result.schema(table).names)
        for batch in result.batches(table):
            writer.writerows(zip(*(_texts(column) for column in batch.columns), strict=True))


def _texts(column: pa.Array) -> list[Any]:
    if pa.types.is_float64(column.type):
        return [f"{one:.17g}" if one is not None and not math.isnan(one) else "" for one in column.to_pylist()]
    if pa.types.is_floating(column.type):
        # Nine digits name a 32-bit float exactly.
        return [f"{one:.9g}" if one is not None and not math.isnan(one) else "" for one in column.to_pylist()]
    return ["" if one is None else one for one in column.to_pylist()]


def _write_parquet(result: Result, table: str, path: Path) -> None:
    schema = result.schema(table)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in result.batches(table, 262_144):
            writer.write_batch(batch)


def _write_zarr(result: Result, table: str, path: Path) -> None:
    import zarr
    from zarr.codecs import ZstdCodec

    from sjd_dask.store.codec import use_fast_pipeline

    use_fast_pipeline()
    stored = result.table(table)
    group = zarr.open_group(str(path), mode="w-", zarr_format=3)
    group.attrs.update({"result": result.ref, "run": result.run or ""})
    for name in stored.column_names:
        column = stored.column(name)
        text = not (pa.types.is_primitive(column.type) and not pa.types.is_temporal(column.type))
        if text:
            values = np.array(["" if one is None else str(one) for one in column.to_pylist()], dtype=object)
        else:
            values = column.to_numpy()
            if values.dtype == object:
                # A missing bool has no code of its own; it becomes text, as in the text formats.
                values, text = np.array(["" if one is None else str(one) for one in values], dtype=object), True
        array = group.create_array(
            name,
            shape=values.shape,
            dtype=str if text else values.dtype,
            chunks=(max(1, min(len(values), 262_144)),),
            compressors=ZstdCodec(level=3),
            fill_value=float("nan") if not text and values.dtype.kind == "f" else None,
            dimension_names=("row",),
        )
        array[:] = values
