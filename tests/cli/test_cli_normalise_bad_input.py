"""Normalisation of what can't be normalised: exit code, the offender and the remedy by name; nothing is published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sjd_dask.errors import SpecError
from sjd_dask.normalise.chain import Chain
from sjd_dask.store.cohort import open_cohort

from .conftest import Called, Sjd
from .layer_tables import CHAIN, COMBAT, Bench, make_counts, make_sheet


@pytest.fixture
def bench(tmp_path: Path, sjd: Sjd, cluster: Any) -> Bench:
    return Bench(tmp_path, sjd, cluster.client.scheduler.address)


def check_plain(done: Called) -> None:
    """One error, and no trace of Python."""
    # The scheduler of the tests' cluster lives in this process and logs to the same place.
    lines = [line for line in done.err.splitlines() if not line.startswith("INFO distributed")]
    assert lines[0].startswith("sjd: error: ") and "Traceback" not in done.err, done.err
    assert done.out == ""


def check_refused(bench: Bench, done: Called, code: int, words: list[str]) -> None:
    """One plain sentence, and nothing new in the cohort."""
    assert done.code == code, done.err
    check_plain(done)
    for word in words:
        assert word in done.err, done.err
    cohort = open_cohort(bench.cohort)
    assert cohort.layers() == [] and cohort.results() == []


def logged(counts: pd.DataFrame) -> pd.DataFrame:
    return np.log2(counts + 0.5)


# -- what the spec says ------------------------------------------------------------------------------------------------

SPECS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "near miss": ({"steps": ["tmn"]}, ["step 1", "`tmn`", "did you mean `tmm`?", "log_cpm"]),
    "no such method": ({"steps": ["tmm", "dream"]}, ["step 2", "`dream`", "the methods are", "combat"]),
    "no method": ({"steps": [{"prior_count": 2}]}, ["step 1", "prior_count", "names no method"]),
    "not a name": ({"steps": [3]}, ["step 1: 3 names no method"]),
    "not a list": ({"steps": "tmm"}, ["`steps` is a list", "'tmm'"]),
    "unknown option": (
        {"steps": ["tmm", {"method": "log_cpm", "prior": 2}]},
        ["step 2 (`log_cpm`)", "`prior`", "did you mean `prior_count`?"],
    ),
    "option of none": ({"steps": [{"method": "voom", "x": 1}]}, ["step 1 (`voom`)", "`x`", "it has none"]),
    "type of an option": (
        {"steps": [{"method": "log_cpm", "prior_count": "two"}]},
        ["step 1 (`log_cpm`)", "`prior_count`", "number", "'two'"],
    ),
    "choice of an option": (
        {"steps": [{**COMBAT, "prior": "flat"}]},
        ["step 1 (`combat`)", "`prior`", "'parametric' or 'nonparametric'", "'flat'"],
    ),
    "option required": ({"steps": ["combat"]}, ["step 1 (`combat`)", "`batch` is required"]),
    "value of an option": ({"steps": [{"method": "log_cpm", "prior_count": -1}]}, ["`log_cpm`", "prior_count", "-1"]),
    "steps and parameters": ({"steps": ["tmm"], "parameters": "layers/x"}, ["exactly one", "`steps`", "`parameters`"]),
    "neither": ({"steps": None}, ["exactly one", "`steps`", "`parameters`"]),
    "no steps": ({"steps": []}, ["`steps` is empty", "name at least one"]),
    "fit_on with parameters": ({"steps": None, "parameters": "layers/x", "fit_on": "age > 1"}, ["`fit_on`", "extend"]),
    "extend_on with steps": ({"steps": ["tmm"], "extend_on": "age > 1"}, ["`extend_on`", "`parameters`"]),
    "assay and layer": ({"layer": "layers/y"}, ["exactly one", "`assay`", "`layer`"]),
    "unknown key": ({"fit_onn": "age > 1"}, ["`fit_onn`", "did you mean `fit_on`?"]),
    "no such assay": ({"assay": "meth"}, ["'meth'", "rna"]),
    "no such layer": ({"assay": None, "layer": "layers/none"}, ["'layers/none'", "none yet"]),
    "no such parameters": ({"steps": None, "parameters": "layers/none@1"}, ["'layers/none@1'", "none yet"]),
    "fit_on selects nothing": ({"fit_on": "visit == 9"}, ["`fit_on: visit == 9`", "none of the 24 samples"]),
    "fit_on is no query": ({"fit_on": "visit =="}, ["`fit_on: visit ==`", "can't be read"]),
    "fit_on column": ({"fit_on": "visitt == 1"}, ["`fit_on: visitt == 1`", "'visitt'", "visit"]),
    "samples selects nothing": ({"samples": "visit == 9"}, ["`samples: visit == 9`"]),
    "combat on counts": ({"steps": [COMBAT]}, ["`combat`", "counts", "log_cpm, voom or vst"]),
    "counts step on a log scale": ({"steps": ["log_cpm", "tmm"]}, ["`tmm`", "expression", "before log_cpm"]),
    "beta step on counts": ({"steps": ["bmiq"]}, ["`bmiq`", "beta", "counts"]),
    "sample column": ({"steps": ["log_cpm", {**COMBAT, "batch": "bach"}]}, ["'bach'", "batch"]),
    "covariate": ({"steps": ["log_cpm", {**COMBAT, "covariates": "~ diseas"}]}, ["'diseas'", "disease"]),
    "formula": ({"steps": ["log_cpm", {**COMBAT, "covariates": "~ (disease"}]}, ["`~ (disease`", "can't be read"]),
    "reference batch": ({"steps": ["log_cpm", {**COMBAT, "reference_batch": "b9"}]}, ["'b9'", "'b1'", "'b3'"]),
    "reference sample": ({"steps": [{"method": "tmm", "reference_sample": "nobody"}]}, ["'nobody'", "fit_on"]),
    "factor": ({"factors": ["sexx"]}, ["'sexx'", "age"]),
    "colour": ({"colour_by": "sexx"}, ["'sexx'", "age"]),
    "name": ({"output": "../x"}, ["`output`", "'../x'"]),
    "long name": ({"output": "x" * 181}, ["181 characters", "180"]),
    "taken name": ({"output": "features"}, ["'features'", "choose another"]),
    "mask of nothing": ({"steps": ["mask_probes"]}, ["`mask_probes`", "probe_list"]),
}


def test_bad_specs_are_refused_by_name(bench: Bench) -> None:
    """Before anything is claimed: no run is left behind."""
    bench.ingest(make_counts(bench.sheet), sheet=bench.sheet)
    for name, (keys, words) in SPECS.items():
        done = bench.run(**{"steps": ["tmm", "log_cpm"], **keys})
        assert done.code == 2, (name, done.err)
        check_refused(bench, done, 2, words)
    assert open_cohort(bench.cohort).runs() == []


def test_log_cpm_on_betas(bench: Bench, cohort: Path) -> None:
    """The fixture's cohort holds betas."""
    done = bench.run(assay="meth", steps=["log_cpm"])
    check_refused(bench, done, 2, ["`log_cpm` works on counts", "beta"])
    done = bench.run(assay="meth", steps=[{"method": "combat", "batch": "visit"}])
    check_refused(bench, done, 2, ["`combat`", "beta", "m_value"])


