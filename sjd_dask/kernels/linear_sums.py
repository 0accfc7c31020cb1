"""The design of a linear model and the sums from which every feature's fit follows, taken up block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from sjd_dask.errors import DataError, DesignError, SpecError
from sjd_dask.kernels import linear_tiles as tiles

Floats = NDArray[np.float64]
Precision = Literal["double", "single"]

# Samples whose mean is the pilot that values are centred by before they are summed.
PILOT_ROWS = 64
# A column whose part that is independent of the columns before it is smaller than this share of its length counts as a
# combination of them: the rule of R's lm.fit.
RANK_TOLERANCE = 1e-7


@dataclass(frozen=True)
class LinearDesign:
    """A full-rank design in an orthonormal basis.

    Attributes
    ----------
    matrix : ndarray of float64, (n, p)
        The design as given.
    q : ndarray of float64, (n, p)
        Orthonormal columns, q @ r = matrix.
    r : ndarray of float64, (p, p)
        Upper triangular, positive diagonal; `r_inverse` is its inverse.
    has_intercept : bool
        Whether the constant is a combination of the columns.
    constant : ndarray of float64, (p,)
        The coefficients of that combination (zeros without it): adding c to a feature adds c * constant to its
        coefficients.
    """

    matrix: Floats
    q: Floats
    r: Floats
    r_inverse: Floats
    has_intercept: bool
    constant: Floats

    @property
    def n(self) -> int:
        return int(self.matrix.shape[0])

    @property
    def p(self) -> int:
        return int(self.matrix.shape[1])

    @property
    def rank(self) -> int:
        return self.p

    @property
    def df_residual(self) -> int:
        return self.n - self.p

    @property
    def cov_unscaled(self) -> Floats:
        """Inverse of matrix' matrix, (p, p): covariance of a complete feature's coefficients over its variance."""
        cov: Floats = self.r_inverse @ self.r_inverse.T
        return cov


def aliased_columns(matrix: Floats, tolerance: float = RANK_TOLERANCE) -> list[int]:
    """Columns that are combinations of the columns before them, in order, by the tolerance of R's lm.fit."""
    kept: list[Floats] = []
    aliased: list[int] = []
    for j in range(matrix.shape[1]):
        column = matrix[:, j].astype(np.float64)
        length = float(np.sqrt(column @ column))
        for _ in range(2):  # twice is enough for a rest that is orthogonal to working accuracy
            for basis in kept:
                column = column - basis * (basis @ column)
        rest = float(np.sqrt(column @ column))
        if rest <= tolerance * length:
            aliased.append(j)
        else:
            kept.append(column / rest)
    return aliased


def linear_design(design: NDArray[Any]) -> LinearDesign:
    """Orthonormal basis of a design matrix (n samples, p coefficients).

    Raises
    ------
    DesignError
        If a value is missing or infinite, there are fewer samples than coefficients, or a column is a combination of
        others.
    """
    matrix = np.ascontiguousarray(design, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise DesignError(f"a design has samples in rows and at least one column; this one has shape {matrix.shape}")
    n, p = matrix.shape
    if not np.isfinite(matrix).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(matrix))[0])
        raise DesignError(f"the design holds {matrix[row, column]} in row {row}, column {column}; leave it out")
    if n < p:
        raise DesignError(f"the design has {p} coefficients and only {n} samples; drop terms or add samples")
    aliased = aliased_columns(matrix)
    if aliased:
        raise DesignError(
            f"the design has {p} columns but rank {p - len(aliased)}: column(s) {aliased} are combinations of the "
            "columns before them; drop them or merge levels"
        )
    q, r = np.linalg.qr(matrix)
    sign = np.where(np.diag(r) < 0, -1.0, 1.0)
    q = np.ascontiguousarray(q * sign)
    r = np.triu(r * sign[:, None])
    r_inverse = np.ascontiguousarray(np.triu(solve_triangular(r, np.eye(p))))
    ones = np.ones(n)
    rest = ones - q @ (q.T @ ones)
    has_intercept = bool(np.abs(rest).max() <= 1e-9)
    constant = np.zeros(p)
    if has_intercept:
        constant = r_inverse @ (q.T @ ones)
        # A combination such as (1, 0, 0) comes out of the solve with rounding dust, which a large pilot would bring
        # into coefficients it has nothing to do with.
        clean = np.where(np.abs(constant - np.round(constant)) < 1e-9, np.round(constant), constant)
        if np.abs(matrix @ clean - ones).max() <= 1e-9:
            constant = clean
    return LinearDesign(matrix=matrix, q=q, r=r, r_inverse=r_inverse, has_intercept=has_intercept, constant=constant)


