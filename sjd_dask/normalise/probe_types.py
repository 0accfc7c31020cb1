"""Type II probes of a methylation array adjusted to type I: BMIQ with a frozen type I reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels.array_quality import FAILED_ARRAY, failed_array
from sjd_dask.kernels.bmiq import (
    N_BINS,
    START,
    BetaMixture,
    adjust_type_two,
    beta_histogram,
    fit_mixture,
    fit_type_two,
)
from sjd_dask.normalise.arrays import refuse_no_beta
from sjd_dask.normalise.method import Arrays, Block, Method, Partial, Reference, register

_TYPES = {"I": False, "1": False, "1.0": False, "II": True, "2": True, "2.0": True}
# A mixture of three states needs some hundreds of probes.
_LEAST_PROBES = 200
_PARTS = ("a", "b", "share", "threshold", "mode")


def _pool(block: Block, type_two: NDArray[np.bool_]) -> Partial:
    refuse_no_beta(block, Bmiq.method)
    counts = np.zeros(N_BINS, dtype=np.int64)
    failed = np.zeros(block.n_samples, dtype=bool)
    for i in np.flatnonzero(block.pending == ""):
        row = block.values[i]
        failed[i] = failed_array(row) != ""
        if not failed[i]:
            counts += beta_histogram(row[~type_two])
    return Partial(sums={"counts": counts}, rows={"failed": failed})


@register
@dataclass(frozen=True)
class Bmiq(Method):
    """Give type II probes the distribution of type I probes (BMIQ, Teschendorff and others 2013).

    Parameters
    ----------
    type_column : str
        Feature column with the probe type: I or II (or 1, 2).
    target : {"reference", "own"}
        What type II probes shall look like: the type I probes of the reference set, frozen; or, as published, those of
        the sample itself.
    iterations : int
        Rounds of expectation and maximisation, at most.
    tolerance : float
        Rounds end once no state's mean moves by this.

    Notes
    -----
    The reference is one mixture fitted to the pooled type I values of all reference samples. Their mean profile would
    not do: averaging narrows each state, and type II probes would come out narrower than any sample's type I probes.
    A sample's type II mixture is fitted to this sample alone. Type I values stay as they are, and missing values stay
    missing. A sample whose betas lack a mode, or whose mixture can't be fitted, is put off as ``failed_array``.
    Parameters: ``type_two`` (features,); for "reference" also ``a``, ``b``, ``share`` (states,), ``threshold``,
    ``mode`` (borders,).
    """

    type_column: str = field(default="probe_type", metadata={"description": "feature column with I or II (or 1, 2)"})
    target: Literal["reference", "own"] = field(
        default="reference", metadata={"description": "type I probes of the reference set (frozen), or of the sample"}
    )
    iterations: int = field(default=5, metadata={"description": "rounds of the mixture's fit, at most"})
    tolerance: float = field(default=1e-3, metadata={"description": "the fit ends once no mean moves by this"})

    method: ClassVar[str] = "bmiq"
    takes: ClassVar[frozenset[str]] = frozenset({"beta"})
    dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "type_two": ("features",),
        "a": ("states",),
        "b": ("states",),
        "share": ("states",),
        "threshold": ("borders",),
        "mode": ("borders",),
    }

    def check(self, reference: Reference) -> None:
        if self.iterations < 1 or not self.tolerance >= 0.0:
            raise SpecError(
                f"step `bmiq`: iterations must be 1 or more and tolerance not negative, not {self.iterations} and "
                f"{self.tolerance}"
            )
        self._types(reference.annotation)

    def _types(self, annotation: pd.DataFrame) -> NDArray[np.bool_]:
        """Mask of the type II probes."""
        if self.type_column not in annotation.columns:
            there = ", ".join(map(str, annotation.columns[:20])) or "none"
            raise SpecError(f"step `bmiq` needs the feature column {self.type_column!r}; there are: {there}")
        column = annotation[self.type_column]
        codes = column.astype(str).str.strip().str.upper().map(_TYPES)
        unknown = np.flatnonzero(codes.isna().to_numpy())
        if unknown.size:
            raise DataError(
                f"step `bmiq`: {unknown.size:,} features have no type I or II in {self.type_column!r}: the first is "
                f"{str(annotation.index[unknown[0]])!r} with {column.iloc[unknown[0]]!r}; leave them out with "
                "mask_probes, or complete the column"
            )
        type_two = codes.to_numpy(dtype=bool)
        for name, count in (("I", int((~type_two).sum())), ("II", int(type_two.sum()))):
            if count < _LEAST_PROBES:
                raise DataError(
                    f"step `bmiq` needs {_LEAST_PROBES} probes of each type, and {self.type_column!r} has {count} of "
                    f"type {name}; leave the step out"
                )
        return type_two

    def fit(self, reference: Reference) -> Arrays:
        type_two = self._types(reference.annotation)
        if self.target == "own":
            return {"type_two": type_two}
        found = reference.by_samples(_pool, type_two)
        failed = np.flatnonzero(found.rows["failed"])
        if failed.size:
            named = ", ".join(repr(reference.sample_ids[i]) for i in failed[:5])
            raise DataError(
                f"step `bmiq`: {failed.size} reference samples don't look like working arrays: {named}"
                f"{', ...' if failed.size > 5 else ''}; leave them out of the reference"
            )
        mixture = self._mixture(found.sums["counts"])
        if mixture is None:
            raise DataError(
                f"step `bmiq`: the type I values of {len(reference.sample_ids)} reference samples have no "
                "unmethylated, middle and methylated state to be told apart; check that they are betas"
            )
        return {"type_two": type_two, **{part: getattr(mixture, part) for part in _PARTS}}

    def _mixture(self, counts: NDArray[np.int64]) -> BetaMixture | None:
        return fit_mixture(counts, START, iterations=self.iterations, tolerance=self.tolerance)

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        refuse_no_beta(block, self.method)
        type_two = np.asarray(parameters["type_two"], dtype=bool)
        frozen = None
        if self.target == "reference":
            frozen = BetaMixture(*(np.asarray(parameters[part], dtype=np.float64) for part in _PARTS))
        values = block.values.copy()
        failed = np.zeros(block.n_samples, dtype=bool)
        for i in np.flatnonzero(block.pending == ""):
            adjusted = self._adjust(block.values[i], type_two, frozen)
            if adjusted is None:
                failed[i] = True
            else:
                values[i, type_two] = adjusted
        changed = block.with_(values=values, context={FAILED_ARRAY: failed.astype(np.float64)})
        return changed.put_off(failed, FAILED_ARRAY)

    def _adjust(
        self, row: NDArray[np.float64], type_two: NDArray[np.bool_], frozen: BetaMixture | None
    ) -> NDArray[np.float64] | None:
        """The type II values of one sample, or None where it failed."""
        if failed_array(row):
            return None
        type_one = frozen or self._mixture(beta_histogram(row[~type_two]))
        if type_one is None:
            return None
        own = row[type_two]
        mixture = fit_type_two(own, type_one, iterations=self.iterations, tolerance=self.tolerance)
        return None if mixture is None else adjust_type_two(own, mixture, type_one)
