"""Sums of weighted levels, with the interval that missing items leave.

One engine for every index that is a sum (or mean) of levels times weights: the definition gives the items, their
weights and levels; nothing about a disease stands here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, reduce
from operator import or_
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask.clinical.definitions import did_you_mean
from sjd_dask.clinical.reasons import by_pattern
from sjd_dask.clinical.threeway import at_least
from sjd_dask.errors import SpecError

_BLOCK = 32_768  # rows at a time, so that what is added up stays in the processor's cache
_DECIMALS = 9  # sums of decimal items are rounded here, so that 0.1 + 0.2 is 0.3


_NUMBER = (int, float)
_SECTIONS = {"recorded": ("column", "tolerance"), "combine": ("how",), "acceptable": ("below",)}


def checked_sum(definition: dict[str, Any], name: str) -> dict[str, Any]:
    """The definition of a sum, if what a user changed in it can be used.

    Raises
    ------
    SpecError
        An entry lacks what is read from it, or holds what can't be: names section, entry and what is wanted.
    """
    what = f"definition {name!r}"
    for section, keys in _SECTIONS.items():
        for key in keys:
            if section in definition and key not in definition[section]:
                raise SpecError(f"{what}: section {section!r} says no {key!r}")
    how = definition.get("combine", {}).get("how", "sum")
    if how not in ("sum", "mean"):
        raise SpecError(f"{what}: combine how {how!r}{did_you_mean(how, ('sum', 'mean'))}; use sum or mean")
    for band, entry in definition.get("activity", {}).items():
        if isinstance(entry.get("from"), bool) or not isinstance(entry.get("from"), _NUMBER):
            raise SpecError(f"{what}: band {band!r} of 'activity' needs the number it starts 'from'")
    return definition


def item_names(definition: Mapping[str, Any], asked: Sequence[str] | None = None, what: str = "items") -> list[str]:
    """The items to sum, in the definition's order.

    Raises
    ------
    SpecError
        An asked item isn't in the definition, comes twice, or none was asked.
    """
    known = list(definition["items"])
    if asked is None:
        return known
    for one in asked:
        if one not in known:
            raise SpecError(f"{what}: no item {one!r}{did_you_mean(one, known)}; there are {', '.join(known)}")
    if not asked or len(set(asked)) != len(asked):
        raise SpecError(f"{what}: name each item once, and at least one; there are {', '.join(known)}")
    return [one for one in known if one in asked]


def _limits(definition: Mapping[str, Any], items: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weight, least level and greatest level of each item."""
    rows = []
    for name in items:
        entry = definition["items"][name]
        weight, levels = entry.get("weight"), entry.get("levels")
        if isinstance(weight, bool) or not isinstance(weight, _NUMBER) or not 0 <= weight < np.inf:
            raise SpecError(f"item {name!r}: the weight {weight!r} is no number of at least 0")
        if not isinstance(levels, list) or not levels or not all(isinstance(one, _NUMBER) for one in levels):
            raise SpecError(f"item {name!r}: levels must list the levels it can have, not {levels!r}")
        rows.append((float(weight), float(min(levels)), float(max(levels))))
    weight, low, high = np.asarray(rows, dtype=np.float64).T
    return weight, low, high


def weighted_sum(
    levels: np.ndarray,
    definition: Mapping[str, Any],
    items: Sequence[str] | None = None,
    *,
    low: Mapping[str, np.ndarray] | None = None,
    high: Mapping[str, np.ndarray] | None = None,
) -> pd.DataFrame:
    """Sum of weight times level, and what it can be under the missing items.

    Parameters
    ----------
    levels
        (n, k) levels in the order of the items, NaN where missing. They are taken as checked.
    definition
        ``items``: name -> weight and levels; ``combine: {how: mean}`` divides by the number of items.
    items
        The k items; all of the definition by default.
    low, high
        By item, (n,) least and greatest level where something is known about a missing one (NaN: nothing is). An item
        whose two agree counts as known.

    Returns
    -------
    pandas.DataFrame
        ``value`` (NaN where ``min`` and ``max`` differ), ``min``, ``max``, ``known`` (items known), ``items`` (asked).

    Raises
    ------
    SpecError
        A weight or list of levels in the definition that can't be used.
    """
    chosen = item_names(definition, items)
    levels = np.asarray(levels, dtype=np.float64)
    if levels.ndim != 2 or levels.shape[1] != len(chosen):
        raise ValueError(f"levels of {len(chosen)} items expected, shape {levels.shape} given")
    weights, least, greatest = _limits(definition, chosen)
    n = len(levels)
    smallest, largest = np.zeros(n), np.zeros(n)
    known = np.full(n, len(chosen), dtype=np.int64)
    for start in range(0, n, _BLOCK):
        rows = slice(start, start + _BLOCK)
        for place, name in enumerate(chosen):
            level = levels[rows, place]
            missing = np.isnan(level)
            below = np.where(missing, _bound(low, name, rows, least[place]), level)
            above = np.where(missing, _bound(high, name, rows, greatest[place]), level)
            known[rows] -= missing & (below != above)
            smallest[rows] += weights[place] * below
            largest[rows] += weights[place] * above
    smallest, largest = np.round(smallest, _DECIMALS), np.round(largest, _DECIMALS)
    if definition.get("combine", {}).get("how", "sum") == "mean":
        smallest, largest = smallest / len(chosen), largest / len(chosen)
    value = np.where(smallest == largest, smallest, np.nan)
    return pd.DataFrame({"value": value, "min": smallest, "max": largest, "known": known, "items": len(chosen)})


def _bound(
    given: Mapping[str, np.ndarray] | None, name: str, rows: slice | np.ndarray, otherwise: float
) -> np.ndarray | float:
    if not given or name not in given:
        return otherwise
    part = given[name][rows]
    return np.where(np.isnan(part), otherwise, part)


