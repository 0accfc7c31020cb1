"""The panel along the path of an elastic net in which a feature is in for all classes or for none."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Enough ridge that of features that go together several come in, so that one missing or noisy feature decides little.
L1_RATIO = 0.2
STEPS = 60
SMALLEST = 0.01
# Penalties computed in one call: the path ends with the call in which the panel is full.
_AT_ONCE = 6


def elastic_net_order(rows: Floats, y: Ints, weights: Floats, n_classes: int, size: int) -> Ints:
    """Features in the order in which the path takes them in, until there are at least `size` or the path ends.

    Parameters
    ----------
    rows : ndarray (n, p)
        Features with weighted mean 0 and variance 1, none missing; Fortran order.
    y : ndarray of int64 (n,)
    weights : ndarray (n,)
    n_classes : int
    size : int
        A larger one only adds features at the end.

    Notes
    -----
    Least squares on indicators of the classes, each divided by the root of its share (optimal scoring, which makes
    linear discriminant analysis a regression: Hastie, Tibshirani and Buja 1994; with elastic net: Clemmensen et al.
    2011), with the grouped penalty of scikit-learn's ``MultiTaskElasticNet``. Of those that come in at the same penalty
    the largest coefficient (root of the sum of squares over classes) is first.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import enet_path

    root = np.sqrt(weights)
    share = np.bincount(y, weights=weights, minlength=n_classes) / weights.sum()
    wanted = np.eye(n_classes)[y] / np.sqrt(np.where(share > 0, share, 1.0))
    wanted -= (weights @ wanted) / weights.sum()
    x = np.asfortranarray(rows * root[:, None])
    target = np.asfortranarray(wanted * root[:, None])
    n = len(y)
    highest = np.sqrt(((x.T @ target) ** 2).sum(axis=1)).max() / (n * L1_RATIO)
    penalties = np.geomspace(highest, highest * SMALLEST, STEPS)
    order: list[int] = []
    start = None
    with warnings.catch_warnings():
        # A path need not be exact to the last digit to say which features come first.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for first in range(0, STEPS, _AT_ONCE):
            coefs = enet_path(
                x,
                target,
                l1_ratio=L1_RATIO,
                alphas=penalties[first : first + _AT_ONCE],
                coef_init=start,
                max_iter=300,
                tol=1e-3,
                check_input=False,
            )[1]
            for step in range(coefs.shape[2]):
                strength = np.sqrt((coefs[:, :, step] ** 2).sum(axis=0))
                strength[order] = 0.0
                new = np.flatnonzero(strength)
                order.extend(int(j) for j in new[np.argsort(-strength[new], kind="stable")])
            if len(order) >= size:
                break
            start = np.asfortranarray(coefs[:, :, -1])
    return np.array(order, dtype=np.int64)
