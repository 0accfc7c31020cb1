"""How good predictions of persons unseen are, with intervals that know how many persons there were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.classify.conformal import person_weights
from sjd_dask.errors import DataError
from sjd_dask.kernels.keyed import mixed

FloatArray = NDArray[np.float64]

CALLED = "called"
OUT_OF_DISTRIBUTION = "out_of_distribution"
OVERALL = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "auc",
    "brier",
    "log_loss",
    "calibration_error",
    "coverage",
    "set_size",
    "called",
    "accuracy_of_called",
    "out_of_distribution",
)
BY_CLASS = ("recall", "precision", "auc", "coverage", "called")
SUBGROUP = ("accuracy", "brier", "coverage", "called")
_EPS = float(np.finfo(np.float64).eps)
_BINS = 10
# Numbers held at once while persons are drawn again and again.
_CELLS = 4_000_000
# Distribution function of a Poisson variable of mean 1, as far as a double tells it from 1.
_POISSON = np.cumsum(np.exp(-1) / np.cumprod([1.0, *range(1, 19)]))


@dataclass(frozen=True)
class Judged:
    """Predictions for samples whose class is known.

    Parameters
    ----------
    classes
        Names of the k classes.
    labels
        (n,) index of the true class.
    probabilities
        (n, k); NaN in the row of a sample that has none: it has part in no metric but `called`.
    persons
        (n,) whose sample it is.
    sets
        (n, k) the classes in each sample's conformal set, or None.
    status
        (n,) statuses, of which ``called`` and ``out_of_distribution`` are counted, or None.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.integer[Any]]
    probabilities: FloatArray
    persons: NDArray[Any]
    sets: NDArray[np.bool_] | None = None
    status: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        n, k = np.shape(self.probabilities)
        if k != len(self.classes) or len(self.labels) != n or len(self.persons) != n:
            raise DataError(
                f"probabilities of {n} samples and {k} classes for {len(self.labels)} labels, {len(self.persons)} "
                f"persons and {len(self.classes)} classes: they must be of the same samples and classes"
            )

    def only(self, kept: NDArray[np.bool_]) -> Judged:
        """The samples of `kept`."""
        return replace(
            self,
            labels=self.labels[kept],
            probabilities=self.probabilities[kept],
            persons=self.persons[kept],
            sets=None if self.sets is None else self.sets[kept],
            status=None if self.status is None else self.status[kept],
        )

    @property
    def n_persons(self) -> int:
        return int(np.unique(self.persons.astype(str)).size)


def evaluate(judged: Judged, *, seed: int = 1, n_draws: int = 1000) -> pd.DataFrame:
    """Metrics with 95 % intervals over persons, of all and of each class.

    Parameters
    ----------
    judged
        Predictions of persons that nothing was fitted on.
    seed, n_draws
        Of the bootstrap. The draw of a person hangs on (seed, id, round) alone, not on the order of samples.

    Returns
    -------
    DataFrame
        Columns metric, class (empty: of all), value, low, high, n_samples, n_persons. A person counts once in each
        metric, shared evenly among the samples.

        - accuracy, balanced_accuracy (mean recall of the classes), macro_f1 (mean F1 of the classes)
        - auc: one class against the rest, and their mean; equals count half
        - brier: half the squared distance of the probabilities to the truth, in [0, 1]
        - log_loss: natural logarithm, probabilities kept off 0 and 1 by 2e-16
        - calibration_error: expected calibration error of the top class, 10 bins of equal width
        - coverage, set_size: share of conformal sets that hold the true class, and mean number of classes in them
        - called, accuracy_of_called, out_of_distribution: share of samples with that status, and of right calls
        - recall, precision, coverage, called by class

    Raises
    ------
    DataError
        If there is no sample.

    Notes
    -----
    Intervals are percentiles of a Poisson bootstrap over persons (Oza and Russell 2001): a person's samples are drawn
    together, each person as often as a Poisson variable of mean 1 says. NaN where a metric is not defined.
    """
    if len(judged.labels) == 0:
        raise DataError("no predictions to judge")
    metrics = _Metrics(judged)
    once = metrics(person_weights(judged.persons)[None, :])
    drawn: dict[tuple[str, str], list[FloatArray]] = {key: [] for key in once}
    for weights in draws(judged.persons, seed, n_draws):
        for key, values in metrics(weights).items():
            drawn[key].append(values)
    rows = []
    for (metric, name), value in once.items():
        values = np.concatenate(drawn[metric, name])
        seen = values[np.isfinite(values)]
        low, high = np.percentile(seen, [2.5, 97.5]) if seen.size and np.isfinite(value[0]) else (np.nan, np.nan)
        own = judged if not name else judged.only(judged.labels == judged.classes.index(name))
        rows.append((metric, name, float(value[0]), float(low), float(high), len(own.labels), own.n_persons))
    return pd.DataFrame(rows, columns=["metric", "class", "value", "low", "high", "n_samples", "n_persons"])


