"""A model doesn't depend on how its cohort is stored or who computes; and a fold knows nothing of whom it judges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import classify_scene as scene
import numpy as np
import pandas as pd
import pytest
from jobs_helpers import bring, make_cohort, write_npz

from sjd_dask.classify.fitting import fit_classifier
from sjd_dask.jobs import bundle
from sjd_dask.jobs.driver import prepare
from sjd_dask.jobs.spec import parse_spec
from sjd_dask.jobs.train import make_recipe
from sjd_dask.jobs.train_spec import TrainSpec
from sjd_dask.runtime.here import Here
from sjd_dask.store.bundle import read_bundle
from sjd_dask.store.cohort import Cohort, open_cohort

TABLES = ("table", "predictions", "folds", "panels", "metrics", "reliability")
GROUPS: dict[str, Any] = {
    "job": "stratify", "layer": "layers/logs", "features": {"top": 40}, "k": [1, 4], "choose_k": 3,
    "resamples": {"n": 24}, "algorithms": ["hierarchical", "kmeans"], "samples": "visit == 1", "output": "groups",
}  # fmt: skip
KEYS: dict[str, Any] = {"labels": "strata/groups", "folds": {"outer": 2, "inner": 2}, "subgroups": ["sex"]}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("train")


@pytest.fixture(scope="module")
def first(home: Path, cluster: Any) -> Cohort:
    """Labels found by grouping, everything fitted again in each fold, on two workers."""
    path = scene.make(home / "one")
    scene.normalise(path, cluster, scene.WITH_BATCH)
    scene.run(path, cluster, **GROUPS)
    scene.train(path, cluster, **KEYS)
    return open_cohort(path)


def blobs_of(cohort: Cohort, ref: str = "classes@1") -> dict[str, bytes]:
    """The files of a bundle; who trained it is told by the cohort's own key, and so differs between cohorts."""
    blobs, _ = read_bundle(cohort.files, bundle.bundle_file(cohort, ref))
    blobs.pop(bundle.RECORD)
    return blobs


def check_same(found: Cohort, wanted: Cohort) -> None:
    one, other = found.result("models/classes@1"), wanted.result("models/classes@1")
    for name in TABLES:
        pd.testing.assert_frame_equal(one.to_pandas(name), other.to_pandas(name), check_exact=True, obj=name)
    theirs = blobs_of(wanted)
    assert {name for name, blob in blobs_of(found).items() if blob != theirs.get(name)} == set()
    assert one.meta["classifier_hash"] == other.meta["classifier_hash"]


def test_what_a_training_leaves(first: Cohort) -> None:
    result = first.result("models/classes@1")
    predictions, folds = result.to_pandas("predictions"), result.to_pandas("folds")
    assert list(predictions["sample_id"]) == [f"S{i:04d}" for i in range(scene.PERSONS)]
    p = predictions[["p_C1", "p_C2", "p_C3"]].to_numpy()
    assert np.abs(p.sum(axis=1) - 1).max() < 1e-12
    assert (predictions["label"] == predictions["top_class"]).mean() > 0.8
    called = predictions["status"] == "called"
    assert (predictions.loc[called, "conformal_set"] == predictions.loc[called, "call"]).all()
    assert predictions.loc[~called, "call"].isna().all()
    assert folds["n_test"].sum() == scene.PERSONS and (folds["share_moved"] < 0.5).all()
    assert result.meta["refit"] == {"normalisation": True, "groups": True, "panel": True}
    found = bundle.load(first, "classes@1")
    assert found.chain is not None and found.chain.text == "tmm, log_cpm, combat"
    assert found.platform["sample_columns"] == ["batch"]
    assert len(found.classifier.panel) == len(result.to_pandas()) <= 12
    assert first.models()[0].is_production is False


def test_another_layout_and_without_workers(first: Cohort, home: Path) -> None:
    path = scene.make(home / "two", chunks=(9, 32), pieces=3)
    scene.normalise(path, Here(), scene.WITH_BATCH)
    scene.run(path, Here(), **GROUPS)
    scene.train(path, Here(), **KEYS)
    check_same(open_cohort(path), first)


