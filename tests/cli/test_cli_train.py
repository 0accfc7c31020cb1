"""`sjd run` of `job: train`: what it prints and publishes, and what it refuses, by exit code and name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import classify_scene as scene
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from jobs_helpers import bring, write_npz

from sjd_dask.jobs import bundle
from sjd_dask.jobs.driver import prepare
from sjd_dask.jobs.spec import parse_spec
from sjd_dask.runtime.here import Here
from sjd_dask.store.cohort import open_cohort

from .conftest import Called, Sjd, call_spec, check_refused

FEW = {"folds": {"outer": 2, "inner": 2}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cohort: counts, several layers of them, groups, and sample columns that are no labels."""
    folder = tmp_path_factory.mktemp("train")
    path, here = scene.make(folder / "cohort"), Here()
    scene.normalise(path, here)
    for output, keys in {
        "twice": {"layer": "layers/logs", "steps": ["standardise"]},
        "outcome": {"assay": "rna", "steps": ["tmm", "log_cpm", {**scene.WITH_BATCH[2], "covariates": "~ disease"}]},
        "masked": {"assay": "arrays", "steps": ["standardise"], "detection_p": {"assay": "detection"}},
        "file": {"assay": "arrays", "steps": [{"method": "mask_probes", "probe_list": "probes.txt"}]},
    }.items():
        if keys.get("assay") == "arrays" and "arrays" not in open_cohort(path).assays():
            ids = scene.sample_ids()
            values = np.log2(scene.counts(ids) + 1)
            bring(path, "arrays", write_npz(folder / "a.npz", values, ids, scene.FEATURES))
            bring(path, "detection", write_npz(folder / "d.npz", 0 * values, ids, scene.FEATURES), "proportion")
            (folder / "probes.txt").write_text("g000\n")
        spec = {"job": "normalise", "output": output, **keys}
        call(folder, spec)
    ids = scene.sample_ids()
    numbers = np.arange(len(ids))
    odd = pd.DataFrame(
        {
            "one": "same",
            "share": numbers / 7,
            "rare": ["a" if i < 2 else "b" for i in numbers],
            "later": ["second" if i == 0 else "first" for i in numbers],
            "barred": ["a|b" if i % 2 else "c" for i in numbers],
            "empty": pd.Series([None] * len(ids), dtype=object).to_numpy(),
        },
        index=pd.Index(ids, name="sample_id"),
    )
    cohort = open_cohort(path)
    cohort.add_samples(odd)
    table = pd.DataFrame({"sample_id": ids, "stratum": "C1", "core": True})
    many = table.assign(stratum=[f"C{1 + i % 2}" for i in numbers])
    meta = {"job": "stratify", "reason": "no groups", "spec": {"job": "stratify"}}
    for name, frame, more in (
        ("none", table, meta),
        ("foreign", many, {}),
        ("landmarks", many, {**meta, "consensus": {"kind": "landmarks"}, "spec": GROUPED}),
        ("assays", many, {**meta, "spec": {"assays": [{"assay": "arrays"}, {"layer": "layers/logs"}]}}),
    ):
        cohort.publish_result("strata", name, {"table": pa.Table.from_pandas(frame, preserve_index=False)}, more)
    return folder


GROUPED: dict[str, Any] = {
    "job": "stratify", "cohort": ".", "layer": "layers/logs", "features": {"top": 20}, "output": "landmarks",
}  # fmt: skip


def call(folder: Path, spec: dict[str, Any]) -> None:
    """Run a job in this process, with paths from the folder."""
    from sjd_dask.jobs.driver import run_spec
    from sjd_dask.jobs.spec import parse_spec

    run_spec(parse_spec({"cohort": "cohort", **spec}, "spec"), folder, cluster=Here(), quiet=True)


def run(sjd: Sjd, home: Path, *options: object, command: str = "run", **keys: Any) -> Called:
    return call_spec(sjd, home, command, {**scene.TRAIN, **FEW, **keys}, *options)


