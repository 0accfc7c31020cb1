"""Sets of classes that hold the true one with a stated probability."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sjd_dask.errors import DataError

FloatArray = NDArray[np.float64]

# Sums of person weights are counted as reached within this, so that 9 times 1/10 isn't below 0.9.
_TOLERANCE = 1e-9


def person_weights(persons: NDArray[Any]) -> FloatArray:
    """1 / number of the person's samples, so that each person counts once, (n,)."""
    _, which, counts = np.unique(np.asarray(persons, dtype=object).astype(str), return_inverse=True, return_counts=True)
    weights: FloatArray = 1.0 / counts[which]
    return weights


def fit_threshold(
    probabilities: FloatArray, labels: NDArray[np.integer[Any]], persons: NDArray[Any], coverage: float
) -> float:
    """The probability from which a class is in a sample's set.

    Parameters
    ----------
    probabilities
        (n, k) calibrated probabilities of samples that neither the model nor the calibrator was fitted on.
    labels
        (n,) index of the true class.
    persons
        (n,) whose sample it is: a person counts once, shared evenly among the samples.
    coverage
        In (0, 1): the probability that the set of a new person's sample holds the true class.

    Returns
    -------
    float
        The largest t such that true classes with probability >= t make up a share `coverage` of N + 1 persons, of N
        that are here (the one that is to come counts as not held). 0, so that every class is in every set, where N is
        too small for that: ``N < coverage / (1 - coverage)``.

    Raises
    ------
    DataError
        If `coverage` is not between 0 and 1, there is no sample, or a probability is missing.

    Notes
    -----
    Least ambiguous sets (Sadinle, Lei and Wasserman 2019), with the threshold of split conformal prediction for
    clustered data (Lee, Barber and Willett 2023). If the persons are exchangeable with the new one, and the
    probabilities are of one model fitted on others, the set holds the true class with probability >= `coverage`, over
    the draw of persons, for a randomly chosen sample of the new person. Probabilities pooled over folds
    (cross-conformal, Vovk 2015) have each been made by a model of fewer persons than the final one; there the
    guarantee is not exact, and outer folds show what it is.
    """
    if not 0 < coverage < 1:
        raise DataError(f"coverage {coverage} is not between 0 and 1: 0.9 means that 90 % of sets hold the true class")
    probabilities = np.asarray(probabilities, dtype=np.float64)
    labels = np.asarray(labels)
    if labels.size == 0:
        raise DataError("no samples to set the conformal threshold on")
    own = probabilities[np.arange(labels.size), labels]
    if np.isnan(own).any():
        raise DataError(f"{int(np.isnan(own).sum())} of {own.size} samples have no probability of their own class")
    weights = person_weights(persons)
    return upper_share(own, weights, coverage, beyond=0.0)


def fewest_persons(coverage: float) -> int:
    """The fewest persons whose threshold leaves any class out of any set: N >= coverage / (1 - coverage)."""
    return max(1, int(np.ceil((coverage - _TOLERANCE) / (1 - coverage))))


def upper_share(values: FloatArray, weights: FloatArray, share: float, beyond: float) -> float:
    """The largest of `values` with weight >= share (W + 1) at or above it, W the sum of weights; else `beyond`."""
    order = np.lexsort((weights, values))[::-1]
    reached = np.cumsum(weights[order]) >= share * (round(float(weights.sum()), 6) + 1) - _TOLERANCE
    if not reached.any():
        return beyond
    return float(values[order][int(np.argmax(reached))])


def sets(probabilities: FloatArray, threshold: float) -> NDArray[np.bool_]:
    """Which classes are in each sample's set, (n, k); none where the probabilities are missing."""
    return np.asarray(probabilities, dtype=np.float64) >= threshold