def test_confounded_batch_shows_the_table(bench: Bench) -> None:
    sheet = bench.sheet.assign(disease=np.where(bench.sheet["batch"] == "b1", "patient", "healthy"))
    bench.ingest(make_counts(sheet), sheet=sheet)
    done = bench.run(steps=["log_cpm", {**COMBAT, "covariates": "~ disease"}])
    check_refused(bench, done, 2, ["confounded", "disease[T.patient]", "Leave these covariates out"])
    rows = [line.split() for line in done.err.splitlines()]
    assert ["disease", "healthy", "patient"] in rows and ["b1", "0", "8"] in rows and ["b3", "8", "0"] in rows
    assert open_cohort(bench.cohort).runs() == []


def test_plan_that_does_not_fit(bench: Bench, tmp_path: Path) -> None:
    bench.ingest(make_counts(bench.sheet), sheet=bench.sheet)
    (tmp_path / "tiny.yaml").write_text("kind: local\nworkers: 1\nmemory: 100MB\n")
    done = bench.sjd("run", bench.write_spec(steps=CHAIN), "--cluster", tmp_path / "tiny.yaml", "-q")
    check_refused(bench, done, 4, ["MB"])


# -- what the data hold ------------------------------------------------------------------------------------------------


def test_negative_counts_do_not_come_in(bench: Bench) -> None:
    """Nor can they come from an expression assay: steps on counts refuse its scale."""
    counts = make_counts(bench.sheet).astype(float)
    counts.loc["g003", "0002"] = -4
    done = bench.ingest(counts, sheet=bench.sheet)
    check_refused(bench, done, 3, ["'g003'", "'0002'", "-4", "counts"])
    assert bench.ingest(counts, quantity="expression", sheet=bench.sheet).code == 0
    check_refused(bench, bench.run(steps=["tmm", "log_cpm"]), 2, ["`tmm`", "expression", "raw counts are needed"])
    check_refused(bench, bench.run(steps=["log"]), 3, ["`log`", "'0002'", "'g003'", "-4", "offset"])


