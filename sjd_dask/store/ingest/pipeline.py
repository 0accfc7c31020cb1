"""From a file to a published segment: the one way in."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from sjd_dask import names
from sjd_dask.errors import DataError, SpecError
from sjd_dask.store.catalogue.nights import Arrival
from sjd_dask.store.ingest.columns import load_sheet, mixed_columns
from sjd_dask.store.ingest.reconcile import read_features
from sjd_dask.store.ingest.report import IngestReport
from sjd_dask.store.ingest.sources import Orientation, SourceOptions
from sjd_dask.store.ingest.validate import MissingLimits
from sjd_dask.store.ingest.work import Progress, StagedIngest, Work
from sjd_dask.store.layout import check_quantity
from sjd_dask.store.segment import check_name

if TYPE_CHECKING:
    from sjd_dask.store.cohort import Cohort


def ingest(
    cohort: Cohort,
    assay: str,
    matrix: Path | str,
    *,
    quantity: str | None = None,
    samples: Path | str | pd.DataFrame | None = None,
    features: Path | str | pd.DataFrame | None = None,
    rows: Orientation | None = None,
    replace: bool = False,
    dtype: str | None = None,
    scale: float | None = None,
    missing: float | None = None,
    sample_column: str | None = None,
    layer: str | None = None,
    max_missing: float = 0.5,
    warn_missing: float = 0.05,
    message: str = "",
    progress: Progress | None = None,
) -> IngestReport:
    """Publish the samples of a matrix as one segment of an assay, or refuse the matrix as a whole.

    Parameters
    ----------
    cohort : Cohort
    assay : str
        A new assay is made by its first ingest.
    matrix : path
        .tsv, .csv, .txt (also .gz), .parquet, .h5ad, .npz, a Zarr group, or a GEO series matrix.
    quantity : str, optional
        What the values are: counts, expression, beta, m_value, concentration, proportion or dosage. Needed for a new
        assay.
    samples : path or DataFrame, optional
        A sample sheet, joined by id. Rows for samples that are not in the matrix are kept too.
    features : path or DataFrame, optional
        A feature table. A new assay takes its features, their order and their columns from it. Whatever else the matrix
        holds is left out, and what it lacks becomes missing; both are counted in the report.
    rows : {'features', 'samples'}, optional
        What the rows of a text file are; features unless told otherwise.
    replace : bool
        Samples that are published with other content are corrections: the old rows are retired.
    dtype : str, optional
        'source' (or 'keep') keeps the source's type, 'float32' or 'float64' stores that. Default: betas as uint16 in
        steps of 1/65534, counts in the smallest unsigned integer, all else in the source's float type.
    scale, missing : float, optional
        For NPZ: stored = value * scale, and the stored code of missing values.
    sample_column : str, optional
        Column of the sheet that holds the sample ids.
    layer : str, optional
        h5ad: the layer to read in place of X. Zarr: the variable to read.
    max_missing, warn_missing : float
        Share of missing values above which a sample is refused, or named in the report.
    message : str
        For the log.
    progress : callable, optional
        Called as ``progress(stage, done, total)``; stages read, compare, write, publish; total may be None.

    Returns
    -------
    IngestReport
        Samples that are there already with the same content are skipped and named.

    Raises
    ------
    DataError
        The matrix, the sheet or the feature table breaks a rule; the offender is named. Nothing was published or
        left behind.
    SpecError
        A name or option that can't be used.
    Busy
        Another writer is publishing one of these samples.
    SjdError
        Storage refused (disk full, read-only).
    """
    started = time.monotonic()
    staged = stage(
        cohort,
        assay,
        matrix,
        quantity=quantity,
        samples=samples,
        features=features,
        rows=rows,
        replace=replace,
        dtype=dtype,
        scale=scale,
        missing=missing,
        sample_column=sample_column,
        layer=layer,
        max_missing=max_missing,
        warn_missing=warn_missing,
        message=message,
        progress=progress,
    )
    report, arrival = staged.report, staged.arrival
    if staged.columns is not None:
        report.warnings.extend(mixed_columns(cohort.samples(), staged.columns))
    try:
        if arrival is None:
            if staged.columns is not None:
                report.snapshot = cohort.add_samples(staged.columns, staged.message)
            return report
        tell = progress or (lambda *_: None)
        try:
            tell("publish", 0, 1)
            done = cohort.publish_segment(
                arrival.staging_id,
                arrival.record,
                arrival.row_hashes,
                replace=replace,
                message=staged.message,
                sample_columns=staged.columns,
            )
        except BaseException:
            cohort.abandon(arrival.staging_id)
            raise
        report.status = "unchanged" if done.noop else "published"
        report.segment_id, report.snapshot = done.segment_id, done.snapshot
        tell("publish", 1, 1)
        return report
    finally:
        report.seconds = time.monotonic() - started


def stage(
    cohort: Cohort,
    assay: str,
    matrix: Path | str,
    *,
    quantity: str | None = None,
    samples: Path | str | pd.DataFrame | None = None,
    features: Path | str | pd.DataFrame | None = None,
    rows: Orientation | None = None,
    replace: bool = False,
    dtype: str | None = None,
    scale: float | None = None,
    missing: float | None = None,
    sample_column: str | None = None,
    layer: str | None = None,
    max_missing: float = 0.5,
    warn_missing: float = 0.05,
    message: str = "",
    progress: Progress | None = None,
    beside: Sequence[Arrival] = (),
) -> StagedIngest:
    """All of an ingest but its publication: the matrix is checked and written, and nobody sees it.

    Parameters
    ----------
    beside : sequence of Arrival
        Segments that are staged already and will be published in the same change. Samples that they hold with the same
        content are unchanged; with other content the matrix is refused.

    All others as in `ingest`.

    Returns
    -------
    StagedIngest
        Its arrival, where there is one, is published by `Cohort.publish_night`, or given up by ``cohort.abandon`` with
        its staging id. When this process dies, the next writer removes it. `Assay.with_arrivals` reads it before.

    Raises
    ------
    DataError, SpecError, Busy, SjdError
        As `ingest`; nothing is left behind.
    """
    started = time.monotonic()
    check_name(assay, "an assay")
    path = Path(matrix)
    known = cohort.assay(assay) if assay in cohort.assays() else None
    mine = [one for one in beside if one.assay == assay]
    if mine and known is None:
        raise DataError(
            f"assay {assay!r} is new, and {path} is the second matrix of it that is to be published at once; ingest "
            "the first one by itself."
        )
    known = known.with_arrivals(mine) if known is not None else None
    if quantity is None:
        if known is None:
            raise SpecError(
                f"assay {assay!r} is new, so its quantity must be given: one of {', '.join(names.QUANTITIES)}"
            )
        quantity = known.quantity
    check_quantity(quantity)
    if known is not None and known.quantity != quantity:
        raise DataError(
            f"assay {assay!r} holds {known.quantity}, and this matrix was declared as {quantity}. An assay holds one "
            "quantity: ingest into another assay, or correct --quantity."
        )
    sheet = None if samples is None else load_sheet(samples, sample_column)
    table = None if features is None else read_features(features)
    report = IngestReport(assay=assay, quantity=quantity, matrix=str(path))
    work = Work(
        cohort=cohort,
        assay=assay,
        quantity=quantity,
        path=path,
        known=known,
        sheet=sheet,
        table=table,
        limits=MissingLimits(warn_missing, max_missing),
        dtype=dtype,
        replace=replace,
        message=message or f"ingest {path.name}",
        progress=progress,
        report=report,
        beside=mine,
    )
    options = SourceOptions(rows=rows, scale=scale, missing=missing, layer=layer, quantity=quantity)
    staged = None
    try:
        staged = work.run(options)
        return staged
    finally:
        # Refused, interrupted or unchanged: whatever was written goes.
        if work.staging is not None and (staged is None or staged.arrival is None):
            cohort.abandon(work.staging)
        report.seconds = time.monotonic() - started
