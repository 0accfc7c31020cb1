"""Which axis is likely to dominate where missing items leave it open: a best reading beside the strict one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask.clinical.axis_dominance import AXES, NONE_DOMINATES
from sjd_dask.clinical.axis_items import AxisItem
from sjd_dask.clinical.axis_reference import AxisReference, Distribution
from sjd_dask.clinical.reasons import texts_at

# Cells of a comparison that are held at a time.
_MOST_CELLS = 4_000_000
_SLACK = 1e-9


def likely_dominance(
    items: Mapping[str, Sequence[AxisItem]],
    positions: pd.DataFrame,
    states: np.ndarray,
    dominant: Any,
    table: Mapping[str, Any],
    reference: AxisReference,
) -> dict[str, Any]:
    """The most probable dominant axis of each row.

    Parameters
    ----------
    items
        Of `axis_items.axis_items`, of the n rows.
    positions : DataFrame (n rows)
        ``axisN_position_min`` and ``_max``.
    states : ndarray (n, 3)
        1, 0, or NaN open, as in `axis_dominance.dominance`.
    dominant
        What is sure, (n,); None where it is open.
    table
        Definition `axes`.
    reference
        Says how often each value of an item occurs.

    Returns
    -------
    dict of columns (n,)
        ``dominant_likely``: `dominant` where that is sure, else the most probable of the axes and `none dominates`;
        None where the reference can't tell. ``dominant_likely_probability``: 1 where it is sure.

    Notes
    -----
    A missing item takes each value as often as the persons of the reference have it, of those values that what is known
    of it allows (an eye, some of four glands), and independently of the other items. A row's answer hangs on the row
    and the reference alone; nothing is drawn. This is our own reading (K): items of an axis go together in people, so
    the probabilities are those of a simple model, and a guess where they are low.
    """
    code = np.full(len(states), len(AXES) + 1)
    known, texts = pd.factorize(pd.Series(dominant, dtype=object))
    for at, text in enumerate(texts):
        code[known == at] = [*AXES, NONE_DOMINATES].index(text)
    probability = np.where(known >= 0, 1.0, np.nan)
    rows = np.flatnonzero(known < 0)
    if len(rows) and all(reference.enough(axis) for axis in AXES):
        # Rows that are alike in all that counts are worked out once.
        open_rows = states[rows]
        spread = [
            _Spread(items[axis], positions, at, rows, open_rows[:, at], table, reference)
            for at, axis in enumerate(AXES)
        ]
        kinds = np.column_stack([*(one.codes for one in spread), np.nan_to_num(open_rows, nan=2.0)])
        alike, first = _distinct(kinds)
        found = _probabilities(spread, first, open_rows, table)
        best = found.argmax(axis=1)
        told = ~np.isnan(found).any(axis=1)
        code[rows] = np.where(told, best, len(AXES) + 1)[alike]
        probability[rows] = np.where(told, found[np.arange(len(found)), best], np.nan)[alike]
    return {
        "dominant_likely": texts_at(code, [*AXES, NONE_DOMINATES, None]),
        "dominant_likely_probability": probability,
    }


def _distinct(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A code for each row (n,), and the first row of each code."""
    codes = np.zeros(len(table), dtype=np.int64)
    for column in table.T:
        own, distinct = pd.factorize(column)
        codes = pd.factorize(codes * (len(distinct) + 1) + own)[0]
    return codes, np.unique(codes, return_index=True)[1]


