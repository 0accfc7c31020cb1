"""What is fitted, and the fit of one stripe of features from blocks of samples: NumPy in, NumPy out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sjd_dask.associate.results import FeatureFits
from sjd_dask.kernels import correlation, gls, linear, rank
from sjd_dask.kernels.linear_contrasts import ContrastFit
from sjd_dask.kernels.methylation import beta_to_m
from sjd_dask.kernels.weighted import WeightedFit, weighted_contrasts

Floats = NDArray[np.float64]
Columns = Callable[[NDArray[np.int64]], Floats]


@dataclass(frozen=True)
class LinearModel:
    """A linear model of every feature; rows of the design are the samples used, in the order of the data."""

    basis: linear.LinearDesign
    contrasts: Floats
    na_contrasts: linear.NaContrasts = "exact"
    precision: linear.Precision = "double"
    to_m_values: bool = False
    blocks: NDArray[np.int64] | None = None
    correlation_method: Literal["limma", "reml"] = "limma"
    # One weight a sample, (n,).
    sample_weights: Floats | None = None

    def values(self, block: NDArray[Any]) -> NDArray[Any]:
        """A block as it is tested."""
        if block.dtype.kind == "b":
            block = block.astype(np.uint8)
        return beta_to_m(block) if self.to_m_values else block


@dataclass(frozen=True)
class GroupModel:
    """A test between groups; codes (n,) of the samples used."""

    test: str
    codes: NDArray[np.int64]
    n_groups: int
    to_m_values: bool = False
    exact: Literal["auto"] | bool = "auto"
    continuity: bool = True

    def values(self, block: NDArray[Any]) -> Floats:
        """A block as it is tested."""
        return beta_to_m(block) if self.to_m_values else np.asarray(block, dtype=np.float64)


@dataclass
class Stream:
    """Sums of a stripe while blocks of samples come in; a step gives a new one and leaves the old as it was."""

    sums: linear.LinearSums
    # Samples that wait for enough of them to give the pilot, whose bits must not depend on how samples are cut.
    waiting: NDArray[Any] | None = None

    def step(self, model: LinearModel, block: NDArray[Any]) -> Stream:
        """Add the next samples, as stored."""
        values = model.values(block)
        if self.sums.rows == 0:
            if self.waiting is not None:
                values = np.concatenate([self.waiting, values])
            if values.shape[0] < min(model.basis.n, linear.PILOT_ROWS):
                return Stream(self.sums, values)
        sums = self.sums.copy()
        rows = model.basis.q[sums.rows : sums.rows + values.shape[0]]
        linear.accumulate(sums, rows, values, has_intercept=model.basis.has_intercept)
        return Stream(sums)


def new_stream(model: LinearModel, n_features: int) -> Stream:
    """Sums of a stripe before the first sample."""
    return Stream(linear.new_sums(model.basis, n_features, model.precision))


def finish_stream(model: LinearModel, stream: Stream, columns: Columns) -> FeatureFits:
    """Fits and contrasts of a stripe; `columns` gives stored values (n, some features) where they are needed."""
    fit = linear.finish(stream.sums, model.basis)
    if fit.needs_columns.size:
        own = model.values(columns(fit.needs_columns))
        fit = linear.refit_columns(fit, model.basis, own)
    return contrast_fits(fit, model.basis, model)


def block_correlations(model: LinearModel, values: NDArray[Any]) -> Floats:
    """Within-block correlation of each feature of a stripe of whole columns."""
    assert model.blocks is not None
    tested = np.asarray(model.values(values), dtype=np.float64)
    return correlation.duplicate_correlation(tested, model.basis.matrix, model.blocks, method=model.correlation_method)


def fit_blocks(model: LinearModel, values: NDArray[Any], rho: float) -> FeatureFits:
    """Generalised least squares of a stripe of whole columns under one within-block correlation."""
    assert model.blocks is not None
    tested = np.asarray(model.values(values), dtype=np.float64)
    fit, whitened = gls.gls_fit(tested, model.basis.matrix, model.blocks, rho)
    return contrast_fits(fit, whitened, model)


def compare_groups(model: GroupModel, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Test between groups of a stripe of whole columns: arrays (F,)."""
    tested = model.values(values)
    known = np.isfinite(tested)
    if np.isinf(tested).any():
        # As in a linear model, an infinite cell is missing.
        tested = np.where(known, tested, np.nan)
    if model.test == "wilcoxon":
        found = rank.wilcoxon(tested, model.codes, correct=model.continuity, exact=model.exact)
    elif model.test == "kruskal":
        found = rank.kruskal(tested, model.codes, model.n_groups)
    else:
        found = rank.welch(tested, model.codes, model.n_groups)
    with np.errstate(invalid="ignore"):
        mean = np.where(known, tested, 0.0).sum(axis=0) / known.sum(axis=0)
    return {
        "effect": found.effect,
        "standard_error": found.standard_error,
        "statistic": found.statistic,
        "df": found.df_numerator if model.test == "kruskal" else found.df,
        "p_value": found.p_value,
        "mean": mean,
        "n_samples": found.n_samples.astype(np.int64),
    }


def join_fits(stripes: list[FeatureFits]) -> FeatureFits:
    """Stripes of features one after another."""
    quadratic = [stripe.f_quadratic for stripe in stripes if stripe.f_quadratic is not None]
    return FeatureFits(
        effects=np.concatenate([stripe.effects for stripe in stripes], axis=1),
        stdev_unscaled=np.concatenate([stripe.stdev_unscaled for stripe in stripes], axis=1),
        sigma2=np.concatenate([stripe.sigma2 for stripe in stripes]),
        df_residual=np.concatenate([stripe.df_residual for stripe in stripes]),
        mean=np.concatenate([stripe.mean for stripe in stripes]),
        n_samples=np.concatenate([stripe.n_samples for stripe in stripes]),
        f_quadratic=np.concatenate(quadratic) if quadratic else None,
        f_rank=stripes[0].f_rank,
    )


def contrast_fits(fit: linear.LinearFit, design: linear.LinearDesign, model: LinearModel) -> FeatureFits:
    """The contrasts of a fit, in the coordinates of the design it was made with."""
    return _feature_fits(fit, linear.contrast_fit(fit, design, model.contrasts, model.na_contrasts), fit.sigma2)


def weighted_fits(fit: WeightedFit, model: LinearModel) -> FeatureFits:
    """The contrasts of a fit with weights."""
    tested = weighted_contrasts(fit, model.basis, model.contrasts, model.na_contrasts)
    return _feature_fits(fit.scaled, tested, fit.sigma2)


def _feature_fits(fit: linear.LinearFit, tested: ContrastFit, sigma2: Floats) -> FeatureFits:
    return FeatureFits(
        effects=tested.effects,
        stdev_unscaled=tested.stdev_unscaled,
        sigma2=sigma2,
        df_residual=fit.df_residual,
        mean=fit.mean,
        n_samples=fit.n_samples,
        f_quadratic=tested.f_quadratic,
        f_rank=tested.f_rank,
    )
