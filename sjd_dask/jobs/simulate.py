"""`sjd simulate`: a cohort with known truth, written stripe by stripe; no matrix is ever whole in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sjd_dask import names
from sjd_dask.errors import SpecError
from sjd_dask.jobs.sheet_files import write_table
from sjd_dask.simulate import Simulation
from sjd_dask.store.cohort import Cohort, create_cohort
from sjd_dask.store.features import FeatureSpace
from sjd_dask.store.hashing import RowHasher
from sjd_dask.store.layout import Encoding, encoding_for
from sjd_dask.store.owners import HEARTBEAT_SECONDS
from sjd_dask.store.segment import SegmentWriter, new_segment_id

Progress = Callable[[str, int, int | None], None]

# Samples of a stripe: the parameters of a feature are drawn anew for each.
STRIPE_ROWS = 1024
# Beside cohort.toml: the items that `sjd score` reads.
CLINICAL_ITEMS = "clinical_items.csv"


def simulate_cohort(
    path: str,
    *,
    n_samples: int,
    n_features: int,
    seed: int = 1,
    assays: Sequence[str] = ("methylation",),
    missing_share: float = 0.0,
    n_genes: int = 2000,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make a new cohort and fill it from a simulation.

    Parameters
    ----------
    path : str
        The new cohort.
    n_samples, n_features, seed, n_genes, missing_share
        See `simulate.Simulation`; `n_features` are methylation sites.
    assays : sequence of str
        Which assays to write.
    progress : callable, optional
        ``progress(stage, done, total)`` in cells.

    Returns
    -------
    dict
        What was made: path, samples, features of each assay, where the clinical sheet of the patients and the truth
        lie (None for a cohort behind a URL).
    """
    simulation = Simulation(n_samples, n_features, seed=seed, n_genes=n_genes, missing_share=missing_share)
    unknown = [assay for assay in assays if assay not in simulation.assays]
    if unknown or not assays:
        raise SpecError(
            f"unknown assay {', '.join(unknown) or '(none given)'}; there are: {', '.join(simulation.assays)}"
        )
    cohort = create_cohort(path)
    truth = Path(cohort.path) / "truth" if "://" not in cohort.path else None
    items = None if truth is None else Path(cohort.path) / CLINICAL_ITEMS
    if truth is not None:
        truth.mkdir()
        write_table(simulation.clinical_sheet().reset_index(), items)
        simulation.sample_truth().to_parquet(truth / "samples.parquet")
    for assay in assays:
        write_assay(cohort, simulation, assay, 0, n_samples, progress)
        if truth is not None:
            simulation.truth(assay).to_parquet(truth / f"{assay}.parquet")
    return {
        "cohort": cohort.path,
        "samples": n_samples,
        **{f"{assay} features": simulation.size(assay) for assay in assays},
        "clinical items": str(items) if items is not None else None,
        "truth": str(truth) if truth is not None else None,
    }


def write_assay(
    cohort: Cohort, simulation: Simulation, assay: str, row_start: int, row_stop: int, progress: Progress | None = None
) -> None:
    """Publish some samples of a simulated assay as one segment, with their sample columns."""
    import time

    quantity = simulation.quantity(assay)
    columns = simulation.features(assay).set_index(names.FEATURE_ID)
    space = FeatureSpace.of(columns.index, columns)
    encoding = _encoding(cohort, simulation, assay, row_start, row_stop)
    ids = list(simulation.sample_ids[row_start:row_stop])
    segment_id = new_segment_id()
    staging = cohort.begin_staging(assay, segment_id, ids)
    writer = SegmentWriter(cohort.files, assay, segment_id, quantity, encoding, cohort.layout, ids, space)
    hasher = RowHasher(len(ids), encoding)
    total, done, beat = len(ids) * space.n_features, 0, time.monotonic()
    try:
        for row, feature, values in _stripes(cohort, simulation, assay, row_start, row_stop):
            raw = encoding.encode(values)
            hasher.update(row - row_start, raw)
            writer.write(row - row_start, feature, raw)
            done += values.size
            if time.monotonic() - beat > HEARTBEAT_SECONDS / 2:
                cohort.heartbeat_staging(staging)
                beat = time.monotonic()
            if progress is not None:
                progress(f"simulate {assay}", done, total)
        record = writer.finish()
        sheet = simulation.samples().iloc[row_start:row_stop]
        cohort.publish_segment(
            staging, record, hasher.hexdigests(), message=f"simulated with seed {simulation.seed}", sample_columns=sheet
        )
    except BaseException:
        writer.abort()
        cohort.abandon(staging)
        raise


def _stripes(cohort: Cohort, simulation: Simulation, assay: str, row_start: int, row_stop: int) -> Any:
    """Blocks that are aligned to chunks: many rows by one chunk of features."""
    width = cohort.layout.chunk_features
    rows = max(1, STRIPE_ROWS // cohort.layout.chunk_samples) * cohort.layout.chunk_samples
    for row in range(row_start, row_stop, rows):
        until = min(row + rows, row_stop)
        for feature in range(0, simulation.size(assay), width):
            yield (
                row,
                feature,
                simulation.block(assay, row, until, feature, min(feature + width, simulation.size(assay))),
            )


def _encoding(cohort: Cohort, simulation: Simulation, assay: str, row_start: int, row_stop: int) -> Encoding:
    """As an ingest would choose; counts need their maximum first, which costs a pass."""
    quantity = simulation.quantity(assay)
    sample = simulation.block(assay, row_start, min(row_start + 1, row_stop), 0, min(64, simulation.size(assay)))
    largest = float(np.nanmax(sample))
    if quantity == names.COUNTS:
        largest = max(float(block.max()) for _, _, block in _stripes(cohort, simulation, assay, row_start, row_stop))
    return encoding_for(quantity, sample.dtype, 0.0, largest, None)
