"""Samples judged against fences that were frozen on a reference set: a new sample alone gets the same verdict.

Fences are Tukey's (1977, Exploratory Data Analysis): 1.5 interquartile ranges beyond the quartiles. Sex is read from
two clearly separate groups of medians on X and Y, and only where the recorded sexes of the reference agree with them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.errors import SpecError
from sjd_dask.kernels.array_quality import FAILED_ARRAY, SAME_PERSON, genotype_concordances
from sjd_dask.normalise.method import Arrays
from sjd_dask.normalise.quality import distances

Floats = NDArray[np.float64]

# Metric: has it a lower fence, an upper one, is it judged by its logarithm.
FENCED: Final[dict[str, tuple[bool, bool, bool]]] = {
    "library_size": (True, True, True),
    "missing_before": (False, True, False),
    "median_after": (True, True, False),
    "iqr_after": (True, True, False),
    "distance_to_reference": (False, True, False),
}
QUALITY_DIMS: Final[dict[str, tuple[str, ...]]] = {
    "fence_metric": ("metrics",),
    "fence_low": ("metrics",),
    "fence_high": ("metrics",),
    "quartile_low": ("metrics",),
    "quartile_high": ("metrics",),
    "profile_mean": ("sketch",),
    "profile_sd": ("sketch",),
    "sex_centre": ("sexes", "sex_axes"),
    "sex_scale": ("sex_axes",),
}
FEWEST_FENCED = 8  # quartiles of fewer samples say nothing
FEWEST_OF_A_SEX = 3
# Ashman's D of two groups: above 2 they are apart; the best split of one normal group has 2.7, of an even spread 3.5.
CLEARLY_APART = 4.0
AGREEMENT = 0.9
SEXES = ("female", "male")
_FEMALE, _MALE = {"f", "female", "w", "woman"}, {"m", "male", "man"}


def fit_quality(
    metrics: Mapping[str, NDArray[Any]],
    sketch: NDArray[Any],
    samples: pd.DataFrame | None = None,
    sex_column: str | None = None,
    scale: str = "",
) -> Arrays:
    """Fences, profile and sex thresholds of a reference set.

    Parameters
    ----------
    metrics : mapping of ndarray (n,)
        `sample_metrics` of the reference samples.
    sketch : ndarray (k, m)
        ``after`` of `sample_sketches` for some or all of them.
    samples : DataFrame, optional
        Their sample columns, n rows in the same order; needed with `sex_column`.
    sex_column : str, optional
        Sample column of the recorded sex.
    scale : str
        What the values were before the chain: says which group is female when no sex was recorded.

    Returns
    -------
    dict of ndarray
        Dims: `QUALITY_DIMS`. ``sex_centre`` is NaN where sex can't be told.
    """
    values = np.asarray(sketch, dtype=np.float64)
    known = ~np.isnan(values)
    n = known.sum(axis=0)
    mean = np.where(known, values, 0.0).sum(axis=0) / np.where(n > 0, n, np.nan)
    away = np.where(known, values - mean, 0.0)
    sd = np.sqrt((away**2).sum(axis=0) / np.where(n > 1, n - 1, np.nan))
    quality: Arrays = {"profile_mean": mean, "profile_sd": np.where(sd > 1e-12 * np.abs(mean), sd, 0.0)}
    full = {**{name: np.asarray(value, dtype=np.float64) for name, value in metrics.items()}}
    if "distance_to_reference" not in full:
        full["distance_to_reference"] = distances(values, quality)["distance_to_reference"]
    rows = {name: _fence(name, full) for name in FENCED}
    # A new sample is farther from a mean that it had no part in: by this much for normal values.
    size = float(np.median(n)) if n.size else 0.0
    if size > 3:
        q1, q3, low, high = rows["distance_to_reference"]
        rows["distance_to_reference"] = (q1, q3, low, high * float(np.sqrt((size + 1) / (size - 3))))
    quality["fence_metric"] = np.array(list(rows), dtype=str)
    for i, name in enumerate(("quartile_low", "quartile_high", "fence_low", "fence_high")):
        quality[name] = np.array([row[i] for row in rows.values()])
    recorded = _recorded(samples, sex_column)
    quality["sex_centre"], quality["sex_scale"] = _fit_sex(full, recorded, scale)
    return quality


def judge(
    metrics: Mapping[str, NDArray[Any]],
    quality: Mapping[str, NDArray[Any]],
    samples: pd.DataFrame,
    *,
    pending: NDArray[Any] | None = None,
    reference: Collection[str] | None = None,
    sex_column: str | None = None,
    batch_column: str | None = None,
    rs_values: NDArray[Any] | None = None,
) -> pd.DataFrame:
    """The quality table: one row a sample.

    Parameters
    ----------
    metrics : mapping of ndarray (n,)
        `sample_metrics` of these samples, made with the frozen `quality`.
    quality : mapping
        From `fit_quality`.
    samples : DataFrame
        Sample columns, index sample ids, n rows in the order of the metrics.
    pending : ndarray of str (n,), optional
        Empty, or why a sample has no values: its `status`.
    reference : collection of str, optional
        Sample ids of the reference set.
    sex_column, batch_column : str, optional
        Sample columns of the recorded sex and of the batch.
    rs_values : ndarray (n, r), optional
        Betas of SNP probes: arrays of one ``person_id`` that differ on them are told.

    Returns
    -------
    DataFrame
        sample_id, status, in_reference, batch, every metric, predicted_sex, sex_mismatch, failed_array, rs_discordance,
        is_swapped, ``outlier_<metric>``, is_outlier, n_flags. A column without its input is left out.
    """
    n = len(samples)
    reason = np.full(n, "", dtype=object) if pending is None else np.asarray(pending, dtype=object)
    is_held = reason != ""
    table: dict[str, Any] = {
        names.SAMPLE_ID: samples.index.astype(str).to_numpy(dtype=object),
        "status": np.where(is_held, reason, "ok").astype(object),
        "in_reference": samples.index.astype(str).isin(list(reference or [])),
    }
    if batch_column is not None:
        _require(batch_column, samples)
        table["batch"] = _text(samples[batch_column])
    numbers = {name: np.asarray(value, dtype=np.float64) for name, value in metrics.items()}
    failed = numbers.pop(FAILED_ARRAY, None)
    table.update(numbers)
    flags: dict[str, NDArray[np.bool_]] = {}
    for name, low, high in zip(
        quality["fence_metric"].astype(str), quality["fence_low"], quality["fence_high"], strict=True
    ):
        if name in numbers:
            _, _, is_log = FENCED.get(name, (True, True, False))
            value = _log2(numbers[name]) if is_log else numbers[name]
            flags[f"outlier_{name}"] = ((value < low) | (value > high)) & ~is_held
    swapped = np.zeros(n, dtype=bool)
    others: list[NDArray[np.bool_]] = []
    if {"x_median", "y_median"} & set(numbers):
        predicted = predict_sex(numbers, quality)
        table["predicted_sex"] = predicted
        recorded = _recorded(samples, sex_column)
        if recorded is not None:
            swapped = (predicted != recorded) & (predicted != None) & (recorded != None)  # noqa: E711
            table["sex_mismatch"] = swapped
    is_failed = reason == FAILED_ARRAY
    if failed is not None or is_failed.any():
        table[FAILED_ARRAY] = is_failed if failed is None else is_failed | (failed > 0)
        others.append(table[FAILED_ARRAY])
    if rs_values is not None and names.PERSON_ID in samples.columns:
        table["rs_discordance"] = _discordance(np.asarray(rs_values), samples[names.PERSON_ID])
        swapped = swapped | (table["rs_discordance"] > 1 - SAME_PERSON)
    if "sex_mismatch" in table or "rs_discordance" in table:
        table["is_swapped"] = swapped
        others.append(swapped)
    table.update(flags)
    table["is_outlier"] = np.any([*flags.values(), np.zeros(n, dtype=bool)], axis=0)
    table["n_flags"] = np.sum([*flags.values(), *others, np.zeros(n, dtype=bool)], axis=0).astype(np.int32)
    return pd.DataFrame(table)


def predict_sex(metrics: Mapping[str, NDArray[Any]], quality: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """ "female", "male" or None of each sample, (n,) objects: its place between the two frozen centres.

    The fifth in the middle between them is left unsaid.
    """
    centre, spread = quality["sex_centre"], quality["sex_scale"]
    points = _axes(metrics)
    weight = (centre[1] - centre[0]) / spread**2
    used = ~np.isnan(weight)
    found = np.full(len(points), None, dtype=object)
    if not used.any():
        return found
    reach = float((weight * (centre[1] - centre[0]))[used].sum())
    place = ((points - centre[0]) * weight)[:, used].sum(axis=1) / reach
    found[place < 0.4], found[place > 0.6] = SEXES
    return found


def _fence(name: str, metrics: Mapping[str, Floats]) -> tuple[float, float, float, float]:
    """Quartiles and fences of a metric; without enough samples the fences are infinite."""
    has_low, has_high, is_log = FENCED[name]
    value = metrics.get(name, np.empty(0))
    value = _log2(value) if is_log else value
    value = value[np.isfinite(value)]
    if value.size < FEWEST_FENCED:
        return np.nan, np.nan, -np.inf, np.inf
    q1, q3 = (float(one) for one in np.percentile(value, [25, 75]))
    # Where a method makes all samples alike, differences at rounding are no outliers.
    floor = {"missing_before": 0.01, "distance_to_reference": 0.2, "library_size": 0.1}.get(name)
    if floor is None:
        floor = 0.01 * float(np.nanmedian(metrics["iqr_after"]))
    reach = max(1.5 * (q3 - q1), floor)
    return q1, q3, q1 - reach if has_low else -np.inf, q3 + reach if has_high else np.inf


def _fit_sex(metrics: Mapping[str, Floats], recorded: NDArray[Any] | None, scale: str) -> tuple[Floats, Floats]:
    nothing = np.full((2, 2), np.nan), np.full(2, np.nan)
    points = _axes(metrics)
    splits = [_split(points[:, axis]) for axis in (0, 1)]
    best = int(np.argmax([split[0] for split in splits]))
    apart, cut = splits[best]
    if not apart >= CLEARLY_APART:
        return nothing
    known = np.isfinite(points[:, best])
    is_high = points[:, best] > cut
    if recorded is not None and (recorded[known] != None).any():  # noqa: E711
        said = known & (recorded != None)  # noqa: E711
        as_male = float((is_high[said] == (recorded[said] == "male")).mean())
        if max(as_male, 1 - as_male) < AGREEMENT or len(set(recorded[said])) < 2:
            return nothing
        high_is_male = as_male > 0.5
    elif best == 0 and scale in ("beta", "m_value"):
        high_is_male = False  # the silenced X makes the betas of women higher (Horvath 2013, Genome Biology 14:R115)
    elif best == 1 and scale not in ("beta", "m_value"):
        high_is_male = True  # genes of Y are expressed
    else:
        return nothing
    groups = [known & (is_high != high_is_male), known & (is_high == high_is_male)]
    centre, spread = nothing
    for axis in (0, 1):
        parts = [points[group & np.isfinite(points[:, axis]), axis] for group in groups]
        if min(part.size for part in parts) < FEWEST_OF_A_SEX:
            continue
        middle = np.array([np.median(part) for part in parts])
        pooled = float(np.sqrt(np.mean([part.var() for part in parts])))
        pooled = max(pooled, abs(middle[1] - middle[0]) * 1e-3)
        if axis == best or abs(middle[1] - middle[0]) >= CLEARLY_APART / np.sqrt(2) * pooled:
            centre[:, axis], spread[axis] = middle, pooled
    return centre, spread


def _split(values: Floats) -> tuple[float, float]:
    """Ashman's D (1994) of the best split into two groups, and the cut between them; 0 where there is none."""
    ordered = np.sort(values[np.isfinite(values)])
    n = ordered.size
    fewest = max(FEWEST_OF_A_SEX, int(0.02 * n))
    if n < 2 * fewest:
        return 0.0, np.nan
    left = np.arange(1, n)
    sums = np.cumsum(ordered)[:-1]
    between = (sums / left - (ordered.sum() - sums) / (n - left)) ** 2 * left * (n - left)
    between[(left < fewest) | (n - left < fewest)] = -np.inf
    at = int(np.argmax(between)) + 1
    low, high = ordered[:at], ordered[at:]
    gap = high.mean() - low.mean()
    width = float(np.sqrt(low.var() + high.var()))
    if not gap > 0:
        return 0.0, np.nan
    return float(np.sqrt(2) * gap / max(width, gap * 1e-6)), float((low[-1] + high[0]) / 2)


