"""From a classifier's scores to probabilities that mean what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sjd_dask.errors import DataError
from sjd_dask.kernels.calibration import (
    isotonic_columns,
    log_odds_rows,
    log_rows,
    one_against_rest,
    sigmoid_columns,
    softmax_rows,
)

FloatArray = NDArray[np.float64]
Method = Literal["sigmoid", "isotonic", "temperature", "none"]
Scale = Literal["logits", "probabilities"]

# Bounds of the log of the inverse temperature, and what is added before a logarithm of a probability: scikit-learn's.
_LOG_BETA = 10.0
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Calibrator:
    """Frozen calibration of the scores of `n_classes` classes.

    Parameters
    ----------
    method
        How it was fitted; ``none`` gives the classifier's own probabilities.
    scale
        What the scores are: ``logits`` (decision values or log-probabilities: their softmax is the classifier's own
        probabilities) or ``probabilities``.
    n_classes
        Number of classes k.
    parameters
        Named arrays: ``slope``, ``intercept``, ``low``, ``high`` (sigmoid, one per fitted column), ``x``, ``y``,
        ``starts`` (isotonic), ``inverse_temperature``.
    """

    method: Method
    scale: Scale
    n_classes: int
    parameters: Mapping[str, NDArray[Any]]

    def apply(self, scores: FloatArray) -> FloatArray:
        """Probabilities (n, k), rows summing to 1; a row with a missing score is all NaN.

        A row's numbers depend on that row alone, to the last bit.
        """
        scores = _checked(scores, self.n_classes)
        missing = np.isnan(scores).any(axis=1)
        if self.method == "none":
            out = softmax_rows(scores, 1.0) if self.scale == "logits" else one_against_rest(*self._own(scores))
        elif self.method == "temperature":
            out = softmax_rows(_logits(scores, self.scale), float(self.parameters["inverse_temperature"]))
        else:
            columns = _columns(scores, self.scale, self.method)
            named = self.parameters
            if self.method == "sigmoid":
                single = sigmoid_columns(columns, *(named[name] for name in _NEEDS["sigmoid"]))
            else:
                single = isotonic_columns(columns, named["x"], named["y"], named["starts"])
            out = one_against_rest(single, self.n_classes)
        out[missing] = np.nan
        return out

    def _own(self, scores: FloatArray) -> tuple[FloatArray, int]:
        return (np.ascontiguousarray(scores[:, 1:]) if self.n_classes == 2 else scores), self.n_classes

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything as named arrays without objects, for a file that needs no pickle."""
        facts = {"method": np.array(self.method), "scale": np.array(self.scale), "n_classes": np.array(self.n_classes)}
        return {**facts, **{f"parameter_{name}": array for name, array in self.parameters.items()}}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Calibrator:
        """The calibrator of :meth:`to_arrays`.

        Raises
        ------
        DataError
            If an array is missing or the method is none of the known ones.
        """
        try:
            method, scale = str(arrays["method"]), str(arrays["scale"])
            n_classes = int(arrays["n_classes"])
            parameters = {name: np.asarray(arrays[f"parameter_{name}"]) for name in _NEEDS[method]}
        except KeyError as error:
            raise DataError(f"the calibrator in this bundle has no {error}: train the model again") from None
        if scale not in get_args(Scale):
            raise DataError(f"the calibrator in this bundle has scores of the unknown scale {scale!r}")
        return cls(method, scale, n_classes, parameters)  # type: ignore[arg-type]


_NEEDS: dict[str, tuple[str, ...]] = {
    "sigmoid": ("slope", "intercept", "low", "high"),
    "isotonic": ("x", "y", "starts"),
    "temperature": ("inverse_temperature",),
    "none": (),
}


