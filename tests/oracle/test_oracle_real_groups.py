"""Lupus patients in whole blood, through the commands: interferon groups found without the score, and explained.

The commands and specs are those of `benchmarks/real_groups.py`, with few resamples.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from benchmark_files import benchmark

from sjd_dask.store.cohort import Cohort, open_cohort

real = benchmark("real_groups")


@pytest.fixture(scope="module")
def cohort(reference_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Ingested, normalised, grouped by genes that tell patients from healthy but for those of the score, explained."""
    work = tmp_path_factory.mktemp("real_groups")
    real.bring(reference_data, work)
    real.run(work, real.LAYER)
    real.run(work, real.VERSUS)
    opened = open_cohort(work / "cohort")
    told = opened.result("associations/lupus").to_pandas()
    told = told[(told["q_value"] <= 0.01) & (told["effect"].abs() >= 1)]
    features = pd.read_csv(work / "features.csv").set_index("feature_id")["gene_symbol"]
    chosen = [one for one in told["feature_id"] if features[one] not in real.INTERFERON]
    assert len(chosen) < len(told)
    (work / "without.txt").write_text("\n".join(chosen), encoding="utf-8")
    keys = {"features": {"list": "without.txt"}, "resamples": {"n": 24}, "algorithms": ["kmeans", "pam"], "k": [1, 4]}
    real.run(work, {**real.STRATIFY, **keys, "samples": "specimen.notna()", "output": "groups"})
    real.run(work, {**real.EXPLAIN, "strata": "strata/groups", "permutations": 19, "output": "groups"})
    return opened


def test_interferon_high_and_low_without_the_score(cohort: Cohort) -> None:
    found = cohort.result("explanations/groups")
    modules = found.to_pandas("modules").query("module == 'interferon type I'").drop_duplicates("group")
    assert modules["mean"].max() > 2.2 and modules["mean"].min() < 1.0
    assert (modules["n_descriptive"] == 0).all()
    against = found.to_pandas("modules").query("module == 'interferon type I' and against == 'rest'")
    assert against["q_value"].max() < 1e-6
    sledai = found.to_pandas("clinical_groups").query("column == 'sledai'").set_index("group")["mean"]
    low, high = modules.set_index("group")["mean"].idxmin(), modules.set_index("group")["mean"].idxmax()
    assert sledai[high] > sledai[low] + 1
    assert found.to_pandas("clinical").set_index("column").loc["sledai", "q_value"] < 0.05


def test_what_else_explains_them_is_said(cohort: Cohort) -> None:
    shares = cohort.result("explanations/groups").to_pandas("shares").set_index(["what", "beyond"])
    assert shares.loc[("interferon", ""), "share"] > 0.2
    assert shares.loc[("composition", ""), "p_value"] == 0.05  # the least that 19 draws can give
    for nuisance in ("sex", "batch"):
        assert shares.loc[(nuisance, ""), "share"] < 0.02


def test_persons_and_replicates_stay(cohort: Cohort) -> None:
    stability = cohort.result("explanations/groups").to_pandas("stability").set_index("what")
    replicates, persons = stability.loc["replicates of a specimen"], stability.loc["samples of a person"]
    assert replicates["n_units"] == 16 and replicates["kappa"] > 0.7 and replicates["p_value"] == 0.001
    assert persons["n_units"] == 91 and persons["agreement"] > persons["chance"] + 0.15 and persons["p_value"] == 0.001
