"""`sjd run` of `job: stratify`: what it prints and publishes, and what it refuses, by exit code and name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import stratify_scene as scene
from jobs_helpers import bring, write_npz

from sjd_dask.store.cohort import open_cohort

from .conftest import Called, Sjd, call_spec, check_refused


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cohort of expression and counts."""
    folder = tmp_path_factory.mktemp("stratify")
    values = scene.planted()
    values[4, 50] = np.nan
    cohort = scene.make(folder / "cohort", values)
    counts = write_npz(folder / "counts.npz", np.round(2.0 ** values[:, :20]), scene.IDS, scene.FEATURES[:20])
    bring(cohort, "counts", counts, "counts")
    holes = np.where(np.eye(scene.N, 20, dtype=bool), np.nan, values[:, :20])
    bring(cohort, "holes", write_npz(folder / "holes.npz", holes, scene.IDS, scene.FEATURES[:20]))
    (folder / "list.txt").write_text("x1\nx2\n")
    (folder / "sets.gmt").write_text("ONE\t\tx1\tx2\nTWO\t\tg000\tg001\n")
    other = {"table": pa.table({"sample_id": scene.IDS[:2]})}
    open_cohort(folder / "cohort").publish_result("surrogates", "other", other, {})
    (folder / "bad.gmt").write_text("ONE\tg000\n")
    return folder


def run(sjd: Sjd, home: Path, *options: object, command: str = "run", **keys: Any) -> Called:
    return call_spec(sjd, home, command, {**scene.KEYS, **keys}, *options)


def test_groups_from_the_command_line(sjd: Sjd, home: Path, cluster: Any) -> None:
    address = cluster.client.scheduler.address
    keys: dict[str, Any] = {"compare": ["truth", "batch"], "resamples": {"n": 24}}
    planned = run(sjd, home, command="plan", **keys)
    assert planned.code == 0 and "72 samples x 40 features" in planned.out, planned.err
    done = run(sjd, home, "--cluster", address, "--report", home / "page.html", "-q", **keys)
    assert (done.code, done.out) == (0, "strata/groups@1\n"), done.err
    page = (home / "page.html").read_text(encoding="utf-8")
    assert "<b>4</b> groups" in page
    assert "truth" in page and "<script" not in page
    again = run(sjd, home, "--cluster", address, "-q", **keys)
    assert (again.code, again.out) == (0, "strata/groups@1\n")
    assert sjd("export", home / "cohort", "strata/groups", home / "groups.tsv").code == 0
    table = pd.read_csv(home / "groups.tsv", sep="\t")
    assert list(table.columns) == [
        "sample_id", "stratum", "core", "consensus", "silhouette",
        "membership_C1", "membership_C2", "membership_C3", "membership_C4", "ambiguous",
    ]  # fmt: skip
    cross = pd.crosstab(table["stratum"], pd.Series(scene.truth()))
    assert cross.max(axis=1).sum() >= 70
    result = open_cohort(home / "cohort").result("strata/groups")
    assert f"  {' '.join(name for name in result.tables if name != 'table')}" in sjd("info", home / "cohort").out
    for name in ("choice", "labels"):
        file = home / f"{name}.tsv"
        exported = sjd("export", home / "cohort", "strata/groups", file, "--table", name, "--json")
        assert json.loads(exported.out) == {"result": "strata/groups", "table": name, "file": str(file)}
        own = result.to_pandas(name).drop(columns="reason", errors="ignore")
        if "trusted" in own:  # no algorithm makes the one group of k = 1
            own["trusted"] = own["trusted"].astype(object).where(own["trusted"].notna(), np.nan)
        pd.testing.assert_frame_equal(pd.read_csv(file, sep="\t")[list(own.columns)], own, check_dtype=False)
    refused = sjd("export", home / "cohort", "strata/groups", home / "x.tsv", "--table", "choise")
    assert refused.code == 2 and "has no table 'choise'" in refused.err and "choice, cdf" in refused.err
    assert {"reason": "a missing value", "count": 1} in result.meta["features"]["dropped"]
    assert "a missing value" in page
    schema = json.loads(sjd("schema", "strata").out)
    assert set(schema["required"]) <= set(table.columns)


def test_features_of_an_association(sjd: Sjd, home: Path, cluster: Any) -> None:
    address = cluster.client.scheduler.address
    spec = {"job": "associate", "cohort": "cohort", "assay": "rna", "design": "~ truth", "output": "by_truth"}
    (home / "ewas.yaml").write_text(json.dumps(spec))
    assert sjd("run", home / "ewas.yaml", "--cluster", address, "-q").code == 0
    features: dict[str, Any] = {"association": "associations/by_truth", "max_q": 1e-4, "min_effect": 1}
    refused = run(sjd, home, features=features)
    assert refused.code == 2 and "name one with `contrast`" in refused.err and "truth[T.t1]" in refused.err
    features["contrast"] = "truth[T.t1]"
    keys: dict[str, Any] = {"k": [1, 3], "choose_k": 3, "algorithms": ["kmeans", "pam"], "resamples": {"n": 16}}
    done = run(sjd, home, "--cluster", address, "-q", features=features, output="of_truth", **keys)
    assert (done.code, done.out) == (0, "strata/of_truth@1\n"), done.err
    chosen = open_cohort(home / "cohort").result("strata/of_truth").to_pandas("features")
    assert set(chosen["feature_id"]) <= set(scene.FEATURES[:20]) and len(chosen) >= 15
    assert (chosen["score"].abs() >= 1).all()
    features["min_effect"] = 50
    refused = run(sjd, home, features=features)
    assert refused.code == 3 and "largest |effect|" in refused.err and "min_effect" in refused.err


