"""Small matrices, sheets and specs for the tests of `job: normalise` through the command line."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .conftest import Called, Sjd

N_FEATURES = 60
COMBAT = {"method": "combat", "batch": "batch"}
CHAIN = ["tmm", "log_cpm", COMBAT]


def make_sheet(first: int, n: int, batches: list[str]) -> pd.DataFrame:
    """A sheet of `n` samples from number `first` on; ids keep their leading zeros."""
    number = np.arange(first, first + n)
    return pd.DataFrame(
        {
            "sample_id": [f"0{i:03d}" for i in number],
            "person_id": [f"P{i // 2}" for i in number],
            "visit": number % 2 + 1,
            "disease": np.where(number % 3 == 2, "patient", "healthy"),
            "batch": np.repeat(batches, n // len(batches)),
            "age": 20 + number * 7 % 60,
        }
    )


def make_counts(sheet: pd.DataFrame) -> pd.DataFrame:
    """Counts with features in rows: each batch has its own level and spread of each feature."""
    level = np.random.default_rng(1).gamma(2.0, 40.0, N_FEATURES) + 5.0
    columns = {}
    for sample, batch in zip(sheet["sample_id"], sheet["batch"], strict=True):
        shift = np.random.default_rng([ord(one) for one in batch]).normal(0, 0.4, N_FEATURES)
        rng = np.random.default_rng(int(sample))
        columns[sample] = rng.poisson(level * rng.uniform(0.5, 2.0) * np.exp(shift + rng.normal(0, 0.2, N_FEATURES)))
    return pd.DataFrame(columns, index=[f"g{i:03d}" for i in range(N_FEATURES)])


@dataclass
class Bench:
    """A folder with one cohort, and the commands that a user would give."""

    folder: Path
    sjd: Sjd
    cluster: str
    sheet: pd.DataFrame = field(default_factory=lambda: make_sheet(0, 24, ["b1", "b2", "b3"]))

    @property
    def cohort(self) -> Path:
        return self.folder / "cohort"

    def ingest(
        self,
        matrix: pd.DataFrame,
        *options: object,
        assay: str = "rna",
        quantity: str = "counts",
        sheet: pd.DataFrame | None = None,
    ) -> Called:
        """`sjd init` where there is none yet, and `sjd ingest`."""
        if not self.cohort.exists():
            assert self.sjd("init", self.cohort).code == 0
        matrix.to_csv(self.folder / "matrix.tsv", sep="\t", index_label="feature_id")
        with_sheet: tuple[object, ...] = ()
        if sheet is not None:
            sheet.to_csv(self.folder / "sheet.csv", index=False)
            with_sheet = ("--samples", self.folder / "sheet.csv")
        path = self.folder / "matrix.tsv"
        return self.sjd("ingest", self.cohort, assay, path, "--quantity", quantity, *with_sheet, *options, "-q")

    def write_spec(self, **keys: Any) -> Path:
        spec = {"job": "normalise", "cohort": "cohort", "assay": "rna", "output": "x", **keys}
        path = self.folder / "spec.yaml"
        path.write_text(json.dumps({key: value for key, value in spec.items() if value is not None}))
        return path

    def run(self, *options: object, **keys: Any) -> Called:
        """`sjd run` of a spec with these keys."""
        return self.sjd("run", self.write_spec(**keys), "--cluster", self.cluster, *options, "-q")
