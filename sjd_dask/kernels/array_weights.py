"""One weight a sample from how far its values lie from the model: limma's arrayWeights (Ritchie and others 2006).

A sample's variance is exp(gamma) times that of the feature, the gammas sum to zero, and the weight is exp(-gamma).
`GeneByGene` goes through the features once, one scoring step each: its result depends on their order. `reml` sums over
all features under the same weights, then takes one step, and so on until it stands still: any order, any number of
workers.

With the information matrix A = prior + sum over features of (H - h h' / sum h), the vector of ones is an eigenvector of
A. So a step that keeps the sum of the gammas is A^-1 (z - mean z), in the samples' own coordinates, and no basis of
contrasts is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve

from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels.array_weights_tiles import gene_by_gene, plain_sums, weighted_sums
from sjd_dask.kernels.linear_sums import Floats, LinearDesign

ArrayMethod = Literal["auto", "genebygene", "reml"]

#: Weight, in features, of the prior that all samples are alike.
PRIOR_N = 10.0
#: Steps and tolerance of `reml`, as arrayWeights has them.
MOST_STEPS = 50
TOLERANCE = 1e-5


@dataclass
class GeneByGene:
    """The pass over features in their order; `update` it stripe by stripe.

    Attributes
    ----------
    log_weights : ndarray of float64, (n,)
    information : ndarray of float64, (n, n)
    """

    design: LinearDesign
    log_weights: Floats = field(init=False)
    information: Floats = field(init=False)
    prior: float = PRIOR_N

    def __post_init__(self) -> None:
        self.log_weights = np.zeros(self.design.n)
        self.information = self.prior * np.eye(self.design.n)

    @property
    def weights(self) -> Floats:
        """(n,) weights after the features seen so far."""
        found: Floats = np.exp(self.log_weights)
        return found

    def update(self, values: NDArray[Any], weights: NDArray[Any] | None = None) -> None:
        """Take in the next features: values (n, F) and their weights (n, F) or None; NaN and weight 0 are missing."""
        table, given = _features_first(values, weights)
        gene_by_gene(table, given, np.ascontiguousarray(self.design.q), self.log_weights, self.information)


@dataclass(frozen=True)
class RemlSums:
    """What the features of a stripe add to one step of `reml`; stripes are added with +.

    Attributes
    ----------
    n_features : int
        Features that take part.
    n_missing : int
        Features left out because a value is missing.
    excess : ndarray of float64, (n,)
        Sum over features of weighted squared residuals over the variance, less their expectation.
    information : ndarray of float64, (n, n)
        Sum over features; zeros without weights of cells, where it follows from the design.
    """

    n_features: int
    n_missing: int
    excess: Floats
    information: Floats

    def __add__(self, other: RemlSums) -> RemlSums:
        return RemlSums(
            self.n_features + other.n_features,
            self.n_missing + other.n_missing,
            self.excess + other.excess,
            self.information + other.information,
        )


def reml_sums(
    values: NDArray[Any], design: LinearDesign, sample_weights: Floats, weights: NDArray[Any] | None = None
) -> RemlSums:
    """Sums of one step over the features of a stripe: values (n, F), weights of cells (n, F) or None.

    Features with a missing value (or a cell of weight zero) take no part, as limma's arrayWeights has it.
    """
    table, given = _features_first(values, weights)
    complete = np.isfinite(table).all(axis=1)
    if given.shape[0]:
        complete &= (given > 0).all(axis=1) & np.isfinite(given).all(axis=1)
        given = np.ascontiguousarray(given[complete])
    n = design.n
    excess, information = np.zeros(n), np.zeros((n, n)) if given.shape[0] else np.zeros((0, 0))
    table = np.ascontiguousarray(table[complete])
    used = 0
    if given.shape[0]:
        used = int(weighted_sums(table, given, design.q, sample_weights, excess, information))
    elif weights is None and table.shape[0]:
        root = np.sqrt(sample_weights)
        basis = np.linalg.qr(design.q * root[:, None])[0]
        used = int(plain_sums(table, np.ascontiguousarray(basis), root, excess))
    return RemlSums(used, int((~complete).sum()), excess, information)


@dataclass(frozen=True)
class RemlStep:
    """Weights (n,) after a step; whether it was the last; a remark."""

    weights: Floats
    done: bool
    change: float
    note: str | None = None


def reml_step(
    sums: RemlSums,
    design: LinearDesign,
    sample_weights: Floats,
    step: int,
    last_change: float = np.inf,
    *,
    prior: float = PRIOR_N,
) -> RemlStep:
    """The next weights from the sums of all features under `sample_weights`.

    Parameters
    ----------
    sums : RemlSums
    design : LinearDesign
    sample_weights : ndarray of float64, (n,)
    step : int
        Steps made before this one.
    last_change : float
        `RemlStep.change` of the one before.
    """
    n = design.n
    if sums.n_features < 2:
        note = "fewer than two features are complete and vary: the weights of samples are one"
        return RemlStep(np.ones(n), True, 0.0, note)
    total = sums.n_features + prior
    cells = sums.information.size > 0
    information = sums.information if cells else sums.n_features * _information(design, sample_weights)
    z = (sums.excess + prior * (sample_weights - 1.0)) / total
    z -= z.mean()
    move = cho_solve(cho_factor((information + prior * np.eye(n)) / total), z)
    # With weights of cells limma divides by the number of features once more.
    change = float(z @ move) / (n - 1) / (total if cells else 1.0)
    if np.isnan(change) or (not cells and change >= last_change):
        return RemlStep(sample_weights, True, change, "the weights of samples stopped converging: the last are taken")
    new = np.exp(np.log(sample_weights) - move)
    if change < TOLERANCE:
        return RemlStep(new, True, change)
    if step + 1 >= MOST_STEPS:
        return RemlStep(new, True, change, f"the weights of samples did not converge in {MOST_STEPS} steps")
    return RemlStep(new, False, change)


def array_weights(
    values: ArrayLike,
    design: LinearDesign,
    weights: ArrayLike | None = None,
    *,
    method: ArrayMethod = "auto",
    prior: float = PRIOR_N,
) -> Floats:
    """Weights of samples from a matrix held in memory.

    Parameters
    ----------
    values : (n, F)
        NaN is missing.
    design : LinearDesign
    weights : (n, F), optional
        Weights of cells, as voom gives them.
    method : {'auto', 'genebygene', 'reml'}
        'auto' is limma 3.54's rule: 'reml' for complete values without weights, else 'genebygene'.
    prior : float
        Features' worth of belief that all samples are alike.

    Returns
    -------
    ndarray of float64, (n,)
        Their geometric mean is one. Ones where there are fewer than two features or two residual degrees of freedom.

    Raises
    ------
    SpecError
        An unknown method.
    DataError
        Weights that are missing, negative or infinite.
    """
    table = np.asarray(values, dtype=np.float64)
    cells = None if weights is None else np.asarray(weights, dtype=np.float64)
    if method not in ("auto", "genebygene", "reml"):
        raise SpecError(f"method is auto, genebygene or reml; not {method!r}")
    if cells is not None and not (np.isfinite(cells).all() and (cells >= 0).all()):
        raise DataError("weights of cells must be finite and not negative")
    if table.shape[1] < 2 or design.df_residual < 2:
        return np.ones(design.n)
    if method == "auto":
        method = "reml" if cells is None and np.isfinite(table).all() else "genebygene"
    if method == "genebygene":
        state = GeneByGene(design, prior=prior)
        state.update(table, cells)
        return state.weights
    found = np.ones(design.n)
    change = np.inf
    for step in range(MOST_STEPS):
        taken = reml_step(reml_sums(table, design, found, cells), design, found, step, change, prior=prior)
        found, change = taken.weights, taken.change
        if taken.done:
            break
    return found


def _features_first(values: NDArray[Any], weights: NDArray[Any] | None) -> tuple[Floats, Floats]:
    """Features in rows; no rows of weights where there are none."""
    table = np.ascontiguousarray(np.asarray(values, dtype=np.float64).T)
    given = np.zeros((0, 0)) if weights is None else np.ascontiguousarray(np.asarray(weights, dtype=np.float64).T)
    if given.size and given.shape != table.shape:
        raise DataError(f"weights of shape {given.T.shape} don't fit values of shape {table.T.shape}")
    return table, given


def _information(design: LinearDesign, sample_weights: Floats) -> Floats:
    """What one complete feature adds to the information of the log variances of the samples."""
    basis = np.linalg.qr(design.q * np.sqrt(sample_weights)[:, None])[0]
    hat = basis @ basis.T
    free = 1.0 - np.diag(hat)
    found: Floats = np.diag(2.0 * free - 1.0) + hat**2 - np.outer(free, free) / design.df_residual
    return found
