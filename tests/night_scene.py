"""A cohort with a model in production, an inbox, and nights in this process.

A sample's values hang on its id alone: `P012_2` is the second visit of person 12. Files, corrections and sheets are
written from ids, so a story of many nights can be told twice.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jobs_helpers import bring, make_cohort, write_npz

from sjd_dask.jobs.driver import Outcome, run_spec
from sjd_dask.jobs.spec import parse_spec
from sjd_dask.runtime.here import Here
from sjd_dask.store.cohort import Cohort, open_cohort

PERSONS, P = 120, 36
CLASSES = ("A", "B", "C")
FEATURES = [f"g{i:02d}" for i in range(P)]
OUTPUT = "calls"
_BASE = np.random.default_rng(70).normal(6.0, 0.6, P)
KEYS: dict[str, Any] = {
    "job": "nightly",
    "cohort": "cohort",
    "model": "classes@production",
    "assay": "rna",
    "eligible": "disease == 'patient'",
    "inbox": "inbox",
    "output": OUTPUT,
}
TRAIN: dict[str, Any] = {
    "job": "train",
    "layer": "layers/logs",
    "labels": "group",
    "samples": "training == 1",
    "panel": {"method": "elastic_net", "size": 9, "prefilter": 18},
    "folds": {"outer": 2, "inner": 3},
    "output": "classes",
}


def sample(person: int, visit: int = 1) -> str:
    return f"P{person:03d}_{visit}"


def class_of(person: int) -> int:
    return int(np.random.default_rng([71, person]).choice(3, p=[0.4, 0.35, 0.25]))


def counts(ids: Sequence[str], version: int = 0, shift: float = 0.0) -> np.ndarray:
    """Counts, samples x features; nine features tell the three classes. Another `version`: the array done again, with
    the signs of the next class."""
    rows = []
    for one in ids:
        person, visit = int(one[1:4]), int(one[5:])
        rng = np.random.default_rng([72, person, visit, version])
        log = _BASE + np.random.default_rng([73, person]).normal(0, 0.15, P) + rng.normal(0, 0.12, P)
        k = (class_of(person) + version) % 3
        log[3 * k : 3 * (k + 1)] += 1.2 * rng.uniform(0.4, 1.0)
        log[20:24] += 0.3 * (person % 2)  # batch
        log[9:27] += shift
        rows.append(rng.poisson(np.exp(log)))
    return np.array(rows, dtype=np.float64)


def sheet(ids: Sequence[str]) -> pd.DataFrame:
    """Person, visit, date, disease, batch, planted class, whether trained on."""
    numbers = [int(one[1:4]) for one in ids]
    visits = [int(one[5:]) for one in ids]
    day = np.datetime64("2025-01-01")
    return pd.DataFrame(
        {
            "person_id": [f"person{i:03d}" for i in numbers],
            "visit": visits,
            "date": [str(day + np.timedelta64(i + 90 * v, "D")) for i, v in zip(numbers, visits, strict=True)],
            "disease": ["healthy" if i % 9 == 8 else "patient" for i in numbers],
            "batch": [f"b{i % 2}" for i in numbers],
            "group": [CLASSES[class_of(i)] for i in numbers],
            "training": [int(i < PERSONS) for i in numbers],
        },
        index=pd.Index(list(ids), name="sample_id"),
    )


def write_arrival(inbox: Path, name: str, ids: Sequence[str], **keys: Any) -> None:
    """A matrix and its sheet, as a laboratory leaves them."""
    write_npz(inbox / f"rna__{name}.npz", counts(ids, **keys), list(ids), FEATURES)
    write_sheet(inbox, name, sheet(ids))


def write_sheet(inbox: Path, name: str, frame: pd.DataFrame) -> None:
    frame.to_csv(inbox / f"rna__{name}.samples.csv")


def make(home: Path, *, models: int = 1) -> Path:
    """A folder with a cohort of first visits, a model trained on them in production, and an empty inbox. Further models
    differ by their seed."""
    ids = [sample(i) for i in range(PERSONS)]
    cohort = make_cohort(home / "cohort", 16, 64)
    bring(cohort, "rna", write_npz(home / "first.npz", counts(ids), ids, FEATURES), "counts", samples=sheet(ids))
    steps = ["log_cpm", {"method": "combat", "batch": "batch"}]
    run(home, job="normalise", assay="rna", steps=steps, output="logs", cohort="cohort")
    for number in range(models):
        run(home, **TRAIN, cohort="cohort", seed=number + 1)
    open_cohort(cohort).promote("classes", 1, "first model", "tests")
    (home / "inbox").mkdir()
    return home


def run(home: Path, **keys: Any) -> Outcome:
    return run_spec(parse_spec(keys, "spec"), home, cluster=Here(), quiet=True)


def night(home: Path, **keys: Any) -> Outcome:
    """One night."""
    return run(home, **{**KEYS, **keys})


def copied(template: Path, home: Path) -> Path:
    """The scene once more."""
    shutil.copytree(template, home, dirs_exist_ok=True)
    return home


def opened(home: Path) -> Cohort:
    return open_cohort(home / "cohort")


def table(home: Path, kind: str, version: int | None = None) -> pd.DataFrame:
    """A result of the nights, missing cells as None."""
    ref = f"{kind}/{OUTPUT}" + (f"@{version}" if version else "")
    frame = opened(home).result(ref).to_pandas().astype(object)
    return frame.where(frame.notna(), None)


def changed(home: Path) -> dict[str, Mapping[str, Any]]:
    """The rows of the newest `changes/calls`, by sample."""
    return {str(row["sample_id"]): row for row in table(home, "changes").to_dict("records")}


# -- what is published, in a form that two stories can be compared by --------------------------------------------------


def published(home: Path) -> dict[str, Any]:
    """Everything that is published, without what names a run or a version: rows, sample columns, calls, results."""
    cohort = opened(home)
    assay = cohort.assay("rna")
    found: dict[str, Any] = {
        "rows": dict(sorted(assay.row_hashes().items())),
        "sheet": _cells(cohort.samples().sort_index().reset_index()),
    }
    assay.check_chunks(deep=True)
    for kind in ("classes", "reported"):
        frame = table(home, kind).drop(columns=["run", "since_run"], errors="ignore")
        found[kind] = _cells(frame)
    live = cohort.call_history(OUTPUT, live=True).sort_values("sample_id", ignore_index=True)
    found["calls"] = _cells(
        live[["sample_id", "person_id", "visit", "date", "status", "call", "confidence", "row_hash"]]
    )
    return found


def _cells(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    plain = frame.astype(object)
    return [tuple(frame.columns), *plain.where(plain.notna(), None).itertuples(index=False, name=None)]
