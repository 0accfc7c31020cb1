"""Companion tables of `strata/NAME` that other tools and later runs read: profiles, the consensus of pairs, visits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.stratify.centroids import centroid_table

if TYPE_CHECKING:
    from sjd_dask.jobs.stratify_spec import StratifySpec

# Samples up to which the whole consensus is stored: a table of 16 MB.
CONSENSUS_SAMPLES = 2000


def consensus_table(matrix: NDArray[np.float32], sample_ids: NDArray[Any]) -> pa.Table:
    """Consensus of all pairs at the chosen k: a row and a column for each sample, named by it.

    Parameters
    ----------
    matrix : ndarray of float32 (n, n)
        Symmetric, 1 on the diagonal.
    sample_ids : ndarray (n,)
    """
    own = [str(one) for one in sample_ids]
    # Symmetric: a column is the row of its sample.
    columns = [pa.array(np.ascontiguousarray(row), pa.float32()) for row in matrix]
    return pa.Table.from_arrays([pa.array(own, pa.string()), *columns], names=[names.SAMPLE_ID, *own])


def visit_table(frame: pd.DataFrame, spec: StratifySpec, strata: NDArray[Any]) -> pd.DataFrame:
    """Groups of the persons with several samples here, visit by visit.

    Parameters
    ----------
    frame : DataFrame
        Sample columns, index sample id.
    spec : StratifySpec
        Its `person` and `visit`.
    strata : ndarray (n,)
        In the order of the frame.

    Returns
    -------
    DataFrame
        ``person``, ``visit`` (text), ``sample_id``, ``stratum``, by person and visit.
    """
    visit = spec.visit or names.VISIT
    table = pd.DataFrame(
        {
            "person": frame[spec.person].to_numpy(dtype=object),
            "at": frame[visit].to_numpy(),
            names.SAMPLE_ID: [str(one) for one in frame.index],
            "stratum": strata,
        }
    ).dropna()
    table = table[table["person"].duplicated(keep=False)]
    table = table.sort_values(["person", "at", names.SAMPLE_ID], kind="stable").reset_index(drop=True)
    table["visit"] = [_text(one) for one in table["at"]]
    return table.astype({"person": str})[["person", "visit", names.SAMPLE_ID, "stratum"]]


def _text(value: Any) -> str:
    """A number of a visit that a missing one elsewhere turned into a float is still a whole one."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def companion_tables(
    spec: StratifySpec,
    frame: pd.DataFrame,
    strata: NDArray[Any],
    feature_ids: NDArray[Any],
    values: NDArray[np.float64],
    strata_of_values: NDArray[Any],
    matrix: NDArray[np.float32] | None,
) -> dict[str, pa.Table]:
    """Profiles of the groups, the whole consensus where it is small, and the visits of persons.

    Parameters
    ----------
    spec : StratifySpec
    frame : DataFrame
        Sample columns of all samples, index sample id.
    strata : ndarray (n,)
    feature_ids : ndarray (p,)
        The chosen ones.
    values : ndarray (m, p)
        Of the samples that made the groups: all, or the landmarks.
    strata_of_values : ndarray (m,)
        Their groups.
    matrix : ndarray of float32 (n, n) or None
        The consensus of the chosen k over all samples; None: only landmarks have one.
    """
    tables = {"centroids": _arrow(centroid_table(feature_ids, values, strata_of_values))}
    if matrix is not None and len(matrix) <= CONSENSUS_SAMPLES:
        tables["consensus"] = consensus_table(matrix, frame.index.to_numpy())
    if spec.person is not None and (spec.visit or names.VISIT) in frame.columns:
        tables["visits"] = _arrow(visit_table(frame, spec, strata))
    return tables


def _arrow(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)
