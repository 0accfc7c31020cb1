"""From the fit of every feature to the published numbers: moderation, F, q-values, lambda. NumPy in, NumPy out.

The prior of the variances and the false discovery rate belong to all features of a run, so this step sees them all at
once; what it sees is small: a few numbers a feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.kernels import moderation, multiplicity

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FeatureFits:
    """The fit of F features under k contrasts, from `kernels.linear` or `kernels.correlation`.

    Attributes
    ----------
    effects, stdev_unscaled : ndarray, (k, F)
    sigma2, df_residual, mean : ndarray, (F,)
    n_samples : ndarray of int64, (F,)
    f_quadratic : ndarray, (F,), or None
        Needed for the overall F of two contrasts or more.
    f_rank : int
    """

    effects: Floats
    stdev_unscaled: Floats
    sigma2: Floats
    df_residual: Floats
    mean: Floats
    n_samples: NDArray[np.int64]
    f_quadratic: Floats | None = None
    f_rank: int = 1


@dataclass(frozen=True)
class Summary:
    """Tests of k contrasts (and their overall F where k > 1) on F features.

    Attributes
    ----------
    contrasts : tuple of str
        Names of the rows of the (k, F) arrays.
    effect, standard_error, statistic, p_value, q_value, log_odds : ndarray, (k, F)
    df, mean, sigma : ndarray, (F,)
    n_samples : ndarray of int64, (F,)
    f_statistic, f_p_value, f_q_value, f_df : ndarray, (F,), or None
    lambdas : dict of str to float
        Median chi-square ratio of each contrast.
    prior : dict
        `df` and `s2`: a number, or [smallest, median, largest] where it differs between features.
    notes : tuple of str
        What had to be done about unusual features, in words.
    """

    contrasts: tuple[str, ...]
    effect: Floats
    standard_error: Floats
    statistic: Floats
    p_value: Floats
    q_value: Floats
    log_odds: Floats
    df: Floats
    mean: Floats
    sigma: Floats
    n_samples: NDArray[np.int64]
    f_statistic: Floats | None = None
    f_p_value: Floats | None = None
    f_q_value: Floats | None = None
    f_df: Floats | None = None
    lambdas: dict[str, float] = field(default_factory=dict)
    prior: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def summarise(
    contrasts: Sequence[str],
    fits: FeatureFits,
    *,
    moderated: bool = True,
    trend: bool = False,
    robust: bool = False,
    threads: int = 1,
) -> Summary:
    """Moderate and test the fits of all features of a run.

    Parameters
    ----------
    contrasts : sequence of str
        Names of the k contrasts.
    fits : FeatureFits
    moderated : bool
        Empirical Bayes moderation (limma's eBayes); else ordinary t.
    trend, robust : bool
        See `kernels.moderation.moderate`.
    threads : int
        For tail probabilities; the result does not depend on it.

    Notes
    -----
    Missing rule: a feature without an effect has NaN in all its tests and takes no part in q-values.
    """
    common = (fits.effects, fits.stdev_unscaled, fits.sigma2, fits.df_residual)
    if moderated:
        tested = moderation.moderate(*common, fits.mean, trend=trend, robust=robust, threads=threads)
    else:
        tested = moderation.unmoderated(*common, threads=threads)
    scale = np.sqrt(tested.s2_post)
    q_value = np.stack([multiplicity.benjamini_hochberg(p) for p in tested.p_value])
    overall: dict[str, Floats] = {}
    if len(contrasts) > 1 and fits.f_quadratic is not None:
        f, p = moderation.f_test(fits.f_quadratic, fits.f_rank, tested.s2_post, tested.df_f, threads=threads)
        overall = {
            "f_statistic": f,
            "f_p_value": p,
            "f_q_value": multiplicity.benjamini_hochberg(p),
            "f_df": np.broadcast_to(tested.df_f, f.shape),
        }
    return Summary(
        contrasts=tuple(contrasts),
        effect=fits.effects,
        standard_error=fits.stdev_unscaled * scale,
        statistic=tested.statistic,
        p_value=tested.p_value,
        q_value=q_value,
        log_odds=tested.log_odds,
        df=tested.df_total,
        mean=fits.mean,
        sigma=np.sqrt(fits.sigma2),
        n_samples=fits.n_samples,
        **overall,
        lambdas={name: multiplicity.genomic_inflation(p=p) for name, p in zip(contrasts, tested.p_value, strict=True)},
        prior={"df": _spread(tested.df_prior), "s2": _spread(tested.s2_prior)} if moderated else {},
        notes=tested.notes,
    )


def association_columns(summary: Summary) -> dict[str, NDArray[Any]]:
    """Columns of `associations/NAME` but feature_id and contrast: contrast by contrast, then F; features in order.

    Returns
    -------
    dict of str to ndarray, each of length (k or k + 1) x F
    """
    k, n_features = summary.effect.shape
    has_f = summary.f_statistic is not None
    rows = k + 1 if has_f else k
    missing = np.full(n_features, np.nan)

    def stacked(values: Floats, overall: Floats | None) -> Floats:
        blocks = [*values, missing if overall is None else overall] if has_f else list(values)
        joined: Floats = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        return joined

    def repeated(values: NDArray[Any]) -> NDArray[Any]:
        return values if rows == 1 else np.tile(values, rows)

    return {
        "effect": stacked(summary.effect, None),
        "standard_error": stacked(summary.standard_error, None),
        "statistic": stacked(summary.statistic, summary.f_statistic),
        "df": stacked(np.broadcast_to(summary.df, summary.effect.shape), summary.f_df),
        "p_value": stacked(summary.p_value, summary.f_p_value),
        "q_value": stacked(summary.q_value, summary.f_q_value),
        "log_odds": stacked(summary.log_odds, None),
        "mean": repeated(summary.mean),
        "sigma": repeated(summary.sigma),
        "n_samples": repeated(summary.n_samples),
    }


def contrast_labels(summary: Summary) -> tuple[str, ...]:
    """The contrast of each run of F rows in `association_columns`."""
    return (*summary.contrasts, names.F_CONTRAST) if summary.f_statistic is not None else summary.contrasts


def _spread(value: float | Floats) -> float | list[float] | str | None:
    """A number as plain data; [smallest, median, largest] where features differ; "inf" for infinity."""
    known = np.asarray(value, dtype=np.float64)
    known = known[~np.isnan(known)]
    if known.size == 0:
        return None
    low, middle, high = (float(x) for x in (known.min(), np.median(known), known.max()))
    if low == high:
        return "inf" if np.isinf(low) else low
    return [low, middle, high]