def test_all_zero_sample(bench: Bench) -> None:
    counts = make_counts(bench.sheet)
    counts["0005"] = 0
    assert bench.ingest(counts, sheet=bench.sheet).code == 0
    counted = "library_size tmm tmmwsp rle upper_quartile filter_by_expr log_cpm voom vst"
    for steps in (*([one] for one in counted.split()), CHAIN):
        check_refused(bench, bench.run(steps=steps), 3, ["no counts at all", "'0005'", "eave them out"])


def test_missing_count(bench: Bench) -> None:
    counts = make_counts(bench.sheet).astype(float)
    counts.loc["g007", "0003"] = np.nan
    assert bench.ingest(counts, sheet=bench.sheet).code == 0
    check_refused(bench, bench.run(steps=["tmm", "log_cpm"]), 3, ["'0003'", "'g007'", "missing count"])


def test_zero_variance_feature(bench: Bench) -> None:
    """ComBat leaves it as it is and says so; what divides by a spread refuses it."""
    values = logged(make_counts(bench.sheet))
    values.loc["g004"] = 3.0
    assert bench.ingest(values, quantity="expression", sheet=bench.sheet).code == 0
    done = bench.run(steps=["standardise"])
    check_refused(bench, done, 3, ["`standardise`", "'g004'", "constant: drop"])
    done = bench.sjd("run", bench.write_spec(steps=[COMBAT]), "--cluster", bench.cluster)
    assert done.code == 0, done.err
    assert "step `combat`: 1 of 60 features are not adjusted" in done.err
    layer = open_cohort(bench.cohort).layer("x")
    raw, _ = layer.reader().columns(4, 5)
    np.testing.assert_array_equal(raw, 3.0)
    assert any("1 of 60 features" in one for one in layer.meta["warnings"])


def one_sample_batch(sheet: pd.DataFrame) -> pd.DataFrame:
    return sheet.assign(batch=np.where(sheet["sample_id"] == "0005", "solo", sheet["batch"]))


def label_missing(sheet: pd.DataFrame) -> pd.DataFrame:
    return sheet.assign(batch=sheet["batch"].where(~sheet["sample_id"].isin(["0005", "0007"])))


def one_batch(sheet: pd.DataFrame) -> pd.DataFrame:
    return sheet.assign(batch="b1")


def value_missing(sheet: pd.DataFrame) -> pd.DataFrame:
    return sheet.assign(age=sheet["age"].where(sheet["sample_id"] != "0003"))


