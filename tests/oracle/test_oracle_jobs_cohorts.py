"""Whole cohorts through the command line: methylation in rheumatoid arthritis, repeated visits in lupus."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from jobs_helpers import write_npz

from sjd_dask.cli import main
from sjd_dask.kernels.gls import whiten
from sjd_dask.store.cohort import open_cohort

Sjd = Callable[..., tuple[int, str, str]]

# limma's duplicateCorrelation of the thousand probes below.
LUPUS_CORRELATION = 0.11582282992500624


@pytest.fixture
def sjd(capsys: pytest.CaptureFixture[str]) -> Sjd:
    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


def write_spec(path: Path, **keys: Any) -> Path:
    keys = {"job": "associate", "cohort": "cohort", "output": path.stem, **keys}
    path.write_text(yaml.safe_dump(keys), encoding="utf-8")
    return path


def page_text(path: Path) -> str:
    """The words of a page, without its tables of data and scripts."""
    page = re.sub(r"<(script|style).*?</\1>", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))


def test_rheumatoid_arthritis(reference_data: Path, cluster: Any, sjd: Sjd, tmp_path: Path) -> None:
    """λ with age and sex, and with cell fractions as well; the values are an independent fit's of this file."""
    data = reference_data / "data/ra_meth_GSE42861_500cpg"
    cohort, address = tmp_path / "cohort", cluster.client.scheduler_info()["address"]
    assert sjd("init", cohort)[0] == 0
    done = sjd(
        "ingest", cohort, "meth", data / "beta.csv.gz", "--quantity", "beta", "--samples", data / "phenotype.csv", "-q"
    )
    assert done[0] == 0, done
    cells = ["`cell_CD4.`", "`cell_CD8.`", "cell_mono", "cell_Bcells", "cell_NK", "cell_Nue"]
    plain = "~ disease + age + sexF"
    keys = {"assay": "meth", "quantity": "m_value", "contrasts": ["disease"]}
    first = write_spec(tmp_path / "plain.yaml", design=plain, **keys)
    second = write_spec(tmp_path / "cells.yaml", design=" + ".join([plain, *cells]), **keys)
    assert sjd("run", first, "--cluster", address, "-q")[:2] == (0, "associations/plain@1\n")
    done = sjd("run", second, "--cluster", address, "-q", "--report", tmp_path / "page.html")
    assert done[:2] == (0, "associations/cells@1\n"), done
    opened = open_cohort(cohort)
    assert opened.result("associations/plain").meta["lambdas"]["disease"] == pytest.approx(4.106, abs=0.01)
    assert opened.result("associations/cells").meta["lambdas"]["disease"] == pytest.approx(0.769, abs=0.01)
    page = page_text(tmp_path / "page.html")
    beside = page[page.index("Beside other runs") :]
    assert re.search(r"associations/plain@1.{0,120} 4\.11", beside)
    assert re.search(r"associations/cells@1.{0,240} 0\.769", beside)
    assert "500 features: not a genomic estimate" in page and "genomic inflation" not in page

    # The fractions sum to one: all of them at once is refused, and the message names the last.
    whole = write_spec(tmp_path / "whole.yaml", design=" + ".join([plain, *cells, "cell_Eos"]), **keys)
    code, _, said = sjd("run", whole, "--cluster", address)
    assert code == 2
    assert "cell_Eos = +1 Intercept -1 cell_CD4." in said


def test_lupus_with_repeated_visits(reference_data: Path, cluster: Any, sjd: Sjd, tmp_path: Path) -> None:
    """A thousand probes of 673 arrays of 145 people; the fit by NumPy's least squares after whitening."""
    data = reference_data / "data/sle_wb_GSE65391_training"
    with np.load(data / "expression_log2x1000_int16.npz") as archive:
        pick = np.sort(np.random.default_rng(1).choice(archive["features"].size, 1000, replace=False))
        codes, samples, features = archive["values"][pick], archive["samples"], archive["features"][pick]
    cohort, address = tmp_path / "cohort", cluster.client.scheduler_info()["address"]
    matrix = write_npz(tmp_path / "values.npz", codes, samples, features)
    assert sjd("init", cohort)[0] == 0
    done = sjd(
        "ingest", cohort, "expr", matrix, "--quantity", "expression", "--scale", 1000, "--missing", -32768,
        "--samples", data / "phenotype.csv", "-q",
    )  # fmt: skip
    assert done[0] == 0, done
    spec = write_spec(
        tmp_path / "sle.yaml", assay="expr", design="~ disease_state + batch + sex + age",
        contrasts=["disease_state[T.SLE]"], block="subject", moderation="none",
    )  # fmt: skip
    done = sjd("run", spec, "--cluster", address, "-q")
    assert done[:2] == (0, "associations/sle@1\n"), done
    result = open_cohort(cohort).result("associations/sle")
    assert result.meta["samples"]["used"] == 673
    assert result.meta["block"]["n_blocks"] == 145
    rho = result.meta["block"]["correlation"]
    assert rho == pytest.approx(LUPUS_CORRELATION, abs=1e-9)

    sheet = pd.read_csv(data / "phenotype.csv", index_col=0, low_memory=False).loc[samples]
    design = np.column_stack(
        [
            np.ones(len(sheet)),
            sheet["disease_state"] == "SLE",
            sheet["batch"],
            sheet["sex"] == "male",
            sheet["age"].astype(float),
        ]
    )
    people = pd.factorize(sheet["subject"])[0]
    x, y = whiten(design, people, rho), whiten(codes.T / 1000.0, people, rho)
    b, rest, *_ = np.linalg.lstsq(x, y, rcond=None)
    error = np.sqrt(rest / (len(x) - x.shape[1]) * np.linalg.inv(x.T @ x)[1, 1])
    table = result.to_pandas()
    assert np.max(np.abs(table["effect"] - b[1]) / np.fmax(np.abs(b[1]), error)) < 1e-10
    np.testing.assert_allclose(table["statistic"], b[1] / error, rtol=1e-9, atol=1e-9)
