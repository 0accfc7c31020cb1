"""What one task of an association job does: read its stripe of features, decode, compute, and give back a small table.

Each function has the form ``f(work, partition) -> pyarrow.Table`` with one row per feature of the partition.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.errors import DataError
from sjd_dask.kernels import correlation, gls, linear, methylation, rank
from sjd_dask.runtime.plan import Partition
from sjd_dask.store.layout import Encoding
from sjd_dask.store.region import RegionReader

Floats = NDArray[np.float64]

# Bytes of decoded values that a task holds at a time where a test needs whole columns.
COLUMN_BYTES = 32 << 20


@dataclass(frozen=True)
class Matrix:
    """Where the values come from and what they are turned into."""

    reader: RegionReader
    quantity: str  # what is tested: the stored quantity, or m_value decoded from betas

    def table(self, encoding: Encoding, single: bool = False) -> NDArray[np.floating[Any]] | None:
        """Look-up table from codes to values; None where the raw numbers are the values."""
        return _table(encoding, self.reader.quantity, self.quantity, single)

    def values(self, raw: NDArray[Any], encoding: Encoding) -> Floats:
        """Decoded values, NaN for missing."""
        table = self.table(encoding)
        if table is not None:
            taken: Floats = np.take(table, raw)
            return taken
        values = encoding.decode(raw)
        return self._converted(values)

    def _converted(self, values: Floats) -> Floats:
        if self.quantity == names.M_VALUE and self.reader.quantity == names.BETA:
            return methylation.beta_to_m(values)
        return values

    def block(self, raw: NDArray[Any], encoding: Encoding, single: bool) -> tuple[NDArray[Any], Any, int | None]:
        """A block as the kernel takes it: values or codes, look-up table, fill code."""
        table = self.table(encoding, single)
        if table is not None:
            return raw, table, None
        if encoding.scale_factor is not None or self.quantity != self.reader.quantity:
            return self.values(raw, encoding), None, None
        return raw, None, encoding.fill_value


@lru_cache(maxsize=8)
def _table(encoding: Encoding, stored: str, wanted: str, single: bool) -> NDArray[np.floating[Any]] | None:
    if encoding.scale_factor is None or encoding.fill_value is None:
        return None
    if encoding.numpy_dtype not in (np.dtype("uint16"), np.dtype("uint8")):
        return None
    n_codes = 2 ** (8 * encoding.numpy_dtype.itemsize)
    make = methylation.beta_to_m_table if (stored, wanted) == (names.BETA, names.M_VALUE) else methylation.beta_table
    table = make(encoding.scale_factor, encoding.fill_value, n_codes)
    return table.astype(np.float32) if single else table


@dataclass(frozen=True)
class LinearWork:
    """The common part of linear-model tasks; rows of the design are the samples of the reader, in its order."""

    matrix: Matrix
    design: linear.LinearDesign
    contrasts: Floats
    na_contrasts: str
    precision: str
    block_codes: NDArray[np.int64] | None = None
    correlation: float | None = None
    correlation_method: str = "limma"


def fit_partition(work: LinearWork, partition: Partition) -> pa.Table:
    """Linear model of every feature of a stripe: row blocks are read and added to running sums one after another."""
    start, stop = partition.feature_start, partition.feature_stop
    single = work.precision == "single"
    sums = linear.new_sums(work.design, stop - start, work.precision)  # type: ignore[arg-type]
    for positions, raw, encoding in work.matrix.reader.row_blocks(start, stop, reuse=True):
        block, table, fill = work.matrix.block(raw, encoding, single)
        linear.accumulate(
            sums, _rows(work.design.q, positions), block, table, fill, has_intercept=work.design.has_intercept
        )
    fit = linear.finish(sums, work.design)
    if fit.needs_columns.size:
        fit = linear.refit_columns(fit, work.design, _picked_columns(work.matrix, start, fit.needs_columns))
    return _contrast_table(work, fit, work.design)


def fit_block_partition(work: LinearWork, partition: Partition) -> pa.Table:
    """Generalised least squares under the common within-block correlation; needs whole columns."""
    assert work.block_codes is not None
    assert work.correlation is not None
    tables = []
    for values in _column_stripes(work.matrix, partition):
        fit, whitened = gls.gls_fit(values, work.design.matrix, work.block_codes, work.correlation)
        tables.append(_contrast_table(work, fit, whitened))
    return pa.concat_tables(tables)


def correlation_partition(work: LinearWork, partition: Partition) -> pa.Table:
    """Within-block correlation of every feature (REML)."""
    assert work.block_codes is not None
    rho = [
        correlation.duplicate_correlation(values, work.design.matrix, work.block_codes, method=work.correlation_method)
        for values in _column_stripes(work.matrix, partition)
    ]
    return pa.table({"correlation": np.concatenate(rho)})


@dataclass(frozen=True)
class GroupWork:
    """The common part of tests between groups: codes of the samples of the reader, in its order."""

    matrix: Matrix
    codes: NDArray[np.int64]
    n_groups: int
    test: str
    exact: str | bool = "auto"
    continuity: bool = True


def group_partition(work: GroupWork, partition: Partition) -> pa.Table:
    """Wilcoxon, Kruskal-Wallis or Welch test of every feature of a stripe."""
    pieces = [_compare(work, values) for values in _column_stripes(work.matrix, partition)]
    return pa.concat_tables(pieces)


def _compare(work: GroupWork, values: Floats) -> pa.Table:
    if work.test == "wilcoxon":
        found = rank.wilcoxon(values, work.codes, correct=work.continuity, exact=work.exact)  # type: ignore[arg-type]
    elif work.test == "kruskal":
        found = rank.kruskal(values, work.codes, work.n_groups)
    else:
        found = rank.welch(values, work.codes, work.n_groups)
    known = np.isfinite(values)
    count = known.sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean = np.where(known, values, 0.0).sum(axis=0) / count
    return pa.table(
        {
            "effect": found.effect,
            "standard_error": found.standard_error,
            "statistic": found.statistic,
            "df": found.df_numerator if work.test == "kruskal" else found.df,
            "p_value": found.p_value,
            "mean": mean,
            "n_samples": found.n_samples.astype(np.int64),
        }
    )


def column_width(n_samples: int) -> int:
    """Features whose decoded columns fit in `COLUMN_BYTES`."""
    return max(1, COLUMN_BYTES // (8 * max(1, n_samples)))


def _column_stripes(matrix: Matrix, partition: Partition) -> Any:
    """Decoded whole columns of a partition, a few features at a time: (n_samples, width) float64, NaN for missing."""
    raw, encoding = matrix.reader.columns(partition.feature_start, partition.feature_stop)
    width = column_width(raw.shape[0])
    for first in range(0, raw.shape[1], width):
        yield matrix.values(np.ascontiguousarray(raw[:, first : first + width]), encoding)


def _picked_columns(matrix: Matrix, start: int, wanted: NDArray[np.int64]) -> Floats:
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


def _rows(q: Floats, positions: NDArray[np.int64]) -> Floats:
    """Rows of the design for a block; a view where the positions run on."""
    first = int(positions[0])
    if int(positions[-1]) - first + 1 == positions.size and np.all(np.diff(positions) == 1):
        return q[first : first + positions.size]
    return np.ascontiguousarray(q[positions])


def _contrast_table(work: LinearWork, fit: linear.LinearFit, design: linear.LinearDesign) -> pa.Table:
    """What the reduction needs of each feature."""
    tested = linear.contrast_fit(fit, design, work.contrasts, work.na_contrasts)  # type: ignore[arg-type]
    if tested.f_rank < 1:
        raise DataError("the contrasts are all zero")
    columns: dict[str, NDArray[Any]] = {}
    for k in range(work.contrasts.shape[1]):
        columns[f"effect_{k}"] = tested.effects[k]
        columns[f"stdev_{k}"] = tested.stdev_unscaled[k]
    columns["sigma2"] = fit.sigma2
    columns["df_residual"] = fit.df_residual
    columns["mean"] = fit.mean
    columns["n_samples"] = fit.n_samples
    if work.contrasts.shape[1] > 1:
        columns["f_quadratic"] = tested.f_quadratic
    return pa.table(columns)