def fit_calibrator(
    scores: FloatArray,
    labels: NDArray[np.integer[Any]],
    weights: FloatArray | None = None,
    method: Method = "sigmoid",
    *,
    scale: Scale = "logits",
) -> Calibrator:
    """Fit the calibration of scores that were made for samples the scoring model had not seen.

    Parameters
    ----------
    scores
        (n, k) out-of-fold scores, finite: on the scale `scale`, one column per class.
    labels
        (n,) index of the true class.
    weights
        (n,) weight of each sample, > 0 (for instance 1 / number of the person's samples); None for ones. Only their
        ratios count: they are scaled to mean 1.
    method
        ``sigmoid`` (Platt 1999, with his smoothed targets), ``isotonic`` (Zadrozny and Elkan 2002), both one class
        against the rest and scaled to sum 1; ``temperature`` (Guo and others 2017); ``none``.
    scale
        What the scores are, see :class:`Calibrator`.

    Returns
    -------
    Calibrator
        As scikit-learn's ``CalibratedClassifierCV(ensemble=False)`` would fit on the same scores: for isotonic and two
        classes the second class's score less the first's on ``logits``, its probability on ``probabilities``. For
        sigmoid the scores are each class's log-odds against the rest, within limits, see notes.

    Raises
    ------
    DataError
        If a score is not finite, or a class has no sample.

    Notes
    -----
    Platt's targets are (N+ + 1) / (N+ + 2) and 1 / (N- + 2), not 1 and 0, for N+ samples of a class and N- of the rest.
    Log-odds beyond what these targets say, log(N+ + 1) and -log(N- + 1), therefore count as these: so many samples
    can't tell more, and a straight line through surer scores would flatten the sigmoid for all others. Scores that are
    well calibrated already stay as they are.

    ``isotonic`` can give probabilities of exactly 0 or 1 and wants some hundreds of samples in each class.
    """
    if method not in _NEEDS:
        raise DataError(f"no calibration method {method!r}: choose one of {', '.join(_NEEDS)}")
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise DataError(f"scores of shape {scores.shape}: calibration needs (samples, classes), two classes or more")
    n_classes = scores.shape[1]
    scores = _checked(scores, n_classes)
    labels = np.asarray(labels)
    weights = np.ones(labels.size) if weights is None else np.asarray(weights, dtype=np.float64)
    # Platt's targets are smoothed by one part in the sum of weights. Were persons with many samples to sum to 1, a few
    # dozen persons would flatten the sigmoid for hundreds of clear samples.
    weights = weights * (weights.size / weights.sum())
    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores).all(axis=1)).sum())
        raise DataError(f"{bad} of {len(scores)} samples have scores that are not finite: calibration can't use them")
    counts = np.bincount(labels, minlength=n_classes)
    if counts.size != n_classes or (counts == 0).any():
        raise DataError(f"samples per class {counts.tolist()} for {n_classes} classes: calibration needs each of them")
    parameters: dict[str, NDArray[Any]] = {}
    if method == "temperature":
        parameters["inverse_temperature"] = np.array(_temperature(_logits(scores, scale), labels, weights))
    elif method != "none":
        columns = _columns(scores, scale, method)
        # Of two classes the second alone is fitted.
        classes = [1] if n_classes == 2 else list(range(n_classes))
        truth = [(labels == which).astype(np.float64) for which in classes]
        if method == "sigmoid":
            parameters = _sigmoid(columns, truth, weights)
        else:
            parameters = _isotonic(columns, truth, weights)
    return Calibrator(method, scale, n_classes, parameters)


def cross_calibrated(
    scores: FloatArray,
    labels: NDArray[np.integer[Any]],
    folds: NDArray[np.integer[Any]],
    weights: FloatArray | None = None,
    method: Method = "sigmoid",
    *,
    scale: Scale = "logits",
) -> FloatArray:
    """Probabilities of each sample by a calibrator fitted on the other folds, (n, k).

    A threshold set on these has not seen its own sample in the calibrator either. Parameters as in
    :func:`fit_calibrator`; `folds` (n,) says which fold a sample is in, and no person may be in two.

    Raises
    ------
    DataError
        If the samples outside some fold lack a class.
    """
    labels, folds = np.asarray(labels), np.asarray(folds)
    weights = np.ones(labels.size) if weights is None else np.asarray(weights, dtype=np.float64)
    out = np.empty((labels.size, np.shape(scores)[1]))
    for fold in np.unique(folds):
        held = folds == fold
        calibrator = fit_calibrator(scores[~held], labels[~held], weights[~held], method, scale=scale)
        out[held] = calibrator.apply(scores[held])
    return out


