"""Clusters: a row's group hangs on the row and the model alone, the model on its persons alone."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from clusters_scene import everything, symptoms
from hypothesis import given, settings
from hypothesis import strategies as st

from sjd_dask.clinical import score
from sjd_dask.clinical.integrated_clusters import fit_integrated
from sjd_dask.clinical.symptom_clusters import fit_nsst

MADE = {"nsst": (symptoms, fit_nsst), "integrated": (everything, fit_integrated)}


@pytest.fixture(scope="module")
def models() -> dict[str, dict[str, Any]]:
    return {name: fit(make(150)[1]) for name, (make, fit) in MADE.items()}


@pytest.mark.parametrize("measure", MADE)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000), missing=st.sampled_from([0.0, 0.1, 0.5]))
def test_rows_alone_in_any_order_and_in_parts(
    models: dict[str, dict[str, Any]], measure: str, seed: int, missing: float
) -> None:
    _, frame = MADE[measure][0](40, seed=seed, missing=missing)
    whole = score(frame, measure, model=models[measure])
    order = np.random.default_rng(seed).permutation(40)
    shuffled = score(frame.iloc[order], measure, model=models[measure])
    pd.testing.assert_frame_equal(whole.iloc[order].reset_index(drop=True), shuffled, check_exact=True)
    parts = [
        score(frame.iloc[rows], measure, model=models[measure]) for rows in (slice(0, 1), slice(1, 17), slice(17, 40))
    ]
    pd.testing.assert_frame_equal(whole, pd.concat(parts, ignore_index=True), check_exact=True)


@pytest.mark.parametrize("measure", MADE)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_what_becomes_known_only_narrows(models: dict[str, dict[str, Any]], measure: str, seed: int) -> None:
    _, frame = MADE[measure][0](40, seed=seed)
    rng = np.random.default_rng(seed)
    columns = [name for name in frame.columns if name != "sample_id"]
    less = frame.copy()
    less[columns] = less[columns].mask(rng.random((40, len(columns))) < 0.5)
    more = less.copy()
    more[columns] = less[columns].fillna(frame[columns].mask(rng.random((40, len(columns))) < 0.5))
    rows = [score(one, measure, model=models[measure]) for one in (less, more, frame)]
    for wide, narrow in itertools.pairwise(rows):
        for group in models[measure]["groups"]:
            assert (wide[f"{measure}_p_{group}_min"] <= narrow[f"{measure}_p_{group}_min"] + 1e-12).all()
            assert (wide[f"{measure}_p_{group}_max"] >= narrow[f"{measure}_p_{group}_max"] - 1e-12).all()
        named = wide[measure].notna()
        assert (wide.loc[named, measure] == narrow.loc[named, measure]).all()
        assert (narrow[f"{measure}_known"] >= wide[f"{measure}_known"]).all()


@pytest.mark.parametrize("measure", MADE)
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_fit_doesnt_hang_on_the_order_of_its_rows(measure: str, seed: int) -> None:
    make, fit = MADE[measure]
    _, frame = make(100, seed=seed, missing=0.02)
    assert fit(frame.sample(frac=1, random_state=seed)) == fit(frame)