def evaluate_subgroups(
    judged: Judged, columns: Mapping[str, NDArray[Any]], *, seed: int = 1, n_draws: int = 1000, fewest: int = 5
) -> pd.DataFrame:
    """Accuracy, Brier score, coverage and share called of the levels of sample columns.

    Parameters
    ----------
    judged
        As for :func:`evaluate`.
    columns
        Name of the column to its values, (n,); missing ones are a level ``missing``.
    fewest
        Levels of fewer persons get no numbers, and their counts are missing too.

    Returns
    -------
    DataFrame
        Columns column, level, and those of :func:`evaluate` but class. Levels in order of name.
    """
    parts = []
    for column, values in columns.items():
        named = np.array(["missing" if pd.isna(value) else str(value) for value in values], dtype=object)
        for level in sorted(set(named)):
            own = judged.only(named == level)
            if own.n_persons < fewest:
                found = pd.DataFrame({"metric": SUBGROUP, "value": np.nan, "low": np.nan, "high": np.nan})
                found["n_samples"] = found["n_persons"] = pd.array([pd.NA] * len(found), dtype="Int64")
            else:
                found = evaluate(own, seed=seed, n_draws=n_draws)
                found = found[(found["class"] == "") & found["metric"].isin(SUBGROUP)].drop(columns="class")
                found = found.astype({"n_samples": "Int64", "n_persons": "Int64"})
            parts.append(found.assign(column=column, level=level))
    order = ["column", "level", "metric", "value", "low", "high", "n_samples", "n_persons"]
    return pd.concat(parts, ignore_index=True)[order] if parts else pd.DataFrame(columns=order)


def reliability(judged: Judged, n_bins: int = _BINS) -> pd.DataFrame:
    """How often a class is true where its probability is said to be so large.

    Returns
    -------
    DataFrame
        One row for each class and each bin of equal width that holds a sample: class, low, high, mean_probability,
        observed (share of persons of the class, a person counting once), observed_low, observed_high (Wilson's 95 %
        interval for as many persons), n_samples, n_persons.
    """
    weights = person_weights(judged.persons)
    persons = judged.persons.astype(str)
    rows = []
    for c, name in enumerate(judged.classes):
        p = judged.probabilities[:, c]
        bins = np.where(np.isnan(p), -1, np.minimum((np.nan_to_num(p) * n_bins).astype(int), n_bins - 1))
        for b in range(n_bins):
            inside = bins == b
            if not inside.any():
                continue
            w = weights[inside] / weights[inside].sum()
            n = np.unique(persons[inside]).size
            observed = float(w @ (judged.labels[inside] == c))
            low, high = _wilson(observed, n)
            mean = float(w @ p[inside])
            rows.append((name, b / n_bins, (b + 1) / n_bins, mean, observed, low, high, int(inside.sum()), n))
    names = ["class", "low", "high", "mean_probability", "observed", "observed_low", "observed_high"]
    return pd.DataFrame(rows, columns=[*names, "n_samples", "n_persons"])


@dataclass(frozen=True)
class Difference:
    """Mean difference of a loss between two predictions of the same samples, with its standard error over persons."""

    value: float
    standard_error: float
    n_persons: int


def brier_difference(judged: Judged, other: FloatArray) -> Difference:
    """Brier score of `judged` less that of the probabilities `other` (n, k) for the same samples; a person counts once.

    Raises
    ------
    DataError
        If fewer than two persons have both.
    """
    truth = np.eye(len(judged.classes))[judged.labels]
    ours = ((judged.probabilities - truth) ** 2).sum(axis=1) / 2
    theirs = ((np.asarray(other, dtype=np.float64) - truth) ** 2).sum(axis=1) / 2
    by_person = pd.Series(ours - theirs).groupby(judged.persons.astype(str)).mean().dropna()
    n = len(by_person)
    if n < 2:
        raise DataError(f"{n} persons have both predictions: a standard error needs two or more")
    return Difference(float(by_person.mean()), float(by_person.std(ddof=1) / np.sqrt(n)), n)


