"""Profiles of groups, the stored consensus, and the visits of persons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sjd_dask.errors import DataError, SpecError
from sjd_dask.jobs.stratify_companions import consensus_table, visit_table
from sjd_dask.jobs.stratify_features import wanted_features
from sjd_dask.jobs.stratify_features_spec import FeatureChoice
from sjd_dask.jobs.stratify_spec import StratifySpec
from sjd_dask.stratify.centroids import centroid_table, group_names, nearest_centroid

FEATURES = np.array([f"g{i}" for i in range(30)], dtype=object)


def profiles(seed: int = 0, n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Three groups that differ in ten features each, on features of unlike spread."""
    rng = np.random.default_rng(seed)
    strata = np.array([f"C{one}" for one in rng.choice([1, 2, 10], n)], dtype=object)
    values = rng.normal(0, 1, (n, 30))
    for i, name in enumerate(("C1", "C2", "C10")):
        values[:, 10 * i : 10 * (i + 1)] += 2.5 * (strata == name)[:, None]
    return 5 + values * np.geomspace(0.1, 10, 30), strata


def test_centroids_are_the_means_of_the_groups() -> None:
    values, strata = profiles()
    table = centroid_table(FEATURES, values, strata)
    assert group_names(table) == ["C1", "C2", "C10"]
    for name in ("C1", "C10"):
        np.testing.assert_allclose(table[f"mean_{name}"], values[strata == name].mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(table["standard_deviation"], values.std(axis=0, ddof=1), rtol=1e-13)


def test_samples_of_another_draw_find_their_group_whatever_the_units() -> None:
    values, strata = profiles()
    other, truth = profiles(seed=1)
    table = centroid_table(FEATURES, values, strata)
    near = nearest_centroid(table, FEATURES, other)
    assert (near == truth).mean() > 0.97
    # Features in another order, one without spread, and two that only one side has.
    order = np.random.default_rng(2).permutation(30)[:28]
    table = pd.concat([table, pd.DataFrame([{**dict.fromkeys(table.columns, 1.0), "feature_id": "flat"}])])
    table.loc[table["feature_id"] == "flat", "standard_deviation"] = 0.0
    assert (nearest_centroid(table, np.append(FEATURES[order], "flat"), np.column_stack([other[:, order], other[:, 0]]))
            == truth).mean() > 0.95  # fmt: skip
    with pytest.raises(DataError, match=r"1 of the 31 features .* at least 2 are needed"):
        nearest_centroid(table, np.array(["g3", "x"], dtype=object), other[:, :2])


def test_the_consensus_has_a_row_and_a_column_for_each_sample() -> None:
    matrix = np.array([[1, 0.25, 0], [0.25, 1, 0.5], [0, 0.5, 1]], dtype=np.float32)
    frame = consensus_table(matrix, np.array(["b", "a", "010"], dtype=object)).to_pandas().set_index("sample_id")
    assert list(frame.columns) == list(frame.index) == ["b", "a", "010"]
    np.testing.assert_array_equal(frame.to_numpy(), matrix)


def test_visits_of_persons_with_several_samples() -> None:
    spec = StratifySpec(cohort=".", assay="rna", output="x", person="who", visit="month")
    frame = pd.DataFrame(
        {"who": ["p", "q", "p", None, "r", "r", "r"], "month": [12.0, 0, 2, 1, 0, np.nan, 6]}, index=list("abcdefg")
    )
    found = visit_table(frame, spec, np.array(["C1", "C2", "C3", "C1", "C1", "C1", "C2"], dtype=object))
    assert found.to_numpy().tolist() == [
        ["p", "2", "c", "C3"], ["p", "12", "a", "C1"], ["r", "0", "e", "C1"], ["r", "6", "g", "C2"],
    ]  # fmt: skip


def test_features_of_gene_sets_by_id_and_by_symbol(tmp_path: Path) -> None:
    file = tmp_path / "sets.gmt"
    file.write_text("ONE\tfirst\tIFI44\tg3\tNOTHERE\nTWO\thttp://x\tMX1\tIFI44\n")
    annotation = pd.DataFrame({"gene_symbol": ["IFI44", "IFI44", "MX1", *[None] * 27]})
    choice = FeatureChoice(list="sets.gmt")
    found = wanted_features(choice, None, str(file), FEATURES, annotation)
    assert set(found.ids or ()) == {"g0", "g1", "g3", "g2"} and found.absent == 1
    assert found.sets == {"ONE": {"listed": 3, "features": 3}, "TWO": {"listed": 2, "features": 3}}
    assert found.text == "4 of the 2 sets of sets.gmt"
    one = wanted_features(FeatureChoice(list="s.gmt", set="TWO"), None, str(file), FEATURES, annotation)
    assert set(one.ids or ()) == {"g0", "g1", "g2"} and "'TWO'" in one.text
    with pytest.raises(SpecError, match=r"`features: set: TWOO`: sets.gmt has no such set .*; near: \['TWO'\]"):
        wanted_features(FeatureChoice(list="s.gmt", set="TWOO"), None, str(file), FEATURES, annotation)
    with pytest.raises(DataError, match=r"1 of the 4 features of the 2 sets of sets.gmt .* 'g0'"):
        wanted_features(choice, None, str(file), FEATURES)
