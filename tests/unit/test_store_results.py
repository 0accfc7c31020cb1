"""Runs, results and exports."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from sjd_dask.errors import Busy, DataError, SjdError, SpecError
from sjd_dask.store.catalogue.runs import (
    claim_run,
    finish_run,
    get_run,
    heartbeat_run,
    list_runs,
    request_cancel,
)
from sjd_dask.store.cohort import Cohort, create_cohort
from sjd_dask.store.export import export
from sjd_dask.store.gc import gc
from sjd_dask.store.owners import Owner


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return create_cohort(tmp_path / "c")


def claim(cohort: Cohort, fingerprint: str = "f", owner: Owner | None = None) -> Any:
    return claim_run(cohort.catalogue, fingerprint, job="associate", output="x", spec={"a": [1]}, owner=owner)


def test_a_run_from_claim_to_result(cohort: Cohort) -> None:
    run = claim(cohort).run
    assert (run.state, run.epoch, run.attempt, run.spec, run.is_live()) == ("running", 1, 1, {"a": [1]}, True)
    with pytest.raises(Busy, match=f"run {run.id} .*sjd cancel COHORT"):
        claim(cohort)
    assert heartbeat_run(cohort.catalogue, run.id, 1, {"done": 3}) is False
    assert get_run(cohort.catalogue, run.id[:-2]).meta == {"done": 3}
    items = [
        ("classes", "calls", {"table": pa.table({"a": [1]})}, {"n": 1}),
        ("changes", "calls", {"table": pa.table({"b": [1]})}, {}),
    ]
    made = cohort.publish_results(items, run.id, 1, message="night")
    assert [one.ref for one in made] == ["classes/calls@1", "changes/calls@1"]
    assert get_run(cohort.catalogue, run.id).state == "published" and made[0].run == run.id
    assert claim(cohort).status == "published"
    assert cohort.snapshot() == 1 and "night" in cohort.log()[0]["message"] and cohort.log()[0]["run"] == run.id
    with pytest.raises(Busy, match="published at epoch 1"):
        cohort.publish_result("classes", "calls", {}, {}, run.id, 1)
    json.dumps([one.to_json() for one in list_runs(cohort.catalogue, "published")])


def test_taking_up_a_dead_run(cohort: Cohort) -> None:
    gone = Owner("another-host", 1, "x")
    run = claim(cohort, owner=gone).run
    with pytest.raises(Busy):
        claim(cohort)  # its heartbeat is fresh
    with cohort.catalogue.write() as connection:
        connection.exec_driver_sql("UPDATE runs SET heartbeat = heartbeat - 1000")
    again = claim(cohort)
    assert (again.status, again.run.id, again.run.epoch, again.run.attempt) == ("resume", run.id, 2, 2)
    with pytest.raises(Busy, match="this driver has epoch 1"):
        finish_run(cohort.catalogue, run.id, 1, "failed")
    finish_run(cohort.catalogue, run.id, 2, "interrupted", "Ctrl-C")
    assert get_run(cohort.catalogue, run.id).message == "Ctrl-C"
    assert claim(cohort).run.epoch == 3


def test_cancelling(cohort: Cohort) -> None:
    run = claim(cohort).run
    assert request_cancel(cohort.catalogue, run.id).state == "running"
    assert heartbeat_run(cohort.catalogue, run.id, 1) is True
    finish_run(cohort.catalogue, run.id, 1, "interrupted")
    assert request_cancel(cohort.catalogue, run.id).state == "cancelled"
    assert claim(cohort).run.cancel_requested is False
    with pytest.raises(SpecError, match="no run"):
        get_run(cohort.catalogue, "zzz")
    claim(cohort, "g")
    with pytest.raises(SpecError, match="more than one run"):
        get_run(cohort.catalogue, "2")


def test_versions_and_refs(cohort: Cohort) -> None:
    for value in (1.0, 2.0):
        cohort.publish_result("associations", "x", {"table": pa.table({"a": [value]}), "k3": pa.table({"b": [1]})}, {})
    assert cohort.result("associations/x").version == 2
    assert cohort.result("associations/x@1").table()["a"].to_pylist() == [1.0]
    assert cohort.result("associations/x", snapshot=1).version == 1
    assert cohort.result("associations/x").tables == ["table", "k3"]
    assert cohort.result("associations/x").to_pandas("k3")["b"].tolist() == [1]
    with pytest.raises(SpecError, match="no table 'k4'; it has: table, k3"):
        cohort.result("associations/x").table("k4")
    with pytest.raises(SpecError, match=r"no result 'strata/x'; it has: associations/x@1, associations/x@2"):
        cohort.result("strata/x")
    for bad in ("x", "a/b/c", "a/../b", "a/b@x", "/x", "a/b@", ""):
        with pytest.raises(SpecError):
            cohort.result(bad)
    Path(cohort.result("associations/x@1").path).unlink()
    with pytest.raises(DataError, match="is lost"):
        cohort.result("associations/x@1").table()


def test_a_table_may_be_streamed(cohort: Cohort) -> None:
    schema = pa.schema([("a", pa.int64())])
    batches = (pa.record_batch([pa.array([one])], schema=schema) for one in range(5))
    reader = pa.RecordBatchReader.from_batches(schema, batches)
    result = cohort.publish_result("associations", "x", {"table": reader}, {})
    assert result.table()["a"].to_pylist() == [0, 1, 2, 3, 4] and result.file().n_rows == 5


def test_finished_parts_are_removed(cohort: Cohort) -> None:
    first, second = claim(cohort).run, claim(cohort, "g").run
    for run in (first, second):
        cohort.files.write_bytes(f"runs/{run.id}/1/parts/0.arrow", b"123")
        cohort.files.write_bytes(f"runs/{run.id}/1/plan.json", b"{}")
    cohort.publish_result("associations", "x", {"table": pa.table({"a": [1]})}, {}, first.id, 1)
    assert [(item.kind, item.n_bytes) for item in gc(cohort).items] == [("parts", 3)]
    assert not cohort.files.exists(f"runs/{first.id}/1/parts/0.arrow")
    assert cohort.files.exists(f"runs/{first.id}/1/plan.json") and cohort.files.exists(
        f"runs/{second.id}/1/parts/0.arrow"
    )


@pytest.fixture
def exported(cohort: Cohort) -> Cohort:
    table = pa.table(
        {
            "feature_id": ["cg1", 'a,\t"b"\nc', None],
            "effect": [0.1, float("nan"), -1.2345678901234567e-300],
            "n": pa.array([1, None, 3], pa.int32()),
            "core": [True, False, None],
            "single": pa.array([0.1, None, 2.0], pa.float32()),
        }
    )
    cohort.publish_result("associations", "x", {"table": table}, {})
    return cohort


@pytest.mark.parametrize(("name", "delimiter"), [("o.tsv", "\t"), ("o.csv", ",")])
def test_text_exports(exported: Cohort, tmp_path: Path, name: str, delimiter: str) -> None:
    target = tmp_path / name
    target.write_text("old")
    assert export(exported, "associations/x", target) == target
    content = target.read_bytes()
    assert b"\r" not in content and content.endswith(b"\n")
    with target.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream, delimiter=delimiter))
    assert rows[0] == ["feature_id", "effect", "n", "core", "single"]
    assert rows[1] == ["cg1", "0.10000000000000001", "1", "True", "0.100000001"]
    assert rows[2] == ['a,\t"b"\nc', "", "", "False", ""]
    assert float(rows[3][1]) == -1.2345678901234567e-300 and rows[3][0] == "" and rows[3][3] == ""


def test_other_exports(exported: Cohort, tmp_path: Path) -> None:
    result = exported.result("associations/x")
    export(exported, result.ref, tmp_path / "o.parquet")
    assert str(pq.read_table(tmp_path / "o.parquet").to_pylist()) == str(result.table().to_pylist())
    export(exported, result.ref, tmp_path / "o.zarr")
    group = zarr.open_group(str(tmp_path / "o.zarr"), mode="r")
    np.testing.assert_array_equal(group["effect"][:], [0.1, np.nan, -1.2345678901234567e-300])
    assert list(group["feature_id"][:]) == ["cg1", 'a,\t"b"\nc', ""]
    import xarray as xr

    with xr.open_zarr(str(tmp_path / "o.zarr"), consolidated=False) as opened:
        assert opened.sizes == {"row": 3}
    with pytest.raises(SpecError, match="exists"):
        export(exported, result.ref, tmp_path / "o.zarr")
    with pytest.raises(SpecError, match=r"ends in none of \.tsv, \.csv"):
        export(exported, result.ref, tmp_path / "o.xlsx")
    with pytest.raises(SpecError, match="no result"):
        export(exported, "associations/zz", tmp_path / "z.tsv")
    with pytest.raises(SjdError, match="nothing was exported"):
        export(exported, result.ref, tmp_path / "nowhere" / "o.tsv")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["c", "o.parquet", "o.zarr"]
