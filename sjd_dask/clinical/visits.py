"""Which visit is a person's baseline, and which visits follow it.

A person's visits go by date where each of them has one (visits of one day by their visit), else by visit. Visits are
ordered as numbers, or as texts that differ in their digits only (V2 before V10); "baseline" and "week 24" say nothing
of their order. A response is read against one row, so a baseline that is not clear is refused, never guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.designs.labels import label_text
from sjd_dask.designs.query import query_samples
from sjd_dask.errors import DataError

if TYPE_CHECKING:
    from sjd_dask.clinical.sheet import Sheet

IS_BASELINE = "the baseline visit"
NO_BASELINE = "no baseline visit"
NOT_AFTER = "not after the baseline visit"

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_DIGITS = re.compile(r"([0-9]+)")
_KEPT: WeakKeyDictionary[Sheet, dict[str | None, Baselines]] = WeakKeyDictionary()
_REMEDY = (
    "Give dates, numbers as visits, or one row a visit; or name the baseline by a query that keeps one row of each "
    "person, such as \"visit == 'baseline'\""
)


@dataclass(frozen=True)
class Baselines:
    """The baseline of each row.

    Attributes
    ----------
    position : ndarray of int64, (n,)
        Position of the row's baseline; a baseline is its own; -1 where there is none or the row doesn't follow it.
    is_baseline : ndarray of bool, (n,)
    reason : ndarray of object, (n,)
        Why a row has no response: `IS_BASELINE`, `NO_BASELINE`, `NOT_AFTER`; empty for a visit that follows a baseline.
    """

    position: NDArray[np.int64]
    is_baseline: NDArray[np.bool_]
    reason: NDArray[np.object_]

    @property
    def follows(self) -> NDArray[np.bool_]:
        """Whether the row is a visit after a baseline."""
        return (self.position >= 0) & ~self.is_baseline


@dataclass(frozen=True)
class _Order:
    """What orders the rows of a person: n rows."""

    person: NDArray[np.int64]
    date: NDArray[np.int64]  # nanoseconds; 0 for persons that have a visit without a date
    dated: NDArray[np.bool_]  # every visit of the row's person has a date
    pattern: NDArray[np.int64]  # visits of one pattern can be compared; -1: none is known
    number: NDArray[np.float64]  # place of the visit within its pattern

    def compare(self, row: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float64]:
        """1 where `row` is later than `other`, -1 earlier, 0 the same visit; NaN where nothing tells."""
        comparable = (self.pattern[row] == self.pattern[other]) & (self.pattern[row] >= 0)
        by_visit = np.where(comparable, np.sign(self.number[row] - self.number[other]), np.nan)
        by_date = np.sign(self.date[row] - self.date[other]).astype(np.float64)
        return np.where(self.dated[row] & (by_date != 0), by_date, by_visit)


def baseline_rows(frame: pd.DataFrame, baseline: str | None = None) -> NDArray[np.int64]:
    """The position of each row's baseline: `baselines` without the reasons.

    Parameters
    ----------
    frame, baseline
        As in `baselines`.

    Returns
    -------
    ndarray of int64, (n,)
        -1 where the row has no baseline or comes before it.
    """
    return baselines(frame, baseline).position


def sheet_baselines(sheet: Sheet, baseline: str | None = None) -> Baselines:
    """`baselines` of a sheet, found once for each query: several measures of one sheet share it."""
    kept = _KEPT.setdefault(sheet, {})
    if baseline not in kept:
        ids = sheet.ids
        if names.VISIT in ids:
            ids[names.VISIT] = sheet.text(names.VISIT)
        kept[baseline] = baselines(ids, baseline, query_frame=sheet.frame)
    return kept[baseline]


def baselines(
    frame: pd.DataFrame, baseline: str | None = None, *, query_frame: pd.DataFrame | None = None
) -> Baselines:
    """The baseline of each row, and whether the row follows it.

    Parameters
    ----------
    frame : DataFrame
        n rows; `sample_id` as column or index; `person_id`, `visit` and `date` as far as they are there. A row without
        `person_id` is a person of its own.
    baseline : str, optional
        Query of the rows that are baselines; where several rows of a person match, the earliest. Default: the earliest
        visit of each person. Visits that can't be ordered against a baseline chosen by query count as following it.
    query_frame : DataFrame, optional
        The same rows with the columns that the query names; default: `frame`.

    Returns
    -------
    Baselines

    Raises
    ------
    DataError
        Two rows of a person are equally early, or nothing orders them; a date that is none.
    SpecError
        A query that can't be evaluated.
    """
    n = len(frame)
    order = _order(frame)
    if baseline is None:
        candidates = np.arange(n)
    else:
        candidates = np.flatnonzero(rows_asked(frame if query_frame is None else query_frame, baseline))
    first = _first(frame, order, candidates)
    position = first[order.person] if n else np.empty(0, dtype=np.int64)
    rows = np.arange(n)
    is_baseline = position == rows
    some = np.flatnonzero((position >= 0) & ~is_baseline)
    later = order.compare(some, position[some])
    # Without a date for both, an order that nothing tells is left to the query that named the baseline.
    not_after = some[np.where(np.isnan(later), order.dated[some], later <= 0)]
    kind = np.zeros(n, dtype=np.int64)
    kind[is_baseline] = 1
    kind[position < 0] = 2
    kind[not_after] = 3
    position = position.copy()
    position[not_after] = -1
    return Baselines(position, is_baseline, np.array(["", IS_BASELINE, NO_BASELINE, NOT_AFTER], dtype=object)[kind])


def rows_asked(frame: pd.DataFrame, baseline: str) -> NDArray[np.bool_]:
    """Which rows a query names as baselines, (n,).

    Parameters
    ----------
    frame : DataFrame
        n rows; `sample_id` as column or index.
    baseline : str
        A query of its columns, values as given.

    Raises
    ------
    SpecError
        A query that can't be evaluated.
    """
    # By sample: a row's number is no property of a visit, and another one in each part of a sheet.
    asked = frame.set_index(names.SAMPLE_ID) if names.SAMPLE_ID in frame else frame
    return np.asarray(asked.index.isin(query_samples(asked, baseline, "baseline").index), dtype=bool)


def previous_rows(frame: pd.DataFrame) -> NDArray[np.int64]:
    """The position of each row's visit before, among those of the same person.

    Parameters
    ----------
    frame
        As in `baselines`.

    Returns
    -------
    ndarray of int64, (n,)
        -1 for a person's first visit.

    Raises
    ------
    DataError
        Nothing tells which of two visits of a person is earlier.
    """
    order = _order(frame)
    rows = np.lexsort((order.number, order.date, order.person))
    together = order.person[rows[1:]] == order.person[rows[:-1]]
    later, earlier = rows[1:][together], rows[:-1][together]
    unclear = np.flatnonzero(~(order.compare(later, earlier) > 0))
    if len(unclear):
        row, before = later[unclear[0]], np.full(len(frame), -1, dtype=np.int64)
        before[order.person[row]] = earlier[unclear[0]]
        n_persons = len(np.unique(order.person[later[unclear]]))
        _refuse(frame, order, int(row), before, n_persons, "no order of the visits")
    previous = np.full(len(frame), -1, dtype=np.int64)
    previous[later] = earlier
    return previous


def sheet_previous(sheet: Sheet) -> NDArray[np.int64]:
    """`previous_rows` of a sheet."""
    ids = sheet.ids
    if names.VISIT in ids:
        ids[names.VISIT] = sheet.text(names.VISIT)
    return previous_rows(ids)


def _order(frame: pd.DataFrame) -> _Order:
    n = len(frame)
    person = _persons(frame)
    date, known = _dates(frame)
    undated = np.zeros(person.max() + 1 if n else 0, dtype=bool)
    undated[person[~known]] = True
    dated = ~undated[person] if n else np.empty(0, dtype=bool)
    pattern, number = _visits(frame.get(names.VISIT), n)
    return _Order(person, np.where(dated, date, 0), dated, pattern, number)


def _persons(frame: pd.DataFrame) -> NDArray[np.int64]:
    n = len(frame)
    if names.PERSON_ID not in frame:
        return np.arange(n)
    codes, different = pd.factorize(frame[names.PERSON_ID])
    alone = codes < 0
    codes = codes.astype(np.int64)
    codes[alone] = len(different) + np.arange(alone.sum())
    return codes


def _dates(frame: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    n = len(frame)
    if names.DATE not in frame:
        return np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool)
    codes, different = pd.factorize(frame[names.DATE])
    if pd.api.types.is_datetime64_any_dtype(frame[names.DATE].dtype):
        parsed = pd.to_datetime(pd.Index(different), utc=True)
    else:
        texts = [str(one).strip() for one in different]
        parsed = pd.to_datetime(pd.Index(texts, dtype=object), format="ISO8601", utc=True, errors="coerce")
        bad = np.flatnonzero(parsed.isna() & (np.array(texts) != ""))
        if len(bad):
            row = int(np.flatnonzero(np.isin(codes, bad))[0])
            raise DataError(
                f"date {different[codes[row]]!r} of sample {_name(frame, row)!r} can't be read"
                f"{_more(int(np.isin(codes, bad).sum()) - 1, 'date')}: write dates as 2024-03-31"
            )
    table = np.append(parsed.as_unit("ns").asi8, np.iinfo(np.int64).min)
    date = table[codes]
    known = date != np.iinfo(np.int64).min
    return np.where(known, date, 0), known


def _visits(values: pd.Series[Any] | None, n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pattern and place of each visit: the pattern is the text without its digits, the place the rank of the digits."""
    if values is None:
        return np.full(n, -1, dtype=np.int64), np.zeros(n)
    codes, different = pd.factorize(values)
    places: dict[str, list[tuple[tuple[float, ...], int]]] = {}
    for at, value in enumerate(different):
        text = label_text(value).strip().casefold()
        if _NUMBER.fullmatch(text):
            places.setdefault("", []).append(((float(text),), at))
        elif text:
            parts = _DIGITS.split(text)
            places.setdefault("0".join(parts[::2]), []).append((tuple(map(float, parts[1::2])), at))
    pattern = np.full(len(different) + 1, -1, dtype=np.int64)
    number = np.zeros(len(different) + 1)
    for code, found in enumerate(places.values()):
        ranks = {place: rank for rank, place in enumerate(sorted({place for place, _ in found}))}
        for place, at in found:
            pattern[at], number[at] = code, ranks[place]
    return pattern[codes], number[codes]


