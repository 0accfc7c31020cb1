"""Parts of consensus clustering against scikit-learn, SciPy and counting by hand, and what is refused by name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_samples

from sjd_dask import stratify
from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels.grouping import cut_merges, rand_indices
from sjd_dask.kernels.kmeans import kmeans_gram, kmeans_values
from sjd_dask.stratify.agreement import adjusted_rand_index, cross_table, normalised_mutual_information
from sjd_dask.stratify.choose import COMBINED, choose_k
from sjd_dask.stratify.consensus import consensus_curves, consensus_groups, consensus_matrix, pairs_never_drawn
from sjd_dask.stratify.distances import inner_products, sample_distances, silhouette_widths
from sjd_dask.stratify.null import components_of, data_statistics, null_statistics
from sjd_dask.stratify.recipe import ALGORITHMS, Recipe
from sjd_dask.stratify.resampling import resample_labels
from sjd_dask.stratify.strata import strata

SHARES = (0.33, 0.25, 0.29, 0.13)


def planted(n: int, p: int, apart: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlated samples in four classes of 33, 25, 29 and 13 %; `apart` 0: none."""
    random = np.random.default_rng(seed)
    truth = np.repeat(np.arange(4), np.round(np.array(SHARES) * n).astype(int))
    values = random.normal(size=(len(truth), p))
    values += random.normal(size=(len(truth), 8)) @ (random.normal(size=(8, p)) * np.linspace(0.3, 0.05, 8)[:, None])
    centres = np.where(random.random((4, p)) < 0.2, random.normal(size=(4, p)), 0.0)
    return values + apart * centres[truth], truth


def names_of(n: int) -> list[str]:
    return [f"s{i:03}" for i in range(n)]


@pytest.fixture(scope="module")
def scene():
    values, truth = planted(100, 120, 2.5, 3)
    ids = names_of(len(values))
    recipe = Recipe(resamples=30, k=(2, 3, 4, 5))
    return values, truth, ids, recipe, resample_labels(values, ids, recipe)


def test_cuts_are_those_of_scipy():
    values = np.random.default_rng(0).normal(size=(40, 5))
    for method in ("average", "complete", "ward"):
        tree = linkage(values, method=method)
        cuts = cut_merges(tree[:, :2].astype(np.int64), np.array([1, 2, 5, 40]))
        for k, found in zip((1, 2, 5, 40), cuts, strict=True):
            assert found.max() == k - 1
            assert adjusted_rand_score(found, fcluster(tree, k, "maxclust")) == 1.0


def test_kmeans_on_values_and_inner_products_are_one():
    values, truth = planted(80, 30, 3.0, 1)
    starts = np.array([[0, 30, 50, 78], [1, 2, 3, 4]])
    by_gram, inertia = kmeans_gram(inner_products(values), np.ones(80, dtype=bool), starts)
    by_values, same = kmeans_values(values, starts)
    assert adjusted_rand_score(by_gram, by_values) == 1.0
    assert adjusted_rand_score(by_gram, truth) == 1.0
    squares = sum(((values[by_gram == c] - values[by_gram == c].mean(axis=0)) ** 2).sum() for c in range(4))
    assert inertia == pytest.approx(squares, rel=1e-9)
    assert same == pytest.approx(squares, rel=1e-9)


def test_kmeans_of_equal_samples():
    values = np.repeat([[0.0, 0.0], [1.0, 2.0]], 4, axis=0)
    for labels, inertia in (
        kmeans_gram(inner_products(values), np.ones(8, dtype=bool), np.array([[0, 1, 2]])),
        kmeans_values(values, np.array([[0, 1, 2]])),
    ):
        assert not set(labels[:4]) & set(labels[4:])
        assert inertia == pytest.approx(0.0, abs=1e-12)


def test_distances_and_silhouettes():
    values, truth = planted(40, 20, 1.0, 2)
    assert np.allclose(sample_distances(values, "pearson"), 1 - np.corrcoef(values), atol=1e-12)
    ranks = pd.DataFrame(values.T).corr(method="spearman").to_numpy()
    assert np.allclose(sample_distances(values, "spearman"), 1 - ranks, atol=1e-12)
    for distance in ("pearson", "euclidean"):
        matrix = sample_distances(values, distance)
        (found,) = silhouette_widths(values, [truth], distance)
        assert np.allclose(found, silhouette_samples(matrix, truth, metric="precomputed"), atol=1e-9)
    assert np.isnan(silhouette_widths(values, [np.zeros(len(values), dtype=np.int64)], "pearson")[0]).all()


