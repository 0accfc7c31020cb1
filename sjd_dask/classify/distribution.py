"""Whether a sample is like those that a model was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sjd_dask.classify.conformal import person_weights, upper_share
from sjd_dask.errors import DataError
from sjd_dask.kernels.outliers import distances

FloatArray = NDArray[np.float64]

# A feature counts up to three of its standard deviations: one odd probe doesn't make a sample odd, many do.
_LIMIT = 3.0
_FOLDS = 5
_MOST_AXES = 20
_FEATURES_PER_AXIS = 5
# The least share of a feature's variance that counts as its own noise, so that no feature alone decides.
_LEAST_NOISE = 0.05
_LEAST = 1e-6
_FEWEST_PERSONS = 5
_NAMES = ("centre", "scale", "shift", "axes", "variance", "noise", "middle", "spread", "slope")


@dataclass(frozen=True)
class Distribution:
    """Frozen pattern of the features among the persons of the training, and how far off is too far.

    Parameters
    ----------
    arrays
        Named parameters of :func:`fit_distribution`.
    threshold
        A sample with a score above it is out of distribution.
    abstain_rate
        The share of new persons like the training's that the threshold was set to turn away, at most.
    is_exact
        Whether there were persons enough for that share; if not, the threshold is the largest held-out score.
    """

    arrays: Mapping[str, FloatArray] = field(repr=False)
    threshold: float
    abstain_rate: float
    is_exact: bool

    @property
    def n_features(self) -> int:
        return int(self.arrays["centre"].size)

    def score(self, values: FloatArray) -> FloatArray:
        """How far each sample is from the pattern, (n,): about 1 is exceeded by a tenth of the training's like.

        Parameters
        ----------
        values
            (n, q), features in the order of the fit; NaN is missing, and the pattern is fitted to what is there.

        Returns
        -------
        ndarray
            A row's score depends on that row alone, to the last bit. NaN where too little is seen to tell.

        Raises
        ------
        DataError
            If there are not q columns.
        """
        values = np.ascontiguousarray(values, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self.n_features:
            raise DataError(f"values of shape {values.shape} for {self.n_features} features: one column each is needed")
        return _joined(_logs(values, self.arrays), self.arrays)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything as named arrays without objects, for a file that needs no pickle."""
        facts = {
            "threshold": np.array(self.threshold),
            "abstain_rate": np.array(self.abstain_rate),
            "is_exact": np.array(self.is_exact),
        }
        return {**facts, **{f"parameter_{name}": self.arrays[name] for name in _NAMES}}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Distribution:
        """The distribution of :meth:`to_arrays`.

        Raises
        ------
        DataError
            If an array is missing.
        """
        try:
            named = {name: np.ascontiguousarray(arrays[f"parameter_{name}"], dtype=np.float64) for name in _NAMES}
            return cls(named, float(arrays["threshold"]), float(arrays["abstain_rate"]), bool(arrays["is_exact"]))
        except KeyError as error:
            raise DataError(f"the distribution in this bundle has no {error}: train the model again") from None


