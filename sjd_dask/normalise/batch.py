"""ComBat, frozen: batch effects of location and scale by empirical Bayes (Johnson, Li, Rabinovic 2007).

The numbers are those of sva 3.46 on the reference set. What later samples of a known batch get follows from frozen
parameters alone; a new batch gets parameters by `extend`, and until then its samples are put off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.designs.formula import formula_columns
from sjd_dask.errors import DataError, DesignError, SpecError
from sjd_dask.kernels import batch as kernel
from sjd_dask.kernels.batch_removal import adjust_batches
from sjd_dask.normalise.batch_design import (
    cross_table,
    levels_of,
    named,
    refuse_confounded,
    sample_labels,
)
from sjd_dask.normalise.batch_effects import (
    PER_BATCH,
    frozen_columns,
    refuse_infinite,
    require_size,
    shrink,
    spread,
)
from sjd_dask.normalise.batch_extend import extend
from sjd_dask.normalise.formula import FrozenDesign
from sjd_dask.normalise.method import (
    PENDING_BATCH,
    Arrays,
    Block,
    Method,
    Partial,
    Reference,
    Stripe,
    register,
    require_columns,
)

__all__ = ["Combat", "extend", "notes"]


@register
@dataclass(frozen=True)
class Combat(Method):
    """Adjust location and scale of each batch.

    Parameters
    ----------
    batch : str
        Sample column with the batch; text or whole numbers.
    covariates : str, optional
        Formula of what must be kept, such as ``~ disease``. Every later sample then needs these columns, so such a
        step can't be part of a model bundle.
    prior : {"parametric", "nonparametric"}
        The second costs features x features for each batch.
    mean_only : bool
        Adjust levels and leave scales.
    reference_batch : str, optional
        A batch that stays as it is, and to which the others are brought.
    min_samples : int, optional
        Fewest samples of a batch. Two at least are needed, or one with `mean_only`, and that is the default.

    Notes
    -----
    Missing rule: NaN stays NaN; a feature is fitted on the samples it has. As in sva, pooled variances divide by one
    less once any value is missing, and a feature whose values are all equal in one batch is left as it is. So is, where
    sva stops, a feature with too few values in a batch or no variance left. `feature_status` says which, and `notes`
    counts them.
    """

    batch: str = field(metadata={"description": "Sample column with the batch."})
    covariates: str | None = field(
        default=None, metadata={"description": "Formula of what must be kept, such as `~ disease`."}
    )
    prior: Literal["parametric", "nonparametric"] = field(
        default="parametric", metadata={"description": "Family of the priors of batch effects."}
    )
    mean_only: bool = field(default=False, metadata={"description": "Adjust levels and leave scales."})
    reference_batch: str | None = field(
        default=None, metadata={"description": "A batch that stays as it is, and to which the others are brought."}
    )
    min_samples: int | None = field(
        default=None,
        metadata={"description": "Fewest samples of a batch; by default 2, or 1 with mean_only."},
    )

    method: ClassVar[str] = "combat"
    pointwise: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset({"expression", "m_value"})
    dims: ClassVar[dict[str, tuple[str, ...]]] = {
        **{name: ("batches",) for name in PER_BATCH},
        "gamma_star": ("batches", "features"),
        "delta_star": ("batches", "features"),
        "grand_mean": ("features",),
        "pooled_sd": ("features",),
        "feature_status": ("features",),
        "coefficients": ("terms", "features"),
        "term_names": ("terms",),
        "covariate_design": (),
    }

    def __post_init__(self) -> None:
        if self.prior not in ("parametric", "nonparametric"):
            raise SpecError(f"`prior` of step `combat` is parametric or nonparametric, not {self.prior!r}")
        least = 1 if self.mean_only else 2
        if self.min_samples is not None and self.min_samples < least:
            raise SpecError(
                f"`min_samples` of step `combat` is {self.min_samples}, and a batch needs {least} at least"
                f"{'' if self.mean_only else ' to have a scale; with mean_only: true one is enough'}"
            )

    @property
    def least(self) -> int:
        """Samples that a batch needs."""
        return self.min_samples or (1 if self.mean_only else 2)

    def fit_columns(self) -> list[str]:
        return self.apply_columns()

    def apply_columns(self) -> list[str]:
        return [self.batch, *self.outcome_columns()]

    def outcome_columns(self) -> list[str]:
        return formula_columns(self.covariates)

    def check(self, reference: Reference) -> None:
        """Columns, labels, sizes of batches, and confounding; nothing is read."""
        _Setting.of(self, reference.samples)

    def fit(self, reference: Reference) -> Arrays:
        """Parameters from one pass over the reference, and the priors over its features.

        Raises
        ------
        SpecError, DesignError, DataError
            An unknown column or reference batch; confounded covariates, with the table that shows it; a missing label,
            a batch with too few samples, an infinite value.
        """
        setting = _Setting.of(self, reference.samples)
        design = kernel.batch_design(setting.codes, len(setting.levels), setting.covariates)
        _require_spread(self, setting, design)
        seen = reference.by_features(_fit_stripe, (design, 1 if self.mean_only else 2))
        count, level, rest, status = (seen.columns[name] for name in ("count", "level", "rest", "status"))
        keep = np.flatnonzero(status == kernel.ADJUSTED)
        count, level, rest = count[:, keep].astype(np.float64), level[:, keep], rest[:, keep]
        # Population variances of complete data, sample variances as soon as anything is missing: sva's rule.
        less = 1.0 if seen.sums["n_missing"] else 0.0
        home = setting.reference
        if home is None:
            grand = np.zeros(keep.size)
            for b, size in enumerate(design.size):
                grand += size / design.size.sum() * level[b]
            pooled = rest.sum(axis=0) / (count.sum(axis=0) - less)
        else:
            grand = level[home].copy()
            pooled = rest[home] / (count[home] - less)
        flat = pooled <= 0
        if flat.any():  # a reference batch in which the covariates explain everything
            status[keep[flat]] = kernel.NO_VARIANCE
            keep, grand, pooled = keep[~flat], grand[~flat], pooled[~flat]
            count, level, rest = count[:, ~flat], level[:, ~flat], rest[:, ~flat]
        mean, squares = (level - grand) / np.sqrt(pooled), rest / pooled
        rows = [b for b in range(len(setting.levels)) if b != home]
        names = [setting.levels[b] for b in rows]
        shrunk = shrink(self, reference, names, mean[rows], squares[rows], count[rows])
        n_batches, n_features = len(setting.levels), status.size
        parameters: Arrays = {
            "batch_levels": np.array(setting.levels),
            "batch_size": design.size.copy(),
            "is_extended": np.zeros(n_batches, dtype=bool),
            "n_unadjusted": np.full(n_batches, n_features - keep.size, dtype=np.int64),
            "grand_mean": spread(grand, keep, n_features, 0.0),
            "pooled_sd": spread(np.sqrt(pooled), keep, n_features, 1.0),
            "feature_status": status,
            "covariate_design": np.array(setting.frozen.to_text() if setting.frozen else ""),
        }
        if setting.terms:
            parameters["coefficients"] = spread(seen.columns["coefficients"][:, keep], keep, n_features, 0.0)
            parameters["term_names"] = np.array(setting.terms)
        for name in ("gamma_bar", "t2", "a_prior", "b_prior"):
            parameters[name] = np.full(n_batches, np.nan)
            parameters[name][rows] = shrunk[name]
        for name, neutral in (("gamma_star", 0.0), ("delta_star", 1.0)):
            parameters[name] = np.full((n_batches, n_features), neutral)
            parameters[name][np.ix_(np.array(rows), keep)] = shrunk[name]
        return parameters

    def extend(self, parameters: Mapping[str, NDArray[Any]], reference: Reference) -> Arrays | None:
        """Parameters with those for the batches of these samples added: see `batch_extend.extend`.

        Raises
        ------
        SpecError
            One of the samples is of a batch that has parameters already.
        """
        require_columns(self.apply_columns(), reference.samples, self.method)
        labels = sample_labels(reference.samples, self.batch, self.method)
        return extend(self, parameters, reference, levels_of(labels)[0])

    def notes(self, parameters: Mapping[str, NDArray[Any]]) -> list[str]:
        return notes(parameters)

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        """Adjust samples of known batches; those of a batch without parameters are put off as ``pending_batch``.

        Raises
        ------
        DataError
            A sample without a batch label, or with a covariate value that the reference didn't have.
        """
        require_columns(self.apply_columns(), block.samples, self.method)
        levels = [str(one) for one in parameters["batch_levels"]]
        known = {level: b for b, level in enumerate(levels)}
        codes = np.full(block.n_samples, -1, dtype=np.int64)
        live = np.flatnonzero(block.pending == "")
        codes[live] = [known.get(x, -1) for x in sample_labels(block.samples.iloc[live], self.batch, self.method)]
        unknown = np.zeros(block.n_samples, dtype=bool)
        unknown[live] = codes[live] < 0
        if self.reference_batch is not None:
            codes[codes == known[self.reference_batch]] = -1  # not to the last bit, but exactly as it was
        coefficients = parameters.get("coefficients", np.zeros((0, block.n_features)))
        covariates = np.zeros((block.n_samples, coefficients.shape[0]))
        rows = np.flatnonzero(codes >= 0)
        if coefficients.shape[0] and rows.size:
            covariates[rows] = frozen_columns(parameters, block.samples.iloc[rows])
        used, codes[rows] = np.unique(codes[rows], return_inverse=True)
        sd = parameters["pooled_sd"]
        values = adjust_batches(
            block.values,
            codes,
            covariates,
            parameters["grand_mean"],
            coefficients,
            parameters["gamma_star"][used] * sd,
            1.0 / np.sqrt(parameters["delta_star"][used]),
            np.asarray(parameters["feature_status"] != kernel.ADJUSTED),
        )
        return block.with_(values=values).put_off(unknown, PENDING_BATCH)


def notes(parameters: Mapping[str, NDArray[Any]]) -> list[str]:
    """What a person should know of a fit: features that were left as they are, by reason."""
    said = []
    for status, words in kernel.STATUS_WORDS.items():
        count = int((parameters["feature_status"] == status).sum())
        if count and status != kernel.ADJUSTED:
            said.append(f"{count} of {parameters['feature_status'].size} features are not adjusted for batch: {words}")
    for b in np.flatnonzero(parameters["is_extended"]):
        said.append(
            f"batch {parameters['batch_levels'][b]} was added to the frozen fit from {parameters['batch_size'][b]} "
            f"samples; {parameters['n_unadjusted'][b]} features are not adjusted in it"
        )
    return said


@dataclass(frozen=True)
class _Setting:
    """Batches and covariates of a reference set, checked."""

    levels: list[str]
    codes: NDArray[np.int64]
    covariates: NDArray[np.float64]
    terms: list[str]
    frozen: FrozenDesign | None
    reference: int | None

    @classmethod
    def of(cls, method: Combat, samples: pd.DataFrame) -> _Setting:
        require_columns(method.fit_columns(), samples, method.method)
        labels = sample_labels(samples, method.batch, method.method)
        levels, codes = levels_of(labels)
        if len(levels) < 2:
            raise DataError(
                f"column {method.batch!r} has only the batch {levels[0]!r} among {len(samples)} reference samples, so "
                "there is nothing to adjust: leave step `combat` out, or add samples of other batches"
            )
        if method.reference_batch is not None and method.reference_batch not in levels:
            raise SpecError(
                f"reference_batch {method.reference_batch!r} is not among the batches of column {method.batch!r}: "
                f"{', '.join(map(repr, levels[:20]))}"
            )
        require_size(method, levels, np.bincount(codes))
        matrix, terms, frozen = np.zeros((len(samples), 0)), [], None
        if method.covariates is not None:
            frozen, whole = FrozenDesign.fit(method.covariates, samples)
            kept = np.flatnonzero(~(whole == 1).all(axis=0))  # batches hold the constant
            matrix, terms = whole[:, kept], [frozen.columns[j] for j in kept]
            table = cross_table(labels, method.batch, samples, frozen.factors)
            refuse_confounded(
                np.eye(len(levels))[codes], levels, matrix, terms, table, f"the effect of {method.batch!r}"
            )
        home = None if method.reference_batch is None else levels.index(method.reference_batch)
        return cls(levels, codes, np.ascontiguousarray(matrix), terms, frozen, home)


def _require_spread(method: Combat, setting: _Setting, design: kernel.BatchDesign) -> None:
    """Refuse batches through whose values the fit goes exactly, where their scale is needed."""
    df = design.df_batch
    needed = np.full(df.size, not method.mean_only)
    if setting.reference is not None:
        needed[setting.reference] = True
    empty = [setting.levels[b] for b in np.flatnonzero(needed & (df <= 1e-8))]
    if empty or df.sum() <= 1e-8:
        which = f"batch {named(empty)}" if empty else "any batch"
        raise DesignError(
            f"the covariates `{method.covariates}` explain every value of {which} exactly, so no variance can be "
            "estimated there: leave covariates out, merge batches, or add samples"
        )


def _fit_stripe(stripe: Stripe, common: Any) -> Partial:
    design, least = common
    fit = kernel.fit_batches(stripe.values, design, least)
    refuse_infinite(fit, stripe)
    lost = (design.size.sum() - fit.count.sum(axis=0))[fit.status == kernel.ADJUSTED]
    return Partial(
        sums={"n_missing": np.array(lost.sum(), dtype=np.int64)},
        columns={
            "count": fit.count,
            "level": fit.level,
            "rest": fit.rest,
            "coefficients": fit.coefficients,
            "status": fit.status,
        },
    )
