"""Layers: writing by parts, versions, new and corrected samples, views, what keeps and what removes them."""

from __future__ import annotations

import json
import pickle
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa
import xarray as xr
from store_helpers import betas, decoded, folder_as_bucket, put
from store_layer_helpers import HASH, doubled, fill, layer_values, put_layer, source_values, written_rows
from zarr.codecs import ZstdCodec

from sjd_dask.errors import Busy, DataError, SpecError
from sjd_dask.store import export_matrix
from sjd_dask.store import segment as segment_module
from sjd_dask.store.arrays import arrays_bytes, read_arrays, write_arrays
from sjd_dask.store.catalogue import migrate
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.results import ArraysFile
from sjd_dask.store.catalogue.runs import claim_run, finish_run, get_run, request_cancel
from sjd_dask.store.cohort import Cohort, create_cohort, open_cohort
from sjd_dask.store.compact import compact
from sjd_dask.store.export import export
from sjd_dask.store.features import FeatureSpace
from sjd_dask.store.files import Files
from sjd_dask.store.gc import gc
from sjd_dask.store.hashing import row_hashes
from sjd_dask.store.layer import layer_key
from sjd_dask.store.layer_writing import (
    RowsWritten,
    create_segment,
    existing_rows,
    finish_segment,
    open_rows,
    plan_segments,
    write_rows,
)
from sjd_dask.store.layout import BETA_FILL, BETA_SCALE, Encoding, Layout
from sjd_dask.store.verify import verify

KEY = layer_key("double", HASH)


def ids(start: int, stop: int) -> list[str]:
    return [f"s{number}" for number in range(start, stop)]


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    """Twenty samples of 120 features in chunks of 8 x 50."""
    made = create_cohort(tmp_path / "c", layout=Layout(8, 50))
    put(made, "meth", ids(0, 20), betas(20, 120, 0))
    return made


def a_plan(cohort: Cohort, run_id: str = "run", n: int = 20, dtype: str = "float64") -> tuple[list, FeatureSpace]:
    space = cohort.assay("meth").feature_space
    return plan_segments(run_id, KEY, "double", ids(0, n), space, Encoding(dtype), cohort.layout, 16), space


def test_a_layer_reads_as_an_assay(cohort: Cohort) -> None:
    done = put_layer(cohort, ids(0, 20), "f1", companions=[("qc", "double", {"table": pa.table({"a": [1]})}, {})])
    assert done.refs == ["layers/double@1", "qc/double@1"] and done.is_new_version
    assert (done.n_new, done.n_replaced, done.n_same, done.n_retired) == (20, 0, 0, 0)
    for ref in ("double", "double@1", "layers/double", "layers/double@1"):
        layer = cohort.layer(ref)
        assert (layer.ref, layer.layer, layer.version, layer.quantity) == ("layers/double@1", "double", 1, "double")
    assert (layer.n_samples, layer.n_features, layer.source_assay) == (20, 120, "meth") and layer.name == KEY
    assert layer.sample_ids() == ids(0, 20) and list(layer.feature_ids()) == list(cohort.assay("meth").feature_ids())
    np.testing.assert_array_equal(layer_values(cohort, "double"), doubled(source_values(cohort, ids(0, 20))))
    lazy = layer.to_xarray()
    assert lazy["double"].dims == ("samples", "features") and lazy["double"].dtype == np.float64
    np.testing.assert_array_equal(lazy["double"].to_numpy(), layer_values(cohort, "double"))
    assert layer.source_hashes() == cohort.assay("meth").row_hashes() == cohort.published_hashes("meth", ids(0, 20))
    assert layer.parameters().attrs == {"method": "double"}
    assert layer.parameters().arrays["batch"].tolist() == ["a", "bé"]
    assert layer.run is not None and get_run(cohort.catalogue, layer.run).meta["published"] == done.refs
    assert get_run(cohort.catalogue, layer.run).state == "published"
    folder = next(Path(cohort.files.where(f"segments/{KEY}")).glob("*-0.zarr"))
    with xr.open_zarr(folder, consolidated=False) as stored:
        np.testing.assert_array_equal(stored["double"].to_numpy(), layer_values(cohort, "double", ids(0, 16)))
        assert stored["sample_id"].to_numpy().tolist() == ids(0, 16)
    verify(cohort)