def fit_distribution(values: FloatArray, persons: NDArray[Any], seed: int, abstain_rate: float = 0.05) -> Distribution:
    """Learn the pattern of features among the training's persons, and how far a new person of their like may be off it.

    Parameters
    ----------
    values
        (n, q) of the training's samples; NaN is missing.
    persons
        (n,) whose sample it is.
    seed
        Of the folds; with the person's id it says which fold a person is in.
    abstain_rate
        In (0, 1): the share of such new persons that may be turned away, at most.

    Returns
    -------
    Distribution

    Raises
    ------
    DataError
        If there are fewer than 5 persons, no feature differs between samples, or the rate is not between 0 and 1.

    Notes
    -----
    The two distances of multivariate process control (Jackson and Mudholkar 1979): features are centred by their
    median, scaled and clipped at three standard deviations; from their covariance, shrunk as by Ledoit and Wolf (2004),
    come the leading axes, as many as rise above noise (Gavish and Donoho 2014; axes of noise fit those who made them
    and nobody else); a sample has a distance along the axes, and one off them, each feature in units of its own noise
    there. The score is the largest of three, each in units of its spread among held-out samples: the distance
    along, the distance off, and the distance off given that along (regressed, both as logarithms). The last one sees
    values that are each in range but don't belong together: little along the axes and much off them.

    The threshold is conformal: scores of persons that the pattern was not learned from (5 folds by person), a person
    counting once, at the quantile for which a new person of the same kind exceeds it with probability <=
    `abstain_rate`. That takes (1 - rate) / rate persons (19 for 0.05); with fewer it is the largest held-out score. The
    training's own persons, who are classified too, are not turned away more often either.
    """
    values = np.ascontiguousarray(values, dtype=np.float64)
    named = np.asarray(persons, dtype=object).astype(str)
    if not 0 < abstain_rate < 1:
        raise DataError(f"abstain_rate {abstain_rate} is not between 0 and 1: 0.05 turns at most 5 % away")
    folds = _folds(named, seed)
    n_persons = np.unique(named).size
    if n_persons < _FEWEST_PERSONS:
        raise DataError(f"{n_persons} persons: what is common among them needs {_FEWEST_PERSONS} or more")
    most = max(1, min(_MOST_AXES, values.shape[1] // _FEATURES_PER_AXIS, n_persons // _FEATURES_PER_AXIS))
    held = np.empty((values.shape[0], 2))
    for fold in range(_FOLDS):
        out = folds == fold
        held[out] = _logs(values[out], _pattern(values[~out], most))
    arrays = _pattern(values, most)
    told = np.isfinite(held).all(axis=1)
    if not told.any():
        raise DataError(f"none of {len(held)} samples has values enough to learn what is common among them")
    arrays |= _joining(held[told])
    scores = _joined(held[told], arrays)
    weights = person_weights(named[told])
    # The conformal quantile from above: of the scores' opposites the share that stays below must be 1 - rate.
    cut = -upper_share(-scores, weights, 1 - abstain_rate, beyond=-np.inf)
    exact = bool(np.isfinite(cut))
    own = _joined(_logs(values[told], arrays), arrays)
    own_cut = -upper_share(-own, weights, 1 - abstain_rate, beyond=-np.inf)
    least = own_cut if np.isfinite(own_cut) else own.max()
    return Distribution(arrays, max(float(cut) if exact else float(scores.max()), float(least)), abstain_rate, exact)


def _folds(persons: NDArray[Any], seed: int) -> NDArray[np.int64]:
    """A fold for each sample by its person, of sizes as equal as can be, by (seed, id) alone."""
    names = np.unique(persons)
    drawn = sorted(names, key=lambda name: hashlib.blake2b(f"{seed}|distribution|{name}".encode()).digest())
    place = {name: at % _FOLDS for at, name in enumerate(drawn)}
    return np.array([place[name] for name in persons], dtype=np.int64)


def _pattern(values: FloatArray, most: int) -> dict[str, FloatArray]:
    from sklearn.covariance import ledoit_wolf

    filled = np.isfinite(values)
    counted = filled.sum(axis=0) >= 2
    centre = np.zeros(values.shape[1])
    scale = np.full(values.shape[1], np.inf)
    if counted.any():
        seen = np.where(filled, values, np.nan)[:, counted]
        centre[counted] = np.nanmedian(seen, axis=0)
        spread = np.nanstd(seen, axis=0)
        robust = 1.4826 * np.nanmedian(np.abs(seen - centre[counted]), axis=0)
        wide = np.maximum(robust, spread / 2)
        # A feature that is the same for all has no scale to measure by.
        scale[counted] = np.where(spread > 1e-12 * np.maximum(1, np.abs(centre[counted])), wide, np.inf)
    if np.isinf(scale).all():
        raise DataError(f"none of {values.shape[1]} features differs between the samples: nothing to learn from them")
    z = np.clip(np.where(filled, values - centre, 0.0) / scale, -_LIMIT, _LIMIT)
    shift = z.mean(axis=0)
    z -= shift
    z[~filled] = 0.0
    covariance, _ = ledoit_wolf(z, assume_centered=True)
    n_axes = min(most, _above_noise(z))
    variances, axes = np.linalg.eigh(covariance)
    lead = np.ascontiguousarray(axes[:, ::-1][:, :n_axes])
    variance = np.maximum(variances[::-1][:n_axes], _LEAST)
    rest = z - (z @ lead) @ lead.T
    noise = (rest**2).sum(axis=0) / max(1, len(z) - n_axes - 1)
    return {
        "centre": centre,
        "scale": scale,
        "shift": shift,
        "axes": lead,
        "variance": np.ascontiguousarray(variance),
        "noise": np.maximum(noise, _LEAST_NOISE),
    }


def _above_noise(z: FloatArray) -> int:
    """How many singular values are above what noise of the same median has; at least 1."""
    shape = min(z.shape) / max(z.shape)
    found = np.linalg.svd(z, compute_uv=False)
    # Gavish and Donoho's hard threshold for noise of unknown size, within 0.02 of the exact one.
    limit = (0.56 * shape**3 - 0.95 * shape**2 + 1.82 * shape + 1.43) * float(np.median(found))
    return max(1, int((found > limit).sum()))


def _logs(values: FloatArray, arrays: Mapping[str, FloatArray]) -> FloatArray:
    if len(values) == 0:
        return np.empty((0, 2))
    centring = (arrays[name] for name in ("centre", "scale", "shift"))
    shape = (arrays[name] for name in ("axes", "variance", "noise"))
    logs: FloatArray = distances(np.ascontiguousarray(values), *centring, _LIMIT, *shape, _LEAST)
    return logs


def _joining(held: FloatArray) -> dict[str, FloatArray]:
    """Middle and spread of the three scores among held-out samples, and the slope of the third."""
    along, off = held[:, 0], held[:, 1]
    centred = along - along.mean()
    total = float(centred @ centred)
    slope = float(centred @ off) / total if total > _LEAST else 0.0
    three = np.column_stack([along, off, off - slope * along])
    middle = np.median(three, axis=0)
    spread = np.maximum(np.quantile(three, 0.9, axis=0) - middle, 1e-3)
    return {"middle": middle, "spread": spread, "slope": np.array([slope])}


def _joined(logs: FloatArray, arrays: Mapping[str, FloatArray]) -> FloatArray:
    middle, spread, slope = arrays["middle"], arrays["spread"], float(arrays["slope"][0])
    along, off = logs[:, 0], logs[:, 1]
    parts = [(part - middle[i]) / spread[i] for i, part in enumerate((along, off, off - slope * along))]
    return np.maximum(np.maximum(parts[0], parts[1]), parts[2])