def test_a_model_from_the_command_line(sjd: Sjd, home: Path, cluster: Any) -> None:
    address = cluster.client.scheduler.address
    keys: dict[str, Any] = {"subgroups": ["sex", "batch"], "repeats": 2}
    planned = run(sjd, home, command="plan", **keys)
    assert planned.code == 0 and "4 outer folds of persons and the final model" in planned.out, planned.err
    assert "normalised copies for the folds" in planned.out
    projected = json.loads(run(sjd, home, "--json", command="plan", **keys).out)["peak_bytes_per_task"]
    done = run(sjd, home, "--cluster", address, "-q", **keys)
    assert (done.code, done.out) == (0, "models/classes@1\n"), done.err
    again = run(sjd, home, "--cluster", address, "-q", **keys)
    assert (again.code, again.out) == (0, "models/classes@1\n"), again.err

    cohort = open_cohort(home / "cohort")
    result = cohort.result("models/classes@1")
    assert 0 < result.meta["run"]["peak_rss"] < projected
    assert sjd("export", home / "cohort", "models/classes", home / "panel.tsv").code == 0
    panel = pd.read_csv(home / "panel.tsv", sep="\t")
    schema = json.loads(sjd("schema", "models-table").out)
    assert set(schema["required"]) <= set(panel.columns) and 2 <= len(panel) <= 12
    assert set(panel["feature_id"]) <= set(scene.FEATURES[: scene.PLANTED])
    for name in ("predictions", "folds", "panels", "metrics", "reliability", "subgroups"):
        file = home / f"{name}.tsv"
        assert sjd("export", home / "cohort", "models/classes", file, "--table", name).code == 0
        assert len(pd.read_csv(file, sep="\t")) == len(result.to_pandas(name)) > 0
    predictions = result.to_pandas("predictions")
    assert predictions.groupby("repeat").size().tolist() == [len(scene.sample_ids())] * 2
    assert (predictions.groupby(["repeat", "person_id"])["fold"].nunique() == 1).all(), "a person is in one fold"
    first, second = (predictions[predictions["repeat"] == r].set_index("sample_id")["fold"] for r in (1, 2))
    assert (first != second).any(), "folds are drawn anew"
    assert (predictions["top_class"] == predictions["label"]).mean() > 0.85

    metrics = {row["metric"]: row for row in result.meta["card"]["metrics"] if row["of"] == "all" and not row["class"]}
    assert metrics["accuracy"]["value"] > 0.85 and metrics["accuracy"]["n_persons"] == scene.PERSONS
    assert {row["column"] for row in result.meta["card"]["subgroups"]} == {"sex", "batch"}
    found = bundle.load(cohort, "classes@1")
    assert list(found.classifier.panel) == panel["feature_id"].tolist() and found.hash == result.meta["bundle_hash"]
    info = json.loads(sjd("info", home / "cohort", "--json").out)
    assert "models/classes@1" in json.dumps(info)
    assert sjd("verify", home / "cohort").code == 0 and sjd("gc", home / "cohort").code == 0
    assert list((home / "cohort" / "segments").glob("*stage*")) == [], "copies for the folds are removed"
    page = sjd("report", home / "cohort", "models/classes", home / "model.html")
    assert page.code == 0 and "classes" in (home / "model.html").read_text(encoding="utf-8"), page.err


def test_a_coverage_that_so_few_persons_cannot_tell_is_said(home: Path) -> None:
    n = scene.PERSONS

    def warned(coverage: float) -> list[str]:
        spec = {**scene.TRAIN, **FEW, "cohort": str(home / "cohort"), "coverage": coverage}
        return [one for one in prepare(parse_spec(spec, "spec"), Path()).warnings if one.startswith("`coverage")]

    assert warned(0.8) == []
    sized = parse_spec({**scene.TRAIN, **FEW, "cohort": "cohort", "panel": {"method": "none", "size": 9}}, "spec")
    assert any("`panel: size: 9` counts for nothing" in one for one in prepare(sized, home).warnings)
    (none,), (half,) = warned(1 - 1 / (n + 2)), warned(1 - 1 / (n + 1))
    assert f"at least {n + 1} persons, and there are {n}" in none and "no sample is called" in none
    assert f"at least {n} persons, and some outer folds train on {n // 2}" in half


