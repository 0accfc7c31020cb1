"""Multiple correspondence analysis against FactoMineR (and MASS), with and without missing values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from sjd_dask.clinical.group_fit import ward_groups
from sjd_dask.clinical.mca import fit_mca, place

HERE = Path(__file__).parent / "reference" / "mca"


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(HERE / f"{name}.tsv.gz", sep="\t")


def coded(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    codes = [pd.Categorical(frame[name]).codes.astype(np.int8) for name in frame]
    return np.column_stack(codes), np.array([frame[name].nunique() for name in frame])


def aligned(own: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """R's columns with the sign of ours: an axis has none."""
    return theirs * np.sign((own * theirs).sum(axis=0))


def test_inertias_persons_and_categories_are_those_of_factominer() -> None:
    codes, sizes = coded(table("data"))
    found = fit_mca(codes, sizes, 4)
    eigenvalues = table("eigenvalues")["eigenvalue"].to_numpy()
    np.testing.assert_allclose(found.eigenvalues, eigenvalues[:4], rtol=1e-12)
    assert abs(found.total - eigenvalues.sum()) < 1e-12
    persons = place(codes, sizes, found.coordinates)
    np.testing.assert_allclose(persons, aligned(persons, table("persons").to_numpy()), atol=1e-12)
    categories = found.coordinates * np.sqrt(found.eigenvalues)
    theirs = table("categories").drop(columns="category").to_numpy()
    np.testing.assert_allclose(categories, aligned(categories, theirs), atol=1e-12)


def test_wards_groups_are_those_of_hclust() -> None:
    codes, sizes = coded(table("data"))
    persons = place(codes, sizes, fit_mca(codes, sizes, 4).coordinates)
    theirs = table("ward")["group"].to_numpy() - 1
    # Both number groups by their first member.
    np.testing.assert_array_equal(ward_groups(persons, 3), theirs)


def test_missing_values_are_fuzzy_categories() -> None:
    codes, sizes = coded(table("holes"))
    assert (codes < 0).sum() == 84
    found = fit_mca(codes, sizes, 4)
    np.testing.assert_allclose(found.eigenvalues, table("holes_eigenvalues")["eigenvalue"], rtol=1e-12)
    persons = place(codes, sizes, found.coordinates)
    np.testing.assert_allclose(persons, aligned(persons, table("holes_persons").to_numpy()), atol=1e-12)


def test_a_missing_value_pulls_nobody() -> None:
    codes, sizes = coded(table("holes"))
    found = fit_mca(codes, sizes, 4)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    for j in range(len(sizes)):
        own = slice(offsets[j], offsets[j + 1])
        np.testing.assert_allclose(found.shares[own] @ found.coordinates[own], 0.0, atol=1e-12)