def test_layers_are_no_assays(cohort: Cohort) -> None:
    put_layer(cohort, ids(0, 20), "f1")
    assert cohort.assays() == ["meth"] and len(cohort.samples()) == 20
    info = json.loads(json.dumps(cohort.info()))
    assert list(info["assays"]) == ["meth"] and info["n_samples"] == 20
    (entry,) = info["layers"]
    assert entry["ref"] == "layers/double@1" and (entry["n_samples"], entry["n_features"]) == (20, 120)
    assert (entry["source_assay"], entry["steps"], entry["dtype"]) == ("meth", "double", "float64")
    assert entry["bytes"] > 20 * 120 and entry["n_segments"] == 2
    (version,) = cohort.layers()[0].versions
    assert version.ref == "layers/double@1" and cohort.layers()[0].newest == version and version.n_samples == 20
    for name in ("a@b", KEY):
        with pytest.raises(SpecError, match="cannot be the name of an assay"):
            cohort.assay(name)
        with pytest.raises(SpecError, match="cannot be the name of an assay"):
            put(cohort, name, ["x"], betas(1, 5, 0))
    with pytest.raises(SpecError, match="no assay 'x'; it has: meth"):
        cohort.assay("x")
    for name in ("sample_id", "zarr.json", "x" * 181, "a@b", "a/b"):
        with pytest.raises(SpecError, match="cannot be the name of a layer"):
            layer_key(name, HASH)
    with pytest.raises(SpecError, match="is not a hash"):
        layer_key("x", "XYZ")
    with pytest.raises(SpecError, match="no layer 'other'; it has: double@1"):
        cohort.layer("other")
    with pytest.raises(SpecError, match="no layer"):
        cohort.layer("double@2")
    with pytest.raises(SpecError, match="does not name a result"):
        cohort.layer("a/b/c")
    result = cohort.result("layers/double")
    assert result.tables == []
    with pytest.raises(SpecError, match="is a matrix, not a table"):
        result.table()
    with pytest.raises(SpecError, match="file of arrays, not a table"):
        next(result.batches("parameters"))


def test_versions_change_with_parameters_and_not_with_rows(cohort: Cohort) -> None:
    first = put_layer(cohort, ids(0, 12), "f1")
    other = "f" * 32
    second = put_layer(cohort, ids(0, 20), "f2", parameters_hash=other)
    assert second.version == 2 and second.is_new_version
    third = put_layer(cohort, ids(12, 20), "f3")
    assert (third.version, third.is_new_version, third.n_new) == (1, False, 8)
    assert cohort.layer("double").version == 2 and cohort.layer("double@1").n_samples == 20
    np.testing.assert_array_equal(layer_values(cohort, "double@1", ids(0, 20)), layer_values(cohort, "double@2"))
    assert [one["kind"] for one in cohort.log()] == ["ingest", "layer", "layer", "layer"]
    # Earlier views.
    assert first.snapshot is not None
    assert cohort.layer("double", first.snapshot).n_samples == 12
    assert cohort.layers(first.snapshot)[0].newest.n_samples == 12
    assert cohort.layer("double@1", second.snapshot).sample_ids() == ids(0, 12)
    with pytest.raises(SpecError, match="it has: none yet"):
        cohort.layer("double", 1)
    found = cohort.find_layer("double", KEY)
    assert found is not None and found.version == 1
    assert cohort.find_layer("double", layer_key("double", "a" * 32)) is None
    # The same layer's name for other parameters, or the same parameters under another name, are different layers.
    assert put_layer(cohort, ids(0, 2), "f4", name="again").refs == ["layers/again@1"]
    verify(cohort)


