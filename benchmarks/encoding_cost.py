"""What storing betas costs: tests from the original file against tests from rounded storage, on real methylation.

    python benchmarks/encoding_cost.py FOLDER

FOLDER holds `ra_meth_GSE42861_500cpg` (beta.csv.gz, phenotype.csv) and `brain_meth_GSE74193_7503cpg`
(train_beta_x30000_int16.npz). Each matrix is ingested three times, as float64, as float32 and as uint16 in steps of
1/65534, and tested as M-values and as betas. The float64 run is the reference. Prints a table.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

STORED = ("float64", "float32", "uint16")
CELLS = "`cell_CD4.` + `cell_CD8.` + cell_mono + cell_Bcells + cell_NK + cell_Nue"
# What is tested: matrix, what to call it, design, contrast, samples.
MODELS = (
    ("arthritis", "disease, age and sex", "~ disease + age + sexF", "disease", None),
    ("arthritis", "disease, age, sex and cells", f"~ disease + age + sexF + {CELLS}", "disease", None),
    ("brain", "age of adults", "~ age", "age", "age >= 20"),
)


def ingest_all(folder: Path, data: Path) -> Path:
    """A cohort that holds both matrices in each type."""
    from sjd_dask.store.cohort import create_cohort, open_cohort
    from sjd_dask.store.ingest.pipeline import ingest

    path = folder / "cohort"
    create_cohort(path)
    arthritis, brain = data / "ra_meth_GSE42861_500cpg", data / "brain_meth_GSE74193_7503cpg"
    matrix = brain / "train_beta_x30000_int16.npz"
    with np.load(matrix) as archive:
        sheet = pd.DataFrame({"age": archive["age"]}, index=pd.Index(archive["samples"].astype(str), name="sample_id"))
    cohort = open_cohort(path)
    for dtype in STORED:
        ingest(
            cohort, f"arthritis_{dtype}", arthritis / "beta.csv.gz", quantity="beta", dtype=dtype,
            samples=arthritis / "phenotype.csv",
        )  # fmt: skip
        ingest(cohort, f"brain_{dtype}", matrix, quantity="beta", dtype=dtype, scale=30000, samples=sheet)
    return path


def tested(cohort: Path, cluster: Any, name: str, **keys: Any) -> pd.DataFrame:
    """The published table of one run."""
    from sjd_dask.jobs.driver import run_spec
    from sjd_dask.jobs.spec import parse_spec

    spec = parse_spec({"job": "associate", "cohort": str(cohort), "output": name, **keys}, "encoding_cost")
    outcome = run_spec(spec, Path(), cluster=cluster, quiet=True)
    table: pd.DataFrame = outcome.cohort.result(outcome.results[0]).to_pandas()
    return table


def cost(reference: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """Differences from the reference, as text."""
    t = np.abs(found["statistic"] - reference["statistic"])
    effect = np.abs(found["effect"] - reference["effect"]) / reference["standard_error"]
    crossed = int(((found["q_value"] < 0.05) != (reference["q_value"] < 0.05)).sum())
    numbers = (t.max(), t.median(), effect.max(), effect.median())
    return [*(f"{value:.1e}" for value in numbers), f"{crossed} of {int((reference['q_value'] < 0.05).sum())}"]


def main(data: Path) -> None:
    """Ingest, test, print."""
    from sjd_dask.runtime.cluster import open_cluster

    rows = []
    with tempfile.TemporaryDirectory() as folder, open_cluster("local", workers=2) as cluster:
        cohort = ingest_all(Path(folder), data)
        for matrix, model, design, contrast, samples in MODELS:
            for quantity in ("m_value", "beta"):
                keys = {"quantity": quantity, "design": design, "contrasts": [contrast], "samples": samples}
                tables = {
                    dtype: tested(cohort, cluster, f"{matrix}_{quantity}_{dtype}", assay=f"{matrix}_{dtype}", **keys)
                    for dtype in STORED
                }
                for dtype in STORED[1:]:
                    found = tables[dtype]
                    data_text = f"{matrix}, {len(found):,} x {int(found['n_samples'].max())}"
                    rows.append([data_text, model, quantity, dtype, *cost(tables["float64"], found)])
    print("| data | model | tested as | stored as | Δt, max | median | Δeffect / SE, max | median | q across 0.05 |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
