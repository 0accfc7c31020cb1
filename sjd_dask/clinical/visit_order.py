"""The visits of each person in their order, and for each row the last or the next one of which something is known."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.clinical.visits import _Order, _order, _refuse

_KEPT: WeakKeyDictionary[Sheet, VisitOrder] = WeakKeyDictionary()


@dataclass(frozen=True)
class VisitOrder:
    """The visits of a sheet's persons, each with a number that rises with time within a person.

    Attributes
    ----------
    visit : ndarray of int64, (n,)
        Number of each row's visit; rows of one visit (or of one day that nothing else orders) share it.
    start, end : ndarray of int64, (v,)
        By visit, the first and the last visit of its person.
    """

    frame: pd.DataFrame
    order: _Order
    visit: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    unclear: NDArray[np.int64]  # pairs (k, 2) of rows of a person, of which nothing tells which is earlier

    def of_visit(self, known: NDArray[np.bool_]) -> NDArray[np.int64]:
        """A row of each visit for which something is known, (v,); -1 where there is none."""
        found = np.full(len(self.start), -1, dtype=np.int64)
        rows = np.flatnonzero(known)[::-1]
        found[self.visit[rows]] = rows
        return found

    def last(self, known: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The last visit, up to each row's own, for which something is known, (n,); -1 where there is none."""
        visits = np.arange(len(self.start))
        found = np.maximum.accumulate(np.where(self.of_visit(known) >= 0, visits, -1))
        return np.where(found >= self.start, found, -1)[self.visit]

    def next(self, known: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The first visit, from each row's own on, for which something is known, (n,); -1 where there is none."""
        n = len(self.start)
        found = np.where(self.of_visit(known) >= 0, np.arange(n), n)
        found = np.minimum.accumulate(found[::-1])[::-1]
        return np.where(found <= self.end, found, -1)[self.visit]

    def refuse_unclear(self, known: NDArray[np.bool_], wanting: NDArray[np.bool_], what: str) -> None:
        """Refuse a person of whom rows are known and rows are wanting while nothing tells the order of the visits.

        Raises
        ------
        DataError
            Names the person and two samples.
        """
        person = self.order.person
        both = np.zeros(person.max() + 1 if len(person) else 0, dtype=bool)
        both[person[known]] = True
        asked = np.zeros_like(both)
        asked[person[wanting]] = True
        pairs = self.unclear[(both & asked)[person[self.unclear[:, 0]]]]
        if len(pairs):
            before = np.full(len(both), -1, dtype=np.int64)
            row, other = (int(one) for one in pairs[0])
            before[person[row]] = other
            _refuse(self.frame, self.order, row, before, len(np.unique(person[pairs[:, 0]])), what)


def sheet_order(sheet: Sheet) -> VisitOrder:
    """The order of the visits of a sheet; found once."""
    if sheet not in _KEPT:
        ids = sheet.ids
        if names.VISIT in ids:
            ids[names.VISIT] = sheet.text(names.VISIT)
        _KEPT[sheet] = _visit_order(ids)
    return _KEPT[sheet]


def _visit_order(frame: pd.DataFrame) -> VisitOrder:
    order = _order(frame)
    rows = np.lexsort((order.number, order.pattern, order.date, order.person))
    later, earlier = rows[1:], rows[:-1]
    together = order.person[later] == order.person[earlier]
    told = order.compare(later, earlier)
    one_day = order.dated[later] & (order.date[later] == order.date[earlier])
    unclear = together & np.isnan(told) & ~one_day
    starts = np.ones(len(frame), dtype=bool)
    starts[1:] = ~together | (told > 0) | unclear
    place = np.cumsum(starts) - 1
    visit = np.empty(len(frame), dtype=np.int64)
    visit[rows] = place
    person = order.person[rows[starts]]
    first = np.ones(len(person), dtype=bool)
    first[1:] = person[1:] != person[:-1]
    begins = np.flatnonzero(first)
    ends = np.append(begins[1:], len(person)) - 1
    run = np.cumsum(first) - 1
    pairs = np.column_stack([later[unclear], earlier[unclear]])
    return VisitOrder(frame, order, visit, begins[run], ends[run], pairs)
