"""Breast cancers of TCGA by messenger and micro RNA and protein: PAM50 classes from three assays better than from one.

220 tumours with Basal, Her2 or LumA labels that no run sees; protein is there for 150 of them. The commands are those a
user types.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.store.cohort import open_cohort
from sjd_dask.stratify.agreement import adjusted_rand_index

FOLDER = Path("data") / "tcga_brca_multiomics_mixOmics"
ASSAYS = ("mrna", "mirna", "protein")


def sjd(*arguments: object) -> str:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "sjd"), *map(str, arguments)], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def third_missing(ids: list[str]) -> dict[str, list[str]]:
    """For each assay the two thirds of the samples that it has; every sample is in one at least."""
    rng = np.random.default_rng(20)
    there = np.ones((len(ids), 3), dtype=bool)
    for a in range(3):
        there[rng.choice(len(ids), len(ids) // 3, replace=False), a] = False
    for i in np.flatnonzero(~there.any(axis=1)):
        j = rng.choice(np.flatnonzero(there.all(axis=1)))
        there[i, 0], there[j, 0] = True, False
    return {name: [one for one, has in zip(ids, there[:, a], strict=True) if has] for a, name in enumerate(ASSAYS)}


class Tumours:
    """The cohort, and how its groups agree with the classes."""

    def __init__(self, folder: Path, data: Path, cluster: Any) -> None:
        self.folder, self.cohort, self.cluster = folder, folder / "cohort", cluster
        read = {name: pd.read_csv(data / f"data.train_{name}.csv.gz", index_col=0) for name in ASSAYS}
        classes = [pd.read_csv(data / f"data.{part}_subtype.csv")["subtype"] for part in ("train", "test")]
        for name in ASSAYS[:2]:
            read[name] = pd.concat([read[name], pd.read_csv(data / f"data.test_{name}.csv.gz", index_col=0)])
        self.truth = pd.Series(np.concatenate(classes), index=read["mrna"].index)
        self.complete = list(read["protein"].index)
        sjd("init", self.cohort)
        for name, there in third_missing(self.complete).items():
            for assay, frame in ((name, read[name]), (f"{name}_holes", read[name].loc[there])):
                frame.rename_axis("sample_id").to_csv(folder / "matrix.csv")
                options = ("--quantity", "expression", "--rows", "samples", "-q")
                sjd("ingest", self.cohort, assay, folder / "matrix.csv", *options)

    def groups(self, output: str, **keys: Any) -> Any:
        spec = {"job": "stratify", "cohort": "cohort", "k": [1, 4], "resamples": {"n": 60}, "output": output, **keys}
        (self.folder / "spec.yaml").write_text(json.dumps(spec))
        done = sjd("run", self.folder / "spec.yaml", "--cluster", self.cluster.client.scheduler.address, "-q")
        assert done == f"strata/{output}@1\n"
        return open_cohort(self.cohort).result(f"strata/{output}")

    def agreement(self, result: Any, k: int | None = None, ids: list[str] | None = None) -> float:
        table = result.to_pandas("table" if k is None else "labels").set_index("sample_id")
        labels = table["stratum" if k is None else f"k{k}"]
        return adjusted_rand_index(labels if ids is None else labels.loc[ids], self.truth)


@pytest.fixture(scope="module")
def tumours(reference_data: Path, tmp_path_factory: pytest.TempPathFactory, cluster: Any) -> Tumours:
    return Tumours(tmp_path_factory.mktemp("tcga"), reference_data / FOLDER, cluster)


def test_classes_from_three_assays_better_than_from_one(tumours: Tumours, capsys: pytest.CaptureFixture[str]) -> None:
    alone = {
        name: tumours.groups(f"only_{name}", assay=name, features={"top": width})
        for name, width in (("mrna", 200), ("mirna", 184), ("protein", 142))
    }
    three: dict[str, Any] = {"assays": [{"assay": name} for name in ASSAYS]}
    together = {
        "consensus": tumours.groups("three", **three),
        "snf": tumours.groups("three_snf", **three, integration="snf"),
    }
    with capsys.disabled():
        print()
        for name, one in {**alone, **together}.items():
            at_3 = [tumours.agreement(one, 3, ids) for ids in (None, tumours.complete)]
            print(
                f"{name}: k = {one.meta['k']}, ARI {tumours.agreement(one):.3f}; k = 3: {at_3[0]:.3f}, of the "
                f"{len(tumours.complete)} with all assays {at_3[1]:.3f}"
            )
    for one in together.values():
        assert one.meta["k"] == 3
        assert tumours.agreement(one) > max(tumours.agreement(other) for other in alone.values()) + 0.1
        assert tumours.agreement(one, 3) > max(tumours.agreement(other, 3) for other in alone.values()) + 0.03
        assert tumours.agreement(one) > 0.85
    support = together["snf"].to_pandas("assay_support").set_index(["assay", "stratum"])
    assert support.loc["mrna", "supports"].all() and not support.loc["protein", "supports"].all()


def test_a_third_of_each_assay_missing(tumours: Tumours, capsys: pytest.CaptureFixture[str]) -> None:
    holes: dict[str, Any] = {"assays": [{"assay": f"{name}_holes"} for name in ASSAYS], "choose_k": 3}
    found = {way: tumours.groups(f"holes_{way}", **holes, integration=way) for way in ("consensus", "snf")}
    for way, one in found.items():
        table = one.to_pandas()
        assert len(table) == 150 and table["n_assays"].between(1, 3).all() and one.meta["n_pairs_apart"] > 0
        assert table["n_assays"].sum() == 300
        with capsys.disabled():
            print(f"\na third missing, {way}: k = 3, ARI {tumours.agreement(one):.3f}")
        assert tumours.agreement(one) > 0.5
