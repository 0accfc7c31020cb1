"""Several real processes on one cohort: nothing is lost, nothing is half visible. On SQLite and on PostgreSQL."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from store_helpers import betas, decoded, folder_as_bucket, put
from store_layer_helpers import HASH, doubled, layer_values, put_layer, source_values
from store_postgres import new_database, postgres_server

from sjd_dask.errors import Busy, DataError, SjdError
from sjd_dask.store.arrays import write_arrays
from sjd_dask.store.catalogue.layers import LayerRows
from sjd_dask.store.catalogue.migrate import upgrade
from sjd_dask.store.catalogue.runs import claim_run, finish_run, heartbeat_run
from sjd_dask.store.cohort import Cohort, create_cohort, open_cohort
from sjd_dask.store.compact import compact
from sjd_dask.store.features import FeatureSpace
from sjd_dask.store.gc import gc
from sjd_dask.store.layer import layer_key
from sjd_dask.store.layer_writing import create_segment, existing_rows, finish_segment, plan_segments, write_rows
from sjd_dask.store.layout import Encoding, Layout, encoding_for
from sjd_dask.store.segment import SegmentWriter
from sjd_dask.store.verify import verify

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def cohort(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cohort]:
    url = new_database(request.getfixturevalue("server")) if request.param == "postgres" else None
    made = create_cohort(tmp_path / "c", catalogue=url, layout=Layout(8, 50))
    yield made
    made.catalogue.close()


def ids(start: int, stop: int) -> list[str]:
    return [f"s{number}" for number in range(start, stop)]


def _call(function: Callable[..., Any], path: str, barrier: Any, queue: Any, *args: Any) -> None:
    cohort = open_cohort(path)
    barrier.wait(60)
    try:
        queue.put(("done", function(cohort, *args)))
    except SjdError as error:
        queue.put((type(error).__name__, str(error)))


def together(path: str, *calls: tuple[Any, ...]) -> list[tuple[str, Any]]:
    barrier, queue = SPAWN.Barrier(len(calls)), SPAWN.Queue()
    processes = [SPAWN.Process(target=_call, args=(call[0], path, barrier, queue, *call[1:])) for call in calls]
    for process in processes:
        process.start()
    answers = [queue.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return answers


def _put(cohort: Cohort, start: int, stop: int, seed: int) -> int:
    return put(cohort, "meth", ids(start, stop), betas(stop - start, 120, seed)).n_new


def _many(cohort: Cohort, start: int) -> int:
    for one in range(start, start + 10):
        put(cohort, "meth", ids(one, one + 1), betas(1, 120, one))
    return 10


def _compact(cohort: Cohort) -> Any:
    return compact(cohort, "meth")[0].snapshot


def test_two_writers_of_one_sample(cohort: Cohort) -> None:
    answers = together(cohort.path, (_put, 0, 10, 1), (_put, 5, 15, 2))
    kinds = sorted(kind for kind, _ in answers)
    # The slower one meets either the other's staging record or its published rows.
    assert kinds in (["Busy", "done"], ["DataError", "done"])
    assert cohort.assay("meth").n_samples == 10 and cohort.snapshot() == 1
    verify(cohort)


def test_writers_of_different_samples_all_publish(cohort: Cohort) -> None:
    answers = together(cohort.path, (_many, 0), (_many, 10), (_many, 20))
    assert [kind for kind, _ in answers] == ["done"] * 3
    assert sorted(cohort.assay("meth").sample_ids()) == sorted(ids(0, 30))
    assert [one["snapshot"] for one in cohort.log()] == list(range(1, 31))
    np.testing.assert_allclose(decoded(cohort, "meth", ["s17"]), betas(1, 120, 17), atol=8e-6)


def test_two_compactions_and_a_writer_at_once(cohort: Cohort) -> None:
    _many(cohort, 0)
    before = decoded(cohort, "meth", ids(0, 10))
    answers = together(cohort.path, (_compact,), (_compact,), (_many, 10))
    assert {kind for kind, _ in answers} <= {"done", "Busy"}
    assert sum(1 for kind, _ in answers if kind == "done") >= 2
    assert sorted(cohort.assay("meth").sample_ids()) == sorted(ids(0, 20))
    np.testing.assert_array_equal(decoded(cohort, "meth", ids(0, 10)), before)
    verify(cohort)


def test_compaction_and_gc_under_a_reader(cohort: Cohort) -> None:
    _many(cohort, 0)
    claim = claim_run(cohort.catalogue, "f1", job="associate", output="x", spec={})
    reader = cohort.assay("meth").reader()
    expected = reader.columns(0, 120)[0]
    compact(cohort, "meth")
    report = gc(cohort, grace_hours=0)
    assert not [item for item in report.items if item.kind == "segment"] and len(report.kept) == 10
    np.testing.assert_array_equal(reader.columns(0, 120)[0], expected)
    np.testing.assert_array_equal(decoded(cohort, "meth", snapshot=4), decoded(cohort, "meth", ids(0, 4)))
    finish_run(cohort.catalogue, claim.run.id, 1, "interrupted")
    assert not gc(cohort, grace_hours=1).items
    dry = gc(cohort, grace_hours=0, dry_run=True)
    report = gc(cohort, grace_hours=0)
    assert [item.kind for item in report.items] == ["segment"] * 10 and report.n_bytes == dry.n_bytes > 0
    assert len(list(Path(cohort.files.where("segments/meth")).iterdir())) == 2
    np.testing.assert_array_equal(decoded(cohort, "meth", ids(0, 10)), decoded(cohort, "meth"))
    np.testing.assert_array_equal(decoded(cohort, "meth", snapshot=4), decoded(cohort, "meth", ids(0, 4)))
    verify(cohort)


def test_history_survives_compaction(cohort: Cohort) -> None:
    first = betas(4, 120, 1)
    put(cohort, "meth", ids(0, 4), first)
    put(cohort, "meth", ids(1, 3), betas(2, 120, 2), replace=True)
    put(cohort, "meth", ids(4, 6), betas(2, 120, 3))
    now = decoded(cohort, "meth", ids(0, 6))
    done = compact(cohort)[0]
    assert (done.n_before, done.n_after, done.n_rows) == (3, 1, 8)
    assert compact(cohort)[0].snapshot is None
    gc(cohort, grace_hours=0)
    np.testing.assert_array_equal(decoded(cohort, "meth", ids(0, 6)), now)
    np.testing.assert_allclose(decoded(cohort, "meth", ids(0, 4), snapshot=1), first, atol=8e-6)


def _stage_and_hang(path: str, queue: Any) -> None:
    cohort = open_cohort(path)
    cohort.begin_staging("meth", "half", ids(0, 16))
    space = FeatureSpace.of([f"f{number}" for number in range(120)])
    encoding = encoding_for("beta", "float64", 0, 1)
    writer = SegmentWriter(cohort.files, "meth", "half", "beta", encoding, cohort.layout, ids(0, 16), space)
    writer.write(0, 0, encoding.encode(betas(8, 120, 0)))
    queue.put("written")
    time.sleep(600)


@pytest.mark.parametrize("then", ["ingest", "gc"])
def test_a_killed_writer_leaves_nothing_visible(cohort: Cohort, then: str) -> None:
    queue = SPAWN.Queue()
    process = SPAWN.Process(target=_stage_and_hang, args=(cohort.path, queue))
    process.start()
    assert queue.get(timeout=60) == "written"
    with pytest.raises(Busy):
        put(cohort, "meth", ids(3, 5), betas(2, 120, 1))
    assert not gc(cohort, grace_hours=0).items
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert cohort.assays() == [] and cohort.snapshot() == 0
    half = Path(cohort.files.where("segments/meth/half.zarr"))
    assert half.is_dir()
    if then == "gc":
        assert [item.kind for item in gc(cohort).items] == ["staging"]
        assert not half.exists()
    put(cohort, "meth", ids(0, 16), betas(16, 120, 0))
    assert not half.exists()
    verify(cohort)


def _claim(cohort: Cohort, hang: bool) -> str:
    claim = claim_run(cohort.catalogue, "same", job="associate", output="x", spec={"a": 1})
    if hang:
        time.sleep(2)
    return claim.status


def test_one_driver_holds_a_run(cohort: Cohort) -> None:
    answers = together(cohort.path, (_claim, True), (_claim, True))
    assert sorted(kind for kind, _ in answers) == ["Busy", "done"]
    # Both processes are gone: the run is free to be taken up.
    claim = claim_run(cohort.catalogue, "same", job="associate", output="x", spec={"a": 1})
    assert (claim.status, claim.run.epoch, claim.run.attempt) == ("resume", 2, 2)
    with pytest.raises(Busy, match="epoch 1"):
        heartbeat_run(cohort.catalogue, claim.run.id, 1)
    with pytest.raises(Busy, match="epoch 1"):
        cohort.publish_result("associations", "x", {}, {}, claim.run.id, 1)
    assert cohort.results() == []


def _layer(cohort: Cohort, fingerprint: str, start: int, stop: int, parameters_hash: str) -> tuple[int, int, int]:
    done = put_layer(cohort, ids(start, stop), fingerprint, parameters_hash=parameters_hash)
    return done.version, done.n_new, done.n_same


def test_two_runs_of_one_layer_at_once(cohort: Cohort) -> None:
    """The same parameters: one version, each sample once. Others: another version, whoever comes first."""
    put(cohort, "meth", ids(0, 30), betas(30, 120, 0))
    answers = together(
        cohort.path, (_layer, "a", 0, 20, HASH), (_layer, "b", 10, 30, HASH), (_layer, "c", 0, 5, "f" * 32)
    )
    assert [kind for kind, _ in answers] == ["done"] * 3
    by_version: dict[int, list[tuple[int, int]]] = {}
    for _, (version, n_new, n_same) in answers:
        by_version.setdefault(version, []).append((n_new, n_same))
    assert set(by_version) == {1, 2}
    one, two = sorted(by_version.values(), key=len)
    assert one == [(5, 0)] and sorted(two) == [(10, 10), (20, 0)]
    version = cohort.find_layer("double", layer_key("double", HASH))
    assert version is not None and sorted(version.sample_ids()) == sorted(ids(0, 30))
    np.testing.assert_array_equal(
        layer_values(cohort, version.ref, ids(0, 30)), doubled(source_values(cohort, ids(0, 30)))
    )
    assert version.source_hashes() == cohort.published_hashes("meth", ids(0, 30))
    assert [entry["snapshot"] for entry in cohort.log()] == [1, 2, 3, 4]
    verify(cohort)


def _write_rows_and_hang(path: str, queue: Any) -> None:
    cohort = open_cohort(path)
    run = claim_run(cohort.catalogue, "same", job="normalise", output="double", spec={}).run
    space = cohort.assay("meth").feature_space
    (segment,) = plan_segments(
        run.id, layer_key("double", HASH), "double", ids(0, 16), space, Encoding("float64"), cohort.layout
    )
    create_segment(cohort.files, segment, space)
    values = doubled(source_values(cohort, segment.sample_ids))
    queue.put((run.id, segment, write_rows(cohort.files, segment, 0, values[:8])))
    time.sleep(600)


def test_a_killed_driver_of_a_layer_is_followed_by_another(cohort: Cohort) -> None:
    """What was written stays for the next attempt; the epoch of the first one publishes nothing."""
    put(cohort, "meth", ids(0, 16), betas(16, 120, 0))
    queue = SPAWN.Queue()
    process = SPAWN.Process(target=_write_rows_and_hang, args=(cohort.path, queue))
    process.start()
    run_id, segment, first = queue.get(timeout=60)
    with pytest.raises(Busy):
        claim_run(cohort.catalogue, "same", job="normalise", output="double", spec={})
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert cohort.layers() == []
    cohort.sweep_dead()
    gc(cohort, grace_hours=0)
    claim = claim_run(cohort.catalogue, "same", job="normalise", output="double", spec={})
    assert (claim.status, claim.run.id, claim.run.epoch) == ("resume", run_id, 2)
    space = cohort.assay("meth").feature_space
    assert not create_segment(cohort.files, segment, space) and existing_rows(cohort.files, segment, first)
    second = write_rows(cohort.files, segment, 8, doubled(source_values(cohort, segment.sample_ids))[8:])
    record, row_hashes = finish_segment(cohort.files, segment, [first, second], space)
    hashes = cohort.published_hashes("meth", ids(0, 16))
    rows = [LayerRows(record, row_hashes, [hashes[one] for one in segment.sample_ids])]
    meta = {"source_assay": "meth", "parameters_hash": HASH}
    parameters = write_arrays(cohort.files, {}, {})
    with pytest.raises(Busy, match="this driver has epoch 1"):
        cohort.publish_layer(run_id, 1, "double", segment.assay, parameters, rows, meta)
    assert cohort.layers() == [] and cohort.snapshot() == 1
    done = cohort.publish_layer(run_id, 2, "double", segment.assay, parameters, rows, meta)
    assert done.refs == ["layers/double@1"] and done.n_new == 16
    np.testing.assert_array_equal(layer_values(cohort, "double"), doubled(source_values(cohort, ids(0, 16))))
    gc(cohort, grace_hours=0)
    verify(cohort)


def test_the_index_decides_for_a_layer_too(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    from sjd_dask.store.catalogue import layers

    put(cohort, "meth", ids(0, 4), betas(4, 120, 0))
    put_layer(cohort, ids(0, 2), "a")
    monkeypatch.setattr(layers, "_live", lambda *_: {})
    with pytest.raises(Busy, match="at the same moment"):
        put_layer(cohort, ids(1, 3), "b")
    monkeypatch.undo()
    assert cohort.layer("double").n_samples == 2 and cohort.snapshot() == 2
    assert cohort.runs()[-1].state == "running"


@pytest.mark.postgres
def test_a_postgres_catalogue_of_the_first_revision(server: str) -> None:
    """The columns that the second one adds and widens."""
    engine = sa.create_engine(new_database(server).replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        upgrade(connection, "0001")
    with engine.begin() as connection:
        assert "source_hash" not in [one["name"] for one in sa.inspect(connection).get_columns("rows")]
        upgrade(connection)
    with engine.begin() as connection:
        columns = {one["name"]: one for one in sa.inspect(connection).get_columns("rows")}
        assert columns["source_hash"]["nullable"]
        quantity = {one["name"]: one for one in sa.inspect(connection).get_columns("assays")}["quantity"]
        assert quantity["type"].length == 200 and not quantity["nullable"]
    engine.dispose()


def test_the_index_decides_where_locks_did_not(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    from sjd_dask.store.catalogue import publish

    put(cohort, "meth", ids(0, 2), betas(2, 120, 0))
    monkeypatch.setattr(publish, "live_rows", lambda *_: {})
    with pytest.raises(Busy, match="at the same moment"):
        put(cohort, "meth", ids(1, 3), betas(2, 120, 1))
    monkeypatch.undo()
    assert cohort.assay("meth").n_samples == 2 and cohort.snapshot() == 1


def test_waiting_for_a_writer_ends_as_busy(cohort: Cohort) -> None:
    other = open_cohort(cohort.path, timeout=0.2)
    with cohort.catalogue.write(), pytest.raises(Busy, match=r"held the catalogue .* longer than 0.2 s"):
        put(other, "meth", ids(0, 2), betas(2, 120, 0))
    other.catalogue.close()
    with pytest.raises(DataError):
        put(cohort, "meth", ["x", "x"], betas(2, 120, 0))
    put(cohort, "meth", ids(0, 2), betas(2, 120, 0))


@pytest.mark.postgres
def test_a_cohort_without_any_folder(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = folder_as_bucket(monkeypatch, tmp_path / "objects")
    database = new_database(server)
    made = create_cohort(url, catalogue=database)
    put(made, "meth", ids(0, 3), betas(3, 120, 0))
    opened = open_cohort(url)
    assert opened.path == url and opened.folder is None and opened.name == "cohort"
    np.testing.assert_allclose(decoded(opened, "meth"), betas(3, 120, 0), atol=8e-6)
    with pytest.raises(DataError, match="holds a cohort already"):
        create_cohort(tmp_path / "other", catalogue=database)
    assert not (tmp_path / "other" / "cohort.toml").exists()
    made.catalogue.close()
    opened.catalogue.close()
