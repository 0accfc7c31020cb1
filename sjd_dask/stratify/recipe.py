"""What a grouping is made with: every parameter declared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sjd_dask.errors import DataError, SpecError

HIERARCHICAL = "hierarchical"
KMEANS = "kmeans"
PAM = "pam"
MIXTURE = "mixture"
ALGORITHMS = (HIERARCHICAL, KMEANS, PAM, MIXTURE)
DISTANCES = ("pearson", "spearman", "euclidean")
LINKAGES = ("average", "complete", "ward")
# Labels of a resample are one byte each.
LARGEST_K = 127


@dataclass(frozen=True)
class Recipe:
    """Parameters of a consensus clustering.

    Parameters
    ----------
    algorithms : tuple of str
        Some of "hierarchical", "kmeans", "pam" and "mixture"; they are kept in this order.
    distance : str
        "pearson" (1 - correlation of two samples over features), "spearman" or "euclidean", for hierarchical and pam;
        kmeans and mixture are Euclidean by definition.
    linkage : str
        "average", "complete" or "ward" (Ward's criterion on the distance, R's ward.D2).
    k : tuple of int
        Numbers of groups to try, each above 1.
    resamples : int
        How many; below 65,536.
    sample_fraction, feature_fraction : float
        Shares drawn without replacement in each resample, in (0, 1].
    starts : int
        Random starts of each k-means. With 1, groups that hang on the start show as instability, as in
        ConsensusClusterPlus; with more they don't.
    mixture_components : int
        Principal components that the mixture is fitted on (diagonal covariances).
    seed : int
        Of the draws and the starts.

    Raises
    ------
    SpecError
        A value outside its range.
    """

    algorithms: tuple[str, ...] = (HIERARCHICAL, KMEANS, PAM, MIXTURE)
    distance: str = "pearson"
    linkage: str = "average"
    k: tuple[int, ...] = (2, 3, 4, 5, 6)
    resamples: int = 500
    sample_fraction: float = 0.8
    feature_fraction: float = 1.0
    starts: int = 1
    mixture_components: int = 10
    seed: int = 1

    def __post_init__(self) -> None:
        unknown = sorted(set(self.algorithms) - set(ALGORITHMS))
        if unknown or not self.algorithms:
            raise SpecError(
                f"algorithms {list(self.algorithms)}: {unknown or 'none'} can't be used; choose from "
                f"{list(ALGORITHMS)}."
            )
        object.__setattr__(self, "algorithms", tuple(name for name in ALGORITHMS if name in self.algorithms))
        for name, known in (("distance", DISTANCES), ("linkage", LINKAGES)):
            if getattr(self, name) not in known:
                raise SpecError(f"{name} {getattr(self, name)!r} is not known; choose from {list(known)}.")
        object.__setattr__(self, "k", tuple(sorted({int(k) for k in self.k})))
        if not self.k or self.k[0] < 2 or self.k[-1] > LARGEST_K:
            raise SpecError(
                f"k {list(self.k)}: the numbers of groups to try are within 2..{LARGEST_K} (k = 1, no groups, is "
                "judged by choose_k and needs no clustering)."
            )
        for name, most in (("resamples", 65_535), ("starts", 1_000), ("mixture_components", 1_000)):
            if not 1 <= getattr(self, name) <= most:
                raise SpecError(f"{name} is {getattr(self, name)}; it must be within 1..{most}.")
        for name in ("sample_fraction", "feature_fraction"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise SpecError(f"{name} is {getattr(self, name)}; it must be above 0 and at most 1.")


def n_drawn(n: int, fraction: float) -> int:
    """Samples or features that a share of n is; 0.8 of 10 is 8 whatever binary fractions say."""
    return int(np.floor(n * fraction + 1e-9))


def check_values(values: NDArray[np.float64], sample_ids: Sequence[str], recipe: Recipe) -> None:
    """Refuse what can't be grouped, by name.

    Raises
    ------
    DataError
        Missing or infinite values, ids that repeat, fewer than 2 features, a sample without variance where the
        distance is a correlation.
    SpecError
        A k above the number of samples that a resample draws.
    """
    if values.ndim != 2 or len(sample_ids) != len(values):
        raise DataError(f"values of shape {values.shape} and {len(sample_ids)} sample ids don't belong together.")
    n, p = values.shape
    if len(set(sample_ids)) != n:
        names, counts = np.unique(np.asarray(sample_ids, dtype=str), return_counts=True)
        twice = [str(name) for name in names[counts > 1]]
        raise DataError(f"sample ids repeat ({_some(twice)}): draws are keyed by id. Give each sample its own.")
    if p < 2:
        raise DataError(f"{p} feature(s): grouping needs at least 2. Choose more features.")
    bad = ~np.isfinite(values)
    if bad.any():
        rows, columns = bad.any(axis=1), bad.any(axis=0)
        raise DataError(
            f"{int(bad.sum())} missing or infinite values, in {int(rows.sum())} of {n} samples "
            f"({_some(_at(sample_ids, rows))}) and {int(columns.sum())} of {p} features: a "
            "distance over different features for each pair isn't one distance. Leave out these features or samples, "
            "or impute them in a normalisation step, where it is recorded."
        )
    drawn = n_drawn(n, recipe.sample_fraction)
    if recipe.k[-1] > drawn or drawn < 2:
        raise SpecError(
            f"k = {recipe.k[-1]} groups can't be made of {drawn} samples ({recipe.sample_fraction:g} of {n}). "
            "Lower k, raise sample_fraction or bring more samples."
        )
    if n_drawn(p, recipe.feature_fraction) < 2:
        raise SpecError(f"feature_fraction {recipe.feature_fraction:g} of {p} features is fewer than 2. Raise it.")
    if recipe.distance != "euclidean" and {HIERARCHICAL, PAM} & set(recipe.algorithms):
        flat = np.ptp(values, axis=1) == 0
        if flat.any():
            raise DataError(
                f"{int(flat.sum())} of {n} samples have the same value in all {p} features "
                f"({_some(_at(sample_ids, flat))}): they have no {recipe.distance} correlation "
                "with any other. Leave them out, choose other features, or use distance: euclidean."
            )


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _at(sample_ids: Sequence[str], mask: NDArray[np.bool_]) -> list[str]:
    return [sample_ids[int(i)] for i in np.flatnonzero(mask)]