def _axes(metrics: Mapping[str, NDArray[Any]]) -> Floats:
    size = max((len(value) for value in metrics.values()), default=0)
    return np.column_stack([
        np.asarray(metrics.get(name, np.full(size, np.nan)), dtype=np.float64) for name in ("x_median", "y_median")
    ])  # fmt: skip


def _recorded(samples: pd.DataFrame | None, column: str | None) -> NDArray[Any] | None:
    """Recorded sex as "female", "male" or None."""
    if samples is None or column is None:
        return None
    _require(column, samples)
    words = ["" if pd.isna(value) else str(value).strip().lower() for value in samples[column]]
    return np.array(["female" if w in _FEMALE else "male" if w in _MALE else None for w in words], dtype=object)


def _discordance(values: Floats, person: pd.Series) -> Floats:
    """Median, over the other arrays of the same person, of the share of genotypes that differ; NaN without others.

    Of three arrays the odd one differs from both others, which agree with each other.
    """
    found = np.full(len(values), np.nan)
    groups = pd.Series(np.arange(len(values))).groupby(person.to_numpy(), sort=False).indices
    for rows in map(np.asarray, groups.values()):
        if len(rows) < 2:
            continue
        same, _ = genotype_concordances(values[rows].astype(np.float64))
        share = (1 - same)[~np.eye(len(rows), dtype=bool)].reshape(len(rows), -1)
        usable = ~np.isnan(share).all(axis=1)
        found[rows[usable]] = np.nanmedian(share[usable], axis=1)
    return found


def _text(column: pd.Series) -> NDArray[Any]:
    return np.array([None if pd.isna(value) else str(value) for value in column], dtype=object)


def _log2(values: Floats) -> Floats:
    return np.log2(np.where(values > 0, values, np.nan))


def _require(column: str, samples: pd.DataFrame) -> None:
    if column not in samples.columns:
        there = ", ".join(map(str, samples.columns[:20])) or "none"
        raise SpecError(f"the quality table needs the sample column {column!r}; there are: {there}")
