"""The frozen reference of a classifier: how its panel's values and its scores lay when it was trained, as counts.

It is made once, at training, and stored in the bundle as plain arrays. The watch of every night counts in the same
bins, so only small tables of whole numbers leave a scoring task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.errors import DataError
from sjd_dask.kernels.drift import bin_counts, quantile_edges

# Fine bins follow the Kolmogorov-Smirnov statistic; the stability index takes ten of them together.
MOST_BINS: Final = 100
MERGED_BINS: Final = 10
# Fewer values than this in a bin would tell where single persons lie.
FEWEST_IN_BIN: Final = 5
CONFIDENCE, OOD_SCORE = "confidence", "ood_score"
# Shares of statuses that are watched.
SHARES: Final = (names.ABSTAINED, names.OUT_OF_DISTRIBUTION, names.MISSING_DATA)
_FORMAT = 1


@dataclass(frozen=True)
class Reference:
    """Counts of a classifier's reference samples in bins of their own quantiles.

    Attributes
    ----------
    features : tuple of str
        Ids of the features watched: the columns that :meth:`histograms` takes.
    scores : tuple of str
        ``p_<class>`` of every class, ``confidence``, ``ood_score``: those that were given.
    edges : ndarray of float64 (p + s, b - 1)
        Inner edges of the bins, features first.
    counts : ndarray of int64 (p + s, b + 1)
        Counts; the last column counts missing values.
    n_samples, n_persons : int
    statuses : dict
        Samples of each status of ``SHARES``; empty where they aren't known.
    """

    features: tuple[str, ...]
    scores: tuple[str, ...]
    edges: np.ndarray
    counts: np.ndarray
    n_samples: int
    n_persons: int
    statuses: dict[str, int]

    @property
    def n_bins(self) -> int:
        return int(self.edges.shape[1]) + 1

    def histograms(self, values: np.ndarray, groups: np.ndarray | None = None, n_groups: int = 1) -> np.ndarray:
        """Counts of new samples in the bins of the features.

        Parameters
        ----------
        values : ndarray of float (n, p)
            In the order of ``features``, NaN is missing: what the classifier is given.
        groups : ndarray of int (n,), optional
            Batch of each sample, from 0; negative: not counted. Default: all are one group.
        n_groups : int

        Returns
        -------
        ndarray of int64 (n_groups, p, b + 1)
            Counts of parts of the samples add up to those of all.
        """
        p = len(self.features)
        return self._count(values, self.edges[:p], groups, n_groups)

    def score_histograms(
        self, predictions: pd.DataFrame, groups: np.ndarray | None = None, n_groups: int = 1
    ) -> np.ndarray:
        """Counts of new samples in the bins of the scores: as :meth:`histograms`, from columns called as ``scores``."""
        absent = [name for name in self.scores if name not in predictions]
        if absent:
            raise DataError(f"the predictions have no column {', '.join(absent)}, which the model's reference watches")
        values = predictions[list(self.scores)].to_numpy(dtype=np.float64, na_value=np.nan)
        return self._count(values, self.edges[len(self.features) :], groups, n_groups)

    def _count(self, values: np.ndarray, edges: np.ndarray, groups: np.ndarray | None, n_groups: int) -> np.ndarray:
        values = np.asarray(values, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != edges.shape[0]:
            raise DataError(f"values of shape {values.shape}, and the reference has {edges.shape[0]} columns")
        codes = np.zeros(len(values), dtype=np.int64) if groups is None else np.asarray(groups, dtype=np.int64)
        found: np.ndarray = bin_counts(values, np.ascontiguousarray(edges), codes, n_groups)
        return found

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays, without objects: for an ``.npz`` that is read with ``allow_pickle=False``."""
        return {
            "format": np.array([_FORMAT]),
            "features": np.array(self.features, dtype=np.str_),
            "scores": np.array(self.scores, dtype=np.str_),
            "edges": self.edges,
            "counts": self.counts,
            "persons": np.array([self.n_samples, self.n_persons]),
            "statuses": np.array([self.statuses.get(name, -1) for name in SHARES]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Reference:
        """What :meth:`to_arrays` gave.

        Raises
        ------
        DataError
            An array is absent, or they don't fit each other.
        """
        wanted = ("format", "features", "scores", "edges", "counts", "persons", "statuses")
        absent = [name for name in wanted if name not in arrays]
        if absent:
            raise DataError(f"the reference of the model lacks {', '.join(absent)}; train the model again")
        if int(arrays["format"][0]) > _FORMAT:
            raise DataError(
                f"the reference of the model has format {int(arrays['format'][0])}, and this version of sjd-dask knows "
                f"{_FORMAT}; install a newer sjd-dask"
            )
        features, scores = (tuple(str(one) for one in arrays[name]) for name in ("features", "scores"))
        edges, counts = np.asarray(arrays["edges"], np.float64), np.asarray(arrays["counts"], np.int64)
        n = len(features) + len(scores)
        if edges.shape[0] != n or counts.shape != (n, edges.shape[1] + 2):
            raise DataError(
                f"the reference of the model names {n} variables, and its bins are of shape {edges.shape} and its "
                f"counts of shape {counts.shape}; train the model again"
            )
        known = {name: int(k) for name, k in zip(SHARES, arrays["statuses"], strict=True) if k >= 0}
        n_samples, n_persons = (int(one) for one in arrays["persons"])
        return cls(features, scores, edges, counts, n_samples, n_persons, known)


def reference_histograms(
    values: np.ndarray,
    features: Sequence[str],
    scores: Mapping[str, np.ndarray],
    *,
    persons: Sequence[str],
    statuses: Sequence[str] | None = None,
) -> Reference:
    """Freeze how values and scores lie among the samples a model was made for.

    Give all samples that have a label, not the core ones alone: the watch compares whoever arrives with them, and core
    samples lie closer together. Scores must come from fits that had not seen the person, as the outer folds of a
    nested cross-validation give them: scores of training samples are too sure, and every night would seem to have
    drifted.

    Parameters
    ----------
    values : ndarray of float (n, p)
        Values as the classifier is given them; NaN is missing.
    features : sequence of str (p,)
        Their ids; the panel is what is worth watching.
    scores : mapping of ndarray (n,)
        ``p_<class>``, ``confidence``, ``ood_score``: any of them; NaN where a sample has none.
    persons : sequence of str (n,)
        What chance can do is judged by the number of persons: visits of one person are alike.
    statuses : sequence of str (n,), optional
        Status of each sample by out-of-fold scores; without it shares of abstention aren't watched.

    Returns
    -------
    Reference

    Notes
    -----
    Edges of features and of ``ood_score`` are quantiles of the samples given: single values of single features, in
    bins of five samples and more; no row of a sample, no least and no largest value is kept.

    Models of folds have seen fewer persons than the final one, so probabilities of the latter are a little sharper:
    0.99 in place of 0.97 would be another quantile and is no drift. So ``confidence`` is counted in bins of equal
    width, and ``p_<class>`` above and below one half.

    Raises
    ------
    DataError
        Fewer than ten samples, or lengths that differ.
    """
    values = np.asarray(values, dtype=np.float64)
    n = len(persons)
    columns = [np.asarray(one, dtype=np.float64) for one in scores.values()]
    if values.shape != (n, len(features)) or any(one.shape != (n,) for one in columns):
        raise DataError(f"a reference of {n} samples and {len(features)} features was given values of {values.shape}")
    if n < 2 * FEWEST_IN_BIN:
        raise DataError(f"a reference for the watch of drift needs {2 * FEWEST_IN_BIN} samples, and there are {n}")
    table = np.column_stack([values, *columns]) if columns else values
    edges = quantile_edges(table, _n_bins(n))
    for j, name in enumerate(scores, start=len(features)):
        fixed = _fixed_edges(name, edges.shape[1])
        edges[j] = edges[j] if fixed is None else fixed
    counts = bin_counts(table, edges, np.zeros(n, dtype=np.int64), 1)[0]
    known = {} if statuses is None else {name: sum(one == name for one in statuses) for name in SHARES}
    return Reference(tuple(features), tuple(scores), edges, counts, n, len(set(persons)), known)


def _fixed_edges(name: str, n_edges: int) -> np.ndarray | None:
    """Edges of a score that don't hang on the samples; None where they do."""
    if name == CONFIDENCE:
        return np.arange(1, n_edges + 1) / (n_edges + 1)
    return np.full(n_edges, 0.5) if name.startswith(names.PROBABILITY) else None


def _n_bins(n: int) -> int:
    """Fine bins of at least five samples, a multiple of the merged ones where there are enough."""
    most = min(MOST_BINS, n // FEWEST_IN_BIN)
    return most // MERGED_BINS * MERGED_BINS or most
