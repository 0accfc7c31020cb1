"""Counts: library sizes, the filter of features without enough counts, and log counts per million."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sjd_dask.designs.formula import formula_columns
from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels.counts_cpm import log_cpm
from sjd_dask.kernels.counts_filter import expressed, minimum_sample_size, samples_above
from sjd_dask.kernels.voom import voom_expression
from sjd_dask.normalise.counts_libraries import (
    COUNTS,
    LIBRARY_SIZE,
    active,
    counts_of,
    libraries,
    number,
    reference_libraries,
    refuse_samples,
    require_space,
    scalars,
    with_libraries,
    with_rows,
)
from sjd_dask.normalise.formula import design_matrix
from sjd_dask.normalise.method import Arrays, Block, Method, Partial, Reference, register, require_columns


@register
@dataclass(frozen=True)
class LibrarySize(Method):
    """The total of each sample's counts as its library size, with a norm factor of 1. Counts stay as they are.

    Notes
    -----
    Nothing is learnt from the reference set. Context: ``library_size``, ``norm_factor``, ``effective_library_size``.
    A missing, infinite or negative count, or a sample without any count, is a DataError that names it.
    """

    method: ClassVar[str] = "library_size"
    gives_context: ClassVar[frozenset[str]] = frozenset({LIBRARY_SIZE})
    takes: ClassVar[frozenset[str]] = COUNTS

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        rows = active(block)
        size, _ = libraries(_without_libraries(block), rows, counts_of(block, rows, self.method), self.method)
        return with_libraries(block, rows, size, np.ones(rows.size))


@register
@dataclass(frozen=True)
class FilterByExpr(Method):
    """Keep the features with enough counts in enough reference samples; the set of features is then frozen.

    Parameters
    ----------
    min_count : float
        Counts that a sample of median library size must have.
    min_total_count : float
        Counts that all samples must have together.
    large_n, min_prop : float
        Of a smallest group above `large_n` samples, only this share of the rest must have these counts.
    group : str, optional
        Sample column of groups: the smallest group says in how many samples a feature must have counts.
    design : str, optional
        Formula, in place of `group`: one over the largest leverage says it.
    keep_lib_sizes : bool
        Keep the library sizes of all features; else they are those of the features kept. Norm factors stay.

    Notes
    -----
    edgeR 3.40's filterByExpr (Chen, Lun and Smyth 2016); library sizes are multiplied by norm factors if a step before
    gave them. Without `group` and `design` all samples are one group. Parameters: ``keep`` (features_in,).
    """

    min_count: float = field(default=10, metadata={"description": "counts needed in a sample of median library size"})
    min_total_count: float = field(default=15, metadata={"description": "counts needed in all samples together"})
    large_n: float = field(default=10, metadata={"description": "group size above which only min_prop is needed"})
    min_prop: float = field(default=0.7, metadata={"description": "share needed of the samples above large_n"})
    group: str | None = field(default=None, metadata={"description": "sample column of groups"})
    design: str | None = field(default=None, metadata={"description": "formula over sample columns, in place of group"})
    keep_lib_sizes: bool = field(
        default=False, metadata={"description": "keep the library sizes of all features after the filter"}
    )

    method: ClassVar[str] = "filter_by_expr"
    gives_context: ClassVar[frozenset[str]] = frozenset({LIBRARY_SIZE})
    takes: ClassVar[frozenset[str]] = COUNTS
    dims: ClassVar[dict[str, tuple[str, ...]]] = {"keep": ("features_in",)}

    def __post_init__(self) -> None:
        for name in ("min_count", "min_total_count", "large_n", "min_prop"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise SpecError(f"step `{self.method}`: {name} must be a number from 0 up, not {value}")
        if self.min_prop > 1:
            raise SpecError(f"step `{self.method}`: min_prop is a share, so at most 1, not {self.min_prop}")
        if self.group is not None and self.design is not None:
            raise SpecError(
                f"step `{self.method}`: give `group` or `design`, not both: either says which samples count"
            )

    def fit_columns(self) -> list[str]:
        return [self.group] if self.group is not None else formula_columns(self.design)

    def check(self, reference: Reference) -> None:
        require_columns(self.fit_columns(), reference.samples, self.method)
        if self.group is not None:
            without = reference.samples[self.group].isna().to_numpy()
            if without.any():
                refuse_samples(
                    [reference.sample_ids[i] for i in np.flatnonzero(without)],
                    self.method,
                    f"have no {self.group!r}",
                    "fill the sheet or leave them out of the reference",
                )

    def fit(self, reference: Reference) -> Arrays:
        self.check(reference)
        size, factor = reference_libraries(reference, self.method)
        median = float(np.median(size * factor))
        found = reference.by_samples(_filter_pass, (self.method, median, self.min_count)).sums
        n = len(reference.sample_ids)
        groups = None if self.group is None else reference.samples[self.group].astype(str).to_numpy()
        design = None if self.design is None else design_matrix(self.design, reference.samples)[0]
        needed = minimum_sample_size(
            n, groups=groups, design=design, large_n=self.large_n, min_prop=self.min_prop
        )  # fmt: skip
        keep = expressed(found["above"], found["total"], needed, self.min_total_count)
        if not keep.any():
            raise DataError(
                f"step `{self.method}` keeps none of {keep.size:,} features: none has {self.min_count:g} counts (in a "
                f"library of the median size {median:,.0f}) in {needed:.4g} of {n:,} samples and "
                f"{self.min_total_count:g} in all; lower min_count, or check that these are raw counts"
            )
        return {"keep": keep}

    def out_features(self, parameters: Mapping[str, NDArray[Any]], feature_ids: NDArray[Any]) -> NDArray[Any] | None:
        return np.asarray(parameters["keep"], dtype=bool)

    def is_pointwise(self, parameters: Mapping[str, NDArray[Any]], known: frozenset[str]) -> bool:
        return self.keep_lib_sizes and LIBRARY_SIZE in known

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        keep = np.asarray(parameters["keep"], dtype=bool)
        require_space(block, keep.size, self.method)
        rows = active(block)
        size, factor = libraries(block, rows, counts_of(block, rows, self.method), self.method)
        kept = block.take_features(keep)
        if not self.keep_lib_sizes:
            counts = kept.values if rows.size == kept.n_samples else kept.values[rows]
            size, _ = libraries(_without_libraries(kept), rows, counts, self.method)
        return with_libraries(kept, rows, size, factor)


@register
@dataclass(frozen=True)
class LogCpm(Method):
    """Log2 counts per million of the effective library size, with a prior count.

    Parameters
    ----------
    prior_count : float
        Added to each count, in proportion to the library over the mean library of the reference set.

    Notes
    -----
    edgeR 3.40's cpm(log=TRUE). Only the mean effective library size is frozen: parameter ``mean_library_size``.
    """

    prior_count: float = field(default=2, metadata={"description": "count added to a library of mean size"})

    method: ClassVar[str] = "log_cpm"
    gives_context: ClassVar[frozenset[str]] = frozenset({LIBRARY_SIZE})
    takes: ClassVar[frozenset[str]] = COUNTS
    gives: ClassVar[str | None] = "expression"
    dims: ClassVar[dict[str, tuple[str, ...]]] = {"mean_library_size": ()}

    def __post_init__(self) -> None:
        if not (math.isfinite(self.prior_count) and self.prior_count > 0):
            raise SpecError(
                f"step `{self.method}`: prior_count must be above 0, not {self.prior_count}: a zero has no logarithm"
            )

    def fit(self, reference: Reference) -> Arrays:
        size, factor = reference_libraries(reference, self.method)
        return scalars(mean_library_size=math.fsum(size * factor) / len(size))

    def is_pointwise(self, parameters: Mapping[str, NDArray[Any]], known: frozenset[str]) -> bool:
        return LIBRARY_SIZE in known

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        rows = active(block)
        counts = counts_of(block, rows, self.method)
        size, factor = libraries(block, rows, counts, self.method)
        values = log_cpm(counts, size * factor, number(parameters, "mean_library_size"), self.prior_count)
        done = with_libraries(block, rows, size, factor)
        return done.with_(values=with_rows(block, rows, values), scale="expression")


@register
@dataclass(frozen=True)
class Voom(Method):
    """Log2 counts per million as voom takes them: log2((count + 0.5) / (effective library size + 1) * 1e6).

    Notes
    -----
    The values of limma 3.54's voom (Law and others 2014); nothing is learnt from the reference set. The weights belong
    to a design, so `associate` makes them. Context: ``effective_library_size``.
    """

    method: ClassVar[str] = "voom"
    gives_context: ClassVar[frozenset[str]] = frozenset({LIBRARY_SIZE})
    takes: ClassVar[frozenset[str]] = COUNTS
    gives: ClassVar[str | None] = "expression"

    def is_pointwise(self, parameters: Mapping[str, NDArray[Any]], known: frozenset[str]) -> bool:
        return LIBRARY_SIZE in known

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        rows = active(block)
        counts = counts_of(block, rows, self.method)
        size, factor = libraries(block, rows, counts, self.method)
        values = voom_expression(counts, size * factor)
        done = with_libraries(block, rows, size, factor)
        return done.with_(values=with_rows(block, rows, values), scale="expression")


def _without_libraries(block: Block) -> Block:
    """The block as if no step before had counted its libraries."""
    return replace(block, context={k: v for k, v in block.context.items() if k != LIBRARY_SIZE})


def _filter_pass(block: Block, common: tuple[str, float, float]) -> Partial:
    method, median, min_count = common
    rows = active(block)
    counts = counts_of(block, rows, method)
    size, factor = libraries(block, rows, counts, method)
    above = samples_above(counts, size * factor, median, min_count)
    return Partial(sums={"above": above, "total": counts.sum(axis=0)})
