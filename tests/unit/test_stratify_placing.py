"""Samples join groups that others made: by each algorithm's own measure, and counted as the consensus of all pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sjd_dask.errors import DataError
from sjd_dask.kernels.placing import nearest_groups
from sjd_dask.stratify.agreement import adjusted_rand_index
from sjd_dask.stratify.choose import COMBINED
from sjd_dask.stratify.consensus import (
    consensus_curves,
    consensus_groups,
    consensus_matrix,
    consensus_of_rounds,
    pairs_never_drawn,
    support_of_rows,
)
from sjd_dask.stratify.landmarks import Landmarks, draw_landmarks
from sjd_dask.stratify.placing import Rules
from sjd_dask.stratify.recipe import Recipe
from sjd_dask.stratify.resampling import resample_labels
from sjd_dask.stratify.strata import mean_with_groups, strata

N, P = 400, 60


def made(effect: float = 0.9) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Values of four groups beside a continuous factor, ids in no order, the truth."""
    random = np.random.default_rng(11)
    truth = random.choice(4, N, p=[0.33, 0.25, 0.29, 0.13])
    values = random.normal(size=(N, P)) + effect * random.normal(size=(4, P))[truth]
    values += random.normal(size=(N, 1)) @ random.normal(size=(1, P)) * 0.3
    return values, [f"p{i}" for i in random.permutation(N)], truth


def grouped(values: np.ndarray, ids: list[str], recipe: Recipe, m: int, k: int) -> tuple[Landmarks, np.ndarray]:
    marks, _ = draw_landmarks(ids, m, recipe.seed)
    some, names = np.ascontiguousarray(values[marks]), tuple(ids[i] for i in marks)
    labels = resample_labels(some, names, recipe)
    groups: dict[tuple[str, int], Any] = {}
    for j, each in enumerate(recipe.k):
        for a, algorithm in enumerate(recipe.algorithms):
            groups[algorithm, each] = consensus_of_rounds(labels[:, [a], j], each)[0]
        groups[COMBINED, each] = consensus_of_rounds(labels[:, :, j], each)[0]
    return Landmarks(some, names, recipe, labels, groups, k), marks


@pytest.mark.parametrize(
    ("distance", "feature_fraction"), [("pearson", 1.0), ("pearson", 0.7), ("euclidean", 1.0), ("spearman", 0.7)]
)
def test_drawn_samples_join_their_own_group(distance: str, feature_fraction: float) -> None:
    """k-means, PAM and (but for its soft weights) the mixture put the samples of a round where the round has them."""
    values, ids, _ = made()
    recipe = Recipe(distance=distance, k=(2, 4), resamples=6, feature_fraction=feature_fraction)
    order = sorted(range(N), key=lambda i: ids[i])
    table, names = np.ascontiguousarray(values[order][:150]), [ids[i] for i in order[:150]]
    labels = resample_labels(table, names, recipe)
    shares = {}
    for a, scores, tolerance in Rules(table, recipe, labels, 0, 6).scores(table):
        out = np.empty((150, 2, 6), dtype=np.int8)
        nearest_groups(scores, np.array(recipe.k), tolerance, out, 0)
        joined = out.transpose(2, 1, 0)
        drawn = labels[:, a] >= 0
        shares[recipe.algorithms[a]] = float((joined == labels[:, a])[drawn].mean())
    assert shares["kmeans"] == 1.0 and shares["pam"] == 1.0
    assert shares["mixture"] > 0.97 and shares["hierarchical"] > 0.75


def test_scores_are_the_distances_of_the_definition() -> None:
    values, ids, _ = made()
    recipe = Recipe(algorithms=("hierarchical",), distance="pearson", k=(3,), resamples=2)
    labels = resample_labels(values[:80], ids[:80], recipe)
    ((_, scores, _),) = Rules(values[:80], recipe, labels, 0, 2).scores(values[200:203])
    both = np.corrcoef(np.vstack([values[200:203], values[:80]]))[:3, 3:]
    wanted = [(1.0 - both)[:, labels[r, 0, 0] == c].mean(axis=1) for r in range(2) for c in range(3)]
    assert np.allclose(scores + 1.0, np.stack(wanted, axis=1), atol=1e-12)


def test_a_tie_goes_to_the_first_group() -> None:
    out = np.empty((2, 1, 1), dtype=np.int8)
    scores = np.array([[1.0 + 1e-13, 1.0, 2.0], [np.inf, 3.0, 3.0 - 1e-6]])
    nearest_groups(scores, np.array([3]), np.full(2, 1e-10), out, 0)
    assert out[:, 0, 0].tolist() == [0, 2]


