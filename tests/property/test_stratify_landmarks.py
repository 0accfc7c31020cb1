"""Groups over landmarks: near those of all pairs, and the same however the cohort is cut or ordered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import stratify_scene as scene

from sjd_dask.runtime.cluster import open_cluster
from sjd_dask.stratify.agreement import adjusted_rand_index

SPEC: dict[str, Any] = {
    "compare": ["truth", "batch"], "resamples": {"n": 24}, "consensus": "landmarks", "landmarks": 36,
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("landmarks")


@pytest.fixture(scope="module")
def first(home: Path, cluster: Any) -> Any:
    """The cohort in one segment, grouped on two workers."""
    return scene.run(scene.make(home / "one", scene.planted()), cluster, **SPEC)


def test_groups_of_landmarks_are_those_of_all(first: Any, cluster: Any) -> None:
    table, meta = scene.strata(first), first.cohort.result("strata/groups").meta
    assert list(table.index) == scene.IDS and meta["k"] == 4
    told = meta["consensus"]
    assert (told["kind"], told["landmarks"]) == ("landmarks", 36)
    assert told["kmeans"]["ari"] > 0.9 and told["kmeans"]["inertia"] > 0
    exact = scene.run(Path(first.cohort.path), cluster, **{**SPEC, "consensus": "exact"}, output="exact")
    assert exact.cohort.result("strata/exact").meta["consensus"] == {"kind": "exact"}
    whole = exact.cohort.result("strata/exact").to_pandas().set_index("sample_id")
    assert adjusted_rand_index(table["stratum"], whole["stratum"]) > 0.9
    labels = first.cohort.result("strata/groups").to_pandas("labels")
    assert (labels["k4"].to_numpy() == table["stratum"].to_numpy()).all()
    assert set(labels.columns) == {"sample_id", "k2", "k3", "k4", "k5"}


def test_other_layout_order_and_one_worker(first: Any, home: Path) -> None:
    order = np.random.default_rng(5).permutation(scene.N)
    cohort = scene.make(home / "two", scene.planted(), (7, 16), order, pieces=3)
    with open_cluster("local", workers=1) as alone:
        other = scene.run(cohort, alone, **SPEC)
    for name in first.cohort.result("strata/groups").tables:
        ours = first.cohort.result("strata/groups").to_pandas(name)
        pd.testing.assert_frame_equal(
            other.cohort.result("strata/groups").to_pandas(name), ours, check_exact=True, obj=name
        )
    told = other.cohort.result("strata/groups").meta
    assert told["consensus"] == first.cohort.result("strata/groups").meta["consensus"]


def test_without_a_matrix_the_tables_are_the_same(first: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"resamples": {"n": 24}}
    here = scene.run(Path(first.cohort.path), cluster, **keys, output="here")
    monkeypatch.setattr("sjd_dask.jobs.stratify_tables.JUDGE_HERE", 10)
    monkeypatch.setattr("sjd_dask.jobs.stratify_tables.MATRIX_SAMPLES", 10)
    there = scene.run(Path(first.cohort.path), cluster, **keys, output="there")
    one, two = (made.cohort.result(made.results[0]) for made in (here, there))
    for name in two.tables:
        pd.testing.assert_frame_equal(two.to_pandas(name), one.to_pandas(name), check_exact=True, obj=name)
    assert two.meta["run"]["tasks"] > one.meta["run"]["tasks"]
