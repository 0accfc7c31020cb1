"""What every normalisation method is: options, a fit on a reference set, and an apply that works row by row."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar, get_type_hints

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.errors import DataError, SpecError

Arrays = dict[str, NDArray[Any]]
PENDING_BATCH = "pending_batch"


@dataclass(frozen=True)
class Block:
    """Some samples with all their features, somewhere along a chain.

    Attributes
    ----------
    values : ndarray of float64, shape (n, p), C-contiguous
        One sample a row; NaN is missing.
    sample_ids : tuple of str
    feature_ids : ndarray of str objects, shape (p,)
    annotation : DataFrame
        Feature columns, p rows in the features' order.
    samples : DataFrame
        Sample columns, n rows in the samples' order, index the sample ids.
    scale : str
        What the values are: a quantity of `sjd_dask.names`.
    context : dict of str to ndarray of shape (n,)
        What the steps before know of each sample: library sizes, factors, shares for the quality table.
    pending : ndarray of str objects, shape (n,)
        Empty, or why this sample has no values now, such as ``pending_batch``.
    """

    values: NDArray[np.float64]
    sample_ids: tuple[str, ...]
    feature_ids: NDArray[Any]
    annotation: pd.DataFrame
    samples: pd.DataFrame
    scale: str
    context: Arrays = field(default_factory=dict)
    pending: NDArray[Any] = field(default_factory=lambda: np.empty(0, dtype=object))

    def __post_init__(self) -> None:
        if len(self.pending) != len(self.sample_ids):
            object.__setattr__(self, "pending", np.full(len(self.sample_ids), "", dtype=object))

    @property
    def n_samples(self) -> int:
        """Rows."""
        return len(self.sample_ids)

    @property
    def n_features(self) -> int:
        """Columns."""
        return int(self.values.shape[1])

    def with_(self, **changes: Any) -> Block:
        """The same block with other fields; `context` is added to what is there."""
        if "context" in changes:
            changes["context"] = {**self.context, **changes["context"]}
        return dataclasses.replace(self, **changes)

    def take_features(self, keep: NDArray[Any]) -> Block:
        """Only these features (mask or indices)."""
        index = np.flatnonzero(keep) if keep.dtype == bool else keep
        return dataclasses.replace(
            self,
            values=np.ascontiguousarray(self.values[:, index]),
            feature_ids=self.feature_ids[index],
            annotation=self.annotation.iloc[index],
        )

    def put_off(self, mask: NDArray[np.bool_], reason: str) -> Block:
        """Samples of the mask get no values, for this reason; an earlier reason stays."""
        pending = self.pending.copy()
        pending[mask & (pending == "")] = reason
        return dataclasses.replace(self, pending=pending)


@dataclass(frozen=True)
class Stripe:
    """All reference samples of some features, after the steps before.

    Attributes
    ----------
    values : ndarray of float64, shape (n_reference, width)
    feature_start : int
        Where the stripe begins in the feature space of this step.
    feature_ids : ndarray of str objects, shape (width,)
    annotation : DataFrame
        `width` rows.
    """

    values: NDArray[np.float64]
    feature_start: int
    feature_ids: NDArray[Any]
    annotation: pd.DataFrame


@dataclass
class Partial:
    """What a map function gives back for its block, stripe or range: small arrays.

    Attributes
    ----------
    sums : dict of str to ndarray
        Added over all calls.
    rows : dict of str to ndarray
        First axis: samples of the block. Concatenated in the order of the reference samples.
    columns : dict of str to ndarray
        Last axis: features of the stripe or the range. Concatenated.
    """

    sums: Arrays = field(default_factory=dict)
    rows: Arrays = field(default_factory=dict)
    columns: Arrays = field(default_factory=dict)


class Reference(Protocol):
    """The declared reference set as it stands before a step: what `fit` works on, by passes over it."""

    sample_ids: tuple[str, ...]
    samples: pd.DataFrame
    feature_ids: NDArray[Any]
    annotation: pd.DataFrame
    scale: str

    @property
    def context(self) -> Arrays:
        """Per-sample arrays of the steps before."""

    @property
    def n_features(self) -> int:
        """Features at this step."""

    def by_samples(self, function: Callable[[Block, Any], Partial], common: Any = None) -> Partial:
        """Call a function for blocks of samples with all features; the totals."""

    def by_features(self, function: Callable[[Stripe, Any], Partial], common: Any = None) -> Partial:
        """Call a function for stripes of features with all samples; the totals."""

    def by_range(self, function: Callable[[int, int, Any], Partial], common: Any, n: int) -> Partial:
        """Call ``function(start, stop, common)`` for pieces of ``range(n)``; no data is read; the totals."""

    def after(self, method: Method, parameters: Arrays) -> Reference:
        """The reference set as the next step sees it."""


class Method:
    """Base of the methods: subclasses are frozen dataclasses of their options, registered by name."""

    method: ClassVar[str] = ""
    # Raised when numbers change: parameters of another version are refused.
    version: ClassVar[int] = 1
    # Scales it accepts; empty: all.
    takes: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[str | None] = None
    freezes: ClassVar[bool] = True
    why_not_frozen: ClassVar[str] = ""
    # A value after the step depends on the same feature before it, the sample's columns and what earlier steps know of
    # the sample (`Block.context`), and on no other feature. See `is_pointwise`.
    pointwise: ClassVar[bool] = False
    # What the step adds to `Block.context` for the steps that follow.
    gives_context: ClassVar[frozenset[str]] = frozenset()
    # Dimension names of each parameter; "features" after this step, "features_in" before it.
    dims: ClassVar[dict[str, tuple[str, ...]]] = {}

    def fit_columns(self) -> list[str]:
        """Sample columns that `fit` needs."""
        return []

    def apply_columns(self) -> list[str]:
        """Sample columns that `apply` needs."""
        return []

    def outcome_columns(self) -> list[str]:
        """Those of `apply_columns` that are covariates of a design: a chain with any is refused in a bundle."""
        return []

    def check(self, reference: Reference) -> None:
        """Refuse early what `fit` can't do; nothing is read."""

    def fit(self, reference: Reference) -> Arrays:
        """Parameters from the reference set."""
        return {}

    def extend(self, parameters: Mapping[str, NDArray[Any]], reference: Reference) -> Arrays | None:
        """Parameters with those for the new batches of these samples added, the others unchanged bit for bit.

        None for a method that knows no batches.
        """
        return None

    def out_features(self, parameters: Mapping[str, NDArray[Any]], feature_ids: NDArray[Any]) -> NDArray[Any] | None:
        """Mask of the features that are kept, or None for all."""
        return None

    def is_pointwise(self, parameters: Mapping[str, NDArray[Any]], known: frozenset[str]) -> bool:
        """Whether some features alone get the same values, given what earlier steps `known` of each sample."""
        return self.pointwise

    def notes(self, parameters: Mapping[str, NDArray[Any]]) -> list[str]:
        """What a person should know of a fit, in sentences."""
        return []

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        """The block after this step; a row depends on nothing but itself and the parameters."""
        raise NotImplementedError

    def out_scale(self, scale: str) -> str:
        """What the values are after this step."""
        if self.takes and scale not in self.takes:
            raise SpecError(
                f"step `{self.method}` works on {', '.join(sorted(self.takes))}, and here the values are {scale}: "
                f"{_remedy(scale, self.takes)}"
            )
        return self.gives or scale

    def options(self) -> dict[str, Any]:
        """The options as plain data, with the method's name first.

        A number that may be a fraction is a float, however it was written: a chain's hash is made of this.
        """
        given = dataclasses.asdict(self)  # type: ignore[call-overload]
        return {
            "method": self.method,
            **{name: float(one) if name in _fractions(type(self)) and one is not None else one
               for name, one in given.items()},
        }  # fmt: skip


