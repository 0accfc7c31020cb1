"""Pieces of surrogate variable analysis (Leek and Storey 2007, 2008) that work on some features, or on sums of them.

Surrogate variables are right singular vectors of weighted or residual data, so n x n sums of products hold all that is
needed, and tests of a feature need that feature alone. The numbers are those of sva 3.46 (Leek and others 2012).
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from sjd_dask.errors import DataError, DesignError
from sjd_dask.kernels.tails import f_upper

FloatArray = NDArray[np.float64]

# A residual sum of squares below this share of the sum of squares is rounding: the feature does not vary.
_CONSTANT = 1e-20
# Columns of a design whose share outside the others is below this are linear combinations of them.
_DEPENDENT = 1e-9
_LEEK_GRID = 100
# Variance of the number of positive eigenvalues of a random symmetric (Gaussian orthogonal) k x k matrix; from the
# chances that all have one sign: 1 - 2**-0.5 for k = 2, (pi - 8**0.5) / 2 pi for k = 3. It grows as log(k) / pi^2.
_SIGN_VARIANCE = {1: 0.25, 2: 1.0 - 0.5**0.5, 3: 0.25 + (math.pi - 8.0**0.5) / math.pi}
LEEK_PARTS = 10


def orthonormal(design: FloatArray, what: str = "the design") -> FloatArray:
    """Orthonormal columns that span a design matrix.

    Raises
    ------
    DesignError
        Columns are linear combinations of others, or there are as many columns as samples.
    """
    n, k = design.shape
    if k >= n:
        raise DesignError(f"{what} has {k} columns and there are {n} samples: use fewer columns or more samples")
    size = np.linalg.norm(design, axis=0)
    if np.any(size == 0):
        raise DesignError(f"{what} has a column of zeros")
    q, r = np.linalg.qr(design / size)
    if np.min(np.abs(np.diag(r))) < _DEPENDENT:
        raise DesignError(
            f"{what} has {k} columns and some are linear combinations of others: drop covariates that say the same, "
            "or ask for fewer surrogate variables"
        )
    return np.asarray(q)


def beyond(basis: FloatArray, more: FloatArray, what: str = "the design") -> FloatArray:
    """Orthonormal columns for what the columns `more` span beyond `basis` (itself orthonormal)."""
    k = basis.shape[1]
    return orthonormal(np.column_stack((basis, more)), what)[:, k:]


def nested(design: FloatArray, null_design: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Orthonormal columns of the null design, and of what the design has beyond it.

    Raises
    ------
    DesignError
        The null design is not within the design, or the design adds nothing to it.
    """
    full, null = orthonormal(design), orthonormal(null_design, "the null design")
    outside = null - full @ (full.T @ null)
    if np.max(np.abs(outside)) > 1e-7:
        raise DesignError("the null design has columns that the design lacks: every term of `null` must be in `design`")
    extra = full.shape[1] - null.shape[1]
    if extra == 0:
        raise DesignError(
            "the design and the null design are the same: `null` must lack the terms whose effects are wanted"
        )
    rest = full - null @ (null.T @ full)
    u, _, _ = np.linalg.svd(rest, full_matrices=False)
    return null, u[:, :extra]


def usable(values: FloatArray, basis: FloatArray) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which features can take part.

    Parameters
    ----------
    values
        (n, p) samples in rows.
    basis
        (n, k) orthonormal columns of the design.

    Returns
    -------
    ndarray of bool, ndarray of bool
        (p,) complete features (every value finite); complete ones that vary beyond the design.
    """
    complete: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(values), axis=0)
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.einsum("ij,ij->j", values, values)
        rest = values - basis @ (basis.T @ values)
        left = np.einsum("ij,ij->j", rest, rest)
        varies: NDArray[np.bool_] = np.logical_and(complete, left > _CONSTANT * total)
    return complete, varies


def residual_gram(values: FloatArray, basis: FloatArray) -> FloatArray:
    """(n, n) sums over features of products of residuals from the design; no missing values."""
    rest = values - basis @ (basis.T @ values)
    return np.asarray(rest @ rest.T)


def weighted_gram(values: FloatArray, weight: FloatArray) -> FloatArray:
    """(n, n) sums over features of products of centred values times the feature's weight; no missing values."""
    centred = (values - values.mean(axis=0)) * weight
    return np.asarray(centred @ centred.T)


