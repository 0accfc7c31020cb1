"""What stands beside the groups: the consensus for other tools, gene sets, visits, and names kept without a shared
sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import stratify_scene as scene

from sjd_dask.store.cohort import open_cohort
from sjd_dask.stratify.agreement import adjusted_rand_index
from sjd_dask.stratify.consensus import consensus_groups

from .conftest import Sjd

KEYS: dict[str, Any] = {"k": [2, 4], "choose_k": 4, "resamples": {"n": 16}, "algorithms": ["hierarchical", "kmeans"]}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("companions")
    scene.make(folder / "cohort", scene.planted())
    lines = [["FIRST", "two groups", *scene.FEATURES[:20]], ["SECOND", "", *scene.FEATURES[10:40], "ABSENT"]]
    (folder / "sets.gmt").write_text("\n".join("\t".join(line) for line in lines))
    return folder


def call(sjd: Sjd, home: Path, cluster: Any, **keys: Any) -> pd.DataFrame:
    (home / "spec.yaml").write_text(json.dumps({**scene.KEYS, "cohort": "cohort", **KEYS, **keys}))
    done = sjd("run", home / "spec.yaml", "--cluster", cluster.client.scheduler.address, "-q")
    assert done.code == 0, done.err
    return open_cohort(home / "cohort").result(done.out.strip()).to_pandas().set_index("sample_id")


def test_companions(sjd: Sjd, home: Path, cluster: Any) -> None:
    """Names from one half are kept in the other, which shares neither a sample nor a person with it."""
    half = {name: f"batch {sign} 'b1' and age >= 20" for name, sign in (("one", "=="), ("other", "!="))}
    keys = {"features": {"list": "sets.gmt"}, "person": "person_id", "visit": "batch"}
    first = call(sjd, home, cluster, samples=half["other"], **keys)
    cohort = open_cohort(home / "cohort")
    result = cohort.result("strata/groups@1")
    assert result.meta["features"]["sets"] == {
        "FIRST": {"listed": 20, "features": 20}, "SECOND": {"listed": 31, "features": 30},
    }  # fmt: skip
    assert result.meta["features"]["used"] == 40 and len(result.to_pandas("visits")) == 0

    file = home / "consensus.csv"
    assert sjd("export", home / "cohort", "strata/groups", file, "--table", "consensus").code == 0
    matrix = pd.read_csv(file, index_col="sample_id")
    assert list(matrix.index) == list(matrix.columns) == list(first.index)
    again = consensus_groups(matrix.to_numpy(dtype=np.float32), 4)
    assert adjusted_rand_index(again.tolist(), first["stratum"].tolist()) == 1.0

    # Without the earlier names the groups are numbered by size, here another order.
    plain = call(sjd, home, cluster, samples=half["one"], output="plain")
    kept = call(sjd, home, cluster, samples=half["one"], output="kept", previous="strata/groups@1")
    truth = pd.Series(scene.truth(), index=scene.IDS)
    named = {name: truth[own.index].mode()[0] for name, own in first.groupby("stratum")}
    assert {name: truth[own.index].mode()[0] for name, own in kept.groupby("stratum")} == named
    assert adjusted_rand_index(plain["stratum"], kept["stratum"]) == 1.0
    meta = cohort.result("strata/kept").meta
    assert meta["previous"] == "strata/groups@1" and meta["matched_by"] == "centroids"
    assert sum(meta["matched"].values()) >= 22
