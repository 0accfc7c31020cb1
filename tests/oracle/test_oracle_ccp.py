"""Against ConsensusClusterPlus: our consensus is as far from one of its runs as its own other seeds are."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sjd_dask.stratify.agreement import adjusted_rand_index
from sjd_dask.stratify.consensus import consensus_curves, consensus_groups, consensus_matrix
from sjd_dask.stratify.distances import sample_distances
from sjd_dask.stratify.recipe import Recipe
from sjd_dask.stratify.resampling import _pam, resample_labels

REFERENCE = Path(__file__).parent / "reference" / "ccp"
OURS = {"hc_pearson": "hierarchical", "km_euclidean": "kmeans", "pam_pearson": "pam"}
SIZES = (2, 3, 4, 5, 6)
SEEDS = (1, 2, 3, 4, 5)
CASES = [pytest.param(name, k, id=f"{name}-k{k}") for name in OURS for k in SIZES]


@cache
def _labels(folder: Path, name: str) -> list[np.ndarray]:
    """Labels (200, n_k, n) for each of our seeds."""
    table = pd.read_csv(folder / "ALL_input.tsv.gz", sep="\t", index_col=0)
    values = np.ascontiguousarray(table.to_numpy().T)
    ids = [str(name) for name in table.columns]
    return [
        resample_labels(values, ids, Recipe((OURS[name],), k=SIZES, resamples=200, seed=seed))[:, 0] for seed in SEEDS
    ]


def _matrices(folder: Path, name: str, k: int) -> list[np.ndarray]:
    return [consensus_matrix(labels[:, SIZES.index(k)]) for labels in _labels(folder, name)]


def _pairs(matrix: np.ndarray) -> np.ndarray:
    """The lower triangle by columns, as R's lower.tri gives it."""
    rows, columns = np.triu_indices(len(matrix), 1)
    return matrix[columns, rows].astype(np.float64)


@pytest.mark.parametrize(("name", "k"), CASES)
def test_consensus_is_as_near_as_another_seed(reference_data: Path, name: str, k: int) -> None:
    middle = pd.read_csv(REFERENCE / "mean_consensus.tsv.gz", sep="\t")[f"{name}_k{k}"].to_numpy()
    seeds = pd.read_csv(REFERENCE / "seeds.tsv.gz", sep="\t").set_index(["alg", "k"]).loc[(name, k)]
    ours = _matrices(reference_data / "oracles" / "ccp", name, k)
    # Mean square to the mean of R's 20 seeds + that of the seeds around it = mean square to each of the 20 seeds.
    away = np.mean([np.mean((_pairs(matrix) - middle) ** 2) for matrix in ours]) + seeds["around"]
    assert np.sqrt(away) <= 1.1 * np.sqrt(seeds["between"])


@pytest.mark.parametrize(("name", "k"), [case for case in CASES if case.values[1] in (2, 4)])
def test_one_of_our_seeds_against_one_of_theirs(reference_data: Path, name: str, k: int) -> None:
    folder = reference_data / "oracles" / "ccp"
    theirs = pd.read_csv(folder / f"ALL_{name}_seed1_k{k}_consensus.tsv.gz", sep="\t", index_col=0).to_numpy()
    seeds = pd.read_csv(REFERENCE / "seeds.tsv.gz", sep="\t").set_index(["alg", "k"]).loc[(name, k)]
    ours = _matrices(folder, name, k)[0]
    # Two single runs: twice the mean distance of two seeds is beyond all pairs of R's own.
    assert np.sqrt(np.mean((_pairs(ours) - _pairs(theirs)) ** 2)) <= 2.0 * np.sqrt(seeds["between"])


