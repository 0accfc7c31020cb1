"""What a night changed and why: two nights compared, sample by sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.jobs.night_state import Night, column, equal
from sjd_dask.jobs.reported import in_order, persons_of

# Columns of `changes/NAME`, in this order.
CHANGES_COLUMNS = (
    names.SAMPLE_ID, names.PERSON_ID, names.VISIT, "previous_sample_id", "previous_call", "call", "reported_before",
    "reported_call", "reason", "previous_model", "model", "previous_confidence", "confidence", "run",
)  # fmt: skip
REASONS = ("new_person", "new_visit", "new_data", "new_model", "threshold", "withdrawn", "rollback")
# What a row of the history of calls says beside the probabilities: a new row is written where one of these differs.
CALL_COLUMNS = (names.PERSON_ID, names.VISIT, names.DATE, "status", "call", "top_class", "confidence", "model")


def changes(before: Night | None, after: Night, run: str, model: str) -> pd.DataFrame:
    """Who changed, and why.

    One row for each sample that was classified for the first time, one for each whose call is another than before,
    and one for each person whose reported call changed without either (then of the sample that was called last; without
    a sample where all of them are another person's now). Reasons: `new_person` and `new_visit` for first calls (the
    sample before it, in order of visits, is the previous one), `new_data` where values or sample columns changed,
    `new_model`, `threshold` where the probabilities are the same and the rules (threshold, margin, eligibility) are
    not, `rollback` of samples that left because what brought them in was taken back, `withdrawn` without any id.

    Parameters
    ----------
    before, after : Night
    run, model : str
        Of this night.

    Returns
    -------
    DataFrame
        Columns `CHANGES_COLUMNS`, by sample id; rows without id last.
    """
    return _Comparison(before, after, run, model).table()


def call_changes(before: Night | None, after: Night) -> tuple[list[str], list[dict[str, Any]]]:
    """The samples whose rows in the history of calls end, and the rows that begin."""
    now = after.calls
    if before is None:
        retire: list[str] = []
        begin = np.ones(len(now), dtype=bool)
    else:
        shown = before.calls.reindex(now.index)
        known = now.index.isin(before.calls.index)
        same = known & equal(after.state["row_hash"], before.state["row_hash"].reindex(now.index))
        for name in CALL_COLUMNS:
            same &= equal(column(now, name), column(shown, name))
        begin = ~same
        retire = [*now.index[begin & known], *before.calls.index.difference(now.index)]
    rows = now.loc[begin]
    table = {name: _plain(column(rows, name)) for name in CALL_COLUMNS}
    table["row_hash"] = _plain(after.state["row_hash"].loc[rows.index])
    columns = [names.SAMPLE_ID, *table]
    return retire, [dict(zip(columns, row, strict=True)) for row in zip(rows.index, *table.values(), strict=True)]


class _Comparison:
    """Two nights side by side, in the order of the later one's samples."""

    def __init__(self, before: Night | None, after: Night, run: str, model: str) -> None:
        self.before, self.after, self.run, self.model = before, after, run, model
        self.now = after.calls
        index = self.now.index
        self.person = persons_of(self.now)
        empty = pd.DataFrame(index=pd.Index([], dtype=object))
        calls = empty if before is None else before.calls
        state = empty if before is None else before.state
        self.was = calls.reindex(index)
        self.seen = index.isin(calls.index)
        self.ready = after.state["eligible"].to_numpy(dtype=bool)
        self.was_ready = self.seen & column(state.reindex(index), "eligible").eq(True).to_numpy(dtype=bool)
        earlier = state.reindex(index)
        self.data = self.was_ready & ~(
            equal(after.state["row_hash"], column(earlier, "row_hash"))
            & equal(after.state["sheet_hash"], column(earlier, "sheet_hash"))
        )
        for name in (names.PERSON_ID, names.VISIT, names.DATE):
            self.data |= self.seen & ~equal(column(self.now, name), column(self.was, name))
        self.reported_before = _by_person(None if before is None else before.reported)
        self.reported_now = _by_person(after.reported)
        self.known_persons = set(persons_of(calls)[column(state.reindex(calls.index), "eligible").eq(True)])
        # Withdrawn people are in no table any more. Who is in one and not in the assay left by a rollback.
        self.gone = 0 if before is None else max(0, before.n_published - len(before.state))
        ready = column(state.reindex(calls.index), "eligible").eq(True).to_numpy(dtype=bool)
        self.earlier = calls[ready] if len(calls) else calls
        self.left = self.earlier[~self.earlier.index.isin(index)]

    def table(self) -> pd.DataFrame:
        first = self.ready & ~self.was_ready
        other = self.was_ready & ~equal(column(self.now, "call"), column(self.was, "call"))
        reason = np.full(len(self.now), None, dtype=object)
        previous = np.full(len(self.now), None, dtype=object)
        self._first(first, reason, previous)
        reason[other] = self._why()[other]
        previous[other] = self.now.index.to_numpy(dtype=object)[other]
        self._reports(first | other, reason, previous)
        rows = np.flatnonzero(pd.notna(reason))
        found = self._rows(rows, reason, previous, first)
        told = set(self.person.iloc[rows]) | set(persons_of(self.left))
        more = [self._left(self.left.sort_index(), "rollback", sample=True), self._left(self._lost(told), "new_data")]
        more = [one for one in (found, *more) if len(one)]
        if more:
            found = pd.concat(more, ignore_index=True) if len(more) > 1 else more[0]
        found = found.sort_values([names.SAMPLE_ID, names.PERSON_ID], kind="stable", ignore_index=True)
        return self._with_withdrawn(found)

    def _lost(self, told: set[Any]) -> pd.DataFrame:
        """The last calls of people who had a report, and whose samples are all another's now."""
        return _lost(self.earlier, self.reported_before, {*self.reported_now.index, *self.person, *told})

    def _left(self, was: pd.DataFrame, reason: str, *, sample: bool = False) -> pd.DataFrame:
        """Rows of what is not there any more."""
        return _ended(was, self.reported_before, self.reported_now, reason, self.run, sample=sample)

    def _first(self, first: NDArray[np.bool_], reason: NDArray[Any], previous: NDArray[Any]) -> None:
        """Samples that had no call yet: of a new person the first one, else one more visit."""
        # Visits are put in order among those that count: the sample before one that isn't eligible is of no use.
        places = np.flatnonzero(self.ready)
        if not first.any() or not len(places):
            return
        order, persons, _ = in_order(self.now.iloc[places])
        rows = places[order]
        ids = self.now.index.to_numpy(dtype=object)
        starts = np.ones(len(rows), dtype=bool)
        starts[1:] = persons[1:] != persons[:-1]
        earlier = np.roll(ids[rows], 1)
        earlier[starts] = None
        own = first[rows]
        new = starts & ~self.person.iloc[rows].isin(self.known_persons).to_numpy()
        previous[rows[own]] = earlier[own]
        reason[rows[own]] = np.where(new[own], "new_person", "new_visit")

    def _why(self) -> NDArray[Any]:
        """Why the call of a known sample would be another one."""
        numbers = self._same_numbers()
        model = np.where(numbers, "threshold", "new_model")
        if self.before is not None and self.before.rules.model_hash == self.after.rules.model_hash:
            model[:] = "threshold"
        why = np.where(self.data, "new_data", model).astype(object)
        # Who is not eligible any more: the sheet says something else, or the query does.
        if self.before is not None:
            query = self.before.rules.eligible != self.after.rules.eligible
            why[self.was_ready & ~self.ready & ~self.data] = "threshold" if query else "new_data"
        return why

    def _same_numbers(self) -> NDArray[np.bool_]:
        columns = [one for one in self.now.columns if one.startswith("p_")]
        if set(columns) != {one for one in self.was.columns if str(one).startswith("p_")}:
            return np.zeros(len(self.now), dtype=bool)
        same = np.ones(len(self.now), dtype=bool)
        for one in columns:
            same &= equal(self.now[one], self.was[one])
        return same

    def _reports(self, told: NDArray[np.bool_], reason: NDArray[Any], previous: NDArray[Any]) -> None:
        """Persons whose report changed although no row tells of it yet."""
        everybody = self.reported_before.index.union(self.reported_now.index)
        same = equal(self.reported_before.reindex(everybody), self.reported_now.reindex(everybody))
        different = set(everybody[~same])
        different -= set(self.person[told]) | set(persons_of(self.left))
        places = np.flatnonzero(self.person.isin(different).to_numpy())
        if not len(places):
            return
        order, persons, _ = in_order(self.now.iloc[places])
        last = np.ones(len(order), dtype=bool)
        last[:-1] = persons[1:] != persons[:-1]
        rows = places[order[last]]
        touched = set(self.person[self.data])
        same_rules = self.before is not None and self.before.rules == self.after.rules
        new_model = self.before is not None and self.before.rules.model_hash != self.after.rules.model_hash
        moved = set(self.person[~self._same_numbers()]) if new_model else set()
        for row in rows:
            person = self.person.iloc[row]
            if person in touched or same_rules:
                reason[row] = "new_data"
            else:
                reason[row] = "new_model" if person in moved else "threshold"
            previous[row] = self.now.index[row]

    def _rows(
        self, rows: NDArray[np.int64], reason: NDArray[Any], previous: NDArray[Any], first: NDArray[np.bool_]
    ) -> pd.DataFrame:
        now = self.now.iloc[rows]
        # What came before a first call is another sample, as it is called now; of a known one, what it was called.
        other = self.now.reindex(pd.Index(previous[rows], dtype=object))
        fresh = first[rows]

        def earlier(name: str) -> NDArray[Any]:
            mine = column(self.was.iloc[rows], name).astype(object).to_numpy()
            return np.where(fresh, column(other, name).astype(object).to_numpy(), mine)

        person = self.person.iloc[rows]
        return pd.DataFrame(
            {
                names.SAMPLE_ID: now.index.to_numpy(dtype=object),
                names.PERSON_ID: column(now, names.PERSON_ID).to_numpy(dtype=object),
                names.VISIT: column(now, names.VISIT).to_numpy(dtype=object),
                "previous_sample_id": previous[rows],
                "previous_call": earlier("call"),
                "call": now["call"].to_numpy(dtype=object),
                "reported_before": person.map(self.reported_before).to_numpy(dtype=object),
                "reported_call": person.map(self.reported_now).to_numpy(dtype=object),
                "reason": reason[rows],
                "previous_model": earlier("model"),
                "model": now["model"].to_numpy(dtype=object),
                "previous_confidence": pd.to_numeric(pd.Series(earlier("confidence"), dtype=object)).to_numpy(float),
                "confidence": now["confidence"].to_numpy(dtype=np.float64),
                "run": np.full(len(rows), self.run, dtype=object),
            }
        )

    def _with_withdrawn(self, found: pd.DataFrame) -> pd.DataFrame:
        if not self.gone:
            return found
        empty = pd.DataFrame(
            {name: np.full(self.gone, np.nan if name.endswith("confidence") else None) for name in CHANGES_COLUMNS}
        )
        empty = empty.astype({name: kind for name, kind in found.dtypes.items()}, errors="ignore")
        empty["reason"], empty["model"], empty["run"] = "withdrawn", self.model, self.run
        return pd.concat([found, empty], ignore_index=True) if len(found) else empty


