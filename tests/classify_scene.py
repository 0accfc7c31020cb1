"""A small cohort of counts with three planted classes, its normalised layer, and a model trained on it.

A sample's values hang on its number alone: the same sample can be written into any file, in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jobs_helpers import bring, make_cohort, write_npz

from sjd_dask.jobs.driver import Outcome, run_spec
from sjd_dask.jobs.spec import parse_spec

# Persons from 0; every third has a second visit. Samples S0000... are first visits, T0000... second ones.
PERSONS, P, PLANTED = 96, 150, 45
CLASSES = ("inflamed", "quiet", "mixed")
FEATURES = [f"g{i:03d}" for i in range(P)]
STEPS: list[Any] = ["tmm", "log_cpm"]
WITH_BATCH: list[Any] = ["tmm", "log_cpm", {"method": "combat", "batch": "batch"}]

_BASE = np.random.default_rng(40).normal(5.0, 0.8, P)


def sample_ids(persons: Sequence[int] = range(PERSONS)) -> list[str]:
    """First visits, then second ones."""
    return [f"S{i:04d}" for i in persons] + [f"T{i:04d}" for i in persons if i % 3 == 0]


def class_of(sample_id: str) -> str:
    """The planted class: the person's, the same at every visit."""
    return CLASSES[int(np.random.default_rng([41, int(sample_id[1:])]).choice(3, p=[0.4, 0.35, 0.25]))]


def counts(ids: Sequence[str], effect: float = 0.55) -> np.ndarray:
    """Counts, samples x features; the first `PLANTED` features tell the classes, fifteen each."""
    rows = []
    for one in ids:
        number, visit = int(one[1:]), "ST".index(one[0])
        rng = np.random.default_rng([42, number, visit])
        person = np.random.default_rng([43, number])
        log = _BASE + person.normal(0, 0.25, P) + rng.normal(0, 0.15, P) + rng.normal(0, 0.3)
        k = CLASSES.index(class_of(one))
        log[15 * k : 15 * (k + 1)] += effect
        log[100:120] += 0.3 * (number % 2)  # batch
        rows.append(rng.poisson(np.exp(log)))
    return np.array(rows, dtype=np.float64)


def sheet(ids: Sequence[str]) -> pd.DataFrame:
    """Sample columns: person, visit, date, disease, batch, planted class, sex, age."""
    numbers = [int(one[1:]) for one in ids]
    second = [one[0] == "T" for one in ids]
    return pd.DataFrame(
        {
            "person_id": [f"P{i:04d}" for i in numbers],
            "visit": [2 if one else 1 for one in second],
            "date": [
                str(np.datetime64("2025-01-06") + np.timedelta64(i + 180 * late, "D"))
                for i, late in zip(numbers, second, strict=True)
            ],
            "disease": ["healthy" if i % 8 == 7 else "patient" for i in numbers],
            "batch": [f"b{i % 2}" for i in numbers],
            "group": [class_of(one) for one in ids],
            "sex": ["male" if i % 10 == 3 else "female" for i in numbers],
            "age": [25 + i * 7 % 50 for i in numbers],
        },
        index=pd.Index(list(ids), name="sample_id"),
    )


def write_matrix(path: Path, ids: Sequence[str], values: np.ndarray | None = None) -> Path:
    """The counts of some samples as NPZ."""
    return write_npz(path, counts(ids) if values is None else values, list(ids), FEATURES)


def make(
    folder: Path,
    ids: Sequence[str] | None = None,
    chunks: tuple[int, int] = (64, 16384),
    pieces: int = 1,
) -> Path:
    """A cohort that holds the counts as assay `rna`, in segments of this order."""
    ids = sample_ids() if ids is None else list(ids)
    cohort = make_cohort(folder, *chunks)
    for part in np.array_split(np.array(ids, dtype=object), pieces):
        matrix = write_matrix(folder.parent / f"{folder.name}_part.npz", list(part))
        bring(cohort, "rna", matrix, "counts", samples=sheet(list(part)))
    return cohort


def run(cohort: Path, cluster: Any, **keys: Any) -> Outcome:
    """Run a job on the cohort."""
    raw = {key: value for key, value in keys.items() if value is not None}
    return run_spec(parse_spec({"cohort": str(cohort), **raw}, "spec"), Path(), cluster=cluster, quiet=True)


def normalise(cohort: Path, cluster: Any, steps: list[Any] | None = None, **keys: Any) -> Outcome:
    """The layer `layers/logs`."""
    return run(cohort, cluster, job="normalise", assay="rna", steps=steps or STEPS, output="logs", **keys)


TRAIN: dict[str, Any] = {
    "job": "train",
    "layer": "layers/logs",
    "labels": "group",
    "panel": {"method": "elastic_net", "size": 12, "prefilter": 60},
    "folds": {"outer": 3, "inner": 3},
    "output": "classes",
}


def train(cohort: Path, cluster: Any, **keys: Any) -> Outcome:
    """Train `models/classes` on the layer."""
    return run(cohort, cluster, **{**TRAIN, **keys})


def trained(folder: Path, cluster: Any, steps: list[Any] | None = None, *, promote: bool = True, **keys: Any) -> Path:
    """A cohort with a layer and a model of it, in production."""
    from sjd_dask.store.cohort import open_cohort

    cohort = make(folder)
    normalise(cohort, cluster, steps)
    train(cohort, cluster, **keys)
    if promote:
        open_cohort(cohort).promote("classes", 1, why="first model", who="tests")
    return cohort
