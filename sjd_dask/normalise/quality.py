"""What each sample of a layer looks like, before and after: the measures a quality table is made of.

`sample_metrics` and `sample_sketches` run where a block is normalised and look at one row at a time; what they give is
judged later (`sjd_dask.normalise.judgement`) against fences frozen on the reference set.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.errors import DataError
from sjd_dask.kernels.array_quality import FAILED_ARRAY, failed_array
from sjd_dask.kernels.row_summary import count_missing, row_medians, summarise_rows
from sjd_dask.normalise.method import Arrays, Block

Floats = NDArray[np.float64]

# Features of a sketch, and samples whose sketches come back for principal components.
MOST_FEATURES: Final = 2048
MOST_SKETCHED: Final = 5000
LOW_BETA, HIGH_BETA = 0.2, 0.8
WHOLE_ARRAY: Final = 10_000  # a shorter panel of probes may have one mode by choice
_CHROMOSOME_COLUMNS = ("chromosome", "chr")


_A = TypeVar("_A")
_R = TypeVar("_R")


def _remembered(function: Callable[[_A], _R]) -> Callable[[_A], _R]:
    """Keep the last answers, by the identity of the argument: the blocks of a task share their features."""
    kept: deque[tuple[_A, _R]] = deque(maxlen=4)

    @wraps(function)
    def answer(argument: _A) -> _R:
        for known, result in kept:
            if known is argument:
                return result
        result = function(argument)
        kept.append((argument, result))
        return result

    return answer


def sketch_index(n_features: int, most: int = MOST_FEATURES) -> NDArray[np.int64]:
    """Evenly spaced features, the same for the same number of features; all of them when there are few."""
    if n_features <= most:
        return np.arange(n_features, dtype=np.int64)
    return np.arange(most, dtype=np.int64) * n_features // most


def sketched(n_samples: int, most: int = MOST_SKETCHED) -> NDArray[np.int64]:
    """Positions of the samples whose sketches are kept: all, or evenly spaced ones."""
    return sketch_index(n_samples, most)


def sample_metrics(before: Block, after: Block, quality: Mapping[str, NDArray[Any]] | None = None) -> Arrays:
    """Measures of each sample of a block.

    Parameters
    ----------
    before, after : Block
        The same samples as read and after the whole chain; features may differ.
    quality : mapping, optional
        Frozen parameters of `fit_quality`: adds the distance to the reference set.

    Returns
    -------
    dict of ndarray (n,) of float64
        See the columns in `sjd_dask.normalise.judgement.judge`. A pending sample has NaN for everything about `after`.
        Medians and other summaries are over the features that are not on X or Y.

    Raises
    ------
    DataError
        The layer has another number of features than the frozen reference profile.
    """
    n = before.n_samples
    active = after.pending == ""
    done = after.values
    if not active.all():
        done = np.where(active[:, None], done, np.nan)
    found: Arrays = {}
    if before.scale == "counts":
        found["library_size"] = np.nansum(before.values, axis=1)
        found["n_detected"] = (before.values > 0).sum(axis=1).astype(np.float64)
    found["missing_before"] = _missing(before.values)
    found["missing_after"] = np.where(active, _missing(done), np.nan)
    for stage, block, values in (("before", before, before.values), ("after", after, done)):
        summary = summarise_rows(_shown(values, block.scale), _autosomal(block.annotation))
        found.update({f"{name}_{stage}": value for name, value in summary.items()})
    if after.scale == "beta":
        known = (~np.isnan(done)).sum(axis=1)
        known = np.where(known > 0, known, np.nan)
        found["low_share_after"] = (done < LOW_BETA).sum(axis=1) / known
        found["high_share_after"] = (done > HIGH_BETA).sum(axis=1) / known
    if before.scale == "beta" and before.n_features >= WHOLE_ARRAY:
        found[FAILED_ARRAY] = np.array([failed_array(row) != "" for row in before.values], dtype=np.float64)
    found.update(_sex_medians(before, after, done))
    if quality is not None:
        found.update(distances(_sketch(after), quality))
    for name, value in after.context.items():
        if np.ndim(value) == 1 and len(value) == n and np.asarray(value).dtype.kind in "fiub":
            found[name] = np.asarray(value, dtype=np.float64)
    return found


def sample_sketches(before: Block, after: Block) -> dict[str, NDArray[np.float32]]:
    """A few values of each sample, for principal components and for the reference profile.

    Returns
    -------
    dict of ndarray of float32
        ``before`` and ``after`` (n, at most 2048); counts as log2 counts per million, concentrations as log2(x + 1).
        ``rs_values`` (n, r) where the array has SNP probes (betas of features named rs...). Pending samples are NaN in
        ``after``.
    """
    found = {"before": _sketch(before).astype(np.float32), "after": _sketch(after).astype(np.float32)}
    if before.scale == "beta":
        probes = _snp_probes(before.feature_ids)
        if probes.size:
            found["rs_values"] = before.values[:, probes].astype(np.float32)
    return found


@_remembered
def _snp_probes(feature_ids: NDArray[Any]) -> NDArray[np.int64]:
    return np.array([i for i, one in enumerate(feature_ids) if str(one).startswith("rs")], dtype=np.int64)


def comparable(values: Floats, scale: str, library: Floats | None = None) -> Floats:
    """Values on a scale on which samples can be compared by differences, (n, m).

    Parameters
    ----------
    values : ndarray (n, m)
    scale : str
        Counts become log2((count + 0.5) / (library + 1) * 1e6), concentrations log2(x + 1); others stay.
    library : ndarray (n,)
        Library sizes, for counts.
    """
    if scale == "counts" and library is not None:
        counts: Floats = np.log2((values + 0.5) / (library[:, None] + 1.0) * 1e6)
        return counts
    return _shown(values, scale) if scale == "concentration" else values


def distances(sketch: NDArray[Any], quality: Mapping[str, NDArray[Any]]) -> Arrays:
    """How far samples lie from the frozen reference profile.

    Parameters
    ----------
    sketch : ndarray (n, m)
        Values after the chain at the features of `sketch_features`.
    quality : mapping
        ``profile_mean``, ``profile_sd`` (m,).

    Returns
    -------
    dict of ndarray (n,)
        ``distance_to_reference``: root mean square of the z-scores, about 1 for a sample like the reference's.
        ``correlation_to_reference``: Pearson correlation with the mean profile. NaN without values.
    """
    mean, sd = quality["profile_mean"], quality["profile_sd"]
    if sketch.shape[1] != len(mean):
        raise DataError(
            f"the frozen quality profile has {len(mean)} features, and this layer gives {sketch.shape[1]}: these "
            f"parameters belong to another feature space; take those fitted with this layer"
        )
    values = np.asarray(sketch, dtype=np.float64)
    z = (values - mean) / np.where(sd > 0, sd, np.nan)
    known = ~np.isnan(z)
    n = known.sum(axis=1)
    square = np.where(known, z, 0.0) ** 2
    distance = np.sqrt(square.sum(axis=1) / np.where(n > 0, n, np.nan))
    both = ~np.isnan(values) & ~np.isnan(mean)
    count = np.maximum(both.sum(axis=1, keepdims=True), 1)
    x, y = np.where(both, values, 0.0), np.where(both, mean, 0.0)
    x = np.where(both, x - x.sum(axis=1, keepdims=True) / count, 0.0)
    y = np.where(both, y - y.sum(axis=1, keepdims=True) / count, 0.0)
    size = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    correlation = (x * y).sum(axis=1) / np.where(size > 0, size, np.nan)
    return {"distance_to_reference": distance, "correlation_to_reference": correlation}


@_remembered
def chromosomes(annotation: pd.DataFrame) -> NDArray[Any] | None:
    """Chromosome of each feature without "chr", in capitals; None where no column says it."""
    for column in _CHROMOSOME_COLUMNS:
        if column in annotation.columns:
            text = annotation[column].astype("string").str.upper().str.removeprefix("CHR")
            return text.fillna("").to_numpy(dtype=object)
    return None


@_remembered
def sketch_features(annotation: pd.DataFrame) -> NDArray[np.int64]:
    """Positions of the features of a sketch: evenly spaced ones, without those on X and Y."""
    others = _autosomal(annotation)
    at = sketch_index(len(annotation) if others is None else others.size)
    return at if others is None else others[at]


@_remembered
def _autosomal(annotation: pd.DataFrame) -> NDArray[np.int64] | None:
    """Features that are not on X or Y; None for all, where no column says it or none is left.

    Where nine in ten reference samples are of women, a man would stand apart on the others alone.
    """
    where = chromosomes(annotation)
    if where is None:
        return None
    others = np.flatnonzero((where != "X") & (where != "Y")).astype(np.int64)
    return others if 0 < others.size < len(annotation) else None


def _sketch(block: Block) -> Floats:
    values = comparable(block.values[:, sketch_features(block.annotation)], block.scale, _library(block))
    return np.where((block.pending == "")[:, None], values, np.nan)


def _missing(values: Floats) -> Floats:
    share: Floats = count_missing(values) / max(values.shape[1], 1)
    return share


def _shown(values: Floats, scale: str) -> Floats:
    """Counts and concentrations as log2(x + 1): their box plots are unreadable otherwise."""
    return np.log2(np.maximum(values, 0.0) + 1.0) if scale in ("counts", "concentration") else values


def _library(block: Block) -> Floats | None:
    return np.nansum(block.values, axis=1) if block.scale == "counts" else None


def _sex_medians(before: Block, after: Block, done: Floats) -> Arrays:
    """Medians on X and Y, of the values as read: batch steps may have taken the difference away.

    Counts are looked at after the chain where it kept such features: most genes of Y are silent in everyone, and their
    median would be 0; a filter leaves those that are expressed.
    """
    found: Arrays = {}
    sources = ((after, done), (before, before.values))
    for block, values in sources if before.scale == "counts" else sources[1:]:
        where = chromosomes(block.annotation)
        if where is None:
            continue
        for name in ("x", "y"):
            at = np.flatnonzero(where == name.upper())
            if at.size and f"{name}_median" not in found:
                chosen = values[:, at]
                if block.scale == "counts":
                    chosen = comparable(chosen, "counts", _library(block))
                found[f"{name}_median"] = row_medians(chosen)
    return found
