"""SIGKILL while a layer is made, and other work beside it: what is published is the undisturbed layer, bit for bit."""

from __future__ import annotations

import random
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from layer_scene import LAYOUT, N_SAMPLES, PHASES, LayerScene, layer_hash, write_counts
from spine_scene import DaskCluster, Processes, fill, standing_still, tmpfs, wait_for

from sjd_dask.store.cohort import create_cohort, open_cohort
from sjd_dask.store.verify import verify

# The short form kills once; the long one everybody in each phase, at other moments.
SHORT = [("both", "stage", 2)]
LONG = [
    pytest.param(victim, phase, seed, marks=pytest.mark.slow)
    for victim in ("driver", "worker", "both")
    for phase in PHASES
    for seed in range(10, 13)
]


@pytest.fixture(scope="module")
def layer_template(tmp_path_factory: pytest.TempPathFactory, dask_cluster: DaskCluster) -> LayerScene:
    """A cohort, and the hash of the layer that an undisturbed run makes of it."""
    folder = tmp_path_factory.mktemp("layer")
    scene = LayerScene(folder, Processes(folder))
    create_cohort(scene.cohort, layout=LAYOUT)
    scene.fill()
    scene.write_spec()
    shutil.copytree(scene.cohort, folder / "pristine")
    done = scene.start_run("--cluster", dask_cluster.address).end()
    assert (done.code, done.out) == (0, "layers/x@1\nqc/x@1\n"), done.err
    scene.truth = layer_hash(open_cohort(scene.cohort))
    scene.check_published()
    assert scene.processes.close() == []
    return scene


@pytest.fixture
def layers(layer_template: LayerScene, tmp_path: Path) -> Iterator[LayerScene]:
    """A fresh copy; afterwards nothing that the test started may be left running."""
    shutil.copytree(layer_template.folder / "pristine", tmp_path / "cohort")
    scene = LayerScene(tmp_path, Processes(tmp_path), layer_template.truth)
    scene.write_spec()
    yield scene
    left = scene.processes.close()
    assert left == [], f"left running, now killed: {left}"


@pytest.mark.parametrize(("victim", "phase", "seed"), [*SHORT, *LONG])
def test_killed(layers: LayerScene, dask_cluster: DaskCluster, victim: str, phase: str, seed: int) -> None:
    """A worker comes back by itself. After the driver's death nothing is visible, and `sjd resume` or the same command
    goes on from what was written."""
    run = layers.start_run()
    layers.wait_for_phase(phase, seed, run)
    workers = run.workers()
    if victim != "driver" and workers:
        layers.processes.kill_child(run, *(workers if victim == "both" else workers[:1]))
    if victim != "worker":
        run.kill()
        code = run.end().code
        wait_for(lambda: layers.processes.alive() == [], "the workers of the dead driver to end")
        if open_cohort(layers.cohort).layers():
            assert phase == "publish"
        else:
            assert code == -9
            layers.check_nothing_visible()
        where = ("--cluster", dask_cluster.address)
        done = layers.resume(*where) if seed % 2 == 0 else layers.start_run(*where).end()
    else:
        done = run.end()
    assert (done.code, done.out) == (0, "layers/x@1\nqc/x@1\n"), done.err
    layers.check_published()


