"""Machine code of `kernels.batch`: sums of a stripe's features over batches and covariates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

# What became of a feature: adjusted, or left as it is, and why.
ADJUSTED, CONSTANT_IN_BATCH, TOO_FEW_VALUES, NOT_ESTIMABLE, NO_VARIANCE = range(5)
INFINITE = -1
_TILE = 512
_COLUMNS = 64
# A pivot below this share of its diagonal: the covariate says nothing more over the samples a feature has.
_PIVOT = 1e-10

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}


@njit(**_OPTIONS)
def complete(values, order, starts, q, mean, within, cross, coefficients):  # type: ignore[no-untyped-def]
    """Sums of every feature as if it were complete; one with missing values gets NaN in `within`."""
    width = values.shape[1]
    k = q.shape[1]
    pilot, away, first, second = np.empty(_TILE), np.empty(_TILE), np.empty(_TILE), np.empty(_TILE)
    products = np.empty((k, _TILE))
    for low in range(0, width, _TILE):
        size = min(_TILE, width - low)
        for b in range(starts.size - 1):
            start, stop = starts[b], starts[b + 1]
            row = values[order[start], low : low + size]
            for f in range(size):
                pilot[f] = row[f]
                first[f] = row[f] - row[f]
                second[f] = row[f] - row[f]
            products[:] = 0.0
            for i in range(start + 1, stop):
                row = values[order[i], low : low + size]
                for f in range(size):
                    step = row[f] - pilot[f]
                    away[f] = step
                    first[f] += step
                    second[f] += step * step
                for j in range(k):
                    weight = q[i, j]
                    line = products[j]
                    for f in range(size):
                        line[f] += weight * away[f]
            n = stop - start
            for f in range(size):
                mean[b, low + f] = pilot[f] + first[f] / n
                square = second[f] - first[f] * first[f] / n
                # Zero means that all values are equal, and nothing else does.
                if second[f] > 0.0 and square <= 0.0:
                    square = 1e-300
                within[b, low + f] = square
            for j in range(k):
                for f in range(size):
                    cross[b, j, low + f] = products[j, f]
                    coefficients[j, low + f] += products[j, f]


@njit(**_OPTIONS)
def rests(within, cross, coefficients, gram, rest):  # type: ignore[no-untyped-def]
    """Sums of squares around the fit, batch by batch, of complete features."""
    n_batches, k, width = cross.shape
    for b in range(n_batches):
        for f in range(width):
            rest[b, f] = within[b, f]
        for j in range(k):
            for f in range(width):
                rest[b, f] -= 2.0 * coefficients[j, f] * cross[b, j, f]
            for i in range(k):
                weight = gram[b, i, j]
                for f in range(width):
                    rest[b, f] += weight * coefficients[i, f] * coefficients[j, f]
        for f in range(width):
            rest[b, f] = max(rest[b, f], 0.0)


@njit(**_OPTIONS)
def direct(values, which, order, starts, q, level, coefficients, rest):  # type: ignore[no-untyped-def]
    """Sums of squares of residuals formed one by one, for a few features."""
    for f in which:
        for b in range(starts.size - 1):
            total = 0.0
            for i in range(starts[b], starts[b + 1]):
                left = values[order[i], f] - level[b, f]
                for j in range(q.shape[1]):
                    left -= q[i, j] * coefficients[j, f]
                if not np.isnan(left):
                    total += left * left
            rest[b, f] = total


@njit(**_OPTIONS)
def missing(  # type: ignore[no-untyped-def]
    values, which, order, starts, q, gram, least, count, level, within, rest, coefficients, status
):
    """The same for features that lack values, each over the samples it has; some features side by side."""
    k = q.shape[1]
    n_batches = starts.size - 1
    y, pilot, away = np.empty(_COLUMNS), np.empty(_COLUMNS), np.empty(_COLUMNS)
    first, second, seen = np.empty(_COLUMNS), np.empty(_COLUMNS), np.empty(_COLUMNS)
    products = np.empty((k, _COLUMNS))
    # Of q over the samples a feature has: sums (those of a whole batch are zero), and products within the batch.
    sums, cross = np.empty((n_batches, k, _COLUMNS)), np.empty((n_batches, k, _COLUMNS))
    own = np.empty((n_batches, k, k, _COLUMNS))
    total, right = np.empty((k, k)), np.empty(k)
    for begin in range(0, which.size, _COLUMNS):
        held = min(_COLUMNS, which.size - begin)
        at = which[begin : begin + held]
        sums[:] = 0.0
        for b in range(n_batches):
            for j in range(k):
                for m in range(k):
                    own[b, j, m, :] = gram[b, j, m]
            _first_values(values, at, order, starts[b], starts[b + 1], pilot)
            first[:] = 0.0
            second[:] = 0.0
            seen[:] = 0.0
            products[:] = 0.0
            for i in range(starts[b], starts[b + 1]):
                row = values[order[i]]
                for c in range(held):
                    y[c] = row[at[c]]
                for c in range(held):
                    there = y[c] == y[c]
                    step = y[c] - pilot[c] if there else 0.0
                    away[c] = step
                    first[c] += step
                    second[c] += step * step
                    seen[c] += 1.0 if there else 0.0
                if k == 0:
                    continue
                for j in range(k):
                    weight = q[i, j]
                    line = products[j]
                    for c in range(held):
                        line[c] += weight * away[c]
                for c in range(held):
                    if y[c] != y[c]:
                        for j in range(k):
                            sums[b, j, c] -= q[i, j]
                            for m in range(k):
                                own[b, j, m, c] -= q[i, j] * q[i, m]
            for c in range(held):
                f, n = at[c], seen[c]
                count[b, f] = int(n)
                if not np.isfinite(second[c]):
                    status[f] = INFINITE
                elif n < least and status[f] == ADJUSTED:
                    status[f] = TOO_FEW_VALUES
                if n == 0:
                    level[b, f], within[b, f] = np.nan, 0.0
                    continue
                level[b, f] = pilot[c] + first[c] / n
                square = second[c] - first[c] * first[c] / n
                if second[c] > 0.0 and square <= 0.0:
                    square = 1e-300
                within[b, f] = square
                for j in range(k):
                    cross[b, j, c] = products[j, c] - sums[b, j, c] * first[c] / n
                    for m in range(k):
                        own[b, j, m, c] -= sums[b, j, c] * sums[b, m, c] / n
        for c in range(held):
            f = at[c]
            for j in range(k):
                coefficients[j, f] = 0.0
            if status[f] != ADJUSTED:
                continue
            total[:] = 0.0
            right[:] = 0.0
            for b in range(n_batches):
                for j in range(k):
                    right[j] += cross[b, j, c]
                    for m in range(k):
                        total[j, m] += own[b, j, m, c]
            if not _solve(total, right):
                status[f] = NOT_ESTIMABLE
                continue
            for j in range(k):
                coefficients[j, f] = right[j]
            for b in range(n_batches):
                left = within[b, f]
                for j in range(k):
                    left -= 2.0 * right[j] * cross[b, j, c]
                    level[b, f] -= sums[b, j, c] / count[b, f] * right[j]
                    for m in range(k):
                        left += own[b, j, m, c] * right[j] * right[m]
                rest[b, f] = max(left, 0.0)


@njit(**_OPTIONS)
def _first_values(values, at, order, start, stop, pilot):  # type: ignore[no-untyped-def]
    """First value of each feature in a batch that is not missing; zero without one."""
    wanting = at.size
    pilot[:] = np.nan
    for i in range(start, stop):
        if wanting == 0:
            return
        row = values[order[i]]
        for c in range(at.size):
            if np.isnan(pilot[c]) and not np.isnan(row[at[c]]):
                pilot[c] = row[at[c]]
                wanting -= 1
    for c in range(at.size):
        if np.isnan(pilot[c]):
            pilot[c] = 0.0


@njit(**_OPTIONS)
def _solve(total, right):  # type: ignore[no-untyped-def]
    """Solve total @ x = right in place by Cholesky; False if a pivot says that the system is singular."""
    k = right.size
    for j in range(k):
        diagonal = total[j, j]
        for m in range(j):
            diagonal -= total[j, m] * total[j, m]
        if not diagonal > _PIVOT:  # of columns that had length one
            return False
        diagonal = np.sqrt(diagonal)
        total[j, j] = diagonal
        for i in range(j + 1, k):
            left = total[i, j]
            for m in range(j):
                left -= total[i, m] * total[j, m]
            total[i, j] = left / diagonal
        for m in range(j):
            right[j] -= total[j, m] * right[m]
        right[j] /= diagonal
    for j in range(k - 1, -1, -1):
        for m in range(j + 1, k):
            right[j] -= total[m, j] * right[m]
        right[j] /= total[j, j]
    return True
