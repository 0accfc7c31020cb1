"""Multinomial logistic regression with a ridge, by Newton's method: for thousands of small fits in a row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_STEPS = 50
_SMALL = 1e-8


def fit_multinomial(x: Floats, y: NDArray[np.int64], n_classes: int, ridge: float = 1.0) -> Floats:
    """Coefficients of the smallest -log likelihood + ridge / 2 x the squared slopes.

    Parameters
    ----------
    x : ndarray (n, p)
    y : ndarray of int64 (n,)
        Classes, 0..n_classes-1.
    n_classes : int
    ridge : float
        Above 0: with it the minimum is one and finite whatever the classes. Intercepts are free.

    Returns
    -------
    ndarray (p + 1, n_classes)
        Slopes, then intercepts; rows of slopes sum to 0. A class without a sample has an intercept of minus infinity.

    Notes
    -----
    The model is scikit-learn's ``LogisticRegression(C=1 / ridge)`` for three classes and more, whose calls cost some
    milliseconds each whatever the size. Steps are halved until the function falls; the function is convex.
    """
    n, p = x.shape
    seen = np.unique(y)
    k = len(seen)
    design = np.column_stack([x, np.ones(n)])
    wanted = np.zeros((n, k))
    wanted[np.arange(n), np.searchsorted(seen, y)] = 1.0
    beta = np.zeros((p + 1, k))
    beta[p] = np.log(wanted.mean(axis=0))
    penalty = np.full(p + 1, ridge)
    penalty[p] = 0.0
    value, chances = _value(design, wanted, beta, penalty)
    for _ in range(MOST_STEPS):
        gradient = design.T @ (chances - wanted) + penalty[:, None] * beta
        if np.abs(gradient).max() <= _SMALL * n:
            break
        hessian = np.empty((k, p + 1, k, p + 1))
        for a in range(k):
            for b in range(a, k):
                weight = chances[:, a] * ((a == b) - chances[:, b])
                hessian[a, :, b, :] = hessian[b, :, a, :] = (design * weight[:, None]).T @ design
            hessian[a, range(p + 1), a, range(p + 1)] += penalty
        # All intercepts moved together change nothing: the direction is pinned.
        hessian[:, p, :, p] += 1.0
        step = np.linalg.solve(hessian.reshape(k * (p + 1), -1), gradient.T.ravel()).reshape(k, p + 1).T
        size = 1.0
        while size > 1e-6:
            tried, there = _value(design, wanted, beta - size * step, penalty)
            if tried <= value:
                break
            size /= 2
        else:
            break
        beta, value, chances = beta - size * step, tried, there
    full = np.zeros((p + 1, n_classes))
    full[p] = -np.inf
    full[:, seen] = beta
    return full


def class_probabilities(x: Floats, beta: Floats) -> Floats:
    """Probability of each class, (n, n_classes)."""
    return _softmax(x @ beta[:-1] + beta[-1])


def _value(design: Floats, wanted: Floats, beta: Floats, penalty: Floats) -> tuple[float, Floats]:
    scores = design @ beta
    top = scores.max(axis=1)
    chances = np.exp(scores - top[:, None])
    total = chances.sum(axis=1)
    loss = (np.log(total) + top - (scores * wanted).sum(axis=1)).sum()
    return float(loss + 0.5 * (penalty[:, None] * beta**2).sum()), chances / total[:, None]


def _softmax(scores: Floats) -> Floats:
    made = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(made / made.sum(axis=1, keepdims=True))
