"""A night in one transaction, staged arrivals, taking changes back, the history of calls, leases, withdrawn people."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa
from store_helpers import betas, decoded, put
from store_layer_helpers import put_layer
from store_postgres import new_database, postgres_server

from sjd_dask.errors import Busy, DataError, SpecError
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.nights import Arrival, CallChanges
from sjd_dask.store.catalogue.runs import claim_run
from sjd_dask.store.catalogue.tombstones import insert_tombstones
from sjd_dask.store.cohort import Cohort, create_cohort, open_cohort
from sjd_dask.store.gc import gc
from sjd_dask.store.ingest.pipeline import ingest, stage
from sjd_dask.store.layout import Layout
from sjd_dask.store.verify import verify

SPAWN = multiprocessing.get_context("spawn")
AFTER = ("classes/calls", "changes/calls")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def cohort(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cohort]:
    url = new_database(request.getfixturevalue("server")) if request.param == "postgres" else None
    made = create_cohort(tmp_path / "c", catalogue=url, layout=Layout(4, 10))
    put(made, "meth", ids(0, 6), values(0, 6))
    yield made
    made.catalogue.close()


@pytest.fixture
def plain(tmp_path: Path) -> Cohort:
    made = create_cohort(tmp_path / "c", layout=Layout(4, 10))
    put(made, "meth", ids(0, 6), values(0, 6))
    return made


def ids(start: int, stop: int) -> list[str]:
    return [f"s{number}" for number in range(start, stop)]


def values(start: int, stop: int, seed: int = 0) -> Any:
    return betas(20, 25, seed)[start:stop]


def matrix(folder: Path, samples: list[str], numbers: Any, name: str = "m.npz") -> Path:
    path = folder / name
    np.savez(path, values=numbers, samples=np.array(samples), features=np.array([f"f{i}" for i in range(25)]))
    return path


def sheet(samples: list[str], **columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns, index=pd.Index(samples, name="sample_id"))


def run(cohort: Cohort, name: str) -> tuple[str, int]:
    claim = claim_run(cohort.catalogue, name, job="nightly", output="calls", spec={})
    return claim.run.id, claim.run.epoch


def items(*samples: str) -> list[Any]:
    table = pa.table({"sample_id": list(samples)})
    return [("classes", "calls", {"table": table}, {}), ("changes", "calls", {"table": table}, {})]


def call(sample: str, label: str | None, **more: Any) -> dict[str, Any]:
    return {"sample_id": sample, "status": "called" if label else "abstained", "call": label, **more}


def night(cohort: Cohort, name: str, number: int, **more: Any) -> Any:
    return cohort.publish_night(*run(cohort, name), after=dict.fromkeys(AFTER, number), **more)


def published(cohort: Cohort) -> dict[str, Any]:
    """What the cohort shows now, without the numbers of changes."""
    history = cohort.call_history("calls", live=True) if _calls(cohort) else pd.DataFrame()
    return {
        "rows": {name: cohort.assay(name).row_hashes() for name in cohort.assays()},
        "columns": {one: {k: v for k, v in row.items() if v == v} for one, row in cohort.samples().T.items()},
        "results": sorted(one.ref for one in cohort.results() if one.kind != "changes"),
        "calls": sorted(map(str, history[["sample_id", "status", "call"]].to_numpy().tolist())) if len(history) else [],
        "production": sorted(one.ref for one in cohort.models() if one.is_production),
    }


def _calls(cohort: Cohort) -> bool:
    with cohort.catalogue.read() as connection:
        return connection.execute(sa.select(t.calls.c.id).limit(1)).scalar() is not None


def test_an_arrival_reads_as_it_will_after_publication(plain: Cohort, tmp_path: Path) -> None:
    before = plain.assay("meth")
    first = matrix(tmp_path, ["s5", "s1", "s6"], np.vstack([values(5, 6), values(1, 2, 1), values(6, 7)]))
    staged = stage(plain, "meth", first, replace=True, samples=sheet(["s6"], age=[50]))
    assert (staged.report.status, staged.report.new, staged.report.replaced) == ("staged", ["s6"], ["s1"])
    assert staged.report.unchanged == ["s5"] and "staged segment" in staged.report.lines()[0]
    assert staged.arrival is not None and staged.columns is not None and staged.columns.loc["s6", "age"] == 50
    assert plain.snapshot() == 1 and plain.assay("meth").row_hashes() == before.row_hashes()
    second = stage(plain, "meth", matrix(tmp_path, ids(7, 9), values(7, 9), "n.npz"), beside=[staged.arrival])
    assert second.arrival is not None
    laid = before.with_arrivals([staged.arrival, second.arrival])
    assert laid.sample_ids() == ["s0", "s2", "s3", "s4", "s5", "s1", "s6", "s7", "s8"] and before.n_samples == 6
    raw, encoding = laid.reader().columns(0, 25)
    done = night(plain, "one", 0, arrivals=[staged.arrival, second.arrival], sheets=[staged.columns])
    assert (done.n_new, done.n_replaced, done.n_same, done.n_columns, done.snapshot) == (3, 1, 0, 1, 2)
    after = plain.assay("meth")
    assert after.sample_ids() == laid.sample_ids() and after.row_hashes() == laid.row_hashes()
    assert laid.reader().content_hash() == after.reader().content_hash()
    np.testing.assert_array_equal(encoding.decode(raw), decoded(plain, "meth"))
    assert laid.rows().drop(columns="published_in").equals(after.rows().drop(columns="published_in"))
    verify(plain)


def test_two_files_of_one_night(plain: Cohort, tmp_path: Path) -> None:
    first = stage(plain, "meth", matrix(tmp_path, ids(6, 8), values(6, 8))).arrival
    assert first is not None
    again = stage(plain, "meth", matrix(tmp_path, ids(6, 8), values(6, 8), "n.npz"), beside=[first])
    assert again.arrival is None and again.report.unchanged == ids(6, 8)
    part = stage(plain, "meth", matrix(tmp_path, ids(7, 9), values(7, 9), "n.npz"), beside=[first]).arrival
    assert part is not None and part.record.sample_ids == ("s8",)
    plain.abandon(part.staging_id)
    with pytest.raises(DataError, match=r"1 of the 2 samples .* another file .* with other content: 's7'"):
        stage(plain, "meth", matrix(tmp_path, ids(7, 9), values(7, 9, 1), "n.npz"), beside=[first], replace=True)
    other = ingest(plain, "rna", matrix(tmp_path, ["s0"], values(0, 1), "n.npz"), quantity="beta")
    assert other.status == "published"
    new = stage(plain, "new", matrix(tmp_path, ["s0"], values(0, 1), "n.npz"), quantity="beta").arrival
    assert new is not None
    with pytest.raises(DataError, match=r"'new' is new.*ingest the first one by itself"):
        stage(plain, "new", matrix(tmp_path, ["s1"], values(1, 2), "n.npz"), quantity="beta", beside=[new])
    gc(plain, grace_hours=0)
    done = night(plain, "one", 0, arrivals=[first, new])
    assert done.n_new == 3 and plain.assay("new").sample_ids() == ["s0"]
    verify(plain)


def test_a_night_is_all_or_nothing(cohort: Cohort, tmp_path: Path) -> None:
    put(cohort, "meth", ["s7"], values(7, 8, 2))
    other = cohort.rollback(cohort.snapshot()).snapshot
    arrival = stage(cohort, "meth", matrix(tmp_path, ids(6, 8), values(6, 8))).arrival
    assert arrival is not None
    before = published(cohort)
    good: dict[str, Any] = {
        "arrivals": [arrival],
        "sheets": [sheet(["s6"], age=[1]), sheet([]), sheet(["s6"], age=[2], sex=["f"])],
        "items": items("s6"),
        "calls": CallChanges("calls", [], [call("s6", "a", visit=1, person_id="P1", date="2026-01-02")]),
    }
    cohort.publish_result("classes", "calls", {"table": pa.table({"sample_id": ["s0"]})}, {})
    with pytest.raises(Busy, match=r"another run published classes/calls@1 .* from version 0"):
        night(cohort, "one", 0, **good)
    cohort.rollback(cohort.snapshot())
    run_id, epoch = run(cohort, "two")
    with pytest.raises(Busy, match="was taken over"):
        cohort.publish_night(run_id, epoch + 1, **good)
    wrong = Arrival(arrival.staging_id, arrival.record, ["0" * 32, arrival.row_hashes[1]])
    cohort.rollback(other)
    with pytest.raises(DataError, match=r"1 of 2 samples are published in 'meth' with other values: 's7'"):
        cohort.publish_night(run_id, epoch, **good)
    with pytest.raises(DataError, match="2 samples are in two arrivals of one night"):
        cohort.publish_night(run_id, epoch, **{**good, "arrivals": [arrival, wrong]})
    cohort.rollback(cohort.snapshot())
    assert published(cohort) == before and cohort.runs()[-1].state == "running"
    done = cohort.publish_night(run_id, epoch, **good, message="a night")
    assert done.refs == ["classes/calls@2", "changes/calls@1"] and done.snapshot == cohort.snapshot()
    with cohort.catalogue.read() as connection:
        for table in (t.rows, t.sample_columns, t.calls, t.results):
            newest = connection.execute(sa.select(sa.func.max(table.c.published_in))).scalar()
            assert newest == done.snapshot
    assert cohort.samples().loc["s6"].to_dict() == {"age": 2, "sex": "f"}
    assert cohort.log()[-1]["kind"] == "night" and "2 new rows, 1 calls; a night" in cohort.log()[-1]["message"]
    found = cohort.runs()[-1]
    assert found.state == "published" and found.meta["published"] == done.refs
    verify(cohort)


def test_a_night_whose_arrivals_came_another_way(cohort: Cohort, tmp_path: Path) -> None:
    put(cohort, "meth", ids(6, 8), values(6, 8))
    before = cohort.rollback(cohort.snapshot()).snapshot
    arrival = stage(cohort, "meth", matrix(tmp_path, ids(6, 8), values(6, 8))).arrival
    assert arrival is not None
    cohort.rollback(before)
    done = night(cohort, "one", 0, arrivals=[arrival])
    assert (done.snapshot, done.n_same, done.refs) == (None, 2, []) and cohort.runs()[-1].state == "published"
    assert not cohort.files.exists(f"segments/meth/{arrival.record.segment_id}.zarr")
    with pytest.raises(Busy, match="taken for dead"):
        night(cohort, "two", 0, arrivals=[arrival])


def test_two_nights_that_go_on_from_one_version(cohort: Cohort) -> None:
    """Without a lease: one is published whole, the other not at all."""
    runs = [run(cohort, name) for name in ("one", "two")]
    barrier = threading.Barrier(2)

    def publish(number: int) -> str:
        calls = CallChanges("calls", [], [call(one, str(number)) for one in ids(0, 4)])
        barrier.wait(30)
        try:
            done = cohort.publish_night(*runs[number], items=items("s1"), calls=calls, after=dict.fromkeys(AFTER, 0))
        except Busy as error:
            return str(error)
        return ", ".join(done.refs)

    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(publish, range(2)))
    won = said.index("classes/calls@1, changes/calls@1")
    assert "another run published classes/calls@1" in said[1 - won]
    assert set(cohort.call_history("calls")["call"]) == {str(won)}
    assert [one.state for one in cohort.runs()] == (["published", "running"] if won == 0 else ["running", "published"])


def test_nights_are_taken_back_one_by_one_and_brought_again(cohort: Cohort, tmp_path: Path) -> None:
    states = [published(cohort)]
    steps = [
        (["s6", "s7"], values(6, 8), CallChanges("calls", [], [call("s6", "a"), call("s7", None)])),
        (["s7", "s8"], values(7, 9, 1), CallChanges("calls", ["s6"], [call("s7", "b"), call("s8", "a")])),
        (["s8"], values(8, 9, 2), CallChanges("calls", ["s8"], [call("s6", "b")])),
    ]
    for number, (samples, numbers, calls) in enumerate(steps):
        path = matrix(tmp_path, samples, numbers)
        staged = stage(cohort, "meth", path, replace=True, samples=sheet(samples, night=[number] * len(samples)))
        assert staged.arrival is not None and staged.columns is not None
        night(
            cohort,
            f"night {number}",
            number,
            arrivals=[staged.arrival],
            sheets=[staged.columns],
            items=items(*samples),
            calls=calls,
        )
        states.append(published(cohort))
    last, first = cohort.snapshot(), cohort.snapshot() - 2
    with pytest.raises(DataError, match=rf"snapshot {first} can't be taken back: the later snapshot {last - 1} .*'s7'"):
        cohort.rollback(first)
    assert published(cohort) == states[3]
    told = ("changes", "calls", {"table": pa.table({"sample_id": ["s8"]})}, {})
    undone = [cohort.rollback(last, "wrong plate", "ann", [told])]
    assert published(cohort) == states[2] and undone[0].new_refs == ["changes/calls@4"]
    assert undone[0].refs == ["changes/calls@3", "classes/calls@3"]
    assert undone[0].retired == {"rows": 1, "sample_columns": 1, "calls": 1, "results": 2}
    assert undone[0].restored == {"rows": 1, "sample_columns": 1, "calls": 1}
    assert cohort.log()[-1]["who"] == "ann" and cohort.log()[-1]["message"].endswith("): wrong plate")
    # By its run; what tells of a rollback does not stand in the way of the next one.
    undone.append(cohort.rollback(cohort.change(last - 1).run_id or ""))
    assert published(cohort) == states[1]
    undone.append(cohort.rollback(first))
    assert published(cohort) == states[0]
    with pytest.raises(DataError, match=rf"taken back already, in snapshot {undone[2].snapshot}"):
        cohort.rollback(first)
    # Taking a rollback back brings the night again, under its own version.
    for state, one in zip(states[1:], reversed(undone), strict=True):
        cohort.rollback(one.snapshot)
        assert published(cohort) == state
    assert cohort.assay("meth", last).row_hashes() == cohort.assay("meth").row_hashes()
    verify(cohort)


def test_a_run_whose_results_were_taken_back_runs_again(cohort: Cohort) -> None:
    first, second = run(cohort, "one"), run(cohort, "two")
    cohort.publish_night(*first, items=items("s1"))
    cohort.publish_night(*second, calls=CallChanges("calls", [], [call("s1", "a")]))
    for name in ("one", "two"):
        claim = claim_run(cohort.catalogue, name, job="nightly", output="calls", spec={})
        assert claim.status == "published"
    cohort.rollback(second[0])
    assert claim_run(cohort.catalogue, "two", job="nightly", output="calls", spec={}).status == "resume"
    back = cohort.rollback(first[0])
    cohort.rollback(back.snapshot)
    assert claim_run(cohort.catalogue, "one", job="nightly", output="calls", spec={}).status == "published"


def test_what_can_be_taken_back(plain: Cohort) -> None:
    from sjd_dask.store.bundle import write_bundle
    from sjd_dask.store.compact import compact

    def told(target: object, match: str, error: type[Exception] = DataError) -> None:
        before = plain.snapshot()
        with pytest.raises(error, match=match):
            plain.rollback(str(target))
        assert plain.snapshot() == before

    model = plain.publish_model("m", write_bundle(plain.files, {}, {}), {}, {})
    promoted = plain.promote("m", 1)
    told(model.published_in, f"snapshot {promoted} .*touched m@1, which is in production")
    plain.rollback(plain.rollback(promoted or 0).snapshot)
    assert plain.find_model("m").version == 1
    layer = put_layer(plain, ids(0, 3), "a")
    made = plain.snapshot()
    put_layer(plain, ids(3, 4), "b")
    assert layer.refs == ["layers/double@1"]
    told(made, rf"later snapshot {made + 1} .*touched rows of layers/double@1")
    plain.rollback(made + 1)
    plain.rollback(made)
    assert plain.layers() == []
    one = plain.publish_result("associations", "e", {"table": pa.table({"x": [1]})}, {})
    plain.publish_result("associations", "e", {"table": pa.table({"x": [2]})}, {})
    # Versions of other results stand by themselves.
    assert plain.rollback(one.published_in).refs == ["associations/e@1"]
    assert plain.result("associations/e").version == 2
    put(plain, "meth", ids(6, 8), values(6, 8))
    compact(plain)
    told(plain.snapshot(), "it moved rows to other segments")
    plain.rollback(plain.snapshot() - 1)
    assert plain.assay("meth").sample_ids() == ids(0, 6)
    told(999, "there is no snapshot 999", SpecError)
    told("20260101-000000", "neither the number of a published change nor a run", SpecError)
    verify(plain)


def test_the_history_of_calls(cohort: Cohort) -> None:
    with pytest.raises(SpecError, match="no calls named 'calls'; it has: none yet"):
        cohort.call_history("calls")
    first = [
        call("s1", "a", person_id="P", visit=2, date="2026-02-01", confidence=0.75, model="models/m@1", row_hash="h"),
        call("s0", None, person_id="P", visit=1, date="2026-01-01", confidence=float("nan")),
        call("s2", "b", person_id="Q", visit="late"),
    ]
    run_id, epoch = run(cohort, "one")
    cohort.publish_night(run_id, epoch, calls=CallChanges("calls", [], first))
    cohort.publish_night(*run(cohort, "two"), calls=CallChanges("calls", ["s2"], [{**first[0], "call": "b"}]))
    found = cohort.call_history("calls", person_id="P")
    assert found["sample_id"].tolist() == ["s0", "s1", "s1"] and found["call"].tolist()[1:] == ["a", "b"]
    assert found["visit"].tolist() == [1, 2, 2] and found["run_id"].tolist()[:2] == [run_id] * 2
    assert found["retired_in"].isna().tolist() == [True, False, True]
    assert np.isnan(found["confidence"][0]) and found["confidence"][1] == 0.75
    assert (found["retired_at"][1] or 0) >= found["published_at"][1] > 1e9
    gone = cohort.call_history("calls", sample_id="s2")
    assert gone["visit"].tolist() == ["late"] and gone["retired_in"].tolist() == [cohort.snapshot()]
    assert cohort.call_history("calls", live=True)["sample_id"].tolist() == ["s0", "s1"]
    assert cohort.call_history("calls", person_id="nobody").empty
    with pytest.raises(ValueError, match="needs sample_id and status"):
        CallChanges("calls", [], [{"sample_id": "s0", "status": "called", "p_a": 0.5}])


def _hold(path: str, queue: Any) -> None:
    with open_cohort(path).lease() as lease:
        queue.put(lease.taken_from)
        signal.pause()


def test_a_lease_is_held_by_one_and_taken_from_the_dead(cohort: Cohort) -> None:
    queue = SPAWN.Queue()
    process = SPAWN.Process(target=_hold, args=(cohort.path, queue))
    process.start()
    assert queue.get(timeout=60) is None and process.pid is not None
    with pytest.raises(Busy, match=rf"process {process.pid} on .* holds the night of this cohort"), cohort.lease():
        pass
    with cohort.lease("other"):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    with cohort.lease() as lease:
        assert lease.taken_from is not None and lease.taken_from.pid == process.pid
        with pytest.raises(Busy), cohort.lease():
            pass
        cohort.publish_night(*run(cohort, "one"), lease=lease)
        with cohort.catalogue.write() as connection:
            connection.execute(sa.update(t.leases).values(pid=1))
        with pytest.raises(Busy, match=r"taken for dead .* lost the night"):
            cohort.publish_night(*run(cohort, "two"), items=items("s1"), lease=lease)
        assert cohort.results() == []


def test_a_lease_that_could_not_be_given_back(plain: Cohort) -> None:
    """A catalogue that is locked when a night ends does not keep this process out of the next one."""
    from sjd_dask.store.lease import Lease

    lease = Lease(open_cohort(plain.path, timeout=0.1).catalogue, "night").__enter__()
    with plain.catalogue.write():
        lease.__exit__(None, None, None)
    with plain.catalogue.read() as connection:
        assert connection.execute(sa.select(t.leases.c.name)).scalars().all() == ["night"]
    with plain.lease() as again:
        assert again.taken_from == again.owner
        with pytest.raises(Busy), plain.lease():
            pass


def test_a_lease_beats_for_itself_and_for_what_is_staged(plain: Cohort, tmp_path: Path) -> None:
    import time

    from sjd_dask.store.lease import Lease

    arrival = stage(plain, "meth", matrix(tmp_path, ids(6, 8), values(6, 8))).arrival
    assert arrival is not None

    def beats() -> list[float]:
        with plain.catalogue.read() as connection:
            return [connection.execute(sa.select(one.c.heartbeat)).scalar_one() for one in (t.leases, t.staging)]

    with Lease(plain.catalogue, "night", seconds=0.05) as lease:
        lease.keep(arrival.staging_id)
        before = beats()
        until = time.monotonic() + 20
        while any(new <= old for new, old in zip(beats(), before, strict=True)) and time.monotonic() < until:
            time.sleep(0.05)
        assert all(new > old for new, old in zip(beats(), before, strict=True))
        plain.abandon(arrival.staging_id)


def test_withdrawn_people_do_not_come_back(cohort: Cohort, tmp_path: Path) -> None:
    plain = cohort
    waiting = stage(plain, "meth", matrix(tmp_path, ["s11"], values(11, 12))).arrival
    assert waiting is not None
    with plain.catalogue.write() as connection:
        insert_tombstones(connection, ["P7", "s8", "s11"], plain.snapshot())
    assert plain.is_withdrawn(["P7", "s8", "s9"]) == {"P7", "s8"}
    with pytest.raises(Busy, match="1 of 1 samples belong to people who were withdrawn meanwhile"):
        night(plain, "one", 0, arrivals=[waiting])
    plain.abandon(waiting.staging_id)
    people = sheet(["s6", "s7", "s12"], person_id=["P6", "P7", "P7"], age=[1, 2, 3])
    done = ingest(plain, "meth", matrix(tmp_path, ids(6, 10), values(6, 10)), samples=people)
    assert (done.new, done.n_withdrawn, done.n_samples, done.only_in_sheet) == (["s6", "s9"], 2, 2, [])
    assert "2 samples of withdrawn people were left out" in done.lines()
    assert not {"s7", "s8", "P7"} & set(str(done.to_json()).replace("'", " ").split())
    assert plain.assay("meth").sample_ids() == [*ids(0, 6), "s6", "s9"]
    assert plain.samples()["person_id"].dropna().tolist() == ["P6"]
    none = ingest(plain, "meth", matrix(tmp_path, ["s8"], values(8, 9)))
    assert (none.status, none.n_samples, none.n_withdrawn) == (
        "unchanged",
        0,
        1,
    ) and "nothing was written" in none.lines()[0]
    assert plain.add_samples(sheet(["s7"], person_id=["P7"])) is None
    hashes = plain.keyed_hashes(["P7", "s8"])
    assert len(set(hashes)) == 2 and hashes != create_cohort(tmp_path / "other").keyed_hashes(["P7", "s8"])
    verify(plain)


# -- old nights --------------------------------------------------------------------------------------------------------


def whole(name: str, *samples: str) -> list[Any]:
    """Tables of a night; another for each, since equal ones share a file."""
    table = pa.table({"sample_id": [*samples, name]})
    return [(kind, "calls", {"table": table}, {}) for kind in ("classes", "reported", "changes")]


def tables_of(cohort: Cohort) -> dict[str, bool]:
    """Every result of today, and whether its table can be read."""
    return {one.ref: one.table().num_rows > 0 for one in cohort.results()}


def test_old_nights_leave_and_their_changes_stay(cohort: Cohort) -> None:
    for number in range(5):
        made = night(cohort, f"n{number}", number, items=whole(f"n{number}"), calls=CallChanges("calls", [], [
            call("s1", "A" if number % 2 else "B")]))  # fmt: skip
    # A test that was made from one of them, and a table of somebody else under the same name.
    cohort.publish_result("associations", "x", {"table": pa.table({"a": [1]})}, {"spec": {"labels": "classes/calls@2"}})
    cohort.publish_result("classes", "other", {"table": pa.table({"a": [1]})}, {})
    before, history = cohort.snapshot(), cohort.call_history("calls")
    planned = gc(cohort, 0, dry_run=True, keep_nights=2)
    assert cohort.snapshot() == before and len(tables_of(cohort)) == 17
    done = gc(cohort, 0, keep_nights=2)
    gone = ["classes/calls@1", "reported/calls@1", "reported/calls@2", "classes/calls@3", "reported/calls@3"]
    for one in (planned, done):
        assert [item.path for item in one.items if item.kind == "night"] == gone
        assert one.kept == ["classes/calls@2: another result was made from it"]
    assert planned.n_bytes == done.n_bytes > 0 and sum(item.kind == "table" for item in done.items) == 5
    assert tables_of(cohort).keys() == {
        *(f"changes/calls@{i}" for i in range(1, 6)), "classes/calls@2", "associations/x@1", "classes/other@1",
        *(f"{kind}/calls@{i}" for kind in ("classes", "reported") for i in (4, 5)),
    }  # fmt: skip
    assert verify(cohort, raise_errors=False).problems == []
    pd.testing.assert_frame_equal(cohort.call_history("calls"), history)
    with pytest.raises(SpecError, match=r"classes/calls@3 was removed in snapshot \d+, as an old night"):
        cohort.result("classes/calls@3")
    with pytest.raises(SpecError, match="were removed, as an old night's"):
        cohort.result("classes/calls@3", before).table()
    # Nothing more to do; what was removed can't come back; the newest night can be taken back, and come again.
    assert [one for one in gc(cohort, 0, keep_nights=2).items if one.kind == "night"] == []
    with pytest.raises(DataError, match="tables of old nights that it removed are gone"):
        cohort.rollback(before + 1)
    undone = cohort.rollback(made.snapshot)
    assert undone.refs == ["changes/calls@5", "classes/calls@5", "reported/calls@5"]
    gc(cohort, 0, keep_nights=2)
    cohort.rollback(undone.snapshot)
    assert tables_of(cohort)["classes/calls@5"] and tables_of(cohort)["reported/calls@5"]
    assert night(cohort, "n5", 5, items=whole("n5")).refs[0] == "classes/calls@6"


def test_nights_that_were_taken_back_for_good_leave_too(plain: Cohort) -> None:
    for number in range(4):
        made = night(plain, f"n{number}", plain_newest(plain), items=whole(f"n{number}"))
        if number == 1:
            plain.rollback(made.snapshot)
    stored = sum(item.kind == "table" for item in gc(plain, 0, keep_nights=2).items)
    # Of the first night two, and of the one that was taken back two: nobody gets there any more.
    assert stored == 4 and sorted(plain.removed_versions("classes", "calls")) == [1]
    with pytest.raises(SpecError, match="1 or more"):
        gc(plain, keep_nights=0)
    with plain.lease(), pytest.raises(Busy):
        gc(plain, keep_nights=1)
    claim_run(plain.catalogue, "reader", job="compare", output="x", spec={})
    busy = gc(plain, 0, keep_nights=1)
    assert "may be reading" in busy.kept[0] and busy.items == []


def test_removing_old_nights_may_be_stopped_anywhere(plain: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        night(plain, f"n{number}", number, items=whole(f"n{number}"))
    shown = tables_of(plain)

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sjd_dask.store.gc.remove_nights", stopped)
        with pytest.raises(KeyboardInterrupt):
            gc(plain, 0, keep_nights=1)
    assert tables_of(plain) == shown
    deleted: list[str] = []
    delete = type(plain.files).delete

    def twice(files: Any, path: str) -> None:
        if len(deleted) == 2:
            raise KeyboardInterrupt
        deleted.append(path)
        delete(files, path)

    with monkeypatch.context() as patch:
        patch.setattr(type(plain.files), "delete", twice)
        with pytest.raises(KeyboardInterrupt):
            gc(plain, 0, keep_nights=1)
    assert verify(plain, raise_errors=False).problems == [] and all(tables_of(plain).values())
    rest = [item.kind for item in gc(plain, 0, keep_nights=1).items]
    assert rest == ["table"] * 4 and len(deleted) == 2


def plain_newest(cohort: Cohort) -> int:
    return max((one.version for one in cohort.results() if one.kind == "classes"), default=0)
