"""A sample's probabilities, class and status: the same bits alone, in any company, layout and number of workers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import classify_scene as scene
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from score_scene import calls, classify, make_bundle, publish

from sjd_dask.jobs import bundle as bundles
from sjd_dask.jobs.score import make_work, read_scores, score_task
from sjd_dask.normalise.reference import MemoryReference
from sjd_dask.store.cohort import open_cohort
from sjd_dask.store.ingest.pipeline import stage

# One looks at whole samples, the other at its features alone.
CHAINS: dict[str, list[Any]] = {
    "whole": scene.WITH_BATCH,
    "by_feature": [{"method": "log", "offset": 1}, {"method": "combat", "batch": "batch"}],
}
STRANGER = "S0090"  # of a batch that the chain doesn't know


@dataclass
class Scene:
    folder: Path
    wanted: dict[str, pd.DataFrame]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """The same samples in two cohorts: as they come, and shuffled in small segments of tiny chunks."""
    folder = tmp_path_factory.mktemp("bits")
    ids = scene.sample_ids()
    scene.make(folder / "one", ids)
    shuffled = list(np.random.default_rng(1).permutation(np.array(ids, dtype=object)))
    scene.make(folder / "two", shuffled, chunks=(7, 16), pieces=5)
    scene.write_matrix(folder / "all.npz", shuffled)
    for name, steps in CHAINS.items():
        bundle = make_bundle(steps)
        for cohort in ("one", "two"):
            publish(folder / cohort, bundle, name)
    for cohort in ("one", "two"):
        strange = pd.DataFrame({"batch": ["unheard"]}, index=pd.Index([STRANGER], name="sample_id"))
        open_cohort(folder / cohort).add_samples(strange)
    wanted = {name: bits(calls(classify(folder / "one", model=name, output=name))) for name in CHAINS}
    return Scene(folder, wanted)


def bits(frame: pd.DataFrame) -> pd.DataFrame:
    """What a sample's values and the model alone decide, numbers as they lie in memory."""
    shown = frame.drop(columns=["run"]).copy()
    for name in shown.columns:
        if shown[name].dtype == np.float64:
            shown[name] = np.where(shown[name].isna(), np.nan, shown[name]).view(np.int64)
    return shown.astype(object).where(shown.notna(), None)


def same(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, wanted.loc[found.index])


@pytest.mark.parametrize("model", CHAINS)
@pytest.mark.parametrize("keys", [{}, {"partition_samples": 1}, {"partition_samples": 29}], ids=str)
def test_in_any_layout_and_partition(made: Scene, model: str, keys: dict[str, Any]) -> None:
    name = f"{model}_{len(keys)}_{keys.get('partition_samples', 0)}"
    for cohort in ("two", "one"):
        found = bits(calls(classify(made.folder / cohort, model=model, output=name, **keys)))
        assert list(found.index) == sorted(scene.sample_ids())
        same(found, made.wanted[model])
    statuses = made.wanted[model]["status"]
    assert statuses[STRANGER] == "pending_batch" and (statuses == "called").sum() > 60
    assert (statuses == "not_eligible").sum() == 16


@pytest.mark.parametrize("model", CHAINS)
def test_from_a_file(made: Scene, model: str) -> None:
    done = classify(
        made.folder / "one", model=model, assay=None, file=str(made.folder / "all.npz"), quantity="counts",
        output=f"{model}_file",
    )  # fmt: skip
    same(bits(calls(done)), made.wanted[model])


@pytest.mark.parametrize("model", CHAINS)
def test_on_workers_of_their_own(made: Scene, model: str, cluster: Any) -> None:
    """Two processes that have never seen the model; so after a restart too."""
    done = classify(made.folder / "two", cluster, model=model, output=f"{model}_workers", partition_samples=11)
    same(bits(calls(done)), made.wanted[model])
    assert done.cohort.result(done.results[0]).meta["run"]["tasks"] > 4


def test_on_four_workers(made: Scene) -> None:
    from sjd_dask.runtime.cluster import open_cluster

    with open_cluster("local", workers=4) as opened:
        done = classify(made.folder / "one", opened, model="whole", output="on_four", partition_samples=9)
    same(bits(calls(done)), made.wanted["whole"])