def _first(frame: pd.DataFrame, order: _Order, candidates: NDArray[np.int64]) -> NDArray[np.int64]:
    """The baseline's position for each person, -1 for none."""
    first = np.full(order.person.max() + 1 if len(frame) else 0, -1, dtype=np.int64)
    keys = (order.number[candidates], order.date[candidates], order.person[candidates])
    sorted_rows = candidates[np.lexsort(keys)]
    persons = order.person[sorted_rows]
    starts = np.ones(len(persons), dtype=bool)
    starts[1:] = persons[1:] != persons[:-1]
    first[persons[starts]] = sorted_rows[starts]
    others = sorted_rows[~starts]
    later = order.compare(others, first[order.person[others]])
    unclear = others[~(later > 0)]
    if len(unclear):
        _refuse(frame, order, int(unclear.min()), first, len(np.unique(order.person[unclear])))
    return first


def _refuse(
    frame: pd.DataFrame,
    order: _Order,
    row: int,
    first: NDArray[np.int64],
    n_persons: int,
    what: str = "no first visit",
) -> None:
    other = int(first[order.person[row]])
    person = frame[names.PERSON_ID].iloc[row]
    tells = [name for name in (names.DATE, names.VISIT) if name in frame]
    said = " and ".join(
        f"{_name(frame, at)!r} ({', '.join(f'{name} {_text(frame[name].iloc[at])}' for name in tells) or 'no date'})"
        for at in sorted((row, other))
    )
    raise DataError(
        f"{what} of person {str(person)!r}: nothing tells which of its samples is earlier, {said}"
        f"{_more(n_persons - 1, 'person')}. {_REMEDY}"
    )


def _name(frame: pd.DataFrame, row: int) -> str:
    return str(frame[names.SAMPLE_ID].iloc[row] if names.SAMPLE_ID in frame else frame.index[row])


def _text(value: Any) -> str:
    text = label_text(value) or "missing"
    return text.removesuffix(" 00:00:00") if isinstance(value, (pd.Timestamp, np.datetime64)) else text


def _more(count: int, what: str) -> str:
    return f", and {count} more {what}{'s' if count > 1 else ''}" if count > 0 else ""
