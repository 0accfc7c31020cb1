"""The published numbers don't depend on how the matrix is cut, stored, or shared out.

Chunks, segments, partitions, workers, the order of features in a file and compaction leave every bit as it is. The
order in which samples were ingested changes the order of sums: the tolerance is stated in `IN_ANOTHER_ORDER`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobs_helpers import bring, make_cohort, spec_of, write_npz

from sjd_dask.jobs.associate import AssociateJob, prepare
from sjd_dask.store.cohort import open_cohort
from sjd_dask.store.compact import compact

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
# Largest difference over max(|value|, standard error), or over max(1, |t|), with samples in another order.
IN_ANOTHER_ORDER = {"double": 1e-12, "robust trend": 1e-10, "single": 2e-5, "block": 1e-10}


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


def by_feature(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(["contrast", "feature_id"], kind="stable").reset_index(drop=True)


def same_bits(one: pd.DataFrame, other: pd.DataFrame) -> None:
    assert list(one.columns) == list(other.columns)
    for name in one.columns:
        np.testing.assert_array_equal(one[name].to_numpy(), other[name].to_numpy(), err_msg=name)


def differences(one: pd.DataFrame, other: pd.DataFrame) -> float:
    """Largest difference of effects over max(|value|, standard error) and of statistics over max(1, |statistic|)."""
    for name in ("feature_id", "contrast", "n_samples"):
        assert list(one[name]) == list(other[name])
    worst = 0.0
    for name, scale in (
        ("effect", np.fmax(one["effect"].abs(), one["standard_error"])),
        ("statistic", np.fmax(1, one["statistic"].abs())),
    ):
        assert one[name].isna().equals(other[name].isna()), name
        worst = max(worst, float(((one[name] - other[name]).abs() / scale).max()))
    return worst


SEVEN = (1, 65, 100, 130, 131, 280)
KINDS = [*ASSAYS, *(f"{kind} holes" for kind in ASSAYS)]


@pytest.mark.parametrize("assay", KINDS)
def test_chunks_segments_and_partitions(assay: str, tmp_path: Path) -> None:
    (tmp_path / "cut").mkdir()
    one = fill(tmp_path, assay)
    cut = fill(tmp_path / "cut", assay, cuts=SEVEN, chunks=(7, 16))
    for name in ANALYSES if assay == "counts holes" else ("double", "single"):
        wanted = computed(one, assay, **ANALYSES[name])
        assert wanted["p_value"].notna().mean() > 0.9
        same_bits(computed(cut, assay, **ANALYSES[name]), wanted)
        same_bits(computed(cut, assay, **ANALYSES[name], partition_features=7), wanted)


@pytest.mark.parametrize("assay", ["betas holes", "counts"])
def test_order_of_features(assay: str, tmp_path: Path) -> None:
    """A feature's own numbers keep their bits; what is shared, the prior, is a sum over features in another order."""
    order = np.random.default_rng(3).permutation(F)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = fill(tmp_path / "a", assay)
    other = fill(tmp_path / "b", assay, features=order, cuts=(120,))
    for name in ("double", "single"):
        keys = ANALYSES[name]
        plain = [by_feature(computed(cohort, assay, **keys, moderation="none")) for cohort in (one, other)]
        same_bits(*plain)
        assert differences(*(by_feature(computed(cohort, assay, **keys)) for cohort in (one, other))) < 1e-12


@pytest.mark.parametrize("assay", ["betas", "betas holes", "expression holes", "counts"])
def test_order_of_samples(assay: str, tmp_path: Path) -> None:
    order = np.random.default_rng(4).permutation(N)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = fill(tmp_path / "a", assay)
    other = fill(tmp_path / "b", assay, order=order, cuts=(30, 200))
    for name, tolerance in IN_ANOTHER_ORDER.items():
        found = differences(*(computed(cohort, assay, **ANALYSES[name]) for cohort in (one, other)))
        print(assay, name, found)
        assert found <= tolerance, name
    # Ranks have no order to lose.
    for name in ("wilcoxon", "kruskal"):
        ranked = [computed(cohort, assay, **ANALYSES[name]).drop(columns="mean") for cohort in (one, other)]
        same_bits(*ranked)


@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    cuts=st.sets(st.integers(1, N - 1), max_size=5),
    chunks=st.tuples(st.integers(1, 300), st.integers(1, F + 5)),
    width=st.integers(1, F),
    holes=st.booleans(),
)
def test_any_cut(
    cuts: set[int],
    chunks: tuple[int, int],
    width: int,
    holes: bool,
    tmp_path_factory: pytest.TempPathFactory,
    whole: dict[str, pd.DataFrame],
) -> None:
    assay = "betas holes" if holes else "betas"
    cohort = fill(tmp_path_factory.mktemp("cut"), assay, cuts=sorted(cuts), chunks=chunks)
    same_bits(computed(cohort, assay, **LINEAR, partition_features=width), whole[assay])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    return {
        assay: computed(fill(tmp_path_factory.mktemp("whole"), assay), assay, **LINEAR)
        for assay in ("betas", "betas holes")
    }


def test_compaction(tmp_path: Path) -> None:
    """Before and after, with a sample corrected in between: same bits, and the same run."""
    assay = "counts holes"
    cohort = fill(tmp_path, assay, cuts=SEVEN, chunks=(32, 16))
    again = values(assay)[[3, 170]] + 1
    bring(
        cohort, "a", write_npz(tmp_path / "again.npz", again, SAMPLES[[3, 170]], FEATURES), "counts", replace=True,
        max_missing=0.9,
    )  # fmt: skip
    names = ("double", "single", "block", "kruskal")
    before = {name: computed(cohort, assay, **ANALYSES[name]) for name in names}
    marks = {name: prepared(cohort, assay, **ANALYSES[name]).fingerprint for name in names}
    report = compact(open_cohort(cohort))[0]
    assert report.n_after < report.n_before
    for name in names:
        assert prepared(cohort, assay, **ANALYSES[name]).fingerprint == marks[name]
        same_bits(computed(cohort, assay, **ANALYSES[name]), before[name])


def test_compaction_around_a_large_segment(tmp_path: Path) -> None:
    """Small segments before and after one that stays are merged; sums still go in the order of publication."""
    assay = "betas holes"
    cohort = fill(tmp_path, assay, cuts=(50, 200))
    before = computed(cohort, assay, **LINEAR)
    report = compact(open_cohort(cohort), small_rows=100)[0]
    assert (report.n_before, report.n_after) == (3, 2)
    same_bits(computed(cohort, assay, **LINEAR), before)
