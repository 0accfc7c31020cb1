"""What a normalisation will read, hold, write and take, said before it starts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sjd_dask.jobs.matrix import Matrix
from sjd_dask.jobs.normalise_masks import masks_text
from sjd_dask.jobs.normalise_reference import COLUMN_STRIPE_BYTES, sample_ranges
from sjd_dask.jobs.normalise_source import GROUP_BYTES, Source
from sjd_dask.kernels.row_summary import summarise_rows
from sjd_dask.normalise.quality import MOST_FEATURES, MOST_SKETCHED
from sjd_dask.runtime.plan import PROCESS_BYTES, Partition, Plan, estimate_seconds
from sjd_dask.runtime.process import KEPT_BYTES
from sjd_dask.store.layer_writing import encode_chunk
from sjd_dask.store.layout import Encoding

if TYPE_CHECKING:
    from sjd_dask.jobs.normalise import NormaliseJob

# Beside what every worker holds: the methods' machine code, and pandas for sample columns.
METHODS_BYTES = 80 << 20
# Blocks of decoded values that exist at a time along a chain, its quality measures included.
BLOCKS_HELD = 6
# Stripes of a fit that exist at a time: as stored, decoded, and what a kernel makes of them.
STRIPES_HELD = 4


def make_plan(job: NormaliseJob, n_workers: int, memory_per_worker: int, *, calibrate: bool) -> Plan:
    """The plan of a prepared job. The passes of a fit are counted one for each step."""
    reader = job.source.assay.reader(job.selected)
    p, n = reader.n_features, reader.n_samples
    itemsize = 8 if job.spec.precision == "double" else 4
    rows = job.task_rows(p)
    apply = [(start, min(n, start + rows)) for start in range(0, n, rows)]
    passes = len(job.methods) if job.chain is None else 0
    fit = sample_ranges(len(job.reference_ids), p, reader.chunk_samples) if passes else []
    n_parameters = 2 * (len(job.methods) or len(job.chain.steps if job.chain else ())) + 12
    source = Source(Matrix(reader, job.source.quantity), job.source.scale, job.frame, np.empty(0), pd.DataFrame())
    masks = job.companions
    writing = (
        source.read_rows * (p * reader.dtype.itemsize + masks.row_bytes())
        + min(min(rows, n) * p * itemsize, GROUP_BYTES)
        + (BLOCKS_HELD + 3 * bool(masks.assays)) * source.block_rows * p * 8
    )
    stripe = min(COLUMN_STRIPE_BYTES, len(job.reference_ids) * p * 8)
    held = PROCESS_BYTES + METHODS_BYTES + min(KEPT_BYTES, writing) + n_parameters * p * 8
    share = len(job.reference_ids) / max(1, n)
    partitions = [Partition(i, 0, p, {"samples": list(one)}) for i, one in enumerate([*(fit * passes), *apply])]
    seconds = None
    if calibrate:
        alone = _seconds(source, itemsize, n + passes * len(job.reference_ids), n)
        seconds = estimate_seconds(alone / len(partitions), len(partitions), n_workers)
    return Plan(
        job="normalise",
        output=f"{job.kind}/{job.spec.output}",
        partitions=partitions,
        bytes_in=int((reader.n_bytes + n * masks.row_bytes()) * (1 + passes * share)),
        bytes_out=n * p * itemsize,
        peak_bytes_per_task=held + max(writing, STRIPES_HELD * stripe if passes else 0),
        driver_bytes=(256 << 20) + n_parameters * p * 8 * 2 + min(n, MOST_SKETCHED) * MOST_FEATURES * 4 * 6,
        estimated_seconds=seconds,
        notes=[
            f"tasks decode {source.block_rows} samples at a time, whatever their number",
            *([f"masked: {masks_text(masks.limits)}"] if masks.assays else []),
            *(
                [f"fitted on {len(job.reference_ids):,} reference samples, {passes} steps, at least one pass each"]
                if passes
                else [f"frozen parameters of {job.taken_from}"]
            ),
            *(["the time is of reading, quality measures and writing; what the steps add is not in it"] * calibrate),
        ],
        n_workers=n_workers,
        memory_per_worker=memory_per_worker,
    )


def _seconds(source: Source, itemsize: int, rows_read: int, rows_written: int) -> float:
    """Seconds on one worker, from one block of the data: read, looked at, and encoded."""
    reader = source.reader
    width = min(reader.n_features, reader.chunk_features)
    begin = time.perf_counter()
    _, raw, encoding = next(iter(reader.row_blocks(0, width, rows=min(64, reader.n_samples))))
    values = source.matrix.values(raw, encoding)
    read = (time.perf_counter() - begin) / raw.size
    summarise_rows(values[:1])  # compiled once
    begin = time.perf_counter()
    summarise_rows(values)
    stored = values.astype(np.float64 if itemsize == 8 else np.float32)
    encode_chunk(stored, Encoding(str(stored.dtype)), stored.shape)
    written = (time.perf_counter() - begin) / raw.size
    return reader.n_features * (rows_read * read + rows_written * written)
