"""A small cohort with three planted groups that no assay tells apart alone, for the tests of several assays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jobs_helpers import bring, make_cohort, write_npz

from sjd_dask.jobs.driver import Outcome, run_spec
from sjd_dask.jobs.spec import parse_spec

N = 66
IDS = [f"S{i:03d}" for i in range(N)]
SIZES = (28, 22, 16)
# Features of each assay.
WIDTHS = {"rna": 50, "protein": 36, "noise": 30}


def truth() -> np.ndarray:
    """Planted group of each sample."""
    group = np.repeat(np.arange(3), SIZES)
    np.random.default_rng(1).shuffle(group)
    return group


def planted() -> dict[str, np.ndarray]:
    """Values, samples x features: rna tells group 0 from the others, protein group 2, noise none."""
    rng = np.random.default_rng(2)
    made = {name: rng.normal(6, 1, (N, p)) + rng.normal(0, 0.2, (N, 1)) for name, p in WIDTHS.items()}
    made["rna"][:, :16] += 2.4 * (truth() == 0)[:, None]
    made["rna"][:, 16:24] += 2.4 * (truth() != 0)[:, None]
    made["protein"][:, :12] += 2.4 * (truth() == 2)[:, None]
    made["protein"][:, 12:18] += 2.4 * (truth() != 2)[:, None]
    return made


def absent() -> dict[str, np.ndarray]:
    """Which samples each assay hasn't: every sample is in one at least, some pairs are in none together."""
    missing = np.random.default_rng(3).random((N, 3)) < np.array([0.1, 0.1, 0.5])
    missing[missing[:, :2].all(axis=1), 0] = False
    return dict(zip(WIDTHS, missing.T, strict=True))


def make(
    folder: Path, missing: dict[str, np.ndarray], chunks: tuple[int, int] = (64, 16384), order: Any = None
) -> Path:
    """A cohort with the three assays, samples in this order."""
    cohort = make_cohort(folder, *chunks)
    order = np.arange(N) if order is None else np.asarray(order)
    sheet = pd.DataFrame(
        {"truth": [f"t{one}" for one in truth()], "age": np.arange(N) % 40 + 30}, index=pd.Index(IDS, name="sample_id")
    )
    for name, values in planted().items():
        rows = order[~missing[name][order]]
        features = [f"{name}{i:02d}" for i in range(WIDTHS[name])]
        matrix = write_npz(folder.parent / "part.npz", values[rows], np.array(IDS)[rows], features)
        bring(cohort, name, matrix, samples=sheet.iloc[rows])
    return cohort


KEYS: dict[str, Any] = {
    "job": "stratify",
    "assays": [{"assay": "rna", "features": {"top": 40}}, {"assay": "protein"}, {"assay": "noise"}],
    "k": [1, 4],
    "resamples": {"n": 24},
    "algorithms": ["hierarchical", "kmeans", "pam"],
    "compare": ["truth"],
    "output": "joint",
}
SNF: dict[str, Any] = {"integration": "snf", "algorithms": None, "output": "fused"}


def run(cohort: Path, cluster: Any, **keys: Any) -> Outcome:
    """Run the grouping with these keys changed; None takes one out."""
    raw = {key: value for key, value in {**KEYS, "cohort": str(cohort), **keys}.items() if value is not None}
    return run_spec(parse_spec(raw, "spec"), Path(), cluster=cluster, quiet=True)
