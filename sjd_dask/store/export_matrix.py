"""Copies of a layer or an assay for other tools, in stripes of features of bounded size."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from zarr.storage import LocalStore

from sjd_dask import names
from sjd_dask.errors import DataError
from sjd_dask.store.assay import Assay
from sjd_dask.store.codec import use_fast_pipeline
from sjd_dask.store.cohort import Cohort
from sjd_dask.store.layer import LAYERS, Layer
from sjd_dask.store.region import RegionReader
from sjd_dask.store.segment import create_matrix

ASSAYS: Final = "assays"
# One stripe of decoded values. A copy of it exists while it is turned.
STRIPE_BYTES = 128 << 20
# Parquet readers become slow beyond some thousand columns; a matrix of more samples is written long.
MAX_COLUMNS = 4096
_ROWS = 256


def open_matrix(cohort: Cohort, ref: str) -> Assay | None:
    """The layer or assay that ``layers/NAME[@V]`` or ``assays/NAME`` names; None for any other reference."""
    kind, _, name = ref.partition("/")
    if kind == LAYERS:
        return cohort.layer(ref)
    return cohort.assay(name) if kind == ASSAYS else None


def write_matrix(matrix: Assay, path: Path, ending: str) -> None:
    """Write all samples of a view.

    Parameters
    ----------
    ending : str
        ``.tsv`` and ``.csv``: features in rows, a column a sample, 17 significant digits (9 for 32-bit floats), missing
        as an empty field. ``.parquet``: the same; more than 4096 samples are written long (feature_id, sample_id,
        value). ``.zarr``: dims (samples, features), as stored, with the ids as coordinates.

    Notes
    -----
    Memory: some copies of one stripe of 128 MB, whatever the size of the matrix.
    """
    writers: dict[str, Callable[[Assay, RegionReader, Path], None]] = {
        ".tsv": lambda matrix, reader, path: _write_text(matrix, reader, path, "\t"),
        ".csv": lambda matrix, reader, path: _write_text(matrix, reader, path, ","),
        ".parquet": _write_parquet,
        ".zarr": _write_zarr,
    }
    if not matrix.n_samples:
        raise DataError(f"{matrix!r} has no samples to export")
    writers[ending](matrix, matrix.reader(), path)


def _stripes(reader: RegionReader) -> Iterator[tuple[int, NDArray[Any]]]:
    """First feature and values of each stripe, features in rows, C-contiguous; missing is NaN."""
    most = max(1, STRIPE_BYTES // (8 * reader.n_samples))
    # Whole fractions of a chunk: no chunk is read once more than it must.
    width = max(1, reader.chunk_features // max(1, math.ceil(reader.chunk_features / most)))
    for chunk in range(0, reader.n_features, reader.chunk_features):
        chunk_stop = min(chunk + reader.chunk_features, reader.n_features)
        for start in range(chunk, chunk_stop, width):
            raw, encoding = reader.columns(start, min(start + width, chunk_stop))
            values = raw if encoding.is_float else encoding.decode(raw)
            yield start, np.ascontiguousarray(values.T)


def _write_text(matrix: Assay, reader: RegionReader, path: Path, delimiter: str) -> None:
    number = "%.9g" if reader.dtype == np.float32 else "%.17g"
    line = delimiter.join([number] * reader.n_samples) + "\n"
    ids = matrix.feature_ids()
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
        writer.writerow([names.FEATURE_ID, *reader.sample_ids])
        for start, values in _stripes(reader):
            missing = np.isnan(values).any(axis=1)
            lines = []
            for offset, row in enumerate(values):
                cells = row.tolist()
                if missing[offset]:
                    text = delimiter.join(["" if one != one else number % one for one in cells]) + "\n"
                else:
                    text = line % tuple(cells)
                lines.append(_quoted(ids[start + offset], delimiter) + delimiter + text)
                if len(lines) == _ROWS:
                    stream.write("".join(lines))
                    lines = []
            stream.write("".join(lines))


def _quoted(text: str, delimiter: str) -> str:
    if not any(one in text for one in (delimiter, '"', "\n", "\r")):
        return text
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, lineterminator="").writerow([text])
    return stream.getvalue()


def _write_parquet(matrix: Assay, reader: RegionReader, path: Path) -> None:
    kind = pa.float32() if reader.dtype == np.float32 else pa.float64()
    ids = matrix.feature_ids()
    samples = list(reader.sample_ids)
    wide = len(samples) <= MAX_COLUMNS and names.FEATURE_ID not in samples
    if wide:
        schema = pa.schema([(names.FEATURE_ID, pa.string()), *((one, kind) for one in samples)])
    else:
        text = pa.dictionary(pa.int32(), pa.string())
        schema = pa.schema([(names.FEATURE_ID, text), (names.SAMPLE_ID, text), ("value", kind)])
    known = pa.array(samples, pa.string())
    dictionaries = [] if wide else [names.FEATURE_ID, names.SAMPLE_ID]
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=dictionaries) as writer:
        for start, values in _stripes(reader):
            mine = pa.array(ids[start : start + len(values)], pa.string())
            if wide:
                columns = [mine, *(pa.array(one, kind, from_pandas=True) for one in values.T)]
                writer.write_table(pa.table(columns, schema=schema), row_group_size=len(values))
                continue
            for offset in range(0, len(values), _ROWS):
                part = values[offset : offset + _ROWS]
                rows = np.arange(len(part), dtype=np.int32) + offset
                columns = [
                    pa.DictionaryArray.from_arrays(np.repeat(rows, len(samples)), mine),
                    pa.DictionaryArray.from_arrays(np.tile(np.arange(len(samples), dtype=np.int32), len(part)), known),
                    pa.array(part.ravel(), kind, from_pandas=True),
                ]
                writer.write_table(pa.table(columns, schema=schema), row_group_size=part.size)


def _write_zarr(matrix: Assay, reader: RegionReader, path: Path) -> None:
    use_fast_pipeline()
    attributes: dict[str, Any] = {"quantity": matrix.quantity, "snapshot": matrix.snapshot}
    if isinstance(matrix, Layer):
        attributes |= {"result": matrix.ref, "run": matrix.run or "", "source_assay": matrix.source_assay}
    chunks = (min(reader.chunk_samples, reader.n_samples), reader.chunk_features)
    array = create_matrix(
        LocalStore(path), matrix.quantity, reader.encoding, chunks, reader.sample_ids, matrix.feature_ids(), attributes
    )
    step = chunks[0] * max(1, _ROWS // chunks[0])
    for row in range(0, reader.n_samples, step):
        part = reader.subset(np.arange(row, min(row + step, reader.n_samples), dtype=np.int64))
        for start in range(0, reader.n_features, chunks[1]):
            stop = min(start + chunks[1], reader.n_features)
            array[row : row + part.n_samples, start:stop] = part.columns(start, stop)[0]
