"""The folds of a training: who judges whom, what is fitted again without them, and which features are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.classify.fitting import inner_folds
from sjd_dask.classify.recipe import Recipe
from sjd_dask.classify.splits import draw_keys, draw_seed, person_folds
from sjd_dask.errors import DataError, SjdError
from sjd_dask.jobs.normalise_reference import COLUMN_STRIPE_BYTES, ClusterReference, Phases
from sjd_dask.jobs.normalise_source import Source
from sjd_dask.jobs.train_groups import Grouping
from sjd_dask.jobs.train_labels import CORE, LABEL, PERSON, Labelled
from sjd_dask.jobs.train_sources import Origin, values_present
from sjd_dask.jobs.train_tasks import Fold, Views, judge_stripe

if TYPE_CHECKING:
    from sjd_dask.jobs.train_spec import TrainSpec

FINAL = -1
# What sentinels are drawn by (`classify.sentinels`).
SENTINEL = "sentinel"


@dataclass(frozen=True)
class Told:
    """What a fold did, for the card.

    Attributes
    ----------
    pending : list of str
        Held-out samples that its own normalisation has no parameters for.
    moved : float or None
        Share of its training samples whose group, found again, is not the one of the full grouping.
    unmatched : int
        Training samples in groups that share nobody with any class.
    coreless : tuple of str
        Classes of which too few persons have a core sample: all of their samples are trained on.
    """

    pending: list[str]
    moved: float | None = None
    unmatched: int = 0
    coreless: tuple[str, ...] = ()


def enough_core(frame: pd.DataFrame, recipe: Recipe) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Labelled samples, all of a class marked as core where too few of its persons have a core sample.

    Fewer than two persons for each inner fold are no basis for a class: what the algorithms agree on may be a handful,
    in a fold even nobody, though the class is large.
    """
    persons = frame[frame[CORE]].groupby(LABEL)[PERSON].nunique()
    few = tuple(sorted(one for one in set(frame[LABEL]) if persons.get(one, 0) < 2 * recipe.inner))
    return frame.assign(**{CORE: frame[CORE] | frame[LABEL].isin(few)}), few


def outer_folds(spec: TrainSpec, labelled: Labelled) -> NDArray[np.int64]:
    """The fold of each labelled sample in each repeat, (repeats, n)."""
    frame = labelled.frame
    return np.stack(
        [
            person_folds(
                frame[PERSON].to_numpy(), frame[LABEL].to_numpy(), spec.folds.outer, draw_seed(spec.seed, "outer", r)
            )
            for r in range(spec.repeats)
        ]
    )