def test_corrected_and_vanished_samples(cohort: Cohort) -> None:
    done = put_layer(cohort, ids(0, 20), "f1")
    before = layer_values(cohort, "double", ids(0, 20))
    put(cohort, "meth", ["s3"], betas(1, 120, 9), replace=True)
    put(cohort, "meth", ["s20"], betas(1, 120, 10))
    layer = cohort.layer("double")
    now, then = cohort.assay("meth").row_hashes(), layer.source_hashes()
    todo = [one for one in now if then.get(one) != now[one]]
    assert todo == ["s3", "s20"]
    again = put_layer(cohort, todo, "f2", retire=["s7", "unknown"])
    # s7 is still in the source as it was, so it can't have vanished: a run of an older view said so.
    assert (again.n_new, again.n_replaced, again.n_same, again.n_retired) == (1, 1, 0, 0)
    with cohort.catalogue.write() as connection:
        connection.execute(
            sa.update(t.rows).where(t.rows.c.assay == "meth", t.rows.c.sample_id == "s7").values(retired_in=2)
        )
    last = put_layer(cohort, ["s3"], "f3", retire=["s7"])
    assert (last.n_new, last.n_same, last.n_retired) == (0, 1, 1)
    assert sorted(cohort.layer("double").sample_ids()) == sorted(set(ids(0, 21)) - {"s7"})
    np.testing.assert_array_equal(
        layer_values(cohort, "double", ["s3", "s20"]), doubled(source_values(cohort, ["s3", "s20"]))
    )
    np.testing.assert_array_equal(layer_values(cohort, "double", ids(0, 20), done.snapshot), before)
    # The segment of a run none of whose rows was taken is removed.
    removed = [item for item in gc(cohort).items if item.kind == "orphan"]
    assert len(removed) == 1 and removed[0].n_bytes > 0
    verify(cohort)


def test_an_older_view_takes_nothing_away(cohort: Cohort) -> None:
    """Two runs of one layer: the one that read the older rows of the source publishes last."""
    late = claim_run(cohort.catalogue, "late", job="normalise", output="double", spec={}).run
    stale = written_rows(cohort, late.id, ids(0, 4))
    put(cohort, "meth", ["s3"], betas(1, 120, 9), replace=True)
    put_layer(cohort, ids(2, 5), "early")
    expected = layer_values(cohort, "double", ["s3"])
    parameters = write_arrays(cohort.files, {}, {})
    done = cohort.publish_layer(
        late.id, 1, "double", KEY, parameters, stale, {"source_assay": "meth", "parameters_hash": HASH}, retire=["s4"]
    )
    assert (done.n_new, done.n_replaced, done.n_same, done.n_retired, done.version) == (2, 0, 2, 0, 1)
    np.testing.assert_array_equal(layer_values(cohort, "double", ["s3"]), expected)
    assert cohort.layer("double").source_hashes() == cohort.published_hashes("meth", ids(0, 5))
    verify(cohort)


def test_nothing_new_is_no_change(cohort: Cohort) -> None:
    put_layer(cohort, ids(0, 20), "f1")
    run = claim_run(cohort.catalogue, "f2", job="normalise", output="double", spec={}).run
    meta = {"source_assay": "meth", "parameters_hash": HASH}
    done = cohort.publish_layer(run.id, 1, "double", KEY, None, [], meta)
    assert (done.snapshot, done.refs, done.is_new_version) == (None, ["layers/double@1"], False)
    assert get_run(cohort.catalogue, run.id).state == "published" and cohort.snapshot() == 2
    assert claim_run(cohort.catalogue, "f2", job="normalise", output="double", spec={}).status == "published"
    with pytest.raises(Busy, match="published at epoch 1"):
        cohort.publish_layer(run.id, 1, "double", KEY, None, [], meta)