def test_landmarks_have_the_consensus_of_all_pairs() -> None:
    """Where the rule of an algorithm gives back its own labels, placing is the consensus of all pairs."""
    values, ids, _ = made()
    recipe = Recipe(algorithms=("kmeans",), k=(3,), resamples=30, sample_fraction=1.0)
    landmarks, _ = grouped(values, ids, recipe, 120, 3)
    placed = landmarks.place(landmarks.values, landmarks.sample_ids)
    matrix = consensus_matrix(landmarks.labels[:, 0, 0])
    wanted = mean_with_groups(matrix, landmarks.groups[COMBINED, 3], 3)
    assert np.allclose(placed.means, wanted, atol=1e-6)
    exact = strata(landmarks.values, landmarks.sample_ids, recipe, landmarks.labels, 3)
    same = placed.groups[:, 0] == landmarks.groups[COMBINED, 3]
    assert same.mean() > 0.97
    assert np.allclose(placed.silhouette[same], exact.table["silhouette"].to_numpy()[same], atol=1e-8)


def test_all_samples_are_placed_near_the_exact_groups() -> None:
    values, ids, truth = made()
    recipe = Recipe(k=(3, 4), resamples=30)
    landmarks, _ = grouped(values, ids, recipe, 150, 4)
    placed = landmarks.place(values, ids)
    exact = strata(values, ids, recipe, resample_labels(values, ids, recipe), 4)
    labels = placed.groups[:, 1].tolist()
    whole = adjusted_rand_index(exact.table["stratum"].tolist(), truth.tolist())
    assert adjusted_rand_index(labels, truth.tolist()) > whole - 0.05
    assert adjusted_rand_index(labels, exact.table["stratum"].tolist()) > 0.85


def test_order_and_neighbours_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    values, ids, _ = made()
    values[7] = values[8]  # ties
    recipe = Recipe(k=(2, 4), resamples=12)
    landmarks, _ = grouped(values, ids, recipe, 100, 4)
    whole = landmarks.place(values, ids)
    turn = np.random.default_rng(1).permutation(N)
    monkeypatch.setattr("sjd_dask.stratify.landmarks.BLOCK", 37)
    # Rules of few rounds at a time.
    monkeypatch.setattr("sjd_dask.stratify.landmarks.RULE_BYTES", 60_000)
    assert landmarks.n_rounds < 12
    parts = [landmarks.place(values[some], [ids[i] for i in some]) for some in np.array_split(turn, 3)]
    for name, value in vars(whole).items():
        together = np.concatenate([getattr(part, name) for part in parts])
        assert np.array_equal(together, value[turn]), name


def test_the_draw_hangs_on_ids_and_is_disjoint() -> None:
    ids = [f"x{i}" for i in range(50)]
    marks, check = draw_landmarks(ids, 20, 3)
    assert len(marks) == len(check) == 20 and not set(marks) & set(check)
    turned, _ = draw_landmarks(ids[::-1], 20, 3)
    assert [ids[::-1][i] for i in turned] == [ids[i] for i in marks]
    every, rest = draw_landmarks(ids, 40, 3)
    assert set(every) > set(marks) and len(rest) == 10


def test_bad_samples_are_named() -> None:
    values, ids, _ = made()
    landmarks, _ = grouped(values, ids, Recipe(algorithms=("kmeans", "pam"), k=(2,), resamples=3), 50, 2)
    bad = values[:3].copy()
    bad[1, 4] = np.inf
    with pytest.raises(DataError, match=f"{ids[1]} first"):
        landmarks.place(bad, ids[:3])
    bad[1] = 2.0
    with pytest.raises(DataError, match=f"{ids[1]} first.*no pearson correlation"):
        landmarks.place(bad, ids[:3])


def test_pairs_are_counted_once_and_the_same() -> None:
    random = np.random.default_rng(4)
    labels = random.integers(-1, 3, (70, 2, 45)).astype(np.int8)
    labels[:, :, 5] = -1
    labels[:, :, 7] = np.where(labels[:, :, 8] >= 0, -1, labels[:, :, 7])
    labels[:, 1] = np.where(labels[:, 0] < 0, -1, np.abs(labels[:, 1]))
    matrix = (consensus_matrix(labels[:, 0]) + consensus_matrix(labels[:, 1])) / np.float32(2)
    groups, curves = consensus_of_rounds(labels, 3)
    assert np.array_equal(groups, consensus_groups(matrix, 3))
    for name, value in consensus_curves(matrix).items():
        assert np.array_equal(curves[name], value), name
    parts = [support_of_rows(labels, groups, 3, a, b) for a, b in ((0, 10), (10, 45))]
    assert np.array_equal(np.concatenate(parts), mean_with_groups(matrix, groups, 3))
    met = (labels[:, 0] >= 0).astype(int)
    assert pairs_never_drawn(labels[:, 0]) == int((np.triu(met.T @ met == 0, 1)).sum()) >= 44