def test_no_id_in_a_bundle(first: Cohort) -> None:
    blobs, facts = read_bundle(first.files, bundle.bundle_file(first, "classes@1"))
    ids = [*scene.sample_ids(), *(f"P{i:04d}" for i in range(scene.PERSONS))]
    layer = first.layer("logs").parameters().arrays
    assert set(map(str, layer["reference_sample"])) <= set(ids), "the layer names them, so the scan would find them"
    for name, blob in {**blobs, "facts": repr(facts).encode()}.items():
        for wide in (blob, blob.replace(b"\x00", b"")):  # text of four bytes a letter too
            assert [one for one in ids if one.encode() in wide] == [], name
    record = bundle.load(first, "classes@1").record
    assert len(record["samples"]) == len(record["persons"]) == scene.PERSONS


def test_the_chain_of_a_bundle_gives_the_values_of_the_layer(first: Cohort) -> None:
    from sjd_dask.normalise.method import Block

    found = bundle.load(first, "classes@1")
    assert found.chain is not None
    ids = scene.sample_ids()[:20]
    assay = first.assay("rna")
    block = Block(scene.counts(ids), tuple(ids), assay.feature_ids(), assay.features(), scene.sheet(ids), "counts")
    layer = first.layer("logs")
    stored = layer.to_xarray()["logs"].to_numpy()[[layer.sample_ids().index(one) for one in ids]]
    np.testing.assert_array_equal(found.chain.apply(block).values, stored)


def test_a_fold_knows_nothing_of_whom_it_judges(first: Cohort, home: Path) -> None:
    """Other values of the persons held out, another model of everybody, and in that fold not a bit is different."""
    job = prepare(parse_spec({**scene.TRAIN, **KEYS, "cohort": first.path}, "spec"), Path())
    out = set(job.labelled.frame.loc[job.folds[0] == 0, "person"])
    path, ids = make_cohort(home / "changed"), scene.sample_ids()
    values, rng = scene.counts(ids), np.random.default_rng(3)
    for i, person in enumerate(scene.sheet(ids)["person_id"]):
        if person in out:
            values[i] = rng.poisson(rng.gamma(1.0, 300.0, scene.P))
    bring(path, "rna", scene.write_matrix(home / "changed.npz", ids, values), "counts", samples=scene.sheet(ids))
    scene.normalise(path, Here(), scene.WITH_BATCH)
    grouped = first.result("strata/groups")
    tables = {name: grouped.table(name) for name in grouped.tables}
    open_cohort(path).publish_result("strata", "groups", tables, grouped.meta)
    changed = scene.train(path, Here(), **KEYS).cohort.result("models/classes@1").to_pandas("panels")
    panels = first.result("models/classes@1").to_pandas("panels")
    mine, theirs = (one[one["fold"] == 1].reset_index(drop=True) for one in (panels, changed))
    pd.testing.assert_frame_equal(mine, theirs, check_exact=True)
    assert not panels[panels["fold"] == 2].equals(changed[changed["fold"] == 2]), "the other fold does see them"


def test_the_features_left_out_before_a_fit_would_not_have_been_taken(home: Path) -> None:
    """A fit of the features that are brought in is the fit of all features, bit for bit, in any order of arrival."""
    rng = np.random.default_rng(12)
    n, p = 90, 1400
    label = np.array(["a", "b", "c"], dtype=object)[np.arange(n) % 3]
    values = rng.normal(0, rng.gamma(2, 0.5, p), (n, p))
    for k, name in enumerate("abc"):
        values[np.ix_(label == name, np.arange(40 * k, 40 * (k + 1)))] += 0.8
    values[rng.random((n, p)) < 0.002] = np.nan
    ids = [f"S{i:03d}" for i in range(n)]
    features = [f"g{i:04d}" for i in range(p)]
    sheet = pd.DataFrame({"group": label, "person_id": ids}, index=pd.Index(ids, name="sample_id"))
    path, order = make_cohort(home / "wide", 16, 300), rng.permutation(n)
    for rows in np.array_split(order, 2):
        matrix = write_npz(home / "wide.npz", values[rows], np.array(ids)[rows], features)
        bring(path, "rna", matrix, samples=sheet.iloc[rows])
    panel, folds = {"size": 15, "prefilter": 80}, {"outer": 2, "inner": 2}
    raw = {"job": "train", "assay": "rna", "labels": "group", "panel": panel, "folds": folds, "output": "classes"}
    done = scene.run(path, Here(), **raw)
    spec = parse_spec({**raw, "cohort": str(path)}, "spec")
    assert isinstance(spec, TrainSpec)
    whole = fit_classifier(values, label, ids, ids, features, make_recipe(spec))
    result = done.cohort.result(done.results[0])
    assert result.meta["classifier_hash"] == whole.classifier.hash()
