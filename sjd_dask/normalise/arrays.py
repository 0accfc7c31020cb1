"""Methylation and expression arrays: M-values, probe masks, background correction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels.array_quality import FAILED_ARRAY
from sjd_dask.kernels.methylation import beta_to_m
from sjd_dask.kernels.normexp import normexp_fit, normexp_signal
from sjd_dask.normalise.method import Arrays, Block, Method, Partial, Reference, Stripe, register

# Background subtraction leaves betas a little outside 0 ... 1; further out they are no betas.
_BETA_SLACK = 0.05
_YES = frozenset({"true", "yes", "1", "1.0"})


def refuse_no_beta(block: Block, method: str) -> None:
    """Refuse values that can't be betas, in samples that are not pending.

    Raises
    ------
    DataError
        Naming the first sample and feature.
    """
    with np.errstate(invalid="ignore"):
        bad = (block.values < -_BETA_SLACK) | (block.values > 1.0 + _BETA_SLACK)
    bad &= (block.pending == "")[:, None]
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            f"step `{method}` works on betas, from 0 to 1, and sample {block.sample_ids[row]!r} has "
            f"{block.values[row, column]:.6g} at feature {str(block.feature_ids[column])!r} ({int(bad.sum()):,} such "
            f"values in {block.n_samples} samples); if these are M-values, the step `beta` makes betas of them"
        )


def _refuse_offset(offset: float, method: str) -> None:
    if not (offset >= 0.0 and math.isfinite(offset)):
        raise SpecError(f"step `{method}`: offset must be 0 or more, not {offset}")


@register
@dataclass(frozen=True)
class MValue(Method):
    """M-values of betas: log2((beta + offset) / (1 - beta + offset)) (Du and others 2010).

    Parameters
    ----------
    offset : float
        Keeps betas near 0 and 1 from becoming extreme. Without one they are held half a stored step inside 0 ... 1, as
        wherever betas become M-values in this package: M lies between -17 and 17.

    Notes
    -----
    Missing values stay missing. Betas outside 0 ... 1 by less than 0.05 count as 0 and 1. No parameters.
    """

    offset: float = field(default=0.0, metadata={"description": "added to beta and to 1 - beta"})

    method: ClassVar[str] = "m_value"
    pointwise: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset({"beta"})
    gives: ClassVar[str | None] = "m_value"

    def check(self, reference: Reference) -> None:
        _refuse_offset(self.offset, self.method)

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        refuse_no_beta(block, self.method)
        if self.offset == 0.0:
            values = beta_to_m(block.values)
        else:
            beta = np.clip(block.values, 0.0, 1.0)
            values = np.log2((beta + self.offset) / (1.0 - beta + self.offset))
        return block.with_(values=values, scale="m_value")


@register
@dataclass(frozen=True)
class Beta(Method):
    """Betas of M-values, the inverse of `m_value`.

    Parameters
    ----------
    offset : float
        The one the M-values were made with.

    Notes
    -----
    Missing values stay missing. No parameters.
    """

    offset: float = field(default=0.0, metadata={"description": "the offset the M-values were made with"})

    method: ClassVar[str] = "beta"
    pointwise: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset({"m_value"})
    gives: ClassVar[str | None] = "beta"

    def check(self, reference: Reference) -> None:
        _refuse_offset(self.offset, self.method)

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        # 1 / (1 + 2^-M) does not overflow where 2^M would.
        share = 1.0 / (1.0 + np.exp2(-np.clip(block.values, -1000.0, 1000.0)))
        values = np.clip(share * (1.0 + 2.0 * self.offset) - self.offset, 0.0, 1.0)
        return block.with_(values=values, scale="beta")


def _missing(stripe: Stripe, common: Any) -> Partial:
    return Partial(columns={"missing": np.isnan(stripe.values).mean(axis=0)})


@register
@dataclass(frozen=True)
class MaskProbes(Method):
    """Leave out features, once and for all samples.

    Parameters
    ----------
    probe_list : str, optional
        A text file of feature ids, one a line, first word of the line; lines that start with # are left out.
    missing_share : float, optional
        Leave out features of which more than this share is missing in the reference set.
    column : str, optional
        A feature column by which to leave out, with `equals`.
    equals : list of str, optional
        Leave out features with one of these values in `column`. Without it, features where `column` is true.

    Notes
    -----
    A feature is left out when any rule says so. Parameters: ``keep`` (features_in,): a later change of the file or the
    annotation doesn't change a frozen chain.
    """

    probe_list: str | None = field(
        default=None, metadata={"description": "file of feature ids to leave out", "path": True}
    )
    missing_share: float | None = field(
        default=None, metadata={"description": "leave out features with a larger share missing in the reference"}
    )
    column: str | None = field(default=None, metadata={"description": "feature column by which to leave out"})
    equals: list[str] | None = field(
        default=None, metadata={"description": "values of the column to leave out; default: where it is true"}
    )

    method: ClassVar[str] = "mask_probes"
    pointwise: ClassVar[bool] = True
    dims: ClassVar[dict[str, tuple[str, ...]]] = {"keep": ("features_in",)}

    def check(self, reference: Reference) -> None:
        if self.probe_list is None and self.missing_share is None and self.column is None:
            raise SpecError("step `mask_probes` needs probe_list, missing_share or column: it would leave out nothing")
        if self.missing_share is not None and not 0.0 <= self.missing_share < 1.0:
            raise SpecError(
                f"step `mask_probes`: missing_share must be 0 or more and below 1, not {self.missing_share}"
            )
        if self.equals is not None and self.column is None:
            raise SpecError("step `mask_probes`: equals needs a column")
        if self.column is not None and self.column not in reference.annotation.columns:
            there = ", ".join(map(str, reference.annotation.columns[:20])) or "none"
            raise SpecError(f"step `mask_probes` needs the feature column {self.column!r}; there are: {there}")
        if self.probe_list is not None and not Path(self.probe_list).is_file():
            raise SpecError(f"step `mask_probes`: there is no file {self.probe_list!r}")

    def fit(self, reference: Reference) -> Arrays:
        drop = np.zeros(reference.n_features, dtype=bool)
        if self.probe_list is not None:
            listed = _read_ids(self.probe_list)
            found = np.array([str(one) in listed for one in reference.feature_ids], dtype=bool)
            if not found.any():
                raise DataError(
                    f"step `mask_probes`: none of the {len(listed):,} ids in {self.probe_list!r} is a feature here; "
                    f"features look like {str(reference.feature_ids[0])!r}"
                )
            drop |= found
        if self.column is not None:
            drop |= _flagged(reference.annotation[self.column], self.equals)
        if self.missing_share is not None:
            drop |= reference.by_features(_missing).columns["missing"] > self.missing_share
        if drop.all():
            raise DataError(f"step `mask_probes` would leave out all {drop.size:,} features; check its rules")
        return {"keep": ~drop}

    def out_features(self, parameters: Mapping[str, NDArray[Any]], feature_ids: NDArray[Any]) -> NDArray[Any] | None:
        return np.asarray(parameters["keep"], dtype=bool)

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        return block.take_features(np.asarray(parameters["keep"], dtype=bool))


def _read_ids(path: str) -> frozenset[str]:
    with open(path, encoding="utf-8-sig") as lines:
        words = (line.replace(",", " ").split(maxsplit=1) for line in lines if not line.startswith("#"))
        return frozenset(word[0].strip('"') for word in words if word)


def _flagged(column: pd.Series, equals: list[str] | None) -> NDArray[np.bool_]:
    text = column.astype(str).str.strip()
    if equals is None:
        return text.str.lower().isin(_YES).to_numpy(dtype=bool)
    return text.isin([str(one) for one in equals]).to_numpy(dtype=bool)


@register
@dataclass(frozen=True)
class Normexp(Method):
    """Background correction by the normal-exponential model, from each sample alone (limma).

    Parameters
    ----------
    normexp_method : {"saddle", "mle"}
        limma's names: maximum of the saddlepoint approximation (its default), or of the likelihood.
    offset : float
        Added after the correction, to steady the logarithms that follow; 16 or 50 are usual.

    Notes
    -----
    Takes intensities, not their logarithms. Missing values stay missing. A sample with fewer than four values, or
    values all equal, is put off as ``failed_array``. No parameters: nothing is learnt from other samples.
    """

    normexp_method: Literal["saddle", "mle"] = field(
        default="saddle", metadata={"description": "saddlepoint approximation, or the likelihood itself"}
    )
    offset: float = field(default=0.0, metadata={"description": "added after the correction"})

    method: ClassVar[str] = "normexp"
    takes: ClassVar[frozenset[str]] = frozenset({"concentration", "expression"})

    def check(self, reference: Reference) -> None:
        _refuse_offset(self.offset, self.method)

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        values = np.full_like(block.values, np.nan)
        failed = np.zeros(block.n_samples, dtype=bool)
        for i in np.flatnonzero(block.pending == ""):
            row = block.values[i]
            known = row[~np.isnan(row)]
            if np.isinf(known).any():
                at = str(block.feature_ids[int(np.flatnonzero(np.isinf(row))[0])])
                raise DataError(
                    f"step `normexp`: sample {block.sample_ids[i]!r} has an infinite intensity at feature {at!r}; "
                    "repair it, or make it missing"
                )
            failed[i] = known.size < 4 or known.min() == known.max()
            if not failed[i]:
                values[i] = normexp_signal(row, normexp_fit(known, self.normexp_method)) + self.offset
        return block.with_(values=values).put_off(failed, FAILED_ARRAY)
