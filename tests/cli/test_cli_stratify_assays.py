"""`sjd run` of `job: stratify` with several assays: what it publishes, and what it refuses, by exit code and name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import stratify_assays_scene as scene
from jobs_helpers import bring, write_npz

from sjd_dask.store.cohort import open_cohort

from .conftest import Called, Sjd, call_spec, check_refused


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cohort of three assays, and of some that can't be used with them."""
    folder = tmp_path_factory.mktemp("assays_cli")
    cohort = scene.make(folder / "cohort", {**scene.absent(), "noise": np.zeros(scene.N, dtype=bool)})
    rng = np.random.default_rng(0)
    others = [f"X{i}" for i in range(20)]
    features = [f"f{i}" for i in range(12)]
    bring(cohort, "strangers", write_npz(folder / "a.npz", rng.normal(0, 1, (20, 12)), others, features))
    bring(cohort, "few", write_npz(folder / "b.npz", rng.normal(0, 1, (5, 12)), scene.IDS[:5], features))
    bring(cohort, "counts", write_npz(folder / "c.npz", rng.poisson(9, (20, 12)), scene.IDS[:20], features), "counts")
    # Each feature is missing in two or three samples.
    holes = np.where(np.arange(30)[:, None] % 12 == np.arange(12), np.nan, rng.normal(0, 1, (30, 12)))
    bring(cohort, "holes", write_npz(folder / "d.npz", holes, scene.IDS[:30], features))
    (folder / "list.txt").write_text("x1\nx2\n")
    return folder


def run(sjd: Sjd, home: Path, *options: object, command: str = "run", **keys: Any) -> Called:
    return call_spec(sjd, home, command, {**scene.KEYS, **keys}, *options)


def test_groups_of_several_assays_from_the_command_line(sjd: Sjd, home: Path, cluster: Any) -> None:
    address = cluster.client.scheduler.address
    keys: dict[str, Any] = {"resamples": {"n": 12}, "algorithms": ["kmeans", "pam"], "k": [1, 3], "choose_k": 3}
    planned = run(sjd, home, command="plan", **keys)
    assert planned.code == 0 and "66 samples: noise has 66" in planned.out, planned.err
    done = run(sjd, home, "--cluster", address, "--report", home / "page.html", "-q", **keys)
    assert (done.code, done.out) == (0, "strata/joint@1\n"), done.err
    page = (home / "page.html").read_text(encoding="utf-8")
    assert "Which assay supports which group" in page and "is supported by" in page and "<script" not in page
    again = run(sjd, home, "--cluster", address, "-q", **keys)
    assert (again.code, again.out) == (0, "strata/joint@1\n")
    exported = sjd("export", home / "cohort", "strata/joint", home / "support.tsv", "--table", "assay_support")
    assert exported.code == 0, exported.err
    support = pd.read_csv(home / "support.tsv", sep="\t")
    assert set(support["assay"]) == set(scene.WIDTHS) and set(support["stratum"]) == {"C1", "C2", "C3"}
    schema = json.loads(sjd("schema", "strata").out)
    table = open_cohort(home / "cohort").result("strata/joint").to_pandas()
    known = set(schema["properties"])
    assert {one for one in table.columns if not one.startswith("membership_")} <= known


TWO = [{"assay": "rna"}, {"assay": "protein"}]
SNF = {"integration": "snf", "algorithms": None}
BAD: dict[str, tuple[int, dict[str, Any], list[str]]] = {
    "an assay beside assays": (2, {"assay": "rna"}, ["`assay` and `assays`", "each of the assays has its own"]),
    "features beside assays": (2, {"features": {"top": 9}}, ["`features` and `assays`"]),
    "one assay": (2, {"assays": [{"assay": "rna"}]}, ["`assays`", "at least 2"]),
    "an assay twice": (2, {"assays": [*TWO, {"assay": "rna", "features": {"top": 5}}]}, ["names rna twice"]),
    "assay and layer": (2, {"assays": [*TWO, {"assay": "x", "layer": "layers/x"}]}, ["exactly one", "`layer`"]),
    "unknown key": (2, {"assays": [{"assay": "rna", "feature": {"top": 5}}, TWO[1]]}, ["feature"]),
    "no such assay": (2, {"assays": [*TWO, {"assay": "meth"}]}, ["'meth'", "rna"]),
    "too many features": (2, {"assays": [{"assay": "rna", "features": {"top": 99}}, TWO[1]]}, ["rna:", "top: 99"]),
    "counts": (2, {"assays": [*TWO, {"assay": "counts"}]}, ["'counts'", "`job: normalise`"]),
    "quantity": (2, {"assays": [{"assay": "rna", "quantity": "beta"}, TWO[1]]}, ["'rna'", "beta"]),
    "integration": (2, {"integration": "mean"}, ["`integration`", "'mean'", "consensus", "snf"]),
    "integration of one": (2, {"assays": None, "assay": "rna", "integration": "snf"}, ["`integration`", "`assays`"]),
    "require": (2, {"require": 4}, ["`require: 4`", "only 3 assays"]),
    "snf without snf": (2, {"snf": {"neighbours": 9}}, ["`snf` belongs to `integration: snf`"]),
    "algorithms of snf": (2, {**SNF, "algorithms": ["pam"]}, ["`algorithms` belongs to `integration: consensus`"]),
    "neighbours": (2, {**SNF, "snf": {"neighbours": 1}}, ["neighbours", "found 1"]),
    "a query of nothing": (2, {"assays": [{"assay": "rna", "samples": "age > 99"}, TWO[1]]}, ["rna:", "age > 99"]),
    "no samples": (2, {"samples": "age > 200"}, ["`samples: age > 200`", "none of the"]),
    "no such column": (2, {"compare": ["batch"]}, ["'batch'", "truth"]),
    "no list": (2, {"assays": [{"assay": "rna", "features": {"list": "no.txt"}}, TWO[1]]}, ["rna:", "no.txt"]),
    "strangers in a list": (
        3, {"assays": [{"assay": "rna", "features": {"list": "list.txt"}}, TWO[1]]}, ["rna:", "0 of the 2 features"],
    ),
    "nobody in two": (3, {"assays": [{"assay": "rna"}, {"assay": "strangers"}]}, ["rna, strangers", "same id"]),
    "nobody in all": (3, {"assays": [TWO[0], {"assay": "strangers"}], "require": 2}, ["`require: 2`", "no sample"]),
    "few samples": (3, {"assays": [*TWO, {"assay": "few"}]}, ["few: 5 samples are too few"]),
    "holes everywhere": (3, {"assays": [*TWO, {"assay": "holes"}]}, ["holes:", "a missing value"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(sjd: Sjd, home: Path, cluster: Any, name: str) -> None:
    code, keys, words = BAD[name]
    before = len(open_cohort(home / "cohort").results())
    done = run(sjd, home, "--cluster", cluster.client.scheduler.address, "-q", **{**keys, "output": "bad"})
    check_refused(done, code, words)
    assert len(open_cohort(home / "cohort").results()) == before


def test_too_many_samples_are_refused(sjd: Sjd, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sjd_dask.jobs.stratify_assays.MOST_SAMPLES", 50)
    refused = run(sjd, home, command="plan")
    assert refused.code == 4 and "66 samples" in refused.err and "`samples`" in refused.err
