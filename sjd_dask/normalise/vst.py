"""Counts: variance-stabilising transform with a frozen trend of dispersion."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sjd_dask.designs.formula import formula_columns
from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels.counts_dispersion import gene_dispersions
from sjd_dask.kernels.counts_vst import Trend, fit_trend, spread_over_means, transform
from sjd_dask.normalise.counts_factors import geometric_means, ratio_size_factors
from sjd_dask.normalise.counts_libraries import (
    COUNTS,
    LIBRARY_SIZE,
    SIZE_FACTOR,
    Floats,
    active,
    counts_of,
    libraries,
    number,
    require_space,
    scalars,
    spread,
    with_rows,
)
from sjd_dask.normalise.formula import design_matrix
from sjd_dask.normalise.method import Arrays, Block, Method, Partial, Reference, Stripe, register, require_columns


@register
@dataclass(frozen=True)
class Vst(Method):
    """Variance-stabilising transform of counts (DESeq2's vst), on a log2-like scale.

    Parameters
    ----------
    blind : bool
        Estimate dispersions around each feature's mean; else around the `design`.
    design : str, optional
        Formula over sample columns, for the fit alone: later samples need none of them.
    n_sub : int
        Features from which the trend is learnt, of those with a mean normalised count above 5; 0: every feature that
        has counts (DESeq2's varianceStabilizingTransformation).
    fit_type : {"parametric", "mean"}
        Trend of dispersion over the mean. Where the parametric one does not fit, ``mean`` is used and a warning says
        so; parameter ``fit_type`` tells which it was.
    dispersion : dict, optional
        ``{asymptotic: a, extra: e}``: coefficients of the parametric trend, in place of estimating them.

    Notes
    -----
    Anders and Huber (2010), Love, Huber and Anders (2014); numbers as DESeq2 1.38. Size factors come from a step before
    (`rle`), else by the median ratio to geometric means frozen here (``log_geometric_mean``, NaN where a feature takes
    no part). Frozen: ``asymptotic_dispersion``, ``extra_poisson``, ``fit_type``. Context: ``size_factor``.
    """

    blind: bool = field(default=True, metadata={"description": "estimate dispersions without a design"})
    design: str | None = field(
        default=None, metadata={"description": "formula for the dispersions when blind is false"}
    )
    n_sub: int = field(default=1000, metadata={"description": "features the trend is learnt from; 0: all with counts"})
    fit_type: Literal["parametric", "mean"] = field(
        default="parametric", metadata={"description": "trend of dispersion over the mean"}
    )
    dispersion: dict[str, float] | None = field(
        default=None, metadata={"description": "given coefficients of the parametric trend: asymptotic, extra"}
    )

    method: ClassVar[str] = "vst"
    gives_context: ClassVar[frozenset[str]] = frozenset({SIZE_FACTOR})
    takes: ClassVar[frozenset[str]] = COUNTS
    gives: ClassVar[str | None] = "expression"
    dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "asymptotic_dispersion": (),
        "extra_poisson": (),
        "fit_type": (),
        "log_geometric_mean": ("features",),
    }

    def __post_init__(self) -> None:
        if self.fit_type not in ("parametric", "mean"):
            raise SpecError(f"step `{self.method}`: fit_type must be parametric or mean, not {self.fit_type!r}")
        if self.n_sub < 0:
            raise SpecError(f"step `{self.method}`: n_sub must be a number of features, or 0 for all, not {self.n_sub}")
        if self.blind and self.design is not None:
            raise SpecError(f"step `{self.method}`: a design is used only with `blind: false`")
        if not self.blind and self.design is None and self.dispersion is None:
            raise SpecError(f"step `{self.method}`: `blind: false` needs a `design`, such as `~ disease`")
        if self.dispersion is not None:
            given = self.dispersion
            if set(given) != {"asymptotic", "extra"} or not all(math.isfinite(v) and v > 0 for v in given.values()):
                raise SpecError(
                    f"step `{self.method}`: `dispersion` holds two numbers above 0, asymptotic and extra, not {given}"
                )

    def fit_columns(self) -> list[str]:
        return formula_columns(self.design)

    def check(self, reference: Reference) -> None:
        require_columns(self.fit_columns(), reference.samples, self.method)

    def fit(self, reference: Reference) -> Arrays:
        self.check(reference)
        frozen: Arrays = {}
        if SIZE_FACTOR in reference.context:
            size_factors = np.asarray(reference.context[SIZE_FACTOR], dtype=np.float64)
        else:
            frozen["log_geometric_mean"] = geometric_means(reference, "ratio", self.method)
            size_factors = reference.by_samples(_size_pass, (self.method, frozen)).rows["size_factor"]
        trend = self._trend(reference, size_factors)
        if trend.note:
            warnings.warn(f"step `{self.method}`: {trend.note}", stacklevel=2)
        return {
            **scalars(asymptotic_dispersion=trend.asymptotic, extra_poisson=trend.extra),
            "fit_type": np.array(trend.kind),
            **frozen,
        }

    def _trend(self, reference: Reference, size_factors: Floats) -> Trend:
        if self.dispersion is not None:
            return Trend("parametric", float(self.dispersion["asymptotic"]), float(self.dispersion["extra"]))
        n = len(size_factors)
        design = np.ones((n, 1)) if self.design is None else design_matrix(self.design, reference.samples)[0]
        # Whole columns, each added from the first sample to the last: ties in the order of the means, and so the
        # choice of features, don't depend on how the data are cut.
        base_mean = reference.by_features(_mean_pass, size_factors).columns["mean"]
        if self.n_sub == 0:
            chosen = np.flatnonzero(base_mean > 0)
            if not chosen.size:
                raise DataError(f"step `{self.method}`: no feature has any count in the {n:,} reference samples")
        else:
            chosen = spread_over_means(base_mean, self.n_sub)
        wanted = np.zeros(base_mean.size, dtype=bool)
        wanted[chosen] = True
        found = reference.by_features(_dispersion_pass, (wanted, size_factors, design)).columns["dispersion"]
        return fit_trend(base_mean[chosen], found[chosen], self.fit_type)

    def is_pointwise(self, parameters: Mapping[str, NDArray[Any]], known: frozenset[str]) -> bool:
        return "log_geometric_mean" not in parameters and {LIBRARY_SIZE, SIZE_FACTOR} <= known

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        rows = active(block)
        counts = counts_of(block, rows, self.method)
        size_factors = self._size_factors(block, rows, counts, parameters)
        kind: Literal["parametric", "mean"] = "mean" if str(parameters["fit_type"]) == "mean" else "parametric"
        trend = Trend(kind, number(parameters, "asymptotic_dispersion"), number(parameters, "extra_poisson"))
        values = with_rows(block, rows, transform(counts, size_factors, trend))
        context = {SIZE_FACTOR: spread(block, rows, size_factors)}
        return block.with_(values=values, scale="expression", context=context)

    def _size_factors(
        self, block: Block, rows: NDArray[np.intp], counts: Floats, frozen: Mapping[str, NDArray[Any]]
    ) -> Floats:
        libraries(block, rows, counts, self.method)  # names the samples without counts
        if "log_geometric_mean" not in frozen:
            if SIZE_FACTOR not in block.context:
                raise DataError(
                    f"step `{self.method}` was fitted after a step that gives size factors, and these samples have "
                    "none: apply the whole chain"
                )
            return np.asarray(block.context[SIZE_FACTOR], dtype=np.float64)[rows]
        means = np.asarray(frozen["log_geometric_mean"], dtype=np.float64)
        require_space(block, means.size, self.method)
        return ratio_size_factors(block, rows, counts, means, self.method)


def _size_pass(block: Block, common: tuple[str, Arrays]) -> Partial:
    method, frozen = common
    rows = active(block)
    counts = counts_of(block, rows, method)
    libraries(block, rows, counts, method)
    found = ratio_size_factors(block, rows, counts, frozen["log_geometric_mean"], method)
    return Partial(rows={"size_factor": found})


def _mean_pass(stripe: Stripe, size_factors: Floats) -> Partial:
    total = np.zeros(stripe.values.shape[1])
    for row, factor in zip(stripe.values, size_factors, strict=True):
        total += row / factor
    return Partial(columns={"mean": total / len(size_factors)})


def _dispersion_pass(stripe: Stripe, common: tuple[NDArray[np.bool_], Floats, Floats]) -> Partial:
    wanted, size_factors, design = common
    here = np.flatnonzero(wanted[stripe.feature_start : stripe.feature_start + stripe.values.shape[1]])
    out = np.full(stripe.values.shape[1], np.nan)
    if here.size:
        out[here] = gene_dispersions(np.ascontiguousarray(stripe.values[:, here]), size_factors, design)
    return Partial(columns={"dispersion": out})
