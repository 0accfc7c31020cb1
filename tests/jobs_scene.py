"""A small cohort stored in many ways, and the table that a run on it would publish, computed in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from jobs_helpers import bring, make_cohort, spec_of, write_npz

from sjd_dask.jobs.associate import AssociateJob, prepare

# More samples than a block of rows has, and than the pilot; features beyond a multiple of any chunk below.
N, F = 290, 53
SAMPLES = np.array([f"S{i:03d}" for i in range(N)])
FEATURES = np.array([f"f{i:02d}" for i in range(F)])

# The assays: quantity, stored type, quantity tested.
ASSAYS = {
    "betas": ("beta", None, "m_value"),
    "floats": ("beta", "float32", "m_value"),
    "expression": ("expression", None, None),
    "counts": ("counts", None, None),
}
LINEAR: dict[str, Any] = {"design": "~ group * age + batch"}
ANALYSES: dict[str, dict[str, Any]] = {
    "double": LINEAR,
    "single": LINEAR | {"precision": "single"},
    "robust trend": LINEAR | {"robust": True, "trend": True},
    "block": {"design": "~ group + age", "block": "person", "block_correlation": 0.2},
    "estimated block": {"design": "~ group + age", "block": "person", "correlation_method": "reml"},
    "wilcoxon": {"design": "~ group", "test": "wilcoxon"},
    "kruskal": {"design": "~ batch", "test": "kruskal"},
    "welch": {"design": "~ batch", "test": "welch"},
}
def sheet() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    columns = {
        "group": rng.choice(["healthy", "patient"], N),
        "age": rng.integers(20, 80, N) + rng.integers(0, 10, N) / 10,
        "batch": rng.choice(["x", "y", "z"], N),
        "person": [f"P{i:03d}" for i in rng.integers(0, N // 2, N)],
    }
    return pd.DataFrame(columns, index=pd.Index(SAMPLES, name="sample_id"))


def values(assay: str) -> np.ndarray:
    """Samples x features, with missing values in assays that are called so."""
    rng = np.random.default_rng(9)
    kind, _, holes = assay.partition(" ")
    noise = rng.normal(0, 1, (N, F)) + rng.normal(0, 2, F)
    noise[:, ::3] += 0.6 * (sheet()["group"] == "patient").to_numpy()[:, None]
    if kind in ("betas", "floats"):
        found = 2.0**noise / (1 + 2.0**noise)
        found[:, 7] = np.round(found[:, 7])  # some at 0 and 1, where M-values are clipped
    elif kind == "counts":
        # The first samples fit in eight bits, the rest don't: segments of different width are read as one.
        found = rng.poisson(np.where(np.arange(N) < 100, 20, 400)[:, None] * np.exp(noise / 10)).astype(float)
    else:
        found = noise * 3 + 1000
    found[:, 11] = 0.25 if kind != "counts" else 3  # constant
    if holes:
        found[rng.random((N, F)) < 0.04] = np.nan
        found[:, 13] = np.nan
        found[5:, 17] = np.nan
    return found


def fill(
    folder: Path,
    assay: str,
    order: np.ndarray | None = None,
    cuts: Sequence[int] = (),
    features: np.ndarray | None = None,
    chunks: tuple[int, int] = (64, 16384),
) -> Path:
    """A cohort with an assay of these samples in this order, in one segment or cut into several."""
    order = np.arange(N) if order is None else order
    features = np.arange(F) if features is None else features
    cohort = make_cohort(folder / "cohort", *chunks)
    table, (quantity, dtype, _) = values(assay), ASSAYS[assay.partition(" ")[0]]
    for number, rows in enumerate(np.split(order, list(cuts))):
        # Only the first file has features in another order: those that follow are brought to the first one's.
        place = features if number == 0 else np.arange(F)
        matrix = write_npz(folder / "part.npz", table[np.ix_(rows, place)], SAMPLES[rows], FEATURES[place])
        bring(cohort, "a", matrix, quantity, samples=sheet() if number == 0 else None, dtype=dtype, max_missing=0.9)
    return cohort


class InProcess:
    """Runs partitions here, the last one first."""

    def run(self, function: Any, work: Any, partitions: Sequence[Any]) -> list[pa.Table]:
        return [function(work, partition) for partition in reversed(partitions)][::-1]


def prepared(cohort: Path, assay: str, **keys: Any) -> AssociateJob:
    tested = ASSAYS[assay.partition(" ")[0]][2]
    return prepare(spec_of(cohort, "out", assay="a", **({"quantity": tested} if tested else {}), **keys), Path())


def computed(cohort: Path, assay: str, **keys: Any) -> pd.DataFrame:
    """The table that a run would publish."""
    job = prepared(cohort, assay, **keys)
    tables, _ = job.execute(job.plan(2, 10**10), InProcess())
    return tables["table"].to_pandas()


def same_bits(one: pd.DataFrame, other: pd.DataFrame) -> None:
    assert list(one.columns) == list(other.columns)
    for name in one.columns:
        np.testing.assert_array_equal(one[name].to_numpy(), other[name].to_numpy(), err_msg=name)
