"""What one task of an association job does: read its stripe of features, decode, compute, and give back a small table.

Each function has the form ``f(work, partition) -> pyarrow.Table`` with one row per feature of the partition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask.associate import model as models
from sjd_dask.associate.results import FeatureFits
from sjd_dask.jobs.matrix import Matrix
from sjd_dask.kernels import linear
from sjd_dask.runtime.plan import Partition

Floats = NDArray[np.float64]

# Bytes of decoded values that a task holds at a time where a test needs whole columns.
COLUMN_BYTES = 32 << 20


@dataclass(frozen=True)
class LinearWork:
    """The common part of linear-model tasks; rows of the design are the samples of the reader, in its order."""

    matrix: Matrix
    model: models.LinearModel
    correlation: float | None = None


def fit_partition(work: LinearWork, partition: Partition) -> pa.Table:
    """Linear model of every feature of a stripe: row blocks are read and added to running sums one after another."""
    start, stop = partition.feature_start, partition.feature_stop
    basis, single = work.model.basis, work.model.precision == "single"
    sums = linear.new_sums(basis, stop - start, work.model.precision)
    for positions, raw, encoding in work.matrix.reader.row_blocks(start, stop, reuse=True):
        block, table, fill = work.matrix.block(raw, encoding, single)
        linear.accumulate(sums, design_rows(basis.q, positions), block, table, fill, has_intercept=basis.has_intercept)
    fit = linear.finish(sums, basis)
    if fit.needs_columns.size:
        fit = linear.refit_columns(fit, basis, picked_columns(work.matrix, start, fit.needs_columns))
    return fits_table(models.contrast_fits(fit, basis, work.model))


def fit_block_partition(work: LinearWork, partition: Partition) -> pa.Table:
    """Generalised least squares under the common within-block correlation; needs whole columns."""
    assert work.correlation is not None
    stripes = _column_stripes(work.matrix, partition)
    return pa.concat_tables([fits_table(models.fit_blocks(work.model, v, work.correlation)) for v in stripes])


def correlation_partition(work: LinearWork, partition: Partition) -> pa.Table:
    """Within-block correlation of every feature."""
    stripes = _column_stripes(work.matrix, partition)
    return pa.table({"correlation": np.concatenate([models.block_correlations(work.model, v) for v in stripes])})


@dataclass(frozen=True)
class GroupWork:
    """The common part of tests between groups; codes are of the samples of the reader, in its order."""

    matrix: Matrix
    model: models.GroupModel


def group_partition(work: GroupWork, partition: Partition) -> pa.Table:
    """Wilcoxon, Kruskal-Wallis or Welch test of every feature of a stripe."""
    stripes = _column_stripes(work.matrix, partition)
    return pa.concat_tables([pa.table(models.compare_groups(work.model, values)) for values in stripes])


def column_width(n_samples: int) -> int:
    """Features whose decoded columns fit in `COLUMN_BYTES`."""
    return max(1, COLUMN_BYTES // (8 * max(1, n_samples)))


def _column_stripes(matrix: Matrix, partition: Partition) -> Any:
    """Decoded whole columns of a partition, a few features at a time: (n_samples, width) float64, NaN for missing."""
    raw, encoding = matrix.reader.columns(partition.feature_start, partition.feature_stop)
    width = column_width(raw.shape[0])
    for first in range(0, raw.shape[1], width):
        yield matrix.values(np.ascontiguousarray(raw[:, first : first + width]), encoding)


def picked_columns(matrix: Matrix, start: int, wanted: NDArray[np.int64]) -> Floats:
    """Decoded columns of a few features; neighbours within a chunk are read together."""
    picked = np.empty((matrix.reader.n_samples, wanted.size))
    width = column_width(matrix.reader.n_samples)
    done = 0
    while done < wanted.size:
        first = int(wanted[done])
        last = int(np.searchsorted(wanted, first + width))
        raw, encoding = matrix.reader.columns(start + first, start + int(wanted[last - 1]) + 1)
        picked[:, done:last] = matrix.values(np.ascontiguousarray(raw[:, wanted[done:last] - first]), encoding)
        done = last
    return picked


def design_rows(q: Floats, positions: NDArray[np.int64]) -> Floats:
    """Rows of the design for a block; a view where the positions run on."""
    first = int(positions[0])
    if int(positions[-1]) - first + 1 == positions.size and np.all(np.diff(positions) == 1):
        return q[first : first + positions.size]
    return np.ascontiguousarray(q[positions])


def fits_table(fits: FeatureFits) -> pa.Table:
    """What the reduction needs of each feature."""
    columns: dict[str, NDArray[Any]] = {}
    for k in range(len(fits.effects)):
        columns[f"effect_{k}"] = fits.effects[k]
        columns[f"stdev_{k}"] = fits.stdev_unscaled[k]
    columns["sigma2"] = fits.sigma2
    columns["df_residual"] = fits.df_residual
    columns["mean"] = fits.mean
    columns["n_samples"] = fits.n_samples
    if len(fits.effects) > 1 and fits.f_quadratic is not None:
        columns["f_quadratic"] = fits.f_quadratic
    return pa.table(columns)
