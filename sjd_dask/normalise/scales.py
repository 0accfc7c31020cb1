"""Other scales for concentrations, intensities and shares: logarithms, log odds, log ratios, z-scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels import composition
from sjd_dask.normalise.method import Arrays, Block, Method, Partial, Reference, Stripe, register

Floats = NDArray[np.float64]
HALF_MINIMUM = "half_minimum"


def refuse_values(bad: NDArray[np.bool_], block: Block, method: str, rule: str, remedy: str) -> None:
    """Refuse values of samples that are not pending.

    Raises
    ------
    DataError
        Naming the first sample and feature, the value, the number of such values, and the remedy.
    """
    bad = bad & (block.pending == "")[:, None]
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            f"step `{method}` {rule}, and sample {block.sample_ids[row]!r} has {block.values[row, column]:.6g} at "
            f"feature {str(block.feature_ids[column])!r} ({int(bad.sum()):,} such values in {block.n_samples} "
            f"samples); {remedy}"
        )


def refuse_features(bad: NDArray[np.bool_], reference: Reference, method: str, why: str, remedy: str) -> None:
    """Refuse features of the reference set.

    Raises
    ------
    DataError
        Naming the first few, with their number, why, and the remedy.
    """
    if bad.any():
        named = [repr(str(one)) for one in reference.feature_ids[bad][:5]]
        shown = ", ".join(named) + (", ..." if bad.sum() > 5 else "")
        raise DataError(
            f"step `{method}`: {int(bad.sum()):,} features {why} in the {len(reference.sample_ids):,} reference "
            f"samples: {shown}; {remedy}"
        )


def _base(base: float, method: str) -> None:
    if not (base > 0 and base != 1 and math.isfinite(base)):
        raise SpecError(f"step `{method}`: the base of a logarithm must be positive and not 1, not {base}")


def _logarithm(values: Floats, base: float) -> Floats:
    if base == 2:
        return np.log2(values)
    if base == 10:
        return np.log10(values)
    return np.log(values) / (1.0 if base == math.e else math.log(base))


def _smallest_positive(stripe: Stripe, totals: Floats | None) -> Partial:
    values = stripe.values if totals is None else stripe.values / totals[:, None]
    smallest = np.where(values > 0, values, np.inf).min(axis=0, initial=np.inf)
    return Partial(columns={"smallest": smallest})


@register
@dataclass(frozen=True)
class Log(Method):
    """Logarithm, after an offset.

    Parameters
    ----------
    base : float
        Base of the logarithm.
    offset : float or "half_minimum"
        Added to every value first: a number, or half the smallest positive value of each feature in the reference set.
    non_positive : "error" or "missing"
        What becomes of a value that is not positive after the offset.

    Notes
    -----
    Missing values stay missing. Parameters: ``offset`` (features,), for "half_minimum" only.
    """

    base: float = field(default=2.0, metadata={"description": "base of the logarithm"})
    offset: float | Literal["half_minimum"] = field(
        default=0.0,
        metadata={"description": "added to every value: a number, or half the smallest positive reference value"},
    )
    non_positive: Literal["error", "missing"] = field(
        default="error", metadata={"description": "values that are not positive after the offset: refuse, or missing"}
    )

    method: ClassVar[str] = "log"
    pointwise: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset({"concentration", "counts", "expression", "proportion"})
    gives: ClassVar[str | None] = "expression"
    dims: ClassVar[dict[str, tuple[str, ...]]] = {"offset": ("features",)}

    def check(self, reference: Reference) -> None:
        _base(self.base, self.method)
        if not isinstance(self.offset, str) and not math.isfinite(self.offset):
            raise SpecError(f"step `log`: offset must be a number or {HALF_MINIMUM!r}, not {self.offset}")

    def fit(self, reference: Reference) -> Arrays:
        if self.offset != HALF_MINIMUM:
            return {}
        smallest = reference.by_features(_smallest_positive).columns["smallest"]
        refuse_features(
            ~np.isfinite(smallest), reference, "log", "have no positive value", "leave them out, or give a number"
        )
        return {"offset": smallest / 2}

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        moved = block.values + (parameters["offset"] if self.offset == HALF_MINIMUM else float(self.offset))
        bad = moved <= 0
        if self.non_positive == "error":
            refuse_values(
                bad,
                block,
                "log",
                "needs values above 0 after its offset",
                "give an `offset`, or `non_positive: missing`",
            )
        values = _logarithm(np.where(bad, np.nan, moved), self.base)
        return block.with_(values=values, scale=self.out_scale(block.scale))


@register
@dataclass(frozen=True)
class Arcsinh(Method):
    """Inverse hyperbolic sine of value / cofactor: linear around zero, logarithmic far from it.

    Parameters
    ----------
    cofactor : float
        5 is usual for mass cytometry, 150 for flow cytometry (Bendall and others 2011, Science 332:687).

    Notes
    -----
    No parameters; any finite value is accepted, missing values stay missing.
    """

    cofactor: float = field(default=5.0, metadata={"description": "values are divided by it first"})

    method: ClassVar[str] = "arcsinh"
    pointwise: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset({"concentration", "counts", "expression"})
    gives: ClassVar[str | None] = "expression"

    def check(self, reference: Reference) -> None:
        if not (self.cofactor > 0 and math.isfinite(self.cofactor)):
            raise SpecError(f"step `arcsinh`: cofactor must be positive, not {self.cofactor}")

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        return block.with_(values=np.arcsinh(block.values / self.cofactor), scale=self.out_scale(block.scale))


@register
@dataclass(frozen=True)
class Logit(Method):
    """Log odds of shares.

    Parameters
    ----------
    offset : float
        How far 0 and 1 are pulled in. A fixed number: the rules that depend on the number of samples move every value
        when a sample arrives.
    rule : "clip" or "shrink"
        clip: only shares nearer to 0 or 1 than `offset` move. shrink: every share becomes offset + (1 - 2 offset) share
        (Smithson and Verkuilen 2006, Psychological Methods 11:54, with offset = 1 / (2 n)).
    base : float
        Base of the logarithm; e gives natural log odds.

    Notes
    -----
    No parameters. Missing values stay missing; a value outside [0, 1] is refused.
    """

    offset: float = field(default=0.001, metadata={"description": "how far shares of 0 and 1 are pulled in"})
    rule: Literal["clip", "shrink"] = field(
        default="clip", metadata={"description": "move only the shares nearer to 0 or 1 than offset, or all shares"}
    )
    base: float = field(default=math.e, metadata={"description": "base of the logarithm; e: natural log odds"})

    method: ClassVar[str] = "logit"
    pointwise: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset({"proportion", "beta"})
    gives: ClassVar[str | None] = "expression"

    def check(self, reference: Reference) -> None:
        _base(self.base, self.method)
        if not 0 < self.offset < 0.5:
            raise SpecError(f"step `logit`: offset must lie between 0 and 0.5, not {self.offset}")

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        outside = (block.values < 0) | (block.values > 1)
        refuse_values(
            outside, block, "logit", "needs shares between 0 and 1", "divide percentages by 100 at the source"
        )
        values = composition.log_odds(block.values, self.offset, shrink=self.rule == "shrink", base=self.base)
        return block.with_(values=values, scale=self.out_scale(block.scale))


def _row_totals(block: Block, common: Any) -> Partial:
    return Partial(rows={"total": np.nansum(block.values, axis=1)})


@register
@dataclass(frozen=True)
class CentredLogRatio(Method):
    """Logarithms of the parts of a sample less their mean (Aitchison 1986).

    Parameters
    ----------
    zero_replacement : float or "half_minimum"
        Share of the whole that a zero becomes, the other parts giving it up in proportion (Martín-Fernández and others
        2003): one number, or half the smallest positive share of each feature in the reference set.
    base : float
        Base of the logarithm.
    sum_to : float, optional
        What the parts of each sample must sum to, within 1 %; unset: nothing is required, as for a sub-composition.

    Notes
    -----
    A missing part stays missing, and the geometric mean is over the observed ones. Parameters: ``zero_share``
    (features,), for "half_minimum" only.
    """

    zero_replacement: float | Literal["half_minimum"] = field(
        default="half_minimum",
        metadata={"description": "share a zero becomes: a number, or half the smallest positive reference share"},
    )
    base: float = field(default=math.e, metadata={"description": "base of the logarithm"})
    sum_to: float | None = field(
        default=None, metadata={"description": "refuse samples whose parts don't sum to this, within 1 %"}
    )

    method: ClassVar[str] = "clr"
    takes: ClassVar[frozenset[str]] = frozenset({"proportion", "counts", "concentration"})
    gives: ClassVar[str | None] = "expression"
    dims: ClassVar[dict[str, tuple[str, ...]]] = {"zero_share": ("features",)}

    def check(self, reference: Reference) -> None:
        _base(self.base, self.method)
        if reference.n_features < 2:
            raise SpecError("step `clr` needs at least 2 features: a ratio has two parts")
        share = self.zero_replacement
        if not isinstance(share, str) and not 0 < share < 1 / reference.n_features:
            raise SpecError(
                f"step `clr`: zero_replacement must lie between 0 and 1 / {reference.n_features} features, not {share}"
            )

    def fit(self, reference: Reference) -> Arrays:
        if self.zero_replacement != HALF_MINIMUM:
            return {}
        totals = reference.by_samples(_row_totals).rows["total"]
        if not (totals > 0).all():
            who = reference.sample_ids[int(np.flatnonzero(~(totals > 0))[0])]
            raise DataError(f"step `clr`: reference sample {who!r} has no positive part; leave it out of the reference")
        smallest = reference.by_features(_smallest_positive, totals).columns["smallest"]
        refuse_features(
            ~np.isfinite(smallest), reference, "clr", "are never above 0", "leave them out, or give zero_replacement"
        )
        return {"zero_share": smallest / 2}

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        values = block.values
        remedy = "remove the sample or repair its values"
        refuse_values(values < 0, block, "clr", "needs parts of at least 0", remedy)
        total = np.nansum(values, axis=1)
        active = block.pending == ""
        for i in np.flatnonzero(active & ~(total > 0)):
            raise DataError(f"step `clr`: sample {block.sample_ids[i]!r} has no positive part; {remedy}")
        if self.sum_to is not None:
            for i in np.flatnonzero(active & ~(np.abs(total - self.sum_to) <= 0.01 * self.sum_to)):
                raise DataError(
                    f"step `clr`: the parts of sample {block.sample_ids[i]!r} sum to {total[i]:.6g}, not to "
                    f"{self.sum_to:g} as `sum_to` requires; {remedy}, or leave `sum_to` out"
                )
        shares = composition.close(values)
        share = np.broadcast_to(parameters.get("zero_share", self.zero_replacement), (block.n_features,))
        replaced = composition.replace_zeros(shares, np.asarray(share, dtype=np.float64))
        lost = active[:, None] & np.isnan(replaced) & ~np.isnan(shares)
        refuse_values(
            lost, block, "clr", "leaves nothing to the other parts when all zeros are replaced",
            "remove the sample, or give a smaller zero_replacement",
        )  # fmt: skip
        return block.with_(values=composition.centred_log_ratio(replaced, self.base), scale=self.out_scale(block.scale))


def _location_and_scale(stripe: Stripe, is_robust: bool) -> Partial:
    centre, spread = column_centre(stripe.values, is_robust), np.empty(0)
    away = stripe.values - centre
    if is_robust:
        spread = 1.4826 * column_centre(np.abs(away), True)
    else:
        n = (~np.isnan(away)).sum(axis=0)
        spread = np.sqrt(np.nansum(away**2, axis=0) / np.where(n > 1, n - 1, np.nan))
    # Rounding gives a constant feature a spread that is not quite zero.
    spread = np.where(spread > np.abs(centre) * 1e-12, spread, 0.0)
    return Partial(columns={"centre": centre, "spread": spread})


def column_centre(values: Floats, is_median: bool) -> Floats:
    """Median or mean of each column over its observed values, (p,); NaN for a column without a value."""
    n = (~np.isnan(values)).sum(axis=0)
    if not is_median:
        mean: Floats = np.nansum(values, axis=0) / np.where(n > 0, n, np.nan)
        return mean
    if len(values) == 0:
        return np.full(values.shape[1], np.nan)
    ordered = np.sort(values, axis=0)  # NaN last
    at = np.arange(values.shape[1])
    median: Floats = (ordered[np.maximum(n - 1, 0) // 2, at] + ordered[np.minimum(n // 2, len(values) - 1), at]) / 2
    return median


@register
@dataclass(frozen=True)
class Standardise(Method):
    """Each feature less its reference centre, over its reference spread.

    Parameters
    ----------
    robust : bool
        False: mean and standard deviation (n - 1), as R's scale. True: median and median absolute deviation times
        1.4826, as R's mad.
    constant : "error" or "drop"
        What becomes of features that don't vary in the reference set.

    Notes
    -----
    Missing values are left out of the centre and stay missing. Parameters: ``centre``, ``spread`` (features_in,).
    """

    robust: bool = field(default=False, metadata={"description": "median and MAD in place of mean and SD"})
    constant: Literal["error", "drop"] = field(
        default="error", metadata={"description": "features that don't vary in the reference: refuse, or leave out"}
    )

    method: ClassVar[str] = "standardise"
    pointwise: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset({"expression", "m_value", "beta", "concentration", "proportion"})
    gives: ClassVar[str | None] = "expression"
    dims: ClassVar[dict[str, tuple[str, ...]]] = {"centre": ("features_in",), "spread": ("features_in",)}

    def fit(self, reference: Reference) -> Arrays:
        found = reference.by_features(_location_and_scale, self.robust).columns
        if self.constant == "error":
            refuse_features(
                ~(found["spread"] > 0), reference, "standardise", "don't vary", "leave them out, or `constant: drop`"
            )
        return found

    def out_features(self, parameters: Mapping[str, NDArray[Any]], feature_ids: NDArray[Any]) -> NDArray[Any] | None:
        keep: NDArray[np.bool_] = parameters["spread"] > 0
        return None if keep.all() else keep

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        centre, spread = parameters["centre"], parameters["spread"]
        keep = self.out_features(parameters, block.feature_ids)
        if keep is not None:
            block, centre, spread = block.take_features(keep), centre[keep], spread[keep]
        return block.with_(values=(block.values - centre) / spread, scale=self.out_scale(block.scale))