def rolled_back(now: Night, again: Night | None, run: str) -> pd.DataFrame:
    """The rows of `changes/NAME` where a night is taken back: samples that have another call again, or are gone.

    Parameters
    ----------
    now : Night
        As it is published.
    again : Night or None
        As it will be; None where there is no night any more.
    run : str

    Returns
    -------
    DataFrame
        Columns `CHANGES_COLUMNS`, by sample id. A sample that is gone has no call and no model.
    """
    empty = pd.DataFrame(index=pd.Index([], dtype=object))
    later = empty if again is None else again.calls
    ids = pd.Index(np.sort(np.array([*now.calls.index.union(later.index)], dtype=object)), dtype=object)
    old, new = now.calls.reindex(ids), later.reindex(ids)
    ready = [_flags(now, ids), np.zeros(len(ids), dtype=bool) if again is None else _flags(again, ids)]
    here = pd.Series(ids.isin(later.index), index=ids)
    said = {
        name: column(new, name).astype(object).where(here, column(old, name).astype(object))
        for name in (names.PERSON_ID, names.VISIT)
    }
    person = said[names.PERSON_ID].where(said[names.PERSON_ID].notna(), pd.Series(ids, index=ids, dtype=object))
    reports = [person.map(_by_person(one)) for one in (now.reported, None if again is None else again.reported)]
    moved = ~equal(column(old, "call"), column(new, "call")) | (ready[0] != ready[1])
    # A person whose report alone changes is told of by the last of the samples.
    silent = ~equal(*reports) & ~person.isin(set(person[moved])).to_numpy()
    moved |= silent & ~person.where(silent, pd.Series(ids, index=ids)).duplicated(keep="last").to_numpy()
    rows = np.flatnonzero(moved)
    table = {
        names.SAMPLE_ID: pd.Series(ids, index=ids, dtype=object),
        **said,
        "previous_sample_id": pd.Series(ids, index=ids, dtype=object),
        "previous_call": column(old, "call"),
        "call": column(new, "call"),
        "reported_before": reports[0],
        "reported_call": reports[1],
        "reason": pd.Series("rollback", index=ids, dtype=object),
        "previous_model": column(old, "model"),
        "model": column(new, "model"),
        "previous_confidence": column(old, "confidence").astype(np.float64),
        "confidence": column(new, "confidence").astype(np.float64),
        "run": pd.Series(run, index=ids, dtype=object),
    }
    found = pd.DataFrame({name: table[name].iloc[rows] for name in CHANGES_COLUMNS}).reset_index(drop=True)
    # Whose samples are another's again, or nobody's.
    before, after = (_by_person(one) for one in (now.reported, None if again is None else again.reported))
    called = now.calls[_flags(now, now.calls.index)]
    ended = _ended(_lost(called, before, {*after.index, *person}), before, after, "rollback", run)
    return pd.concat([found, ended], ignore_index=True) if len(ended) else found


