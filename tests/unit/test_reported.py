"""What is reported of a person: order of visits, hysteresis, and that only the calls count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.errors import DataError
from sjd_dask.jobs.reported import REPORTED_COLUMNS, in_order, replay, with_runs

CLASSES = ("A", "B", "C")


def calls(*rows: tuple[str, Any, Any, str | None, float]) -> pd.DataFrame:
    """Rows (sample, visit, date, call, probability of it); the person is the sample id's first letter."""
    made = []
    for sample, visit, date, call, chance in rows:
        left = (1 - chance) / 2
        p = {f"p_{name}": chance if name == call else left for name in CLASSES}
        made.append({"sample_id": sample, "person_id": sample[0], "visit": visit, "date": date, "call": call, **p})
    return pd.DataFrame(made).set_index("sample_id")


def reported(frame: pd.DataFrame, margin: float = 0.2) -> dict[str, tuple[Any, Any]]:
    found = replay(frame, CLASSES, margin)
    return {row.person_id: (row.reported_call, row.since_sample) for row in found.itertuples()}


def test_a_call_flips_the_report_only_with_evidence() -> None:
    weak, strong = 0.40, 0.60  # against 0.30 and 0.20 of each other class
    first = ("a1", 1, None, "A", strong)
    assert reported(calls(first, ("a2", 2, None, "B", weak))) == {"a": ("A", "a1")}
    assert reported(calls(first, ("a2", 2, None, "B", strong))) == {"a": ("B", "a2")}
    two = [first, ("a2", 2, None, "B", weak), ("a3", 3, None, "B", weak)]
    assert reported(calls(*two)) == {"a": ("B", "a3")}
    # A visit between them that says something else breaks the row; one that says nothing does not.
    broken = [first, ("a2", 2, None, "B", weak), ("a3", 3, None, "C", weak), ("a4", 4, None, "B", weak)]
    assert reported(calls(*broken)) == {"a": ("A", "a1")}
    silent = [first, ("a2", 2, None, "B", weak), ("a3", 3, None, None, 1 / 3), ("a4", 4, None, "B", weak)]
    assert reported(calls(*silent)) == {"a": ("B", "a4")}
    # Two arrays of one visit are one visit.
    twice = [first, ("a2", 2, None, "B", weak), ("a3", 2, None, "B", weak)]
    assert reported(calls(*twice)) == {"a": ("A", "a1")}
    assert reported(calls(*twice), margin=0.05) == {"a": ("B", "a2")}
    assert reported(calls(("a1", 1, None, None, 1 / 3))) == {"a": (None, None)}


def test_the_order_is_that_of_dates_else_of_visits() -> None:
    frame = calls(
        ("a2", 1, "2026-02-01", "B", 0.9), ("a1", 2, "2026-01-01", "A", 0.9),  # dates
        ("b2", 10, None, "B", 0.9), ("b1", 9, "2027-01-01", "A", 0.9),  # a date is missing: visits
        ("c1", None, None, "A", 0.9), ("c2", None, None, "B", 0.9),  # neither: sample ids
    )  # fmt: skip
    assert reported(frame) == {"a": ("B", "a2"), "b": ("B", "b2"), "c": ("B", "c2")}
    words = calls(("a1", "V10", None, "B", 0.9), ("a2", "V2", None, "A", 0.9))
    assert reported(words) == {"a": ("B", "a1")}
    times = calls(("a1", 1, "2026-01-01T10:00:00+02:00", "A", 0.9), ("a2", 2, "2026-01-01T09:00:00+00:00", "B", 0.9))
    assert reported(times) == {"a": ("B", "a2")}
    assert reported(frame.iloc[::-1]) == reported(frame)


def test_a_sample_without_a_person_is_a_person() -> None:
    frame = calls(("a1", 1, None, "A", 0.9), ("a2", 2, None, "B", 0.9))
    frame["person_id"] = [None, "a"]
    assert reported(frame) == {"a": ("B", "a2"), "a1": ("A", "a1")}
    assert reported(frame.drop(columns=["person_id", "visit", "date"])) == {"a1": ("A", "a1"), "a2": ("B", "a2")}


def test_many_persons_are_replayed_as_one_after_another() -> None:
    """Against the rule written down for one person, on random calls."""
    rng = np.random.default_rng(3)
    n = 600
    p = rng.dirichlet([1.0, 1.0, 1.0], n)
    top = p.argmax(axis=1)
    called = rng.random(n) < 0.8
    frame = pd.DataFrame(p, columns=[f"p_{name}" for name in CLASSES])
    frame["call"] = np.where(called, np.array(CLASSES, dtype=object)[top], None)
    frame["person_id"] = [f"P{i:03d}" for i in rng.integers(0, 90, n)]
    frame["visit"] = rng.integers(1, 6, n)
    frame["date"] = np.where(
        rng.random(n) < 0.97, [f"2026-{m:02d}-{d:02d}" for m, d in rng.integers(1, 13, (n, 2))], None
    )
    frame.index = pd.Index([f"S{i:04d}" for i in rng.permutation(n)], name="sample_id")
    wanted = {}
    for person, own in frame.groupby("person_id"):
        dated = bool(own["date"].notna().all())
        keyed = sorted((str(r.date) if dated else "", r.visit, str(r.Index), r) for r in own.itertuples())
        now: tuple[Any, Any] = (None, None)
        seen: list[tuple[Any, str]] = []  # visit, call of its last sample
        for date, visit, sample, row in keyed:
            if pd.isna(row.call):
                continue
            earlier = [call for at, call in seen if at != (date, visit)]
            gain = 0.0 if now[0] is None else own.at[sample, f"p_{row.call}"] - own.at[sample, f"p_{now[0]}"]
            if now[0] is None or (row.call != now[0] and (gain >= 0.3 or earlier[-1:] == [row.call])):
                now = (row.call, sample)
            seen = [one for one in seen if one[0] != (date, visit)] + [((date, visit), row.call)]
        wanted[person] = now
    assert reported(frame, 0.3) == wanted
    assert {one[0] for one in wanted.values()} >= set(CLASSES)
    order, persons, visits = in_order(frame)
    assert sorted(order) == list(range(n)) and (np.diff(persons) >= 0).all() and (np.diff(visits) >= 0).all()


def test_what_is_still_reported_keeps_the_run_it_began_with() -> None:
    frame = calls(("a1", 1, "2026-01-01", "A", 0.9), ("b1", 1, "2026-01-01", "A", 0.9), ("c1", 1, None, None, 1 / 3))
    first = with_runs(replay(frame, CLASSES, 0.2), pd.Series("run1", index=frame.index), None)
    assert list(first.columns) == list(REPORTED_COLUMNS)
    assert first["since_run"].tolist() == ["run1", "run1", None]
    later = calls(("a1", 1, "2026-01-01", "A", 0.8), ("b1", 1, "2026-01-01", "C", 0.9), ("d1", 1, None, "B", 0.9))
    second = with_runs(replay(later, CLASSES, 0.2), pd.Series("run2", index=later.index), first)
    assert second["person_id"].tolist() == ["a", "b", "d"]
    assert second["since_run"].tolist() == ["run1", "run2", "run2"]
    assert len(replay(frame.iloc[:0], CLASSES, 0.2)) == 0


def test_a_call_of_no_class_is_refused() -> None:
    with pytest.raises(DataError, match="'D'"):
        replay(calls(("a1", 1, None, "A", 0.9)).assign(call="D"), CLASSES, 0.2)
