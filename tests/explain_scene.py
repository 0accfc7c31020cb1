"""A small cohort with a published grouping, for the tests of `job: explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from jobs_helpers import bring, make_cohort, write_npz

from sjd_dask.jobs.driver import Outcome, run_spec
from sjd_dask.jobs.spec import parse_spec
from sjd_dask.store.cohort import open_cohort

N, P = 96, 70
IDS = [f"S{i:03d}" for i in range(N)]
FEATURES = [f"g{i:03d}" for i in range(P)]
SITES = [f"cg{i:02d}" for i in range(40)]
SYMBOLS = ["IFI44", "IFI44L", "IFIT1", "IFIT3", "MX1", "MX1", *(f"GENE{i}" for i in range(6, P))]
# The features that made the groups.
USED = FEATURES[:10]
FEW = IDS[6:60]


def groups() -> pd.Series:
    """Three groups; each person has two samples in a row. The last twelve are healthy, two of them grouped."""
    person = np.random.default_rng(1).integers(0, 3, N // 2)
    made = np.array([f"C{one + 1}" for one in np.repeat(person, 2)], dtype=object)
    made[1:40:7] = "C1"
    return pd.Series(made[: N - 10], index=IDS[: N - 10])


def sheet() -> pd.DataFrame:
    """Sample columns: cells that tell C1, noise, and missing values here and there."""
    rng = np.random.default_rng(3)
    group = groups().reindex(IDS)
    frame = pd.DataFrame(
        {
            "person_id": [f"P{i // 2:02d}" for i in range(N)],
            "visit": [1 + i % 2 for i in range(N)],
            "disease": ["patient"] * (N - 12) + ["healthy"] * 12,
            "tube": [f"T{i // 2 if i > N - 9 else 1000 + i}" for i in range(N)],
            "neutrophils": 50 + 12 * (group == "C1") + rng.normal(0, 8, N),
            "sledai": rng.integers(0, 12, N).astype(float),
            "sex": rng.choice(["f", "m"], N, p=[0.8, 0.2]),
            "batch": rng.choice(["b1", "b2"], N),
            "steroids": rng.choice(["yes", "no"], N),
            "age": rng.integers(20, 70, N),
        },
        index=pd.Index(IDS, name="sample_id"),
    )
    frame.loc["S003", "sledai"] = np.nan
    frame.loc["S005", "age"] = np.nan
    return frame


def expression() -> np.ndarray:
    """Interferon genes are high in C2, others in C1; a gap."""
    rng = np.random.default_rng(2)
    group = groups().reindex(IDS).to_numpy()
    values = rng.normal(7, 1, (N, P)) + np.repeat(rng.normal(0, 0.7, (N // 2, P)), 2, axis=0)
    values[:, :6] += 3.0 * (group == "C2")[:, None]
    values[:, 20:40] += 1.5 * (group == "C1")[:, None]
    values[4, 3] = np.nan
    return values


def make(folder: Path, chunks: tuple[int, int] = (64, 16384), order: Any = None, pieces: int = 1) -> Path:
    """A cohort with expression of all, methylation of some, and the grouping as a result."""
    cohort = make_cohort(folder, *chunks)
    order = np.arange(N) if order is None else np.asarray(order)
    table = folder.parent / "features.csv"
    pd.DataFrame({"feature_id": FEATURES, "gene_symbol": SYMBOLS}).to_csv(table, index=False)
    for rows in np.array_split(order, pieces):
        matrix = write_npz(folder.parent / "part.npz", expression()[rows], np.array(IDS)[rows], FEATURES)
        bring(cohort, "rna", matrix, samples=sheet().iloc[rows], features=table)
    betas = np.random.default_rng(4).beta(2, 3, (len(FEW), len(SITES)))
    bring(cohort, "sites", write_npz(folder.parent / "part.npz", betas, FEW, SITES), "beta")
    table = pa.table({"sample_id": list(groups().index), "stratum": groups().tolist()})
    used = pa.table({"feature_id": USED, "score": np.ones(len(USED))})
    open_cohort(cohort).publish_result("strata", "groups", {"table": table, "features": used}, {"assay": "rna"})
    return cohort


KEYS: dict[str, Any] = {
    "job": "explain", "strata": "strata/groups", "healthy": "disease == 'healthy'", "covariates": "~ age",
    "modules": "mine.gmt", "clinical": ["sledai", "sex"], "composition": ["neutrophils"], "batch": "batch",
    "sex": "sex", "drugs": ["steroids"], "compare": ["batch"], "person": "person_id", "visit": "visit",
    "specimen": "tube", "permutations": 19, "output": "groups",
}  # fmt: skip
GMT = "mine\tmarkers\tGENE20\tGENE21\tGENE22\tabsent\nsites\tby id\tcg01\tcg02\n"


def run(cohort: Path, cluster: Any, **keys: Any) -> Outcome:
    """Explain the groups with these keys changed."""
    (cohort.parent / "mine.gmt").write_text(GMT, encoding="utf-8")
    spec = parse_spec({**KEYS, "cohort": str(cohort), **keys}, "spec")
    return run_spec(spec, cohort.parent, cluster=cluster, quiet=True)
