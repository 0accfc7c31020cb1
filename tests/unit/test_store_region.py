"""Reading rows by id across segments."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from store_helpers import betas, decoded, put

from sjd_dask.errors import DataError
from sjd_dask.store.cohort import Cohort, create_cohort, open_cohort
from sjd_dask.store.compact import compact
from sjd_dask.store.layout import Layout
from sjd_dask.store.segment import segment_path


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return create_cohort(tmp_path / "c", layout=Layout(4, 7))


def ids(start: int, stop: int) -> list[str]:
    return [f"s{number}" for number in range(start, stop)]


def test_blocks_have_exactly_the_asked_rows(cohort: Cohort) -> None:
    values = betas(23, 15, 0)
    for start, stop in ((0, 3), (3, 13), (13, 23)):
        put(cohort, "meth", ids(start, stop), values[start:stop])
    reader = pickle.loads(pickle.dumps(cohort.assay("meth").reader()))  # noqa: S301 - our own object
    assert (reader.n_samples, reader.n_features, reader.n_segments) == (23, 15, 3)
    for rows in (1, 4, 5, 8, 100):
        for reuse in (False, True):
            got = np.full((23, 9), np.nan)
            sizes = []
            for positions, raw, encoding in reader.row_blocks(5, 14, rows, reuse=reuse):
                assert raw.flags.c_contiguous and len(positions) == len(raw)
                got[positions] = encoding.decode(raw)
                sizes.append(len(raw))
            assert sizes[:-1] == [rows] * (len(sizes) - 1) and sum(sizes) == 23
            np.testing.assert_allclose(got, values[:, 5:14], atol=8e-6)
    # Without reuse, blocks are the caller's to keep.
    kept = list(reader.row_blocks(0, 15, 4))
    np.testing.assert_allclose(np.vstack([e.decode(raw) for _, raw, e in kept]), values, atol=8e-6)


def test_order_of_samples_is_the_callers(cohort: Cohort) -> None:
    values = betas(12, 15, 1)
    put(cohort, "meth", ids(0, 5), values[:5])
    put(cohort, "meth", ids(5, 12), values[5:])
    wanted = np.array([11, 0, 7, 3, 8])
    np.testing.assert_allclose(decoded(cohort, "meth", [f"s{one}" for one in wanted]), values[wanted], atol=8e-6)
    reader = cohort.assay("meth").reader()
    part = reader.subset(wanted)
    raw, encoding = part.columns(2, 9)
    np.testing.assert_allclose(encoding.decode(raw), values[wanted, 2:9], atol=8e-6)


def test_counts_of_different_width_are_widened(cohort: Cohort) -> None:
    small = np.array([[0.0, 254.0, np.nan], [1.0, 2.0, 3.0]])
    large = np.array([[70000.0, 255.0, np.nan]])
    put(cohort, "rna", ["a", "b"], small, "counts")
    put(cohort, "rna", ["c"], large, "counts")
    assay = cohort.assay("rna")
    assert [one.encoding.dtype for one in assay.segments.values()] == ["uint8", "uint32"]
    assert assay.encoding.dtype == "uint32"
    np.testing.assert_array_equal(decoded(cohort, "rna"), np.vstack([small, large]))


def test_mixed_float_and_scaled_become_float(cohort: Cohort) -> None:
    values = betas(4, 9, 2)
    put(cohort, "meth", ids(0, 2), values[:2])
    put(cohort, "meth", ids(2, 4), values[2:], dtype="float64")
    assert cohort.assay("meth").encoding.dtype == "float64"
    got = decoded(cohort, "meth")
    np.testing.assert_allclose(got, values, atol=8e-6)
    np.testing.assert_array_equal(got[2:], values[2:])


def test_a_segment_is_an_xarray_dataset_by_itself(cohort: Cohort) -> None:
    values = betas(6, 20, 3)
    done = put(cohort, "meth", ids(0, 6), values)
    with xr.open_zarr(cohort.files.where(segment_path("meth", done.segment_id)), consolidated=False) as ds:
        assert ds["beta"].dims == ("samples", "features") and set(ds.coords) == {"sample_id", "feature_id"}
        np.testing.assert_allclose(ds["beta"].values, values, atol=8e-6)
        assert list(ds["sample_id"].values) == ids(0, 6) and ds["feature_id"].values[-1] == "f19"


@pytest.mark.parametrize("quantity", ["counts", "expression"])
def test_other_quantities_open_in_xarray(cohort: Cohort, quantity: str) -> None:
    values = np.array([[1.0, np.nan, 3.0], [4.0, 5.0, 600.0]], dtype="float32")
    done = put(cohort, "x", ["a", "b"], values, quantity)
    with xr.open_zarr(cohort.files.where(segment_path("x", done.segment_id)), consolidated=False) as ds:
        np.testing.assert_array_equal(ds[quantity].values, values)


def test_to_xarray_is_lazy_and_equal(cohort: Cohort) -> None:
    values = betas(30, 20, 4)
    for start in range(0, 30, 6):
        put(cohort, "meth", ids(start, start + 6), values[start : start + 6])
    dataset = cohort.assay("meth").to_xarray()
    assert dataset["beta"].dims == ("samples", "features") and dataset["beta"].dtype == np.float64
    computed = dataset["beta"].compute(scheduler="synchronous")
    np.testing.assert_allclose(computed.values, values, atol=8e-6)
    part = dataset["beta"][3:17:2, 5:18].compute(scheduler="synchronous")
    np.testing.assert_allclose(part.values, values[3:17:2, 5:18], atol=8e-6)
    assert list(dataset["sample_id"].values) == ids(0, 30)


def test_building_a_dataset_reads_no_chunk(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    from sjd_dask.store import region

    put(cohort, "meth", ids(0, 6), betas(6, 20, 3))

    def refuse(*_: object) -> None:
        raise AssertionError("a chunk was read")

    monkeypatch.setattr(region._Source, "_read", refuse)
    dataset = cohort.assay("meth").to_xarray()
    (dataset["beta"] * 2).mean("samples")


@pytest.mark.parametrize("damage", ["lost", "short", "array", "manifest"])
def test_a_lost_chunk_is_an_error_and_never_missing_values(cohort: Cohort, damage: str) -> None:
    done = put(cohort, "meth", ids(0, 6), betas(6, 20, 3))
    folder = Path(cohort.files.where(segment_path("meth", done.segment_id)))
    chunk = folder / "beta" / "c" / "1" / "2"
    if damage == "lost":
        chunk.unlink()
    elif damage == "short":
        chunk.write_bytes(chunk.read_bytes()[:-1])
    elif damage == "array":
        (folder / "beta" / "zarr.json").unlink()
    else:
        folder.with_suffix("").with_suffix(".manifest.json").write_text("{}")
    cohort = open_cohort(cohort.path)
    with pytest.raises(DataError, match=r"1/2|zarr.json|manifest") as caught:
        cohort.assay("meth").reader().columns(0, 20)
    assert done.segment_id in str(caught.value)
    with pytest.raises(DataError, match=done.segment_id):
        cohort.assay("meth").check_chunks()
    if damage == "lost":
        # Stripes that don't touch it are still read.
        cohort.assay("meth").reader().columns(0, 14)


def test_a_changed_chunk_is_found_by_its_hash(cohort: Cohort) -> None:
    done = put(cohort, "meth", ids(0, 6), betas(6, 20, 3))
    chunk = Path(cohort.files.where(segment_path("meth", done.segment_id))) / "beta/c/0/1"
    content = bytearray(chunk.read_bytes())
    content[-1] ^= 1
    chunk.write_bytes(content)
    cohort.assay("meth").check_chunks()
    with pytest.raises(DataError, match="chunk beta/c/0/1 changed"):
        cohort.assay("meth").check_chunks(deep=True)


def test_a_chunk_of_missing_values_only_is_no_error(cohort: Cohort) -> None:
    values = betas(6, 20, 3)
    values[:, 7:14] = np.nan
    put(cohort, "meth", ids(0, 6), values)
    assay = cohort.assay("meth")
    assay.check_chunks(deep=True)
    np.testing.assert_allclose(decoded(cohort, "meth"), values, atol=8e-6)


def test_content_hash_ignores_segments_and_notices_values(cohort: Cohort, tmp_path: Path) -> None:
    values = betas(8, 10, 5)
    for start in range(0, 8, 2):
        put(cohort, "meth", ids(start, start + 2), values[start : start + 2])
    before = cohort.assay("meth").reader().content_hash()
    assert cohort.assay("meth").reader(ids(0, 7)).content_hash() != before
    compact(cohort, "meth")
    assert cohort.assay("meth").reader().content_hash() == before
    other = create_cohort(tmp_path / "other")
    put(other, "meth", ids(0, 8), values)
    assert other.assay("meth").reader().content_hash() == before
    values[3, 3] = 0.5
    put(cohort, "meth", ids(3, 4), values[3:4], replace=True)
    assert cohort.assay("meth").reader(ids(0, 8)).content_hash() != before