def test_consensus_by_hand():
    labels = np.array([[0, 0, 1, -1], [1, 0, -1, 0], [0, 0, 1, -1]], dtype=np.int8)
    matrix = consensus_matrix(labels)
    assert matrix.dtype == np.float32
    assert np.allclose(matrix, [[1, 2 / 3, 0, 0], [2 / 3, 1, 0, 1], [0, 0, 1, 0], [0, 1, 0, 1]])
    assert pairs_never_drawn(labels) == 1
    curves = consensus_curves(matrix)
    assert curves["cdf"][0] == pytest.approx(4 / 6)
    assert curves["cdf"][-1] == 1.0
    assert curves["pac"] == pytest.approx(1 / 6)
    assert list(consensus_groups(matrix, 2)) == [0, 0, 1, 0]
    with pytest.raises(DataError, match="k = 5 groups can't be made of 4 samples"):
        consensus_groups(matrix, 5)


def test_agreement_is_that_of_scikit_learn():
    random = np.random.default_rng(4)
    first, second = random.integers(0, 4, 60), random.integers(0, 3, 60)
    assert adjusted_rand_index(first, second) == pytest.approx(adjusted_rand_score(first, second))
    assert normalised_mutual_information(first, second) == pytest.approx(normalized_mutual_info_score(first, second))
    drawn = np.where(random.random((1, 60)) < 0.8, first, -1).astype(np.int8)
    here = drawn[0] >= 0
    assert rand_indices(drawn, second)[0] == pytest.approx(adjusted_rand_score(first[here], second[here]))
    a = pd.Series(["x", "y", None, "x"], index=list("abcd"))
    b = pd.Series(["1", "1", "2", "2"], index=list("dcba"))
    assert cross_table(a, b).to_numpy().tolist() == [[1, 1], [0, 1]]
    with pytest.raises(DataError, match="nothing to compare"):
        adjusted_rand_index(pd.Series(["x"], index=["a"]), pd.Series(["x"], index=["b"]))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_finds_planted_classes(scene, algorithm):
    _, truth, _, recipe, labels = scene
    matrix = consensus_matrix(labels[:, recipe.algorithms.index(algorithm), recipe.k.index(4)])
    assert adjusted_rand_score(truth, consensus_groups(matrix, 4)) > 0.95
    assert (labels >= 0).sum(axis=-1).max() == (labels >= 0).sum(axis=-1).min() == int(0.8 * len(truth))


def test_planted_classes_are_chosen_and_described(scene):
    values, truth, ids, recipe, labels = scene
    choice = choose_k(values, ids, recipe, labels)
    assert choice.k == 4
    assert "p = 0.005" in choice.reason and "k = 4" in choice.reason
    assert len(choice.table) == 5 * 4
    assert set(choice.table["algorithm"]) == {*ALGORITHMS, COMBINED}
    assert not choice.table.isna().any().any()
    found = strata(values, ids, recipe, labels, choice.k)
    table = found.table
    assert adjusted_rand_index(table["stratum"].tolist(), truth.tolist()) > 0.95
    assert table["stratum"].value_counts().index.tolist() == ["C1", "C2", "C3", "C4"]
    assert list(table.columns) == [
        "sample_id",
        "stratum",
        "core",
        "consensus",
        "silhouette",
        *(f"membership_C{i}" for i in range(1, 5)),
    ]
    assert np.allclose(table.filter(like="membership_").sum(axis=1), 1.0)
    assert table["core"].mean() > 0.8
    assert found.ambiguous.mean() < 0.1
    assert (table["consensus"].between(0, 1)).all()


def test_a_given_k_is_said(scene):
    values, _, ids, recipe, labels = scene
    null = null_statistics(values, ids, recipe, 0, 60)
    choice = choose_k(values, ids, recipe, labels, null, k=2)
    assert choice.k == 2
    assert choice.reason.startswith("k = 2 was asked for. Without that, k = 4")
    assert choose_k(values, ids, recipe, labels, null, k=1).k == 1
    with pytest.raises(SpecError, match="7 is not among the k that were tried"):
        choose_k(values, ids, recipe, labels, null, k=7)


