"""A small cohort with four planted groups, for the tests of `job: stratify`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jobs_helpers import bring, make_cohort, write_npz

from sjd_dask.jobs.driver import Outcome, run_spec
from sjd_dask.jobs.spec import parse_spec

N, P, PLANTED = 72, 120, 40
IDS = [f"S{i:03d}" for i in range(N)]
FEATURES = [f"g{i:03d}" for i in range(P)]
SHARES = (24, 20, 17, 11)


def truth() -> np.ndarray:
    """Planted group of each sample."""
    group = np.repeat(np.arange(4), SHARES)
    np.random.default_rng(1).shuffle(group)
    return group


def planted(effect: float = 2.5) -> np.ndarray:
    """Expression, samples x features; the first `PLANTED` features tell the groups, ten each."""
    rng = np.random.default_rng(2)
    values = rng.normal(6, 1, (N, P)) + rng.normal(0, 0.3, (N, 1))
    for k in range(4):
        values[:, 10 * k : 10 * (k + 1)] += effect * (truth() == k)[:, None]
    return values


def sheet() -> pd.DataFrame:
    """Sample columns: persons of two visits in the first groups, the truth, a batch that means nothing, and age."""
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "person_id": [f"P{i:03d}" for i in range(N)],
            "truth": [f"t{one}" for one in truth()],
            "batch": rng.permutation(np.repeat(["b1", "b2", "b3"], N // 3)),
            "age": rng.integers(20, 90, N),
            "disease": ["healthy" if i % 9 == 0 else "patient" for i in range(N)],
        },
        index=pd.Index(IDS, name="sample_id"),
    )


def make(
    folder: Path, values: np.ndarray, chunks: tuple[int, int] = (64, 16384), order: Any = None, pieces: int = 1
) -> Path:
    """A cohort that holds the values as assay `rna`, in segments of this order."""
    cohort = make_cohort(folder, *chunks)
    order = np.arange(len(values)) if order is None else np.asarray(order)
    for rows in np.array_split(order, pieces):
        matrix = write_npz(folder.parent / "part.npz", values[rows], np.array(IDS)[rows], FEATURES)
        bring(cohort, "rna", matrix, samples=sheet().iloc[rows])
    return cohort


KEYS: dict[str, Any] = {
    "job": "stratify", "assay": "rna", "features": {"top": 40}, "k": [1, 5], "resamples": {"n": 40}, "output": "groups",
}  # fmt: skip


def run(cohort: Path, cluster: Any, **keys: Any) -> Outcome:
    """Run the grouping of the assay with these keys changed."""
    return run_spec(parse_spec({**KEYS, "cohort": str(cohort), **keys}, "spec"), Path(), cluster=cluster, quiet=True)


def strata(outcome: Outcome) -> pd.DataFrame:
    """The main table by sample id."""
    return outcome.cohort.result(outcome.results[0]).to_pandas().set_index("sample_id")