def _lost(calls: pd.DataFrame, reported: pd.Series[Any], others: set[Any]) -> pd.DataFrame:
    """The last calls of people of whom something was reported, and who are not among the others."""
    people = set(reported.dropna().index) - others
    mine = calls[persons_of(calls).isin(people).to_numpy()] if people else calls.iloc[:0]
    order, persons, _ = in_order(mine)
    last = np.ones(len(order), dtype=bool)
    last[:-1] = persons[1:] != persons[:-1]
    return mine.iloc[order[last]]


def _ended(
    was: pd.DataFrame, before: pd.Series[Any], after: pd.Series[Any], reason: str, run: str, *, sample: bool = False
) -> pd.DataFrame:
    """Rows of calls that ended; without `sample` of the persons alone, since the samples are there and another's."""
    ids = pd.Series(was.index.to_numpy(dtype=object), dtype=object)
    person = persons_of(was).reset_index(drop=True)
    nothing = pd.Series(None, index=ids.index, dtype=object)
    # A sample without a person is known by its id.
    said = column(was, names.PERSON_ID).reset_index(drop=True) if sample else person
    table = {
        names.SAMPLE_ID: ids if sample else nothing,
        names.PERSON_ID: said,
        names.VISIT: column(was, names.VISIT),
        "previous_sample_id": ids,
        "previous_call": column(was, "call"),
        "call": nothing,
        "reported_before": person.map(before),
        "reported_call": person.map(after),
        "reason": pd.Series(reason, index=ids.index, dtype=object),
        "previous_model": column(was, "model"),
        "model": nothing,
        "previous_confidence": column(was, "confidence").astype(np.float64),
        "confidence": pd.Series(np.nan, index=ids.index),
        "run": pd.Series(run, index=ids.index, dtype=object),
    }
    return pd.DataFrame(
        {
            name: one.to_numpy(dtype=np.float64 if name.endswith("confidence") else object)
            for name, one in table.items()
        },
        columns=list(CHANGES_COLUMNS),
    )


def _flags(night: Night, ids: pd.Index) -> NDArray[np.bool_]:
    return np.asarray(night.state["eligible"].reindex(ids).eq(True), dtype=bool)


def _by_person(reported: pd.DataFrame | None) -> pd.Series[Any]:
    if reported is None:
        return pd.Series(dtype=object)
    calls = reported.set_index(names.PERSON_ID)["reported_call"].astype(object)
    return calls.where(calls.notna(), None)


def _plain(values: pd.Series[Any]) -> list[Any]:
    """Cells as plain data; None where missing."""
    held = values.astype(object).where(values.notna(), None)
    return [one.item() if isinstance(one, np.generic) else one for one in held]