@pytest.mark.slow
@pytest.mark.parametrize("staged", [True, False], ids=["staged", "written"])
def test_chunks_lost_between_attempts(layers: LayerScene, dask_cluster: DaskCluster, staged: bool) -> None:
    """A part that speaks of chunks that are gone counts for nothing: those rows are computed anew."""
    run = layers.start_run()
    layers.wait_for_phase("write" if staged else "publish", 1, run, pause=False)
    run.kill()
    assert run.end().code == -9
    wait_for(lambda: layers.processes.alive() == [], "the workers of the dead driver to end")
    layers.check_nothing_visible()
    lost = layers.chunks(staged)
    assert lost
    for path in random.Random(3).sample(lost, len(lost) // 2 + 1):
        path.unlink()
    done = layers.resume("--cluster", dask_cluster.address)
    assert (done.code, done.out) == (0, "layers/x@1\nqc/x@1\n"), done.err
    layers.check_published()


def test_staged_matrix_lost_altogether(layers: LayerScene, dask_cluster: DaskCluster) -> None:
    """All parts of the fit are there, the matrix they were read from is not."""
    run = layers.start_run()
    layers.wait_for_phase("publish", 0, run, pause=False)
    run.kill()
    assert run.end().code == -9
    for folder in layers.data.glob("segments/x.stage*"):
        shutil.rmtree(folder)
    done = layers.resume("--cluster", dask_cluster.address)
    assert (done.code, done.out) == (0, "layers/x@1\nqc/x@1\n"), done.err
    layers.check_published()


@pytest.mark.slow
def test_ctrl_c_then_a_full_disk_then_the_layer(layers: LayerScene, dask_cluster: DaskCluster, tmp_path: Path) -> None:
    """Exit code 5, then 1 with place and remedy, then the layer."""
    if not sys.platform.startswith("linux"):
        pytest.skip("a small file system can be mounted on Linux only")
    try:
        mounted = tmpfs(tmp_path / "disk", 60)
        disk = mounted.__enter__()
    except OSError as error:
        pytest.skip(f"this user can't mount a small file system: {error}")
    try:
        for name in ("segments", "features"):
            shutil.move(layers.cohort / name, disk / name)
        config = layers.cohort / "cohort.toml"
        config.write_text(config.read_text().replace('data = "."', f'data = "{disk}"'))
        run = layers.start_run()
        layers.wait_for_phase("stage", 5, run)
        run.signal_group(signal.SIGINT)
        done = run.end()
        assert (done.code, done.out) == (5, ""), done.err
        assert "resume with: sjd resume" in done.err and "Traceback" not in done.err
        layers.check_nothing_visible()
        ballast = fill(disk, 3 << 20)
        done = layers.resume("--cluster", dask_cluster.address)
        assert (done.code, done.out) == (1, ""), done.err
        assert "No space left" in done.err and "free space" in done.err and "Traceback" not in done.err
        layers.check_nothing_visible("failed")
        ballast.unlink()
        done = layers.resume("--cluster", dask_cluster.address)
        assert (done.code, done.out) == (0, "layers/x@1\nqc/x@1\n"), done.err
        layers.check_published()
    finally:
        mounted.__exit__(None, None, None)


@pytest.mark.slow
def test_other_work_beside_a_layer(layers: LayerScene, dask_cluster: DaskCluster) -> None:
    """A second driver is turned away; ingest, compaction and gc change nothing of the run; new samples come next."""
    where = ("--cluster", dask_cluster.address)
    write_counts(layers.folder, "more", N_SAMPLES, 8)
    more = (layers.folder / "more.npz", "--quantity", "counts", "--samples", layers.folder / "more.csv", "-q")
    run = layers.start_run(*where)
    layers.wait_for_phase("stage", 4, run)
    with standing_still(run):
        second = layers.resume(*where)
        ingested = layers.call("ingest", layers.cohort, "rna", *more)
        compacted = layers.call("compact", layers.cohort, "--json")
        collected = layers.call("gc", layers.cohort, "--grace", 0, "--json").json()
    assert second.code == 6 and f"process {run.pid}" in second.err, second.err
    assert ingested.code == 0, ingested.err
    assert compacted.json()["assays"][0]["n_after"] == 1, compacted.err
    assert [one for one in collected["removed"] if one["kind"] != "features"] == []
    done = run.end()
    assert (done.code, done.out) == (0, "layers/x@1\nqc/x@1\n"), done.err
    layers.check_published()
    # The same spec again: its reference set is the same, so only the new samples are written.
    done = layers.start_run(*where).end()
    assert (done.code, done.out) == (0, "layers/x@1\nqc/x@2\n"), done.err
    cohort = open_cohort(layers.cohort)
    assert cohort.layer("x").n_samples == N_SAMPLES + 8
    assert len(cohort.result("qc/x").to_pandas()) == N_SAMPLES + 8
    before = cohort.layer("x", snapshot=cohort.layers()[0].newest.published_in)
    assert before.n_samples == N_SAMPLES
    verify(cohort)


def test_two_runs_into_one_layer(layers: LayerScene, dask_cluster: DaskCluster) -> None:
    """Each with half of the samples, one reference set: one version, all rows, the whole quality table."""
    where = ("--cluster", dask_cluster.address)
    halves = [layers.start_run("--set", f"samples=number {one}", *where) for one in ("< 64", ">= 64")]
    ended = [one.end() for one in halves]
    assert [one.code for one in ended] == [0, 0], [one.err for one in ended]
    assert {line for one in ended for line in one.out.split()} == {"layers/x@1", "qc/x@1", "qc/x@2"}
    cohort = open_cohort(layers.cohort)
    layer, quality = cohort.layer("x"), cohort.result("qc/x").to_pandas()
    assert sorted(quality["sample_id"]) == sorted(layer.sample_ids()) and layer.n_samples == N_SAMPLES
    assert (quality["status"] == "ok").all()
    verify(cohort)
    # The rows are those of one run of all.
    done = layers.start_run("--set", "output=y", *where).end()
    assert done.code == 0, done.err
    wanted, found = (dict(zip(one["sample_id"], one["row_hash"], strict=True)) for one in
                     (cohort.layer("y").rows(), cohort.layer("x").rows()))  # fmt: skip
    assert wanted == found
    np.testing.assert_array_equal(layer.parameters_hash, open_cohort(layers.cohort).layer("y").parameters_hash)
