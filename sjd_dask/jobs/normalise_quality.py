"""The quality tables of a layer, from what the tasks measured of each sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.jobs import normalise_tasks as tasks
from sjd_dask.jobs.normalise_reference import ClusterReference, Phases
from sjd_dask.normalise.chain import Chain
from sjd_dask.normalise.companions import companion_tables
from sjd_dask.normalise.judgement import fit_quality, judge
from sjd_dask.normalise.method import Arrays
from sjd_dask.normalise.quality import distances, sketched

if TYPE_CHECKING:
    from sjd_dask.jobs.normalise import NormaliseJob
    from sjd_dask.store.result import Result

COMPANIONS = ("principal", "explained", "factors")
_SKETCH = "sketch."


@dataclass
class QualityTables:
    """The quality table with its companions, and what is frozen of it.

    Attributes
    ----------
    tables : dict of Table
    frozen : dict of arrays
        Parameters of `fit_quality`.
    n_samples : int
        Rows of the main table.
    pending : dict of str to int
        Samples without values, by reason.
    factors : list of str
    before : str or None
        Reference of the table whose rows were kept.
    """

    tables: dict[str, pa.Table]
    frozen: Arrays
    n_samples: int
    pending: dict[str, int]
    factors: list[str]
    before: str | None


def fit_before(job: NormaliseJob, chain: Chain, phases: Phases) -> Arrays:
    """Fences and profile from a pass over the reference samples (evenly spaced ones of a large set)."""
    ids = list(chain.reference_samples)
    chosen = [ids[i] for i in sketched(len(ids))]
    source = job.source_of(chosen, chain)
    found = ClusterReference(source, phases).by_samples(tasks.quality_pass, (chain, np.array(chosen, dtype=object)))
    metrics = {name: value for name, value in found.rows.items() if not name.startswith(_SKETCH)}
    return fit_quality(metrics, found.rows[f"{_SKETCH}after"], source.sheet, job.spec.sex, scale=job.source.scale)


def quality_tables(
    job: NormaliseJob,
    chain: Chain,
    todo: list[str],
    parts: list[tasks.Written],
    quality: Arrays | None,
    before: Result | None,
) -> QualityTables:
    """Judge what was normalised now, and keep what was judged before.

    Parameters
    ----------
    before : Result or None
        The quality table of this version of the layer, where there is one.
    """
    batch = chain.batch_column
    factors = list(dict.fromkeys([*([batch] if batch else []), *job.spec.factors]))
    old = before.to_pandas() if before is not None else pd.DataFrame({names.SAMPLE_ID: pd.Series([], dtype=object)})
    live = set(job.source.assay.sample_ids())
    old = old[old[names.SAMPLE_ID].isin(live) & ~old[names.SAMPLE_ID].isin(todo)]
    frame, companions = old, {}
    if todo:
        new, companions, quality = _judged(job, chain, todo, parts, quality, batch, factors)
        frame = pd.concat([old, new], ignore_index=True) if len(old) else new
    if before is not None:
        # Components of the fit stay what they were: one new sample says nothing of the cohort's batches.
        companions = {name: before.table(name) for name in COMPANIONS if name in before.tables}
    held = frame.loc[frame["status"] != "ok", "status"] if len(frame) else pd.Series([], dtype=object)
    return QualityTables(
        tables={"table": _typed(pa.Table.from_pandas(frame, preserve_index=False)), **companions},
        frozen=quality or {},
        n_samples=len(frame),
        pending={str(reason): int(count) for reason, count in held.value_counts().items()},
        factors=factors,
        before=None if before is None else before.ref,
    )


def _judged(
    job: NormaliseJob,
    chain: Chain,
    todo: list[str],
    parts: list[tasks.Written],
    quality: Arrays | None,
    batch: str | None,
    factors: list[str],
) -> tuple[pd.DataFrame, dict[str, pa.Table], Arrays]:
    metrics = _joined([part.metrics for part in parts])
    pending = np.concatenate([part.pending for part in parts])
    sheet = job.frame.loc[todo]
    sketches = _joined([part.sketches for part in parts if part.sketched.any()])
    is_sketched = np.concatenate([part.sketched for part in parts])
    if quality is None:
        used = sheet.index.isin(chain.reference_samples)
        quality = fit_quality(
            {name: value[used] for name, value in metrics.items()},
            sketches["after"][used],
            sheet[used],
            job.spec.sex,
            scale=job.source.scale,
        )
        after = sketches["after"].astype(np.float64)
        after[pending != ""] = np.nan
        metrics.update(distances(after, quality))
    table = judge(
        metrics,
        quality,
        sheet,
        pending=pending,
        reference=set(chain.reference_samples),
        sex_column=job.spec.sex,
        batch_column=batch,
        rs_values=sketches["rs_values"] if "rs_values" in sketches and is_sketched.all() else None,
    )
    if "after" in sketches:
        sketches["after"] = np.where((pending[is_sketched] != "")[:, None], np.nan, sketches["after"])
    made = companion_tables(
        sketches,
        sheet[is_sketched],
        factors,
        groups={batch} if batch else set(),
        outliers=table["is_outlier"].to_numpy()[is_sketched],
    )
    return table, {name: pa.Table.from_pandas(one, preserve_index=False) for name, one in made.items()}, quality


def _typed(table: pa.Table) -> pa.Table:
    """Text columns without any value are still text."""
    return table.cast(
        pa.schema([one.with_type(pa.string()) if pa.types.is_null(one.type) else one for one in table.schema])
    )


def _joined(found: list[Arrays]) -> dict[str, NDArray[Any]]:
    keys = list(dict.fromkeys(name for one in found for name in one))
    return {name: np.concatenate([one[name] for one in found], axis=0) for name in keys}
