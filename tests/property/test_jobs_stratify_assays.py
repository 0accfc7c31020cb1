"""Groups of several assays: found together, the same whatever the order, cut, workers or restart, samples missing."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import stratify_assays_scene as scene

from sjd_dask.jobs import stratify_assays
from sjd_dask.runtime.cluster import open_cluster
from sjd_dask.stratify.agreement import adjusted_rand_index

NONE_ABSENT = {name: np.zeros(scene.N, dtype=bool) for name in scene.WIDTHS}
TABLES = {"table", "choice", "cdf", "labels", "features", "principal", "heat", "cross", "assays", "assay_support"}
MAY_HAVE = {"consensus", "visits"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("assays")


@pytest.fixture(scope="module")
def missing(home: Path, cluster: Any) -> Any:
    """Entries missing in every assay, both ways of integration."""
    cohort = scene.make(home / "one", scene.absent())
    return {"consensus": scene.run(cohort, cluster), "snf": scene.run(cohort, cluster, **scene.SNF)}


def tables(outcome: Any) -> dict[str, pd.DataFrame]:
    result = outcome.cohort.result(outcome.results[0])
    assert TABLES <= set(result.tables) <= TABLES | MAY_HAVE
    return {name: result.to_pandas(name) for name in result.tables}


def check_same(found: Any, wanted: Any) -> None:
    theirs = tables(wanted)
    for name, table in tables(found).items():
        pd.testing.assert_frame_equal(table, theirs[name], check_exact=True, obj=name)


def agreement(outcome: Any, column: str | None = None) -> float:
    made = tables(outcome)
    frame = made["table"] if column is None else made["labels"]
    labels = frame.set_index("sample_id")["stratum" if column is None else column]
    return adjusted_rand_index(labels, pd.Series(scene.truth(), index=scene.IDS))


@pytest.mark.parametrize("keys", [{}, scene.SNF], ids=["consensus", "snf"])
def test_groups_that_no_assay_has_alone(home: Path, cluster: Any, keys: dict[str, Any]) -> None:
    folder = home / "whole"
    cohort = folder if folder.exists() else scene.make(folder, NONE_ABSENT)
    # A fused network has no way to leave an assay out.
    assays = scene.KEYS["assays"][: 2 if keys else 3]
    done = scene.run(cohort, cluster, **keys, assays=assays)
    made = tables(done)
    meta = done.cohort.result(done.results[0]).meta
    assert meta["k"] == 3, meta["reason"]
    assert agreement(done) > 0.9
    support = made["assay_support"].set_index(["assay", "stratum"])
    planted = pd.Series(scene.truth(), index=scene.IDS)
    name = {g: made["table"].set_index("sample_id")["stratum"][planted[planted == g].index].mode()[0] for g in range(3)}
    # Each assay tells the group that it was given from the others; what the noise says is what chance says.
    assert support.loc[("rna", name[0]), "silhouette"] > 0.1 and support.loc[("rna", name[0]), "supports"]
    assert support.loc[("protein", name[2]), "silhouette"] > 0.1 and support.loc[("protein", name[2]), "supports"]
    assert not support.loc[("protein", name[0]), "supports"] and not support.loc[("rna", name[2]), "supports"]
    rows = made["assays"].set_index("assay")
    assert (rows.loc[["protein", "rna"], "p_value"] < 0.01).all()
    if not keys:
        assert support.loc["noise", "silhouette"].abs().max() < 0.06 and rows.loc["noise", "p_value"] > 0.02
        assert rows.loc["noise", "own_ari"] < 0.1 < rows.loc["rna", "own_ari"]
        assert rows.loc["noise", "algorithms"] == "" and "noise took no part" in meta["reason"]


def test_samples_missing_in_some(missing: Any) -> None:
    for way, done in missing.items():
        # Who is in one of the two telling assays only can't be told apart from some others.
        assert max(agreement(done, f"k{k}") for k in (2, 3, 4)) > 0.6, way
        meta = done.cohort.result(done.results[0]).meta
        table = tables(done)["table"]
        assert len(table) == scene.N and set(table["n_assays"]) == {1, 2, 3}
        assert meta["n_pairs_apart"] > 0 and any("no assay in common" in one for one in done.warnings)
        members = table[[one for one in table if one.startswith("membership_")]]
        assert np.abs(members.sum(axis=1) - 1).max() < 1e-9
        sizes = {name: one["samples"] for name, one in meta["assays"].items()}
        assert sizes == {name: int((~gone).sum()) for name, gone in scene.absent().items()}


def test_other_layout_order_of_samples_and_assays_and_one_worker(missing: Any, home: Path) -> None:
    order = np.random.default_rng(5).permutation(scene.N)
    cohort = scene.make(home / "two", scene.absent(), (7, 16), order)
    assays = list(reversed(scene.KEYS["assays"]))
    with open_cluster("local", workers=1) as alone:
        check_same(scene.run(cohort, alone, assays=assays), missing["consensus"])
        check_same(scene.run(cohort, alone, assays=assays, **scene.SNF), missing["snf"])


def test_a_killed_run_makes_only_what_is_missing(
    missing: Any, home: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = scene.make(home / "three", scene.absent())

    def die(*_: Any) -> Any:
        raise RuntimeError("the driver died")

    with monkeypatch.context() as patched:
        patched.setattr(stratify_assays, "assays_tables", die)
        with pytest.raises(RuntimeError, match="died"):
            scene.run(cohort, cluster)
    parts = sorted((cohort / "runs").glob("*/*/parts/[0-9]*.arrow"))
    gone = parts[8:12]
    for one in gone:
        one.unlink()
    done = scene.run(cohort, cluster)
    ran = done.cohort.result("strata/joint").meta["run"]
    assert ran["tasks"] == len(parts) and ran["tasks"] - ran["reused"] == len(gone)
    check_same(done, missing["consensus"])


@pytest.mark.parametrize("keys", [{}, scene.SNF], ids=["consensus", "snf"])
def test_landmarks_make_the_groups_of_all(missing: Any, cluster: Any, keys: dict[str, Any]) -> None:
    cohort = Path(missing["consensus"].cohort.path)
    keys = {**keys, "assays": scene.KEYS["assays"][:2], "choose_k": 3, "require": 2, "output": "all"}
    whole = scene.run(cohort, cluster, **keys)
    few = {**keys, "output": "some", "consensus": "landmarks", "landmarks": 40}
    done = scene.run(cohort, cluster, **few)
    made, meta = tables(done), done.cohort.result("strata/some").meta
    table = made["table"].set_index("sample_id")
    assert meta["assays_landmarks"]["n"] == 40 == len(made["heat"]) and meta["assays_landmarks"]["placed_ari"] > 0.8
    assert list(table.index) == list(tables(whole)["table"]["sample_id"]) and len(table) > 50
    planted = pd.Series(scene.truth(), index=scene.IDS)
    assert adjusted_rand_index(table["stratum"], planted) > 0.8
    members = table[[one for one in table if one.startswith("membership_")]]
    assert np.abs(members.sum(axis=1) - 1).max() < 1e-6 and table["silhouette"].between(-1, 1).all()
    assert (made["labels"]["k3"].to_numpy() == table["stratum"].to_numpy()).all()
    assert set(made["labels"].columns) == {"sample_id", "k2", "k3", "k4"}


def test_fewest_assays_a_query_for_each_and_names_that_stay(missing: Any, cluster: Any) -> None:
    cohort = Path(missing["consensus"].cohort.path)
    assays = [{"assay": "rna", "samples": "age < 65"}, {"assay": "protein"}]
    k = missing["consensus"].cohort.result("strata/joint").meta["k"]
    keys = {"assays": assays, "require": 2, "choose_k": k, "previous": "strata/joint", "output": "both"}
    done = scene.run(cohort, cluster, **keys, seed=4)
    table = tables(done)["table"].set_index("sample_id")
    gone, age = scene.absent(), pd.Series(np.arange(scene.N) % 40 + 30, index=scene.IDS)
    both = [one for i, one in enumerate(scene.IDS) if not gone["rna"][i] and not gone["protein"][i] and age[one] < 65]
    assert list(table.index) == both and (table["n_assays"] == 2).all()
    before = tables(missing["consensus"])["table"].set_index("sample_id")["stratum"][table.index]
    found = done.cohort.result("strata/both").meta["matched"]
    names = sorted(set(table["stratum"]))
    shared = pd.crosstab(table["stratum"], before).reindex(index=names, columns=names, fill_value=0).to_numpy()
    # No other way to give the names would keep more samples where they were.
    ways = (sum(shared[i, j] for i, j in enumerate(way)) for way in itertools.permutations(range(len(names))))
    assert sum(found.values()) == np.trace(shared) == max(ways) > len(table) / 2


def test_no_groups_in_any(home: Path, cluster: Any) -> None:
    from jobs_helpers import bring, make_cohort, write_npz

    cohort, rng = make_cohort(home / "null"), np.random.default_rng(11)
    for name in ("a", "b"):
        values = rng.normal(0, 1, (50, 3)) @ rng.normal(0, 1, (3, 30)) + rng.normal(0, 1, (50, 30))
        bring(cohort, name, write_npz(home / "null.npz", values, scene.IDS[:50], [f"{name}{i}" for i in range(30)]))
    done = scene.run(cohort, cluster, assays=[{"assay": "a"}, {"assay": "b"}], compare=None)
    made, meta = tables(done), done.cohort.result(done.results[0]).meta
    assert meta["k"] == 1 and "no groups" in meta["reason"]
    assert set(made["table"]["stratum"]) == {"C1"} and made["assay_support"].empty
    assert any("no groups" in one for one in done.warnings)