BAD: dict[str, tuple[int, dict[str, Any], list[str]]] = {
    "near miss": (2, {"algorithm": ["pam"]}, ["`algorithm`", "did you mean `algorithms`?"]),
    "no such algorithm": (2, {"algorithms": ["pan"]}, ["'pan'", "hierarchical, kmeans, pam, mixture"]),
    "an algorithm twice": (2, {"algorithms": ["pam", "pam"]}, ["`algorithms`", "twice"]),
    "no algorithm": (2, {"algorithms": []}, ["`algorithms`"]),
    "distance": (2, {"distance": "cosine"}, ["`distance`", "'cosine'", "spearman"]),
    "two ways of features": (2, {"features": {"top": 5, "list": "list.txt"}}, ["exactly one", "top, list"]),
    "no way of features": (2, {"features": {}}, ["exactly one", "`association`"]),
    "option of another way": (2, {"features": {"top": 9, "max_q": 0.1}}, ["`max_q`", "belongs to `association`"]),
    "too many features": (2, {"features": {"top": 500}}, ["top: 500", "120 features"]),
    "k the wrong way": (2, {"k": [5, 2]}, ["`k: [5, 2]`", "fewest"]),
    "k of one": (2, {"k": [1, 1]}, ["`k: [1, 1]`", "most >= 2"]),
    "choose_k outside": (2, {"choose_k": 9}, ["`choose_k: 9`", "[1, 5]"]),
    "fraction": (2, {"resamples": {"sample_fraction": 1.5}}, ["sample_fraction", "1.5"]),
    "assay and layer": (2, {"layer": "layers/x"}, ["exactly one", "`layer`"]),
    "no such assay": (2, {"assay": "meth"}, ["'meth'", "rna"]),
    "no such layer": (2, {"assay": None, "layer": "layers/x"}, ["'layers/x'"]),
    "counts": (2, {"assay": "counts", "features": {"top": 10}}, ["counts", "`job: normalise`", "layers/NAME"]),
    "quantity": (2, {"quantity": "m_value"}, ["m_value", "expression"]),
    "column to compare": (2, {"compare": ["batchh"]}, ["'batchh'", "batch"]),
    "person": (2, {"person": "patient"}, ["'patient'", "person_id"]),
    "no such association": (2, {"features": {"association": "associations/none"}}, ["associations/none"]),
    "no list": (2, {"features": {"list": "nothing.txt"}}, ["nothing.txt", "can't be read"]),
    "a list of strangers": (3, {"features": {"list": "list.txt"}}, ["0 of the 2 features", "'x1'", "'g000'"]),
    "no such previous": (2, {"previous": "strata/none"}, ["strata/none"]),
    "set of no sets": (2, {"features": {"list": "list.txt", "set": "ONE"}}, ["`set: ONE`", ".gmt", "list.txt"]),
    "set without a list": (2, {"features": {"top": 9, "set": "ONE"}}, ["`set` belongs to `list`"]),
    "no such set": (2, {"features": {"list": "sets.gmt", "set": "TOW"}}, ["set: TOW", "sets.gmt", "'TWO'"]),
    "a set of strangers": (3, {"features": {"list": "sets.gmt", "set": "ONE"}}, ["0 of the 2", "'x1'", "'g000'"]),
    "no gene sets": (3, {"features": {"list": "bad.gmt"}}, ["bad.gmt`, line 1", "tabs"]),
    "previous of another kind": (2, {"previous": "surrogates/other"}, ["is not a grouping", "strata/NAME"]),
    "visit without a person": (2, {"visit": "batch"}, ["`visit: batch`", "`person`"]),
    "no such visit": (2, {"person": "person_id", "visit": "month"}, ["'month'", "person_id"]),
    "consensus": (2, {"consensus": "exakt"}, ["`consensus`", "'exakt'", "landmarks"]),
    "too few landmarks": (2, {"landmarks": 5}, ["`landmarks`", "20"]),
    "choose_k in words": (2, {"choose_k": "best"}, ["`choose_k: best` is neither"]),
    "seed": (2, {"seed": -1}, ["`seed`", "-1"]),
    "one resample": (2, {"resamples": {"n": 1}}, ["resamples.n", "2"]),
    "name": (2, {"output": "../x"}, ["`output`", "'../x'"]),
    "no samples": (2, {"samples": "age > 200"}, ["`samples: age > 200`", "none of the 72"]),
    "too few samples": (3, {"samples": "truth == 't3' and batch == 'b1'"}, ["samples are too few"]),
    "every feature has a hole": (3, {"assay": "holes", "features": {"top": 9}}, ["20 with a missing value", "needed"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(sjd: Sjd, home: Path, cluster: Any, name: str) -> None:
    code, keys, words = BAD[name]
    before = len(open_cohort(home / "cohort").results())
    done = run(sjd, home, "--cluster", cluster.client.scheduler.address, "-q", **{"output": "bad", **keys})
    check_refused(done, code, words)
    assert len(open_cohort(home / "cohort").results()) == before


def test_a_consensus_of_all_pairs_of_too_many_samples_is_refused(
    sjd: Sjd, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sjd_dask.jobs.stratify.MOST_SAMPLES", 50)
    refused = run(sjd, home, command="plan", consensus="exact")
    assert refused.code == 4 and "72 samples" in refused.err and "landmarks" in refused.err
    planned = run(sjd, home, command="plan")
    assert planned.code == 0 and "72 of 72 samples are landmarks" in planned.out, planned.err