def test_names_stay_with_the_groups(scene):
    values, _, ids, recipe, labels = scene
    first = strata(values, ids, recipe, labels, 4).table.set_index("sample_id")["stratum"]
    renamed = first.map({"C1": "C3", "C2": "C1", "C3": "C4", "C4": "C2"})
    again = strata(values, ids, recipe, labels, 4, renamed.to_dict())
    assert again.table["stratum"].tolist() == renamed.tolist()
    assert again.matched == renamed.value_counts().to_dict()
    more = strata(values, ids, recipe, labels, 5, renamed.to_dict()).table
    assert set(more["stratum"]) == {"C1", "C2", "C3", "C4", "C5"}
    one = strata(values, ids, recipe, labels, 1).table
    assert set(one["stratum"]) == {"C1"} and one["core"].all() and (one["membership_C1"] == 1).all()


def test_no_groups_are_invented():
    """Short form: 20 layers without groups. The test of no groups is exact, its level 2 %."""
    invented = 0
    for seed in range(20):
        values, _ = planted(60, 80, 0.0, seed)
        ids = names_of(len(values))
        recipe = Recipe(("hierarchical",), resamples=5, k=(2, 3, 4), seed=seed)
        null = null_statistics(values, ids, recipe, 0, 99)
        invented += choose_k(values, ids, recipe, resample_labels(values, ids, recipe), null).k > 1
    assert invented <= 2


def test_null_draws_keep_the_spread_of_the_data():
    values, _ = planted(60, 80, 0.0, 1)
    ids = names_of(len(values))
    recipe = Recipe(k=(2, 3))
    whole = null_statistics(values, ids, recipe, 0, 30)
    assert np.array_equal(whole[10:20], null_statistics(values, ids, recipe, 10, 20))
    here = data_statistics(components_of(values, ids, recipe), recipe)
    assert np.abs(whole.mean(axis=0) - here)[: len(recipe.k)].max() < 0.1


def test_find_groups_on_a_dataarray():
    values, truth = planted(80, 60, 3.0, 6)
    data = xr.DataArray(values, dims=("samples", "features"), coords={"sample_id": ("samples", names_of(len(values)))})
    found = stratify.find_groups(data.T, algorithms=["kmeans", "hierarchical"], resamples=20, k=(1, 5))
    assert found.recipe.algorithms == ("hierarchical", "kmeans")
    assert found.choice.k == 4
    assert stratify.adjusted_rand_index(found.strata.table["stratum"].tolist(), truth.tolist()) > 0.9
    with pytest.raises(DataError, match="no coordinate 'sample_id'"):
        stratify.find_groups(data.drop_vars("sample_id"))
    with pytest.raises(SpecError, match="smallest and a largest"):
        stratify.find_groups(data, k=(3, 2))


def test_duplicated_samples_are_fine():
    values = np.repeat(np.random.default_rng(0).normal(size=(6, 10)), 3, axis=0)
    labels = resample_labels(values, names_of(18), Recipe(resamples=8, k=(2, 6, 8)))
    drawn = labels[:, 0, 0] >= 0
    assert ((labels >= 0) == drawn[:, None, None, :]).all()


def test_faults_are_named():
    values = np.random.default_rng(0).normal(size=(10, 6))
    ids = names_of(10)
    with pytest.raises(SpecError, match=r"k = 9 groups can't be made of 8 samples \(0.8 of 10\)"):
        resample_labels(values, ids, Recipe(k=(2, 9)))
    missing = values.copy()
    missing[2, 1] = missing[2, 3] = missing[4, 1] = np.nan
    with pytest.raises(DataError, match=r"3 missing .* 2 of 10 samples \(s002, s004\) and 2 of 6 features"):
        resample_labels(missing, ids, Recipe(k=(2,)))
    flat = values.copy()
    flat[7] = 1.5
    with pytest.raises(DataError, match=r"1 of 10 samples have the same value in all 6 features \(s007\)"):
        resample_labels(flat, ids, Recipe(k=(2,)))
    resample_labels(flat, ids, Recipe(k=(2,), distance="euclidean", resamples=2))
    with pytest.raises(DataError, match="needs at least 2"):
        resample_labels(values[:, :1], ids, Recipe(k=(2,)))
    with pytest.raises(DataError, match=r"ids repeat \(s001\)"):
        resample_labels(values, ["s001", *ids[1:]], Recipe(k=(2,)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"algorithms": ("dbscan",)}, "dbscan"),
        ({"algorithms": ()}, "none"),
        ({"distance": "cosine"}, "distance 'cosine'"),
        ({"linkage": "single"}, "linkage 'single'"),
        ({"k": (1, 2)}, "within 2..127"),
        ({"resamples": 0}, "resamples is 0"),
        ({"sample_fraction": 1.5}, "sample_fraction is 1.5"),
    ],
)
def test_recipes_outside_their_ranges(change, message):
    with pytest.raises(SpecError, match=message):
        Recipe(**change)
