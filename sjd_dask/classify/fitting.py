"""From labelled samples to a frozen classifier: everything that is fitted is fitted again inside every inner fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from sjd_dask import names
from sjd_dask.classify.calibrate import cross_calibrated, fit_calibrator
from sjd_dask.classify.classifier import Classifier
from sjd_dask.classify.conformal import fit_threshold, person_weights
from sjd_dask.classify.distribution import fit_distribution
from sjd_dask.classify.model_file import dump_pipeline
from sjd_dask.classify.models import FLOOR, GRIDS, Model, Parameters, fit_model
from sjd_dask.classify.panel import select_panel, select_panels, training_weights
from sjd_dask.classify.panel_size import choose_size, sizes_table
from sjd_dask.classify.panel_table import panel_table
from sjd_dask.classify.recipe import Recipe
from sjd_dask.classify.sentinels import choose_sentinels
from sjd_dask.classify.splits import draw_seed, person_folds
from sjd_dask.errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Fitted:
    """What `fit_classifier` gives back.

    Parameters
    ----------
    classifier : Classifier
    inner : DataFrame
        One row a sample, in the order given: sample_id, person_id, label, fold, ``p_<class>`` (made by a panel, model
        and calibrator that never saw the person) and ``uncalibrated_<class>``.
    panel : DataFrame
        See `panel_table`.
    sizes : DataFrame
        See `sizes_table`: one row for each size of panel that was tried.
    """

    classifier: Classifier
    inner: pd.DataFrame
    panel: pd.DataFrame
    sizes: pd.DataFrame


@dataclass(frozen=True)
class _Training:
    """Labelled samples in order of their ids: nothing below hangs on the order in which they came."""

    values: Floats
    y: Ints
    persons: NDArray[np.str_]
    core: NDArray[np.bool_]
    fold: Ints
    classes: tuple[str, ...]


def fit_classifier(
    values: Floats,
    labels: ArrayLike,
    persons: ArrayLike,
    sample_ids: Sequence[str],
    feature_ids: Sequence[str],
    recipe: Recipe,
    *,
    core: ArrayLike | None = None,
    sentinel: Sequence[str] | None = None,
) -> Fitted:
    """Train one classifier on all of these samples.

    Parameters
    ----------
    values : ndarray (n, p)
        Normalised values, NaN = missing.
    labels : array of str (n,)
        The class of each sample.
    persons : array of str (n,)
        Samples of a person stay together in every split, and count for one together.
    sample_ids, feature_ids : sequence of str
    recipe : Recipe
    core : array of bool (n,), optional
        Samples that panel and model are fitted on; default all. The others are judged by the inner folds too, and
        calibration, coverage and the out-of-distribution threshold are set on all.
    sentinel : sequence of str, optional
        Features, among `feature_ids`, that tell whether a sample is in distribution; default a choice of
        ``recipe.sentinels`` (see `choose_sentinels`).

    Returns
    -------
    Fitted
        The same bits in any order of the samples, with any number of threads.

    Raises
    ------
    DataError
        Ids that repeat or don't fit the values, a class with fewer persons than inner folds (or without core samples
        in the training part of one), one class only, no feature to use.

    Notes
    -----
    Persons are dealt into ``recipe.inner`` folds. For each fold the prefilter, the panel, the scaling and the model
    (for each of a few parameters, and where ``panel_size`` is "auto" of a few sizes of panel) are made from the others,
    and score the fold. The parameters with the smallest log loss are taken, of the size that `choose_size` gives; their
    scores make the calibrator (Platt, isotonic or temperature), and, calibrated by the other folds' calibrator, the
    conformal threshold. Then panel and model are made once more from all.

    Features may have been chosen before by their F statistic only if the choice holds the ``recipe.prefilter`` best of
    *each* inner training part (see `inner_folds` and `ClassSums`): a choice that saw the labels of a held-out person
    makes coverage and calibration look better than they are.
    """
    _check(values, labels, persons, sample_ids, feature_ids, core, sentinel)
    ids = np.asarray(sample_ids, dtype=str)
    order = np.argsort(ids, kind="stable")
    label = np.asarray(labels, dtype=str)[order]
    person = np.asarray(persons, dtype=str)[order]
    classes = tuple(str(name) for name in np.unique(label))
    y = np.searchsorted(np.asarray(classes), label).astype(np.int64)
    ordered = np.asarray(values)[order].astype(np.float64, copy=False)  # a copy: the caller's stays as it is
    ordered[~np.isfinite(ordered)] = np.nan
    training = _Training(
        ordered,
        y,
        person,
        np.ones(len(y), dtype=bool) if core is None else np.asarray(core, dtype=bool)[order],
        inner_folds(person, label, recipe),
        classes,
    )
    _check_folds(training, recipe)
    with threadpool_limits(1):
        return _fit(training, ids[order], order, np.asarray(feature_ids, dtype=object), recipe, sentinel)


def inner_folds(persons: ArrayLike, labels: ArrayLike, recipe: Recipe) -> Ints:
    """The inner fold of each sample, (n,): see `person_folds`."""
    return person_folds(persons, labels, recipe.inner, draw_seed(recipe.seed, "inner"))


def _fit(
    data: _Training,
    sample_ids: NDArray[np.str_],
    order: Ints,
    feature_ids: NDArray[np.object_],
    recipe: Recipe,
    sentinel: Sequence[str] | None,
) -> Fitted:
    n, k = len(data.y), len(data.classes)
    grid, sizes = GRIDS[recipe.model], recipe.sizes
    weights = person_weights(data.persons)
    tried = (len(sizes), len(grid), n, k)
    scores, own = np.empty(tried), np.empty(tried)
    panels: list[list[Ints]] = []
    for fold in range(recipe.inner):
        held = data.fold == fold
        panels.append(_panels(data, ~held & data.core, recipe, fold))
        for i, panel in enumerate(panels[-1]):
            if i and len(panel) == len(panels[-1][i - 1]) and np.array_equal(panel, panels[-1][i - 1]):
                # The method ranks no more features: a larger size changes nothing.
                scores[i, :, held], own[i, :, held] = scores[i - 1, :, held], own[i - 1, :, held]
                continue
            part = data.values[np.ix_(held, panel)]
            for j, parameters in enumerate(grid):
                model, _ = _model(data, ~held & data.core, panel, recipe, parameters, fold)
                scores[i, j, held], own[i, j, held] = model.scores(part), model.probabilities(part)
    losses = -np.log(np.maximum(own[:, :, np.arange(n), data.y], FLOOR))
    best = np.argmin(np.round((losses @ weights) / weights.sum(), 9), axis=1)
    chosen, loss, error = choose_size(losses[np.arange(len(sizes)), best], data.persons)
    parameters, scores, own = grid[best[chosen]], scores[chosen, best[chosen]], own[chosen, best[chosen]]
    final = _panel(data, data.core, recipe, sizes[chosen])
    model, pipeline = _model(data, data.core, final, recipe, parameters, "all")
    method: Any = recipe.calibration
    scale: Any = model.scale
    calibrator = fit_calibrator(scores, data.y, weights, method, scale=scale)
    probabilities = cross_calibrated(scores, data.y, data.fold, weights, method, scale=scale)
    threshold = fit_threshold(probabilities, data.y, data.persons, recipe.coverage)
    if sentinel is None:
        beside = choose_sentinels(data.values, feature_ids, final, recipe)
    else:
        at = {str(name): j for j, name in enumerate(feature_ids)}
        beside = np.array([j for j in (at[str(name)] for name in sentinel) if j not in set(final)], dtype=np.int64)
    columns = np.concatenate([final, beside])
    distribution = fit_distribution(
        np.ascontiguousarray(data.values[:, columns]), data.persons, recipe.seed, recipe.abstain_rate
    )
    classifier = Classifier(
        data.classes,
        feature_ids[columns],
        len(final),
        model,
        calibrator,
        distribution,
        threshold,
        recipe,
        parameters,
        dump_pipeline(pipeline),
    )
    inner = pd.DataFrame(
        {
            names.SAMPLE_ID: sample_ids,
            names.PERSON_ID: data.persons,
            "label": np.asarray(data.classes, dtype=object)[data.y],
            "fold": data.fold,
            **{f"p_{name}": probabilities[:, c] for c, name in enumerate(data.classes)},
            **{f"uncalibrated_{name}": own[:, c] for c, name in enumerate(data.classes)},
        }
    )
    back = np.empty(n, dtype=np.int64)
    back[order] = np.arange(n)
    table = panel_table(classifier, pipeline, data.values[np.ix_(data.core, final)], data.y[data.core])
    taken = np.concatenate([one[chosen] for one in panels])
    table["selection_frequency"] = (np.bincount(taken, minlength=len(feature_ids)) / recipe.inner)[final]
    tried_sizes = sizes_table(sizes, [[len(one) for one in fold] for fold in panels], loss, error, chosen)
    return Fitted(classifier, inner.iloc[back].reset_index(drop=True), table, tried_sizes)


def _panels(data: _Training, used: NDArray[np.bool_], recipe: Recipe, fold: int | str) -> list[Ints]:
    return select_panels(data.values[used], data.y[used], data.persons[used], len(data.classes), recipe, "panel", fold)


def _panel(data: _Training, used: NDArray[np.bool_], recipe: Recipe, size: int) -> Ints:
    own = recipe if recipe.panel_method == "none" else replace(recipe, panel_size=size)
    return select_panel(data.values[used], data.y[used], data.persons[used], len(data.classes), own, "panel", "all")


def _model(
    data: _Training, used: NDArray[np.bool_], panel: Ints, recipe: Recipe, parameters: Parameters, fold: int | str
) -> tuple[Model, Any]:
    weights = training_weights(data.y[used], data.persons[used], recipe)
    seed = draw_seed(recipe.seed, "model", fold)
    return fit_model(data.values[np.ix_(used, panel)], data.y[used], weights, recipe.model, parameters, seed)


def _check(
    values: Floats,
    labels: ArrayLike,
    persons: ArrayLike,
    sample_ids: Sequence[str],
    feature_ids: Sequence[str],
    core: ArrayLike | None,
    sentinel: Sequence[str] | None,
) -> None:
    shape = np.shape(values)
    sizes = {"labels": len(np.asarray(labels)), "persons": len(np.asarray(persons)), "sample ids": len(sample_ids)}
    if core is not None:
        sizes["core"] = len(np.asarray(core))
    wrong = [f"{size} {name}" for name, size in sizes.items() if len(shape) != 2 or size != shape[0]]
    if wrong or len(feature_ids) != shape[1]:
        raise DataError(
            f"values of shape {shape} don't go with {', '.join(wrong) or f'{len(feature_ids)} feature ids'}: "
            "there must be one for each row, and a feature id for each column."
        )
    for what, ids in (("sample", sample_ids), ("feature", feature_ids)):
        found, counts = np.unique(np.asarray(ids, dtype=str), return_counts=True)
        if (counts > 1).any():
            twice = [str(name) for name in found[counts > 1]]
            raise DataError(f"{len(twice)} {what} ids repeat ({', '.join(twice[:5])}): everything is aligned by id.")
    absent = sorted({str(name) for name in sentinel or ()} - {str(name) for name in feature_ids})
    if absent:
        raise DataError(f"{len(absent)} sentinel features are not among the features: {', '.join(absent[:5])}.")
    classes = np.unique(np.asarray(labels, dtype=str))
    if len(classes) < 2:
        told = ", ".join(repr(str(name)) for name in classes) or "none"
        raise DataError(f"the labels name {len(classes)} class ({told}): a classifier needs at least 2.")


def _check_folds(data: _Training, recipe: Recipe) -> None:
    for fold in range(recipe.inner):
        there = np.bincount(data.y[data.core & (data.fold != fold)], minlength=len(data.classes))
        empty = [name for name, count in zip(data.classes, there, strict=True) if count == 0]
        if empty:
            raise DataError(
                f"class {', '.join(map(repr, empty))} has no core sample outside inner fold {fold + 1} of "
                f"{recipe.inner}: too few persons have one. Use fewer inner folds, train on all samples, or join "
                "classes."
            )