def f_p_value(values: FloatArray, null: FloatArray, extra: FloatArray) -> FloatArray:
    """p-values of the F tests that a feature needs no column of `extra` (sva's ``f.pvalue``).

    Parameters
    ----------
    values
        (n, p) without missing values.
    null, extra
        (n, k0) and (n, k1) orthonormal columns, orthogonal to each other; n > k0 + k1.

    Returns
    -------
    ndarray
        (p,) upper tails of F with k1 and n - k0 - k1 degrees of freedom.
    """
    n, k1 = extra.shape
    df = n - null.shape[1] - k1
    rest = values - null @ (null.T @ values)
    part = extra.T @ rest
    gained = np.einsum("ij,ij->j", part, part)
    rest -= extra @ part
    left = np.einsum("ij,ij->j", rest, rest)
    with np.errstate(divide="ignore", invalid="ignore"):
        f = (gained / k1) / (left / df)
    return f_upper(f, k1, df)


def leading_vectors(gram: FloatArray, count: int) -> FloatArray:
    """(n, count) eigenvectors of the largest eigenvalues, the entry of largest size positive."""
    _, vectors = np.linalg.eigh(gram)
    return fix_signs(vectors[:, ::-1][:, :count])


def fix_signs(vectors: FloatArray) -> FloatArray:
    """Each column with its entry of largest size positive (the first, where some are equal)."""
    if vectors.shape[1] == 0:
        return vectors
    size = np.abs(vectors)
    # Entries equal but for rounding count as equal, so that the sign does not hang on the last bit.
    first = np.argmax(size >= size.max(axis=0) * (1.0 - 1e-9), axis=0)
    sign = np.where(vectors[first, np.arange(vectors.shape[1])] < 0, -1.0, 1.0)
    return np.ascontiguousarray(vectors * sign)


def nearest_vector(gram: FloatArray, target: FloatArray) -> FloatArray:
    """(n,) the eigenvector, of all but the last, that correlates most with `target` in size."""
    _, vectors = np.linalg.eigh(gram)
    candidates = vectors[:, :0:-1]
    centred = candidates - candidates.mean(axis=0)
    size = np.linalg.norm(centred, axis=0)
    wanted = target - target.mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        closeness = np.where(size > 1e-9, np.abs(centred.T @ wanted) / size, 0.0)
    return np.asarray(candidates[:, int(np.argmax(closeness))])


def permuted_grams(
    values: FloatArray, basis: FloatArray, index: NDArray[np.int64], seeds: NDArray[np.uint64]
) -> FloatArray:
    """(B, n, n) sums of products of residuals permuted within each feature.

    Parameters
    ----------
    values
        (n, p) without missing values.
    basis
        (n, k) orthonormal columns of the design.
    index
        (p,) the number of each feature in the whole feature space: with the seed it names the permutation, so the
        result does not depend on how features are cut into pieces.
    seeds
        (B,) one for each round.

    Notes
    -----
    The design is not yet taken out again of the permuted residuals: `be_share` does that to the sum.
    """
    rest = np.ascontiguousarray((values - basis @ (basis.T @ values)).T)
    out = np.empty((seeds.size, values.shape[0], values.shape[0]))
    for round_, seed in enumerate(seeds):
        shuffled = rest.copy()
        _shuffle_rows(shuffled, index, seed)
        out[round_] = shuffled.T @ shuffled
    return out


@numba.njit(nogil=True, cache=True)
def _mixed(word: np.uint64) -> np.uint64:
    """One output of SplitMix64 (Steele and others 2014)."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@numba.njit(nogil=True, cache=True)
def _shuffle_rows(rows: FloatArray, index: NDArray[np.int64], seed: np.uint64) -> None:
    """Permute each row in place, evenly over all orders; the draws are named by the seed and the row's number."""
    step = np.uint64(0x9E3779B97F4A7C15)
    n = rows.shape[1]
    for i in range(rows.shape[0]):
        state = _mixed(seed ^ _mixed(np.uint64(index[i]) * step + np.uint64(1)))
        for j in range(n - 1, 0, -1):
            state += step
            # The upper 32 bits times the count, shifted: even to 2**-32 of the count.
            k = np.int64(((_mixed(state) >> np.uint64(32)) * np.uint64(j + 1)) >> np.uint64(32))
            kept = rows[i, j]
            rows[i, j] = rows[i, k]
            rows[i, k] = kept