@pytest.mark.parametrize("model", CHAINS)
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_samples_in_any_order(made: Scene, model: str, data: st.DataObject) -> None:
    cohort = open_cohort(made.folder / data.draw(st.sampled_from(["one", "two"])))
    wanted = made.wanted[model]
    eligible = list(wanted.index[wanted["status"] != "not_eligible"])
    ids = data.draw(st.lists(st.sampled_from(eligible), min_size=1, max_size=20, unique=True))
    bundle = bundles.load(cohort, model)
    work = make_work(bundle, cohort.assay("rna"), cohort.samples().loc[ids])
    parts = [score_task(work, one) for one in work.partitions(data.draw(st.integers(1, 9)))]
    scores = read_scores(parts, bundle.classifier.classes)
    assert list(scores.index) == ids
    for name in ("confidence", *(f"p_{one}" for one in bundle.classifier.classes)):
        values = scores[name].to_numpy()
        assert np.where(np.isnan(values), np.nan, values).view(np.int64).tolist() == list(wanted.loc[ids, name])
    assert list(scores["status"]) == list(wanted.loc[ids, "status"])


@pytest.mark.parametrize("model", CHAINS)
def test_rows_that_are_staged_and_not_published(made: Scene, model: str, tmp_path: Path) -> None:
    """As a night scores them: beside what is published, before anybody sees them."""
    cohort = open_cohort(made.folder / "two")
    ids = scene.sample_ids(range(120, 126))
    sheet = scene.sheet(ids)
    staged = stage(cohort, "rna", scene.write_matrix(tmp_path / "new.npz", ids), samples=sheet)
    try:
        assert staged.arrival is not None
        bundle = bundles.load(cohort, model)
        old = list(made.wanted[model].index[made.wanted[model]["status"] == "called"])[:5]
        both = pd.concat([cohort.samples().loc[old], sheet]).loc[[ids[3], *old, *ids[:3], *ids[4:]]]
        work = make_work(bundle, cohort.assay("rna").with_arrivals([staged.arrival]), both)
        scores = read_scores([score_task(work, one) for one in work.partitions(4)], bundle.classifier.classes)
    finally:
        assert staged.arrival is not None
        cohort.abandon(staged.arrival.staging_id)
    assert list(scores.index) == list(both.index)
    sheet.to_csv(tmp_path / "new.csv")
    done = classify(
        made.folder / "one", model=model, assay=None, file=str(tmp_path / "new.npz"), quantity="counts",
        sheet=str(tmp_path / "new.csv"), eligible="all", output=f"{model}_staged",
    )  # fmt: skip
    wanted = pd.concat([bits(calls(done)), made.wanted[model].loc[old]]).loc[scores.index]
    for name in ("confidence", *(f"p_{one}" for one in bundle.classifier.classes)):
        assert scores[name].to_numpy().view(np.int64).tolist() == list(wanted[name])
    assert list(scores["status"]) == list(wanted["status"])


def test_the_whole_chain_says_the_same(made: Scene) -> None:
    """Not only to itself: the classifier on what the whole chain gives all features, as a layer would hold them."""
    cohort = open_cohort(made.folder / "one")
    ids = [one for one in scene.sample_ids() if one != STRANGER]
    for model in CHAINS:
        bundle = bundles.load(cohort, model)
        assert bundle.chain is not None
        source = MemoryReference(scene.counts(ids), ids, scene.FEATURES, scene.sheet(ids), scale="counts")
        layer = bundle.chain.apply(source.block())
        at = pd.Index(layer.feature_ids).get_indexer(bundle.classifier.features)
        told = bundle.classifier.predict(np.ascontiguousarray(layer.values[:, at]))
        wanted = made.wanted[model].loc[ids]
        scored = (wanted["status"] != "not_eligible").to_numpy()
        assert told.confidence[scored].view(np.int64).tolist() == list(wanted["confidence"][scored])
        assert list(told.status[scored]) == list(wanted["status"][scored])
