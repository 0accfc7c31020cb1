"""F statistics of features from sums by class: the first, cheap choice among tens of thousands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sjd_dask.kernels.class_sums import add_class_sums

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Significant bits that a comparison of statistics looks at: what the order of a sum changes must not decide.
BITS = 30


@dataclass
class ClassSums:
    """Weight, sum, squares and count of each feature by class, about a pilot value; they add and subtract.

    So the statistics of a training set are those of all samples less those of a fold: one pass over the data gives
    the choice of every fold.

    Parameters
    ----------
    pilot : ndarray (p,)
        Any value near the feature's mean, such as that of the first sample; not finite counts as 0. The same in all
        that are added.
    sums : ndarray (4, k, p)
    """

    pilot: Floats
    sums: Floats

    @classmethod
    def empty(cls, pilot: Floats, n_classes: int) -> ClassSums:
        """Of no samples."""
        pilot = np.where(np.isfinite(pilot), pilot, 0.0).astype(np.float64)
        return cls(pilot, np.zeros((4, n_classes, len(pilot))))

    def add(self, values: Floats, y: Ints, weights: Floats) -> None:
        """Add samples, in place; values (n, p), classes (n,), weights (n,)."""
        block = np.ascontiguousarray(values, dtype=np.float64)
        add_class_sums(block, y.astype(np.int64), weights.astype(np.float64), self.pilot, self.sums)

    def __add__(self, other: ClassSums) -> ClassSums:
        return ClassSums(self.pilot, self.sums + other.sums)

    def __sub__(self, other: ClassSums) -> ClassSums:
        return ClassSums(self.pilot, self.sums - other.sums)

    def f_statistics(self) -> Floats:
        """F of a one-way analysis of variance with weights, (p,).

        -1 for a feature that can't be judged: constant, or without enough values. With all weights 1 and nothing
        missing it is ``sklearn.feature_selection.f_classif``.
        """
        weight, total, squares, _ = self.sums
        seen = weight > 0
        n, groups = weight.sum(axis=0), seen.sum(axis=0)
        safe = np.where(seen, weight, 1.0)
        between_raw = np.where(seen, total**2 / safe, 0.0).sum(axis=0)
        within = squares.sum(axis=0) - between_raw
        with np.errstate(divide="ignore", invalid="ignore"):
            between = between_raw - total.sum(axis=0) ** 2 / n
            found = (between / (groups - 1)) / (within / (n - groups))
        # What is left of equal numbers after cancellation is no variance.
        flat = squares.sum(axis=0) - total.sum(axis=0) ** 2 / np.where(n > 0, n, 1.0) <= 1e-12 * squares.sum(axis=0)
        bad = (groups < 2) | (n <= groups) | flat | np.isnan(found)
        return np.asarray(np.where(bad, -1.0, np.maximum(found, 0.0)))

    def known_share(self, n_samples: int) -> Floats:
        """Share of samples with a value, (p,)."""
        return np.asarray(self.sums[3].sum(axis=0) / n_samples)

    def top(self, size: int, max_missing: float, n_samples: int) -> Ints:
        """Positions of the features with the largest F among those missing in at most a share of samples, ascending.

        Of equals (to 9 digits) the first; features that can't be judged are never among them.
        """
        f = rounded(self.f_statistics())
        allowed = (f >= 0) & (self.known_share(n_samples) >= 1.0 - max_missing - 1e-12)
        candidates = np.flatnonzero(allowed)
        order = candidates[np.argsort(-f[candidates], kind="stable")]
        return np.sort(order[:size])


def rounded(numbers: Floats) -> Floats:
    """Numbers to about 9 significant digits, so that rounding makes no order among equals."""
    mantissa, exponent = np.frexp(numbers)
    return np.asarray(np.ldexp(np.round(np.ldexp(mantissa, BITS)), exponent - BITS))


def class_sums(values: Floats, y: Ints, n_classes: int, weights: Floats, pilot: Floats | None = None) -> ClassSums:
    """Sums of samples that are in memory."""
    made = ClassSums.empty(values[0] if pilot is None else pilot, n_classes)
    made.add(values, y, weights)
    return made
