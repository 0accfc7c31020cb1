"""Clusters beside classes, markers and visits: against scipy, with nothing small given away."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from clusters_scene import CENTRES, SPREAD, SYMPTOMS, everything, symptoms
from scipy import stats

from sjd_dask.clinical import cluster_stability, fit_modules, fit_nsst, group_markers, marker_sets, score, score_modules
from sjd_dask.clinical.cluster_stability import visit_numbers
from sjd_dask.clinical.cross_tables import cross_table
from sjd_dask.clinical.measures import MEASURES
from sjd_dask.errors import DataError, SpecError
from sjd_dask.jobs.score_summary import summarise

RNG = np.random.default_rng(8)
IDS = pd.Index([f"{i:03d}" for i in range(90)], dtype=object)
GROUPS = pd.Series(np.repeat(["A", "B", "C"], 30), index=IDS)
MARKERS = pd.DataFrame(
    {
        "ifn": RNG.normal(size=90) + np.repeat([0, 1, 2], 30),
        "igg": RNG.exponential(10, 90),
        "flag": RNG.random(90) < 0.4,
    },
    index=IDS,
)


def test_markers_against_scipy() -> None:
    holed = MARKERS.copy()
    holed.iloc[::7, 0] = np.nan
    found = group_markers(GROUPS, holed.iloc[::-1])
    tests = found.tests.set_index("marker")
    assert list(tests.index) == ["ifn", "igg", "flag"]
    for name in tests.index:
        parts = [holed.loc[GROUPS.eq(one), name].dropna().astype(float) for one in "ABC"]
        h, p = stats.kruskal(*parts)
        n = sum(map(len, parts))
        row = tests.loc[name]
        assert row[["statistic", "p_value", "epsilon2"]].tolist() == pytest.approx([h, p, h / (n - 1)])
        assert row["n"] == n and row["n_groups"] == 3 and row["df"] == 2
        cells = found.groups[found.groups["marker"] == name].set_index("group")
        for letter, own in zip("ABC", parts, strict=True):
            others = pd.concat([part for part in parts if part is not own])
            cell = cells.loc[letter]
            u = stats.mannwhitneyu(own, others, use_continuity=True, method="auto")
            assert cell["probability_above"] == pytest.approx(u.statistic / len(own) / len(others))
            wanted = [own.mean(), *np.quantile(own, [0.25, 0.5, 0.75])]
            assert cell[["mean", "q1", "median", "q3"]].tolist() == pytest.approx(wanted)
    np.testing.assert_allclose(tests["q_value"], stats.false_discovery_control(tests["p_value"]))
    np.testing.assert_allclose(found.groups["q_value"], stats.false_discovery_control(found.groups["p_value"]))


def test_small_groups_and_what_gives_them_away_are_hidden() -> None:
    groups = GROUPS.copy()
    groups.iloc[:4] = "D"
    found = group_markers(groups, MARKERS, columns=["ifn"])
    small = found.groups.set_index("group").loc["D"]
    assert pd.isna(small["n"]) and small[["mean", "median", "p_value", "probability_above"]].isna().all()
    assert pd.isna(found.tests["n"].iloc[0]) and found.tests["p_value"].notna().all()
    # Its size isn't what is left of a total known from elsewhere: another group's isn't told either.
    assert found.groups["n"].isna().sum() == 2
    assert found.groups.loc[found.groups["n"].isna(), ["probability_above", "p_value"]].isna().all(axis=None)
    told = group_markers(GROUPS, MARKERS, columns=["ifn"], untold=["A"]).groups.set_index("group")
    assert pd.isna(told.loc["A", "n"]) and told["n"].isna().sum() == 2
    assert group_markers(groups, MARKERS, columns=["ifn"], minimum=0).groups.set_index("group").loc["D", "n"] == 4


def test_samples_are_joined_by_id_and_people_count_once() -> None:
    found = group_markers(GROUPS.iloc[::2], MARKERS.iloc[::-1])
    assert found.tests["n"].tolist() == [45, 45, 45]
    persons = pd.Series(IDS, index=IDS)
    assert group_markers(GROUPS, MARKERS, persons=persons).tests["n"].tolist() == [90] * 3
    persons.iloc[1] = persons.iloc[0]
    for said, kind, call in (
        ("person '000' has several samples", DataError, lambda: group_markers(GROUPS, MARKERS, persons=persons)),
        ("no marker 'ifnn'", SpecError, lambda: group_markers(GROUPS, MARKERS, columns=["ifnn"])),
        ("comes twice among the markers", DataError, lambda: group_markers(GROUPS, MARKERS.iloc[[0, 0, 1]])),
        ("none of the 90 samples", DataError, lambda: group_markers(GROUPS, MARKERS.set_axis(IDS + "x"))),
        ("cross_table", SpecError, lambda: group_markers(GROUPS, MARKERS.assign(t="x"), columns=["t"])),
        ("no column of the markers", SpecError, lambda: group_markers(GROUPS, MARKERS[[]].assign(t="x"))),
    ):
        with pytest.raises(kind, match=said):
            call()


def test_clusters_beside_classes_and_genes_of_lymphocytes() -> None:
    truth, frame = symptoms(300)
    clusters = score(frame, "nsst", model=fit_nsst(frame)).set_index("sample_id")["nsst"]
    rng = np.random.default_rng(2)
    molecular = pd.Series(
        np.where(rng.random(300) < np.where(truth == "LSB", 0.9, 0.2), "C1", "C2"), index=clusters.index
    )
    crossed = cross_table(clusters, molecular, minimum=0)
    assert crossed.test["p_value"] < 1e-10 and crossed.counts.to_numpy().sum() == 300
    sets = marker_sets()
    genes = [gene for members in sets.values() for gene in members]
    values = pd.DataFrame(rng.normal(size=(300, len(genes))), index=clusters.index, columns=genes)
    values[list(sets["B cells"])] += 1.5 * (truth == "LSB")[:, None]
    healthy = clusters.index[truth != "LSB"][:40]
    scores = score_modules(values, fit_modules(values, healthy, modules=sets))
    found = group_markers(clusters, scores, columns=list(sets))
    tests = found.tests.set_index("marker")["q_value"]
    assert tests["B cells"] < 1e-6 < 0.01 < tests["T cells"]
    own = found.groups.query("marker == 'B cells'").set_index("group")["probability_above"]
    assert own["LSB"] > 0.8 and (own.drop("LSB") < 0.5).all()


# -- visits ------------------------------------------------------------------------------------------------------------


def visits(n: int = 400) -> tuple[pd.DataFrame, np.ndarray]:
    """Two visits of each person; those near a border move more often."""
    truth, first = symptoms(n, seed=3)
    rng = np.random.default_rng(3)
    groups = np.array([["LSB", "HSB", "DDF", "PDF"].index(one) for one in truth])
    moved = rng.random(n) < 0.4
    after = np.where(moved, rng.integers(0, 4, n), groups)
    later = np.clip(np.round(CENTRES[after] + rng.normal(size=(n, 5)) * SPREAD), 0, [10, 10, 10, 21, 21])
    second = pd.DataFrame(later, columns=SYMPTOMS)
    second["sample_id"] = first["sample_id"] + "b"
    both = pd.concat([first.assign(visit=1), second.assign(visit=2)], ignore_index=True)
    both["person_id"] = both["sample_id"].str[:5]
    return both, groups == after


def test_stability_is_counted_by_persons() -> None:
    sheet, kept = visits()
    found = cluster_stability(score(sheet.sample(frac=1, random_state=1), "nsst", model=fit_nsst(sheet)), minimum=0)
    summary = found.summary
    assert summary["persons"] == summary["pairs"] == 400 and summary["undetermined"] == 0
    assert summary["kept"] == pytest.approx(kept.mean(), abs=0.04) and summary["kept"] == summary["kept_pairs"]
    interval = stats.binomtest(round(summary["kept"] * 400), 400).proportion_ci(method="wilson")
    assert (summary["kept_low"], summary["kept_high"]) == pytest.approx((interval.low, interval.high))
    assert (summary["published_low"], summary["published_high"]) == (0.57, 0.60)
    assert summary["chance"] == pytest.approx(0.25, abs=0.02)
    assert int(found.transitions.counts.to_numpy().sum()) == 400
    assert found.by_probability["persons"].sum() == 400


def test_a_low_probability_tells_who_switches() -> None:
    rows = [
        {"sample_id": f"{i}{v}", "person_id": str(i), "visit": v, "nsst": "A" if v == 1 or i % 2 else "B",
         "nsst_probability": 0.9 if i % 2 else 0.6}
        for i in range(40) for v in (1, 2)
    ]  # fmt: skip
    found = cluster_stability(pd.DataFrame(rows))
    assert found.summary["kept"] == 0.5 and found.summary["auc"] == 1.0 and found.summary["auc_p_value"] < 1e-6
    told = found.by_probability.set_index("probability_from")["kept"]
    assert told[0.5] == 0.0 and told[0.9] == 1.0 and np.isnan(told[0.7])


def test_undetermined_groups_are_left_out_and_counted() -> None:
    sheet, _ = visits(100)
    table = score(sheet, "nsst", model=fit_nsst(sheet))
    table.loc[table.index < 10, "nsst"] = None
    found = cluster_stability(table)
    assert found.summary["pairs"] == 100 and found.summary["undetermined"] == 10
    table["nsst"] = None
    with pytest.raises(DataError, match="none has a determined nsst"):
        cluster_stability(table)
    with pytest.raises(SpecError, match="'person_id'"):
        cluster_stability(table.drop(columns="person_id"))


def test_a_summary_of_scores_tells_the_stability() -> None:
    sheet, _ = visits(100)
    table = score(sheet, "nsst", model=fit_nsst(sheet))
    told = summarise(pa.Table.from_pandas(table), [MEASURES["nsst"]])["nsst"]
    assert told["stability"] == cluster_stability(table).summary
    once = table[table["visit"] == 1]
    assert "stability" not in summarise(pa.Table.from_pandas(once), [MEASURES["nsst"]])["nsst"]
    unclear = summarise(pa.Table.from_pandas(table.assign(visit=1)), [MEASURES["nsst"]])["nsst"]["stability"]
    assert "nothing tells which of its samples is earlier" in unclear["not told"]


def test_visits_are_numbered_within_persons() -> None:
    frame = pd.DataFrame(
        {"sample_id": list("abcdef"), "person_id": ["p", "q", "p", "q", "p", None], "visit": [10, 1, 2, 3, 1, 7]}
    )
    assert visit_numbers(frame).tolist() == [2, 0, 1, 1, 0, 0]
    with pytest.raises(DataError, match="'p'"):
        visit_numbers(frame.assign(visit=1))


def test_integrated_clusters_have_a_stability_too() -> None:
    from sjd_dask.clinical import fit_integrated

    _, frame = everything(150)
    both = pd.concat(
        [frame.assign(person_id=frame["sample_id"], visit=v, sample_id=frame["sample_id"] + str(v)) for v in (1, 2)]
    )
    table = score(both, "integrated", model=fit_integrated(both))
    found = cluster_stability(table, "integrated")
    assert found.summary["kept"] == 1.0 and np.isnan(found.summary["auc"])
