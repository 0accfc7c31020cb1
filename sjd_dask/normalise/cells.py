"""Cell fractions of samples from a reference table that the user gives: features x cell types.

Nothing is fitted: the table is the frozen part, and a sample's fractions are the same alone, in any batch, next year.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels import cells as kernel

FloatArray = NDArray[np.float64]
CellMethod = Literal["constrained", "robust"]
# Columns of the result beside the cell types.
EXTRA_COLUMNS = ("residual", "n_features", "converged")
# A table needs this many features for each cell type that is asked for.
_FEATURES_PER_CELL = 3


@dataclass(frozen=True)
class CellProfiles:
    """A reference table matched to the features of an assay: all that reading and solving blocks needs.

    Attributes
    ----------
    cells : tuple of str
    feature_ids : ndarray of str objects, shape (m,)
        Those of the assay that the table has, in the assay's order.
    index : ndarray of int, shape (m,)
        Their places in the assay: only these need reading.
    profiles : ndarray, shape (m, k)
    n_table : int
        Features of the table, found or not.
    min_features : int
        What every sample must have.
    """

    cells: tuple[str, ...]
    feature_ids: NDArray[Any]
    index: NDArray[np.int64]
    profiles: FloatArray
    n_table: int
    min_features: int

    @classmethod
    def match(
        cls, feature_ids: Sequence[str] | NDArray[Any], reference: pd.DataFrame, min_features: int | None = None
    ) -> CellProfiles:
        """Match a table to features by id; order and extra rows on either side don't matter.

        Parameters
        ----------
        feature_ids : sequence of str
            Features of the assay.
        reference : DataFrame
            Index feature ids, one column a cell type, in the units of the assay's values.
        min_features : int, optional
            Fewest features to work with; default three for each cell type.

        Raises
        ------
        SpecError
            No or double cell types, or one called like a column of the result.
        DataError
            The table repeats a feature, has missing values or text, overlaps too little with the assay, or has
            profiles that can't be told apart over the overlap.
        """
        names = tuple(str(name) for name in reference.columns)
        _check_names(names)
        table = pd.Series(np.arange(len(reference)), index=reference.index.astype(str))
        if not table.index.is_unique:
            twice = table.index[table.index.duplicated()][0]
            raise DataError(f"the reference table has feature {twice!r} more than once: keep one row for each feature")
        profiles = _numbers(reference)
        assay = pd.Index(np.array([str(one) for one in feature_ids], dtype=object))
        place = table.reindex(assay).to_numpy(dtype=np.float64)
        index = np.flatnonzero(~np.isnan(place)).astype(np.int64)
        fewest = _FEATURES_PER_CELL * len(names) if min_features is None else max(min_features, len(names) + 2)
        if index.size < fewest:
            raise DataError(
                f"{index.size} of the {len(table)} features of the reference table are among the assay's {len(assay)}, "
                f"and {len(names)} cell types need at least {fewest}. The table has ids such as "
                f"{table.index[0] if len(table) else ''!r}, the assay {assay[0] if len(assay) else ''!r}: "
                "name a table for this platform and genome"
            )
        matched = np.ascontiguousarray(profiles[place[index].astype(np.int64)])
        if not kernel.distinct(matched):
            raise DataError(
                f"the profiles of {len(names)} cell types ({', '.join(names)}) can't be told apart over the "
                f"{index.size} features found: some are linear combinations of others. Merge or drop cell types"
            )
        return cls(names, np.asarray(assay[index], dtype=object), index, matched, len(table), fewest)

    def solve(
        self,
        values: FloatArray,
        sample_ids: Sequence[str],
        method: CellMethod = "constrained",
        *,
        total: kernel.Total = "at_most_one",
        max_iterations: int = 50,
    ) -> pd.DataFrame:
        """Fractions from values of the matched features, shape (n, m); see `deconvolve`."""
        if method not in ("constrained", "robust"):
            raise SpecError(f"unknown method {method!r} for cell fractions: constrained or robust")
        if total not in ("at_most_one", "one", "free"):
            raise SpecError(f"unknown rule {total!r} for the sum of fractions: at_most_one, one or free")
        block = np.ascontiguousarray(values, dtype=np.float64)
        if block.shape != (len(sample_ids), self.index.size):
            raise DataError(
                f"values have shape {block.shape}; expected {len(sample_ids)} samples x {self.index.size} features"
            )
        present = np.isfinite(block).sum(axis=1)
        self._check_samples(block, present, sample_ids)
        converged = np.ones(len(block), dtype=bool)
        if method == "constrained":
            fractions = kernel.constrained_fractions(block, self.profiles, total)
        else:
            fractions, converged = kernel.robust_fractions(block, self.profiles, max_iterations=max_iterations)
        made = pd.DataFrame(fractions, index=pd.Index(list(sample_ids), name="sample_id"), columns=list(self.cells))
        made["residual"] = kernel.residual_rms(block, self.profiles, fractions)
        made["n_features"] = present.astype(np.int64)
        made["converged"] = converged
        return made

    def _check_samples(self, block: FloatArray, present: NDArray[Any], sample_ids: Sequence[str]) -> None:
        few = np.flatnonzero(present < self.min_features)
        if few.size:
            shown = ", ".join(f"{sample_ids[i]!r} ({present[i]})" for i in few[:5])
            raise DataError(
                f"{few.size} samples have too few of the {self.index.size} reference features: {shown}"
                f"{', ...' if few.size > 5 else ''}; {len(self.cells)} cell types need at least {self.min_features}. "
                "Leave these samples out"
            )
        if self.profiles.min() >= 0.0 and self.profiles.max() <= 1.0:
            with np.errstate(invalid="ignore"):
                outside = ((block < -0.05) | (block > 1.05)).sum(axis=1)
            strange = np.flatnonzero(outside > present / 4)
            if strange.size:
                raise DataError(
                    f"the reference table holds values from 0 to 1, and sample {sample_ids[strange[0]]!r} has "
                    f"{outside[strange[0]]} of {present[strange[0]]} values outside: give beta values, not M-values "
                    "or raw intensities"
                )


def deconvolve(
    values_block: FloatArray,
    feature_ids: Sequence[str] | NDArray[Any],
    reference: pd.DataFrame,
    method: CellMethod = "constrained",
    *,
    sample_ids: Sequence[str] | None = None,
    total: kernel.Total = "at_most_one",
    max_iterations: int = 50,
    min_features: int | None = None,
) -> pd.DataFrame:
    """Cell fractions of each sample of a block, from that sample's values alone.

    Parameters
    ----------
    values_block : ndarray, shape (n, p)
        One sample a row, in the units of the table (beta values for a methylation reference). NaN is missing: the
        feature is left out for that sample, as if the table lacked it.
    feature_ids : sequence of str, length p
    reference : DataFrame
        Index feature ids, one column a cell type. Matched by id.
    method : {"constrained", "robust"}
        ``constrained``: least squares with no fraction below zero (Houseman and others 2012; minfi's
        ``projectCellType``). ``robust``: Huber regression, negative coefficients to zero, scaled to sum 1
        (Teschendorff and others 2017; EpiDISH's RPC).
    sample_ids : sequence of str, optional
        Default 0, 1, ...
    total : {"at_most_one", "one", "free"}
        For ``constrained``: what the fractions sum to.
    max_iterations : int
        For ``robust``.
    min_features : int, optional
        Fewest features that the overlap and every sample must have; default three for each cell type.

    Returns
    -------
    DataFrame
        Index sample_id; one column a cell type, then ``residual`` (root mean square of values minus the mix of
        profiles that the fractions mean, in the values' units), ``n_features`` (those used) and ``converged``.
        Fractions are NaN where a sample's features don't tell the cell types apart, or, for ``robust``, where no
        coefficient is positive.

    Raises
    ------
    SpecError, DataError
        See `CellProfiles.match`; a sample with too few features, or values that can't be in the table's units, is
        named.
    """
    ids = [str(i) for i in range(len(values_block))] if sample_ids is None else [str(one) for one in sample_ids]
    matched = CellProfiles.match(feature_ids, reference, min_features)
    block = np.asarray(values_block, dtype=np.float64)[:, matched.index]
    return matched.solve(block, ids, method, total=total, max_iterations=max_iterations)


def _check_names(names: tuple[str, ...]) -> None:
    if len(names) < 2:
        raise SpecError(f"the reference table has {len(names)} cell types ({', '.join(names)}); at least 2 are needed")
    if len(set(names)) < len(names):
        raise SpecError(f"the reference table names a cell type twice: {', '.join(names)}")
    taken = set(names) & {"sample_id", *EXTRA_COLUMNS}
    if taken:
        raise SpecError(
            f"the reference table has a column {sorted(taken)[0]!r}, which the result needs for itself: rename it, or "
            "remove it if it is not a cell type"
        )


def _numbers(reference: pd.DataFrame) -> FloatArray:
    columns = []
    for name in reference.columns:
        numbers = pd.to_numeric(reference[name], errors="coerce").to_numpy(dtype=np.float64)
        bad = ~np.isfinite(numbers)
        if bad.any():
            raise DataError(
                f"the reference table has no number for {str(name)!r} at {int(bad.sum())} features, the first "
                f"{str(reference.index[bad][0])!r}: remove those rows, and columns that are not cell types"
            )
        columns.append(numbers)
    return np.column_stack(columns)
