"""Explanations from the command line: run, page, export; and every bad input named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import explain_scene as scene
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from jobs_helpers import bring, write_npz

from sjd_dask.store.cohort import open_cohort

from .conftest import Called, Sjd, call_spec, check_refused


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohort with counts and another grouping beside it."""
    folder = tmp_path_factory.mktemp("explain_cli")
    cohort = scene.make(folder / "cohort")
    counts = np.random.default_rng(0).poisson(20, (scene.N, 5)).astype(float)
    bring(cohort, "counts", write_npz(folder / "m.npz", counts, scene.IDS, scene.FEATURES[:5]), "counts")
    opened = open_cohort(cohort)
    far = pa.table({"sample_id": ["X1", "X2"], "stratum": ["C1", "C2"]})
    opened.publish_result("strata", "elsewhere", {"table": far}, {"assay": "rna"})
    alone = pa.table({"sample_id": scene.IDS[:9], "stratum": ["C1"] * 9})
    opened.publish_result("strata", "alone", {"table": alone}, {"assay": "rna"})
    (folder / "mine.gmt").write_text(scene.GMT)
    (folder / "bad.gmt").write_text("a name alone\n")
    return folder


def run(sjd: Sjd, home: Path, *options: object, command: str = "run", **keys: Any) -> Called:
    return call_spec(sjd, home, command, {**scene.KEYS, **keys}, *options)


def test_explained_from_the_command_line(sjd: Sjd, home: Path, cluster: Any) -> None:
    address = cluster.client.scheduler.address
    planned = run(sjd, home, command="plan")
    assert planned.code == 0 and "70 features, 6 comparisons" in planned.out, planned.err
    done = run(sjd, home, "--cluster", address, "--report", home / "page.html", "-q")
    assert (done.code, done.out) == (0, "explanations/groups@1\n"), done.err
    page = (home / "page.html").read_text(encoding="utf-8")
    for words in ("What else explains the groups", "interferon type I", "neutrophils", "GENE2", "descriptive"):
        assert words in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert sjd("export", home / "cohort", "explanations/groups", home / "all.tsv").code == 0
    table = pd.read_csv(home / "all.tsv", sep="\t")
    schema = json.loads(sjd("schema", "explanations").out)
    assert list(table.columns) == list(schema["properties"])
    done = sjd("export", home / "cohort", "explanations/groups", home / "shares.tsv", "--table", "shares")
    assert done.code == 0 and "composition" in (home / "shares.tsv").read_text()


BAD: dict[str, tuple[int, dict[str, Any], list[str]]] = {
    "near miss": (2, {"stratum": "strata/groups"}, ["`stratum`", "did you mean `strata`?"]),
    "no grouping": (2, {"strata": "strata/none"}, ["strata/none", "strata/groups@1"]),
    "healthy are nobody": (2, {"healthy": "age > 200"}, ["`healthy: age > 200`", "none of the 96"]),
    "healthy by an unknown column": (2, {"healthy": "state == 1"}, ["'state'", "does not exist"]),
    "column": (2, {"clinical": ["sledia"]}, ["`clinical`", "'sledia'", "sledai"]),
    "person": (2, {"person": "who"}, ["`person`", "'who'"]),
    "covariates": (2, {"covariates": "~ ages"}, ["`ages`", "did you mean `age`?"]),
    "a covariate that is the group": (2, {"covariates": "~ disease"}, ["rank", "disease"]),
    "visit without person": (2, {"person": None}, ["`visit`", "`person`"]),
    "two ways of assays": (2, {"assay": "rna", "assays": [{"assay": "rna"}]}, ["`assays` and `assay`"]),
    "an assay twice": (2, {"assays": [{"assay": "rna"}, {"assay": "rna"}]}, ["rna twice"]),
    "no such assay": (2, {"assay": "rnaa"}, ["'rnaa'", "rna"]),
    "counts": (2, {"assay": "counts"}, ["counts", "`job: normalise`"]),
    "quantity": (2, {"assay": "rna", "quantity": "m_value"}, ["m_value", "expression"]),
    "composition": (2, {"composition": "cells"}, ["`composition`", "fractions/NAME"]),
    "no fractions": (2, {"composition": "fractions/none"}, ["fractions/none"]),
    "no file of modules": (2, {"modules": "none.gmt"}, ["none.gmt", "can't be read"]),
    "no GMT": (3, {"modules": "bad.gmt"}, ["bad.gmt, line 1", "name, a description and at least one member"]),
    "permutations": (2, {"permutations": 3}, ["`permutations`", "19"]),
    "other samples": (3, {"compare": ["strata/elsewhere"]}, ["strata/elsewhere@1", "no sample"]),
    "samples of another cohort": (3, {"strata": "strata/elsewhere", "compare": []}, ["a sample of strata/elsewhere"]),
    "nothing to compare": (3, {"strata": "strata/alone", "healthy": None}, ["nothing to compare", "`healthy`"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(sjd: Sjd, home: Path, cluster: Any, name: str) -> None:
    code, keys, words = BAD[name]
    before = len(open_cohort(home / "cohort").results())
    done = run(sjd, home, "--cluster", cluster.client.scheduler.address, "-q", **{**keys, "output": "bad"})
    check_refused(done, code, words)
    assert len(open_cohort(home / "cohort").results()) == before
