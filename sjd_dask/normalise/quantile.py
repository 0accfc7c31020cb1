"""Arrays made alike: quantile normalisation to a frozen target, and scaling to a frozen median."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels.array_quality import FAILED_ARRAY
from sjd_dask.kernels.quantile import add_quantiles, medians, scale_to_median, to_target
from sjd_dask.normalise.method import Arrays, Block, Method, Partial, Reference, register

Floats = NDArray[np.float64]


def _refuse_infinite(block: Block, method: str) -> None:
    bad = np.isinf(block.values) & (block.pending == "")[:, None]
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            f"step `{method}` needs finite or missing values, and sample {block.sample_ids[row]!r} has "
            f"{block.values[row, column]} at feature {str(block.feature_ids[column])!r} ({int(bad.sum()):,} such "
            f"values in {block.n_samples} samples); repair them, or make them missing"
        )


def _named(ids: list[str]) -> str:
    return ", ".join(map(repr, ids[:5])) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")


def _sum_of_sorted(block: Block, wanted: frozenset[str] | None) -> Partial:
    _refuse_infinite(block, Quantile.method)
    use = block.pending == ""
    if wanted is not None:
        use &= np.array([one in wanted for one in block.sample_ids], dtype=bool)
    total = np.zeros(block.n_features)
    added = add_quantiles(total, block.values[use])
    empty = np.zeros(block.n_samples, dtype=bool)
    empty[np.flatnonzero(use)[~added]] = True
    return Partial(sums={"total": total, "n": np.array(float(added.sum()))}, rows={"empty": empty})


@register
@dataclass(frozen=True)
class Quantile(Method):
    """Quantile normalisation: every sample gets the distribution of a frozen target.

    The target is the mean of the sorted reference samples (Bolstad and others 2003). Fitted on all samples and applied
    to them, this is limma's normalizeQuantiles, and preprocessCore's normalize.quantiles.

    Parameters
    ----------
    ties : {"limma", "limma_noties", "preprocesscore"}
        Equal values get the target at their mean rank (limma's ``ties=TRUE``; preprocessCore's rule gives the same
        numbers), or each another quantile (limma's ``ties=FALSE``, which separates equal values by the order of R's
        quicksort).
    target_samples : list of str, optional
        Reference samples from which the target is made; all of them otherwise.

    Notes
    -----
    Missing values stay missing; a sample's values are spread over the whole target, and a reference sample's are
    stretched to all features, on straight lines between neighbours. A sample with fewer than two values is put off as
    ``failed_array``. Parameters: ``target`` (quantiles,), ascending, as many as features.
    """

    ties: Literal["limma", "limma_noties", "preprocesscore"] = field(
        default="limma", metadata={"description": "how equal values are treated; the first and the last are the same"}
    )
    target_samples: list[str] | None = field(
        default=None, metadata={"description": "reference samples from which the target is made; default all"}
    )

    method: ClassVar[str] = "quantile"
    takes: ClassVar[frozenset[str]] = frozenset({"beta", "m_value", "expression", "concentration"})
    dims: ClassVar[dict[str, tuple[str, ...]]] = {"target": ("quantiles",)}

    def check(self, reference: Reference) -> None:
        if self.target_samples is None:
            return
        if not self.target_samples:
            raise SpecError("step `quantile`: target_samples is empty; name reference samples, or leave it out")
        there = set(reference.sample_ids)
        absent = [one for one in self.target_samples if one not in there]
        if absent:
            raise SpecError(
                f"step `quantile`: {len(absent)} of {len(self.target_samples)} target_samples are not among the "
                f"{len(there)} reference samples: {_named(absent)}"
            )

    def fit(self, reference: Reference) -> Arrays:
        wanted = None if self.target_samples is None else frozenset(self.target_samples)
        found = reference.by_samples(_sum_of_sorted, wanted)
        empty = [reference.sample_ids[i] for i in np.flatnonzero(found.rows["empty"])]
        if empty:
            raise DataError(
                f"step `quantile`: {len(empty)} reference samples have fewer than two values: {_named(empty)}; leave "
                "them out of the reference"
            )
        if not found.sums["n"]:
            raise DataError("step `quantile`: no reference sample has values to make a target from")
        return {"target": found.sums["total"] / found.sums["n"]}

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        _refuse_infinite(block, self.method)
        values, possible = to_target(block.values, np.asarray(parameters["target"], dtype=np.float64), self.ties)
        return block.with_(values=values).put_off(~possible, FAILED_ARRAY)


def _medians(block: Block, absolute: bool) -> Partial:
    _refuse_infinite(block, Scale.method)
    return Partial(rows={"median": np.where(block.pending == "", medians(block.values, absolute), np.nan)})


@register
@dataclass(frozen=True)
class Scale(Method):
    """Multiply each sample so that its median is that of the reference.

    The common median is the geometric mean of the reference samples' medians: limma's normalizeBetweenArrays with
    method "scale" on a matrix (normalizeMedianValues), or normalizeMedianAbsValues when `absolute`.

    Parameters
    ----------
    absolute : bool
        Take the medians of the values' sizes: for values of both signs, such as log ratios.

    Notes
    -----
    Missing values stay missing. A sample without values is put off as ``failed_array``. Parameters: ``log_median`` ().
    """

    absolute: bool = field(default=False, metadata={"description": "medians of the sizes, for values of both signs"})

    method: ClassVar[str] = "scale"
    takes: ClassVar[frozenset[str]] = frozenset({"m_value", "expression", "concentration"})
    dims: ClassVar[dict[str, tuple[str, ...]]] = {"log_median": ()}

    def fit(self, reference: Reference) -> Arrays:
        centre = reference.by_samples(_medians, self.absolute).rows["median"]
        self._refuse(centre, reference.sample_ids)
        known = centre[~np.isnan(centre)]
        if not known.size:
            raise DataError("step `scale`: no reference sample has values")
        return {"log_median": np.array(np.mean(np.log(known)))}

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        _refuse_infinite(block, self.method)
        values, possible = scale_to_median(block.values, float(parameters["log_median"]), self.absolute)
        if not possible.all():
            active = np.where(block.pending == "", medians(block.values, self.absolute), np.nan)
            self._refuse(active, block.sample_ids)
        return block.with_(values=values).put_off(~possible, FAILED_ARRAY)

    def _refuse(self, centre: Floats, sample_ids: tuple[str, ...]) -> None:
        bad = np.flatnonzero(centre <= 0)
        if bad.size:
            remedy = "remove them" if self.absolute else "set absolute: true for values of both signs"
            raise DataError(
                f"step `scale` needs positive medians, and {bad.size} samples have others: "
                f"{_named([sample_ids[i] for i in bad])} (the first {centre[bad[0]]:.6g}); {remedy}"
            )
