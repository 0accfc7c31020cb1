"""Files in folders and object stores, encodings, owners."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from store_helpers import betas, decoded, folder_as_bucket, put

from sjd_dask.errors import DataError, SpecError
from sjd_dask.store.codec import assert_fast, use_fast_pipeline
from sjd_dask.store.cohort import create_cohort
from sjd_dask.store.compact import compact
from sjd_dask.store.features import FeatureSpace, load_features
from sjd_dask.store.files import Files
from sjd_dask.store.gc import gc
from sjd_dask.store.layout import Encoding, Layout, common_encoding, convert, encoding_for
from sjd_dask.store.owners import Owner, is_alive, process_start
from sjd_dask.store.region import RegionReader
from sjd_dask.store.segment import open_array, segment_path
from sjd_dask.store.verify import verify


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return folder_as_bucket(monkeypatch, tmp_path / "objects")


@pytest.fixture(params=["folder", "objects"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return Files(request.getfixturevalue("bucket") if request.param == "objects" else tmp_path / "here")


def test_a_file_is_whole_or_absent(files: Files) -> None:
    assert not files.exists("a/b.bin") and list(files.walk("a")) == [] and files.folders("a") == []
    files.write_bytes("a/b.bin", b"123")
    files.write_bytes("a/b.bin", b"4567")
    files.write_bytes("a/d/e.bin", b"8")
    assert files.read_bytes("a/b.bin") == b"4567" and files.size("a/b.bin") == 4 and files.exists("a/b.bin")
    assert sorted((entry.name, entry.size) for entry in files.walk("a")) == [("b.bin", 4), ("d/e.bin", 1)]
    assert files.folders("a") == ["d"] and files.sub("a").read_bytes("d/e.bin") == b"8"
    again = pickle.loads(pickle.dumps(files))  # noqa: S301 - our own object
    assert again == files and again.read_bytes("a/b.bin") == b"4567" and hash(again) == hash(files)
    files.delete("a/b.bin")
    files.delete("a/b.bin")
    files.delete_tree("a")
    files.delete_tree("a")
    assert list(files.walk()) == []
    with pytest.raises(FileNotFoundError):
        files.read_bytes("a/b.bin")
    with pytest.raises(FileNotFoundError):
        files.size("a/b.bin")


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", ""])
def test_paths_stay_below(tmp_path: Path, path: str) -> None:
    with pytest.raises(DataError, match="not a path below"):
        Files(tmp_path).write_bytes(path, b"")


def test_unknown_scheme() -> None:
    with pytest.raises(SpecError, match="no storage of kind 'ftp'"):
        Files("ftp://x/y").exists("z")


def test_a_cohort_whose_data_is_in_an_object_store(bucket: str, tmp_path: Path) -> None:
    cohort = create_cohort(tmp_path / "home", data=bucket, layout=Layout(4, 10))
    values = betas(10, 25, 0)
    for start in (0, 5):
        put(cohort, "meth", [f"s{one}" for one in range(start, start + 5)], values[start : start + 5])
    np.testing.assert_allclose(decoded(cohort, "meth"), values, atol=8e-6)
    compact(cohort)
    assert len([one for one in gc(cohort, grace_hours=0).items if one.kind == "segment"]) == 2
    np.testing.assert_allclose(decoded(cohort, "meth"), values, atol=8e-6)
    verify(cohort)
    assert sorted(one.name for one in (tmp_path / "home").iterdir()) == ["catalogue.sqlite", "cohort.toml"]
    segment = next(iter(cohort.assay("meth").segments))
    cohort.files.delete(f"{segment_path('meth', segment)}/beta/c/1/1")
    with pytest.raises(DataError, match=f"beta/c/1/1 of segment {segment}"):
        cohort.assay("meth").reader().columns(0, 25)
    with pytest.raises(DataError, match="beta/c/1/1 is lost"):
        cohort.assay("meth").check_chunks()


def test_the_fast_pipeline_serves_segments(tmp_path: Path) -> None:
    pytest.importorskip("zarrs")
    assert use_fast_pipeline()
    cohort = create_cohort(tmp_path / "c")
    done = put(cohort, "meth", ["a", "b"], betas(2, 5, 0))
    array = open_array(cohort.files, f"{segment_path('meth', done.segment_id)}/beta")
    assert_fast(array)
    assert type(array.async_array.codec_pipeline).__name__ == "ZarrsCodecPipeline"
    assert open_array(cohort.files, f"{segment_path('meth', done.segment_id)}/beta") is array


def test_readers_are_small(tmp_path: Path) -> None:
    cohort = create_cohort(tmp_path / "c", layout=Layout(64, 100))
    put(cohort, "meth", [f"s{one}" for one in range(500)], betas(500, 200, 0))
    reader = cohort.assay("meth").reader()
    assert isinstance(reader, RegionReader) and len(pickle.dumps(reader)) < 20_000
    assert reader.n_bytes == 500 * 200 * 2 and reader.chunk_features == 100 and reader.chunk_samples == 64


@pytest.mark.parametrize(
    ("quantity", "source", "low", "high", "option", "expected"),
    [
        ("beta", "float64", 0, 1, None, Encoding("uint16", 1 / 65534, 65535)),
        ("beta", "float32", 0, 1, "keep", Encoding("float32")),
        ("beta", "float64", 0, 1, "float32", Encoding("float32")),
        ("counts", "float64", 0, 254, None, Encoding("uint8", None, 255)),
        ("counts", "int64", 0, 255, None, Encoding("uint16", None, 65535)),
        ("counts", "int64", 0, 65535, None, Encoding("uint32", None, 2**32 - 1)),
        ("counts", "int64", 0, 2**33, None, Encoding("uint64", None, 2**64 - 1)),
        ("counts", "int64", 0, 3, "uint32", Encoding("uint32", None, 2**32 - 1)),
        ("counts", "float64", np.nan, np.nan, None, Encoding("uint8", None, 255)),
        ("expression", "float32", -3, 9, None, Encoding("float32")),
        ("expression", "float16", -3, 9, None, Encoding("float32")),
        ("m_value", "float64", -9, 9, "float32", Encoding("float32")),
        ("dosage", "int8", 0, 2, None, Encoding("float64")),
    ],
)
def test_encodings(quantity: str, source: str, low: float, high: float, option: str | None, expected: Encoding) -> None:
    assert encoding_for(quantity, source, low, high, option) == expected
    assert Encoding.from_json(expected.to_json()) == expected


@pytest.mark.parametrize(
    ("quantity", "low", "high", "option", "error", "match"),
    [
        ("beta", -0.01, 1, None, DataError, "beta must lie within 0 to 1; these values go from -0.01 to 1"),
        ("beta", 0, 1.01, None, DataError, "within 0 to 1"),
        ("counts", -1, 5, None, DataError, "within 0 to inf"),
        ("counts", 0, 300, "uint8", DataError, "counts up to 300 do not fit uint8"),
        ("dosage", 0, 2.5, None, DataError, "0 to 2"),
        ("beta", 0, 1, "uint8", SpecError, "cannot be stored as 'uint8'"),
        ("height", 0, 1, None, SpecError, "unknown quantity 'height'"),
    ],
)
def test_refused_encodings(
    quantity: str, low: float, high: float, option: str | None, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        encoding_for(quantity, "float64", low, high, option)


def test_encode_refuses_what_does_not_fit() -> None:
    counts = Encoding("uint8", None, 255)
    with pytest.raises(DataError, match=r"1\.5 is not a whole number"):
        counts.encode(np.array([1.5, np.nan]))
    with pytest.raises(DataError, match="do not fit uint8"):
        counts.encode(np.array([255.0]))
    with pytest.raises(DataError, match="do not fit uint8"):
        counts.encode(np.array([-1]))
    assert counts.encode(np.array([])).dtype == np.uint8
    assert Encoding("uint16", 1 / 65534, 65535).decode(np.array([65534, 0], np.uint16)).tolist() == [1.0, 0.0]


def test_common_encoding_keeps_missing() -> None:
    small, large = Encoding("uint8", None, 255), Encoding("uint32", None, 2**32 - 1)
    target = common_encoding([small, large])
    assert target == large
    raw = np.array([[0, 254, 255]], dtype=np.uint8)
    np.testing.assert_array_equal(target.decode(convert(raw, small, target)), small.decode(raw))
    assert common_encoding([Encoding("float32"), Encoding("float64")]) == Encoding("float64")
    assert common_encoding([small, Encoding("float32")]) == Encoding("float64")


def test_feature_spaces(tmp_path: Path) -> None:
    import pandas as pd

    columns = pd.DataFrame({"chromosome": ["1", "X"], "position": [5, 6]}, index=["b", "zzz"])
    plain, rich = FeatureSpace.of(["a", "b"]), FeatureSpace.of(["a", "b"], columns)
    assert plain.hash == rich.hash == plain.table_hash != rich.table_hash
    assert FeatureSpace.of(["b", "a"]).hash != plain.hash != FeatureSpace.of(["ab"]).hash
    files = Files(tmp_path)
    for space in (plain, rich):
        space.store(files)
        space.store(files)
        read = load_features(files, space.table_hash)
        assert read.hash == space.hash and list(read.feature_ids) == ["a", "b"]
    assert load_features(files, rich.table_hash).columns.loc["b", "chromosome"] == "1"
    for bad, match in (
        ([], "no features"),
        (["a", "a"], "more than once: 'a'"),
        (["a", ""], "feature 2 has an empty id"),
    ):
        with pytest.raises(DataError, match=match):
            FeatureSpace.of(bad)
    with pytest.raises(DataError, match="is lost"):
        load_features(files, "nope")


def test_owners() -> None:
    me = Owner.current()
    assert is_alive(me, 0.0) and me.pid == os.getpid() and str(me.pid) in str(me)
    assert not is_alive(Owner(me.host, me.pid, "another life"), 1e12)
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join()
    assert process.pid is not None and process_start(process.pid) is None
    elsewhere = Owner("elsewhere", 1, "x")
    assert is_alive(elsewhere, 1000.0, now=1100.0) and not is_alive(elsewhere, 1000.0, now=1200.0)
