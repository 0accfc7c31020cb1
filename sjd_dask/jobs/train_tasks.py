"""What workers do for a training: judge features by stripes, fit one fold or the final model. Kept light."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask.classify.recipe import Recipe
from sjd_dask.jobs.arrays_table import to_table
from sjd_dask.jobs.normalise_source import Source
from sjd_dask.normalise.method import Partial, Stripe
from sjd_dask.runtime.plan import Partition

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fold:
    """One fit and whom it judges.

    Attributes
    ----------
    repeat, number : int
        Of the outer folds; number -1: the final model, trained on everybody and judging nobody.
    source : Source
        Samples with their values, without steps.
    features : ndarray of int64
        Places in the source of the features that the fit may look at, ascending.
    train, test : ndarray of int64
        Places of the samples in the source.
    labels, core, persons : ndarray
        Of the samples trained on: class in this fold, whether it is core, person.
    """

    repeat: int
    number: int
    source: Source
    features: Ints
    train: Ints
    test: Ints
    labels: NDArray[Any]
    core: NDArray[np.bool_]
    persons: NDArray[Any]

    @property
    def is_final(self) -> bool:
        """Whether its classifier is the one that is published."""
        return self.number < 0


@dataclass(frozen=True)
class FitWork:
    """What the fits share."""

    folds: tuple[Fold, ...]
    recipe: Recipe


@dataclass(frozen=True)
class Views:
    """Training sets within a fold: all of it, and what each inner fold leaves of it.

    Attributes
    ----------
    rows : tuple of ndarray of int64
        Places of the samples of each in the source.
    y : ndarray of int64
        Classes of all samples of the source; -1: not trained on.
    persons : ndarray of str
        Of all samples of the source.
    n_classes : int
    recipe : Recipe
    """

    rows: tuple[Ints, ...]
    y: Ints
    persons: NDArray[Any]
    n_classes: int
    recipe: Recipe


def judge_stripe(stripe: Stripe, views: Views) -> Partial:
    """What decides, feature by feature, whether a fit may come to look at it.

    ``f``: F between the classes in each training set as the fit will see it, -1 where it can't be chosen, (views,
    width). ``variance``: over all samples of the fold, -1 where a value lacks too often or none differs, (width,).
    """
    from sjd_dask.classify.panel import training_weights
    from sjd_dask.classify.prefilter import class_sums, rounded

    least = 1.0 - views.recipe.max_missing - 1e-12
    found = np.empty((len(views.rows), stripe.values.shape[1]))
    for i, rows in enumerate(views.rows):
        y, persons = views.y[rows], views.persons[rows]
        values = np.ascontiguousarray(stripe.values[rows])
        sums = class_sums(values, y, views.n_classes, training_weights(y, persons, views.recipe))
        found[i] = np.where(sums.known_share(len(rows)) >= least, rounded(sums.f_statistics()), -1.0)
    values = stripe.values[views.y >= 0]
    known = np.isfinite(values)
    held = np.where(known, values, 0.0)
    count = np.maximum(known.sum(axis=0), 1)
    away = np.where(known, held - held.sum(axis=0) / count, 0.0)
    variance = rounded((away**2).sum(axis=0) / count)
    usable = (known.mean(axis=0) >= least) & (variance > 0)
    return Partial(columns={"f": found, "variance": np.where(usable, variance, -1.0)})


def take(source: Source, rows: Ints, features: Ints) -> Floats:
    """Values of some samples and features, (rows, features); of the others none is kept."""
    part = replace(source, matrix=replace(source.matrix, reader=source.reader.subset(rows)), context={})
    place = {one: i for i, one in enumerate(part.reader.sample_ids)}
    part = replace(part, sheet=source.sheet.iloc[rows])
    values = np.empty((len(rows), len(features)))
    for block in part.raw_blocks(0, len(rows)):
        values[[place[one] for one in block.sample_ids]] = block.values[:, features]
    return values


def fit_task(work: FitWork, partition: Partition) -> pa.Table:
    """Fit one fold and judge its held-out samples, or make the final classifier."""
    from sjd_dask.classify.fitting import fit_classifier

    fold = work.folds[partition.extras["fold"]]
    reader = fold.source.reader
    feature_ids = fold.source.feature_ids[fold.features]
    values = take(fold.source, fold.train, fold.features)
    fitted = fit_classifier(
        values,
        fold.labels,
        fold.persons,
        [reader.sample_ids[i] for i in fold.train],
        feature_ids.tolist(),
        work.recipe,
        core=fold.core,
    )
    classifier = fitted.classifier
    place = {one: i for i, one in enumerate(feature_ids)}
    columns = np.array([place[one] for one in classifier.features], dtype=np.int64)
    groups: dict[str, dict[str, Any]] = {
        "panel": _columns(fitted.panel),
        "sizes": _columns(fitted.sizes),
        "classes": {"name": np.array(classifier.classes)},
    }
    if fold.is_final:
        files = classifier.to_files()
        groups["files"] = {name: np.frombuffer(blob, dtype=np.uint8) for name, blob in files.items()}
        groups["values"] = {"panel": values[:, columns[: classifier.n_panel]]}
        groups["inner"] = _columns(fitted.inner)
        return to_table(groups)
    test = take(fold.source, fold.test, fold.features[columns])
    found = classifier.predict(test)
    groups["judged"] = {
        "sample": np.array([reader.sample_ids[i] for i in fold.test], dtype=str),
        "probabilities": found.probabilities,
        "uncalibrated": classifier.model.probabilities(np.ascontiguousarray(test[:, : classifier.n_panel])),
        "conformal": found.conformal,
        "top": found.top,
        "ood_score": found.ood_score,
        "n_missing": found.n_missing,
        "status": np.asarray(found.status, dtype=str),
    }
    return to_table(groups)


def _columns(frame: pd.DataFrame) -> dict[str, NDArray[Any]]:
    made = {}
    for name in frame.columns:
        column = frame[name].to_numpy()
        made[str(name)] = column.astype(str) if column.dtype.kind == "O" else column
    return made