@functools.cache
def _fractions(cls: type[Method]) -> frozenset[str]:
    return frozenset(name for name, hint in get_type_hints(cls).items() if hint in (float, float | None))


def _remedy(scale: str, takes: frozenset[str]) -> str:
    if scale == "counts" and "expression" in takes:
        return "make them comparable first, with log_cpm, voom or vst"
    if scale == "beta" and "m_value" in takes:
        return "make M-values of them first, with m_value"
    if scale == "expression" and "counts" in takes:
        return "raw counts are needed, so it must come before log_cpm, voom or vst"
    return "choose another method or put it at another place of the chain"


METHODS: dict[str, type[Method]] = {}
_M = TypeVar("_M", bound=type[Method])


def register(cls: _M) -> _M:
    """Make a method known by its name."""
    METHODS[cls.method] = cls
    return cls


def require_columns(columns: list[str], samples: pd.DataFrame, method: str) -> None:
    """Refuse a step whose sample columns don't exist.

    Raises
    ------
    SpecError
        Naming the columns.
    """
    absent = [column for column in columns if column not in samples.columns]
    if absent:
        there = ", ".join(map(str, samples.columns[:20])) or "none"
        raise SpecError(f"step `{method}` needs the sample column {', '.join(map(repr, absent))}; there are: {there}")


def require_finite(values: NDArray[Any], sample_ids: tuple[str, ...], feature_ids: NDArray[Any], method: str) -> None:
    """Refuse missing or infinite values where a method has no rule for them.

    Raises
    ------
    DataError
        Naming the first sample and feature.
    """
    bad = ~np.isfinite(values)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            f"step `{method}` needs a number everywhere, and sample {sample_ids[row]!r} has {values[row, column]} at "
            f"feature {feature_ids[column]!r} ({int(bad.sum())} such values in this block); remove or repair them"
        )
