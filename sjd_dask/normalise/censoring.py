"""Concentrations below the limit of detection: replaced by one stated rule, and counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels.censoring import below_limit, substitute
from sjd_dask.normalise.method import Arrays, Block, Method, Partial, Reference, Stripe, register

# Columns that hold limits when the option names none.
LIMIT_COLUMNS = ("lod", "limit_of_detection")
BELOW_SHARE = "below_detection_share"


def _count_below(stripe: Stripe, common: tuple[NDArray[np.float64], bool]) -> Partial:
    limits, missing_is_below = common
    mine = limits[stripe.feature_start : stripe.feature_start + stripe.values.shape[1]]
    below = below_limit(stripe.values, mine, missing_is_below=missing_is_below)
    known = ~np.isnan(stripe.values) | below
    count = known.sum(axis=0)
    return Partial(columns={"share": below.sum(axis=0) / np.where(count > 0, count, np.nan)})


@register
@dataclass(frozen=True)
class LimitOfDetection(Method):
    """Left-censored concentrations: values below their feature's limit replaced, features mostly below it left out.

    Parameters
    ----------
    column : str, optional
        Feature column with the limits, in the unit of the values; unset: ``lod``, else ``limit_of_detection``.
    table : str, optional
        Tab-separated file with columns feature_id and lod, in place of a feature column; read when fitted.
    handling : "half", "sqrt2", "limit" or "missing"
        A value below its limit becomes limit / 2, limit / sqrt(2) (Hornung and Reed 1990), the limit, or missing.
    missing_is_below : bool
        Take missing values of features with a limit as below it.
    max_share : float
        A feature with more than this share of the reference values below its limit is left out; 1: none is.

    Notes
    -----
    A feature without a limit is left as it is. Other missing values stay missing. The per-sample share of the kept
    features below their limit goes to the quality table as ``below_detection_share``. Parameters: ``limit``, ``kept``,
    ``reference_share`` (features_in,).
    """

    column: str | None = field(default=None, metadata={"description": "feature column with the limits of detection"})
    table: str | None = field(
        default=None,
        metadata={"description": "tab-separated file with feature_id and lod, in place of a column", "path": True},
    )
    handling: Literal["half", "sqrt2", "limit", "missing"] = field(
        default="sqrt2", metadata={"description": "what a value below its limit becomes"}
    )
    missing_is_below: bool = field(
        default=False, metadata={"description": "take missing values of features with a limit as below it"}
    )
    max_share: float = field(
        default=1.0, metadata={"description": "leave out features with more than this share below their limit"}
    )

    method: ClassVar[str] = "limit_of_detection"
    pointwise: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset({"concentration"})
    dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "limit": ("features_in",),
        "kept": ("features_in",),
        "reference_share": ("features_in",),
    }

    def check(self, reference: Reference) -> None:
        if not 0 <= self.max_share <= 1:
            raise SpecError(f"step `limit_of_detection`: max_share must lie between 0 and 1, not {self.max_share}")
        if self.column and self.table:
            raise SpecError("step `limit_of_detection`: give `column` or `table`, not both")
        if not self.table:
            self._column(reference.annotation)

    def _column(self, annotation: pd.DataFrame) -> str:
        wanted = (self.column,) if self.column else LIMIT_COLUMNS
        for name in wanted:
            if name in annotation.columns:
                return name
        there = ", ".join(map(str, annotation.columns[:20])) or "none"
        raise SpecError(
            f"step `limit_of_detection` needs a feature column {' or '.join(map(repr, wanted))} and there are: "
            f"{there}; name it with `column`, or give a `table` of feature_id and lod"
        )

    def _limits(self, reference: Reference) -> NDArray[np.float64]:
        if self.table:
            given = _read_table(self.table).reindex([str(one) for one in reference.feature_ids])
            source = self.table
        else:
            source = self._column(reference.annotation)
            given = reference.annotation[source]
        limits = pd.to_numeric(given, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        strange = given.notna().to_numpy() & ~((limits > 0) & np.isfinite(limits))
        if strange.any():
            at = int(np.flatnonzero(strange)[0])
            raise DataError(
                f"step `limit_of_detection`: the limit of feature {str(reference.feature_ids[at])!r} in {source!r} is "
                f"{given.iloc[at]} ({int(strange.sum())} such limits); a limit is a positive number, or missing"
            )
        if np.isnan(limits).all():
            raise DataError(
                f"step `limit_of_detection`: none of the {len(limits):,} features has a limit in {source!r}; check its "
                f"feature ids"
            )
        return limits

    def fit(self, reference: Reference) -> Arrays:
        limits = self._limits(reference)
        share = reference.by_features(_count_below, (limits, self.missing_is_below)).columns["share"]
        kept = ~(share > self.max_share)
        if not kept.any():
            raise DataError(
                f"step `limit_of_detection`: all {len(kept):,} features have more than {self.max_share:g} of the "
                f"reference values below their limit; check the unit of the limits, or raise `max_share`"
            )
        return {"limit": limits, "kept": kept, "reference_share": share}

    def out_features(self, parameters: Mapping[str, NDArray[Any]], feature_ids: NDArray[Any]) -> NDArray[Any] | None:
        kept = parameters["kept"].astype(bool)
        return None if kept.all() else kept

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        limits = parameters["limit"]
        kept = self.out_features(parameters, block.feature_ids)
        if kept is not None:
            block, limits = block.take_features(kept), limits[kept]
        below = below_limit(block.values, limits, missing_is_below=self.missing_is_below)
        known = (~np.isnan(block.values) & ~np.isnan(limits)) | below
        n_known = known.sum(axis=1)
        share = below.sum(axis=1) / np.where(n_known > 0, n_known, np.nan)
        values = substitute(block.values, below, limits, self.handling)
        return block.with_(values=values, context={BELOW_SHARE: share}, scale=self.out_scale(block.scale))


def _read_table(path: str) -> pd.Series:
    if not Path(path).is_file():
        raise SpecError(f"step `limit_of_detection`: there is no file {path!r}; `table` names a tab-separated file")
    table = pd.read_csv(path, sep="\t", dtype={names.FEATURE_ID: str})
    absent = [name for name in (names.FEATURE_ID, "lod") if name not in table.columns]
    if absent:
        raise DataError(
            f"{path!r} has no column {' or '.join(map(repr, absent))}; it has: {', '.join(map(str, table.columns))}"
        )
    twice = table[names.FEATURE_ID][table[names.FEATURE_ID].duplicated()]
    if len(twice):
        raise DataError(f"{path!r} gives the limit of feature {twice.iloc[0]!r} more than once; keep one line each")
    return table.set_index(names.FEATURE_ID)["lod"]