def test_refused_publications_change_nothing(cohort: Cohort) -> None:
    run = claim_run(cohort.catalogue, "f1", job="normalise", output="double", spec={}).run
    rows = written_rows(cohort, run.id, ids(0, 20))
    meta = {"source_assay": "meth", "parameters_hash": HASH}
    parameters = write_arrays(cohort.files, {"a": np.ones(3)}, {})

    def refused(error: type[Exception], match: str, **changes: object) -> None:
        given: dict = {"epoch": 1, "key": KEY, "parameters": parameters, "rows": rows, "meta": meta} | changes
        with pytest.raises(error, match=match):
            cohort.publish_layer(
                run.id, given["epoch"], "double", given["key"], given["parameters"], given["rows"], given["meta"]
            )
        assert cohort.snapshot() == 1 and get_run(cohort.catalogue, run.id).state == "running"

    refused(Busy, "this driver has epoch 7", epoch=7)
    refused(DataError, "more than once in one layer: 's0'", rows=[rows[0], *rows])
    refused(ValueError, "needs its parameters", parameters=None)
    refused(ValueError, "needs rows", rows=[])
    refused(ValueError, "needs 'source_assay'", meta={"parameters_hash": HASH})
    refused(ValueError, "is not the key of layer 'double'", key=layer_key("double", "a" * 32))
    refused(DataError, "is lost", parameters=ArraysFile("tables/none.npz", 3, "x"))
    refused(DataError, "bytes instead of 3", parameters=ArraysFile(parameters.path, 3, "x"))
    assert cohort.layers() == []
    cohort.publish_layer(run.id, 1, "double", KEY, parameters, rows, meta)
    other = claim_run(cohort.catalogue, "f2", job="normalise", output="double", spec={}).run
    put(cohort, "small", ids(0, 3), betas(3, 7, 0))
    with pytest.raises(DataError, match="not the same ones"):
        cohort.publish_layer(
            other.id, 1, "double", KEY, parameters, written_rows(cohort, other.id, ids(0, 3), assay="small"), meta
        )


@pytest.mark.parametrize(
    "encoding", [Encoding("float64"), Encoding("float32"), Encoding("uint16", BETA_SCALE, BETA_FILL)]
)
def test_rows_by_parts_and_by_stripes(cohort: Cohort, encoding: Encoding) -> None:
    space = cohort.assay("meth").feature_space
    (segment, rest) = plan_segments("run", KEY, "double", ids(0, 20), space, encoding, cohort.layout, 19)
    assert (segment.n_samples, rest.n_samples, segment.segment_id, rest.chunks) == (16, 4, "run-0", (4, 50))
    assert pickle.loads(pickle.dumps(segment)) == segment  # noqa: S301 - our own object
    values = np.random.default_rng(0).random((20, 120))
    values[3, 50:100] = np.nan
    values[5] = np.nan
    raw = encoding.encode(values)
    assert create_segment(cohort.files, segment, space) and not create_segment(cohort.files, segment, space)
    with open_rows(cohort.files, segment, 0, 8) as writer:
        writer.write(0, raw[:8, :50])
        writer.write(50, raw[:8, 50:])
    whole = write_rows(cohort.files, segment, 0, raw[:8])
    assert writer.result == whole and len(whole.entries) == 3
    second = RowsWritten.from_json(json.loads(json.dumps(write_rows(cohort.files, segment, 8, raw[8:16]).to_json())))
    record, hashes = finish_segment(cohort.files, segment, [second, whole], space)
    assert hashes == row_hashes(raw[:16], encoding) and record.n_samples == 16 and record.n_features == 120
    manifest = json.loads(cohort.files.read_bytes(f"segments/{KEY}/run-0.manifest.json"))
    assert set(segment.chunk_keys()) < set(manifest) and len(manifest) == 6 + 4 + 2
    with xr.open_zarr(cohort.files.where(segment.path), consolidated=False) as stored:
        np.testing.assert_array_equal(
            stored["double"].to_numpy(), encoding.decode(raw[:16]).astype(stored["double"].dtype)
        )


