"""The published numbers don't depend on how the matrix is cut, stored, or shared out.

Chunks, segments, partitions, workers, the order of features in a file and compaction leave every bit as it is. The
order in which samples were ingested changes the order of sums: the tolerance is stated in `IN_ANOTHER_ORDER`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobs_helpers import bring, write_npz
from jobs_scene import ANALYSES, FEATURES, LINEAR, SAMPLES, F, N, computed, fill, prepared, same_bits, values

from sjd_dask.store.cohort import open_cohort
from sjd_dask.store.compact import compact

# Largest difference over max(|value|, standard error), or over max(1, |t|), with samples in another order.
IN_ANOTHER_ORDER = {"double": 1e-12, "robust trend": 1e-10, "single": 2e-5, "block": 1e-10}


def by_feature(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(["contrast", "feature_id"], kind="stable").reset_index(drop=True)


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
KINDS = ["betas", "betas holes", "floats holes", "expression", "expression holes", "counts", "counts holes"]


@pytest.mark.parametrize("assay", KINDS)
def test_chunks_segments_and_partitions(assay: str, tmp_path: Path) -> None:
    (tmp_path / "cut").mkdir()
    one = fill(tmp_path, assay)
    cut = fill(tmp_path / "cut", assay, cuts=SEVEN, chunks=(7, 16))
    for name in ANALYSES if assay == "counts holes" else ("double", "single"):
        wanted = computed(one, assay, **ANALYSES[name])
        assert wanted["p_value"].notna().mean() > 0.9
        same_bits(computed(cut, assay, **ANALYSES[name]), wanted)
        if name in ("double", "kruskal", "estimated block"):
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


@pytest.mark.parametrize("assay", ["betas holes", "expression", "counts"])
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
    chunks=st.tuples(st.integers(9, 300), st.integers(5, F + 5)),
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
