"""Scores under missing items: monotone, always containing the truth, and a row's result its own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sjd_dask.clinical import MEASURES, load_definition, score

INDICES = ("essdai", "clinessdai", "esspri", "sledai")
TOTAL = {"essdai": 123, "clinessdai": 135, "esspri": 10, "sledai": 105}
ITEMS = {name: load_definition(name)["items"] for name in INDICES}
ROWS = 40


def drawn(seed: int, name: str) -> np.ndarray:
    """Complete levels of all items, ROWS x items."""
    rng = np.random.default_rng(seed)
    if name == "esspri":
        return np.round(rng.uniform(0, 10, (ROWS, 3)), 1)
    return np.column_stack([rng.choice(entry["levels"], ROWS) for entry in ITEMS[name].values()]).astype(float)


def scored(levels: np.ndarray, name: str) -> pd.DataFrame:
    frame = pd.DataFrame(levels, columns=list(ITEMS[name]))
    return score(frame.assign(sample_id=[f"s{i}" for i in range(len(frame))]), name)


@pytest.mark.parametrize("name", INDICES)
def test_weights_sum_to_the_published_total(name: str) -> None:
    worst = np.array([[max(entry["levels"]) for entry in ITEMS[name].values()]], dtype=float)
    assert scored(worst, name)[name].tolist() == [TOTAL[name]]
    weights = sum(entry["weight"] * max(entry["levels"]) for entry in ITEMS[name].values())
    assert weights == TOTAL[name] * (3 if name == "esspri" else 1)


@pytest.mark.parametrize("name", INDICES)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**31), share=st.floats(0, 1))
def test_the_interval_contains_the_completed_score(name: str, seed: int, share: float) -> None:
    levels = drawn(seed, name)
    gone = np.random.default_rng(seed + 1).random(levels.shape) < share
    truth, partial = scored(levels, name), scored(np.where(gone, np.nan, levels), name)
    assert (partial[f"{name}_min"] <= truth[name]).all() and (truth[name] <= partial[f"{name}_max"]).all()
    np.testing.assert_array_equal(partial[name].notna(), ~gone.any(axis=1))
    np.testing.assert_array_equal(partial[f"{name}_known"], (~gone).sum(axis=1))
    np.testing.assert_array_equal(partial[f"{name}_reason"] == "", ~gone.any(axis=1))
    weights = np.array([entry["weight"] for entry in ITEMS[name].values()], dtype=float)
    np.testing.assert_allclose(truth[name], levels @ weights / (3 if name == "esspri" else 1), rtol=1e-12)


@pytest.mark.parametrize("name", ["essdai", "clinessdai", "sledai"])
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_a_band_is_that_of_every_completion(name: str, seed: int) -> None:
    levels = drawn(seed, name)
    gone = np.random.default_rng(seed + 1).random(levels.shape) < 0.1
    truth, partial = scored(levels, name), scored(np.where(gone, np.nan, levels), name)
    given_band = partial[f"{name}_activity"].notna()
    assert (partial[f"{name}_activity"] == truth[f"{name}_activity"])[given_band].all()
    assert truth[f"{name}_activity"].notna().all()


@pytest.mark.parametrize("name", INDICES)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_more_of_any_item_is_never_less_of_the_score(name: str, seed: int) -> None:
    """Each item in turn at its next level (or half a point up), the others as they are, some missing."""
    levels = drawn(seed, name)
    levels[np.random.default_rng(seed + 1).random(levels.shape) < 0.2] = np.nan
    raised = []
    for place, entry in enumerate(ITEMS[name].values()):
        more = levels.copy()
        if name == "esspri":
            more[:, place] = np.minimum(more[:, place] + 0.5, 10)
        else:
            for level, following in zip(entry["levels"], entry["levels"][1:], strict=False):
                more[levels[:, place] == level, place] = following
        raised.append(more)
    before = scored(np.tile(levels, (len(raised), 1)), name)
    after = scored(np.concatenate(raised), name)
    assert (after[f"{name}_min"] >= before[f"{name}_min"]).all()
    assert (after[f"{name}_max"] >= before[f"{name}_max"]).all()
    assert (after[f"{name}_min"] > before[f"{name}_min"]).any()


LABORATORY = {
    **{"neutrophils": (0.1, 3.0), "haemoglobin": (6.0, 15.0), "platelets": (20.0, 300.0), "lymphocytes": (0.1, 2.0)},
    **{"igg": (2.0, 25.0), "c3": (0.5, 1.3), "c4": (0.02, 0.3)},
}
FLAGS = ("clonal_component", "ch50_low", "cryoglobulinaemia", "igg_recent_drop", "c3_low", "c4_low")


def laboratory_sheet(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    values = {name: np.round(rng.uniform(*ends, ROWS), 2) for name, ends in LABORATORY.items()}
    flags = {name: rng.integers(0, 2, ROWS).astype(float) for name in FLAGS}
    return pd.DataFrame({"sample_id": [f"s{i}" for i in range(ROWS)], **values, **flags})


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**31), share=st.floats(0, 1))
def test_proposed_levels_contain_those_of_complete_values(seed: int, share: float) -> None:
    frame = laboratory_sheet(seed)
    gone = np.random.default_rng(seed + 1).random((ROWS, len(frame.columns) - 1)) < share
    # A recorded flag counts before its value, so the flags of complement are kept or lost on their own.
    partial = frame.assign(**{name: frame[name].mask(gone[:, i]) for i, name in enumerate(frame.columns[1:])})
    partial[["c3", "c4"]] = np.nan
    truth, found = score(frame, "laboratory"), score(partial, "laboratory")
    for domain in ("haematological", "biological"):
        value = truth[f"{domain}_proposed"]
        assert value.notna().all()
        assert (found[f"{domain}_proposed_min"] <= value).all() and (value <= found[f"{domain}_proposed_max"]).all()
        decided = found[f"{domain}_proposed"].notna()
        np.testing.assert_array_equal(found[f"{domain}_proposed_reason"] == "", decided)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**31), cut=st.integers(1, ROWS - 1))
def test_a_rows_result_is_the_same_alone_in_any_order_and_partition(seed: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    frame = laboratory_sheet(seed)
    for name in ("essdai", "esspri"):
        levels = drawn(seed, name)
        levels[rng.random(levels.shape) < 0.2] = np.nan
        frame[list(ITEMS[name])] = levels
    frame["cytopenia_autoimmune"] = rng.choice([0, 1, np.nan], ROWS)
    frame["essdai"] = rng.choice([3, 40, np.nan], ROWS)
    measures = ["essdai", "clinessdai", "esspri", "laboratory"]
    whole = score(frame, measures)
    parts = pd.concat([score(frame.iloc[:cut], measures), score(frame.iloc[cut:], measures)], ignore_index=True)
    pd.testing.assert_frame_equal(whole, parts, check_exact=True)
    order = rng.permutation(ROWS)
    shuffled = score(frame.iloc[order], measures)
    pd.testing.assert_frame_equal(whole.iloc[order].reset_index(drop=True), shuffled, check_exact=True)
    pd.testing.assert_frame_equal(whole.iloc[[cut]].reset_index(drop=True), score(frame.iloc[[cut]], measures))


def test_every_index_here_is_registered() -> None:
    assert set(INDICES) <= set(MEASURES)
