"""Parquet, h5ad, NPZ, Zarr and GEO series matrices give the same matrix as text does."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

from sjd_dask.errors import DataError, SpecError
from sjd_dask.store.ingest.sources import SourceOptions, open_source

SAMPLES = ["S1", "S2", "S3"]
FEATURES = ["cg1", "cg2", "cg3", "cg4"]
VALUES = np.array([[0.1, 0.2, np.nan, 0.4], [0.5, 0.6, 0.7, 0.8], [0.0, 1.0, 0.25, 0.75]])  # samples x features


def read(path: Path, **options: Any) -> tuple[list[str], list[str], np.ndarray]:
    """Sample ids, feature ids, values as samples x features."""
    with open_source(path, SourceOptions(**options)) as source:
        blocks = list(source.blocks())
        major = [i for b in blocks for i in b.ids]
        values = np.concatenate([b.values for b in blocks])
        if source.major_ids is not None:
            assert major == source.major_ids
        assert values.dtype == source.dtype
        if source.orientation == "features":
            return source.minor_ids, major, values.T
        return major, source.minor_ids, values


def same(found: tuple[list[str], list[str], np.ndarray], values: np.ndarray = VALUES) -> None:
    assert (found[0], found[1]) == (SAMPLES, FEATURES)
    np.testing.assert_array_equal(found[2], values)


def test_parquet_both_ways_round(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    by_feature = pd.DataFrame(VALUES.T, columns=SAMPLES)
    by_feature.assign(feature_id=FEATURES).to_parquet(path)
    same(read(path))
    pd.DataFrame(VALUES, columns=FEATURES).assign(sample_id=SAMPLES).to_parquet(path)
    same(read(path))
    with pytest.raises(DataError, match="rows are samples"):
        read(path, rows="features")
    by_feature.set_axis(pd.Index(FEATURES, name="probe")).to_parquet(path)
    same(read(path))
    pd.DataFrame(VALUES, columns=FEATURES, index=SAMPLES).to_parquet(path)
    same(read(path, rows="samples"))


def test_parquet_refusals(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pd.DataFrame({"feature_id": ["a"], "S1": ["x"]}).to_parquet(path)
    with pytest.raises(DataError, match=r"'S1' is .*string"):
        read(path)
    pd.DataFrame({"feature_id": ["a"], "S1": [True]}).to_parquet(path)
    with pytest.raises(DataError, match="'S1' is bool"):
        read(path)
    pd.DataFrame({"S1": [1.0]}).to_parquet(path)
    with pytest.raises(DataError, match="no column of ids"):
        read(path)
    path.write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="not a Parquet"):
        read(path)


def write_frame(group: Any, ids: list[str], columns: dict[str, Any]) -> None:
    group.attrs["_index"] = "_index"
    group.attrs["encoding-type"] = "dataframe"
    group.attrs["column-order"] = np.array(list(columns), dtype=object)
    group.create_dataset("_index", data=np.array(ids, dtype=object), dtype=h5py.string_dtype())
    for name, values in columns.items():
        if isinstance(values, pd.Categorical):
            sub = group.create_group(name)
            sub.attrs["encoding-type"] = "categorical"
            sub.create_dataset("codes", data=values.codes)
            sub.create_dataset(
                "categories", data=np.array(list(values.categories), dtype=object), dtype=h5py.string_dtype()
            )
        elif np.asarray(values).dtype.kind in "OU":
            group.create_dataset(name, data=np.array(values, dtype=object), dtype=h5py.string_dtype())
        else:
            group.create_dataset(name, data=values)


def write_sparse(file: Any, key: str, matrix: Any, kind: str) -> None:
    group = file.create_group(key)
    group.attrs["encoding-type"] = f"{kind}_matrix"
    group.attrs["shape"] = matrix.shape
    for part in ("data", "indices", "indptr"):
        group.create_dataset(part, data=getattr(matrix, part))


def test_h5ad_dense_sparse_layers_and_columns(tmp_path: Path) -> None:
    from scipy import sparse

    counts = np.array([[0, 3, 0, 1], [7, 0, 0, 0], [0, 0, 2, 9]])
    path = tmp_path / "m.h5ad"
    with h5py.File(path, "w") as file:
        obs = {
            "sex": pd.Categorical(["F", None, "M"]),
            "age": [50.0, np.nan, 61.0],
            "person_id": [1, 2, 3],
            "site": ["a", "", "c"],
        }
        write_frame(file.create_group("obs"), SAMPLES, obs)
        write_frame(file.create_group("var"), FEATURES, {"gene_symbol": ["A", "B", "C", "D"], "position": [1, 2, 3, 4]})
        file.create_dataset("X", data=VALUES.astype(np.float32))
        layers = file.create_group("layers")
        write_sparse(layers, "counts", sparse.csr_matrix(counts), "csr")
        write_sparse(layers, "by_gene", sparse.csc_matrix(counts.astype(np.float32)), "csc")
    same(read(path), VALUES.astype(np.float32))
    same(read(path, layer="counts"), counts)
    same(read(path, layer="by_gene"), counts)
    with open_source(path) as source:
        assert source.dtype == np.float32
        assert source.sample_columns is not None and source.feature_columns is not None
        assert source.sample_columns["sex"].tolist() == ["F", None, "M"]
        assert source.sample_columns["person_id"].tolist() == ["1", "2", "3"]
        assert source.sample_columns["site"].tolist() == ["a", None, "c"]
        assert source.feature_columns["position"].tolist() == [1, 2, 3, 4]
    with open_source(path, SourceOptions(layer="by_gene")) as source:
        assert source.orientation == "features"
    with pytest.raises(DataError, match="no layers/none"):
        read(path, layer="none")
    (tmp_path / "bad.h5ad").write_bytes(b"\x89HDF nothing")
    with pytest.raises(DataError, match="not an HDF5 file"):
        read(tmp_path / "bad.h5ad")


def test_npz_scale_missing_and_orientation(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    raw = np.where(np.isnan(VALUES), -32768, np.rint(VALUES * 1000)).astype(np.int16)
    expected = np.where(np.isnan(VALUES), np.nan, raw / 1000)
    np.savez_compressed(path, values=raw.T, features=FEATURES, samples=SAMPLES)
    same(read(path, scale=1000), expected)
    same(read(path, scale=1000, missing=-32768), expected)
    np.savez(path, values=raw, features=FEATURES, samples=SAMPLES, scale=1000)
    same(read(path), expected)
    np.savez(path, values=np.asfortranarray(raw), features=FEATURES, samples=SAMPLES, scale=1000.0)
    same(read(path), expected)
    codes = np.where(np.isnan(VALUES), 255, np.rint(VALUES * 100)).astype(np.uint8)
    np.savez(path, values=codes, features=FEATURES, samples=SAMPLES, scale_factor=0.01, missing_code=255)
    same(read(path), np.where(np.isnan(VALUES), np.nan, codes * 0.01))
    np.savez(path, values=VALUES.astype(np.float32), features=FEATURES, samples=SAMPLES)
    same(read(path), VALUES.astype(np.float32))
    # Without a scale the smallest integer is a number like any other.
    np.savez(path, values=raw, features=FEATURES, samples=SAMPLES)
    same(read(path), raw)


def test_npz_square_is_samples_by_features(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    square = np.arange(9.0).reshape(3, 3)
    np.savez(path, values=square, features=["a", "b", "c"], samples=SAMPLES)
    assert read(path)[2].tolist() == square.tolist()
    assert read(path, rows="features")[2].tolist() == square.T.tolist()


def test_npz_refusals(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    np.savez(path, values=VALUES, features=FEATURES)
    with pytest.raises(DataError, match="no 'samples'"):
        read(path)
    np.savez(path, values=VALUES, features=FEATURES[:2], samples=SAMPLES)
    with pytest.raises(DataError, match="3 x 4, but there are 2 features and 3 samples"):
        read(path)
    np.savez(path, values=VALUES, features=np.array(FEATURES, dtype=object), samples=SAMPLES)
    with pytest.raises(DataError, match="without pickle"):
        read(path)
    np.savez(path, values=np.array([["a"]]), features=["x"], samples=["y"])
    with pytest.raises(DataError, match="not numbers"):
        read(path)
    np.savez(path, values=np.ones(3), features=["x"], samples=["y"])
    with pytest.raises(DataError, match="shape"):
        read(path)
    np.savez(path, values=VALUES, features=FEATURES, samples=SAMPLES)
    with pytest.raises(DataError, match="not the features"):
        read(path, rows="features")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="NPZ"):
        read(path)
    with pytest.raises(SpecError, match="scale"):
        read(tmp_path / "m.npz", scale=-1)


def dataset(values: np.ndarray = VALUES) -> xr.Dataset:
    return xr.Dataset(
        {"beta": (("samples", "features"), values)},
        coords={
            "sample_id": ("samples", np.array(SAMPLES, dtype=object)),
            "feature_id": ("features", np.array(FEATURES, dtype=object)),
        },
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_as_xarray_writes_it(tmp_path: Path, zarr_format: int) -> None:
    path = tmp_path / "m.zarr"
    dataset().to_zarr(path, zarr_format=zarr_format, consolidated=False)
    same(read(path))
    coded = {"beta": {"dtype": "uint16", "scale_factor": 1 / 65534, "_FillValue": 65535}}
    dataset().to_zarr(path, zarr_format=zarr_format, consolidated=False, encoding=coded, mode="w")
    found = read(path)
    np.testing.assert_allclose(found[2], VALUES, atol=1e-5)
    assert np.isnan(found[2][0, 2])
    dataset().transpose("features", "samples").to_zarr(path, zarr_format=zarr_format, consolidated=False, mode="w")
    same(read(path))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_zarr_refusals(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    two = dataset().assign(other=(("samples", "features"), VALUES))
    two.to_zarr(path, consolidated=False)
    with pytest.raises(DataError, match="2 variables"):
        read(path)
    same(read(path, layer="other"))
    same(read(path, quantity="beta"))
    group = zarr.open_group(str(tmp_path / "bare.zarr"), mode="w")
    group.create_array("x", shape=(2, 2), dtype="f8", dimension_names=("samples", "features"))
    with pytest.raises(DataError, match="sample_id"):
        read(tmp_path / "bare.zarr")
    with pytest.raises(SpecError, match="scale is an option of NPZ"):
        read(path, scale=2.0)
    (tmp_path / "no.zarr").mkdir()
    with pytest.raises(DataError, match="Zarr group"):
        read(tmp_path / "no.zarr")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_without_names_of_dimensions(tmp_path: Path, zarr_format: int) -> None:
    path = tmp_path / "plain.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    group.create_array("features", data=np.array(FEATURES, dtype="U20"))
    group.create_array("values", data=VALUES.T, chunks=(1, 2))
    with pytest.raises(DataError, match="no names of dimensions"):
        read(path)
    group.create_array("samples", data=np.array(SAMPLES, dtype="U20"))
    same(read(path))
    with pytest.raises(DataError, match="--rows"):
        read(path, rows="samples")
    group.create_array("scale", data=np.array([2.0]))
    with pytest.raises(DataError, match="scale_factor"):
        read(path)


def test_square_values_say_what_they_are_taken_for(tmp_path: Path) -> None:
    path = tmp_path / "square.npz"
    np.savez(path, values=np.eye(3), samples=["a", "b", "c"], features=["f", "g", "h"])
    for rows, warned in ((None, True), ("features", False), ("samples", False)):
        with open_source(path, SourceOptions(rows=rows)) as source:
            assert source.orientation == (rows or "samples")
            assert ["--rows features" in text for text in source.warnings] == [True] * warned


SERIES = """!Series_title\t"A series"
!Series_geo_accession\t"GSE1"
!Sample_title\t"one"\t"two"\t"three"
!Sample_geo_accession\t"GSM1"\t"GSM2"\t"GSM3"
!Sample_source_name_ch1\t"blood"\t"blood"\t"saliva"
!Sample_characteristics_ch1\t"age: 50"\t"Sex: F"\t"age: 61"
!Sample_characteristics_ch1\t"Sex: M"\t"age: 47"\t""
!Sample_characteristics_ch1\t"patient id: 007"\t"patient id: 012"\t"free words"
!series_matrix_table_begin
"ID_REF"\t"GSM1"\t"GSM2"\t"GSM3"
"cg1"\t0.1\t0.2\t
"cg2"\t"0.4"\t0.5\tnull
!series_matrix_table_end
"""


def test_geo_series_matrix(tmp_path: Path) -> None:
    path = tmp_path / "GSE1_series_matrix.txt.gz"
    path.write_bytes(gzip.compress(SERIES.encode()))
    samples, features, values = read(path)
    assert samples == ["GSM1", "GSM2", "GSM3"] and features == ["cg1", "cg2"]
    np.testing.assert_array_equal(values, [[0.1, 0.4], [0.2, 0.5], [np.nan, np.nan]])
    with open_source(path) as source:
        columns = source.sample_columns
        assert source.where(1) == "line 12"
    assert columns is not None
    assert columns["age"].tolist() == [50, 47, 61]
    assert columns["Sex"].tolist() == ["M", "F", None]
    assert columns["patient id"].tolist() == ["007", "012", None]
    assert columns["title"].tolist() == ["one", "two", "three"]
    assert columns["source_name"].tolist() == ["blood", "blood", "saliva"]
    assert columns["characteristics_ch1"].tolist() == [None, None, "free words"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("!series_matrix_table_end\n", ""), "cut off after line 12"),
        (("!series_matrix_table_begin", "!other"), "no !series_matrix_table_begin"),
        (('"ID_REF"\t"GSM1"\t"GSM2"\t"GSM3"\n"cg1"\t0.1\t0.2\t\n"cg2"\t"0.4"\t0.5\tnull\n', ""), "supplementary"),
        (('"ID_REF"\t"GSM1"', '"ID_REF"\t"GSM9"'), "'GSM1'"),
        (("0.5", "oops"), "line 12, column 3: feature 'cg2', sample 'GSM2': 'oops'"),
        (('!Sample_title\t"one"', "!Sample_title"), "2 values for 3 samples"),
    ],
)
def test_geo_refusals(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = tmp_path / "g.txt"
    path.write_text(SERIES.replace(*change))
    with pytest.raises(DataError) as caught:
        read(path)
    assert message in str(caught.value)


def test_geo_dates_in_another_form_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "g.txt"
    path.write_text(SERIES.replace("age: ", "date: May "))
    with open_source(path) as source:
        assert source.sample_columns is not None
        assert source.sample_columns["date_as_given"].tolist() == ["May 50", "May 47", "May 61"]


def test_unknown_formats(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        open_source(tmp_path / "none.tsv")
    path = tmp_path / "m.xlsx"
    path.write_bytes(b"PK")
    with pytest.raises(DataError, match="not read"):
        open_source(path)
    path = tmp_path / "m.tsv"
    path.write_text("id\tA\nf\t1\n")
    with pytest.raises(SpecError, match="NPZ"):
        open_source(path, SourceOptions(scale=2))
