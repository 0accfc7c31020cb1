"""Small cohorts for the store's tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from sjd_dask.store.catalogue.publish import Published
from sjd_dask.store.cohort import Cohort
from sjd_dask.store.features import FeatureSpace
from sjd_dask.store.files import Files
from sjd_dask.store.hashing import row_hashes
from sjd_dask.store.layout import Layout, encoding_for
from sjd_dask.store.segment import SegmentWriter, new_segment_id


def folder_as_bucket(monkeypatch: pytest.MonkeyPatch, folder: Path) -> str:
    """The URL of an object store: obstore's own client, keeping its objects in a folder instead of on a server."""
    from obstore.store import LocalStore

    def store(self: Files) -> Any:
        return LocalStore(folder / self.url.split("://")[1], mkdir=True)

    monkeypatch.setattr(Files, "_store", store)
    return "s3://bucket/cohort"


def put(
    cohort: Cohort,
    assay: str,
    sample_ids: Sequence[str],
    values: NDArray[Any],
    quantity: str = "beta",
    *,
    replace: bool = False,
    dtype: str | None = None,
    sheet: pd.DataFrame | None = None,
    layout: Layout | None = None,
) -> Published:
    """Publish one matrix (samples x features f0, f1, ...) without the ingest room."""
    space = FeatureSpace.of([f"f{number}" for number in range(values.shape[1])])
    low, high = (np.nan, np.nan) if np.isnan(values).all() else (np.nanmin(values), np.nanmax(values))
    encoding = encoding_for(quantity, values.dtype, float(low), float(high), dtype)
    raw = encoding.encode(values)
    segment_id = new_segment_id()
    staging = cohort.begin_staging(assay, segment_id, list(sample_ids))
    try:
        writer = SegmentWriter(
            cohort.files, assay, segment_id, quantity, encoding, layout or cohort.layout, sample_ids, space
        )
        writer.write(0, 0, raw)
        record = writer.finish()
        return cohort.publish_segment(staging, record, row_hashes(raw, encoding), replace=replace, sample_columns=sheet)
    except BaseException:
        cohort.abandon(staging)
        raise


def betas(n_samples: int, n_features: int, seed: int, missing: float = 0.05) -> NDArray[np.float64]:
    """Random betas with scattered missing values."""
    rng = np.random.default_rng(seed)
    values = rng.random((n_samples, n_features))
    values[rng.random(values.shape) < missing] = np.nan
    return values


def decoded(cohort: Cohort, assay: str, sample_ids: Sequence[str] | None = None, snapshot: int | None = None) -> Any:
    """All values of an assay, rows in the order asked for."""
    reader = cohort.assay(assay, snapshot).reader(sample_ids)
    raw, encoding = reader.columns(0, reader.n_features)
    return encoding.decode(raw)
