"""Real public data come in as they are published."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sjd_dask.errors import DataError
from sjd_dask.store.cohort import Cohort, create_cohort
from sjd_dask.store.ingest import ingest


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return create_cohort(tmp_path / "cohort")


def values(cohort: Cohort) -> pd.DataFrame:
    assay = cohort.assay("m")
    raw, encoding = assay.reader().columns(0, assay.n_features)
    return pd.DataFrame(encoding.decode(raw).T, index=assay.feature_ids(), columns=assay.sample_ids())


def plain(path: Path, delimiter: str) -> np.ndarray:
    """Values of a table by Python's own `float`."""
    with gzip.open(path, "rt") as stream:
        return np.array([[float(v) for v in row[1:]] for row in list(csv.reader(stream, delimiter=delimiter))[1:]])


def test_betas_of_rheumatoid_arthritis(reference_data: Path, cohort: Cohort) -> None:
    folder = reference_data / "data" / "ra_meth_GSE42861_500cpg"
    report = ingest(cohort, "m", folder / "beta.csv.gz", quantity="beta", samples=folder / "phenotype.csv")
    assert (report.n_samples, report.n_features, report.not_in_sheet) == (329, 500, [])
    expected = pd.read_csv(folder / "beta.csv.gz", index_col=0)
    found = values(cohort)
    assert list(found.index) == list(expected.index) and list(found.columns) == list(expected.columns)
    assert np.abs(found.to_numpy() - expected.to_numpy()).max() <= 8e-6
    assert cohort.samples()["cell_NK"].dtype == np.float64


def test_expression_of_lupus_from_npz(reference_data: Path, cohort: Cohort) -> None:
    folder = reference_data / "data" / "sle_wb_GSE65391_training"
    file = folder / "expression_log2x1000_int16.npz"
    report = ingest(
        cohort,
        "m",
        file,
        quantity="expression",
        scale=1000,
        missing=-32768,
        samples=folder / "phenotype.csv",
        features=folder / "features.csv.gz",
    )
    assert (report.n_samples, report.n_features, report.features_dropped, report.features_absent) == (673, 24090, 0, 0)
    with np.load(file) as archive:
        expected = archive["values"] / 1000
    np.testing.assert_array_equal(values(cohort).to_numpy(), expected)
    samples = cohort.samples()
    assert (samples["alb"] == "Not Applicable").any()
    assert cohort.assay("m").features().loc["ILMN_1343295", "gene_symbol"] == "GAPDH"


def test_betas_of_brain_from_npz(reference_data: Path, cohort: Cohort) -> None:
    file = reference_data / "data" / "brain_meth_GSE74193_7503cpg" / "train_beta_x30000_int16.npz"
    ingest(cohort, "m", file, quantity="beta", scale=30000)
    with np.load(file) as archive:
        assert np.abs(values(cohort).to_numpy() - archive["values"] / 30000).max() <= 8e-6


def test_m_values_with_quoted_headers(reference_data: Path, cohort: Cohort) -> None:
    folder = reference_data / "data" / "blood_meth_carpentries_5000x37"
    file = folder / "methylation_M.csv.gz"
    ingest(cohort, "m", file, quantity="m_value", samples=folder / "phenotype.csv")
    np.testing.assert_array_equal(values(cohort).to_numpy(), plain(file, ","))
    assert cohort.samples().loc["201868500150_R01C01", "Sex"] == "M"


def test_counts_take_little_room(reference_data: Path, cohort: Cohort) -> None:
    folder = reference_data / "data" / "counts_humanGender"
    report = ingest(cohort, "m", folder / "counts.csv.gz", quantity="counts", samples=folder / "phenotype.csv")
    expected = pd.read_csv(folder / "counts.csv.gz", index_col=0)
    np.testing.assert_array_equal(values(cohort).to_numpy(), expected.to_numpy())
    assert report.encoding["dtype"] == "uint32" and bool(cohort.samples()["replaceable"].dropna().astype(bool).all())


def test_sample_ids_with_leading_zeros_and_all_digits(reference_data: Path, cohort: Cohort) -> None:
    folder = reference_data / "oracles" / "data"
    file = folder / "ALL_expr.tsv.gz"
    ingest(cohort, "m", file, quantity="expression", samples=folder / "ALL_samples.tsv.gz")
    found = values(cohort)
    assert list(found.columns[:2]) == ["01005", "01010"]
    np.testing.assert_array_equal(found.to_numpy(), plain(file, "\t"))
    assert cohort.samples().loc["01005", "sex"] == "M"


def test_betas_below_zero_are_named(reference_data: Path, cohort: Cohort) -> None:
    file = reference_data / "data" / "horvath_example55_27k" / "MethylationDataExample55.csv.gz"
    with pytest.raises(DataError, match=r"line 202: feature 'cg00184884', sample 'GSM946065': -2.71e-05 is below 0"):
        ingest(cohort, "m", file, quantity="beta")
    assert ingest(cohort, "m", file, quantity="expression").n_samples == 16


def test_samples_in_rows(reference_data: Path, cohort: Cohort) -> None:
    file = reference_data / "data" / "tcga_brca_multiomics_mixOmics" / "data.train_mrna.csv.gz"
    report = ingest(cohort, "m", file, quantity="expression", rows="samples")
    assert (report.n_samples, report.n_features) == (150, 200)
