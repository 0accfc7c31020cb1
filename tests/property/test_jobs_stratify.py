"""Groups don't depend on how the cohort is cut, in what order it came, how many workers there are, or on a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import stratify_scene as scene

from sjd_dask.errors import DataError, PlanRefused, SpecError
from sjd_dask.jobs import stratify, stratify_features
from sjd_dask.jobs.driver import prepare
from sjd_dask.jobs.spec import parse_spec
from sjd_dask.runtime.cluster import open_cluster
from sjd_dask.stratify.agreement import adjusted_rand_index

TABLES = (
    *("table", "choice", "cdf", "labels", "features", "principal", "heat", "cross"),
    *("centroids", "consensus"),
)
SPEC: dict[str, Any] = {"compare": ["truth", "batch", "age"], "resamples": {"n": 24, "feature_fraction": 0.8}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("strata")


@pytest.fixture(scope="module")
def first(home: Path, cluster: Any) -> Any:
    """The cohort in one segment, grouped on two workers."""
    return scene.run(scene.make(home / "one", scene.planted()), cluster, **SPEC)


def all_tables(outcome: Any) -> dict[str, pd.DataFrame]:
    result = outcome.cohort.result(outcome.results[0])
    assert set(result.tables) == set(TABLES)
    return {name: result.to_pandas(name) for name in TABLES}


def check_same(found: Any, wanted: Any) -> None:
    theirs = all_tables(wanted)
    for name, table in all_tables(found).items():
        pd.testing.assert_frame_equal(table, theirs[name], check_exact=True, obj=name)


def test_planted_groups_are_found(first: Any) -> None:
    table, made = scene.strata(first), all_tables(first)
    meta = first.cohort.result("strata/groups").meta
    assert list(table.index) == scene.IDS
    assert meta["k"] == 4 and "p = " in meta["reason"]
    agreement = made["cross"].set_index("column")["ari"]
    assert agreement["truth"] > 0.9 and abs(agreement["batch"]) < 0.1 and "age (quartiles)" in agreement
    assert table["stratum"].value_counts().index.tolist() == ["C1", "C2", "C3", "C4"]
    members = table[[f"membership_C{i}" for i in range(1, 5)]]
    assert np.abs(members.sum(axis=1) - 1).max() < 1e-9
    assert set(made["labels"].columns) == {"sample_id", "k2", "k3", "k4", "k5"}
    assert (made["labels"]["k4"].to_numpy() == table["stratum"].to_numpy()).all()
    assert len(made["features"]) == 40 and made["features"]["score"].notna().all()
    assert made["choice"].loc[made["choice"]["selected"], ["algorithm", "k"]].to_numpy().tolist() == [["combined", 4]]
    assert scene.run(Path(first.cohort.path), None, **SPEC).state == "unchanged"


def test_other_layout_order_and_one_worker(first: Any, home: Path) -> None:
    order = np.random.default_rng(5).permutation(scene.N)
    cohort = scene.make(home / "two", scene.planted(), (7, 16), order, pieces=3)
    with open_cluster("local", workers=1) as alone:
        check_same(scene.run(cohort, alone, **SPEC), first)


def test_a_killed_run_makes_only_what_is_missing(
    first: Any, home: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = scene.make(home / "three", scene.planted())

    def die(*_: Any) -> Any:
        raise RuntimeError("the driver died")

    with monkeypatch.context() as patched:
        patched.setattr(stratify, "grouping_tables", die)
        with pytest.raises(RuntimeError, match="died"):
            scene.run(cohort, cluster, **SPEC)
    parts = sorted((cohort / "runs").glob("*/*/parts/[0-9]*.arrow"))
    assert len(parts) > 10
    resamples = parts[4:7]
    for one in resamples:
        one.unlink()
    done = scene.run(cohort, cluster, **SPEC)
    ran = done.cohort.result("strata/groups").meta["run"]
    assert ran["tasks"] - ran["reused"] == len(resamples)
    check_same(done, first)


def test_no_groups_are_said(home: Path, cluster: Any) -> None:
    values = np.random.default_rng(8).normal(0, 1, (scene.N, scene.P)) @ np.diag(np.linspace(0.5, 2, scene.P))
    done = scene.run(scene.make(home / "null", values), cluster)
    table, meta = scene.strata(done), done.cohort.result("strata/groups").meta
    assert meta["k"] == 1 and "no groups" in meta["reason"]
    assert set(table["stratum"]) == {"C1"} and table["core"].all() and not table["ambiguous"].any()
    assert (table["membership_C1"] == 1).all() and table["silhouette"].isna().all()
    assert any("no groups" in one for one in done.warnings)


def test_a_given_k_and_names_of_a_previous_version(first: Any, cluster: Any) -> None:
    cohort = Path(first.cohort.path)
    keys = {**SPEC, "samples": "truth != 't0'", "choose_k": 3, "seed": 7, "previous": "strata/groups@1"}
    table = scene.strata(scene.run(cohort, cluster, **keys, output="fewer"))
    before = scene.strata(first)["stratum"].loc[table.index]
    assert table["stratum"].nunique() == 3
    assert (table["stratum"] == before).mean() > 0.9
    by_person = scene.strata(scene.run(cohort, cluster, **keys, person="person_id", output="persons"))
    assert by_person["stratum"].equals(table["stratum"])


def test_features_of_a_list(first: Any, home: Path, cluster: Any) -> None:
    (home / "genes.txt").write_text("# panel\n" + "\n".join([*scene.FEATURES[:30], "unknown"]))
    keys: dict[str, Any] = {"features": {"list": str(home / "genes.txt")}, "algorithms": ["hierarchical"]}
    done = scene.run(Path(first.cohort.path), cluster, **keys, k=[2, 3], output="listed")
    result = done.cohort.result("strata/listed")
    assert result.to_pandas("features")["feature_id"].tolist() == scene.FEATURES[:30]
    assert done.warnings and "1 features of the list" in done.warnings[0]
    assert result.meta["spec"]["features"]["list"] == "genes.txt"


@pytest.mark.parametrize("by", ["mad", "cv", "dispersion"])
def test_scores_are_those_of_each_feature_alone(by: str) -> None:
    from sjd_dask.normalise.method import Stripe

    values = scene.planted()
    values[3, 5], values[:, 6] = np.nan, 2.0

    def scored(part: slice) -> dict[str, Any]:
        ids = np.array(scene.FEATURES, dtype=object)[part]
        stripe = Stripe(np.ascontiguousarray(values[:, part]), part.start, ids, pd.DataFrame(index=ids))
        return stratify_features.score_stripe(stripe, by).columns

    whole = scored(slice(0, scene.P))
    pieces = [scored(slice(i, i + width)) for i, width in ((0, 1), (1, 70), (71, 49))]
    for name, value in whole.items():
        assert np.array_equal(value, np.concatenate([piece[name] for piece in pieces]), equal_nan=name == "score")
    one = pd.Series(values[:, 9])
    wanted = {
        "mad": 1.482602218505602 * (one - one.median()).abs().median(),
        "cv": one.std() / one.mean(),
        "dispersion": one.var() / one.mean(),
    }
    assert whole["score"][9] == pytest.approx(wanted[by], rel=1e-12)
    assert whole["missing"].nonzero()[0].tolist() == [5] and whole["constant"].nonzero()[0].tolist() == [6]


def test_agreement_of_labels() -> None:
    a = np.array(["x", "x", "y", "y", "z", None], dtype=object)
    assert adjusted_rand_index(a, a) == 1.0
    b = np.array(["1", "2", "1", "2", "1", "2"], dtype=object)
    # From the definition: no pair is together in both, 2 and 4 of 10 are in each: (0 - 0.8) / (3 - 0.8).
    assert adjusted_rand_index(a, b) == pytest.approx(-0.8 / 2.2, rel=1e-12)


def test_too_many_samples_are_refused(first: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = {**scene.KEYS, "cohort": first.cohort.path, "consensus": "exact"}
    monkeypatch.setattr(stratify, "MOST_SAMPLES", 50)
    with pytest.raises(PlanRefused, match=r"72 samples.*landmarks.*`samples`"):
        prepare(parse_spec(raw, "spec"), Path()).plan(2, 4 << 30)


def test_what_a_plan_says(first: Any) -> None:
    raw = {**scene.KEYS, "cohort": first.cohort.path}
    plan = prepare(parse_spec(raw, "spec"), Path()).plan(2, 4 << 30)
    text = plan.render()
    assert "the driver holds 72 samples x 40 features" in text and "40 resamples x 4 algorithms x 4" in text
    for keys, error in (
        ({"samples": "truth == 't3' and batch == 'b1'"}, DataError),
        ({"compare": ["nothing"]}, SpecError),
        ({"features": {"top": 500}}, SpecError),
    ):
        with pytest.raises(error):
            prepare(parse_spec({**raw, **keys}, "spec"), Path())
