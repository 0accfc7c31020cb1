"""Who enters when a molecular class decides: shares of true classes among the called, and what enrichment saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sjd_dask.clinical.definitions import did_you_mean
from sjd_dask.errors import SpecError

FloatArray = NDArray[np.float64]

POSITIVE, NEGATIVE, NOT_CALLED = "called target", "called other", "not called"
_SLACK = 1e-9  # shares summed in another order differ in the last digit


@dataclass(frozen=True)
class Enrichment:
    """Persons of three designs, from those of a trial in which everyone belongs to the responsive class.

    Attributes
    ----------
    n_pure, n_all, n_enriched, screened : ndarray of float64
        In the pure trial, in one of all comers, in one of the called alone, and to be classified for the last.
    """

    n_pure: FloatArray
    n_all: FloatArray
    n_enriched: FloatArray
    screened: FloatArray


def enrich(n_pure: ArrayLike, *, prevalence: ArrayLike, ppv: ArrayLike, called: ArrayLike) -> Enrichment:
    """What enrichment saves when the treatment does nothing outside one class, and every class has the same variance.

    N_all = N_pure / p^2, N_enriched = N_pure / PPV^2, screened = N_enriched / q.

    Parameters
    ----------
    n_pure
        Persons needed if everyone belonged to the responsive class.
    prevalence
        p, share of the responsive class among those screened, in (0, 1].
    ppv
        Share of the responsive class among the called, in (0, 1].
    called
        q, share of the screened that is called positive, in (0, 1].

    Returns
    -------
    Enrichment
        Not rounded; broadcast over the arguments.

    Raises
    ------
    SpecError
        A share outside its range, or shares that contradict each other: more true positives than the class holds, or
        more false positives than there are others.

    References
    ----------
    K: Simon, Maitournam 2004, efficiency of targeted designs. The effect is diluted by the share of those without one,
    and the number grows with the square of the dilution.
    """
    n, p, v, q = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (n_pure, prevalence, ppv, called)))
    for name, values in (("prevalence", p), ("ppv", v), ("called", q)):
        _shares(name, values, least=0.0, open_below=True)
    impossible = (v * q > p + _SLACK) | ((1 - v) * q > 1 - p + _SLACK)
    if impossible.any():
        i = int(np.flatnonzero(impossible.ravel())[0])
        raise SpecError(
            f"prevalence {p.flat[i]:g}, ppv {v.flat[i]:g} and called {q.flat[i]:g} contradict each other: ppv x called "
            "is the share of true positives and can't exceed the prevalence, nor (1 - ppv) x called what is left of 1"
        )
    enriched = n / (v * v)
    return Enrichment(n.copy(), n / (p * p), enriched, enriched / q)


@dataclass(frozen=True)
class Population:
    """Strata of those who are screened, and how a classifier calls them.

    Attributes
    ----------
    strata : tuple of str
    shares : ndarray of float64, (strata,)
        Sum to 1.
    target : ndarray of bool, (strata,)
        The strata that the treatment aims at.
    calls : tuple of str
        What the classifier can say; the last is ``not called``.
    chances : ndarray of float64, (strata, calls)
        Chance of each call in each stratum; rows sum to 1.
    positive : ndarray of bool, (calls,)
        Calls that an enriched design takes in.
    """

    strata: tuple[str, ...]
    shares: FloatArray
    target: NDArray[np.bool_]
    calls: tuple[str, ...]
    chances: FloatArray
    positive: NDArray[np.bool_]

    @property
    def joint(self) -> FloatArray:
        """Share of the screened in each stratum with each call, (strata, calls)."""
        return self.shares[:, None] * self.chances

    @property
    def prevalence(self) -> float:
        return float(self.shares[self.target].sum())

    @property
    def called(self) -> float:
        """Share of the screened that an enriched design takes in."""
        return float(self.joint[:, self.positive].sum())

    @property
    def ppv(self) -> float:
        """Share of the target strata among those taken in."""
        return float(self.joint[np.ix_(self.target, self.positive)].sum() / self.called)

    @property
    def not_called(self) -> float:
        return float(self.joint[:, -1].sum())

    def enrolled(self, design: str) -> FloatArray:
        """Share of the enrolled in each stratum with each call, (strata, calls); sums to 1."""
        if design == "pure":
            kept = np.where(self.target[:, None], self.joint, 0.0)
        elif design == "enriched":
            kept = np.where(self.positive, self.joint, 0.0)
        else:
            kept = self.joint
        return kept / kept.sum()

    def taken(self, design: str) -> float:
        """Share of the screened that the design takes in, as far as their class decides."""
        return {"pure": self.prevalence, "enriched": self.called}.get(design, 1.0)

    def strata_table(self) -> pd.DataFrame:
        """One row a stratum: its share, and how it is called."""
        positive = self.chances[:, self.positive].sum(axis=1)
        said = 1.0 - self.chances[:, -1]
        with np.errstate(invalid="ignore"):
            among = positive / said
        rows = pd.DataFrame({
            "stratum": self.strata, "share": self.shares, "target": self.target, "not_called": self.chances[:, -1],
            "called_target": positive,
            "sensitivity": np.where(self.target, among, np.nan),
            "specificity": np.where(self.target, np.nan, 1.0 - among),
        })  # fmt: skip
        return rows

    def calls_table(self) -> pd.DataFrame:
        """One row a call: share of the screened, share of the target strata in it, and of each stratum."""
        share = self.joint.sum(axis=0)
        with np.errstate(invalid="ignore"):
            within = self.joint / share
        rows = {"call": self.calls, "enrolled_when_enriched": self.positive, "share": share,
                "target_share": within[self.target].sum(axis=0)}  # fmt: skip
        rows |= {f"share_{name}": within[k] for k, name in enumerate(self.strata)}
        return pd.DataFrame(rows)


def population(
    shares: Mapping[str, float],
    target: Sequence[str],
    *,
    sensitivity: float | Mapping[str, float] | None = None,
    specificity: float | Mapping[str, float] | None = None,
    ppv: float | None = None,
    called: float | None = None,
    confusion: Mapping[str, Mapping[str, float]] | None = None,
    not_called: float | Mapping[str, float] = 0.0,
) -> Population:
    """Strata and an imperfect classifier.

    Parameters
    ----------
    shares
        Stratum -> share of those screened; they sum to 1.
    target
        Strata that the treatment aims at.
    sensitivity, specificity
        Of the call "target" among those who get a call at all; one number, or by stratum (sensitivity by target
        stratum, specificity by each other).
    ppv, called
        In their place: share of target strata among the called, and share of all screened that is called target.
    confusion
        In their place: stratum -> call -> chance. What a row leaves of 1 isn't called. Calls named as target strata
        are taken in by an enriched design.
    not_called
        Share on which the classifier abstains; one number or by stratum. Not with ``confusion``.

    Raises
    ------
    SpecError
        Shares that don't sum to 1, an unknown stratum, rates that contradict each other, or calls among which the
        target strata are rarer than among everyone.
    """
    found = _population(
        shares, target, sensitivity=sensitivity, specificity=specificity, ppv=ppv, called=called, confusion=confusion,
        not_called=not_called,
    )  # fmt: skip
    if found.ppv < found.prevalence - _SLACK:
        raise SpecError(
            f"among those called target {found.ppv:.4g} belong to the target strata ({', '.join(target)}), fewer than "
            f"among everyone ({found.prevalence:.4g}): such a call would keep them out. Look whether `target` and the "
            "rates (sensitivity + specificity above 1, or ppv above the shares of the target strata) belong together"
        )
    return found


def _population(
    shares: Mapping[str, float],
    target: Sequence[str],
    *,
    sensitivity: float | Mapping[str, float] | None,
    specificity: float | Mapping[str, float] | None,
    ppv: float | None,
    called: float | None,
    confusion: Mapping[str, Mapping[str, float]] | None,
    not_called: float | Mapping[str, float],
) -> Population:
    strata = tuple(shares)
    weights = np.array([shares[name] for name in strata], dtype=np.float64)
    _shares("share of a stratum", weights, least=0.0, open_below=True)
    if abs(weights.sum() - 1.0) > 1e-6:
        raise SpecError(f"the shares of the strata sum to {weights.sum():g}; they must sum to 1")
    weights = weights / weights.sum()
    for name in target:
        if name not in strata:
            raise SpecError(f"target {name!r} is no stratum{did_you_mean(name, strata)}; there are {', '.join(strata)}")
    is_target = np.array([name in target for name in strata])
    if not is_target.any():
        raise SpecError("the classifier needs at least one target stratum")
    if confusion is not None:
        calls, chances = _from_confusion(confusion, strata)
        positive = np.array([call in target for call in calls])
        if not positive.any():
            raise SpecError(f"no call of the confusion matrix is named as a target stratum ({', '.join(target)})")
        found = Population(strata, weights, is_target, calls, chances, positive)
        if found.called <= 0:
            raise SpecError("nobody is called target by this confusion matrix: there is no one to enrol")
        return found
    abstain = _by_stratum("not_called", not_called, strata)
    if ppv is not None and called is not None:
        yes = _from_ppv(ppv, called, weights, is_target)
        if (yes + abstain > 1 + _SLACK).any():
            raise SpecError(
                f"ppv {ppv:g} and called {called:g} mean that {yes.max():.4g} of a stratum is called target; with "
                f"not_called {abstain[yes.argmax()]:g} that is more than all of it"
            )
    else:
        hit = _by_stratum("sensitivity", 1.0 if sensitivity is None else sensitivity, strata, is_target)
        spared = _by_stratum("specificity", 1.0 if specificity is None else specificity, strata, ~is_target)
        yes = np.where(is_target, hit, 1.0 - spared) * (1.0 - abstain)
    if not (yes * weights).sum() > 0:
        raise SpecError("nobody is called target by this classifier: there is no one to enrol")
    chances = np.column_stack([yes, np.maximum(1.0 - yes - abstain, 0.0), abstain])
    return Population(strata, weights, is_target, (POSITIVE, NEGATIVE, NOT_CALLED), chances,
                      np.array([True, False, False]))  # fmt: skip


def _from_ppv(ppv: float, called: float, weights: FloatArray, target: NDArray[np.bool_]) -> FloatArray:
    p = float(weights[target].sum())
    enrich(1.0, prevalence=p, ppv=ppv, called=called)
    other = (1 - ppv) * called / (1 - p) if p < 1 else 0.0
    return np.where(target, ppv * called / p, other)


def _from_confusion(
    confusion: Mapping[str, Mapping[str, float]], strata: tuple[str, ...]
) -> tuple[tuple[str, ...], FloatArray]:
    _all_named("confusion", confusion, strata)
    said = [call for row in confusion.values() for call in row if call != NOT_CALLED]
    calls = (*dict.fromkeys([name for name in strata if name in said] + said), NOT_CALLED)
    chances = np.array([[confusion[name].get(call, 0.0) for call in calls] for name in strata], dtype=np.float64)
    _shares("a chance of the confusion matrix", chances, least=0.0)
    rest = 1.0 - chances[:, :-1].sum(axis=1)
    if (rest < -_SLACK).any():
        worst = strata[int(rest.argmin())]
        raise SpecError(f"the chances of stratum {worst!r} in the confusion matrix sum to {1 - rest.min():g}, above 1")
    chances[:, -1] = np.maximum(rest, 0.0)
    return calls, chances


def _by_stratum(
    what: str, given: float | Mapping[str, float], strata: tuple[str, ...], asked: NDArray[np.bool_] | None = None
) -> FloatArray:
    """One number a stratum; a mapping must name each that is asked for, and no other."""
    names = strata if asked is None else tuple(name for name, wanted in zip(strata, asked, strict=True) if wanted)
    if isinstance(given, Mapping):
        _all_named(what, given, names)
        values = np.array([float(given.get(name, 1.0)) for name in strata])
    else:
        values = np.full(len(strata), float(given))
    _shares(what, values, least=0.0)
    return values


def _all_named(what: str, given: Mapping[str, object], names: tuple[str, ...]) -> None:
    for name in given:
        if name not in names:
            raise SpecError(f"{what}: {name!r} isn't asked for{did_you_mean(name, names)}; it takes {', '.join(names)}")
    for name in names:
        if name not in given:
            raise SpecError(
                f"{what} says nothing of {name!r}: name every stratum ({', '.join(names)}), or give one number"
            )


def _shares(name: str, values: FloatArray, *, least: float, open_below: bool = False) -> None:
    bad = ~(values > least if open_below else values >= least) | ~(values <= 1.0)
    if bad.any():
        first = values[bad].flat[0]
        raise SpecError(f"{name} is {first:g}; it is a share, {'above' if open_below else 'at least'} 0 and at most 1")
