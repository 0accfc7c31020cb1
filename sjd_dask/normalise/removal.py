"""limma's removeBatchEffect, frozen: batch terms of a linear model are estimated once and subtracted from any sample.

Ritchie and others 2015; the numbers are those of limma 3.54 on the reference set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.designs.formula import formula_columns
from sjd_dask.errors import DataError, DesignError, SpecError
from sjd_dask.kernels import linear
from sjd_dask.kernels.batch_removal import subtract_terms
from sjd_dask.normalise.batch_design import cross_table, levels_of, named, sample_labels
from sjd_dask.normalise.formula import design_matrix
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


@register
@dataclass(frozen=True)
class RemoveBatchEffect(Method):
    """Subtract the effects of batches and numeric covariates, as estimated beside a protected design.

    Parameters
    ----------
    batch, batch2 : str, optional
        Sample columns with batches; their effects add up.
    covariates : list of str
        Numeric sample columns whose effects are removed. As in limma 3.54 they are not centred: values come to where
        they would be at zero of the covariate.
    design : str
        Formula of what must be kept. Only the fit uses it: later samples need no outcome, so the step can be part of a
        model bundle.
    min_samples : int
        Fewest samples of a batch.

    Notes
    -----
    Batch terms are coded to sum to zero over batches, so a feature's level is kept. Missing rule: NaN stays NaN; a
    feature is fitted on the samples it has, and a term that they can't estimate is not removed, as in limma.
    """

    batch: str | None = field(default=None, metadata={"description": "Sample column with the batch."})
    batch2: str | None = field(default=None, metadata={"description": "Sample column with a second kind of batch."})
    covariates: list[str] = field(
        default_factory=list, metadata={"description": "Numeric sample columns whose effects are removed."}
    )
    design: str = field(default="~ 1", metadata={"description": "Formula of what must be kept; used by the fit only."})
    min_samples: int = field(default=2, metadata={"description": "Fewest samples of a batch."})

    method: ClassVar[str] = "remove_batch_effect"
    pointwise: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset({"expression", "m_value"})
    dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "coefficients": ("terms", "features"),
        "term_names": ("terms",),
        "batch_levels": ("batches",),
        "batch2_levels": ("batches2",),
        "n_unestimated": (),
    }

    def __post_init__(self) -> None:
        if not (self.batch or self.batch2 or self.covariates):
            raise SpecError("step `remove_batch_effect` needs `batch`, `batch2` or `covariates`: what shall it remove?")
        if self.min_samples < 1:
            raise SpecError(f"`min_samples` of step `remove_batch_effect` is {self.min_samples}; 1 at least")

    def fit_columns(self) -> list[str]:
        return list(dict.fromkeys([*self.apply_columns(), *formula_columns(self.design)]))

    def apply_columns(self) -> list[str]:
        return [*(one for one in (self.batch, self.batch2) if one), *self.covariates]

    def check(self, reference: Reference) -> None:
        """Columns, labels, sizes of batches, and confounding; nothing is read."""
        self._setting(reference.samples)

    def fit(self, reference: Reference) -> Arrays:
        """Coefficients of the batch terms from one pass over the reference.

        Raises
        ------
        SpecError, DesignError, DataError
            Unknown columns; batches confounded with the protected design, with the table that shows it; missing labels
            or numbers, batches with too few samples.
        """
        protected, terms, names, levels, kept = self._setting(reference.samples)
        matrix = np.column_stack([protected, terms[:, kept]])
        if len(matrix) <= matrix.shape[1]:
            raise DesignError(
                f"`{self.design}` and the batches have {matrix.shape[1]} coefficients for {len(matrix)} samples: use "
                "fewer terms or more samples"
            )
        found = reference.by_features(_fit_stripe, (linear.linear_design(matrix), protected.shape[1]))
        coefficients = np.zeros((len(names), reference.n_features))
        coefficients[kept] = found.columns["coefficients"]
        return {
            "coefficients": coefficients,
            "term_names": np.array(names),
            "n_unestimated": found.sums["n_unestimated"],
            **{f"{which}_levels": np.array(one) for which, one in levels.items()},
        }

    def extend(self, parameters: Mapping[str, NDArray[Any]], reference: Reference) -> Arrays | None:
        """Nothing to add, if all batches are known.

        Raises
        ------
        SpecError
            A batch is new: its effect can't be told from the protected design, of which nothing is kept.
        """
        require_columns(self.apply_columns(), reference.samples, self.method)
        for which, name in self._batches().items():
            labels = sample_labels(reference.samples, name, self.method)
            new = [one for one in levels_of(labels)[0] if one not in parameters[f"{which}_levels"].tolist()]
            if new:
                raise SpecError(
                    f"step `{self.method}` can't take up the batches {named(new)} of column {name!r}: what it protects "
                    "is not frozen. Fit a new version of the chain, or use combat, which can be extended."
                )
        return None

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        """Subtract; samples of a batch without parameters are put off as ``pending_batch``.

        Raises
        ------
        DataError
            A sample without a batch label or a number.
        """
        require_columns(self.apply_columns(), block.samples, self.method)
        live = np.flatnonzero(block.pending == "")
        samples = block.samples.iloc[live]
        unknown = np.zeros(block.n_samples, dtype=bool)
        columns = []
        for which, name in self._batches().items():
            levels = [str(one) for one in parameters[f"{which}_levels"]]
            place = {level: i for i, level in enumerate(levels)}
            codes = np.array([place.get(label, -1) for label in sample_labels(samples, name, self.method)], dtype=int)
            unknown[live[codes < 0]] = True
            columns.append(_sum_to_zero(codes, len(levels)))
        rows = np.zeros((block.n_samples, parameters["coefficients"].shape[0]))
        rows[live] = np.column_stack([*columns, *self._numbers(samples)])
        rows[unknown] = 0.0
        values = subtract_terms(block.values, rows, parameters["coefficients"])
        return block.with_(values=values).put_off(unknown, PENDING_BATCH)

    def _batches(self) -> dict[str, str]:
        given = {"batch": self.batch, "batch2": self.batch2}
        return {which: name for which, name in given.items() if name}

    def _numbers(self, samples: pd.DataFrame) -> list[NDArray[np.float64]]:
        columns = []
        for name in self.covariates:
            try:
                numbers = pd.to_numeric(samples[name]).to_numpy(dtype=np.float64, na_value=np.nan)
            except (ValueError, TypeError):
                raise SpecError(
                    f"`covariates` of step `{self.method}` holds the column {name!r}, which is not numeric; name it as "
                    "`batch` or `batch2`"
                ) from None
            bad = ~np.isfinite(numbers)
            if bad.any():
                raise DataError(
                    f"step `{self.method}` needs {name!r} of every sample, and {int(bad.sum())} have no finite number: "
                    f"{named(samples.index[bad])}. Fill the sheet, or leave these samples out."
                )
            columns.append(numbers)
        return columns

    def _setting(
        self, samples: pd.DataFrame
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str], dict[str, list[str]], list[int]]:
        """Protected columns, batch columns and their names, levels, and the batch columns that can be estimated."""
        require_columns(self.fit_columns(), samples, self.method)
        columns, names, all_levels, tables = [], [], {}, []
        protected_columns = tuple(formula_columns(self.design))
        for which, name in self._batches().items():
            labels = sample_labels(samples, name, self.method)
            levels, codes = levels_of(labels)
            size = np.bincount(codes)
            if len(levels) < 2:
                raise DataError(
                    f"column {name!r} has only the batch {levels[0]!r} among {len(samples)} reference samples, so "
                    f"there is nothing to remove: leave it out of step `{self.method}`, or add samples of other batches"
                )
            few = [f"{a!r} ({b})" for a, b in zip(levels, size, strict=True) if b < self.min_samples]
            if few:
                raise DataError(
                    f"step `{self.method}` needs {self.min_samples} samples of a batch, and these of column {name!r} "
                    f"have fewer: {', '.join(few[:10])}{', ...' if len(few) > 10 else ''}. Merge them with another "
                    "batch, leave them out, or lower min_samples."
                )
            columns.append(_sum_to_zero(codes, len(levels)))
            names += [f"{name}[{level}]" for level in levels[:-1]]
            all_levels[which] = levels
            if protected_columns:
                tables.append(cross_table(labels, name, samples, protected_columns))
        columns += [one[:, None] for one in self._numbers(samples)]
        names += self.covariates
        protected, protected_names = design_matrix(self.design, samples)
        twice = linear.aliased_columns(protected)
        if twice:
            raise DesignError(
                f"columns {', '.join(repr(protected_names[j]) for j in twice)} of `{self.design}` are combinations of "
                "the columns before them: leave them out, or merge levels"
            )
        terms = np.column_stack(columns)
        ones = np.ones((len(samples), 1))
        first = protected.shape[1]
        aliased = {j - first for j in linear.aliased_columns(np.column_stack([protected, terms])) if j >= first}
        # Batches that repeat each other are removed once, as in limma; only what is protected matters.
        among = {j - 1 for j in linear.aliased_columns(np.column_stack([ones, terms])) if j > 0}
        confounded = sorted(aliased - among)
        if confounded:
            shown = "\n\n".join(tables)
            raise DesignError(
                f"batch is confounded with the protected design `{self.design}`: the columns "
                f"{', '.join(repr(names[j]) for j in confounded)} are combinations of it and of other batches, so "
                f"their effect can't be told from what is to be kept"
                f"{f'. Samples per batch:{chr(10)}{chr(10)}{shown}{chr(10)}' if shown else ''}\n"
                "Leave terms out of `design` (their effect is then removed with the batch), merge batches, or add "
                "samples that cross them."
            )
        return protected, terms, names, all_levels, [j for j in range(len(names)) if j not in aliased]


def _sum_to_zero(codes: NDArray[Any], n_levels: int) -> NDArray[np.float64]:
    """One column for each level but the last, which has -1 in all; a negative code gives zeros."""
    coding = np.vstack([np.eye(n_levels - 1), -np.ones((1, n_levels - 1)), np.zeros((1, n_levels - 1))])
    rows: NDArray[np.float64] = coding[codes]
    return rows


def _fit_stripe(stripe: Stripe, common: Any) -> Partial:
    design, first = common
    sums = linear.new_sums(design, stripe.values.shape[1])
    linear.accumulate(sums, design.q, np.ascontiguousarray(stripe.values), has_intercept=design.has_intercept)
    fit = linear.finish(sums, design)
    if fit.needs_columns.size:
        fit = linear.refit_columns(fit, design, stripe.values[:, fit.needs_columns])
    beta = fit.coefficients[first:]
    unknown = np.isnan(beta)
    return Partial(
        sums={"n_unestimated": np.array(unknown.any(axis=0).sum(), dtype=np.int64)},
        columns={"coefficients": np.where(unknown, 0.0, beta)},
    )
