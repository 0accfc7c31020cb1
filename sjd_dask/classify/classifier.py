"""A classifier that is trained and frozen: arrays, thresholds, and what they say of one sample after another."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sjd_dask.classify import conformal
from sjd_dask.classify.calibrate import Calibrator
from sjd_dask.classify.distribution import Distribution
from sjd_dask.classify.model_file import check_pipeline, load_pipeline
from sjd_dask.classify.models import GRIDS, Model
from sjd_dask.classify.recipe import Recipe
from sjd_dask.errors import DataError, FormatVersionError, SpecError
from sjd_dask.kernels.scoring import missing_per_row, top_class

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FORMAT_VERSION = 1
CALLED, ABSTAINED = "called", "abstained"
OUT_OF_DISTRIBUTION, MISSING_DATA = "out_of_distribution", "missing_data"
STATUSES = (CALLED, ABSTAINED, OUT_OF_DISTRIBUTION, MISSING_DATA)
MODEL_FILE, ARRAY_FILE, FACTS_FILE = "model.skops", "arrays.npz", "classifier.json"
_PARTS = ("model", "calibrator", "distribution")


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of n samples; k classes.

    Parameters
    ----------
    probabilities : ndarray (n, k)
        Calibrated, of the classes in their order; NaN where status is missing_data.
    top : ndarray of int64 (n,)
        Position of the largest, of equals the first; -1 without probabilities.
    confidence : ndarray (n,)
        The largest probability.
    conformal : ndarray of bool (n, k)
        Classes in the conformal set.
    ood_score : ndarray (n,)
        How far from the training samples, in the unit of its threshold; NaN where status is missing_data.
    n_missing : ndarray of int64 (n,)
        Features without a value, of panel and sentinels.
    status : ndarray of object (n,)
        One of `STATUSES`.
    """

    probabilities: Floats
    top: Ints
    confidence: Floats
    conformal: NDArray[np.bool_]
    ood_score: Floats
    n_missing: Ints
    status: NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class Classifier:
    """A frozen classifier.

    Parameters
    ----------
    classes : tuple of str
        In order of name.
    features : ndarray of object (q,)
        Ids of the columns of `predict`: the panel, then the sentinels.
    n_panel : int
    model, calibrator, distribution
        The frozen parts.
    threshold : float
        Of the conformal sets.
    recipe : Recipe
    parameters : dict
        Of the model, as the inner folds chose them.
    pipeline_bytes : bytes
        The fitted scikit-learn pipeline in the format of skops. Nothing is predicted with it.
    """

    classes: tuple[str, ...]
    features: NDArray[np.object_]
    n_panel: int
    model: Model
    calibrator: Calibrator
    distribution: Distribution
    threshold: float
    recipe: Recipe
    parameters: Mapping[str, Any]
    pipeline_bytes: bytes

    # A row is judged by itself, so work goes on in pieces that stay in the cache; results don't depend on it.
    _ROWS: ClassVar[int] = 4096

    @property
    def panel(self) -> NDArray[np.object_]:
        """Ids of the features that the model looks at, (n_panel,)."""
        return self.features[: self.n_panel]

    @property
    def sentinels(self) -> NDArray[np.object_]:
        """Ids of the features that only tell whether a sample is in distribution."""
        return self.features[self.n_panel :]

    def predict(self, values: NDArray[Any]) -> Predictions:
        """Probabilities, class, conformal set and status of each sample.

        Parameters
        ----------
        values : ndarray (n, q)
            Columns in the order of `features`. Anything not finite is missing: it counts as the mean of the training
            samples.

        Returns
        -------
        Predictions
            A sample's numbers are the same bits alone, in any batch, order or layout of memory. Status: missing_data if
            more than ``recipe.max_missing`` of the panel or of all features are missing; else out_of_distribution if
            the score is above the threshold; else called if the conformal set is exactly the top class; else
            abstained.

        Raises
        ------
        DataError
            Another number of columns than features.
        """
        if values.ndim != 2 or values.shape[1] != len(self.features):
            raise DataError(
                f"values of shape {values.shape}: this classifier takes (samples, {len(self.features)}), a column for "
                "each of its features, in their order."
            )
        pieces = [self._predict(values[i : i + self._ROWS]) for i in range(0, max(len(values), 1), self._ROWS)]
        if len(pieces) == 1:
            return pieces[0]
        names = Predictions.__dataclass_fields__
        return Predictions(**{name: np.concatenate([getattr(one, name) for one in pieces]) for name in names})

    def _predict(self, values: NDArray[Any]) -> Predictions:
        rows = np.ascontiguousarray(values, dtype=np.float64)
        q = len(self.features)
        n_missing = missing_per_row(rows, 0, q)
        # 0.1 of 30 features is 3, whatever binary fractions say.
        most = self.recipe.max_missing + 1e-9
        lacking = (n_missing > most * q) | (missing_per_row(rows, 0, self.n_panel) > most * self.n_panel)
        probabilities = self.calibrator.apply(self.model.scores(rows[:, : self.n_panel]))
        probabilities[lacking] = np.nan
        if not np.isfinite(rows).all():
            # The array may be the caller's own.
            rows = np.where(np.isfinite(rows), rows, np.nan)
        ood_score = np.array(self.distribution.score(rows), dtype=np.float64)
        ood_score[lacking] = np.nan
        top = np.asarray(top_class(probabilities))
        confidence = np.where(top >= 0, probabilities[np.arange(len(rows)), np.maximum(top, 0)], np.nan)
        held = conformal.sets(probabilities, self.threshold)
        sure = (held.sum(axis=1) == 1) & held[np.arange(len(rows)), np.maximum(top, 0)]
        status = np.full(len(rows), ABSTAINED, dtype=object)
        status[sure] = CALLED
        status[ood_score > self.distribution.threshold] = OUT_OF_DISTRIBUTION
        status[lacking] = MISSING_DATA
        return Predictions(probabilities, top, confidence, held, ood_score, n_missing, status)

    def pipeline(self) -> Any:
        """The scikit-learn pipeline of the panel (imputation, scaling, model), for looking into; not calibrated."""
        return load_pipeline(self.pipeline_bytes)

    def hash(self) -> str:
        """BLAKE2b of everything that a prediction hangs on, 32 hexadecimal digits."""
        made = hashlib.blake2b(json.dumps(self._facts(), sort_keys=True).encode(), digest_size=16)
        for name, array in sorted(self._arrays().items()):
            made.update(f"\x1e{name}\x1f{array.dtype.str}\x1f{array.shape}\x1f".encode())
            made.update(array.tobytes())
        return made.hexdigest()

    def to_files(self) -> dict[str, bytes]:
        """The files of a bundle, by name; equal classifiers have equal bytes."""
        arrays = io.BytesIO()
        with zipfile.ZipFile(arrays, "w", zipfile.ZIP_DEFLATED) as made:
            for name, array in sorted(self._arrays().items()):
                out = io.BytesIO()
                np.lib.format.write_array(out, np.asarray(array, order="C"), allow_pickle=False)
                made.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), out.getvalue())
        facts = {**self._facts(), "hash": self.hash()}
        return {
            MODEL_FILE: self.pipeline_bytes,
            ARRAY_FILE: arrays.getvalue(),
            FACTS_FILE: json.dumps(facts, indent=1, sort_keys=True).encode(),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Classifier:
        """The classifier of `to_files`.

        Raises
        ------
        DataError
            A file is missing or damaged, holds a type that isn't known to be harmless (named), or its numbers aren't
            those that were stored.
        FormatVersionError
            Written by a newer version of this package.
        """
        absent = [name for name in (MODEL_FILE, ARRAY_FILE, FACTS_FILE) if name not in files]
        if absent:
            raise DataError(
                f"this bundle has no {', '.join(absent)}: it isn't whole. Restore it from a backup or train again."
            )
        check_pipeline(files[MODEL_FILE])
        try:
            facts = json.loads(files[FACTS_FILE])
            with np.load(io.BytesIO(files[ARRAY_FILE]), allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except (ValueError, OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
            raise DataError(
                f"the classifier of this bundle can't be read ({error}): its files are damaged, or hold objects that "
                "would need pickle, which is never loaded. Restore the bundle from a backup or train again."
            ) from error
        if facts.get("format_version", 0) > FORMAT_VERSION:
            raise FormatVersionError(facts["format_version"], FORMAT_VERSION, "classifier")
        try:
            made = cls._made(facts, arrays, files[MODEL_FILE])
        except (KeyError, TypeError, SpecError) as error:
            raise DataError(
                f"{FACTS_FILE} of this bundle doesn't describe a classifier ({error}). "
                "Restore the bundle from a backup or train again."
            ) from error
        if made.hash() != facts.get("hash"):
            raise DataError(
                f"the classifier of this bundle has hash {made.hash()} and {FACTS_FILE} says {facts.get('hash')}: "
                "a number was changed. Restore the bundle from a backup or train again."
            )
        return made

    @classmethod
    def _made(cls, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], pipeline: bytes) -> Classifier:
        parts = {
            part: {name.removeprefix(f"{part}_"): a for name, a in arrays.items() if name.startswith(f"{part}_")}
            for part in _PARTS
        }
        if facts["model"] not in GRIDS:
            raise SpecError(f"unknown model {facts['model']!r}")
        return cls(
            tuple(facts["classes"]),
            arrays["features"].astype(object),
            int(facts["n_panel"]),
            Model(facts["model"], parts["model"]),
            Calibrator.from_arrays(parts["calibrator"]),
            Distribution.from_arrays(parts["distribution"]),
            float(facts["threshold"]),
            Recipe(**facts["recipe"]),
            facts["parameters"],
            pipeline,
        )

    def _facts(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "classes": list(self.classes),
            "n_panel": self.n_panel,
            "model": self.model.kind,
            "parameters": dict(self.parameters),
            "threshold": self.threshold,
            "recipe": asdict(self.recipe),
        }

    def _arrays(self) -> dict[str, NDArray[Any]]:
        parts = (self.model.arrays, self.calibrator.to_arrays(), self.distribution.to_arrays())
        made = {
            f"{part}_{name}": np.asarray(a)
            for part, arrays in zip(_PARTS, parts, strict=True)
            for name, a in arrays.items()
        }
        return {"features": np.array([str(name) for name in self.features], dtype=np.str_), **made}
