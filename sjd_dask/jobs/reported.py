"""What is reported of a person: the calls of all visits replayed in order, with hysteresis.

The table depends on the calls alone. Nothing of earlier nights enters but the run in which a report was first made, so
a report that was wrong for a while leaves no trace.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.errors import DataError

# Columns of `reported/NAME`, in this order.
REPORTED_COLUMNS = (names.PERSON_ID, "reported_call", "since_date", "since_run")
_DIGITS = re.compile(r"([0-9]+)")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def persons_of(frame: pd.DataFrame) -> pd.Series[Any]:
    """The person of each sample; a sample without `person_id` is a person of its own, known by its sample id."""
    own = pd.Series(frame.index.astype(object), index=frame.index, dtype=object)
    if names.PERSON_ID not in frame:
        return own
    given = frame[names.PERSON_ID].astype(object)
    return given.where(given.notna(), own)


def in_order(frame: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The samples by person and visit.

    A person's samples go by date, then visit, then sample id; where one of them has no date, by visit and sample id.
    Visits are compared as numbers, or as text whose digits count as numbers (V2 before V10); missing ones come first.

    Parameters
    ----------
    frame : DataFrame
        Index: sample ids; columns `person_id`, `visit` and `date`, as far as they are there. n rows.

    Returns
    -------
    order : ndarray of int64, (n,)
        Positions of the rows, persons in order of their ids.
    persons, visits : ndarray of int64, (n,)
        In that order: number of the person, and of the visit. Two samples of one visit have the same number.
    """
    n = len(frame)
    person, _ = pd.factorize(persons_of(frame), sort=True)
    date = _ranks(frame.get(names.DATE), n, _moment)
    visit = _ranks(frame.get(names.VISIT), n, _natural)
    undated = np.zeros(person.max() + 1 if n else 0, dtype=bool)
    undated[person[date < 0]] = True
    date = np.where(undated[person], -1, date)
    sample = np.argsort(np.argsort(frame.index.to_numpy(dtype=object), kind="stable"), kind="stable")
    order = np.lexsort((sample, visit, date, person)).astype(np.int64)
    # A sample of which neither is known is a visit of its own.
    own = np.where((date < 0) & (visit < 0), sample, -1)
    keys = np.stack([one[order] for one in (person, date, visit, own)])
    starts = np.ones(n, dtype=bool)
    starts[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    return order, person[order].astype(np.int64), np.cumsum(starts).astype(np.int64)


def replay(calls: pd.DataFrame, classes: Sequence[str], margin: float) -> pd.DataFrame:
    """What is reported of each person.

    The first call is reported. A later call of another class takes its place when it is more probable than the
    reported class by at least `margin` in that sample, or when the person's visit before (among those with a call) was
    called the same. Samples without a call (abstained and the like) say nothing: they neither change a report nor
    stand between two visits.

    Parameters
    ----------
    calls : DataFrame
        Index: sample ids; `call` (missing where there is none), `p_<class>`, and `person_id`, `visit`, `date` as far as
        they are there.
    classes : sequence of str
    margin : float
        Difference of probabilities, 0 to 1.

    Returns
    -------
    DataFrame
        One row a person, in order of their ids: `person_id`, `reported_call`, `since_date`, and `since_sample`, the
        sample with which the report began. Missing where no sample of the person has a call.

    Raises
    ------
    DataError
        A call that is none of the classes.
    """
    order, persons, visits = in_order(calls)
    place = {name: number for number, name in enumerate(classes)}
    given = calls["call"].astype(object)
    strange = sorted(set(given.dropna()) - set(place))
    if strange:
        raise DataError(f"{len(strange)} calls are none of the model's classes: {', '.join(map(repr, strange[:5]))}")
    number = given.map(place).to_numpy(dtype=np.float64)[order]
    call = np.where(np.isnan(number), -1, number).astype(np.int64)
    chances = calls[[f"p_{name}" for name in classes]].to_numpy(dtype=np.float64)[order]
    n_persons = int(persons[-1]) + 1 if len(persons) else 0
    reported = np.full(n_persons, -1, dtype=np.int64)
    since = np.full(n_persons, -1, dtype=np.int64)
    _walk(persons, visits, call, chances, margin, reported, since)
    labels = np.array([*classes, None], dtype=object)
    first = np.searchsorted(persons, np.arange(n_persons))
    at = np.where(since < 0, 0, order[np.maximum(since, 0)]) if n_persons else since
    known = since >= 0
    sample = np.where(known, calls.index.to_numpy(dtype=object)[at], None) if n_persons else np.array([], dtype=object)
    when = calls[names.DATE].astype(object).to_numpy() if names.DATE in calls else np.full(len(calls), None)
    date = np.where(known, when[at], None) if n_persons else np.array([], dtype=object)
    found = pd.DataFrame(
        {
            names.PERSON_ID: persons_of(calls).to_numpy()[order[first]] if n_persons else np.array([], dtype=object),
            "reported_call": labels[reported],
            "since_date": date,
            "since_sample": sample,
        },
        dtype=object,
    )
    return found.where(found.notna(), None)


def _walk(
    persons: NDArray[np.int64],
    visits: NDArray[np.int64],
    call: NDArray[np.int64],
    chances: NDArray[np.float64],
    margin: float,
    reported: NDArray[np.int64],
    since: NDArray[np.int64],
) -> None:
    """Fill `reported` and `since` (a row of the ordered samples), one pass over all rows."""
    called = np.flatnonzero(call >= 0)
    who, where, what = persons[called].tolist(), visits[called].tolist(), call[called].tolist()
    person = visit = latest = before = now = -1
    for row, one, at, new in zip(called.tolist(), who, where, what, strict=True):
        if one != person:
            person, visit, latest, before, now = one, at, new, -1, -1
        elif at != visit:
            visit, before = at, latest
        latest = new
        if now < 0 or (new != now and (chances[row, new] - chances[row, now] >= margin or before == new)):
            now = new
            reported[one], since[one] = new, row


def with_runs(found: pd.DataFrame, runs: pd.Series[Any], before: pd.DataFrame | None) -> pd.DataFrame:
    """The table `reported/NAME`.

    Parameters
    ----------
    found : DataFrame
        From `replay`.
    runs : Series
        Index: sample ids; the run that made each sample's call.
    before : DataFrame, optional
        The table of the night before: what is still reported since the same date keeps the run that it names.

    Returns
    -------
    DataFrame
        Columns `REPORTED_COLUMNS`.
    """
    run = found["since_sample"].map(runs).astype(object)
    if before is not None and len(before):
        earlier = before.set_index(names.PERSON_ID).reindex(found[names.PERSON_ID])
        same = (_texts(earlier["reported_call"]) == _texts(found["reported_call"])) & (
            _texts(earlier["since_date"]) == _texts(found["since_date"])
        )
        kept = earlier["since_run"].astype(object).to_numpy()
        run = pd.Series(np.where(same & pd.notna(kept), kept, run), index=found.index, dtype=object)
    made = found.assign(since_run=run.where(found["reported_call"].notna(), None))
    return made[list(REPORTED_COLUMNS)]


def _texts(values: pd.Series[Any]) -> NDArray[Any]:
    return values.astype(object).where(values.notna(), "").astype(str).to_numpy(dtype=object)


def _ranks(values: pd.Series[Any] | None, n: int, key: Any) -> NDArray[np.int64]:
    """The place of each value among the different ones; -1 where it is missing."""
    if values is None:
        return np.full(n, -1, dtype=np.int64)
    codes, different = pd.factorize(values)
    keys = [key(one) for one in different]
    ranks = {one: rank for rank, one in enumerate(sorted(set(keys)))}
    table = np.array([*(ranks[one] for one in keys), -1], dtype=np.int64)
    return table[codes]


def _moment(value: Any) -> pd.Timestamp:
    found = pd.Timestamp(value)
    return found.tz_convert("UTC").tz_localize(None) if found.tzinfo is not None else found


def _natural(value: Any) -> tuple[Any, ...]:
    """A key by which 2 comes before 10, and V2 before V10."""
    text = str(value).strip()
    if _NUMBER.fullmatch(text):
        return (0, float(text))
    parts = _DIGITS.split(text)
    return (1, *((0, int(one), one) if i % 2 else (1, one) for i, one in enumerate(parts)))
