"""The way a user goes, command by command: from a table to a published, exported and reported association."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from sjd_dask import names
from sjd_dask.store.cohort import open_cohort

from .conftest import Sjd


def test_from_table_to_report(cohort: Path, spec: Path, sjd: Sjd) -> None:
    planned = sjd("plan", spec, "--json")
    assert planned.code == 0
    assert json.loads(planned.out)["n_tasks"] == 1

    ran = sjd("run", spec, "--workers", 1)
    assert (ran.code, ran.out) == (0, "associations/ewas@1\n"), ran.err
    assert "partitions" in ran.err

    again = sjd("run", spec, "--workers", 1, "--json")
    assert json.loads(again.out)["state"] == "unchanged"
    assert json.loads(again.out)["results"] == ["associations/ewas@1"]

    folder = cohort.parent
    for suffix in ("tsv", "csv", "parquet", "zarr"):
        assert sjd("export", cohort, "associations/ewas", folder / f"out.{suffix}").code == 0
    table = pd.read_csv(folder / "out.tsv", sep="\t")
    assert tuple(table.columns) == names.ASSOCIATION_COLUMNS
    stored = open_cohort(cohort).result("associations/ewas").to_pandas()
    # 17 significant digits come back as the same bits.
    for column in ("effect", "p_value", "standard_error"):
        np.testing.assert_array_equal(table[column], stored[column])
    assert set(table.nsmallest(6, "p_value")["feature_id"]) == {f"cg{i:05d}" for i in range(6)}
    assert xr.open_zarr(folder / "out.zarr", consolidated=False)["p_value"].size == 60

    assert sjd("report", cohort, "associations/ewas", folder / "out.html").code == 0
    page = (folder / "out.html").read_text(encoding="utf-8")
    assert "associations/ewas@1" in page
    assert 'src="http' not in page

    info = json.loads(sjd("info", cohort, "--json").out)
    assert info["assays"]["meth"]["n_samples"] == 24
    assert info["results"][0]["ref"] == "associations/ewas@1"
    changes = json.loads(sjd("log", cohort, "--json").out)["changes"]
    assert [change["kind"] for change in changes] == ["ingest", "result"]
    runs = json.loads(sjd("runs", cohort, "--json").out)["runs"]
    assert [run["state"] for run in runs] == ["published"]
    assert sjd("status", cohort, runs[0]["run"]).code == 0
    assert sjd("wait", cohort, runs[0]["run"]).out.strip() == "associations/ewas@1"
    for command in ("verify", "compact", "gc", "info", "log", "runs"):
        done = sjd(command, cohort)
        assert done.code == 0, done.err
        assert done.out.strip()


def test_the_same_content_again_is_a_no_op(cohort: Path, tables: Path, sjd: Sjd) -> None:
    again = sjd("ingest", cohort, "meth", tables / "betas.tsv", "--quantity", "beta", "--json", "-q")
    assert again.code == 0
    assert json.loads(again.out)["status"] == "unchanged"


def test_corrected_sample_replaces_its_row(cohort: Path, tables: Path, sjd: Sjd) -> None:
    frame = pd.read_csv(tables / "betas.tsv", sep="\t", index_col=0)
    frame[["0003"]].clip(0.01, 0.5).to_csv(tables / "again.tsv", sep="\t")
    refused = sjd("ingest", cohort, "meth", tables / "again.tsv", "--quantity", "beta", "-q")
    assert refused.code == 3
    assert "0003" in refused.err and "--replace" in refused.err
    assert sjd("ingest", cohort, "meth", tables / "again.tsv", "--quantity", "beta", "--replace", "-q").code == 0
    assay = open_cohort(cohort).assay("meth")
    assert assay.n_samples == 24
    raw, encoding = assay.reader(["0003"]).columns(0, assay.n_features)
    np.testing.assert_allclose(encoding.decode(raw)[0], frame["0003"].clip(0.01, 0.5), atol=8e-6)
    # The earlier view still shows what it showed.
    before, _ = open_cohort(cohort).assay("meth", snapshot=1).reader(["0003"]).columns(0, assay.n_features)
    np.testing.assert_allclose(encoding.decode(before)[0], frame["0003"], atol=8e-6)


def test_samples_command_adds_columns(cohort: Path, tables: Path, sjd: Sjd) -> None:
    sheet = tables / "more.csv"
    sheet.write_text("sample_id,batch,centre\n0001,01,a\n0002,02,b\nnobody,03,c\n", encoding="utf-8")
    done = sjd("samples", cohort, sheet, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["in_no_assay"] == ["nobody"]
    samples = open_cohort(cohort).samples()
    assert samples.loc["0001", "batch"] == "01"
    assert samples.loc["0001", "disease"] == "healthy"


def test_a_column_that_becomes_text_is_named(cohort: Path, tables: Path, sjd: Sjd) -> None:
    sheet = tables / "more.csv"
    sheet.write_text("sample_id,age,disease\n0001,old,patient\n", encoding="utf-8")
    done = sjd("samples", cohort, sheet)
    assert done.code == 0 and done.out == "1 samples: published in snapshot 2\n"
    assert "column 'age' held numbers and gets text" in done.err and "'old' of sample '0001'" in done.err
    assert "disease" not in done.err
    frame = pd.read_csv(tables / "betas.tsv", sep="\t", index_col=0)[["0003"]].rename(columns={"0003": "new"})
    frame.to_csv(tables / "new.tsv", sep="\t")
    sheet.write_text("sample_id,visit,disease\nnew,1,1\n", encoding="utf-8")
    done = sjd("ingest", cohort, "meth", tables / "new.tsv", "--quantity", "beta", "--samples", sheet, "-q")
    assert done.code == 0 and "column 'disease' held text and gets numbers" in done.err and "warning" not in done.out


def test_a_layer_of_a_file_is_chosen_by_name(tables: Path, sjd: Sjd) -> None:
    values = np.array([[1.0, 2.0], [3.0, 4.5]])
    both = xr.Dataset(
        {"raw": (("samples", "features"), values), "log": (("samples", "features"), np.log2(values))},
        coords={
            "sample_id": ("samples", np.array(["a", "b"], dtype=object)),
            "feature_id": ("features", np.array(["f", "g"], dtype=object)),
        },
    )
    both.to_zarr(tables / "two.zarr", consolidated=False)
    sjd("init", tables / "two")
    call = ("ingest", tables / "two", "rna", tables / "two.zarr", "--quantity", "expression")
    refused = sjd(*call)
    assert refused.code == 3 and "(log, raw)" in refused.err and "--layer" in refused.err
    assert sjd(*call, "--layer", "log", "-q").code == 0
    found, _ = open_cohort(tables / "two").assay("rna").reader(["a", "b"]).columns(0, 2)
    np.testing.assert_array_equal(found, np.log2(values))
    text = sjd("ingest", tables / "two", "m", tables / "betas.tsv", "--quantity", "beta", "--layer", "log")
    assert text.code == 2 and "h5ad files and Zarr groups only" in text.err


def test_submit_goes_on_without_the_client(cohort: Path, spec: Path) -> None:
    # A process of its own, because the driver must survive the one that submits.
    command = [sys.executable, "-m", "sjd_dask.cli"]
    submitted = subprocess.run(
        [*command, "submit", str(spec), "--workers", "1"], capture_output=True, text=True, check=True
    )
    run = submitted.stdout.strip()
    waited = subprocess.run(
        [*command, "wait", str(cohort), run, "--timeout", "120"], capture_output=True, text=True, check=False
    )
    assert (waited.returncode, waited.stdout.strip()) == (0, "associations/ewas@1"), waited.stderr


def test_resume_of_a_run_whose_data_changed_is_refused(cohort: Path, spec: Path, tables: Path, sjd: Sjd) -> None:
    assert sjd("run", spec, "--workers", 1, "-q").code == 0
    run = json.loads(sjd("runs", cohort, "--json").out)["runs"][0]["run"]
    unchanged = sjd("resume", cohort, run, "-q")
    assert (unchanged.code, unchanged.out) == (0, "associations/ewas@1\n")
    (tables / "older.csv").write_text("sample_id,age\n0001,99\n", encoding="utf-8")
    assert sjd("samples", cohort, tables / "older.csv").code == 0
    refused = sjd("resume", cohort, run, "-q")
    assert refused.code == 3
    assert run in refused.err and "sjd run" in refused.err


def test_simulate_makes_a_cohort_that_can_be_tested(tmp_path: Path, sjd: Sjd) -> None:
    made = sjd("simulate", tmp_path / "sim", "--samples", 40, "--features", 200, "--json", "-q")
    assert made.code == 0, made.err
    other = sjd("simulate", tmp_path / "sim2", "--samples", 40, "--features", 200, "-q")
    assert other.code == 0
    first, second = (open_cohort(tmp_path / name).assay("methylation") for name in ("sim", "sim2"))
    assert list(first.rows()["row_hash"]) == list(second.rows()["row_hash"])
    assert (tmp_path / "sim" / "truth" / "methylation.parquet").exists()


@pytest.mark.parametrize("name", ["associate", "associations"])
def test_schema_prints_json(name: str, sjd: Sjd) -> None:
    assert json.loads(sjd("schema", name).out)["type"] == "object"


def test_doctor_finds_the_machine_in_order(sjd: Sjd) -> None:
    findings = json.loads(sjd("doctor", "--json").out)["findings"]
    needed = [item for item in findings if not item["what"].startswith("extra")]
    assert all(item["ok"] for item in needed), needed
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        extras = set(tomllib.load(file)["project"]["optional-dependencies"]) - {"dev"}
    assert {item["what"].removeprefix("extra ") for item in findings if item["what"].startswith("extra")} == extras
    assert all("pip install" in item["detail"] for item in findings if not item["ok"])