@dataclass
class LinearSums:
    """Running sums of one stripe of F features.

    Attributes
    ----------
    pilot : ndarray of float64, (F,)
        What was subtracted from a feature's values: about its mean if the design holds the constant, else zero. Only
        then do the residuals stay as they were; for another design the shift would have to be taken back from the
        sums, and the digits it saved would be lost again.
    products : ndarray of float64, (p + 1, F)
        Q'(y - pilot), and in the last row the plain total of y - pilot; missing cells count as zero.
    squares : ndarray of float64, (F,)
        Sum of (y - pilot)**2.
    rows : int
        Samples seen.
    gram_missing : ndarray of float64, (F, p (p + 1) / 2), or (0, ...) while no missing cell was seen
        Sum of q q' over the missing samples of each feature, packed upper triangle.
    n_missing : ndarray of int64, (F,), or (0,)
    run : ndarray of float32, (p + 2, F) in single precision
        A short run of samples that has not gone to the float64 sums yet.
    """

    precision: Precision
    pilot: Floats
    products: Floats
    squares: Floats
    rows: int
    gram_missing: Floats
    n_missing: NDArray[np.int64]
    run: NDArray[np.float32]

    @property
    def n_features(self) -> int:
        return int(self.squares.shape[0])

    @property
    def has_missing(self) -> bool:
        return bool(self.gram_missing.shape[0] > 0)

    @property
    def qty(self) -> Floats:
        """Q'(y - pilot), (p, F)."""
        return self.flushed()[0][:-1]

    @property
    def total(self) -> Floats:
        """Sum of y - pilot, (F,)."""
        total: Floats = self.flushed()[0][-1]
        return total

    @property
    def ss(self) -> Floats:
        """Sum of (y - pilot)**2, (F,)."""
        return self.flushed()[1]

    @property
    def n(self) -> NDArray[np.int64]:
        """Values seen that were not missing, (F,)."""
        full = np.full(self.n_features, self.rows, dtype=np.int64)
        return full - self.n_missing if self.has_missing else full

    def flushed(self) -> tuple[Floats, Floats]:
        """Products and squares with the pending run of single precision added; nothing changes in place."""
        if self.precision == "double" or self.rows % tiles.SINGLE_RUN == 0:
            return self.products, self.squares
        return self.products + self.run[:-1], self.squares + self.run[-1]

    def copy(self) -> LinearSums:
        """An independent copy, for callers whose tasks must not change their inputs."""
        return LinearSums(
            self.precision,
            self.pilot.copy(),
            self.products.copy(),
            self.squares.copy(),
            self.rows,
            self.gram_missing.copy(),
            self.n_missing.copy(),
            self.run.copy(),
        )