def test_what_workers_may_not_do(cohort: Cohort) -> None:
    (segment, _), space = a_plan(cohort)
    create_segment(cohort.files, segment, space)
    raw = np.zeros((16, 120))
    for start, block, match in (
        (4, raw[:8], "rows 4:12 are not aligned to chunks of 8"),
        (0, raw[:5], "rows 0:5 are not aligned"),
        (16, raw[:8], "within 0:16"),
        (0, raw.astype("float32"), "type float32, the segment stores float64"),
    ):
        with pytest.raises(ValueError, match=match):
            write_rows(cohort.files, segment, start, block)
    with (
        pytest.raises(ValueError, match="features from 50 on are missing"),
        open_rows(cohort.files, segment, 0, 8) as one,
    ):
        one.write(0, raw[:8, :50])
    with pytest.raises(ValueError, match="not written yet"):
        _ = one.result
    with pytest.raises(ValueError, match="8 rows from feature 0 on"), open_rows(cohort.files, segment, 0, 8) as one:
        one.write(50, raw[:8, 50:])
    with (
        pytest.raises(ValueError, match="features 0:20 are not aligned"),
        open_rows(cohort.files, segment, 0, 8) as one,
    ):
        one.write(0, raw[:8, :20])
    with pytest.raises(ValueError, match="planned for other features"):
        create_segment(cohort.files, segment, FeatureSpace.of(["a"]))
    with pytest.raises(DataError, match="'s1' would be written twice"):
        plan_segments("run", KEY, "double", ["s1", "s1"], space, Encoding("float64"), cohort.layout)
    with pytest.raises(ValueError, match="floats or scaled codes"):
        plan_segments("run", KEY, "double", ["s1"], space, Encoding("uint8", None, 255), cohort.layout)


def test_a_resumed_run_finds_its_rows(cohort: Cohort) -> None:
    (segment, _), space = a_plan(cohort)
    create_segment(cohort.files, segment, space)
    values = doubled(source_values(cohort, segment.sample_ids))
    first, second = fill(cohort, segment, values)
    assert existing_rows(cohort.files, segment, first)
    again = write_rows(cohort.files, segment, 0, values[:8])
    assert again == first
    with pytest.raises(DataError, match="8 of 16 rows are written"):
        finish_segment(cohort.files, segment, [first], space)
    with pytest.raises(DataError, match="missing or written twice"):
        finish_segment(cohort.files, segment, [first, first], space)
    chunk = Path(cohort.files.where(f"{segment.path}/double/c/1/2"))
    kept = chunk.read_bytes()
    for damage in (kept[:-1], None):
        chunk.unlink()
        if damage is not None:
            chunk.write_bytes(damage)
        assert existing_rows(cohort.files, segment, first) and not existing_rows(cohort.files, segment, second)
        with pytest.raises(DataError, match=r"double/c/1/2 .* is lost or has another size"):
            finish_segment(cohort.files, segment, [first, second], space)
        chunk.write_bytes(kept)
    # What a killed worker was writing goes; what another plan of the same name wrote, too.
    (chunk.parent / ".0.1-x.tmp").write_bytes(b"half")
    record, _ = finish_segment(cohort.files, segment, [first, second], space)
    assert not (chunk.parent / ".0.1-x.tmp").exists() and record.n_samples == 16
    (other, _), _ = a_plan(cohort, dtype="float32")
    assert other.segment_id == segment.segment_id
    assert create_segment(cohort.files, other, space) and not chunk.exists()
    assert not existing_rows(cohort.files, other, first)


def test_gc_asks_the_run(cohort: Cohort) -> None:
    def leave(fingerprint: str) -> tuple[str, Path]:
        run = claim_run(cohort.catalogue, fingerprint, job="normalise", output="double", spec={}).run
        written_rows(cohort, run.id, ids(0, 4))
        return run.id, Path(cohort.files.where(f"segments/{KEY}/{run.id}-0.zarr"))

    one, folder = leave("a")
    assert not gc(cohort, grace_hours=0).items
    finish_run(cohort.catalogue, one, 1, "interrupted")
    report = gc(cohort, grace_hours=0)
    assert not [item for item in report.items if item.kind == "orphan"] and folder.is_dir()
    assert any("(interrupted) is not done with it" in line for line in report.kept)
    cohort.sweep_dead()
    assert folder.is_dir()
    request_cancel(cohort.catalogue, one)
    assert not [item for item in gc(cohort, grace_hours=1).items if item.kind == "orphan"] and folder.is_dir()
    assert [item.kind for item in gc(cohort, grace_hours=0).items] == ["orphan"]
    assert not folder.exists() and not list(folder.parent.iterdir())
    two, folder = leave("b")
    cohort.publish_results([("qc", "x", {"table": pa.table({"a": [1]})}, {})], two, 1)
    assert [item.kind for item in gc(cohort).items] == ["orphan"] and not folder.exists()
    # A feature table that a living run made for its layer waits for it.
    three = claim_run(cohort.catalogue, "c", job="normalise", output="double", spec={}).run
    space = FeatureSpace.of(["only", "these"])
    space.store(cohort.files)
    gc(cohort, grace_hours=0)
    assert cohort.files.exists(f"features/{space.table_hash}.parquet")
    finish_run(cohort.catalogue, three.id, 1, "failed")
    assert [item.kind for item in gc(cohort, grace_hours=0).items] == ["features"]


