"""Changes of every kind, taken back and brought again: the cohort shows what the changes that stand have made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from store_helpers import betas, put

from sjd_dask.errors import DataError
from sjd_dask.store.catalogue.nights import CallChanges
from sjd_dask.store.catalogue.runs import claim_run
from sjd_dask.store.cohort import Cohort, create_cohort
from sjd_dask.store.compact import compact
from sjd_dask.store.layout import Layout
from sjd_dask.store.verify import verify

SAMPLES = [f"s{number}" for number in range(6)]
Shown = dict[str, Any]


def shown(cohort: Cohort) -> Shown:
    """What anybody can see, but for the numbers of changes and the order of rows."""
    calls = cohort.call_history("calls", live=True)[["sample_id", "call"]]
    columns = cohort.samples().T.to_dict()
    return {
        "rows": cohort.assay("m").row_hashes(),
        "columns": {one: {k: v for k, v in row.items() if v is not None and v == v} for one, row in columns.items()},
        "calls": dict(calls.to_numpy().tolist()),
        "results": {one.ref: one.record.files["table"].hash for one in cohort.results()},
    }


def _one(cohort: Cohort, rng: np.random.Generator, number: int) -> int:
    """A change of a random kind; its snapshot."""
    some = [str(one) for one in rng.choice(SAMPLES, int(rng.integers(1, 4)), replace=False)]
    kind = int(rng.integers(4))
    if kind == 0:
        done = put(cohort, "m", some, betas(len(some), 4, number), replace=True, sheet=_sheet(some, number))
        return done.snapshot or 0
    if kind == 1:
        return cohort.add_samples(_sheet(some, number)) or 0
    if kind == 2:
        return cohort.publish_result("associations", "e", {"table": pa.table({"x": [number]})}, {}).published_in
    run = claim_run(cohort.catalogue, f"night {number}", job="nightly", output="calls", spec={}).run
    rows = [{"sample_id": one, "status": "called", "call": f"c{number}"} for one in some[1:]]
    items = [("classes", "calls", {"table": pa.table({"x": [number]})}, {})]
    calls = CallChanges("calls", some[:1], rows)
    return (
        cohort.publish_night(run.id, run.epoch, sheets=[_sheet(some, number)], items=items, calls=calls).snapshot or 0
    )


def _sheet(samples: list[str], number: int) -> pd.DataFrame:
    return pd.DataFrame({f"c{number % 2}": [number] * len(samples)}, index=pd.Index(samples, name="sample_id"))


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    made = create_cohort(tmp_path / "c", layout=Layout(2, 4))
    put(made, "m", SAMPLES[:3], betas(3, 4, 0), sheet=_sheet(SAMPLES[:3], 0))
    run = claim_run(made.catalogue, "first", job="nightly", output="calls", spec={}).run
    row = {"sample_id": "s0", "status": "called", "call": "c"}
    made.publish_night(run.id, run.epoch, calls=CallChanges("calls", [], [row]))
    return made


@pytest.mark.parametrize("seed", range(3))
def test_the_last_change_that_stands_can_always_be_taken_back(cohort: Cohort, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Each change that stands, with what was shown before it; each that was taken back, with what was shown with it.
    stand: list[tuple[int, Shown]] = []
    undone: list[tuple[int, Shown]] = []
    for number in range(1, 26):
        before = shown(cohort)
        what = rng.random()
        if what < 0.3 and stand:
            change, expected = stand.pop()
            undone.append((cohort.rollback(change).snapshot, before))
        elif what < 0.5 and undone:
            rollback, expected = undone.pop()
            stand.append((cohort.rollback(rollback).snapshot, before))
            # From now on it is the rollback's rollback that has to go, to be without the change again.
        else:
            made = _one(cohort, rng, number)
            if not made:
                continue
            stand.append((made, before))
            undone.clear()
            continue
        assert shown(cohort) == expected
    verify(cohort)


@pytest.mark.parametrize("seed", range(2))
def test_any_change_is_taken_back_alone_or_refused(cohort: Cohort, seed: int) -> None:
    """What is taken back from under later changes leaves what these made; else nothing happens at all."""
    rng = np.random.default_rng(100 + seed)
    changes = [(made, number) for number in range(1, 12) if (made := _one(cohort, rng, number))]
    taken = refused = 0
    for change, number in [changes[i] for i in rng.permutation(len(changes))]:
        before, newest = shown(cohort), cohort.snapshot()
        if number % 3 == 0:
            compact(cohort)
            newest = cohort.snapshot()
        try:
            done = cohort.rollback(change)
        except DataError as error:
            refused += 1
            later = int(str(error).split("later snapshot ")[1].split(" ")[0])
            assert change < later <= newest and cohort.snapshot() == newest and shown(cohort) == before
            continue
        taken += 1
        after = shown(cohort)
        assert set(before["results"]) - set(after["results"]) == set(done.refs)
        cohort.rollback(done.snapshot)
        assert shown(cohort) == before
        cohort.rollback(cohort.snapshot())
        assert shown(cohort) == after
    assert taken and refused
    verify(cohort)
