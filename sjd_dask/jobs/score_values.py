"""From values to scores: some samples through a restricted chain and a classifier, each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.designs.labels import label_text
from sjd_dask.errors import DataError
from sjd_dask.normalise.method import PENDING_BATCH, Arrays
from sjd_dask.normalise.restrict import Restricted

if TYPE_CHECKING:
    from sjd_dask.classify.classifier import Classifier
    from sjd_dask.classify.reference import Reference

Floats = NDArray[np.float64]
# How the reason of a sample begins that has an empty cell in a column of the chain, and of one that a step refuses.
NO_LABEL, REFUSED = "without ", "refused"


@dataclass(frozen=True, eq=False)
class Watch:
    """What is counted of the values while they are at hand.

    Attributes
    ----------
    reference : Reference
        The model's; its features are among those that the classifier takes.
    groups : ndarray of int64, shape (n,)
        Batch of each sample of the reader, from 0; negative: not counted.
    n_groups : int
    """

    reference: Reference
    groups: NDArray[np.int64]
    n_groups: int


@dataclass
class Scored:
    """What is known of some samples.

    Attributes
    ----------
    arrays : dict of ndarray
        ``probabilities`` (n, k), ``confidence``, ``ood_score`` (n,) of float64; ``top`` (n,) of int64, -1 without
        probabilities; ``conformal`` (n, k) of bool; ``n_missing`` (n,) of int64, -1 where nothing was looked at;
        ``status``, ``reason`` (n,) of str objects.
    values : ndarray of float64, shape (n, q)
        What the classifier was given; NaN for samples without values.
    """

    arrays: Arrays
    values: Floats


def empty_scores(n: int, n_classes: int) -> Arrays:
    """Arrays of samples of which nothing is known yet; see `Scored`."""
    return {
        "probabilities": np.full((n, n_classes), np.nan),
        "top": np.full(n, -1, dtype=np.int64),
        "confidence": np.full(n, np.nan),
        "conformal": np.zeros((n, n_classes), dtype=bool),
        "ood_score": np.full(n, np.nan),
        "n_missing": np.full(n, -1, dtype=np.int64),
        "status": np.full(n, "", dtype=object),
        "reason": np.full(n, "", dtype=object),
    }


@dataclass
class Collected:
    """Scores of blocks in any order, put where their samples belong."""

    sample_ids: Sequence[str]
    classifier: Classifier
    arrays: Arrays = field(init=False)

    def __post_init__(self) -> None:
        self.arrays = {
            names.SAMPLE_ID: np.array(self.sample_ids, dtype=object),
            **empty_scores(len(self.sample_ids), len(self.classifier.classes)),
        }

    def put(self, places: NDArray[np.int64], scored: Scored) -> None:
        """Take the scores of the samples at these places."""
        for name, value in scored.arrays.items():
            self.arrays[name][places] = value


def score_values(
    restricted: Restricted,
    classifier: Classifier,
    values: Floats,
    sample_ids: tuple[str, ...],
    sheet: pd.DataFrame,
    columns: NDArray[np.int64] | None = None,
) -> Scored:
    """Score samples whose source values are at hand.

    Parameters
    ----------
    restricted : Restricted
    classifier : Classifier
    values : ndarray of float64, shape (n, m)
        Values of `restricted.source_ids`; NaN is missing.
    sample_ids : tuple of str
    sheet : DataFrame
        `restricted.columns` of the samples.
    columns : ndarray of int64, shape (m,), optional
        Negative where a feature is not there at all.

    Returns
    -------
    Scored
        A sample of a batch without parameters, or without a label that the chain needs, is ``pending_batch``. One that
        a step puts off or refuses is ``missing_data``; `reason` says why. The others are as the classifier has them.
    """
    n, q = len(sample_ids), len(restricted.feature_ids)
    found = empty_scores(n, len(classifier.classes))
    pending = _without_labels(sheet, restricted.columns)
    taken = np.full((n, q), np.nan)
    pending = _apply(restricted, values, sample_ids, sheet, pending, taken)
    if columns is not None:
        taken[:, columns[restricted.of] < 0] = np.nan
    active = np.flatnonzero(pending == "")
    taken[pending != ""] = np.nan
    if active.size:
        made = classifier.predict(taken if active.size == n else taken[active])
        for name in ("probabilities", "confidence", "conformal", "ood_score", "n_missing", "status"):
            found[name][active] = getattr(made, name)
        found["top"][active] = np.where(np.isnan(made.confidence), -1, made.top)
    held = np.flatnonzero(pending != "")
    found["reason"][held] = pending[held]
    waits = np.array([one == PENDING_BATCH or one.startswith(NO_LABEL) for one in pending[held]], dtype=bool)
    found["status"][held] = np.where(waits, names.PENDING_BATCH, names.MISSING_DATA)
    return Scored(found, taken)


def _without_labels(sheet: pd.DataFrame, columns: Sequence[str]) -> NDArray[Any]:
    """Why a sample must wait: the columns of the chain in which its cell is empty."""
    pending = np.full(len(sheet), "", dtype=object)
    for name in columns:
        empty = np.array([label_text(one).strip() == "" for one in sheet[name]], dtype=bool)
        pending[empty & (pending == "")] = f"{NO_LABEL}{name}"
    return pending


def _apply(
    restricted: Restricted,
    values: Floats,
    sample_ids: tuple[str, ...],
    sheet: pd.DataFrame,
    pending: NDArray[Any],
    out: Floats,
) -> NDArray[Any]:
    """Fill `out` with the classifier's values and give why samples have none.

    Where a step refuses the block, halves are tried until the samples that it refuses stand alone: one sample's error
    is no reason to leave the others without an answer.
    """
    try:
        block = restricted.apply(values, sample_ids, sheet, pending)
    except DataError as error:
        if len(sample_ids) == 1:
            return np.array([f"{REFUSED}: {error}"], dtype=object)
        half = len(sample_ids) // 2
        parts = [slice(0, half), slice(half, None)]
        return np.concatenate(
            [_apply(restricted, values[one], sample_ids[one], sheet.iloc[one], pending[one], out[one]) for one in parts]
        )
    out[:] = block.values
    return block.pending


def count_values(watch: Watch, places: NDArray[np.int64], scored: Scored, classifier: Classifier) -> NDArray[np.int64]:
    """Counts of the values of some samples in the bins of the model's reference, (n_groups, p, bins + 1).

    Samples that wait for their batch are left out; of one that a step refused every value counts as missing.
    """
    at = pd.Index(classifier.features).get_indexer(pd.Index(list(watch.reference.features), dtype=object))
    if (at < 0).any():
        raise DataError("the model's reference watches features that its classifier doesn't take: train it again")
    groups = np.where(scored.arrays["status"] == names.PENDING_BATCH, -1, watch.groups[places])
    counted: NDArray[np.int64] = watch.reference.histograms(scored.values[:, at], groups, watch.n_groups)
    return counted