def test_compaction_keeps_what_a_row_was_made_from(cohort: Cohort) -> None:
    for number in range(4):
        put_layer(cohort, ids(5 * number, 5 * number + 5), f"f{number}")
    layer = cohort.layer("double")
    values, sources, content = layer_values(cohort, "double"), layer.source_hashes(), layer.reader().content_hash()
    old = layer.reader()
    reports = {one.assay: one for one in compact(cohort)}
    assert set(reports) == {"meth", "layers/double@1"}
    assert (reports["layers/double@1"].n_before, reports["layers/double@1"].n_after) == (4, 1)
    assert "layers/double@1: 4 segments merged into 1" in cohort.log()[-1]["message"]
    again = cohort.layer("double")
    assert again.source_hashes() == sources and again.reader().content_hash() == content and len(again.segments) == 1
    np.testing.assert_array_equal(layer_values(cohort, "double"), values)
    np.testing.assert_array_equal(old.columns(0, 120)[0], values)
    np.testing.assert_array_equal(layer_values(cohort, "double", snapshot=3), values[:10])
    assert [item.kind for item in gc(cohort, grace_hours=0).items].count("segment") == 4
    assert cohort.layer("double", 3).sample_ids() == ids(0, 10)
    np.testing.assert_array_equal(layer_values(cohort, "double", snapshot=3), values[:10])
    assert compact(cohort, "layers/double@1")[0].snapshot is None
    assert put_layer(cohort, ["s1"], "next").n_same == 1
    verify(cohort)


def test_damage_is_found(cohort: Cohort) -> None:
    put_layer(cohort, ids(0, 20), "f1")
    layer = cohort.layer("double")
    parameters = layer.record.files["parameters"]
    path = Path(cohort.files.where(parameters.path))
    content = path.read_bytes()
    path.write_bytes(content[:-200] + b"x" + content[-199:])
    with pytest.raises(DataError, match=rf"{path} changed after it was published"):
        layer.parameters()
    with pytest.raises(DataError, match=rf"layers/double@1.*{path}.*changed"):
        verify(cohort)
    path.unlink()
    with pytest.raises(DataError, match=rf"{path} is lost"):
        layer.parameters()
    with pytest.raises(DataError, match="is lost"):
        verify(cohort)
    path.write_bytes(content)
    verify(cohort)
    segment = sorted(layer.segments)[0]
    chunk = Path(cohort.files.where(f"segments/{KEY}/{segment}.zarr/double/c/1/1"))
    kept = chunk.read_bytes()
    chunk.unlink()
    with pytest.raises(DataError, match=r"double/c/1/1 .* is lost .*restore it from a backup$"):
        layer.reader().columns(0, 120)
    with pytest.raises(DataError, match="double/c/1/1 is lost"):
        verify(cohort)
    with pytest.raises(DataError, match="double/c/1/1 is lost"):
        layer.check_chunks()
    chunk.write_bytes(bytes([kept[0], *kept[1:-1], kept[-1] ^ 1]))
    with pytest.raises(DataError, match="double/c/1/1 changed"):
        verify(cohort)