def strata(low: np.ndarray, high: np.ndarray, definition: Mapping[str, Any], section: str = "activity") -> np.ndarray:
    """Band of a score, None where its interval spans two (or it is unknown).

    Parameters
    ----------
    low, high
        (n,) least and greatest value of the score.
    definition
        Its ``section`` lists the bands with the value each starts ``from``.

    Returns
    -------
    numpy.ndarray
        (n,) objects: a band's name or None.
    """
    bands = sorted(definition[section].items(), key=lambda one: one[1]["from"])
    place = [np.zeros(np.shape(low), dtype=np.int64) for _ in range(2)]
    for _, entry in bands:
        for at, values in zip(place, (low, high), strict=True):
            at += np.nan_to_num(at_least(values, float(entry["from"]))).astype(np.int64)
    same = (place[0] == place[1]) & (place[0] > 0) & ~np.isnan(low) & ~np.isnan(high)
    labels = np.array([None, *(name for name, _ in bands)], dtype=object)
    return labels[np.where(same, place[0], 0)]


def can_be_made(
    total: np.ndarray,
    levels: np.ndarray,
    definition: Mapping[str, Any],
    items: Sequence[str] | None = None,
    *,
    low: Mapping[str, np.ndarray] | None = None,
    high: Mapping[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Whether some levels of the missing items give a total: with weights of 2 and more nothing makes 1 point.

    Parameters
    ----------
    total
        (n,) totals, NaN where there are none.
    levels, definition, items, low, high
        As in `weighted_sum`. Only sums of whole points are judged: the levels of a mean are the ends of a scale.

    Returns
    -------
    numpy.ndarray
        (n,) bool; True where there is nothing to judge.
    """
    result = np.ones(len(total), dtype=bool)
    entries = [definition["items"][name] for name in item_names(definition, items)]
    points = [[float(one["weight"]) * float(level) for level in one["levels"]] for one in entries]
    whole = all(one >= 0 and one % 1 == 0 for own in points for one in own)
    if definition.get("combine", {}).get("how", "sum") != "sum" or not whole:
        return result
    rows = np.flatnonzero((total % 1 == 0) & np.isnan(levels).any(axis=1))
    rest, allowed = total[rows].copy(), []
    for place, (name, entry) in enumerate(zip(item_names(definition, items), entries, strict=True)):
        level = levels[rows, place]
        missing = np.isnan(level)
        rest -= np.where(missing, 0.0, float(entry["weight"]) * level)
        bits = np.zeros(len(rows), dtype=np.int64)  # which levels a missing item can have; 0 for one that is known
        for at, one in enumerate(entry["levels"]):
            possible = (one >= _bound(low, name, rows, -np.inf)) & (one <= _bound(high, name, rows, np.inf))
            bits |= (missing & possible).astype(np.int64) << at
        allowed.append(bits)

    @cache
    def sums(pattern: tuple[int, ...]) -> int:
        """Every sum the missing items can have, as the bits of a number."""
        reached = 1
        for bits, own in zip(pattern, points, strict=True):
            steps = [int(one) for at, one in enumerate(own) if bits >> at & 1] or [0]
            reached = reduce(or_, (reached << step for step in steps))
        return reached

    made = by_pattern([*allowed, rest], lambda *one: one[-1] >= 0 and bool(sums(one[:-1]) >> int(one[-1]) & 1))
    result[rows] = made.astype(bool)
    return result


def use_recorded(
    result: pd.DataFrame,
    recorded: np.ndarray,
    tolerance: float,
    missing: np.ndarray,
    possible: np.ndarray | None = None,
) -> tuple[pd.DataFrame, np.ndarray]:
    """A recorded total where items are missing; and what to say about it.

    Where all items are known the computed score counts. Where some are missing, a recorded total within the interval
    (or within ``tolerance`` of it) is the score; one outside it is not used. Both disagreements are said.

    Parameters
    ----------
    result
        Of `weighted_sum`.
    recorded
        (n,) recorded totals, NaN where there are none.
    tolerance
        How far a recorded total may be off by its own rounding.
    missing
        (n,) texts that name the missing items.
    possible
        (n,) bool: whether the missing items can give the total (`can_be_made`); one that they can't is not used.

    Returns
    -------
    result, reason
        The table with recorded totals put in; (n,) texts, empty where nothing is to be said.
    """
    low, high = result["min"].to_numpy(), result["max"].to_numpy()
    there = ~np.isnan(recorded)
    slack = tolerance + 10.0**-_DECIMALS
    inside = there & (recorded >= low - slack) & (recorded <= high + slack)
    complete = low == high
    used = inside & ~complete
    if possible is not None:
        used &= possible
    result = result.copy()
    taken = np.clip(recorded, low, high)
    for column in ("value", "min", "max"):
        result[column] = np.where(used, taken, result[column].to_numpy())
    state = np.zeros(len(result), dtype=np.int64)
    state[~complete] = 1
    state[used] = 2
    state[used & (result["known"].to_numpy() == 0)] = 3
    state[there & ~inside & ~complete] = 4
    state[there & ~inside & complete] = 5
    state[inside & ~complete & ~used] = 6
    codes, texts = pd.factorize(missing)

    def text(state: int, code: int) -> str:
        absent = str(texts[code]) if code >= 0 else ""
        return {
            0: "",
            1: absent,
            2: f"the recorded total was used; {absent}",
            3: "the recorded total was used: no item is known",
            4: f"{absent}; the recorded total is outside what the known items allow and was not used",
            5: "the recorded total disagrees with the items: the computed score counts",
            6: f"{absent}; no levels of the missing items give the recorded total, which was not used",
        }[state]

    return result, by_pattern([state, codes], text)