def draws(persons: NDArray[Any], seed: int, n_draws: int) -> Iterator[FloatArray]:
    """Weights of the samples in draws of persons, in pieces (rounds, n): Poisson counts over the person's samples."""
    names, which = np.unique(np.asarray(persons, dtype=object).astype(str), return_inverse=True)
    keys = pd.util.hash_array(names.astype(object))
    weights = person_weights(persons)
    step = max(1, _CELLS // max(1, which.size))
    for start in range(0, n_draws, step):
        rounds = range(start, min(start + step, n_draws))
        counts = np.empty((len(rounds), names.size))
        for at, number in enumerate(rounds):
            random = mixed(keys, np.array([seed, number], dtype=np.uint64)) / 2.0**64
            counts[at] = np.searchsorted(_POISSON, random, side="right")
        yield counts[:, which] * weights


class _Metrics:
    """All metrics for many weightings of the same samples at once: what doesn't hang on the weights is made first."""

    def __init__(self, judged: Judged) -> None:
        self.judged = judged
        k = len(judged.classes)
        self.known = ~np.isnan(judged.probabilities).any(axis=1)
        self.truth = np.eye(k)[judged.labels]
        p = np.where(self.known[:, None], judged.probabilities, 0.0)
        self.top = np.eye(k)[np.argmax(p, axis=1)] * self.known[:, None]
        own = p[np.arange(len(p)), judged.labels]
        self.brier = ((p - self.truth) ** 2).sum(axis=1) / 2
        self.log_loss = -np.log(np.clip(own, _EPS, 1 - _EPS))
        self.confidence = p.max(axis=1)
        self.bins = np.eye(_BINS)[np.minimum((self.confidence * _BINS).astype(int), _BINS - 1)]
        self.ranks = [_Ranks(p[self.known, c], self.truth[self.known, c] > 0) for c in range(k)]

    def __call__(self, weights: FloatArray) -> dict[tuple[str, str], FloatArray]:
        """Metric and class to its value in each of the (rounds, n) weightings."""
        judged, truth = self.judged, self.truth
        all_samples, known = weights, weights * self.known
        total = known.sum(axis=1)
        right = (self.top * truth).sum(axis=1)
        by_class, hits, called_as = known @ truth, known @ (self.top * truth), known @ self.top
        recall, precision = _over(hits, by_class), _over(hits, called_as)
        f1 = _over(2 * hits, by_class + called_as)
        auc = np.column_stack([ranks(known[:, self.known]) for ranks in self.ranks])
        out = {
            ("accuracy", ""): _over(known @ right, total),
            ("balanced_accuracy", ""): recall.mean(axis=1),
            ("macro_f1", ""): f1.mean(axis=1),
            ("auc", ""): auc.mean(axis=1),
            ("brier", ""): _over(known @ self.brier, total),
            ("log_loss", ""): _over(known @ self.log_loss, total),
            ("calibration_error", ""): self._calibration_error(known, right, total),
        }
        separate = {"recall": recall, "precision": precision, "auc": auc}
        if judged.sets is not None:
            held = (judged.sets * truth).sum(axis=1)
            out["coverage", ""] = _over(known @ held, total)
            out["set_size", ""] = _over(known @ judged.sets.sum(axis=1), total)
            separate["coverage"] = _over(known @ (held[:, None] * truth), by_class)
        if judged.status is not None:
            everybody = all_samples.sum(axis=1)
            called = (judged.status == CALLED).astype(np.float64)
            out["called", ""] = _over(all_samples @ called, everybody)
            out["accuracy_of_called", ""] = _over(known @ (called * right), known @ called)
            strange = (judged.status == OUT_OF_DISTRIBUTION).astype(np.float64)
            out["out_of_distribution", ""] = _over(all_samples @ strange, everybody)
            separate["called"] = _over(all_samples @ (called[:, None] * truth), all_samples @ truth)
        for metric, values in separate.items():
            out.update({(metric, name): values[:, c] for c, name in enumerate(judged.classes)})
        return out

    def _calibration_error(self, weights: FloatArray, right: FloatArray, total: FloatArray) -> FloatArray:
        # |sum over a bin of (right - confidence)|, over bins: their weights cancel.
        return _over(np.abs(weights @ (self.bins * (right - self.confidence)[:, None])).sum(axis=1), total)


class _Ranks:
    """Area under the curve of one class against the rest for many weightings; equal scores count half."""

    def __init__(self, scores: FloatArray, positive: NDArray[np.bool_]) -> None:
        self.order = np.argsort(scores, kind="stable")
        ordered = scores[self.order]
        self.starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if scores.size else np.empty(0, int)
        self.positive = positive[self.order].astype(np.float64)

    def __call__(self, weights: FloatArray) -> FloatArray:
        if self.starts.size == 0:
            return np.full(len(weights), np.nan)
        ordered = weights[:, self.order]
        positive = np.add.reduceat(ordered * self.positive, self.starts, axis=1)
        negative = np.add.reduceat(ordered * (1 - self.positive), self.starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative / 2
        return _over((positive * below).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))


def _over(top: FloatArray, bottom: FloatArray) -> FloatArray:
    """top / bottom, NaN where bottom is 0."""
    return np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom > 0)


def _wilson(share: float, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    return max(0.0, middle - half), min(1.0, middle + half)
