"""Tables beside a quality table: principal components before and after, and what batch and covariates explain."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.errors import DataError
from sjd_dask.kernels.principal import chance_share, principal_components, variance_explained

STAGES = ("before", "after")
MOST_LEVELS = 50


def companion_tables(
    sketches: Mapping[str, NDArray[Any]],
    samples: pd.DataFrame,
    factors: Sequence[str],
    *,
    groups: Collection[str] = (),
    outliers: NDArray[np.bool_] | None = None,
    n_components: int = 4,
) -> dict[str, pd.DataFrame]:
    """Components and shares of variance from the sketches of some samples.

    Parameters
    ----------
    sketches : mapping
        ``before`` (n, m1) and ``after`` (n, m2) of `sample_sketches`; samples without values in ``after`` (pending) are
        left out of both stages.
    samples : DataFrame
        Sample columns, index sample ids, n rows in the same order.
    factors : sequence of str
        Sample columns whose share of the variance is wanted; a column that is not there is left out.
    groups : collection of str
        Those that are groups although they hold numbers, such as a batch.
    outliers : ndarray of bool (n,), optional
        Samples that are shown among the components of the others, and don't count in the shares.
    n_components : int

    Returns
    -------
    dict of DataFrame
        ``principal``: sample_id, before_1 ..., after_1 ..., the factors. ``explained``: stage, component, share.
        ``factors``: factor, stage, share, weighted_share, chance (share of a meaningless factor), n_levels (0 for a
        covariate), n_samples; factors of one level, or of more than 50 that are not
        in `groups`, are left out.
    """
    n = len(samples)
    for stage in STAGES:
        if len(sketches[stage]) != n:
            raise DataError(f"{len(sketches[stage])} sketches {stage} don't match {n} samples")
    kept = ~np.isnan(sketches["after"]).all(axis=1) if n else np.zeros(0, dtype=bool)
    sheet = samples[kept]
    apart = np.zeros(len(sheet), dtype=bool) if outliers is None else np.asarray(outliers, dtype=bool)[kept]
    there = [name for name in dict.fromkeys(factors) if name in samples.columns]
    principal: dict[str, Any] = {names.SAMPLE_ID: sheet.index.astype(str).to_numpy(dtype=object)}
    explained, shares = [], []
    for stage in STAGES:
        values = np.asarray(sketches[stage], dtype=np.float64)[kept]
        scores, share = principal_components(values, n_components, apart)
        for i in range(n_components):
            principal[f"{stage}_{i + 1}"] = scores[:, i]
            explained.append({"stage": stage, "component": i + 1, "share": float(share[i])})
        for name in there:
            coded, n_levels = _code(sheet[name][~apart], name in groups)
            if coded is None:
                continue
            known = int((coded >= 0).sum() if n_levels else np.isfinite(coded).sum())
            mean, weighted = variance_explained(values[~apart], coded)
            shares.append({
                "factor": name,
                "stage": stage,
                "share": mean,
                "weighted_share": weighted,
                "chance": chance_share(known, n_levels or 2),
                "n_levels": n_levels,
                "n_samples": known,
            })  # fmt: skip
    for name in there:
        if name not in principal:
            numeric = pd.api.types.is_numeric_dtype(sheet[name]) and not pd.api.types.is_bool_dtype(sheet[name])
            principal[name] = (
                sheet[name].to_numpy(dtype=np.float64, na_value=np.nan)
                if numeric and name not in groups
                else np.array([None if pd.isna(one) else str(one) for one in sheet[name]], dtype=object)
            )
    columns = ["factor", "stage", "share", "weighted_share", "chance", "n_levels", "n_samples"]
    return {
        "principal": pd.DataFrame(principal),
        "explained": pd.DataFrame(explained),
        "factors": pd.DataFrame(shares, columns=columns),
    }


def _code(column: pd.Series, is_group: bool) -> tuple[NDArray[Any] | None, int]:
    """Codes and their number, or a covariate and 0; None for what explains nothing or everything."""
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if numeric and not is_group:
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        finite = values[np.isfinite(values)]
        return (np.where(np.isfinite(values), values, np.nan), 0) if np.unique(finite).size > 1 else (None, 0)
    codes, levels = pd.factorize(column.astype(object).where(column.notna(), None))
    most = len(column) // 2 if is_group else MOST_LEVELS
    if not 2 <= len(levels) <= most:
        return None, 0
    return codes.astype(np.int64), len(levels)
