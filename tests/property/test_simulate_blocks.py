"""Simulated values depend on seed, row and feature alone."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sjd_dask.simulate import CELL_TYPES, CLASS_SHARES, Simulation

SIZES = {"methylation": 4200, "rnaseq": 1100, "cytokines": 70}
ROWS = 7


def simulation(n_samples: int = ROWS, seed: int = 3) -> Simulation:
    return Simulation(
        n_samples,
        SIZES["methylation"],
        seed,
        n_genes=SIZES["rnaseq"],
        n_cytokines=SIZES["cytokines"],
        repeat_share=0.5,
        missing_share=0.02,
    )


WHOLE = {name: simulation().block(name, 0, ROWS, 0, size) for name, size in SIZES.items()}
RANGES = {name: st.tuples(*[st.integers(0, size)] * 2).map(sorted) for name, size in SIZES.items()}


@pytest.mark.parametrize("assay", SIZES)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_any_block_in_any_order_is_a_cut_of_the_whole(assay: str, data: st.DataObject) -> None:
    sim = simulation()
    for _ in range(3):
        top, bottom = sorted(data.draw(st.tuples(st.integers(0, ROWS), st.integers(0, ROWS))))
        left, right = data.draw(RANGES[assay])
        np.testing.assert_array_equal(
            sim.block(assay, top, bottom, left, right), WHOLE[assay][top:bottom, left:right], strict=True
        )


@pytest.mark.parametrize("assay", SIZES)
def test_another_process_and_a_larger_cohort_give_the_same_values(assay: str) -> None:
    copy = pickle.loads(pickle.dumps(simulation()))  # noqa: S301 - our own bytes, as a spawned worker gets them
    np.testing.assert_array_equal(copy.block(assay, 0, ROWS, 0, SIZES[assay]), WHOLE[assay])
    larger = Simulation(50, 9000, 3, n_genes=3000, n_cytokines=130, repeat_share=0.5, missing_share=0.02)
    np.testing.assert_array_equal(larger.block(assay, 0, ROWS, 0, SIZES[assay]), WHOLE[assay])
    assert not np.array_equal(simulation(seed=4).block(assay, 0, ROWS, 0, SIZES[assay]), WHOLE[assay])


def test_stripes_join_to_the_whole() -> None:
    stripes = list(simulation().blocks("rnaseq", rows=3))
    assert [start for start, _ in stripes] == [0, 3, 6]
    np.testing.assert_array_equal(np.concatenate([block for _, block in stripes]), WHOLE["rnaseq"])


@given(seed=st.integers(0, 2**40), n_samples=st.integers(1, 3000), patient_share=st.sampled_from([0.3, 0.5, 0.8]))
@settings(max_examples=20, deadline=None)
def test_planted_shares_hold_and_fractions_sum_to_one(seed: int, n_samples: int, patient_share: float) -> None:
    sheet = Simulation(n_samples, 1, seed, patient_share=patient_share).samples()
    assert sheet.index.is_unique and len(sheet) == n_samples
    np.testing.assert_allclose(sheet[list(CELL_TYPES)].sum(axis=1), 1, atol=1e-12)
    persons = sheet.drop_duplicates("person_id")
    assert abs((persons["disease"] == "patient").sum() - patient_share * len(persons)) <= 8
    patients = persons[persons["disease"] == "patient"]
    for name, share in CLASS_SHARES.items():
        assert abs((patients["true_class"] == name).sum() - share * len(patients)) <= 8
    assert ((sheet["true_class"] == "healthy") == (sheet["disease"] == "healthy")).all()


@given(n_samples=st.integers(1, 200))
@settings(max_examples=15, deadline=None)
def test_the_first_rows_of_the_sheet_do_not_depend_on_its_length(n_samples: int) -> None:
    whole = Simulation(200, 1, 5, remission=0.5).samples()
    part = Simulation(n_samples, 1, 5, remission=0.5).samples()
    assert part.equals(whole.iloc[:n_samples])
