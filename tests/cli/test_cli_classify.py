"""`sjd run classify.yaml`: what it prints and publishes, and what it refuses, by name and with its exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import classify_scene as scene
import numpy as np
import pandas as pd
import pytest
from score_scene import MODEL, make_bundle, publish

from sjd_dask import names
from sjd_dask.jobs import bundle as bundles
from sjd_dask.jobs.schemas import schema_text
from sjd_dask.store.cohort import open_cohort

from .conftest import Called, Sjd, call_spec, check_refused

KEYS: dict[str, Any] = {
    "job": "classify", "model": f"{MODEL}@production", "assay": "rna", "eligible": "disease == 'patient'",
    "output": "calls",
}  # fmt: skip
CONTRACT = (
    "sample_id", "person_id", "visit", "date", "call", "status", "top_class", "confidence", "p_inflamed", "p_mixed",
    "p_quiet", "conformal_set", "model", "run",
)  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort with a model in production, and files beside it; tests publish no second model."""
    folder = tmp_path_factory.mktemp("classify")
    cohort = scene.make(folder / "cohort", scene.sample_ids(range(60)))
    whole = make_bundle(scene.WITH_BATCH)
    publish(cohort, whole)
    publish(cohort, make_bundle([{"method": "log", "offset": 1}]), "by_feature")
    publish(cohort, whole, "retired")
    opened = open_cohort(cohort)
    opened.demote("retired", why="a test", who="tests")
    ids = scene.sample_ids(range(60, 70))
    scene.write_matrix(folder / "new.npz", ids)
    table = pd.DataFrame(scene.counts(ids).astype(int).T, index=scene.FEATURES, columns=ids)
    table.to_csv(folder / "new.tsv", sep="\t", index_label="feature_id")
    table.T.to_csv(folder / "turned.tsv", sep="\t", index_label="sample_id")
    table.drop(index=scene.FEATURES[:3]).to_csv(folder / "lacking.tsv", sep="\t", index_label="feature_id")
    table.iloc[: scene.P // 2].to_csv(folder / "half.tsv", sep="\t", index_label="feature_id")
    table.rename(index=lambda one: f"ENSG{one}").to_csv(folder / "other.tsv", sep="\t", index_label="feature_id")
    (table / 7).to_csv(folder / "fractions.tsv", sep="\t", index_label="feature_id")
    table.rename(columns={ids[1]: ids[0]}).to_csv(folder / "twice.tsv", sep="\t", index_label="feature_id")
    scene.sheet(ids).to_csv(folder / "new.csv")
    scene.sheet(scene.sample_ids(range(80, 90))).to_csv(folder / "strangers.csv")
    rng = np.random.default_rng(1)
    betas = pd.DataFrame(rng.random((scene.P, 4)), index=scene.FEATURES, columns=ids[:4])
    betas.to_csv(folder / "betas.tsv", sep="\t", index_label="feature_id")
    return folder


def check_published(done: Called, home: Path, output: str = "calls") -> pd.DataFrame:
    assert done.code == 0, done.err
    reference = done.out.strip().splitlines()[-1]
    assert reference.startswith(f"classes/{output}@")
    return open_cohort(home / "cohort").result(reference).to_pandas()


def test_calls_are_published_exported_and_reported(home: Path, sjd: Sjd) -> None:
    table = check_published(call_spec(sjd, home, "run", KEYS, "-q"), home)
    assert tuple(table.columns) == CONTRACT
    assert list(table["sample_id"]) == sorted(scene.sample_ids(range(60)))
    assert set(table["model"]) == {f"{MODEL}@1"} and table["run"].nunique() == 1
    called = table[table["status"] == "called"]
    assert (called["call"] == called["top_class"]).all() and (called["conformal_set"] == called["call"]).all()
    truth = scene.sheet(list(called["sample_id"]))["group"].to_numpy()
    assert len(called) > 40 and (called["call"].to_numpy() == truth).mean() > 0.9
    numbers = table[[f"p_{one}" for one in ("inflamed", "mixed", "quiet")]]
    scored = table["status"] != "not_eligible"
    np.testing.assert_allclose(numbers[scored].sum(axis=1), 1, atol=1e-12)
    assert numbers[~scored].isna().all().all() and table.loc[~scored, "top_class"].isna().all()
    assert call_spec(sjd, home, "run", KEYS, "-q").out == "classes/calls@1\n"  # nothing new: a no-op

    done = sjd("export", home / "cohort", "classes/calls", home / "calls.tsv")
    assert done.code == 0, done.err
    again = pd.read_csv(home / "calls.tsv", sep="\t", dtype={"visit": str})
    assert again["confidence"].equals(table["confidence"])
    assert sjd("export", home / "cohort", "classes/calls", home / "s.csv", "--table", "scores").code == 0
    scores = pd.read_csv(home / "s.csv")
    assert list(scores.columns) == ["sample_id", "ood_score", "n_missing", "reason", "batch"]
    assert len(scores) == int(scored.sum())
    assert sjd("report", home / "cohort", "classes/calls", home / "calls.html").code == 0
    assert "Classification report" in (home / "calls.html").read_text()
    facts = json.loads(sjd("info", home / "cohort", "--json").out)
    assert "calls" in json.dumps(facts)


def test_the_table_is_as_its_schema_says(home: Path, sjd: Sjd) -> None:
    check_published(call_spec(sjd, home, "run", {**KEYS, "output": "typed", "eligible": "all"}, "-q"), home, "typed")
    table = open_cohort(home / "cohort").result("classes/typed").table()
    schema = json.loads(schema_text("classes"))
    fixed = [one for one in table.column_names if not one.startswith(names.PROBABILITY)]
    assert fixed == list(schema["properties"]) and set(schema["required"]) <= set(fixed)
    assert {str(table.schema.field(one).type) for one in fixed} == {"string", "double"}
    for one in fixed:
        assert str(table.schema.field(one).type) == schema["properties"][one]["dtype"], one


def test_a_plan_says_what_is_read(home: Path, sjd: Sjd) -> None:
    done = call_spec(sjd, home, "plan", KEYS)
    assert done.code == 0, done.err
    assert "22 features" in done.out and "150 of 150" in done.out


@pytest.mark.parametrize(
    "keys",
    [{"file": "new.npz"}, {"file": "new.tsv", "sheet": "new.csv"}, {"file": "turned.tsv", "rows": "samples"}],
    ids=str,
)
def test_a_file_is_classified_and_not_taken_in(home: Path, sjd: Sjd, keys: dict[str, str]) -> None:
    before = open_cohort(home / "cohort").assay("rna").n_samples
    spec = {**KEYS, "assay": None, "quantity": "counts", "model": "by_feature", "eligible": "all", **keys}
    table = check_published(call_spec(sjd, home, "run", {**spec, "output": "filed"}, "-q"), home, "filed")
    assert set(table["sample_id"]) == set(scene.sample_ids(range(60, 70)))
    known = table["person_id"].notna()
    assert known.all() if "sheet" in keys else not known.any()
    assert open_cohort(home / "cohort").assay("rna").n_samples == before
    if keys != {"file": "new.npz"}:
        return
    # Of a model that needs a batch the sheet must have one.
    done = call_spec(sjd, home, "run", {**spec, "model": MODEL, "sheet": "new.csv", "output": "batched"}, "-q")
    assert set(check_published(done, home, "batched")["status"]) <= {"called", "abstained", "out_of_distribution"}
    done = call_spec(sjd, home, "run", {**spec, "model": MODEL, "output": "waiting"}, "-q")
    assert set(check_published(done, home, "waiting")["status"]) == {"pending_batch"}


def test_absent_features_of_the_panel_are_missing_values(home: Path, sjd: Sjd) -> None:
    """Three of the platform's features are gone; the chain treats each by itself."""
    spec = {**KEYS, "assay": None, "file": "lacking.tsv", "quantity": "counts", "eligible": "all", "output": "lacking"}
    done = call_spec(sjd, home, "run", {**spec, "model": "by_feature"}, "-q")
    table = check_published(done, home, "lacking")
    features = [str(one) for one in scene.FEATURES[:3]]
    used = bundles.load(open_cohort(home / "cohort"), "by_feature").classifier.features
    gone = len(set(features) & set(map(str, used)))
    scores = open_cohort(home / "cohort").result("classes/lacking").to_pandas("scores")
    assert gone and set(scores["n_missing"]) == {gone}
    assert set(table["status"]) == {"missing_data"} or table["confidence"].notna().all()
    # A chain that looks at whole samples takes none of it.
    done = call_spec(sjd, home, "run", {**spec, "sheet": "new.csv"}, "-q")
    check_refused(done, 3, ["whole samples", "lacks 3", "'g000'", "tmm"])


BAD: list[tuple[dict[str, Any], int, list[str]]] = [
    ({"eligible": None}, 2, ["eligible", "required", "all"]),
    ({"eligible": " "}, 2, ["eligible", "empty"]),
    ({"eligible": "diseas == 'patient'"}, 2, ["eligible", "diseas", "disease"]),
    ({"eligible": "disease == 'nobody'"}, 2, ["eligible", "none of the 80", "rna"]),
    ({"eligible": "__import__('os')"}, 2, ["eligible", "not allowed"]),
    ({"model": None}, 2, ["model", "required"]),
    ({"model": "nobody"}, 2, ["nobody", "sjd models list"]),
    ({"model": f"{MODEL}@7"}, 2, [f"{MODEL}@7"]),
    ({"model": "retired"}, 2, ["retired", "promote"]),
    ({"model": "../groups"}, 2, ["../groups"]),
    ({"assay": None}, 2, ["assay", "file"]),
    ({"assay": "dna"}, 2, ["dna", "rna"]),
    ({"file": "new.tsv"}, 2, ["exactly one", "assay", "file"]),
    ({"quantity": "counts"}, 2, ["quantity", "file"]),
    ({"assay": None, "file": "new.tsv"}, 2, ["quantity", "counts"]),
    ({"assay": None, "file": "new.tsv", "quantity": "cunts"}, 2, ["quantity", "cunts", "counts"]),
    ({"modle": "x"}, 2, ["modle", "model"]),
    ({"assay": None, "file": "none.tsv", "quantity": "counts"}, 3, ["none.tsv"]),
    ({"assay": None, "file": "new.tsv", "quantity": "counts", "sheet": "none.csv"}, 3, ["none.csv"]),
    (
        {"assay": None, "file": "new.tsv", "quantity": "counts", "sheet": "strangers.csv"},
        3,
        ["none of the 14", "S0060"],
    ),
    ({"assay": None, "file": "turned.tsv", "quantity": "counts"}, 3, ["other way round", "--rows"]),
    ({"assay": None, "file": "half.tsv", "quantity": "counts"}, 3, ["another platform", "50.0%", "150", "75"]),
    ({"assay": None, "file": "other.tsv", "quantity": "counts"}, 3, ["another platform", "ENSGg000", "g000"]),
    ({"assay": None, "file": "betas.tsv", "quantity": "beta"}, 3, ["another platform", "counts", "beta"]),
    ({"assay": None, "file": "fractions.tsv", "quantity": "counts"}, 3, ["fractions.tsv", "whole number"]),
    ({"assay": None, "file": "twice.tsv", "quantity": "counts"}, 3, ["twice.tsv", "S0060", "repeated"]),
]


@pytest.mark.parametrize(("change", "code", "words"), BAD, ids=[json.dumps(one[0]) for one in BAD])
def test_bad_input_is_refused_by_name(
    home: Path, sjd: Sjd, change: dict[str, Any], code: int, words: list[str]
) -> None:
    before = [one.ref for one in open_cohort(home / "cohort").results()]
    check_refused(call_spec(sjd, home, "run", {**KEYS, "output": "bad", **change}, "-q"), code, words)
    assert [one.ref for one in open_cohort(home / "cohort").results()] == before


def test_a_damaged_model_is_refused(home: Path, tmp_path: Path, sjd: Sjd) -> None:
    """One byte of the classifier's arrays is another one."""
    shutil.copytree(home / "cohort", tmp_path / "cohort")
    opened = open_cohort(tmp_path / "cohort")
    bundle = opened.find_model(MODEL).record.files["bundle"]
    file = tmp_path / "cohort" / bundle.path / "classifier" / "arrays.npz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    check_refused(call_spec(sjd, tmp_path, "run", {**KEYS, "output": "bad"}, "-q"), 3, ["arrays.npz"])


def test_one_sample_that_is_refused_leaves_the_others_as_they_are(tmp_path: Path, home: Path, sjd: Sjd) -> None:
    """A sample without counts, one of an unknown batch, and one without a batch."""
    ids = scene.sample_ids(range(60, 70))
    values = scene.counts(ids)
    values[3] = 0
    scene.write_matrix(tmp_path / "some.npz", ids, values)
    sheet = scene.sheet(ids)
    sheet.loc[ids[5], "batch"] = "b9"
    sheet.loc[ids[7], "batch"] = None
    sheet.to_csv(tmp_path / "some.csv")
    spec = {
        **KEYS, "assay": None, "file": str(tmp_path / "some.npz"), "quantity": "counts", "eligible": "all",
        "sheet": str(tmp_path / "some.csv"), "output": "some",
    }  # fmt: skip
    table = check_published(call_spec(sjd, home, "run", spec), home, "some").set_index("sample_id")
    whole = check_published(
        call_spec(sjd, home, "run", {**spec, "file": "new.npz", "sheet": "new.csv", "output": "all"}, "-q"), home, "all"
    ).set_index("sample_id")
    away = [ids[3], ids[5], ids[7]]
    assert list(table.loc[away, "status"]) == ["missing_data", "pending_batch", "pending_batch"]
    assert table.loc[away, "confidence"].isna().all()
    rest = [one for one in ids if one not in away]
    pd.testing.assert_frame_equal(table.loc[rest].drop(columns="run"), whole.loc[rest].drop(columns="run"))
    scores = open_cohort(home / "cohort").result("classes/some").to_pandas("scores").set_index("sample_id")
    assert "no counts" in scores.loc[ids[3], "reason"] and scores.loc[ids[7], "reason"] == "without batch"
    warnings = open_cohort(home / "cohort").result("classes/some").meta["warnings"]
    assert len(warnings) == 3 and not any(one in text for text in warnings for one in ids)
