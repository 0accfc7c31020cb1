"""Parts of groups over several assays: fused networks from their definition, pooled consensus, support by chance."""

from __future__ import annotations

import numpy as np
import pytest

from sjd_dask.errors import DataError
from sjd_dask.jobs.stratify_assays_tasks import n_draws
from sjd_dask.stratify.agreement import adjusted_rand_index
from sjd_dask.stratify.assay_choice import AssayVerdict, speaking
from sjd_dask.stratify.assay_strata import assay_support
from sjd_dask.stratify.assays import JointDistances, Voice, joined_rounds, pooled_consensus
from sjd_dask.stratify.choose import LEVEL
from sjd_dask.stratify.distances import sample_distances, silhouette_widths
from sjd_dask.stratify.draws import id_keys
from sjd_dask.stratify.fusion import AssayTable, Fusion, check_assays, fuse, fused_labels, similarity
from sjd_dask.stratify.recipe import Recipe

OPTIONS = Fusion(neighbours=5, width=0.5, iterations=6)


def two(n: int = 40, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    group = np.arange(n) % 3
    return [rng.normal(0, 1, (n, p)) + 1.5 * rng.normal(0, 1, (3, p))[group] for p in (12, 9)]


def by_definition(distances: list[np.ndarray], options: Fusion) -> np.ndarray:
    """Wang et al. 2014 for complete data, sample by sample, with the normalisation of SNFtool."""
    n, k = len(distances[0]), options.neighbours

    def normalised(w: np.ndarray) -> np.ndarray:
        p = np.empty_like(w)
        for i in range(n):
            others = sum(w[i, j] for j in range(n) if j != i)
            for j in range(n):
                p[i, j] = 0.5 if i == j else w[i, j] / (2 * others)
        return (p + p.T) / 2

    networks, local = [], []
    for d in distances:
        near = [np.mean(sorted(d[i])[1 : k + 1]) for i in range(n)]
        w = np.empty((n, n))
        for i in range(n):
            for j in range(n):
                s = options.width * (near[i] + near[j] + d[i, j]) / 3
                w[i, j] = np.exp(-((d[i, j] / s) ** 2) / 2) / s
        networks.append(normalised(w))
        sparse = np.zeros((n, n))
        for i in range(n):
            best = sorted(range(n), key=lambda j: -networks[-1][i, j])[:k]
            for j in best:
                sparse[i, j] = networks[-1][i, j] / sum(networks[-1][i, b] for b in best)
        local.append(sparse)
    for _ in range(options.iterations):
        networks = [
            normalised(s @ (sum(p for b, p in enumerate(networks) if b != a) / (len(networks) - 1)) @ s.T)
            for a, s in enumerate(local)
        ]
    return normalised(sum(networks) / len(networks))


def test_a_fused_network_is_that_of_the_definition() -> None:
    distances = [sample_distances(one, "euclidean") for one in [*two(), two(seed=1)[0]]]
    rows = [np.arange(40)] * 3
    found = fuse([similarity(one, OPTIONS) for one in distances], rows, 40, OPTIONS)
    np.testing.assert_allclose(found, by_definition(distances, OPTIONS), rtol=1e-10)
    assert np.array_equal(found, found.T)


def test_a_network_with_missing_samples() -> None:
    values, n = two(60), 60
    rows = [np.arange(0, 45), np.arange(15, 60)]
    made = [similarity(sample_distances(v[r], "euclidean"), OPTIONS) for v, r in zip(values, rows, strict=True)]
    found = fuse(made, rows, n, OPTIONS)
    # Nobody has seen a sample of the first 15 beside one of the last 15.
    assert (found[:15, 45:] == 0).all() and (found[:15, 15:45] > 0).any() and np.isfinite(found).all()
    assert np.array_equal(found, found.T) and (np.diag(found) == 0.5).all()
    # Samples in another order: the same network in that order.
    turned = fuse(made[::-1], rows[::-1], n, OPTIONS)
    np.testing.assert_allclose(turned, found, rtol=1e-12)


def test_fused_rounds_find_groups_and_depend_on_ids_alone() -> None:
    values, ids = two(60), [f"s{i:02d}" for i in range(60)]
    recipe = Recipe(algorithms=("kmeans",), k=(2, 3), resamples=6, distance="euclidean", feature_fraction=0.9)
    tables = [AssayTable("a", values[0][:50], np.arange(50)), AssayTable("b", values[1][10:], np.arange(10, 60))]
    labels = fused_labels(tables, ids, recipe, Fusion(10), 0, 6)
    assert labels.shape == (6, 1, 2, 60) and ((labels[:, 0, 0] >= 0).sum(axis=1) == 48).all()
    assert np.array_equal(labels[2:4], fused_labels(tables, ids, recipe, Fusion(10), 2, 4))
    drawn = labels[0, 0, 1] >= 0
    assert adjusted_rand_index(list(labels[0, 0, 1][drawn]), list((np.arange(60) % 3)[drawn])) > 0.9


def test_consensus_is_the_mean_of_the_assays_that_have_both() -> None:
    # Three samples in two assays, two rounds each: in the first (0, 1) share a group once, in the second never.
    first = Voice(np.array([0, 1, 2]), np.array([[[0, 0, 1]], [[0, 1, 1]]], dtype=np.int8), (0,))
    second = Voice(np.array([0, 1, 3]), np.array([[[0, 1, 0]], [[0, 1, 1]]], dtype=np.int8), (0,))
    matrix, known = pooled_consensus([first, second], 4)
    assert matrix[0, 1] == pytest.approx(0.25) and matrix[0, 2] == 0 and matrix[1, 2] == 0.5
    assert matrix[0, 3] == 0.5 and matrix[1, 3] == 0.5 and not known[2, 3] and known.sum() == 14
    # (2, 3) have 0 and 1 as common company: 2 (0 x 0.5 + 0.5 x 0.5) / (0 + 0.5 + 0.5 + 0.5).
    assert matrix[2, 3] == pytest.approx(2 * 0.25 / 1.5) == matrix[3, 2]


def test_a_pair_without_an_assay_keeps_the_company_of_its_group() -> None:
    rng, n = np.random.default_rng(4), 30
    group = np.arange(n) % 2
    labels = np.repeat(group[None, None], 5, axis=0).astype(np.int8)
    rows = [np.sort(rng.choice(n, 20, replace=False)), np.sort(rng.choice(n, 20, replace=False))]
    matrix, known = pooled_consensus([Voice(r, labels[:, :, r], (0,)) for r in rows], n)
    inside = np.isin(np.arange(n), np.concatenate(rows))
    assert not known[np.ix_(inside, inside)].all()
    same = group[:, None] == group
    np.testing.assert_allclose(matrix[np.ix_(inside, inside)], same[np.ix_(inside, inside)], atol=1e-6)


def test_rounds_of_assays_that_each_see_one_cut_are_joined() -> None:
    group = np.arange(40) % 4
    keys = id_keys([f"s{i}" for i in range(40)])
    drawn = np.random.default_rng(0).random((8, 40)) < 0.8
    halves = [np.where(drawn, group // 2, -1), np.where(drawn, group % 2, -1)]
    voices = [Voice(np.arange(40), one[:, None].astype(np.int8), (0,)) for one in halves]
    joined = joined_rounds(voices, 4, keys, 1)
    for line, there in zip(joined, drawn, strict=True):
        assert (line[~there] == -1).all()
        assert adjusted_rand_index(list(line[there]), list(group[there])) == 1.0


def test_joint_silhouettes_are_those_of_one_assay_where_there_is_one() -> None:
    values, labels = two()[0], np.arange(40) % 3
    (wanted,) = silhouette_widths(values, [labels], "euclidean")
    table = AssayTable("a", values, np.arange(40))
    (found,) = JointDistances([table], 40, "euclidean").silhouettes(labels[None])
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    # A second assay in other units, missing for some: each weighs as much.
    other = AssayTable("b", 1e6 * values[5:], np.arange(5, 40))
    (both,) = JointDistances([table, other], 40, "euclidean").silhouettes(labels[None])
    assert np.isfinite(both).all() and np.corrcoef(both, wanted)[0, 1] > 0.99


def test_an_assay_of_noise_supports_by_chance_only() -> None:
    n, ids = 60, [f"s{i:02d}" for i in range(60)]
    group = np.arange(n) % 3
    p_values = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        noise = AssayTable("noise", rng.normal(0, 1, (n, 20)), np.arange(n))
        labels = rng.integers(0, 3, (4, 1, n)).astype(np.int8)
        found = assay_support(noise, Voice(noise.rows, labels, (0,)), group, group, ids, "euclidean", 1)
        p_values += found.table["p_value"].tolist()
    # Uniform: 40 x 3 of them, 6 expected below 0.05, and a mean of a half.
    assert np.mean(np.array(p_values) <= 0.05) < 0.13 and abs(np.mean(p_values) - 0.5) < 0.1
    told = AssayTable("told", rng.normal(0, 1, (n, 20)) + 2 * rng.normal(0, 1, (3, 20))[group], np.arange(n))
    labels = np.repeat(group[None, None], 4, axis=0).astype(np.int8)
    support = assay_support(told, Voice(told.rows, labels, (0,)), group, group, ids, "euclidean", 1)
    assert support.own_ari == 1.0 and support.ari_without == 1.0 and support.table["supports"].all()
    assert (support.table["p_value"] == 0.005).all() and (support.table["consensus_other"] == 0).all()


def test_who_speaks() -> None:
    def verdict(*trusted: int) -> AssayVerdict:
        return AssayVerdict(0.5, np.zeros(2), np.zeros(2), trusted, 1)

    def table(*rows: int) -> AssayTable:
        return AssayTable("x", np.zeros((len(rows), 2)), np.array(rows))

    silent = [verdict(1), verdict()]
    assert speaking(silent, [table(0, 1, 2), table(0, 1)], 3, 2) == [(1,), ()]
    # Sample 2 is only in the assay that sees nothing.
    assert speaking(silent, [table(0, 1), table(1, 2)], 3, 2) == [(1,), (0, 1)]
    assert speaking([verdict(), verdict()], [table(0, 1), table(1, 2)], 3, 2) == [(0, 1), (0, 1)]


@pytest.mark.parametrize("n_assays", [2, 3, 4, 5, 11])
def test_draws_suffice_for_as_many_assays(n_assays: int) -> None:
    assert n_assays / (1 + n_draws(n_assays)) <= LEVEL / 2


def test_the_assay_with_missing_values_is_named() -> None:
    values = two()
    values[1][3, 4] = np.nan
    tables = [AssayTable(name, one, np.arange(40)) for name, one in zip(("rna", "protein"), values, strict=True)]
    with pytest.raises(DataError, match=r"protein: 1 missing.*s3"):
        check_assays(tables, [f"s{i}" for i in range(40)], Recipe(k=(2,)))