def test_arrays_files(tmp_path: Path) -> None:
    files = Files(tmp_path)
    rng = np.random.default_rng(0)
    arrays = {
        "mean": rng.random((3, 4)),
        "single": rng.random(5).astype("float32"),
        "n": np.arange(3),
        "keep": np.array([True, False]),
        "batch": np.array(["ä", "", "longer"], dtype=object),
        "scalar": np.float64(2.5),
        "none": np.empty((0, 3)),
        "Fortran.order": np.asfortranarray(rng.random((3, 2))),
    }
    attrs = {"b": [1, 2.5, None, "é"], "a": {"x": True}}
    record = write_arrays(files, arrays, attrs)
    assert record.path.startswith("tables/") and record.n_bytes == len(arrays_bytes(arrays, attrs))
    read = read_arrays(files, record)
    assert read.attrs == attrs and set(read.arrays) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read.arrays[name], array)
    assert read.arrays["batch"].dtype == np.dtype("<U6") and read.arrays["single"].dtype == np.float32
    with np.load(files.where(record.path), allow_pickle=False) as opened:
        np.testing.assert_array_equal(opened["mean"], arrays["mean"])
    turned = dict(reversed([(name, np.array(array, order="F")) for name, array in arrays.items()]))
    assert arrays_bytes(turned, dict(reversed(attrs.items()))) == arrays_bytes(arrays, attrs)
    assert write_arrays(files, turned, attrs).hash == record.hash
    for bad, given, match in (
        ({"a": np.array([1, None], dtype=object)}, {}, "holds int, not text"),
        ({"a": np.array(["x\0"], dtype=object)}, {}, "null character"),
        ({"a": np.array([1j])}, {}, "complex128"),
        ({"attrs": np.ones(1)}, {}, "cannot be the name"),
        ({"../a": np.ones(1)}, {}, "cannot be the name"),
        ({}, {"x": np.ones(1)}, "plain data"),
        ({}, {"x": float("nan")}, "plain data"),
    ):
        with pytest.raises(SpecError, match=match):
            write_arrays(files, bad, given)
    Path(files.where(record.path)).write_bytes(b"x" * record.n_bytes)
    with pytest.raises(DataError, match="changed after"):
        read_arrays(files, record)


def test_a_catalogue_of_the_first_revision(tmp_path: Path) -> None:
    """Made by the first migration alone, as the first version of the package left it."""
    cohort = create_cohort(tmp_path / "c", layout=Layout(8, 50))
    put(cohort, "meth", ids(0, 3), betas(3, 120, 0))
    expected = decoded(cohort, "meth")
    new = tmp_path / "c" / "catalogue.sqlite"
    kept = tmp_path / "new.sqlite"
    new.rename(kept)
    engine = sa.create_engine(f"sqlite:///{new}")
    with engine.begin() as connection:
        migrate.upgrade(connection, "0001")
    engine.dispose()
    old = sqlite3.connect(new)
    old.execute("ATTACH ? AS filled", (str(kept),))
    for (table,) in old.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall():
        if table != "alembic_version" and not table.startswith("sqlite_"):
            columns = ", ".join(row[1] for row in old.execute(f"PRAGMA main.table_info({table})"))
            old.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM filled.{table}")
    old.commit()
    old.close()
    opened = open_cohort(tmp_path / "c")
    with opened.catalogue.read() as connection:
        assert migrate.revision_of(connection) == t.REVISIONS[-1]
    np.testing.assert_array_equal(decoded(opened, "meth"), expected)
    assert set(opened.assay("meth").rows()["source_hash"]) == {None}
    assert put_layer(opened, ids(0, 3), "f1").refs == ["layers/double@1"]
    verify(open_cohort(tmp_path / "c"))