@pytest.mark.parametrize(("name", "k"), CASES)
def test_groups_agree_as_seeds_do(reference_data: Path, name: str, k: int) -> None:
    folder = reference_data / "oracles" / "ccp"
    agreement = pd.read_csv(folder / "ALL_seed_agreement.tsv.gz", sep="\t").set_index(["alg", "k"])
    ours = [consensus_groups(matrix, k) for matrix in _matrices(folder, name, k)]
    found = [
        adjusted_rand_index(
            groups, pd.read_csv(folder / f"ALL_{name}_seed{seed}_clusters.tsv.gz", sep="\t")[f"k{k}"].to_numpy()
        )
        for seed in SEEDS
        for groups in ours
    ]
    # Single pairs of seeds fall below (our first seed against R's five: median 0.929 for PAM at k = 3, where R's five
    # agree at 0.952 or better), so the middle one of 25 pairs is judged.
    assert np.median(found) >= agreement.loc[(name, k), "ari_min"] - 0.02


@cache
def _steady(folder: Path, name: str, seed: int) -> np.ndarray:
    """Labels (2000, n_k, n): so many resamples that chance on our side hardly matters."""
    table = pd.read_csv(folder / "ALL_input.tsv.gz", sep="\t", index_col=0)
    recipe = Recipe((OURS[name],), k=SIZES, resamples=2000, seed=seed)
    return resample_labels(np.ascontiguousarray(table.to_numpy().T), list(map(str, table.columns)), recipe)[:, 0]


@pytest.mark.parametrize(("name", "k"), CASES)
def test_groups_agree_with_each_of_their_seeds(reference_data: Path, name: str, k: int) -> None:
    """The strict form: each of R's five seeds is met as near as the five meet each other.

    With 200 resamples, as R's have, some of our seeds fall below it at k-means k = 4 and PAM k = 3, 4 and 5: one or two
    samples lie between groups, and a run of 200 puts them here or there. That is chance on our side, and 2000 resamples
    take most of it away: of three of our seeds x 15 cases one is below, by 0.003 (k-means, k = 4, one sample).
    """
    folder = reference_data / "oracles" / "ccp"
    agreement = pd.read_csv(folder / "ALL_seed_agreement.tsv.gz", sep="\t").set_index(["alg", "k"])
    least = agreement.loc[(name, k), "ari_min"]
    groups = consensus_groups(consensus_matrix(_steady(folder, name, 1)[:, SIZES.index(k)]), k)
    for seed in SEEDS:
        theirs = pd.read_csv(folder / f"ALL_{name}_seed{seed}_clusters.tsv.gz", sep="\t")[f"k{k}"].to_numpy()
        assert adjusted_rand_index(groups, theirs) >= least - 0.02, f"R's seed {seed}"


@pytest.mark.parametrize(("name", "k"), CASES)
def test_area_under_the_curve(reference_data: Path, name: str, k: int) -> None:
    folder = reference_data / "oracles" / "ccp"
    theirs = pd.read_csv(folder / "ALL_cdf_area.tsv.gz", sep="\t").query("alg == @name and k == @k")["cdf_area"]
    ours = np.mean([consensus_curves(matrix)["area"] for matrix in _matrices(folder, name, k)])
    assert ours == pytest.approx(theirs.mean(), abs=max(0.005, 2.0 * theirs.std()))


def test_pam_of_a_subset_is_that_of_r(reference_data: Path) -> None:
    table = pd.read_csv(reference_data / "oracles" / "ccp" / "ALL_input.tsv.gz", sep="\t", index_col=0)
    distances = sample_distances(np.ascontiguousarray(table.to_numpy().T), "pearson")
    theirs = pd.read_csv(REFERENCE / "pam.tsv.gz", sep="\t")
    for _, rows in theirs.groupby("subset"):
        drawn = np.array(rows["drawn"].iloc[0].split(), dtype=np.int64) - 1
        ours = _pam(np.ascontiguousarray(distances[np.ix_(drawn, drawn)]), tuple(rows["k"]))
        for found, group in zip(ours, rows["group"], strict=True):
            assert adjusted_rand_index(found.tolist(), group.split()) == 1.0
    assert len(theirs) == 200
