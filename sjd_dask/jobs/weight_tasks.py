"""What the tasks of an association with weights do, round by round; see `associate_weights` for the rounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.associate import model as models
from sjd_dask.jobs import associate_tasks as tasks
from sjd_dask.jobs.matrix import Matrix
from sjd_dask.kernels import array_weights, linear, weighted
from sjd_dask.kernels import voom as vooms
from sjd_dask.runtime.plan import Partition
from sjd_dask.store.layout import Encoding

Floats = NDArray[np.float64]

# Rows of a block: values and weights of a block are held as float64 beside each other. At least linear.PILOT_ROWS.
ROW_BLOCK = 64


@dataclass(frozen=True)
class Trend:
    """The voom line, and the coefficients (p, all features) of the fit it was made from."""

    line: vooms.VoomLine
    coefficients: Floats


@dataclass(frozen=True)
class WeightedWork:
    """The common part of tasks with weights; (n,) arrays follow the samples of the reader.

    Attributes
    ----------
    matrix, model
        As in `associate_tasks.LinearWork`.
    library : (n,), optional
        Effective library sizes, for voom weights.
    samples : (n,), optional
        A weight for each sample.
    trend : Trend, optional
        Where voom weights come from.
    cov_unscaled : (p, p), optional
        See `weighted.finish_weighted`.
    width : int
        Features of whole columns that are read at a time by the one task that goes through all of them.
    """

    matrix: Matrix
    model: models.LinearModel
    library: Floats | None = None
    samples: Floats | None = None
    trend: Trend | None = None
    cov_unscaled: Floats | None = None
    width: int = 1

    def values(self, raw: NDArray[Any], encoding: Encoding, positions: Any) -> Floats:
        """A block as it is tested: stored counts become log2 counts per million where voom is at work."""
        decoded = np.asarray(self.matrix.values(raw, encoding), dtype=np.float64)
        if self.library is not None and self.matrix.reader.quantity == names.COUNTS:
            return vooms.voom_expression(decoded, self.library[positions])
        return decoded

    def weights(self, positions: Any, features: Any) -> Floats | None:
        """Weights (rows, features), or (rows, 1) where each sample has one; None where there are none."""
        own = None if self.samples is None else self.samples[positions][:, None]
        if self.trend is None:
            return own
        assert self.library is not None
        found = vooms.voom_weights(
            self.trend.line,
            np.ascontiguousarray(self.trend.coefficients[:, features]),
            self.model.basis.matrix[positions],
            vooms.log_offset(self.library[positions]),
        )
        return found if own is None else found * own

    def blocks(self, partition: Partition) -> Iterator[tuple[NDArray[np.int64], Floats]]:
        """Positions and tested values of the samples, a block of rows at a time."""
        reader = self.matrix.reader
        for positions, raw, encoding in reader.row_blocks(
            partition.feature_start, partition.feature_stop, ROW_BLOCK, reuse=True
        ):
            yield positions, self.values(raw, encoding, positions)

    def columns(self, partition: Partition) -> Iterator[tuple[Floats, Floats | None]]:
        """Tested values and weights (n, some features) of whole columns, a few features at a time."""
        raw, encoding = self.matrix.reader.columns(partition.feature_start, partition.feature_stop)
        step = tasks.column_width(raw.shape[0])
        for first in range(0, raw.shape[1], step):
            stop = min(first + step, raw.shape[1])
            values = self.values(np.ascontiguousarray(raw[:, first:stop]), encoding, slice(None))
            features = slice(partition.feature_start + first, partition.feature_start + stop)
            yield values, self.weights(slice(None), features)

    def picked(self, start: int, wanted: NDArray[np.int64]) -> Floats:
        """Tested columns (n, few) of some features of a partition that begins at `start`."""
        found = tasks.picked_columns(self.matrix, start, wanted)
        if self.library is not None and self.matrix.reader.quantity == names.COUNTS:
            return vooms.voom_expression(found, self.library)
        return found

    def fitted(self, partition: Partition) -> tuple[weighted.WeightedFit, Floats | None]:
        """The weighted fit of a partition, and the largest log2 count of each feature where there are libraries."""
        start, stop = partition.feature_start, partition.feature_stop
        basis = self.model.basis
        sums = weighted.new_weighted_sums(basis, stop - start)
        largest = None if self.library is None else np.full(stop - start, -np.inf)
        for positions, values in self.blocks(partition):
            if largest is not None and self.library is not None:
                offset = vooms.log_offset(self.library[positions])
                np.maximum(largest, vooms.largest_log_count(values, offset), out=largest)
            given = self.weights(positions, slice(start, stop))
            given = np.ones((len(values), 1)) if given is None else given
            rows = tasks.design_rows(basis.q, positions)
            weighted.accumulate_weighted(sums, rows, values, given, has_intercept=basis.has_intercept)
        fit = weighted.finish_weighted(sums, basis, self.cov_unscaled)
        needed = fit.needs_columns
        if needed.size:
            own = self.weights(slice(None), start + needed)
            own = np.ones((basis.n, 1)) if own is None else own
            fit = weighted.refit_weighted(fit, basis, self.picked(start, needed), own)
        return fit, largest


def library_partition(work: WeightedWork, partition: Partition) -> pa.Table:
    """Counts of each sample over the features of a stripe; one row a sample."""
    total = np.zeros(work.matrix.reader.n_samples)
    for positions, raw, encoding in work.matrix.reader.row_blocks(
        partition.feature_start, partition.feature_stop, ROW_BLOCK, reuse=True
    ):
        total[positions] = np.nansum(work.matrix.values(raw, encoding), axis=1)
    return pa.table({"library_size": total})


def trend_partition(work: WeightedWork, partition: Partition) -> pa.Table:
    """What the voom line needs of each feature: mean, residual variance, coefficients, largest log2 count."""
    if work.samples is not None:
        fit, largest = work.fitted(partition)
        coefficients, sigma2, mean = fit.coefficients, fit.sigma2, fit.scaled.mean
    else:
        coefficients, sigma2, mean, largest = _plain_fit(work, partition)
    assert largest is not None
    columns = {f"coefficient_{j}": values for j, values in enumerate(coefficients)}
    return pa.table({"mean": mean, "sigma2": sigma2, "largest": largest, **columns})


def _plain_fit(work: WeightedWork, partition: Partition) -> tuple[Floats, Floats, Floats, Floats]:
    """The fit without weights."""
    assert work.library is not None
    start, stop = partition.feature_start, partition.feature_stop
    basis = work.model.basis
    sums = linear.new_sums(basis, stop - start)
    largest = np.full(stop - start, -np.inf)
    for positions, values in work.blocks(partition):
        np.maximum(largest, vooms.largest_log_count(values, vooms.log_offset(work.library[positions])), out=largest)
        linear.accumulate(sums, tasks.design_rows(basis.q, positions), values, has_intercept=basis.has_intercept)
    fit = linear.finish(sums, basis)
    if fit.needs_columns.size:
        fit = linear.refit_columns(fit, basis, work.picked(start, fit.needs_columns))
    return fit.coefficients, fit.sigma2, fit.mean, largest


def reml_partition(work: WeightedWork, partition: Partition) -> pa.Table:
    """Sums of one step of the weights of samples: features used and left out, excess (n,), information (n, n)."""
    assert work.samples is not None
    # The weights of samples enter the step by themselves.
    cells = replace(work, samples=None)
    parts = [
        array_weights.reml_sums(values, work.model.basis, work.samples, given)
        for values, given in cells.columns(partition)
    ]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    counts = [float(total.n_features), float(total.n_missing)]
    return pa.table({"sums": np.concatenate([counts, total.excess, total.information.ravel()])})


def gene_by_gene_partition(work: WeightedWork, partition: Partition) -> pa.Table:
    """Weights of samples by one pass over all features in their order: one task, whose partition holds them all.

    `missing` says, in every row, whether a value of any feature is missing.
    """
    state = array_weights.GeneByGene(work.model.basis)
    missing = False
    for start in range(partition.feature_start, partition.feature_stop, work.width):
        stop = min(start + work.width, partition.feature_stop)
        for values, given in work.columns(Partition(0, start, stop)):
            state.update(values, given)
            missing = missing or not np.isfinite(values).all()
    return pa.table({"weight": state.weights, "missing": np.full(state.weights.size, missing)})


def fit_weighted_partition(work: WeightedWork, partition: Partition) -> pa.Table:
    """Weighted linear model of every feature of a stripe."""
    fit, _ = work.fitted(partition)
    return tasks.fits_table(models.weighted_fits(fit, work.model))
