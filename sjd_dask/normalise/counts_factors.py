"""Counts: scaling factors against a frozen reference sample (TMM) or frozen geometric means (RLE), and quartiles.

The counts stay as they are; the factors go into the context, as ``norm_factor`` on edgeR's scale (to multiply the
library size with) and ``size_factor`` on DESeq2's (to divide counts by). On the reference set they are the tools' own;
a later sample gets the factor that it would have had there, without moving anybody else's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels import counts_factors as kernel
from sjd_dask.normalise.counts_libraries import (
    COUNTS,
    LIBRARY_SIZE,
    SIZE_FACTOR,
    Floats,
    active,
    counts_of,
    libraries,
    libraries_pass,
    number,
    refuse_samples,
    require_space,
    scalars,
    with_libraries,
)
from sjd_dask.normalise.method import Arrays, Block, Method, Partial, Reference, Stripe, register


def share_option(value: float, name: str, method: str, below: float) -> None:
    """Refuse an option that is not a share.

    Raises
    ------
    SpecError
    """
    if not (math.isfinite(value) and 0 <= value < below):
        raise SpecError(f"step `{method}`: {name} must be from 0 to below {below:g}, not {value}")


@dataclass(frozen=True)
class _TrimmedMean(Method):
    """What TMM and TMMwsp share."""

    logratio_trim: float = field(default=0.3, metadata={"description": "share cut from each end of the log-ratios"})
    sum_trim: float = field(default=0.05, metadata={"description": "share cut from each end of the abundances"})
    weighting: bool = field(default=True, metadata={"description": "weigh features by the inverse variance"})
    reference_sample: str | None = field(
        default=None, metadata={"description": "sample id of the reference sample; else chosen as edgeR does"}
    )

    takes: ClassVar[frozenset[str]] = COUNTS
    dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "reference_counts": ("features",),
        "reference_library_size": (),
        "reference_sample": (),
        "log_centre": (),
    }

    def __post_init__(self) -> None:
        share_option(self.logratio_trim, "logratio_trim", self.method, 0.5)
        share_option(self.sum_trim, "sum_trim", self.method, 0.5)

    def check(self, reference: Reference) -> None:
        if self.reference_sample is not None and self.reference_sample not in reference.sample_ids:
            raise SpecError(
                f"step `{self.method}`: reference_sample {self.reference_sample!r} is not one of the "
                f"{len(reference.sample_ids):,} reference samples: name one of them, or widen `fit_on`"
            )

    def _trim(self) -> kernel.Trim:
        return kernel.Trim(self.logratio_trim, self.sum_trim, self.weighting)

    def _choose(self, reference: Reference, first: Partial) -> int:
        raise NotImplementedError

    def _raw(self, counts: Floats, size: Floats, frozen: Mapping[str, NDArray[Any]]) -> tuple[Floats, NDArray[Any]]:
        raise NotImplementedError

    def fit(self, reference: Reference) -> Arrays:
        self.check(reference)
        first = reference.by_samples(_survey_pass, self.method)
        size = first.rows[LIBRARY_SIZE]
        if self.reference_sample is not None:
            chosen = reference.sample_ids.index(self.reference_sample)
        else:
            chosen = self._choose(reference, first)
        name = reference.sample_ids[chosen]
        counts = reference.by_samples(_pick_pass, name).sums["counts"]
        if not counts.any():
            refuse_samples([name], self.method, "chosen as reference has no counts", "name another `reference_sample`")
        frozen: Arrays = {
            "reference_counts": counts,
            "reference_sample": np.array(name),
            **scalars(reference_library_size=size[chosen]),
        }
        factors = reference.by_samples(_trimmed_pass, (self, frozen)).rows["factor"]
        # edgeR does not scale a single sample, and here it is its own reference: the same.
        return {**frozen, **scalars(log_centre=kernel.centre(factors))}

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        rows, size, factors = self._uncentred(block, parameters)
        return with_libraries(block, rows, size, factors / math.exp(number(parameters, "log_centre")))

    def _uncentred(self, block: Block, frozen: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.intp], Floats, Floats]:
        """Rows, library sizes and raw factors of the samples that are not pending."""
        require_space(block, len(frozen["reference_counts"]), self.method)
        rows = active(block)
        counts = counts_of(block, rows, self.method)
        size, _ = libraries(block, rows, counts, self.method)
        factors, common = self._raw(counts, size, frozen)
        if (common == 0).any():
            refuse_samples(
                [block.sample_ids[rows[i]] for i in np.flatnonzero(common == 0)],
                self.method,
                f"share no feature with counts with the reference sample {str(frozen['reference_sample'])!r}",
                "look at their counts and at their feature ids; samples that were hardly sequenced are to be left out",
            )
        return rows, size, factors


@register
@dataclass(frozen=True)
class Tmm(_TrimmedMean):
    """Trimmed mean of M values against one frozen reference sample.

    Parameters
    ----------
    logratio_trim, sum_trim : float
        Shares of features cut from each end, by log-ratio and by mean abundance.
    weighting : bool
        Weigh features by the inverse of the asymptotic variance.
    acutoff : float
        Features whose mean log2 abundance is not above it are left out.
    reference_sample : str, optional
        Sample id; by default the sample whose upper quartile, over library size, is closest to the mean of them.

    Notes
    -----
    Robinson and Oshlack (2010), as in edgeR 3.40's calcNormFactors. Frozen: counts and library size of the reference
    sample, and ``log_centre``, the mean of the log factors of the reference set, which makes the factors there
    multiply to one. Library sizes are those of a step before, or the totals. A sample that shares no feature with the
    reference sample is refused (edgeR gives it a factor of 1).
    """

    acutoff: float = field(default=-1e10, metadata={"description": "least mean log2 abundance of a feature"})

    method: ClassVar[str] = "tmm"
    gives_context: ClassVar[frozenset[str]] = frozenset({LIBRARY_SIZE})

    def _trim(self) -> kernel.Trim:
        return kernel.Trim(self.logratio_trim, self.sum_trim, self.weighting, self.acutoff)

    def _choose(self, reference: Reference, first: Partial) -> int:
        counted = first.sums["positive"] > 0
        quartiles = reference.by_samples(_quantile_pass, (self.method, 0.75, counted)).rows["quantile"]
        return kernel.reference_by_quartiles(quartiles / first.rows[LIBRARY_SIZE], first.rows["root_sum"])

    def _raw(self, counts: Floats, size: Floats, frozen: Mapping[str, NDArray[Any]]) -> tuple[Floats, NDArray[Any]]:
        base = np.asarray(frozen["reference_counts"], dtype=np.float64)
        return kernel.tmm_factors(counts, size, base, number(frozen, "reference_library_size"), self._trim())


@register
@dataclass(frozen=True)
class Tmmwsp(_TrimmedMean):
    """TMM with singleton pairing: as `tmm`, for data with many zeros.

    Parameters
    ----------
    logratio_trim, sum_trim, weighting
        As for `tmm`.
    reference_sample : str, optional
        Sample id; by default the sample with the largest sum of square roots of counts.

    Notes
    -----
    edgeR 3.40's calcNormFactors(method="TMMwsp"). Frozen as for `tmm`.
    """

    method: ClassVar[str] = "tmmwsp"
    gives_context: ClassVar[frozenset[str]] = frozenset({LIBRARY_SIZE})

    def _choose(self, reference: Reference, first: Partial) -> int:
        return int(np.argmax(first.rows["root_sum"]))

    def _raw(self, counts: Floats, size: Floats, frozen: Mapping[str, NDArray[Any]]) -> tuple[Floats, NDArray[Any]]:
        base = np.asarray(frozen["reference_counts"], dtype=np.float64)
        return kernel.tmmwsp_factors(counts, size, base, number(frozen, "reference_library_size"), self._trim())


@register
@dataclass(frozen=True)
class Rle(Method):
    """Median ratio to frozen geometric means: edgeR's RLE factors and DESeq2's size factors together.

    Parameters
    ----------
    type : {"ratio", "poscounts"}
        ``ratio``: geometric means of the features with counts in every reference sample. ``poscounts``: zeros count as
        one, for data where few features have none; the norm factor is then the size factor over the library size.

    Notes
    -----
    Anders and Huber (2010). ``norm_factor`` is edgeR 3.40's calcNormFactors(method="RLE"), ``size_factor`` DESeq2
    1.38's estimateSizeFactors(type): they differ in how a median of an even number and zeros are taken. Parameters:
    ``log_geometric_mean`` (features,), NaN where a feature takes no part; ``log_centre`` and ``log_size_centre``, the
    means of the logs of the reference set's factors (of size factors only for ``poscounts``, as DESeq2 does).
    """

    type: Literal["ratio", "poscounts"] = field(default="ratio", metadata={"description": "which geometric means"})

    method: ClassVar[str] = "rle"
    gives_context: ClassVar[frozenset[str]] = frozenset({LIBRARY_SIZE, SIZE_FACTOR})
    takes: ClassVar[frozenset[str]] = COUNTS
    dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "log_geometric_mean": ("features",),
        "log_centre": (),
        "log_size_centre": (),
    }

    def __post_init__(self) -> None:
        if self.type not in ("ratio", "poscounts"):
            raise SpecError(f"step `{self.method}`: type must be ratio or poscounts, not {self.type!r}")

    def fit(self, reference: Reference) -> Arrays:
        means = geometric_means(reference, self.type, self.method)
        frozen: Arrays = {"log_geometric_mean": means, **scalars(log_centre=0.0, log_size_centre=0.0)}
        rows = reference.by_samples(_ratio_pass, (self, frozen)).rows
        frozen.update(scalars(log_centre=kernel.centre(rows["factor"])))
        if self.type == "poscounts":
            frozen.update(scalars(log_size_centre=kernel.centre(rows["size"])))
        return frozen

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        rows, size, factor, size_factor = self._uncentred(block, parameters)
        factor = factor / math.exp(number(parameters, "log_centre"))
        size_factor = size_factor / math.exp(number(parameters, "log_size_centre"))
        return with_libraries(block, rows, size, factor, **{SIZE_FACTOR: size_factor})

    def _uncentred(
        self, block: Block, frozen: Mapping[str, NDArray[Any]]
    ) -> tuple[NDArray[np.intp], Floats, Floats, Floats]:
        rows = active(block)
        means = np.asarray(frozen["log_geometric_mean"], dtype=np.float64)
        require_space(block, means.size, self.method)
        counts = counts_of(block, rows, self.method)
        size, _ = libraries(block, rows, counts, self.method)
        by_size = ratio_size_factors(block, rows, counts, means, self.method)
        factor = kernel.rle_factors(counts, size, means) if self.type == "ratio" else by_size / size
        if (factor == 0).any():
            refuse_samples(
                [block.sample_ids[rows[i]] for i in np.flatnonzero(factor == 0)],
                self.method,
                f"have no counts on more than half of the {int((~np.isnan(means)).sum()):,} features that have a "
                "geometric mean, so their median ratio is 0",
                "leave out samples that were hardly sequenced, or use type poscounts or tmm",
            )
        return rows, size, factor, by_size


def geometric_means(reference: Reference, kind: Literal["ratio", "poscounts"], method: str) -> Floats:
    """Log geometric means of the reference set, by one pass over features.

    Raises
    ------
    DataError
        No feature has one.
    """
    means: Floats = reference.by_features(_means_pass, kind).columns["log_mean"]
    if np.isnan(means).all():
        reference.by_samples(libraries_pass, method)  # a sample without counts is the likely reason: it is named
        why = "has a zero in some reference sample" if kind == "ratio" else "is zero in all reference samples"
        raise DataError(
            f"step `{method}`: every one of the {means.size:,} features {why} ({len(reference.sample_ids):,} samples), "
            "so there are no geometric means: put filter_by_expr before it, leave poorly sequenced samples out of the "
            "reference, or use type poscounts or tmm"
        )
    return means


def ratio_size_factors(block: Block, rows: NDArray[np.intp], counts: Floats, log_means: Floats, method: str) -> Floats:
    """DESeq2's size factors against frozen geometric means.

    Raises
    ------
    DataError
        A sample has no counts on any feature with a geometric mean: it is named.
    """
    factors = kernel.size_factors(counts, log_means)
    if np.isnan(factors).any():
        refuse_samples(
            [block.sample_ids[rows[i]] for i in np.flatnonzero(np.isnan(factors))],
            method,
            f"have no counts on any of the {int((~np.isnan(log_means)).sum()):,} features with a geometric mean",
            "leave out samples that were hardly sequenced, or check that they are of this feature space",
        )
    return factors


@register
@dataclass(frozen=True)
class UpperQuartile(Method):
    """Upper quartile of each sample's counts over its library size.

    Parameters
    ----------
    p : float
        Probability of the quantile.

    Notes
    -----
    Bullard and others (2010), as in edgeR 3.40's calcNormFactors(method="upperquartile"). The quantile is over the
    features with any count in the reference set (parameter ``counted``), also for later samples; ``log_centre`` is the
    mean of the log factors of the reference set.
    """

    p: float = field(default=0.75, metadata={"description": "probability of the quantile"})

    method: ClassVar[str] = "upper_quartile"
    gives_context: ClassVar[frozenset[str]] = frozenset({LIBRARY_SIZE})
    takes: ClassVar[frozenset[str]] = COUNTS
    dims: ClassVar[dict[str, tuple[str, ...]]] = {"counted": ("features",), "log_centre": ()}

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise SpecError(f"step `{self.method}`: p is a probability above 0 and at most 1, not {self.p}")

    def fit(self, reference: Reference) -> Arrays:
        first = reference.by_samples(_survey_pass, self.method)
        counted = first.sums["positive"] > 0
        found = reference.by_samples(_quartile_factor_pass, (self, counted)).rows["factor"]
        return {"counted": counted, **scalars(log_centre=kernel.centre(found))}

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        rows, size, factors = self._uncentred(block, np.asarray(parameters["counted"], dtype=bool))
        return with_libraries(block, rows, size, factors / math.exp(number(parameters, "log_centre")))

    def _uncentred(self, block: Block, counted: NDArray[np.bool_]) -> tuple[NDArray[np.intp], Floats, Floats]:
        require_space(block, counted.size, self.method)
        rows = active(block)
        counts = counts_of(block, rows, self.method)
        size, _ = libraries(block, rows, counts, self.method)
        quantile = kernel.quantiles(counts, self.p, counted)
        if (quantile == 0).any():
            refuse_samples(
                [block.sample_ids[rows[i]] for i in np.flatnonzero(quantile == 0)],
                self.method,
                f"have no counts on {self.p:.0%} or more of the {int(counted.sum()):,} features, so that quantile is 0",
                "put filter_by_expr before it, raise p, or use tmm",
            )
        return rows, size, quantile / size


def _survey_pass(block: Block, method: str) -> Partial:
    """Library sizes, sums of square roots, and in how many samples each feature has counts."""
    rows = active(block)
    counts = counts_of(block, rows, method)
    size, _ = libraries(block, rows, counts, method)
    positive = np.count_nonzero(counts > 0, axis=0).astype(np.int64)
    roots = np.array([float(np.sqrt(row).sum()) for row in counts])
    return Partial(sums={"positive": positive}, rows={LIBRARY_SIZE: size, "root_sum": roots})


def _quantile_pass(block: Block, common: tuple[str, float, NDArray[np.bool_]]) -> Partial:
    method, p, counted = common
    rows = active(block)
    return Partial(rows={"quantile": kernel.quantiles(counts_of(block, rows, method), p, counted)})


def _pick_pass(block: Block, name: str) -> Partial:
    """The counts of one sample: added to the zeros of the blocks without it."""
    if name in block.sample_ids:
        return Partial(sums={"counts": block.values[block.sample_ids.index(name)].copy()})
    return Partial(sums={"counts": np.zeros(block.n_features)})


def _trimmed_pass(block: Block, common: tuple[_TrimmedMean, Arrays]) -> Partial:
    method, frozen = common
    return Partial(rows={"factor": method._uncentred(block, frozen)[2]})


def _means_pass(stripe: Stripe, kind: Literal["ratio", "poscounts"]) -> Partial:
    return Partial(columns={"log_mean": kernel.log_geometric_means(stripe.values, kind)})


def _ratio_pass(block: Block, common: tuple[Rle, Arrays]) -> Partial:
    method, frozen = common
    _, _, factor, size = method._uncentred(block, frozen)
    return Partial(rows={"factor": factor, "size": size})


def _quartile_factor_pass(block: Block, common: tuple[UpperQuartile, NDArray[np.bool_]]) -> Partial:
    method, counted = common
    return Partial(rows={"factor": method._uncentred(block, counted)[2]})
