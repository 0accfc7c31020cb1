"""A chain for some features only: what it needs, and the same bits as the whole chain, alone and in any company."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from normalise_scene import CHAINS, SLOW, N, fitted

from sjd_dask.errors import DataError, SpecError
from sjd_dask.normalise.restrict import restrict

# Chains without a step that looks at a whole sample.
BY_FEATURE = {
    "m_value", "beta", "combat", "combat_covariates", "combat_nonparametric", "combat_reference",
    "remove_batch_effect", "plate_centre", "plate_centre_controls", "limit_of_detection", "log", "arcsinh", "logit",
    "logit_shrink", "standardise",
}  # fmt: skip


def bits(values: np.ndarray) -> list[list[int]]:
    """Numbers as they lie in memory; every missing value is the same."""
    clean = np.where(np.isnan(values), np.nan, values)
    return np.ascontiguousarray(clean).view(np.int64).tolist()


@pytest.mark.parametrize("name", CHAINS)
def test_the_same_bits_as_the_whole_chain(name: str) -> None:
    chain, source = fitted(name)
    rows = np.arange(40, 50) if name in SLOW else np.arange(N)
    block = source.block(rows)
    whole = chain.apply(block)
    here = np.flatnonzero(whole.pending == "")
    rng = np.random.default_rng(sorted(CHAINS).index(name))
    for n in (1, 23):
        place = rng.permutation(len(chain.out_feature_ids))[:n]
        some = restrict(chain, chain.out_feature_ids[place])
        values = block.values[:, some.source_index]
        found = some.apply(values, block.sample_ids, block.samples)
        assert found.feature_ids.tolist() == chain.out_feature_ids[place].tolist()
        assert found.pending.tolist() == whole.pending.tolist() and found.scale == chain.scale == some.scale
        assert bits(found.values[here]) == bits(whole.values[np.ix_(here, place)])
        assert some.source_ids.tolist() == chain.feature_ids[some.source_index].tolist()
        assert some.source_ids[some.of].tolist() == found.feature_ids.tolist()
        for i in here[:6]:
            # From memory that is laid out in another way, and alone.
            alone = np.asfortranarray(values)[i : i + 1]
            one = some.apply(alone, block.sample_ids[i : i + 1], block.samples.iloc[i : i + 1])
            assert bits(one.values) == bits(found.values[i : i + 1])
    assert some.needs_all == (name not in BY_FEATURE)
    assert some.needs_all or len(some.source_ids) == 23


def test_a_mask_before_a_whole_step_spares_what_it_leaves_out() -> None:
    chain, _ = fitted("mask_probes")
    some = restrict(chain, chain.out_feature_ids[[3]])
    assert some.needs_all and some.source_ids.tolist() == chain.out_feature_ids.tolist()
    assert len(some.source_ids) < len(chain.feature_ids)


@pytest.mark.parametrize("name", ["combat", "plate_centre", "remove_batch_effect", "standardise"])
def test_an_absent_feature_is_missing_and_changes_no_other(name: str) -> None:
    chain, source = fitted(name)
    block = source.block(np.arange(12))
    some = restrict(chain, chain.out_feature_ids[[7, 30, 2]])
    values = block.values[:, some.source_index].copy()
    before = some.apply(values, block.sample_ids, block.samples).values
    values[:, some.of[1]] = np.nan
    after = some.apply(values, block.sample_ids, block.samples).values
    assert np.isnan(after[:, 1]).all()
    assert bits(after[:, [0, 2]]) == bits(before[:, [0, 2]])


def test_samples_put_off_before_stay_so() -> None:
    chain, source = fitted("combat")
    block = source.block(np.arange(3))
    sheet = block.samples.assign(batch=["b1", None, "b2"])
    some = restrict(chain, chain.out_feature_ids[:2])
    held = np.array(["", "no batch", ""], dtype=object)
    found = some.apply(block.values[:, some.source_index], block.sample_ids, sheet, held)
    assert found.pending.tolist() == ["", "no batch", ""]


def test_without_a_chain_values_are_taken_as_they_are() -> None:
    some = restrict(None, np.array(["b", "a"]), "expression")
    values = np.array([[1.5, np.nan]])
    found = some.apply(values, ("s",), fitted("log")[1].block(np.arange(1)).samples)
    assert bits(found.values) == bits(values) and not some.needs_all and some.columns == ()
    with pytest.raises(SpecError, match="what the values are"):
        restrict(None, np.array(["a"]))


def test_what_can_not_be_restricted_is_named() -> None:
    chain, _ = fitted("log")
    with pytest.raises(DataError, match="'nobody'"):
        restrict(chain, np.array([chain.out_feature_ids[0], "nobody"], dtype=object))
    (method, parameters), *_ = chain.steps
    strange = dataclasses.replace(chain, steps=((method, {**parameters, "unheard": np.zeros(600)}),))
    with pytest.raises(TypeError, match="unheard"):
        restrict(strange, chain.out_feature_ids[:1])