def platt(scores: FloatArray, truth: FloatArray, weights: FloatArray) -> tuple[float, float]:
    """Slope a and intercept b of P(true) = 1 / (1 + exp(a s + b)), by maximum likelihood of Platt's smoothed targets.

    Newton's method with halved steps as in Lin, Lin and Weng (2007), "A note on Platt's probabilistic outputs for
    support vector machines"; the scores are centred and scaled first, which changes the answer by rounding only.
    """
    positive = float(weights[truth > 0].sum())
    negative = float(weights[truth <= 0].sum())
    target = np.where(truth > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))
    centre, spread = float(scores.mean()), float(scores.std())
    if not spread > 1e-12 * max(1.0, abs(centre)):
        # Scores that don't differ say nothing: everyone has the share of the targets.
        share = float((weights * target).sum() / weights.sum())
        return 0.0, float(np.log((1 - share) / share))
    x = np.column_stack([(scores - centre) / spread, np.ones(scores.size)])
    ab = np.array([0.0, np.log((negative + 1) / (positive + 1))])

    def loss(ab: FloatArray) -> float:
        z = x @ ab
        return float((weights * (np.logaddexp(0, z) - (1 - target) * z)).sum())

    best = loss(ab)
    for _ in range(100):
        p = 1 / (1 + np.exp(np.clip(x @ ab, -700, 700)))
        gradient = x.T @ (weights * (target - p))
        hessian = (x * (weights * p * (1 - p))[:, None]).T @ x + 1e-12 * np.eye(2)
        step = -np.linalg.solve(hessian, gradient)
        size = 1.0
        while loss(ab + size * step) > best + 1e-4 * size * float(gradient @ step) and size > 1e-10:
            size /= 2
        if size <= 1e-10:
            break
        ab = ab + size * step
        best = loss(ab)
        if np.abs(gradient).max() <= 1e-10 * max(1.0, float(weights.sum())):
            break
    slope = float(ab[0] / spread)
    return slope, float(ab[1] - slope * centre)


def _sigmoid(columns: FloatArray, truth: list[FloatArray], weights: FloatArray) -> dict[str, NDArray[Any]]:
    rows = []
    for c, own in enumerate(truth):
        low = -float(np.log(weights[own <= 0].sum() + 1))
        high = float(np.log(weights[own > 0].sum() + 1))
        rows.append((*platt(np.clip(columns[:, c], low, high), own, weights), low, high))
    found = np.array(rows)
    return {name: found[:, i].copy() for i, name in enumerate(_NEEDS["sigmoid"])}


def _isotonic(columns: FloatArray, truth: list[FloatArray], weights: FloatArray) -> dict[str, NDArray[Any]]:
    from sklearn.isotonic import IsotonicRegression

    fits = [
        IsotonicRegression(out_of_bounds="clip").fit(columns[:, c], truth[c], sample_weight=weights)
        for c in range(len(truth))
    ]
    sizes = [fit.X_thresholds_.size for fit in fits]
    return {
        "x": np.concatenate([fit.X_thresholds_ for fit in fits]).astype(np.float64),
        "y": np.concatenate([fit.y_thresholds_ for fit in fits]).astype(np.float64),
        "starts": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
    }


def _temperature(logits: FloatArray, labels: NDArray[np.integer[Any]], weights: FloatArray) -> float:
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    own = np.arange(labels.size), labels

    def loss(log_beta: float) -> float:
        scaled = np.exp(log_beta) * logits
        return float((weights * (logsumexp(scaled, axis=1) - scaled[own])).sum() / weights.sum())

    found = minimize_scalar(loss, bounds=(-_LOG_BETA, _LOG_BETA), method="bounded", options={"xatol": 64 * _EPS})
    return float(np.exp(found.x))


def _checked(scores: FloatArray, n_classes: int) -> FloatArray:
    scores = np.ascontiguousarray(scores, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[1] != n_classes:
        raise DataError(f"scores of shape {scores.shape} for {n_classes} classes: one column per class is needed")
    return scores


def _columns(scores: FloatArray, scale: Scale, method: Method) -> FloatArray:
    """What is calibrated one class against the rest; for two classes that of the second alone."""
    if method == "sigmoid":
        scores = log_odds_rows(_logits(scores, scale))
    elif scores.shape[1] == 2 and scale == "logits":
        return np.ascontiguousarray((scores[:, 1] - scores[:, 0])[:, None])
    return np.ascontiguousarray(scores[:, 1:]) if scores.shape[1] == 2 else scores


def _logits(scores: FloatArray, scale: Scale) -> FloatArray:
    # Not by NumPy's logarithm: its last bit may hang on where in an array a number stands.
    return scores if scale == "logits" else log_rows(scores, _EPS)
