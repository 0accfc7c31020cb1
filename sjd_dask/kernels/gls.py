"""Generalised least squares per feature with one known correlation within blocks (limma's gls.series).

The result is a `LinearFit` in the coordinates of the whitened design, so contrasts and moderation go on from it exactly
as from ordinary least squares. Features with missing values are fitted exactly on the samples they have: a block that
lost samples is still compound symmetric, only smaller.
"""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sjd_dask.kernels import linear_fit
from sjd_dask.kernels import linear_solve as solve
from sjd_dask.kernels.correlation import Blocks, sort_blocks, whiten
from sjd_dask.kernels.linear_fit import LinearFit
from sjd_dask.kernels.linear_sums import LinearDesign, linear_design
from sjd_dask.kernels.reml import add_outer, factor, solve_factored

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_TILE = 64


def gls_design(design: ArrayLike, block_codes: ArrayLike, rho: float) -> LinearDesign:
    """The design (n, p) whitened for a correlation `rho` within blocks, in an orthonormal basis.

    Its `has_intercept` and `constant` are those of the design as given: they say what a shift of the values, which are
    whitened too, adds to the coefficients.

    Raises
    ------
    DesignError
        If the design is rank deficient, or `rho` is impossible for the sizes of the blocks.
    """
    matrix = np.asarray(design, dtype=np.float64)
    given = linear_design(matrix)
    whitened = linear_design(whiten(matrix, block_codes, rho))
    return replace(whitened, has_intercept=given.has_intercept, constant=given.constant)


