"""Layers on real workers: how many there are, and how the cohort is cut and came in, changes no value."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jobs_helpers import bring, make_cohort, write_npz
from normalise_helpers import Normalised, layer_frame, normalise
from normalise_scene import (
    CHAINS,
    FEATURES,
    N_REFERENCE,
    QUANTITIES,
    SAMPLES,
    STRANGER,
    N,
    P,
    difference,
    fitted,
    scene_annotation,
    scene_sheet,
    scene_values,
)

from sjd_dask.jobs import normalise as job
from sjd_dask.jobs import normalise_reference
from sjd_dask.runtime.cluster import Cluster, open_cluster

TOLERANCE = 1e-12
# The long form takes all.
SOME = ("log_cpm_combat", "vst", "quantile", "bmiq", "plate_centre", "clr")
EVERY = [pytest.param(name, marks=[] if name in SOME else [pytest.mark.slow], id=name) for name in CHAINS]
FIT = {"fit_on": "reference == 'yes'"}


def fill(
    folder: Path, chunks: tuple[int, int], pieces: list[np.ndarray], quantities: tuple[str, ...] = QUANTITIES
) -> Path:
    """A cohort with an assay for each scale; a piece is a segment, every second one with features in another order."""
    folder.mkdir(exist_ok=True)
    cohort = make_cohort(folder / "cohort", *chunks)
    scene_annotation().to_csv(folder / "features.csv")
    for number, rows in enumerate(pieces):
        add(cohort, rows, number % 2 == 1, quantities, first=number == 0)
    return cohort


def add(cohort: Path, rows: np.ndarray, turned: bool, quantities: tuple[str, ...], first: bool = False) -> None:
    order = np.random.default_rng(6).permutation(P) if turned else np.arange(P)
    for number, quantity in enumerate(quantities):
        values = scene_values(quantity)[np.ix_(rows, order)]
        matrix = write_npz(cohort.parent / "part.npz", values, SAMPLES[rows], FEATURES[order])
        options: dict[str, Any] = {"features": cohort.parent / "features.csv"} if first else {}
        if number == 0 and first:
            options["samples"] = scene_sheet()
        bring(cohort, quantity, matrix, quantity, max_missing=1.0, **options)


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("cuts")
    everyone = np.arange(N)
    return {
        "one piece": fill(folder / "a", (64, 16384), [everyone]),
        "five pieces": fill(folder / "b", (16, 512), np.split(everyone, [1, 20, 30, 57])),
        "pieces of 24": fill(folder / "c", (7, 128), np.split(everyone, [24, 48])),
        "another order": fill(folder / "d", (16, 128), np.split(np.random.default_rng(1).permutation(N), [24, 48])),
    }


@pytest.fixture(scope="module")
def clusters() -> Iterator[dict[int, Cluster]]:
    with open_cluster("local", workers=1) as one, open_cluster("local", workers=4) as four:
        yield {1: one, 4: four}


@pytest.fixture(autouse=True)
def many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk row a task, so that every worker has some."""
    for module in (normalise_reference, job):
        monkeypatch.setattr(module, "TASK_CELLS", 10 * P)


def made(cohort: Path, cluster: Cluster, output: str, name: str, **keys: Any) -> Normalised:
    scale, steps = CHAINS[name]
    return normalise(cohort, cluster, output, steps, assay=scale, **FIT, **keys)


def against(found: Normalised, wanted: Normalised) -> float:
    """Values by sample and feature, and what the quality tables say of each sample."""
    assert set(found.values.columns) == set(wanted.values.columns)
    assert list(found.values.index) == list(wanted.values.index)
    samples = list(wanted.quality.index)
    assert found.quality.loc[samples, "status"].equals(wanted.quality["status"])
    return difference(found.values[wanted.values.columns].to_numpy(), wanted.values.to_numpy())


@pytest.mark.parametrize("name", EVERY)
def test_workers_and_cuts(cohorts: dict[str, Path], clusters: dict[int, Cluster], name: str) -> None:
    wanted = made(cohorts["one piece"], clusters[1], name, name)
    knows_batches = bool((wanted.quality["status"] == "pending_batch").any())
    assert wanted.values.shape[1] == N - knows_batches and (SAMPLES[STRANGER] in wanted.values) != knows_batches
    # Equal bits were seen for all but the sums of quantile; in another order of samples all sums differ by rounding.
    far = {}
    for cut, workers in (("five pieces", 4), ("pieces of 24", 1), ("another order", 4)):
        found = made(cohorts[cut], clusters[workers], f"{name}_{workers}", name)
        assert found.meta["run"]["tasks"] >= 4
        far[f"{cut}, {workers} workers"] = against(found, wanted)
    # In memory, where storage holds the values as they are: betas are stored to 16 bits.
    if CHAINS[name][0] != "beta":
        chain, everyone = fitted(name)
        done = chain.apply(everyone.block())
        frame = pd.DataFrame(done.values.T, done.feature_ids, SAMPLES)[wanted.values.columns]
        far["in memory"] = difference(wanted.values.to_numpy(), frame.to_numpy())
    print(name, {cut: f"{value:.0e}" for cut, value in far.items()})
    assert max(far.values()) <= TOLERANCE


@pytest.mark.parametrize("name", ["log_cpm_combat", "quantile"])
def test_night_by_night(clusters: dict[int, Cluster], cohorts: dict[str, Path], name: str, tmp_path: Path) -> None:
    """The frozen chain on one new sample, then on 23 more: the values they have where all were there from the start."""
    scale, _ = CHAINS[name]
    wanted = made(cohorts["one piece"], clusters[1], f"{name}_all", name)
    cohort = fill(tmp_path / "n", (16, 512), [np.arange(N_REFERENCE)], (scale,))
    first = made(cohort, clusters[4], "layer", name)
    for number, rows in enumerate((np.array([N_REFERENCE]), np.arange(N_REFERENCE + 1, N))):
        add(cohort, rows, number == 0, (scale,))
        found = normalise(cohort, clusters[4], "layer", assay=scale, parameters="layers/layer@1")
    layer = found.outcome.cohort.layer("layers/layer@1")
    assert found.outcome.cohort.layers()[0].newest.n_segments == 3
    values = layer_frame(layer)
    assert set(values.columns) == set(wanted.values.columns)
    before = first.values
    np.testing.assert_array_equal(values[before.columns], before)  # what was there stays
    assert difference(values[wanted.values.columns].to_numpy(), wanted.values.to_numpy()) <= TOLERANCE