@pytest.mark.parametrize(
    ("change", "step", "words"),
    [
        (one_sample_batch, COMBAT, ["`combat`", "'solo' (1)", "mean_only"]),
        (one_sample_batch, {"method": "remove_batch_effect", "batch": "batch"}, ["'solo' (1)", "min_samples"]),
        (one_sample_batch, {"method": "plate_centre", "plate": "batch"}, ["solo (1)", "min_samples"]),
        (label_missing, COMBAT, ["`combat`", "'batch'", "2 have no label", "'0005', '0007'", "Fill the sheet"]),
        (label_missing, {"method": "remove_batch_effect", "batch": "batch"}, ["'0005', '0007'", "Fill the sheet"]),
        (label_missing, {"method": "plate_centre", "plate": "batch"}, ["'0005', '0007'", "fill the sheet"]),
        (one_batch, COMBAT, ["only the batch 'b1'", "24 reference samples", "leave step `combat` out"]),
        (value_missing, {**COMBAT, "covariates": "~ age"}, ["age", "'0003'", "Fill the sheet"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else value["method"] if isinstance(value, dict) else "",
)
def test_batches_that_can_not_be_used(
    bench: Bench, change: Callable[[pd.DataFrame], pd.DataFrame], step: dict[str, Any], words: list[str]
) -> None:
    assert bench.ingest(logged(make_counts(bench.sheet)), quantity="expression", sheet=change(bench.sheet)).code == 0
    check_refused(bench, bench.run(steps=[step]), 3, words)


def test_label_missing_where_the_chain_is_applied(bench: Bench) -> None:
    """The reference set is in order, the samples to normalise are not."""
    sheet = label_missing(bench.sheet)
    assert bench.ingest(make_counts(bench.sheet), sheet=sheet).code == 0
    done = bench.run(steps=CHAIN, fit_on="batch.notna()")
    check_refused(bench, done, 3, ["`combat`", "'0005', '0007'", "leave these samples out"])
    assert bench.run(steps=CHAIN, fit_on="batch.notna()", samples="batch.notna()").code == 0


# -- frozen parameters -------------------------------------------------------------------------------------------------


@pytest.fixture
def fitted(bench: Bench) -> Bench:
    """A cohort with layers/x@1, fitted on the 24 samples of its assay `rna`."""
    assert bench.ingest(make_counts(bench.sheet), sheet=bench.sheet).code == 0
    done = bench.run(steps=CHAIN)
    assert (done.code, done.out) == (0, "layers/x@1\nqc/x@1\n"), done.err
    return bench


def check_only_the_first(bench: Bench, done: Called, code: int, words: list[str]) -> None:
    assert done.code == code, done.err
    check_plain(done)
    for word in words:
        assert word in done.err, done.err
    assert [one.ref for one in open_cohort(bench.cohort).results()] == ["layers/x@1", "qc/x@1"]


def test_parameters_of_another_feature_space(fitted: Bench) -> None:
    """Fewer and more features are named; another order is the same feature space."""
    counts = make_counts(fitted.sheet)
    more = pd.concat([counts, counts.iloc[:2].rename({"g000": "new1", "g001": "new2"})])
    for assay, matrix, words in (
        ("fewer", counts.iloc[:-3], ["60 features", "57", "3 missing", "'g057'", "'fewer'", "--features"]),
        ("more", more, ["60 features", "62", "2 unknown", "'new1', 'new2'"]),
        ("others", counts.rename({"g010": "q"}), ["1 missing ('g010')", "1 unknown ('q')"]),
    ):
        assert fitted.ingest(matrix, assay=assay).code == 0
        done = fitted.run(assay=assay, steps=None, parameters="layers/x@1", output="y")
        check_only_the_first(fitted, done, 3, words)
    # An ingest into the assay itself is held to its features too.
    assert fitted.ingest(counts.iloc[::-1], assay="reversed").code == 0
    done = fitted.run(assay="reversed", steps=None, parameters="layers/x@1", output="y")
    assert (done.code, done.out) == (0, "layers/y@1\nqc/y@1\n"), done.err
    layers = [open_cohort(fitted.cohort).layer(name) for name in ("x", "y")]
    wanted, found = (one.reader(layers[0].sample_ids()).columns(0, 60)[0] for one in layers)
    np.testing.assert_array_equal(wanted, found)


def test_parameters_of_another_quantity(fitted: Bench) -> None:
    assert fitted.ingest(logged(make_counts(fitted.sheet)), assay="log", quantity="expression").code == 0
    done = fitted.run(assay="log", steps=None, parameters="layers/x@1", output="y")
    check_only_the_first(fitted, done, 2, ["layers/x@1", "counts", "'log'", "expression"])


def test_tampered_and_lost_parameters(fitted: Bench) -> None:
    file = fitted.cohort / open_cohort(fitted.cohort).layer("x").record.files["parameters"].path
    content = file.read_bytes()
    flipped = bytearray(content)
    flipped[len(flipped) // 2] ^= 1
    for changed in (flipped, content[:-10]):
        file.write_bytes(changed)
        done = fitted.run(steps=None, parameters="layers/x@1", output="y")
        check_only_the_first(fitted, done, 3, [file.name, "restore it from a backup"])
    file.unlink()
    check_only_the_first(fitted, fitted.run(steps=None, parameters="layers/x@1", output="y"), 3, [file.name])


def test_batches_that_can_not_be_added(fitted: Bench) -> None:
    sheet = make_sheet(24, 9, ["b4", "b5", "b6"])
    sheet["batch"] = ["b4"] * 8 + ["b5"]
    assert fitted.ingest(make_counts(sheet), sheet=sheet).code == 0
    extend = {"steps": None, "parameters": "layers/x@1"}
    done = fitted.run(**extend, extend_on="batch in ['b3', 'b4']")
    check_only_the_first(fitted, done, 2, ["'b3'", "parameters already", "fit a new version"])
    done = fitted.run(**extend, extend_on="batch == 'b5'")
    check_only_the_first(fitted, done, 3, ["`combat`", "'b5' (1)", "wait for more samples"])
    done = fitted.run(**extend, extend_on="batch == 'b9'")
    check_only_the_first(fitted, done, 2, ["`extend_on: batch == 'b9'`"])
    assert fitted.run(steps=["tmm", "log_cpm"], output="plain", samples="batch == 'b1'").code == 0
    done = fitted.run(steps=None, parameters="layers/plain@1", extend_on="batch == 'b4'", output="plain")
    assert done.code == 2 and "no step of this chain (tmm, log_cpm)" in done.err


def test_samples_of_new_batches_alone(fitted: Bench) -> None:
    """No row at all: no new layer, and the reason."""
    sheet = make_sheet(24, 8, ["b4"])
    assert fitted.ingest(make_counts(sheet), sheet=sheet).code == 0
    done = fitted.run(steps=None, parameters="layers/x@1", samples="batch == 'b4'", output="y")
    check_only_the_first(fitted, done, 3, ["none of the 8 samples", "pending_batch: 8"])


def test_a_chain_with_an_outcome_is_refused_in_a_bundle(fitted: Bench) -> None:
    done = fitted.run(steps=["tmm", "log_cpm", {**COMBAT, "covariates": "~ disease + age"}], output="kept")
    assert done.code == 0, done.err
    cohort = open_cohort(fitted.cohort)

    def chain(name: str) -> Chain:
        stored = cohort.layer(name).parameters()
        return Chain.from_arrays(stored.arrays, stored.attrs)

    chain("x").require_bundle()
    with pytest.raises(SpecError, match=r"can't be part of a model: step `combat` needs 'disease', 'age'"):
        chain("kept").require_bundle()
    assert cohort.layer("x").meta["bundle_problems"] == []
    (problem,) = cohort.layer("kept").meta["bundle_problems"]
    assert "'disease', 'age'" in problem