class _Spread:
    """Where rows may lie on an axis, and how probable each place is."""

    def __init__(
        self,
        items: Sequence[AxisItem],
        positions: pd.DataFrame,
        at: int,
        rows: np.ndarray,
        states: np.ndarray,
        table: Mapping[str, Any],
        reference: AxisReference,
    ) -> None:
        self.axis, self.reference = AXES[at], reference
        self.cut = table["axes"][self.axis].get("at_least")
        # Places are counted in steps of the reference: rows on the same ones are worked out once.
        self.grid = reference.axes[self.axis].grid
        least, most = (
            positions[f"axis{at + 1}_position_{end}"].to_numpy(dtype=np.float64)[rows] for end in ("min", "max")
        )
        self.least, self.most = np.rint(least / self.grid), np.rint(most / self.grid)
        self.distributions = reference.items.get(self.axis, {})
        self.items = [
            (one, one.low[rows], one.high[rows], None if one.answer is None else one.answer[rows]) for one in items
        ]
        # A position that is known (by a recorded total, too) leaves nothing to its items, but what a state waits for.
        self.exact = least == most
        self.waits = np.isnan(states) if self.cut is None else np.zeros(len(rows), dtype=bool)
        # Which items are open, and between what, makes the pattern; the known ones add up to the base.
        base, self.any_positive = np.zeros((2, len(rows)))
        kinds = [np.zeros(len(rows), dtype=np.int64)]
        self.matters = np.zeros((len(rows), len(self.items)), dtype=bool)
        for place, (one, low, high, answer) in enumerate(self.items):
            unknown = np.zeros(len(rows), dtype=bool) if answer is None else np.isnan(answer)
            is_open = (low != high) | unknown
            base = base + np.where(is_open, 0.0, one.weight * low)
            if answer is not None:
                self.any_positive = np.maximum(self.any_positive, np.where(is_open, 0.0, answer))
            matters = self.matters[:, place] = is_open & (self.waits | (~self.exact & (one.weight > 0)))
            places = np.flatnonzero(matters)
            if len(places):
                said = np.zeros(len(rows)) if answer is None else np.nan_to_num(answer, nan=2.0)
                kind = np.zeros(len(rows), dtype=np.int64)
                kind[places] = 1 + _distinct(np.column_stack([one[places] for one in (low, high, said)]))[0]
                kinds.append(kind)
        self.pattern, self._first = _distinct(np.column_stack(kinds))
        self.base = np.where(self.exact, self.least, np.rint(base / self.grid))
        self.codes = _distinct(np.column_stack([self.least, self.most, self.base, self.pattern, self.any_positive]))[0]
        self._made: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def widths(self, rows: np.ndarray) -> np.ndarray:
        """Places that the table of each row's pattern has room for."""
        patterns, at = np.unique(self.pattern[rows], return_inverse=True)
        return np.array([len(self._folded(int(one))[0]) for one in patterns])[at]

    def places(self, rows: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Percentile, probability and state at each place, ascending, (len(rows), width) each; rows of one width."""
        patterns, at = np.unique(self.pattern[rows], return_inverse=True)
        tables = [self._folded(int(code)) for code in patterns]
        offsets, chance, answers = (np.stack(one)[at] for one in zip(*tables, strict=True))
        # Steps are rounded: what can't be is no place.
        steps = np.clip(self.base[rows][:, None] + offsets, self.least[rows][:, None], self.most[rows][:, None])
        positions = steps * self.grid
        positive = np.maximum(answers, self.any_positive[rows][:, None])
        if self.cut is not None:
            positive = (positions >= float(self.cut) - _SLACK).astype(np.float64)
        state = np.where(np.isnan(states)[:, None], positive, np.nan_to_num(states)[:, None])
        percentiles = self.reference.percentile(self.axis, positions.ravel()).reshape(positions.shape)
        return percentiles, chance, state

    def _folded(self, pattern: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Steps from the base ascending, their probabilities, and whether an open test is positive there.

        The room is a power of two, so that few tables hold many patterns: what is left over is the last place once
        more, with no probability, and sums keep their bits.
        """
        made = self._made.get(pattern)
        if made is None:
            steps, weights, answers = self._fold(int(self._first[pattern]))
            room = (0, (1 << (len(steps) - 1).bit_length()) - len(steps))
            made = np.pad(steps, room, "edge"), np.pad(weights, room), np.pad(answers, room, "edge")
            self._made[pattern] = made
        return made

    def _fold(self, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        steps = answers = np.zeros(1, dtype=np.int64)
        weights: np.ndarray = np.ones(1)
        for (one, low, high, answer), matters in zip(self.items, self.matters[row], strict=True):
            if not matters:
                continue
            own = np.nan if answer is None else answer[row]
            found = _allowed(self.distributions.get(one.name), low[row], high[row], own, self.reference.least_persons)
            if found is None:
                return np.zeros(1), np.full(1, np.nan), np.zeros(1)
            values, positive, chance = found
            added = np.rint(one.weight * values / self.grid).astype(np.int64)
            coded = 2 * (steps[:, None] + added) + np.maximum(answers[:, None], positive)
            # Codes are counted from the least: sums don't hang on anything but this pattern.
            first = int(coded.min())
            both = np.bincount((coded - first).ravel(), weights=(weights[:, None] * chance).ravel())
            there = np.flatnonzero(both)
            weights = both[there]
            there = there + first
            steps, answers = there // 2, there % 2
        return steps.astype(np.float64), weights, answers.astype(np.float64)


def _allowed(
    known: Distribution | None, low: float, high: float, answer: float, least_persons: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Values of an item that are possible, whether each is a positive answer, and how often each occurs."""
    if known is None or known.n_persons < least_persons:
        return None
    steps, positive = np.divmod(known.steps, 2)
    inside = (steps >= np.rint(low / known.grid)) & (steps <= np.rint(high / known.grid))
    if not np.isnan(answer):
        inside &= positive == answer
    if not inside.any():
        return None
    weights = known.weights[inside]
    return steps[inside] * known.grid, positive[inside], weights / np.cumsum(weights)[-1]


def _probabilities(
    spread: Sequence[_Spread], rows: np.ndarray, states: np.ndarray, table: Mapping[str, Any]
) -> np.ndarray:
    """Probability that each axis dominates, and that none does, (len(rows), axes + 1)."""
    margin = float(table["dominance"]["margin"]["percentiles"])
    needs_state = bool(table["dominance"]["needs_state"]["value"])
    found = np.empty((len(rows), len(spread) + 1))
    widths = np.column_stack([own.widths(rows) for own in spread])
    for alike in _groups(_distinct(widths)[0]):
        own_widths = widths[alike[0]]
        for part in _parts(alike, max(1, _MOST_CELLS // int(own_widths.max()) ** 2)):
            own = rows[part]
            told = [one.places(own, states[own, at]) for at, one in enumerate(spread)]
            found[part, :-1] = _leads(told, margin, needs_state)
    found[:, -1] = 1.0 - found[:, 0]
    for at in range(1, len(spread)):
        found[:, -1] -= found[:, at]
    # Sums of many small numbers: what is left of nothing is nothing.
    found[:, -1] = np.where(np.abs(found[:, -1]) < _SLACK, 0.0, found[:, -1])
    return found


def _leads(told: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], margin: float, needs_state: bool) -> np.ndarray:
    """Probability that each axis is above every other by the margin, (n, axes)."""
    found = []
    # Sums run along a row in one order, so that a row's bits don't hang on its neighbours.
    below = [np.concatenate([np.zeros((len(p), 1)), np.cumsum(p, axis=1)], axis=1) for _, p, _ in told]
    for at, (percentile, chance, state) in enumerate(told):
        lead = chance * state if needs_state else chance * 1.0
        for other, (beside, _, _) in enumerate(told):
            if other != at:
                n_below = (beside[:, None, :] <= percentile[:, :, None] - margin + _SLACK).sum(axis=2)
                lead = lead * np.take_along_axis(below[other], n_below, axis=1)
        found.append(np.cumsum(lead, axis=1)[:, -1])
    return np.column_stack(found)


def _groups(codes: np.ndarray) -> Iterator[np.ndarray]:
    """Places of each code."""
    order = np.argsort(codes, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def _parts(places: np.ndarray, most: int) -> Iterator[np.ndarray]:
    for start in range(0, len(places), most):
        yield places[start : start + most]