def new_sums(design: LinearDesign | int, n_features: int, precision: Precision = "double") -> LinearSums:
    """Empty sums for a stripe of features. `design` may be the number of coefficients."""
    if precision not in ("double", "single"):
        raise SpecError(f"precision is 'double' or 'single', not {precision!r}")
    p = design if isinstance(design, int) else design.p
    return LinearSums(
        precision=precision,
        pilot=np.zeros(n_features),
        products=np.zeros((p + 1, n_features)),
        squares=np.zeros(n_features),
        rows=0,
        gram_missing=np.zeros((0, p * (p + 1) // 2)),
        n_missing=np.zeros(0, dtype=np.int64),
        run=np.zeros((p + 2, n_features if precision == "single" else 0), dtype=np.float32),
    )


def accumulate(
    sums: LinearSums,
    q_rows: Floats,
    block: NDArray[Any],
    table: NDArray[np.floating[Any]] | None = None,
    fill: int | None = None,
    *,
    has_intercept: bool = True,
) -> None:
    """Add the samples of a block to the sums, in place.

    Parameters
    ----------
    sums : LinearSums of F features
    q_rows : ndarray of float64, (rows, p)
        Rows of `LinearDesign.q` that belong to the block's rows.
    block : ndarray, (rows, F), unsigned or signed integers of 8 to 32 bits, float32 or float64
        Values as stored. The first block should hold the first ``min(n, PILOT_ROWS)`` samples at least: the pilot
        comes from them, and the bits of the result depend on it.
    table : ndarray, (256,) for uint8 or (65536,) for uint16, optional
        The value is ``table[code]``; NaN in the table means missing. In single precision give float32, or it is
        rounded each time.
    fill : int, optional
        Without a table: the integer code of a missing cell. Floats are missing where they are not finite.
    has_intercept : bool
        `LinearDesign.has_intercept`; without it the pilot stays zero.

    Notes
    -----
    Missing cells add nothing to the products; their q q' is kept so that the solution is exact for each feature.
    The result does not depend, to the bit, on how samples are cut into blocks or features into stripes.
    """
    rows, n_features = _checked(sums, q_rows, block, table, fill)
    if rows == 0 or n_features == 0:
        sums.rows += rows
        return
    single = sums.precision == "single"
    if table is not None:
        table = np.ascontiguousarray(table, dtype=np.float32 if single else np.float64)
    code = None if fill is None or table is not None else block.dtype.type(fill)
    if sums.rows == 0 and has_intercept:
        tiles.pilot_mean(block, min(rows, PILOT_ROWS), table, code, sums.pilot)
        if single and table is not None:  # subtracted in float32 there, so it must be one
            sums.pilot[:] = sums.pilot.astype(np.float32)
    q = np.empty((rows, q_rows.shape[1] + 1))
    q[:, :-1] = q_rows
    q[:, -1] = 1.0
    pilot: NDArray[Any] = sums.pilot.astype(np.float32) if single and table is not None else sums.pilot
    done = 0
    while True:
        if single:
            phase = sums.rows % tiles.SINGLE_RUN
            arguments = (q.astype(np.float32), q, sums.products, sums.squares, sums.run, phase)
            done = tiles.accumulate_single(
                block, table, code, pilot, *arguments, sums.gram_missing, sums.n_missing, done
            )
        else:
            done = tiles.accumulate_double(
                block, table, code, pilot, q, sums.products, sums.squares, sums.gram_missing, sums.n_missing, done
            )
        if done >= n_features:
            break
        sums.gram_missing = np.zeros((n_features, sums.gram_missing.shape[1]))
        sums.n_missing = np.zeros(n_features, dtype=np.int64)
    sums.rows += rows


def _checked(
    sums: LinearSums, q_rows: Floats, block: NDArray[Any], table: NDArray[Any] | None, fill: int | None
) -> tuple[int, int]:
    """Refuse what the machine code, which checks no bounds, would read wrongly."""
    if block.ndim != 2 or block.shape[1] != sums.n_features:
        raise DataError(f"the sums hold {sums.n_features} features and the block has shape {block.shape}")
    rows = int(block.shape[0])
    if q_rows.shape != (rows, sums.products.shape[0] - 1):
        raise DataError(
            f"a block of {rows} samples needs rows of the design of shape {(rows, sums.products.shape[0] - 1)}, "
            f"not {q_rows.shape}"
        )
    if table is not None:
        if block.dtype not in (np.uint8, np.uint16):
            raise DataError(f"a look-up table needs uint8 or uint16 codes, not {block.dtype}")
        entries = 2 ** (8 * block.dtype.itemsize)
        if table.shape[0] < entries:
            raise DataError(f"a look-up table for {block.dtype} has {entries} entries, not {table.shape[0]}")
    elif block.dtype.kind not in "uif" or block.dtype.itemsize > 8 or block.dtype == np.float16:
        raise DataError(f"values of type {block.dtype} can't be summed; use integers, float32 or float64")
    if fill is not None and table is None:
        if block.dtype.kind == "f":
            raise DataError("a fill code belongs to integers; in floats a missing cell is NaN")
        info = np.iinfo(block.dtype)
        if not info.min <= fill <= info.max:
            raise DataError(f"the fill code {fill} does not fit in {block.dtype}")
    return rows, int(sums.n_features)