def be_share(gram: FloatArray, basis: FloatArray, n_features: int) -> FloatArray:
    """Share of the residual variance on each principal axis, largest first.

    Parameters
    ----------
    gram
        (n, n) sums of products of residuals, permuted or not.
    basis
        (n, k) orthonormal columns of the design, taken out (again).
    n_features
        How many features were summed.

    Returns
    -------
    ndarray
        (min(n, n_features) - k,)
    """
    n, k = basis.shape
    kept = min(n, n_features) - k
    if kept < 1:
        raise DataError(f"{n_features} features and {n} samples leave no axis beyond a design of {k} columns")
    left = gram - basis @ (basis.T @ gram)
    left = left - (left @ basis) @ basis.T
    found = np.linalg.eigvalsh((left + left.T) / 2.0)[::-1][:kept]
    found = np.maximum(found, 0.0)
    return np.asarray(found / found.sum())


def be_count(share: FloatArray, permuted: FloatArray, level: float = 0.1) -> int:
    """Number of axes with more variance than permuted data have (Buja and Eyuboglu 1992).

    Parameters
    ----------
    share
        (d,) from `be_share` of the data.
    permuted
        (B, d) the same of B permutations.
    level
        An axis counts while the share of permutations at least as large, made not to fall from axis to axis, is at
        most this.
    """
    p = np.maximum.accumulate(np.mean(permuted >= share, axis=0))
    return int(np.count_nonzero(p <= level))


def leek_count(grams: list[FloatArray], basis: FloatArray, per_part: int) -> int:
    """Number of surrogate variables by the asymptotic rule of Leek (2011).

    Parameters
    ----------
    grams
        Ten (n, n) sums of products of values (not residuals), over the first 1/10, 2/10, ... of the features.
    basis
        (n, k) orthonormal columns of the design.
    per_part
        Features in a tenth, rounded down.

    Notes
    -----
    Eigenvalues are counted above 100 thresholds from 0 up for every size of subset, and the count is read where it
    varies less between subsets than at the threshold 0. There the k axes of the design have eigenvalues that are 0
    but for rounding, so what sva 3.46 compares with is how the signs of rounding errors vary: its answer changes when
    samples are put in another order (on the bladder data: 2 in 8 of 20 orders, else 0; in the order of the package
    2). Here that variance is the one of a random symmetric k x k matrix's number of positive eigenvalues, which is
    what the rounding amounts to, so the answer depends on the data alone.
    """
    n, k = basis.shape
    scale = np.linspace(0.0, 2.0, _LEEK_GRID)
    counts = np.empty((_LEEK_GRID, len(grams)))
    project = np.eye(n) - basis @ basis.T
    for j, gram in enumerate(grams):
        m = (j + 1) * per_part
        noise = float(np.linalg.eigvalsh(gram)[0]) / m
        inside = project @ gram @ project / m - noise * project
        found = np.linalg.eigvalsh((inside + inside.T) / 2.0)
        counts[:, j] = [np.count_nonzero(found > a * n * m ** (-1.0 / 3.0)) for a in scale]
    spread = counts.var(axis=1, ddof=1)
    spread[0] = _SIGN_VARIANCE.get(k, math.log(k) / math.pi**2 + 0.24)
    bump = int(np.argmax(spread > 2.0 * spread[0])) + 1
    settled = np.concatenate((np.full(bump, 1e5), spread[bump:])) < 0.5 * spread[0]
    start = int(np.argmax(settled)) + 1
    again = np.where(np.arange(_LEEK_GRID) < start, 0.0, spread) > spread[0]
    stop = int(np.argmax(again)) + 1
    if stop == 1:
        stop = _LEEK_GRID
    low, high = min(start, stop), max(start, stop)
    values, times = np.unique(counts[low - 1 : high, -1], return_counts=True)
    return int(values[np.argmax(times)])


def round_seeds(seed: int, rounds: int) -> NDArray[np.uint64]:
    """One 64-bit word for each round of permutations."""
    state = np.random.SeedSequence(abs(seed)).generate_state(rounds, np.uint64)
    return np.asarray(state, dtype=np.uint64)


def rounds_at_once(n: int, memory: float = 128e6) -> int:
    """How many (n, n) sums fit a pass."""
    return max(1, math.floor(memory / (8.0 * n * n)))
