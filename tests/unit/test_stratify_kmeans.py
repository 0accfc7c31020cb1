"""k-means by passes over parts: as good as in memory, its inertia a sum of squares, the same for any cut and order."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans as InMemory

from sjd_dask.errors import DataError
from sjd_dask.stratify.agreement import adjusted_rand_index
from sjd_dask.stratify.kmeans import kmeans, label_pass, nearest_centres


def scene(n: int = 900, p: int = 20, k: int = 5, effect: float = 1.2):
    random = np.random.default_rng(6)
    truth = random.integers(0, k, n)
    return 50.0 + random.normal(size=(n, p)) + effect * random.normal(size=(k, p))[truth], truth


def passes(values: np.ndarray, order: np.ndarray, pieces: int):
    """A pass over `pieces` parts of the samples in this order, and how often it was made."""
    made = []

    def run(function, common):
        made.append(function.__name__)
        parts = np.array_split(order, pieces)
        return [function(np.ascontiguousarray(values[part]), [f"s{i}" for i in part], common) for part in parts]

    return run, made


def test_inertia_is_that_of_a_fit_in_memory() -> None:
    values, truth = scene()
    run, made = passes(values, np.arange(900), 7)
    found = kmeans(run, values[3], 5, seed=1)
    best = InMemory(5, n_init=20, random_state=0).fit(values)
    assert found.inertia <= best.inertia_ * 1.001
    labels, squared = nearest_centres(values, found.centres)
    wanted = ((values - found.centres[labels]) ** 2).sum()
    assert found.inertia == pytest.approx(wanted, rel=1e-9) and squared.sum() == pytest.approx(wanted, rel=1e-9)
    assert found.counts.tolist() == np.bincount(labels).tolist()
    assert adjusted_rand_index(labels.tolist(), best.labels_.tolist()) > 0.98
    assert adjusted_rand_index(labels.tolist(), truth.tolist()) > 0.9
    assert made.count("seeding_pass") == 5 and made.count("nearest_pass") == 1


def test_cuts_and_order_do_not_matter() -> None:
    values, _ = scene(effect=0.5)
    values[10] = values[11]
    labels = []
    for order, pieces in ((np.arange(900), 1), (np.random.default_rng(2).permutation(900), 13)):
        run, _ = passes(values, order, pieces)
        found = kmeans(run, values[3], 4, seed=2)
        own = np.empty(900, dtype=np.int8)
        own[order] = np.concatenate([part["labels"] for part in run(label_pass, found.centres)])
        labels.append(own)
    assert np.array_equal(labels[0], labels[1])


def test_few_different_samples() -> None:
    values = np.repeat(np.eye(3), 20, axis=0)
    run, _ = passes(values, np.arange(60), 4)
    found = kmeans(run, values[0], 3, seed=1)
    assert found.inertia == 0.0 and sorted(found.counts.tolist()) == [20, 20, 20]
    with pytest.raises(DataError, match="k = 50"):
        kmeans(run, values[0], 50, seed=1)