def test_the_size_of_the_panel_is_chosen_and_told(sjd: Sjd, home: Path) -> None:
    keys = {"panel": {"size": "auto", "prefilter": 60}, "model": "shrunken_centroid"}
    planned = run(sjd, home, command="plan", output="sized", **keys)
    assert planned.code == 0 and "panels of at most 25, 50 or 60 features" in planned.out, planned.err
    call(home, {**scene.TRAIN, **FEW, **keys, "output": "sized"})
    cohort = open_cohort(home / "cohort")
    result = cohort.result("models/sized")
    sizes = result.to_pandas("sizes")
    assert (
        sizes["size"].tolist() == [25, 50, 60] * 3 and sizes["fold"].fillna(0).tolist() == [0] * 3 + [1] * 3 + [2] * 3
    )
    assert sizes.groupby("fold", dropna=False)["chosen"].sum().tolist() == [1, 1, 1]
    told = result.meta["card"]["panel_sizes"]
    assert [one["size"] for one in told["tried"]] == [25, 50, 60] and sum(told["outer_folds"].values()) == 2
    (taken,) = (one for one in told["tried"] if one["chosen"])
    assert taken["difference"] == taken["standard_error"] == 0 and result.meta["n_panel"] <= taken["size"]
    assert bundle.load(cohort, "sized@1").facts["panel_sizes"] == told
    panels = result.to_pandas("panels").groupby("fold").size()
    limits = sizes[sizes["chosen"] & sizes["fold"].notna()].set_index("fold")["size"]
    assert (panels <= limits.reindex(panels.index)).all()
    page = sjd("report", home / "cohort", "models/sized", home / "sized.html")
    text = (home / "sized.html").read_text(encoding="utf-8")
    assert page.code == 0 and f"at most {taken['size']}, chosen by the inner folds" in text, page.err
    assert "Sizes of panel that were tried" in text and "nan" not in text.split("<body")[1].split("data:image")[0]


def test_a_batch_that_a_fold_holds_out_waits(sjd: Sjd, home: Path) -> None:
    """A chain with batches can't place one whose persons are all held out; it is said, and the others are judged."""
    sheet = scene.sheet(scene.sample_ids())
    alone = sheet.loc[["S0004", "S0005"]].assign(batch="b9")
    cohort = open_cohort(home / "cohort")
    cohort.add_samples(pd.DataFrame({"small": sheet["batch"].where(~sheet.index.isin(alone.index), "b9")}))
    scene.run(
        home / "cohort", Here(), job="normalise", assay="rna", output="small",
        steps=["tmm", "log_cpm", {"method": "combat", "batch": "small", "mean_only": True}],
    )  # fmt: skip
    seed = next(one for one in range(1, 50) if _together(home, one))
    done = scene.train(home / "cohort", Here(), layer="layers/small", output="waiting", seed=seed, **FEW)
    predictions = done.cohort.result(done.results[0]).to_pandas("predictions").set_index("sample_id")
    waiting = predictions[predictions["status"] == "pending_batch"]
    assert sorted(waiting.index) == ["S0004", "S0005"]
    assert waiting["top_class"].isna().all() and waiting["confidence"].isna().all()
    assert predictions.drop(index=waiting.index)["top_class"].notna().all()
    assert any("2 held-out samples could not be judged" in one for one in done.warnings)
    assert done.cohort.result(done.results[0]).to_pandas("folds")["n_pending"].sum() == 2


def _together(home: Path, seed: int) -> bool:
    """Whether a fold of this seed holds out both persons of the small batch."""
    spec = {**scene.TRAIN, **FEW, "layer": "layers/small", "cohort": str(home / "cohort"), "seed": seed}
    job: Any = prepare(parse_spec(spec, "spec"), Path())
    where = dict(zip(job.labelled.frame.index, job.folds[0], strict=True))
    return bool(where["S0004"] == where["S0005"])


