"""The specs in jobs/ that need no other result can be planned on a simulated cohort as they stand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Sjd

READY = Path(__file__).parents[2] / "jobs"
# The others start from a layer, groups or a model, or from a table of one's own.
FIRST = (
    "cytokines_normalise",
    "ewas",
    "ewas_repeated_visits",
    "expression_normalise",
    "expression_voom",
    "methylation_normalise",
    "rank_test",
    "surrogate_variables",
)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sjd_dask.jobs.simulate import simulate_cohort

    path = tmp_path_factory.mktemp("ready") / "cohort"
    simulate_cohort(str(path), n_samples=60, n_features=40, n_genes=40, assays=["methylation", "rnaseq", "cytokines"])
    return path


@pytest.mark.parametrize("name", FIRST)
def test_planned_as_it_stands(simulated: Path, sjd: Sjd, name: str) -> None:
    done = sjd("plan", READY / f"{name}.yaml", "--set", f"cohort={simulated}", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["n_tasks"] >= 1
