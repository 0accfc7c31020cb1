"""Runs that are stopped, and commands beside a living run."""

from __future__ import annotations

import signal
import time

import pyarrow as pa
import pytest
from spine_scene import RESULT, DaskCluster, Running, Scene, standing_still

from sjd_dask.errors import Busy
from sjd_dask.jobs.driver import prepare
from sjd_dask.jobs.spec import read_spec
from sjd_dask.runtime.runs import open_run
from sjd_dask.store.catalogue.runs import claim_run
from sjd_dask.store.cohort import open_cohort
from sjd_dask.store.compact import compact
from sjd_dask.store.gc import gc
from sjd_dask.store.tables import write_table


def check_stopped(scene: Scene, run: Running, reason: str, state: str = "interrupted") -> None:
    done = run.end()
    assert done.code == 5, done.err
    assert done.out == ""
    assert reason in done.err
    assert f"resume with: sjd resume {scene.cohort} {scene.run_id()}" in done.err
    assert "Traceback" not in done.err
    scene.check_nothing_published(state)


def test_ctrl_c_then_sigterm_then_cancel_then_the_result(scene: Scene, dask_cluster: DaskCluster) -> None:
    """Each leaves a run that goes on from there: exit code 5 three times, then the undisturbed result."""
    where = ("--cluster", dask_cluster.address)
    run = scene.start_run()
    scene.wait_for_parts(2, run)
    run.signal_group(signal.SIGINT)
    check_stopped(scene, run, "SIGINT received")
    first = scene.settled_parts()
    run = scene.processes.sjd("resume", scene.cohort, scene.run_id(), *where)
    scene.wait_for_parts(len(first) + 2, run)
    run.signal(signal.SIGTERM)
    check_stopped(scene, run, "SIGTERM received")
    second = scene.settled_parts()
    assert first < second < set(range(scene.n_partitions))
    run = scene.processes.sjd("resume", scene.cohort, scene.run_id(), *where)
    scene.wait_for_parts(len(second) + 2, run)
    with standing_still(run):
        asked = scene.call("cancel", scene.cohort, scene.run_id())
    assert asked.code == 0, asked.err
    check_stopped(scene, run, "cancelled on request", "cancelled")
    third = scene.settled_parts()
    done = scene.resume(*where)
    assert done.code == 0, done.err
    scene.check_published(reused=third)


def test_commands_beside_a_living_run(scene: Scene, dask_cluster: DaskCluster) -> None:
    """A second driver is turned away with exit code 6. The segments the run reads may be merged: they are retired, kept
    for it, and go once it has ended. It finishes with the undisturbed result."""
    where = ("--cluster", dask_cluster.address)
    run = scene.start_run(*where)
    scene.wait_for_parts(2, run)
    with standing_still(run):
        others = [scene.resume(*where), scene.start_run(*where).end()]
        compacted = scene.call("compact", scene.cohort, "--json")
        collected = scene.call("gc", scene.cohort, "--grace", 0, "--json").json()
        before = scene.settled_parts()
    for other in others:
        assert other.code == 6, other.err
        assert f"process {run.pid}" in other.err and "nothing was started" in other.err
        assert other.out == ""
    assert compacted.json()["assays"][0]["n_after"] == 1, compacted.err
    assert [item for item in collected["removed"] if item["kind"] != "features"] == []
    assert sum("may be reading it" in line for line in collected["kept"]) == 2
    assert len(before) < scene.n_partitions
    done = run.end()
    assert done.code == 0, done.err
    assert open_cohort(scene.cohort).runs()[0].attempt == 1
    scene.check_published(reused=set())
    removed = [item.kind for item in gc(open_cohort(scene.cohort), grace_hours=0).items]
    assert removed.count("segment") == 2
    # Nothing that the result depends on has changed: the same spec is still the same run.
    assert prepare(*read_spec(scene.spec)).fingerprint == open_cohort(scene.cohort).runs()[0].fingerprint
    scene.check_published()


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0.0, 0.05, 0.2, 0.5])
def test_sigterm_after_the_last_partition(scene: Scene, dask_cluster: DaskCluster, pause: float) -> None:
    """All is published, or nothing and the run goes on from its parts."""
    where = ("--cluster", dask_cluster.address)
    run = scene.start_run(*where)
    scene.wait_for_parts(scene.n_partitions, run)
    time.sleep(pause)
    run.signal(signal.SIGTERM)
    code = run.process.wait(60)
    if code == 5:
        check_stopped(scene, run, "SIGTERM received")
        done = scene.resume(*where)
        assert done.code == 0, done.err
        scene.check_published(reused=set(range(scene.n_partitions)))
    else:
        # Between the end of its work and the end of the process a signal has its usual effect.
        assert code in (0, -signal.SIGTERM)
        scene.check_published(reused=set())


def test_gc_keeps_a_table_that_a_run_is_about_to_publish(scene: Scene) -> None:
    """Also with no grace at all."""
    cohort = open_cohort(scene.cohort)
    table = pa.table({"feature_id": ["cg1"]})
    left = write_table(cohort.files, table)
    with open_run(cohort, "f" * 32, {}, "associate", "ewas") as session:
        written = write_table(cohort.files, table)
        report = gc(cohort, grace_hours=0)
        assert [item.kind for item in report.items] == []
        assert sum("may be publishing it" in line for line in report.kept) == 2
        (result,) = cohort.publish_results(
            [("associations", "ewas", {"table": table}, {})], session.run_id, session.epoch
        )
        session.finish([result.ref])
    assert result.ref == RESULT
    removed = {item.path for item in gc(cohort, grace_hours=0).items}
    assert {left.path, written.path} <= removed and result.file().path not in removed
    assert cohort.result(RESULT).table().equals(table)


def test_a_run_is_not_begun_on_data_that_gc_removed_after_it_was_planned(scene: Scene) -> None:
    """The claim sees it; from the claim on, gc waits for the run."""
    cohort = open_cohort(scene.cohort)
    planned_at = cohort.snapshot()
    compact(cohort)
    gc(cohort, grace_hours=0)
    with pytest.raises(Busy, match=r"merged and removed a moment ago.*Run the same command again"):
        claim_run(cohort.catalogue, "f" * 32, job="associate", output="ewas", spec={}, snapshot=planned_at)
    assert cohort.runs() == []
    claim_run(cohort.catalogue, "f" * 32, job="associate", output="ewas", spec={}, snapshot=cohort.snapshot())