BAD: dict[str, tuple[int, dict[str, Any], list[str]]] = {
    "near miss": (2, {"label": "group"}, ["`label`", "did you mean `labels`?"]),
    "no labels": (2, {"labels": None}, ["`labels` is required"]),
    "no such model": (2, {"model": "svm"}, ["`model`", "'svm'", "random_forest"]),
    "no such calibration": (2, {"calibration": "platt"}, ["`calibration`", "platt"]),
    "no such panel": (2, {"panel": {"method": "lasso"}}, ["panel", "lasso", "elastic_net"]),
    "panel beyond the prefilter": (2, {"panel": {"size": 99, "prefilter": 50}}, ["size: 99", "50 features"]),
    "no such size": (2, {"panel": {"size": "large"}}, ["`panel.size`", "'large'", "`auto`"]),
    "size without a ranking": (2, {"panel": {"method": "none", "size": "auto"}}, ["`panel: size: auto`", "takes all"]),
    "coverage": (2, {"coverage": 1.2}, ["`coverage`", "1.2"]),
    "one fold": (2, {"folds": {"outer": 1}}, ["folds.outer", "1"]),
    "assay and layer": (2, {"assay": "rna"}, ["exactly one", "`layer`"]),
    "quantity of a layer": (2, {"quantity": "m_value"}, ["`quantity`", "layer"]),
    "core of a column": (2, {"core": False}, ["`core`", "strata/NAME"]),
    "no such layer": (2, {"layer": "layers/x"}, ["'layers/x'", "logs@1"]),
    "counts": (2, {"layer": None, "assay": "rna"}, ["counts", "`job: normalise`", "layers/NAME"]),
    "no such column": (2, {"labels": "klass"}, ["`labels: klass`", "neither strata/NAME", "group"]),
    "no such grouping": (2, {"labels": "strata/x"}, ["strata/x"]),
    "no such person": (2, {"person": "who"}, ["`person: who`", "person_id"]),
    "no such subgroup": (2, {"subgroups": ["town"]}, ["'town'", "sex"]),
    "a subgroup twice": (2, {"subgroups": ["sex", "sex"]}, ["`subgroups`", "twice"]),
    "nearly a column": (2, {"labels": "Gruop"}, ["`labels: Gruop`", "did you mean 'group'?"]),
    "nearly a person": (2, {"person": "personid"}, ["did you mean 'person_id'?"]),
    "nearly a subgroup": (2, {"subgroups": ["Sex"]}, ["did you mean 'sex'?"]),
    "nearly a column of a query": (2, {"samples": "vist == 1"}, ["'vist'", "did you mean 'visit'?"]),
    "nobody selected": (2, {"samples": "age > 300"}, ["`samples: age > 300`", "selects none"]),
    "one class": (3, {"labels": "one"}, ["column 'one'", "1 classes", "'same'"]),
    "one group": (3, {"labels": "strata/none"}, ["strata/none@1", "1 classes", "no groups"]),
    "no label at all": (3, {"labels": "empty"}, ["column 'empty'", "0 classes"]),
    "fractions": (3, {"labels": "share"}, ["`labels: share`", "fractions"]),
    "few persons": (3, {"labels": "rare"}, ["'a' has 2", "at least 4 persons", "fewer `folds`"]),
    "persons of several classes": (3, {"labels": "later"}, ["'second' has 0 (of 1", "another class more often"]),
    "a bar in a class": (3, {"labels": "barred"}, ["'a|b'", "joined by"]),
    "a layer of a layer": (2, {"layer": "layers/twice"}, ["layers/twice@1", "layers/logs@1", "one chain"]),
    "an outcome in the chain": (2, {"layer": "layers/outcome"}, ["`combat`", "'disease'", "without covariates"]),
    "masked values": (2, {"layer": "layers/masked"}, ["layers/masked@1", "detection p above", "without masks"]),
    "a file in the chain": (2, {"layer": "layers/file"}, ["`mask_probes`", "probes.txt", "`refit: false`"]),
    "groups of somebody else": (2, {"labels": "strata/foreign"}, ["strata/foreign@1", "`refit: false`"]),
    "groups by landmarks": (2, {"labels": "strata/landmarks"}, ["landmarks", "`refit: false`"]),
    "groups of several assays": (2, {"labels": "strata/assays"}, ["several assays", "`refit: false`"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_specs_are_refused_by_name(case: str, sjd: Sjd, home: Path) -> None:
    code, keys, words = BAD[case]
    before = open_cohort(home / "cohort").runs()
    check_refused(run(sjd, home, **{"folds": {"outer": 2, "inner": 2}, **keys}), code, words)
    assert open_cohort(home / "cohort").runs() == before, "no run was begun"
