"""How much of a grouping other things explain: cells, sex, batch, drugs. A group of neutrophils is no disease class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.kernels.multinomial import class_probabilities, fit_multinomial
from sjd_dask.stratify.clinic import is_number
from sjd_dask.stratify.draws import id_keys, ranking

Floats = NDArray[np.float64]

FOLDS = 5
# Persons beyond it say no more about a share, and cost time.
MOST_PERSONS = 2_000
FEWEST_PERSONS = 20
_FOLDS, _TRADE, _CHOICE = 21, 22, 23
# A class that the training folds have not seen would cost infinitely much.
_LEAST = 1e-6


@dataclass(frozen=True)
class ShareProblem:
    """Groups and what may explain them, for the samples that have both.

    Attributes
    ----------
    name : str
    groups : ndarray of int64 (n,)
    tested : ndarray (n, p)
        Columns whose share is asked.
    base : ndarray (n, q)
        Columns that are there already; q = 0 for a share by itself.
    persons : ndarray of int64 (n,)
        Folds and draws keep a person's samples together; 0..m-1, in the order of `person_ids`.
    person_ids : tuple of str (m,)
    seed : int
    """

    name: str
    groups: NDArray[np.int64]
    tested: Floats
    base: Floats
    persons: NDArray[np.int64]
    person_ids: tuple[str, ...]
    seed: int


def share_problem(
    name: str, samples: pd.DataFrame, groups: pd.Series, columns: Sequence[str], base: Sequence[str],
    person: str | None, seed: int,
) -> ShareProblem | None:  # fmt: skip
    """The samples that have all columns, with text as indicators; None where too few have, or nothing differs.

    Parameters
    ----------
    name : str
    samples : DataFrame
        Index sample ids.
    groups : Series
    columns, base : sequence of str
    person : str or None
        Without it every sample is a person.
    seed : int
    """
    known = samples.loc[groups.index].assign(_group=groups)
    needed = [*columns, *base, *([person] if person else [])]
    known = known[known[needed].notna().all(axis=1)].sort_index()
    own = known[person].astype(str) if person else pd.Series(known.index.astype(str), index=known.index)
    persons = sorted(own.unique())
    if len(persons) > MOST_PERSONS:
        order = ranking(id_keys(persons), seed, _CHOICE)[:MOST_PERSONS]
        known = known[own.isin({persons[i] for i in order}).to_numpy()]
        own = own.loc[known.index]
        persons = sorted(own.unique())
    # A group that one fold holds alone can't be foretold from the others.
    counts = own.groupby(known["_group"]).nunique()
    kept = known["_group"].isin(counts.index[counts >= FOLDS])
    known, own = known[kept], own[kept]
    persons = sorted(own.unique())
    if len(persons) < FEWEST_PERSONS or known["_group"].nunique() < 2:
        return None
    tested, beside = _columns(known, columns), _columns(known, base)
    if tested.shape[1] == 0:
        return None
    codes = pd.factorize(known["_group"].astype(str), sort=True)[0]
    place = {one: i for i, one in enumerate(persons)}
    at = np.array([place[one] for one in own], dtype=np.int64)
    return ShareProblem(name, np.asarray(codes, dtype=np.int64), tested, beside, at, tuple(persons), seed)


def share_explained(problem: ShareProblem, start: int, stop: int) -> Floats:
    """Cross-validated share of the grouping's deviance that columns explain, (stop - start,).

    Parameters
    ----------
    problem : ShareProblem
    start, stop : int
        Rounds. Round 0 is what is there; in the others persons have traded their tested columns as a whole (one of more
        samples takes the other's in turn), which is what chance gives.

    Returns
    -------
    ndarray
        1 - deviance / deviance of the training folds' group sizes, over the samples left out (5 folds of persons);
        McFadden's R2 out of the sample. 0 or less: nothing. With a base, its share is taken off.
    """
    folds = _folds(problem)
    nothing = _deviance(np.zeros((len(problem.groups), 0)), problem.groups, folds)
    base = _deviance(problem.base, problem.groups, folds)
    found = np.empty(stop - start)
    for i, round_ in enumerate(range(start, stop)):
        rows = np.arange(len(problem.groups)) if round_ == 0 else _traded(problem, round_)
        whole = _deviance(np.hstack([problem.base, problem.tested[rows]]), problem.groups, folds)
        found[i] = (base - whole) / nothing
    return found


def share_row(problem: ShareProblem, shares: Floats) -> dict[str, Any]:
    """The share with what chance gives; `shares` of round 0 and all others."""
    seen, drawn = float(shares[0]), shares[1:]
    return {
        "n_samples": len(problem.groups),
        "n_persons": len(problem.person_ids),
        "share": seen,
        "chance": float(drawn.mean()),
        "chance_95": float(np.quantile(drawn, 0.95)),
        "p_value": float((1 + (drawn >= seen - 1e-12).sum()) / (1 + len(drawn))),
    }


def _columns(samples: pd.DataFrame, columns: Sequence[str]) -> Floats:
    """Numbers in standard deviations and indicators of levels, (n, p); columns of one value are left out."""
    blocks = []
    for name in columns:
        values = samples[name]
        if is_number(values):
            made = values.to_numpy(dtype=np.float64)[:, None]
        else:
            made = pd.get_dummies(values.astype(str), dtype=np.float64).to_numpy()
        sd = made.std(axis=0)
        blocks.append((made[:, sd > 0] - made[:, sd > 0].mean(axis=0)) / sd[sd > 0])
    return np.hstack(blocks) if blocks else np.zeros((len(samples), 0))


def _folds(problem: ShareProblem) -> NDArray[np.int64]:
    """Fold of each sample."""
    fold = np.empty(len(problem.person_ids), dtype=np.int64)
    fold[ranking(id_keys(problem.person_ids), problem.seed, _FOLDS)] = np.arange(len(fold)) % FOLDS
    return fold[problem.persons]


def _traded(problem: ShareProblem, round_: int) -> NDArray[np.int64]:
    """Row whose columns each sample gets."""
    rows = [np.flatnonzero(problem.persons == i) for i in range(len(problem.person_ids))]
    giver = ranking(id_keys(problem.person_ids), problem.seed, _TRADE, round_)
    taken = np.empty(len(problem.persons), dtype=np.int64)
    for taker, own in enumerate(rows):
        given = rows[giver[taker]]
        taken[own] = given[np.arange(len(own)) % len(given)]
    return taken


def _deviance(columns: Floats, groups: NDArray[np.int64], folds: NDArray[np.int64]) -> float:
    """-2 log likelihood of the samples of each fold under a multinomial model of the others."""
    total, n_groups = 0.0, int(groups.max()) + 1
    for fold in range(FOLDS):
        test = folds == fold
        if not test.any():
            continue
        if columns.shape[1]:
            beta = fit_multinomial(columns[~test], groups[~test], n_groups)
            chances = class_probabilities(columns[test], beta)
        else:
            counts = np.bincount(groups[~test], minlength=n_groups)
            chances = np.broadcast_to(counts / counts.sum(), (int(test.sum()), n_groups))
        own = chances[np.arange(len(chances)), groups[test]]
        total -= 2.0 * float(np.log(np.maximum(own, _LEAST)).sum())
    return total
