"""Small layers for the store's tests: twice the source's value plus one, written as a job would write them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sjd_dask.store.arrays import write_arrays
from sjd_dask.store.catalogue.layers import LayerRows, PublishedLayer
from sjd_dask.store.catalogue.runs import claim_run
from sjd_dask.store.cohort import Cohort
from sjd_dask.store.features import FeatureSpace
from sjd_dask.store.layer import layer_key
from sjd_dask.store.layer_writing import (
    LayerSegment,
    RowsWritten,
    create_segment,
    finish_segment,
    plan_segments,
    write_rows,
)
from sjd_dask.store.layout import Encoding

HASH = "0123456789abcdef" * 2


def doubled(values: NDArray[Any]) -> NDArray[np.float64]:
    """What the layer holds of the source's values."""
    return np.asarray(2.0 * values + 1.0, dtype=np.float64)


def source_values(cohort: Cohort, ids: Sequence[str], assay: str = "meth") -> NDArray[np.float64]:
    """Values of the source, rows in this order."""
    reader = cohort.assay(assay).reader(ids)
    raw, encoding = reader.columns(0, reader.n_features)
    return encoding.decode(raw)


def layer_values(cohort: Cohort, ref: str, ids: Sequence[str] | None = None, snapshot: int | None = None) -> Any:
    """Values of a layer, rows in this order."""
    reader = cohort.layer(ref, snapshot).reader(ids)
    raw, encoding = reader.columns(0, reader.n_features)
    return encoding.decode(raw)


def fill(cohort: Cohort, segment: LayerSegment, values: NDArray[Any], rows: int = 8) -> list[RowsWritten]:
    """Write all rows of a segment as workers would."""
    raw = np.asarray(values, dtype=segment.encoding.numpy_dtype)
    return [write_rows(cohort.files, segment, start, raw[start:stop]) for start, stop in segment.row_ranges(rows)]


def written_rows(
    cohort: Cohort,
    run_id: str,
    ids: Sequence[str],
    *,
    name: str = "double",
    parameters_hash: str = HASH,
    assay: str = "meth",
    dtype: str = "float64",
    max_rows: int = 16,
) -> list[LayerRows]:
    """Finished segments of these samples, not published."""
    space: FeatureSpace = cohort.assay(assay).feature_space
    hashes = cohort.published_hashes(assay, ids)
    plan = plan_segments(
        run_id, layer_key(name, parameters_hash), name, ids, space, Encoding(dtype), cohort.layout, max_rows
    )
    made = []
    for segment in plan:
        create_segment(cohort.files, segment, space)
        values = doubled(source_values(cohort, segment.sample_ids, assay))
        record, row_hashes = finish_segment(cohort.files, segment, fill(cohort, segment, values), space)
        made.append(LayerRows(record, row_hashes, [hashes[one] for one in segment.sample_ids]))
    return made


def put_layer(
    cohort: Cohort,
    ids: Sequence[str],
    fingerprint: str,
    *,
    name: str = "double",
    parameters_hash: str = HASH,
    assay: str = "meth",
    retire: Iterable[str] = (),
    companions: Sequence[Any] = (),
    **options: Any,
) -> PublishedLayer:
    """A whole run: claimed, written, published."""
    run = claim_run(cohort.catalogue, fingerprint, job="normalise", output=name, spec={}).run
    rows = written_rows(cohort, run.id, ids, name=name, parameters_hash=parameters_hash, assay=assay, **options)
    parameters = write_arrays(cohort.files, {"shift": np.ones(3), "batch": np.array(["a", "bé"])}, {"method": "double"})
    return cohort.publish_layer(
        run.id,
        run.epoch,
        name,
        layer_key(name, parameters_hash),
        parameters,
        rows,
        {"source_assay": assay, "parameters_hash": parameters_hash, "steps_text": "double"},
        companions,
        retire,
    )