def test_a_layer_in_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = folder_as_bucket(monkeypatch, tmp_path / "objects")
    cohort = create_cohort(tmp_path / "home", data=url, layout=Layout(8, 50))
    put(cohort, "meth", ids(0, 20), betas(20, 120, 0))
    put_layer(cohort, ids(0, 20), "f1")
    np.testing.assert_array_equal(layer_values(cohort, "double"), doubled(source_values(cohort, ids(0, 20))))
    verify(cohort)
    assert sorted(one.name for one in (tmp_path / "home").iterdir()) == ["catalogue.sqlite", "cohort.toml"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_exported_layers(cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    """Features in rows for people, samples in rows for xarray; every bit is there, whatever the stripes."""
    put_layer(cohort, ids(0, 12), "f1", dtype=dtype)
    put_layer(cohort, ids(12, 20), "f2", dtype=dtype)
    compact(cohort, "layers/double")
    values = layer_values(cohort, "double").astype(dtype)
    assert np.isnan(values).any()
    features = list(cohort.assay("meth").feature_ids())
    for stripe in (1 << 27, 20 * 8 * 7):
        monkeypatch.setattr(export_matrix, "STRIPE_BYTES", stripe)
        for ending, separator in ((".tsv", "\t"), (".csv", ",")):
            file = export(cohort, "layers/double@1", tmp_path / f"out{ending}")
            text = file.read_text()
            assert "nan" not in text and text.splitlines()[0] == separator.join(["feature_id", *ids(0, 20)])
            frame = pd.read_csv(file, sep=separator, index_col="feature_id", dtype={"feature_id": str})
            assert list(frame.index) == features and list(frame.columns) == ids(0, 20)
            np.testing.assert_array_equal(frame.to_numpy().T.astype(dtype), values)
        wide = pd.read_parquet(export(cohort, "layers/double", tmp_path / "out.parquet")).set_index("feature_id")
        assert (
            list(wide.index) == features and list(wide.columns) == ids(0, 20) and set(wide.dtypes) == {np.dtype(dtype)}
        )
        np.testing.assert_array_equal(wide.to_numpy().T, values)
    monkeypatch.setattr(export_matrix, "MAX_COLUMNS", 19)
    long = pd.read_parquet(export(cohort, "layers/double", tmp_path / "out.parquet"))
    assert list(long.columns) == ["feature_id", "sample_id", "value"] and len(long) == 20 * 120
    np.testing.assert_array_equal(long["value"].to_numpy().reshape(120, 20).T, values)
    assert long["feature_id"].astype(str).tolist()[::20] == features and long["sample_id"].tolist()[:20] == ids(0, 20)
    folder = export(cohort, "layers/double", tmp_path / "out.zarr")
    with xr.open_zarr(folder, consolidated=False) as stored:
        assert stored["double"].dims == ("samples", "features") and stored["double"].dtype == dtype
        np.testing.assert_array_equal(stored["double"].to_numpy(), values)
        assert stored["sample_id"].to_numpy().tolist() == ids(0, 20) and stored.attrs["result"] == "layers/double@1"
        assert stored["feature_id"].to_numpy().tolist() == features
    with pytest.raises(SpecError, match=r"out\.zarr exists"):
        export(cohort, "layers/double", folder)
    with pytest.raises(SpecError, match="has no table 'parameters'"):
        export(cohort, "layers/double", tmp_path / "p.tsv", "parameters")
    with pytest.raises(SpecError, match="no layer 'layers/none'"):
        export(cohort, "layers/none", tmp_path / "p.tsv")
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".")]


def test_exported_assays(cohort: Cohort, tmp_path: Path) -> None:
    frame = pd.read_csv(export(cohort, "assays/meth", tmp_path / "a.tsv"), sep="\t", index_col=0)
    np.testing.assert_array_equal(frame.to_numpy().T, decoded(cohort, "meth"))
    put(cohort, "rna", ["a", "b"], np.array([[1.0, 300.0], [2.0, np.nan]]), "counts")
    assert export(cohort, "assays/rna", tmp_path / "a.csv").read_text() == "feature_id,a,b\nf0,1,2\nf1,300,\n"
    with xr.open_zarr(export(cohort, "assays/meth", tmp_path / "a.zarr"), consolidated=False) as stored:
        np.testing.assert_allclose(stored["beta"].to_numpy(), decoded(cohort, "meth"), rtol=0, atol=1e-9)


def test_floats_of_either_compressor(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of before are zstd; they are read, and merged, with those of now."""
    values = np.random.default_rng(0).normal(size=(6, 120))
    with monkeypatch.context() as before:
        before.setattr(segment_module, "_compressor", lambda _: ZstdCodec(level=3))
        put(cohort, "rna", ids(0, 3), values[:3], "expression")
    put(cohort, "rna", ids(3, 6), values[3:], "expression")
    texts = [path.read_text() for path in Path(cohort.files.where("segments/rna")).glob("*/expression/zarr.json")]
    assert sorted("zstd" in text for text in texts) == [False, True] and any("lz4" in text for text in texts)
    np.testing.assert_array_equal(decoded(cohort, "rna"), values)
    assert compact(cohort, "rna")[0].n_after == 1
    np.testing.assert_array_equal(decoded(cohort, "rna"), values)
    verify(cohort)
