"""Labels are equal bit for bit whatever the order of samples and the split of the rounds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sjd_dask.stratify.choose import choose_k
from sjd_dask.stratify.null import null_statistics
from sjd_dask.stratify.recipe import Recipe
from sjd_dask.stratify.resampling import resample_labels
from sjd_dask.stratify.strata import strata


def _scene(seed: int, n: int) -> tuple[np.ndarray, list[str]]:
    random = np.random.default_rng(seed)
    values = random.normal(size=(n, 12)) + 2.0 * random.normal(size=(3, 12))[random.integers(0, 3, n)]
    values[n // 2] = values[0]  # ties
    return values, [f"p{i}" for i in random.permutation(n)]


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(12, 40),
    cuts=st.lists(st.integers(0, 7), max_size=3),
    distance=st.sampled_from(["pearson", "spearman", "euclidean"]),
    linkage=st.sampled_from(["average", "complete", "ward"]),
    feature_fraction=st.sampled_from([1.0, 0.7]),
)
def test_labels_over_order_and_split(seed, n, cuts, distance, linkage, feature_fraction):
    values, ids = _scene(seed, n)
    recipe = Recipe(
        distance=distance, linkage=linkage, k=(2, 4), resamples=7, feature_fraction=feature_fraction, seed=seed
    )
    whole = resample_labels(values, ids, recipe)
    turn = np.random.default_rng(seed).permutation(n)
    turned = resample_labels(values[turn], [ids[i] for i in turn], recipe)
    assert np.array_equal(turned, whole[..., turn])
    edges = [0, *sorted(cuts), 7]
    parts = [resample_labels(values, ids, recipe, a, b) for a, b in pairwise(edges)]
    assert np.array_equal(np.concatenate(parts), whole)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_choice_and_strata_over_order(seed):
    values, ids = _scene(seed, 30)
    recipe = Recipe(k=(2, 3), resamples=6, seed=seed)
    labels = resample_labels(values, ids, recipe)
    null = null_statistics(values, ids, recipe, 0, 20)
    turn = np.random.default_rng(seed).permutation(30)
    other_ids = [ids[i] for i in turn]
    assert np.array_equal(null_statistics(values[turn], other_ids, recipe, 0, 20), null)
    first = choose_k(values, ids, recipe, labels, null)
    second = choose_k(values[turn], other_ids, recipe, labels[..., turn], null)
    assert first.k == second.k
    assert first.table.equals(second.table)
    assert all(np.array_equal(first.groups[key][turn], second.groups[key]) for key in first.groups)
    one = strata(values, ids, recipe, labels, 3)
    two = strata(values[turn], other_ids, recipe, labels[..., turn], 3)
    assert one.table.iloc[turn].reset_index(drop=True).equals(two.table)
    assert np.array_equal(one.matrix[np.ix_(turn, turn)], two.matrix)
    assert np.array_equal(one.ambiguous[turn], two.ambiguous)
