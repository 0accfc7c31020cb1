"""An explanation says what an association says; how the cohort is cut, workers and a restart have no say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import explain_scene as scene
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from jobs_helpers import run as associate

from sjd_dask.jobs import explain
from sjd_dask.runtime.cluster import open_cluster
from sjd_dask.store.cohort import open_cohort

TABLES = {
    "table", "summary", "top", "modules", "module_genes", "module_scores", "clinical", "clinical_groups", "shares",
    "stability", "visits", "agreement", "cross",
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("explain")


@pytest.fixture(scope="module")
def first(home: Path, cluster: Any) -> Any:
    """Everything asked, on two workers."""
    return scene.run(scene.make(home / "one"), cluster)


def all_tables(outcome: Any) -> dict[str, pd.DataFrame]:
    result = outcome.cohort.result(outcome.results[0])
    return {name: result.to_pandas(name) for name in result.tables}


def check_same(found: Any, wanted: Any) -> None:
    theirs = all_tables(wanted)
    for name, table in all_tables(found).items():
        # A stripe with a missing value is solved feature by feature, and which features share a stripe follows the
        # chunks: last bits of their standard errors differ. All the rest is the same to the bit.
        exact = name not in ("table", "top", "summary", "modules")
        how: dict[str, Any] = {"check_exact": True} if exact else {"rtol": 1e-9, "atol": 1e-12}
        pd.testing.assert_frame_equal(table, theirs[name], obj=name, **how)


def test_all_assays_are_compared_and_groups_told(first: Any) -> None:
    made, meta = all_tables(first), first.cohort.result("explanations/groups").meta
    assert set(made) == TABLES
    table = made["table"]
    assert list(dict.fromkeys(table["assay"])) == ["rna", "sites"]
    assert set(table.loc[table["assay"] == "rna", "group"]) == {"C1", "C2", "C3"}
    assert set(table.loc[table["assay"] == "sites", "against"]) == {"rest"}  # no healthy sample has methylation
    assert set(table.loc[table["descriptive"], "feature_id"]) == set(scene.USED)
    assert not table.loc[table["assay"] == "sites", "descriptive"].any()
    scores = made["modules"].set_index(["assay", "module", "group", "against"])
    interferon = scores.loc[("rna", "interferon type I", "C2", "healthy")]
    assert interferon["effect"] > 2 and interferon["q_value"] < 1e-6 and interferon["n_descriptive"] == 6
    each = made["module_scores"].query("assay == 'rna' and module == 'interferon type I'")
    each = each.set_index("group")["score"]
    cut = each["healthy"].mean() + 2 * each["healthy"].std()
    assert len(each["healthy"]) == 12 and interferon["share_high"] == (each["C2"] > cut).mean() > 0.5
    assert scores.loc[("rna", "mine", "C1", "rest"), "q_value"] < 1e-3
    matched = made["module_genes"].set_index(["assay", "module"])
    assert matched.loc[("rna", "mine"), ["n_genes", "n_matched", "missing"]].tolist() == [4, 3, "absent"]
    assert ("sites", "sites") in matched.index and matched.loc[("sites", "mine"), "n_matched"] == 0
    shares = made["shares"].set_index(["what", "beyond"])
    assert (
        shares.loc[("composition", ""), "p_value"] == 0.05 and shares.loc[("interferon", "composition"), "share"] > 0.2
    )
    assert shares.loc[("batch", ""), "share"] < 0.05
    assert made["clinical"].set_index("column").loc["neutrophils", "q_value"] < 0.01
    top = made["top"].query("assay == 'rna' and group == 'C2' and against == 'healthy'")
    assert set(top["gene_symbol"].head(6)) <= set(scene.SYMBOLS[:6]) and top["p_value"].is_monotonic_increasing
    assert meta["n_healthy"] == 12 and "2 healthy samples are in the grouping too" in meta["warnings"][0]
    assert scene.run(Path(first.cohort.path), None).state == "unchanged"


@pytest.mark.parametrize("person", ["person_id", None])
def test_features_as_an_association_tests_them(home: Path, cluster: Any, person: str | None) -> None:
    """The same model written as `job: associate` over a column of the groups."""
    cohort = scene.make(home / f"as_{person}")
    keys: dict[str, Any] = {
        "assay": "rna",
        "person": person,
        "visit": None,
        "composition": [],
        "batch": [],
        "drugs": [],
    }
    outcome = scene.run(cohort, cluster, **keys, sex=None, compare=[], clinical=[])
    table = all_tables(outcome)["table"]
    label = scene.groups().reindex(scene.IDS)
    label[scene.sheet()["disease"] == "healthy"] = "healthy"
    open_cohort(cohort).add_samples(label.rename("label").rename_axis("sample_id").to_frame())
    known = label[scene.sheet()["age"].notna().to_numpy()].value_counts()
    rest = known["C2"] + known["C3"]
    contrasts = {
        "C1 against healthy": {"label[C1]": 1, "label[healthy]": -1},
        "C1 against rest": {"label[C1]": 1, "label[C2]": -known["C2"] / rest, "label[C3]": -known["C3"] / rest},
    }
    contrasts = {name: {k: float(v) for k, v in one.items()} for name, one in contrasts.items()}
    block = {"block": person, "correlation_method": "reml"} if person else {}
    ran = associate(cohort, cluster, "same", assay="rna", design="~ 0 + label + age", contrasts=contrasts, **block)
    for name in contrasts:
        wanted = ran[name]
        own = table[(table["group"] == "C1") & (table["against"] == name.split()[-1])].set_index("feature_id")
        for column in ("effect", "standard_error", "statistic", "df", "p_value", "q_value", "mean"):
            np.testing.assert_allclose(own[column], wanted.loc[own.index, column], rtol=1e-9, err_msg=column)


def test_other_layout_order_and_one_worker(first: Any, home: Path) -> None:
    order = np.random.default_rng(5).permutation(scene.N)
    cohort = scene.make(home / "two", (7, 16), order, pieces=3)
    with open_cluster("local", workers=1) as alone:
        check_same(scene.run(cohort, alone), first)


def test_a_killed_run_makes_only_what_is_missing(
    first: Any, home: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = scene.make(home / "three")

    def die(*_: Any) -> Any:
        raise RuntimeError("the driver died")

    with monkeypatch.context() as patched:
        patched.setattr(explain, "stability_tables", die)
        with pytest.raises(RuntimeError, match="died"):
            scene.run(cohort, cluster)
    assert not [one for one in open_cohort(cohort).results() if one.kind == "explanations"]
    parts = sorted((cohort / "runs").glob("*/*/parts/[0-9]*.arrow"))
    assert len(parts) > 8
    for one in parts[2:5]:
        one.unlink()
    done = scene.run(cohort, cluster)
    ran = done.cohort.result("explanations/groups").meta["run"]
    assert ran["tasks"] - ran["reused"] == 3
    check_same(done, first)


def test_one_group_is_compared_with_the_healthy(home: Path, cluster: Any) -> None:
    cohort = scene.make(home / "four")
    table = pa.table({"sample_id": scene.IDS[:40], "stratum": ["C1"] * 40})
    open_cohort(cohort).publish_result("strata", "alone", {"table": table}, {"assay": "rna"})
    made = all_tables(scene.run(cohort, cluster, strata="strata/alone", assay="rna", compare=[]))
    assert set(made["table"]["against"]) == {"healthy"} and not made["table"]["descriptive"].any()
    assert made["shares"]["share"].isna().all() and (made["shares"]["note"] != "").all()