@dataclass(frozen=True)
class Splitter:
    """Makes the folds of a job.

    Attributes
    ----------
    spec : TrainSpec
    origin : Origin
    labelled : Labelled
    recipe : Recipe
    grouping : Grouping or None
        How labels are found again; None: they stay.
    persons : Series
        Person of every sample of the cohort, by sample id: none of a held-out person is looked at.
    """

    spec: TrainSpec
    origin: Origin
    labelled: Labelled
    recipe: Recipe
    grouping: Grouping | None
    persons: pd.Series[Any]

    def outer(self, repeat: int, number: int, folds: NDArray[np.int64], phases: Phases) -> tuple[Fold, Told]:
        """One outer fold: everything that is fitted has not seen its persons.

        Raises
        ------
        SjdError
            What can't be fitted without them.
        """
        frame = self.labelled.frame
        out = folds == number
        persons = set(frame.loc[out, PERSON])
        away = {str(one) for one in self.persons.index[self.persons.isin(persons)]} | set(frame.index[out])
        source, told_groups = self._source(away, phases)
        ids = source.reader.sample_ids
        there = values_present(source)
        place = {one: i for i, one in enumerate(ids)}
        judged = [str(one) for one in frame.index[out]]
        test = np.array([place[one] for one in judged if there[place[one]]], dtype=np.int64)
        pending = [one for one in judged if not there[place[one]]]
        truth = frame.loc[~out]
        moved, unmatched = None, 0
        if told_groups is None:
            train = truth
        else:
            train = told_groups.loc[[one for one in told_groups.index if one in truth.index]]
            known = train[LABEL].isin(self.labelled.classes)
            unmatched = int((~known).sum())
            train = train[known].assign(**{PERSON: truth[PERSON].reindex(train.index[known])})
            if not self.spec.core:
                train = train.assign(**{CORE: True})
            moved = float((train[LABEL] != truth[LABEL].reindex(train.index)).mean())
        train = train[[bool(there[place[str(one)]]) for one in train.index]]
        train, coreless = enough_core(train, self.recipe)
        try:
            fold = self._fold(repeat, number, source, train, test, phases)
        except SjdError as error:
            raise type(error)(f"outer fold {number + 1} of {self.spec.folds.outer}: {error}") from error
        return fold, Told(pending, moved, unmatched, coreless)

    def final(self, phases: Phases) -> Fold:
        """Everybody, with the labels and the normalisation as they are."""
        source = self.origin.stored(list(self.labelled.frame.index))
        frame, _ = enough_core(self.labelled.frame, self.recipe)
        return self._fold(0, FINAL, source, frame, np.empty(0, dtype=np.int64), phases)

    def _source(self, away: set[str], phases: Phases) -> tuple[Source, pd.DataFrame | None]:
        """Values of all labelled samples without the persons held out having had a say, and groups found so."""
        ids = list(map(str, self.labelled.frame.index))
        if not self.spec.refit:
            return self.origin.stored(ids), None
        if self.grouping is None:
            return self.origin.refitted(ids, away, phases), None
        grouped = [one for one in self.grouping.labels if one not in away]
        if self.grouping.origin.name == self.origin.name and self.grouping.origin.quantity == self.origin.quantity:
            # One normalisation serves both.
            source = self.origin.refitted(sorted({*ids, *grouped}), away, phases)
            return source, self.grouping.again(source, away, phases)
        groups = self.grouping.again(self.grouping.origin.refitted(sorted(grouped), away, phases), away, phases)
        return self.origin.refitted(ids, away, phases), groups

    def _fold(
        self, repeat: int, number: int, source: Source, train: pd.DataFrame, test: NDArray[np.int64], phases: Phases
    ) -> Fold:
        place = {one: i for i, one in enumerate(source.reader.sample_ids)}
        rows = np.array([place[str(one)] for one in train.index], dtype=np.int64)
        labels = train[LABEL].to_numpy(dtype=object)
        core, persons = train[CORE].to_numpy(dtype=bool), train[PERSON].to_numpy(dtype=object)
        missing = sorted(set(self.labelled.classes) - set(labels))
        if missing:
            raise DataError(
                f"no sample of {', '.join(map(repr, missing))} is left to train on: the class is too small or too "
                "unstable. Leave it out with `samples`, or group into fewer classes"
            )
        features = self._features(source, rows, labels, core, persons, phases)
        return Fold(repeat, number, source, features, rows, test, labels, core, persons)

    def _features(
        self,
        source: Source,
        rows: NDArray[np.int64],
        labels: NDArray[Any],
        core: NDArray[np.bool_],
        persons: NDArray[Any],
        phases: Phases,
    ) -> NDArray[np.int64]:
        """Every feature that the fit may come to look at, in any of its inner folds: no other is ever brought in.

        The fit of these is the fit of all of them: it takes the `prefilter` best of each training set, and as sentinels
        the most variable ones and some drawn by id, among which are whatever it would have taken of all.
        """
        recipe, ids, n = self.recipe, source.feature_ids, source.reader.n_samples
        text, owner = labels.astype(str), persons.astype(str)
        classes = np.unique(text)
        y = np.full(n, -1, dtype=np.int64)
        y[rows] = np.searchsorted(classes, text)
        owners = np.full(n, "", dtype=object)
        owners[rows] = owner
        inner = inner_folds(owner, text, recipe)
        views = (rows[core], *(rows[core & (inner != k)] for k in range(recipe.inner)))
        work = Views(views, y, owners.astype(str), len(classes), recipe)
        width = max(1, COLUMN_STRIPE_BYTES // (8 * n))
        found = ClusterReference(source, phases).by_stripes(judge_stripe, work, width).columns
        taken = np.zeros(len(ids), dtype=bool)
        for f in found["f"]:
            _mark(taken, f, recipe.prefilter)
        if not taken.any():
            raise DataError(
                f"none of {len(ids):,} features varies among the {len(rows):,} samples trained on with at most "
                f"{recipe.max_missing:.0%} missing: there is nothing to tell classes apart by"
            )
        # As many more as the panel and the others may take away from them.
        panel = recipe.sizes[-1]
        variance, moving = found["variance"], (recipe.sentinels + 1) // 2
        _mark(taken, variance, moving + panel)
        numbers = draw_keys([str(one) for one in ids], recipe.seed, SENTINEL)
        drawn = np.argsort(numbers, kind="stable")
        taken[drawn[variance[drawn] > 0][: recipe.sentinels + moving + panel]] = True
        return np.flatnonzero(taken)


def _mark(taken: NDArray[np.bool_], score: NDArray[np.float64], size: int) -> None:
    """Mark the features of largest score, of equals the first; those below 0 never."""
    allowed = np.flatnonzero(score >= 0)
    taken[allowed[np.argsort(-score[allowed], kind="stable")][:size]] = True
