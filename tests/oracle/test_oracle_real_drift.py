"""The watch of drift on real arrays: other persons of a study are no drift; wrong units and healthy people are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sjd_dask.classify.reference import reference_histograms
from sjd_dask.jobs.drift import HOLD, NONE, WARN, DriftReport, watch
from sjd_dask.jobs.drift_spec import DriftWatch


@dataclass(frozen=True)
class Blood:
    """The 50 most variable probes of whole blood (GSE65391), with persons, batch and disease of each array."""

    values: np.ndarray
    features: list[str]
    persons: np.ndarray
    batch: np.ndarray
    lupus: np.ndarray

    def watched(self, reference: np.ndarray, night: np.ndarray, values: np.ndarray | None = None) -> DriftReport:
        """Arrays `night`, with these values, against arrays `reference`."""
        known = reference_histograms(
            self.values[reference], self.features, {}, persons=self.persons[reference].tolist()
        )  # fmt: skip
        found = known.histograms(self.values[night] if values is None else values)
        return watch(known, pd.DataFrame({"person_id": self.persons[night], "status": "called"}), found, DriftWatch())

    def halves(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """All arrays of half of the patients, and one array of each of the others."""
        rng = np.random.default_rng(seed)
        people = rng.permutation(np.unique(self.persons[self.lupus]))
        half = len(people) // 2
        reference = np.flatnonzero(self.lupus & np.isin(self.persons, people[:half]))
        night = [rng.choice(np.flatnonzero(self.lupus & (self.persons == one))) for one in people[half:]]
        return reference, np.array(night)


@pytest.fixture(scope="module")
def blood(reference_data: Path) -> Blood:
    folder = reference_data / "data" / "sle_wb_GSE65391_training"
    with np.load(folder / "expression_log2x1000_int16.npz") as found:
        values, features, samples = (found[name] for name in ("values", "features", "samples"))
    sheet = pd.read_csv(folder / "phenotype.csv", index_col=0, dtype=str).reindex(samples.astype(str))
    lupus = (sheet["disease_state"] != "Healthy").to_numpy()
    patients = values[:, lupus].astype(np.float64)
    spread = np.median(np.abs(patients - np.median(patients, axis=1, keepdims=True)), axis=1)
    top = np.argsort(-spread, kind="stable")[:50]
    return Blood(
        np.ascontiguousarray(values[top].T / 1000.0), features[top].astype(str).tolist(),
        sheet["subject"].to_numpy(dtype=object), sheet["batch"].to_numpy(dtype=object), lupus,
    )  # fmt: skip


def test_other_persons_of_the_study_are_no_drift(blood: Blood) -> None:
    assert [blood.watched(*blood.halves(seed)).level for seed in range(8)] == [NONE] * 8


def test_the_batch_of_the_study_warns(blood: Blood) -> None:
    first, second = (np.flatnonzero(blood.lupus & (blood.batch == one)) for one in ("1", "2"))
    assert blood.watched(first, second).level == blood.watched(second, first).level == WARN


def test_healthy_people_hold_a_night_of_patients(blood: Blood) -> None:
    report = blood.watched(np.flatnonzero(blood.lupus), np.flatnonzero(~blood.lupus))
    panel = report.table[report.table["kind"] == "panel"].iloc[0]
    assert report.level == HOLD and panel["share"] > 0.3


def test_wrong_units_hold_and_a_shift_of_all_is_seen(blood: Blood) -> None:
    reference, night = blood.halves(0)
    right = blood.values[night]
    assert blood.watched(reference, night, right * np.log(2)).level == HOLD  # natural logarithms
    assert blood.watched(reference, night, 2.0**right).level == HOLD  # no logarithms
    assert blood.watched(reference, night, right * 1.2).level == HOLD
    assert blood.watched(reference, night, right + 1.0).level in (WARN, HOLD)
