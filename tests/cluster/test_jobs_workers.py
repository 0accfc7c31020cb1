"""Associations on real workers: how many there are changes nothing, and compaction is no reason to run again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jobs_helpers import spec_of
from jobs_scene import ANALYSES, computed, fill, same_bits

from sjd_dask.jobs.driver import Outcome, run_spec
from sjd_dask.runtime.cluster import Cluster, open_cluster
from sjd_dask.store.cohort import open_cohort
from sjd_dask.store.compact import compact

ASSAY = "betas holes"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("workers"), ASSAY, cuts=(70, 71, 200), chunks=(32, 8))


def published(cohort: Path, cluster: Cluster, output: str, **keys: Any) -> Outcome:
    # Ten tasks and more, so that both workers have several.
    spec = spec_of(cohort, output, assay="a", quantity="m_value", partition_features=5, **keys)
    return run_spec(spec, Path(), cluster=cluster, quiet=True)


def test_number_of_workers(cohort: Path, cluster: Cluster) -> None:
    names = ("double", "single", "estimated block")
    wanted = {name: computed(cohort, ASSAY, **ANALYSES[name]) for name in names}
    with open_cluster("local", workers=1) as single:
        for workers, opened in (("two", cluster), ("one", single)):
            for name in names:
                outcome = published(cohort, opened, f"{name} {workers}".replace(" ", "_"), **ANALYSES[name])
                assert outcome.state == "published"
                result = outcome.cohort.result(outcome.results[0])
                same_bits(result.to_pandas(), wanted[name])
                assert result.meta["run"]["tasks"] > 10


def test_small_run_needs_no_workers(cohort: Path) -> None:
    """What names no cluster and reads little is computed where it was called, with the same bits."""
    for output, workers, where in (("no_workers", None, "this process"), ("one_worker", 1, "1 local processes")):
        spec = spec_of(cohort, output, assay="a", quantity="m_value", partition_features=5, **ANALYSES["single"])
        result = open_cohort(cohort).result(run_spec(spec, Path(), workers=workers, quiet=True).results[0])
        assert result.meta["run"]["cluster"] == where
        assert result.meta["run"]["tasks"] > 10
        same_bits(result.to_pandas(), computed(cohort, ASSAY, **ANALYSES["single"]))


def test_compaction_is_no_reason_to_run_again(cohort: Path, cluster: Cluster) -> None:
    first = published(cohort, cluster, "before", **ANALYSES["double"])
    assert compact(open_cohort(cohort))[0].n_after == 1
    again = published(cohort, cluster, "before", **ANALYSES["double"])
    assert (again.state, again.run, again.results) == ("unchanged", first.run, first.results)
    # Under another name it is another run, of the merged segment, with the same bits.
    other = published(cohort, cluster, "after", **ANALYSES["double"])
    assert other.state == "published"
    tables = [outcome.cohort.result(outcome.results[0]).to_pandas() for outcome in (first, other)]
    same_bits(*tables)