def gls_fit(block: ArrayLike, design: ArrayLike, block_codes: ArrayLike, rho: float) -> tuple[LinearFit, LinearDesign]:
    """Fit every feature with correlation `rho` between the samples of a block.

    Parameters
    ----------
    block
        (n, F) values; NaN (and infinite) values are missing.
    design
        (n, p) full-rank design.
    block_codes
        (n,) block of each sample.
    rho
        Within-block correlation, usually `consensus_correlation(...)`.

    Returns
    -------
    fit, whitened_design
        Give both to `contrast_fit`, which then is exact for features with missing values too. `fit` follows limma's
        lmFit with `block` and `correlation`: sigma2 is the variance of one sample, `mean` that of the raw values;
        coefficients that a feature's own samples can't tell apart are NaN for the later column; a feature without
        values has NaN everywhere.
    """
    values = np.asarray(block, dtype=np.float64)
    basis = gls_design(design, block_codes, rho)
    blocks = sort_blocks(block_codes)
    if values.ndim != 2 or values.shape[0] != basis.n:
        raise ValueError(f"values of shape {values.shape} don't match a design of {basis.n} samples")
    # Columns of the design, not whitened, that are orthonormal under the inverse correlation matrix.
    q = np.ascontiguousarray((np.asarray(design, dtype=np.float64) @ basis.r_inverse)[blocks.order])
    n_features, p = values.shape[1], basis.p
    qty = np.empty((p, n_features))
    rest, mean, pilot = (np.empty(n_features) for _ in range(3))
    n_samples = np.empty(n_features, dtype=np.int64)
    gram = np.zeros((n_features, p * (p + 1) // 2))
    for start in range(0, n_features, _TILE):
        stop = min(start + _TILE, n_features)
        tile = np.ascontiguousarray(values[:, start:stop].T[:, blocks.order])
        part = np.empty((stop - start, p))
        here = slice(start, stop)
        _gls_tile(
            tile, q, blocks.starts, rho, basis.has_intercept, part, rest[here], mean[here], pilot[here],
            n_samples[here], gram[here],
        )  # fmt: skip
        qty[:, start:stop] = part.T
    matrix = np.asarray(design, dtype=np.float64)
    return _assemble(values, basis, blocks, rho, matrix, qty, rest, mean, pilot, n_samples, gram), basis


def _assemble(
    values: FloatArray,
    basis: LinearDesign,
    blocks: Blocks,
    rho: float,
    design: FloatArray,
    qty: FloatArray,
    rest: FloatArray,
    mean: FloatArray,
    pilot: FloatArray,
    n_samples: IntArray,
    gram: FloatArray,
) -> LinearFit:
    p, n_features = qty.shape
    coefficients = np.empty((p, n_features))
    singular = np.zeros(n_features, dtype=bool)
    if np.all(n_samples == basis.n):
        gram = np.zeros((0, gram.shape[1]))
        whitened = qty
        solve.multiply(basis.r_inverse, qty, coefficients)
        stdev = np.repeat(linear_fit.complete_stdev(basis)[:, None], n_features, axis=1)
    else:
        whitened, stdev = np.empty((p, n_features)), np.empty((p, n_features))
        smallest = np.empty(n_features)
        unused = np.zeros(n_features)
        solve.solve_missing(gram, qty, unused, basis.r_inverse, whitened, coefficients, stdev, unused, smallest)
        singular = smallest <= solve.PIVOT_TOLERANCE
        stdev[:, linear_fit.complete_features(gram)] = linear_fit.complete_stdev(basis)[:, None]
    coefficients += basis.constant[:, None] * pilot
    df = n_samples.astype(np.float64) - p
    with np.errstate(invalid="ignore", divide="ignore"):
        sigma2 = np.where(df > 0, rest / df, np.nan)
    empty = n_samples == 0
    own = {}
    codes = np.empty(basis.n, dtype=np.int64)
    codes[blocks.order] = np.repeat(np.arange(blocks.starts.size - 1), np.diff(blocks.starts))
    for feature in np.flatnonzero(singular & ~empty).tolist():
        y = values[:, feature]
        there = np.isfinite(y)
        white = whiten(np.column_stack([design[there], y[there]]), codes[there], rho)
        beta, variance, rank, result = linear_fit.own_fit(np.ascontiguousarray(white[:, :-1]), white[:, -1].copy())
        coefficients[:, feature] = beta
        stdev[:, feature] = np.sqrt(np.diag(result.covariance))
        sigma2[feature] = variance
        df[feature] = there.sum() - rank
        own[feature] = result
    coefficients[:, empty] = stdev[:, empty] = np.nan
    sigma2[empty] = np.nan
    df[empty] = 0.0
    return LinearFit(
        coefficients=coefficients,
        stdev_unscaled=stdev,
        sigma2=sigma2,
        df_residual=df,
        mean=mean,
        n_samples=n_samples,
        cov_unscaled=basis.cov_unscaled,
        needs_columns=np.zeros(0, dtype=np.int64),
        pilot=pilot,
        whitened=whitened,
        gram_missing=gram,
        own=own,
    )


@numba.njit(nogil=True, cache=True)
def _gls_tile(
    tile: FloatArray,
    q: FloatArray,
    starts: IntArray,
    rho: float,
    centred: bool,
    qty: FloatArray,
    rest: FloatArray,
    mean: FloatArray,
    pilot: FloatArray,
    n_samples: IntArray,
    gram: FloatArray,
) -> None:
    """Sums of each row of `tile` (features, samples sorted by block), with q' V^-1 q = I over all samples.

    `qty` (features, p) = q'V^-1 y, `rest` the residual sum of squares in that metric, and `gram` (features,
    p (p + 1) / 2, rows of the upper triangle) what the missing samples take from the identity. Where `centred`, which
    needs a design that holds the constant, y stands less its mean, `pilot`: a large mean would take the digits of qty.
    """
    n, p = q.shape
    n_blocks = starts.size - 1
    inner = 1.0 / (1.0 - rho)
    sums = np.zeros((n_blocks, p))
    for b in range(n_blocks):
        for i in range(starts[b], starts[b + 1]):
            for j in range(p):
                sums[b, j] += q[i, j]
    lost = np.empty((p, p))
    left = np.empty((p, p))
    lower = np.empty((p, p))
    kept = np.ones(p, np.bool_)
    partial = np.empty(p)
    residual = np.empty(n)
    theta = np.empty(p)
    seen_in = np.empty(n_blocks, np.int64)
    for f in range(tile.shape[0]):
        y = tile[f]
        pilot[f] = _mean(y) if centred else 0.0
        n_seen = 0
        total = 0.0
        lost[:] = 0.0
        for b in range(n_blocks):
            size = starts[b + 1] - starts[b]
            seen = 0
            for i in range(starts[b], starts[b + 1]):
                residual[i] = 0.0
                if np.isfinite(y[i]):
                    seen += 1
                    residual[i] = y[i] - pilot[f]
                    total += residual[i]
            seen_in[b] = seen
            n_seen += seen
            if seen == size:
                continue
            # The block's share of q'V^-1 q, before and after.
            partial[:] = sums[b]
            for i in range(starts[b], starts[b + 1]):
                if not np.isfinite(y[i]):
                    add_outer(lost, q[i], inner)
                    partial -= q[i]
            add_outer(lost, sums[b], -inner * rho / (1.0 + (size - 1) * rho))
            if seen > 0:
                add_outer(lost, partial, inner * rho / (1.0 + (seen - 1) * rho))
        n_samples[f] = n_seen
        mean[f] = pilot[f] + total / n_seen if n_seen > 0 else np.nan
        m = 0
        for i in range(p):
            for j in range(i, p):
                gram[f, m] = lost[j, i]
                left[j, i] = (1.0 if i == j else 0.0) - lost[j, i]
                m += 1
        if n_seen < n:
            factor(left, lower, kept)
        # Twice: the second round takes out the rounding that a large mean left in the residuals.
        for turn in range(2):
            theta[:] = 0.0
            for b in range(n_blocks):
                block_sum = 0.0
                for i in range(starts[b], starts[b + 1]):
                    block_sum += residual[i]
                share = 0.0
                if seen_in[b] > 0:
                    share = block_sum * rho / (1.0 + (seen_in[b] - 1) * rho)
                for i in range(starts[b], starts[b + 1]):
                    if np.isfinite(y[i]):
                        value = (residual[i] - share) * inner
                        for j in range(p):
                            theta[j] += q[i, j] * value
            if turn == 0:
                qty[f] = theta
            if n_seen < n:
                solve_factored(lower, kept, theta)
            for i in range(n):
                if np.isfinite(y[i]):
                    for j in range(p):
                        residual[i] -= q[i, j] * theta[j]
        squares = 0.0
        for b in range(n_blocks):
            block_sum = 0.0
            for i in range(starts[b], starts[b + 1]):
                block_sum += residual[i]
                squares += residual[i] * residual[i]
            if seen_in[b] > 0:
                squares -= block_sum * block_sum * rho / (1.0 + (seen_in[b] - 1) * rho)
        rest[f] = squares * inner


@numba.njit(nogil=True, cache=True)
def _mean(y: FloatArray) -> float:
    """Mean of the finite values, zero without one; of equal values, exactly that value."""
    first = 0.0
    total = 0.0
    seen = 0
    for i in range(y.size):
        if np.isfinite(y[i]):
            if seen == 0:
                first = y[i]
            total += y[i] - first
            seen += 1
    return first + total / seen if seen > 0 else 0.0
